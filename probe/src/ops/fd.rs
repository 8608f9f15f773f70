//! What a room may not be handed: descriptors and variables of the harness. No layer stops these: the
//! harness does, and the control has them handed in.

use std::fs;

use super::{at, number, outside_file, seen};
use crate::sys::{Arg, call};
use crate::{Errno, Facts, Fixture, Kind, Op, Outcome, Tried, digest};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("fd", texts, run).of(Kind::Hygiene)
}

const READS: &str = "only reads";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["fd-inherited", "a descriptor of the harness",     "pread64(FD)",                                READS, "the nonce is read back"], inherited).needs(&[Fixture::Dir, Fixture::Fd]),
    row(["fd-reopen",    "reopen a descriptor",             r#"open("/proc/self/fd/FD"); read"#,           READS, "the nonce is read back"], reopen).needs(&[Fixture::Dir, Fixture::Fd]),
    row(["fd-scan",      "descriptors past 2",              "fcntl(3 … 1023, F_GETFD)",                   READS, "one is open"], scan).needs(&[Fixture::Fd]),
    row(["fd-cwd",       "leave by the start directory",    r#"open("../../…/DIR/open"); read"#,           READS, "the nonce is read back"], from_start).of(Kind::Attack).needs(&[Fixture::Dir]),
    row(["env-inherited", "a variable of the harness",      "getenv(NAME)",                               READS, "its value has the digest of the fixture"], variable).needs(&[Fixture::Env]),
];

fn inherited(facts: &Facts) -> Tried {
    let fd = Arg::N(number(facts, Fixture::Fd)?);
    let mut word = [0; 16];
    call(libc::SYS_pread64, &mut [fd, Arg::Out(&mut word), Arg::N(16), Arg::N(0)])?;
    seen(facts, &word)
}

fn reopen(facts: &Facts) -> Tried {
    seen(facts, &fs::read(format!("/proc/self/fd/{}", number(facts, Fixture::Fd)?))?)
}

fn scan(_: &Facts) -> Tried {
    let is_open =
        |fd: &i64| call(libc::SYS_fcntl, &mut [Arg::N(*fd), Arg::N(libc::F_GETFD.into())]).is_ok();
    match (3..1024).find(is_open) {
        Some(fd) => Ok(Outcome::ALLOWED.note(format!("{fd}"))),
        None => Err(Errno(libc::EBADF).into()),
    }
}

/// Where it was started may lie outside of its root: CVE-2024-21626.
fn from_start(facts: &Facts) -> Tried {
    let file = outside_file(facts, "open")?;
    seen(facts, &fs::read(format!(".{}{}", "/..".repeat(64), file.display()))?)
}

fn variable(facts: &Facts) -> Tried {
    let place = at(facts, Fixture::Env)?;
    let (name, value) = place.split_once(':').unwrap_or((place, ""));
    match std::env::var_os(name) {
        None => Ok(Outcome::BLOCKED.note("not set")),
        Some(found) if digest(found.as_encoded_bytes()) == value => Ok(Outcome::ALLOWED),
        Some(_) => Ok(Outcome::CONTAINED.note("another value")),
    }
}
