//! Whether a table is one: looked at while the compiler runs, which stops with the name of the row that is wrong.

use crate::nr::{ARCHS, Arch, same};
use crate::policy::{AGENT, INIT, Row, Rule, Test, Verdict, When};
use crate::text::Line;

/// What is wrong with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The row, or the call that has none.
    pub row: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// How much of the architectures a table has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every call of each of them has its row.
    Every,
    /// A call without a row gets the answer to unknown numbers.
    Some,
}

const _: () = sound(AGENT, Extent::Every);
const _: () = sound(INIT, Extent::Some);
const _: () = {
    let mut i = 0;
    while i < ARCHS.len() {
        if let Some(call) = ARCHS[i].unsorted() {
            stop(call, "the numbers of an architecture do not rise here");
        }
        i += 1;
    }
};

/// Stops the compiler where a table is not sound.
const fn sound(rows: &[Row], extent: Extent) {
    if let Some(Fault { row, why }) = check(rows, ARCHS, extent) {
        stop(row, why);
    }
}

pub(crate) const fn stop(row: &str, why: &str) -> ! {
    let mut line = Line::EMPTY;
    line.push("the row of `");
    line.push(row);
    line.push("`: ");
    line.push(why);
    panic!("{}", line.as_str())
}

/// The first fault of a table; `None`: it is sound. Names are those of the architectures, each at most once, and with
/// [`Extent::Every`] each there; every rule can be asked, every clause of it can decide.
pub const fn check(rows: &[Row], archs: &[&Arch], extent: Extent) -> Option<Fault> {
    let mut i = 0;
    while i < rows.len() {
        let row = &rows[i];
        if let Some(why) = fault(row) {
            return Some(Fault { row: row.name, why });
        }
        if !is_call(row.name, archs) {
            return Some(Fault { row: row.name, why: "no architecture has such a call" });
        }
        if has_row(rows.split_at(i).0, row.name) {
            return Some(Fault { row: row.name, why: "is there twice" });
        }
        i += 1;
    }
    match extent {
        Extent::Every => missing(rows, archs),
        Extent::Some => None,
    }
}

const fn missing(rows: &[Row], archs: &[&Arch]) -> Option<Fault> {
    let mut a = 0;
    while a < archs.len() {
        let mut i = 0;
        while i < archs[a].calls.len() {
            let name = archs[a].calls[i].0;
            if !has_row(rows, name) {
                return Some(Fault { row: name, why: "is missing" });
            }
            i += 1;
        }
        a += 1;
    }
    None
}

const fn is_call(name: &str, archs: &[&Arch]) -> bool {
    let mut a = 0;
    while a < archs.len() {
        if archs[a].number(name).is_some() {
            return true;
        }
        a += 1;
    }
    false
}

pub(crate) const fn has_row(rows: &[Row], name: &str) -> bool {
    let mut i = 0;
    while i < rows.len() {
        if same(rows[i].name, name) {
            return true;
        }
        i += 1;
    }
    false
}

const fn fault(row: &Row) -> Option<&'static str> {
    if row.why.is_empty() {
        return Some("does not say why");
    }
    if row.group.is_empty() {
        return Some("has no group");
    }
    of_rule(&row.rule)
}

/// What is wrong with a rule.
pub const fn of_rule(rule: &Rule) -> Option<&'static str> {
    if !is_errno(rule.otherwise) {
        return Some(ERRNO);
    }
    let mut i = 0;
    while i < rule.clauses.len() {
        let clause = &rule.clauses[i];
        let mut before = 0;
        while before < i {
            if includes(&rule.clauses[before], clause) {
                return Some("a clause can never decide: an earlier one holds whenever it does");
            }
            before += 1;
        }
        if clause.0.is_empty() {
            return Some("a clause without a test: what it says is `otherwise`");
        }
        if let Some(why) = of_clause(clause) {
            return Some(why);
        }
        i += 1;
    }
    None
}

const ERRNO: &str = "an errno is 1 to 4095: 0 looks like success";

const fn is_errno(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Errno(errno) => errno >= 1 && errno <= 4095,
        Verdict::Allow | Verdict::Kill => true,
    }
}

/// Every test of `wide` is one of `narrow`'s: where this holds, that does.
const fn includes(When(wide, _): &When, When(narrow, _): &When) -> bool {
    let mut i = 0;
    while i < wide.len() {
        let (mut found, mut n) = (false, 0);
        while n < narrow.len() {
            found = found || wide[i].equals(&narrow[n]);
            n += 1;
        }
        if !found {
            return false;
        }
        i += 1;
    }
    true
}

const fn of_clause(When(tests, verdict): &When) -> Option<&'static str> {
    if !is_errno(*verdict) {
        return Some(ERRNO);
    }
    let mut i = 0;
    while i < tests.len() {
        if let Some(why) = of_test(&tests[i]) {
            return Some(why);
        }
        i += 1;
    }
    None
}

const ALWAYS: &str = "a test always holds";
const NEVER: &str = "a test can never hold: a value has bits outside of the mask";
const RANGE: &str = "a test can never hold: its range ends before it begins";

const fn of_test(test: &Test) -> Option<&'static str> {
    let (index, why) = match *test {
        Test::Low(n, set) => (n, of_set(set, u32::MAX)),
        Test::Masked(n, 0, _) => (n, Some(ALWAYS)),
        Test::Masked(n, mask, set) => (n, of_set(set, mask)),
        Test::AnyBit(n, 0) => (n, Some("a test can never hold: it asks for none of the bits")),
        Test::Between(n, 0, u32::MAX) => (n, Some(ALWAYS)),
        Test::Between(n, first, last) if first > last => (n, Some(RANGE)),
        Test::WholeMasked(n, 0, _) => (n, Some(ALWAYS)),
        Test::WholeMasked(n, mask, value) if value & !mask != 0 => (n, Some(NEVER)),
        Test::WholeBetween(n, 0, u64::MAX) => (n, Some(ALWAYS)),
        Test::WholeBetween(n, first, last) if first > last => (n, Some(RANGE)),
        Test::AnyBit(n, _) | Test::Between(n, ..) | Test::Whole(n, _) => (n, None),
        Test::WholeMasked(n, ..) | Test::WholeBetween(n, ..) => (n, None),
    };
    if index > 5 { Some("a system call has six arguments, 0 to 5") } else { why }
}

const fn of_set(set: &[u32], mask: u32) -> Option<&'static str> {
    if set.is_empty() {
        return Some("a test can never hold: its set is empty");
    }
    let mut i = 0;
    while i < set.len() {
        if set[i] & !mask != 0 {
            return Some(NEVER);
        }
        let mut n = 0;
        while n < i {
            if set[n] == set[i] {
                return Some("a value is twice in a set");
            }
            n += 1;
        }
        i += 1;
    }
    None
}
