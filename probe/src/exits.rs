//! A program that does nothing but end: to be run with the rights of another. elf(5).

/// Machine, and `exit(0)` in its code. x86_64: mov eax, 60; xor edi, edi; syscall.
#[cfg(target_arch = "x86_64")]
const CODE: (u16, &[u8]) = (62, b"\xb8\x3c\0\0\0\x31\xff\x0f\x05");

/// mov x8, 93; mov x0, 0; svc 0.
#[cfg(target_arch = "aarch64")]
const CODE: (u16, &[u8]) = (183, b"\xa8\x0b\x80\xd2\0\0\x80\xd2\x01\0\0\xd4");

const BASE: u64 = 0x40_0000;
/// The file's header, the one of its only segment, and the code.
const HEADERS: (u16, u16) = (64, 56);

/// Its file.
pub fn program() -> Vec<u8> {
    let (machine, code) = CODE;
    let entry = u64::from(HEADERS.0 + HEADERS.1);
    let len = entry + u64::try_from(code.len()).unwrap_or(0);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec(); // 64 bits, little end first, version 1
    file.resize(16, 0);
    let halves =
        |file: &mut Vec<u8>, all: &[u16]| file.extend(all.iter().flat_map(|h| h.to_le_bytes()));
    let words =
        |file: &mut Vec<u8>, all: &[u64]| file.extend(all.iter().flat_map(|w| w.to_le_bytes()));
    halves(&mut file, &[2, machine, 1, 0]); // an executable; version
    words(&mut file, &[BASE + entry, HEADERS.0.into(), 0]);
    halves(&mut file, &[0, 0, HEADERS.0, HEADERS.1, 1, 0, 0, 0]); // one segment, no section
    halves(&mut file, &[1, 0, 5, 0]); // to be loaded; read and run
    words(&mut file, &[0, BASE, BASE, len, len, 0x1000]);
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test] // seen to fail with another number in CODE
    fn it_ends_well() {
        let path = std::env::temp_dir().join(format!("agent-probe-exits-{}", std::process::id()));
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let ended = std::process::Command::new(&path).status();
        std::fs::remove_file(&path).unwrap();
        assert!(ended.unwrap().success());
    }
}
