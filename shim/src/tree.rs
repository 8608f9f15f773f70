//! The tree of a room: what every room has and what was asked for become one list of nodes,
//! parents first. Nothing is made here; all that is asked of the host is what is there.
//!
//! What was asked for takes the place of what the room would have there and beneath. The most
//! specific destination wins, whatever the order; two on one destination are an error. Missing
//! directories are made on the room's own tmpfs only: beneath a directory of the host, the
//! destination must be there, be of the right kind, and no link may lead to it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use agent_init::error::{Errno, Step};
use agent_init::landlock::Access;

use crate::error::{Failure, errno_of};
use crate::room::{self, Bind, Kind, Node};
use crate::spec::{Mode, Mount, What};

/// A path as a list of names, so that a directory sorts before what is in it.
type Key = Vec<Vec<u8>>;

/// Longest name and path: include/uapi/linux/limits.h.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// Most links that are followed to a destination: path_resolution(7).
const MOST_LINKS: usize = 40;

/// What was asked for, checked against the host: a node, and the option to be named in messages.
#[derive(Debug)]
pub struct Asked {
    option: &'static str,
    key: Key,
    kind: Kind,
}

fn refused(option: &str, object: &Path, errno: Errno) -> Failure {
    Failure::new(Step::ROOM, option, object.as_os_str().as_bytes(), errno)
}

/// Checks a mount and what it speaks of on the host.
pub fn asked(mount: &Mount) -> Result<Asked, Failure> {
    let Mount { option, dest, what } = mount;
    let key = destination(dest).map_err(|errno| refused(option, dest, errno))?;
    let kind = match what {
        What::Bind(source, mode) => Kind::Bind(bind(source, *mode, option)?),
        What::Tmpfs => Kind::Scratch(0o755),
        What::File(content) => Kind::File(content.clone()),
        What::Symlink(target) => {
            let target = CString::new(target.as_bytes());
            Kind::Link(target.map_err(|_| refused(option, dest, Errno::EINVAL))?)
        }
        What::Mask => Kind::Mask(false), // of which kind is seen when it is known what is there
    };
    Ok(Asked { option, key, kind })
}

/// A destination: absolute, in the room, not its root.
fn destination(path: &Path) -> Result<Key, Errno> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if bytes.contains(&0) || !path.is_absolute() {
        return Err(Errno::EINVAL);
    }
    let mut key = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            Component::Normal(name) => key.push(name.as_bytes().to_vec()),
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::EINVAL),
        }
    }
    if key.is_empty() { Err(Errno::EBUSY) } else { Ok(key) }
}

/// What a source is, by its path without links: from now on by that and by its inode.
pub fn bind(source: &Path, mode: Mode, option: &str) -> Result<Bind, Failure> {
    let wrong = |errno| refused(option, source, errno);
    let io = |e: std::io::Error| wrong(errno_of(&e));
    let resolved = source.canonicalize().map_err(io)?;
    let meta = resolved.symlink_metadata().map_err(io)?;
    fits(&meta, mode).map_err(wrong)?;
    let path = CString::new(resolved.into_os_string().into_vec());
    let path = path.map_err(|_| wrong(Errno::EINVAL))?;
    if is_pseudo(&path) {
        return Err(wrong(Errno::EPERM)); // the host's processes: /proc/N/root leads out of any room
    }
    Ok(Bind::new(path, &meta, mode))
}

/// Whether a source of this type can be shown in this mode.
fn fits(meta: &Metadata, mode: Mode) -> Result<(), Errno> {
    let kind = meta.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    match mode {
        Mode::Socket => {
            if kind.is_socket() {
                Ok(())
            } else {
                Err(Errno::ENOTSOCK)
            }
        }
        // A FIFO or socket is a way out that a bind does not look like.
        _ if kind.is_socket() || kind.is_fifo() => Err(Errno::EOPNOTSUPP),
        Mode::Devices => Ok(()),
        _ if is_device => Err(Errno::ENODEV),
        _ => Ok(()),
    }
}

/// proc(5), include/uapi/linux/magic.h.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

fn is_pseudo(path: &CString) -> bool {
    agent_init::sys::fs_magic(path) == Ok(PROC_SUPER_MAGIC)
}

