//! The resolver: a file of the host is opened once, by its path, and held until the room is built. What
//! is judged, and what is mounted, is the open file; its path is a name for messages, and for the child,
//! which has to open it again and goes on only if it gets the same one. DESIGN of this project: "A path
//! is used once". openat2(2), path_resolution(7), symlink(7).
//!
//! A symbolic link may be an agent's, of an earlier run or of a room beside this one. So it is followed
//! only where no agent can have made it: in a directory that is root's, and that only root may write in.
//! Rooms of root write what is root's too: for root, only a few directories of the system count.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_init::error::{Errno, Step};

use crate::bounded;
use crate::error::Failure;
use crate::mounts::{Mounts, Point};
use crate::sys::{self, Facts};

/// Most links that are followed to a file: path_resolution(7).
pub const MOST_LINKS: usize = 40;

/// errno(3).
pub const ETIMEDOUT: Errno = Errno(110);

/// [`Resolver::patience`], where `--timeout` leaves more.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A file of the host, open.
#[derive(Clone, Debug)]
pub struct Source {
    fd: Arc<OwnedFd>,
    /// Absolute, without a symbolic link in it.
    pub path: CString,
    /// What it is.
    pub facts: Facts,
    /// The links that led here, each with what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Equal are two that are the same file by the same path.
impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        (&self.path, self.facts.inode) == (&other.path, other.facts.inode)
    }
}

impl Eq for Source {}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Source {
    /// Its number, which is the same in the child.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// A file or link of the host by an absolute path, which has no link above its end.
    pub fn itself(path: &CStr) -> Result<Source, Errno> {
        Source::of(sys::open_itself(path)?, path.to_owned())
    }

    /// What `path` leads to if no link is on the way, with the kernel's name.
    pub fn without_links(path: &Path) -> Result<Source, Errno> {
        let fd = sys::open_no_links(&text(path.as_os_str())?).map(sys::own)?;
        let name = name_of(fd.as_fd())?;
        Source::of(fd, name)
    }

    /// What `path` leads to, links and all: for names that are the system's own.
    pub fn following_links(path: &Path) -> Result<Source, Errno> {
        let fd = sys::open(&text(path.as_os_str())?, libc::O_PATH).map(sys::own)?;
        let name = name_of(fd.as_fd())?;
        Source::of(fd, name)
    }

    /// Whether a path of the system's own is a link.
    pub fn is_link(path: &Path) -> bool {
        text(path.as_os_str()).is_ok_and(|path| sys::link_target(None, &path).is_ok())
    }

    /// A file that has more than one name: hard links.
    pub fn has_other_names(&self) -> bool {
        self.facts.is_file() && self.facts.links > 1
    }

    /// All that is in this file, within bounds: see [`bounded::opened`].
    pub fn read(&self, most: usize) -> Result<Vec<u8>, Errno> {
        bounded::opened(self.as_fd(), most, Instant::now().checked_add(bounded::PATIENCE))
    }

