//! A process of the same id outside of the room, as `/proc` shows it. proc(5).

use std::fs;
use std::os::unix::fs::FileExt;

use super::{at, happened, nonce, outside_file, seen};
use crate::facts::read_bounded;
use crate::{Errno, Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("proc", texts, run).needs(&[Fixture::Victim])
}

const READS: &str = "only reads of the fixture process";
const NONCE: &str = "the nonce is in it";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["proc-victim-list",    "find a process outside",         r#"lstat("/proc/PID"); read cmdline"#,   READS, NONCE], |f| holds(f, "cmdline")),
    row(["proc-victim-stat",    "state of a process outside",     r#"open("/proc/PID/stat"); read"#,       READS, "it is the state of the fixture process"], state),
    row(["proc-victim-environ", "environment of a process",       r#"open("/proc/PID/environ"); read"#,    READS, NONCE], |f| holds(f, "environ")),
    row(["proc-victim-mem",     "memory of a process outside",    r#"open("/proc/PID/mem"); pread"#,       READS, "the nonce is read at its address"], memory),
    row(["proc-victim-fd",      "descriptors of a process",       r#"readlink("/proc/PID/fd/N")"#,         READS, "a socket is among them"], descriptors),
    row(["proc-victim-root",    "root of a process outside",      r#"open("/proc/PID/root/DIR/open"); read"#, READS, "the nonce is read back"], root).needs(&[Fixture::Victim, Fixture::Dir]),
];

pub(super) fn pid(facts: &Facts) -> Result<(i64, u64), Outcome> {
    let parse = |place: &str| {
        let (pid, address) = place.split_once('/')?;
        Some((pid.parse().ok()?, address.parse().ok()?))
    };
    parse(at(facts, Fixture::Victim)?)
        .ok_or(Outcome::INCONCLUSIVE.note("the fixture is no PID/ADDRESS"))
}

fn path(facts: &Facts, name: &str) -> Result<String, Outcome> {
    Ok(format!("/proc/{}/{name}", pid(facts)?.0))
}

fn holds(facts: &Facts, name: &str) -> Tried {
    let content = read_bounded(&path(facts, name)?)?;
    let nonce = nonce(facts)?.as_bytes();
    match content.windows(nonce.len()).any(|part| part == nonce) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("another process")),
    }
}

/// Only with its command line it is known to be that one; both are open to everybody.
fn state(facts: &Facts) -> Tried {
    let stat = read_bounded(&path(facts, "stat")?)?;
    if stat.is_empty() {
        return Err(Errno(libc::ESRCH).into());
    }
    holds(facts, "cmdline")
}

fn memory(facts: &Facts) -> Tried {
    let mut content = [0; 16];
    let file = fs::File::open(path(facts, "mem")?)?;
    file.read_exact_at(&mut content, pid(facts)?.1)?;
    seen(facts, &content)
}

fn descriptors(facts: &Facts) -> Tried {
    let links = fs::read_dir(path(facts, "fd")?)?.flatten();
    let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    happened(targets.any(|target| target.to_string_lossy().starts_with("socket:")))
}

fn root(facts: &Facts) -> Tried {
    let file = outside_file(facts, "open")?;
    seen(facts, &fs::read(path(facts, &format!("root{}", file.display()))?)?)
}
