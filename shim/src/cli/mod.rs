//! The command line: a table of options a command; the parser and the help follow from it.

pub mod env_file;
pub mod run;

pub mod matrix;

pub mod attribute;

pub mod doctor;

pub mod policy;

pub mod bench;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::RawFd;

use agent_init::layers::LAYERS;
use lexopt::{Arg, Parser};

pub use attribute::Attribute;
pub use bench::Bench;
pub use doctor::Doctor;
pub use matrix::Matrix;
pub use policy::Policy;
pub use run::Run;

use crate::profile::PROFILES;

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// `run`: a program in a room.
    Run(Box<Run>),
    /// `matrix`: what each profile blocks.
    Matrix(Matrix),
    /// `attribute`: the proof of every blocker.
    Attribute(Attribute),
    /// `doctor`: what this kernel and host offer.
    Doctor(Doctor),
    /// `policy`: the filters, and the judgement of others.
    Policy(Policy),
    /// `bench`: what filters cost.
    Bench(Bench),
    /// A text for standard output: help or version.
    Print(String),
}

impl Command {
    /// With what the files say that its options name: read when all options are known, as `--timeout` is for them too.
    pub fn read(self) -> Result<Command, Wrong> {
        match self {
            Command::Run(mut run) => run.read().map(|()| Command::Run(run)),
            other => Ok(other),
        }
    }
}

/// One option of a command whose options are gathered in a `T`.
pub struct Opt<T: 'static> {
    /// Its name, without the dashes.
    name: &'static str,
    /// What follows it, a word a value; empty: nothing.
    values: &'static str,
    /// Its line in the help.
    about: &'static str,
    /// Takes the values. The error is what is wrong with them.
    set: fn(&mut T, &[OsString]) -> Result<(), String>,
}

/// A row of a table of options.
const fn opt<T>(
    name: &'static str,
    values: &'static str,
    about: &'static str,
    set: fn(&mut T, &[OsString]) -> Result<(), String>,
) -> Opt<T> {
    Opt { name, values, about, set }
}

/// A command: its name, its usage and what it does, its options as lines of the help.
type Section = (&'static str, &'static str, fn() -> Vec<String>);

const SECTIONS: &[Section] = &[
    ("run", "agent-shim run [options] [--] PROGRAM [ARG...]\n  runs PROGRAM in a room\n", || {
        lines(run::OPTIONS)
    }),
    (
        "matrix",
        "agent-shim matrix [options]\n  what each profile blocks, which primitive did it, and what it costs; and what another sandbox does\n",
        || lines(matrix::OPTIONS),
    ),
    (
        "attribute",
        "agent-shim attribute [OP...] [options]\n  the same of every operation of agent-probe, each verdict with its proof\n",
        || lines(attribute::OPTIONS),
    ),
    (
        "doctor",
        "agent-shim doctor [--json]\n  what this kernel and host offer, and how to get what is missing\n",
        || lines(doctor::OPTIONS),
    ),
    (
        "policy",
        "agent-shim policy list|groups|show NAME|NUMBER|dump [FILE]|check FILE|diff A B|trace PID [options]\n  the filter: its table and its program, or another program's, judged and compared;\n  FILE: struct sock_filter after struct sock_filter, - is standard input; A, B: a FILE, or a filter\n  of ours by its words: default, strict, 'default +ptrace no-wx', init\n",
        || lines(policy::OPTIONS),
    ),
    (
        "bench",
        "agent-shim bench filter [options]\n  what the filters cost to install and per call, beside others; exit status 0 whatever the numbers\n",
        || lines(bench::OPTIONS),
    ),
];

const EXITS: &str = "\
exit status of run: the agent's own; 128+n when signal n ended it; 124 when --timeout did; 125 the
harness failed and nothing weaker was run; 126 found, not executable; 127 not found.
exit status of matrix: 0 the room held; 1 it did not; 2 a launcher has not answered on an operation;
125 the harness failed.
exit status of attribute: 0 every verdict is proved; 1 weaker than the baseline, or what must work
does not; 2 evidence disagrees; 130 stopped; 125 the harness failed.
exit status of doctor: 0 the profile full can be built here; 1 it cannot; 125 the command failed.
exit status of policy: 0 sound, the same; 1 findings (check), a difference (diff); 125 it failed.
";

/// A row a line; an `about` of several lines is continued below itself.
fn lines<T>(options: &[Opt<T>]) -> Vec<String> {
    let line = |o: &Opt<T>| {
        let left = format!("--{} {}", o.name, o.values);
        format!("    {left:<24}{}", o.about.replace('\n', &format!("\n{:28}", "")))
    };
    options.iter().map(line).collect()
}

