//! The table, for people: at most 100 columns.

use super::{Report, State};
use crate::report::text::one_line;

/// Widths of the columns, two blanks between them: 100 together.
const WIDTHS: [usize; 4] = [23, 7, 33, 31];
const WIDTH: usize = 100;
const INDENT: &str = "    ";

/// Features, then profiles. `colour`: for a terminal.
pub fn table(report: &Report, colour: bool) -> String {
    let mut text = String::new();
    let head = ["feature", "state", "measured by", "lost without it"];
    text.push_str(&line(head, None));
    let mut last = ("", "");
    for (row, finding) in &report.features {
        let cells = [row.name, finding.state.word(), &finding.measured, row.lost];
        text.push_str(&line(cells, colour.then_some(finding.state)));
        let told = (finding.why.as_str(), finding.fix.as_str());
        if told == last && !finding.why.is_empty() {
            note(&mut text, "why", "as above");
        } else {
            note(&mut text, "why", &finding.why);
            note(&mut text, "fix", &finding.fix);
        }
        last = told;
    }
    text.push('\n');
    text.push_str(&line(["profile", "builds", "measured by", ""], None));
    for verdict in &report.verdicts {
        let measured = match verdict.state {
            State::Yes => "a room of it, started and ended",
            State::Limited => "a room of it, with --best-effort only",
            _ => "a room of it, not started",
        };
        let cells = [verdict.profile, verdict.state.word(), measured, ""];
        text.push_str(&line(cells, colour.then_some(verdict.state)));
        note(&mut text, "why", &verdict.error);
        note(&mut text, "hint", &verdict.hint);
    }
    text
}

/// One row, of as many lines as its longest cell needs.
fn line(cells: [&str; 4], paint: Option<State>) -> String {
    let columns: Vec<Vec<String>> =
        cells.iter().zip(WIDTHS).map(|(cell, width)| wrapped(cell, width)).collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for n in 0..height {
        let mut line = String::new();
        for (column, (cells, width)) in columns.iter().zip(WIDTHS).enumerate() {
            let cell = cells.get(n).map_or("", String::as_str);
            let (on, off) = match paint {
                Some(state) if column == 1 && n == 0 => (code(state), "\x1b[0m"),
                _ => ("", ""),
            };
            line.push_str(&format!("{on}{cell:<width$}{off}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Green: it is there. Red: it is not. Yellow: in part, or nobody knows.
fn code(state: State) -> &'static str {
    match state {
        State::Yes => "\x1b[32m",
        State::No => "\x1b[31m",
        State::Limited | State::Unknown => "\x1b[33m",
    }
}

/// `    why: …`, indented; nothing for an empty text.
fn note(to: &mut String, word: &str, text: &str) {
    let lines = wrapped(text, WIDTH - INDENT.len() - word.len() - 2);
    for (n, line) in lines.iter().enumerate().filter(|_| !text.is_empty()) {
        let before = if n == 0 { format!("{word}: ") } else { " ".repeat(word.len() + 2) };
        to.push_str(&format!("{INDENT}{before}{line}\n"));
    }
}

/// Lines of at most `width` characters, broken at blanks; a longer word is broken too. What came
/// from elsewhere cannot move a terminal's cursor.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in one_line(text).split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        loop {
            let used = lines.last().map_or(0, |l| l.chars().count());
            let blank = usize::from(used > 0);
            if used + blank + rest.len() <= width {
                if let Some(line) = lines.last_mut() {
                    line.push_str(&" ".repeat(blank));
                    line.extend(rest);
                }
                break;
            }
            if used > 0 {
                lines.push(String::new());
                continue;
            }
            let after = rest.split_off(width);
            if let Some(line) = lines.last_mut() {
                line.extend(rest);
            }
            lines.push(String::new());
            rest = after;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("onetwothree x", 4), ["onet", "woth", "ree", "x"]);
        assert_eq!(wrapped("", 4), [""]);
        assert!(!wrapped("a\x1b[2J\nb", 40).concat().contains(['\x1b', '\n']));
    }

    #[test]
    fn columns_stay_in_place() {
        let text = line(["a", "no", &"word ".repeat(20), "lost"], Some(State::No));
        assert!(
            text.starts_with("a                        \x1b[31mno     \x1b[0m  word"),
            "{text}"
        );
        assert!(
            text.replace("\x1b[31m", "").replace("\x1b[0m", "").lines().all(|l| l.len() <= WIDTH)
        );
        assert!(text.lines().nth(1).unwrap().starts_with(&" ".repeat(34)));
    }
}
