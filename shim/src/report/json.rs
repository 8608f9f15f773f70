//! The same facts, for machines. Members may be added within a version; readers ignore unknown ones.
//!
//! ```text
//! {"schema":"agent-shim/matrix","version":1,
//!  "kernel":"6.18.0","control":true,          whether the controls as real root were run
//!  "profiles":[{"name":"full","layers":["seccomp",…],
//!    "ops":[{"op":"fs-read-passwd","title":"read /etc/passwd","result":"BLOCKED",
//!            "errno":"ENOENT",                null: no call failed
//!            "blocker":"mnt ns",              null: nothing was refused
//!            "note":"not present",            null, or a few words of evidence
//!            "proof":"without mnt: …",        the decisive experiment
//!            "without_control":false,
//!            "sufficient":["mnt","landlock"], layers that block it alone
//!            "necessary":[]}]}],              layers without which it is allowed
//!  "launchers":[{"name":"bwrap",               with --launcher: "profiles" are none and full then,
//!    "command":"bwrap --unshare-all --",       and "cost" is empty
//!    "uid":1000,                               who has started it
//!    "ops":[{"op":"…","title":"…","result":"ALLOWED","errno":null,"note":null}]}],
//!  "experiments":[{"op":"…","setup":"room mnt,userns","result":"…","errno":null,"note":null}],
//!  "cost":[{"profile":"none","startup_ms":0.31,"ns_per_syscall":116.1,"delta_ns":0,
//!           "cause":null,"noise_ns":1.0}]}
//! ```
//!
//! `result`: ALLOWED, BLOCKED, CONTAINED, REDACTED, SKIP, INCONCLUSIVE. `setup`: `room LAYERS`,
//! `marked LAYERS` (the filter answers errno 4095), `real root`, `real root without capabilities`.

use agent_init::layers::{LAYERS, Layers};
use agent_probe::Outcome;
use tinyjson::JsonValue;

use super::{Column, Report, Table};
use crate::cost::Cost;
use crate::lab::Lab;
use crate::profile;

/// A JSON text, its members in the order given.
pub(crate) struct Json(pub(crate) String);

pub(crate) fn text(value: &str) -> Json {
    // Fails for infinite numbers only.
    Json(JsonValue::String(value.to_owned()).stringify().unwrap_or_default())
}

pub(crate) fn text_or_null(value: Option<&str>) -> Json {
    value.map_or(Json("null".into()), text)
}

pub(crate) fn boolean(value: bool) -> Json {
    Json(value.to_string())
}

pub(crate) fn number(value: f64, digits: usize) -> Json {
    Json(if value.is_finite() { format!("{value:.digits$}") } else { "null".into() })
}

pub(crate) fn array(values: impl IntoIterator<Item = Json>) -> Json {
    let values: Vec<String> = values.into_iter().map(|v| v.0).collect();
    Json(format!("[{}]", values.join(",\n")))
}

pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    let members = members.map(|(key, value)| format!("{}:{}", text(key).0, value.0));
    Json(format!("{{{}}}", members.join(",")))
}

pub(crate) fn names(layers: Layers) -> Json {
    let names = LAYERS.iter().filter(|l| layers.contains(l.flag)).map(|l| text(l.name).0);
    Json(format!("[{}]", names.collect::<Vec<_>>().join(",")))
}

/// The whole document, ending in a newline.
pub fn matrix(report: &Report, lab: &Lab) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut experiments: Vec<_> = lab.experiments().collect();
    experiments.sort_by_key(|(op, setup, _)| (*op, setup.to_string()));
    let experiments = experiments.into_iter().map(|(op, setup, outcome)| {
        let [result, errno, note] = outcome_members(outcome);
        object([("op", text(op)), ("setup", text(&setup.to_string())), result, errno, note])
    });
    let document = object([
        ("schema", text("agent-shim/matrix")),
        ("version", Json("1".into())),
        ("kernel", text(kernel.trim())),
        ("control", boolean(report.has_root)),
        ("profiles", array(report.tables.iter().map(profile_of))),
        ("launchers", array(report.launchers.iter().map(launcher))),
        ("experiments", array(experiments)),
        ("cost", array(report.costs.iter().map(cost))),
    ]);
    document.0 + "\n"
}

pub(crate) fn outcome_members(outcome: &Outcome) -> [(&'static str, Json); 3] {
    [
        ("result", text(outcome.verdict.word())),
        ("errno", text_or_null(outcome.errno.map(|e| e.name()).as_deref())),
        ("note", text_or_null(outcome.note.as_deref())),
    ]
}

fn profile_of(table: &Table) -> Json {
    let layers = profile::named(table.profile).unwrap_or(Layers::empty());
    let ops = table.rows.iter().map(|(op, cell)| {
        let [result, errno, _] = outcome_members(&cell.outcome);
        object([
            ("op", text(op.id)),
            ("title", text(op.title)),
            result,
            errno,
            ("blocker", text_or_null(cell.blocker.map(|b| b.word()))),
            ("note", text_or_null(cell.note.as_deref())),
            ("proof", text(&cell.proof)),
            ("without_control", boolean(cell.without_control)),
            ("sufficient", names(cell.sufficient)),
            ("necessary", names(cell.necessary)),
        ])
    });
    object([("name", text(table.profile)), ("layers", names(layers)), ("ops", array(ops))])
}

fn launcher(column: &Column) -> Json {
    let ops = column.rows.iter().map(|(op, outcome)| {
        let [result, errno, note] = outcome_members(outcome);
        object([("op", text(op.id)), ("title", text(op.title)), result, errno, note])
    });
    object([
        ("name", text(&column.name)),
        ("command", text(&column.command)),
        ("uid", Json(column.uid.to_string())),
        ("ops", array(ops)),
    ])
}

pub(crate) fn cost(cost: &Cost) -> Json {
    object([
        ("profile", text(cost.profile)),
        ("startup_ms", number(cost.startup_ms, 3)),
        ("ns_per_syscall", number(cost.ns_per_syscall, 1)),
        ("delta_ns", number(cost.delta_ns, 1)),
        ("cause", text_or_null(cost.cause)),
        ("noise_ns", number(cost.noise_ns, 1)),
    ])
}
