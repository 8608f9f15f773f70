//! The command line: one table, from which the help is printed, and its parser.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use agent_probe::bench::{MAX_CALLS, MAX_ROUNDS};
use agent_probe::{Facts, GROUPS, OPS, Op, facts, find, fixture};
use lexopt::{Arg, Parser};

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Print this text.
    Print(String),
    /// Time `calls` calls, `rounds` times.
    Bench { calls: u64, rounds: u64 },
    /// Make the fixtures and keep them.
    Hold { dir: PathBuf, nonce: String },
    /// Remove them.
    Release { dir: PathBuf, nonce: String },
    /// Try these operations, in this order.
    Try { facts: Box<Facts>, ops: Vec<&'static Op> },
}

#[rustfmt::skip] // a row a line
const OPTIONS: &[(&str, &str)] = &[
    ("--fact KEY=VALUE",     "what the harness knows of the host; may be repeated, keys below"),
    ("--hold DIR NONCE",     "for the harness, on the host: make the fixtures, tell where, keep them until stdin ends"),
    ("--release DIR NONCE",  "remove what a --hold that was killed has left"),
    ("--list",               "print the operations by group: id, title, call, why safe, how judged, kind, fixtures, why open"),
    ("--bench CALLS ROUNDS", "time getppid: ROUNDS loops of CALLS calls; one record"),
    ("-h, --help",           "print this help"),
    ("-V, --version",        "print the version"),
];

/// The help text, ending in a newline.
fn help() -> String {
    let mut text = String::from(
        "usage: agent-probe [--fact KEY=VALUE]... [OP...]\n\
         Try each OP once, in this process, and print one JSON record a line. Without OP: all, in the order of --list;\n\
         an early one may change the world of a later one. Exit: 0 records were printed, 125 usage or output failed.\n",
    );
    table(&mut text, "", OPTIONS);
    table(&mut text, "facts:\n", facts::KEYS);
    let fixtures: Vec<_> = fixture::ALL.iter().map(|(_, key, what)| (*key, *what)).collect();
    table(&mut text, "fixtures, facts too:\n", &fixtures);
    text
}

fn table(text: &mut String, head: &str, rows: &[(&str, &str)]) {
    text.push_str(head);
    for (name, what) in rows {
        text.push_str(&format!("  {name:<22}{what}\n"));
    }
}

/// Most columns of a line of the list.
const WIDTH: usize = 100;

/// The operations group by group, ending in a newline.
fn list() -> String {
    let mut text = String::new();
    for (name, about) in GROUPS {
        let rows: Vec<&Op> = OPS.iter().filter(|op| op.group == *name).collect();
        text.push_str(&format!("=== {name}: {about}: {} ===\n", rows.len()));
        rows.into_iter().for_each(|op| describe(&mut text, op));
        text.push('\n');
    }
    text
}

fn describe(text: &mut String, op: &Op) {
    let Op { id, title, call, safe, judged, kind, needs, open, .. } = op;
    let needs: Vec<&str> = needs.iter().map(|fixture| fixture.key()).collect();
    field(text, &format!("{id:<22}"), title);
    field(text, "  call    ", call);
    field(text, "  safe    ", safe);
    field(text, "  judged  ", judged);
    field(text, "  kind    ", &format!("{kind:?}"));
    if !needs.is_empty() {
        field(text, "  needs   ", &needs.join(" "));
    }
    if let Some(why) = open {
        field(text, "  open    ", why);
    }
}

