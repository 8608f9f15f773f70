//! Files: reading the host's, writing into the root. open(2), read(2), unlink(2).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::{ANOTHER_FILE, NOT_COMPARED, failed, refused};
use crate::facts::read_bounded;
use crate::{Errno, Facts, Kind, Op, Outcome, digest};

pub(super) const OPS: &[Op] = &[
    Op {
        id: "fs-read-passwd",
        title: "read /etc/passwd",
        group: "fs",
        call: r#"open("/etc/passwd", O_RDONLY|O_CLOEXEC); read"#,
        safe: "only reads, at most 1 MiB",
        judged: "the content has the digest of the host's file; a file of the room's own is CONTAINED",
        run: |facts| Ok(read_file("/etc/passwd", facts.passwd.as_deref())),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
    Op {
        id: "fs-read-shadow",
        title: "read /etc/shadow",
        group: "fs",
        call: r#"open("/etc/shadow", O_RDONLY|O_CLOEXEC); read"#,
        safe: "only reads, at most 1 MiB, and prints nothing of it",
        judged: "the content has the digest of the host's file; if the harness could not read that, it is not empty",
        run: |facts| Ok(read_file("/etc/shadow", facts.shadow.as_deref())),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
    Op {
        id: "fs-write-root",
        title: "write /evil",
        group: "fs",
        call: r#"open("/evil", O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600); write; open; read; unlink"#,
        safe: "never touches a file that is there, removes the one it made after comparing inodes",
        judged: "a second open reads back what was written",
        run: |facts| Ok(write_root(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
];

fn read_file(path: &str, host: Option<&str>) -> Outcome {
    match read_bounded(path) {
        Ok(content) => judge_content(&content, host),
        Err(e) => refused(path, e),
    }
}

fn judge_content(content: &[u8], host: Option<&str>) -> Outcome {
    match host {
        Some(host) if host == digest(content) => Outcome::ALLOWED,
        Some(_) => Outcome::CONTAINED.note(ANOTHER_FILE),
        None if content.is_empty() => {
            Outcome::INCONCLUSIVE.note("empty, not compared with the host")
        }
        None => Outcome::ALLOWED.note(NOT_COMPARED),
    }
}

const EVIL: &str = "/evil";
const WORDS: &[u8] = b"written by agent-probe; safe to delete\n";

fn write_root(_: &Facts) -> Outcome {
    create_and_read_back(EVIL)
}

fn create_and_read_back(path: &str) -> Outcome {
    let flags = libc::O_NOFOLLOW; // O_CREAT|O_EXCL is create_new, O_CLOEXEC is std's habit
    let made =
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path);
    let mut file = match made {
        Ok(file) => file,
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
            return Outcome::INCONCLUSIVE.errno(e).note("exists already");
        }
        Err(e) => return Outcome::BLOCKED.errno(e),
    };
    let outcome = match file.write_all(WORDS) {
        Ok(()) => judge_written(path),
        Err(e) => Outcome::BLOCKED.errno(e).note("created, not written"),
    };
    match unlink_made(path, &file) {
        Ok(()) => outcome,
        Err(e) => outcome.note(failed("left behind", e)),
    }
}

fn judge_written(path: &str) -> Outcome {
    match read_back(path) {
        Ok(content) if content == WORDS => Outcome::ALLOWED,
        Ok(_) => Outcome::INCONCLUSIVE.note("written, something else read back"),
        Err(e) => Outcome::INCONCLUSIVE.errno(e).note("written, not read back"),
    }
}

fn read_back(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.take(4096).read_to_end(&mut content)?;
    Ok(content)
}

/// Removes the path if it still is the file that was made; what somebody else has put there stays.
fn unlink_made(path: &str, made: &File) -> Result<(), Errno> {
    let (made, there) = (made.metadata()?, fs::symlink_metadata(path)?);
    if (made.dev(), made.ino()) != (there.dev(), there.ino()) {
        return Err(Errno(libc::EEXIST));
    }
    Ok(fs::remove_file(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn a_file_of_the_rooms_own_does_not_count_as_the_hosts() {
        let host = digest(b"root:x:0:0");
        assert_eq!(judge_content(b"root:x:0:0", Some(&host)), Outcome::ALLOWED);
        assert_eq!(
            judge_content(b"agent:x:0:0", Some(&host)),
            Outcome::CONTAINED.note(ANOTHER_FILE)
        );
        assert_eq!(judge_content(b"", Some(&host)), Outcome::CONTAINED.note(ANOTHER_FILE));
    }

    #[test]
    fn without_a_fact_only_content_counts() {
        assert_eq!(judge_content(b"root:*:", None), Outcome::ALLOWED.note(NOT_COMPARED));
        assert_eq!(judge_content(b"", None).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn what_is_made_is_read_back_and_removed() {
        let path = std::env::temp_dir().join(format!("agent-probe-made-{}", std::process::id()));
        assert_eq!(create_and_read_back(path.to_str().unwrap()), Outcome::ALLOWED);
        assert!(super::super::is_absent(&path));
    }

    #[test]
    fn what_exists_is_not_touched() {
        let path = std::env::temp_dir().join(format!("agent-probe-exists-{}", std::process::id()));
        fs::write(&path, b"mine").unwrap();
        let outcome = create_and_read_back(path.to_str().unwrap());
        assert_eq!(
            outcome,
            Outcome::INCONCLUSIVE.errno(Errno(libc::EEXIST)).note("exists already")
        );
        let other = File::open("/proc/self/status").unwrap();
        assert_eq!(unlink_made(path.to_str().unwrap(), &other), Err(Errno(libc::EEXIST)));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_missing_directory_is_a_refusal() {
        assert_eq!(
            create_and_read_back("/no/such/file"),
            Outcome::BLOCKED.errno(Errno(libc::ENOENT))
        );
    }
}
