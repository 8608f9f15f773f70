//! The options of `doctor`.

use lexopt::Parser;

use super::{Command, End, Opt, opt, options};

/// What they ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Doctor {
    /// For a machine.
    pub json: bool,
}

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Doctor>] = &[
    opt("json", "", "the same facts as JSON, schema agent-shim/doctor version 1", |d, _| { d.json = true; Ok(()) }),
];

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut doctor = Doctor::default();
    match options(&mut parser, OPTIONS, "doctor", &mut doctor)? {
        End::Nothing => Ok(Command::Doctor(doctor)),
        End::Word(word) => Err(format!("unexpected argument {word:?}")),
        End::Print(text) => Ok(text),
    }
}