    fn of(fd: OwnedFd, path: CString) -> Result<Source, Errno> {
        let facts = sys::facts(fd.as_raw_fd())?;
        Ok(Source { fd: Arc::new(fd), path, facts, links: Vec::new() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// What lies beneath it. A link on the way is an error (ELOOP), at the end it is opened itself.
    pub fn beneath(&self, rest: &Path) -> Result<Source, Errno> {
        let relative = text(rest.as_os_str())?;
        let fd = sys::open_beneath(self.as_fd(), &relative, true)?;
        Source::of(fd, text(self.path().join(rest).as_os_str())?)
    }

    /// The same where nothing is there too.
    pub fn find(&self, rest: impl AsRef<Path>) -> Result<Option<Source>, Errno> {
        match self.beneath(rest.as_ref()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The names in this directory; E2BIG: more than `most`.
    pub fn names(&self, most: usize) -> Result<Vec<OsString>, Errno> {
        let dir =
            sys::open_again(self.number(), libc::O_RDONLY | libc::O_DIRECTORY).map(sys::own)?;
        let names = sys::names_in(dir.as_fd(), most)?;
        Ok(names.into_iter().map(|name| OsString::from_vec(name.into_bytes())).collect())
    }

    /// Where this link leads to, as it says.
    pub fn target(&self) -> Result<PathBuf, Errno> {
        sys::link_target(Some(self.as_fd()), c"").map(|t| OsString::from_vec(t).into())
    }

    /// Whether nobody but root can have written in this directory, a room of this caller included.
    fn is_roots_alone(&self, caller: u32) -> bool {
        let Facts { owner: (uid, _), bits, .. } = self.facts;
        uid == 0 && bits & 0o022 == 0 && (caller != 0 || is_of_the_system(self.path()))
    }
}

/// How paths of one launch are resolved.
#[derive(Clone, Copy, Debug)]
pub struct Resolver<'a> {
    /// Whoever made a link, it is followed: `--follow-links`.
    pub follow: bool,
    /// What is mounted on the host.
    pub mounts: &'a Mounts,
    /// How long a file system behind which is another machine or program may take to open a file.
    pub patience: Duration,
}

impl Resolver<'_> {
    /// Opens `path`, which `option` names.
    pub fn open(&self, option: &str, path: &Path) -> Result<Source, Failure> {
        let wrong = |errno| Failure::new(Step::ROOM, option, path.as_os_str().as_bytes(), errno);
        if self.mounts.may_wait() && self.may_meet_one(path) {
            self.try_out(path).map_err(|errno| wrong(errno).hinting(self.waited(path)))?;
        }
        let source = walk(path, self.follow).map_err(|refusal| match refusal {
            Refusal::Call(errno) => wrong(errno),
            Refusal::Link(link) => wrong(Errno::ELOOP).hinting(other_way(&link, path)),
        })?;
        if source.facts.links == 0 {
            return Err(wrong(Errno::ENOENT).hinting(
                "it was removed, and is only held open: change to a directory that is there",
            ));
        }
        // The host's processes: /proc/N/root leads out of any room.
        match sys::file_system_of(source.as_fd()).map_err(wrong)? {
            PROC_SUPER_MAGIC => Err(wrong(Errno::EPERM)),
            _ => Ok(source),
        }
    }

    /// Whether the way to `path` may lead to what keeps us waiting: where it is all names, they tell.
    fn may_meet_one(&self, path: &Path) -> bool {
        let has_link = || {
            text(path.as_os_str())
                .is_ok_and(|p| sys::open_no_links(&p).map(sys::own).err() == Some(Errno::ELOOP))
        };
        self.on_the_way(path).is_some()
            || path.components().any(|c| c == Component::ParentDir)
            || has_link()
    }

    fn on_the_way(&self, path: &Path) -> Option<&Point> {
        let absolute = std::path::absolute(path).ok()?;
        self.mounts.waiting_on_the_way(&absolute)
    }

    /// For a hint: what did not answer.
    fn waited(&self, path: &Path) -> String {
        let what = match self.on_the_way(path) {
            Some(point) => format!("the {} at {}", point.kind, shown(&point.at)),
            None => "a file system that its links lead to".into(),
        };
        let ms = self.patience.as_millis();
        format!("{what} did not answer within {ms} ms: see whether its server is there")
    }

    /// Sees whether what lies there answers, where that is in doubt.
    pub fn answers(&self, path: &Path) -> Result<(), Errno> {
        match self.mounts.may_wait() && self.on_the_way(path).is_some() {
            true => self.try_out(path),
            false => Ok(()),
        }
    }

    /// Lets a child open it, which can be ended: a process that waits for a file system can do
    /// nothing else. fork(2), pidfd_open(2).
    fn try_out(&self, path: &Path) -> Result<(), Errno> {
        let side = sys::clone_unheard()?;
        let sys::Side::Parent(_, pidfd) = side else {
            let opened = walk(path, self.follow)
                .is_ok_and(|source| sys::file_system_of(source.as_fd()).is_ok());
            sys::exit_now(i32::from(!opened))
        };
        let ms = i32::try_from(self.patience.as_millis()).unwrap_or(i32::MAX);
        let ended = sys::wait_readable(&[pidfd.as_fd()], ms)?;
        if ended.is_some() {
            return sys::wait(pidfd.as_fd()).map(drop); // why it failed is seen when we do the same
        }
        sys::send_signal(pidfd.as_fd(), libc::SIGKILL)?;
        // Reaped if the file system lets it end.
        if sys::wait_readable(&[pidfd.as_fd()], 200)?.is_some() {
            sys::wait(pidfd.as_fd())?;
        }
        Err(ETIMEDOUT)
    }
}

/// Where the links of `path` lead: what can be named in its place. An agent's link may lead to a file system
/// that does not answer: where there is one, nobody goes to see.
pub fn leads_to(path: &Path) -> Option<PathBuf> {
    if Mounts::read().may_wait() {
        return None;
    }
    walk(path, true).ok().map(|source| source.path().to_owned())
}

/// What is at `path`, open. ELOOP: a link is on the way that may be an agent's; `follow`: any is followed.
pub fn at(path: &Path, follow: bool) -> Result<Source, Errno> {
    walk(path, follow).map_err(|refusal| match refusal {
        Refusal::Call(errno) => errno,
        Refusal::Link(_) => Errno::ELOOP,
    })
}

/// One openat2 where no link and no `..` is on the way, which is what most paths are.
fn walk(path: &Path, follow: bool) -> Result<Source, Refusal> {
    if path.components().any(|c| c == Component::ParentDir) {
        return by_names(path, follow);
    }
    let given = text(path.as_os_str())?;
    match sys::open_no_links(&given).map(sys::own) {
        Ok(fd) => {
            let name = if is_plain(path) { given } else { name_of(fd.as_fd())? };
            Ok(Source::of(fd, name)?)
        }
        Err(Errno::ELOOP) => by_names(path, follow),
        Err(errno) => Err(errno.into()),
    }
}

/// Name by name. `..` is the directory that the walk came from: the kernel would take the one above, which
/// is another one if somebody has moved the directory meanwhile.
fn by_names(path: &Path, follow: bool) -> Result<Source, Refusal> {
    let mut way = vec![start(path)?];
    let mut rest: Vec<OsString> = names(path);
    let mut links = Vec::new();
    while let (Some(name), Some(here)) = (rest.pop(), way.last()) {
        if name == ".." {
            let above = here.path().parent().map(Path::to_owned);
            match (way.len(), above) {
                (1, Some(above)) => way = vec![Source::without_links(&above)?],
                (1, None) => {} // `/`
                _ => drop(way.pop()),
            }
            continue;
        }
        let fd = sys::open_name(Some(here.as_fd()), &text(&name)?)?;
        let next = Source::of(fd, text(here.path().join(&name).as_os_str())?)?;
        if !next.facts.is_link() {
            way.push(next);
            continue;
        }
        let target = next.target()?;
        if links.len() == MOST_LINKS || is_magic(&next)? {
            return Err(Errno::ELOOP.into());
        }
        if !follow && !here.is_roots_alone(sys::ids().0) {
            return Err(Refusal::Link(next.path().to_owned()));
        }
        if target.is_absolute() {
            way = vec![start(&target)?];
        }
        rest.extend(names(&target));
        links.push((next.path().to_owned(), target));
    }
    let end = way.pop().ok_or(Errno::ENOENT)?;
    // What was put together from names is what the kernel says, or somebody exchanges them.
    Ok(Source { path: name_of(end.as_fd())?, links, ..end })
}

/// Where a path begins.
fn start(path: &Path) -> Result<Source, Errno> {
    let fd = sys::open_name(None, if path.is_absolute() { c"/" } else { c"." })?;
    let name = name_of(fd.as_fd())?;
    Source::of(fd, name)
}

/// For a hint: where a refused link is, and the path that has none.
fn other_way(link: &Path, path: &Path) -> String {
    let link = shown(link);
    match leads_to(path) {
        Some(real) => format!(
            "{link} is a symbolic link that an agent may have made: name {}, or follow links of all directories with --follow-links",
            typed(&real)
        ),
        None => format!("{link} is a symbolic link: name what it leads to, if it is there"),
    }
}

/// Why a path was not followed.
enum Refusal {
    Call(Errno),
    Link(PathBuf),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::Call(errno)
    }
}

/// proc(5), include/uapi/linux/magic.h.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// A link of proc leads where its text does not: to a file that another process has.
fn is_magic(link: &Source) -> Result<bool, Errno> {
    Ok(sys::file_system_of(link.as_fd())? == PROC_SUPER_MAGIC)
}

/// For a line of text: whatever is in a name, it does not end the line.
pub fn shown(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// As it is typed at a shell.
pub fn typed(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+@:,=".contains(b);
    match path.to_str() {
        Some(text) if bytes.iter().all(is_plain) => text.to_owned(),
        Some(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
        _ => format!("$'{}'", shown(path)),
    }
}

/// The same of what somebody else has written: of a long one, its begin.
pub fn brief(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match bytes.get(..MOST_SHOWN) {
        Some(begin) if bytes.len() > MOST_SHOWN => format!("{}...", begin.escape_ascii()),
        _ => shown(path),
    }
}

/// Bytes of a name in a warning at most.
const MOST_SHOWN: usize = 300;

/// Lines about things of one kind: the first ten, then how many more there are.
pub fn at_most_ten(mut lines: Vec<String>, what: &str) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_TOLD);
    lines.truncate(MOST_TOLD);
    if more > 0 {
        lines.push(format!("{more} more {what}"));
    }
    lines
}

/// Lines about things of one kind at most.
const MOST_TOLD: usize = 10;

fn text(path: &OsStr) -> Result<CString, Errno> {
    CString::new(path.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Absolute, without `..`, and spelt as the kernel spells it.
fn is_plain(path: &Path) -> bool {
    let is_name = |c: &Component| matches!(c, Component::RootDir | Component::Normal(_));
    path.is_absolute()
        && path.components().all(|c| is_name(&c))
        && path.components().as_path().as_os_str() == path.as_os_str()
        && !path.as_os_str().as_bytes().windows(2).any(|pair| pair == b"//")
        && !path.as_os_str().as_bytes().windows(3).any(|three| three == b"/./")
}

/// The kernel's own name of what is open.
fn name_of(fd: BorrowedFd) -> Result<CString, Errno> {
    let name = sys::name_of(fd)?;
    if !name.starts_with(b"/") {
        return Err(Errno::ENOENT); // not to be reached from this root directory
    }
    CString::new(name).map_err(|_| Errno::EINVAL)
}

/// The names of a path, the last first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |c: Component| match c {
        Component::Normal(_) | Component::ParentDir => Some(c.as_os_str().to_owned()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// Whether a directory is one that a system consists of, and nobody's workspace or bind: only links in
/// these are followed for root, whose rooms write what is root's.
fn is_of_the_system(dir: &Path) -> bool {
    SYSTEM.iter().any(|system| Path::new(system) == dir)
}

const SYSTEM: &[&str] =
    &["/", "/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/var", "/etc"];

/// What is no workspace, nor is what contains it: directories that others rely on.
#[rustfmt::skip]
pub const NO_WORKSPACE: &[&str] = &[
    "/usr/bin", "/usr/lib", "/usr/sbin", "/usr/local", "/bin", "/sbin", "/lib", "/etc", "/boot",
    "/dev", "/home", "/opt", "/run", "/srv", "/tmp", "/var/lib", "/var/log", "/var/spool", "/var/tmp",
];
/// No workspace is in these.
pub const NOT_WITHIN: &[&str] =
    &["/proc", "/sys", "/dev", "/etc", "/boot", "/usr/bin", "/usr/lib", "/usr/sbin"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_their_own_name() {
        for plain in ["/", "/a", "/a/b c"] {
            assert!(is_plain(Path::new(plain)), "{plain}");
        }
        for other in ["", ".", "a", "/a/..", "/a/./b", "/a//b", "//a", "/a/", "/a/.", "/../a"] {
            assert!(!is_plain(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn names_are_typed_as_a_shell_reads_them() {
        for name in ["/a/b", "/a b/$c", "/it's", "/new\nline", "/\u{e9}", "/tab\t'q"] {
            let script = format!("printf %s {}", typed(Path::new(name)));
            let said = std::process::Command::new("bash").args(["-c", &script]).output();
            let Ok(said) = said else { return }; // $'…' is bash's
            assert_eq!(String::from_utf8(said.stdout).unwrap(), name);
        }
    }

    #[test]
    fn what_a_system_consists_of() {
        for dir in ["/", "/usr", "/var", "/etc"] {
            assert!(is_of_the_system(Path::new(dir)), "{dir}");
        }
        for dir in ["/home", "/opt", "/etc/app", "/usr/lib/x", "/dev/shm", "/etcetera"] {
            assert!(!is_of_the_system(Path::new(dir)), "{dir}");
        }
    }
}
