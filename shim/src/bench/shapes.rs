//! A policy by numbers alone, in the shapes that filters are often written in: what the tree of `agent_init::bpf` is
//! compared with. Rules for arguments are left out: a call that passes with some arguments passes.

use agent_init::bpf::{IF_AT_LEAST, IF_EQUAL, LOAD, RETURN, SockFilter};
use agent_init::nr;
use agent_init::policy::{Policy, Verdict};

/// Range after range from the highest: `number >= first` and its return.
pub fn ranges(policy: &Policy) -> Vec<SockFilter> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=nr::CALLS.last().map_or(0, |(_, last)| last + 1) {
        let name = nr::CALLS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name);
        let verdict = name.map_or(policy.unknown, |name| by_number(policy, name));
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
    }
    let mut program = head(policy);
    for (first, verdict) in ranges.into_iter().rev() {
        program.extend([branch(IF_AT_LEAST, first), ret(verdict)]);
    }
    program.push(ret(policy.unknown)); // nothing is below 0
    program
}

/// Allowed number after allowed number, with a return of each; the rest is unknown.
pub fn list(policy: &Policy) -> Vec<SockFilter> {
    let mut program = head(policy);
    for &(name, number) in nr::CALLS {
        if by_number(policy, name) == Verdict::Allow {
            program.extend([branch(IF_EQUAL, number), ret(Verdict::Allow)]);
        }
    }
    program.push(ret(policy.unknown));
    program
}

fn by_number(policy: &Policy, name: &str) -> Verdict {
    let rule = policy.rule(name);
    let passes = rule.clauses.iter().any(|clause| clause.1 == Verdict::Allow);
    if passes { Verdict::Allow } else { rule.otherwise }
}

/// Foreign architectures and x32 are killed, -1 is unknown.
fn head(policy: &Policy) -> Vec<SockFilter> {
    let mut head = vec![load(4), SockFilter { jt: 1, jf: 0, ..branch(IF_EQUAL, nr::AUDIT_ARCH) }];
    head.extend([ret(Verdict::Kill), load(0)]);
    if let Some(bit) = nr::HOST.x32_bit {
        head.push(SockFilter { jf: 3, ..branch(IF_AT_LEAST, bit) });
        head.extend([branch(IF_EQUAL, u32::MAX), ret(policy.unknown), ret(Verdict::Kill)]);
    }
    head
}

const fn load(offset: u32) -> SockFilter {
    SockFilter { code: LOAD, jt: 0, jf: 0, k: offset }
}

/// Goes on if it holds, else skips one.
const fn branch(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 1, k }
}

const fn ret(verdict: Verdict) -> SockFilter {
    SockFilter { code: RETURN, jt: 0, jf: 0, k: verdict.code() }
}
