//! A line on stdout or stderr, without `core::fmt` and without memory but the stack's.

use crate::error::{Errno, Failure, Record, Step};
use crate::sys::{self, Words};

/// The most bytes of a line; what is longer is cut.
const MOST: usize = 512;

/// A line in the making.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; MOST],
    len: usize,
}

impl Line {
    /// Nothing yet.
    #[allow(clippy::new_without_default, reason = "a line is begun, not defaulted")]
    pub const fn new() -> Line {
        Line { bytes: [0; MOST], len: 0 }
    }

    /// More of it. The last byte stays free for the end.
    pub fn text(&mut self, text: &[u8]) -> &mut Line {
        let room = self.bytes.get_mut(self.len..MOST - 1).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(text) {
            *to = *from;
            self.len += 1;
        }
        self
    }

    /// A decimal number.
    pub fn number(&mut self, n: usize) -> &mut Line {
        if n > 9 {
            self.number(n / 10);
        }
        self.text(DIGITS.get(n % 10..n % 10 + 1).unwrap_or_default())
    }

    /// Foreign text: what could move a cursor or begin a line is shown by its number.
    pub fn foreign(&mut self, text: &[u8]) -> &mut Line {
        for byte in text {
            if (b' '..=b'~').contains(byte) && *byte != b'\\' {
                self.text(&[*byte]);
            } else {
                let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'?');
                self.text(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        self
    }

    /// Spaces up to this column, and at least one.
    pub fn pad(&mut self, column: usize) -> &mut Line {
        self.text(b" ");
        for _ in self.len..column {
            self.text(b" ");
        }
        self
    }

    /// Writes it, and begins another. With nobody to read it there is nothing left to do.
    pub fn end(&mut self, fd: sys::Fd) {
        if let Some(end) = self.bytes.get_mut(self.len) {
            *end = b'\n';
        }
        let _unread = sys::write(fd, self.bytes.get(..=self.len).unwrap_or(&self.bytes));
        self.len = 0;
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

macro_rules! words {
    ($($name:ident $words:literal)*) => {
        &[$((Errno::$name, Words::of($words)),)*]
    };
}

/// What init meets, in the words of strerror(3); of others, the number is told.
#[rustfmt::skip]
const WORDS: &[(Errno, Words)] = words! {
    EPERM        c"Operation not permitted (EPERM)"
    ENOENT       c"No such file or directory (ENOENT)"
    EIO          c"Input/output error (EIO)"
    E2BIG        c"Argument list too long (E2BIG)"
    ENOEXEC      c"Exec format error (ENOEXEC)"
    EBADF        c"Bad file descriptor (EBADF)"
    EAGAIN       c"Resource temporarily unavailable (EAGAIN)"
    ENOMEM       c"Cannot allocate memory (ENOMEM)"
    EACCES       c"Permission denied (EACCES)"
    ENOTDIR      c"Not a directory (ENOTDIR)"
    EISDIR       c"Is a directory (EISDIR)"
    EINVAL       c"Invalid argument (EINVAL)"
    EMFILE       c"Too many open files (EMFILE)"
    ETXTBSY      c"Text file busy (ETXTBSY)"
    EROFS        c"Read-only file system (EROFS)"
    ENAMETOOLONG c"File name too long (ENAMETOOLONG)"
    ENOSYS       c"Function not implemented (ENOSYS)"
    ELOOP        c"Too many levels of symbolic links (ELOOP)"
    EOPNOTSUPP   c"Operation not supported (EOPNOTSUPP)"
};

macro_rules! steps {
    ($($step:ident)*) => { &[$((Step::$step, Step::$step.name()),)*] };
}

/// The steps of init itself: the names of the shim's would be a twentieth of the program.
const STEPS: &[(Step, &str)] = steps! {
    DESCRIPTORS NAMESPACES ROOT SESSION RLIMIT DUMPABLE NNP LANDLOCK CAPS DEATH FORK CHDIR SECCOMP
    KEEP EXEC OPTIONS
};

/// `agent-init: STEP: CALL(OBJECT): errno in words (ENAME)`, on stderr.
pub fn failure(failure: &Failure) {
    let Record { step, errno, call, object } = Record::from(failure);
    let mut line = Line::new();
    let name = STEPS.iter().find(|(known, _)| *known == step).map_or("?", |(_, name)| name);
    line.text(b"agent-init: ").text(name.as_bytes()).text(b": ");
    if errno == Errno(0) {
        line.text(b"not in force when asked back: ").foreign(object.bytes());
        return line.end(2);
    }
    line.foreign(call.bytes()).text(b"(").foreign(object.bytes()).text(b"): ");
    match WORDS.iter().find(|(known, _)| *known == errno) {
        Some((_, words)) => line.text(words.bytes()),
        None => line.text(b"errno ").number(errno.0.into()),
    };
    line.end(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &Line) -> &[u8] {
        &line.bytes[..line.len]
    }

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(of(Line::new().foreign(b"a\nb\x1b[1m\\\xe9~")), b"a\\x0ab\\x1b[1m\\x5c\\xe9~");
    }

    #[test]
    fn every_step_of_init_has_its_name() {
        for step in crate::lock::steps() {
            assert!(STEPS.iter().any(|(known, _)| *known == step), "{}", step.name());
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut line = Line::new();
        line.text(&[b'x'; 2 * MOST]).number(7).pad(MOST);
        assert_eq!(line.len, MOST - 1);
    }

    #[test]
    fn numbers_are_decimal() {
        assert_eq!(of(Line::new().number(0).text(b" ").number(40_95)), b"0 4095");
        assert_eq!(of(Line::new().text(b"ab").pad(4).text(b"c")), b"ab  c");
    }
}
