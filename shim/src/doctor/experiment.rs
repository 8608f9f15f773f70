//! One experiment: a short-lived child that takes a list of steps, and says where it was refused.
//! clone(2), user_namespaces(7).
//!
//! The child makes system calls and nothing else: no allocation, no panic, no lock. Whatever it
//! has made (namespaces, mounts, rulesets) ends with it, and it ends with the doctor.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use agent_init::error::Errno;

use crate::sys::{self, Blocked, End};

/// Milliseconds until an experiment is ended.
pub const LIMIT: i32 = 2000;

/// What the steps need and cannot make: prepared before the child exists.
#[derive(Debug)]
pub struct Kit {
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
}

impl Kit {
    /// The maps of one id: the caller is root of the new namespace.
    pub fn of_caller() -> Kit {
        let (uid, gid) = sys::ids();
        Kit { uid_map: map(uid), gid_map: map(gid) }
    }
}

fn map(id: u32) -> Vec<u8> {
    format!("0 {id} 1\n").into_bytes()
}

/// One step: the call, with its object in parentheses, and the call itself.
pub type Step = (&'static str, fn(&Kit) -> Result<(), Errno>);

/// How an experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step was taken.
    Done,
    /// This step was refused, after so many others.
    Refused {
        /// The call.
        call: &'static str,
        /// What it answered; 0: it returned, and had no effect.
        errno: Errno,
        /// How many steps had been taken.
        after: usize,
    },
    /// The child said nothing and ended so.
    Ended(End),
    /// It was still there after [`LIMIT`].
    Hung,
}

/// What the child writes: whether all went well, how many steps went well, the errno.
type Said = [u8; 4];

/// Takes the steps in a child that is born into `namespaces`.
pub fn run(kit: &Kit, namespaces: u64, steps: &'static [Step]) -> Outcome {
    let refused = |call, errno| Outcome::Refused { call, errno, after: 0 };
    let (read, write) = match sys::pipe() {
        Ok(ends) => ends,
        Err(errno) => return refused("pipe2", errno),
    };
    let blocked = Blocked::all(); // no handler of the caller may run in the child
    let pid = match sys::fork_into(namespaces) {
        Ok(Some(pid)) => pid,
        Ok(None) => child(kit, steps, write.as_raw_fd()),
        Err(errno) => return refused("clone", errno),
    };
    drop((blocked, write));
    let mut said: Said = [0; 4];
    let is_told = match sys::wait_readable(&[read.as_fd()], LIMIT) {
        Ok(Some(_)) => sys::read(read.as_raw_fd(), &mut said) == Ok(said.len()),
        _ => {
            let _ended = agent_init::sys::kill(pid, libc::SIGKILL);
            let _status = sys::reap(pid);
            return Outcome::Hung;
        }
    };
    // It exits right after its word; one that has closed the pipe without a word has ended too.
    match sys::reap(pid) {
        _ if is_told => heard(said, steps),
        Ok(end) => Outcome::Ended(end),
        Err(errno) => refused("waitpid", errno),
    }
}

fn heard([done, after, low, high]: Said, steps: &'static [Step]) -> Outcome {
    let after = usize::from(after);
    match steps.get(after) {
        Some((call, _)) if done == 0 => {
            Outcome::Refused { call, errno: Errno(u16::from_le_bytes([low, high])), after }
        }
        _ => Outcome::Done,
    }
}

fn child(kit: &Kit, steps: &[Step], write: i32) -> ! {
    let _best_effort = agent_init::sys::set_death_signal(libc::SIGKILL);
    let mut said: Said = [1, 0, 0, 0];
    for (_, take) in steps {
        if let Err(errno) = take(kit) {
            let [low, high] = errno.0.to_le_bytes();
            said = [0, said[1], low, high];
            break;
        }
        said[1] = said[1].saturating_add(1);
    }
    let _unread = sys::write_all(write, &said);
    sys::exit_now(0)
}

// -- Steps that more than one experiment takes ---------------------------------------------------

/// The own id as root of a user namespace that has just been made.
pub const MAPS: Step = ("write(uid_map)", |kit| own_maps(&kit.uid_map, &kit.gid_map));
/// The same in a user namespace in that one.
pub const INNER_MAPS: Step = ("write(inner uid_map)", |_| own_maps(b"0 0 1\n", b"0 0 1\n"));
/// Nothing that is mounted from now on reaches the host.
pub const PRIVATE: Step =
    ("mount(MS_PRIVATE)", |_| sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c""));
/// What Landlock and seccomp ask of a process without privilege.
pub const NNP: Step = ("prctl(PR_SET_NO_NEW_PRIVS)", |_| agent_init::sys::set_no_new_privs());

fn own_maps(uid: &[u8], gid: &[u8]) -> Result<(), Errno> {
    put(c"/proc/self/setgroups", b"deny")?;
    put(c"/proc/self/uid_map", uid)?;
    put(c"/proc/self/gid_map", gid)
}

fn put(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let fd = sys::open(path, libc::O_WRONLY)?;
    sys::write_all(fd, text)?;
    sys::close(fd)
}

/// Where [`USERNS`] leaves the user namespace.
pub const USERNS_FD: i32 = 99;

/// A user namespace to map a mount by, of who is root of the own one: made by a child that shares
/// this one's descriptors.
pub const USERNS: Step = ("clone(inner CLONE_NEWUSER)", |_| {
    let flags = u64::from((libc::CLONE_FILES | libc::CLONE_NEWUSER).cast_unsigned());
    let Some(pid) = sys::fork_into(flags)? else {
        let made = own_maps(b"0 0 1\n", b"0 0 1\n")
            .and_then(|()| sys::open(c"/proc/self/ns/user", libc::O_RDONLY))
            .and_then(|fd| sys::dup_to(fd, USERNS_FD));
        sys::exit_now(made.map_or_else(|errno| i32::from(errno.0), |()| 0))
    };
    match sys::reap(pid)? {
        End::Exited(0) => Ok(()),
        End::Exited(errno) => Err(Errno(u16::try_from(errno).unwrap_or(0))),
        End::Signaled(_) => Err(Errno(0)),
    }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_step() {
        let kit = Kit::of_caller();
        assert_eq!(run(&kit, 0, &[("getpid", |_| Ok(()))]), Outcome::Done);
        let steps: &[Step] = &[("one", |_| Ok(())), ("two", |_| Err(Errno::EUSERS))];
        let refused = Outcome::Refused { call: "two", errno: Errno::EUSERS, after: 1 };
        assert_eq!(run(&kit, 0, steps), refused);
    }

    #[test]
    fn a_child_that_says_nothing_is_told() {
        let kit = Kit::of_caller();
        let exits: &[Step] = &[("exit", |_| sys::exit_now(7))];
        assert_eq!(run(&kit, 0, exits), Outcome::Ended(End::Exited(7)));
        let dies: &[Step] =
            &[("kill", |_| agent_init::sys::kill(agent_init::sys::getpid(), libc::SIGKILL))];
        assert_eq!(run(&kit, 0, dies), Outcome::Ended(End::Signaled(libc::SIGKILL)));
    }

    #[test]
    fn a_child_that_hangs_is_ended() {
        let start = std::time::Instant::now();
        let hangs: &[Step] = &[("pause", |_| {
            sys::stop_self();
            Ok(())
        })];
        assert_eq!(run(&Kit::of_caller(), 0, hangs), Outcome::Hung);
        assert!(start.elapsed().as_millis() < 4000);
    }
}
