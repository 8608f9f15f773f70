//! A file that is written when a run has ended, and known to be writable before it begins.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::path::Path;

use super::io_failure;
use crate::error::Failure;

/// Until [`Output::write`] nothing of the file is changed or made: a run that fails or is killed
/// leaves what was there.
pub struct Output(OsString);

impl Output {
    /// Opens it once.
    pub fn open(path: &OsStr) -> Result<Output, Failure> {
        let is_new = !Path::new(path).exists();
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map_err(|e| io_failure(&e, "open", path.as_encoded_bytes()))?;
        if is_new {
            fs::remove_file(path).map_err(|e| io_failure(&e, "unlink", path.as_encoded_bytes()))?;
        }
        Ok(Output(path.to_owned()))
    }

    /// All of it, or an error.
    pub fn write(self, text: &str) -> Result<(), Failure> {
        fs::write(&self.0, text).map_err(|e| io_failure(&e, "write", self.0.as_encoded_bytes()))
    }
}
