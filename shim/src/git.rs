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
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use agent_init::error::{Errno, Step};

use crate::error::Failure;
use crate::git_index::{self, Bad};
use crate::mounts::Mounts;
use crate::source::{ETIMEDOUT, Source, at_most_ten, brief};
use crate::spec::Mode;

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
    Here(Source),
    /// A worktree's or submodule's: a directory outside, which is known to be this workspace's.
    Linked {
        /// What all worktrees share.
        common: Source,
        /// This worktree's own part, in `common`.
        own: Option<Source>,
    },
    /// `.git` names a directory that does not know this workspace.
    Unproven(PathBuf),
}

/// What is shown of a repository, each at its own path.
pub type Shown = Vec<(Source, Mode)>;

/// What is mounted for the repository of `workspace`; and what is to be looked for after the run.
pub fn mounts(
    workspace: &Source,
    git: bool,
    mounts: &Mounts,
    warnings: &mut Vec<String>,
) -> Result<(Shown, Watch), Failure> {
    let mut room = RepoMounts {
        workspace,
        git,
        mounts,
        warnings: Vec::new(),
        places: BTreeSet::new(),
        shown: Vec::new(),
        watch: Watch::default(),
        submodules: 0,
        index_bytes: MOST_OF_AN_INDEX,
    };
    let file = workspace.path().join(".git");
    match find(workspace, mounts)? {
        Found::Nothing => {
            room.watch.add(workspace, ".git", "git runs its hooks, and what its config names");
            room.watch.add(workspace, "HEAD", "git may take it for a bare repository");
        }
        Found::Here(dir) => {
            room.file_or_nothing()?;
            room.repository(&dir)?;
            room.submodules(workspace, &dir, &dir)?;
        }
        Found::Linked { common, own } => {
            room.file_or_nothing()?;
            room.repository(&common)?;
            if let Some(own) = own.as_ref().filter(|_| git) {
                room.show(own, Mode::Writable)?;
                room.keep(own, KEPT_OF_A_WORKTREE, uses_worktree_config(&common))?;
            }
            room.submodules(workspace, own.as_ref().unwrap_or(&common), &common)?;
        }
        Found::Unproven(target) => {
            room.file_or_nothing()?;
            room.warnings.push(format!(
                "{} names {}, which does not name it back, or lies around it: not shown",
                brief(&file),
                brief(&target)
            ));
        }
    }
    warnings.extend(at_most_ten(room.warnings, "of what the repository says"));
    Ok((room.shown, room.watch))
}

/// The mounts while they are collected.
struct RepoMounts<'a> {
    workspace: &'a Source,
    git: bool,
    mounts: &'a Mounts,
    warnings: Vec<String>,
    places: BTreeSet<PathBuf>,
    shown: Shown,
    watch: Watch,
    submodules: usize,
    /// Bytes that may still be read of indices.
    index_bytes: usize,
}

