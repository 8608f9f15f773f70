//! What the tests share: commands and rooms with a deadline, where the binaries are, skips that
//! are counted, and what a room may not leave behind.
#![allow(clippy::unwrap_used, reason = "test code: a panic is its way to fail")]

pub mod calls;
pub mod cbpf;

pub mod peers;

pub mod made;

pub mod scripts;

pub mod scratch;

pub mod bins;
pub mod run;

pub mod pid1;

pub mod leak;

#[cfg(target_arch = "x86_64")]
pub mod trace;

pub mod browser;

pub mod sys;

pub use bins::{agent_init, attacker, shim};
pub use leak::alone;
pub use scratch::Scratch;

pub use run::{Output, room, run, run_for};

use std::io::Write;

/// Says that a test could not run here, and why. A line is added to the file that AGENT_SKIP_LOG
/// names, so that a script can count them.
pub fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}");
    println!("{line}");
    if let Some(log) = std::env::var_os("AGENT_SKIP_LOG") {
        let file = std::fs::File::options().append(true).create(true).open(log);
        writeln!(file.expect("AGENT_SKIP_LOG can be written"), "{line}").expect("AGENT_SKIP_LOG");
    }
}

/// Whether the tests run as root: some controls need it, some messages differ.
pub fn is_root() -> bool {
    agent_shim::sys::ids().0 == 0
}

/// The value of a line `name:\tvalue` of a status file.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no line {name} in:\n{status}")).trim()
}
