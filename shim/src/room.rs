//! What every room holds: tables, and the kinds of nodes that a root is composed of.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use agent_init::error::Errno;
use agent_init::landlock::Access;

use crate::source::Source;
use crate::spec::Mode;

/// How a node of the composed root comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory on the room's own tmpfs, with this mode.
    Dir(u32),
    /// The same, for the agent to write in.
    Scratch(u32),
    /// A tmpfs of its own, in a directory of the host.
    Tmpfs,
    /// A file on the room's own tmpfs.
    File(Arc<[u8]>),
    /// A symbolic link.
    Link(CString),
    /// The proc of the pid namespace that the room is in.
    Proc,
    /// Pseudo terminals of its own. devpts, Documentation/filesystems/devpts.rst.
    Devpts,
    /// The host's character device of the same path, by its major and minor number.
    Device(u32, u32),
    /// A file or directory of the host.
    Bind(Bind),
    /// A directory of an image, and a writable layer over it.
    Overlay(Bind),
    /// Nothing over a directory (`true`) or file.
    Mask(bool),
}

/// A file or directory of the host, and how it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Open since it was judged.
    pub source: Source,
    /// How it is shown.
    pub mode: Mode,
    /// User and group on the host.
    pub owner: (u32, u32),
    /// What is its owner's is shown as the agent's own.
    pub shown_as_own: bool,
    /// Where in the room, without the leading slash, it brings mounts of the host's device nodes along:
    /// those are read-only, whatever the mode.
    pub devices: Vec<CString>,
}

impl Bind {
    /// With the owner that it has.
    pub fn new(source: Source, mode: Mode) -> Bind {
        let owner = source.facts.owner;
        Bind { source, mode, owner, shown_as_own: false, devices: Vec::new() }
    }

    /// Not a file, device or socket.
    pub fn is_dir(&self) -> bool {
        self.source.facts.is_dir()
    }

    /// Itself a device node.
    pub fn is_device(&self) -> bool {
        matches!(self.source.facts.kind, libc::S_IFCHR | libc::S_IFBLK)
    }

    /// Whether what the agent does there reaches the host.
    pub fn can_be_written(&self) -> bool {
        matches!(self.mode, Mode::Writable | Mode::Devices)
    }
}

/// One node: where it is; what it is; and what Landlock grants at and beneath it (nothing: what
/// the directory above it has).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Absolute.
    pub path: CString,
    /// How it is made.
    pub kind: Kind,
    /// By rule, not by a second list: see [`grant`].
    pub access: Access,
    /// It lies beneath a directory of the host, where nothing is made: it must be there.
    pub on_host: bool,
}

/// What is mounted decides what is granted: what the agent is given to write can be written, proc
/// and what is read-only can be read and run, devices used.
pub fn grant(path: &CStr, kind: &Kind) -> Access {
    match kind {
        Kind::Scratch(_) | Kind::Tmpfs | Kind::Overlay(_) => Access::WRITE,
        Kind::Dir(_) if path == c"/dev" => Access::DEVICES,
        Kind::Proc | Kind::Dir(_) => Access::READ,
        Kind::Bind(bind) => {
            let access = match bind.mode {
                Mode::ReadOnly => Access::READ,
                Mode::Writable => Access::WRITE,
                Mode::Devices => Access::WRITE | Access::DEVICES,
                Mode::Socket => Access::RESOLVE_UNIX,
            };
            if bind.is_dir() { access } else { access & Access::OF_A_FILE }
        }
        Kind::File(_) => Access::READ & Access::OF_A_FILE,
        Kind::Devpts | Kind::Device(..) | Kind::Link(_) | Kind::Mask(_) => Access::empty(),
    }
}

/// Without the leading slash.
pub fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let rest = bytes.strip_prefix(b"/").unwrap_or(bytes);
    CStr::from_bytes_with_nul(rest).unwrap_or(c".")
}

/// A node on the room's own tmpfs.
pub fn node(path: &CStr, kind: Kind) -> Node {
    Node { path: path.to_owned(), access: grant(path, &kind), kind, on_host: false }
}

