//! A room as plain data: everything that is decided before the first process of it exists.

use std::ffi::{CStr, CString};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use agent_init::bpf::SockFilter;
use agent_init::error::{Errno, Step};
use agent_init::landlock::Access;
use agent_init::layers::{Layers, NAMESPACES};
use agent_init::orders::{END_FD, Flags, HEADER, MAGIC, PROGRAM_FD};

use crate::compose::Tmpfs;
use crate::error::Failure;
use crate::furnish;
use crate::git::Watch;
use crate::limits::Limits;
use crate::room::{self, Node};
use crate::spec::{Bend, Net, Spec};
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
    /// root never enters a room: it becomes another id, which only the parent may map.
    Unprivileged {
        /// [`room::UNPRIVILEGED`], or what was asked for.
        uid: u32,
        /// Likewise.
        gid: u32,
    },
    /// Not a room: the positive control of the matrix, as real root, and what is learnt by adding one
    /// layer to it. Mounts stay private.
    RealRoot,
}

impl Identity {
    /// Who the rooms of this caller run as. root of a user namespace that has no unprivileged id
    /// to give (a rootless container) maps its own, like an ordinary user.
    fn of(spec: &Spec) -> Result<Identity, Failure> {
        if spec.as_real_root {
            return Ok(Identity::RealRoot);
        }
        let (uid, gid) = sys::ids();
        let wanted =
            (spec.uid.unwrap_or(room::UNPRIVILEGED), spec.gid.unwrap_or(room::UNPRIVILEGED));
        let can_give =
            is_mapped("/proc/self/uid_map", wanted.0) && is_mapped("/proc/self/gid_map", wanted.1);
        if uid != 0 {
            return Ok(Identity::Caller { uid, gid });
        }
        if wanted.0 == 0 || wanted.1 == 0 || !can_give && (spec.uid.is_some() || spec.gid.is_some())
        {
            let what = format!("--uid {}, --gid {}", wanted.0, wanted.1);
            return Err(Failure::new(Step::IDS, "setresuid", what, Errno::EPERM));
        }
        Ok(match can_give {
            true => Identity::Unprivileged { uid: wanted.0, gid: wanted.1 },
            false => Identity::Caller { uid, gid },
        })
    }

    /// User and group id on the host.
    pub fn ids(self) -> (u32, u32) {
        match self {
            Identity::Caller { uid, gid } | Identity::Unprivileged { uid, gid } => (uid, gid),
            Identity::RealRoot => (0, 0),
        }
    }
}

