//! Where two programs answer differently: every architecture that either asks for and some others, every number at
//! which either changes its mind and every known one, and within a number every pair of paths with different ends
//! that one call can take. Each difference is a call that was run through both.

use agent_init::nr::Arch;

use super::insn::{Cmp, Op, Program};
use super::run::{Call, result};
use super::set::Set;
use super::symbol::{Value, Word};
use super::verdict::Action;
use super::walk::{Budget, Calls, Here, Leaf, TooComplex, Walk, walk};
use super::words;

/// A call on which they differ, and what each says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    arch: u32,
    number: u32,
    /// Up to which number it is the same.
    last: u32,
    call: Call,
    /// Whether it depends on the arguments.
    by_args: bool,
    verdicts: [Action; 2],
}

/// A line for each difference; none: the programs are the same.
pub fn diff(a: &Program, b: &Program, budget: &mut Budget) -> Result<Vec<String>, TooComplex> {
    let walks = [walk(a, Calls::all(), false, budget)?, walk(b, Calls::all(), false, budget)?];
    let mut differences: Vec<Difference> = Vec::new();
    let numbers = numbers([a, b], &walks);
    let own = a.arch().audit_arch;
    for arch in archs(own, &walks) {
        let of_arch = Calls::all().with(Call::ARCH, Word::of(Set::one(arch)));
        let alike = walk(a, of_arch.clone(), false, budget)?;
        let alike = one_result(&alike) && one_result(&walk(b, of_arch, false, budget)?);
        // Where the number does not matter, one stands for all.
        let numbers = if alike { &[0][..] } else { &numbers[..] };
        for (n, number) in numbers.iter().enumerate() {
            let last = numbers.get(n + 1).map_or(u32::MAX, |next| next - 1);
            let calls = Calls::of(arch, *number);
            let mut of = |program: &Program| walk(program, calls.clone(), true, budget);
            let (left, right) = (of(a)?.leaves, of(b)?.leaves);
            for found in pairs([a, b], [&left, &right], budget)? {
                let difference = Difference { arch, number: *number, last, ..found };
                add(&mut differences, difference);
            }
        }
    }
    Ok(differences.iter().map(|difference| line(a.arch(), difference)).collect())
}

/// One after another with the same difference is one line.
fn add(differences: &mut Vec<Difference>, new: Difference) {
    if let Some(last) = differences.last_mut()
        && !new.by_args
        && !last.by_args
        && last.arch == new.arch
        && last.last.checked_add(1) == Some(new.number)
        && last.verdicts == new.verdicts
    {
        last.last = new.last;
        return;
    }
    differences.push(new);
}

fn line(own: &Arch, difference: &Difference) -> String {
    let Difference { arch, number, last, call, by_args, verdicts: [a, b] } = difference;
    let who = match by_args {
        true => words::call(own, call),
        false => words::numbers(own, &Set::range(*number, *last), 1),
    };
    format!("{}: {who}: {} | {}", words::arch(*arch), a.word(), b.word())
}

/// By the two ends of each pair of paths that some call takes; one example of each two verdicts is enough.
fn pairs(
    [a, b]: [&Program; 2],
    [left, right]: [&[Leaf]; 2],
    budget: &mut Budget,
) -> Result<Vec<Difference>, TooComplex> {
    let by_args = left.len() > 1 || right.len() > 1;
    let mut found: Vec<Difference> = Vec::new();
    for x in left {
        for y in right {
            budget.spend(1)?;
            if x.result.is_some() && x.result == y.result {
                continue;
            }
            let Some(call) = x.calls.and(&y.calls).and_then(|calls| calls.example()) else {
                continue;
            };
            let verdicts = [a, b].map(|program| Action::of(result(program, &call)));
            if verdicts[0] != verdicts[1] && !found.iter().any(|old| old.verdicts == verdicts) {
                found.push(Difference { arch: 0, number: 0, last: 0, call, by_args, verdicts });
            }
        }
    }
    Ok(found)
}

/// Those that are asked for, at their borders, and those that people use.
fn archs(own: u32, walks: &[Walk; 2]) -> Vec<u32> {
    let usual = [own, 0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0xc000_00f3, 0, u32::MAX];
    let mut archs: Vec<u32> = Vec::new();
    for border in usual.into_iter().chain(borders(walks, |calls| calls.archs())) {
        if !archs.contains(&border) {
            archs.push(border);
        }
    }
    archs
}

fn one_result(walk: &Walk) -> bool {
    let mut results = walk.leaves.iter().map(|leaf| leaf.result);
    let first = results.next().flatten();
    first.is_some() && results.all(|result| result == first)
}

/// The first of each range of numbers that are alike; each of those that exist, where a program does more with the
/// number than to ask where it lies.
fn numbers(programs: [&Program; 2], walks: &[Walk; 2]) -> Vec<u32> {
    let is_plain = |(program, walk)| only_ordered(program, walk);
    let each = if programs.into_iter().zip(walks).all(is_plain) { 0..1 } else { 0..512 };
    let mut numbers: Vec<u32> = each.chain(borders(walks, |calls| calls.numbers())).collect();
    // Neighbours may differ in nothing but which arguments get which verdict.
    for (program, walk) in programs.into_iter().zip(walks) {
        numbers.extend(program.ops().iter().zip(&walk.at).flat_map(compared_with));
    }
    numbers.extend(words::foreign_numbers(programs[0].arch()).first());
    numbers.push(u32::MAX);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Where a comparison of the number begins to hold, and where it ends.
fn compared_with((op, here): (&Op, &Here)) -> Vec<u32> {
    match (op, here.compared) {
        (Op::If(_, Some(k), ..), Some(Value::Field(Call::NUMBER, _))) => {
            [Some(*k), k.checked_add(1)].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// The whole number is compared, and not bit by bit.
fn only_ordered(program: &Program, walk: &Walk) -> bool {
    program.ops().iter().zip(&walk.at).all(|(op, here)| match (op, here.compared) {
        (Op::If(cmp, Some(_), ..), Some(Value::Field(Call::NUMBER, mask))) => {
            mask == u32::MAX && *cmp != Cmp::Set
        }
        (Op::If(_, Some(_), ..), Some(Value::Field(..) | Value::Known(_))) => true,
        (Op::If(..), _) => !here.reached,
        _ => true,
    })
}

/// Where ranges begin, and what comes after their ends.
fn borders(walks: &[Walk; 2], of: impl Fn(&Calls) -> &Set) -> Vec<u32> {
    let leaves = walks.iter().flat_map(|walk| &walk.leaves);
    let ranges = leaves.flat_map(|leaf| of(&leaf.calls).ranges());
    ranges.flat_map(|(first, last)| [Some(*first), last.checked_add(1)]).flatten().collect()
}
