//! State of the whole host: name, clock, power, log. sethostname(2), reboot(2), clock_adjtime(2), syslog(2).

use super::{ANOTHER_FILE, NOT_COMPARED, happened, refused, sentinel};
use crate::facts::ns_inode;
use crate::objects::{ints, text};
use crate::sys::{self, Arg, call, call_fd};
use crate::{Facts, Op, Outcome, Tried, digest};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("host", texts, run)
}

const SAME: &str = "sets what it is";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["host-name-read",   "name of the host",          "uname",                                      "only reads", "it has the digest of the host's"], name),
    row(["host-name-set",    "set the host name",         "sethostname(as it is)",                      SAME, "the kernel took it; of the room's own uts namespace: CONTAINED"], set_name),
    row(["host-domain-set",  "set the domain name",       "setdomainname(as it is)",                    SAME, "the kernel took it; of the room's own uts namespace: CONTAINED"], set_domain),
    row(["host-reboot",      "reboot",                    "reboot(0, 0, 0)",                            "magic numbers that are wrong", "EINVAL, which comes after the check of CAP_SYS_BOOT"], |_| sentinel(call(libc::SYS_reboot, &mut [Arg::N(0), Arg::N(0), Arg::N(0), Arg::N(0)]), &[libc::EINVAL])),
    row(["host-swapon",      "swap on",                   r#"swapon("/agent-probe-none")"#,             "there is no such file", "ENOENT, which comes after the check of CAP_SYS_ADMIN"], |_| sentinel(call(libc::SYS_swapon, &mut [Arg::Text(c"/agent-probe-none"), Arg::N(0)]), &[libc::ENOENT])),
    row(["host-swapoff",     "swap off",                  r#"swapoff("/agent-probe-none")"#,            "there is no such file", "ENOENT, which comes after the check of CAP_SYS_ADMIN"], |_| sentinel(call(libc::SYS_swapoff, &mut [Arg::Text(c"/agent-probe-none")]), &[libc::ENOENT])),
    row(["host-acct",        "process accounting",        r#"acct("/agent-probe-none")"#,               "there is no such file", "ENOENT, which comes after the check of CAP_SYS_PACCT"], |_| sentinel(call(libc::SYS_acct, &mut [Arg::Text(c"/agent-probe-none")]), &[libc::ENOENT])),
    row(["host-time-adjust", "adjust the clock",          "clock_adjtime(CLOCK_REALTIME, ADJ_TICK, 1)", "a tick that is out of range", "EINVAL, which comes after the check of CAP_SYS_TIME"], adjust),
    row(["host-time-zone",   "set the time zone",         "settimeofday(NULL, {1000 minutes})",         "out of range", "EINVAL, which comes after the check of CAP_SYS_TIME"], time_zone),
    row(["host-uptime",      "uptime of the host",        r#"clock_gettime(CLOCK_BOOTTIME); open("/proc/uptime")"#, "only reads", "no time namespace lies between: its inode is that of the host"], uptime).open("no time namespace; the clock is read without a call"),
    row(["host-dmesg",       "read the kernel's log",     "syslog(SYSLOG_ACTION_READ_ALL)",             "takes nothing away, and prints nothing of it", "bytes come"], log),
    row(["host-dmesg-size",  "size of the kernel's log",  "syslog(SYSLOG_ACTION_SIZE_BUFFER)",          "only asks", "the kernel answers"], |_| { call(libc::SYS_syslog, &mut [Arg::N(10), Arg::N(0), Arg::N(0)])?; Ok(Outcome::ALLOWED) }),
    row(["host-wake-alarm",  "wake the machine up",       "timerfd_create(CLOCK_BOOTTIME_ALARM)",       "sets no alarm, closes it at once", "a descriptor comes"], |_| { call_fd(libc::SYS_timerfd_create, &mut [Arg::N(9), Arg::N(libc::O_CLOEXEC.into())])?; Ok(Outcome::ALLOWED) }),
    row(["host-vhangup",     "hang up the terminal",      "vhangup()",                                  "only without a controlling terminal", "the kernel did it"], hang_up),
];

fn name(facts: &Facts) -> Tried {
    let name = sys::hostname()?;
    match &facts.hostname {
        Some(host) if *host == digest(name.as_bytes()) => Ok(Outcome::ALLOWED),
        Some(_) => Ok(Outcome::CONTAINED.note("the room's own")),
        None => Ok(Outcome::INCONCLUSIVE.note(NOT_COMPARED)),
    }
}

/// No fact has the host's uts namespace: another name than the host's tells it.
fn own_name(facts: &Facts) -> Tried {
    let outcome = name(facts)?;
    Ok(if outcome.verdict == Outcome::CONTAINED.verdict { outcome } else { Outcome::ALLOWED })
}

fn set_name(facts: &Facts) -> Tried {
    let name = text(&sys::hostname()?);
    let len = i64::try_from(name.count_bytes()).unwrap_or(0);
    call(libc::SYS_sethostname, &mut [Arg::Text(&name), Arg::N(len)])?;
    own_name(facts)
}

/// Sixth field of struct utsname, 65 bytes each.
fn set_domain(facts: &Facts) -> Tried {
    let mut found = [0; 65 * 6];
    call(libc::SYS_uname, &mut [Arg::Out(&mut found)])?;
    let domain = found.get(65 * 5..).unwrap_or_default();
    let len = domain.iter().position(|byte| *byte == 0).unwrap_or(0);
    let len = i64::try_from(len).unwrap_or(0);
    call(libc::SYS_setdomainname, &mut [Arg::In(domain), Arg::N(len)])?;
    own_name(facts)
}

/// struct timex: modes first. ADJ_TICK, 0x4000.
fn adjust(_: &Facts) -> Tried {
    let mut timex = [0; size_of::<libc::timex>()];
    timex[..4].copy_from_slice(&0x4000_u32.to_ne_bytes());
    let at = std::mem::offset_of!(libc::timex, tick);
    timex[at..at + 8].copy_from_slice(&1_i64.to_ne_bytes());
    let args = &mut [Arg::N(0), Arg::Out(&mut timex)];
    sentinel(call(libc::SYS_clock_adjtime, args), &[libc::EINVAL])
}

fn time_zone(_: &Facts) -> Tried {
    let zone = ints(&[1000, 0]);
    let result = call(libc::SYS_settimeofday, &mut [Arg::N(0), Arg::In(&zone)]);
    sentinel(result, &[libc::EINVAL])
}

const TIME: &str = "/proc/self/ns/time";

/// The initial time namespace has a fixed inode: PROC_TIME_INIT_INO, linux/proc_ns.h, 0xEFFFFFFA.
fn uptime(_: &Facts) -> Tried {
    match ns_inode("time") {
        Some(0xefff_fffa) => Ok(Outcome::ALLOWED),
        Some(_) => Ok(Outcome::CONTAINED.note("a time namespace")),
        None => match std::fs::metadata(TIME) {
            Err(e) => Err(refused(TIME, e)),
            Ok(_) => Ok(Outcome::INCONCLUSIVE.note(ANOTHER_FILE)),
        },
    }
}

fn log(_: &Facts) -> Tried {
    let mut bytes = [0; 256];
    let len = call(libc::SYS_syslog, &mut [Arg::N(3), Arg::Out(&mut bytes), Arg::N(256)])?;
    happened(len > 0)
}

fn hang_up(_: &Facts) -> Tried {
    if std::fs::File::open("/dev/tty").is_ok() {
        return Ok(Outcome::SKIP.note(super::SELF_GUARD));
    }
    call(libc::SYS_vhangup, &mut [])?;
    Ok(Outcome::ALLOWED)
}
