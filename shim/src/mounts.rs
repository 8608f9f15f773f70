//! The mount table of this process: which file system is where, and by which other paths of the host
//! a file can be reached. Read once a launch. proc_pid_mountinfo(5).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its number, as statx(2) tells it too.
    id: u64,
    /// Major and minor number, as they are written.
    device: Vec<u8>,
    /// The directory of its file system that it shows.
    root: PathBuf,
    /// Where it is.
    pub at: PathBuf,
    /// The type of its file system: `ext4`.
    pub kind: String,
}

impl Point {
    /// Whether its file system may keep whoever asks it waiting: it asks another machine or program.
    pub fn may_wait(&self) -> bool {
        WAITING.iter().any(|kind| {
            self.kind == *kind || self.kind.strip_prefix(kind).is_some_and(|r| r.starts_with('.'))
        })
    }
}

/// File systems behind which are other machines, or programs of users. `fuse` stands for `fuse.*`.
const WAITING: &[&str] = &[
    "autofs", "nfs", "nfs4", "cifs", "smb3", "fuse", "fuseblk", "9p", "ceph", "afs", "coda",
    "lustre", "orangefs",
];

/// All mounts, in the order of the table: of two at one place, the later lies on top.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Point>);

impl Mounts {
    /// As they are now. Without `/proc`: none are known.
    pub fn read() -> Mounts {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Mounts::of(&table)
    }

    fn of(table: &[u8]) -> Mounts {
        Mounts(table.split(|b| *b == b'\n').filter_map(point).collect())
    }

    /// Whether the mount of this number is here: a memfd, for one, lies on none of them.
    pub fn has(&self, id: u64) -> bool {
        self.0.iter().any(|point| point.id == id)
    }

    /// Those that lie below a directory, at their paths from there: a recursive bind shows them too.
    pub fn below(&self, dir: &Path) -> Vec<(&Path, &Point)> {
        let rest = |p| Point::below(p, dir).map(|rest| (rest, p));
        let mut below: Vec<(&Path, &Point)> = Vec::new();
        for (rest, point) in self.0.iter().filter_map(rest) {
            // What lay there before is covered.
            below.retain(|(other, _)| !other.starts_with(rest));
            below.push((rest, point));
        }
        below
    }

    /// Where file systems of this type are.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(move |point| point.kind == kind).map(|point| &*point.at)
    }

    /// The mount that a path lies in.
    pub fn containing(&self, path: &Path) -> Option<&Point> {
        let depth = |p: &&Point| p.at.components().count();
        // Of equals, the last.
        self.0.iter().filter(|p| path.starts_with(&p.at)).max_by_key(depth)
    }

    /// Mounts that hold the host's device nodes, from the source of a bind on: itself is an empty path. A
    /// container's /dev is a tmpfs.
    pub fn of_devices(&self, source: &Path) -> Vec<PathBuf> {
        let dev = self.containing(Path::new("/dev")).filter(|point| point.at == Path::new("/dev"));
        let holds = |p: &Point| {
            let is_dev = dev.is_some_and(|d| d.device == p.device);
            is_dev || matches!(&*p.kind, "devtmpfs" | "devpts")
        };
        let itself = self.containing(source).filter(|p| holds(p)).map(|_| PathBuf::new());
        let below = self.below(source).into_iter().filter(|(_, p)| holds(p));
        itself.into_iter().chain(below.map(|(rest, _)| rest.to_owned())).collect()
    }

    /// Whether any may keep whoever asks it waiting.
    pub fn may_wait(&self) -> bool {
        self.0.iter().any(Point::may_wait)
    }

    /// A mount on the way to `path` that may keep whoever walks there waiting. Not `/`: this program
    /// came from there.
    pub fn waiting_on_the_way(&self, path: &Path) -> Option<&Point> {
        let is_below = |p: &&Point| path.starts_with(&p.at) && p.at != Path::new("/");
        self.0.iter().rev().find(|p| is_below(p) && p.may_wait())
    }

    /// Every path of the host by which what lies at `path` can be reached: itself first.
    pub fn names(&self, path: &Path) -> Vec<PathBuf> {
        let mut names = vec![path.to_owned()];
        let Some(home) = self.containing(path) else { return names };
        let Ok(rest) = path.strip_prefix(&home.at) else { return names };
        let inside = home.root.join(rest);
        for point in self.0.iter().filter(|p| p.device == home.device) {
            let Ok(rest) = inside.strip_prefix(&point.root) else { continue };
            let name = joined(&point.at, rest);
            let is_seen = self.containing(&name).is_some_and(|top| std::ptr::eq(top, point));
            if is_seen && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl Point {
    fn below<'a>(point: &'a Point, dir: &Path) -> Option<&'a Path> {
        point.at.strip_prefix(dir).ok().filter(|rest| !rest.as_os_str().is_empty())
    }
}