/// Nothing of the host but its harmless devices.
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
        node(c"/dev/pts",     Kind::Devpts),
        node(c"/dev/ptmx",    link(c"pts/ptmx")),
        node(c"/dev/fd",      link(c"/proc/self/fd")),
        node(c"/dev/stdin",   link(c"/proc/self/fd/0")),
        node(c"/dev/stdout",  link(c"/proc/self/fd/1")),
        node(c"/dev/stderr",  link(c"/proc/self/fd/2")),
        node(c"/dev/shm",     Kind::Scratch(0o1777)),
        node(c"/tmp",         Kind::Scratch(0o1777)),
    ];
    // Decided here, on the host: a file that is there and cannot be masked ends the launch.
    rows.extend(
        MASKED
            .iter()
            .filter(|path| Source::itself(path).is_ok())
            .map(|path| node(path, Kind::Mask(false))),
    );
    rows
}

/// Keys are not namespaced: these list what every process of the same id has. A kernel without
/// keys has neither.
const MASKED: &[&CStr] = &[c"/proc/keys", c"/proc/key-users"];

/// What programs take for granted, on the room's own tmpfs.
fn private() -> Vec<Node> {
    #[rustfmt::skip]
    let rows = vec![
        node(c"/run",     Kind::Scratch(0o755)),
        node(c"/home",    Kind::Dir(0o755)),
        node(HOME,        Kind::Scratch(0o700)),
    ];
    rows
}

/// The agent's home, and its name.
pub const HOME: &CStr = c"/home/agent";
/// The same, where there is no home.
pub const BARE_HOME: &CStr = c"/tmp";

/// The host's programs and libraries, and what the loader, time zones, TLS and the like look for
/// in /etc: nothing that tells of the host's users or services.
const SYSTEM: &[&CStr] = &[
    c"/usr",
    c"/bin",
    c"/sbin",
    c"/lib",
    c"/lib32",
    c"/lib64",
    c"/libx32",
    c"/opt",
    c"/nix",
    c"/gnu",
    c"/etc/alternatives",
    c"/etc/ca-certificates",
    c"/etc/ld.so.cache",
    c"/etc/ld.so.conf",
    c"/etc/ld.so.conf.d",
    c"/etc/localtime",
    c"/etc/mime.types",
    c"/etc/os-release",
    c"/etc/pki",
    c"/etc/protocols",
    c"/etc/services",
    c"/etc/ssl",
    c"/etc/terminfo",
];

/// The host's system directories, read-only, and the private ones. What the host does not have is
/// left out; its links (merged /usr) are links in the room.
pub fn system() -> Vec<Node> {
    let mut nodes = private();
    nodes.push(node(c"/var", Kind::Dir(0o755)));
    nodes.push(node(c"/var/tmp", Kind::Scratch(0o1777)));
    nodes.push(node(c"/etc", Kind::Dir(0o755)));
    let found = SYSTEM.iter().filter_map(|path| Some((path, Source::itself(path).ok()?)));
    nodes.extend(found.filter_map(|(path, source)| shown(path, source)));
    nodes
}

/// The entries of an image's root, read-only or with a layer over them; what every room has takes
/// their place.
pub fn image(dir: &Source, overlay: bool) -> Result<Vec<Node>, Errno> {
    let mut nodes = private();
    let mut names = dir.names(MOST_OF_A_ROOT)?;
    names.sort();
    for entry in names {
        let Ok(name) = CString::new([b"/", entry.as_bytes()].concat()) else { continue };
        if PRIVATE.contains(&name.as_c_str()) {
            continue;
        }
        let found = dir.find(&entry)?.and_then(|source| shown(&name, source));
        nodes.extend(found.map(|found| match found.kind {
            Kind::Bind(bind) if bind.is_dir() && overlay => node(&name, Kind::Overlay(bind)),
            _ => found,
        }));
    }
    Ok(nodes)
}

/// Most names in the root of an image: each is a mount.
const MOST_OF_A_ROOT: usize = 1024;

