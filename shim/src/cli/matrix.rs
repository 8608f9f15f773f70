//! The options of `matrix`.

use std::ffi::OsString;

use lexopt::Parser;

use super::{Command, End, Opt, opt, options, utf8};
use crate::launcher::Launcher;

/// What they ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// Where to write the facts.
    pub json: Option<OsString>,
    /// Fewer rounds of the cost table, for tests: its numbers are rougher.
    pub quick: bool,
    /// Every operation of the probe, not the ten of the reference.
    pub all: bool,
    /// Other sandboxes, to be judged by the same probe; no two have the same name.
    pub launchers: Vec<Launcher>,
}

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Matrix>] = &[
    opt("json",        "FILE",     "write the same facts, schema agent-shim/matrix version 1", |m, v| { m.json = v.first().cloned(); Ok(()) }),
    opt("quick",       "",         "a tenth of the rounds: rougher costs, the same verdicts", |m, _| { m.quick = true; Ok(()) }),
    opt("all",         "",         "every operation of agent-probe, not ten", |m, _| { m.all = true; Ok(()) }),
    opt("launcher",    "CMD",      "try them in another sandbox too, beside none and full: CMD is a\ncommand of sh that runs what follows it; {} is the path of\nagent-probe. One start an operation; may be repeated", |m, v| add(m, Launcher::new(None, utf8(v)?)?)),
    opt("launcher-as", "NAME CMD", "the same by a name of your own, not by the first word of CMD", |m, v| add(m, named(v)?)),
];

fn named(values: &[OsString]) -> Result<Launcher, String> {
    Launcher::new(Some(utf8(values)?), utf8(values.get(1..).unwrap_or_default())?)
}

fn add(matrix: &mut Matrix, launcher: Launcher) -> Result<(), String> {
    if matrix.launchers.iter().any(|other| other.name == launcher.name) {
        return Err(format!("{:?} is a launcher's name already; --launcher-as gives another", {
            launcher.name
        }));
    }
    matrix.launchers.push(launcher);
    Ok(())
}

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut matrix = Matrix::default();
    match options(&mut parser, OPTIONS, "matrix", &mut matrix)? {
        End::Nothing => Ok(Command::Matrix(matrix)),
        End::Word(word) => Err(format!("unexpected argument {word:?}")),
        End::Print(text) => Ok(text),
    }
}
