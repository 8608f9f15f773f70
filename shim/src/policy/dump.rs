//! An annotated disassembly. Each instruction has beside it what it asks; each block of one system call, and each
//! return, has before it whom it serves. Who gets where is not what the assembler meant but what walking the program
//! shows, so it is true of any program. Of our own the rows of the table, with their reasons, are put beside.
//!
//! Labels are names: of a call, and how many others share its rule (`creat+2`), of a verdict, or the numbers that get
//! there (`n16_40`), so that a change of one row
//! changes few lines. The first six columns hold the offsets.

use std::collections::HashMap;
use std::fmt::Write as _;

use agent_init::nr::Arch;
use agent_init::policy::{Policy, Row};

use super::insn::{Op, Program};
use super::run::Call;
use super::set::Set;
use super::verdict::Action;
use super::walk::{Here, Walk};
use super::words;

/// Where the comments begin.
const COMMENT: usize = 50;
/// Where the offsets are.
const MARGIN: &str = "      ";

/// So many calls may share the instructions of a rule and still be named by them.
const MOST_SHARING: u64 = 6;
/// More calls than this that are in no row are counted.
const MOST_NAMED: usize = 40;

/// A program, what walking it showed, and the table it is made from if it is ours.
pub struct Dump<'a> {
    program: &'a Program,
    walk: Option<&'a Walk>,
    policy: Option<&'a Policy<'static>>,
    labels: Vec<Option<String>>,
}

