//! The options of `matrix`.

use std::ffi::OsString;

use lexopt::Parser;

use super::{Command, End, Opt, opt, options};

/// What they ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// Where to write the facts.
    pub json: Option<OsString>,
    /// Fewer rounds of the cost table, for tests: its numbers are rougher.
    pub quick: bool,
}

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Matrix>] = &[
    opt("json",  "FILE", "write the same facts, schema agent-shim/matrix version 1", |m, v| { m.json = v.first().cloned(); Ok(()) }),
    opt("quick", "",     "a tenth of the rounds: rougher costs, the same verdicts", |m, _| { m.quick = true; Ok(()) }),
];

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut matrix = Matrix::default();
    match options(&mut parser, OPTIONS, "matrix", &mut matrix)? {
        End::Nothing => Ok(Command::Matrix(matrix)),
        End::Word(word) => Err(format!("unexpected argument {word:?}")),
        End::Print(text) => Ok(text),
    }
}
