//! The table for people: a row a call, in the order of the numbers.

use std::fmt::Write as _;

use agent_init::policy::Row;

use super::verdict::Action;
use super::{Filter, format, words};
use crate::report::json::array;

/// The rows of a filter, with their numbers, of one group and with one possible answer.
pub fn rows(
    filter: &Filter,
    group: Option<&str>,
    action: Option<&str>,
) -> Vec<(u32, &'static Row)> {
    let mut rows = words::numbered(filter.policy, filter.arch);
    rows.retain(|(_, row)| {
        group.is_none_or(|group| row.group == group)
            && action.is_none_or(|word| words::verdicts(&row.rule).any(|a| a.word() == word))
    });
    rows
}

/// At most [`words::WIDTH`] wide; rule and reason go on below themselves.
pub fn text(filter: &Filter, rows: &[(u32, &'static Row)]) -> String {
    let width = |of: fn(&Row) -> usize| rows.iter().map(|(_, row)| of(row)).max().unwrap_or(0);
    let (name, group) = (width(|r| r.name.len()).max(4), width(|r| r.group.len()).max(5));
    let action = width(|r| Action::from(r.rule.otherwise).word().len()).max(6);
    let left = |a: &str, b: &str, c: &str, d: &str| {
        format!("{a:>3}  {b:<name$}  {c:<group$}  {d:<action$}  ")
    };
    let mut text = format!("{}rule and reason\n", left("nr", "name", "group", "action"));
    for (number, row) in rows {
        let otherwise = Action::from(row.rule.otherwise).word();
        let first = left(&number.to_string(), row.name, row.group, &otherwise);
        let rest = left("", "", "", "");
        let mut lines = row.rule.clauses.iter().map(words::clause).collect::<Vec<_>>();
        lines.push(row.why.to_owned());
        for (n, line) in lines.iter().enumerate() {
            text.push_str(&words::paragraph(if n == 0 { &first } else { &rest }, &rest, line));
        }
    }
    let count = rows.len();
    let unknown = Action::from(filter.policy.unknown).word();
    let _infallible = write!(
        text,
        "\n{count} of {} rows of `{}`, {}. aN is the low 32 bits of argument N,\n\
         `aN (64 bits)` all of it. action: what is done if no clause holds; of a number without\n\
         a row {unknown}, of an x32 number and a foreign architecture kill.\n",
        words::numbered(filter.policy, filter.arch).len(),
        filter.name,
        filter.about
    );
    text
}

/// The same rows, as in [`format::json`].
pub fn json(rows: &[(u32, &'static Row)]) -> String {
    array(rows.iter().map(|(number, row)| format::json_row(*number, row))).0 + "\n"
}
