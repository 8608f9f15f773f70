//! The lines of `/proc/self/status` that are read back. proc_pid_status(5).

use core::ffi::CStr;

use crate::error::Errno;

/// A reading of the file. It is about 1.5 KiB long; what lies past 4 KiB is not looked at.
#[derive(Debug)]
pub struct Status {
    text: [u8; 4096],
    len: usize,
}

impl Status {
    /// Nothing read yet: no line is there.
    pub const EMPTY: Status = Status { text: [0; 4096], len: 0 };

    /// Takes the place of the last reading. A single read is atomic for this file.
    pub fn read(
        &mut self,
        from: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        self.len = 0;
        self.len = from(&mut self.text)?;
        Ok(())
    }

    /// The value of `name:` as digits of `radix`; `None` if there is no such line or value.
    #[inline(never)]
    fn number(&self, name: &[u8], radix: u64) -> Option<u64> {
        let text = self.text.get(..self.len)?;
        let mut lines = text.split(|b| *b == b'\n');
        let line = lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(b":"))?;
        let digits = line.trim_ascii();
        if digits.is_empty() {
            return None;
        }
        digits.iter().try_fold(0u64, |n, b| {
            let digit = char::from(*b).to_digit(16).map(u64::from).filter(|d| *d < radix)?;
            n.checked_mul(radix)?.checked_add(digit)
        })
    }

    /// A set: hexadecimal.
    pub fn hex(&self, name: &str) -> Option<u64> {
        self.number(name.as_bytes(), 16)
    }

    /// A set, by a name that an error can hold.
    pub fn set(&self, name: &CStr) -> Option<u64> {
        self.number(name.to_bytes(), 16)
    }

    /// A mask of permission bits: octal.
    pub fn octal(&self, name: &str) -> Option<u64> {
        self.number(name.as_bytes(), 8)
    }

    /// A count or mode: decimal.
    pub fn decimal(&self, name: &str) -> Option<u64> {
        self.number(name.as_bytes(), 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Status {
        let mut status = Status::EMPTY;
        let fill = |to: &mut [u8]| {
            to[..text.len()].copy_from_slice(text);
            Ok(text.len())
        };
        status.read(fill).unwrap();
        status
    }

    #[test]
    fn reads_numbers() {
        let status = of(
            b"Name:\tSeccomp:\t9\nUmask:\t0022\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t000001ffffffffff\n",
        );
        assert_eq!(status.decimal("Seccomp"), Some(2));
        assert_eq!(status.hex("CapEff"), Some(0x1ff_ffff_ffff));
        assert_eq!(status.decimal("CapEff"), None);
        assert_eq!(status.hex("CapBnd"), None);
        assert_eq!(status.hex("Name"), None);
        assert_eq!(status.octal("Umask"), Some(0o22));
        assert_eq!(of(b"CapEff:\t\n").hex("CapEff"), None);
        assert_eq!(of(b"CapEff:\t1ffffffffffffffff\n").hex("CapEff"), None);
    }
}
