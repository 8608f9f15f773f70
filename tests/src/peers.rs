//! A policy by other hands: libseccomp and `seccompiler`.
//!
//! Neither can say a rule of ours in one filter. libseccomp compares 64 bits, or equality under a mask: "the low half
//! is not 2" is 32 masked rules, and two such tests 1024, more than the kernel takes; `seccompiler` has one action for
//! what matches. So each says a policy as filters that are installed one after the other: the first lets through all
//! that may pass, the others refuse. The kernel takes the strictest answer; of equal ones the newest filter's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent_init::bpf::SockFilter;
use agent_init::nr;
use agent_init::policy::{Policy, Rule, Test, Verdict, When};
use agent_shim::policy::cube::{self, Cube};
use agent_shim::policy::file;
use agent_shim::policy::verdict::Action;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::cbpf::{Program, SeccompData};

/// All must hold: bits of arguments that are given, and values that and-ed arguments do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct All {
    /// Given.
    pub cube: Cube,
    /// Argument, and what it is not: in its low half, or whole.
    pub not: Vec<(usize, Width, u64)>,
}

/// How much of an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits.
    Low,
    /// 64.
    Whole,
}

impl Width {
    const fn mask(self) -> u64 {
        match self {
            Width::Low => 0xffff_ffff,
            Width::Whole => u64::MAX,
        }
    }
}

impl All {
    /// What is in both; `None`: nothing.
    fn and(&self, other: &All) -> Option<All> {
        let (a, b) = (&self.cube, &other.cube);
        if !(0..6).all(|n| (a.value[n] ^ b.value[n]) & a.mask[n] & b.mask[n] == 0) {
            return None;
        }
        let cube = Cube {
            mask: std::array::from_fn(|n| a.mask[n] | b.mask[n]),
            value: std::array::from_fn(|n| a.value[n] | b.value[n]),
        };
        let mut not = self.not.clone();
        not.extend(other.not.iter().filter(|not| !self.not.contains(not)));
        // Where all bits are given, it is known.
        let is_known = |n: usize, width: Width| cube.mask[n] & width.mask() == width.mask();
        if not.iter().any(|&(n, width, v)| is_known(n, width) && cube.value[n] & width.mask() == v)
        {
            return None;
        }
        not.retain(|&(n, width, _)| !is_known(n, width));
        Some(All { cube, not })
    }
}

/// Where a test comes out so. Without `low_not`, "not" is said of whole arguments only.
fn outcome(test: &Test, holds: bool, low_not: bool) -> Vec<All> {
    match *test {
        Test::Whole(n, value) if !holds => {
            return vec![All { not: vec![(n, Width::Whole, value)], ..All::default() }];
        }
        Test::Low(n, set) if !holds && low_not => {
            let not = set.iter().map(|value| (n, Width::Low, u64::from(*value))).collect();
            return vec![All { not, ..All::default() }];
        }
        _ => {}
    }
    let clause = When(Box::leak(Box::new([*test])), Verdict::Allow);
    let rule = Rule { clauses: Box::leak(Box::new([clause])), otherwise: Verdict::Kill };
    let action = Action::from(if holds { Verdict::Allow } else { Verdict::Kill });
    let of = |cube| All { cube, not: Vec::new() };
    cube::given(&rule, action).into_iter().map(of).collect()
}

/// The arguments for which a rule gives a verdict. Those of one verdict may overlap.
fn given(rule: &Rule, wanted: Verdict, low_not: bool) -> Vec<All> {
    let product = |left: &[All], right: &[All]| -> Vec<All> {
        left.iter().flat_map(|a| right.iter().filter_map(|b| a.and(b))).collect()
    };
    let (mut found, mut rest) = (Vec::new(), vec![All::default()]);
    for When(tests, verdict) in rule.clauses {
        let (mut hit, mut miss) = (rest.clone(), Vec::new());
        for test in *tests {
            miss.extend(product(&hit, &outcome(test, false, low_not)));
            hit = product(&hit, &outcome(test, true, low_not));
        }
        if *verdict == wanted {
            found.extend(hit);
        } else {
            rest = miss;
        }
    }
    if rule.otherwise == wanted {
        found.extend(rest);
    }
    found
}

