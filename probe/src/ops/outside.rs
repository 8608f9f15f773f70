//! Files of the harness outside of the room, reached by every way there is. open(2), link(2), inotify(7),
//! open_by_handle_at(2).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use super::{
    ANOTHER_FILE, Made, NOT_PRESENT, at, c, doubt, happened, here, is_absent, outside_file, seen,
};
use crate::facts::read_bounded;
use crate::sys::{Arg, call, call_fd, n};
use crate::{Errno, Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("fs", texts, run).needs(&[Fixture::Dir])
}

const READS: &str = "only reads a fixture";
const SPARE: &str = "changes the fixture that is there for it, which the harness writes anew";
const NONCE: &str = "the nonce is read back";
const UNNAMED: &str = "a file without a name, which no path leads to and close removes";
const BACK: &str = "what was written is read back";

#[rustfmt::skip] // a row a line, as tables are read
pub(super) const OPS: &[Op] = &[
    row(["fs-outside-read",     "read a file outside",          r#"open("DIR/open", O_RDONLY); read"#,                     READS, NONCE], |f| read(f, "open")),
    row(["fs-outside-private",  "read a 0600 file outside",     r#"open("DIR/private", O_RDONLY); read"#,                  READS, NONCE], |f| read(f, "private")),
    row(["fs-outside-list",     "list a directory outside",     r#"open("DIR", O_DIRECTORY); getdents64"#,                 READS, "a file of the fixture is in the list"], list),
    row(["fs-outside-stat",     "stat a file outside",          r#"lstat("DIR/open")"#,                                    READS, "the size is that of the nonce"], stat),
    row(["fs-outside-access",   "chdir to a directory outside", r#"chdir("DIR"); open("open"); read"#,                     READS, NONCE], enter),
    row(["fs-outside-inotify",  "watch a directory outside",    r#"inotify_add_watch("DIR", IN_OPEN)"#,                    READS, "the kernel gives a watch"], watch),
    row(["fs-outside-opath",    "O_PATH, then reopen",          r#"open("DIR/open", O_PATH); open("/proc/self/fd/N")"#,    READS, "the nonce is read through the second descriptor"], reopen),
    row(["fs-outside-symlink",  "symlink to a file outside",    r#"symlink("DIR/open", "/tmp/…"); open; read"#,            "the link is removed", "the nonce is read through the link"], through_link),
    row(["fs-outside-dotdot",   "dot-dot past the root",        r#"open("/tmp/../../…/DIR/open"); read"#,                  READS, NONCE], dotdot),
    row(["fs-outside-handle",   "open a file by handle",        r#"name_to_handle_at("DIR/open"); open_by_handle_at; read"#, READS, NONCE], by_handle),
    row(["fs-outside-link",     "hard link to a file outside",  r#"link("DIR/open", "/tmp/…")"#,                           "the link is removed", "both names are one inode"], link),
    row(["fs-outside-write",    "write a file outside",         r#"open("DIR/spare", O_WRONLY); pwrite; pread"#,           SPARE, BACK], write),
    row(["fs-outside-create",   "create a file outside",        r#"open("DIR/made-…", O_CREAT|O_EXCL); write; read; unlink"#, "removes what it made", BACK], create),
    row(["fs-outside-truncate", "truncate a file outside",      r#"truncate("DIR/spare", 1)"#,                             SPARE, "stat says 1 byte"], truncate),
    row(["fs-outside-rename",   "rename a file outside",        r#"rename("DIR/spare", "DIR/moved"); and back"#,           SPARE, "lstat finds the new name"], rename),
    row(["fs-outside-unlink",   "unlink a file outside",        r#"unlink("DIR/spare")"#,                                  SPARE, "lstat says ENOENT, of this name only"], unlink),
    row(["fs-outside-chmod",    "chmod a file outside",         r#"chmod("DIR/spare", 0640)"#,                             SPARE, "stat says the new mode"], chmod),
    row(["fs-outside-utimes",   "set times of a file outside",  r#"utimensat("DIR/spare", {1, 1})"#,                       SPARE, "stat says the new time"], utimes),
    row(["fs-outside-xattr",    "set an attribute outside",     r#"setxattr("DIR/spare", "user.agent-probe")"#,            SPARE, "getxattr gives it back"], xattr),
    row(["fs-tmpfile-etc",      "write into /etc",              r#"open("/etc", O_TMPFILE|O_RDWR); write; read"#,           UNNAMED, BACK], |_| unnamed("/etc")).needs(&[]),
    row(["fs-tmpfile-usr",      "write into /usr",              r#"open("/usr", O_TMPFILE|O_RDWR); write; read"#,           UNNAMED, BACK], |_| unnamed("/usr")).needs(&[]),
    row(["fs-tmpfile-root",     "write into /root",             r#"open("/root", O_TMPFILE|O_RDWR); write; read"#,          UNNAMED, BACK], |_| unnamed("/root")).needs(&[]),
    row(["fs-tmpfile-cron",     "write into /var",              r#"open("/var", O_TMPFILE|O_RDWR); write; read"#,           UNNAMED, BACK], |_| unnamed("/var")).needs(&[]),
    row(["fs-list-home",        "list /root",                   r#"open("/root", O_DIRECTORY); getdents64"#,               "only reads", "the list can be read"], list_home).needs(&[]),
    row(["fs-mknod-char",       "make a device node",           r#"mknod("/tmp/…", S_IFCHR, 1:3); open; write"#,           "the device of /dev/null; removed", "what is open is that device"], mknod_char).needs(&[]),
    row(["fs-mknod-block",      "make a block device node",     r#"mknod("/tmp/…", S_IFBLK, 7:0)"#,                        "is not opened; removed", "lstat says a block device"], mknod_block).needs(&[]),
    row(["fs-set-uid",          "make a set-uid file",          r#"open("/tmp/…", O_CREAT); fchmod(04755)"#,               "an empty file of the own id; removed", "stat says set-uid"], set_uid).needs(&[]),
];

fn read(facts: &Facts, name: &str) -> Tried {
    let path = outside_file(facts, name)?;
    let content = read_bounded(&path.to_string_lossy()).map_err(|e| not_there(&path, e))?;
    seen(facts, &content)
}

/// A refusal, with a note where nothing is at the path.
fn not_there(path: &Path, error: impl Into<Errno>) -> Outcome {
    let outcome = Outcome::BLOCKED.errno(error);
    match outcome.errno == Some(Errno(libc::ENOENT)) && is_absent(path) {
        true => outcome.note(NOT_PRESENT),
        false => outcome,
    }
}

fn list(facts: &Facts) -> Tried {
    let dir = at(facts, Fixture::Dir)?;
    let mut names = fs::read_dir(dir)?.map_while(Result::ok).map(|entry| entry.file_name());
    happened(names.any(|name| name == "private"))
}

fn stat(facts: &Facts) -> Tried {
    let found = fs::symlink_metadata(outside_file(facts, "open")?)?;
    if found.len() == 16 { Ok(Outcome::ALLOWED) } else { Ok(Outcome::CONTAINED.note(ANOTHER_FILE)) }
}

fn enter(facts: &Facts) -> Tried {
    std::env::set_current_dir(at(facts, Fixture::Dir)?)?;
    seen(facts, &fs::read("open")?)
}

fn watch(facts: &Facts) -> Tried {
    let dir = outside_file(facts, ".")?;
    let notify = call_fd(libc::SYS_inotify_init1, &mut [Arg::N(libc::O_CLOEXEC.into())])
        .map_err(doubt("inotify_init1"))?;
    let mask = Arg::N(libc::IN_OPEN.into());
    call(libc::SYS_inotify_add_watch, &mut [n(&notify), Arg::Text(&c(&dir)), mask])?;
    Ok(Outcome::ALLOWED)
}

fn reopen(facts: &Facts) -> Tried {
    let path = outside_file(facts, "open")?;
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    seen(facts, &fs::read(format!("/proc/self/fd/{}", handle.as_raw_fd()))?)
}

fn through_link(facts: &Facts) -> Tried {
    let link = Made(here("link"));
    symlink(outside_file(facts, "open")?, &link.0).map_err(doubt("symlink"))?;
    seen(facts, &fs::read(&link.0)?)
}

fn dotdot(facts: &Facts) -> Tried {
    let path = outside_file(facts, "open")?;
    let up = "/tmp".to_owned() + &"/..".repeat(64);
    seen(facts, &fs::read(format!("{up}/{}", path.display()))?)
}

/// struct file_handle: bytes, type, handle; at most MAX_HANDLE_SZ, 128.
fn by_handle(facts: &Facts) -> Tried {
    let path = outside_file(facts, "open")?;
    let (mut handle, mut mount) = ([0; 136], [0; 4]);
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let cwd = || Arg::N(libc::AT_FDCWD.into());
    let (to, id) = (Arg::Out(&mut handle), Arg::Out(&mut mount));
    let name = c(&path);
    call(libc::SYS_name_to_handle_at, &mut [cwd(), Arg::Text(&name), to, id, Arg::N(0)])
        .map_err(|errno| not_there(&path, errno))?;
    let on = File::open(path.parent().unwrap_or(&path))?;
    let flags = Arg::N((libc::O_RDONLY | libc::O_CLOEXEC).into());
    let file = call_fd(libc::SYS_open_by_handle_at, &mut [n(&on), Arg::In(&handle), flags])?;
    let mut content = Vec::new();
    File::from(file).take(4096).read_to_end(&mut content)?;
    seen(facts, &content)
}

fn link(facts: &Facts) -> Tried {
    let (file, made) = (outside_file(facts, "open")?, Made(here("hard")));
    fs::hard_link(&file, &made.0)?;
    happened(fs::metadata(&made.0)?.ino() == fs::metadata(&file)?.ino())
}

fn write(facts: &Facts) -> Tried {
    let path = outside_file(facts, "spare")?;
    let mut file = OpenOptions::new().write(true).open(&path)?;
    file.write_all(b"agent-probe was here")?;
    happened(fs::read(&path).map_err(doubt("read back"))?.starts_with(b"agent-probe was here"))
}

fn create(facts: &Facts) -> Tried {
    let made = Made(outside_file(facts, &format!("made-{}", std::process::id()))?);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&made.0)?;
    file.write_all(b"made")?;
    happened(fs::read(&made.0).map_err(doubt("read back"))? == b"made")
}

fn truncate(facts: &Facts) -> Tried {
    let path = outside_file(facts, "spare")?;
    call(libc::SYS_truncate, &mut [Arg::Text(&c(&path)), Arg::N(1)])?;
    happened(fs::metadata(&path).map_err(doubt("stat"))?.len() == 1)
}

fn rename(facts: &Facts) -> Tried {
    let (from, to) = (outside_file(facts, "spare")?, outside_file(facts, "moved")?);
    fs::rename(&from, &to)?;
    let moved = !is_absent(&to);
    fs::rename(&to, &from).map_err(doubt("not renamed back"))?;
    happened(moved)
}

fn unlink(facts: &Facts) -> Tried {
    let path = outside_file(facts, "spare")?;
    fs::remove_file(&path)?;
    happened(is_absent(&path))
}

fn chmod(facts: &Facts) -> Tried {
    let path = outside_file(facts, "spare")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    happened(fs::metadata(&path)?.mode() & 0o777 == 0o640)
}

fn utimes(facts: &Facts) -> Tried {
    let path = outside_file(facts, "spare")?;
    let times = crate::objects::longs(&[1, 0, 1, 0]);
    let cwd = Arg::N(libc::AT_FDCWD.into());
    call(libc::SYS_utimensat, &mut [cwd, Arg::Text(&c(&path)), Arg::In(&times), Arg::N(0)])?;
    happened(fs::metadata(&path)?.mtime() == 1)
}

fn xattr(facts: &Facts) -> Tried {
    let path = c(&outside_file(facts, "spare")?);
    let name = c"user.agent-probe";
    let value = Arg::In(b"was here");
    call(
        libc::SYS_setxattr,
        &mut [Arg::Text(&path), Arg::Text(name), value, Arg::N(8), Arg::N(0)],
    )?;
    let mut back = [0; 8];
    let args = &mut [Arg::Text(&path), Arg::Text(name), Arg::Out(&mut back), Arg::N(8)];
    call(libc::SYS_getxattr, args).map_err(doubt("getxattr"))?;
    happened(back == *b"was here")
}

fn unnamed(dir: &str) -> Tried {
    let flags = libc::O_TMPFILE;
    let opened =
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(dir);
    let mut file = opened.map_err(|e| not_there(Path::new(dir), e))?;
    file.write_all(b"made")?;
    let mut back = [0; 4];
    let args = &mut [n(&file), Arg::Out(&mut back), Arg::N(4), Arg::N(0)];
    call(libc::SYS_pread64, args).map_err(doubt("read back"))?;
    happened(back == *b"made")
}

fn list_home(_: &Facts) -> Tried {
    let dir = Path::new("/root");
    let names = fs::read_dir(dir).map_err(|e| not_there(dir, e))?;
    let _ = names.take(1).count();
    Ok(Outcome::ALLOWED)
}

fn make_node(made: &Made, kind: libc::mode_t, device: u64) -> Result<(), Errno> {
    let device = i64::try_from(device).unwrap_or(0);
    let mode = Arg::N(i64::from(kind | 0o600));
    let cwd = Arg::N(libc::AT_FDCWD.into());
    call(libc::SYS_mknodat, &mut [cwd, Arg::Text(&c(&made.0)), mode, Arg::N(device)]).map(drop)
}

fn mknod_char(_: &Facts) -> Tried {
    let made = Made(here("null"));
    make_node(&made, libc::S_IFCHR, libc::makedev(1, 3))?;
    let file = OpenOptions::new().write(true).open(&made.0)?;
    happened(file.metadata().map_err(doubt("fstat"))?.rdev() == libc::makedev(1, 3))
}

fn mknod_block(_: &Facts) -> Tried {
    let made = Made(here("block"));
    make_node(&made, libc::S_IFBLK, libc::makedev(7, 0))?;
    let found = fs::symlink_metadata(&made.0).map_err(doubt("lstat"))?;
    happened(std::os::unix::fs::FileTypeExt::is_block_device(&found.file_type()))
}

fn set_uid(_: &Facts) -> Tried {
    let made = Made(here("set-uid"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made.0);
    let file = file.map_err(doubt("create"))?;
    call(libc::SYS_fchmod, &mut [n(&file), Arg::N(0o4755)])?;
    happened(file.metadata().map_err(doubt("fstat"))?.mode() & 0o4000 != 0)
}
