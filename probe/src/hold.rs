//! `--hold`: makes the fixtures on the host, tells where they are, answers whoever reaches them, and removes them when
//! standard input ends: that is when the harness ends, however it does.
//!
//! ```text
//! dir=/tmp/agent-fixtures-7-1      made: the fact
//! queue!ENOSYS                     not made, and why
//! ready
//! tcp alive 3                      to `tcp` on standard input: how often it was reached
//! dir dead open: ENOENT
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write, stdin, stdout};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use crate::fixture::{ALL, Fixture, names};
use crate::objects::{self, ioctl};
use crate::sys::{self, Arg, call, call_fd, n};
use crate::{Errno, Facts, exits};

/// What `spare` holds when nobody has changed it.
pub const SPARE: &[u8] = b"spare: this may be overwritten, cut, renamed; nothing of it is kept";

/// The name of [`exits::program`]: the harness gives it away and makes it set-uid, if it can.
pub const SET_UID: &str = "set-uid";

/// The fixtures, alive.
struct Held<'a> {
    dir: &'a Path,
    nonce: &'a str,
    facts: Facts,
    sockets: Option<Sockets>,
    path: Option<UnixListener>,
    kept: Vec<OwnedFd>,
    reached: BTreeMap<Fixture, u64>,
}

struct Sockets {
    tcp: TcpListener,
    udp: UdpSocket,
    named: UnixListener,
}

/// Makes them and serves until standard input ends. The error is for standard error.
pub fn hold(dir: &Path, nonce: &str) -> Result<(), String> {
    let words = |errno: Errno| format!("hold: {}", errno.name());
    let mut held = Held {
        dir,
        nonce,
        facts: Facts::default(),
        sockets: None,
        path: None,
        kept: Vec::new(),
        reached: BTreeMap::new(),
    };
    sys::count(libc::SIGUSR1).map_err(words)?;
    let made = ALL.iter().filter(|(fixture, ..)| fixture.is_held()).try_for_each(|(at, key, _)| {
        tell(&match held.make(*at) {
            Ok(place) => {
                held.facts.fixtures.insert(*at, place.clone());
                format!("{key}={place}")
            }
            Err(errno) => format!("{key}!{}", errno.name()),
        })
    });
    let served = made.and_then(|()| tell("ready")).and_then(|()| held.serve());
    let released = release(dir, nonce);
    served.map_err(words).and(released)
}

/// Removes what has a name. What is not there is no error.
pub fn release(dir: &Path, nonce: &str) -> Result<(), String> {
    let key = names::sysv(nonce);
    let remove = |get: i64, control: i64, args: &mut [Arg<'_>], at: usize| {
        if let Ok(id) = call(get, args) {
            let mut control_args = [Arg::N(id), Arg::N(0), Arg::N(0)];
            control_args[at] = Arg::N(libc::IPC_RMID.into());
            let _raced = call(control, &mut control_args);
        }
    };
    remove(libc::SYS_shmget, libc::SYS_shmctl, &mut [Arg::N(key), Arg::N(0), Arg::N(0)], 1);
    remove(libc::SYS_semget, libc::SYS_semctl, &mut [Arg::N(key), Arg::N(0), Arg::N(0)], 2);
    remove(libc::SYS_msgget, libc::SYS_msgctl, &mut [Arg::N(key), Arg::N(0)], 1);
    let queue = objects::text(&names::queue(nonce));
    let _none = call(libc::SYS_mq_unlink, &mut [Arg::Text(&queue)]);
    let _none = fs::remove_file(names::posix(nonce));
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("hold: rmdir({}): {}", dir.display(), Errno::from(e).name()))
        }
        _ => Ok(()),
    }
}

fn tell(line: &str) -> Result<(), Errno> {
    let mut out = stdout().lock();
    Ok(writeln!(out, "{line}").and_then(|()| out.flush())?)
}

