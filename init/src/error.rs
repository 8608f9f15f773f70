//! A step that failed: what it was, and the record of it that crosses the report pipe.

use core::ffi::CStr;
use core::fmt;

use crate::sys::Words;

/// An error number as the kernel gave it, 1..=4095; 0 where no call failed but a read-back did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Errno(pub u16);

macro_rules! errnos {
    ($($name:ident)*) => { impl Errno { $(
        #[doc = concat!("`", stringify!($name), "`, errno(3).")]
        // Every errno of Linux is below 4096.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        pub const $name: Errno = Errno(libc::$name as u16);
    )* } };
}

errnos! {
    EPERM ENOENT ESRCH EBADF ECHILD EDQUOT EFBIG EINTR E2BIG ENOEXEC EAGAIN EACCES ENOTDIR EINVAL
    EISDIR EMFILE ENOTTY ENOSPC ENOSYS EOPNOTSUPP EUSERS EBUSY EEXIST ELOOP ENAMETOOLONG ENODEV
    ENOTSOCK EROFS ESTALE EIO ENOMEM EPIPE ETXTBSY EXDEV
}

/// The primitive that failed, by its name in messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Step(u16);

macro_rules! steps {
    ($($id:ident = $n:literal, $name:literal, $doc:literal;)*) => {
        impl Step {
            $(#[doc = $doc] pub const $id: Step = Step($n);)*
            /// The word in messages; `?` for a number that no version of this crate has sent.
            pub const fn name(self) -> &'static str {
                match self.0 { $($n => $name,)* _ => "?" }
            }
        }
    };
}

steps! {
    ORDERS      = 1,  "orders",       "the record that init receives";
    IMAGE       = 2,  "image",        "agent-init in a sealed memfd";
    CLONE       = 3,  "clone",        "new namespaces and a process in them";
    IDMAP       = 4,  "idmap",        "uid_map, gid_map, setgroups";
    IDS         = 5,  "ids",          "the change to an unprivileged id";
    COMPOSE     = 6,  "compose",      "the root on a private tmpfs";
    PIVOT       = 7,  "pivot_root",   "entering the composed root";
    INNER       = 8,  "inner userns", "the user namespace that locks the mounts";
    UTS         = 9,  "hostname",     "the name of the uts namespace";
    LOOPBACK    = 10, "loopback",     "lo of the network namespace";
    KEYRING     = 11, "keyring",      "a session keyring of its own";
    STDIO       = 12, "stdio",        "descriptors 0, 1, 2";
    START       = 13, "start init",   "the execve of agent-init";
    DESCRIPTORS = 14, "descriptors",  "nothing open past the report pipe";
    NAMESPACES  = 15, "namespaces",   "read-back: not the host's";
    ROOT        = 16, "root",         "read-back: a tmpfs, and the start directory in it";
    SESSION     = 17, "session",      "signals blocked, own session";
    RLIMIT      = 18, "rlimit",       "resource limits";
    DUMPABLE    = 19, "dumpable",     "PID 1 cannot be read or traced";
    NNP         = 20, "no_new_privs", "no privilege by execve";
    LANDLOCK    = 21, "landlock",     "the file-system allow-list and scopes";
    CAPS        = 22, "caps",         "capability sets and securebits";
    DEATH       = 23, "death signal", "the room dies with the shim";
    FORK        = 24, "fork",         "the agent's process";
    SECCOMP     = 25, "seccomp",      "the system-call filter";
    EXEC        = 26, "exec",         "the execve of the agent";
    REPORT      = 28, "report",       "the pipe from the room";
    WAIT        = 29, "wait",         "waiting for the room";
    PROGRAM     = 30, "program",      "what is to be run";
    OUTPUT      = 31, "output",       "a file or stream the shim writes";
    PROBE       = 32, "probe",        "a run of agent-probe";
    ROOM        = 33, "room",         "what was asked for, and what is there on the host";
    PIN         = 34, "pin",          "a file or directory of the host, held before it is shown";
    CHDIR       = 35, "start directory", "where the agent starts";
    KEEP        = 36, "kept descriptor", "a descriptor that the agent keeps";
    OVERLAY     = 37, "overlay",      "a writable layer over a directory of an image";
    OPTIONS     = 38, "options",      "the command line of agent-init alone";
    LIMITS      = 39, "limits",       "what the room may use: cgroups, and what was asked for";
    TERMINAL    = 40, "terminal",     "the room's own pseudo terminal";
    POLICY      = 41, "policy",       "a filter that is read, judged or compared";
    BASELINE    = 42, "baseline",     "an earlier report that is compared with";
}