/// Whether `id` exists in the caller's user namespace: user_namespaces(7), lines of
/// "first id inside, first id outside, count".
pub(crate) fn is_mapped(map: &str, id: u32) -> bool {
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

/// The id that the agent has in its own user namespace: root of the room while it keeps the
/// room's capabilities, else its own number, as programs compare it with that of files.
fn inner_ids(spec: &Spec, identity: Identity) -> Result<(u32, u32), Failure> {
    let (uid, gid) = identity.ids();
    let ids = (spec.uid.unwrap_or(uid), spec.gid.unwrap_or(gid));
    if !spec.layers.contains(Layers::USERNS) && ids != (uid, gid) {
        let what = "--uid, --gid, without a user namespace";
        return Err(Failure::new(Step::IDS, "uid_map", what, Errno::EPERM));
    }
    let itself = spec.layers.contains(Layers::CAPS) && spec.bend != Some(Bend::RootInside);
    Ok(if itself { ids } else { (0, 0) })
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
    /// The agent's filter; none: the one that init has in it.
    pub filter: Vec<SockFilter>,
    /// Who it runs as.
    pub identity: Identity,
    /// How an experiment differs from the room that it is about.
    pub bend: Option<Bend>,
    /// What the root holds, parents first.
    pub nodes: Vec<Node>,
    /// What is run.
    pub program: Program,
    /// Its argument list, with the name it is called by.
    pub argv: Vec<CString>,
    /// Its environment, `NAME=VALUE`.
    pub env: Vec<CString>,
    /// The directory that it starts in.
    pub start: CString,
    /// The name of the uts namespace.
    pub hostname: CString,
    /// User and group id of the agent in the room.
    pub inner: (u32, u32),
    /// What the caller should know before it starts.
    pub warnings: Vec<String>,
    /// What it leaves behind may take this long between SIGTERM and SIGKILL. Zero: SIGKILL at once.
    pub grace: Duration,
    /// What it may use.
    pub limits: Limits,
    /// The size of each tmpfs, from them.
    pub tmpfs: Tmpfs,
    /// Descriptors that it keeps, and their numbers there: 3 or more, none twice.
    pub kept: Vec<(Arc<OwnedFd>, RawFd)>,
    /// What is looked for after the run.
    pub watch: Watch,
}

impl Plan {
    /// What is asked for, checked against what is there: `program` and its argument list, with
    /// the name it is called by.
    pub fn of(spec: &Spec, program: Program, argv: Vec<CString>) -> Result<Plan, Failure> {
        let identity = Identity::of(spec)?;
        let mut flags = Flags::empty();
        flags.set(Flags::BEST_EFFORT, spec.best_effort);
        // Where the net namespace was taken away and the host's network was not given.
        flags.set(Flags::NO_TCP, spec.net == Net::None && !spec.layers.contains(Layers::NET));
        let mut plan = Plan {
            layers: spec.layers,
            omitted: spec.omitted,
            flags,
            filter: spec.filter.handed_over(spec.marked),
            identity,
            bend: spec.bend,
            nodes: Vec::new(),
            program,
            argv,
            env: Vec::new(),
            start: c"/".to_owned(),
            hostname: spec.hostname.clone(),
            inner: (0, 0),
            warnings: Vec::new(),
            grace: spec.limits.grace(),
            tmpfs: Tmpfs::of(&spec.limits),
            limits: spec.limits.clone(),
            kept: Vec::new(),
            watch: Watch::default(),
        };
        plan.inner = inner_ids(spec, identity)?;
        furnish::room(spec, &mut plan)?;
        Ok(plan)
    }

    /// The layers that are made, as opposed to asked back.
    pub fn made(&self) -> Layers {
        self.layers - self.omitted
    }

    /// Where the program may be, in the order of PATH; execvp(3).
    pub(crate) fn candidates(&self) -> Vec<CString> {
        let Program::Path(name) = &self.program else { return Vec::new() };
        if name.to_bytes().contains(&b'/') {
            return vec![name.clone()];
        }
        let path = self.env.iter().find_map(|e| e.to_bytes().strip_prefix(b"PATH="));
        let dirs = path.unwrap_or(b"/usr/bin:/bin").split(|b| *b == b':').filter(|d| !d.is_empty());
        dirs.filter_map(|dir| CString::new([dir, b"/", name.to_bytes()].concat()).ok()).collect()
    }

    /// The nodes that Landlock has a rule for: those that have more than what lies above them.
    fn grants(&self) -> Vec<&Node> {
        let above = |node: &Node| {
            let beneath = |n: &&Node| is_beneath(node.path.to_bytes(), n.path.to_bytes());
            self.nodes.iter().filter(beneath).fold(Access::empty(), |all, n| all | n.access)
        };
        self.nodes.iter().filter(|node| !above(node).contains(node.access)).collect()
    }

    /// The number of the first of the kept descriptors in init. They are in a row that has none of
    /// the numbers that the agent wants them at.
    pub fn first_kept(&self) -> RawFd {
        let with_program = matches!(self.program, Program::Image(_));
        let mut first = if with_program { PROGRAM_FD } else { END_FD } + 1;
        let wanted_in_row = |first| {
            let row = (first..).take(self.kept.len());
            row.filter(|at| self.kept.iter().any(|(_, wanted)| wanted == at)).last()
        };
        while let Some(at) = wanted_in_row(first) {
            first = at + 1;
        }
        first
    }

    /// The block that init receives: `agent_init::orders` has the layout.
    pub fn orders(
        &self,
        host_namespaces: &[u64; NAMESPACES.len()],
        rlimits: &[(u32, u64)],
    ) -> Vec<u64> {
        let nodes = self.grants().into_iter().map(|n| (n.access, &*n.path));
        let root = self.layers.contains(Layers::MNT).then_some((room::ROOT_ACCESS, c"/"));
        let grants: Vec<_> = root.into_iter().chain(nodes).collect();
        let candidates = self.candidates();
        let mut flags = self.flags;
        flags.set(Flags::PROGRAM_FD, matches!(self.program, Program::Image(_)));
        let counts = [
            self.filter.len(),
            rlimits.len(),
            self.kept.len(),
            grants.len(),
            candidates.len(),
            self.argv.len(),
            self.env.len(),
        ];

        let mut words = vec![MAGIC, 0, self.layers.bits().into(), flags.bits()];
        words.push(self.omitted.bits().into());
        words.extend(host_namespaces);
        words.push(u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX));
        words.extend(counts.map(|n| n as u64));
        debug_assert_eq!(words.len(), HEADER);
        words.extend(self.filter.iter().map(word));
        words.extend(rlimits.iter().flat_map(|(resource, limit)| [u64::from(*resource), *limit]));
        let number = |fd: RawFd| u64::from(fd.cast_unsigned());
        let kept = (self.first_kept()..).zip(&self.kept);
        words.extend(kept.flat_map(|(at, (_, wanted))| [number(at), number(*wanted)]));
        words.extend(grants.iter().map(|(access, _)| access.bits()));

        let offsets = grants.len() + candidates.len() + self.argv.len() + self.env.len() + 3;
        let mut strings = Strings { bytes: Vec::new(), at: 8 * (words.len() + offsets) };
        words.extend(grants.iter().map(|(_, path)| strings.add(path)));
        words.push(strings.add(&self.start));
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

/// As it lies in memory: code, jt, jf, k.
fn word(insn: &SockFilter) -> u64 {
    let SockFilter { code, jt, jf, k } = *insn;
    let ([c, d], [e, f, g, h]) = (code.to_ne_bytes(), k.to_ne_bytes());
    u64::from_ne_bytes([c, d, jt, jf, e, f, g, h])
}

/// Whether `path` lies beneath `dir`.
fn is_beneath(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
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
            filter: Vec::new(),
            identity: Identity::Caller { uid: 1000, gid: 100 },
            bend: None,
            nodes: room::bare(),
            program: Program::Path(c"sh".to_owned()),
            argv: vec![c"sh".to_owned(), c"-c".to_owned(), c"".to_owned()],
            env: vec![c"PATH=/bin::/usr/bin".to_owned()],
            start: c"/tmp".to_owned(),
            hostname: c"room".to_owned(),
            inner: (1000, 100),
            warnings: Vec::new(),
            grace: Duration::from_millis(1500),
            limits: Limits::default(),
            tmpfs: Tmpfs::of(&Limits::default()),
            kept: Vec::new(),
            watch: Watch::default(),
        }
    }

    #[test]
    fn orders_arrive_as_they_were_given() {
        let mut words = plan().orders(&[1, 2, 3, 4, 5, 6, 7], room::RLIMITS);
        let orders = Orders::check(&mut words).unwrap();
        assert_eq!(orders.layers(), Layers::FULL);
        assert_eq!(orders.host_namespace(6), 7);
        let candidates: Vec<_> = orders.candidates().collect();
        assert_eq!(candidates, [c"/bin/sh", c"/usr/bin/sh"]);
        let grants: Vec<_> = orders.grants().map(|(_, path)| path).collect();
        assert_eq!(grants, [c"/", c"/proc", c"/dev", c"/dev/shm", c"/tmp"]);
        assert_eq!((orders.start(), orders.grace()), (c"/tmp", 1500));
        assert_eq!((orders.argv().len(), orders.envp().len()), (4, 2));
        assert_eq!(orders.rlimits().count(), room::RLIMITS.len());
    }

    #[test]
    fn damaged_orders_are_refused() {
        let good = plan().orders(&[0; 7], room::RLIMITS);
        assert!(Orders::check(&mut good.clone()).is_some());
        for cut in 0..good.len() {
            assert!(Orders::check(&mut good[..cut].to_vec()).is_none(), "cut at {cut}");
        }
        // The header says what the rest is: every count and the size must fit.
        for n in [0, 1, 13, 14, 15, 16, 17, 18] {
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
    fn kept_descriptors_lie_in_a_row_that_nobody_wants() {
        let fd = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
        let with = |wanted: &[RawFd]| {
            let kept = wanted.iter().map(|w| (Arc::clone(&fd), *w)).collect();
            let mut words = Plan { kept, ..plan() }.orders(&[0; 7], room::RLIMITS);
            Orders::check(&mut words).unwrap().kept().collect::<Vec<_>>()
        };
        assert_eq!(with(&[]), []);
        assert_eq!(with(&[3, 20]), [(7, 3), (8, 20)]);
        assert_eq!(with(&[8, 7, 3]), [(9, 8), (10, 7), (11, 3)]);
        assert_eq!(with(&[8, 10]), [(11, 8), (12, 10)]);
    }

    #[test]
    fn root_of_the_room_only_with_its_capabilities() {
        let caller = Identity::Caller { uid: 1000, gid: 100 };
        let ids = |spec: Spec| inner_ids(&spec, caller);
        assert_eq!(ids(Spec::default()), Ok((1000, 100)));
        assert_eq!(ids(Spec { uid: Some(7), ..Spec::default() }), Ok((7, 100)));
        assert_eq!(ids(Spec { layers: Layers::NS_ONLY, ..Spec::default() }), Ok((0, 0)));
        let bent = Spec { bend: Some(Bend::RootInside), ..Spec::default() };
        assert_eq!(ids(bent), Ok((0, 0)));
        assert!(ids(Spec { layers: Layers::NONE, gid: Some(7), ..Spec::default() }).is_err());
    }
}
