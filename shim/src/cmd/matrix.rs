//! `agent-shim matrix`: the ten operations in the four profiles, who blocked them, what it costs; or
//! beside other sandboxes.

use std::path::Path;

use agent_probe::{OPS, Op, REFERENCE, Verdict, find};

use super::output::Output;
use super::{has_stdout, is_colourful, print, tell_of_control};
use crate::attribute::{self, Blocker};
use crate::cli::Matrix;
use crate::cost::{self, Rounds};
use crate::error::Failure;
use crate::fixture;
use crate::lab::{Experiments, Lab, end_of_progress, progress_line, progress_of};
use crate::launcher::{Judge, Launcher, is_in_doubt};
use crate::profile::{PROFILES, Profile};
use crate::report::{Column, Report, Table, json, text};

/// Exit status: an operation that `full` must block was allowed, or nobody knows.
const NOT_HELD: u8 = 1;
/// A launcher has not answered on an operation.
const IN_DOUBT: u8 = 2;

/// What other sandboxes are put beside: nothing, and everything.
const BESIDE: [&str; 2] = ["none", "full"];

/// 0: the room held, and every launcher has answered; else one of the above.
pub fn run(options: &Matrix) -> Result<u8, Failure> {
    has_stdout()?; // before the run, not after it
    let [output] = Output::open([options.json.as_deref()])?;
    fixture::make_variable();
    let mut lab = Lab::open(progress_line())?;
    let report = examine(&mut lab, options);
    end_of_progress();
    let mut report = report?;
    report.launchers = judged(&lab, options)?;
    if let Some(output) = output {
        output.write(&json::matrix(&report, &lab))?;
    }
    print(&text::matrix(&report, is_colourful()))?;
    Ok(match () {
        () if !held(&report) => NOT_HELD,
        () if report.launchers.iter().any(is_in_doubt) => IN_DOUBT,
        () => 0,
    })
}

fn ops(options: &Matrix) -> Vec<&'static Op> {
    if options.all {
        OPS.iter().collect()
    } else {
        REFERENCE.iter().filter_map(|id| find(id)).collect()
    }
}

fn examine(lab: &mut Lab, options: &Matrix) -> Result<Report, Failure> {
    let ops = ops(options);
    let is_alone = options.launchers.is_empty();
    let is_shown = |profile: &&Profile| is_alone || BESIDE.contains(&profile.name);
    let profiles: Vec<&Profile> = PROFILES.iter().filter(is_shown).collect();
    lab.makes(&ops)?;
    tell_of_control();
    let mut tables = Vec::new();
    for profile in profiles {
        let mut rows = Vec::new();
        for op in &ops {
            rows.push((*op, attribute::cell(lab, op, profile.layers, absent(op))));
        }
        tables.push(Table { profile: profile.name, rows });
    }
    let costs = match (is_alone, options.quick) {
        (false, _) => Vec::new(),
        (true, true) => cost::measure(lab, Rounds::QUICK)?,
        (true, false) => cost::measure(lab, Rounds::FULL)?,
    };
    Ok(Report { tables, costs, has_root: lab.has_root(), launchers: Vec::new() })
}

/// The columns of the others, one after another: each has the machine for itself.
fn judged(lab: &Lab, options: &Matrix) -> Result<Vec<Column>, Failure> {
    let ops = ops(options);
    let column = |launcher: &Launcher| {
        let judge = Judge::of(lab)?;
        let column = judge.column(launcher, &ops, |done| {
            progress_of(&format!("{}: {done} of {}", launcher.name, ops.len()));
        });
        end_of_progress();
        column
    };
    options.launchers.iter().map(column).collect()
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
