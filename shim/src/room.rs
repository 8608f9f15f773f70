//! What every room holds: tables.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use agent_init::landlock::Access;

/// How a node of the composed root comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory on the room's own tmpfs, with this mode.
    Dir(u32),
    /// The proc of the pid namespace that the room is in.
    Proc,
    /// Pseudo terminals of its own. devpts, Documentation/filesystems/devpts.rst.
    Devpts,
    /// The host's character device of the same path, by its major and minor number.
    Device(u32, u32),
    /// The host's directory (or file: `false`) of the same path, read-only.
    ReadOnly(bool),
    /// A symbolic link.
    Link(CString),
    /// The room's `/dev/null` over a file of proc.
    Masked,
}

/// One node: where it is, on the host too if it is the host's; what it is; and what Landlock
/// grants at and beneath it (nothing: what the directory above it has).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Absolute.
    pub path: CString,
    /// How it is made.
    pub kind: Kind,
    /// By rule, not by a second list: see `grant`.
    pub access: Access,
}

/// What is mounted decides what is granted: directories of the room with the sticky bit are
/// everyone's to write in, proc and the host's directories are to be read and run, devices used.
fn grant(path: &CStr, kind: &Kind) -> Access {
    match kind {
        Kind::Dir(mode) if mode & 0o1000 != 0 => Access::WRITE,
        Kind::Dir(_) if path == c"/dev" => Access::DEVICES,
        Kind::Proc | Kind::ReadOnly(true) => Access::READ,
        Kind::ReadOnly(false) => Access::READ & Access::OF_A_FILE,
        Kind::Dir(_) | Kind::Devpts | Kind::Device(..) | Kind::Link(_) | Kind::Masked => {
            Access::empty()
        }
    }
}

fn node(path: &CStr, kind: Kind) -> Node {
    Node { path: path.to_owned(), access: grant(path, &kind), kind }
}

/// The bare room: nothing of the host but its harmless devices.
pub fn bare() -> Vec<Node> {
    let link = |target: &CStr| Kind::Link(target.to_owned());
    #[rustfmt::skip] // a row a line
    let mut rows = vec![
        node(c"/proc",        Kind::Proc),
        node(c"/dev",         Kind::Dir(0o755)),
        node(c"/dev/null",    Kind::Device(1, 3)),
        node(c"/dev/zero",    Kind::Device(1, 5)),
        node(c"/dev/full",    Kind::Device(1, 7)),
        node(c"/dev/random",  Kind::Device(1, 8)),
        node(c"/dev/urandom", Kind::Device(1, 9)),
        node(c"/dev/tty",     Kind::Device(5, 0)),
        node(c"/dev/pts",     Kind::Dir(0o755)),
        node(c"/dev/pts",     Kind::Devpts),
        node(c"/dev/ptmx",    link(c"pts/ptmx")),
        node(c"/dev/fd",      link(c"/proc/self/fd")),
        node(c"/dev/stdin",   link(c"/proc/self/fd/0")),
        node(c"/dev/stdout",  link(c"/proc/self/fd/1")),
        node(c"/dev/stderr",  link(c"/proc/self/fd/2")),
        node(c"/dev/shm",     Kind::Dir(0o1777)),
        node(c"/tmp",         Kind::Dir(0o1777)),
    ];
    // Decided here, on the host: a file that is there and cannot be masked ends the launch.
    let has = |path: &&CStr| Path::new(OsStr::from_bytes(path.to_bytes())).exists();
    rows.extend(MASKED.iter().filter(|p| has(p)).map(|path| node(path, Kind::Masked)));
    rows
}

/// Keys are not namespaced: these list what every process of the same id has. A kernel without
/// keys has neither.
const MASKED: &[&CStr] = &[c"/proc/keys", c"/proc/key-users"];

/// The host's programs and libraries, and what the loader looks for in /etc.
const SYSTEM: &[&CStr] = &[
    c"/usr",
    c"/bin",
    c"/sbin",
    c"/lib",
    c"/lib32",
    c"/lib64",
    c"/libx32",
    c"/etc/alternatives",
    c"/etc/ld.so.cache",
];

/// The bare room and the host's system directories, read-only. What the host does not have is
/// left out; its links (merged /usr) are links in the room.
pub fn system() -> Vec<Node> {
    let mut nodes = bare();
    nodes.push(node(c"/etc", Kind::Dir(0o755)));
    for path in SYSTEM {
        let on_host = Path::new(OsStr::from_bytes(path.to_bytes()));
        let Ok(meta) = on_host.symlink_metadata() else { continue };
        let target = on_host.read_link().map(|t| t.into_os_string().into_vec());
        let kind = match target.map(CString::new) {
            Ok(Ok(target)) => Kind::Link(target),
            _ => Kind::ReadOnly(meta.is_dir()),
        };
        nodes.push(node(path, kind));
    }
    nodes
}

/// Bytes of everything that is written in a room: `/`, `/tmp`, `/dev/shm`. tmpfs(5), `size`.
pub const TMPFS_SIZE: &CStr = c"64M";
/// Files and directories in a room. tmpfs(5), `nr_inodes`.
pub const TMPFS_INODES: &CStr = c"16k";

/// The name of the room's uts namespace.
pub const HOSTNAME: &CStr = c"room";

/// Resource and limit. getrlimit(2); RLIMIT_NPROC is counted per user namespace (Linux 5.14).
#[rustfmt::skip] // a row a line
pub const RLIMITS: &[(u32, u64)] = &[
    (libc::RLIMIT_CORE,       1), // too little for a file, and "no" to a pipe to a host program: core(5)
    (libc::RLIMIT_NOFILE,     1024),
    (libc::RLIMIT_SIGPENDING, 1024), // timers and queued signals are counted to the user on the host
    (libc::RLIMIT_RTPRIO,     0),    // no real-time class, and no better nice value
    (libc::RLIMIT_NICE,       0),
];

/// The same, where a user namespace counts them apart from the caller's other processes.
pub const RLIMIT_NPROC: (u32, u64) = (libc::RLIMIT_NPROC, 256);

/// The environment of a room that asks for nothing.
pub const ENV: &[&CStr] = &[
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"HOME=/tmp",
    c"TMPDIR=/tmp",
    c"LANG=C.UTF-8",
];

/// The id that root's rooms run as: nobody, on every distribution.
pub const UNPRIVILEGED: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first() {
        let nodes = system();
        for (n, node) in nodes.iter().enumerate() {
            let path = node.path.to_str().unwrap();
            assert!(path.starts_with('/'), "{path}");
            let parent = path.rsplit_once('/').unwrap().0;
            let known = nodes[..n].iter().any(|p| p.path.to_str().unwrap() == parent);
            assert!(parent.is_empty() || known, "{path} before its directory");
        }
    }

    #[test]
    fn only_sticky_directories_can_be_written() {
        for node in system() {
            let write = node.access.intersects(Access::MAKE_REG | Access::REMOVE_FILE);
            assert_eq!(write, matches!(node.kind, Kind::Dir(0o1777)), "{node:?}");
        }
    }
}
