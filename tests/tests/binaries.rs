//! The program that agent-shim carries: small, static, and nothing in it that can be written.

use agent_shim::image::AGENT_INIT;

/// The most bytes agent-init may have, stripped.
const MOST: usize = 32 * 1024;

// elf(5).
const ET_EXEC: u16 = 2;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PF_WRITE: u32 = 2;
const PF_EXECUTE: u32 = 1;

fn half(at: usize) -> u16 {
    u16::from_le_bytes([AGENT_INIT[at], AGENT_INIT[at + 1]])
}

fn word(at: usize) -> u32 {
    u32::from(half(at)) | u32::from(half(at + 2)) << 16
}

/// Type and flags of each program header.
fn segments() -> Vec<(u32, u32)> {
    let table = usize::from(half(32)); // e_phoff; the rest is 0 in a file this small
    assert_eq!((half(34), word(36)), (0, 0));
    let (size, count) = (usize::from(half(54)), usize::from(half(56)));
    assert_eq!(&AGENT_INIT[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
    (0..count).map(|n| table + n * size).map(|at| (word(at), word(at + 4))).collect()
}

#[test]
fn agent_init_is_small() {
    println!("agent-init: {} bytes of {MOST}", AGENT_INIT.len());
    assert!(AGENT_INIT.len() <= MOST, "{} bytes", AGENT_INIT.len());
}

/// No interpreter and no dynamic section: nothing is loaded, nothing is relocated at run time.
#[test]
fn agent_init_is_static_at_a_fixed_address() {
    assert_eq!(half(16), ET_EXEC);
    assert!(segments().iter().all(|(kind, _)| ![PT_INTERP, PT_DYNAMIC].contains(kind)));
}

/// No writable segment: the kernel has no page of it to copy, and no static can change.
#[test]
fn agent_init_has_no_writable_segment() {
    let loaded: Vec<_> = segments().into_iter().filter(|(kind, _)| *kind == PT_LOAD).collect();
    assert!(loaded.iter().any(|(_, flags)| flags & PF_EXECUTE != 0), "control: code is loaded");
    assert!(loaded.iter().all(|(_, flags)| flags & PF_WRITE == 0), "{loaded:?}");
}
