//! A file that somebody has named, read whole: at most so many bytes, until a deadline. What an agent may have put
//! in its place is refused: a link, a FIFO, a device, a socket, a directory. openat2(2), poll(2).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use agent_init::error::Errno;

use crate::error::errno_of;
use crate::limits::{Limits, Resource};
use crate::pump::Side;
use crate::{source, sys};

/// Bytes of a file that a person writes, at most: variables, a config.
pub const MOST: usize = 1 << 20;

/// How long all files together are waited for where `--timeout` does not say it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// errno(3).
pub const ETIMEDOUT: Errno = Errno(110);

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
/// EOPNOTSUPP: a FIFO, a socket, a device. EISDIR. ELOOP: a link that may be an agent's, see [`source::at`]; with
/// `follow` any link is followed.
///
/// `/dev/fd/N` and its like are descriptor N of the caller, a pipe too: a shell's process substitution.
pub fn file(
    path: &OsStr,
    most: usize,
    deadline: Option<Instant>,
    follow: bool,
) -> Result<Vec<u8>, Errno> {
    if let Some(fd) = number_of(path) {
        return stream(fd, most, deadline);
    }
    let path = path.to_owned();
    // Elsewhere than here, as no flag keeps open(2) and read(2) from waiting for a file system that does not answer.
    in_time(deadline, move || {
        let source = source::at(Path::new(&path), follow)?;
        opened(source.as_fd(), most, deadline)
    })
}

/// All of a regular file that is open, by O_PATH or to be read. The errors are those of [`fn@file`]. It waits for nobody
/// but its file system, and gives up at `deadline` between two parts.
pub fn opened(fd: BorrowedFd, most: usize, deadline: Option<Instant>) -> Result<Vec<u8>, Errno> {
    match sys::facts(fd.as_raw_fd())?.kind {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(Errno::EISDIR),
        libc::S_IFLNK => return Err(Errno::ELOOP),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    // Opened anew, so that an offset which others share stays where it is.
    let how = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = sys::open_again(fd.as_raw_fd(), how).map(|fd| File::from(sys::own(fd)))?;
    if file.metadata().map_err(io)?.len() > most as u64 {
        return Err(Errno::EFBIG);
    }
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

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn io(error: std::io::Error) -> Errno {
    errno_of(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

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
        file(path.as_os_str(), 10, soon(), false)
    }

    #[test] // seen to fail with open(2) of the path, and without `EFBIG` by the count
    fn a_regular_file_is_read_and_nothing_else() {
        let dir = Dir::new("bounded");
        for (content, wanted) in
            [("", Ok("")), ("0123456789", Ok("0123456789")), ("0123456789a", Err(Errno::EFBIG))]
        {
            fs::write(dir.at("f"), content).unwrap();
            assert_eq!(read(&dir.at("f")), wanted.map(Into::into));
            let readable = fs::File::open(dir.at("f")).unwrap();
            let source = source::at(&dir.at("f"), false).unwrap();
            for fd in [readable.as_fd(), source.as_fd()] {
                assert_eq!(opened(fd, 10, None), wanted.map(Into::into));
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
        assert_eq!(file(dir.at("ld/f").as_os_str(), 10, soon(), true), Ok(b"x".to_vec()));
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
