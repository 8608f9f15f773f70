//! Another sandbox, judged by the same probe: a command of the shell, as its documentation gives
//! it, with agent-probe in the place of the program. One fresh start for one operation.
//!
//! `CMD` becomes `/bin/sh -c 'CMD "$@"'` with the probe's path, `--fact K=V` …, and the operation.
//! What comes back was written by somebody else: it is a record of that operation and nothing but
//! it, or the row is INCONCLUSIVE.
//!
//! No wall is taken for granted: what the probe tries is safe where nothing blocks it, and its
//! guards know the host's namespaces. As root a launcher is started in a mount namespace of its own,
//! as the control as real root is.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use agent_init::error::Step;
use agent_probe::record::Record;
use agent_probe::{Op, Outcome, Verdict};

use crate::error::{Failure, errno_of};
use crate::keeper::{self, Cut, Ended, MOST_OUTPUT};
use crate::lab::Lab;
use crate::plan;
use crate::report::Column;
use crate::report::text::one_line;
use crate::sys::{self, End};

/// How long one start may take. Docker's takes half a second.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts that did not end, before one that said anything: then the others are not tried.
const GIVEN_UP_AFTER: usize = 2;

/// Most characters of a launcher's own words that are kept.
const MOST_WORDS: usize = 160;

/// Most characters of a name.
pub const MOST_NAME: usize = 32;

/// A command that starts a program in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// What its table and its column are called; no two are the same.
    pub name: String,
    /// For the shell. `{}`, but within single quotes, stands for the path of agent-probe.
    pub command: String,
}

impl Launcher {
    /// Named after the first word of the command, or by `name`. The error is what is wrong.
    pub fn new(name: Option<&str>, command: &str) -> Result<Launcher, String> {
        let command = command.trim();
        if command.is_empty() {
            return Err("an empty command".into());
        }
        let first = command.split_whitespace().next().unwrap_or_default();
        let program = first.rsplit('/').find(|part| !part.is_empty()).unwrap_or(first);
        let short = || program.chars().filter(|c| !c.is_control()).take(MOST_NAME).collect();
        let name = name.map_or_else(short, str::to_owned);
        let printable = !name.trim().is_empty() && !name.contains(char::is_control);
        if !printable || name.chars().count() > MOST_NAME {
            return Err(format!("a name is 1 to {MOST_NAME} printable characters"));
        }
        Ok(Launcher { name, command: command.to_owned() })
    }
}

/// What every start needs.
pub struct Judge {
    probe: Vec<u8>,
    facts: Vec<OsString>,
    own_mounts: bool,
}

impl Judge {
    /// With the probe and the facts of the laboratory.
    pub fn of(lab: &Lab) -> Result<Judge, Failure> {
        let path = crate::lab::probe_path();
        // As a launcher is to find it, wherever it goes.
        let absolute: PathBuf = fs::canonicalize(&path).map_err(|e| {
            let object = path.as_os_str().as_encoded_bytes();
            Failure::new(Step::PROGRAM, "open", object, errno_of(&e))
        })?;
        Ok(Judge {
            probe: absolute.into_os_string().into_vec(),
            facts: lab.facts().to_vec(),
            own_mounts: plan::is_real_root(),
        })
    }

    /// All of `ops` under one launcher. `progress` is told before each how many are done.
    pub fn column(
        &self,
        launcher: &Launcher,
        ops: &[&'static Op],
        mut progress: impl FnMut(usize),
    ) -> Result<Column, Failure> {
        let mut answers: Vec<Answer> = Vec::new();
        for (done, op) in ops.iter().enumerate() {
            progress(done);
            let is_silent = |answer: &Answer| matches!(answer, Answer::Hung | Answer::NotTried);
            let is_given_up = done >= GIVEN_UP_AFTER && answers.iter().all(is_silent);
            answers.push(if is_given_up { Answer::NotTried } else { self.attempt(launcher, op)? });
        }
        let works = answers.iter().any(|answer| matches!(answer, Answer::Record(_)));
        let rows = ops.iter().zip(answers).map(|(op, answer)| (*op, answer.outcome(works)));
        let Launcher { name, command } = launcher.clone();
        Ok(Column { name, command, uid: sys::ids().0, rows: rows.collect() })
    }

    /// Starts it once. An error is the harness's.
    fn attempt(&self, launcher: &Launcher, op: &Op) -> Result<Answer, Failure> {
        let facts = self.facts.iter().map(|fact| fact.as_bytes().to_vec());
        let before = [b"sh".to_vec(), self.probe.clone()];
        let args = before.into_iter().chain(facts).chain([op.id.as_bytes().to_vec()]);
        let script = script(&launcher.command, &self.probe);
        let ended = keeper::start(script, args.collect(), self.own_mounts)?.to_end(LIMIT)?;
        Ok(Answer::of(op, &ended))
    }
}

/// What one start has said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// A record of the operation.
    Record(Outcome),
    /// SIGSYS: a filter's way to end a program. Something, where others give a record.
    Filtered,
    /// No end in time.
    Hung,
    /// It has been given up.
    NotTried,
    /// Anything else, in words.
    Nothing(String),
}

