//! `agent-shim doctor`: what this kernel and host offer, why something is missing, how to get it.

use std::io::IsTerminal;

use super::{has_stdout, print};
use crate::cli::Doctor;
use crate::doctor::{self, json, text};
use crate::error::Failure;

/// 0: `full` can be built here; 1: it cannot.
pub fn run(options: &Doctor) -> Result<u8, Failure> {
    has_stdout()?; // before the run, not after it
    let report = doctor::examine();
    let printed =
        if options.json { json::document(&report) } else { text::table(&report, colour()) };
    print(&printed)?;
    Ok(if report.is_full() { 0 } else { 1 })
}

/// On a terminal that has some, unless NO_COLOR says otherwise.
fn colour() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let asked_not = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !dumb && !asked_not && std::io::stdout().is_terminal()
}
