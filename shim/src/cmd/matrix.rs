//! `agent-shim matrix`: the ten operations in the four profiles, who blocked them, what it costs.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;

use agent_probe::{Op, REFERENCE, Verdict, find};

use super::{has_stdout, io_failure, print};
use crate::attribute;
use crate::cli::Matrix;
use crate::cost::{self, Rounds};
use crate::error::Failure;
use crate::lab::{Experiments, Lab, Setup, end_of_progress, progress_line};
use crate::profile::PROFILES;
use crate::report::{Report, Table, json, text};

/// 0: the room held; 1: an operation that `full` must block was allowed, or nobody knows.
pub fn run(options: &Matrix) -> Result<u8, Failure> {
    has_stdout()?; // before the run, not after it
    let output = options.json.as_deref().map(Output::open).transpose()?;
    let mut lab = Lab::open(progress_line())?;
    let report = examine(&mut lab, if options.quick { Rounds::QUICK } else { Rounds::FULL });
    end_of_progress();
    let report = report?;
    if let Some(output) = output {
        output.write(&json::matrix(&report, &lab))?;
    }
    let colour =
        std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    print(&text::matrix(&report, colour))?;
    Ok(if held(&report) { 0 } else { 1 })
}

fn examine(lab: &mut Lab, rounds: Rounds) -> Result<Report, Failure> {
    let ops: Vec<&'static Op> = REFERENCE.iter().filter_map(|id| find(id)).collect();
    for profile in PROFILES {
        // A profile that this host cannot make is an error, not a table of doubts.
        if let Some(op) = ops.first() {
            lab.attempt(op, Setup::Room(profile.layers))?;
        }
    }
    let mut tables = Vec::new();
    for profile in PROFILES {
        let mut rows = Vec::new();
        for op in &ops {
            rows.push((*op, attribute::cell(lab, op, profile.layers, absent(op))));
        }
        tables.push(Table { profile: profile.name, rows });
    }
    Ok(Report { tables, costs: cost::measure(lab, rounds)?, has_root: lab.has_root() })
}

/// What is known about a thing that even real root does not find. The kernel lists its memory
/// devices in sysfs, whoever has made nodes for them: without `mem` it was built without.
fn absent(op: &Op) -> &'static str {
    let listed = |device| Path::new("/sys/class/mem").join(device).exists();
    let is_mem = op.id == "dev-mem";
    if is_mem && listed("null") && !listed("mem") { "not built in" } else { "not present" }
}

fn held(report: &Report) -> bool {
    let full = report.tables.iter().filter(|t| t.profile == "full");
    full.flat_map(|t| &t.rows).all(|(_, cell)| {
        !matches!(cell.outcome.verdict, Verdict::Allowed | Verdict::Inconclusive)
            && cell.blocker != Some(attribute::Blocker::Unknown)
    })
}

/// A file that can be written, known before the run and not after it.
struct Output<'a> {
    path: &'a OsStr,
    file: File,
    is_new: bool,
    done: bool,
}

impl<'a> Output<'a> {
    fn open(path: &'a OsStr) -> Result<Output<'a>, Failure> {
        let is_new = !Path::new(path).exists();
        // Not truncated yet: if the run fails, an older report stays.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|e| io_failure(&e, "open", path.as_encoded_bytes()))?;
        Ok(Output { path, file, is_new, done: false })
    }

    fn write(mut self, text: &str) -> Result<(), Failure> {
        let is_file = self.file.metadata().is_ok_and(|m| m.is_file());
        let truncated = if is_file { self.file.set_len(0) } else { Ok(()) };
        let written = truncated.and_then(|()| self.file.write_all(text.as_bytes()));
        self.done = written.is_ok();
        written.map_err(|e| io_failure(&e, "write", self.path.as_encoded_bytes()))
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if self.is_new && !self.done {
            let _left = fs::remove_file(self.path);
        }
    }
}
