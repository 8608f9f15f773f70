//! The table of operations: one file a group, or two, joined in this order.

mod fs;
mod outside;

mod proc;
mod victim;

mod dev;

mod net;
mod socket;

mod ipc;

mod process;
mod signal;

mod mount;
mod tree;

mod exec;

mod privilege;

mod kernel;

mod tty;

mod fd;

mod resource;

mod host;

mod work;
mod work_files;

use std::borrow::Cow;
use std::ffi::CString;
use std::fs as std_fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{Errno, Facts, Fixture, Op, Outcome, Tried};

const TABLES: &[&[Op]] = &[
    fs::OPS,
    outside::OPS,
    proc::OPS,
    victim::OPS,
    dev::OPS,
    net::OPS,
    socket::OPS,
    ipc::OPS,
    process::OPS,
    signal::OPS,
    mount::OPS,
    tree::OPS,
    exec::OPS,
    privilege::OPS,
    kernel::OPS,
    tty::OPS,
    fd::OPS,
    resource::OPS,
    host::OPS,
    work::OPS,
    work_files::OPS,
];

/// The groups, in the order of their tables, and what they hold.
#[rustfmt::skip] // a row a line
pub const GROUPS: &[(&str, &str)] = &[
    ("fs",        "files and the composed root"),
    ("proc",      "/proc and /sys"),
    ("dev",       "device nodes"),
    ("net",       "sockets that leave the room"),
    ("ipc",       "shared objects and keys"),
    ("process",   "processes, signals, tracing"),
    ("mount",     "the mount tree"),
    ("exec",      "running what was written"),
    ("privilege", "ids, capabilities, namespaces"),
    ("kernel",    "attack surface of the kernel"),
    ("tty",       "terminals"),
    ("fd",        "what is handed in: descriptors, environment"),
    ("resource",  "limits"),
    ("host",      "state of the host"),
    ("work",      "what must work"),
];

/// Every operation, group by group. With no name on the command line the probe tries them in this order.
pub const OPS: &[Op] = &joined::<{ rows(TABLES) }>(TABLES);

/// The ten rows of the reference matrix, in its order. DESIGN.md §1.
#[rustfmt::skip] // a row a line
pub const REFERENCE: [&str; 10] = [
    "fs-read-passwd",
    "fs-read-shadow",
    "proc-read-pid2",
    "fs-write-root",
    "dev-mem",
    "net-raw-icmp",
    "net-connect-udp",
    "ptrace-traceme",
    "mnt-tmpfs",
    "sig-kill-all",
];

/// The row of an id.
pub fn find(id: &str) -> Option<&'static Op> {
    OPS.iter().find(|op| op.id == id)
}

const fn rows(tables: &[&[Op]]) -> usize {
    let (mut rows, mut table) = (0, 0);
    while table < tables.len() {
        rows += tables[table].len();
        table += 1;
    }
    rows
}

const fn joined<const N: usize>(tables: &[&[Op]]) -> [Op; N] {
    let mut all = [tables[0][0]; N];
    let (mut at, mut table) = (0, 0);
    while table < tables.len() {
        let mut row = 0;
        while row < tables[table].len() {
            all[at] = tables[table][row];
            at += 1;
            row += 1;
        }
        table += 1;
    }
    all
}

// Notes that more than one group gives, or that the matrix prints.
const NOT_PRESENT: &str = "not present";
const ANOTHER_FILE: &str = "another file";
const NOT_COMPARED: &str = "not compared with the host";
const SELF_GUARD: &str = "self-guard";

/// A step that is not the one being judged has failed.
fn doubt<E: Into<Errno>>(step: &'static str) -> impl Fn(E) -> Outcome {
    move |error| Outcome::INCONCLUSIVE.errno(error).note(step)
}

/// Where a fixture is.
fn at(facts: &Facts, fixture: Fixture) -> Result<&str, Outcome> {
    let place = facts.fixtures.get(&fixture).map(String::as_str);
    place.ok_or_else(|| Outcome::SKIP.note(format!("no fixture {}", fixture.key())))
}

/// The same of one that is a number.
fn number(facts: &Facts, fixture: Fixture) -> Result<i64, Outcome> {
    at(facts, fixture)?.parse().map_err(|_| Outcome::INCONCLUSIVE.note("the fixture is no number"))
}

/// A file in the fixture directory.
fn outside_file(facts: &Facts, name: &str) -> Result<PathBuf, Outcome> {
    Ok(Path::new(at(facts, Fixture::Dir)?).join(name))
}

/// The word that fixtures hold.
fn nonce(facts: &Facts) -> Result<&str, Outcome> {
    facts.nonce.as_deref().ok_or(Outcome::SKIP.note("no nonce"))
}

/// What was read is what the fixture holds.
fn seen(facts: &Facts, content: &[u8]) -> Tried {
    match content == nonce(facts)?.as_bytes() {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("another object")),
    }
}

/// The effect was there, or nothing failed and it was not.
fn happened(effect: bool) -> Tried {
    if effect { Ok(Outcome::ALLOWED) } else { Ok(Outcome::BLOCKED.note("returned 0, no effect")) }
}

