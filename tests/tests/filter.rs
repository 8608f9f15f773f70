//! The two filters, instruction by instruction, against the tables they are made from, and the tables against the
//! contract (golden/policy-x86_64.tsv). No kernel is asked here: an interpreter of our own runs the programs, and
//! `Oracle` says in a few lines what a table means.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use agent_init::bpf::{self, SockFilter};
use agent_init::check::{Extent, Fault, check};
use agent_init::groups::{GROUPS, Grant, Group};
use agent_init::nr::{self, ARCHS, Arch, HOST};
use agent_init::policy::{AGENT_POLICY, INIT_POLICY, Policy, Row, Rule, Test, Verdict, When};
use agent_shim::policy::choice::Choice;
use agent_shim::policy::diff::diff;
use agent_shim::policy::dump::Dump;
use agent_shim::policy::insn;
use agent_shim::policy::walk::{Budget, Calls, walk};
use agent_tests::cbpf::{Program, SeccompData};
use agent_tests::skip;
use proptest::prelude::*;

const KILL: u32 = 0x8000_0000;

// -- The oracle ----------------------------------------------------------------------------------------------------

/// What a policy answers to a call, without any program.
struct Oracle {
    rules: HashMap<u32, Rule>,
    unknown: Verdict,
    arch: &'static Arch,
}

impl Oracle {
    fn new(policy: &Policy, arch: &'static Arch) -> Oracle {
        let known = policy.rows.iter().filter_map(|row| Some((arch.number(row.name)?, row.rule)));
        Oracle { rules: known.collect(), unknown: policy.unknown, arch }
    }

    fn verdict(&self, call: &SeccompData) -> u32 {
        if call.arch != self.arch.audit_arch {
            return KILL;
        }
        if self.arch.x32_bit.is_some() && (0x4000_0000..0xffff_ffff).contains(&call.nr) {
            return KILL;
        }
        let Some(rule) = self.rules.get(&call.nr) else { return code(self.unknown) };
        answer(rule, &call.args)
    }
}

fn answer(rule: &Rule, args: &[u64; 6]) -> u32 {
    let clause =
        rule.clauses.iter().find(|When(tests, _)| tests.iter().all(|test| holds(test, args)));
    code(clause.map_or(rule.otherwise, |When(_, verdict)| *verdict))
}

fn holds(test: &Test, args: &[u64; 6]) -> bool {
    let low = |n: usize| u32::try_from(args[n] & 0xffff_ffff).unwrap();
    match *test {
        Test::Low(n, set) => set.contains(&low(n)),
        Test::Masked(n, mask, set) => set.contains(&(low(n) & mask)),
        Test::AnyBit(n, bits) => low(n) & bits != 0,
        Test::Between(n, first, last) => first <= low(n) && low(n) <= last,
        Test::Whole(n, value) => args[n] == value,
        Test::WholeMasked(n, mask, value) => args[n] & mask == value,
        Test::WholeBetween(n, first, last) => first <= args[n] && args[n] <= last,
    }
}

/// linux/seccomp.h, written down a second time.
fn code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => 0x7fff_0000,
        Verdict::Errno(errno) => 0x0005_0000 + u32::from(errno),
        Verdict::Kill => KILL,
    }
}

// -- The calls it is asked about -----------------------------------------------------------------------------------

/// x86_64, i386, aarch64, arm, riscv64, riscv32, none, and two of no meaning.
#[rustfmt::skip]
const ARCHES: [u32; 9] = [
    0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0xc000_00f3, 0x4000_00f3, 0, 0x1234_5678, 0xffff_ffff,
];

/// Every number that exists or may exist soon, all around the x32 bit, and the edges of 32 bits. What else there is lies
/// between two [`borders_of_number`] of a program, where it cannot change its mind.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xbfff_ffff, 0xc000_0000];
    let bits = (12..32).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
    (0..=0x1000)
        .chain(0x3fff_fff0..=0x4000_0400)
        .chain(edges)
        .chain(bits)
        .chain(0xffff_fff0..=0xffff_ffff)
}

/// The numbers around each constant that a program compares the number with. It does nothing else with it, which is
/// asserted: so its answer is the same for all numbers between two of them.
fn borders_of_number(insns: &[SockFilter]) -> BTreeSet<u32> {
    let mut borders = BTreeSet::new();
    let mut is_number = vec![false; insns.len() + 1]; // whether A may be the number there
    for (pc, insn) in insns.iter().enumerate() {
        let (jt, jf) = (pc + 1 + usize::from(insn.jt), pc + 1 + usize::from(insn.jf));
        match insn.code {
            bpf::RETURN => {}
            bpf::LOAD => is_number[pc + 1] |= insn.k == 0,
            bpf::JUMP => is_number[pc + 1 + insn.k as usize] |= is_number[pc],
            bpf::IF_EQUAL | bpf::IF_AT_LEAST => {
                if is_number[pc] {
                    borders.extend([insn.k.wrapping_sub(1), insn.k, insn.k.wrapping_add(1)]);
                }
                is_number[jt] |= is_number[pc];
                is_number[jf] |= is_number[pc];
            }
            _ => assert!(!is_number[pc], "instruction {pc} does more than compare the number"),
        }
    }
    borders
}

