//! Signals to, and a look into, processes that are not this one's. kill(2), ptrace(2), process_vm_readv(2),
//! pidfd_getfd(2), kcmp(2).

use std::os::fd::OwnedFd;

use super::victim::pid;
use super::{SELF_GUARD, doubt, happened, nonce, seen};
use crate::facts::{ns_inode, read_text, status_field};
use crate::objects::{ints, longs};
use crate::sys::{self, Arg, call, call_fd, n};
use crate::{Errno, Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("process", texts, run).needs(&[Fixture::Victim])
}

const COUNTS: &str = "the fixture counts the signal and goes on";
const COUNTED: &str = "the fixture has counted it: the harness looks";
const READS: &str = "only reads of the fixture process";
const OWN: &str = "of this process's own child";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["sig-victim",        "signal a process outside",       "kill(PID, SIGUSR1)",                           COUNTS, COUNTED], |f| returned(sys::kill(i32_of(pid(f)?.0), libc::SIGUSR1))).counted(),
    row(["sig-tgkill",        "signal a thread outside",        "tgkill(PID, PID, SIGUSR1)",                    COUNTS, COUNTED], tgkill).counted(),
    row(["sig-queue",         "queue a signal outside",         "rt_sigqueueinfo(PID, SIGUSR1)",                COUNTS, COUNTED], queue).counted(),
    row(["sig-pidfd",         "signal by pidfd",                "pidfd_open(PID); pidfd_send_signal(SIGUSR1)",  COUNTS, COUNTED], by_pidfd).counted(),
    row(["sig-sigio",         "signal by F_SETOWN",             "fcntl(F_SETOWN, PID); fcntl(F_SETSIG, SIGUSR1); O_ASYNC; write", COUNTS, COUNTED], sigio).counted(),
    row(["sig-group",         "signal a group outside",         "kill(-PID, 0)",                                "signal 0", "0 is returned: the group is there and may be signalled"], group),
    row(["sig-init",          "signal PID 1",                   "kill(1, 0)",                                   "signal 0", "0 is returned: it may be signalled"], |_| returned(sys::kill(1, 0))).needs(&[]),
    row(["ptrace-victim",     "ptrace a process outside",       "ptrace(PTRACE_SEIZE, PID)",                    "does not stop it; the end of this process lets go", "TracerPid of the fixture is this process"], seize),
    row(["ptrace-child",      "ptrace a child",                 "fork; ptrace(PTRACE_SEIZE, CHILD)",            OWN, "TracerPid of the child is this process"], seize_child).needs(&[]),
    row(["ptrace-init",       "ptrace PID 1",                   "ptrace(PTRACE_SEIZE, 1)",                      "only in a pid namespace that is known not to be the host's, or without the right to", "the kernel took it"], seize_init).needs(&[]),
    row(["vm-read-victim",    "read a process's memory",        "process_vm_readv(PID, ADDRESS)",               READS, "the nonce is read back"], vm_read),
    row(["vm-write-victim",   "write a process's memory",       "process_vm_writev(PID, ADDRESS)",              "writes the nonce over itself", "16 bytes were taken"], vm_write),
    row(["vm-read-init",      "read the memory of PID 1",       "process_vm_readv(1, 16)",                      "no process has anything at address 16", "EFAULT, which comes after the permission check"], vm_read_init).needs(&[]),
    row(["pidfd-getfd",       "take a descriptor of a process", "pidfd_open(PID); pidfd_getfd(0)",              "closes the copy at once", "a descriptor comes"], get_fd),
    row(["pidfd-getfd-init",  "take a descriptor of PID 1",     "pidfd_open(1); pidfd_getfd(0)",                "closes the copy at once", "a descriptor comes"], |_| steal(1)).needs(&[]),
    row(["kcmp-victim",       "compare with a process",         "kcmp(PID, PID, KCMP_FILES)",                   READS, "the kernel compares"], kcmp),
    row(["kcmp-init",         "compare with PID 1",             "kcmp(1, self, KCMP_FILES)",                    "only compares", "the kernel compares"], |_| compare(1)).needs(&[]),
    row(["setns-victim",      "enter a process's namespaces",   "pidfd_open(PID); setns(CLONE_NEWUTS)",         "of this process only; it sets nothing there", "this process is in the namespace of the host"], setns),
    row(["prlimit-init",      "set limits of PID 1",            "prlimit64(1, RLIMIT_CORE, get; set the same)", "sets what it has", "both calls succeed"], |_| prlimit(1)).needs(&[]),
    row(["sched-init",        "set affinity of PID 1",          "sched_getaffinity(1); sched_setaffinity",      "sets what it has", "both calls succeed"], |_| affinity(1)).needs(&[]),
    row(["nice-init",         "set priority of PID 1",          "setpriority(PRIO_PROCESS, 1, getpriority)",    "sets what it has", "both calls succeed"], |_| priority(1)).needs(&[]),
    row(["ioprio-init",       "set I/O priority of PID 1",      "ioprio_get(1); ioprio_set(1)",                 "sets what it has", "both calls succeed"], |_| io_priority(1)).needs(&[]),
    row(["prlimit-victim",    "set limits of a process",        "prlimit64(PID, RLIMIT_CORE, get; set the same)", "sets what it has", "both calls succeed"], |f| prlimit(pid(f)?.0)),
    row(["sched-victim",      "set affinity of a process",      "sched_getaffinity(PID); sched_setaffinity",    "sets what it has", "both calls succeed"], |f| affinity(pid(f)?.0)),
    row(["nice-victim",       "set priority of a process",      "setpriority(PRIO_PROCESS, PID, getpriority)",  "sets what it has", "both calls succeed"], |f| priority(pid(f)?.0)),
    row(["ioprio-victim",     "set I/O priority of a process",  "ioprio_get(PID); ioprio_set(PID)",             "sets what it has", "both calls succeed"], |f| io_priority(pid(f)?.0)),
    row(["madvise-victim",    "advise a process's memory",      "pidfd_open(PID); process_madvise(MADV_COLD)",  "a hint on one page", "the kernel took it"], advise),
    row(["robust-victim",     "robust list of a process",       "get_robust_list(PID)",                         READS, "an address comes"], robust),
    row(["perf-victim",       "count events of a process",      "perf_event_open(PID)",                         "counts task time, closes at once", "a descriptor comes"], perf),
    row(["move-pages-victim", "pages of a process",             "move_pages(PID, 1, ADDRESS, NULL)",            "asks where the page is", "the kernel answers"], pages),
];

