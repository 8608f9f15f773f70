//! Builds agent-init, always for release and in a target directory of its own, so that no lock is
//! shared with the outer cargo, and hands its path to `include_bytes!` as `AGENT_INIT_BIN`.

use std::{env, path::PathBuf, process::Command};

/// What the outer cargo set for this script and must not reach the inner one.
const OURS: &[&str] = &[
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let init = here.with_file_name("init");
    for part in ["src", "build.rs", "init.ld", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", init.join(part).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("init");
    let target = env::var("TARGET").expect("cargo sets it");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .args(["build", "--release", "--locked", "--bin", "agent-init", "--target", &target])
        .arg("--manifest-path")
        .arg(init.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&out);
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let prefixed = ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PROFILE_"];
        if OURS.contains(&&*name) || prefixed.iter().any(|p| name.starts_with(p)) {
            cargo.env_remove(&key);
        }
    }
    assert!(cargo.status().expect("cargo can be run").success(), "agent-init does not build");
    let program = out.join(target).join("release/agent-init");
    println!("cargo::rustc-env=AGENT_INIT_BIN={}", program.display());
}
