//! The workspace's repository: what is in it runs on the host when its user next calls git there, be it a hook, what
//! a config names (core.fsmonitor, core.pager, filters, aliases), or the repository that `commondir` or a `.git` file
//! leads to. So the agent reads it; with `--git` it may commit, and what can run stays read-only.
//! gitrepository-layout(5), git-worktree(1), git-config(1), githooks(5).
//!
//! A mount holds twice: what is in it is read-only, and a mount point is neither renamed nor removed from within
//! (EBUSY), so nothing takes its place. That is true of the mount point alone, not of the directories above it: each
//! of them in the workspace is one too. Nothing is made on the host, so what the agent could make must be there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use agent_init::error::{Errno, Step};

use crate::error::{Failure, errno_of};
use crate::spec::{Mode, Mount, What};

/// What the mounts are called in messages.
pub const OPTION: &str = "--git";

/// errno(3).
const EMLINK: Errno = Errno(31);

/// In a repository that can be committed to, read-only; and whether it has to be there.
#[rustfmt::skip] // a row a line
const KEPT: &[(&str, Need)] = &[
    ("config",          Need::File),      // programs: core.fsmonitor, core.pager, core.sshCommand, filters, aliases
    ("hooks",           Need::Directory), // programs
    ("config.worktree", Need::IfUsed),    // config, where extensions.worktreeConfig is on
    ("modules",         Need::IfThere),   // the repositories of submodules: their hooks and config
    ("worktrees",       Need::IfThere),   // of other worktrees: commondir, config.worktree
    ("remotes",         Need::IfThere),   // where a fetch or push goes to, in the old way
    ("branches",        Need::IfThere),   // likewise
];

/// Of one worktree, in its directory beneath `worktrees`.
#[rustfmt::skip]
const KEPT_OF_A_WORKTREE: &[(&str, Need)] = &[
    ("commondir",       Need::File),      // the repository whose config and hooks count
    ("gitdir",          Need::File),      // the proof that the two belong together
    ("config.worktree", Need::IfUsed),
];

/// What no mount keeps away, as it is not there to be mounted over: told when the run has made it.
#[rustfmt::skip]
const PLANTED: &[(&str, &str)] = &[
    ("commondir",       "git takes config and hooks from where it leads to"),
    ("config.worktree", "git may run what it names"),
    ("modules",         "git runs what the config of a submodule names"),
    ("remotes",         "it says where a fetch or push goes to"),
    ("branches",        "it says where a fetch or push goes to"),
    ("rebase-merge",    "`git rebase --continue` runs what its list of commands says"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    File,
    Directory,
    IfUsed,
    IfThere,
}

/// Where the workspace's repository is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nowhere in the workspace: above it, or there is none.
    Nothing,
    /// This directory of the workspace; it may be the workspace.
    Here(PathBuf),
    /// A worktree's or submodule's: a directory outside, which is known to be this workspace's.
    Linked {
        /// What all worktrees share.
        common: PathBuf,
        /// This worktree's own part, in `common`.
        own: Option<PathBuf>,
    },
    /// `.git` names a directory that does not know this workspace.
    Unproven(PathBuf),
}

/// What is mounted for the repository of `workspace`, an absolute path without links; and what is to be looked for
/// after the run.
pub fn mounts(
    workspace: &Path,
    git: bool,
    warnings: &mut Vec<String>,
) -> Result<(Vec<Mount>, Watch), Failure> {
    let mut room = Room {
        workspace,
        git,
        warnings,
        places: BTreeSet::new(),
        mounts: Vec::new(),
        watch: Watch::default(),
        submodules: 0,
    };
    let file = workspace.join(".git");
    match find(workspace)? {
        Found::Nothing => {
            room.watch.add(file, "git runs its hooks, and what its config names");
            room.watch.add(workspace.join("HEAD"), "git may take it for a bare repository");
        }
        Found::Here(dir) => {
            room.file_or_nothing(&file)?;
            room.repository(&dir)?;
            room.submodules(workspace, &dir, &dir)?;
        }
        Found::Linked { common, own } => {
            room.file_or_nothing(&file)?;
            room.repository(&common)?;
            if let Some(own) = own.as_ref().filter(|_| git) {
                room.show(own, Mode::Writable);
                room.keep(own, KEPT_OF_A_WORKTREE, uses_worktree_config(&common))?;
            }
            room.submodules(workspace, own.as_ref().unwrap_or(&common), &common)?;
        }
        Found::Unproven(target) => {
            room.file_or_nothing(&file)?;
            room.warnings.push(format!(
                "{file:?} names {target:?}, which does not name it back, or lies around it: not shown"
            ));
        }
    }
    Ok((room.mounts, room.watch))
}

