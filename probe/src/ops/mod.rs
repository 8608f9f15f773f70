//! The table of operations: one file a group, joined in this order.

mod fs;

mod proc;

mod dev;

mod net;

mod process;

mod mount;

use std::borrow::Cow;
use std::fs as std_fs;
use std::io;
use std::path::Path;

use crate::{Errno, Op, Outcome};

const TABLES: &[&[Op]] = &[fs::OPS, proc::OPS, dev::OPS, net::OPS, process::OPS, mount::OPS];

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
        for (table, group) in TABLES.iter().zip(["fs", "proc", "dev", "net", "process", "mount"]) {
            assert!(table.iter().all(|op| op.group == group && find(op.id).is_some()), "{group}");
        }
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

    #[test]
    fn only_enoent_at_a_missing_path_is_not_present() {
        let error = io::Error::from_raw_os_error;
        let missing = Outcome::BLOCKED.errno(Errno(libc::ENOENT));
        assert_eq!(refused("/no/such", error(libc::ENOENT)), missing.clone().note(NOT_PRESENT));
        assert_eq!(refused("/proc", error(libc::ENOENT)), missing);
        assert_eq!(refused("/no/such", error(4095)), Outcome::BLOCKED.errno(Errno(4095)));
    }
}