impl RepoMounts<'_> {
    /// At its own path; and what lies between it and the workspace becomes a mount point.
    fn show(&mut self, what: &Source, mode: Mode) -> Result<(), Failure> {
        if let Ok(rest) = what.path().strip_prefix(self.workspace.path()) {
            let between: Vec<_> =
                rest.ancestors().skip(1).filter(|p| *p != Path::new("")).collect();
            for dir in between.into_iter().rev() {
                let found = self.workspace.beneath(dir);
                let dir =
                    found.map_err(|errno| refused(&self.workspace.path().join(dir), errno))?;
                self.put(dir, Mode::Writable);
            }
        }
        self.put(what.clone(), mode);
        Ok(())
    }

    fn put(&mut self, what: Source, mode: Mode) {
        if what.path() != self.workspace.path() && self.places.insert(what.path().to_owned()) {
            self.shown.push((what, mode));
        }
    }

    /// `.git`, where it is a file: whatever it says, the agent does not change it.
    fn file_or_nothing(&mut self) -> Result<(), Failure> {
        match entry(self.workspace, ".git")?.filter(|file| !file.facts.is_dir()) {
            Some(file) => self.show(&file, Mode::ReadOnly),
            None => Ok(()),
        }
    }

    /// A directory with config, hooks and objects.
    fn repository(&mut self, dir: &Source) -> Result<(), Failure> {
        if let Some(commondir) = entry(dir, "commondir")? {
            return Err(refused(commondir.path(), Errno::EEXIST)); // in no repository that git has made
        }
        self.tell_of_config(dir);
        self.check_hooks(dir)?;
        let can_be_written = self.git || dir.path() == self.workspace.path();
        match can_be_written {
            true => {
                self.show(dir, Mode::Writable)?;
                self.keep(dir, KEPT, uses_worktree_config(dir))
            }
            false => {
                kept(dir, KEPT, None).map(drop)?; // no links
                self.show(dir, Mode::ReadOnly)
            }
        }
    }

    fn keep(&mut self, dir: &Source, names: &[(&str, Need)], used: bool) -> Result<(), Failure> {
        for file in kept(dir, names, Some(used))? {
            self.show(&file, Mode::ReadOnly)?;
        }
        PLANTED.iter().for_each(|(name, why)| self.watch.add(dir, name, why));
        Ok(())
    }

    /// The repositories of submodules: `git status` of the workspace runs in each of them. `dir` has the index of
    /// the worktree `tree`, `common` the submodules' own directories.
    fn submodules(&mut self, tree: &Source, dir: &Source, common: &Source) -> Result<(), Failure> {
        let index = text_of(dir, "index", self.index_bytes);
        self.index_bytes -= index.as_ref().map_or(0, Vec::len);
        let sha256 = text_of(common, "config", MOST).is_ok_and(|text| holds(&text, b"sha256"));
        let hash = if sha256 { 32 } else { 20 };
        let names = match index.map(|index| git_index::gitlinks(&index, hash)) {
            Ok(Ok(names)) => names,
            Ok(Err(Bad::TooMany)) => return Err(refused(&dir.path().join("index"), Errno::E2BIG)),
            Ok(Err(_)) | Err(_) => {
                let path = dir.path().join("index");
                self.warnings
                    .push(format!("{path:?} cannot be read: its submodules are not guarded"));
                return Ok(());
            }
        };
        for name in names {
            // git does not go where a link leads to either.
            if let Ok(Some(sub)) = tree.find(OsStr::from_bytes(&name)) {
                self.submodule(&sub, common)?;
            }
        }
        Ok(())
    }

    fn submodule(&mut self, sub: &Source, common: &Source) -> Result<(), Failure> {
        if !sub.facts.is_dir() {
            return Ok(());
        }
        self.submodules += 1;
        let Some(file) = entry(sub, ".git")? else {
            self.watch.add(sub, ".git", "`git status` runs what the config of a submodule names");
            return Ok(());
        };
        if file.facts.is_link() {
            return Err(refused(file.path(), Errno::ELOOP));
        }
        if self.submodules > MOST_SUBMODULES {
            return Err(refused(file.path(), Errno::E2BIG));
        }
        if file.facts.is_dir() {
            self.repository(&file)?;
            return self.submodules(sub, &file, &file);
        }
        self.show(&file, Mode::ReadOnly)?;
        let target = named_by(sub, &file)?;
        match self.named(&target) {
            Ok(dir) if dir.path().starts_with(common.path().join("modules")) => {
                self.submodules(sub, &dir, &dir)
            }
            _ => {
                self.warnings.push(format!(
                    "{} names {}, which is none of its repository's submodules",
                    brief(file.path()),
                    brief(&target)
                ));
                Ok(())
            }
        }
    }

    /// What an agent may have named; it may be where nobody answers.
    fn named(&self, path: &Path) -> Result<Source, Errno> {
        named(path, self.mounts)
    }

    /// A hook that is a link is the file it leads to.
    fn check_hooks(&mut self, dir: &Source) -> Result<(), Failure> {
        let Some(hooks) = entry(dir, "hooks")?.filter(|hooks| hooks.facts.is_dir()) else {
            return Ok(());
        };
        let names = hooks.names(MOST_HOOKS).map_err(|errno| refused(hooks.path(), errno))?;
        for hook in names.iter().filter_map(|name| hooks.find(name).ok()?) {
            if hook.facts.is_file() && hook.facts.links > 1 {
                return Err(refused(hook.path(), EMLINK));
            }
            let leads_here = || {
                let target = hook.target().unwrap_or_default();
                plain(&hooks.path().join(target)).starts_with(self.workspace.path())
            };
            if hook.facts.is_link() && leads_here() {
                self.warnings.push(format!(
                    "{} is a link to a file that the agent can write",
                    brief(hook.path())
                ));
            }
        }
        Ok(())
    }

    /// A config that takes hooks or more config from elsewhere.
    fn tell_of_config(&mut self, dir: &Source) {
        let text = text_of(dir, "config", MOST).unwrap_or_default().to_ascii_lowercase();
        let path = dir.path().join("config");
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

/// Without `..`, by the text alone: for a warning.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// What is at a path that an agent may have written. Without a link, its text says where it leads: where
/// nobody may answer, it is not looked at.
fn named(path: &Path, mounts: &Mounts) -> Result<Source, Errno> {
    match mounts.waiting_on_the_way(&plain(path)) {
        Some(_) => Err(ETIMEDOUT),
        None => Source::without_links(path),
    }
}

fn refused(path: &Path, errno: Errno) -> Failure {
    Failure::new(Step::ROOM, OPTION, path.as_os_str().as_bytes(), errno)
}

/// What is there, itself; `None`: nothing.
fn entry(dir: &Source, name: &str) -> Result<Option<Source>, Failure> {
    dir.find(name).map_err(|errno| refused(&dir.path().join(name), errno))
}

/// All of a regular file in `dir`; nothing, where none is there.
fn text_of(dir: &Source, name: &str, most: usize) -> Result<Vec<u8>, Errno> {
    match dir.find(name)? {
        Some(file) => file.read(most),
        None => Ok(Vec::new()),
    }
}

/// What of `names` is there. `used`: it can be committed to, so what the agent could make must be there; and whether
/// git reads `config.worktree`.
fn kept(dir: &Source, names: &[(&str, Need)], used: Option<bool>) -> Result<Vec<Source>, Failure> {
    let mut found = Vec::new();
    for (name, need) in names {
        let Some(file) = entry(dir, name)? else {
            match (need, used) {
                (Need::File | Need::Directory, Some(_)) | (Need::IfUsed, Some(true)) => {
                    return Err(refused(&dir.path().join(name), Errno::ENOENT));
                }
                _ => continue,
            }
        };
        let wrong = match (need, file.facts.is_dir()) {
            _ if file.facts.is_link() => Some(Errno::ELOOP), // it leads to where the agent may write
            (Need::File | Need::IfUsed, true) => Some(Errno::EISDIR),
            (Need::Directory | Need::IfThere, false) => Some(Errno::ENOTDIR),
            (_, false) if file.facts.links > 1 => Some(EMLINK), // so does another name
            _ => None,
        };
        match wrong {
            Some(errno) => return Err(refused(file.path(), errno)),
            None => found.push(file),
        }
    }
    Ok(found)
}

/// Finds it, believing nothing that the agent may have written.
fn find(workspace: &Source, mounts: &Mounts) -> Result<Found, Failure> {
    let Some(file) = entry(workspace, ".git")? else {
        // git takes a directory with these for a bare repository.
        let has = |name: &&str| workspace.find(name).is_ok_and(|found| found.is_some());
        let is_bare = ["HEAD", "objects", "refs"].iter().all(has);
        return Ok(if is_bare { Found::Here(workspace.clone()) } else { Found::Nothing });
    };
    if file.facts.is_link() {
        return Err(refused(file.path(), Errno::ELOOP));
    }
    if file.facts.is_dir() {
        return Ok(Found::Here(file));
    }
    let target = named_by(workspace, &file)?;
    Ok(linked(workspace, &target, mounts).unwrap_or(Found::Unproven(target)))
}

/// The directory that a `.git` file in `dir` names.
fn named_by(dir: &Source, file: &Source) -> Result<PathBuf, Failure> {
    let text = file.read(MOST_OF_A_NAME).map_err(|errno| refused(file.path(), errno))?;
    let target = text.strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii).unwrap_or_default();
    Ok(dir.path().join(OsStr::from_bytes(target)))
}