/// The values of each argument at which a rule may change its mind: the operands and their neighbours. And the operands
/// of the other arguments, for a program that compares the wrong one.
fn borders(rule: &Rule) -> [BTreeSet<u64>; 6] {
    let mut borders: [BTreeSet<u64>; 6] = std::array::from_fn(|_| [0, u64::MAX].into());
    for test in rule.clauses.iter().flat_map(|When(tests, _)| *tests) {
        let (n, operands): (usize, Vec<u64>) = match *test {
            Test::Low(n, set) | Test::Masked(n, _, set) => {
                (n, set.iter().map(|&value| value.into()).collect())
            }
            Test::AnyBit(n, bits) => {
                (n, (0..32).map(|bit| 1 << bit).chain([bits.into()]).collect())
            }
            Test::Between(n, first, last) => (n, vec![first.into(), last.into()]),
            Test::Whole(n, value) | Test::WholeMasked(n, _, value) => (n, vec![value]),
            Test::WholeBetween(n, first, last) => (n, vec![first, last]),
        };
        for value in operands {
            borders[n].extend([value.wrapping_sub(1), value.wrapping_add(1)]);
            borders.iter_mut().for_each(|values| _ = values.insert(value));
        }
    }
    borders
}

fn argument(test: &Test) -> usize {
    match *test {
        Test::Low(n, _) | Test::Masked(n, _, _) | Test::AnyBit(n, _) | Test::Between(n, ..) => n,
        Test::Whole(n, _) | Test::WholeMasked(n, ..) | Test::WholeBetween(n, ..) => n,
    }
}

/// Arguments for a rule: all combinations of the borders, and each with any one bit of any argument the other way.
/// The bits 32 to 63 make the aliases that a comparison of the wrong width takes for something else.
fn arguments(rule: &Rule) -> BTreeSet<[u64; 6]> {
    let asked: BTreeSet<usize> =
        (rule.clauses.iter().flat_map(|When(tests, _)| *tests)).map(argument).collect();
    let mut all = BTreeSet::from([[0; 6], [u64::MAX; 6]]);
    let borders = borders(rule);
    let mut combinations = vec![[0; 6]];
    for &n in &asked {
        let with = |args: [u64; 6], value: u64| {
            std::array::from_fn(|i| if i == n { value } else { args[i] })
        };
        combinations = combinations
            .iter()
            .flat_map(|&args| borders[n].iter().map(move |&v| with(args, v)))
            .collect();
    }
    for args in combinations {
        all.insert(args);
        // Only from where some clause holds: elsewhere a bit more is one more default.
        if rule.clauses.iter().any(|When(tests, _)| tests.iter().all(|test| holds(test, &args))) {
            all.extend(asked.iter().flat_map(|&n| (0..64).map(move |bit| flipped(args, n, bit))));
        }
    }
    all
}

fn flipped(mut args: [u64; 6], n: usize, bit: u32) -> [u64; 6] {
    args[n] ^= 1 << bit;
    args
}

/// Of each rule, arguments for each answer it has: whatever number is taken for another one, one of these tells.
fn telling(rules: &HashMap<u32, Rule>) -> BTreeSet<[u64; 6]> {
    let mut telling = BTreeSet::from([[0; 6], [1; 6], [u64::MAX; 6]]);
    for rule in rules.values() {
        let answers: HashMap<u32, [u64; 6]> =
            arguments(rule).into_iter().map(|args| (answer(rule, &args), args)).collect();
        telling.extend(answers.values());
    }
    telling
}

/// Every architecture × every number × arguments, for a filter of one of them.
fn calls(policy: &Policy, own: &'static Arch, insns: &[SockFilter]) -> Vec<SeccompData> {
    let rules = Oracle::new(policy, own).rules;
    let telling = telling(&rules);
    let mut calls = Vec::new();
    let numbers: BTreeSet<u32> = numbers().chain(borders_of_number(insns)).collect();
    for nr in numbers {
        let arguments = rules.get(&nr).map(arguments).unwrap_or_default();
        for arch in ARCHES {
            // Foreign: a few arguments are enough to see that nothing is asked.
            let most = if arch == own.audit_arch { usize::MAX } else { 3 };
            let args = telling.union(&arguments).take(most);
            calls.extend(args.map(|&args| SeccompData { nr, arch, ip: 0x7fff_dead_beef, args }));
        }
    }
    calls
}

// -- The programs --------------------------------------------------------------------------------------------------

/// A table, for an architecture, and the program of it.
struct Filter {
    name: String,
    policy: &'static Policy<'static>,
    arch: &'static Arch,
    insns: Vec<SockFilter>,
}

/// Both tables for every architecture; those of this machine are what agent-init has in it.
fn filters() -> Vec<Filter> {
    let tables = [
        ("default", &AGENT_POLICY, &bpf::AGENT_PROGRAM[..]),
        ("init", &INIT_POLICY, &bpf::INIT_PROGRAM),
    ];
    let mut filters = Vec::new();
    for (name, policy, built_in) in tables {
        for &arch in ARCHS {
            let insns = bpf::assemble(policy, arch).as_slice().to_vec();
            if arch.audit_arch == nr::AUDIT_ARCH {
                assert_eq!(insns, built_in);
            }
            filters.push(Filter { name: format!("{name} {}", arch.name), policy, arch, insns });
        }
    }
    filters
}

/// `each` of the filters, on as many threads as there are processors.
fn for_all(filters: &[Filter], each: impl Fn(&Filter) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        while let Some(filter) =
            filters.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        {
            each(filter);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| _ = scope.spawn(work));
    });
}

/// What `run` can be told to make of the agent's table: each group added, all of them, each taken away, and more.
fn choices() -> Vec<Choice> {
    let words = |grant: fn(&Group) -> bool, sign: &str| -> Vec<String> {
        GROUPS.iter().filter(|g| grant(g)).map(|g| format!("{sign}{}", g.name)).collect()
    };
    let (added, removed) =
        (words(|g| g.grant == Grant::Yes, "+"), words(|g| g.denied.is_some(), "-"));
    assert!(added.len() >= 4 && removed.len() >= 10);
    let mut texts: Vec<String> =
        added.iter().chain(&removed).map(|word| format!("default {word}")).collect();
    texts.extend([
        format!("default {}", added.join(" ")),
        format!("default {} no-wx", removed.join(" ")),
        "default no-wx".to_owned(),
        "strict".to_owned(),
        "strict +net no-wx".to_owned(),
        format!("strict +net {} no-wx", added.join(" ")),
    ]);
    texts.iter().map(|text| Choice::parse(text).unwrap().unwrap()).collect()
}