/// Words behind a heading, continued below themselves.
fn field(text: &mut String, heading: &str, words: &str) {
    let mut line = heading.to_owned();
    for word in words.split(' ') {
        let is_first = line.len() <= heading.len();
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(heading.len());
        } else if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// Reads the arguments, the program's name not among them. The error is one line without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_args(args);
    let (mut facts, mut ops, mut bench, mut print) =
        (Box::<Facts>::default(), Vec::new(), None, None);
    let (mut hold, mut words) = (None, Vec::new());
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => print = Some(help()),
            Arg::Short('V') | Arg::Long("version") => {
                print = Some(format!("agent-probe {}\n", env!("CARGO_PKG_VERSION")));
            }
            Arg::Long("list") => print = Some(list()),
            Arg::Long("hold") => hold = Some(true),
            Arg::Long("release") => hold = Some(false),
            Arg::Value(word) if hold.is_some() && words.len() < 2 => words.push(word),
            Arg::Long("fact") => facts.take(&value::<String>(&mut parser)?)?,
            Arg::Long("bench") => bench = Some((value(&mut parser)?, value(&mut parser)?)),
            Arg::Value(name) => ops.push(op(&name)?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    if let (None, Some(keep)) = (&print, hold) {
        return held(keep, words);
    }
    match (print, bench) {
        (Some(text), _) => Ok(Command::Print(text)),
        (None, Some(_)) if !ops.is_empty() => Err("--bench takes no OP".to_owned()),
        (None, Some((calls, rounds))) => checked_bench(calls, rounds),
        (None, None) if ops.is_empty() => Ok(Command::Try { facts, ops: OPS.iter().collect() }),
        (None, None) => Ok(Command::Try { facts, ops }),
    }
}

fn value<T: FromStr>(parser: &mut Parser) -> Result<T, String>
where
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    use lexopt::ValueExt;
    parser.value().and_then(|value| value.parse()).map_err(|e| e.to_string())
}

/// DIR and NONCE: the nonce becomes part of names.
fn held(keep: bool, words: Vec<OsString>) -> Result<Command, String> {
    let [dir, nonce] = <[OsString; 2]>::try_from(words).map_err(|_| "--hold: DIR NONCE")?;
    let nonce = nonce.into_string().map_err(|_| "--hold: NONCE is text")?;
    Facts::default().take(&format!("nonce={nonce}"))?;
    let dir = PathBuf::from(dir);
    Ok(if keep { Command::Hold { dir, nonce } } else { Command::Release { dir, nonce } })
}

fn checked_bench(calls: u64, rounds: u64) -> Result<Command, String> {
    if !(1..=MAX_CALLS).contains(&calls) || !(1..=MAX_ROUNDS).contains(&rounds) {
        return Err(format!("--bench: CALLS is 1 to {MAX_CALLS}, ROUNDS 1 to {MAX_ROUNDS}"));
    }
    Ok(Command::Bench { calls, rounds })
}

fn op(name: &OsString) -> Result<&'static Op, String> {
    name.to_str().and_then(find).ok_or_else(|| {
        let known: Vec<&str> = OPS.iter().map(|op| op.id).collect();
        format!("operation {name:?}: unknown; known: {}", known.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn names_are_tried_in_the_order_given() {
        let Ok(Command::Try { facts, ops }) =
            parsed("dev-mem --fact pidns=7 fs-read-passwd --fact=mntns=8")
        else {
            panic!("not a Try");
        };
        assert_eq!(ops.iter().map(|op| op.id).collect::<Vec<_>>(), ["dev-mem", "fs-read-passwd"]);
        assert_eq!((facts.pidns, facts.mntns), (Some(7), Some(8)));
        assert!(matches!(parsed(""), Ok(Command::Try { ops, .. }) if ops.len() == OPS.len()));
    }

    #[test]
    fn bench_takes_two_bounded_numbers() {
        assert!(matches!(parsed("--bench 1000 3"), Ok(Command::Bench { calls: 1000, rounds: 3 })));
        for bad in
            ["1000", "0 1", "1 0", "-1 1", "1 1001", "1000000001 1", "x 1", "1 1 dev-mem", "1 2 3"]
        {
            assert!(parsed(&format!("--bench {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for bad in ["--nothing", "-x", "--fact", "--fact passwd", "--fact uid=0", "--list=x"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        let error = parsed("fs-read-nothing").unwrap_err();
        assert!(OPS.iter().all(|op| error.contains(op.id)), "{error}");
    }

    #[test]
    fn help_and_list_tell_every_row() {
        let (help, list) = (help(), list());
        assert!(
            OPTIONS
                .iter()
                .chain(facts::KEYS)
                .all(|(name, what)| help.contains(name) && help.contains(what))
        );
        let words =
            |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let all = words(&list);
        for op in OPS {
            let texts = [op.id, op.title, op.call, op.safe, op.judged];
            assert!(texts.iter().all(|text| all.contains(&words(text))), "{}", op.id);
        }
        assert!(
            GROUPS.iter().all(|(name, about)| list.contains(&format!("=== {name}: {about}: ")))
        );
        assert!(list.lines().all(|line| line.chars().count() <= WIDTH), "{list}");
        assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    }
}