/// That directory, if it names the file back. Through a link, it would not be in the room.
fn linked(workspace: &Source, target: &Path, mounts: &Mounts) -> Option<Found> {
    let dir = named(target, mounts).ok().filter(|dir| dir.facts.is_dir())?;
    if dir.path() == workspace.path() {
        return None;
    }
    // A repository around the workspace would show, and with --git give, all that is beside it.
    if let Some(common) = common_of(&dir)
        && !workspace.path().starts_with(common.path())
        && is_repository(&common)
        && names_back(&dir, workspace, mounts)
    {
        return Some(Found::Linked { common, own: Some(dir) });
    }
    if is_submodule(&dir) && is_repository(&dir) && has_worktree(&dir, workspace, mounts) {
        return Some(Found::Linked { common: dir, own: None });
    }
    // Of the workspace: what is in it, is shown.
    dir.path().starts_with(workspace.path()).then_some(Found::Here(dir))
}

/// COMMON of COMMON/worktrees/NAME.
fn common_of(dir: &Source) -> Option<Source> {
    let worktrees = dir.path().parent().filter(|p| p.ends_with("worktrees"))?;
    Source::without_links(worktrees.parent()?).ok()
}

/// Whether it lies in the `modules` of a repository.
fn is_submodule(dir: &Source) -> bool {
    dir.path().ancestors().skip(1).any(|above| above.ends_with(".git/modules"))
}

