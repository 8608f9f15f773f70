//! Words for what a program and a table are made of: numbers, rules, instructions, text in columns.

use agent_init::nr::{ARCHS, Arch};
use agent_init::policy::{Policy, Row, Rule, Test, When};

use super::insn::{Alu, Cmp, Op};
use super::run::Call;
use super::set::Set;
use super::symbol::Value;
use super::verdict::Action;

/// The width of what we print.
pub const WIDTH: usize = 100;

/// From here on numbers are x32's, or negative: not the table's. 2^32 where there is no x32.
pub fn foreign_numbers(arch: &Arch) -> Set {
    // syscall(-1), of programs that were built without a number, is answered as an unknown one.
    arch.x32_bit.map_or(Set::none(), |bit| Set::range(bit, u32::MAX - 1))
}

/// The row of a number.
pub fn row(policy: &Policy<'static>, arch: &Arch, number: u32) -> Option<&'static Row> {
    let name = arch.call(number)?;
    policy.rows.iter().find(|row| row.name == name)
}

/// The rows of a table with their numbers, in the order of these.
pub fn numbered(policy: &Policy<'static>, arch: &Arch) -> Vec<(u32, &'static Row)> {
    let rows = policy.rows.iter().filter_map(|row| Some((arch.number(row.name)?, row)));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(number, _)| *number);
    rows
}

/// The name of an architecture; others as they are.
pub fn arch(value: u32) -> String {
    #[rustfmt::skip] // linux/audit.h
    const OTHERS: &[(u32, &str)] = &[
        (0x4000_0003, "i386"), (0x4000_0028, "arm"), (0x4000_00f3, "riscv32"),
        (0x8000_0015, "ppc64"), (0xc000_0015, "ppc64le"), (0x8000_0016, "s390x"),
    ];
    let ours = ARCHS.iter().map(|arch| (arch.audit_arch, arch.name));
    let known = ours.chain(OTHERS.iter().copied()).find(|(number, _)| *number == value);
    known.map_or_else(|| format!("arch {value:#x}"), |(_, name)| name.to_owned())
}

/// A number as people write it: the large ones are bits.
pub fn number(value: u32) -> String {
    if value < 0x1000_0000 { value.to_string() } else { format!("{value:#x}") }
}

/// `3 close`, `337`.
pub fn number_and_name(arch: &Arch, value: u32) -> String {
    arch.call(value).map_or_else(|| number(value), |name| format!("{} {name}", number(value)))
}

/// `0-15`, `17`.
pub fn ranges(set: &Set) -> Vec<String> {
    let text = |(first, last): &(u32, u32)| match first == last {
        true => number(*first),
        false => format!("{}-{}", number(*first), number(*last)),
    };
    set.ranges().iter().map(text).collect()
}

/// What lies in a set of numbers, shortly: up to `most` ranges, each with the names at its ends.
pub fn numbers(arch: &Arch, set: &Set, most: usize) -> String {
    let text = |(first, last): &(u32, u32)| match first == last {
        true => number_and_name(arch, *first),
        false => {
            let names = match (arch.call(*first), arch.call(*last)) {
                (Some(first), Some(last)) => format!(" {first}..{last}"),
                _ => String::new(),
            };
            format!("{}-{}{names}", number(*first), number(*last))
        }
    };
    let mut parts: Vec<String> = set.ranges().iter().take(most).map(text).collect();
    if set.ranges().len() > most {
        parts.push(format!("... {} in all", set.count()));
    }
    parts.join(", ")
}

/// `a1`: its low word, `a1 (64 bits)`; as the kernel uses it.
fn test(test: &Test) -> String {
    let set = |values: &[u32]| match values {
        [value] => format!("= {value:#x}"),
        _ => format!("in {{{}}}", list(values)),
    };
    match test {
        Test::Low(n, values) => format!("a{n} {}", set(values)),
        Test::Masked(n, mask, values) => format!("a{n} & {mask:#x} {}", set(values)),
        Test::AnyBit(n, bits) => format!("a{n} has a bit of {bits:#x}"),
        Test::Between(n, first, last) => format!("a{n} in {first:#x}..{last:#x}"),
        Test::Whole(n, value) => format!("a{n} (64 bits) = {value:#x}"),
        Test::WholeMasked(n, mask, value) => format!("a{n} (64 bits) & {mask:#x} = {value:#x}"),
        Test::WholeBetween(n, first, last) => format!("a{n} (64 bits) in {first:#x}..{last:#x}"),
    }
}

