//! A table that is wrong does not compile, and the error names the row: the crate is copied, one line of its table
//! changed, and the copy given to cargo.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use agent_tests::{Scratch, skip};

/// What is changed, into what, and what the compiler says.
#[rustfmt::skip] // a row a line
const MISTAKES: &[(&str, &str, &str)] = &[
    ("row(\"lseek\",", "row(\"lseak\",", "the row of `lseak`: no architecture has such a call"),
    ("When(&[AnyBit(0, CLONE_NEW)], EPERM)", "When(&[AnyBit(0, 0)], EPERM)", "the row of `clone`: a test can never hold"),
    ("const ENOSYS: Verdict = Verdict::Errno(38);", "const ENOSYS: Verdict = Verdict::Errno(0);", "an errno is 1 to 4095"),
];

#[test] // seen to fail with `check` that finds nothing
fn a_wrong_table_stops_the_compiler_with_the_name_of_its_row() {
    let test = "a_wrong_table_stops_the_compiler_with_the_name_of_its_row";
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let scratch = Scratch::new();
    let copy = scratch.dir("copy");
    fs::create_dir_all(copy.join("init/src")).unwrap();
    for entry in fs::read_dir(tree.join("init/src")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join("init/src").join(path.file_name().unwrap())).unwrap();
    }
    for file in ["Cargo.lock", "init/Cargo.toml", "init/build.rs", "init/init.ld"] {
        fs::copy(tree.join(file), copy.join(file)).unwrap();
    }
    let workspace = fs::read_to_string(tree.join("Cargo.toml")).unwrap();
    let members = workspace.lines().find(|line| line.starts_with("members")).unwrap();
    let (head, _) = workspace.split_once("[profile.").unwrap();
    fs::write(copy.join("Cargo.toml"), head.replace(members, "members = [\"init\"]")).unwrap();
    let check = || {
        let mut cargo = Command::new("cargo");
        cargo.args(["check", "--quiet", "--offline", "--lib", "-p", "agent-init"]);
        cargo.current_dir(&copy).env("CARGO_TARGET_DIR", copy.join("target")).output()
    };
    let policy = copy.join("init/src/policy.rs");
    let text = fs::read_to_string(&policy).unwrap();
    match check() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            // As another user, without the registry, or with an older compiler: the copy is not at fault.
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!why.contains("the row of"), "{why}");
            return skip(test, &format!("cargo: {}", why.lines().next().unwrap_or_default()));
        }
        Err(error) => return skip(test, &format!("cargo: {error}")),
    }
    for (is, wrong, says) in MISTAKES {
        assert_eq!(text.matches(is).count(), 1, "{is}");
        fs::write(&policy, text.replace(is, wrong)).unwrap();
        let output = check().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(says), "{says}: {error}");
    }
}