/// One filter of several: the answer to what no rule names; a number, an answer, and for which arguments.
#[derive(Debug)]
pub struct Part {
    otherwise: Verdict,
    rules: Vec<(u32, Verdict, All)>,
}

/// The rules of a policy, or its numbers alone: then a call that passes with some arguments passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The whole policy.
    Arguments,
    /// Numbers.
    Numbers,
}

/// What passes, or may pass as far as the others agree.
fn grants(policy: &Policy, of: Of, low_not: bool) -> Part {
    let mut rules = Vec::new();
    for &(name, nr) in nr::CALLS {
        let rule = policy.rule(name);
        let verdicts: Vec<Verdict> = verdicts(&rule);
        let may_pass = verdicts.contains(&Verdict::Allow);
        // What is refused as unknown numbers are can only be said here.
        let by_number = rule.otherwise == Verdict::Allow && !verdicts.contains(&policy.unknown);
        match may_pass {
            true if by_number || of == Of::Numbers => {
                rules.push((nr, Verdict::Allow, All::default()))
            }
            true => {
                let all = given(&rule, Verdict::Allow, low_not);
                rules.extend(all.into_iter().map(|all| (nr, Verdict::Allow, all)));
            }
            false => {}
        }
    }
    Part { otherwise: policy.unknown, rules }
}

/// What is refused otherwise than unknown numbers are.
fn refusals(policy: &Policy, low_not: bool) -> Vec<(u32, Verdict, All)> {
    let mut rules = Vec::new();
    for &(name, nr) in nr::CALLS {
        let rule = policy.rule(name);
        for verdict in verdicts(&rule) {
            if verdict != Verdict::Allow && verdict != policy.unknown {
                rules.extend(
                    given(&rule, verdict, low_not).into_iter().map(|all| (nr, verdict, all)),
                );
            }
        }
    }
    rules
}

fn verdicts(rule: &Rule) -> Vec<Verdict> {
    let mut verdicts = vec![rule.otherwise];
    for When(_, verdict) in rule.clauses {
        if !verdicts.contains(verdict) {
            verdicts.push(*verdict);
        }
    }
    verdicts
}

// -- seccompiler ---------------------------------------------------------------------------------------------------

/// The filters of `seccompiler`: what passes, then one for each way to refuse.
pub fn seccompiler(policy: &Policy) -> Vec<Vec<SockFilter>> {
    let mut parts = vec![grants(policy, Of::Arguments, true)];
    for rule in refusals(policy, true) {
        match parts[1..].iter_mut().find(|part| part.rules[0].1 == rule.1) {
            Some(part) => part.rules.push(rule),
            None => parts.push(Part { otherwise: Verdict::Allow, rules: vec![rule] }),
        }
    }
    parts.iter().map(compiled).collect()
}

fn compiled(part: &Part) -> Vec<SockFilter> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (nr, _, all) in &part.rules {
        let conditions = conditions(all);
        let rules = rules.entry(i64::from(*nr)).or_default(); // an empty list: whatever the arguments
        if !conditions.is_empty() {
            rules.push(SeccompRule::new(conditions).unwrap());
        }
    }
    let matched = part.rules[0].1;
    let filter =
        SeccompFilter::new(rules, action(part.otherwise), action(matched), TargetArch::x86_64);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    let of = |insn: seccompiler::sock_filter| SockFilter {
        code: insn.code,
        jt: insn.jt,
        jf: insn.jf,
        k: insn.k,
    };
    program.into_iter().map(of).collect()
}

