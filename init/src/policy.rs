//! The tables: what the filter of the agent, and that of PID 1, answer to every system call, and why.
//!
//! A row decides by number, a rule also by arguments. Nothing looks behind a pointer: what lies there can change after
//! the check. seccomp(2), syscalls(2).
//!
//! Width: a filter sees the 64 bits of each register. Of a parameter that is an `int`, `unsigned int`, `pid_t` or
//! `umode_t` in the kernel's `SYSCALL_DEFINE` the kernel drops the high half, whatever is in it; a rule that looked at
//! that half could be passed by setting a bit of it (CVE-2019-10063). So `Low`, `Masked`, `AnyBit` and `Between` look
//! at the low half alone. Of a pointer, a `size_t` or a `long` the kernel takes both halves, and a rule that left one
//! out would take 2^32 for 0: `Whole…`. A `long` whose high bits mean nothing to the kernel (clone's flags, mmap's
//! prot) is `Low` again. `agent-shim`'s widths.rs has the widths, a test holds them and our rules against
//! linux/syscalls.h.
//!
//! Sign: there is none. A negative `int` is the 32 bits of its complement, -1 is 0xffffffff, and above all positive
//! ones in a `Between`; whether the caller's register has ones or zeros above them makes no difference to `Low`. A
//! range that means signed numbers has to be written as two.

use Test::{AnyBit, Between, Low, Masked, Whole, WholeBetween, WholeMasked};

use crate::nr;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Runs it.
    Allow,
    /// Does not run it; the caller gets this errno, 1 to 4095.
    Errno(u16),
    /// Ends the whole process by SIGSYS.
    Kill,
}

/// A question about one argument, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The low 32 bits are one of these.
    Low(usize, &'static [u32]),
    /// The low 32 bits, and-ed with a mask, are one of these.
    Masked(usize, u32, &'static [u32]),
    /// The low 32 bits have at least one bit of these.
    AnyBit(usize, u32),
    /// The low 32 bits lie between two values, both included, unsigned.
    Between(usize, u32, u32),
    /// All 64 bits are this: pointers, and lengths.
    Whole(usize, u64),
    /// All 64 bits, and-ed with a mask, are this.
    WholeMasked(usize, u64, u64),
    /// All 64 bits lie between two values, both included, unsigned.
    WholeBetween(usize, u64, u64),
}

/// If every test holds, the verdict. No test: always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When(pub &'static [Test], pub Verdict);

/// Clauses in the order they are asked; the first that holds decides, `otherwise` if none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// From the left; most calls have none.
    pub clauses: &'static [When],
    /// The default.
    pub otherwise: Verdict,
}

/// One system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// As in [`nr::Arch::calls`]; where an architecture has no call of this name, its program has no such row.
    pub name: &'static str,
    /// One of [`crate::groups::GROUPS`].
    pub group: &'static str,
    /// The decision.
    pub rule: Rule,
    /// Its reason.
    pub why: &'static str,
}

/// A table, and the answer to a number that is not in it: never assigned, newer than the table, or -1. Not part of
/// a table, as no policy may differ in it: a foreign architecture and an x32 number are killed.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// In the reader's order; a name occurs once.
    pub rows: &'a [Row],
    /// For the other numbers.
    pub unknown: Verdict,
}

/// The agent's filter. Unknown is ENOSYS: libraries take it for an older kernel and fall back.
pub const AGENT_POLICY: Policy<'static> = Policy { rows: AGENT, unknown: ENOSYS };
/// PID 1's own filter, once the agent runs. Unknown kills PID 1, and with it the room: that is fail closed.
pub const INIT_POLICY: Policy<'static> = Policy { rows: INIT, unknown: Verdict::Kill };

// The words of the tables. Values from the kernel's headers, equal on x86_64, aarch64 and riscv64.

pub(crate) const ALLOW: Verdict = Verdict::Allow;
pub(crate) const EPERM: Verdict = Verdict::Errno(1);
pub(crate) const EINVAL: Verdict = Verdict::Errno(22);
pub(crate) const ENOSYS: Verdict = Verdict::Errno(38);
const EPROTONOSUPPORT: Verdict = Verdict::Errno(93);
const EAFNOSUPPORT: Verdict = Verdict::Errno(97);

pub(crate) const SELF: u32 = 0; // as a pid: the caller
pub(crate) const PID_1: u32 = 1; // agent-init, which has the agent's uid
const NULL: u64 = 0;

// asm-generic/ioctls.h
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const TIOCCONS: u32 = 0x541d;
const TIOCSETD: u32 = 0x5423;
const TIOCVHANGUP: u32 = 0x5437;

// linux/fs.h
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FS_IOC_SETVERSION: u32 = 0x4008_7602;
const EXT4_IOC_SETVERSION: u32 = 0x4008_6604; // fs/ext4/ext4.h
// linux/fsverity.h, linux/fscrypt.h
const FS_IOC_ENABLE_VERITY: u32 = 0x4080_6685;
const FS_IOC_SET_ENCRYPTION_POLICY: u32 = 0x800c_6613;

// linux/fcntl.h
const F_SETLEASE: u32 = 1024;
const F_NOTIFY: u32 = 1026;

// linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME, 0x80, is part of the exit signal.
const CLONE_NEW: u32 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// S_ISUID, S_ISGID. In a directory of the host, what has them would outlive the room, where nosuid does not reach.
const SET_ID: u32 = 0o4000 | 0o2000;
/// The bit that S_IFCHR and S_IFBLK have, and nothing else that mknod makes. linux/stat.h
const DEVICE: u32 = 0x2000;