/// Text of at most `N` bytes, NUL-padded. Of a longer one, the end is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Text<N> = Text([0; N]);

    /// The last `N` bytes of `text`.
    #[inline(never)]
    pub fn new(text: &[u8]) -> Text<N> {
        let mut bytes = [0; N];
        let tail = text.get(text.len().saturating_sub(N)..).unwrap_or(text);
        for (to, from) in bytes.iter_mut().zip(tail) {
            *to = *from;
        }
        Text(bytes)
    }

    /// Without the padding.
    pub fn bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(N);
        self.0.get(..len).unwrap_or(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(&self.bytes().escape_ascii(), f)
    }
}

/// What failed in a step, as init carries it: borrowed words, copied only when it is reported. Thin
/// pointers, as it is returned by every function: fat ones make init a tenth larger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    /// As the kernel gave it; 0 when a read-back found a layer not in force.
    pub errno: Errno,
    /// The call and what it was done to: `mount(tmpfs)`.
    pub what: Words,
    /// Instead of the latter, for example a path of the orders; empty if `what` says it all.
    pub object: Words,
}

impl Error {
    /// A call failed.
    pub const fn new(errno: Errno, what: &'static CStr, object: &'static CStr) -> Error {
        Error { errno, what: Words::of(what), object: Words::of(object) }
    }

    /// A read-back found that `what` is not in force, whatever the calls returned.
    pub const fn not_in_force(what: &'static CStr) -> Error {
        Error::new(Errno(0), READ_BACK_CALL, what)
    }
}

/// Shorthand for `map_err`: the errno of a call becomes an [`Error`] with its circumstances.
pub trait At<T> {
    /// Names the call, with what it was done to in brackets.
    fn at(self, what: &'static CStr) -> Result<T, Error>;
    /// Names the call and what it was done to.
    fn at_object(self, what: &'static CStr, object: &'static CStr) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, what: &'static CStr) -> Result<T, Error> {
        self.at_object(what, c"")
    }

    fn at_object(self, what: &'static CStr, object: &'static CStr) -> Result<T, Error> {
        self.map_err(|errno| Error::new(errno, what, object))
    }
}

/// An error and the step it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The primitive.
    pub step: Step,
    /// As in [`Error`].
    pub errno: Errno,
    /// As in [`Error`].
    pub what: Words,
    /// As in [`Error`].
    pub object: Words,
}

/// Shorthand for `map_err`: names the step.
pub trait During<T> {
    /// Names the step.
    fn during(self, step: Step) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
}

impl Failure {
    /// `error` in `step`.
    pub fn new(step: Step, error: Error) -> Failure {
        let Error { errno, what, object } = error;
        Failure { step, errno, what, object }
    }

    /// The exit status that says it: DESIGN §8.
    pub fn code(&self) -> i32 {
        match (self.step, self.errno) {
            (Step::EXEC, Errno::ENOENT | Errno::ENOTDIR) => 127,
            (Step::EXEC, Errno::EACCES | Errno::ENOEXEC | Errno::EPERM) => 126,
            _ => crate::report::HARNESS_FAILED,
        }
    }
}

/// The call of an error that a read-back found.
pub const READ_BACK: &str = "read-back";
/// The same, for [`Error`].
pub const READ_BACK_CALL: &CStr = c"read-back";

/// A step that failed, as it crosses the report pipe: 96 bytes, no pointer, no padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Record {
    /// The primitive.
    pub step: Step,
    /// As the kernel gave it; 0 when a read-back found a layer not in force.
    pub errno: Errno,
    /// The call, for example `mount`.
    pub call: Text<28>,
    /// What it was done to, for example `tmpfs, /dev/shm`; of a long path, the end.
    pub object: Text<64>,
}

/// Size of [`Record`] in bytes.
pub const RECORD: usize = 96;
const _: () = assert!(size_of::<Record>() == RECORD);

impl Record {
    /// `step: call(object): errno`.
    pub fn new(step: Step, call: &str, object: impl AsRef<[u8]>, errno: Errno) -> Record {
        Record { step, errno, call: Text::new(call.as_bytes()), object: Text::new(object.as_ref()) }
    }
}

impl From<&Failure> for Record {
    fn from(Failure { step, errno, what, object }: &Failure) -> Record {
        let (what, object) = (what.bytes(), object.bytes());
        let what = what.strip_suffix(b")").unwrap_or(what);
        let end = what.iter().position(|b| *b == b'(').unwrap_or(what.len());
        let (call, named) = (what.get(..end).unwrap_or(what), what.get(end + 1..).unwrap_or(b""));
        let object = if object.is_empty() { named } else { object };
        Record { step: *step, errno: *errno, call: Text::new(call), object: Text::new(object) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_the_end() {
        assert_eq!(Text::<4>::new(b"abcdef").bytes(), b"cdef");
        assert_eq!(Text::<4>::new(b"ab").bytes(), b"ab");
        assert_eq!(Text::<4>::new(b"").bytes(), b"");
    }
}
