//! Terminals: the host's, and what can be done through one's own. ioctl_tty(2), pty(7).

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::{at, doubt, happened};
use crate::fixture::names;
use crate::objects::{ints, ioctl, new_terminal, terminal_size};
use crate::sys::{self, Arg, End, call};
use crate::{Facts, Fixture, Kind, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("tty", texts, run)
}

const OWN: &str = "a pseudo terminal that this process has made";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["tty-host-open",   "open a terminal of the host",  r#"open("/dev/pts/N", O_RDWR|O_NOCTTY)"#,      "reads and writes nothing", "it has the size of the fixture"], host).needs(&[Fixture::Terminal]),
    row(["tty-host-write",  "write to a terminal of the host", r#"open("/dev/pts/N", O_WRONLY|O_NOCTTY); ioctl(TIOCSWINSZ)"#, "sets the size that it has", "the kernel took it"], write_host).needs(&[Fixture::Terminal]),
    row(["tty-controlling", "the caller's terminal",        r#"open("/dev/tty")"#,        "reads and writes nothing", "it opens: this process has a controlling terminal, without having made one"], controlling).of(Kind::Hygiene).needs(&[Fixture::Tty]),
    row(["tty-sti",         "type into a terminal",         "setsid; ioctl(TIOCSCTTY); ioctl(TIOCSTI)",   OWN, "the byte can be read from it"], type_ahead),
    row(["tty-sti-high",    "type, with high bits set",     "ioctl(1 << 32 | TIOCSTI)",                   OWN, "the byte can be read from it"], type_ahead_high),
    row(["tty-discipline",  "set a line discipline",        "ioctl(TIOCSETD, N_TTY)",                     "the one that it has", "the kernel took it"], discipline),
    row(["tty-linux",       "TIOCLINUX of the console",     r#"open("/dev/tty1"); ioctl(TIOCLINUX, 6)"#,   "asks for the shift state", "the kernel answers"], console),
];

fn open(facts: &Facts) -> Result<File, Outcome> {
    let place = at(facts, Fixture::Terminal)?;
    let path = place.split(':').next().unwrap_or_default();
    Ok(OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?)
}

fn is_fixture(facts: &Facts, file: &File) -> Result<bool, Outcome> {
    let size = terminal_size(file.as_raw_fd()).map_err(doubt("TIOCGWINSZ"))?;
    Ok(size == names::size(super::nonce(facts)?))
}

fn host(facts: &Facts) -> Tried {
    match is_fixture(facts, &open(facts)?)? {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("another terminal")),
    }
}

fn write_host(facts: &Facts) -> Tried {
    let file = open(facts)?;
    if !is_fixture(facts, &file)? {
        return Ok(Outcome::CONTAINED.note("another terminal"));
    }
    let (rows, columns) = names::size(super::nonce(facts)?);
    let size: Vec<u8> = [rows, columns, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
    ioctl(file.as_raw_fd(), libc::TIOCSWINSZ, Arg::In(&size))?;
    Ok(Outcome::ALLOWED)
}

fn controlling(_: &Facts) -> Tried {
    File::open("/dev/tty")?;
    Ok(Outcome::ALLOWED)
}

fn type_ahead(_: &Facts) -> Tried {
    typed(i64::try_from(libc::TIOCSTI).unwrap_or(0))
}

fn type_ahead_high(_: &Facts) -> Tried {
    typed(1 << 32 | i64::try_from(libc::TIOCSTI).unwrap_or(0))
}

/// In a child, which becomes the leader of a session to have the terminal.
fn typed(command: i64) -> Tried {
    let (_master, path) = new_terminal().map_err(doubt("no terminal"))?;
    let ended = sys::in_child(|| match type_into(&path, command) {
        Ok(true) => 0,
        Ok(false) => 255,
        Err(outcome) => outcome.errno.map_or(254, |errno| errno.0.min(253)),
    });
    match ended.map_err(doubt("fork"))? {
        End::Exited(0) => Ok(Outcome::ALLOWED),
        End::Exited(255) => happened(false),
        End::Exited(254) => Ok(Outcome::INCONCLUSIVE.note("no terminal in the child")),
        // An exit status has 8 bits: a marker is all that does not fit.
        End::Exited(253) => Err(crate::Errno(crate::errno::MAX).into()),
        End::Exited(errno) => Err(crate::Errno(errno).into()),
        End::Signaled(_) => Ok(Outcome::INCONCLUSIVE.note("ended by a signal")),
    }
}

fn type_into(path: &str, command: i64) -> Result<bool, Outcome> {
    let skip = |_| Outcome::INCONCLUSIVE;
    call(libc::SYS_setsid, &mut []).map_err(skip)?;
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let mut slave = opened.map_err(|_| Outcome::INCONCLUSIVE)?;
    let fd = slave.as_raw_fd();
    ioctl(fd, libc::TIOCSCTTY, Arg::N(0)).map_err(skip)?;
    for byte in [b"x", b"\n"] {
        let args = &mut [Arg::N(fd.into()), Arg::N(command), Arg::In(byte)];
        call(libc::SYS_ioctl, args)?;
    }
    let mut back = [0; 2];
    Ok(slave.read(&mut back).is_ok_and(|len| len == 2 && back == *b"x\n"))
}

fn discipline(_: &Facts) -> Tried {
    let (master, path) = new_terminal().map_err(doubt("no terminal"))?;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path);
    let slave = opened.map_err(doubt("no terminal"))?;
    let tty = ints(&[0]);
    ioctl(slave.as_raw_fd(), libc::TIOCSETD, Arg::In(&tty))?;
    drop(master);
    Ok(Outcome::ALLOWED)
}

fn console(_: &Facts) -> Tried {
    let path = "/dev/tty1";
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|e| super::refused(path, e))?;
    ioctl(file.as_raw_fd(), libc::TIOCLINUX, Arg::Out(&mut [6, 0]))?;
    Ok(Outcome::ALLOWED)
}
