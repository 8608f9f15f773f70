//! Other sandboxes: a table each, and all beside ours. At most 100 columns, as far as names allow.

use std::fmt::Write;

use agent_probe::{Op, Outcome, Verdict};

use super::text::{errno, grid, one_line};
use super::{Column, Report};
use crate::doctor::text::wrapped;

/// Characters in a line.
const WIDTH: usize = 100;

/// Most characters of a note in a table, beside the longest title and errno.
const MOST_NOTE: usize = 24;

const AS_ROOT: &str = "\
The launchers were started by root, and what they started may be root still; none and full are an
unprivileged user's.
";

/// All of it; nothing where no launcher was asked for.
pub fn tables(report: &Report, colour: bool) -> String {
    if report.launchers.is_empty() {
        return String::new();
    }
    let mut text: String = report.launchers.iter().map(|c| table(c, colour) + "\n").collect();
    text.push_str("=== beside one another ===\n");
    let (ours, others) = sides(report);
    let mut rest = others.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(how_many(&ours, rest));
        text.push_str(&grid(&rows(&[ours.as_slice(), now].concat()), colour));
        text.push('\n');
        rest = later;
    }
    if report.launchers.iter().any(|column| column.uid == 0) {
        text.push_str(AS_ROOT);
        text.push('\n');
    }
    text
}

/// The table of one, with the probe's notes in the place of a blocker: why something was refused,
/// nobody has proved. Below it, in full, what a row without a verdict has to say.
fn table(column: &Column, colour: bool) -> String {
    let head = ["op", "result", "errno", "note"].map(String::from).to_vec();
    let row = |(op, outcome): &(&Op, Outcome)| {
        let note = match (outcome.verdict, &outcome.note) {
            (Verdict::Inconclusive, _) => "see below".into(),
            (_, note) => note.as_ref().map_or("-".into(), |note| shortened(note)),
        };
        vec![op.title.to_owned(), outcome.verdict.word().to_owned(), errno(outcome), note]
    };
    let rows: Vec<_> = std::iter::once(head).chain(column.rows.iter().map(row)).collect();
    let mut text = format!("=== launcher: {} ===\n", one_line(&column.name));
    indented(&mut text, &column.command);
    text.push_str(&grid(&rows, colour));
    for (ops, words) in doubts(column) {
        let whose = match ops.len() == column.rows.len() {
            true => "all of them".into(),
            false => ops.join(", "),
        };
        indented(&mut text, &format!("{whose}: {words}"));
    }
    text
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_NOTE) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Lines of the page's width, four blanks before each.
fn indented(to: &mut String, text: &str) {
    wrapped(text, WIDTH - 4).iter().for_each(|line| _ = writeln!(to, "    {line}"));
}

/// What the rows without a verdict say, each words once, and which they are.
fn doubts(column: &Column) -> Vec<(Vec<&str>, String)> {
    let mut doubts: Vec<(Vec<&str>, String)> = Vec::new();
    for (op, outcome) in column.rows.iter().filter(|(_, o)| o.verdict == Verdict::Inconclusive) {
        let words = outcome.note.as_deref().unwrap_or("the probe does not know").to_owned();
        match doubts.iter_mut().find(|(_, other)| *other == words) {
            Some((ops, _)) => ops.push(op.title),
            None => doubts.push((vec![op.title], words)),
        }
    }
    doubts
}

/// A column: its name, and a verdict an operation.
#[derive(Clone)]
struct Side<'a> {
    name: &'a str,
    verdicts: Vec<(&'static Op, Verdict)>,
}

/// Ours, and the others.
fn sides(report: &Report) -> (Vec<Side<'_>>, Vec<Side<'_>>) {
    let ours = report.tables.iter().map(|table| Side {
        name: table.profile,
        verdicts: table.rows.iter().map(|(op, cell)| (*op, cell.outcome.verdict)).collect(),
    });
    let others = report.launchers.iter().map(|column| Side {
        name: &column.name,
        verdicts: column.rows.iter().map(|(op, outcome)| (*op, outcome.verdict)).collect(),
    });
    (ours.collect(), others.collect())
}

/// How many of the others fit beside ours: at least one, however wide.
fn how_many(ours: &[Side], others: &[Side]) -> usize {
    let fits = |count: &usize| {
        let columns = [ours, others.get(..*count).unwrap_or_default()].concat();
        grid(&rows(&columns), false).lines().all(|line| line.chars().count() <= WIDTH)
    };
    (1..=others.len()).take_while(fits).last().unwrap_or(1)
}

fn rows(columns: &[Side]) -> Vec<Vec<String>> {
    let line = |first: &str, cell: &dyn Fn(&Side) -> String| {
        std::iter::once(first.to_owned()).chain(columns.iter().map(cell)).collect::<Vec<_>>()
    };
    let mut rows = vec![line("op", &|side| side.name.to_owned())];
    let Some(first) = columns.first() else { return rows };
    for (n, (op, _)) in first.verdicts.iter().enumerate() {
        let word = |side: &Side| side.verdicts.get(n).map_or("-", |(_, v)| v.word()).to_owned();
        rows.push(line(op.title, &word));
    }
    for (name, must_work) in [("let through", false), ("works, as it must", true)] {
        let count = |side: &Side| {
            let of = side.verdicts.iter().filter(|(op, _)| op.must_work() == must_work);
            let open = of.clone().filter(|(_, verdict)| *verdict == Verdict::Allowed).count();
            // Who has not answered has not held.
            let silent = of.clone().filter(|(_, v)| *v == Verdict::Inconclusive).count();
            match silent {
                0 => format!("{open} of {}", of.count()),
                _ => format!("{open} of {}, {silent} ?", of.count()),
            }
        };
        if first.verdicts.iter().any(|(op, _)| op.must_work() == must_work) {
            rows.push(line(name, &count));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Table;
    use agent_probe::{REFERENCE, find};

    fn column(name: &str, outcome: &Outcome) -> Column {
        let rows = REFERENCE.iter().map(|id| (find(id).unwrap(), outcome.clone())).collect();
        Column { name: name.into(), command: "x ".repeat(99), uid: 1000, rows }
    }

    fn printed(launchers: Vec<Column>) -> String {
        let tables = vec![Table { profile: "none", rows: Vec::new() }];
        tables_of(Report { tables, costs: Vec::new(), has_root: false, launchers })
    }

    fn tables_of(report: Report) -> String {
        let text = tables(&report, false);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        text
    }

    #[test]
    fn many_are_several_tables_and_none_is_lost() {
        let names: Vec<String> = (0..20).map(|n| format!("launcher-{n}")).collect();
        let text = printed(names.iter().map(|n| column(n, &Outcome::ALLOWED)).collect());
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with("op  ")).collect();
        let heads = heads.get(20..).unwrap().join(" ");
        assert!(heads.matches("none").count() > 1, "{text}");
        assert!(names.iter().all(|name| heads.split(' ').filter(|w| w == name).count() == 1));
        assert!(!text.contains("started by root"));
    }

    #[test]
    fn foreign_words_forge_no_row_and_are_told_once() {
        let evil = Outcome::INCONCLUSIVE.note(format!("\x1b[2J\nFORGED {}", "y".repeat(300)));
        let text = printed(vec![column("a", &evil)]);
        assert!(!text.contains('\x1b') && !text.contains("\nFORGED"), "{text}");
        assert_eq!(text.matches("FORGED").count(), 1, "{text}");
        let allowed = Outcome::ALLOWED.note("z\n".repeat(2000));
        assert!(!printed(vec![column("a", &allowed)]).contains("\nz"));
    }
}
