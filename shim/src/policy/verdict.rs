//! What a filter returns, as the kernel takes it. seccomp(2), linux/seccomp.h, kernel/seccomp.c `__seccomp_filter`.

use agent_init::policy::Verdict;
use agent_probe::errno_name;

/// The action of a return value, with its 16 bits of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[rustfmt::skip] // a row a line
pub enum Action {
    /// The whole process dies by SIGSYS.
    KillProcess,
    /// The thread dies, the others go on without it.
    KillThread,
    /// SIGSYS, which the process may catch.
    Trap,
    /// The call is not made; the caller gets this errno.
    Errno(u16),
    /// Another process decides, over a descriptor.
    UserNotif,
    /// A tracer decides; without one the call fails with ENOSYS.
    Trace,
    /// The call is made, and logged.
    Log,
    /// The call is made.
    Allow,
    /// None that the kernel knows: it kills the process.
    Other(u32),
}

impl Action {
    /// Of what a program returns.
    pub fn of(result: u32) -> Action {
        let data = u16::try_from(result & libc::SECCOMP_RET_DATA).unwrap_or(u16::MAX);
        match result & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_PROCESS => Action::KillProcess,
            libc::SECCOMP_RET_KILL_THREAD => Action::KillThread,
            libc::SECCOMP_RET_TRAP => Action::Trap,
            // MAX_ERRNO: a greater one would look like an address.
            libc::SECCOMP_RET_ERRNO => Action::Errno(data.min(4095)),
            libc::SECCOMP_RET_USER_NOTIF => Action::UserNotif,
            libc::SECCOMP_RET_TRACE => Action::Trace,
            libc::SECCOMP_RET_LOG => Action::Log,
            libc::SECCOMP_RET_ALLOW => Action::Allow,
            _ => Action::Other(result),
        }
    }

    /// The call is made.
    pub fn runs(self) -> bool {
        matches!(self, Action::Allow | Action::Log)
    }

    /// The call is made, or may be if somebody else says so.
    pub fn may_run(self) -> bool {
        self.runs() || matches!(self, Action::Trace | Action::UserNotif)
    }

    /// The caller survives.
    pub fn is_weaker_than_kill(self) -> bool {
        !matches!(self, Action::KillProcess | Action::Other(_))
    }

    /// A short word: a label, a cell.
    pub fn word(self) -> String {
        match self {
            Action::KillProcess => "kill".into(),
            Action::KillThread => "kill_thread".into(),
            Action::Trap => "trap".into(),
            Action::Errno(errno) => errno_name(i32::from(errno)).into_owned(),
            Action::UserNotif => "user_notif".into(),
            Action::Trace => "trace".into(),
            Action::Log => "log".into(),
            Action::Allow => "allow".into(),
            Action::Other(result) => format!("unknown_{result:x}"),
        }
    }

    /// What happens to the caller.
    pub fn words(self) -> String {
        match self {
            Action::KillProcess => "kills the process".into(),
            Action::KillThread => "kills the thread, not the process".into(),
            Action::Trap => "sends SIGSYS, which can be caught".into(),
            Action::Errno(0) => "errno 0: does nothing and looks like success".into(),
            Action::Errno(errno) => format!("errno {errno} ({})", errno_name(i32::from(errno))),
            Action::UserNotif => "another process decides (user_notif)".into(),
            Action::Trace => "a tracer decides; ENOSYS without one".into(),
            Action::Log => "allows, and logs".into(),
            Action::Allow => "allows".into(),
            Action::Other(result) => format!("{result:#x} is no action: kills the process"),
        }
    }
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Action {
        Action::of(verdict.code())
    }
}
