//! `agent-shim matrix`: the ten operations in the four profiles, who blocked them, what it costs.

use std::path::Path;

use agent_probe::{Op, REFERENCE, Verdict, find};

use super::output::Output;
use super::{has_stdout, is_colourful, print};
use crate::attribute::{self, Blocker};
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
    print(&text::matrix(&report, is_colourful()))?;
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

/// Every cell of `full` is blocked, by something that is known; and the probe is one that works:
/// with no layer it reads a file that everyone can read.
fn held(report: &Report) -> bool {
    let row = |profile, id| {
        let table = report.tables.iter().find(|t| t.profile == profile);
        table.and_then(|t| t.rows.iter().find(|(op, _)| op.id == id)).map(|(_, cell)| cell)
    };
    let verdict = |profile, id| row(profile, id).map(|cell| cell.outcome.verdict);
    let works = verdict("none", "fs-read-passwd") == Some(Verdict::Allowed);
    works
        && REFERENCE.iter().all(|id| match verdict("full", id) {
            Some(Verdict::Blocked) => {
                row("full", id).is_some_and(|cell| cell.blocker != Some(Blocker::Unknown))
            }
            // A host without pid 2 has nothing to be read.
            Some(Verdict::Skip) => *id == "proc-read-pid2",
            _ => false,
        })
}