/// Their tables and programs, for this machine; of `strict` for every one.
fn chosen() -> Vec<Filter> {
    let mut filters = Vec::new();
    for choice in choices() {
        for arch in ARCHS {
            if *arch == HOST || choice.to_string() == "strict" {
                let name = format!("{choice} {}", arch.name);
                let filter = agent_shim::policy::Filter::of(&choice, arch);
                let insns = filter.program.to_vec();
                filters.push(Filter { name, policy: filter.policy, arch, insns });
            }
        }
    }
    filters
}

/// Its verdict is the table's, whatever the call; and no instruction is there for nothing.
fn agrees_with_its_table(Filter { name, policy, arch, insns }: &Filter) {
    let (oracle, program) = (Oracle::new(policy, arch), Program::check(insns).unwrap());
    let calls = calls(policy, arch, insns);
    let mut executed = vec![false; insns.len()];
    for call in &calls {
        let result = program.run(call, |pc| executed[pc] = true);
        assert_eq!(result, oracle.verdict(call), "{name}: {call:x?}");
    }
    println!("{name}: {} instructions, {} calls agree", insns.len(), calls.len());
    let dead: Vec<_> =
        (0..insns.len()).filter(|&pc| !executed[pc]).map(|pc| (pc, insns[pc])).collect();
    assert!(dead.is_empty(), "{name}: never executed: {dead:?}");
}

#[test] // seen to fail with clauses asked from the right, a mask forgotten, x32 not killed, a return nobody jumps to
fn programs_answer_as_their_tables() {
    for_all(&filters(), agrees_with_its_table);
}

