//! Tracing and killing. ptrace(2), kill(2), pid_namespaces(7).

use std::fs;
use std::thread;
use std::time::Duration;

use super::SELF_GUARD;
use crate::facts::{ns_inode, read_text, status_field};
use crate::{Errno, Facts, Kind, Op, Outcome, sys};

pub(super) const OPS: &[Op] = &[
    Op {
        id: "ptrace-traceme",
        title: "ptrace TRACEME",
        group: "process",
        call: "ptrace(PTRACE_TRACEME)",
        safe: "concerns this process alone; every signal is blocked first, so it cannot stop before it exits",
        judged: "TracerPid of /proc/self/status is no longer 0; where it cannot be seen, the return value",
        run: |facts| Ok(traceme(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
    Op {
        id: "sig-kill-all",
        title: "kill(-1, SIGKILL)",
        group: "process",
        call: "kill(-1, SIGKILL)",
        safe: "only in a pid namespace whose inode is not the host's, which the harness hands in",
        judged: "a process that /proc showed before is gone; where it showed none, the return value",
        run: |facts| Ok(kill_all(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
];

fn traceme(_: &Facts) -> Outcome {
    if tracer().is_some_and(|pid| pid != 0) {
        return Outcome::INCONCLUSIVE.note("traced already");
    }
    // A tracee stops at any signal that is not blocked, even an ignored SIGPIPE, and nobody would wake it.
    if let Err(errno) = sys::block_signals() {
        return Outcome::INCONCLUSIVE.errno(errno).note("signals not blocked, not tried");
    }
    match sys::ptrace_traceme() {
        Ok(()) => judge_tracer(tracer()),
        Err(errno) => Outcome::BLOCKED.errno(errno),
    }
}

/// A tracer outside of the pid namespace of this proc mount shows as 0, just as none does.
fn judge_tracer(tracer: Option<i32>) -> Outcome {
    match tracer {
        Some(0) => Outcome::ALLOWED.note("tracer not visible, judged by the return value"),
        Some(_) => Outcome::ALLOWED,
        None => Outcome::ALLOWED.note("TracerPid not readable, judged by the return value"),
    }
}

/// This process's tracer, 0 for none; `None` without a readable `/proc`.
fn tracer() -> Option<i32> {
    status_field(&read_text("/proc/self/status").ok()?, "TracerPid")?.parse().ok()
}

fn kill_all(facts: &Facts) -> Outcome {
    if !is_private(facts.pidns, ns_inode("pid")) {
        return Outcome::SKIP.note(SELF_GUARD);
    }
    let others = others();
    match sys::kill_all() {
        Ok(()) => judge_victims(&others.unwrap_or_default()),
        Err(errno) => judge_refusal(errno, others.as_deref()),
    }
}

/// The guard: both inodes are known, and they differ. Whatever is not known may be the host's.
fn is_private(host: Option<u64>, own: Option<u64>) -> bool {
    matches!((host, own), (Some(host), Some(own)) if host != own)
}

fn judge_refusal(errno: Errno, others: Option<&[i32]>) -> Outcome {
    let outcome = Outcome::BLOCKED.errno(errno);
    let alone = others.is_some_and(<[i32]>::is_empty);
    if errno == Errno(libc::ESRCH) && alone { outcome.note("no other procs") } else { outcome }
}

/// How long a killed process may take to show it: 50 looks, 4 ms apart.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(4);

/// kill(-1) returned 0, which it does as well when every single signal was refused.
fn judge_victims(others: &[i32]) -> Outcome {
    if others.is_empty() {
        return Outcome::ALLOWED.note("no victim visible, judged by the return value");
    }
    for _ in 0..LOOKS {
        if others.iter().any(|pid| is_dying(*pid)) {
            return Outcome::ALLOWED;
        }
        thread::sleep(PAUSE);
    }
    Outcome::BLOCKED.note("returned 0, all still alive")
}

/// The processes that `/proc` shows, without pid 1, this one and zombies; `None` without a readable `/proc`.
fn others() -> Option<Vec<i32>> {
    let own: i32 = fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()?;
    let names = fs::read_dir("/proc").ok()?.map_while(Result::ok).map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    Some(pids.filter(|pid| *pid != 1 && *pid != own && !is_dying(*pid)).collect())
}

/// Gone, a zombie, or with SIGKILL pending.
fn is_dying(pid: i32) -> bool {
    read_text(&format!("/proc/{pid}/status")).map_or(true, |status| shows_death(&status))
}

fn shows_death(status: &str) -> bool {
    let state = status_field(status, "State").unwrap_or_default();
    let sigkill = |key| {
        let pending = status_field(status, key).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        pending.is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
    };
    state.starts_with(['Z', 'X']) || sigkill("SigPnd") || sigkill("ShdPnd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    /// kill(-1) itself is never tried here: a test does not trust the guard that it tests.
    #[test]
    fn the_guard_holds_unless_both_inodes_are_known_and_differ() {
        assert!(is_private(Some(1), Some(2)));
        for (host, own) in [(Some(1), Some(1)), (None, Some(2)), (Some(1), None), (None, None)] {
            assert!(!is_private(host, own), "{host:?} {own:?}");
        }
    }

    #[test]
    fn only_esrch_with_nobody_there_has_a_note() {
        let esrch = Outcome::BLOCKED.errno(Errno(libc::ESRCH));
        assert_eq!(
            judge_refusal(Errno(libc::ESRCH), Some(&[])),
            esrch.clone().note("no other procs")
        );
        assert_eq!(judge_refusal(Errno(libc::ESRCH), Some(&[7])), esrch);
        assert_eq!(judge_refusal(Errno(libc::ESRCH), None), esrch);
        assert_eq!(
            judge_refusal(Errno(libc::EPERM), Some(&[])),
            Outcome::BLOCKED.errno(Errno(libc::EPERM))
        );
    }

    #[test]
    fn a_return_value_alone_is_no_kill() {
        let own = std::process::id().cast_signed();
        assert_eq!(judge_victims(&[own]), Outcome::BLOCKED.note("returned 0, all still alive"));
        assert_eq!(judge_victims(&[own, i32::MAX]), Outcome::ALLOWED);
        assert_eq!(judge_victims(&[]).verdict, Verdict::Allowed);
    }

    #[test]
    fn death_shows_in_the_state_or_the_pending_set() {
        assert!(shows_death("State:\tZ (zombie)\n"));
        assert!(shows_death("State:\tS (sleeping)\nSigPnd:\t0000000000000100\n"));
        assert!(shows_death("State:\tR (running)\nSigPnd:\t0\nShdPnd:\t0000000000000100\n"));
        assert!(!shows_death("State:\tS (sleeping)\nSigPnd:\t0000000000000200\nShdPnd:\t0\n"));
    }

    #[test]
    fn pid_1_and_oneself_are_no_others() {
        let others = others().unwrap();
        assert!(!others.contains(&1) && !others.contains(&std::process::id().cast_signed()));
    }

    #[test]
    fn a_tracer_is_seen_or_the_note_says_so() {
        assert_eq!(judge_tracer(Some(7)), Outcome::ALLOWED);
        assert!(judge_tracer(Some(0)).note.unwrap().contains("not visible"));
        assert!(judge_tracer(None).note.unwrap().contains("not readable"));
    }
}