/// What was asked for at a destination, and the option.
type Place = (&'static str, Kind);

/// What lies where while the tree is put together.
struct Entry {
    node: Node,
    option: &'static str,
}

/// The nodes of the room, parents first.
pub fn resolve(base: Vec<Node>, asked: Vec<Asked>) -> Result<Vec<Node>, Failure> {
    let mut tree: BTreeMap<Key, Entry> = BTreeMap::new();
    for node in base {
        tree.insert(key_of(&node), Entry { node, option: "" });
    }
    let links: BTreeMap<Key, CString> = tree.iter().filter_map(link).collect();
    let mut places: BTreeMap<Key, Place> = BTreeMap::new();
    for one in asked {
        let name = path_of(&one.key);
        let wrong = |errno| refused(one.option, &name, errno);
        let key = follow(one.key, &links).map_err(wrong)?;
        if places.insert(key, (one.option, one.kind)).is_some() {
            return Err(wrong(Errno::EEXIST));
        }
    }
    for (key, way) in ways(&places)? {
        places.entry(key).or_insert(way);
    }
    for (key, (option, kind)) in places {
        put(&mut tree, key, option, kind)?;
    }
    let all = tree.iter().map(|(key, entry)| (key, entry.option, &entry.node.kind));
    for (key, (option, kind)) in procs(all) {
        let name = CString::new(path_of(&key).as_os_str().as_bytes()).unwrap_or_default();
        tree.entry(key).or_insert_with(|| Entry { node: room::node(&name, kind), option });
    }
    with_parents(tree)
}

/// Within a bind that can be written, the directories above what lies in it: were they not mount
/// points too, the agent could rename them and make others in their place, for the next run, or
/// for the host, to take for the ones that were meant.
fn ways(places: &BTreeMap<Key, Place>) -> Result<Vec<(Key, Place)>, Failure> {
    let mut ways = Vec::new();
    for (key, (option, kind)) in places {
        if matches!(kind, Kind::Link(_) | Kind::File(_)) {
            continue;
        }
        let above = (1..key.len()).rev().find_map(|n| Some((n, places.get(key.get(..n)?)?)));
        let Some((depth, (_, Kind::Bind(bind)))) = above else { continue };
        if !matches!(bind.mode, Mode::Writable | Mode::Devices) {
            continue;
        }
        let root = Path::new(OsStr::from_bytes(bind.source.to_bytes()));
        for n in depth + 1..key.len() {
            let names = key.get(depth..n).unwrap_or(&[]).iter().map(|name| OsStr::from_bytes(name));
            let source: PathBuf = std::iter::once(root.as_os_str()).chain(names).collect();
            let wrong = |errno| refused(option, &path_of(key), errno);
            let meta = source.symlink_metadata().map_err(|e| wrong(errno_of(&e)))?;
            if meta.is_symlink() {
                return Err(wrong(Errno::ELOOP));
            }
            let path = CString::new(source.into_os_string().into_vec());
            let path = path.map_err(|_| wrong(Errno::EINVAL))?;
            // Shown with the ids of the whole.
            let way = Bind { owner: bind.owner, ..Bind::new(path, &meta, bind.mode) };
            ways.push((key.get(..n).unwrap_or(&[]).to_vec(), (*option, Kind::Bind(way))));
        }
    }
    Ok(ways)
}

/// The links that are followed on the way to `path`, each by its own path without links.
pub fn links_on(path: &Path) -> Vec<PathBuf> {
    let mut links = Vec::new();
    let mut rest: Vec<_> =
        std::path::absolute(path).unwrap_or_default().iter().rev().map(OsStr::to_owned).collect();
    let mut here = PathBuf::from("/");
    while let Some(name) = rest.pop() {
        match name.as_bytes() {
            b"." => continue,
            b".." => {
                here.pop();
                continue;
            }
            _ => here.push(&name),
        }
        if let Ok(target) = here.read_link() {
            if links.len() == MOST_LINKS {
                break;
            }
            links.push(here.clone());
            here.pop();
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            rest.extend(target.iter().rev().map(OsStr::to_owned));
        }
    }
    links
}

/// Where a bind would bring a proc of the host along, as of `/`: a mask. proc_pid_mountinfo(5).
fn procs<'a>(binds: impl Iterator<Item = (&'a Key, &'static str, &'a Kind)>) -> Vec<(Key, Place)> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points: Vec<PathBuf> = table.split(|b| *b == b'\n').filter_map(proc_point).collect();
    let mut masks = Vec::new();
    for (key, option, kind) in binds {
        let (Kind::Bind(bind) | Kind::Overlay(bind)) = kind else { continue };
        let source = Path::new(OsStr::from_bytes(bind.source.to_bytes()));
        for rest in points.iter().filter_map(|p| p.strip_prefix(source).ok()) {
            let rest = rest.iter().map(|name| name.as_bytes().to_vec());
            masks.push((key.iter().cloned().chain(rest).collect(), (option, Kind::Mask(true))));
        }
    }
    masks
}