fn is_repository(dir: &Source) -> bool {
    let found = |name: &str| dir.find(name).ok().flatten().map(|source| source.facts);
    found("HEAD").is_some_and(|facts| facts.is_file())
        && found("config").is_some_and(|facts| facts.is_file())
        && found("objects").is_some_and(|facts| facts.is_dir())
}

/// Whether `gitdir` in `dir` names the `.git` of `workspace`.
fn names_back(dir: &Source, workspace: &Source, mounts: &Mounts) -> bool {
    let Ok(text) = text_of(dir, "gitdir", MOST) else { return false };
    let named = dir.path().join(OsStr::from_bytes(text.trim_ascii()));
    let is_git = named.file_name() == Some(OsStr::new(".git"));
    is_git && named.parent().is_some_and(|parent| is_same(parent, workspace, mounts))
}

/// Whether core.worktree is `workspace`.
fn has_worktree(dir: &Source, workspace: &Source, mounts: &Mounts) -> bool {
    let Ok(text) = text_of(dir, "config", MOST) else { return false };
    let path = worktree_in(&text).map(|value| dir.path().join(OsStr::from_bytes(value)));
    path.is_some_and(|path| is_same(&path, workspace, mounts))
}

/// core.worktree of a config, as git writes it: without quotes.
fn worktree_in(config: &[u8]) -> Option<&[u8]> {
    config.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at(line.iter().position(|b| *b == b'=')?);
        (name.trim_ascii() == b"worktree").then(|| value.get(1..).map(<[u8]>::trim_ascii))?
    })
}

/// Whether a path, without a link in it, leads to what is open.
fn is_same(path: &Path, source: &Source, mounts: &Mounts) -> bool {
    named(path, mounts).is_ok_and(|found| found.facts.inode == source.facts.inode)
}

/// extensions.worktreeConfig; any mention will do.
fn uses_worktree_config(dir: &Source) -> bool {
    let text = text_of(dir, "config", MOST).unwrap_or_default();
    holds(&text.to_ascii_lowercase(), b"worktreeconfig")
}

fn holds(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}

/// Most of a config that is read, and of all indices together, in bytes.
const MOST: usize = 1 << 20;
const MOST_OF_AN_INDEX: usize = 64 << 20;

/// The same of a `.git` file, which has one path.
const MOST_OF_A_NAME: usize = 8 << 10;

/// Most files beside hooks that are looked at.
const MOST_HOOKS: usize = 4096;

/// Each is a mount, with one for each directory above it, and a descriptor for each of these.
const MOST_SUBMODULES: usize = 64;

/// What was not there before a run and makes git run what the agent wrote, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch(Vec<(PathBuf, &'static str)>);

impl Watch {
    fn add(&mut self, dir: &Source, name: &str, why: &'static str) {
        if matches!(dir.find(name), Ok(None)) {
            self.0.push((dir.path().join(name), why));
        }
    }

    /// A line for each that has appeared. It only asks whether a name is there: by then the shim can open nothing.
    pub fn planted(&self) -> Vec<String> {
        let there = |(path, _): &&(PathBuf, &str)| path.symlink_metadata().is_ok();
        let line = |(path, why): &(PathBuf, &str)| {
            format!("{} has appeared while the room ran: {why}", brief(path))
        };
        let lines = self.0.iter().filter(there).map(line).collect();
        at_most_ten(lines, "have appeared that git may obey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_worktree_of_a_config_is_a_part_of_it(noise in "[a-z=\\n\\t .]{0,60}", path in "[a-z./]{1,20}") {
            if let Some(value) = worktree_in(noise.as_bytes()) {
                prop_assert!(noise.as_bytes().windows(value.len().max(1)).any(|w| w == value) || value.is_empty());
            }
            let config = format!("[core]\n\tbare = false\n\tworktree = {path}\n");
            prop_assert_eq!(worktree_in(config.as_bytes()), Some(path.as_bytes()));
        }
    }

    #[test]
    fn dots_are_taken_out_by_the_text() {
        assert_eq!(plain(Path::new("/a/b/../c/./../../d")), Path::new("/d"));
        assert_eq!(plain(Path::new("/../..")), Path::new("/"));
    }
}
