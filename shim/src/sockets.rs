//! UNIX sockets of the host that lie in what a room shows: whoever has bound one can be reached from the
//! room, whatever network it has. They are found by the kernel's list and not by a walk: the path that a
//! program has bound, if a socket is there now. What this misses is in SECURITY.md. unix(7), proc(5).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mounts::Mounts;
use crate::room::{Bind, Kind, Node};
use crate::source::{self, Source, at_most_ten, shown};
use crate::spec::Mode;

/// A line for each socket that somebody has bound, by its path in the room; of many, the first few.
pub fn warnings(nodes: &[Node], mounts: &Mounts) -> Vec<String> {
    let binds: Vec<_> = nodes.iter().filter_map(directory).collect();
    if binds.is_empty() {
        return Vec::new();
    }
    // The list has been seen to be some hundred lines; without it nothing can be told.
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for name in table.split(|b| *b == b'\n').filter_map(bound) {
        let name = Path::new(OsStr::from_bytes(name));
        // Joined with an absolute name, a directory is left out.
        let mut paths: Vec<_> =
            binds.iter().map(|(_, bind)| bind.source.path().join(name)).collect();
        paths.dedup();
        let sockets = paths.iter().filter_map(|path| socket(path, mounts));
        let names: Vec<_> = sockets.flat_map(|path| mounts.names(&path)).collect();
        for (path, (node, bind)) in names.iter().flat_map(|p| binds.iter().map(move |b| (p, b))) {
            let Ok(rest) = path.strip_prefix(bind.source.path()) else { continue };
            let place = Path::new(OsStr::from_bytes(node.path.to_bytes())).join(rest);
            if !found.contains(&place) && is_seen(nodes, node, &place) {
                found.push(place);
            }
        }
    }
    told(&found)
}

/// The kernel's name of the socket at `path`, through whatever links it was bound by. Where something
/// mounted may not answer, no link is followed.
fn socket(path: &Path, mounts: &Mounts) -> Option<PathBuf> {
    let found = match mounts.may_wait() {
        true if mounts.waiting_on_the_way(path).is_some() => return None,
        true => Source::without_links(path),
        false => source::at(path, true),
    };
    let found = found.ok().filter(|source| source.facts.kind == libc::S_IFSOCK)?;
    Some(found.path().to_owned())
}

fn told(found: &[PathBuf]) -> Vec<String> {
    let line = |place: &PathBuf| {
        let place = shown(place);
        format!(
            "the socket {place} leads out of the room, to a program of the host: --mask {place} hides it"
        )
    };
    at_most_ten(found.iter().map(line).collect(), "sockets of the host are in what is shown")
}

fn directory(node: &Node) -> Option<(&Node, &Bind)> {
    match &node.kind {
        Kind::Bind(bind) if bind.is_dir() && bind.mode != Mode::Socket => Some((node, bind)),
        Kind::Overlay(bind) => Some((node, bind)),
        _ => None,
    }
}

/// Nothing else lies over that place, such as a mask, or another bind, which is looked at by itself.
fn is_seen(nodes: &[Node], node: &Node, place: &Path) -> bool {
    let is_over = |n: &Node| {
        n.path.count_bytes() > node.path.count_bytes()
            && place.starts_with(OsStr::from_bytes(n.path.to_bytes()))
    };
    !nodes.iter().any(is_over)
}

/// The name in a line, if somebody can be reached there. Columns are Num RefCount Protocol Flags Type St
/// Inode Path, padded with blanks; the name is all that follows, blanks and all.
fn bound(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    let mut columns = [&line[..0]; 7];
    for column in &mut columns {
        rest = rest.trim_ascii_start();
        (*column, rest) = rest.split_at(rest.iter().position(|b| *b == b' ')?);
    }
    let name = rest.get(1..).filter(|name| !name.is_empty() && !name.starts_with(b"@"))?;
    (columns[3] == LISTENS || columns[4] == DATAGRAMS).then_some(name)
}

/// `__SO_ACCEPTCON`, include/linux/net.h.
const LISTENS: &[u8] = b"00010000";
/// SOCK_DGRAM: nobody has to listen.
const DATAGRAMS: &[u8] = b"0002";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn noise_is_no_panic(line in "[ 0-9a-f:@/]{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for line in [line.as_bytes(), &bytes] {
                prop_assert!(bound(line).is_none_or(|name| line.ends_with(name) && !name.is_empty()));
            }
        }
    }

    #[test]
    fn a_listener_is_a_line_with_its_flag_and_a_name() {
        let line = |flags: &str, name: &str| {
            format!("00000000b: 00000002 00000000 {flags} 0001 01  1234 {name}")
        };
        let of = |text: String| bound(text.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(of(line("00010000", "/run/a b")), Some(b"/run/a b".to_vec()));
        assert_eq!(of(line("00010000", "relative")), Some(b"relative".to_vec()));
        assert_eq!(of(line("00010000", "@abstract")), None);
        assert_eq!(of(line("00000000", "/run/connected")), None);
        assert_eq!(of("00000000b: 00000002 00000000 00010000 0001 01  1234".into()), None);
        let datagrams = "00000000b: 00000002 00000000 00000000 0002 01  1234 /d".to_owned();
        assert_eq!(of(datagrams), Some(b"/d".to_vec()));
        assert_eq!(of(String::new()), None);
    }
}
