//! Programs run with a deadline, and where the scripts and the binaries are.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::{env, fs, process};

/// The source tree.
pub fn tree() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// A directory with agent-shim and agent-probe: `AGENT_BIN_DIR`, else that of the profile this
/// test was built in, else that of the other one. The error says where none was.
pub fn binaries() -> Result<PathBuf, String> {
    if let Some(dir) = env::var_os("AGENT_BIN_DIR").filter(|d| !d.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    let test = env::current_exe().map_err(|e| format!("current_exe: {e}"))?;
    let profile = test.ancestors().nth(2).unwrap_or(&test);
    let all = [profile.to_path_buf(), profile.with_file_name("release")];
    let has = |dir: &&PathBuf| ["agent-shim", "agent-probe"].iter().all(|p| dir.join(p).exists());
    all.iter().find(has).cloned().ok_or_else(|| format!("no binaries in {all:?}: cargo build"))
}

/// Standard input is empty. `Err`: it did not end in time, and is dead with all of its group.
pub fn run(mut command: Command, deadline: Duration) -> Result<Output, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
    let group = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(deadline) {
        Ok(output) => output.map_err(|e| format!("{command:?}: {e}")),
        Err(_) => {
            if let Ok(group) = i32::try_from(group) {
                let _gone_is_as_good = agent_init::sys::kill(-group, libc::SIGKILL);
            }
            Err(format!("{command:?}: still there after {deadline:?}"))
        }
    }
}

/// A directory for one test, mode 755, removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// `name` is one no other test uses; it may contain spaces.
    pub fn new(name: &str) -> Result<Scratch, String> {
        use std::os::unix::fs::PermissionsExt;
        let path = env::temp_dir().join(format!("agent-{name}-{}", process::id()));
        fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Scratch(path))
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(Path::new(name.as_ref()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