impl<'a> Dump<'a> {
    /// Without a walk there are fewer comments.
    pub fn new(
        program: &'a Program,
        walk: Option<&'a Walk>,
        policy: Option<&'a Policy<'static>>,
    ) -> Dump<'a> {
        Dump { program, walk, policy, labels: labels(program, walk) }
    }

    /// The whole of it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (pc, op) in self.program.ops().iter().enumerate() {
            text.push_str(&self.heading(pc, *op));
            text.push_str(&self.line(pc, *op));
        }
        text
    }

    /// The instructions of one path, with the way each comparison goes.
    pub fn path(&self, path: &[usize]) -> String {
        let mut text = String::new();
        for (n, pc) in path.iter().enumerate() {
            let Some(op) = self.program.ops().get(*pc) else { continue };
            let way = match (*op, path.get(n + 1)) {
                (Op::If(_, _, then, other), Some(next)) if then != other => {
                    if *next == then {
                        "  yes"
                    } else {
                        "  no"
                    }
                }
                _ => "",
            };
            let line = self.line(*pc, *op);
            let _infallible = writeln!(text, "{}{way}", line.trim_end());
        }
        text
    }

    fn here(&self, pc: usize) -> Option<&Here> {
        self.walk.and_then(|walk| walk.at.get(pc))
    }

    /// One instruction without what is beside it: the operation, its operands.
    pub fn instruction(&self, pc: usize) -> (&'static str, String) {
        let Some(op) = self.program.ops().get(pc) else { return ("", String::new()) };
        let target = |to: usize| match self.labels.get(to) {
            Some(Some(label)) if to != pc + 1 || is_return(self.program, to) => label.clone(),
            _ => "next".into(),
        };
        let compared = self.here(pc).and_then(|here| here.compared);
        words::instruction(*op, compared, target)
    }

    fn line(&self, pc: usize, op: Op) -> String {
        let (word, operands) = self.instruction(pc);
        let line = format!("{pc:>4}    {word:<5}{operands}");
        let comment = self.comment(pc, op);
        let width = words::WIDTH - COMMENT - 2;
        let mut lines = words::wrapped(&comment, width).into_iter();
        let first = lines.next().unwrap_or_default();
        let mut text = match first.is_empty() {
            true => format!("{}\n", line.trim_end()),
            false => format!("{line:<COMMENT$}; {first}\n"),
        };
        for more in lines {
            let _infallible = writeln!(text, "{:<COMMENT$}; {more}", "");
        }
        text
    }

    fn comment(&self, pc: usize, op: Op) -> String {
        let Some(here) = self.here(pc) else { return String::new() };
        if !here.reached {
            return "never reached".into();
        }
        match op {
            Op::Load(index) => match index {
                0 => "the number".into(),
                1 => "the architecture".into(),
                _ => words::word(index),
            },
            Op::Return(Some(k)) => Action::of(k).words(),
            Op::Return(None) => "returns what was computed".into(),
            Op::If(cmp, k, then, other) => {
                let Some(compared) = here.compared else { return String::new() };
                let condition = words::condition(compared, cmp, k);
                if compared.word() != Some(0) {
                    return condition;
                }
                // Labels of other places name the numbers that get there.
                let ends = [("yes", then, 0), ("no", other, 1)]
                    .into_iter()
                    .filter(|(_, to, _)| is_return(self.program, *to));
                let ends: Vec<String> = ends
                    .filter(|(_, _, way)| !here.ways[*way].is_empty())
                    .map(|(word, _, way)| {
                        format!(
                            "{word}: {}",
                            words::numbers(self.program.arch(), &here.ways[way], 3)
                        )
                    })
                    .collect();
                if ends.is_empty() { condition } else { ends.join("; ") }
            }
            _ => String::new(),
        }
    }

    /// Before the instruction: whom it serves, and its label.
    fn heading(&self, pc: usize, op: Op) -> String {
        let Some(Some(label)) = self.labels.get(pc) else { return String::new() };
        let mut text = String::from("\n");
        if let Some(here) = self.here(pc) {
            match op {
                Op::Return(Some(k)) => text.push_str(&self.served(here, Action::of(k))),
                _ if is_block(here, op) && first_of(self.program, self.walk, pc, here) => {
                    for number in numbers(&here.numbers) {
                        text.push_str(&self.row(number));
                    }
                }
                _ => {}
            }
        }
        let _infallible = writeln!(text, "{MARGIN}{label}:");
        text
    }

    /// The row of a call that has instructions of its own.
    fn row(&self, number: u32) -> String {
        let Some(row) =
            self.policy.and_then(|policy| words::row(policy, self.program.arch(), number))
        else {
            return format!("{MARGIN}; {}\n", words::number_and_name(self.program.arch(), number));
        };
        let head =
            format!("{} {}, group {}: {}", number, row.name, row.group, words::rule(&row.rule));
        let first = format!("{MARGIN}; ");
        let rest = format!("{MARGIN};   ");
        words::paragraph(&first, &rest, &head) + &words::paragraph(&rest, &rest, row.why)
    }

    /// Everyone who ends in a return: rows by group and reason, and what is in no table.
    fn served(&self, here: &Here, action: Action) -> String {
        let (first, rest) = (format!("{MARGIN}; "), format!("{MARGIN};     "));
        let arch = self.program.arch();
        let known: Vec<u32> = arch
            .calls
            .iter()
            .map(|(_, number)| *number)
            .filter(|n| here.numbers.contains(*n))
            .collect();
        let mut text = String::new();
        let mut say = |head: &str, body: &str| {
            text.push_str(&words::paragraph(&first, &rest, &format!("{head}: {body}")));
        };
        let names = |numbers: &[u32]| {
            numbers.iter().filter_map(|n| arch.call(*n)).collect::<Vec<_>>().join(" ")
        };
        match self.policy {
            None if !known.is_empty() => say("calls", &names(&known)),
            None => {}
            Some(policy) => {
                let (plain, by_args): (Vec<u32>, Vec<u32>) = known.iter().partition(|number| {
                    words::row(policy, arch, **number).is_none_or(|row| row.rule.clauses.is_empty())
                });
                for (row, numbers) in reasons(policy, arch, &plain) {
                    say(row.group, &format!("{} -- {}", names(&numbers), row.why));
                }
                let without: Vec<u32> = plain
                    .iter()
                    .filter(|n| words::row(policy, arch, **n).is_none())
                    .copied()
                    .collect();
                match without.len() {
                    0 => {}
                    n @ 1..=MOST_NAMED => say(&format!("not in this table, {n}"), &names(&without)),
                    n => say("not in this table", &format!("the {n} other calls")),
                }
                if !by_args.is_empty() {
                    say("by their arguments", &names(&by_args));
                }
            }
        }
        let known: Set = arch.calls.iter().map(|(_, number)| *number).collect();
        let x32 = here.numbers.and(&words::foreign_numbers(arch));
        let unknown = here.numbers.minus(&known).minus(&words::foreign_numbers(arch));
        if !unknown.is_empty() {
            say("unknown numbers", &words::ranges(&unknown).join(" "));
        }
        if !x32.is_empty() {
            say("x32 and negative numbers", &words::ranges(&x32).join(" "));
        }
        if !here.foreign.is_empty() {
            say("foreign architectures", &archs(arch, &here.foreign));
        }
        if text.is_empty() {
            text = format!("{first}{}\n", action.words());
        }
        text
    }
}

/// The architectures of a set, or that it is nearly all of them.
pub fn archs(arch: &Arch, set: &Set) -> String {
    if set.count() > 8 {
        let missing = set.not();
        return match missing.single() {
            Some(own) if own == arch.audit_arch => format!("all but {}", arch.name),
            _ if missing.is_empty() => "all".into(),
            _ if missing.count() <= 8 => format!("all but {}", arch_names(&missing)),
            _ => words::ranges(set).join(" "),
        };
    }
    arch_names(set)
}

