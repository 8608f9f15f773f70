//! Device nodes. mem(4).

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use super::{ANOTHER_FILE, refused};
use crate::{Facts, Op, Outcome};

pub(super) const OPS: &[Op] = &[Op {
    id: "dev-mem",
    title: "open /dev/mem",
    group: "dev",
    call: r#"open("/dev/mem", O_RDONLY|O_NONBLOCK|O_CLOEXEC); fstat"#,
    safe: "opens for reading and reads nothing",
    judged: "what is open is the character device 1:1",
    run: open_mem,
}];

const MEM: &str = "/dev/mem";

fn open_mem(_: &Facts) -> Outcome {
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(MEM) {
        Err(e) => refused(MEM, e),
        Ok(file) => match file.metadata() {
            Ok(opened) if is_device(&opened, 1, 1) => Outcome::ALLOWED,
            Ok(_) => Outcome::CONTAINED.note(ANOTHER_FILE),
            Err(e) => Outcome::INCONCLUSIVE.errno(e).note("opened, not identified"),
        },
    }
}

fn is_device(opened: &Metadata, major: u32, minor: u32) -> bool {
    opened.file_type().is_char_device() && opened.rdev() == libc::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::metadata;

    #[test]
    fn a_device_is_its_type_and_its_numbers() {
        assert!(is_device(&metadata("/dev/null").unwrap(), 1, 3));
        assert!(!is_device(&metadata("/dev/null").unwrap(), 1, 1));
        assert!(!is_device(&metadata("/dev").unwrap(), 1, 1));
    }
}
