//! Link flags of the libc-free, static, non-PIE `agent-init`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=init.ld");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}/init.ld", env!("CARGO_MANIFEST_DIR"));
    for flag in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,--no-eh-frame-hdr",
        "-Wl,--strip-all",
        "-Wl,--icf=all",
    ] {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}
