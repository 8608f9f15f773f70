//! A program that nobody knows, started so that nothing of it is left: a process between it and
//! agent-shim waits for it, inherits every orphan that it makes, and ends them all when it has
//! ended, when it is told to, and when agent-shim has died. PR_SET_CHILD_SUBREAPER(2const).
//!
//! ```text
//! agent-shim          keeper                           the program
//! fork ─────────────► own session, subreaper
//!                     fork ──────────────────────────► own session; of root: own mounts
//! reads what it says ◄──────────────────────────────── execve
//! `hold` closed ────► TERM · 0.3 s · KILL until no child is left
//! reads how it was ◄─ end
//! ```
//!
//! The program has the caller's rights, and so can end the keeper: then what it leaves is left, and
//! [`Ended`] says so. Between fork and execve, and in the keeper, nothing allocates, panics or locks.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_init::error::{Errno, Step};

use crate::error::{At, Failure};
use crate::sys::{self, Blocked, End, Side};

/// What `ps` shows; 15 bytes at most.
pub const NAME: &CStr = c"agent-shim-keep";

/// Most bytes that are read of standard output. Who says more is ended.
pub const MOST_OUTPUT: usize = 64 << 10;
/// Most bytes that are kept of standard error; what comes after them is read and forgotten.
const MOST_ERRORS: usize = 4 << 10;

/// A nap of the keeper while it waits for the end of others.
const NAP_MS: i32 = 20;
/// Naps between SIGTERM, or the end of the program, and SIGKILL: 0.3 s.
const NAPS_TO_END: usize = 15;
/// Naps in which SIGKILL is sent again: 2 s.
const NAPS_TO_DIE: usize = 100;
/// By then the keeper has reported; it takes 2.3 s at most.
const KEEPER_ENDS: Duration = Duration::from_secs(5);

/// An argv or an environment, as execve(2) takes it, made before the fork.
struct Words {
    _texts: Vec<CString>,
    pointers: Vec<u64>,
}

impl Words {
    /// E2BIG is told by execve; EINVAL: a NUL within a word.
    fn of(words: Vec<Vec<u8>>) -> Result<Words, Errno> {
        let texts: Result<Vec<_>, _> = words.into_iter().map(CString::new).collect();
        let texts = texts.map_err(|_| Errno::EINVAL)?;
        let mut pointers: Vec<u64> =
            texts.iter().map(|text| text.as_ptr().expose_provenance() as u64).collect();
        pointers.push(0);
        Ok(Words { _texts: texts, pointers })
    }
}

/// All that the two processes need.
struct Ready {
    argv: Words,
    environment: Words,
    own_mounts: bool,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    held: OwnedFd,
    report: OwnedFd,
}

/// A program that was started. Dropped, it is ended, with all that it has started.
#[derive(Debug)]
pub struct Kept {
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: OwnedFd,
    hold: Option<OwnedFd>,
    keeper: OwnedFd,
}

/// Why it was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It took longer than it may.
    TooLong,
    /// It said more than [`MOST_OUTPUT`].
    TooMuch,
}

/// How it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why agent-shim has ended it, if it did.
    pub cut: Option<Cut>,
    /// Its own end; `None`: the keeper did not see it.
    pub end: Option<End>,
    /// Processes are left that do not die, or may not be killed by this user; or nobody knows.
    pub is_left: bool,
    /// What it said on standard output, at most [`MOST_OUTPUT`] bytes.
    pub stdout: Vec<u8>,
    /// The beginning of what it said on standard error.
    pub stderr: Vec<u8>,
}

/// Runs `script` by `/bin/sh -c` with `args` as `$0 $1 …`, the caller's environment and directory,
/// pipes for all three streams, the first of them at its end, and no terminal. `own_mounts`: in a
/// mount namespace of its own, from which no mount comes back.
pub fn start(script: Vec<u8>, args: Vec<Vec<u8>>, own_mounts: bool) -> Result<Kept, Failure> {
    let pipe = || sys::pipe().at(Step::PROBE, "pipe2", "the launcher");
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let (report, report_end) = pipe()?;
    let (held, hold) = pipe()?;
    let ready = Ready {
        argv: words([b"sh".to_vec(), b"-c".to_vec(), script].into_iter().chain(args))?,
        environment: words(environment())?,
        own_mounts,
        stdin: pipe()?.0, // no device of the host: as root, runsc gives its streams another owner
        stdout: stdout_end,
        stderr: stderr_end,
        held,
        report: report_end,
    };
    let blocked = Blocked::all(); // in the keeper for good: ^C of the terminal is no end of it
    let side = sys::clone_unheard().at(Step::PROBE, "clone3", "the launcher's keeper")?;
    let Side::Parent(_, keeper) = side else { keep(&ready) };
    drop(blocked);
    Ok(Kept { stdout, stderr, report, hold: Some(hold), keeper })
}

