//! A file that somebody has named, read whole: at most so many bytes, until a deadline. What an agent may have put
//! in its place is refused: a link, a FIFO, a device, a socket, a directory. openat2(2), poll(2).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use agent_init::error::Errno;

use crate::error::errno_of;
use crate::limits::{Limits, Resource};
use crate::pump::Side;
use crate::sys;

/// Bytes of a file that a person writes, at most: variables, a config.
pub const MOST: usize = 1 << 20;

/// How long all files together are waited for where `--timeout` does not say it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// errno(3).
pub const ETIMEDOUT: Errno = Errno(110);

/// Links that are followed at most: path_resolution(7).
const MOST_LINKS: usize = 40;

/// Bytes that are read at a time.
const PART: usize = 64 << 10;

static START: OnceLock<Instant> = OnceLock::new();

/// The program starts now: what it reads, and `--timeout`, count from here.
pub fn begin() {
    START.get_or_init(Instant::now);
}

/// When the program has started; `None`: this is a library of another program.
pub fn start() -> Option<Instant> {
    START.get().copied()
}

/// Until when is read: `--timeout`, or [`PATIENCE`] without one. `None`: for ever, as `--timeout unlimited` asks.
pub fn deadline(limits: &Limits) -> Option<Instant> {
    match limits.get(Resource::WallTime).asked {
        true => from_start(limits.duration(Resource::WallTime)?),
        false => patience(),
    }
}

/// [`PATIENCE`] from the start.
pub fn patience() -> Option<Instant> {
    from_start(PATIENCE)
}

fn from_start(time: Duration) -> Option<Instant> {
    start().unwrap_or_else(Instant::now).checked_add(time)
}

/// All of the file at `path`. EFBIG: it has more than `most` bytes. ETIMEDOUT: it has not ended at `deadline`.
/// EOPNOTSUPP: a FIFO, a socket, a device. EISDIR. ELOOP: a link, see [`open_named`].
///
/// `/dev/fd/N` and its like are descriptor N of the caller, a pipe too: a shell's process substitution.
pub fn file(path: &OsStr, most: usize, deadline: Option<Instant>) -> Result<Vec<u8>, Errno> {
    if let Some(fd) = number_of(path) {
        return stream(fd, most, deadline);
    }
    let path = path.to_owned();
    // Elsewhere than here, as no flag keeps open(2) and read(2) from waiting for a file system that does not answer.
    in_time(deadline, move || opened(open_named(&path)?, most, deadline))
}

/// All of a regular file that is open, by O_PATH or to be read. The errors are those of [`file`]. It waits for nobody
/// but its file system, and gives up at `deadline` between two parts.
pub fn opened(fd: OwnedFd, most: usize, deadline: Option<Instant>) -> Result<Vec<u8>, Errno> {
    let meta = File::from(fd);
    let (size, kind) = meta.metadata().map(|m| (m.len(), m.file_type())).map_err(io)?;
    match () {
        () if kind.is_dir() => return Err(Errno::EISDIR),
        () if kind.is_symlink() => return Err(Errno::ELOOP),
        () if !kind.is_file() => return Err(Errno::EOPNOTSUPP),
        () if usize::try_from(size).is_ok_and(|size| size <= most) => {}
        () => return Err(Errno::EFBIG),
    }
    let file = match sys::is_path_only(meta.as_raw_fd())? {
        true => reopened(&meta)?,
        false => meta,
    };
    let (mut all, mut bytes) = (Vec::new(), vec![0; PART.min(most.saturating_add(1))]);
    loop {
        // It may grow while it is read.
        match file.read_at(&mut bytes, all.len() as u64) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend(bytes.iter().take(count)),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io(e)),
        }
        if all.len() > most {
            return Err(Errno::EFBIG);
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(ETIMEDOUT);
        }
    }
}

/// All that descriptor `fd` of the caller has until its end, whatever it is.
pub fn descriptor(fd: RawFd, most: usize, deadline: Option<Instant>) -> Result<Vec<u8>, Errno> {
    let own = sys::borrow(fd).and_then(sys::dup_high)?;
    let side = Side::of_caller(own, "").map_err(|failure| failure.0.errno)?;
    let (mut all, mut bytes) = (Vec::new(), vec![0; PART]);
    loop {
        match side.read(&mut bytes) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend(bytes.iter().take(count)),
            Err(Errno::EAGAIN) => wait(&side, deadline)?,
            Err(errno) => return Err(errno),
        }
        if all.len() > most {
            return Err(Errno::EFBIG);
        }
    }
}