fn i32_of(pid: i64) -> i32 {
    i32::try_from(pid).unwrap_or(0)
}

fn returned(result: Result<impl Sized, Errno>) -> Tried {
    result?;
    Ok(Outcome::ALLOWED)
}

const SIGUSR1: Arg<'static> = Arg::N(libc::SIGUSR1 as i64);

fn tgkill(facts: &Facts) -> Tried {
    let pid = pid(facts)?.0;
    returned(call(libc::SYS_tgkill, &mut [Arg::N(pid), Arg::N(pid), SIGUSR1]))
}

/// struct siginfo, 128 bytes: signal, errno, code SI_QUEUE.
fn queue(facts: &Facts) -> Tried {
    let mut info = ints(&[libc::SIGUSR1, 0, libc::SI_QUEUE]);
    info.resize(128, 0);
    let args = &mut [Arg::N(pid(facts)?.0), SIGUSR1, Arg::In(&info)];
    returned(call(libc::SYS_rt_sigqueueinfo, args))
}

fn open(pid: i64) -> Result<OwnedFd, Errno> {
    call_fd(libc::SYS_pidfd_open, &mut [Arg::N(pid), Arg::N(0)])
}

fn by_pidfd(facts: &Facts) -> Tried {
    let pidfd = open(pid(facts)?.0)?;
    let args = &mut [n(&pidfd), SIGUSR1, Arg::N(0), Arg::N(0)];
    returned(call(libc::SYS_pidfd_send_signal, args))
}