/// The help of everything, or of one command.
pub fn help(command: Option<&str>) -> String {
    let mut text = String::from("usage:\n");
    for (name, usage, options) in SECTIONS {
        if command.is_none_or(|c| c == *name) {
            text.push_str(usage);
            text.extend(options().iter().map(|line| format!("{line}\n")));
        }
    }
    text.push_str("    -h, --help              this\n    -V, --version           the version\n");
    let profiles: Vec<_> =
        PROFILES.iter().map(|p| format!("    {:<10}{}\n", p.name, p.about)).collect();
    let names: Vec<_> = LAYERS.iter().map(|l| l.name).collect();
    let _infallible =
        write!(text, "profiles:\n{}layers:\n    {}\n{EXITS}", profiles.concat(), names.join(" "));
    text
}

/// The commands, for messages.
fn commands() -> String {
    SECTIONS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

/// Why a command line is no command.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// One line for a user.
    pub line: String,
    /// What to do instead; empty where `line` says all.
    pub hint: String,
    /// Where records go, if that stood before what is wrong.
    pub status_fd: Option<RawFd>,
}

impl From<String> for Wrong {
    fn from(line: String) -> Wrong {
        Wrong { line, hint: String::new(), status_fd: None }
    }
}

/// The command line without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Wrong> {
    let mut args = args.into_iter().peekable();
    let first = args.next().unwrap_or_default();
    match first.to_str() {
        Some("run") => run::parse(Parser::from_args(args)),
        Some("matrix") => Ok(matrix::parse(Parser::from_args(args))?),
        Some("attribute") => Ok(attribute::parse(Parser::from_args(args))?),
        Some("doctor") => Ok(doctor::parse(Parser::from_args(args))?),
        Some("policy") => Ok(policy::parse(Parser::from_args(args))?),
        Some("bench") => Ok(bench::parse(Parser::from_args(args))?),
        Some("help" | "-h" | "--help") => Ok(Command::Print(help(None))),
        Some("-V" | "--version") => Ok(Command::Print(version())),
        Some("") => Err(format!("a command is missing: {}; --help tells more", commands()).into()),
        _ => {
            Err(format!("no command {first:?}; there are {}, --help tells more", commands()).into())
        }
    }
}

fn version() -> String {
    format!("agent-shim {}\n", env!("CARGO_PKG_VERSION"))
}

/// What ended the options: all were read, the first word that is none, or a text to be printed.
enum End {
    Nothing,
    Word(OsString),
    Print(Command),
}

/// Reads options into `to` until something else comes.
fn options<T>(
    parser: &mut Parser,
    table: &[Opt<T>],
    command: &str,
    to: &mut T,
) -> Result<End, String> {
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        let option = match arg {
            Arg::Long("help") | Arg::Short('h') => {
                return Ok(End::Print(Command::Print(help(Some(command)))));
            }
            Arg::Long("version") | Arg::Short('V') => {
                return Ok(End::Print(Command::Print(version())));
            }
            Arg::Value(word) => return Ok(End::Word(word)),
            Arg::Long(name) => table.iter().find(|o| o.name == name).ok_or(arg),
            Arg::Short(_) => Err(arg),
        };
        let option = option.map_err(|arg| {
            format!("{}; `agent-shim {command} --help` lists the options", arg.unexpected())
        })?;
        set(parser, option, to)?;
    }
    Ok(End::Nothing)
}

fn set<T>(parser: &mut Parser, option: &Opt<T>, to: &mut T) -> Result<(), String> {
    let name = option.name;
    let mut values = Vec::new();
    for word in option.values.split_whitespace() {
        values.push(parser.value().map_err(|_| format!("--{name}: {word} is missing"))?);
    }
    (option.set)(to, &values).map_err(|wrong| {
        let values: String = values.iter().map(|v| format!(" {v:?}")).collect();
        format!("--{name}{values}: {wrong}")
    })
}

/// Value number `n`: the table says that it is there.
fn value(values: &[OsString], n: usize) -> &OsStr {
    values.get(n).map_or(OsStr::new(""), OsString::as_os_str)
}

fn utf8(values: &[OsString]) -> Result<&str, String> {
    value(values, 0).to_str().ok_or_else(|| "not UTF-8".to_owned())
}