fn arch_names(set: &Set) -> String {
    let values = set.ranges().iter().flat_map(|(first, last)| *first..=*last);
    values.map(words::arch).collect::<Vec<_>>().join(", ")
}

/// Rows with the same group and reason, in the order of the table, and their numbers.
fn reasons(
    policy: &Policy<'static>,
    arch: &Arch,
    numbers: &[u32],
) -> Vec<(&'static Row, Vec<u32>)> {
    let mut reasons: Vec<(&'static Row, Vec<u32>)> = Vec::new();
    for row in policy.rows {
        let Some(number) = arch.number(row.name).filter(|n| numbers.contains(n)) else { continue };
        match reasons.iter_mut().find(|(r, _)| (r.group, r.why) == (row.group, row.why)) {
            Some((_, numbers)) => numbers.push(number),
            None => reasons.push((row, vec![number])),
        }
    }
    reasons
}

fn is_return(program: &Program, pc: usize) -> bool {
    matches!(program.ops().get(pc), Some(Op::Return(_)))
}

/// Serves one call, or asks for an argument of a few: they have the same rule.
fn is_block(here: &Here, op: Op) -> bool {
    let is_argument = matches!(op, Op::Load(word) if word >= Call::argument(0));
    let few = if is_argument { MOST_SHARING } else { 1 };
    here.foreign.is_empty() && (1..=few).contains(&here.numbers.count())
}

fn numbers(set: &Set) -> impl Iterator<Item = u32> {
    set.ranges().iter().flat_map(|(first, last)| *first..=*last)
}

/// Whether this is where the instructions of these calls begin.
fn first_of(program: &Program, walk: Option<&Walk>, pc: usize, here: &Here) -> bool {
    let Some(walk) = walk else { return false };
    let own = |other: &Here| other.numbers == here.numbers && other.foreign.is_empty();
    walk.at.iter().zip(0..).position(|(here, at)| own(here) && !is_return(program, at)) == Some(pc)
}

/// By instruction: the label of what is jumped to, of each return, and of where a call's instructions begin.
fn labels(program: &Program, walk: Option<&Walk>) -> Vec<Option<String>> {
    let mut wanted = vec![false; program.ops().len()];
    for (pc, op) in program.ops().iter().enumerate() {
        let jumps = op.next(pc).into_iter().flatten().filter(|to| *to != pc + 1);
        jumps.for_each(|to| wanted[to] = true);
        wanted[pc] |= matches!(op, Op::Return(_));
    }
    let (mut seen, mut calls) = (HashMap::new(), HashMap::new());
    let mut labels = Vec::new();
    for (pc, op) in program.ops().iter().enumerate() {
        let here = walk.and_then(|walk| walk.at.get(pc));
        let own =
            here.filter(|here| here.foreign.is_empty()).and_then(|here| here.numbers.single());
        if let Some(number) = own.filter(|_| !matches!(op, Op::Return(_))) {
            wanted[pc] |= calls.insert(number, pc).is_none();
        }
        labels.push(wanted[pc].then(|| {
            let label = label(program.arch(), pc, *op, here);
            let n = seen.entry(label.clone()).and_modify(|n| *n += 1).or_insert(1);
            if *n == 1 { label } else { format!("{label}.{n}") }
        }));
    }
    labels
}

fn label(arch: &Arch, pc: usize, op: Op, here: Option<&Here>) -> String {
    if let Op::Return(value) = op {
        return value.map_or("computed".into(), |k| Action::of(k).word());
    }
    let Some(here) = here.filter(|here| here.foreign.is_empty() && !here.numbers.is_empty()) else {
        return format!("L{pc}");
    };
    if is_block(here, op) && here.numbers.single().is_none() {
        let names: Vec<&str> = numbers(&here.numbers).filter_map(|n| arch.call(n)).collect();
        if let Some((first, others)) = names.split_first() {
            return format!("{first}+{}", others.len());
        }
    }
    if let Some(number) = here.numbers.single() {
        return arch.call(number).map_or(format!("n{}", words::number(number)), str::to_owned);
    }
    let (first, last) = match here.numbers.ranges() {
        [(first, _), .., (_, last)] | [(first, last)] => (*first, *last),
        [] => (0, 0),
    };
    match (first, last) {
        (0, u32::MAX) => "number".into(),
        (_, u32::MAX) => format!("n{}_up", words::number(first)),
        _ => format!("n{}_{}", words::number(first), words::number(last)),
    }
}