// asm-generic/fcntl.h: a file may be made, else the mode is not looked at. O_CREAT, and O_TMPFILE without O_DIRECTORY,
// which is another bit on aarch64.
const MAKES: u32 = 0o100 | 0o20_000_000;

// linux/socket.h, linux/net.h, linux/in.h, linux/netlink.h
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_TYPE_MASK: u32 = 0xf; // the rest is SOCK_CLOEXEC, SOCK_NONBLOCK
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const IPPROTO_ICMP: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_ICMPV6: u32 = 58;
const NETLINK_ROUTE: u32 = 0;

/// The type is asked where another one loads a protocol's module: SCTP, DCCP. 0 is none, an error of the kernel's.
const SOCKET: &[When] = &[
    When(&[Low(0, &[AF_UNIX])], ALLOW),
    When(
        &[
            Low(0, &[AF_INET, AF_INET6]),
            Masked(1, SOCK_TYPE_MASK, &[0, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW]),
            Low(2, &[0, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6]),
        ],
        ALLOW,
    ),
    When(&[Low(0, &[AF_INET, AF_INET6])], EPROTONOSUPPORT),
    When(&[Low(0, &[AF_NETLINK]), Low(2, &[NETLINK_ROUTE])], ALLOW),
    When(&[Low(0, &[AF_NETLINK])], EPROTONOSUPPORT),
];

// asm-generic/socket.h: FILTER, BPF, REUSEPORT_CBPF, REUSEPORT_EBPF
const SOL_SOCKET: u32 = 1;
const SO_ATTACH: &[u32] = &[26, 50, 51, 52];

// linux/personality.h, linux/resource.h, linux/ioprio.h
const PER_LINUX: u32 = 0;
const PER_QUERY: u32 = 0xffff_ffff;
const PRIO_USER: u32 = 2;
const IOPRIO_WHO_USER: u32 = 3;

// linux/prctl.h: they act on the caller alone, and give it no right. Between them lies what no kernel of ours
// has, which is EINVAL to it: 0, 17, 18, 48, 49, floating point, endianness, MPX, DEXCR.
#[rustfmt::skip]
const PRCTL: &[u32] = &[
    0, 1, 2, 3, 4, 5, 6,    // PDEATHSIG, DUMPABLE, UNALIGN (own faults)
    7, 8, 9, 10, 11, 12,    // KEEPCAPS, FPEMU, FPEXC
    13, 14, 15, 16, 17, 18, // TIMING: statistical only; NAME
    19, 20, 21, 22, 23, 24, // ENDIAN, SECCOMP, CAPBSET
    25, 26, 27, 28, 29, 30, // TSC, SECUREBITS, TIMERSLACK
    36, 37, 38, 39, 40,     // CHILD_SUBREAPER, NO_NEW_PRIVS, GET_TID_ADDRESS
    41, 42, 43, 44, 45, 46, // THP_DISABLE, MPX, FP_MODE
    47, 48, 49, 50, 51,     // CAP_AMBIENT, SVE_VL
    52, 53,                 // SPECULATION_CTRL
    65, 66, 68,             // MDWE, GET_MEMORY_MERGE: to set it opens the memory to a side channel (KSM)
    69, 70, 71, 72, 73,     // RISCV_V_CONTROL, RISCV_ICACHE_FLUSH_CTX, DEXCR
    74, 75, 76,             // SHADOW_STACK_STATUS, its LOCK
    0x5356_4d41,            // SET_VMA, "SVMA": names a mapping
];

/// A call that is decided by its number.
const fn row(name: &'static str, group: &'static str, verdict: Verdict, why: &'static str) -> Row {
    rule(name, group, &[], verdict, why)
}

/// A call that is decided by its arguments too.
const fn rule(
    name: &'static str,
    group: &'static str,
    clauses: &'static [When],
    otherwise: Verdict,
    why: &'static str,
) -> Row {
    Row { name, group, rule: Rule { clauses, otherwise }, why }
}

