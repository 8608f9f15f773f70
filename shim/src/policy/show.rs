//! One number: its row, why, and for each clause of its rule a path of instructions that decides so.

use std::fmt::Write as _;

use agent_init::error::{Errno, Step};

use super::dump::Dump;
use super::insn::Program;
use super::run::{Call, path};
use super::verdict::Action;
use super::walk::{Budget, Calls, TooComplex, walk};
use super::{Filter, words};
use crate::error::Failure;

/// All of it.
pub fn text(filter: &Filter, program: &Program, number: u32) -> Result<String, Failure> {
    let too_complex = |TooComplex| Failure::new(Step::POLICY, "walk", filter.name, Errno::E2BIG);
    let mut budget = Budget::new();
    let whole = walk(program, Calls::all(), false, &mut budget).map_err(too_complex)?;
    let calls = Calls::of(filter.arch.audit_arch, number);
    let leaves = walk(program, calls, true, &mut budget).map_err(too_complex)?.leaves;
    let examples: Vec<Call> = leaves.iter().filter_map(|leaf| leaf.calls.example()).collect();

    let dump = Dump::new(program, Some(&whole), Some(filter.policy));
    let mut text = head(filter, number);
    let row = words::row(filter.policy, filter.arch, number);
    let clauses = row.map_or(0, |row| row.rule.clauses.len());
    // The clauses from the left, then the default.
    for wanted in (0..clauses).map(Some).chain([None]) {
        let decides =
            |call: &&Call| row.is_none_or(|row| words::decide(&row.rule, &call.args()).0 == wanted);
        let name = match (wanted, row) {
            (Some(n), Some(row)) => row.rule.clauses.get(n).map(words::clause).unwrap_or_default(),
            _ if clauses > 0 => "else".into(),
            _ => "always".into(),
        };
        let Some(call) = examples.iter().find(decides) else {
            let _infallible = writeln!(text, "\n{name}: never decides");
            continue;
        };
        let (result, path) = path(program, call);
        let (verdict, call) = (Action::of(result).words(), words::call(filter.arch, call));
        text.push('\n');
        text.push_str(&words::paragraph(
            "",
            "    ",
            &format!("{name}, for example {call}: {verdict}"),
        ));
        text.push_str(&dump.path(&path));
    }
    Ok(text)
}

fn head(filter: &Filter, number: u32) -> String {
    let Some(row) = words::row(filter.policy, filter.arch, number) else {
        let unknown = Action::from(filter.policy.unknown).word();
        let what = match filter.arch.call(number) {
            _ if words::foreign_numbers(filter.arch).contains(number) => {
                "an x32 or negative number: kill, whatever the table says".into()
            }
            Some(name) => format!("{name}, not in the table `{}`: {unknown}", filter.name),
            None => format!("no system call of the table `{}`: {unknown}", filter.name),
        };
        return format!("{}: {what}\n", words::number(number));
    };
    let mut text = format!("{number} {}, group {}\n", row.name, row.group);
    text.push_str(&words::paragraph("  rule: ", "        ", &words::rule(&row.rule)));
    text.push_str(&words::paragraph("  why:  ", "        ", row.why));
    text
}
