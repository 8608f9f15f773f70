//! The proof, for people: at most 100 columns.

use std::fmt::Write;

use agent_init::layers::{LAYERS, Layers};

use super::text::{grid, one_line};
use crate::doctor::text::wrapped;
use crate::proof::finding::{Finding, State, chain, in_words};
use crate::proof::judged::Named;
use crate::proof::{Proof, summary};

/// The whole report.
pub fn proof(proof: &Proof, colour: bool) -> String {
    let judged = proof.judged.room;
    let in_room = format!("in {}", judged.name);
    let mut text = if judged == Named::FULL { String::new() } else { subject(proof) };
    let mut groups: Vec<&str> = proof.findings.iter().map(|f| f.op.group).collect();
    groups.dedup();
    for group in groups {
        let rows = proof.findings.iter().filter(|f| f.op.group == group).map(row);
        let head = ["op", &in_room, "first blocker", "depth", "enough alone", "nothing else"];
        let rows: Vec<_> = std::iter::once(head.map(String::from).to_vec()).chain(rows).collect();
        let _infallible = write!(text, "=== {group} ===\n{}\n", grid(&rows, colour));
    }
    text.push_str(&layers(proof));
    for finding in &proof.findings {
        if let Some(lattice) = &finding.lattice {
            let _infallible = writeln!(text, "{}: {}", finding.op.id, in_words(lattice));
        }
    }
    for (room, ids) in summary::open(proof) {
        let who =
            if room == "ns_only" { "namespaces alone leave" } else { &format!("{room} leaves") };
        text.push_str(&list(&format!("{who} open"), &ids));
    }
    for state in [State::Broken, State::Inconclusive] {
        let found = proof.findings.iter().filter(|f| f.state == state);
        let lines: Vec<_> = found.map(|f| format!("{}: {}", f.op.id, why(f))).collect();
        if !lines.is_empty() {
            let _infallible = writeln!(text, "{}:", state.word());
            lines.iter().for_each(|line| _ = writeln!(text, "  {}", one_line(line)));
            text.push('\n');
        }
    }
    text.push_str(&closing(proof));
    text
}

/// What is judged, where that is not the profile that everybody has.
fn subject(proof: &Proof) -> String {
    let mut text = format!("judged: {}\n", proof.judged.room.name);
    proof.judged.words().iter().for_each(|line| text.push_str(&lines(line, "  ")));
    text + "\n"
}

/// Lines within the width of the report, each behind `margin`.
pub fn lines(text: &str, margin: &str) -> String {
    wrapped(text, 96).iter().map(|line| format!("{margin}{line}\n")).collect()
}

fn row(finding: &Finding) -> Vec<String> {
    let cell = finding.cell();
    let blocker = cell.and_then(|c| c.blocker).map_or("-", |b| b.word());
    let of = |get: fn(&crate::attribute::Cell) -> Layers| words(cell.map_or(Layers::empty(), get));
    vec![
        finding.op.id.to_owned(),
        finding.state.word().to_owned(),
        format!("{blocker}{}", if cell.is_some_and(|c| c.without_control) { "*" } else { "" }),
        match finding.depth() {
            0 => "-".into(),
            depth => depth.to_string(),
        },
        of(crate::attribute::Cell::enough),
        of(|cell| cell.necessary),
    ]
}

/// Most layers that a column names.
const NAMED: usize = 4;

/// `seccomp caps`; of more than [`NAMED`] the first, and how many more: `--explain` has all.
fn words(layers: Layers) -> String {
    let names: Vec<_> = LAYERS.iter().filter(|l| layers.contains(l.flag)).map(|l| l.name).collect();
    match names.split_at_checked(NAMED) {
        _ if names.is_empty() => "-".into(),
        Some((first, rest)) if !rest.is_empty() => format!("{} +{}", first.join(" "), rest.len()),
        _ => names.join(" "),
    }
}

fn layers(proof: &Proof) -> String {
    let head = ["layer", "stops alone", "keeps inside", "only it", "nothing else would"];
    let rows = summary::contributions(proof).into_iter().map(|row| {
        let counts =
            [&row.alone, &row.keeps, &row.only, &row.necessary].map(|ids| ids.len().to_string());
        std::iter::once(row.layer.word.to_owned()).chain(counts).collect()
    });
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(String::from).to_vec()).chain(rows).collect();
    format!("{}\n", grid(&rows, false))
}

/// A heading with the count, and the words, wrapped.
fn list(heading: &str, ids: &[&str]) -> String {
    let mut text = format!("{heading}: {}\n", ids.len());
    if !ids.is_empty() {
        text.push_str(&lines(&ids.join(" "), "  "));
    }
    text + "\n"
}

fn why(finding: &Finding) -> String {
    let outcome = || finding.cell().map_or(String::new(), |c| crate::attribute::words(&c.outcome));
    if finding.doubts.is_empty() { outcome() } else { finding.doubts.join("; ") }
}

fn closing(proof: &Proof) -> String {
    let counts: Vec<String> = summary::counts(proof)
        .into_iter()
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    let mut text = format!("{} operations: {}\n", proof.findings.len(), counts.join(", "));
    if proof.is_partial {
        text.push_str("stopped before the last operation: this is a part\n");
    }
    if !proof.has_root {
        text.push_str("control missing: only root can show that an operation works at all here\n");
    }
    if proof.findings.iter().any(|f| f.cell().is_some_and(|cell| cell.without_control)) {
        text.push_str("* not proved: the credit would need a control that could not be run\n");
    }
    text
}

/// The experiments on one operation, in words.
pub fn explain(finding: &Finding) -> String {
    let op = finding.op;
    let mut text = format!("{}: {}\n", op.id, op.title);
    for (name, what) in [("call", op.call), ("safe", op.safe), ("judged", op.judged)] {
        let _infallible = writeln!(text, "  {name:<8}{what}");
    }
    for line in chain(finding) {
        let _infallible = writeln!(text, "  - {}", one_line(&line));
    }
    text + "\n"
}