/// The agent's table. Number by number it is tests/golden/policy-x86_64.tsv.
#[rustfmt::skip]
pub const AGENT: &[Row] = &[
    row("read",                     "file-io",     ALLOW,  "read and write open files"),
    row("write",                    "file-io",     ALLOW,  "read and write open files"),
    row("lseek",                    "file-io",     ALLOW,  "read and write open files"),
    row("pread64",                  "file-io",     ALLOW,  "read and write open files"),
    row("pwrite64",                 "file-io",     ALLOW,  "read and write open files"),
    row("readv",                    "file-io",     ALLOW,  "read and write open files"),
    row("writev",                   "file-io",     ALLOW,  "read and write open files"),
    row("sendfile",                 "file-io",     ALLOW,  "read and write open files"),
    row("splice",                   "file-io",     ALLOW,  "read and write open files"),
    row("tee",                      "file-io",     ALLOW,  "read and write open files"),
    row("preadv",                   "file-io",     ALLOW,  "read and write open files"),
    row("pwritev",                  "file-io",     ALLOW,  "read and write open files"),
    row("copy_file_range",          "file-io",     ALLOW,  "read and write open files"),
    row("preadv2",                  "file-io",     ALLOW,  "read and write open files"),
    row("pwritev2",                 "file-io",     ALLOW,  "read and write open files"),

    rule("open",                    "file-open",   &[
        When(&[AnyBit(2, SET_ID), AnyBit(1, MAKES)], EPERM),
    ], ALLOW, "paths are decided elsewhere; never a set-uid or set-gid file, which a writable directory of the host would keep"),
    row("close",                    "file-open",   ALLOW,  "paths are decided by the mount namespace and Landlock, not here"),
    rule("creat",                   "file-open",   &[
        When(&[AnyBit(1, SET_ID)], EPERM),
    ], ALLOW, "as open"),
    rule("openat",                  "file-open",   &[
        When(&[AnyBit(3, SET_ID), AnyBit(2, MAKES)], EPERM),
    ], ALLOW, "as open"),
    row("close_range",              "file-open",   ALLOW,  "paths are decided by the mount namespace and Landlock, not here"),
    row("openat2",                  "file-open",   ENOSYS, "flags and mode are behind a pointer; callers fall back to openat"),

    row("stat",                     "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("fstat",                    "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("lstat",                    "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("access",                   "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("getdents",                 "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("readlink",                 "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("statfs",                   "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("fstatfs",                  "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("getdents64",               "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("newfstatat",               "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("readlinkat",               "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("faccessat",                "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("statx",                    "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),
    row("faccessat2",               "file-stat",   ALLOW,  "metadata reads; the mount namespace decides what exists"),

    row("getcwd",                   "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("chdir",                    "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("fchdir",                   "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("rename",                   "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("mkdir",                    "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("rmdir",                    "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("link",                     "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("unlink",                   "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("symlink",                  "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("mkdirat",                  "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("unlinkat",                 "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("renameat",                 "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("linkat",                   "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("symlinkat",                "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),
    row("renameat2",                "file-tree",   ALLOW,  "change names; mounts, Landlock and DAC decide"),

    row("truncate",                 "file-attr",   ALLOW,  "own files; DAC decides"),
    row("ftruncate",                "file-attr",   ALLOW,  "own files; DAC decides"),
    rule("chmod",                   "file-attr",   &[
        When(&[AnyBit(1, SET_ID)], EPERM),
    ], ALLOW, "own files; DAC decides; never set-uid or set-gid, as open: a directory cannot get it either (g+s, git init --shared)"),
    rule("fchmod",                  "file-attr",   &[
        When(&[AnyBit(1, SET_ID)], EPERM),
    ], ALLOW, "as chmod"),
    row("chown",                    "file-attr",   ALLOW,  "own files; DAC decides"),
    row("fchown",                   "file-attr",   ALLOW,  "own files; DAC decides"),
    row("lchown",                   "file-attr",   ALLOW,  "own files; DAC decides"),
    row("umask",                    "file-attr",   ALLOW,  "own files; DAC decides"),
    row("utime",                    "file-attr",   ALLOW,  "own files; DAC decides"),
    row("setxattr",                 "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("lsetxattr",                "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("fsetxattr",                "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("getxattr",                 "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("lgetxattr",                "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("fgetxattr",                "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("listxattr",                "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("llistxattr",               "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("flistxattr",               "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("removexattr",              "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("lremovexattr",             "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("fremovexattr",             "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("utimes",                   "file-attr",   ALLOW,  "own files; DAC decides"),
    row("fchownat",                 "file-attr",   ALLOW,  "own files; DAC decides"),
    row("futimesat",                "file-attr",   ALLOW,  "own files; DAC decides"),
    rule("fchmodat",                "file-attr",   &[
        When(&[AnyBit(2, SET_ID)], EPERM),
    ], ALLOW, "as chmod"),
    row("utimensat",                "file-attr",   ALLOW,  "own files; DAC decides"),
    rule("fchmodat2",               "file-attr",   &[
        When(&[AnyBit(2, SET_ID)], EPERM),
    ], ALLOW, "as chmod"),
    row("setxattrat",               "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("getxattrat",               "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("listxattrat",              "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("removexattrat",            "file-attr",   ALLOW,  "user.* attributes; trusted.* and security.* need capabilities"),
    row("file_getattr",             "file-attr",   ENOSYS, "new in 6.17, nothing needs them yet; callers fall back to ioctl"),
    row("file_setattr",             "file-attr",   ENOSYS, "new in 6.17, nothing needs them yet; callers fall back to ioctl"),

    rule("mknod",                   "file-node",   &[
        When(&[AnyBit(1, SET_ID | DEVICE)], EPERM),
    ], ALLOW, "FIFO, socket and regular nodes for mkfifo(1); device nodes have no use in a room; set-uid or set-gid as open"),
    rule("mknodat",                 "file-node",   &[
        When(&[AnyBit(2, SET_ID | DEVICE)], EPERM),
    ], ALLOW, "as mknod"),

    row("name_to_handle_at",        "file-handle", EPERM,  "a handle is of no use, as opening one is refused; it tells inode numbers behind a path"),
    row("open_by_handle_at",        "file-handle", EPERM,  "opens by inode, past path rules (the shocker escape)"),

    row("msync",                    "file-sync",   ALLOW,  "durability of own files"),
    row("fsync",                    "file-sync",   ALLOW,  "durability of own files"),
    row("fdatasync",                "file-sync",   ALLOW,  "durability of own files"),
    row("sync",                     "file-sync",   EPERM,  "flushes every file system of the host; sync(2) has no error return, so callers go on"),
    row("readahead",                "file-sync",   ALLOW,  "durability of own files"),
    row("fadvise64",                "file-sync",   ALLOW,  "durability of own files"),
    row("sync_file_range",          "file-sync",   ALLOW,  "durability of own files"),
    row("fallocate",                "file-sync",   ALLOW,  "durability of own files"),
    row("syncfs",                   "file-sync",   ALLOW,  "durability of own files"),

    row("poll",                     "fd",          ALLOW,  "own descriptors"),
    row("pipe",                     "fd",          ALLOW,  "own descriptors"),
    row("select",                   "fd",          ALLOW,  "own descriptors"),
    row("dup",                      "fd",          ALLOW,  "own descriptors"),
    row("dup2",                     "fd",          ALLOW,  "own descriptors"),
    rule("fcntl",                   "fd",          &[
        When(&[Low(1, &[F_SETLEASE, F_NOTIFY])], EPERM),
    ], ALLOW, "own descriptors; no lease, which holds up who opens the file outside, and no old notification"),
    row("flock",                    "fd",          ALLOW,  "own descriptors"),
    row("pselect6",                 "fd",          ALLOW,  "own descriptors"),
    row("ppoll",                    "fd",          ALLOW,  "own descriptors"),
    row("dup3",                     "fd",          ALLOW,  "own descriptors"),
    row("pipe2",                    "fd",          ALLOW,  "own descriptors"),

    row("epoll_create",             "event",       ALLOW,  "event loops"),
    row("epoll_wait",               "event",       ALLOW,  "event loops"),
    row("epoll_ctl",                "event",       ALLOW,  "event loops"),
    row("epoll_pwait",              "event",       ALLOW,  "event loops"),
    row("signalfd",                 "event",       ALLOW,  "event loops"),
    row("timerfd_create",           "event",       ALLOW,  "event loops"),
    row("eventfd",                  "event",       ALLOW,  "event loops"),
    row("timerfd_settime",          "event",       ALLOW,  "event loops"),
    row("timerfd_gettime",          "event",       ALLOW,  "event loops"),
    row("signalfd4",                "event",       ALLOW,  "event loops"),
    row("eventfd2",                 "event",       ALLOW,  "event loops"),
    row("epoll_create1",            "event",       ALLOW,  "event loops"),
    row("epoll_pwait2",             "event",       ALLOW,  "event loops"),

    row("inotify_init",             "notify",      ALLOW,  "file watching"),
    row("inotify_add_watch",        "notify",      ALLOW,  "file watching"),
    row("inotify_rm_watch",         "notify",      ALLOW,  "file watching"),
    row("inotify_init1",            "notify",      ALLOW,  "file watching"),
    row("fanotify_init",            "notify",      EPERM,  "fanotify: wide surface, inotify is enough"),
    row("fanotify_mark",            "notify",      EPERM,  "fanotify: wide surface, inotify is enough"),

    row("mmap",                     "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("mprotect",                 "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("munmap",                   "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("brk",                      "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("mremap",                   "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("mincore",                  "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("madvise",                  "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("mlock",                    "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("munlock",                  "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("mlockall",                 "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("munlockall",               "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("remap_file_pages",         "memory",      ENOSYS, "emulated since 4.0, no user left"),
    row("vmsplice",                 "memory",      EPERM,  "gifts pages to pipes; splice and tee stay"),
    row("memfd_create",             "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("userfaultfd",              "memory",      EPERM,  "page-fault control: the classic primitive that makes kernel races reliable"),
    row("mlock2",                   "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("pkey_mprotect",            "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("pkey_alloc",               "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("pkey_free",                "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("process_madvise",          "memory",      EPERM,  "other tasks through a pidfd; allocators fall back to madvise"),
    row("riscv_flush_icache",       "memory",      ALLOW,  "code that was just written is seen by all threads; riscv64 only"),
    row("memfd_secret",             "memory",      EPERM,  "takes pages out of the kernel map; no user in a room"),
    row("process_mrelease",         "memory",      EPERM,  "other tasks through a pidfd; allocators fall back to madvise"),
    row("cachestat",                "memory",      EPERM,  "page-cache residency is a side channel"),
    row("map_shadow_stack",         "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),
    row("mseal",                    "memory",      ALLOW,  "own address space, bounded by cgroup and rlimits"),

    row("sched_yield",              "thread",      ALLOW,  "threads and locks"),
    row("arch_prctl",               "thread",      ALLOW,  "threads and locks"),
    row("gettid",                   "thread",      ALLOW,  "threads and locks"),
    row("futex",                    "thread",      ALLOW,  "threads and locks"),
    row("set_tid_address",          "thread",      ALLOW,  "threads and locks"),
    row("set_robust_list",          "thread",      ALLOW,  "threads and locks"),
    row("get_robust_list",          "thread",      EPERM,  "pointer into another task; checkpoint tools only"),
    row("getcpu",                   "thread",      ALLOW,  "threads and locks"),
    row("membarrier",               "thread",      ALLOW,  "threads and locks"),
    row("rseq",                     "thread",      ALLOW,  "threads and locks"),
    row("futex_waitv",              "thread",      ALLOW,  "threads and locks"),
    row("futex_wake",               "thread",      ALLOW,  "threads and locks"),
    row("futex_wait",               "thread",      ALLOW,  "threads and locks"),
    row("futex_requeue",            "thread",      ALLOW,  "threads and locks"),

    row("getpid",                   "process",     ALLOW,  "processes"),
    rule("clone",                   "process",     &[
        When(&[AnyBit(0, CLONE_NEW)], EPERM),
    ], ALLOW, "threads and processes, never a namespace; the flags are in the low word"),
    row("fork",                     "process",     ALLOW,  "processes"),
    row("vfork",                    "process",     ALLOW,  "processes"),
    row("execve",                   "process",     ALLOW,  "processes"),
    row("exit",                     "process",     ALLOW,  "processes"),
    row("wait4",                    "process",     ALLOW,  "processes"),
    row("setpgid",                  "process",     ALLOW,  "processes"),
    row("getppid",                  "process",     ALLOW,  "processes"),
    row("getpgrp",                  "process",     ALLOW,  "processes"),
    row("setsid",                   "process",     ALLOW,  "processes"),
    row("getpgid",                  "process",     ALLOW,  "processes"),
    row("getsid",                   "process",     ALLOW,  "processes"),
    row("exit_group",               "process",     ALLOW,  "processes"),
    row("waitid",                   "process",     ALLOW,  "processes"),
    row("execveat",                 "process",     ALLOW,  "processes"),
    row("pidfd_send_signal",        "process",     ALLOW,  "pidfd of processes that are visible anyway; asyncio and Go use them"),
    row("pidfd_open",               "process",     ALLOW,  "pidfd of processes that are visible anyway; asyncio and Go use them"),
    row("clone3",                   "process",     ENOSYS, "flags are behind a pointer; glibc, musl, Go and Rust fall back to clone"),

    row("rt_sigaction",             "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_sigprocmask",           "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_sigreturn",             "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("pause",                    "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("kill",                     "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_sigpending",            "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_sigtimedwait",          "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_sigqueueinfo",          "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_sigsuspend",            "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("sigaltstack",              "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("tkill",                    "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("restart_syscall",          "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("tgkill",                   "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),
    row("rt_tgsigqueueinfo",        "signal",      ALLOW,  "signals; reach is bounded by the pid namespace and by the Landlock signal scope"),

    row("nanosleep",                "time",        ALLOW,  "clocks and timers"),
    row("getitimer",                "time",        ALLOW,  "clocks and timers"),
    row("alarm",                    "time",        ALLOW,  "clocks and timers"),
    row("setitimer",                "time",        ALLOW,  "clocks and timers"),
    row("gettimeofday",             "time",        ALLOW,  "clocks and timers"),
    row("adjtimex",                 "time",        EPERM,  "modes are behind a pointer; ntp daemons only"),
    row("settimeofday",             "time",        EPERM,  "the clock belongs to the host"),
    row("time",                     "time",        ALLOW,  "clocks and timers"),
    row("timer_create",             "time",        ALLOW,  "clocks and timers"),
    row("timer_settime",            "time",        ALLOW,  "clocks and timers"),
    row("timer_gettime",            "time",        ALLOW,  "clocks and timers"),
    row("timer_getoverrun",         "time",        ALLOW,  "clocks and timers"),
    row("timer_delete",             "time",        ALLOW,  "clocks and timers"),
    row("clock_settime",            "time",        EPERM,  "the clock belongs to the host"),
    row("clock_gettime",            "time",        ALLOW,  "clocks and timers"),
    row("clock_getres",             "time",        ALLOW,  "clocks and timers"),
    row("clock_nanosleep",          "time",        ALLOW,  "clocks and timers"),
    row("clock_adjtime",            "time",        EPERM,  "modes are behind a pointer; ntp daemons only"),

    row("getpriority",              "sched",       ALLOW,  "read"),
    rule("setpriority",             "sched",       &[
        When(&[Low(1, &[PID_1])], EPERM),
        When(&[Low(0, &[PRIO_USER])], EPERM),
    ], ALLOW, "as sched_set*; PRIO_USER would reach PID 1 too"),
    rule("sched_setparam",          "sched",       &[
        When(&[Low(0, &[PID_1])], EPERM),
    ], ALLOW, "own threads; never PID 1, which has the same uid"),
    row("sched_getparam",           "sched",       ALLOW,  "read"),
    rule("sched_setscheduler",      "sched",       &[
        When(&[Low(0, &[PID_1])], EPERM),
    ], ALLOW, "own threads; never PID 1, which has the same uid"),
    row("sched_getscheduler",       "sched",       ALLOW,  "read"),
    row("sched_get_priority_max",   "sched",       ALLOW,  "read"),
    row("sched_get_priority_min",   "sched",       ALLOW,  "read"),
    row("sched_rr_get_interval",    "sched",       ALLOW,  "read"),
    rule("sched_setaffinity",       "sched",       &[
        When(&[Low(0, &[PID_1])], EPERM),
    ], ALLOW, "own threads; never PID 1, which has the same uid"),
    row("sched_getaffinity",        "sched",       ALLOW,  "read"),
    rule("ioprio_set",              "sched",       &[
        When(&[Low(1, &[PID_1])], EPERM),
        When(&[Low(0, &[IOPRIO_WHO_USER])], EPERM),
    ], ALLOW, "as sched_set*; IOPRIO_WHO_USER would reach PID 1 too"),
    row("ioprio_get",               "sched",       ALLOW,  "read"),
    rule("sched_setattr",           "sched",       &[
        When(&[Low(0, &[PID_1])], EPERM),
    ], ALLOW, "own threads; never PID 1, which has the same uid"),
    row("sched_getattr",            "sched",       ALLOW,  "read"),

    row("getrlimit",                "limits",      ALLOW,  "own limits"),
    row("getrusage",                "limits",      ALLOW,  "own limits"),
    row("riscv_hwprobe",            "limits",      ALLOW,  "which extensions the processor has; riscv64 only"),
    row("sysinfo",                  "limits",      ALLOW,  "own limits"),
    row("times",                    "limits",      ALLOW,  "own limits"),
    row("setrlimit",                "limits",      ALLOW,  "own limits"),
    rule("prlimit64",               "limits",      &[
        When(&[Low(0, &[SELF])], ALLOW),
        When(&[Whole(2, NULL)], ALLOW),
    ], EPERM, "own process or read-only; setting a limit of PID 1 kills it (RLIMIT_CPU)"),

    row("uname",                    "identity",    ALLOW,  "host name of the uts namespace"),
    row("getuid",                   "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("getgid",                   "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setuid",                   "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setgid",                   "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("geteuid",                  "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("getegid",                  "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setreuid",                 "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setregid",                 "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("getgroups",                "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setgroups",                "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setresuid",                "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("getresuid",                "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setresgid",                "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("getresgid",                "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setfsuid",                 "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("setfsgid",                 "identity",    ALLOW,  "ids are mapped, capabilities are empty: only no-ops succeed"),
    row("capget",                   "identity",    ALLOW,  "sets can only shrink once permitted and bounding are empty"),
    row("capset",                   "identity",    ALLOW,  "sets can only shrink once permitted and bounding are empty"),

    row("shmget",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("shmat",                    "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("shmctl",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("semget",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("semop",                    "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("semctl",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("shmdt",                    "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("msgget",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("msgsnd",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("msgrcv",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("msgctl",                   "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("semtimedop",               "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("mq_open",                  "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("mq_unlink",                "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("mq_timedsend",             "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("mq_timedreceive",          "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("mq_notify",                "ipc",         ALLOW,  "bounded by the ipc namespace"),
    row("mq_getsetattr",            "ipc",         ALLOW,  "bounded by the ipc namespace"),

    rule("socket",                  "net",         SOCKET, EAFNOSUPPORT,
         "unix; inet and inet6 with ICMP, TCP, UDP only; netlink only NETLINK_ROUTE (getifaddrs). Raw IP reaches the kernel and is refused by capabilities"),
    row("connect",                  "net",         ALLOW,  "on sockets that socket allowed"),
    row("accept",                   "net",         ALLOW,  "on sockets that socket allowed"),
    row("sendto",                   "net",         ALLOW,  "on sockets that socket allowed"),
    row("recvfrom",                 "net",         ALLOW,  "on sockets that socket allowed"),
    row("sendmsg",                  "net",         ALLOW,  "on sockets that socket allowed"),
    row("recvmsg",                  "net",         ALLOW,  "on sockets that socket allowed"),
    row("shutdown",                 "net",         ALLOW,  "on sockets that socket allowed"),
    row("bind",                     "net",         ALLOW,  "on sockets that socket allowed"),
    row("listen",                   "net",         ALLOW,  "on sockets that socket allowed"),
    row("getsockname",              "net",         ALLOW,  "on sockets that socket allowed"),
    row("getpeername",              "net",         ALLOW,  "on sockets that socket allowed"),
    rule("socketpair",              "net",         SOCKET, EAFNOSUPPORT, "as socket; the kernel makes pairs of unix alone"),
    rule("setsockopt",              "net",         &[
        When(&[Low(1, &[SOL_SOCKET]), Low(2, SO_ATTACH)], EPERM),
    ], ALLOW, "no BPF programs on sockets (SOL_SOCKET 26 50 51 52)"),
    row("getsockopt",               "net",         ALLOW,  "on sockets that socket allowed"),
    row("accept4",                  "net",         ALLOW,  "on sockets that socket allowed"),
    row("recvmmsg",                 "net",         ALLOW,  "on sockets that socket allowed"),
    row("sendmmsg",                 "net",         ALLOW,  "on sockets that socket allowed"),

    rule("ioctl",                   "ioctl",       &[
        When(&[Low(1, &[TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, TIOCVHANGUP, FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION, EXT4_IOC_SETVERSION, FS_IOC_ENABLE_VERITY, FS_IOC_SET_ENCRYPTION_POLICY])], EPERM),
    ], ALLOW, "terminals, FIONREAD, FICLONE; never input injection or line disciplines (TIOCSTI TIOCLINUX TIOCCONS TIOCSETD TIOCVHANGUP), nor flags of the host's files (chattr, verity, encryption)"),

    rule("personality",             "self",        &[
        When(&[Low(0, &[PER_LINUX, PER_QUERY])], ALLOW),
    ], EPERM, "query or plain Linux; no compat layouts, READ_IMPLIES_EXEC or ASLR off"),
    rule("prctl",                   "self",        &[
        When(&[Low(0, PRCTL)], ALLOW),
    ], EINVAL, "options that act on the caller alone; none gives it a right. EINVAL is the answer for an unknown option"),
    row("seccomp",                  "self",        ALLOW,  "may only tighten"),
    row("getrandom",                "self",        ALLOW,  "randomness"),
    row("landlock_create_ruleset",  "self",        ALLOW,  "may only tighten"),
    row("landlock_add_rule",        "self",        ALLOW,  "may only tighten"),
    row("landlock_restrict_self",   "self",        ALLOW,  "may only tighten"),
    row("lsm_get_self_attr",        "self",        ENOSYS, "LSM query, no user yet"),
    row("lsm_set_self_attr",        "self",        ENOSYS, "LSM label change; callers fall back to /proc, which is refused"),
    row("lsm_list_modules",         "self",        ENOSYS, "LSM query, no user yet"),

    row("mbind",                    "numa",        EPERM,  "libnuma takes EPERM from get_mempolicy as no NUMA and stays quiet"),
    row("set_mempolicy",            "numa",        EPERM,  "libnuma takes EPERM from get_mempolicy as no NUMA and stays quiet"),
    row("get_mempolicy",            "numa",        EPERM,  "libnuma takes EPERM from get_mempolicy as no NUMA and stays quiet"),
    row("migrate_pages",            "numa",        EPERM,  "moves pages of other tasks"),
    row("move_pages",               "numa",        EPERM,  "moves pages of other tasks"),
    row("set_mempolicy_home_node",  "numa",        EPERM,  "libnuma takes EPERM from get_mempolicy as no NUMA and stays quiet"),

    row("io_setup",                 "aio",         ENOSYS, "fs.aio-max-nr is one number for the host; callers fall back to threads"),
    row("io_destroy",               "aio",         ENOSYS, "fs.aio-max-nr is one number for the host; callers fall back to threads"),
    row("io_getevents",             "aio",         ENOSYS, "fs.aio-max-nr is one number for the host; callers fall back to threads"),
    row("io_submit",                "aio",         ENOSYS, "fs.aio-max-nr is one number for the host; callers fall back to threads"),
    row("io_cancel",                "aio",         ENOSYS, "fs.aio-max-nr is one number for the host; callers fall back to threads"),
    row("io_pgetevents",            "aio",         ENOSYS, "fs.aio-max-nr is one number for the host; callers fall back to threads"),

    row("io_uring_setup",           "io_uring",    EPERM,  "a second system-call table that this filter cannot see"),
    row("io_uring_enter",           "io_uring",    EPERM,  "a second system-call table that this filter cannot see"),
    row("io_uring_register",        "io_uring",    EPERM,  "a second system-call table that this filter cannot see"),

    row("ptrace",                   "ptrace",      EPERM,  "ptrace class: reads or steals from another task"),
    row("process_vm_readv",         "ptrace",      EPERM,  "ptrace class: reads or steals from another task"),
    row("process_vm_writev",        "ptrace",      EPERM,  "ptrace class: reads or steals from another task"),
    row("kcmp",                     "ptrace",      EPERM,  "ptrace class: reads or steals from another task"),
    row("pidfd_getfd",              "ptrace",      EPERM,  "ptrace class: reads or steals from another task"),

    row("perf_event_open",          "perf",        EPERM,  "tracing and programs inside the kernel"),

    row("unshare",                  "namespace",   EPERM,  "no new room inside the room"),
    row("setns",                    "namespace",   EPERM,  "no new room inside the room"),

    row("pivot_root",               "mount",       EPERM,  "the tree is fixed by the shim"),
    row("chroot",                   "mount",       EPERM,  "the tree is fixed by the shim"),
    row("mount",                    "mount",       EPERM,  "the tree is fixed by the shim"),
    row("umount2",                  "mount",       EPERM,  "the tree is fixed by the shim"),
    row("open_tree",                "mount",       EPERM,  "the tree is fixed by the shim"),
    row("move_mount",               "mount",       EPERM,  "the tree is fixed by the shim"),
    row("fsopen",                   "mount",       EPERM,  "the tree is fixed by the shim"),
    row("fsconfig",                 "mount",       EPERM,  "the tree is fixed by the shim"),
    row("fsmount",                  "mount",       EPERM,  "the tree is fixed by the shim"),
    row("fspick",                   "mount",       EPERM,  "the tree is fixed by the shim"),
    row("mount_setattr",            "mount",       EPERM,  "the tree is fixed by the shim"),
    row("statmount",                "mount",       ENOSYS, "mount table reads that /proc masks do not cover; libmount falls back to /proc"),
    row("listmount",                "mount",       ENOSYS, "mount table reads that /proc masks do not cover; libmount falls back to /proc"),
    row("open_tree_attr",           "mount",       ENOSYS, "the tree is fixed by the shim; callers fall back to open_tree, which is refused"),

    row("add_key",                  "keys",        EPERM,  "keyrings are only partly namespaced"),
    row("request_key",              "keys",        EPERM,  "keyrings are only partly namespaced"),
    row("keyctl",                   "keys",        EPERM,  "keyrings are only partly namespaced"),

    row("syslog",                   "kernel",      EPERM,  "host administration"),
    row("vhangup",                  "kernel",      EPERM,  "host administration"),
    row("modify_ldt",               "kernel",      EPERM,  "old 16-bit segments: large surface, emulators only"),
    row("acct",                     "kernel",      EPERM,  "host administration"),
    row("swapon",                   "kernel",      EPERM,  "host administration"),
    row("swapoff",                  "kernel",      EPERM,  "host administration"),
    row("reboot",                   "kernel",      EPERM,  "host administration"),
    row("sethostname",              "kernel",      EPERM,  "host administration"),
    row("setdomainname",            "kernel",      EPERM,  "host administration"),
    row("iopl",                     "kernel",      EPERM,  "host administration"),
    row("ioperm",                   "kernel",      EPERM,  "host administration"),
    row("init_module",              "kernel",      EPERM,  "host administration"),
    row("delete_module",            "kernel",      EPERM,  "host administration"),
    row("quotactl",                 "kernel",      EPERM,  "host administration"),
    row("kexec_load",               "kernel",      EPERM,  "host administration"),
    row("finit_module",             "kernel",      EPERM,  "host administration"),
    row("kexec_file_load",          "kernel",      EPERM,  "host administration"),
    row("bpf",                      "kernel",      EPERM,  "tracing and programs inside the kernel"),
    row("uretprobe",                "kernel",      ALLOW,  "kernel trampolines for host uprobes; filters are not asked since 6.14; of any other caller they are an error, or its death"),
    row("uprobe",                   "kernel",      ALLOW,  "kernel trampolines for host uprobes; filters are not asked since 6.14; of any other caller they are an error, or its death"),
    row("quotactl_fd",              "kernel",      EPERM,  "host administration"),

    row("uselib",                   "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("ustat",                    "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("sysfs",                    "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("_sysctl",                  "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("create_module",            "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("get_kernel_syms",          "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("query_module",             "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("nfsservctl",               "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("getpmsg",                  "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("putpmsg",                  "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("afs_syscall",              "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("tuxcall",                  "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("security",                 "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
    row("set_thread_area",          "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("get_thread_area",          "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("lookup_dcookie",           "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("epoll_ctl_old",            "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("epoll_wait_old",           "dead",        ENOSYS, "removed from the kernel, or never built"),
    row("vserver",                  "dead",        EPERM,  "removed from the kernel, or never built; EPERM as its neighbours, which keeps the program short"),
];

/// PID 1's table: wait, forward signals, report, end. No memory, no open, no exec.
#[rustfmt::skip]
pub const INIT: &[Row] = &[
    row("wait4",      "reap",   ALLOW, "takes every zombie of the room, and the agent's status"),
    row("ppoll",      "signal", ALLOW, "sleeps until a signal arrives, the shim dies, or the grace is over"),
    row("kill",       "signal", ALLOW, "forwards a signal to the agent; ends what is left of the room"),
    rule("ioctl", "signal", &[
        When(&[Low(1, &[TIOCGPGRP, TIOCSPGRP])], ALLOW),
    ], Verdict::Kill, "after a stop, the agent gets its terminal back: agent-init alone"),
    row("read",       "signal", ALLOW, "the next signal; the status file, once: whether this filter is on"),
    row("write",      "report", ALLOW, "the agent may go on; a step that failed; the record of the end"),
    row("close",      "report", ALLOW, "its ends of the pipes"),
    row("exit_group", "end",    ALLOW, "the end of the room"),
];

impl Verdict {
    /// The 32 bits a filter returns, linux/seccomp.h.
    pub const fn code(self) -> u32 {
        match self {
            Verdict::Allow => libc::SECCOMP_RET_ALLOW,
            Verdict::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

impl Policy<'_> {
    /// The rule of a name, that of unknown numbers if it has no row.
    pub const fn rule(&self, name: &str) -> Rule {
        let mut i = 0;
        while i < self.rows.len() {
            if nr::same(self.rows[i].name, name) {
                return self.rows[i].rule;
            }
            i += 1;
        }
        Rule::always(self.unknown)
    }
}

impl When {
    const fn equals(&self, When(tests, verdict): &When) -> bool {
        let mut same = self.0.len() == tests.len() && self.1.code() == verdict.code();
        let mut i = 0;
        while same && i < tests.len() {
            same = self.0[i].equals(&tests[i]);
            i += 1;
        }
        same
    }
}

impl Test {
    pub(crate) const fn equals(&self, other: &Test) -> bool {
        match (*self, *other) {
            (Low(n, a), Low(m, b)) => n == m && is_same(a, b),
            (Masked(n, x, a), Masked(m, y, b)) => n == m && x == y && is_same(a, b),
            (AnyBit(n, a), AnyBit(m, b)) => n == m && a == b,
            (Between(n, a, b), Between(m, c, d)) => n == m && a == c && b == d,
            (Whole(n, a), Whole(m, b)) => n == m && a == b,
            (WholeMasked(n, a, b), WholeMasked(m, c, d)) => n == m && a == c && b == d,
            (WholeBetween(n, a, b), WholeBetween(m, c, d)) => n == m && a == c && b == d,
            _ => false,
        }
    }
}

const fn is_same(a: &[u32], b: &[u32]) -> bool {
    let (mut same, mut i) = (a.len() == b.len(), 0);
    while same && i < a.len() {
        same = a[i] == b[i];
        i += 1;
    }
    same
}

impl Rule {
    /// The same verdict whatever the arguments are.
    pub const fn always(verdict: Verdict) -> Rule {
        Rule { clauses: &[], otherwise: verdict }
    }

    /// Whether both ask the same, in the same order, with the same verdicts.
    pub(crate) const fn equals(&self, other: &Rule) -> bool {
        let (ours, theirs) = (self.clauses, other.clauses);
        let mut same =
            ours.len() == theirs.len() && self.otherwise.code() == other.otherwise.code();
        let mut i = 0;
        while same && i < ours.len() {
            same = ours[i].equals(&theirs[i]);
            i += 1;
        }
        same
    }
}