/// The same without any reasoning: each of the 2^30 numbers up to the x32 calls, for the filter of this machine.
#[test] // seen to fail with 0x12345 allowed
fn every_number_is_answered_as_the_table_says() {
    let (oracle, program) =
        (Oracle::new(&AGENT_POLICY, HOST), Program::check(&bpf::AGENT_PROGRAM).unwrap());
    let ask = |nr| SeccompData { nr, arch: HOST.audit_arch, ..SeccompData::default() };
    let known = HOST.calls.last().unwrap().1;
    let check = |first: u32, last: u32| {
        for nr in first..=last {
            // Looked up only where there can be something to find.
            let expected = match nr {
                0x1000..0x4000_0000 if nr > known => code(AGENT_POLICY.unknown),
                _ => oracle.verdict(&ask(nr)),
            };
            assert_eq!(program.result(&ask(nr)), expected, "{nr:#x}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| check(0, 0x1fff_ffff));
        scope.spawn(|| check(0x2000_0000, 0x4000_03ff));
    });
}

#[test] // seen to fail with the program of another choice
fn chosen_programs_answer_as_their_tables() {
    for_all(&chosen(), agrees_with_its_table);
}

/// Whatever is chosen, and for every architecture: no way into a new namespace, no mount, no administration of the
/// host, and nothing reads or steers PID 1.
#[test] // seen to fail with `namespace` that can be added, and without the rule for ptrace in GRANTS
fn no_choice_opens_what_holds_the_room() {
    let mut count = 0;
    let added: Vec<&str> =
        GROUPS.iter().filter(|g| g.grant == Grant::Yes).map(|g| g.name).collect();
    for bits in 0..1u32 << added.len() {
        for base in ["default", "strict", "default no-wx"] {
            let chosen = added.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
            let text = chosen.fold(base.to_owned(), |text, (_, group)| format!("{text} +{group}"));
            let Ok(choice) = Choice::parse(&text).unwrap() else {
                assert!(base == "strict" && text.contains("+io_uring"), "{text}");
                continue; // sockets without `net`
            };
            for arch in ARCHS {
                let program = Program::check(&choice.program(arch)).unwrap();
                let ask = |name: &str, args: [u64; 6]| {
                    let nr = arch.number(name).unwrap();
                    program.result(&SeccompData { nr, arch: arch.audit_arch, ip: 0, args })
                };
                let closed = |name: &str, args: [u64; 6]| {
                    if arch.number(name).is_some() {
                        let verdict = ask(name, args);
                        assert_ne!(
                            verdict,
                            code(Verdict::Allow),
                            "{choice}: {}: {name}",
                            arch.name
                        );
                    }
                };
                for row in AGENT_POLICY.rows {
                    if ["namespace", "mount", "kernel"].contains(&row.group)
                        && row.rule == Rule::always(Verdict::Errno(1))
                    {
                        closed(row.name, [0; 6]);
                        closed(row.name, [u64::MAX; 6]);
                    }
                }
                // NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
                for flag in [17, 25, 26, 27, 28, 29, 30].map(|bit| 1u64 << bit) {
                    closed("clone", [flag, 0, 0, 0, 0, 0]);
                    closed("clone", [flag | 17 | 1 << 32, 0, 0, 0, 0, 0]);
                }
                closed("clone3", [0; 6]);
                closed("clone3", [4096, 88, 0, 0, 0, 0]);
                closed("ptrace", [16, 1, 0, 0, 0, 0]); // PTRACE_ATTACH, SEIZE
                closed("ptrace", [0x4206, 1 | 7 << 32, 0, 0, 0, 0]);
                closed("process_vm_readv", [1, 0, 0, 0, 0, 0]);
                closed("process_vm_writev", [1, 0, 0, 0, 0, 0]);
                closed("pidfd_getfd", [3, 0, 0, 0, 0, 0]);
                count += 1;
            }
        }
    }
    println!("{count} programs");
}

#[test] // seen to fail with a group in both lists, and with `namespace` that can be added
fn words_of_a_filter_are_read_or_refused() {
    let parse = |text: &str| Choice::parse(text).map(|choice| choice.map(|c| c.to_string()));
    let is = |text: &str| Some(Ok(text.to_owned()));
    assert_eq!(parse("default"), is("default"));
    assert_eq!(parse("strict,no-wx,+ptrace,+aio,+ptrace"), is("strict +aio +ptrace no-wx"));
    assert_eq!(parse("default -net"), is("default -net"));
    assert_eq!((parse(""), parse("file.bpf"), parse("defaults")), (None, None, None));
    let wrong = |text: &str| parse(text).unwrap().unwrap_err();
    assert!(wrong("default +nosuch").contains("there are file-io file-open"));
    assert!(wrong("default +mount").contains("cannot be added: what is mounted decides"));
    assert!(wrong("default +namespace").contains("cannot be added"));
    assert!(wrong("default -process").contains("no program runs without it"));
    assert!(wrong("default +ptrace -ptrace").contains("both"));
    assert!(wrong("default ptrace").contains("there are +GROUP"));
    assert!(wrong("default +").contains("no group ``"));
}

/// The kernel answers from a bitmap what is decided before an argument is loaded. To fill it, installing walks
/// the instructions printed here: at most 12.
#[test] // seen to fail with a load in front of every leaf, with trees of any depth
fn calls_without_a_rule_never_look_at_an_argument() {
    for Filter { name, policy, arch, insns } in filters() {
        let (oracle, program) = (Oracle::new(policy, arch), Program::check(&insns).unwrap());
        let mut walked = Vec::new();
        for &(_, nr) in arch.calls {
            let (_, path) =
                program.path(&SeccompData { nr, arch: arch.audit_arch, ..SeccompData::default() });
            let looks = path.iter().position(|&pc| insns[pc].code == bpf::LOAD && insns[pc].k >= 8);
            let has_rule = oracle.rules.get(&nr).is_some_and(|rule| !rule.clauses.is_empty());
            assert_eq!(looks.is_some(), has_rule, "{name}: {nr}");
            walked.push(looks.map_or(path.len(), |at| at + 1));
        }
        let (sum, max) = (walked.iter().sum::<usize>(), walked.iter().max().unwrap());
        let average = sum as f64 / walked.len() as f64;
        println!(
            "{name}: {} instructions; walked per known number: {average:.2}, at most {max}",
            insns.len()
        );
        assert!(*max <= 12, "{name}: {max} instructions walked");
    }
}

#[test] // seen to fail with EPERM marked alone, a copy cut short
fn a_marked_program_refuses_with_the_marker_and_differs_in_nothing_else() {
    for Filter { name, insns, .. } in filters() {
        let mut out = vec![SockFilter { code: 0, jt: 0, jf: 0, k: 0 }; insns.len() + 1];
        assert_eq!(bpf::marked(&insns, &mut out), insns.len());
        for (pc, (was, is)) in insns.iter().zip(&out).enumerate() {
            let refuses = was.code == bpf::RETURN && was.k >> 16 == 5;
            let k = if refuses { 0x0005_0000 | 4095 } else { was.k };
            assert_eq!(*is, SockFilter { k, ..*was }, "{name}: instruction {pc}");
        }
        assert_eq!(bpf::marked(&insns, &mut out[..insns.len() - 1]), 0);
    }
}

// -- Mutants -------------------------------------------------------------------------------------------------------

/// One mistake in one instruction: each jump one off or taken for the other, each constant one off or with one bit the
/// other way, each comparison another one.
fn mutants(insn: SockFilter) -> Vec<(String, SockFilter)> {
    let SockFilter { code, jt, jf, k } = insn;
    let mut mutants = vec![
        ("k + 1".into(), SockFilter { k: k.wrapping_add(1), ..insn }),
        ("k - 1".into(), SockFilter { k: k.wrapping_sub(1), ..insn }),
    ];
    mutants
        .extend((0..32).map(|bit| {
            (format!("k ^ {:#x}", 1u32 << bit), SockFilter { k: k ^ 1 << bit, ..insn })
        }));
    if [bpf::IF_EQUAL, bpf::IF_AT_LEAST, bpf::IF_ANY_BIT].contains(&code) {
        mutants.extend([
            ("jt + 1".into(), SockFilter { jt: jt.wrapping_add(1), ..insn }),
            ("jt - 1".into(), SockFilter { jt: jt.wrapping_sub(1), ..insn }),
            ("jf + 1".into(), SockFilter { jf: jf.wrapping_add(1), ..insn }),
            ("jf - 1".into(), SockFilter { jf: jf.wrapping_sub(1), ..insn }),
            ("jt, jf".into(), SockFilter { jt: jf, jf: jt, ..insn }),
            ("> k".into(), SockFilter { code: 0x25, ..insn }), // BPF_JMP | BPF_JGT | BPF_K
        ]);
    }
    if code == bpf::IF_EQUAL && k != u32::MAX {
        mutants.push((">= k".into(), SockFilter { code: bpf::IF_AT_LEAST, ..insn }));
    }
    let mut seen = vec![insn];
    mutants.retain(|&(_, mutant)| {
        let new = !seen.contains(&mutant);
        seen.push(mutant);
        new
    });
    mutants
}

/// The calls above notice every mistake in any instruction. What they do not notice is no mistake: walking all paths
/// of both programs with all calls that take them, `policy diff` finds no call that they answer differently. The scores
/// are printed at the end, with these mutants by name, past what holds back the output of a test that passes.
#[test] // seen to fail with calls without the flipped bits, without `telling`
fn no_mutant_of_a_program_survives() {
    let strict = chosen().into_iter().filter(|filter| filter.name.starts_with("strict x86_64"));
    let filters: Vec<Filter> = filters().into_iter().chain(strict).collect();
    assert_eq!(filters.len(), 7);
    let (scores, all_missed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    for_all(&filters, |filter| {
        let Filter { name, policy, arch, insns } = filter;
        let (program, calls) = (Program::check(insns).unwrap(), calls(policy, arch, insns));
        let read = insn::Program::check(insns).unwrap().on(arch);
        let walked = walk(&read, Calls::all(), false, &mut Budget::new()).unwrap();
        let dump = Dump::new(&read, Some(&walked), Some(policy));
        // A mistake in an instruction can only change the calls that pass it.
        let mut passes: Vec<Vec<(usize, u32)>> = vec![Vec::new(); insns.len()];
        for (i, call) in calls.iter().enumerate() {
            let (result, path) = program.path(call);
            path.into_iter().for_each(|pc| passes[pc].push((i, result)));
        }
        let (mut noticed, mut invalid, mut equivalent, mut missed) = (0, 0, Vec::new(), Vec::new());
        for (pc, &insn) in insns.iter().enumerate() {
            for (mistake, mutant) in mutants(insn) {
                let mut changed = insns.to_vec();
                changed[pc] = mutant;
                match Program::check(&changed) {
                    Err(_) => invalid += 1,
                    Ok(mutant)
                        if passes[pc].iter().any(|&(i, was)| mutant.result(&calls[i]) != was) =>
                    {
                        noticed += 1
                    }
                    Ok(_) => {
                        let (word, operands) = dump.instruction(pc);
                        let mutant = format!("{pc} {word} {operands}: {mistake}");
                        match differences(insns, &changed, arch).as_slice() {
                            [] => equivalent.push(mutant),
                            [call, ..] => missed.push(format!("{mutant}: {call}")),
                        }
                    }
                }
            }
        }
        let (same, all) = (equivalent.len(), noticed + missed.len());
        let percent = 100.0 * noticed as f64 / all as f64;
        let score = format!(
            "mutants: {name}: {percent:.2} %, {noticed} of {all} noticed; {invalid} are no programs; {same} answer the same"
        );
        scores.lock().unwrap().push(format!("{score}: {}", equivalent.join(" | ")));
        // A comparison that only shortens the way of many numbers may lie anywhere between two that differ.
        assert!(same <= 40, "{name}: {same} are the same");
        all_missed
            .lock()
            .unwrap()
            .extend(missed.into_iter().map(|mutant| format!("{name}: {mutant}")));
    });
    let mut scores = scores.into_inner().unwrap();
    scores.sort();
    scores.iter().for_each(|score| _ = writeln!(std::io::stderr(), "{score}"));
    let missed = all_missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// By the whole space of calls, not by those above.
fn differences(a: &[SockFilter], b: &[SockFilter], arch: &'static Arch) -> Vec<String> {
    let [a, b] = [a, b].map(|insns| insn::Program::check(insns).unwrap().on(arch));
    diff(&a, &b, &mut Budget::new()).expect("followed to the end")
}

// -- Random tables -------------------------------------------------------------------------------------------------

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Allow), (1u16..4096).prop_map(Verdict::Errno), Just(Verdict::Kill)]
}