impl Held<'_> {
    fn make(&mut self, fixture: Fixture) -> Result<String, Errno> {
        match fixture {
            Fixture::Dir => self.files(),
            Fixture::Tcp => self.listen().map(|()| {
                let port = self.sockets.as_ref().and_then(|s| s.tcp.local_addr().ok());
                port.map_or(String::new(), |at| at.port().to_string())
            }),
            Fixture::Udp => Ok(self.sockets()?.udp.local_addr()?.port().to_string()),
            Fixture::Abstract => self.sockets().map(|_| self.abstract_name()),
            Fixture::Socket => {
                let path = self.socket_path();
                self.path = Some(UnixListener::bind(&path)?);
                fs::set_permissions(&path, Permissions::from_mode(0o666))?;
                Ok(path)
            }
            Fixture::Victim => {
                let locked =
                    call_fd(libc::SYS_memfd_create, &mut [Arg::Text(c"locked"), Arg::N(1)])?;
                call(libc::SYS_flock, &mut [n(&locked), Arg::N(libc::LOCK_EX.into())])?;
                self.kept.push(locked);
                Ok(format!("{}/{}", std::process::id(), self.nonce.as_ptr() as usize))
            }
            Fixture::Shm | Fixture::Sem | Fixture::Msg => self.system_v(fixture),
            Fixture::Posix => {
                let path = names::posix(self.nonce);
                create(Path::new(&path), 0o644, self.nonce.as_bytes())?;
                Ok(path)
            }
            Fixture::Queue => self.queue(),
            Fixture::Key => self.key(),
            Fixture::Terminal => self.terminal(),
            Fixture::Fd | Fixture::Env | Fixture::Tty | Fixture::SetUid => Err(Errno(libc::EINVAL)),
        }
    }

    fn files(&self) -> Result<String, Errno> {
        fs::create_dir(self.dir)?;
        fs::set_permissions(self.dir, Permissions::from_mode(0o755))?;
        create(&self.dir.join("open"), 0o644, self.nonce.as_bytes())?;
        create(&self.dir.join("private"), 0o600, self.nonce.as_bytes())?;
        create(&self.dir.join("spare"), 0o644, SPARE)?;
        // Written by this process, which makes no other: while one holds it for writing it cannot be run.
        create(&self.dir.join(SET_UID), 0o755, &exits::program())?;
        Ok(self.dir.display().to_string())
    }

    fn abstract_name(&self) -> String {
        format!("agent-fixture-{}", self.nonce)
    }

    fn socket_path(&self) -> String {
        self.dir.join("socket").display().to_string()
    }

    fn listen(&mut self) -> Result<(), Errno> {
        let name = SocketAddr::from_abstract_name(self.abstract_name())?;
        let sockets = Sockets {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            named: UnixListener::bind_addr(&name)?,
        };
        self.sockets = Some(sockets);
        Ok(())
    }

    fn sockets(&self) -> Result<&Sockets, Errno> {
        self.sockets.as_ref().ok_or(Errno(libc::ENOTCONN))
    }

    fn system_v(&self, fixture: Fixture) -> Result<String, Errno> {
        let key = names::sysv(self.nonce);
        let flags = i64::from(libc::IPC_CREAT | libc::IPC_EXCL | 0o666);
        match fixture {
            Fixture::Shm => {
                let args = &mut [Arg::N(key), Arg::N(4096), Arg::N(flags)];
                let id = call(libc::SYS_shmget, args)?;
                sys::shared(id, Some(objects::word(self.nonce)))?;
            }
            Fixture::Sem => {
                let id = call(libc::SYS_semget, &mut [Arg::N(key), Arg::N(1), Arg::N(flags)])?;
                let value = Arg::N(names::semaphore(self.nonce));
                let set = Arg::N(libc::SETVAL.into());
                call(libc::SYS_semctl, &mut [Arg::N(id), Arg::N(0), set, value])?;
            }
            _ => {
                let id = call(libc::SYS_msgget, &mut [Arg::N(key), Arg::N(flags)])?;
                let message = [1_i64.to_ne_bytes().as_slice(), self.nonce.as_bytes()].concat();
                let args = &mut [Arg::N(id), Arg::In(&message), Arg::N(16), Arg::N(0)];
                call(libc::SYS_msgsnd, args)?;
            }
        }
        Ok(key.to_string())
    }

    fn queue(&mut self) -> Result<String, Errno> {
        let name = names::queue(self.nonce);
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
        let attr = objects::queue_attr(1, 16);
        let queue = call_fd(
            libc::SYS_mq_open,
            &mut [
                Arg::Text(&objects::text(&name)),
                Arg::N(flags.into()),
                Arg::N(0o644),
                Arg::In(&attr),
            ],
        )?;
        let message = Arg::In(self.nonce.as_bytes());
        let args = &mut [n(&queue), message, Arg::N(16), Arg::N(0), Arg::N(0)];
        call(libc::SYS_mq_timedsend, args)?;
        self.kept.push(queue);
        Ok(name)
    }

    /// In the keyring of this process: it goes with it.
    fn key(&self) -> Result<String, Errno> {
        let name = objects::text(&self.abstract_name());
        let payload = Arg::In(self.nonce.as_bytes());
        let args = &mut [
            Arg::Text(c"user"),
            Arg::Text(&name),
            payload,
            Arg::N(16),
            Arg::N(objects::PROCESS),
        ];
        let serial = call(libc::SYS_add_key, args)?;
        let mode = Arg::N(0x3f3f_000b); // possessor and owner: all; others: view, read, search
        call(libc::SYS_keyctl, &mut [Arg::N(objects::SETPERM), Arg::N(serial), mode])?;
        Ok(serial.to_string())
    }

    fn terminal(&mut self) -> Result<String, Errno> {
        let (master, path) = objects::new_terminal()?;
        let (rows, columns) = names::size(self.nonce);
        let size: Vec<u8> = [rows, columns, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, Arg::In(&size))?;
        let slave =
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path)?;
        self.kept.extend([master.into(), slave.into()]);
        Ok(format!("{path}:{rows}x{columns}"))
    }

    fn serve(&mut self) -> Result<(), Errno> {
        let mut asked = Vec::new();
        loop {
            let stdin = stdin();
            let mut fds = vec![(None, stdin.as_fd())];
            if let Some(s) = &self.sockets {
                fds.push((Some(Fixture::Tcp), s.tcp.as_fd()));
                fds.push((Some(Fixture::Udp), s.udp.as_fd()));
                fds.push((Some(Fixture::Abstract), s.named.as_fd()));
            }
            fds.extend(self.path.as_ref().map(|path| (Some(Fixture::Socket), path.as_fd())));
            let polled: Vec<BorrowedFd<'_>> = fds.iter().map(|(_, fd)| *fd).collect();
            let ready = match sys::poll(&polled, -1) {
                Err(Errno(libc::EINTR)) => continue,
                ready => ready?,
            };
            let all = fds.iter().map(|(fixture, _)| *fixture).zip(ready);
            let ready: Vec<_> = all.filter(|(_, ready)| *ready).map(|(who, _)| who).collect();
            ready.iter().flatten().try_for_each(|fixture| self.answer(*fixture))?;
            if ready.contains(&None) && !self.asked(&mut asked)? {
                return Ok(());
            }
        }
    }

    /// Whoever has come gets the nonce; one who is gone again is no failure.
    fn answer(&mut self, fixture: Fixture) -> Result<(), Errno> {
        let nonce = self.nonce.as_bytes();
        let local = |listener: &UnixListener| listener.accept()?.0.write_all(nonce);
        let _gone = match (fixture, &self.sockets, &self.path) {
            (Fixture::Tcp, Some(s), _) => {
                s.tcp.accept().and_then(|(mut peer, _)| peer.write_all(nonce))
            }
            (Fixture::Udp, Some(s), _) => {
                let got = s.udp.recv_from(&mut [0; 64]);
                got.and_then(|(_, from)| s.udp.send_to(nonce, from)).map(drop)
            }
            (Fixture::Abstract, Some(s), _) => local(&s.named),
            (_, _, Some(path)) => local(path),
            _ => Ok(()),
        };
        *self.reached.entry(fixture).or_default() += 1;
        Ok(())
    }

    /// Lines on standard input; `false` at its end.
    fn asked(&mut self, line: &mut Vec<u8>) -> Result<bool, Errno> {
        let mut part = [0; 256];
        let len = stdin().lock().read(&mut part)?;
        for byte in part.iter().take(len) {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            let key = String::from_utf8_lossy(line).into_owned();
            line.clear();
            let state = match Fixture::of_key(&key) {
                None => "dead no such fixture".to_owned(),
                Some(fixture) => match self.look(fixture) {
                    Ok(()) => format!("alive {}", self.reached(fixture)),
                    Err(errno) => format!("dead {}", errno.name()),
                },
            };
            tell(&format!("{key} {state}"))?;
        }
        Ok(len != 0)
    }

    fn reached(&self, fixture: Fixture) -> u64 {
        match fixture {
            Fixture::Victim => sys::counted().into(),
            _ => self.reached.get(&fixture).copied().unwrap_or(0),
        }
    }

    /// Whether it still holds what it was made with, by the way that an operation takes.
    fn look(&self, fixture: Fixture) -> Result<(), Errno> {
        let nonce = self.nonce.as_bytes();
        let is = |same: bool| if same { Ok(()) } else { Err(Errno(libc::ESTALE)) };
        let key = Arg::N(names::sysv(self.nonce));
        match fixture {
            Fixture::Dir => {
                create(&self.dir.join("spare"), 0o644, SPARE)?;
                is(fs::read(self.dir.join("open"))? == nonce
                    && fs::read(self.dir.join("private"))? == nonce)
            }
            Fixture::Tcp | Fixture::Udp | Fixture::Abstract => self.sockets().map(drop),
            Fixture::Socket => Ok(fs::metadata(self.socket_path()).map(drop)?),
            Fixture::Victim => Ok(()),
            Fixture::Shm => is(objects::shared_memory(names::sysv(self.nonce))? == *nonce),
            Fixture::Sem => {
                let id = call(libc::SYS_semget, &mut [key, Arg::N(0), Arg::N(0)])?;
                is(objects::semaphore(id)? == names::semaphore(self.nonce))
            }
            Fixture::Msg => {
                let id = call(libc::SYS_msgget, &mut [key, Arg::N(0)])?;
                is(objects::messages(id)? == 1)
            }
            Fixture::Posix => is(fs::read(names::posix(self.nonce))? == nonce),
            Fixture::Queue => is(objects::queued(&names::queue(self.nonce))? == 1),
            Fixture::Key => {
                let serial = self.facts.fixtures.get(&Fixture::Key);
                is(objects::read_key(serial.and_then(|s| s.parse().ok()).unwrap_or(0))? == nonce)
            }
            Fixture::Terminal => is(self
                .kept
                .iter()
                .any(|fd| objects::terminal_size(fd.as_raw_fd()) == Ok(names::size(self.nonce)))),
            Fixture::Fd | Fixture::Env | Fixture::Tty | Fixture::SetUid => Err(Errno(libc::EINVAL)),
        }
    }
}

fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), Errno> {
    debug_assert!(!path.as_os_str().as_bytes().is_empty());
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file.write_all(content)?)
}
