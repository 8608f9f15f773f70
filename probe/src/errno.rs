//! Errnos: a number, its name, its words. errno(3); the numbers are libc's, the words those of glibc's strerror(3).

use std::borrow::Cow;
use std::io;

/// The kernel's largest errno. A filter that answers it marks itself: no kernel path returns it.
pub const MAX: i32 = 4095;

/// An errno as the kernel gave it, never remapped: 1 to [`MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Its name, `ENOENT`; a number without one is `E4095`.
    pub fn name(self) -> Cow<'static, str> {
        errno_name(self.0)
    }

    /// The errno of a name exactly as [`Errno::name`] spells it.
    pub fn from_name(name: &str) -> Option<Errno> {
        if let Some((number, ..)) = ERRNOS.iter().find(|(_, known, _)| *known == name) {
            return Some(Errno(*number));
        }
        let number = name.strip_prefix('E')?.parse().ok()?;
        let errno = Errno(number);
        ((1..=MAX).contains(&number) && errno.name() == name).then_some(errno)
    }

    /// What the last failed libc call of this thread left.
    pub fn last() -> Errno {
        io::Error::last_os_error().into()
    }
}

impl From<io::Error> for Errno {
    /// An error that std made up itself (an early end of file) counts as EIO.
    fn from(error: io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// The name of an errno, `ENOENT` for 2; for a number that has none, `E` and the number.
pub fn errno_name(errno: i32) -> Cow<'static, str> {
    match ERRNOS.iter().find(|(number, ..)| *number == errno) {
        Some((_, name, _)) => Cow::Borrowed(name),
        None => Cow::Owned(format!("E{errno}")),
    }
}

/// The words for a name, `No such file or directory` for `ENOENT`; else `Unknown error 4095`, as glibc has it.
pub fn errno_words(name: &str) -> Cow<'static, str> {
    match ERRNOS.iter().find(|(_, known, _)| *known == name) {
        Some((.., words)) => Cow::Borrowed(words),
        None => Cow::Owned(format!("Unknown error {}", name.strip_prefix('E').unwrap_or(name))),
    }
}

macro_rules! table {
    ($($name:ident $words:literal)*) => {
        /// Number, name, words. One name a number: EWOULDBLOCK, ENOTSUP and EDEADLOCK are other names of rows.
        const ERRNOS: &[(i32, &str, &str)] = &[$((libc::$name, stringify!($name), $words)),*];
    };
}