/// The mount point of a line, if it is of a proc: field 5, and the type after ` - `.
fn proc_point(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|b| *b == b' ');
    let point = fields.nth(4)?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"proc").then(|| OsString::from_vec(unescaped(point)).into())
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        let octal = rest.first_chunk::<3>().filter(|_| *first == b'\\');
        let value = octal.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        text = if value.is_some() { rest.get(3..).unwrap_or(&[]) } else { rest };
    }
    bytes
}

fn link((key, entry): (&Key, &Entry)) -> Option<(Key, CString)> {
    match &entry.node.kind {
        Kind::Link(target) => Some((key.clone(), target.clone())),
        _ => None,
    }
}

/// The destination without the room's own links in it: of `/bin/x`, `/usr/bin/x`.
fn follow(mut key: Key, links: &BTreeMap<Key, CString>) -> Result<Key, Errno> {
    for _ in 0..MOST_LINKS {
        let through = (1..key.len()).find_map(|n| Some((n, links.get(key.get(..n)?)?)));
        let Some((n, target)) = through else { return Ok(key) };
        let dir = path_of(key.get(..n - 1).unwrap_or(&[]));
        let target = dir.join(OsStr::from_bytes(target.to_bytes()));
        let mut way = destination(&target)?;
        way.extend(key.drain(n..));
        key = way;
    }
    Err(Errno::ELOOP)
}

fn is_dir(kind: &Kind) -> bool {
    match kind {
        Kind::Dir(_) | Kind::Scratch(_) | Kind::Tmpfs | Kind::Proc | Kind::Devpts => true,
        Kind::Bind(bind) | Kind::Overlay(bind) => bind.is_dir,
        Kind::Mask(dir) => *dir,
        Kind::File(_) | Kind::Link(_) | Kind::Device(..) => false,
    }
}

/// Puts one that was asked for in the place of what the room would have there.
fn put(
    tree: &mut BTreeMap<Key, Entry>,
    key: Key,
    option: &'static str,
    kind: Kind,
) -> Result<(), Failure> {
    let beneath = |k: &Key| k.starts_with(&key);
    let own = tree.get(&key).map(|entry| &entry.node.kind);
    if own == Some(&Kind::Proc) {
        return Err(refused(option, &path_of(&key), Errno::EBUSY)); // init asks it what is in force
    }
    if matches!((own, &kind), (Some(Kind::Mask(_)), Kind::Mask(_))) {
        return Ok(()); // it is masked already
    }
    // A mask takes what is there as it is.
    if let (Some(own), false) = (own, matches!(kind, Kind::Mask(_))) {
        let wrong = |errno| Err(refused(option, &path_of(&key), errno));
        match (is_dir(own), is_dir(&kind)) {
            (true, false) => return wrong(Errno::EISDIR),
            (false, true) if !matches!(own, Kind::Link(_)) => return wrong(Errno::ENOTDIR),
            _ => {}
        }
    }
    let replaced = tree.iter().any(|(k, e)| beneath(k) && e.option.is_empty());
    tree.retain(|k, e| !(beneath(k) && e.option.is_empty()));
    if matches!(kind, Kind::Mask(_)) && replaced {
        return Ok(()); // what is not made need not be covered
    }
    let path = path_of(&key);
    let name = CString::new(path.as_os_str().as_bytes());
    let name = name.map_err(|_| refused(option, &path, Errno::EINVAL))?;
    tree.insert(key, Entry { node: room::node(&name, kind), option });
    Ok(())
}

