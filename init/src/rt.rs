//! What a libc would have brought: entry, panic, the mem* symbols that rustc emits calls to.

use core::arch::{asm, global_asm};

use agent_init::sys::Strings;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp", // the outermost frame: x86-64 psABI §3.4.1
    "mov rdi, rsp", // argc, argv, envp
    "and rsp, -16",
    "call {}",
    "ud2",
    sym enter,
);

extern "C" fn enter(stack: *const u64) -> ! {
    // SAFETY: the stack pointer as it was at the entry.
    let (argv, envp) = unsafe { Strings::of_stack(stack) };
    super::start(argv, envp)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    agent_init::sys::exit(101)
}

/// Only the dev profile needs these two: core's objects are built to unwind.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    agent_init::sys::exit(101)
}

// By string instruction: a loop might be turned into a call to itself.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(d: *mut u8, s: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller passes two regions of n bytes that do not overlap.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") d => _, inout("rsi") s => _,
             options(nostack, preserves_flags));
    }
    d
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(d: *mut u8, s: *const u8, n: usize) -> *mut u8 {
    if (d as usize).wrapping_sub(s as usize) >= n {
        // SAFETY: d does not lie within s..s+n, so a copy upwards reads before it writes.
        return unsafe { memcpy(d, s, n) };
    }
    // SAFETY: n is at least 1 here; copied from the end downwards, flag restored.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") n => _, inout("rdi") d.add(n - 1) => _,
             inout("rsi") s.add(n - 1) => _, options(nostack));
    }
    d
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(d: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller passes n writable bytes; of `byte` the low eight bits count.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") d => _, in("eax") byte,
             options(nostack, preserves_flags));
    }
    d
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    for i in 0..n {
        // SAFETY: the caller passes n readable bytes at both. Volatile: not made a call of memcmp.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, n) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(s: *const u8) -> usize {
    let mut n = 0;
    // SAFETY: the caller passes a NUL-terminated string.
    while unsafe { s.add(n).read_volatile() } != 0 {
        n += 1;
    }
    n
}