/// The mounts while they are collected.
struct Room<'a> {
    workspace: &'a Path,
    git: bool,
    warnings: &'a mut Vec<String>,
    places: BTreeSet<PathBuf>,
    mounts: Vec<Mount>,
    watch: Watch,
    submodules: usize,
}

impl Room<'_> {
    /// At its own path; and what lies between it and the workspace becomes a mount point.
    fn show(&mut self, path: &Path, mode: Mode) {
        let between = path.ancestors().skip(1).take_while(|dir| *dir != self.workspace);
        if path.starts_with(self.workspace) {
            let above: Vec<_> = between.map(Path::to_owned).collect();
            above.into_iter().rev().for_each(|dir| self.put(dir, Mode::Writable));
        }
        self.put(path.to_owned(), mode);
    }

    fn put(&mut self, path: PathBuf, mode: Mode) {
        if path != self.workspace && self.places.insert(path.clone()) {
            let what = What::Bind(path.clone(), mode);
            self.mounts.push(Mount { option: OPTION, dest: path, what });
        }
    }

    /// `.git`, where it is a file: whatever it says, the agent does not change it.
    fn file_or_nothing(&mut self, file: &Path) -> Result<(), Failure> {
        if lstat(file)?.is_some_and(|meta| !meta.is_dir()) {
            self.show(file, Mode::ReadOnly);
        }
        Ok(())
    }

    /// A directory with config, hooks and objects.
    fn repository(&mut self, dir: &Path) -> Result<(), Failure> {
        let commondir = dir.join("commondir");
        if lstat(&commondir)?.is_some() {
            return Err(refused(&commondir, Errno::EEXIST)); // in no repository that git has made
        }
        self.tell_of_config(dir);
        self.check_hooks(&dir.join("hooks"))?;
        let can_be_written = self.git || dir == self.workspace;
        match can_be_written {
            true => {
                self.show(dir, Mode::Writable);
                self.keep(dir, KEPT, uses_worktree_config(dir))
            }
            false => {
                kept(dir, KEPT, None).map(drop)?; // no links
                self.show(dir, Mode::ReadOnly);
                Ok(())
            }
        }
    }

    fn keep(&mut self, dir: &Path, names: &[(&str, Need)], used: bool) -> Result<(), Failure> {
        for path in kept(dir, names, Some(used))? {
            self.show(&path, Mode::ReadOnly);
        }
        PLANTED.iter().for_each(|(name, why)| self.watch.add(dir.join(name), why));
        Ok(())
    }

    /// The repositories of submodules: `git status` of the workspace runs in each of them. `dir` has the index of
    /// the worktree `tree`, `common` the submodules' own directories.
    fn submodules(&mut self, tree: &Path, dir: &Path, common: &Path) -> Result<(), Failure> {
        let path = dir.join("index");
        let index = small(&path, MOST_OF_AN_INDEX).unwrap_or_default();
        let sha256 = small(&common.join("config"), MOST).is_ok_and(|text| holds(&text, b"sha256"));
        let Some(names) = gitlinks(&index, if sha256 { 32 } else { 20 }) else {
            self.warnings.push(format!("{path:?} cannot be read: its submodules are not guarded"));
            return Ok(());
        };
        for name in names {
            let sub = tree.join(OsStr::from_bytes(&name));
            // git does not go where a link leads to either.
            if sub.canonicalize().is_ok_and(|real| real == sub) && sub.starts_with(tree) {
                self.submodule(&sub, common)?;
            }
        }
        Ok(())
    }

    fn submodule(&mut self, sub: &Path, common: &Path) -> Result<(), Failure> {
        self.submodules += 1;
        let file = sub.join(".git");
        let Some(meta) = lstat(&file)? else {
            self.watch.add(file, "`git status` runs what the config of a submodule names");
            return Ok(());
        };
        if meta.is_symlink() {
            return Err(refused(&file, Errno::ELOOP));
        }
        if self.submodules > MOST_SUBMODULES {
            return Err(refused(&file, Errno::E2BIG));
        }
        if meta.is_dir() {
            self.repository(&file)?;
            return self.submodules(sub, &file, &file);
        }
        self.show(&file, Mode::ReadOnly);
        let target = named_by(&file)?;
        match target.canonicalize() {
            Ok(dir) if dir.starts_with(common.join("modules")) => self.submodules(sub, &dir, &dir),
            _ => {
                self.warnings.push(format!(
                    "{file:?} names {target:?}, which is none of its repository's submodules"
                ));
                Ok(())
            }
        }
    }

    /// A hook that is a link is the file it leads to.
    fn check_hooks(&mut self, hooks: &Path) -> Result<(), Failure> {
        for entry in fs::read_dir(hooks).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(meta) = lstat(&path)? else { continue };
            if meta.is_file() && meta.nlink() > 1 {
                return Err(refused(&path, EMLINK));
            }
            let leads_here =
                || path.canonicalize().is_ok_and(|target| target.starts_with(self.workspace));
            if meta.is_symlink() && leads_here() {
                self.warnings
                    .push(format!("{path:?} is a link to a file that the agent can write"));
            }
        }
        Ok(())
    }

    /// A config that takes hooks or more config from elsewhere.
    fn tell_of_config(&mut self, dir: &Path) {
        let path = dir.join("config");
        let text = small(&path, MOST).unwrap_or_default().to_ascii_lowercase();
        let line =
            |start: &[u8]| text.split(|b| *b == b'\n').any(|l| l.trim_ascii().starts_with(start));
        for (start, what) in [(&b"hookspath"[..], "core.hooksPath"), (b"[include", "include.path")]
        {
            if line(start) {
                self.warnings.push(format!(
                    "{path:?} sets {what}: in the workspace, the agent can write what git runs"
                ));
            }
        }
    }
}

