//! A room as plain data: everything that is decided before the first process of it exists.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use agent_init::error::{Errno, Step};
use agent_init::layers::{Layers, NAMESPACES};
use agent_init::orders::{Flags, HEADER, MAGIC};

use crate::error::Failure;
use crate::room::{self, Node};
use crate::sys;

/// Who the room's processes are on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The caller, an ordinary user: the child maps its own id.
    Caller {
        /// Effective user id.
        uid: u32,
        /// Effective group id.
        gid: u32,
    },
    /// root never enters a room: it becomes [`room::UNPRIVILEGED`], which only the parent may map.
    Unprivileged,
    /// Not a room: the positive control of the matrix, as real root. Mounts stay private.
    RealRoot,
}

impl Identity {
    /// Who the caller's rooms run as. root of a user namespace that has no unprivileged id to
    /// give (a rootless container) maps its own, like an ordinary user.
    pub fn of_caller() -> Identity {
        let (uid, gid) = sys::ids();
        let can_give = |map| is_mapped(map, room::UNPRIVILEGED);
        if uid == 0 && can_give("/proc/self/uid_map") && can_give("/proc/self/gid_map") {
            return Identity::Unprivileged;
        }
        Identity::Caller { uid, gid }
    }

    /// User and group id on the host.
    pub fn ids(self) -> (u32, u32) {
        match self {
            Identity::Caller { uid, gid } => (uid, gid),
            Identity::Unprivileged => (room::UNPRIVILEGED, room::UNPRIVILEGED),
            Identity::RealRoot => (0, 0),
        }
    }
}

/// Whether `id` exists in the caller's user namespace: user_namespaces(7), lines of
/// "first id inside, first id outside, count".
fn is_mapped(map: &str, id: u32) -> bool {
    outside(map, id).is_some()
}

/// The number of `id` in the parent user namespace.
fn outside(map: &str, id: u32) -> Option<u64> {
    let (text, id) = (std::fs::read_to_string(map).ok()?, u64::from(id));
    text.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map_while(|n| n.parse::<u64>().ok());
        let (first, out, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        (first..first.saturating_add(count)).contains(&id).then(|| out + (id - first))
    })
}

/// Whether the id that a room would have is root of the host, under whatever number this user
/// namespace knows it: the sysctls of proc are root's, seen from anywhere.
pub fn is_host_root(identity: Identity) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Identity::Caller { uid, .. } = identity else { return false };
    // Without it (a proc of its own, masked) nothing can be said, and 0 stays suspect. An owner
    // that has no number here is shown as 65534: then the map tells whether that is root.
    let owner = std::fs::metadata("/proc/sys/kernel/core_pattern").map_or(0, |meta| meta.uid());
    owner == uid && (uid != OVERFLOW || outside("/proc/self/uid_map", uid) == Some(0))
}

/// What an id without a number in this user namespace is shown as: proc(5), overflowuid.
const OVERFLOW: u32 = 65534;

/// Whether the caller is root in the initial user namespace, with the capabilities that the
/// operations of the probe could need: only then does a control as real root say anything.
/// A container's root, for one, often has neither.
pub fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_initial = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    let effective = agent_init::sys::caps().map_or(0, |sets| sets.effective);
    sys::ids().0 == 0 && is_initial && effective & CONTROL_CAPS == CONTROL_CAPS
}

/// DAC_OVERRIDE, KILL, NET_RAW, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN. capabilities(7).
const CONTROL_CAPS: u64 = 1 << 1 | 1 << 5 | 1 << 13 | 1 << 17 | 1 << 19 | 1 << 21;

/// What is run in the room.
#[derive(Clone, Debug)]
pub enum Program {
    /// A path, or a name to be looked for in the room's PATH.
    Path(CString),
    /// A program that need not be in the room: a sealed memfd.
    Image(Arc<OwnedFd>),
}

/// A room and what is run in it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The layers that must be in force.
    pub layers: Layers,
    /// Layers that are left out and still asked back, for tests: the launch must fail.
    pub omitted: Layers,
    /// Variations that init is told of.
    pub flags: Flags,
    /// Who it runs as.
    pub identity: Identity,
    /// What the root holds, parents first.
    pub nodes: Vec<Node>,
    /// What is run.
    pub program: Program,
    /// Its argument list, with the name it is called by.
    pub argv: Vec<CString>,
    /// Its environment, `NAME=VALUE`.
    pub env: Vec<CString>,
}

impl Plan {
    /// The layers that are made, as opposed to asked back.
    pub fn made(&self) -> Layers {
        self.layers - self.omitted
    }

    /// The id that the agent has in its own user namespace: root of the room while it keeps the
    /// room's capabilities, else its own number, as programs compare it with that of files.
    pub fn inner_ids(&self) -> (u32, u32) {
        if self.layers.contains(Layers::CAPS) { self.identity.ids() } else { (0, 0) }
    }

    /// Where the program may be, in the order of PATH; execvp(3).
    fn candidates(&self) -> Vec<CString> {
        let Program::Path(name) = &self.program else { return Vec::new() };
        if name.to_bytes().contains(&b'/') {
            return vec![name.clone()];
        }
        let path = self.env.iter().find_map(|e| e.to_bytes().strip_prefix(b"PATH="));
        let dirs = path.unwrap_or(b"/usr/bin:/bin").split(|b| *b == b':').filter(|d| !d.is_empty());
        dirs.filter_map(|dir| CString::new([dir, b"/", name.to_bytes()].concat()).ok()).collect()
    }