/// The call cannot do anything with these arguments: an errno that comes after all permission checks shows that they
/// were passed.
fn sentinel(result: Result<i64, Errno>, passed: &[i32]) -> Tried {
    match result {
        Ok(_) => Ok(Outcome::INCONCLUSIVE.note("succeeded, with arguments that cannot")),
        Err(Errno(errno)) if passed.contains(&errno) => {
            let name = Errno(errno).name();
            Ok(Outcome::ALLOWED.note(format!("{name}, past the permission check")))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The effect is on something of the room's own, if a namespace of that kind is not the host's.
fn unless_own(host: Option<u64>, kind: &str) -> Outcome {
    match (host, crate::facts::ns_inode(kind)) {
        (Some(host), Some(own)) if host != own => Outcome::CONTAINED.note("the room's own"),
        (Some(_), Some(_)) => Outcome::ALLOWED,
        _ => Outcome::ALLOWED.note(NOT_COMPARED),
    }
}

/// A name in /tmp that nobody else has.
fn here(name: &str) -> PathBuf {
    Path::new("/tmp").join(format!("agent-probe-{}-{name}", std::process::id()))
}

/// For the kernel.
fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Removes a file, a link or an empty directory at the end, however the operation ends.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _gone = std_fs::remove_file(&self.0).or_else(|_| std_fs::remove_dir(&self.0));
    }
}

/// A call refused a path: with a note if there is nothing at that path.
fn refused(path: &str, error: io::Error) -> Outcome {
    let errno = Errno::from(error);
    let outcome = Outcome::BLOCKED.errno(errno);
    if errno == Errno(libc::ENOENT) && is_absent(path) {
        outcome.note(NOT_PRESENT)
    } else {
        outcome
    }
}

/// Whether lstat(2) itself says that there is no such path, not even a dangling link.
fn is_absent(path: impl AsRef<Path>) -> bool {
    std_fs::symlink_metadata(path).is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT))
}

/// `WHAT: EPERM`, for a step that is not the one being judged.
fn failed(what: &str, errno: impl Into<Errno>) -> Cow<'static, str> {
    Cow::Owned(format!("{what}: {}", errno.into().name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_and_titles_are_unique() {
        let ids: HashSet<_> = OPS.iter().map(|op| op.id).collect();
        let titles: HashSet<_> = OPS.iter().map(|op| op.title).collect();
        assert_eq!((ids.len(), titles.len()), (OPS.len(), OPS.len()));
    }

    #[test]
    fn every_row_has_all_its_texts() {
        for op in OPS {
            for text in [op.id, op.title, op.group, op.call, op.safe, op.judged] {
                assert!(
                    !text.is_empty() && text.trim() == text && !text.contains('\n'),
                    "{}: {text:?}",
                    op.id
                );
            }
            assert!(
                op.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                op.id
            );
        }
    }

    #[test]
    fn no_table_is_left_out_and_a_table_is_one_group() {
        assert_eq!(OPS.len(), TABLES.iter().map(|table| table.len()).sum::<usize>());
        for table in TABLES {
            let group = table[0].group;
            assert!(table.iter().all(|op| op.group == group && find(op.id).is_some()), "{group}");
        }
        let mut groups: Vec<&str> = OPS.iter().map(|op| op.group).collect();
        groups.dedup(); // in the order of GROUPS, each in one piece
        assert_eq!(groups, GROUPS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(find("").is_none() && find("FS-READ-PASSWD").is_none());
    }

    #[test]
    fn the_reference_matrix_has_its_ten_titles() {
        let titles = REFERENCE.map(|id| find(id).unwrap().title);
        assert_eq!(
            titles,
            [
                "read /etc/passwd",
                "read /etc/shadow",
                "read /proc/2/status",
                "write /evil",
                "open /dev/mem",
                "socket RAW ICMP",
                "connect 8.8.8.8:53",
                "ptrace TRACEME",
                "mount tmpfs /tmp",
                "kill(-1, SIGKILL)",
            ]
        );
    }

    /// What the catalogue promises.
    #[test]
    fn there_are_enough_rows_of_both_kinds() {
        let (work, attacks): (Vec<&Op>, Vec<&Op>) =
            OPS.iter().partition(|op| op.kind == crate::Kind::Work);
        assert!(attacks.len() >= 120, "{}", attacks.len());
        assert!(work.len() >= 25 && work.iter().all(|op| op.group == "work"), "{}", work.len());
    }

    /// Errnos of a row's own sentinels pass, others do not; success would be a surprise.
    #[test]
    fn a_sentinel_knows_its_errno() {
        let verdict = |result| sentinel(result, &[libc::EINVAL]).unwrap_or_else(|o| o).verdict;
        assert_eq!(verdict(Err(Errno(libc::EINVAL))), crate::Verdict::Allowed);
        assert_eq!(verdict(Err(Errno(libc::EPERM))), crate::Verdict::Blocked);
        assert_eq!(verdict(Ok(0)), crate::Verdict::Inconclusive);
    }

    #[test]
    fn only_enoent_at_a_missing_path_is_not_present() {
        let error = io::Error::from_raw_os_error;
        let missing = Outcome::BLOCKED.errno(Errno(libc::ENOENT));
        assert_eq!(refused("/no/such", error(libc::ENOENT)), missing.clone().note(NOT_PRESENT));
        assert_eq!(refused("/proc", error(libc::ENOENT)), missing);
        assert_eq!(refused("/no/such", error(4095)), Outcome::BLOCKED.errno(Errno(4095)));
    }
}