fn refused(path: &Path, errno: Errno) -> Failure {
    Failure::new(Step::ROOM, OPTION, path.as_os_str().as_bytes(), errno)
}

/// What is there, itself; `None`: nothing.
fn lstat(path: &Path) -> Result<Option<Metadata>, Failure> {
    match path.symlink_metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(refused(path, errno_of(&e))),
    }
}

/// What of `names` is there. `used`: it can be committed to, so what the agent could make must be there; and whether
/// git reads `config.worktree`.
fn kept(dir: &Path, names: &[(&str, Need)], used: Option<bool>) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for (name, need) in names {
        let path = dir.join(name);
        let Some(meta) = lstat(&path)? else {
            match (need, used) {
                (Need::File | Need::Directory, Some(_)) | (Need::IfUsed, Some(true)) => {
                    return Err(refused(&path, Errno::ENOENT));
                }
                _ => continue,
            }
        };
        let wrong = match (need, meta.is_dir()) {
            _ if meta.is_symlink() => Some(Errno::ELOOP), // it leads to where the agent may write
            (Need::File | Need::IfUsed, true) => Some(Errno::EISDIR),
            (Need::Directory | Need::IfThere, false) => Some(Errno::ENOTDIR),
            (_, false) if meta.nlink() > 1 => Some(EMLINK), // so does another name
            _ => None,
        };
        match wrong {
            Some(errno) => return Err(refused(&path, errno)),
            None => found.push(path),
        }
    }
    Ok(found)
}

