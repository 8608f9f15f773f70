//! Id maps: one id, and no supplementary group. user_namespaces(7).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use agent_init::error::Step;

use crate::error::{At, Failure};
use crate::plan::{Identity, Plan};
use crate::sys;

/// The lines of `uid_map` and `gid_map`, made before the clone.
#[derive(Debug)]
pub struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    /// Outer namespace: its root is the room's id on the host.
    pub fn outer(plan: &Plan) -> Maps {
        let (uid, gid) = plan.identity.ids();
        Maps { uid: format!("0 {uid} 1\n"), gid: format!("0 {gid} 1\n") }
    }

    /// Inner namespace: the agent's id, which is root of the outer one.
    pub fn inner(plan: &Plan) -> Maps {
        let (uid, gid) = plan.inner;
        Maps { uid: format!("{uid} 0 1\n"), gid: format!("{gid} 0 1\n") }
    }

    /// In the child, of itself. setgroups must be denied before gid_map is written, else a group
    /// that a file refuses could be dropped (CVE-2014-8989); the kernel insists on it.
    pub fn write_own(&self) -> Result<(), Failure> {
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/uid_map", &self.uid)?;
        write(c"/proc/self/gid_map", &self.gid)
    }

    /// In the parent, of the child: only root may map an id that is not its own. setgroups stays
    /// until the child has dropped root's groups; it is denied in the inner namespace.
    pub fn write_for(&self, pid: i32) -> Result<(), Failure> {
        // A proc of another pid namespace would name another process by this number.
        let own = std::fs::read_link("/proc/self").unwrap_or_default();
        if own.as_os_str() != std::process::id().to_string().as_str() {
            return Err(Failure::not_in_force(Step::IDMAP, "/proc is another pid namespace's"));
        }
        for (file, map) in [("uid_map", &self.uid), ("gid_map", &self.gid)] {
            let path = CString::new(format!("/proc/{pid}/{file}")).unwrap_or_default();
            write(&path, map)?;
        }
        Ok(())
    }
}

/// A user namespace for mounts: what `owner` has on the file system is shown as the room's ids,
/// and the other way round; all other ids are themselves. mount_setattr(2), MOUNT_ATTR_IDMAP.
pub fn swapped(owner: (u32, u32), ids: (u32, u32)) -> Result<OwnedFd, Failure> {
    // A process in it, which waits for the end of a pipe, holds it until it has a descriptor.
    let (wait_end, hold) = sys::pipe().at(Step::IDMAP, "pipe2", "")?;
    let userns = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let side =
        sys::clone3(userns, None).at(Step::IDMAP, "clone3", "a namespace for the workspace")?;
    let sys::Side::Parent(pid, pidfd) = side else {
        let _closed = sys::close(hold.as_raw_fd());
        let _ended = sys::read(wait_end.as_raw_fd(), &mut [0]);
        sys::exit_now(0)
    };
    let maps = Maps { uid: swap(owner.0, ids.0), gid: swap(owner.1, ids.1) };
    let made = maps.write_for(pid).and_then(|()| {
        let path = CString::new(format!("/proc/{pid}/ns/user")).unwrap_or_default();
        let fd = sys::open(&path, libc::O_RDONLY).at(Step::IDMAP, "open", path.to_bytes())?;
        Ok(sys::own(fd))
    });
    // Not by the end of the pipe alone: a child of another thread may hold that, too.
    sys::send_signal(pidfd.as_fd(), libc::SIGKILL).at(Step::IDMAP, "pidfd_send_signal", "")?;
    drop(hold);
    sys::wait(pidfd.as_fd()).at(Step::IDMAP, "waitid", "")?;
    made
}

/// The lines of a map in which `a` and `b` have changed places: user_namespaces(7).
fn swap(a: u32, b: u32) -> String {
    let (low, high) = (u64::from(a.min(b)), u64::from(a.max(b)));
    let end = u64::from(u32::MAX);
    let line = |from: u64, to: u64, count: u64| match count {
        0 => String::new(),
        _ => format!("{from} {to} {count}\n"),
    };
    if low == high {
        return line(0, 0, end);
    }
    [
        line(0, 0, low),
        line(low, high, 1),
        line(low + 1, low + 1, high - low - 1),
        line(high, low, 1),
        line(high + 1, high + 1, end - high - 1),
    ]
    .concat()
}

/// Whether the parent has to write the outer maps.
pub fn by_parent(plan: &Plan) -> bool {
    matches!(plan.identity, Identity::Unprivileged { .. })
}

fn write(path: &CStr, text: &str) -> Result<(), Failure> {
    let fd = sys::open(path, libc::O_WRONLY).at(Step::IDMAP, "open", path.to_bytes())?;
    sys::write_all(fd, text.as_bytes()).at(Step::IDMAP, "write", path.to_bytes())?;
    sys::close(fd).at(Step::IDMAP, "close", path.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_change_places() {
        let rest = format!("65535 65535 {}\n", u32::MAX - 65535);
        assert_eq!(swap(0, 65534), format!("0 65534 1\n1 1 65533\n65534 0 1\n{rest}"));
        assert_eq!(swap(1, 0), swap(0, 1));
        assert_eq!(swap(5, 5), format!("0 0 {}\n", u32::MAX));
        assert_eq!(swap(1000, 65534).lines().count(), 5); // all that the kernel keeps inline
    }
}