fn leaked<T>(items: Vec<T>) -> &'static [T] {
    Vec::leak(items) // a table is 'static; some megabytes for a test run
}

fn any_set() -> impl Strategy<Value = &'static [u32]> {
    let value = prop_oneof![0u32..8, any::<u32>()];
    // Now and then longer than a comparison can jump.
    prop_oneof![9 => prop::collection::vec(value.clone(), 0..6), 1 => prop::collection::vec(value, 250..300)]
        .prop_map(leaked)
}

fn any_word() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..8, any::<u32>(), Just(u32::MAX)]
}

fn any_test() -> impl Strategy<Value = Test> {
    let whole = prop_oneof![0u64..4, any::<u64>(), (0u64..4).prop_map(|high| high << 32)];
    prop_oneof![
        (0usize..6, any_set()).prop_map(|(n, set)| Test::Low(n, set)),
        (0usize..6, prop_oneof![0u32..16, any::<u32>()], any_set())
            .prop_map(|(n, mask, set)| Test::Masked(n, mask, set)),
        (0usize..6, any::<u32>()).prop_map(|(n, bits)| Test::AnyBit(n, bits)),
        (0usize..6, any_word(), any_word()).prop_map(|(n, a, b)| Test::Between(n, a, b)),
        (0usize..6, whole.clone()).prop_map(|(n, value)| Test::Whole(n, value)),
        (0usize..6, whole.clone(), whole.clone()).prop_map(|(n, mask, value)| Test::WholeMasked(
            n,
            mask,
            value & mask
        )),
        (0usize..6, whole.clone(), whole).prop_map(|(n, a, b)| Test::WholeBetween(n, a, b)),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let tests = prop::collection::vec(any_test(), 0..4).prop_map(leaked);
    let clause = (tests, any_verdict()).prop_map(|(tests, verdict)| When(tests, verdict));
    let clauses = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(clause, 0..4)]
        .prop_map(leaked);
    (clauses, any_verdict()).prop_map(|(clauses, otherwise)| Rule { clauses, otherwise })
}

/// Up to 60 rows, in any order.
fn any_policy() -> impl Strategy<Value = (Policy<'static>, &'static Arch)> {
    let arch = prop::sample::select(ARCHS);
    arch.prop_flat_map(|arch| (any_policy_of(arch), Just(arch)))
}