/// Finds it, believing nothing that the agent may have written.
fn find(workspace: &Path) -> Result<Found, Failure> {
    let file = workspace.join(".git");
    let Some(meta) = lstat(&file)? else {
        // git takes a directory with these for a bare repository.
        let is_bare = ["HEAD", "objects", "refs"].iter().all(|name| workspace.join(name).exists());
        return Ok(if is_bare { Found::Here(workspace.to_owned()) } else { Found::Nothing });
    };
    if meta.is_symlink() {
        return Err(refused(&file, Errno::ELOOP));
    }
    if meta.is_dir() {
        return Ok(Found::Here(file));
    }
    let target = named_by(&file)?;
    Ok(linked(workspace, &target).unwrap_or(Found::Unproven(target)))
}

/// The directory that a `.git` file names.
fn named_by(file: &Path) -> Result<PathBuf, Failure> {
    let text = small(file, MOST).map_err(|e| refused(file, errno_of(&e)))?;
    let target = text.strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii).unwrap_or_default();
    let dir = file.parent().unwrap_or(Path::new("/"));
    Ok(dir.join(OsStr::from_bytes(target)))
}

/// That directory, if it names the file back.
fn linked(workspace: &Path, target: &Path) -> Option<Found> {
    let dir = target.canonicalize().ok().filter(|dir| dir.is_dir() && dir != workspace)?;
    let is_spelt = |component: Component| !matches!(component, Component::ParentDir);
    if target.components().all(is_spelt) && dir != target {
        return None; // through a link, which is not in the room
    }
    // A repository around the workspace would show, and with --git give, all that is beside it.
    if let Some(common) = common_of(&dir)
        && !workspace.starts_with(&common)
        && is_repository(&common)
        && names_back(&dir.join("gitdir"), &dir, &workspace.join(".git"))
    {
        return Some(Found::Linked { common, own: Some(dir) });
    }
    if is_submodule(&dir) && is_repository(&dir) && worktree_of(&dir)? == workspace {
        return Some(Found::Linked { common: dir, own: None });
    }
    // Of the workspace: what is in it, is shown.
    dir.starts_with(workspace).then_some(Found::Here(dir))
}

/// COMMON of COMMON/worktrees/NAME.
fn common_of(dir: &Path) -> Option<PathBuf> {
    let worktrees = dir.parent().filter(|p| p.ends_with("worktrees"))?;
    worktrees.parent().map(Path::to_owned)
}

/// Whether it lies in the `modules` of a repository.
fn is_submodule(dir: &Path) -> bool {
    dir.ancestors().skip(1).any(|above| above.ends_with(".git/modules"))
}

fn is_repository(dir: &Path) -> bool {
    let is = |name: &str, of: fn(&Metadata) -> bool| {
        dir.join(name).symlink_metadata().is_ok_and(|meta| of(&meta))
    };
    is("HEAD", Metadata::is_file)
        && is("config", Metadata::is_file)
        && is("objects", Metadata::is_dir)
}

/// Whether the path in `file`, seen from `dir`, is `wanted`.
fn names_back(file: &Path, dir: &Path, wanted: &Path) -> bool {
    let Ok(text) = small(file, MOST) else { return false };
    let named = dir.join(OsStr::from_bytes(text.trim_ascii()));
    let parent = named.parent().and_then(|p| p.canonicalize().ok());
    named.file_name() == wanted.file_name() && parent.as_deref() == wanted.parent()
}

/// core.worktree, as git writes it: without quotes.
fn worktree_of(dir: &Path) -> Option<PathBuf> {
    let text = small(&dir.join("config"), MOST).ok()?;
    let value = text.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at(line.iter().position(|b| *b == b'=')?);
        (name.trim_ascii() == b"worktree").then(|| value.trim_ascii_start().get(1..))?
    })?;
    dir.join(OsStr::from_bytes(value.trim_ascii())).canonicalize().ok()
}

/// extensions.worktreeConfig; any mention will do.
fn uses_worktree_config(dir: &Path) -> bool {
    let text = small(&dir.join("config"), MOST).unwrap_or_default();
    holds(&text.to_ascii_lowercase(), b"worktreeconfig")
}