/// What an image's root never is the source of.
const PRIVATE: &[&CStr] = &[c"/proc", c"/sys", c"/dev", c"/tmp", c"/run", c"/home"];

/// A directory, file or link of the host at `path`, read-only; anything else is left out.
fn shown(path: &CStr, source: Source) -> Option<Node> {
    if !source.facts.is_link() {
        let bound = source.facts.is_dir() || source.facts.is_file();
        return bound.then(|| node(path, Kind::Bind(Bind::new(source, Mode::ReadOnly))));
    }
    // A link within what is bound stays one. In /etc, it is followed: its target may be
    // anywhere (/etc/localtime, /etc/alternatives on some hosts).
    if !path.to_bytes().starts_with(b"/etc/") {
        let target = CString::new(source.target().ok()?.into_os_string().into_vec()).ok()?;
        return Some(node(path, Kind::Link(target)));
    }
    let followed = Source::following_links(source.path()).ok()?;
    let bound = followed.facts.is_dir() || followed.facts.is_file();
    bound.then(|| node(path, Kind::Bind(Bind::new(followed, Mode::ReadOnly))))
}

/// Users, groups, host names and where to look for them: the agent and root, nobody of the host.
pub fn identity_files(uid: u32, gid: u32, hostname: &CStr) -> Vec<Node> {
    let name = hostname.to_string_lossy();
    let other = |id: u32, own: u32, line: &str| if id == own { String::new() } else { line.into() };
    let passwd = format!(
        "agent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n{}{}",
        other(0, uid, "root:x:0:0:root:/root:/bin/sh\n"),
        other(65534, uid, "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    );
    let group = format!(
        "agent:x:{gid}:\n{}{}",
        other(0, gid, "root:x:0:\n"),
        other(65534, gid, "nogroup:x:65534:\n")
    );
    let hosts = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost {name}\n");
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
        services: files\nprotocols: files\n";
    let file = |path, text: String| node(path, Kind::File(text.into_bytes().into()));
    vec![
        file(c"/etc/passwd", passwd),
        file(c"/etc/group", group),
        file(c"/etc/hosts", hosts),
        file(c"/etc/nsswitch.conf", nsswitch.to_owned()),
    ]
}

/// The name of the room's uts namespace.
pub const HOSTNAME: &CStr = c"room";

/// Resource and limit, of every room, besides what [`crate::limits`] knows. getrlimit(2).
#[rustfmt::skip] // a row a line
pub const RLIMITS: &[(u32, u64)] = &[
    (libc::RLIMIT_CORE,       1), // too little for a file, and "no" to a pipe to a host program: core(5)
    (libc::RLIMIT_SIGPENDING, 1024), // timers and queued signals are counted to the user on the host
    (libc::RLIMIT_RTPRIO,     0),    // no real-time class, and no better nice value
    (libc::RLIMIT_NICE,       0),
];

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Beneath `/` every directory of a room can be listed, so that `ls /` works.
pub const ROOT_ACCESS: Access = Access::READ_DIR;

/// The id that root's rooms run as: nobody, on every distribution.
pub const UNPRIVILEGED: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_agents_can_be_written() {
        for node in bare().into_iter().chain(system()) {
            let write = node.access.intersects(Access::MAKE_REG | Access::REMOVE_FILE);
            assert_eq!(write, matches!(node.kind, Kind::Scratch(_)), "{node:?}");
        }
    }

    #[test]
    fn users_are_the_agent_and_root() {
        let of = |uid, gid| match &identity_files(uid, gid, c"room")[0].kind {
            Kind::File(text) => String::from_utf8(text.to_vec()).unwrap(),
            kind => panic!("{kind:?}"),
        };
        assert_eq!(of(1000, 1000).lines().count(), 3);
        assert!(of(65534, 65534).starts_with("agent:x:65534:65534:"));
        assert_eq!(of(65534, 65534).lines().count(), 2);
        assert_eq!(of(0, 0).matches(":0:0:").count(), 1);
    }
}