/// What a shell, and most launchers, exit with when SIGSYS has ended the program.
const SIGSYS: i32 = 128 + libc::SIGSYS;

impl Answer {
    fn of(op: &Op, ended: &Ended) -> Answer {
        match ended.cut {
            Some(Cut::TooLong) => return Answer::Hung,
            Some(Cut::TooMuch) => {
                return Answer::Nothing(format!("more than {MOST_OUTPUT} bytes of output"));
            }
            None => {}
        }
        if ended.is_left && ended.end.is_some() {
            return Answer::Nothing("left processes that cannot be ended".into());
        }
        let record = Record::parse(&ended.stdout);
        let words = match (ended.end, &record) {
            (Some(End::Exited(0)), Ok(record)) if record.op == op.id => {
                return Answer::Record(record.outcome.clone());
            }
            (Some(End::Exited(SIGSYS) | End::Signaled(libc::SIGSYS)), _)
                if ended.stdout.is_empty() =>
            {
                return Answer::Filtered;
            }
            (Some(End::Exited(0)), Ok(record)) => format!("a record of {}", record.op),
            (Some(End::Exited(0)), Err(_)) if ended.stdout.is_empty() => {
                with("no record", &ended.stderr)
            }
            (Some(End::Exited(0)), Err(malformed)) => with(&malformed.to_string(), &ended.stdout),
            (Some(End::Exited(code)), _) => with(&format!("exit status {code}"), &ended.stderr),
            (Some(End::Signaled(n)), _) => with(&format!("ended by signal {n}"), &ended.stderr),
            (None, _) => "its end was not seen: it has ended or stopped its parent".into(),
        };
        Answer::Nothing(words)
    }

    fn outcome(self, works: bool) -> Outcome {
        match self {
            Answer::Record(outcome) => outcome,
            Answer::Filtered if works => Outcome::BLOCKED.note("ended by SIGSYS"),
            Answer::Filtered => Outcome::INCONCLUSIVE.note("ended by SIGSYS, as all others"),
            Answer::NotTried => Outcome::INCONCLUSIVE.note("not tried: it has never answered"),
            Answer::Hung => Outcome::INCONCLUSIVE.note("no answer within 5 s"),
            Answer::Nothing(words) => Outcome::INCONCLUSIVE.note(words),
        }
    }
}

/// `what: the first line that is not empty`, if there is one.
fn with(what: &str, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    let words = line.map_or(what.to_owned(), |line| format!("{what}: {}", one_line(line)));
    match words.char_indices().nth(MOST_WORDS) {
        Some((at, _)) => format!("{}…", words.get(..at).unwrap_or_default()),
        None => words,
    }
}

// -- The shell's text -----------------------------------------------------------------------------

/// Where the shell is in its text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

/// The command with the path in the place of `{}`, quoted for where it stands, and `"$@"` behind it.
/// Within single quotes, and behind a backslash, `{}` is text.
fn script(command: &str, path: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut quote = Quote::None;
    let mut rest = command.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, quote, after) {
            (b'{', Quote::None, [b'}', after @ ..]) => {
                text.extend(single_quoted(path));
                rest = after;
            }
            (b'{', Quote::Double, [b'}', after @ ..]) => {
                text.extend(in_double_quotes(path));
                rest = after;
            }
            (b'\\', Quote::None | Quote::Double, [next, after @ ..]) => {
                text.extend([b'\\', *next]);
                rest = after;
            }
            _ => {
                text.push(*byte);
                quote = match (byte, quote) {
                    (b'\'', Quote::None) => Quote::Single,
                    (b'"', Quote::None) => Quote::Double,
                    (b'\'', Quote::Single) | (b'"', Quote::Double) => Quote::None,
                    _ => quote,
                };
            }
        }
    }
    text.extend(b" \"$@\"");
    text
}

fn single_quoted(path: &[u8]) -> Vec<u8> {
    let mut text = b"'".to_vec();
    for byte in path {
        match byte {
            b'\'' => text.extend(b"'\\''"),
            _ => text.push(*byte),
        }
    }
    text.push(b'\'');
    text
}

