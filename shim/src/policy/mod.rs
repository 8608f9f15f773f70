//! `agent-shim policy`: the filters as a table and as programs, and the judgement of any other program.
//!
//! [`mod@file`] reads a program, [`insn`] takes it apart and asks what the kernel asks, [`walk`] follows every path of
//! it with all the calls that take it ([`set`], [`symbol`]), [`run`] follows one call. On these stand the
//! [`dump`], the [`judge`], the comparison ([`diff`]) and [`trace`]. Nothing here uses what the assembler knows.

pub mod verdict;

pub mod insn;
pub mod run;
pub mod set;
pub mod symbol;
pub mod walk;

pub mod words;

pub mod dump;

pub mod choice;
pub mod cube;
pub mod judge;
pub mod widths;

pub mod diff;
pub mod file;
pub mod format;
pub mod oci;
pub mod show;
pub mod table;
pub mod trace;

use agent_init::bpf::{self, AGENT_PROGRAM, INIT_PROGRAM, SockFilter};
use agent_init::nr::{Arch, HOST};
use agent_init::policy::{AGENT_POLICY, INIT_POLICY, Policy};

use choice::Choice;

impl Filter {
    /// A filter of the table by its words, for an architecture: `default +ptrace`, `strict`, or `init`. It lasts as
    /// long as the process, of which it is the only purpose.
    pub fn of(choice: &Choice, arch: &'static Arch) -> &'static Filter {
        let name: &'static str = choice.to_string().leak();
        let policy = Policy { rows: choice.rows().leak(), unknown: AGENT_POLICY.unknown };
        let program = choice.program(arch).leak();
        let filter =
            Filter { name, about: "the agent's filter", policy: leaked(policy), arch, program };
        leaked(filter)
    }

    /// PID 1's own.
    pub fn of_init(arch: &'static Arch) -> &'static Filter {
        let program = bpf::assemble(&INIT_POLICY, arch).as_slice().to_vec().leak();
        let about = "PID 1's own filter";
        leaked(Filter { name: "init", about, policy: &INIT_POLICY, arch, program })
    }
}

fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// One of our filters.
#[derive(Clone, Copy)]
pub struct Filter {
    /// As `diff` and `dump` take it.
    pub name: &'static str,
    /// Whose it is.
    pub about: &'static str,
    /// Its table.
    pub policy: &'static Policy<'static>,
    /// Whose numbers the program asks for.
    pub arch: &'static Arch,
    /// What agent-init installs.
    pub program: &'static [SockFilter],
}

/// All of them; the first is the agent's.
#[rustfmt::skip] // a row a line
pub const FILTERS: &[Filter] = &[
    Filter { name: "default", about: "the agent's filter", policy: &AGENT_POLICY, arch: HOST, program: &AGENT_PROGRAM },
    Filter { name: "init",    about: "PID 1's own filter", policy: &INIT_POLICY,  arch: HOST, program: &INIT_PROGRAM },
];
