//! The policy of `default` by other hands, for x86_64, so that it can be compared with on any host.
//!
//! What a peer cannot say in one filter it says in several: tests/src/peers.rs. The files in peers/ are what it made,
//! raw, one a program; `cargo run -p agent-tests --example peers` makes them again after a change of the table, and
//! tests/tests/bench.rs sees that they are of this table.

use agent_init::error::{Errno, Step};

use super::filter::Subject;
use crate::error::Failure;
use crate::policy::file;
use crate::policy::insn::Program;

/// Somebody else's filter, or filters that are installed one after the other.
#[derive(Debug)]
pub struct Peer {
    /// As [`Subject::name`].
    pub name: &'static str,
    /// What made it.
    pub by: &'static str,
    /// The files `NAME-1.bpf`, `NAME-2.bpf` …
    pub programs: &'static [&'static [u8]],
}

macro_rules! peers {
    ($($name:literal, $by:expr, [$($file:literal)*];)*) => {
        &[$(Peer { name: $name, by: $by, programs: &[$(include_bytes!(concat!("peers/", $file)),)*] },)*]
    };
}

/// In the order in which they are shown.
#[rustfmt::skip] // a row a line
pub const PEERS: &[Peer] = peers! {
    "libseccomp",         "libseccomp 2.5.4, as it is by default", ["libseccomp-1.bpf" "libseccomp-2.bpf"];
    "libseccomp-tree",    "libseccomp 2.5.4, its binary tree",     ["libseccomp-tree-1.bpf" "libseccomp-tree-2.bpf"];
    "libseccomp-nr",      "libseccomp 2.5.4, by numbers alone",    ["libseccomp-nr-1.bpf"];
    "libseccomp-tree-nr", "libseccomp 2.5.4, tree, numbers alone", ["libseccomp-tree-nr-1.bpf"];
    "seccompiler",        "seccompiler 0.5.0",                     ["seccompiler-1.bpf" "seccompiler-2.bpf" "seccompiler-3.bpf" "seccompiler-4.bpf" "seccompiler-5.bpf"];
    "containers",         "libseccomp 2.5.4, Docker's profile as containers-common 0.50.1 has it", ["containers-1.bpf"];
};

/// All of them.
pub fn subjects() -> Result<Vec<Subject>, Failure> {
    PEERS.iter().map(subject).collect()
}

fn subject(peer: &Peer) -> Result<Subject, Failure> {
    let programs = peer.programs.iter().map(|bytes| {
        file::instructions(bytes)
            .and_then(|insns| Program::check(&insns))
            .map_err(|_| Failure::new(Step::POLICY, "check", peer.name, Errno::ENOEXEC))
    });
    Ok(Subject {
        name: peer.name.into(),
        by: Some(peer.by),
        programs: programs.collect::<Result<_, _>>()?,
    })
}
