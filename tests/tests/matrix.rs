//! The matrix, against the one of DESIGN §1.
#![allow(clippy::unwrap_used)] // a test

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use agent_tests::scripts::Scratch;
use agent_tests::{is_root, run_for, shim};
use tinyjson::JsonValue;

/// A hundred rooms, unoptimized, beside whatever else the machine does.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// Operation, then the blocker in none, ns_only, landlock, full; `-`: allowed.
#[rustfmt::skip] // a row a line
const EXPECTED: &[(&str, [&str; 4])] = &[
    ("fs-read-passwd",  ["-",          "mnt ns", "mnt ns",   "mnt ns"]),
    ("fs-read-shadow",  ["DAC",        "mnt ns", "mnt ns",   "mnt ns"]),
    ("proc-read-pid2",  ["-",          "pid ns", "pid ns",   "pid ns"]),
    ("fs-write-root",   ["DAC",        "-",      "landlock", "landlock"]),
    ("net-raw-icmp",    ["caps",       "-",      "-",        "caps"]),
    ("net-connect-udp", ["-",          "net ns", "net ns",   "net ns"]),
    ("ptrace-traceme",  ["-",          "-",      "-",        "seccomp"]),
    ("mnt-tmpfs",       ["caps",       "-",      "landlock", "seccomp"]),
    ("sig-kill-all",    ["self-guard", "pid ns", "pid ns",   "pid ns"]),
];

/// Where the host has it; a kernel without it is credited with that.
const DEV_MEM: [&str; 4] = ["DAC", "mnt ns", "mnt ns", "mnt ns"];

fn text<'a>(members: &'a HashMap<String, JsonValue>, name: &str) -> &'a str {
    members[name].get::<String>().map_or("-", String::as_str)
}

#[test] // seen to fail with mnt before seccomp in `LAYERS`
fn the_rows_are_those_of_the_design() {
    let scratch = Scratch::new("matrix").unwrap();
    let json = scratch.path("facts.json");
    let output = run_for(shim(&["matrix", "--quick", "--json"]).arg(&json), LIMIT);
    let printed = output.ok();
    assert!(printed.lines().all(|l| l.chars().count() <= 100), "{printed}");
    assert!(!printed.contains('\x1b'), "colour without a terminal");
    let facts: JsonValue = std::fs::read_to_string(&json).unwrap().parse().unwrap();
    let facts = facts.get::<HashMap<_, _>>().unwrap();
    assert_eq!(text(facts, "schema"), "agent-shim/matrix");
    assert_eq!(facts["version"].get::<f64>(), Some(&1.0));
    assert_eq!(facts["control"].get::<bool>(), Some(&is_root()));
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    for profile in facts["profiles"].get::<Vec<_>>().unwrap() {
        let profile = profile.get::<HashMap<_, _>>().unwrap();
        for op in profile["ops"].get::<Vec<_>>().unwrap() {
            let op = op.get::<HashMap<_, _>>().unwrap();
            let blocker = text(op, "blocker").to_owned();
            assert_eq!(blocker == "-", text(op, "result") == "ALLOWED", "{op:?}");
            seen.entry(text(op, "op").to_owned()).or_default().push(blocker);
        }
    }
    for (op, blockers) in EXPECTED {
        assert_eq!(seen[*op], blockers, "{op}");
    }
    let has_mem = std::path::Path::new("/dev/mem").exists();
    assert_eq!(seen["dev-mem"], if has_mem { DEV_MEM } else { ["kernel"; 4] });
}

/// A probe that says nothing proves nothing.
#[test] // seen to fail with "no record" as BLOCKED
fn a_silent_probe_is_no_room_that_held() {
    let scratch = Scratch::new("silent probe").unwrap();
    let probe = scratch.path("agent-probe");
    std::fs::write(&probe, agent_shim::image::exit_program()).unwrap();
    std::fs::set_permissions(&probe, std::fs::Permissions::from_mode(0o755)).unwrap();
    let json = scratch.path("facts.json");
    let mut command = shim(&["matrix", "--quick", "--json"]);
    let output = run_for(command.arg(&json).env("AGENT_BIN_DIR", scratch.path("")), LIMIT);
    assert!(output.code() != 0, "{output:?}");
    assert!(!json.exists(), "a report of nothing");
}
