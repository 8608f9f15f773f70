//! The one order that works, SECURITY §5: each step is applied, then asked back from the kernel.

use crate::error::{At, During, Error, Failure, Step};
use crate::layers::Layers;
use crate::orders::{Flags, Orders, PROGRAM_FD, REPORT_FD};
use crate::status::Status;
use crate::{caps, landlock, no_new_privs, place, process, rlimit, seccomp, sys};

/// What the steps share: the orders, where descriptors are, and the status file, open since
/// before Landlock.
#[derive(Debug)]
pub struct Room {
    /// As received from the shim, checked.
    pub orders: Orders<'static>,
    /// The report pipe; alone, none.
    pub report_fd: Option<sys::Fd>,
    /// The program, if it is a descriptor.
    pub program_fd: sys::Fd,
    /// `/proc/self/status`; -1 until it was opened.
    pub status_fd: sys::Fd,
    /// What was last read of it.
    pub last: Status,
    /// Whether init had what it takes to empty the bounding set and to lock the securebits.
    pub had_setpcap: bool,
}

impl Room {
    /// A room that nothing is known of but its orders.
    pub fn new(orders: Orders<'static>) -> Room {
        let alone = orders.flags().contains(Flags::ALONE);
        Room {
            orders,
            report_fd: (!alone).then_some(REPORT_FD),
            program_fd: PROGRAM_FD,
            status_fd: -1,
            last: Status::EMPTY,
            had_setpcap: true,
        }
    }

    /// Whether there is no shim, and no room but the container that init is in.
    #[inline(never)]
    pub fn is_alone(&self) -> bool {
        self.orders.flags().contains(Flags::ALONE)
    }

    /// The layers to put in force.
    pub fn layers(&self) -> Layers {
        self.orders.layers()
    }

    /// Opens the status file of this process.
    pub fn open_status(&mut self) -> Result<(), Error> {
        self.status_fd =
            sys::open(c"/proc/self/status", libc::O_RDONLY).at(c"open(/proc/self/status)")?;
        Ok(())
    }

    /// The status file as it is now.
    pub fn status(&mut self) -> Result<&Status, Error> {
        let fd = self.status_fd;
        self.last.read(|to| sys::read_start(fd, to)).at(c"pread64(/proc/self/status)")?;
        Ok(&self.last)
    }

    /// The same by read(2), which works once: the offset moves. For PID 1 under its own filter.
    pub fn status_by_read(&mut self) -> Result<&Status, Error> {
        let fd = self.status_fd;
        self.last.read(|to| sys::read(fd, to)).at(c"read(/proc/self/status)")?;
        Ok(&self.last)
    }
}

/// A row: the step, the layer it belongs to, what is done, how it is asked back.
type Row = (Step, Layers, Act, Act);
type Act = fn(&mut Room) -> Result<(), Error>;

fn nothing(_: &mut Room) -> Result<(), Error> {
    Ok(())
}

const ALWAYS: Layers = Layers::empty();

/// In init, before the agent's process exists.
#[rustfmt::skip] // a row a line, as tables are read and diffed
const INIT: &[Row] = &[
    (Step::DESCRIPTORS, ALWAYS,           process::apply_descriptors, process::verify_descriptors), // before anything can exec
    (Step::NAMESPACES,  ALWAYS,           nothing,                    place::verify_namespaces),    // all else rests on it
    (Step::ROOT,        ALWAYS,           nothing,                    place::verify_root),          // before a path is opened
    (Step::SESSION,     ALWAYS,           process::apply_session,     process::verify_session),     // before the first child
    (Step::RLIMIT,      ALWAYS,           rlimit::apply,              rlimit::verify),              // need no right later
    (Step::DUMPABLE,    ALWAYS,           process::apply_dumpable,    process::verify_dumpable),    // before someone can look
    (Step::NNP,         Layers::NNP,      no_new_privs::apply,        no_new_privs::verify),        // the next ones need it
    (Step::LANDLOCK,    Layers::LANDLOCK, landlock::apply,            landlock::verify),            // opens paths: before the filter
    (Step::CAPS,        Layers::CAPS,     caps::apply,                caps::verify),                // last use of CAP_SETPCAP
    (Step::DEATH,       ALWAYS,           process::apply_death,       process::verify_death),       // after the last credential change
];

/// In the agent's process, before execve.
#[rustfmt::skip]
const AGENT: &[Row] = &[
    (Step::SESSION,  ALWAYS,           process::apply_agent,   process::verify_agent),   // reads /proc
    (Step::LANDLOCK, Layers::LANDLOCK, landlock::apply_scopes, landlock::verify_scopes), // init stays outside this domain
    (Step::CHDIR,    ALWAYS,           place::apply_start,     place::verify_start),     // init stays in /
    (Step::SECCOMP,  Layers::SECCOMP,  seccomp::apply,         seccomp::verify),         // last: refuses the calls used above
];

/// In init, when the agent's process exists and waits.
#[rustfmt::skip]
const OWN: &[Row] = &[
    (Step::SECCOMP, Layers::SECCOMP, seccomp::apply_own, seccomp::verify_own),
];

/// Every step of the tables.
#[cfg(test)]
pub fn steps() -> impl Iterator<Item = Step> {
    [INIT, AGENT, OWN].into_iter().flatten().map(|(step, ..)| *step)
}

fn walk(room: &mut Room, rows: &[Row]) -> Result<(), Failure> {
    for (step, layer, apply, verify) in rows {
        if !room.layers().contains(*layer) {
            continue;
        }
        if layer.is_empty() || !room.orders.omitted().contains(*layer) {
            apply(room).during(*step)?;
        }
        verify(room).during(*step)?;
    }
    Ok(())
}

/// Locks init itself; the agent's process inherits all of it.
pub fn init_side(room: &mut Room) -> Result<(), Failure> {
    walk(room, INIT)
}

/// Locks the agent's process further.
pub fn agent_side(room: &mut Room) -> Result<(), Failure> {
    walk(room, AGENT)
}

/// Locks init further.
pub fn own_side(room: &mut Room) -> Result<(), Failure> {
    walk(room, OWN)
}