fn number(values: &[OsString]) -> Result<u32, String> {
    let text = utf8(values)?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "not a number of 32 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_init::layers::Layers;

    fn of(args: &[&str]) -> Result<Command, String> {
        parse(args.iter().map(OsString::from)).map_err(|wrong| wrong.line)
    }

    fn argv(args: &[&str]) -> Vec<OsString> {
        match of(args) {
            Ok(Command::Run(run)) => run.argv,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_after_the_program_is_the_agents() {
        assert_eq!(argv(&["run", "sh", "-c", "x", "--bare"]), ["sh", "-c", "x", "--bare"]);
        assert_eq!(argv(&["run", "--", "--bare", "--", "-V"]), ["--bare", "--", "-V"]);
        assert_eq!(argv(&["run", "--profile=none", "--bare", "sh"]), ["sh"]);
        assert_eq!(argv(&["run", "--profile", "none", "--", "sh", ""]), ["sh", ""]);
    }

    #[test]
    fn wrong_ones_are_named() {
        let wrong = |args: &[&str]| of(args).unwrap_err();
        assert!(wrong(&["run", "--bogus", "sh"]).contains("--bogus"));
        assert!(wrong(&["run", "-x", "sh"]).contains("-x"));
        assert!(wrong(&["run", "--profile", "ful", "sh"]).contains("`ful`"));
        assert!(wrong(&["run", "--layers", "bogus", "sh"]).contains("`bogus`"));
        assert!(wrong(&["run", "--bare=1", "sh"]).contains("bare"));
        assert!(wrong(&["run"]).contains("program is missing"));
        assert!(wrong(&["run", ""]).contains("empty"));
        assert!(wrong(&["run", "--profile"]).contains("--profile"));
        assert!(wrong(&["run", "--env", "=x", "sh"]).contains("name is missing"));
        assert!(wrong(&["run", "--bind", "/x"]).contains("--bind: DEST is missing"));
        assert!(wrong(&["run", "--uid", "-1", "sh"]).contains("--uid \"-1\""));
        assert!(wrong(&["run", "--overlay", "sh"]).contains("--rootfs"));
        assert!(wrong(&["run", "--net", "hosts", "sh"]).contains("--net \"hosts\""));
        assert!(wrong(&["run", "--file", "99", "/x", "sh"]).contains("99 is not open"));
        assert!(wrong(&["matrix", "extra"]).contains("extra"));
        assert!(wrong(&["matrix", "--launcher", " "]).contains("empty command"));
        assert!(wrong(&["matrix", "--launcher-as", "x"]).contains("CMD is missing"));
        let twice = ["matrix", "--launcher", "/bin/env", "--launcher-as", "env", "x"];
        assert!(wrong(&twice).contains("\"env\" is a launcher's name already"));
        assert!(wrong(&["mtrix"]).contains("mtrix"));
        assert!(wrong(&[]).contains("command is missing"));
    }

    #[test]
    fn changes_are_made_to_the_profile_wherever_it_stands() {
        let Ok(Command::Run(run)) = of(&["run", "--layers", "-net", "--profile", "ns_only", "x"])
        else {
            panic!()
        };
        assert_eq!(run.spec.layers, Layers::NS_ONLY - Layers::NET);
    }

    #[test]
    fn launchers_are_kept_in_their_order() {
        let Ok(Command::Matrix(matrix)) =
            of(&["matrix", "--all", "--launcher", "b x --", "--launcher-as", "a b", "b y"])
        else {
            panic!()
        };
        let names: Vec<_> = matrix.launchers.iter().map(|l| (&*l.name, &*l.command)).collect();
        assert_eq!((names, matrix.all), (vec![("b", "b x --"), ("a b", "b y")], true));
    }

    #[test]
    fn limits_are_told_with_their_defaults() {
        for row in &crate::limits::TABLE {
            let option = run::OPTIONS.iter().find(|o| o.name == row.name).unwrap();
            let default = format!("[{}]", row.resource.spelled(row.default));
            assert!(option.about.ends_with(&default), "{}: {default}", option.about);
        }
        let Err(wrong) = of(&["run", "--memory", "0", "sh"]) else { panic!() };
        assert!(wrong.starts_with("--memory \"0\": "), "{wrong}");
    }

    #[test]
    fn help_fits_and_lists_every_option() {
        let text = help(None);
        assert!(text.lines().all(|l| l.len() <= 100), "{text}");
        let names = run::OPTIONS.iter().map(|o| o.name);
        let names = names.chain(matrix::OPTIONS.iter().map(|o| o.name));
        let names = names.chain(attribute::OPTIONS.iter().map(|o| o.name));
        let names = names.chain(policy::OPTIONS.iter().map(|o| o.name));
        let names = names.chain(bench::OPTIONS.iter().map(|o| o.name));
        for name in names.chain(doctor::OPTIONS.iter().map(|o| o.name)) {
            assert!(text.contains(&format!("--{name} ")), "{name}");
        }
    }
}