fn any_policy_of(arch: &'static Arch) -> impl Strategy<Value = Policy<'static>> {
    let names = prop::sample::subsequence(arch.calls.to_vec(), 0..=60).prop_shuffle();
    (names, prop::collection::vec(any_rule(), 60), any_verdict()).prop_map(
        |(names, rules, unknown)| {
            let row = |((name, _), rule)| Row { name, group: "", rule, why: "" };
            Policy { rows: leaked(names.into_iter().zip(rules).map(row).collect()), unknown }
        },
    )
}

/// As [`arguments`], without the product: each argument takes each of its borders while the others hold or not.
fn some_arguments(rule: &Rule) -> Vec<[u64; 6]> {
    let borders = borders(rule).map(|set| set.into_iter().collect::<Vec<_>>());
    let longest = borders.iter().map(Vec::len).max().unwrap_or(0);
    let at = |i: usize, step: usize| {
        std::array::from_fn(|n| borders[n][(i * (n * step + 1) + n * step) % borders[n].len()])
    };
    (0..longest).flat_map(|i| [0, 1, 5].map(|step| at(i, step))).collect()
}

/// Returns whether the program had to bridge a distance that a comparison cannot jump.
fn agrees(policy: &Policy, arch: &'static Arch) -> bool {
    let assembled = bpf::assemble(policy, arch);
    let (oracle, program) =
        (Oracle::new(policy, arch), Program::check(assembled.as_slice()).unwrap());
    let ask =
        |call: SeccompData| assert_eq!(program.result(&call), oracle.verdict(&call), "{call:x?}");
    for nr in (0..520).chain([
        0x3fff_ffff,
        0x4000_0000,
        0x4000_0001,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
    ]) {
        let args = oracle.rules.get(&nr).map_or(vec![[0; 6]], some_arguments);
        args.into_iter()
            .for_each(|args| ask(SeccompData { nr, arch: arch.audit_arch, ip: 0, args }));
        ask(SeccompData { nr, arch: 0x4000_0003, ..SeccompData::default() });
    }
    assembled.as_slice().iter().any(|insn| insn.code == bpf::JUMP)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any table, not only the two that we have.
    #[test] // seen to fail with tests joined by OR, a high half not compared
    fn random_tables_are_assembled_right((policy, arch) in any_policy()) {
        agrees(&policy, arch);
    }
}

/// Every call with a rule of 8 instructions: most targets are out of reach of the comparisons that lead there.
#[test] // seen to fail with REACH 300, a bridge one too short
fn a_long_program_bridges_its_distances() {
    let set = leaked((1..6).collect());
    let row = |&(name, nr): &(&'static str, u32)| {
        let clauses = leaked(vec![When(
            leaked(vec![Test::Low(0, set)]),
            Verdict::Errno(1 + (nr % 999) as u16),
        )]);
        Row { name, group: "", rule: Rule { clauses, otherwise: Verdict::Allow }, why: "" }
    };
    let policy =
        Policy { rows: leaked(nr::CALLS.iter().map(row).collect()), unknown: Verdict::Errno(38) };
    assert!(agrees(&policy, &nr::X86_64), "no distance had to be bridged");
}

// -- The contract --------------------------------------------------------------------------------------------------

const CONTRACT: &str = include_str!("../golden/policy-x86_64.tsv");

/// A rule as plain data: clauses of tests (argument, whole word or low half, mask, values), and what they return.
/// A mask without values is "any bit".
type Plain = (Vec<(Vec<(usize, bool, u32, BTreeSet<u64>)>, u32)>, u32);

fn plain(rule: &Rule) -> Plain {
    let set = |values: &[u32]| values.iter().map(|&value| u64::from(value)).collect();
    let test = |test: &Test| match *test {
        Test::Low(n, values) => (n, false, u32::MAX, set(values)),
        Test::Masked(n, mask, values) => (n, false, mask, set(values)),
        Test::AnyBit(n, bits) => (n, false, bits, set(&[])),
        Test::Whole(n, value) => (n, true, u32::MAX, [value].into()),
        _ => panic!("the contract has no word for {test:?}"),
    };
    let clause = |When(tests, verdict): &When| (tests.iter().map(test).collect(), code(*verdict));
    (rule.clauses.iter().map(clause).collect(), code(rule.otherwise))
}

/// `a0.lo == 1 && a1.lo & 0xf in {1,2} -> allow; a2 == 0 -> EPERM`, or `-`.
fn parsed(rule: &str, action: &str) -> Plain {
    let clauses = rule.split("; ").filter(|&clause| clause != "-").map(|clause| {
        let (tests, action) = clause.split_once(" -> ").unwrap();
        (tests.split(" && ").map(parsed_test).collect(), parsed_action(action))
    });
    (clauses.collect(), parsed_action(action))
}

fn parsed_test(text: &str) -> (usize, bool, u32, BTreeSet<u64>) {
    let words: Vec<&str> = text.split(' ').collect();
    let (argument, whole) =
        words[0].strip_suffix(".lo").map_or((words[0], true), |low| (low, false));
    let n = argument.strip_prefix('a').unwrap().parse().unwrap();
    let set = |text: &str| text.trim_matches(['{', '}']).split(',').map(number).collect();
    match words[1..] {
        ["==", value] => (n, whole, u32::MAX, set(value)),
        ["in", values] => (n, whole, u32::MAX, set(values)),
        ["&", mask, "in", values] => (n, whole, number(mask).try_into().unwrap(), set(values)),
        ["&", mask, "!=", "0"] => (n, whole, number(mask).try_into().unwrap(), BTreeSet::new()),
        _ => panic!("a rule of unknown shape: {text}"),
    }
}

fn parsed_action(word: &str) -> u32 {
    let errno = |errno: i32| code(Verdict::Errno(errno.try_into().unwrap()));
    match word {
        "allow" => code(Verdict::Allow),
        "kill" => KILL,
        "EPERM" => errno(libc::EPERM),
        "EINVAL" => errno(libc::EINVAL),
        "ENOSYS" => errno(libc::ENOSYS),
        "EPROTONOSUPPORT" => errno(libc::EPROTONOSUPPORT),
        "EAFNOSUPPORT" => errno(libc::EAFNOSUPPORT),
        _ => panic!("unknown action: {word}"),
    }
}

fn number(text: &str) -> u64 {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16))
        .unwrap()
}

