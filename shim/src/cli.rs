//! The command line: one table of options; the parser and the help follow from it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use agent_init::layers::{LAYERS, Layers};
use lexopt::{Arg, Parser};

use crate::profile::{self, PROFILES};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `run`: a program in a room.
    Run(Run),
    /// `matrix`: what each profile blocks.
    Matrix(Matrix),
    /// A text for standard output: help or version.
    Print(String),
}

/// The options of `run`.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// The layers that must be in force.
    pub layers: Layers,
    /// Nothing of the host in the room.
    pub bare: bool,
    /// Accept an older Landlock ABI, and say so.
    pub best_effort: bool,
    /// NAME and value of variables.
    pub env: Vec<(OsString, OsString)>,
    /// Tell each step.
    pub verbose: bool,
    /// The program and its arguments; never empty.
    pub argv: Vec<OsString>,
}

/// The options of `matrix`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// Where to write the facts.
    pub json: Option<OsString>,
    /// Fewer rounds of the cost table, for tests: its numbers are rougher.
    pub quick: bool,
}

/// One option: its name, what follows it (empty: nothing), its line in the help.
struct Opt(&'static str, &'static str, &'static str);

#[rustfmt::skip] // a row a line
const RUN: &[Opt] = &[
    Opt("profile",     "NAME",          "the layers of a profile [full]"),
    Opt("layers",      "LIST",          "instead of them a,b, or changes to them +a,-b"),
    Opt("bare",        "",              "nothing of the host in the room but harmless devices"),
    Opt("env",         "NAME[=VALUE]",  "a variable; without a value, the caller's"),
    Opt("best-effort", "",              "accept an older Landlock ABI, and say what it lacks"),
    Opt("verbose",     "",              "tell on stderr what is done"),
];

#[rustfmt::skip]
const MATRIX: &[Opt] = &[
    Opt("json",  "FILE", "write the same facts, schema agent-shim/matrix version 1"),
    Opt("quick", "",     "a tenth of the rounds: rougher costs, the same verdicts"),
];

const EXITS: &str = "\
exit status of run: the agent's own; 128+n when signal n ended it; 125 the harness failed and
nothing weaker was run; 126 found, not executable; 127 not found.
exit status of matrix: 0 the room held; 1 it did not; 125 the harness failed.
";

/// The help of everything, or of one command.
pub fn help(command: Option<&str>) -> String {
    let mut text = String::new();
    let sections = [
        ("run", "agent-shim run [options] [--] PROGRAM [ARG...]\n  runs PROGRAM in a room\n", RUN),
        (
            "matrix",
            "agent-shim matrix [options]\n  what each profile blocks, which primitive did it, and what it costs\n",
            MATRIX,
        ),
    ];
    text.push_str("usage:\n");
    for (name, usage, options) in sections {
        if command.is_some_and(|c| c != name) {
            continue;
        }
        text.push_str(usage);
        for Opt(name, value, about) in options {
            let left = format!("--{name} {value}");
            let _infallible = writeln!(text, "    {left:<22}{about}");
        }
    }
    text.push_str("    -h, --help            this\n    -V, --version         the version\n");
    let profiles: Vec<_> =
        PROFILES.iter().map(|p| format!("    {:<10}{}\n", p.name, p.about)).collect();
    let names: Vec<_> = LAYERS.iter().map(|l| l.name).collect();
    let _infallible =
        write!(text, "profiles:\n{}layers:\n    {}\n{EXITS}", profiles.concat(), names.join(" "));
    text
}

/// The command line without the program's name. The error is one line for a user.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args.into_iter().peekable();
    let first = args.next().ok_or("a command is missing: run or matrix; --help tells more")?;
    match first.to_str() {
        Some("run") => run(Parser::from_args(args)),
        Some("matrix") => matrix(Parser::from_args(args)),
        Some("help" | "-h" | "--help") => Ok(Command::Print(help(None))),
        Some("-V" | "--version") => Ok(Command::Print(version())),
        _ => Err(format!("no command {first:?}; there are run and matrix, --help tells more")),
    }
}

fn version() -> String {
    format!("agent-shim {}\n", env!("CARGO_PKG_VERSION"))
}

