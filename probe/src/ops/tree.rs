//! Changes of the mount tree, and a look at it. mount(2), fsopen(2), open_tree(2), mount_setattr(2), pivot_root(2),
//! listmount(2). Each row mounts on /tmp, behind the guard of `mnt-tmpfs`.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::mount::stays_here;
use super::{Made, SELF_GUARD, c, doubt, happened, here, is_absent, outside_file, seen, sentinel};
use crate::facts::read_text;
use crate::objects::longs;
use crate::sys::{Arg, call, call_fd, n};
use crate::{Errno, Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("mount", texts, run)
}

const GUARDED: &str = "behind the guard of mnt-tmpfs; taken away again";
const LOOSE: &str = "a mount that is attached nowhere, gone with its descriptor";
const READS: &str = "only reads";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["mnt-proc",         "mount proc",                r#"mount("proc", "/tmp", "proc")"#,                       GUARDED, "/tmp/self is there"], |f| new(f, c"proc", c"", 0x9fa0)),
    row(["mnt-sysfs",        "mount sysfs",               r#"mount("sysfs", "/tmp", "sysfs")"#,                     GUARDED, "the file system of /tmp is sysfs"], |f| new(f, c"sysfs", c"", 0x6265_6572)),
    row(["mnt-cgroup2",      "mount cgroup2",             r#"mount("cgroup2", "/tmp", "cgroup2")"#,                 GUARDED, "the file system of /tmp is cgroup2"], |f| new(f, c"cgroup2", c"", 0x6367_7270)),
    row(["mnt-devpts",       "mount devpts",              r#"mount("devpts", "/tmp", "devpts")"#,                   GUARDED, "the file system of /tmp is devpts"], |f| new(f, c"devpts", c"", 0x1cd1)),
    row(["mnt-mqueue",       "mount mqueue",              r#"mount("mqueue", "/tmp", "mqueue")"#,                   GUARDED, "the file system of /tmp is mqueue"], |f| new(f, c"mqueue", c"", 0x1980_0202)),
    row(["mnt-ramfs",        "mount ramfs",               r#"mount("ramfs", "/tmp", "ramfs")"#,                     GUARDED, "the file system of /tmp is ramfs"], |f| new(f, c"ramfs", c"", 0x8584_58f6)),
    row(["mnt-debugfs",      "mount debugfs",             r#"mount("debugfs", "/tmp", "debugfs")"#,                 GUARDED, "the file system of /tmp is debugfs"], |f| new(f, c"debugfs", c"", 0x6462_6720)),
    row(["mnt-binfmt",       "mount binfmt_misc",         r#"mount("binfmt_misc", "/tmp", "binfmt_misc")"#,         GUARDED, "the file system of /tmp is binfmt_misc"], |f| new(f, c"binfmt_misc", c"", 0x4249_4e4d)),
    row(["mnt-bpf",          "mount bpf",                 r#"mount("bpf", "/tmp", "bpf")"#,                         GUARDED, "the file system of /tmp is bpf"], |f| new(f, c"bpf", c"", 0xcafe_4a11)),
    row(["mnt-overlay",      "mount an overlay",          r#"mount("overlay", "/tmp", "lowerdir=/tmp:/dev/shm")"#,   GUARDED, "the file system of /tmp is overlay"], |f| new(f, c"overlay", c"lowerdir=/tmp:/dev/shm", 0x794c_7630)),
    row(["mnt-block",        "mount a disk",              r#"mount("/dev/agent-probe-none", "/tmp", "ext4")"#,      "there is no such disk", "ENOENT, which comes after the check of the right"], block),
    row(["mnt-bind",         "bind a directory",          r#"mount("/proc", "/tmp", MS_BIND)"#,                     GUARDED, "/tmp/self is there"], bind),
    row(["mnt-remount",      "make a mount read-only",    r#"mount("/proc", MS_REMOUNT|MS_BIND|MS_RDONLY)"#,        "behind the guard; set back", "statfs says read-only"], remount),
    row(["mnt-umount",       "unmount /proc",             r#"umount2("/proc", MNT_DETACH)"#,                        "behind the guard, in a mount namespace that ends with this process", "/proc/self is gone"], unmount),
    row(["mnt-unmask",       "look behind a mask",        r#"umount2("/proc/keys", MNT_DETACH); open; read"#,       "behind the guard", "/proc/keys has content"], unmask),
    row(["mnt-make-shared",  "share the mount tree",      r#"mount("/", MS_REC|MS_SHARED)"#,                        "behind the guard, in a mount namespace that ends with this process", "mountinfo says shared"], share),
    row(["mnt-open-tree",    "clone the mount tree",      r#"open_tree("/", OPEN_TREE_CLONE)"#,                     LOOSE, "a descriptor of a directory comes"], open_tree),
    row(["mnt-fsopen",       "make a file system",        r#"fsopen("tmpfs"); fsconfig(CREATE); fsmount"#,          LOOSE, "a file can be made in it"], detached),
    row(["mnt-move-mount",   "attach a file system",      r#"fsmount; move_mount("/tmp")"#,                         GUARDED, "/tmp is another device"], attach),
    row(["mnt-setattr",      "change a mount's attributes", r#"mount_setattr("/proc", MOUNT_ATTR_RDONLY)"#,         "behind the guard; set back", "statfs says read-only"], set_attributes),
    row(["mnt-pivot-root",   "pivot_root",                r#"mount tmpfs on /tmp; chdir; pivot_root(".", ".")"#,    "behind the guard, in a mount namespace that ends with this process", "/ is another device"], pivot),
    row(["mnt-chroot",       "chroot",                    r#"chroot("/tmp")"#,                                      "of this process only", "/ has the inode of /tmp"], chroot),
    row(["mnt-chroot-break", "break out of a chroot",     r#"chroot("/tmp/…"); fchdir; chdir("..") x 64; chroot(".")"#, "of this process only", "the nonce of a file outside is read from there"], break_out).needs(&[Fixture::Dir]),
    row(["mnt-mountinfo",    "read the mount table",      r#"open("/proc/self/mountinfo"); read"#,                  READS, "a block device of the host is named"], mountinfo),
    row(["mnt-listmount",    "list mounts by number",     "listmount(LSMT_ROOT)",                                   READS, "the id of a mount comes"], list),
    row(["mnt-statmount",    "describe a mount",          "statmount(the mount of /)",                              READS, "a description comes"], describe),
];

const TMP: &CStr = c"/tmp";

fn guard(facts: &Facts) -> Result<(), Outcome> {
    if stays_here(facts) { Ok(()) } else { Err(Outcome::SKIP.note(SELF_GUARD)) }
}

const NOTHING: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    let text = |text| Arg::Text(text);
    let flags = Arg::N(i64::try_from(flags).unwrap_or(0));
    let args = &mut [text(source), text(target), text(kind), flags, text(data)];
    call(libc::SYS_mount, args).map(drop)
}

/// Takes the topmost mount away at the end.
struct Mounted(&'static CStr);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = crate::sys::umount_detach(self.0);
    }
}

fn magic(path: &CStr) -> Option<i64> {
    let mut found = [0; size_of::<libc::statfs>()];
    call(libc::SYS_statfs, &mut [Arg::Text(path), Arg::Out(&mut found)]).ok()?;
    crate::objects::long_at(&found, std::mem::offset_of!(libc::statfs, f_type))
}

/// `f_flags` of struct statfs is its eleventh word; ST_RDONLY is 1.
fn is_read_only(path: &CStr) -> Option<bool> {
    let mut found = [0; size_of::<libc::statfs>()];
    call(libc::SYS_statfs, &mut [Arg::Text(path), Arg::Out(&mut found)]).ok()?;
    Some(crate::objects::long_at(&found, 80)? & 1 != 0)
}

fn new(facts: &Facts, kind: &CStr, options: &CStr, expected: i64) -> Tried {
    guard(facts)?;
    mount(kind, TMP, kind, NOTHING, options)?;
    let _mounted = Mounted(TMP);
    happened(magic(TMP) == Some(expected))
}

/// The right is asked before the device is looked up.
fn block(facts: &Facts) -> Tried {
    guard(facts)?;
    let result = mount(c"/dev/agent-probe-none", TMP, c"ext4", libc::MS_RDONLY, c"");
    sentinel(result.map(|()| 0), &[libc::ENOENT])
}

fn bind(facts: &Facts) -> Tried {
    guard(facts)?;
    mount(c"/proc", TMP, c"", libc::MS_BIND, c"")?;
    let _mounted = Mounted(TMP);
    happened(!is_absent("/tmp/self"))
}

fn remount(facts: &Facts) -> Tried {
    guard(facts)?;
    let flags = libc::MS_REMOUNT | libc::MS_BIND | NOTHING;
    mount(c"none", c"/proc", c"", flags | libc::MS_RDONLY, c"")?;
    let effect = is_read_only(c"/proc") == Some(true);
    let _set_back = mount(c"none", c"/proc", c"", flags, c"");
    happened(effect)
}

fn unmount(facts: &Facts) -> Tried {
    guard(facts)?;
    crate::sys::umount_detach(c"/proc")?;
    happened(is_absent("/proc/self"))
}

/// Where nothing lies on it, reading alone is the answer.
fn unmask(facts: &Facts) -> Tried {
    guard(facts)?;
    let taken = crate::sys::umount_detach(c"/proc/keys");
    match read_text("/proc/keys")? {
        text if !text.is_empty() => Ok(Outcome::ALLOWED),
        _ => taken.map_or_else(|errno| Err(errno.into()), |()| happened(false)),
    }
}

fn share(facts: &Facts) -> Tried {
    guard(facts)?;
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_SHARED, c"")?;
    happened(read_text("/proc/self/mountinfo").map_err(doubt("mountinfo"))?.contains(" shared:"))
}

fn open_tree(_: &Facts) -> Tried {
    let flags = Arg::N(1 | i64::from(libc::O_CLOEXEC)); // OPEN_TREE_CLONE
    let cwd = Arg::N(libc::AT_FDCWD.into());
    let tree = call_fd(libc::SYS_open_tree, &mut [cwd, Arg::Text(c"/"), flags])?;
    happened(fs::metadata(format!("/proc/self/fd/{}", tree.as_raw_fd()))?.is_dir())
}

fn make_tmpfs() -> Result<OwnedFd, Errno> {
    let context = call_fd(libc::SYS_fsopen, &mut [Arg::Text(c"tmpfs"), Arg::N(1)])?; // CLOEXEC
    let create = || [n(&context), Arg::N(6), Arg::N(0), Arg::N(0), Arg::N(0)]; // FSCONFIG_CMD_CREATE
    call(libc::SYS_fsconfig, &mut create())?;
    call_fd(libc::SYS_fsmount, &mut [n(&context), Arg::N(1), Arg::N(0)])
}

fn detached(_: &Facts) -> Tried {
    let tree = make_tmpfs()?;
    let flags = Arg::N((libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC).into());
    let args = &mut [n(&tree), Arg::Text(c"made"), flags, Arg::N(0o600)];
    call_fd(libc::SYS_openat, args)?;
    Ok(Outcome::ALLOWED)
}

fn attach(facts: &Facts) -> Tried {
    guard(facts)?;
    let device = || fs::metadata("/tmp").map(|meta| meta.dev()).ok();
    let (before, tree) = (device(), make_tmpfs()?);
    let cwd = Arg::N(libc::AT_FDCWD.into());
    let args = &mut [n(&tree), Arg::Text(c""), cwd, Arg::Text(TMP), Arg::N(4)]; // F_EMPTY_PATH
    call(libc::SYS_move_mount, args)?;
    let _mounted = Mounted(TMP);
    happened(device() != before)
}

/// struct mount_attr: set, clear, propagation, user namespace.
fn set_attributes(facts: &Facts) -> Tried {
    guard(facts)?;
    let set = |attributes: &[i64; 4]| {
        let (cwd, size) = (Arg::N(libc::AT_FDCWD.into()), Arg::N(32));
        let attributes = longs(attributes);
        let args = &mut [cwd, Arg::Text(c"/proc"), Arg::N(0), Arg::In(&attributes), size];
        call(libc::SYS_mount_setattr, args)
    };
    set(&[1, 0, 0, 0])?; // MOUNT_ATTR_RDONLY
    let effect = is_read_only(c"/proc") == Some(true);
    let _set_back = set(&[0, 1, 0, 0]);
    happened(effect)
}

fn pivot(facts: &Facts) -> Tried {
    guard(facts)?;
    let device = || fs::metadata("/").map(|meta| meta.dev()).ok();
    let before = device();
    mount(c"tmpfs", TMP, c"tmpfs", NOTHING, c"size=64k")?;
    std::env::set_current_dir("/tmp").map_err(doubt("chdir"))?;
    call(libc::SYS_pivot_root, &mut [Arg::Text(c"."), Arg::Text(c".")])?;
    std::env::set_current_dir("/").map_err(doubt("chdir"))?;
    happened(device() != before)
}

fn inode(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn chroot(_: &Facts) -> Tried {
    let tmp = inode("/tmp");
    call(libc::SYS_chroot, &mut [Arg::Text(TMP)])?;
    happened(tmp.is_some() && inode("/") == tmp)
}

/// The directory is left with rmdir of its name, which is out of reach by then: through the descriptor of /tmp.
fn break_out(facts: &Facts) -> Tried {
    let file = outside_file(facts, "open")?;
    let made = Made(here("cell"));
    fs::create_dir(&made.0).map_err(doubt("mkdir"))?;
    let outside = fs::File::open("/tmp").map_err(doubt("open"))?;
    call(libc::SYS_chroot, &mut [Arg::Text(&c(&made.0))])?;
    call(libc::SYS_fchdir, &mut [n(&outside)])?;
    for _ in 0..64 {
        std::env::set_current_dir("..").map_err(doubt("chdir"))?;
    }
    call(libc::SYS_chroot, &mut [Arg::Text(c".")])?;
    seen(facts, &fs::read(file)?)
}

/// Behind the `-`: type, source, options. proc_pid_mountinfo(5).
fn mountinfo(_: &Facts) -> Tried {
    let table = read_text("/proc/self/mountinfo")?;
    let source = |line: &str| Some(line.split_once(" - ")?.1.split(' ').nth(1)?.to_owned());
    match table.lines().filter_map(source).any(|source| source.starts_with("/dev/")) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::REDACTED.note("no disk of the host is named")),
    }
}

/// struct mnt_id_req: size, spare, mount, parameter. listmount 458, statmount 457.
fn list(_: &Facts) -> Tried {
    let mut request = crate::objects::ints(&[24, 0]);
    request.extend(longs(&[-1, 0])); // LSMT_ROOT
    let mut ids = [0; 64];
    let count = call(458, &mut [Arg::In(&request), Arg::Out(&mut ids), Arg::N(8), Arg::N(0)])?;
    happened(count > 0)
}

fn describe(_: &Facts) -> Tried {
    let mut found = [0; 256];
    let cwd = Arg::N(libc::AT_FDCWD.into());
    let unique = Arg::N(0x4000); // STATX_MNT_ID_UNIQUE
    call(libc::SYS_statx, &mut [cwd, Arg::Text(c"/"), Arg::N(0), unique, Arg::Out(&mut found)])
        .map_err(doubt("statx"))?;
    let at = std::mem::offset_of!(libc::statx, stx_mnt_id);
    let id = crate::objects::long_at(&found, at).unwrap_or(0);
    let mut request = crate::objects::ints(&[24, 0]);
    request.extend(longs(&[id, 2])); // STATMOUNT_MNT_BASIC
    let mut answer = [0; 1024];
    call(457, &mut [Arg::In(&request), Arg::Out(&mut answer), Arg::N(1024), Arg::N(0)])?;
    Ok(Outcome::ALLOWED)
}