fn in_double_quotes(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path {
        if matches!(byte, b'$' | b'`' | b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

/// Whether any row says nothing.
pub fn is_in_doubt(column: &Column) -> bool {
    column.rows.iter().any(|(_, outcome)| outcome.verdict == Verdict::Inconclusive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_probe::find;

    fn ended(end: End, stdout: &str, stderr: &str) -> Ended {
        let [stdout, stderr] = [stdout, stderr].map(|text| text.as_bytes().to_vec());
        Ended { cut: None, end: Some(end), is_left: false, stdout, stderr }
    }

    fn words(ended: &Ended) -> String {
        match Answer::of(find("dev-mem").unwrap(), ended) {
            Answer::Nothing(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test] // seen to fail with `'{}'` for every place
    fn the_shell_sees_the_path_as_it_is() {
        for path in ["/a/probe", "/a b/c'd\"e", "/$HOME/`id`/\\$(id)\\", "/*/{}/\n#"] {
            for (command, before) in
                [("f {} x", ""), ("f \"a{}b\" x", "double"), ("f {}:{} x", "twice")]
            {
                let script = String::from_utf8(script(command, path.as_bytes())).unwrap();
                let functions = "f() { printf '%s' \"$1\"; }; ";
                let output = std::process::Command::new("/bin/sh")
                    .args(["-c", &format!("{functions}{script}"), "sh", "probe"])
                    .output()
                    .unwrap();
                let said = String::from_utf8(output.stdout).unwrap();
                let wanted = match before {
                    "double" => format!("a{path}b"),
                    "twice" => format!("{path}:{path}"),
                    _ => path.to_owned(),
                };
                assert_eq!(said, wanted, "{script}");
            }
        }
    }

    #[test]
    fn what_is_quoted_stays_text() {
        let of = |command| String::from_utf8(script(command, b"/p")).unwrap();
        assert_eq!(of("awk '{}' \\{} \"\\\"{}\""), "awk '{}' \\{} \"\\\"/p\" \"$@\"");
        assert_eq!(of("a \\' {}"), "a \\' '/p' \"$@\"");
    }

    #[test]
    fn only_its_own_record_and_a_good_end_count() {
        let own = r#"{"v":1,"op":"dev-mem","result":"ALLOWED","errno":null,"note":null}"#;
        let op = find("dev-mem").unwrap();
        let good = ended(End::Exited(0), own, "a warning\n");
        assert_eq!(Answer::of(op, &good), Answer::Record(Outcome::ALLOWED));
        let no = |text: &str| words(&ended(End::Exited(0), text, ""));
        assert_eq!(no(&own.replace("dev-mem", "mnt-tmpfs")), "a record of mnt-tmpfs");
        assert!(no(&format!("{own}\n{own}\n")).starts_with("malformed record: not JSON: {"));
        assert!(no(&format!("hello\n{own}\n")).ends_with("not JSON: hello"));
        assert!(no(&own.replace("ALLOWED", "allowed")).contains("result: unknown"));
        assert_eq!(words(&ended(End::Exited(3), own, "\n  oh \x1b[2J\n")), {
            "exit status 3: oh \\u{1b}[2J"
        });
        assert_eq!(words(&ended(End::Signaled(9), own, "")), "ended by signal 9");
        assert_eq!(words(&Ended { is_left: true, ..good }), {
            "left processes that cannot be ended"
        });
        assert!(with("x", &[b'a'; 4096]).chars().count() == MOST_WORDS + 1);
    }

    /// A launcher whose filter does not even let the probe start blocks nothing by that.
    #[test]
    fn sigsys_says_something_only_where_others_answer() {
        let killed = Answer::of(find("dev-mem").unwrap(), &ended(End::Exited(SIGSYS), "", ""));
        assert_eq!(killed, Answer::Filtered);
        assert_eq!(killed.clone().outcome(true).verdict, Verdict::Blocked);
        assert_eq!(killed.outcome(false).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_launcher_is_named_after_its_program() {
        let name = |command| Launcher::new(None, command).unwrap().name;
        assert_eq!(name("  /usr/bin/bwrap --unshare-all --"), "bwrap");
        assert_eq!(name("sh -c x"), "sh");
        assert!(Launcher::new(None, "  ").is_err());
        assert!(Launcher::new(Some("a\x1b"), "x").is_err());
        assert!(Launcher::new(Some(" "), "x").is_err());
        assert!(Launcher::new(Some(&"x".repeat(33)), "x").is_err());
    }
}
