//! The filters that the kernel holds for a running process. ptrace(2), PTRACE_SECCOMP_GET_FILTER.
//!
//! The process is stopped for as long as they are copied, and goes on whatever happens to us.

use std::time::{Duration, Instant};

use agent_init::bpf::SockFilter;
use agent_init::error::{Errno, Step};

use crate::error::{At, Failure};
use crate::sys;

/// So long it may take to stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// All of them, the first that was installed first.
pub fn filters(pid: i32) -> Result<Vec<Vec<SockFilter>>, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let object = pid.to_string();
    sys::seize(pid).at(Step::POLICY, "ptrace seize", &object)?;
    let signal = stop(pid).at(Step::POLICY, "ptrace interrupt", &object)?;
    let filters = match status.lines().any(|line| line == "Seccomp:\t0") {
        true => Ok(Vec::new()),
        false => copy(pid).at(Step::POLICY, "ptrace seccomp_get_filter", &object),
    };
    sys::let_go(pid, signal).at(Step::POLICY, "ptrace detach", &object)?;
    filters
}

/// The signal that it was about to get.
fn stop(pid: i32) -> Result<i32, Errno> {
    sys::interrupt(pid)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sys::has_stopped(pid)? {
            Some(signal) => return Ok(signal),
            None if Instant::now() > deadline => return Err(Errno::EAGAIN),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn copy(pid: i32) -> Result<Vec<Vec<SockFilter>>, Errno> {
    let mut filters = Vec::new();
    loop {
        match sys::seccomp_filter(pid, filters.len()) {
            Ok(filter) => filters.push(filter),
            Err(Errno::ENOENT) => return Ok(filters),
            Err(errno) => return Err(errno),
        }
    }
}