    fn rlimits(&self) -> impl Iterator<Item = &(u32, u64)> {
        let counted_apart = self.layers.contains(Layers::USERNS);
        room::RLIMITS.iter().chain(counted_apart.then_some(&room::RLIMIT_NPROC))
    }

    /// The block that init receives: `agent_init::orders` has the layout.
    pub fn orders(&self, host_namespaces: &[u64; NAMESPACES.len()]) -> Vec<u64> {
        let grants: Vec<_> = self.nodes.iter().filter(|n| !n.access.is_empty()).collect();
        let candidates = self.candidates();
        let rlimits: Vec<_> = self.rlimits().collect();
        let mut flags = self.flags;
        flags.set(Flags::PROGRAM_FD, matches!(self.program, Program::Image(_)));
        let counts =
            [rlimits.len(), grants.len(), candidates.len(), self.argv.len(), self.env.len()];

        let mut words = vec![MAGIC, 0, self.layers.bits().into(), flags.bits()];
        words.push(self.omitted.bits().into());
        words.extend(host_namespaces);
        words.extend(counts.map(|n| n as u64));
        debug_assert_eq!(words.len(), HEADER);
        words.extend(rlimits.iter().flat_map(|(resource, limit)| [u64::from(*resource), *limit]));
        words.extend(grants.iter().map(|n| n.access.bits()));

        let offsets = grants.len() + candidates.len() + self.argv.len() + self.env.len() + 2;
        let mut strings = Strings { bytes: Vec::new(), at: 8 * (words.len() + offsets) };
        words.extend(grants.iter().map(|n| strings.add(&n.path)));
        words.extend(candidates.iter().map(|c| strings.add(c)));
        for list in [&self.argv, &self.env] {
            words.extend(list.iter().map(|s| strings.add(s)));
            words.push(0);
        }
        words.extend(strings.into_words());
        if let Some(size) = words.len().checked_mul(8)
            && let Some(word) = words.get_mut(1)
        {
            *word = size as u64;
        }
        words
    }
}

/// The strings behind the tables, and the offset of the next one.
struct Strings {
    bytes: Vec<u8>,
    at: usize,
}

impl Strings {
    fn add(&mut self, string: &CStr) -> u64 {
        let offset = self.at + self.bytes.len();
        self.bytes.extend(string.to_bytes_with_nul());
        offset as u64
    }

    /// Padded with at least one NUL.
    fn into_words(mut self) -> impl Iterator<Item = u64> {
        self.bytes.resize((self.bytes.len() / 8 + 1) * 8, 0);
        self.bytes
            .chunks_exact(8)
            .map(|c| c.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b)))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// The inodes of the caller's namespaces, which the room's must differ from.
pub fn host_namespaces() -> Result<[u64; NAMESPACES.len()], Failure> {
    let mut inodes = [0; NAMESPACES.len()];
    for (inode, ns) in inodes.iter_mut().zip(&NAMESPACES) {
        *inode = match sys::inode(ns.file) {
            // A kernel without this kind: a room that needs it will not be made.
            Err(Errno::ENOENT) => 0,
            other => other.map_err(|errno| {
                Failure::new(Step::NAMESPACES, "stat", ns.file.to_bytes(), errno)
            })?,
        };
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_init::orders::Orders;

    fn plan() -> Plan {
        Plan {
            layers: Layers::FULL,
            omitted: Layers::empty(),
            flags: Flags::empty(),
            identity: Identity::Caller { uid: 1000, gid: 100 },
            nodes: room::bare(),
            program: Program::Path(c"sh".to_owned()),
            argv: vec![c"sh".to_owned(), c"-c".to_owned(), c"".to_owned()],
            env: vec![c"PATH=/bin::/usr/bin".to_owned()],
        }
    }

    #[test]
    fn orders_arrive_as_they_were_given() {
        let mut words = plan().orders(&[1, 2, 3, 4, 5, 6, 7]);
        let orders = Orders::check(&mut words).unwrap();
        assert_eq!(orders.layers(), Layers::FULL);
        assert_eq!(orders.host_namespace(6), 7);
        let candidates: Vec<_> = orders.candidates().collect();
        assert_eq!(candidates, [c"/bin/sh", c"/usr/bin/sh"]);
        let grants: Vec<_> = orders.grants().map(|(_, path)| path).collect();
        assert_eq!(grants, [c"/proc", c"/dev", c"/dev/shm", c"/tmp"]);
        assert_eq!((orders.argv().len(), orders.envp().len()), (4, 2));
        assert_eq!(orders.rlimits().count(), room::RLIMITS.len() + 1);
    }

    #[test]
    fn damaged_orders_are_refused() {
        let good = plan().orders(&[0; 7]);
        assert!(Orders::check(&mut good.clone()).is_some());
        for cut in 0..good.len() {
            assert!(Orders::check(&mut good[..cut].to_vec()).is_none(), "cut at {cut}");
        }
        // The header says what the rest is: every count and the size must fit.
        for n in [0, 1, 12, 13, 14, 15, 16] {
            for wrong in [0, u64::MAX, good.len() as u64, good[n] + 1] {
                let mut bad = good.clone();
                bad[n] = wrong;
                if bad != good {
                    assert!(Orders::check(&mut bad).is_none(), "word {n} as {wrong}");
                }
            }
        }
    }

    #[test]
    fn root_of_the_room_only_with_its_capabilities() {
        assert_eq!(plan().inner_ids(), (1000, 100));
        assert_eq!(Plan { layers: Layers::NS_ONLY, ..plan() }.inner_ids(), (0, 0));
    }
}
