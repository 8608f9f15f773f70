//! A file that is written when a run has ended, and known to be writable before it begins.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use agent_init::error::{Errno, Step};

use super::io_failure;
use crate::error::Failure;

/// Until [`Output::write`] nothing of the file is changed or made: a run that fails or is killed
/// leaves what was there.
#[derive(Debug)]
pub struct Output {
    path: OsString,
    /// Held if it was there; a reader at the other end of a pipe sees one writer.
    file: Option<File>,
}

/// One that was opened: whether it was made for that, and which it is.
struct Tried {
    file: File,
    is_new: bool,
    inode: (u64, u64),
}

impl Output {
    /// Opens each once; no two may be one file.
    pub fn open<const N: usize>(
        paths: [Option<&OsStr>; N],
    ) -> Result<[Option<Output>; N], Failure> {
        let tried = paths.map(|path| path.map(|path| (path, attempt(path))));
        let opened =
            || tried.iter().flatten().filter_map(|(path, t)| Some((*path, t.as_ref().ok()?)));
        let twice = opened().enumerate().find_map(|(n, (path, one))| {
            opened().take(n).any(|(_, other)| other.inode == one.inode).then_some(path)
        });
        for (path, _) in opened().filter(|(_, one)| one.is_new) {
            // Gone already if two are one.
            match fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(failure("unlink", path, &e));
                }
                _ => {}
            }
        }
        if let Some(path) = twice {
            let bytes = path.as_encoded_bytes();
            return Err(Failure::new(Step::OUTPUT, "open, twice", bytes, Errno::EEXIST));
        }
        let mut outputs = [const { None }; N];
        for (output, (path, tried)) in
            outputs.iter_mut().zip(tried).filter_map(|(o, t)| Some((o, t?)))
        {
            let Tried { file, is_new, .. } = tried.map_err(|e| failure("open", path, &e))?;
            *output = Some(Output { path: path.to_owned(), file: (!is_new).then_some(file) });
        }
        Ok(outputs)
    }

    /// All of it, or an error.
    pub fn write(self, text: &str) -> Result<(), Failure> {
        let written = match self.file {
            Some(file) => over(file, text),
            // Whoever put a link there since the beginning does not choose what is written.
            None => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)
                .and_then(|mut file| file.write_all(text.as_bytes())),
        };
        written.map_err(|e| failure("write", &self.path, &e))
    }
}

/// A new file is given a byte, which a full file system refuses; to what was there nothing is
/// written, which a device (/dev/full) may refuse too.
fn attempt(path: &OsStr) -> io::Result<Tried> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    let is_new = made.is_ok();
    let mut file = match made {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().append(true).open(path)?
        }
        other => other?,
    };
    let written = file.write(if is_new { b"\n" } else { b"" });
    let tried = written.and_then(|_| file.metadata()).map(|meta| {
        let inode = (meta.dev(), meta.ino());
        Tried { file, is_new, inode }
    });
    if tried.is_err() && is_new {
        fs::remove_file(path)?;
    }
    tried
}

/// In the place of what it holds; a pipe or a device holds nothing.
fn over(mut file: File, text: &str) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

fn failure(call: &str, path: &OsStr, error: &io::Error) -> Failure {
    io_failure(error, call, path.as_encoded_bytes())
}
