//! The tree of a room: what every room has and what was asked for become one list of nodes,
//! parents first. Nothing is made here; all that is asked of the host is what is there.
//!
//! What was asked for takes the place of what the room would have there and beneath. The most
//! specific destination wins, whatever the order; two on one destination are an error. Missing
//! directories are made on the room's own tmpfs only: beneath a directory of the host, the
//! destination must be there, be of the right kind, and no link may lead to it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use agent_init::error::{Errno, Step};
use agent_init::landlock::Access;

use crate::error::Failure;
use crate::guard;
use crate::mounts::{self, Mounts};
use crate::room::{self, Bind, Kind, Node};
use crate::source::{self, MOST_LINKS, PATIENCE, Resolver, Source, shown};
use crate::spec::{Mode, Mount, What};

/// A path as a list of names, so that a directory sorts before what is in it.
pub type Key = Vec<Vec<u8>>;

/// Longest name and path: include/uapi/linux/limits.h.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

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
pub fn asked(mount: &Mount, resolver: &Resolver) -> Result<Asked, Failure> {
    let Mount { option, dest, what } = mount;
    let key = destination(dest).map_err(|errno| {
        let failure = refused(option, dest, errno);
        match std::path::absolute(dest).ok().filter(|_| dest.is_relative()) {
            Some(path) => failure
                .hinting(format!("a path in the room is absolute, as {}", source::typed(&path))),
            None => failure,
        }
    })?;
    let kind = match what {
        What::Bind(source, mode) => {
            Kind::Bind(bind(resolver.open(option, source)?, *mode, option)?)
        }
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

impl Asked {
    /// What is open already, at `dest`.
    pub fn opened(
        option: &'static str,
        dest: &Path,
        source: Source,
        mode: Mode,
    ) -> Result<Asked, Failure> {
        let key = destination(dest).map_err(|errno| refused(option, dest, errno))?;
        Ok(Asked { option, key, kind: Kind::Bind(bind(source, mode, option)?) })
    }

    /// What is shown of the host, and the option.
    pub fn bind(&self) -> Option<(&'static str, &Bind)> {
        match &self.kind {
            Kind::Bind(bind) => Some((self.option, bind)),
            _ => None,
        }
    }

    /// Where it is in the room.
    pub fn dest(&self) -> PathBuf {
        path_of(&self.key)
    }
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

/// A source, if it is of a type that can be shown in this mode.
pub fn bind(source: Source, mode: Mode, option: &str) -> Result<Bind, Failure> {
    match fits(source.facts.kind, mode) {
        Ok(()) => Ok(Bind::new(source, mode)),
        Err(errno) => Err(refused(option, source.path(), errno)),
    }
}

fn fits(kind: u32, mode: Mode) -> Result<(), Errno> {
    match (kind, mode) {
        (libc::S_IFSOCK, Mode::Socket) => Ok(()),
        (_, Mode::Socket) => Err(Errno::ENOTSOCK),
        // A FIFO or socket is a way out that a bind does not look like.
        (libc::S_IFSOCK | libc::S_IFIFO, _) => Err(Errno::EOPNOTSUPP),
        (_, Mode::Devices) => Ok(()),
        (libc::S_IFCHR | libc::S_IFBLK, _) => Err(Errno::ENODEV),
        _ => Ok(()),
    }
}

/// What was asked for at a destination, and the option.
pub type Place = (&'static str, Kind);

/// What lies where while the tree is put together.
struct Entry {
    node: Node,
    option: &'static str,
}

/// The tree while it is put together, and what there is to tell of it.
#[derive(Debug, Default)]
pub struct Resolved {
    /// What the room holds, parents first.
    pub nodes: Vec<Node>,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// The nodes of the room. `ways`: links of the host that led to a source which is shown by its own path.
pub fn resolve(
    base: Vec<Node>,
    asked: Vec<Asked>,
    mounts: &Mounts,
    ways: &[(PathBuf, PathBuf)],
) -> Result<Resolved, Failure> {
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
    let mut warnings = Vec::new();
    let base = tree.iter().map(|(key, entry)| (key, &entry.node.kind));
    for (key, place) in guard::elsewhere(base, &places, mounts, &mut warnings)? {
        places.entry(key).or_insert(place);
    }
    for (key, parent) in pinned_parents(&places, mounts)? {
        places.entry(key).or_insert(parent);
    }
    for (key, (option, kind)) in places {
        put(&mut tree, key, option, kind)?;
    }
    let all = tree.iter().map(|(key, entry)| (key, entry.option, &entry.node.kind));
    for (key, (option, kind)) in procs(all, mounts) {
        let name = CString::new(path_of(&key).as_os_str().as_bytes()).unwrap_or_default();
        tree.entry(key).or_insert_with(|| Entry { node: room::node(&name, kind), option });
    }
    for (at, target) in ways {
        put_link(&mut tree, at, target);
    }
    let mut nodes = with_parents(tree, mounts, &mut warnings)?;
    for node in &mut nodes {
        if let Kind::Bind(bind) = &mut node.kind
            && bind.can_be_written()
            && bind.is_dir()
        {
            let place = Path::new(OsStr::from_bytes(room::relative(&node.path).to_bytes()));
            let name = |rest: PathBuf| {
                CString::new(mounts::joined(place, &rest).into_os_string().into_encoded_bytes())
                    .ok()
            };
            let devices = mounts.of_devices(bind.source.path());
            bind.devices = devices.into_iter().filter_map(name).collect();
        }
    }
    Ok(Resolved { nodes, warnings })
}

/// A link of the host at its own place, where that is on the room's own tmpfs and nothing else is there:
/// the path that the caller knows works in the room too.
fn put_link(tree: &mut BTreeMap<Key, Entry>, at: &Path, target: &Path) {
    let Ok(key) = destination(at) else { return };
    let (name, target) =
        (CString::new(at.as_os_str().as_bytes()), CString::new(target.as_os_str().as_bytes()));
    let (Ok(name), Ok(target)) = (name, target) else { return };
    let is_taken = tree.keys().any(|k| k.starts_with(&key));
    let above = (1..key.len()).rev().find_map(|n| tree.get(key.get(..n)?));
    let is_own = above.is_none_or(|e| matches!(e.node.kind, Kind::Dir(_) | Kind::Scratch(_)));
    if is_own && !is_taken {
        tree.insert(
            key,
            Entry { node: room::node(&name, Kind::Link(target)), option: "--follow-links" },
        );
    }
}

/// Parents of a place within a writable bind are mount points too. Otherwise the agent could rename one
/// and make its own, which the next run, or the host, would take for the one that was meant.
fn pinned_parents(
    places: &BTreeMap<Key, Place>,
    mounts: &Mounts,
) -> Result<Vec<(Key, Place)>, Failure> {
    let mut parents = Vec::new();
    for (key, (option, kind)) in places {
        if matches!(kind, Kind::Link(_) | Kind::File(_)) {
            continue;
        }
        let above = (1..key.len()).rev().find_map(|n| Some((n, places.get(key.get(..n)?)?)));
        let Some((depth, (_, Kind::Bind(bind)))) = above else { continue };
        if !bind.can_be_written() {
            continue;
        }
        for n in depth + 1..key.len() {
            let rest = path_of(key.get(depth..n).unwrap_or(&[]));
            let rest = rest.strip_prefix("/").unwrap_or(&rest);
            let wrong = |errno| refused(option, &path_of(key), errno);
            let source = beneath(bind, rest, mounts).map_err(wrong)?;
            if source.facts.is_link() {
                return Err(wrong(Errno::ELOOP));
            }
            // Shown with the ids of the whole.
            let parent = Bind { owner: bind.owner, ..Bind::new(source, bind.mode) };
            parents.push((key.get(..n).unwrap_or(&[]).to_vec(), (*option, Kind::Bind(parent))));
        }
    }
    Ok(parents)
}

/// Where a bind would bring a proc of the host along, as of `/`: a mask. proc_pid_mountinfo(5).
fn procs<'a>(
    binds: impl Iterator<Item = (&'a Key, &'static str, &'a Kind)>,
    mounts: &Mounts,
) -> Vec<(Key, Place)> {
    let points: Vec<&Path> = mounts.of_kind("proc").collect();
    let mut masks = Vec::new();
    for (key, option, kind) in binds {
        let (Kind::Bind(bind) | Kind::Overlay(bind)) = kind else { continue };
        for rest in points.iter().filter_map(|p| p.strip_prefix(bind.source.path()).ok()) {
            masks.push((joined(key, rest), (option, Kind::Mask(true))));
        }
    }
    masks
}

/// The key of what lies `rest` below.
pub fn joined(key: &Key, rest: &Path) -> Key {
    key.iter().cloned().chain(rest.iter().map(|name| name.as_bytes().to_vec())).collect()
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
        Kind::Bind(bind) | Kind::Overlay(bind) => bind.is_dir(),
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
fn with_parents(
    tree: BTreeMap<Key, Entry>,
    mounts: &Mounts,
    warnings: &mut Vec<String>,
) -> Result<Vec<Node>, Failure> {
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
            Some((Kind::Bind(bind) | Kind::Overlay(bind), _)) if bind.is_dir() => {
                let rest = path_of(key.get(depth..).unwrap_or(&[]));
                let rest = rest.strip_prefix("/").unwrap_or(&rest);
                let place = beneath(bind, rest, mounts).map_err(wrong)?;
                if matches!(node.kind, Kind::Mask(_)) && place.has_other_names() {
                    warnings.push(guard::other_name(option, &path, "read"));
                }
                node = over(&place, node).map_err(wrong)?;
            }
            Some(_) => return Err(wrong(Errno::ENOTDIR)),
        }
        above.push((key, node.clone()));
        nodes.push(node);
    }
    Ok(nodes)
}

/// What lies in a directory that is shown; a mount below it may not answer.
fn beneath(bind: &Bind, rest: &Path, mounts: &Mounts) -> Result<Source, Errno> {
    let path = bind.source.path().join(rest);
    Resolver { follow: false, mounts, patience: PATIENCE }.answers(&path)?;
    bind.source.beneath(rest)
}

/// A node over what is open in a directory of the host.
fn over(place: &Source, mut node: Node) -> Result<Node, Errno> {
    if place.facts.is_link() {
        return Err(Errno::ELOOP);
    }
    let there_is_dir = place.facts.is_dir();
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
        Kind::Bind(bind) => bind.is_dir(),
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

/// The path of a key.
pub fn path_of(key: &[Vec<u8>]) -> PathBuf {
    let names = key.iter().map(|name| OsStr::from_bytes(name));
    std::iter::once(OsStr::new("/")).chain(names).collect()
}

/// The tree as `--dry-run` prints it: a node a line, and below a bind the mounts that come along.
pub fn text(nodes: &[Node], mounts: &Mounts) -> String {
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
        format!("{path:<wide$}  {writable}  {}\n{}", what(&n.kind), nested(n, mounts))
    };
    nodes.iter().map(line).collect()
}

/// What is mounted below a source is shown with it.
fn nested(node: &Node, mounts: &Mounts) -> String {
    let (Kind::Bind(bind) | Kind::Overlay(bind)) = &node.kind else { return String::new() };
    let line = |(rest, point): (&Path, &crate::mounts::Point)| {
        let may_wait = if point.may_wait() { ", which may keep the agent waiting" } else { "" };
        format!("    with {}, a mount of {}{may_wait}\n", shown(rest), point.kind)
    };
    mounts.below(bind.source.path()).into_iter().map(line).collect()
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
        Kind::Overlay(bind) => format!("overlay of {}", shown(bind.source.path())),
        Kind::Mask(_) => "masked".into(),
        Kind::Bind(bind) => {
            let source = shown(bind.source.path());
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
        let table = Mounts::default();
        let resolver = Resolver { follow: false, mounts: &table, patience: PATIENCE };
        let mounts = mounts.iter().map(|(dest, what)| {
            asked(&Mount { option: "--x", dest: dest.into(), what: what.clone() }, &resolver)
        });
        let asked = mounts.collect::<Result<_, _>>().map_err(|f| f.0.errno)?;
        let nodes = resolve(base, asked, &table, &[]).map_err(|f| f.0.errno)?.nodes;
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
}