fn words(words: impl IntoIterator<Item = Vec<u8>>) -> Result<Words, Failure> {
    Words::of(words.into_iter().collect()).at(Step::PROBE, "execve", "NUL in an argument")
}

fn environment() -> impl Iterator<Item = Vec<u8>> {
    std::env::vars_os()
        .map(|(name, value)| [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat())
}

// -- agent-shim's side ----------------------------------------------------------------------------

impl Kept {
    /// Reads what it says until it and all that it has started has ended; after `limit` it is made
    /// to.
    pub fn to_end(mut self, limit: Duration) -> Result<Ended, Failure> {
        let mut ended =
            Ended { cut: None, end: None, is_left: true, stdout: Vec::new(), stderr: Vec::new() };
        let mut deadline = Instant::now() + limit;
        let mut polls = [&self.report, &self.stdout, &self.stderr].map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ms = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            sys::poll(&mut polls, ms).at(Step::PROBE, "poll", "the launcher")?;
            let [report, stdout, stderr] = &mut polls;
            if stdout.revents != 0 && !take(stdout, &mut ended.stdout, MOST_OUTPUT + 1)? {
                stdout.fd = -1;
            }
            if stderr.revents != 0 && !take(stderr, &mut ended.stderr, MOST_ERRORS)? {
                stderr.fd = -1;
            }
            if report.revents != 0 {
                break;
            }
            let cut = match () {
                () if ended.stdout.len() > MOST_OUTPUT => Some(Cut::TooMuch),
                () if left.is_zero() => Some(Cut::TooLong),
                () => None,
            };
            match cut {
                Some(_) if self.hold.is_some() => {
                    ended.cut = cut;
                    self.let_go();
                    stdout.fd = -1; // a flood is not waited for
                    deadline = Instant::now() + KEEPER_ENDS;
                }
                Some(Cut::TooLong) => return Ok(ended), // the keeper itself does not answer
                _ => {}
            }
        }
        self.finish(&mut ended)?;
        Ok(ended)
    }

    /// Now the keeper ends them. The program may have stopped it.
    fn let_go(&mut self) {
        self.hold = None;
        let _gone = sys::send_signal(self.keeper.as_fd(), libc::SIGCONT);
    }

    /// What the keeper reports, and what was said since.
    fn finish(&self, ended: &mut Ended) -> Result<(), Failure> {
        for (fd, to, most) in [
            (&self.stdout, &mut ended.stdout, MOST_OUTPUT + 1),
            (&self.stderr, &mut ended.stderr, MOST_ERRORS),
        ] {
            let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // Not to its end: somebody who is no descendant may hold it.
            while to.len() < most {
                sys::poll(std::slice::from_mut(&mut poll), 0).at(Step::PROBE, "poll", "pipe")?;
                if poll.revents == 0 || !take(&poll, to, most)? {
                    break;
                }
            }
        }
        let mut bytes = [0; Report::SIZE];
        let len = sys::read(self.report.as_raw_fd(), &mut bytes);
        if len.at(Step::PROBE, "read", "the launcher's keeper")? == Report::SIZE {
            let Report { errno, status, is_left } = Report::from_bytes(bytes);
            if errno != 0 {
                let errno = Errno(u16::try_from(errno).unwrap_or(0));
                return Err(Failure::new(Step::PROBE, "fork", "the launcher", errno));
            }
            ended.end = (status >= 0).then(|| End::of_status(status));
            ended.is_left = is_left != 0;
        }
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.let_go();
        let ms = i32::try_from(KEEPER_ENDS.as_millis()).unwrap_or(i32::MAX);
        if sys::wait_readable(&[self.keeper.as_fd()], ms) != Ok(Some(0)) {
            let _gone = sys::send_signal(self.keeper.as_fd(), libc::SIGKILL);
        }
        let _ended = sys::wait(self.keeper.as_fd());
    }
}

