//! What must work with files in a directory of the own: a room that refuses these is no place to work.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use super::{Made, c, doubt, happened, here};
use crate::objects::longs;
use crate::sys::{Arg, call, call_fd, n};
use crate::{Facts, Kind, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("work", texts, run).of(Kind::Work)
}

const TMP: &str = "in /tmp, removed";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["work-file",       "write, fsync, rename",      r#"open("/tmp/…"); write; fsync; rename; read"#, TMP, "what was written is read by the new name"], file),
    row(["work-dir",        "make and list directories", r#"mkdir; open; getdents64; rmdir"#,             TMP, "the entry is listed, then gone"], directory),
    row(["work-hard-link",  "hard link",                 "link",                                          TMP, "both names are one inode"], hard_link),
    row(["work-symlink",    "symbolic link",             "symlink; readlink; open",                       TMP, "the file is read through it"], soft_link),
    row(["work-mkfifo",     "named pipe",                "mknod(S_IFIFO)",                                TMP, "lstat says a FIFO"], fifo),
    row(["work-attributes", "mode, times, truncate",     "chmod; utimensat; truncate; stat",              TMP, "stat says all three"], attributes),
    row(["work-locks",      "file locks",                "flock; fcntl(F_SETLK)",                         TMP, "a second flock is refused"], locks),
    row(["work-copy",       "copy in the kernel",        "copy_file_range; sendfile; splice",             TMP, "the copies have the content"], copies),
    row(["work-inotify",    "watch own files",           "inotify_add_watch; open; read",                 TMP, "the event comes"], notify),
    row(["work-sparse",     "reserve and punch",         "fallocate; lseek",                              TMP, "fstat says the size"], sparse),
    row(["work-mmap-file",  "map a file",                "mmap(MAP_SHARED); write; read",                 TMP, "what was written to memory is in the file"], mapped),
    row(["work-list-root",  "list the root",             r#"open("/", O_DIRECTORY); getdents64"#,          "only reads", "/tmp is listed"], |_| happened(fs::read_dir("/")?.flatten().any(|entry| entry.file_name() == "tmp"))),
    row(["work-devices",    "the harmless devices",      r#"write("/dev/null"); read("/dev/zero"); read("/dev/urandom"); write("/dev/full")"#, "harms nothing", "each does what it is for"], devices),
    row(["work-proc-self",  "look at itself",            r#"open("/proc/self/{status,maps,exe,fd}")"#,     "only reads", "each can be read"], look),
];

fn file(_: &Facts) -> Tried {
    let (old, new) = (Made(here("old")), Made(here("new")));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&old.0)?;
    file.write_all(b"content")?;
    file.sync_all()?;
    fs::rename(&old.0, &new.0)?;
    happened(fs::read(&new.0)? == b"content")
}

fn directory(_: &Facts) -> Tried {
    let made = Made(here("dir"));
    fs::create_dir(&made.0)?;
    fs::create_dir(made.0.join("in"))?;
    let listed = fs::read_dir(&made.0)?.flatten().any(|entry| entry.file_name() == "in");
    fs::remove_dir(made.0.join("in"))?;
    happened(listed && fs::read_dir(&made.0)?.next().is_none())
}

fn written(name: &str) -> Result<Made, Outcome> {
    let made = Made(here(name));
    fs::write(&made.0, b"content")?;
    Ok(made)
}

fn hard_link(_: &Facts) -> Tried {
    let (file, link) = (written("linked")?, Made(here("link")));
    fs::hard_link(&file.0, &link.0)?;
    happened(fs::metadata(&link.0)?.ino() == fs::metadata(&file.0)?.ino())
}

fn soft_link(_: &Facts) -> Tried {
    let (file, link) = (written("target")?, Made(here("soft")));
    symlink(&file.0, &link.0)?;
    happened(fs::read_link(&link.0)? == file.0 && fs::read(&link.0)? == b"content")
}

fn fifo(_: &Facts) -> Tried {
    let made = Made(here("fifo"));
    let (cwd, mode) = (Arg::N(libc::AT_FDCWD.into()), Arg::N(i64::from(libc::S_IFIFO | 0o600)));
    call(libc::SYS_mknodat, &mut [cwd, Arg::Text(&c(&made.0)), mode, Arg::N(0)])?;
    happened(fs::symlink_metadata(&made.0)?.file_type().is_fifo())
}

fn attributes(_: &Facts) -> Tried {
    let file = written("attributes")?;
    fs::set_permissions(&file.0, fs::Permissions::from_mode(0o640))?;
    OpenOptions::new().write(true).open(&file.0)?.set_len(3)?;
    let times = longs(&[1, 0, 2, 0]);
    let (cwd, name) = (Arg::N(libc::AT_FDCWD.into()), c(&file.0));
    call(libc::SYS_utimensat, &mut [cwd, Arg::Text(&name), Arg::In(&times), Arg::N(0)])?;
    let found = fs::metadata(&file.0)?;
    happened((found.mode() & 0o777, found.len(), found.mtime()) == (0o640, 3, 2))
}

/// Two opens of a file lock each other out by flock, if one process has both.
fn locks(_: &Facts) -> Tried {
    let made = written("locked")?;
    let open = || OpenOptions::new().read(true).write(true).open(&made.0);
    let (one, two) = (open()?, open()?);
    let flock = |file: &File| {
        call(libc::SYS_flock, &mut [n(file), Arg::N((libc::LOCK_EX | libc::LOCK_NB).into())])
    };
    flock(&one)?;
    let refused = flock(&two).is_err();
    // struct flock: type F_WRLCK 1, whence 0, padding; start, length, pid.
    let range = longs(&[1, 0, 0, 0]);
    call(libc::SYS_fcntl, &mut [n(&one), Arg::N(libc::F_SETLK.into()), Arg::In(&range)])?;
    happened(refused)
}

fn copies(_: &Facts) -> Tried {
    let (from, to) = (written("from")?, Made(here("to")));
    let mut source = File::open(&from.0)?;
    let mut copy = OpenOptions::new().read(true).write(true).create_new(true).open(&to.0)?;
    let args = &mut [n(&source), Arg::N(0), n(&copy), Arg::N(0), Arg::N(7), Arg::N(0)];
    let ranged = call(libc::SYS_copy_file_range, args)?;
    source.rewind()?;
    let sent = call(libc::SYS_sendfile, &mut [n(&copy), n(&source), Arg::N(0), Arg::N(7)])?;
    source.rewind()?;
    let (mut reader, writer) = std::io::pipe()?;
    let args = &mut [n(&source), Arg::N(0), n(&writer), Arg::N(0), Arg::N(7), Arg::N(0)];
    let spliced = call(libc::SYS_splice, args)?;
    let mut byte = [0; 7];
    reader.read_exact(&mut byte)?;
    copy.rewind()?;
    let mut text = String::new();
    copy.read_to_string(&mut text)?;
    let all = (ranged, sent, spliced) == (7, 7, 7);
    happened(all && text == "contentcontent" && byte == *b"content")
}

fn notify(_: &Facts) -> Tried {
    let file = written("watched")?;
    let notify = call_fd(libc::SYS_inotify_init1, &mut [Arg::N(libc::O_CLOEXEC.into())])?;
    let mask = Arg::N(libc::IN_OPEN.into());
    call(libc::SYS_inotify_add_watch, &mut [n(&notify), Arg::Text(&c(&file.0)), mask])?;
    File::open(&file.0)?;
    let mut event = [0; 64];
    happened(call(libc::SYS_read, &mut [n(&notify), Arg::Out(&mut event), Arg::N(64)])? >= 16)
}

fn sparse(_: &Facts) -> Tried {
    let made = written("sparse")?;
    let file = OpenOptions::new().write(true).open(&made.0)?;
    call(libc::SYS_fallocate, &mut [n(&file), Arg::N(0), Arg::N(0), Arg::N(65536)])?;
    happened(file.metadata()?.len() == 65536)
}

fn mapped(_: &Facts) -> Tried {
    let made = written("mapped")?;
    let file = OpenOptions::new().read(true).write(true).open(&made.0)?;
    let fd = std::os::fd::AsFd::as_fd(&file);
    let mut memory = crate::sys::Mapping::new(7, libc::PROT_READ | libc::PROT_WRITE, Some(fd))?;
    memory.write(b"CONTENT");
    happened(fs::read(&made.0)? == b"CONTENT")
}

fn devices(_: &Facts) -> Tried {
    OpenOptions::new().write(true).open("/dev/null")?.write_all(b"nothing")?;
    let (mut zero, mut random) = ([1; 16], [0; 16]);
    File::open("/dev/zero")?.read_exact(&mut zero)?;
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let full = OpenOptions::new().write(true).open("/dev/full")?.write_all(b"x");
    let full = full.is_err_and(|e| e.raw_os_error() == Some(libc::ENOSPC));
    happened(zero == [0; 16] && random != [0; 16] && full)
}

fn look(_: &Facts) -> Tried {
    let read = |name: &str| fs::read(format!("/proc/self/{name}")).map(|text| !text.is_empty());
    let own = File::open("/proc/self/status").map_err(doubt("open"))?;
    let link = fs::read_link(format!("/proc/self/fd/{}", own.as_raw_fd()))?;
    let exe = fs::read_link("/proc/self/exe")?;
    let all = read("status")? && read("maps")? && !exe.as_os_str().is_empty();
    happened(all && link.to_string_lossy().ends_with("/status"))
}
