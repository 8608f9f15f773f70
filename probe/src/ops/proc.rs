//! What `/proc` shows of the host. proc_pid_status(5), pid_namespaces(7).

use super::{NOT_COMPARED, NOT_PRESENT};
use crate::facts::{Pid2, proc_works, read_text};
use crate::{Errno, Facts, Op, Outcome, pid_identity};

pub(super) const OPS: &[Op] = &[Op {
    id: "proc-read-pid2",
    title: "read /proc/2/status",
    group: "proc",
    call: r#"open("/proc/2/status", O_RDONLY|O_CLOEXEC); read"#,
    safe: "only reads",
    judged: "name, parent and pid are those of the host's pid 2; a pid 2 of the room's own is BLOCKED",
    run: read_pid2,
}];

fn read_pid2(facts: &Facts) -> Outcome {
    if facts.pid2 == Some(Pid2::Absent) {
        return Outcome::SKIP.note("the host has no pid 2");
    }
    match read_text("/proc/2/status") {
        Ok(status) => judge_status(&status, facts.pid2.as_ref()),
        Err(e) => refused(Errno::from(e), proc_works()),
    }
}

fn judge_status(status: &str, host: Option<&Pid2>) -> Outcome {
    match (host, pid_identity(status)) {
        (Some(Pid2::Is(host)), Some(identity)) if *host == identity => Outcome::ALLOWED,
        (_, None) => Outcome::INCONCLUSIVE.note("not the status of a process"),
        (Some(_), Some(_)) => Outcome::BLOCKED.note("own pid 2"),
        (None, Some(_)) => Outcome::INCONCLUSIVE.note(NOT_COMPARED),
    }
}

/// No pid 2 in a proc that works is the plain answer of a pid namespace; only a missing proc is worth a note.
fn refused(errno: Errno, proc_works: bool) -> Outcome {
    let outcome = Outcome::BLOCKED.errno(errno);
    if errno == Errno(libc::ENOENT) && !proc_works { outcome.note(NOT_PRESENT) } else { outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KTHREADD: &str = "Name:\tkthreadd\nPPid:\t0\nNSpid:\t2\n";

    #[test]
    fn only_the_hosts_own_pid_2_counts() {
        let host = Pid2::Is("kthreadd/0/2".into());
        assert_eq!(judge_status(KTHREADD, Some(&host)), Outcome::ALLOWED);
        let own = "Name:\tsh\nPPid:\t1\nNSpid:\t2\n";
        assert_eq!(judge_status(own, Some(&host)), Outcome::BLOCKED.note("own pid 2"));
        assert_eq!(judge_status(KTHREADD, None), Outcome::INCONCLUSIVE.note(NOT_COMPARED));
        assert_eq!(judge_status("", Some(&host)).verdict, crate::Verdict::Inconclusive);
    }

    #[test]
    fn a_host_without_pid_2_cannot_be_asked() {
        let facts = Facts { pid2: Some(Pid2::Absent), ..Facts::default() };
        assert_eq!(read_pid2(&facts), Outcome::SKIP.note("the host has no pid 2"));
    }

    #[test]
    fn a_missing_process_is_not_a_missing_proc() {
        let missing = Outcome::BLOCKED.errno(Errno(libc::ENOENT));
        assert_eq!(refused(Errno(libc::ENOENT), true), missing);
        assert_eq!(refused(Errno(libc::ENOENT), false), missing.note(NOT_PRESENT));
        assert_eq!(
            refused(Errno(libc::EACCES), false),
            Outcome::BLOCKED.errno(Errno(libc::EACCES))
        );
    }
}
