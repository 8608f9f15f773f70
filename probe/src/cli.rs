//! The command line: one table, from which the help is printed, and its parser.

use std::ffi::OsString;
use std::fmt::Write;
use std::str::FromStr;

use agent_probe::bench::{MAX_CALLS, MAX_ROUNDS};
use agent_probe::{Facts, OPS, Op, facts, find};
use lexopt::{Arg, Parser};

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Print this text.
    Print(String),
    /// Time `calls` calls, `rounds` times.
    Bench { calls: u64, rounds: u64 },
    /// Try these operations, in this order.
    Try { facts: Facts, ops: Vec<&'static Op> },
}

#[rustfmt::skip] // a row a line
const OPTIONS: &[(&str, &str)] = &[
    ("--fact KEY=VALUE",     "what the harness knows of the host; may be repeated, keys below"),
    ("--list",               "print the operations: id, group, title, call, why it is safe, how it is judged"),
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
    text
}

fn table(text: &mut String, head: &str, rows: &[(&str, &str)]) {
    text.push_str(head);
    for (name, what) in rows {
        text.push_str(&format!("  {name:<22}{what}\n"));
    }
}

/// The table of operations, ending in a newline.
fn list() -> String {
    OPS.iter().fold(String::new(), |mut text, op| {
        let Op { id, group, title, call, safe, judged, .. } = op;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{id:<18}{group:<10}{title}\n  call    {call}\n  safe    {safe}\n  judged  {judged}\n"
        );
        text
    })
}

/// Reads the arguments, the program's name not among them. The error is one line without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_args(args);
    let (mut facts, mut ops, mut bench, mut print) = (Facts::default(), Vec::new(), None, None);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => print = Some(help()),
            Arg::Short('V') | Arg::Long("version") => {
                print = Some(format!("agent-probe {}\n", env!("CARGO_PKG_VERSION")));
            }
            Arg::Long("list") => print = Some(list()),
            Arg::Long("fact") => facts.take(&value::<String>(&mut parser)?)?,
            Arg::Long("bench") => bench = Some((value(&mut parser)?, value(&mut parser)?)),
            Arg::Value(name) => ops.push(op(&name)?),
            other => return Err(other.unexpected().to_string()),
        }
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
        assert!(
            OPS.iter().all(|op| [op.id, op.title, op.call, op.safe]
                .iter()
                .all(|text| list.contains(text)))
        );
        assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    }
}