/// Directories that nobody asked for are made where they can be.
fn with_parents(tree: BTreeMap<Key, Entry>) -> Result<Vec<Node>, Failure> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut above: Vec<(Key, Node)> = Vec::new();
    for (key, Entry { mut node, option }) in tree {
        while above.last().is_some_and(|(k, _)| !key.starts_with(k)) {
            above.pop();
        }
        let depth = above.last().map_or(0, |(k, _)| k.len());
        let surface = above.last().map(|(_, n)| n);
        let path = path_of(&key);
        let wrong = |errno| refused(option, &path, errno);
        match surface.map(|n| (&n.kind, n.on_host)) {
            None | Some((Kind::Dir(_) | Kind::Scratch(_), _)) => {
                if matches!(node.kind, Kind::Mask(_)) {
                    return Err(wrong(Errno::ENOENT));
                }
                for n in depth + 1..key.len() {
                    let part = key.get(..n).unwrap_or(&[]);
                    let name = CString::new(path_of(part).as_os_str().as_bytes());
                    let made =
                        room::node(&name.map_err(|_| wrong(Errno::EINVAL))?, Kind::Dir(0o755));
                    nodes.push(made.clone());
                    above.push((part.to_vec(), made)); // others may lie in it
                }
            }
            // The room's proc: only what was decided on the host, of files that are there.
            Some((Kind::Proc, _)) if matches!(node.kind, Kind::Mask(_)) && option.is_empty() => {}
            Some((Kind::Bind(bind) | Kind::Overlay(bind), _)) if bind.is_dir => {
                let rest = key.get(depth..).unwrap_or(&[]);
                node = beneath(&bind.source, rest, node).map_err(wrong)?;
            }
            Some(_) => return Err(wrong(Errno::ENOTDIR)),
        }
        above.push((key, node.clone()));
        nodes.push(node);
    }
    Ok(nodes)
}

/// A node within a directory of the host: its place must be there, reached without a link.
fn beneath(source: &CString, rest: &[Vec<u8>], mut node: Node) -> Result<Node, Errno> {
    let mut place = PathBuf::from(OsStr::from_bytes(source.to_bytes()));
    let mut meta = None;
    for name in rest {
        place.push(OsStr::from_bytes(name));
        let found = place.symlink_metadata().map_err(|e| errno_of(&e))?;
        if found.is_symlink() {
            return Err(Errno::ELOOP);
        }
        meta = Some(found);
    }
    let there_is_dir = meta.is_some_and(|m| m.is_dir());
    let needs_dir = match &node.kind {
        Kind::Dir(_) => return Err(Errno::EEXIST),
        Kind::Scratch(_) | Kind::Tmpfs => {
            node.kind = Kind::Tmpfs;
            true
        }
        Kind::Mask(_) => {
            node.kind = Kind::Mask(there_is_dir);
            there_is_dir
        }
        Kind::Bind(bind) => bind.is_dir,
        // Made by writing into the directory, which is the host's.
        _ => return Err(Errno::EROFS),
    };
    node.on_host = true;
    match (needs_dir, there_is_dir) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(node),
    }
}