/// Reads once; what is past `most` is forgotten. False: it was the end.
fn take(poll: &libc::pollfd, to: &mut Vec<u8>, most: usize) -> Result<bool, Failure> {
    let mut part = [0; 16 << 10];
    let len = sys::read(poll.fd, &mut part).at(Step::PROBE, "read", "the launcher")?;
    let room = most.saturating_sub(to.len());
    to.extend(part.iter().take(len.min(room)));
    Ok(len != 0)
}

/// What the keeper writes at its end.
struct Report {
    /// Why nothing was started; 0: it was.
    errno: i32,
    /// As wait(2) gives it; -1: it has not ended.
    status: i32,
    /// 1: processes are left.
    is_left: i32,
}

impl Report {
    const SIZE: usize = 12;

    fn bytes(&self) -> [u8; Report::SIZE] {
        let mut bytes = [0; Report::SIZE];
        let words = [self.errno, self.status, self.is_left].map(i32::to_ne_bytes);
        for (to, from) in bytes.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        bytes
    }

    fn from_bytes(bytes: [u8; Report::SIZE]) -> Report {
        let word = |n: usize| {
            let word = bytes.get(n * 4..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| i32::from_ne_bytes(*word))
        };
        Report { errno: word(0), status: word(1), is_left: word(2) }
    }
}

// -- The keeper -----------------------------------------------------------------------------------

/// Its descriptors, when it has let go of everything else.
const HELD: i32 = 0;
const REPORT: i32 = 1;

fn keep(ready: &Ready) -> ! {
    let _unnamed = sys::set_name(NAME);
    let _in_its_session = sys::new_session();
    let mine = [(&ready.held, HELD), (&ready.report, REPORT)];
    if mine.into_iter().any(|(from, to)| sys::dup_to(from.as_raw_fd(), to).is_err()) {
        sys::exit_now(1); // agent-shim sees that there is no report
    }
    let report = match begin(ready) {
        Ok(pid) => look_after(pid).unwrap_or(Report { errno: 0, status: -1, is_left: 1 }),
        Err(errno) => Report { errno: i32::from(errno.0), status: -1, is_left: 0 },
    };
    let _nobody_reads = sys::write_all(REPORT, &report.bytes());
    sys::exit_now(0)
}

/// Starts the program: its pid.
fn begin(ready: &Ready) -> Result<i32, Errno> {
    agent_init::sys::set_subreaper()?;
    let program = agent_init::sys::fork()?;
    if program == 0 {
        become_program(ready);
    }
    // A pipe of the shim's would never end, and `hold` is one of them.
    agent_init::sys::close_range(2, -1).inspect_err(|_| {
        let _gone = agent_init::sys::kill(program, libc::SIGKILL);
    })?;
    Ok(program)
}

/// Who is waited for.
struct Children {
    program: i32,
    status: i32,
    are_left: bool,
}

impl Children {
    fn has_ended(&self) -> bool {
        self.status != -1
    }

    /// Reaps all that have ended.
    fn reap(&mut self) {
        loop {
            match agent_init::sys::reap(false) {
                Ok(Some((pid, status))) if pid == self.program => self.status = status,
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => {
                    self.are_left = false; // ECHILD
                    return;
                }
            }
        }
    }

    /// SIGKILL to every child. Theirs become this process's when they die, and are next.
    fn kill(&self) {
        if !self.has_ended() {
            let _gone = agent_init::sys::kill(-self.program, libc::SIGKILL);
        }
        let mut text = [0; 4096];
        let Ok(file) = sys::open(c"/proc/thread-self/children", libc::O_RDONLY) else { return };
        let len = sys::read(file, &mut text).unwrap_or(0);
        let _closed = sys::close(file);
        each_pid(text.get(..len).unwrap_or(&[]), |pid| {
            let _gone = agent_init::sys::kill(pid, libc::SIGKILL);
        });
    }
}

