//! A directory of a test's own, gone with it; and what a directory of the host looks like.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one, empty, in the directory for temporary files.
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("agent-tests-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    /// Its path, or that of something in it.
    pub fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.0.clone() } else { self.0.join(name) }
    }

    /// A file in it, with its directories.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A directory in it, with those above it.
    pub fn dir(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.at(name)).unwrap();
        self.at(name)
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Every file beneath `dir`, by name: type and mode, owner, size or link, and content of files.
/// Not what reading changes.
pub fn digest(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = match () {
            () if meta.is_file() => format!("{:?}", std::fs::read(&path).ok()),
            () if meta.is_symlink() => format!("{:?}", std::fs::read_link(&path).unwrap()),
            () => String::new(),
        };
        let (mode, uid, gid, mtime) = (meta.mode(), meta.uid(), meta.gid(), meta.mtime_nsec());
        lines.push(format!("{path:?} {mode:o} {uid}:{gid} {mtime} {content}"));
        if meta.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().map(|e| e.unwrap().path()));
        }
    }
    lines.sort();
    lines
}