fn key_of(node: &Node) -> Key {
    let names = node.path.to_bytes().split(|b| *b == b'/');
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

fn path_of(key: &[Vec<u8>]) -> PathBuf {
    let names = key.iter().map(|name| OsStr::from_bytes(name));
    std::iter::once(OsStr::new("/")).chain(names).collect()
}

/// The tree as `--dry-run` prints it: a node a line.
pub fn text(nodes: &[Node]) -> String {
    let wide = nodes.iter().map(|n| n.path.count_bytes()).max().unwrap_or(0).min(50);
    let above = |node: &Node| {
        let beneath = |n: &&Node| {
            Path::new(OsStr::from_bytes(node.path.to_bytes()))
                .starts_with(OsStr::from_bytes(n.path.to_bytes()))
        };
        nodes.iter().filter(beneath).any(|n| n.access.contains(Access::WRITE_FILE))
    };
    let line = |n: &Node| {
        let path = n.path.to_bytes().escape_ascii().to_string();
        let writable = match &n.kind {
            Kind::Bind(bind) if matches!(bind.mode, Mode::ReadOnly | Mode::Socket) => "ro",
            Kind::Mask(_) => "ro",
            _ if above(n) => "rw",
            _ => "ro",
        };
        format!("{path:<wide$}  {writable}  {}\n", what(&n.kind))
    };
    nodes.iter().map(line).collect()
}

fn what(kind: &Kind) -> String {
    match kind {
        Kind::Dir(mode) | Kind::Scratch(mode) => format!("directory, mode {mode:o}"),
        Kind::Tmpfs => "tmpfs".into(),
        Kind::File(content) => format!("file of {} bytes", content.len()),
        Kind::Link(target) => format!("link to {}", target.to_bytes().escape_ascii()),
        Kind::Proc => "proc".into(),
        Kind::Devpts => "devpts".into(),
        Kind::Device(major, minor) => format!("device {major}:{minor}"),
        Kind::Overlay(bind) => format!("overlay of {}", bind.source.to_bytes().escape_ascii()),
        Kind::Mask(_) => "masked".into(),
        Kind::Bind(bind) => {
            let source = bind.source.to_bytes().escape_ascii();
            let (uid, gid) = bind.owner;
            match bind.shown_as_own {
                true => format!("bind of {source}, {uid}:{gid} shown as the agent"),
                false => format!("bind of {source}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(base: Vec<Node>, mounts: &[(&str, What)]) -> Result<Vec<String>, Errno> {
        let mounts = mounts.iter().map(|(dest, what)| {
            asked(&Mount { option: "--x", dest: dest.into(), what: what.clone() })
        });
        let asked = mounts.collect::<Result<_, _>>().map_err(|f| f.0.errno)?;
        let nodes = resolve(base, asked).map_err(|f| f.0.errno)?;
        let name = |n: &Node| format!("{} {}", n.path.to_str().unwrap(), what(&n.kind));
        Ok(nodes.iter().map(name).collect())
    }

    fn dir(path: &str) -> Node {
        room::node(&CString::new(path).unwrap(), Kind::Dir(0o755))
    }

    fn file(text: &str) -> What {
        What::File(text.as_bytes().into())
    }

    #[test]
    fn the_order_of_options_does_not_matter() {
        let mounts = [("/a/b/c", file("x")), ("/a", What::Tmpfs), ("/a/b", What::Tmpfs)];
        let wanted =
            ["/a directory, mode 755", "/a/b directory, mode 755", "/a/b/c file of 1 bytes"];
        let mut turned = mounts.clone();
        for _ in 0..3 {
            turned.rotate_left(1);
            assert_eq!(tree(vec![], &turned).unwrap(), wanted);
        }
    }

    #[test]
    fn what_was_asked_for_takes_the_place_of_what_was_there() {
        let base = || vec![dir("/etc"), dir("/etc/ssl"), dir("/usr")];
        let text = tree(base(), &[("/etc", What::Tmpfs)]).unwrap();
        assert_eq!(text.len(), 2);
        assert_eq!(tree(base(), &[("/etc", file(""))]), Err(Errno::EISDIR));
        assert_eq!(tree(base(), &[("/etc", What::Mask)]).unwrap().len(), 1);
        assert_eq!(tree(base(), &[("/opt", What::Mask)]), Err(Errno::ENOENT));
        assert_eq!(tree(base(), &[("/a/b", file(""))]).unwrap().len(), 5);
        assert_eq!(tree(vec![], &[("/a", file("")), ("/a/b", file(""))]), Err(Errno::ENOTDIR));
    }

    #[test]
    fn links_of_the_room_are_followed_in_the_room() {
        let link = |path: &str, to: &str| {
            let (path, to) = (CString::new(path).unwrap(), CString::new(to).unwrap());
            room::node(&path, Kind::Link(to))
        };
        let base = || vec![link("/bin", "usr/bin"), link("/l", "/l"), link("/up", "../../etc")];
        let text = tree(base(), &[("/bin/x", file(""))]).unwrap();
        assert_eq!(
            text[3..],
            [
                "/usr directory, mode 755",
                "/usr/bin directory, mode 755",
                "/usr/bin/x file of 0 bytes"
            ]
        );
        assert_eq!(tree(base(), &[("/l/x", file(""))]), Err(Errno::ELOOP));
        assert_eq!(tree(base(), &[("/up/x", file(""))]), Err(Errno::EINVAL));
        // Two names of one place are one place.
        assert_eq!(
            tree(base(), &[("/bin/x", file("")), ("/usr/bin/x", file(""))]),
            Err(Errno::EEXIST)
        );
    }

    #[test]
    fn bad_destinations() {
        let long = format!("/{}", "x".repeat(256));
        let deep = "/x".repeat(2048);
        #[rustfmt::skip] // a row a line
        let rows: &[(&str, Errno)] = &[
            ("x",           Errno::EINVAL),
            ("",            Errno::EINVAL),
            ("/a/../b",     Errno::EINVAL),
            ("/a/..",       Errno::EINVAL),
            ("/",           Errno::EBUSY),
            ("//.",         Errno::EBUSY),
            (&long,         Errno::ENAMETOOLONG),
            (&deep,         Errno::ENAMETOOLONG),
        ];
        for (dest, errno) in rows {
            assert_eq!(tree(vec![], &[(dest, What::Tmpfs)]), Err(*errno), "{dest}");
        }
        assert_eq!(tree(vec![], &[("/a\n\u{e9}//b/./", What::Tmpfs)]).unwrap().len(), 2);
    }

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        let line = br"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - proc proc rw";
        assert_eq!(proc_point(line), Some("/mnt/a b".into()));
        assert_eq!(proc_point(br"36 35 98:0 / /mnt rw - ext4 proc rw"), None);
        assert_eq!(unescaped(b"\\134\\12"), b"\\\\12");
    }
}
