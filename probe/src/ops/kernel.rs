//! Calls that ordinary programs do not need and whose code has had many holes. syscalls(2).

use std::os::fd::OwnedFd;

use super::{doubt, happened, sentinel};
use crate::objects::{ints, longs};
use crate::sys::{self, Arg, End, Mapping, call, call_fd, n};
use crate::{Errno, Facts, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("kernel", texts, run)
}

const CLOSES: &str = "closes what it made at once";
const OWN: &str = "of this process only";
const FD: &str = "a descriptor comes";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["k-io-uring",       "io_uring",                     "io_uring_setup(2)",                     CLOSES, FD], |_| made(io_uring())),
    row(["k-aio",            "asynchronous I/O",             "io_setup(1)",                           "io_destroy at once", "a context comes"], aio),
    row(["k-bpf-map",        "make a BPF map",               "bpf(BPF_MAP_CREATE, array of one)",     CLOSES, FD], |_| made(bpf(0, &[2, 4, 4, 1]))),
    row(["k-bpf-next",       "look for BPF programs",        "bpf(BPF_PROG_GET_NEXT_ID, 0)",          "only asks", "an id comes, or ENOENT, which comes after the check of CAP_SYS_ADMIN"], |_| sentinel_or_ok(bpf_call(11, &[0, 0, 0, 0]), &[libc::ENOENT])),
    row(["k-perf",           "count own events",             "perf_event_open(task clock, exclude_kernel)", CLOSES, FD], |_| made(perf_event(0, true))),
    row(["k-perf-kernel",    "count events of the kernel",   "perf_event_open(task clock)",           CLOSES, FD], |_| made(perf_event(0, false))),
    row(["k-perf-cpu",       "count events of a processor",  "perf_event_open(task clock, pid -1, cpu 0)", CLOSES, FD], |_| made(perf_event(-1, false))),
    row(["k-userfaultfd",    "userfaultfd",                  "userfaultfd(O_CLOEXEC)",                CLOSES, FD], |_| made(call_fd(libc::SYS_userfaultfd, &mut [Arg::N(libc::O_CLOEXEC.into())]))),
    row(["k-userfaultfd-u",  "userfaultfd, user mode only",  "userfaultfd(UFFD_USER_MODE_ONLY)",      CLOSES, FD], |_| made(call_fd(libc::SYS_userfaultfd, &mut [Arg::N(1 | i64::from(libc::O_CLOEXEC))]))),
    row(["k-fanotify",       "fanotify",                     "fanotify_init(FAN_REPORT_FID)",         CLOSES, FD], |_| made(call_fd(libc::SYS_fanotify_init, &mut [Arg::N(0x201), Arg::N(0)]))),
    row(["k-memfd-secret",   "memory out of the kernel map", "memfd_secret(0)",                       CLOSES, FD], |_| made(call_fd(447, &mut [Arg::N(libc::O_CLOEXEC.into())]))),
    row(["k-init-module",    "load a module",                r#"init_module(NULL, 0, "")"#,           "there is no module", "ENOEXEC or EFAULT, which come after the check of CAP_SYS_MODULE"], |_| sentinel(call(libc::SYS_init_module, &mut [Arg::N(0), Arg::N(0), Arg::Text(c"")]), &[libc::ENOEXEC, libc::EFAULT])),
    row(["k-finit-module",   "load a module by descriptor",  r#"finit_module(-1, "", 0)"#,            "there is no file", "EBADF, which comes after the check of CAP_SYS_MODULE"], |_| sentinel(call(libc::SYS_finit_module, &mut [Arg::N(-1), Arg::Text(c""), Arg::N(0)]), &[libc::EBADF])),
    row(["k-delete-module",  "unload a module",              r#"delete_module("agent_probe_none")"#,  "there is no such module", "ENOENT, which comes after the check of CAP_SYS_MODULE"], |_| sentinel(call(libc::SYS_delete_module, &mut [Arg::Text(c"agent_probe_none"), Arg::N(libc::O_NONBLOCK.into())]), &[libc::ENOENT])),
    row(["k-kexec",          "load another kernel",          "kexec_load(0, 0, NULL, bad flags)",     "flags that do not exist", "EINVAL, which comes after the check of CAP_SYS_BOOT"], |_| sentinel(call(libc::SYS_kexec_load, &mut [Arg::N(0), Arg::N(0), Arg::N(0), Arg::N(0xff00)]), &[libc::EINVAL])),
    row(["k-kexec-file",     "load another kernel by file",  "kexec_file_load(-1, -1, bad flags)",    "flags that do not exist", "EINVAL, which comes after the check of CAP_SYS_BOOT"], |_| sentinel(call(libc::SYS_kexec_file_load, &mut [Arg::N(-1), Arg::N(-1), Arg::N(0), Arg::N(0), Arg::N(0xff00)]), &[libc::EINVAL])),
    row(["k-iopl",           "ports of the machine",         "iopl(3)",                               "touches no port", "the kernel granted it"], |_| numbers(libc::SYS_iopl, &[3])),
    row(["k-ioperm",         "one port of the machine",      "ioperm(0x80, 1, 1)",                    "touches no port", "the kernel granted it"], |_| numbers(libc::SYS_ioperm, &[0x80, 1, 1])),
    row(["k-modify-ldt",     "segments of old programs",     "modify_ldt(read)",                      "only reads", "the kernel answers"], ldt),
    row(["k-personality",    "turn address layout off",      "personality(ADDR_NO_RANDOMIZE)",        OWN, "personality(query) gives it back"], personality),
    row(["k-prctl-mm",       "rewrite the own memory map",   "prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE)",  "only asks", "a size comes"], memory_map),
    row(["k-vmsplice",       "gift pages to a pipe",         "vmsplice(PIPE, 1 byte)",                "an own pipe", "the byte is read from the pipe"], vmsplice),
    row(["k-cachestat",      "page cache of a file",         r#"open("/proc/self/exe"); cachestat"#,   "only reads", "the kernel answers"], cachestat),
    row(["k-mincore",        "residency of a file's pages",  r#"mmap("/proc/self/exe"); mincore"#,     "only reads", "the kernel answers"], mincore).open("of what it has mapped itself: allocators ask"),
    row(["k-mbind",          "memory policy",                "set_mempolicy(MPOL_DEFAULT)",           "sets the default", "the kernel took it"], |_| numbers(libc::SYS_set_mempolicy, &[0, 0, 0])),
    row(["k-migrate",        "move a process's pages",       "migrate_pages(0, 64, {0}, {0})",         "from a node to itself", "the kernel answers"], migrate),
    row(["k-quotactl",       "disk quotas",                  "quotactl_fd(/tmp, Q_GETQUOTA of another id)", "only reads", "ENOSYS or ESRCH of a disk without quotas, past the check: ENOTBLK, ENODEV"], quota),
    row(["k-lsm-attr",       "label of a security module",   "lsm_set_self_attr(current, NULL)",      "no attribute is given", "EFAULT or EINVAL or EOPNOTSUPP: the kernel looked at it"], |_| sentinel(call(460, &mut [Arg::N(100), Arg::N(0), Arg::N(0), Arg::N(0)]), &[libc::EFAULT, libc::EINVAL, libc::EOPNOTSUPP])),
    row(["k-x32",            "call by the x32 number",       "syscall(0x40000000 | getpid)",          "asks for the own pid, in a child", "the own pid comes"], x32),
    row(["k-int80",          "call by the 32-bit entry",     "int 0x80, eax 20: getpid",              "asks for the own pid, in a child", "the own pid comes"], int80),
    row(["k-high-number",    "number with high bits set",    "syscall(1 << 32 | io_uring_setup)",     CLOSES, FD], |_| made(io_uring_high())),
    row(["k-name-handle",    "open a file of its own by handle", r#"name_to_handle_at("/tmp"); open_by_handle_at"#, CLOSES, FD], own_handle),
];

fn made(result: Result<OwnedFd, Errno>) -> Tried {
    drop(result?);
    Ok(Outcome::ALLOWED)
}

fn numbers(number: i64, args: &[i64]) -> Tried {
    let mut args: Vec<Arg<'_>> = args.iter().map(|arg| Arg::N(*arg)).collect();
    call(number, &mut args)?;
    Ok(Outcome::ALLOWED)
}

fn sentinel_or_ok(result: Result<i64, Errno>, passed: &[i32]) -> Tried {
    if result.is_ok() { Ok(Outcome::ALLOWED) } else { sentinel(result, passed) }
}

/// struct io_uring_params, 120 bytes.
fn io_uring() -> Result<OwnedFd, Errno> {
    call_fd(libc::SYS_io_uring_setup, &mut [Arg::N(2), Arg::Out(&mut [0; 120])])
}

fn io_uring_high() -> Result<OwnedFd, Errno> {
    call_fd(1 << 32 | libc::SYS_io_uring_setup, &mut [Arg::N(2), Arg::Out(&mut [0; 120])])
}

fn aio(_: &Facts) -> Tried {
    let mut context = [0; 8];
    call(libc::SYS_io_setup, &mut [Arg::N(1), Arg::Out(&mut context)])?;
    let context = i64::from_ne_bytes(context);
    call(libc::SYS_io_destroy, &mut [Arg::N(context)]).map_err(doubt("io_destroy"))?;
    happened(context != 0)
}

fn bpf_call(command: i64, attr: &[i32]) -> Result<i64, Errno> {
    let mut attr = ints(attr);
    let len = i64::try_from(attr.len()).unwrap_or(0);
    call(libc::SYS_bpf, &mut [Arg::N(command), Arg::Out(&mut attr), Arg::N(len)])
}

fn bpf(command: i64, attr: &[i32]) -> Result<OwnedFd, Errno> {
    let mut attr = ints(attr);
    let len = i64::try_from(attr.len()).unwrap_or(0);
    call_fd(libc::SYS_bpf, &mut [Arg::N(command), Arg::Out(&mut attr), Arg::N(len)])
}

/// struct perf_event_attr, version 0: type PERF_TYPE_SOFTWARE 1, size 64, config PERF_COUNT_SW_TASK_CLOCK 1; flags
/// disabled, exclude_kernel, exclude_hv. One process on all processors, or all processes (-1) on processor 0.
pub(super) fn perf_event(pid: i64, only_user: bool) -> Result<OwnedFd, Errno> {
    let flags = if only_user { 1 | 1 << 5 | 1 << 6 } else { 1 };
    let mut attr = ints(&[1, 64]);
    attr.extend(longs(&[1, 0, 0, 0, flags, 0, 0]));
    let cpu = if pid == -1 { 0 } else { -1 };
    let cloexec = Arg::N(8);
    let args = &mut [Arg::In(&attr), Arg::N(pid), Arg::N(cpu), Arg::N(-1), cloexec];
    call_fd(libc::SYS_perf_event_open, args)
}

fn ldt(_: &Facts) -> Tried {
    let mut entries = [0; 64];
    call(libc::SYS_modify_ldt, &mut [Arg::N(0), Arg::Out(&mut entries), Arg::N(64)])?;
    Ok(Outcome::ALLOWED)
}

fn personality(_: &Facts) -> Tried {
    let set = i64::from(libc::ADDR_NO_RANDOMIZE);
    call(libc::SYS_personality, &mut [Arg::N(set)])?;
    let now = call(libc::SYS_personality, &mut [Arg::N(0xffff_ffff)]).map_err(doubt("query"))?;
    happened(now & set != 0)
}

/// PR_SET_MM 35, PR_SET_MM_MAP_SIZE 15: of the struct that PR_SET_MM_MAP takes.
fn memory_map(_: &Facts) -> Tried {
    let mut size = [0; 4];
    let args = &mut [Arg::N(35), Arg::N(15), Arg::Out(&mut size), Arg::N(0), Arg::N(0)];
    call(libc::SYS_prctl, args)?;
    happened(size != [0; 4])
}

fn vmsplice(_: &Facts) -> Tried {
    let (mut reader, writer) = std::io::pipe().map_err(doubt("pipe"))?;
    let mut page =
        Mapping::new(4096, libc::PROT_READ | libc::PROT_WRITE, None).map_err(doubt("mmap"))?;
    page.write(b"v");
    let part = longs(&[i64::try_from(page.address()).unwrap_or(0), 1]);
    call(libc::SYS_vmsplice, &mut [n(&writer), Arg::In(&part), Arg::N(1), Arg::N(0)])?;
    let mut byte = [0];
    std::io::Read::read_exact(&mut reader, &mut byte).map_err(doubt("read"))?;
    happened(byte == *b"v")
}

/// struct cachestat_range: offset, length; struct cachestat: five numbers. 451.
fn cachestat(_: &Facts) -> Tried {
    let file = std::fs::File::open("/proc/self/exe").map_err(doubt("open"))?;
    let (range, mut found) = (longs(&[0, 0]), [0; 40]);
    let args = &mut [n(&file), Arg::In(&range), Arg::Out(&mut found), Arg::N(0)];
    call(451, args)?;
    Ok(Outcome::ALLOWED)
}

fn mincore(_: &Facts) -> Tried {
    let file = std::fs::File::open("/proc/self/exe").map_err(doubt("open"))?;
    let fd = std::os::fd::AsFd::as_fd(&file);
    let pages = Mapping::new(4096, libc::PROT_READ, Some(fd)).map_err(doubt("mmap"))?;
    let at = i64::try_from(pages.address()).unwrap_or(0);
    call(libc::SYS_mincore, &mut [Arg::N(at), Arg::N(4096), Arg::Out(&mut [0])])?;
    Ok(Outcome::ALLOWED)
}

fn migrate(_: &Facts) -> Tried {
    let first = longs(&[1, 0]);
    let args = &mut [Arg::N(0), Arg::N(64), Arg::In(&first), Arg::In(&first)];
    call(libc::SYS_migrate_pages, args)?;
    Ok(Outcome::ALLOWED)
}

/// Q_GETQUOTA 0x800007 of user quotas, `cmd << 8`; 443. Who may not look gets EPERM before the disk is asked.
/// Its own everyone may.
fn quota(_: &Facts) -> Tried {
    let dir = std::fs::File::open("/tmp").map_err(doubt("open"))?;
    let command = Arg::N(0x8000_0700);
    let own = call(libc::SYS_geteuid, &mut []).map_err(doubt("geteuid"))?;
    let other = Arg::N(i64::from(own == 0));
    let args = &mut [n(&dir), command, other, Arg::Out(&mut [0; 128])];
    sentinel_or_ok(call(443, args), &[libc::ESRCH, libc::ENOTBLK, libc::ENODEV])
}

/// In a child, as the filter ends whoever tries.
fn foreign(pid_by: fn() -> i32) -> Tried {
    let ended = sys::in_child(|| {
        let answer = pid_by();
        let pid = std::process::id().cast_signed();
        if answer == pid {
            0
        } else if answer == -libc::ENOSYS {
            1
        } else {
            2
        }
    });
    match ended.map_err(doubt("fork"))? {
        End::Exited(0) => Ok(Outcome::ALLOWED),
        End::Exited(1) => Err(Errno(libc::ENOSYS).into()),
        End::Exited(_) => Ok(Outcome::BLOCKED.note("refused")),
        End::Signaled(libc::SIGSYS) => Ok(Outcome::BLOCKED.note("ended by SIGSYS")),
        End::Signaled(libc::SIGSEGV) => Ok(Outcome::BLOCKED.note("no such entry: SIGSEGV")),
        End::Signaled(_) => Ok(Outcome::INCONCLUSIVE.note("ended by another signal")),
    }
}

fn x32(_: &Facts) -> Tried {
    foreign(|| match call(0x4000_0000 | libc::SYS_getpid, &mut []) {
        Ok(pid) => i32::try_from(pid).unwrap_or(0),
        Err(Errno(errno)) => -errno,
    })
}

#[cfg(target_arch = "x86_64")]
fn int80(_: &Facts) -> Tried {
    foreign(sys::getpid_by_int80)
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: &Facts) -> Tried {
    Ok(Outcome::SKIP.note("not of this architecture"))
}

fn own_handle(_: &Facts) -> Tried {
    let (mut handle, mut mount) = ([0; 136], [0; 4]);
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let cwd = Arg::N(libc::AT_FDCWD.into());
    let (to, id) = (Arg::Out(&mut handle), Arg::Out(&mut mount));
    call(libc::SYS_name_to_handle_at, &mut [cwd, Arg::Text(c"/tmp"), to, id, Arg::N(0)])?;
    let on = std::fs::File::open("/tmp").map_err(doubt("open"))?;
    let flags = Arg::N((libc::O_DIRECTORY | libc::O_CLOEXEC).into());
    made(call_fd(libc::SYS_open_by_handle_at, &mut [n(&on), Arg::In(&handle), flags]))
}
