//! Id maps: one id, and no supplementary group. user_namespaces(7).

use std::ffi::{CStr, CString};

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
        let (uid, gid) = plan.inner_ids();
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

/// Whether the parent has to write the outer maps.
pub fn by_parent(plan: &Plan) -> bool {
    plan.identity == Identity::Unprivileged
}

fn write(path: &CStr, text: &str) -> Result<(), Failure> {
    let fd = sys::open(path, libc::O_WRONLY).at(Step::IDMAP, "open", path.to_bytes())?;
    sys::write_all(fd, text.as_bytes()).at(Step::IDMAP, "write", path.to_bytes())?;
    sys::close(fd).at(Step::IDMAP, "close", path.to_bytes())
}