/// The kernel sends it when the pipe can be read; whether it was let through only the fixture knows.
fn sigio(facts: &Facts) -> Tried {
    let (reader, mut writer) = std::io::pipe().map_err(doubt("pipe"))?;
    let set = |command: i32, value: i64| {
        call(libc::SYS_fcntl, &mut [n(&reader), Arg::N(command.into()), Arg::N(value)])
    };
    set(10, libc::SIGUSR1.into()).map_err(doubt("F_SETSIG"))?;
    set(libc::F_SETOWN, pid(facts)?.0)?;
    set(libc::F_SETFL, libc::O_ASYNC.into()).map_err(doubt("F_SETFL"))?;
    std::io::Write::write_all(&mut writer, b"x").map_err(doubt("write"))?;
    Ok(Outcome::ALLOWED)
}

fn group(facts: &Facts) -> Tried {
    let pid = pid(facts)?.0;
    // Its own group, if the harness made it one; else the group of the harness: signal 0 harms nobody.
    let group = call(libc::SYS_getpgid, &mut [Arg::N(pid)])?;
    returned(call(libc::SYS_kill, &mut [Arg::N(-group), Arg::N(0)]))
}

/// PTRACE_SEIZE, linux/ptrace.h.
const SEIZE: Arg<'static> = Arg::N(0x4206);

fn attach(pid: i64) -> Result<(), Errno> {
    call(libc::SYS_ptrace, &mut [SEIZE, Arg::N(pid), Arg::N(0), Arg::N(0)]).map(drop)
}

fn traced_by_us(pid: i64) -> Option<bool> {
    let status = read_text(&format!("/proc/{pid}/status")).ok()?;
    Some(status_field(&status, "TracerPid")? == std::process::id().to_string())
}

fn seize(facts: &Facts) -> Tried {
    let pid = pid(facts)?.0;
    attach(pid)?;
    happened(traced_by_us(pid) != Some(false))
}

fn seize_child(_: &Facts) -> Tried {
    let (reader, writer) = std::io::pipe().map_err(doubt("pipe"))?;
    // It reads until the end of the pipe, which comes when it was looked at.
    let child = sys::fork(|| {
        let _own_copy = call(libc::SYS_close, &mut [n(&writer)]);
        i32::from(call(libc::SYS_read, &mut [n(&reader), Arg::Out(&mut [0]), Arg::N(1)]).is_err())
    });
    let child = child.map_err(doubt("fork"))?;
    let attached = attach(child.into()).map(|()| traced_by_us(child.into()) != Some(false));
    drop(writer);
    sys::wait(child).map_err(doubt("wait"))?;
    happened(attached?)
}

/// Whoever may not trace it is asked anywhere; else the pid namespace must be known not to be the host's.
fn seize_init(facts: &Facts) -> Tried {
    let own = ns_inode("pid");
    let private = matches!((facts.pidns, own), (Some(host), Some(own)) if host != own);
    let status = read_text("/proc/self/status").unwrap_or_default();
    let powerless = status_field(&status, "CapEff")
        .is_some_and(|set| set.bytes().all(|b| b == b'0'))
        && status_field(&status, "Uid").is_some_and(|ids| !ids.starts_with("0\t"));
    if !private && !powerless {
        return Ok(Outcome::SKIP.note(SELF_GUARD));
    }
    returned(attach(1))
}

fn vm_read(facts: &Facts) -> Tried {
    let ((pid, address), mut content) = (pid(facts)?, [0; 16]);
    sys::remote(pid, address, &mut content, false)?;
    seen(facts, &content)
}

fn vm_write(facts: &Facts) -> Tried {
    let ((pid, address), mut content) = (pid(facts)?, crate::objects::word(nonce(facts)?));
    happened(sys::remote(pid, address, &mut content, true)? == 16)
}

fn vm_read_init(_: &Facts) -> Tried {
    let result = sys::remote(1, 16, &mut [0; 16], false);
    super::sentinel(result.map(|_| 0), &[libc::EFAULT])
}

fn get_fd(facts: &Facts) -> Tried {
    steal(pid(facts)?.0)
}

