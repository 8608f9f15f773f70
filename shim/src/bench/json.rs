//! The same facts, for machines. Members may be added within a version; readers ignore unknown ones.
//!
//! ```text
//! {"schema":"agent-shim/bench-filter","version":1,
//!  "kernel":"6.18.0","arch":"x86_64","installs":1000,
//!  "filters":[{"name":"default",
//!              "by":null,                 what made it, where we did not
//!              "instructions":[274],      of each program; several are installed one after the other
//!              "install_ns":31000,        the median; null, here and below: refused there
//!              "install_ratio":2.1,       of the first filter's, as every ratio
//!              "walk_mean":9.8,"walk_most":12,
//!              "calls":[{"call":"getppid","ns":205.1,"ratio":1.00}]}],
//!  "targets":[{"target":"install, of the one-instruction filter's","most":4,"measured":2.1,
//!              "met":true}]}              null: there was nothing to compare with
//! ```

use super::filter::{CALLS, Report, Row, Target};
use crate::report::json::{Json, array, boolean, number, object, text};

/// The whole document, ending in a newline.
pub fn filter(report: &Report) -> String {
    let document = object([
        ("schema", text("agent-shim/bench-filter")),
        ("version", Json("1".into())),
        ("kernel", text(&crate::sys::kernel_release())),
        ("arch", text(std::env::consts::ARCH)),
        ("installs", Json(report.rounds.installs.to_string())),
        ("filters", array(report.rows.iter().map(|row| row_of(report, row)))),
        ("targets", array(report.targets().iter().map(target))),
    ]);
    document.0 + "\n"
}

fn row_of(report: &Report, row: &Row) -> Json {
    let calls = CALLS.iter().zip(row.calls).enumerate().map(|(n, (call, ns))| {
        let ratio = report.ratio(row, |row| row.calls.get(n).copied().flatten());
        object([("call", text(call.name)), ("ns", some(ns, 1)), ("ratio", some(ratio, 3))])
    });
    object([
        ("name", text(&row.name)),
        ("by", row.by.map_or(Json("null".into()), text)),
        ("instructions", array(row.instructions.iter().map(|n| Json(n.to_string())))),
        ("install_ns", some(row.install, 0)),
        ("install_ratio", some(report.ratio(row, |row| row.install), 3)),
        ("walk_mean", some(row.walk.map(|(mean, _)| mean), 2)),
        ("walk_most", some(row.walk.map(|(_, most)| most as f64), 0)),
        ("calls", array(calls)),
    ])
}

fn target(target: &Target) -> Json {
    object([
        ("target", text(&target.what)),
        ("most", Json(target.most.to_string())),
        ("measured", some(target.measured, 3)),
        ("met", target.is_met().map_or(Json("null".into()), boolean)),
    ])
}

fn some(value: Option<f64>, digits: usize) -> Json {
    value.map_or(Json("null".into()), |value| number(value, digits))
}
