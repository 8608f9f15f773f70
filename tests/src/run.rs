//! Commands and rooms that cannot hang a test.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_shim::Child;
use agent_shim::Sandbox;
use agent_shim::error::Failure;
use agent_shim::sys::End;

use crate::sys;

/// What a command has this long for, unless a test says otherwise.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How something ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its status or the signal that ended it.
    pub end: End,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The exit status; a death by signal is a failed test.
    #[track_caller]
    pub fn code(&self) -> i32 {
        match self.end {
            End::Exited(code) => code,
            End::Signaled(signal) => panic!("ended by signal {signal}: {self:?}"),
        }
    }

    /// Standard output of something that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.end == End::Exited(0), "{self:?}");
        &self.stdout
    }
}

/// Runs `command` to its end and to the end of its output, within [`LIMIT`].
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_for(command, LIMIT)
}

/// The same with a limit of its own; what is still there then is killed, and the test fails.
#[track_caller]
pub fn run_for(command: &mut Command, limit: Duration) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ends = [child.stdout.take().unwrap().into(), child.stderr.take().unwrap().into()];
    let pidfd = sys::pidfd_open(child.id()).unwrap();
    let texts = collect(&ends, pidfd.as_fd(), limit);
    if texts.is_none() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let [stdout, stderr] = texts.unwrap_or_else(|| panic!("no end within {limit:?}: {command:?}"));
    let end = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signaled(signal.unwrap()),
    };
    Output { end, stdout, stderr }
}

/// A room and its output to its end, through the library; `Err` when it was not started.
#[track_caller]
pub fn room(sandbox: Sandbox) -> Result<Output, Failure> {
    let (mut child, ends) = start(sandbox)?;
    let Some([stdout, stderr]) = collect(&ends, child.pidfd(), LIMIT) else {
        drop(child); // kills the room
        panic!("no end within {LIMIT:?}");
    };
    Ok(Output { end: child.wait()?, stdout, stderr })
}

/// Starts a room with nothing on its standard input; our ends of its output.
pub fn start(sandbox: Sandbox) -> Result<(Child, [OwnedFd; 2]), Failure> {
    let null = std::fs::File::open("/dev/null").unwrap();
    let (out, out_end) = agent_shim::sys::pipe().unwrap();
    let (err, err_end) = agent_shim::sys::pipe().unwrap();
    let child =
        sandbox.stdio(0, OwnedFd::from(null)).stdio(1, out_end).stdio(2, err_end).spawn()?;
    Ok((child, [out, err]))
}

/// Reads both ends until they end, and waits for the process; `None` when that takes too long.
pub fn collect(ends: &[OwnedFd; 2], pidfd: BorrowedFd, limit: Duration) -> Option<[String; 2]> {
    let deadline = Instant::now() + limit;
    let mut texts = [Vec::new(), Vec::new()];
    let mut open = [Some(ends[0].as_fd()), Some(ends[1].as_fd()), Some(pidfd)];
    while open.iter().any(Option::is_some) {
        let fds = open.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd()));
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = sys::poll(&fds, left);
        if !ready.contains(&true) && left.is_zero() {
            return None;
        }
        for n in (0..3).filter(|n| ready[*n]) {
            let mut bytes = [0; 4096];
            let got = match texts.get(n) {
                Some(_) => agent_shim::sys::read(fds[n], &mut bytes).unwrap(),
                None => 0, // a pidfd is ready once
            };
            match got {
                0 => open[n] = None,
                _ => texts[n].extend(&bytes[..got]),
            }
        }
    }
    Some(texts.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

/// Reads one line, or what there is until the end; `None` when that takes too long.
pub fn line(end: BorrowedFd, limit: Duration) -> Option<String> {
    let deadline = Instant::now() + limit;
    let mut text = Vec::new();
    let mut byte = [0];
    while text.last() != Some(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        if sys::poll(&[end.as_raw_fd()], left) != [true] {
            return None;
        }
        match agent_shim::sys::read(end.as_raw_fd(), &mut byte).unwrap() {
            0 => break,
            _ => text.push(byte[0]),
        }
    }
    Some(String::from_utf8_lossy(&text).trim_end().to_owned())
}
