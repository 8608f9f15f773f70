//! Layers: the set of primitives that make a room, and the profiles as constants of it.

use bitflags::bitflags;

bitflags! {
    /// One flag per primitive. Launcher, init, matrix and attribution all read this one set.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Layers: u32 {
        /// A user namespace that maps one id. user_namespaces(7).
        const USERNS = 1 << 0;
        /// A root composed on a private tmpfs, entered by `pivot_root`. mount_namespaces(7).
        const MNT = 1 << 1;
        /// A pid namespace, and the proc that shows it. pid_namespaces(7).
        const PID = 1 << 2;
        /// A network namespace; its loopback is up. network_namespaces(7).
        const NET = 1 << 3;
        /// System V and POSIX message queues of its own. ipc_namespaces(7).
        const IPC = 1 << 4;
        /// A host name of its own. uts_namespaces(7).
        const UTS = 1 << 5;
        /// A view of cgroups that starts at the room. cgroup_namespaces(7).
        const CGROUP = 1 << 6;
        /// `no_new_privs`: no set-uid program gives anything. prctl(2), PR_SET_NO_NEW_PRIVS.
        const NNP = 1 << 7;
        /// A file-system allow-list and scopes. landlock(7).
        const LANDLOCK = 1 << 8;
        /// All five capability sets empty, securebits locked. capabilities(7).
        const CAPS = 1 << 9;
        /// The system-call filter. seccomp(2).
        const SECCOMP = 1 << 10;
    }
}

/// Flag, its name in options and JSON, its name in tables, and the layers it cannot stand without.
#[derive(Debug)]
pub struct Layer {
    /// Exactly one bit.
    pub flag: Layers,
    /// The name in `--layers` and in JSON.
    pub name: &'static str,
    /// The word in tables, DESIGN §7.
    pub word: &'static str,
    /// Layers without which the kernel refuses this one to an ordinary user.
    pub needs: Layers,
}

const fn row(flag: Layers, name: &'static str, word: &'static str, needs: Layers) -> Layer {
    Layer { flag, name, word, needs }
}

/// Every layer, in the order in which the kernel asks them when a system call is made: the filter
/// at the entry, then what the path or number is looked up in, then credentials, then the LSM.
#[rustfmt::skip]
pub const LAYERS: &[Layer] = &[
    row(Layers::SECCOMP,  "seccomp",  "seccomp",   Layers::NNP),
    row(Layers::MNT,      "mnt",      "mnt ns",    Layers::USERNS),
    row(Layers::PID,      "pid",      "pid ns",    Layers::USERNS),
    row(Layers::NET,      "net",      "net ns",    Layers::USERNS),
    row(Layers::IPC,      "ipc",      "ipc ns",    Layers::USERNS),
    row(Layers::UTS,      "uts",      "uts ns",    Layers::USERNS),
    row(Layers::CGROUP,   "cgroup",   "cgroup ns", Layers::USERNS),
    row(Layers::USERNS,   "userns",   "user ns",   Layers::empty()),
    row(Layers::CAPS,     "caps",     "caps",      Layers::USERNS), // the bounding set needs CAP_SETPCAP
    row(Layers::LANDLOCK, "landlock", "landlock",  Layers::NNP),
    row(Layers::NNP,      "nnp",      "no_new_privs", Layers::empty()),
];

/// A namespace: its flag, its file in `/proc/self/ns`, and the `CLONE_NEW*` bit that makes it.
#[derive(Debug)]
pub struct Namespace {
    /// Exactly one bit.
    pub flag: Layers,
    /// The file, for example `/proc/self/ns/mnt`.
    pub file: &'static core::ffi::CStr,
    /// For clone(2) and unshare(2).
    pub clone: u64,
}

const fn ns(flag: Layers, file: &'static core::ffi::CStr, clone: i32) -> Namespace {
    Namespace { flag, file, clone: clone.cast_unsigned() as u64 }
}

/// The seven kinds; `Orders` carries the host's inodes in this order.
#[rustfmt::skip]
pub const NAMESPACES: [Namespace; 7] = [
    ns(Layers::USERNS, c"/proc/self/ns/user",   libc::CLONE_NEWUSER),
    ns(Layers::MNT,    c"/proc/self/ns/mnt",    libc::CLONE_NEWNS),
    ns(Layers::PID,    c"/proc/self/ns/pid",    libc::CLONE_NEWPID),
    ns(Layers::NET,    c"/proc/self/ns/net",    libc::CLONE_NEWNET),
    ns(Layers::IPC,    c"/proc/self/ns/ipc",    libc::CLONE_NEWIPC),
    ns(Layers::UTS,    c"/proc/self/ns/uts",    libc::CLONE_NEWUTS),
    ns(Layers::CGROUP, c"/proc/self/ns/cgroup", libc::CLONE_NEWCGROUP),
];

impl Layers {
    /// Profile `none`: an ordinary unprivileged user, no isolation.
    pub const NONE: Layers = Layers::empty();
    /// Profile `ns_only`: every namespace; uid 0 and all capabilities *inside*.
    pub const NS_ONLY: Layers = Layers::USERNS
        .union(Layers::MNT)
        .union(Layers::PID)
        .union(Layers::NET)
        .union(Layers::IPC)
        .union(Layers::UTS)
        .union(Layers::CGROUP);
    /// Profile `landlock`: `ns_only` and a file-system allow-list.
    pub const WITH_LANDLOCK: Layers = Layers::NS_ONLY.union(Layers::NNP).union(Layers::LANDLOCK);
    /// Profile `full`: all of them.
    pub const FULL: Layers = Layers::WITH_LANDLOCK.union(Layers::CAPS).union(Layers::SECCOMP);

    /// Profile `self` of agent-init alone: what a process can do to itself.
    pub const SELF: Layers =
        Layers::NNP.union(Layers::LANDLOCK).union(Layers::CAPS).union(Layers::SECCOMP);

    /// The set and all that it stands on.
    pub fn with_needs(self) -> Layers {
        LAYERS.iter().filter(|l| self.contains(l.flag)).fold(self, |set, l| set | l.needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_one_row() {
        assert_eq!(LAYERS.len(), Layers::all().iter().count());
        for flag in Layers::all().iter() {
            assert_eq!(LAYERS.iter().filter(|l| l.flag == flag).count(), 1, "{flag:?}");
        }
    }

    #[test]
    fn profiles_stand_on_their_own() {
        for profile in [Layers::NONE, Layers::NS_ONLY, Layers::WITH_LANDLOCK, Layers::FULL] {
            assert_eq!(profile, profile.with_needs());
        }
    }

    #[test]
    fn one_layer_brings_what_it_stands_on() {
        assert_eq!(Layers::SECCOMP.with_needs(), Layers::SECCOMP | Layers::NNP);
        assert_eq!(Layers::MNT.with_needs(), Layers::MNT | Layers::USERNS);
    }
}
