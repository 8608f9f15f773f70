//! A set-uid program for the probe to run. root gives the holder's, which does nothing but end, to an id that nobody
//! has; an ordinary user can give nothing away, and takes one of the host's that says its version. credentials(7).

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Error, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use agent_probe::{exits, hold};

use crate::room;

/// Where it is and whose; `PATH:UID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    owner: u32,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.owner)
    }
}

/// Nobody's: neither root's nor a room's.
const OWNER: u32 = room::UNPRIVILEGED - 1;

/// Programs of most hosts, set-uid of root, which know `--version` or complain of it.
const OF_HOSTS: &[&str] = &["/usr/bin/mount", "/usr/bin/su", "/bin/mount", "/bin/su"];

const SET_UID: u32 = 0o4001; // and everybody may run it

impl Program {
    /// Gives away the one in `dir`, which is the room's id's: as root. That it is what the holder has made is looked
    /// at where it cannot be changed any more: a write takes the bit away again.
    pub fn given(dir: &Path) -> io::Result<Program> {
        let path = dir.join(hold::SET_UID);
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path)?;
        let made = file.metadata()?;
        if !made.is_file() || made.uid() != room::UNPRIVILEGED || made.nlink() != 1 {
            return Err(Error::other("not as it was made"));
        }
        fchown(&file, Some(OWNER), Some(OWNER))?;
        file.set_permissions(Permissions::from_mode(0o4755))?;
        let mut content = Vec::new();
        file.by_ref().take(4096).read_to_end(&mut content)?;
        match content == exits::program() {
            true => Ok(Program { path, owner: OWNER }),
            false => file
                .set_permissions(Permissions::from_mode(0o0))
                .and(Err(Error::other("not as it was made"))),
        }
    }

    /// One that this host has.
    pub fn of_host() -> io::Result<Program> {
        let programs = OF_HOSTS.iter().map(|path| Program { path: path.into(), owner: 0 });
        let mut there = programs.filter(|program| program.look().is_ok());
        there.next().ok_or(Error::other("no set-uid program is known on this host"))
    }

    /// Whether it is still set-uid, and its owner's.
    pub fn look(&self) -> io::Result<()> {
        let is_it = |meta: &Metadata| {
            meta.is_file() && meta.uid() == self.owner && meta.mode() & SET_UID == SET_UID
        };
        match is_it(&File::open(&self.path)?.metadata()?) {
            true => Ok(()),
            false => Err(Error::other("not set-uid any more")),
        }
    }
}