fn steal(pid: i64) -> Tried {
    let pidfd = open(pid)?;
    let stolen = call_fd(libc::SYS_pidfd_getfd, &mut [n(&pidfd), Arg::N(0), Arg::N(0)])?;
    happened(call(libc::SYS_fcntl, &mut [n(&stolen), Arg::N(libc::F_GETFD.into())]).is_ok())
}

fn kcmp(facts: &Facts) -> Tried {
    compare(pid(facts)?.0)
}

fn compare(pid: i64) -> Tried {
    let own = Arg::N(std::process::id().into());
    let args = &mut [Arg::N(pid), own, Arg::N(2), Arg::N(0), Arg::N(0)];
    returned(call(libc::SYS_kcmp, args))
}

fn setns(facts: &Facts) -> Tried {
    let pidfd = open(pid(facts)?.0)?;
    let uts = Arg::N(libc::CLONE_NEWUTS.into());
    call(libc::SYS_setns, &mut [n(&pidfd), uts])?;
    happened(facts.utsns.is_some() && ns_inode("uts") == facts.utsns)
}

fn prlimit(pid: i64) -> Tried {
    let mut limit = [0; 16];
    let core = || Arg::N(4); // RLIMIT_CORE, the same on all architectures
    let args = &mut [Arg::N(pid), core(), Arg::N(0), Arg::Out(&mut limit)];
    call(libc::SYS_prlimit64, args)?;
    returned(call(libc::SYS_prlimit64, &mut [Arg::N(pid), core(), Arg::In(&limit), Arg::N(0)]))
}

fn affinity(pid: i64) -> Tried {
    let mut mask = [0; 1024];
    let args = &mut [Arg::N(pid), Arg::N(1024), Arg::Out(&mut mask)];
    let len = call(libc::SYS_sched_getaffinity, args)?;
    returned(call(libc::SYS_sched_setaffinity, &mut [Arg::N(pid), Arg::N(len), Arg::In(&mask)]))
}

/// The raw call answers 20 less the nice value.
fn priority(pid: i64) -> Tried {
    let raw = call(libc::SYS_getpriority, &mut [Arg::N(0), Arg::N(pid)])?;
    returned(call(libc::SYS_setpriority, &mut [Arg::N(0), Arg::N(pid), Arg::N(20 - raw)]))
}

fn io_priority(pid: i64) -> Tried {
    let now = call(libc::SYS_ioprio_get, &mut [Arg::N(1), Arg::N(pid)])?;
    returned(call(libc::SYS_ioprio_set, &mut [Arg::N(1), Arg::N(pid), Arg::N(now)]))
}

/// struct iovec of the page of the nonce; MADV_COLD, 20.
fn advise(facts: &Facts) -> Tried {
    let (pid, address) = pid(facts)?;
    let page = i64::try_from(address & !4095).unwrap_or(0);
    let pidfd = open(pid)?;
    let pages = longs(&[page, 4096]);
    let args = &mut [n(&pidfd), Arg::In(&pages), Arg::N(1), Arg::N(20), Arg::N(0)];
    returned(call(libc::SYS_process_madvise, args))
}

fn robust(facts: &Facts) -> Tried {
    let (mut head, mut len) = ([0; 8], [0; 8]);
    let args = &mut [Arg::N(pid(facts)?.0), Arg::Out(&mut head), Arg::Out(&mut len)];
    returned(call(libc::SYS_get_robust_list, args))
}

fn perf(facts: &Facts) -> Tried {
    returned(super::kernel::perf_event(pid(facts)?.0, true))
}

fn pages(facts: &Facts) -> Tried {
    let (pid, address) = pid(facts)?;
    let page = longs(&[i64::try_from(address & !4095).unwrap_or(0)]);
    let mut status = [0; 4];
    let args =
        &mut [Arg::N(pid), Arg::N(1), Arg::In(&page), Arg::N(0), Arg::Out(&mut status), Arg::N(0)];
    returned(call(libc::SYS_move_pages, args))
}