fn holds(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}

/// Most of a config or `.git` file, and of an index, that is read, in bytes.
const MOST: u64 = 1 << 20;
const MOST_OF_AN_INDEX: u64 = 64 << 20;

/// Each is a mount, with one for each directory above it, and a descriptor for each of these.
const MOST_SUBMODULES: usize = 64;

/// A file that may have been anything a moment ago: no link is followed, no FIFO waited for.
fn small(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The names in an index that are commits of other repositories: gitformat-index(5), versions 2 to 4. `None`: it is
/// no index, is cut off, or leads to another one. An empty one has none.
fn gitlinks(index: &[u8], hash: usize) -> Option<Vec<Vec<u8>>> {
    const GITLINK: u32 = 0o160_000;
    if index.is_empty() {
        return Some(Vec::new());
    }
    let version = word(index, 4).filter(|v| index.starts_with(b"DIRC") && (2..=4).contains(v))?;
    let (mut rest, mut name, mut found) = (index.get(12..)?, Vec::new(), Vec::new());
    for _ in 0..word(index, 8)? {
        let mode = word(rest, 24)?;
        // Ten words, the hash, two bytes of flags; with the bit "extended", two more.
        let more = version > 2 && rest.get(40 + hash)? & 0x40 != 0;
        let head = 40 + hash + if more { 4 } else { 2 };
        let (kept, used) = match version {
            4 => varint(rest.get(head..)?)
                .and_then(|(cut, n)| Some((name.len().checked_sub(cut)?, n)))?,
            _ => (0, 0),
        };
        let text = rest.get(head + used..)?;
        let text = text.get(..text.iter().position(|b| *b == 0)?)?;
        name.truncate(kept);
        name.extend_from_slice(text);
        let end = head + used + text.len() + 1;
        rest = rest.get(if version == 4 { end } else { end.next_multiple_of(8) }..)?;
        if mode & 0o170_000 == GITLINK {
            found.push(name.clone());
        }
    }
    // Extensions: name, length, content. "link": the rest of the entries is in another file.
    while rest.len() > hash {
        if rest.starts_with(b"link") {
            return None;
        }
        rest = rest.get(8 + usize::try_from(word(rest, 4)?).ok()?..)?;
    }
    Some(found)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// A number of 7 bits a byte, most significant first, and its length; each but the last is one more.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value: usize = 0;
    for (n, byte) in bytes.iter().enumerate().take(5) {
        value = value << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
        value += 1;
    }
    None
}

/// What was not there before a run and makes git run what the agent wrote, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch(Vec<(PathBuf, &'static str)>);

impl Watch {
    fn add(&mut self, path: PathBuf, why: &'static str) {
        if path.symlink_metadata().is_err() {
            self.0.push((path, why));
        }
    }

    /// A line for each that has appeared. It only asks whether a name is there: by then the shim can open nothing.
    pub fn planted(&self) -> Vec<String> {
        let there = |(path, _): &&(PathBuf, &str)| path.symlink_metadata().is_ok();
        let line = |(path, why): &(PathBuf, &str)| format!("the run made {path:?}: {why}");
        self.0.iter().filter(there).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_an_index_of_version_4() {
        assert_eq!(varint(&[5]), Some((5, 1)));
        assert_eq!(varint(&[0x80, 0]), Some((128, 2)));
        assert_eq!(varint(&[0x81, 0x7f, 9]), Some((383, 2)));
        assert_eq!((varint(&[0x80]), varint(&[0xff; 9])), (None, None));
    }

    #[test]
    fn an_index_that_is_none() {
        for bad in [&b"x"[..], b"DIRC", b"DIRC\0\0\0\x02\0\0\0\x01", b"DIRC\0\0\0\x05\0\0\0\0"] {
            assert_eq!(gitlinks(bad, 20), None);
        }
        assert_eq!(gitlinks(b"DIRC\0\0\0\x02\0\0\0\0", 20), Some(vec![]));
    }
}
