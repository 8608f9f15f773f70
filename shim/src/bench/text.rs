//! The table of `bench filter`, for people.

use std::fmt::Write as _;

use super::filter::{CALLS, Report, Row};

/// The whole of it.
pub fn filter(report: &Report) -> String {
    let name = report.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "seccomp filters on Linux {}; {} installations of each, each in a fresh process\n\n",
        crate::sys::kernel_release(),
        report.rounds.installs
    );
    let [hot, ..] = CALLS;
    let _infallible = writeln!(
        text,
        "{:<name$}{:>7} {:>10}{:>7} {:>10}{:>8}{:>6} {:>6}{:>6} {:>11}{:>6}",
        "filter",
        "insns",
        "install us",
        "x",
        "walk",
        hot.name,
        "x",
        CALLS[1].name,
        "x",
        CALLS[2].name,
        "x"
    );
    for row in &report.rows {
        let _infallible = writeln!(text, "{}", line(report, row, name));
    }
    text.push_str(NOTES);
    for row in &report.rows {
        if let Some(by) = row.by {
            let count = row.instructions.len();
            let several = if count == 1 { String::new() } else { format!(", in {count} filters") };
            let _infallible = writeln!(text, "{}: by {by}{several}", row.name);
        }
    }
    text.push_str(TARGETS);
    for target in report.targets() {
        let (measured, met) = match (target.measured, target.is_met()) {
            (Some(measured), Some(true)) => (format!("{measured:.2}"), "met"),
            (Some(measured), _) => (format!("{measured:.2}"), "NOT MET"),
            (None, _) => ("-".to_owned(), "not measured"),
        };
        let _infallible =
            writeln!(text, "{:<44}{:>6}{measured:>10}  {met}", target.what, target.most);
    }
    text
}

const NOTES: &str = "
x: of the first row. install: the first of a process, its page faults included, as in a launch.
walk: instructions for a number without a rule for arguments, mean/most. Nanoseconds a call: getppid
is decided by its number, ioctl and personality by arguments where a filter has a rule for them.
ranges, list: the policy of default by numbers alone. -: refused there.
The same policy, but for containers, by others:
";

const TARGETS: &str = "
target of default                             most  measured
";

fn line(report: &Report, row: &Row, name: usize) -> String {
    let some = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let walk = row.walk.map_or("-".to_owned(), |(mean, most)| format!("{mean:.1}/{most}"));
    let mut text = format!(
        "{:<name$}{:>7} {:>10} {:>6} {walk:>10}",
        row.name,
        row.instructions.iter().sum::<usize>(),
        some(row.install.map(|ns| ns / 1e3), 1),
        some(report.ratio(row, |row| row.install), 2),
    );
    for (n, width) in [7, 6, 11].into_iter().enumerate() {
        let of = |row: &Row| row.calls.get(n).copied().flatten();
        let (time, ratio) = (some(of(row), 0), some(report.ratio(row, of), 2));
        let _infallible = write!(text, " {time:>width$} {ratio:>5}");
    }
    text
}
