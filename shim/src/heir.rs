//! The heir: a process that outlives a shim which is killed, and removes the room's cgroup then.
//!
//! Nothing else can: the room's own processes are in the group, and have no way to its directory;
//! `release_agent` of cgroup v1 is one setting for the whole host. It is made before the directory,
//! so there is no moment at which nobody would remove it. It is a copy of the shim that holds
//! nothing of it, neither descriptors, session nor directory, and takes no input but the shim's
//! death. What kills it with the shim (the end of a pid namespace that both are in, a signal to all
//! that is called so) leaves the directory to the next room. pidfd_open(2), cgroups(7).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use agent_init::error::{Errno, Step};
use agent_init::sys::CapSets;

use crate::error::{At, Failure};
use crate::sys::{self, Blocked, Side};

/// Of one directory. Dropped, it is gone: the shim has done it itself.
#[derive(Debug)]
pub struct Heir {
    pidfd: OwnedFd,
}

/// What `ps` shows; 15 bytes at most.
pub const NAME: &CStr = c"agent-shim-heir";

impl Heir {
    /// Makes the process that removes `dir` when this one has died.
    pub fn of(dir: &Path) -> Result<Heir, Failure> {
        let shim = sys::pidfd_of_self().at(Step::LIMITS, "pidfd_open", "agent-shim")?;
        let bytes = dir.as_os_str().as_encoded_bytes();
        let dir = CString::new(bytes)
            .map_err(|_| Failure::new(Step::LIMITS, "mkdir", bytes, Errno::EINVAL))?;
        let blocked = Blocked::all(); // in the heir for good: ^C of the terminal is no end of it
        let side = sys::clone_unheard().at(Step::LIMITS, "clone3", "the group's heir")?;
        let Side::Parent(_, pidfd) = side else { inherit(shim, &dir) };
        drop(blocked);
        Ok(Heir { pidfd })
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        // Else it ends with this process, and is not waited for.
        if sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL).is_ok() {
            let _reaped = sys::wait(self.pidfd.as_fd());
        }
    }
}

/// A room whose shim has died ends at once, but the kernel takes its time: 3000 naps are a minute.
const NAPS: usize = 3000;
const NAP_MS: i32 = 20;

/// CAP_DAC_OVERRIDE, as a set: the directory may lie in one of another user's. capabilities(7).
const DAC_OVERRIDE: u64 = 1 << 1;

/// The heir's life. No allocation, no panic, no lock: other threads of the shim may hold one.
fn inherit(shim: OwnedFd, dir: &CStr) -> ! {
    let _unnamed = sys::set_name(NAME);
    let _in_its_session = sys::new_session();
    let _in_its_directory = sys::chdir(c"/");
    let _for_good = agent_init::sys::set_no_new_privs();
    let kept = agent_init::sys::caps().map_or(0, |sets| sets.effective & DAC_OVERRIDE);
    let _but_one =
        agent_init::sys::set_caps(CapSets { effective: kept, permitted: kept, inheritable: 0 });
    // A pipe of the shim's would never end, a lock never be free.
    if sys::dup_to(shim.as_raw_fd(), 0).is_err() || agent_init::sys::close_range(1, -1).is_err() {
        sys::exit_now(1);
    }
    if let Ok(shim) = sys::borrow(0) {
        while sys::wait_readable(&[shim], -1) == Ok(None) {}
        for _ in 0..NAPS {
            match sys::remove_dir(dir) {
                Err(Errno::EBUSY) => drop(sys::wait_readable(&[], NAP_MS)),
                _ => break,
            }
        }
    }
    sys::exit_now(0)
}
