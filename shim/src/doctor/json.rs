//! The same facts, for machines. Members may be added within a version; readers ignore unknown ones.
//!
//! ```text
//! {"schema":"agent-shim/doctor","version":1,
//!  "kernel":"6.18.0","arch":"x86_64","uid":1000,
//!  "full":true,                             whether the profile `full` can be built
//!  "features":[{"feature":"user namespace",
//!               "state":"no",               yes, no, limited, unknown
//!               "measured":"clone: EPERM",  by what, and what was seen
//!               "lost":"every profile …",   without it
//!               "why":"…","fix":"…"}],      null where there is nothing to say
//!  "profiles":[{"profile":"full","state":"no",   limited: with --best-effort only
//!               "error":"clone: clone3(…): …",   null if a room of it has started
//!               "hint":"…"}]}
//! ```

use super::{Finding, Report, Row, Verdict};
use crate::report::json::{Json, array, boolean, object, text, text_or_null};

/// The whole document, ending in a newline.
pub fn document(report: &Report) -> String {
    let features = report.features.iter().map(|(row, finding)| feature(row, finding));
    let document = object([
        ("schema", text("agent-shim/doctor")),
        ("version", Json("1".into())),
        ("kernel", text(&report.facts.release)),
        ("arch", text(std::env::consts::ARCH)),
        ("uid", Json(report.facts.uid.to_string())),
        ("full", boolean(report.is_full())),
        ("features", array(features)),
        ("profiles", array(report.verdicts.iter().map(profile))),
    ]);
    document.0 + "\n"
}

fn feature(row: &Row, finding: &Finding) -> Json {
    object([
        ("feature", text(row.name)),
        ("state", text(finding.state.word())),
        ("measured", text(&finding.measured)),
        ("lost", text(row.lost)),
        ("why", not_empty(&finding.why)),
        ("fix", not_empty(&finding.fix)),
    ])
}

fn profile(verdict: &Verdict) -> Json {
    object([
        ("profile", text(verdict.profile)),
        ("state", text(verdict.state.word())),
        ("error", not_empty(&verdict.error)),
        ("hint", not_empty(&verdict.hint)),
    ])
}

fn not_empty(value: &str) -> Json {
    text_or_null(Some(value).filter(|v| !v.is_empty()))
}