/// The same of what is named as a file: no terminal, and no device that never ends.
pub fn stream(fd: RawFd, most: usize, deadline: Option<Instant>) -> Result<Vec<u8>, Errno> {
    match sys::file_type(fd)? {
        libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK => descriptor(fd, most, deadline),
        libc::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// What is at `path`, by O_PATH. ELOOP: a link is on the way. Of an ordinary user it is followed where it lies in a
/// directory that is root's and that only root may write: there no agent has put it.
pub fn open_named(path: &OsStr) -> Result<OwnedFd, Errno> {
    match sys::open_no_links(&c_string(path.as_bytes())?) {
        Err(Errno::ELOOP) if sys::ids().0 != 0 => walk(path.as_bytes()),
        other => other.map(sys::own),
    }
}

/// Where the links of `path` lead: what can be named in its place.
pub fn leads_to(path: &OsStr) -> Option<PathBuf> {
    let end = sys::open(&c_string(path.as_bytes()).ok()?, libc::O_PATH).map(sys::own).ok()?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", end.as_raw_fd())).ok()?;
    link.is_absolute().then_some(link) // a pipe has no path
}

/// A component at a time.
fn walk(path: &[u8]) -> Result<OwnedFd, Errno> {
    let begin = |path: &[u8]| {
        let from = if path.starts_with(b"/") { c"/" } else { c"." };
        sys::open(from, libc::O_PATH).map(sys::own).map(File::from)
    };
    let names = |path: &[u8]| {
        let named = path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."));
        named.rev().map(<[u8]>::to_owned).collect::<Vec<_>>()
    };
    let (mut at, mut rest, mut links) = (begin(path)?, names(path), 0);
    while let Some(name) = rest.pop() {
        let next = File::from(sys::open_itself(at.as_fd(), &c_string(&name)?)?);
        if !next.metadata().map_err(io)?.is_symlink() {
            at = next;
            continue;
        }
        let holder = at.metadata().map_err(io)?;
        links += 1;
        if holder.uid() != 0 || holder.mode() & 0o022 != 0 || links > MOST_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = sys::link_target(next.as_fd())?;
        if target.starts_with(b"/") {
            at = begin(&target)?;
        }
        rest.extend(names(&target));
    }
    Ok(at.into())
}

/// The same file, to be read: of a FIFO or device nothing was waited for, as it is none.
fn reopened(file: &File) -> Result<File, Errno> {
    let path = c_string(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes())?;
    let how = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    sys::open(&path, how).map(sys::own).map(File::from)
}

/// The descriptor that a path means.
fn number_of(path: &OsStr) -> Option<RawFd> {
    let path = path.to_str()?;
    if matches!(path, "-" | "/dev/stdin") {
        return Some(0);
    }
    let digits = path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?;
    digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// What `work` gives, if it does so until `deadline`. Else it is left behind: this process ends soon, and it with it.
fn in_time(
    deadline: Option<Instant>,
    work: impl FnOnce() -> Result<Vec<u8>, Errno> + Send + 'static,
) -> Result<Vec<u8>, Errno> {
    let Some(deadline) = deadline else { return work() };
    let (done, is_done) = mpsc::sync_channel(1);
    let worker = std::thread::Builder::new().spawn(move || _ = done.send(work())).map_err(io)?;
    let left = deadline.saturating_duration_since(Instant::now());
    match is_done.recv_timeout(left) {
        Ok(result) => {
            let _it_has_ended = worker.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => Err(ETIMEDOUT),
        Err(RecvTimeoutError::Disconnected) => Err(Errno::EINTR),
    }
}

fn wait(side: &Side, deadline: Option<Instant>) -> Result<(), Errno> {
    let ms = sys::ms_until(deadline);
    if ms == 0 {
        return Err(ETIMEDOUT);
    }
    sys::poll(&mut [libc::pollfd { fd: side.number(), events: libc::POLLIN, revents: 0 }], ms)
}

fn c_string(path: &[u8]) -> Result<CString, Errno> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn io(error: std::io::Error) -> Errno {
    errno_of(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// A directory of its own, gone with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path =
                std::env::temp_dir().join(format!("agent-shim-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Dir(path.canonicalize().unwrap())
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(200))
    }

    fn read(path: &Path) -> Result<Vec<u8>, Errno> {
        file(path.as_os_str(), 10, soon())
    }

    #[test] // seen to fail with open(2) of the path, and without `EFBIG` by the count
    fn a_regular_file_is_read_and_nothing_else() {
        let dir = Dir::new("bounded");
        for (content, wanted) in
            [("", Ok("")), ("0123456789", Ok("0123456789")), ("0123456789a", Err(Errno::EFBIG))]
        {
            fs::write(dir.at("f"), content).unwrap();
            assert_eq!(read(&dir.at("f")), wanted.map(Into::into));
            let open = |flags| {
                sys::own(
                    sys::open(&c_string(dir.at("f").as_os_str().as_bytes()).unwrap(), flags)
                        .unwrap(),
                )
            };
            for flags in [libc::O_PATH, libc::O_RDONLY] {
                assert_eq!(opened(open(flags), 10, None), wanted.map(Into::into));
            }
        }
        fs::create_dir(dir.at("d")).unwrap();
        symlink("f", dir.at("l")).unwrap();
        symlink("d", dir.at("ld")).unwrap();
        fs::write(dir.at("d/f"), "x").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(dir.at("p")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(dir.at("s")).unwrap();
        let rows = [
            (dir.at("d"), Errno::EISDIR),
            (dir.at("p"), Errno::EOPNOTSUPP),
            (dir.at("s"), Errno::EOPNOTSUPP),
            ("/dev/zero".into(), Errno::EOPNOTSUPP),
            (dir.at("none"), Errno::ENOENT),
            ("".into(), Errno::ENOENT),
            (dir.at("l"), Errno::ELOOP),
            (dir.at("ld/f"), Errno::ELOOP),
            ("/proc/self/exe".into(), Errno::ELOOP),
            ("/proc/version".into(), Errno::EFBIG),
            ("/dev/fd/99".into(), Errno::EBADF),
        ];
        for (path, errno) in rows {
            assert_eq!(read(&path), Err(errno), "{path:?}");
        }
        assert_eq!(leads_to(dir.at("ld/f").as_os_str()), Some(dir.at("d/f")));
        assert_eq!(leads_to(dir.at("none").as_os_str()), None);
    }

    /// /proc/self and its like lie in a directory of root's; those of a test do not.
    #[test] // seen to fail without the check of `holder`, and with `..` dropped
    fn a_link_of_roots_is_followed_by_an_ordinary_user() {
        let by_walk = |path: &str| walk(path.as_bytes()).and_then(|fd| opened(fd, 1 << 20, None));
        assert!(by_walk("/proc/self/../self/status").is_ok_and(|text| text.starts_with(b"Name:")));
        let os_release = fs::read("/etc/os-release").unwrap(); // a link, ../usr/lib/os-release
        assert_eq!(by_walk("/etc/os-release"), Ok(os_release.clone()));
        let named =
            open_named(OsStr::new("/etc/os-release")).and_then(|fd| opened(fd, 1 << 20, None));
        match sys::ids().0 {
            0 => assert_eq!(named, Err(Errno::ELOOP)),
            _ => assert_eq!(named, Ok(os_release)),
        }
        let dir = Dir::new("walk");
        symlink("/etc/passwd", dir.at("l")).unwrap();
        fs::set_permissions(&dir.0, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(by_walk(dir.at("l").to_str().unwrap()), Err(Errno::ELOOP));
    }

    #[test] // seen to hang without `in_time`
    fn who_does_not_answer_is_not_waited_for() {
        let begun = Instant::now();
        let slow = in_time(soon(), || {
            std::thread::sleep(Duration::from_secs(600));
            Ok(Vec::new())
        });
        assert_eq!(slow, Err(ETIMEDOUT));
        let (_nobody, _writes) = sys::pipe().unwrap();
        assert_eq!(descriptor(_nobody.as_raw_fd(), 10, soon()), Err(ETIMEDOUT));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(in_time(soon(), || Err(Errno::EBUSY)), Err(Errno::EBUSY));
    }

    #[test]
    fn a_descriptor_by_its_path() {
        let of = |path: &str| number_of(OsStr::new(path));
        assert_eq!(
            (of("/dev/stdin"), of("/dev/fd/63"), of("/proc/self/fd/7")),
            (Some(0), Some(63), Some(7))
        );
        for path in [
            "/dev/fd/",
            "/dev/fd/+1",
            "/dev/fd/1/",
            "/dev/fd/x",
            "/dev/fd/99999999999",
            "/dev/stdout",
            "3",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
