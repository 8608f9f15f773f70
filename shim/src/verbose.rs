//! `--verbose`: the lines of the `log` crate, on stderr.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let _nobody_reads = writeln!(std::io::stderr(), "agent-shim: {}", record.args());
    }

    fn flush(&self) {}
}

/// From now on, if asked for.
pub fn start(yes: bool) {
    if yes && log::set_logger(&Stderr).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
