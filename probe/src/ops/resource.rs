//! More than its share, each bounded and given back at once. getrlimit(2), tmpfs(5), mlock(2).

use std::fs::File;
use std::fs::OpenOptions;

use super::{Made, doubt, happened, here};
use crate::objects::longs;
use crate::sys::{self, Arg, Mapping, call, call_fd, n};
use crate::{Errno, Facts, Kind, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("resource", texts, run)
}

const OWN: &str = "of this process only";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["res-processes", "400 processes at once",       "fork x 400",                                     "children wait for the end of a pipe, and end with it", "all were made"], processes).of(Kind::Hygiene),
    row(["res-fds",       "2000 descriptors",            "fcntl(F_DUPFD) x 2000",                          OWN, "all were made"], descriptors).of(Kind::Hygiene),
    row(["res-tmpfs",     "300 MiB in /tmp",             r#"open("/tmp/…"); fallocate(300 MiB)"#,           "removed at once, nothing is written", "fstat says the blocks are there"], tmpfs),
    row(["res-file-size", "a file of 2 GiB",             "memfd_create; ftruncate(2 GiB)",                 "without a single page", "fstat says the size"], file_size).of(Kind::Hygiene),
    row(["res-mlock",     "lock 16 MiB of memory",       "mmap; mlock(16 MiB)",                            "unlocked with its end", "the kernel took it"], lock),
    row(["res-core",      "ask for core dumps",          "prlimit64(RLIMIT_CORE, 1 MiB)",                  "does not die", "the limit can be read back"], |_| limit(4, 1 << 20)).of(Kind::Hygiene),
    row(["res-nofile",    "raise the descriptor limit",  "prlimit64(RLIMIT_NOFILE, 4096)",              OWN, "the limit can be read back"], |_| limit(7, 4096)).of(Kind::Hygiene),
    row(["res-sigqueue",  "2000 timers",                 "timer_create x 2000",                            OWN, "all were made"], timers).of(Kind::Hygiene),
    row(["res-inotify",   "60 inotify instances",        "inotify_init1 x 60",                             "fewer than half of what an id may have, closed at once", "all were made"], instances),
    row(["res-pipe-size", "a pipe of 2 MiB",             "pipe2; fcntl(F_SETPIPE_SZ, 2 MiB)",              "stays empty", "the kernel made it so large"], pipe_size),
    row(["res-fifo",      "a real-time class",           "sched_setscheduler(SCHED_FIFO, 1)",              "set back at once", "sched_getscheduler gives it back"], fifo),
    row(["res-nice",      "a better priority",           "setpriority(PRIO_PROCESS, 0, -20)",              "set back at once", "getpriority gives it back"], nice),
    row(["res-ioprio",    "a real-time I/O class",       "ioprio_set(IOPRIO_CLASS_RT)",                    "set back at once, reads and writes nothing", "ioprio_get gives it back"], io_priority),
];

/// Least that the host must allow for the control to mean anything is more than a room's 256.
const PROCESSES: usize = 400;

fn processes(_: &Facts) -> Tried {
    let (reader, writer) = std::io::pipe().map_err(doubt("pipe"))?;
    let mut children = Vec::with_capacity(PROCESSES);
    let mut refused = None;
    for _ in 0..PROCESSES {
        let child = sys::fork(|| {
            let _own_copy = call(libc::SYS_close, &mut [n(&writer)]);
            let end = &mut [n(&reader), Arg::Out(&mut [0]), Arg::N(1)];
            i32::from(call(libc::SYS_read, end).is_err())
        });
        match child {
            Ok(pid) => children.push(pid),
            Err(errno) => {
                refused = Some(errno);
                break;
            }
        }
    }
    drop(writer);
    let ended = children.iter().filter(|pid| sys::wait(**pid).is_ok()).count();
    match refused {
        Some(errno) => Err(Outcome::BLOCKED.errno(errno).note(format!("after {ended}"))),
        None => happened(ended == PROCESSES),
    }
}

fn descriptors(_: &Facts) -> Tried {
    let mut all = Vec::new();
    let file = File::open("/dev/null").map_err(doubt("open"))?;
    for _ in 0..2000 {
        let args = &mut [n(&file), Arg::N(libc::F_DUPFD_CLOEXEC.into()), Arg::N(3)];
        all.push(call_fd(libc::SYS_fcntl, args)?);
    }
    happened(all.len() == 2000)
}

/// user.max_inotify_instances is 128 by default, and an instance of a room is charged to the caller on the host too.
fn instances(_: &Facts) -> Tried {
    let mut all = Vec::new();
    for _ in 0..60 {
        all.push(call_fd(libc::SYS_inotify_init1, &mut [Arg::N(libc::O_CLOEXEC.into())])?);
    }
    happened(all.len() == 60)
}

fn tmpfs(_: &Facts) -> Tried {
    let made = Made(here("large"));
    let file = OpenOptions::new().write(true).create_new(true).open(&made.0);
    let file = file.map_err(doubt("create"))?;
    call(libc::SYS_fallocate, &mut [n(&file), Arg::N(0), Arg::N(0), Arg::N(300 << 20)])?;
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().map_err(doubt("fstat"))?);
    happened(blocks >= 300 << 11)
}