/// `join`, which does not end an empty rest with a slash.
pub fn joined(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

/// A line: id, parent, device, root, mount point, options, tags, `-`, type, …
fn point(line: &[u8]) -> Option<Point> {
    let mut fields = line.split(|b| *b == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.to_vec();
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescaped(field)));
    let (root, at) = (path(fields.next()?), path(fields.next()?));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let kind = OsStr::from_bytes(kind).to_string_lossy().into_owned();
    Some(Point { id, device, root, at, kind })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[u8] = b"\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 8:1 /home/u/proj /mnt/p rw shared:1 - ext4 /dev/sda1 rw
4 1 0:9 / /home/u/far rw - fuse.sshfs far rw
5 1 8:2 / /data rw - xfs /dev/sdb rw
6 5 8:1 /home /data/home rw - ext4 /dev/sda1 rw
7 1 0:30 / /mnt/a\\040b rw - tmpfs x rw
";

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        let mounts = Mounts::of(TABLE);
        assert_eq!(mounts.0.len(), 7);
        assert_eq!(mounts.0[6].at, Path::new("/mnt/a b"));
        assert_eq!(unescaped(b"\\134\\12"), b"\\\\12");
        assert_eq!(Mounts::of(b"\n1\n1 2 3 4\n").0, []);
    }

    proptest! {
        /// A mount point's name may be an agent's, of a FUSE mount for one.
        #[test]
        fn noise_is_no_panic(table in proptest::collection::vec(any::<u8>(), 0..300), path in "/[a-z/]{0,12}") {
            let mounts = Mounts::of(&table);
            let path = Path::new(&path);
            prop_assert!(mounts.names(path).contains(&path.to_owned()));
            mounts.below(path);
            mounts.of_devices(path);
        }

        #[test]
        fn a_name_is_read_back(name in proptest::collection::vec(1u8.., 1..40)) {
            let written: Vec<u8> = name.iter().flat_map(|b| match b {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{b:03o}").into_bytes(),
                b => vec![*b],
            }).collect();
            prop_assert_eq!(unescaped(&written), name);
        }
    }

    #[test]
    fn every_name_of_a_file_is_found() {
        let mounts = Mounts::of(TABLE);
        let names = |path: &str| {
            let mut names = mounts.names(Path::new(path));
            names.sort();
            names
        };
        let all = ["/data/home/u/proj/x", "/home/u/proj/x", "/mnt/p/x"].map(PathBuf::from);
        for name in &all {
            assert_eq!(names(name.to_str().unwrap()), all);
        }
        // What lies under a mount has no name by that path.
        assert_eq!(names("/home/u/far/x"), [PathBuf::from("/home/u/far/x")]);
        assert_eq!(names("/home/v"), ["/data/home/v", "/home/v"].map(PathBuf::from));
    }

    #[test]
    fn what_may_wait_is_known() {
        let mounts = Mounts::of(TABLE);
        let waits = |path: &str| mounts.waiting_on_the_way(Path::new(path)).map(|p| &*p.kind);
        assert_eq!(waits("/home/u/far/x"), Some("fuse.sshfs"));
        assert_eq!(waits("/home/u/farther"), None);
        assert_eq!(mounts.below(Path::new("/home")).len(), 1);
        assert_eq!(mounts.below(Path::new("/home/u/far")).len(), 0);
    }
}