/// `--name`, `-h`, `-V`: a name of the table, help or version.
fn known(arg: Arg, options: &[Opt], command: &str) -> Result<Result<String, Command>, String> {
    match arg {
        Arg::Long("help") | Arg::Short('h') => Ok(Err(Command::Print(help(Some(command))))),
        Arg::Long("version") | Arg::Short('V') => Ok(Err(Command::Print(version()))),
        Arg::Long(name) if options.iter().any(|o| o.0 == name) => Ok(Ok(name.to_owned())),
        other => {
            Err(format!("{}; `agent-shim {command} --help` lists the options", other.unexpected()))
        }
    }
}

fn value(parser: &mut Parser, name: &str) -> Result<OsString, String> {
    parser.value().map_err(|_| format!("--{name} needs a value"))
}

fn utf8(value: OsString, name: &str) -> Result<String, String> {
    value.into_string().map_err(|v| format!("--{name} {v:?}: not UTF-8"))
}

fn run(mut parser: Parser) -> Result<Command, String> {
    let (mut profile, mut list) = (Layers::FULL, None);
    let mut run = Run {
        layers: profile,
        bare: false,
        best_effort: false,
        env: Vec::new(),
        verbose: false,
        argv: Vec::new(),
    };
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        if let Arg::Value(program) = arg {
            run.argv.push(program);
            run.argv.extend(parser.raw_args().map_err(|e| e.to_string())?);
            break;
        }
        let name = match known(arg, RUN, "run")? {
            Ok(name) => name,
            Err(print) => return Ok(print),
        };
        match name.as_str() {
            "profile" => profile = profile::named(&utf8(value(&mut parser, &name)?, &name)?)?,
            "layers" => list = Some(utf8(value(&mut parser, &name)?, &name)?),
            "bare" => run.bare = true,
            "best-effort" => run.best_effort = true,
            "env" => run.env.push(variable(&value(&mut parser, &name)?)?),
            _ => run.verbose = true,
        }
    }
    run.layers = list.map_or(Ok(profile), |list| profile::layers(&list, profile))?;
    match run.argv.first() {
        None => Err("a program is missing: agent-shim run [options] [--] PROGRAM [ARG...]".into()),
        Some(name) if name.is_empty() => Err("the program's name is empty".into()),
        Some(_) => Ok(Command::Run(run)),
    }
}

/// `NAME=VALUE`, or `NAME` for the caller's value.
fn variable(spec: &OsStr) -> Result<(OsString, OsString), String> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = spec.as_bytes();
    let end = bytes.iter().position(|b| *b == b'=').unwrap_or(bytes.len());
    let name = OsStr::from_bytes(bytes.get(..end).unwrap_or(bytes)).to_owned();
    if name.is_empty() {
        return Err(format!("--env {spec:?}: a name is missing"));
    }
    let value = match bytes.get(end + 1..) {
        Some(value) => OsStr::from_bytes(value).to_owned(),
        None => std::env::var_os(&name).ok_or_else(|| format!("--env {spec:?}: not set here"))?,
    };
    Ok((name, value))
}

fn matrix(mut parser: Parser) -> Result<Command, String> {
    let mut matrix = Matrix::default();
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        let name = match known(arg, MATRIX, "matrix")? {
            Ok(name) => name,
            Err(print) => return Ok(print),
        };
        match name.as_str() {
            "json" => matrix.json = Some(value(&mut parser, &name)?),
            _ => matrix.quick = true,
        }
    }
    Ok(Command::Matrix(matrix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Command, String> {
        parse(args.iter().map(OsString::from))
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
        assert!(wrong(&["matrix", "extra"]).contains("extra"));
        assert!(wrong(&["mtrix"]).contains("mtrix"));
        assert!(wrong(&[]).contains("command is missing"));
    }

    #[test]
    fn changes_are_made_to_the_profile_wherever_it_stands() {
        let Ok(Command::Run(run)) = of(&["run", "--layers", "-net", "--profile", "ns_only", "x"])
        else {
            panic!()
        };
        assert_eq!(run.layers, Layers::NS_ONLY - Layers::NET);
    }

    #[test]
    fn help_fits_and_lists_every_option() {
        let text = help(None);
        assert!(text.lines().all(|l| l.len() <= 100), "{text}");
        for Opt(name, ..) in RUN.iter().chain(MATRIX) {
            assert!(text.contains(&format!("--{name} ")), "{name}");
        }
    }
}