/// The numbers of `text`, each with a blank behind it: one without may be the half of another.
fn each_pid(text: &[u8], mut on: impl FnMut(i32)) {
    let mut pid = 0i32;
    for byte in text {
        match byte {
            b'0'..=b'9' => pid = pid.saturating_mul(10).saturating_add(i32::from(byte - b'0')),
            _ if pid > 1 => {
                on(pid);
                pid = 0;
            }
            _ => pid = 0,
        }
    }
}

fn look_after(program: i32) -> Result<Report, Errno> {
    let held = sys::borrow(HELD)?;
    let signals = sys::signal_fd(&[libc::SIGCHLD])?;
    let mut children = Children { program, status: -1, are_left: true };
    children.reap();
    while !children.has_ended() {
        match sys::wait_readable(&[held, signals.as_fd()], -1) {
            Ok(Some(0)) => break, // nobody holds it
            Ok(Some(_)) => _ = sys::next_signal(signals.as_fd()),
            Ok(None) => {}
            Err(errno) => return Err(errno),
        }
        children.reap();
    }
    if !children.has_ended() {
        let _gone = agent_init::sys::kill(-program, libc::SIGTERM);
    }
    nap(&mut children, signals.as_fd(), NAPS_TO_END, |_| ());
    nap(&mut children, signals.as_fd(), NAPS_TO_DIE, Children::kill);
    Ok(Report { errno: 0, status: children.status, is_left: i32::from(children.are_left) })
}

/// Waits for the end of all of them, at most so many naps; before each, `first`.
fn nap(children: &mut Children, signals: BorrowedFd, naps: usize, first: fn(&Children)) {
    for _ in 0..naps {
        children.reap();
        if !children.are_left {
            return;
        }
        first(children);
        if sys::wait_readable(&[signals], NAP_MS) == Ok(Some(0)) {
            let _one_of_them = sys::next_signal(signals);
        }
    }
}

// -- The program ----------------------------------------------------------------------------------

/// CLONE_NEWNS.
const MOUNTS: u64 = libc::CLONE_NEWNS.cast_unsigned() as u64;

fn become_program(ready: &Ready) -> ! {
    let step = match prepare(ready) {
        Ok(()) => {
            let (argv, environment) = (&ready.argv.pointers, &ready.environment.pointers);
            let _errno = agent_init::sys::execve(c"/bin/sh", argv, environment);
            "execve /bin/sh"
        }
        Err(step) => step,
    };
    for part in ["agent-shim: cannot: ", step, "\n"] {
        let _nobody_reads = sys::write_all(2, part.as_bytes());
    }
    sys::exit_now(125)
}

/// The error is what failed.
fn prepare(ready: &Ready) -> Result<(), &'static str> {
    for (from, to) in [(&ready.stderr, 2), (&ready.stdout, 1), (&ready.stdin, 0)] {
        sys::dup_to(from.as_raw_fd(), to).map_err(|_| "dup2")?;
    }
    agent_init::sys::close_range(3, -1).map_err(|_| "close_range")?;
    sys::new_session().map_err(|_| "setsid")?;
    if ready.own_mounts {
        sys::unshare(MOUNTS).map_err(|_| "unshare a mount namespace")?;
        // What the host mounts is seen here, and nothing that is mounted here there.
        sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_SLAVE, c"")
            .map_err(|_| "make the mounts slaves")?;
    }
    for signal in 1..=64 {
        let _has_none = agent_init::sys::set_default_action(signal);
    }
    agent_init::sys::set_signal_mask(0).map_err(|_| "unblock signals")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_number_is_no_pid() {
        let pids = |text: &str| {
            let mut pids = Vec::new();
            each_pid(text.as_bytes(), |pid| pids.push(pid));
            pids
        };
        assert_eq!(pids("12 345 "), [12, 345]);
        assert_eq!(pids("12 34"), [12]);
        assert_eq!(pids(""), []);
        // kill(0), kill(-1) and the host's init are nobody's children.
        assert_eq!(pids("0 1 -1 7 "), [7]);
    }

    #[test]
    fn a_report_comes_back() {
        let report = Report { errno: 11, status: -1, is_left: 1 };
        let Report { errno, status, is_left } = Report::from_bytes(report.bytes());
        assert_eq!((errno, status, is_left), (11, -1, 1));
    }
}