/// nr, name, group, action, argument rule, reason.
fn contract() -> impl Iterator<Item = [&'static str; 6]> {
    let split = |line: &'static str| line.split('\t').collect::<Vec<_>>().try_into().unwrap();
    CONTRACT.lines().skip(1).map(split)
}

/// Row by row, the table is the contract.
#[test] // seen to fail with PRIO_USER 1, CLONE_NEWUSER left out, vmsplice allowed
fn the_agents_table_is_the_contract() {
    let rows: BTreeMap<&str, &Row> = AGENT_POLICY.rows.iter().map(|row| (row.name, row)).collect();
    let mut known = 0;
    for [nr, name, group, action, rule, why] in contract().filter(|row| row[1] != "-") {
        let row = rows[name];
        assert_eq!(nr::X86_64.number(name).map(u64::from), Some(number(nr)), "{name}");
        assert_eq!(plain(&row.rule), parsed(rule, action), "{name}");
        assert_eq!((row.group, row.why), (group, why), "{name}");
        known += 1;
    }
    let elsewhere: Vec<_> = rows.keys().filter(|name| nr::X86_64.number(name).is_none()).collect();
    assert_eq!(elsewhere, [&"riscv_flush_icache", &"riscv_hwprobe"]);
    assert_eq!((known, rows.len(), nr::X86_64.calls.len()), (383, 385, 383));
}

/// The rows of the contract that are no system call: gaps, x32, -1, foreign architectures.
#[test] // seen to fail with -1 killed, x32 unknown, the gap before 424 not pushed
fn numbers_outside_the_table_are_answered_as_the_contract_says() {
    let program = bpf::assemble(&AGENT_POLICY, &nr::X86_64);
    let program = Program::check(program.as_slice()).unwrap();
    let ask = |nr, arch| program.result(&SeccompData { nr, arch, ..SeccompData::default() });
    let mut covered = 0;
    for [range, _, _, action, ..] in contract().filter(|row| row[1] == "-") {
        if range == "arch" {
            assert_eq!(ask(0, nr::X86_64.audit_arch ^ 1), parsed_action(action));
            continue;
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last] = [first, last].map(|text| u32::try_from(number(text)).unwrap());
        let middle = first + (last - first) / 2;
        for nr in [first, middle, last] {
            assert_eq!(ask(nr, nr::X86_64.audit_arch), parsed_action(action), "{nr:#x} of {range}");
        }
        covered += 1 + u64::from(last - first);
    }
    assert_eq!(covered + nr::X86_64.calls.len() as u64, 1 << 32, "the contract leaves numbers out");
}

/// PID 1's list: of SECURITY.md §4, what it does use.
#[test] // seen to fail with a row for open
fn pid_1_may_wait_signal_report_and_end() {
    let list = "wait4 ppoll kill write read close exit_group ioctl";
    let allowed: BTreeSet<&str> = list.split(' ').collect();
    let table: BTreeSet<&str> = INIT_POLICY.rows.iter().map(|row| row.name).collect();
    assert_eq!(table, allowed);
    let always = |row: &&Row| row.rule == Rule::always(Verdict::Allow);
    assert_eq!(INIT_POLICY.rows.iter().filter(always).count(), allowed.len() - 1);
    // The foreground of its own terminal, and no other command: TIOCGPGRP, TIOCSPGRP.
    let foreground: &[When] = &[When(&[Test::Low(1, &[0x540f, 0x5410])], Verdict::Allow)];
    let ioctl = Rule { clauses: foreground, otherwise: Verdict::Kill };
    assert_eq!(INIT_POLICY.rule("ioctl"), ioctl);
    assert_eq!(INIT_POLICY.unknown, Verdict::Kill);
}

/// The headers of each architecture, where Debian's linux-libc-dev and linux-libc-dev-…-cross have them.
const HEADERS: &[(&Arch, &[&str])] = &[
    (&nr::X86_64, &["/usr/include/x86_64-linux-gnu"]),
    (&nr::AARCH64, &["/usr/aarch64-linux-gnu/include", "/usr/include/aarch64-linux-gnu"]),
    (&nr::RISCV64, &["/usr/riscv64-linux-gnu/include", "/usr/include/riscv64-linux-gnu"]),
];

/// The numbers are the kernel's; its headers may be older than our table, or newer.
#[test] // seen to fail with read and write swapped
fn numbers_agree_with_the_headers_of_this_system() {
    for (arch, places) in HEADERS {
        let Some(directory) = places.iter().find(|path| Path::new(path).join("asm").is_dir())
        else {
            skip("numbers", &format!("no kernel headers for {} in {places:?}", arch.name));
            continue;
        };
        let theirs = match defined(directory) {
            Ok(theirs) => theirs,
            Err(why) => {
                skip("numbers", &format!("{}: {why}", arch.name));
                continue;
            }
        };
        let last = arch.calls.last().unwrap().1;
        let differ: Vec<_> = (theirs.iter())
            .filter(|(name, nr)| **nr <= last && arch.number(name) != Some(**nr))
            .collect();
        assert!(differ.is_empty(), "{}: {differ:?}", arch.name);
        assert!(theirs.len() > 290, "{directory} was not understood: {}", theirs.len());
        let newest = theirs.values().max().unwrap();
        // A call that the headers lack is newer than they are, or has no name there.
        let unheard: Vec<_> = (arch.calls.iter())
            .filter(|(name, nr)| nr < newest && !theirs.contains_key(*name))
            .collect();
        let known_gap = [("uretprobe", 335), ("uprobe", 336), ("riscv_hwprobe", 258)];
        assert!(unheard.iter().all(|call| known_gap.contains(call)), "{}: {unheard:?}", arch.name);
        println!("{}: {} of {} numbers compared", arch.name, theirs.len(), arch.calls.len());
    }
}