/// `0x1 0x2 0x5-0x9`: three in a row or more are a range.
fn list(values: &[u32]) -> String {
    let runs = values.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let words = runs.flat_map(|run| match run {
        [first, _, .., last] => vec![format!("{first:#x}-{last:#x}")],
        few => few.iter().map(|v| format!("{v:#x}")).collect(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `EPERM if a0 = 0x1`.
pub fn clause(When(tests, verdict): &When) -> String {
    let tests: Vec<String> = tests.iter().map(test).collect();
    format!("{} if {}", Action::from(*verdict).word(), tests.join(" and "))
}

/// `EPERM if a1 in {0x1 0x2}; else allow`; the verdict alone where no argument is asked for.
pub fn rule(rule: &Rule) -> String {
    let mut parts: Vec<String> = rule.clauses.iter().map(clause).collect();
    let otherwise = Action::from(rule.otherwise).word();
    parts.push(if parts.is_empty() { otherwise } else { format!("else {otherwise}") });
    parts.join("; ")
}

/// Every verdict a rule can give, the default first.
pub fn verdicts(rule: &Rule) -> impl Iterator<Item = Action> {
    let clauses = rule.clauses.iter().map(|When(_, verdict)| *verdict);
    std::iter::once(rule.otherwise).chain(clauses).map(Action::from)
}

/// Which clause decides, and how; `None`: the default.
pub fn decide(rule: &Rule, args: &[u64; 6]) -> (Option<usize>, Action) {
    let low = |n: usize| u32::try_from(args[n] & 0xffff_ffff).unwrap_or(0);
    let holds = |test: &Test| match *test {
        Test::Low(n, set) => set.contains(&low(n)),
        Test::Masked(n, mask, set) => set.contains(&(low(n) & mask)),
        Test::AnyBit(n, bits) => low(n) & bits != 0,
        Test::Between(n, first, last) => (first..=last).contains(&low(n)),
        Test::Whole(n, value) => args[n] == value,
        Test::WholeMasked(n, mask, value) => args[n] & mask == value,
        Test::WholeBetween(n, first, last) => (first..=last).contains(&args[n]),
    };
    let at = rule.clauses.iter().position(|When(tests, _)| tests.iter().all(holds));
    let verdict = at.and_then(|at| rule.clauses.get(at)).map_or(rule.otherwise, |When(_, v)| *v);
    (at, Action::from(verdict))
}

/// `ioctl(0, 0x5412)`: to the last argument that is not 0.
pub fn call(arch: &Arch, call: &Call) -> String {
    let name = arch.call(call.0[Call::NUMBER]);
    name.map_or_else(|| nameless(call), |name| format!("{name}({})", arguments(call)))
}

/// `call 11(0x1)`.
pub fn nameless(call: &Call) -> String {
    format!("call {}({})", number(call.0[Call::NUMBER]), arguments(call))
}

fn arguments(call: &Call) -> String {
    let args = call.args();
    let used = args.iter().rposition(|arg| *arg != 0).map_or(0, |last| last + 1);
    args.iter().take(used).map(|arg| format!("{arg:#x}")).collect::<Vec<_>>().join(", ")
}

// -- Instructions --------------------------------------------------------------------------------------------------

/// A word of `struct seccomp_data`: `number`, `arch`, `a1`, `a1.high`.
pub fn word(index: usize) -> String {
    match index {
        Call::NUMBER => "number".into(),
        Call::ARCH => "arch".into(),
        2 => "pointer".into(),
        3 => "pointer.high".into(),
        _ => {
            let high = if index.is_multiple_of(2) { "" } else { ".high" };
            format!("a{}{high}", (index - 4) / 2)
        }
    }
}

/// What a comparison compares.
pub fn value(value: Value) -> String {
    match value {
        Value::Known(k) => format!("{k:#x}"),
        Value::Field(index, u32::MAX) => word(index),
        Value::Field(index, mask) => format!("{} & {mask:#x}", word(index)),
        Value::Unknown => "A".into(),
    }
}

/// An operand that is a number of a system call is written as one, others as bits.
fn operand(value: Option<Value>, k: Option<u32>) -> String {
    match (k, value) {
        (None, _) => "x".into(),
        (Some(k), Some(Value::Field(Call::NUMBER, u32::MAX))) => format!("#{}", number(k)),
        (Some(k), _) => format!("#{k:#x}"),
    }
}

/// As bpf_asm(1) of the kernel writes it; `target` names where a jump goes.
pub fn instruction(
    op: Op,
    compared: Option<Value>,
    target: impl Fn(usize) -> String,
) -> (&'static str, String) {
    match op {
        Op::Load(index) => ("ld", format!("[{}]", 4 * index)),
        Op::SetA(k) => ("ld", format!("#{k:#x}")),
        Op::SetX(k) => ("ldx", format!("#{k:#x}")),
        Op::Recall(k) => ("ld", format!("M[{k}]")),
        Op::RecallX(k) => ("ldx", format!("M[{k}]")),
        Op::Store(k) => ("st", format!("M[{k}]")),
        Op::StoreX(k) => ("stx", format!("M[{k}]")),
        Op::Alu(alu, k) => (alu_word(alu), operand(None, k)),
        Op::Neg => ("neg", String::new()),
        Op::Jump(to) => ("jmp", target(to)),
        Op::If(cmp, k, then, other) => {
            let word = match cmp {
                Cmp::Eq => "jeq",
                Cmp::Gt => "jgt",
                Cmp::Ge => "jge",
                Cmp::Set => "jset",
            };
            (word, format!("{}, {}, {}", operand(compared, k), target(then), target(other)))
        }
        Op::Return(Some(k)) => ("ret", format!("#{k:#x}")),
        Op::Return(None) => ("ret", "a".into()),
        Op::Tax => ("tax", String::new()),
        Op::Txa => ("txa", String::new()),
    }
}

fn alu_word(alu: Alu) -> &'static str {
    match alu {
        Alu::Add => "add",
        Alu::Sub => "sub",
        Alu::Mul => "mul",
        Alu::Div => "div",
        Alu::Or => "or",
        Alu::And => "and",
        Alu::Lsh => "lsh",
        Alu::Rsh => "rsh",
        Alu::Xor => "xor",
    }
}

/// `a1 & 0xf = 0x1`: what holds when a comparison does.
pub fn condition(compared: Value, cmp: Cmp, k: Option<u32>) -> String {
    let left = value(compared);
    let right = match (k, compared) {
        (None, _) => "X".to_owned(),
        (Some(k), Value::Field(Call::ARCH, u32::MAX)) => arch(k),
        (Some(k), Value::Field(Call::NUMBER, u32::MAX)) => number(k),
        (Some(k), _) => format!("{k:#x}"),
    };
    match cmp {
        Cmp::Eq => format!("{left} = {right}"),
        Cmp::Gt => format!("{left} > {right}"),
        Cmp::Ge => format!("{left} >= {right}"),
        Cmp::Set => format!("{left} has a bit of {right}"),
    }
}

// -- Text ----------------------------------------------------------------------------------------------------------

/// Words in lines of at most `width`; a word that is longer has a line of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A paragraph behind `first`, its other lines behind `rest`, at most [`WIDTH`] wide.
pub fn paragraph(first: &str, rest: &str, text: &str) -> String {
    let lines = wrapped(text, WIDTH.saturating_sub(first.len().max(rest.len())));
    let line = |(n, line): (usize, &String)| {
        let line = format!("{}{line}", if n == 0 { first } else { rest });
        format!("{}\n", line.trim_end())
    };
    lines.iter().enumerate().map(line).collect()
}