/// Past RLIMIT_FSIZE comes SIGXFSZ, unless it is ignored: then EFBIG.
fn file_size(_: &Facts) -> Tried {
    let file = call_fd(libc::SYS_memfd_create, &mut [Arg::Text(c"large"), Arg::N(1)]);
    let file = file.map_err(doubt("memfd_create"))?;
    sys::count(libc::SIGXFSZ).map_err(doubt("sigaction"))?;
    call(libc::SYS_ftruncate, &mut [n(&file), Arg::N(2 << 30)])?;
    happened(File::from(file).metadata().map_err(doubt("fstat"))?.len() == 2 << 30)
}

fn lock(_: &Facts) -> Tried {
    let all = libc::PROT_READ | libc::PROT_WRITE;
    let memory = Mapping::new(16 << 20, all, None).map_err(doubt("mmap"))?;
    let at = i64::try_from(memory.address()).unwrap_or(0);
    call(libc::SYS_mlock, &mut [Arg::N(at), Arg::N(16 << 20)])?;
    Ok(Outcome::ALLOWED)
}

/// Soft and hard. Below a limit that is higher already nothing is asked.
fn limit(resource: i64, value: i64) -> Tried {
    let get = || -> Result<(i64, i64), Errno> {
        let mut now = [0; 16];
        let args = &mut [Arg::N(0), Arg::N(resource), Arg::N(0), Arg::Out(&mut now)];
        call(libc::SYS_prlimit64, args)?;
        let at = |from| crate::objects::long_at(&now, from).unwrap_or(0);
        Ok((at(0), at(8)))
    };
    let new = longs(&[value, value]);
    call(libc::SYS_prlimit64, &mut [Arg::N(0), Arg::N(resource), Arg::In(&new), Arg::N(0)])?;
    happened(get().map_err(doubt("read back"))? == (value, value))
}

/// Without a signal: struct sigevent with SIGEV_NONE, 64 bytes. Each takes one of RLIMIT_SIGPENDING.
fn timers(_: &Facts) -> Tried {
    let mut event = [0; 64];
    event[12..16].copy_from_slice(&libc::SIGEV_NONE.to_ne_bytes());
    for made in 0..2000 {
        let mut id = [0; 4];
        let args = &mut [Arg::N(1), Arg::In(&event), Arg::Out(&mut id)];
        call(libc::SYS_timer_create, args)
            .map_err(|errno| Outcome::BLOCKED.errno(errno).note(format!("after {made}")))?;
    }
    Ok(Outcome::ALLOWED)
}

fn pipe_size(_: &Facts) -> Tried {
    let (_reader, writer) = std::io::pipe().map_err(doubt("pipe"))?;
    let args = &mut [n(&writer), Arg::N(libc::F_SETPIPE_SZ.into()), Arg::N(2 << 20)];
    happened(call(libc::SYS_fcntl, args)? >= 2 << 20)
}

fn fifo(_: &Facts) -> Tried {
    let set = |policy: i64, priority: i32| {
        let priority = crate::objects::ints(&[priority]);
        let args = &mut [Arg::N(0), Arg::N(policy), Arg::In(&priority)];
        call(libc::SYS_sched_setscheduler, args)
    };
    set(1, 1)?;
    let now = call(libc::SYS_sched_getscheduler, &mut [Arg::N(0)]);
    set(0, 0).map_err(doubt("not set back"))?;
    happened(now == Ok(1))
}

/// The raw call answers 20 less the nice value.
fn nice(_: &Facts) -> Tried {
    let set = |nice| call(libc::SYS_setpriority, &mut [Arg::N(0), Arg::N(0), Arg::N(nice)]);
    set(-20)?;
    let now = call(libc::SYS_getpriority, &mut [Arg::N(0), Arg::N(0)]);
    set(0).map_err(doubt("not set back"))?;
    happened(now == Ok(40))
}

/// Class in the bits from 13 on: 1 real time, 0 none. IOPRIO_WHO_PROCESS is 1.
fn io_priority(_: &Facts) -> Tried {
    let set = |value| call(libc::SYS_ioprio_set, &mut [Arg::N(1), Arg::N(0), Arg::N(value)]);
    set(1 << 13 | 4)?;
    let now = call(libc::SYS_ioprio_get, &mut [Arg::N(1), Arg::N(0)]);
    set(0).map_err(doubt("not set back"))?;
    happened(now == Ok(1 << 13 | 4))
}
