//! The two tables, for people.

use std::fmt::Write;

use agent_probe::{Outcome, Verdict, errno_words};

use super::{Report, Table, beside};
use crate::attribute::{Blocker, Cell};
use crate::cost::Cost;

const CLOSING: &str = "\
The kernel stays in the trust boundary: a kernel bug, or a system call that the filter allows, is
a way out of every room above. Where that is not enough: gVisor (system calls answered in user
space), Firecracker (a virtual machine per agent), seL4 (a verified microkernel).
";

const NO_CONTROL: &str = "\
* control missing: only root can show that an operation works at all, and tell ownership (DAC)
  from capabilities. This run was not root; these credits rest on what rooms without it show.
";

/// Both tables and the closing lines. `colour`: for a terminal.
pub fn matrix(report: &Report, colour: bool) -> String {
    let mut text = String::new();
    for table in &report.tables {
        text.push_str(&format!("=== profile: {} ===\n", table.profile));
        text.push_str(&grid(&rows(table), colour));
        text.push('\n');
    }
    text.push_str(&beside::tables(report, colour));
    if !report.costs.is_empty() {
        text.push_str(&grid(&costs(&report.costs), false));
        text.push('\n');
    }
    if report.tables.iter().any(|t| t.rows.iter().any(|(_, cell)| cell.without_control)) {
        text.push_str(NO_CONTROL);
        text.push('\n');
    }
    text.push_str(CLOSING);
    text
}

fn rows(table: &Table) -> Vec<Vec<String>> {
    let head = ["op", "result", "errno", "blocker"].map(String::from).to_vec();
    let row = |(op, cell): &(&agent_probe::Op, Cell)| {
        vec![
            op.title.to_owned(),
            cell.outcome.verdict.word().to_owned(),
            errno(&cell.outcome),
            blocker(cell),
        ]
    };
    std::iter::once(head).chain(table.rows.iter().map(row)).collect()
}

/// `ENOENT (No such file or directory)`.
pub(super) fn errno(outcome: &Outcome) -> String {
    let Some(errno) = outcome.errno else { return "-".into() };
    let name = errno.name();
    format!("{name} ({})", errno_words(&name))
}

/// `mnt ns (not present)`; a star where the control is missing.
fn blocker(cell: &Cell) -> String {
    let Some(blocker) = cell.blocker else {
        return cell.note.as_ref().map_or("-".into(), |note| format!("- ({note})"));
    };
    let mut text = blocker.word().to_owned();
    if blocker == Blocker::Unknown && !cell.proof.is_empty() {
        let _infallible = write!(text, " ({})", cell.proof);
    } else if let Some(note) = &cell.note {
        let _infallible = write!(text, " ({note})");
    }
    if cell.without_control {
        text.push('*');
    }
    text
}

fn costs(costs: &[Cost]) -> Vec<Vec<String>> {
    let head = ["profile", "startup_ms", "ns_per_syscall", "delta"].map(String::from).to_vec();
    let row = |cost: &Cost| {
        let cause = cost.cause.map_or(String::new(), |cause| format!(" ({cause})"));
        let unknown = cost.delta_ns != 0.0 && cost.cause.is_none();
        let cause = if unknown { " (cause not shown)".to_owned() } else { cause };
        vec![
            cost.profile.to_owned(),
            format!("{:.2}", cost.startup_ms),
            format!("{:.0}", cost.ns_per_syscall),
            format!("{:+.0}{cause}", cost.delta_ns),
        ]
    };
    std::iter::once(head).chain(costs.iter().map(row)).collect()
}

/// What came from a user or from inside a room, without what moves a terminal's cursor.
pub fn one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escaped).collect()
}

/// Columns as wide as their widest cell, two blanks between; the last one ragged.
pub(super) fn grid(rows: &[Vec<String>], colour: bool) -> String {
    let printable = |row: &Vec<String>| row.iter().map(|cell| one_line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(printable).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|n| width(n).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let (on, off) = if colour { paint(cell) } else { ("", "") };
            let _infallible = write!(line, "{on}{cell:<width$}{off}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Red: it works. Green: it does not. Yellow: nobody knows.
fn paint(cell: &str) -> (&'static str, &'static str) {
    let on = match Verdict::from_word(&cell.to_uppercase()) {
        Some(Verdict::Allowed) => "\x1b[31m",
        Some(Verdict::Blocked | Verdict::Contained | Verdict::Redacted) => "\x1b[32m",
        Some(Verdict::Skip | Verdict::Inconclusive) => "\x1b[33m",
        None if ["open", "broken"].contains(&cell) => "\x1b[31m",
        None if cell == "works" => "\x1b[32m",
        None => return ("", ""),
    };
    (on, "\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_init::layers::Layers;
    use agent_probe::{Errno, Outcome, find};

    fn report() -> Report {
        let cell = Cell {
            outcome: Outcome::BLOCKED.errno(Errno(libc::ENETUNREACH)),
            blocker: Some(Blocker::Layer(Layers::PID)),
            note: Some("no other procs".into()),
            proof: String::new(),
            without_control: true,
            sufficient: Layers::empty(),
            keeps: Layers::empty(),
            shown: Vec::new(),
            necessary: Layers::empty(),
        };
        let op = find("net-connect-udp").unwrap();
        let cost = Cost {
            profile: "full",
            startup_ms: 1.234,
            ns_per_syscall: 132.4,
            delta_ns: 16.2,
            cause: Some("seccomp BPF"),
            noise_ns: 1.0,
        };
        let tables = vec![Table { profile: "full", rows: vec![(op, cell)] }];
        Report { tables, costs: vec![cost], has_root: false, launchers: Vec::new() }
    }

    #[test]
    fn aligned_and_within_100_columns() {
        let text = matrix(&report(), false);
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
        assert!(text.starts_with("=== profile: full ===\nop "), "{text}");
        assert!(
            text.contains(
                "BLOCKED  ENETUNREACH (Network is unreachable)  pid ns (no other procs)*"
            )
        );
        assert!(text.contains("full     1.23        132             +16 (seccomp BPF)"), "{text}");
        assert!(text.contains("* control missing"));
    }

    #[test]
    fn a_note_cannot_forge_a_row() {
        let mut report = report();
        report.tables[0].rows[0].1.note = Some("x\x1b[2J\nFORGED".into());
        let text = matrix(&report, false);
        assert!(!text.contains('\x1b') && !text.contains("\nFORGED"), "{text}");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let plain = matrix(&report(), false);
        let mut painted = matrix(&report(), true);
        assert!(painted.contains("\x1b[32mBLOCKED"));
        for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, plain);
    }
}
