//! Terminals: the room's own pseudo terminal, made in the room, and the caller's, which passes on
//! every byte while the room lives. pty(7), ioctl_tty(2), termios(3).
//!
//! The room never has the caller's terminal: what is typed into its own (TIOCSTI) comes to itself
//! (CVE-2017-5226). What the agent writes goes to the caller's terminal as it is, escape sequences
//! too, as of every program that is run there.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use agent_init::error::{Errno, Step};

use crate::error::{At, Failure};
use crate::launch;
use crate::sys::{self, Modes, Size};

/// How the room's terminal is before the agent has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Rows and columns.
    pub size: Option<Size>,
    /// Its attributes; `None`: the kernel's.
    pub modes: Option<Modes>,
}

impl Setup {
    /// As the terminal `fd`; a default where it is none.
    pub fn like(fd: RawFd) -> Setup {
        Setup { size: Size::of(fd).ok(), modes: Modes::of(fd).ok() }
    }
}

/// In the child, once it is in the room: makes the terminal, puts it on 0, 1 and 2, sends its
/// other side to the parent. Without a root of its own the terminal is one of the host's devpts.
pub fn make(setup: &Setup, socket: RawFd, in_room: bool) -> Result<(), Failure> {
    let path = if in_room { c"/dev/pts/ptmx" } else { c"/dev/ptmx" };
    let object = path.to_bytes();
    let master = sys::open_terminal(path, in_room).at(Step::TERMINAL, "openat2", object)?;
    if sys::file_system(master).at(Step::TERMINAL, "fstatfs", object)? != sys::DEVPTS && in_room {
        return Err(Failure::not_in_force(Step::TERMINAL, "devpts on /dev/pts"));
    }
    let slave = sys::other_side(master).at(Step::TERMINAL, "ioctl", "TIOCGPTPEER")?;
    if let Some(modes) = &setup.modes {
        modes.set(slave).at(Step::TERMINAL, "ioctl", "TCSETS")?;
    }
    if let Some(size) = &setup.size {
        size.set(slave).at(Step::TERMINAL, "ioctl", "TIOCSWINSZ")?;
    }
    sys::send_fd(socket, master).at(Step::TERMINAL, "sendmsg", "SCM_RIGHTS")?;
    for number in 0..=2 {
        launch::put(slave, number, Step::TERMINAL, "descriptors 0, 1, 2")?;
    }
    sys::close(slave).at(Step::TERMINAL, "close", "")?;
    sys::close(master).at(Step::TERMINAL, "close", "")
}

/// The caller's terminal. While it is raw, whatever ends this process has to put it right: the
/// end of this value does, and a panic; after SIGKILL nobody can (`stty sane`).
#[derive(Debug)]
pub struct Outer {
    fd: OwnedFd,
    before: Modes,
    is_raw: bool,
}

impl Outer {
    /// `None`: `fd` is no terminal.
    pub fn of(fd: OwnedFd) -> Option<Outer> {
        let before = Modes::of(fd.as_raw_fd()).ok()?;
        Some(Outer { fd, before, is_raw: false })
    }

    /// Passes on every byte from now on. In the background this process is stopped until it is
    /// not: the kernel sends SIGTTOU.
    pub fn raw(&mut self) -> Result<(), Errno> {
        self.before.raw().set(self.fd.as_raw_fd())?;
        self.is_raw = true;
        Ok(())
    }

    /// As it was.
    pub fn restore(&mut self) {
        if self.is_raw {
            let _gone = self.before.set(self.fd.as_raw_fd());
            self.is_raw = false;
        }
    }

    /// Its size now.
    pub fn size(&self) -> Option<Size> {
        Size::of(self.fd.as_raw_fd()).ok()
    }

    /// A panic aborts, and drops nothing: for a program, not for a library.
    pub fn restore_on_panic(&self) {
        let Ok(fd) = self.fd.try_clone() else { return };
        let (before, next) = (self.before, std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            let _gone = before.set(fd.as_raw_fd());
            next(info);
        }));
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Whether it is a terminal.
pub fn is_terminal(fd: RawFd) -> bool {
    Modes::of(fd).is_ok()
}