// In the order of the numbers, 1 to 133; Linux uses neither 41 nor 58.
table! {
    EPERM "Operation not permitted"
    ENOENT "No such file or directory"
    ESRCH "No such process"
    EINTR "Interrupted system call"
    EIO "Input/output error"
    ENXIO "No such device or address"
    E2BIG "Argument list too long"
    ENOEXEC "Exec format error"
    EBADF "Bad file descriptor"
    ECHILD "No child processes"
    EAGAIN "Resource temporarily unavailable"
    ENOMEM "Cannot allocate memory"
    EACCES "Permission denied"
    EFAULT "Bad address"
    ENOTBLK "Block device required"
    EBUSY "Device or resource busy"
    EEXIST "File exists"
    EXDEV "Invalid cross-device link"
    ENODEV "No such device"
    ENOTDIR "Not a directory"
    EISDIR "Is a directory"
    EINVAL "Invalid argument"
    ENFILE "Too many open files in system"
    EMFILE "Too many open files"
    ENOTTY "Inappropriate ioctl for device"
    ETXTBSY "Text file busy"
    EFBIG "File too large"
    ENOSPC "No space left on device"
    ESPIPE "Illegal seek"
    EROFS "Read-only file system"
    EMLINK "Too many links"
    EPIPE "Broken pipe"
    EDOM "Numerical argument out of domain"
    ERANGE "Numerical result out of range"
    EDEADLK "Resource deadlock avoided"
    ENAMETOOLONG "File name too long"
    ENOLCK "No locks available"
    ENOSYS "Function not implemented"
    ENOTEMPTY "Directory not empty"
    ELOOP "Too many levels of symbolic links"
    ENOMSG "No message of desired type"
    EIDRM "Identifier removed"
    ECHRNG "Channel number out of range"
    EL2NSYNC "Level 2 not synchronized"
    EL3HLT "Level 3 halted"
    EL3RST "Level 3 reset"
    ELNRNG "Link number out of range"
    EUNATCH "Protocol driver not attached"
    ENOCSI "No CSI structure available"
    EL2HLT "Level 2 halted"
    EBADE "Invalid exchange"
    EBADR "Invalid request descriptor"
    EXFULL "Exchange full"
    ENOANO "No anode"
    EBADRQC "Invalid request code"
    EBADSLT "Invalid slot"
    EBFONT "Bad font file format"
    ENOSTR "Device not a stream"
    ENODATA "No data available"
    ETIME "Timer expired"
    ENOSR "Out of streams resources"
    ENONET "Machine is not on the network"
    ENOPKG "Package not installed"
    EREMOTE "Object is remote"
    ENOLINK "Link has been severed"
    EADV "Advertise error"
    ESRMNT "Srmount error"
    ECOMM "Communication error on send"
    EPROTO "Protocol error"
    EMULTIHOP "Multihop attempted"
    EDOTDOT "RFS specific error"
    EBADMSG "Bad message"
    EOVERFLOW "Value too large for defined data type"
    ENOTUNIQ "Name not unique on network"
    EBADFD "File descriptor in bad state"
    EREMCHG "Remote address changed"
    ELIBACC "Can not access a needed shared library"
    ELIBBAD "Accessing a corrupted shared library"
    ELIBSCN ".lib section in a.out corrupted"
    ELIBMAX "Attempting to link in too many shared libraries"
    ELIBEXEC "Cannot exec a shared library directly"
    EILSEQ "Invalid or incomplete multibyte or wide character"
    ERESTART "Interrupted system call should be restarted"
    ESTRPIPE "Streams pipe error"
    EUSERS "Too many users"
    ENOTSOCK "Socket operation on non-socket"
    EDESTADDRREQ "Destination address required"
    EMSGSIZE "Message too long"
    EPROTOTYPE "Protocol wrong type for socket"
    ENOPROTOOPT "Protocol not available"
    EPROTONOSUPPORT "Protocol not supported"
    ESOCKTNOSUPPORT "Socket type not supported"
    EOPNOTSUPP "Operation not supported"
    EPFNOSUPPORT "Protocol family not supported"
    EAFNOSUPPORT "Address family not supported by protocol"
    EADDRINUSE "Address already in use"
    EADDRNOTAVAIL "Cannot assign requested address"
    ENETDOWN "Network is down"
    ENETUNREACH "Network is unreachable"
    ENETRESET "Network dropped connection on reset"
    ECONNABORTED "Software caused connection abort"
    ECONNRESET "Connection reset by peer"
    ENOBUFS "No buffer space available"
    EISCONN "Transport endpoint is already connected"
    ENOTCONN "Transport endpoint is not connected"
    ESHUTDOWN "Cannot send after transport endpoint shutdown"
    ETOOMANYREFS "Too many references: cannot splice"
    ETIMEDOUT "Connection timed out"
    ECONNREFUSED "Connection refused"
    EHOSTDOWN "Host is down"
    EHOSTUNREACH "No route to host"
    EALREADY "Operation already in progress"
    EINPROGRESS "Operation now in progress"
    ESTALE "Stale file handle"
    EUCLEAN "Structure needs cleaning"
    ENOTNAM "Not a XENIX named type file"
    ENAVAIL "No XENIX semaphores available"
    EISNAM "Is a named type file"
    EREMOTEIO "Remote I/O error"
    EDQUOT "Disk quota exceeded"
    ENOMEDIUM "No medium found"
    EMEDIUMTYPE "Wrong medium type"
    ECANCELED "Operation canceled"
    ENOKEY "Required key not available"
    EKEYEXPIRED "Key has expired"
    EKEYREVOKED "Key has been revoked"
    EKEYREJECTED "Key was rejected by service"
    EOWNERDEAD "Owner died"
    ENOTRECOVERABLE "State not recoverable"
    ERFKILL "Operation not possible due to RF-kill"
    EHWPOISON "Memory page has hardware error"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The libc of this test is glibc, and io::Error prints its strerror(3).
    #[test]
    fn every_number_has_glibcs_words() {
        for number in (1..=133).filter(|n| *n != 41 && *n != 58) {
            let name = errno_name(number);
            let glibc = io::Error::from_raw_os_error(number).to_string();
            assert_eq!(format!("{} (os error {number})", errno_words(&name)), glibc);
        }
        assert_eq!(ERRNOS.len(), 131);
    }

    #[test]
    fn every_errno_up_to_the_largest_comes_back_from_its_name() {
        for number in 1..=MAX {
            assert_eq!(Errno::from_name(&errno_name(number)), Some(Errno(number)));
        }
    }

    #[test]
    fn unknown_numbers_are_printed_as_numbers() {
        assert_eq!(errno_name(4095), "E4095");
        assert_eq!(errno_name(41), "E41");
        assert_eq!(errno_words("E4095"), "Unknown error 4095");
        assert_eq!(errno_words("ENOENT"), "No such file or directory");
    }

    #[test]
    fn only_the_one_spelling_of_a_name_is_taken() {
        for bad in [
            "",
            "E",
            "E2",
            "E0",
            "E-1",
            "E4096",
            "E+41",
            "E041",
            "enoent",
            "ENOENT ",
            "EWOULDBLOCK",
            "2",
        ] {
            assert_eq!(Errno::from_name(bad), None, "{bad}");
        }
    }
}