fn conditions(all: &All) -> Vec<SeccompCondition> {
    let mut conditions = Vec::new();
    let mut add = |n: usize, width: Width, op, value| {
        let len = match width {
            Width::Low => SeccompCmpArgLen::Dword,
            Width::Whole => SeccompCmpArgLen::Qword,
        };
        let n = u8::try_from(n).unwrap();
        conditions.push(SeccompCondition::new(n, len, op, value).unwrap());
    };
    for n in 0..6 {
        let (mask, value) = (all.cube.mask[n], all.cube.value[n]);
        let width = if mask <= Width::Low.mask() { Width::Low } else { Width::Whole };
        match mask {
            0 => {}
            _ if mask == width.mask() => add(n, width, SeccompCmpOp::Eq, value),
            _ => add(n, width, SeccompCmpOp::MaskedEq(mask), value),
        }
    }
    all.not.iter().for_each(|&(n, width, value)| add(n, width, SeccompCmpOp::Ne, value));
    conditions
}

fn action(verdict: Verdict) -> SeccompAction {
    match verdict {
        Verdict::Allow => SeccompAction::Allow,
        Verdict::Errno(errno) => SeccompAction::Errno(errno.into()),
        Verdict::Kill => SeccompAction::KillProcess,
    }
}

// -- libseccomp ----------------------------------------------------------------------------------------------------

/// The shape of libseccomp's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is by default: one comparison a number.
    List,
    /// SCMP_FLTATR_CTL_OPTIMIZE=2.
    Tree,
}

/// libseccomp.c, compiled into `dir`; the error: why it cannot be.
pub fn libseccomp_tool(dir: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/libseccomp.c");
    let tool = dir.join("libseccomp");
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&tool).arg(&source).arg("-lseccomp");
    let output = cc.output().map_err(|e| format!("cc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => Ok(tool),
        false if !Path::new("/usr/include/seccomp.h").exists() => Err("no libseccomp-dev".into()),
        false => panic!("{text}"),
    }
}

/// The filters of libseccomp: what passes, and if need be what is refused.
pub fn libseccomp(tool: &Path, policy: &Policy, of: Of, shape: Shape) -> Vec<Vec<SockFilter>> {
    let mut parts = vec![grants(policy, of, false)];
    let rules = refusals(policy, false);
    // As numbers alone, the refusals are rules of the same filter.
    match of {
        Of::Numbers => {
            let plain = |rule: &(u32, Verdict, All)| rule.2 == All::default();
            parts[0].rules.extend(rules.into_iter().filter(plain));
        }
        Of::Arguments if rules.is_empty() => {}
        Of::Arguments => parts.push(Part { otherwise: Verdict::Allow, rules }),
    }
    parts.iter().map(|part| exported(tool, &text(part), shape)).collect()
}

fn text(part: &Part) -> String {
    let mut text = format!("default {:#x}\n", part.otherwise.code());
    for (nr, verdict, all) in &part.rules {
        text += &format!("rule {:#x} {nr}", verdict.code());
        for n in (0..6).filter(|n| all.cube.mask[*n] != 0) {
            text += &match (all.cube.mask[n], all.cube.value[n]) {
                (u64::MAX, value) => format!(" {n} eq {value:#x} 0"),
                (mask, value) => format!(" {n} mask {mask:#x} {value:#x}"),
            };
        }
        for (n, width, value) in &all.not {
            assert_eq!(*width, Width::Whole, "libseccomp cannot say that");
            text += &format!(" {n} ne {value:#x} 0");
        }
        text.push('\n');
    }
    text
}

/// What the tool makes of a text in its language, see libseccomp.c.
pub fn exported(tool: &Path, text: &str, shape: Shape) -> Vec<SockFilter> {
    let mut command = Command::new(tool);
    if shape == Shape::Tree {
        command.arg("tree");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It reads all before it writes.
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "libseccomp refuses:\n{text}");
    file::instructions(&output.stdout).unwrap()
}

// -- The kernel ----------------------------------------------------------------------------------------------------

/// What the kernel answers that has installed these filters, the first one first: kernel/seccomp.c,
/// seccomp_run_filters. The strictest action; of equal ones the newest filter's.
pub fn together(filters: &[Program], call: &SeccompData) -> u32 {
    let strictness = |result: u32| (result & 0xffff_0000).cast_signed();
    let newest_first = filters.iter().rev().map(|filter| filter.result(call));
    newest_first
        .reduce(|so_far, next| if strictness(next) < strictness(so_far) { next } else { so_far })
        .unwrap()
}
