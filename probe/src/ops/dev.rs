//! Device nodes. mem(4).

use std::fs::{Metadata, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use super::{ANOTHER_FILE, doubt, happened, is_absent, refused, sentinel};
use crate::objects::ioctl;
use crate::sys::Arg;
use crate::{Facts, Kind, Op, Outcome, Tried};

const OPENS: &str = "opens for reading and reads nothing";
const DEVICE: &str = "what is open is that character device";

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("dev", texts, run)
}

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    Op {
        id: "dev-mem",
        title: "open /dev/mem",
        group: "dev",
        call: r#"open("/dev/mem", O_RDONLY|O_NONBLOCK|O_CLOEXEC); fstat"#,
        safe: "opens for reading and reads nothing",
        judged: "what is open is the character device 1:1",
        run: |facts| Ok(open_mem(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
    row(["dev-kmsg", "open /dev/kmsg", r#"open("/dev/kmsg", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/kmsg", Some((1, 11)))),
    row(["dev-port", "open /dev/port", r#"open("/dev/port", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/port", Some((1, 4)))),
    row(["dev-kvm", "open /dev/kvm", r#"open("/dev/kvm", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/kvm", Some((10, 232)))),
    row(["dev-tun", "open /dev/net/tun", r#"open("/dev/net/tun", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/net/tun", Some((10, 200)))),
    row(["dev-fuse", "open /dev/fuse", r#"open("/dev/fuse", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/fuse", Some((10, 229)))),
    row(["dev-loop", "open /dev/loop-control", r#"open("/dev/loop-control", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/loop-control", Some((10, 237)))),
    row(["dev-console", "open /dev/console", r#"open("/dev/console", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/console", Some((5, 1)))),
    row(["dev-tty0", "open /dev/tty0", r#"open("/dev/tty0", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/tty0", Some((4, 0)))),
    row(["dev-vcs", "open /dev/vcsa", r#"open("/dev/vcsa", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/vcsa", Some((7, 128)))),
    row(["dev-hwrng", "open /dev/hwrng", r#"open("/dev/hwrng", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/hwrng", Some((10, 183)))),
    row(["dev-btrfs", "open /dev/btrfs-control", r#"open("/dev/btrfs-control", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/btrfs-control", Some((10, 234)))),
    row(["dev-userfaultfd", "open /dev/userfaultfd", r#"open("/dev/userfaultfd", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/userfaultfd", None)),
    row(["dev-vsock", "open /dev/vsock", r#"open("/dev/vsock", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/vsock", None)),
    row(["dev-uinput", "open /dev/uinput", r#"open("/dev/uinput", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/uinput", Some((10, 223)))),
    row(["dev-dri", "open /dev/dri/renderD128", r#"open("/dev/dri/renderD128", O_RDONLY|O_NONBLOCK|O_NOCTTY); fstat"#, OPENS, DEVICE], |_| node("/dev/dri/renderD128", Some((226, 128)))),
    row(["dev-disk", "open the disk of the host", r#"open("/dev/{vda,sda,nvme0n1,xvda}", O_RDONLY|O_NONBLOCK)"#, "reads nothing", "what is open is a block device"], |_| disk()),
    row(["dev-entropy", "credit entropy", r#"open("/dev/urandom"); ioctl(RNDADDTOENTCNT, -1)"#, "a negative amount is refused", "EINVAL, which comes after the check of CAP_SYS_ADMIN"], |_| entropy()),
];

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

/// `number`: where it is the same on every host.
fn node(path: &str, number: Option<(u32, u32)>) -> Tried {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|e| refused(path, e))?;
    let opened = file.metadata().map_err(doubt("opened, not identified"))?;
    let is_it = number.map_or(opened.file_type().is_char_device(), |(major, minor)| {
        is_device(&opened, major, minor)
    });
    if is_it { Ok(Outcome::ALLOWED) } else { Ok(Outcome::CONTAINED.note(ANOTHER_FILE)) }
}

/// Names of the first disk. Where a host has another, the row says that none of these is there.
const DISKS: &[&str] = &["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda"];

fn disk() -> Tried {
    let there = DISKS.iter().find(|path| !is_absent(path));
    let path = there.unwrap_or(&DISKS[0]);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|e| refused(path, e))?;
    let opened = file.metadata().map_err(doubt("opened, not identified"))?;
    happened(opened.file_type().is_block_device())
}

/// RNDADDTOENTCNT, linux/random.h: `_IOW('R', 0x01, int)`. random_ioctl checks CAP_SYS_ADMIN, then the sign.
fn entropy() -> Tried {
    let device = OpenOptions::new().read(true).open("/dev/urandom").map_err(doubt("open"))?;
    let amount = (-1_i32).to_ne_bytes();
    sentinel(ioctl(device.as_raw_fd(), 0x4004_5201, Arg::In(&amount)), &[libc::EINVAL])
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