/// What `asm/unistd.h` below a directory defines for a 64-bit program, as the preprocessor sees it.
fn defined(directory: &str) -> Result<BTreeMap<String, u32>, String> {
    let mut cpp = Command::new("cc");
    cpp.args(["-nostdinc", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"]);
    cpp.args(["-I", directory]);
    if !directory.contains("x86_64") {
        cpp.args(["-U__x86_64__", "-D__LP64__", "-D__riscv_xlen=64"]);
    }
    let output = cpp.output().map_err(|error| format!("cc: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let macros: BTreeMap<&str, &str> = (text.lines())
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, _)| name.starts_with("__NR"))
        .collect();
    let numbers = (macros.keys()).filter_map(|name| {
        let call = name
            .strip_prefix("__NR_")
            .filter(|call| !["syscalls", "arch_specific_syscall"].contains(call))?;
        Some((call.to_owned(), resolved(&macros, name)))
    });
    Ok(numbers.collect())
}

/// `203`, another name, or `(name + 15)`.
fn resolved(macros: &BTreeMap<&str, &str>, name: &str) -> u32 {
    let terms = macros[name].trim_matches(['(', ')']).split(" + ");
    terms.map(|term| term.parse().unwrap_or_else(|_| resolved(macros, term))).sum()
}

#[test] // seen to fail with read and write exchanged
fn numbers_are_known_at_compile_time() {
    const READ: Option<u32> = nr::number("read");
    const NONE: Option<u32> = nr::number("reads");
    assert_eq!((READ, NONE), (Some(0), None));
}

// -- Tables that are none ------------------------------------------------------------------------------------------

const OK: Rule = Rule::always(Verdict::Allow);

fn row(name: &'static str, rule: Rule) -> Row {
    Row { name, group: "g", rule, why: "w" }
}

fn clauses(clauses: Vec<When>) -> Rule {
    Rule { clauses: leaked(clauses), otherwise: Verdict::Allow }
}

fn one(test: Test) -> Rule {
    clauses(vec![When(leaked(vec![test]), Verdict::Kill)])
}

/// Each table is wrong in one row, and the fault is that row's.
#[test] // seen to fail with tests that are not looked at
fn a_table_that_is_wrong_has_a_fault_that_names_the_row() {
    let errno = |errno| Rule { otherwise: Verdict::Errno(errno), ..OK };
    let twice: &[Test] = &[Test::Low(0, &[1])];
    let longer: &[Test] = &[Test::Low(1, &[1]), Test::Low(0, &[1])];
    #[rustfmt::skip]
    let rules: Vec<(Rule, &str)> = vec![
        (errno(0), "errno"),
        (errno(4096), "errno"),
        (clauses(vec![When(twice, Verdict::Errno(0))]), "errno"),
        (one(Test::Low(6, &[1])), "six arguments"),
        (one(Test::Whole(6, 1)), "six arguments"),
        (one(Test::Low(0, &[])), "empty"),
        (one(Test::Masked(0, 1, &[])), "empty"),
        (one(Test::Low(0, &[1, 2, 1])), "twice"),
        (one(Test::Masked(0, 0xf, &[0x10])), "outside of the mask"),
        (one(Test::Masked(0, 0, &[0])), "always"),
        (one(Test::AnyBit(0, 0)), "none of the bits"),
        (one(Test::Between(0, 2, 1)), "ends before"),
        (one(Test::Between(0, 0, u32::MAX)), "always"),
        (one(Test::WholeMasked(0, 0, 0)), "always"),
        (one(Test::WholeMasked(0, 1 << 40, 1)), "outside of the mask"),
        (one(Test::WholeBetween(0, 1 << 32, 1)), "ends before"),
        (one(Test::WholeBetween(0, 0, u64::MAX)), "always"),
        (clauses(vec![When(&[], Verdict::Kill)]), "without a test"),
        (clauses(vec![When(&[], Verdict::Kill), When(twice, Verdict::Kill)]), "without a test"),
        (clauses(vec![When(twice, Verdict::Kill), When(twice, Verdict::Allow)]), "never decide"),
        (clauses(vec![When(twice, Verdict::Kill), When(longer, Verdict::Allow)]), "never decide"),
    ];
    for (rule, wanted) in rules {
        let rows = [row("read", OK), row("write", rule)];
        let Fault { row, why } = check(&rows, ARCHS, Extent::Some).expect(wanted);
        assert!(row == "write" && why.contains(wanted), "{row}: {why}: not {wanted}");
    }
    let fault = |rows: &[Row], extent| check(rows, ARCHS, extent).map(|f| (f.row, f.why));
    let no = "no architecture has such a call";
    assert_eq!(fault(&[row("raed", OK)], Extent::Some), Some(("raed", no)));
    let rows = [row("read", OK), row("write", OK), row("read", OK)];
    assert_eq!(fault(&rows, Extent::Some), Some(("read", "is there twice")));
    let without_why = Row { why: "", ..row("read", OK) };
    assert_eq!(fault(&[without_why], Extent::Some), Some(("read", "does not say why")));
    let without_group = Row { group: "", ..row("read", OK) };
    assert_eq!(fault(&[without_group], Extent::Some), Some(("read", "has no group")));
    // Whichever row is left out, it is the one that is missed.
    for name in ["read", "file_setattr", "riscv_hwprobe", "renameat"] {
        let rows: Vec<Row> =
            AGENT_POLICY.rows.iter().filter(|row| row.name != name).copied().collect();
        assert_eq!(fault(&rows, Extent::Every), Some((name, "is missing")));
        assert_eq!(fault(&rows, Extent::Some), None);
    }
    assert_eq!(fault(AGENT_POLICY.rows, Extent::Every), None);
    assert_eq!(fault(INIT_POLICY.rows, Extent::Some), None);
}
