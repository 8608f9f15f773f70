//! The lines of `/proc/self/status` that are read back. proc_pid_status(5).

use crate::error::Errno;

/// One reading of the file. It is about 1.5 KiB long; what lies past 4 KiB is not looked at.
#[derive(Debug)]
pub struct Status {
    text: [u8; 4096],
    len: usize,
}

impl Status {
    /// Fills one from a single read, which is atomic for this file.
    pub fn read(mut from: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Status, Errno> {
        let mut text = [0; 4096];
        let len = from(&mut text)?;
        Ok(Status { text, len })
    }

    /// The value of `name:` as digits of `radix`; `None` if there is no such line or value.
    #[inline(never)]
    fn number(&self, name: &str, radix: u64) -> Option<u64> {
        let text = self.text.get(..self.len)?;
        let mut lines = text.split(|b| *b == b'\n');
        let line = lines.find_map(|l| l.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
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
        self.number(name, 16)
    }

    /// A count or mode: decimal.
    pub fn decimal(&self, name: &str) -> Option<u64> {
        self.number(name, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Status {
        let fill = |to: &mut [u8]| {
            to[..text.len()].copy_from_slice(text);
            Ok(text.len())
        };
        Status::read(fill).unwrap()
    }

    #[test]
    fn reads_numbers() {
        let status = of(
            b"Name:\tSeccomp:\t9\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t000001ffffffffff\n",
        );
        assert_eq!(status.decimal("Seccomp"), Some(2));
        assert_eq!(status.hex("CapEff"), Some(0x1ff_ffff_ffff));
        assert_eq!(status.decimal("CapEff"), None);
        assert_eq!(status.hex("CapBnd"), None);
        assert_eq!(status.hex("Name"), None);
        assert_eq!(of(b"CapEff:\t\n").hex("CapEff"), None);
        assert_eq!(of(b"CapEff:\t1ffffffffffffffff\n").hex("CapEff"), None);
    }
}
