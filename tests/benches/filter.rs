//! What the filter costs, beside the same policy by libseccomp and `seccompiler`, and beside the default profile of
//! containers: makes the peers and hands them to `agent-shim bench filter`.
//!
//! `cargo bench -p agent-tests --bench filter [-- --quick]`. A benchmark, not a test: no number fails it. What a peer
//! cannot say in one filter it says in several: `agent_tests::peers`. `-nr` is its one filter of the numbers alone.

#![allow(clippy::unwrap_used, reason = "a benchmark of the tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use agent_init::bpf::SockFilter;
use agent_shim::policy::{FILTERS, file};
use agent_tests::Scratch;
use agent_tests::peers::{self, Of, Shape};
use tinyjson::JsonValue;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(other) = args.iter().find(|arg| *arg != "--quick") {
        eprintln!("filter: {other}: there is --quick");
        return ExitCode::FAILURE;
    }
    let scratch = Scratch::new();
    let mut command = Command::new(shim());
    command.args(["bench", "filter"]).args(&args);
    for (name, programs) in peers(&scratch.at("")) {
        let files: Vec<String> = (programs.iter().enumerate())
            .map(|(n, insns)| written(&scratch, &format!("{name}-{n}"), insns))
            .collect();
        command.arg("--peer").arg(format!("{name}={}", files.join(",")));
    }
    let status = command.status().unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn written(scratch: &Scratch, name: &str, insns: &[SockFilter]) -> String {
    let path = scratch.at(name);
    fs::write(&path, file::bytes(insns)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The shim of this profile; `cargo bench` does not build the programs of other packages.
fn shim() -> PathBuf {
    let myself = env::current_exe().unwrap();
    let (release, target) =
        (myself.ancestors().nth(2).unwrap(), myself.ancestors().nth(4).unwrap());
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--locked", "--quiet", "-p", "agent-shim"]);
        build.arg("--target-dir").arg(target);
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    }
    release.join("agent-shim")
}

type Peers = Vec<(&'static str, Vec<Vec<SockFilter>>)>;

fn peers(dir: &Path) -> Peers {
    let policy = FILTERS[0].policy;
    let mut peers: Peers = vec![("seccompiler", peers::seccompiler(policy))];
    let tool = match peers::libseccomp_tool(dir) {
        Ok(tool) => tool,
        Err(why) => {
            println!("libseccomp: not measured: {why}");
            return peers;
        }
    };
    #[rustfmt::skip] // a row a line
    let shapes = [
        ("libseccomp",         Of::Arguments, Shape::List),
        ("libseccomp-tree",    Of::Arguments, Shape::Tree),
        ("libseccomp-nr",      Of::Numbers,   Shape::List),
        ("libseccomp-tree-nr", Of::Numbers,   Shape::Tree),
    ];
    for (name, of, shape) in shapes {
        peers.push((name, peers::libseccomp(&tool, policy, of, shape)));
    }
    match fs::read_to_string(CONTAINERS) {
        Ok(text) => {
            let program = peers::exported(&tool, &profile(&text.parse().unwrap()), Shape::List);
            println!("containers: {CONTAINERS}, for x86_64, x86 and x32");
            peers.push(("containers", vec![program]));
        }
        Err(error) => println!(
            "containers: not measured: {CONTAINERS}: {error}; Debian has it in golang-github-containers-common"
        ),
    }
    peers
}

// -- The default profile of containers -----------------------------------------------------------------------------

/// Docker's profile, as podman has it; docker carries its own within its daemon.
const CONTAINERS: &str = "/usr/share/containers/seccomp.json";

/// What docker gives a container: the capabilities that its profile asks for.
const CAPS: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The profile in the language of libseccomp.c.
fn profile(json: &JsonValue) -> String {
    let default = action(json, "defaultAction", "defaultErrnoRet");
    let mut text = format!("default {default:#x}\narch x86\narch x32\n");
    let rules: &Vec<JsonValue> = json["syscalls"].get().unwrap();
    for rule in rules.iter().filter(|rule| is_meant(rule)) {
        let action = action(rule, "action", "errnoRet");
        let names: &Vec<JsonValue> = rule["names"].get().unwrap();
        // libseccomp refuses a rule that says what the default says.
        for name in names.iter().filter(|_| action != default) {
            let name: &String = name.get().unwrap();
            text += &format!("rule {action:#x} {name}{}\n", args(rule));
        }
    }
    text
}

/// Whether a rule is for this architecture and these capabilities.
fn is_meant(rule: &JsonValue) -> bool {
    let listed = |which: &str, what: &str| -> Vec<String> {
        let list = member(rule, which).and_then(|which| member(which, what));
        let list = list.and_then(|list| list.get::<Vec<JsonValue>>().cloned()).unwrap_or_default();
        list.iter().map(|word| word.get::<String>().unwrap().clone()).collect()
    };
    let has_cap = |cap: &String| CAPS.contains(&cap.as_str());
    let arches = listed("includes", "arches");
    (arches.is_empty() || arches.iter().any(|arch| arch == "amd64"))
        && listed("includes", "caps").iter().all(has_cap)
        && !listed("excludes", "caps").iter().any(has_cap)
        && !listed("excludes", "arches").iter().any(|arch| arch == "amd64")
}

fn member<'a>(json: &'a JsonValue, name: &str) -> Option<&'a JsonValue> {
    json.get::<std::collections::HashMap<String, JsonValue>>()?.get(name)
}

fn action(json: &JsonValue, action: &str, errno: &str) -> u32 {
    let word: &String = json[action].get().unwrap();
    match word.as_str() {
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO" => {
            let errno = member(json, errno).and_then(|errno| errno.get::<f64>());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an errno
            let errno = errno.map_or(1, |errno| *errno as u32);
            libc::SECCOMP_RET_ERRNO | errno
        }
        other => panic!("{other}"),
    }
}

fn args(rule: &JsonValue) -> String {
    let args = member(rule, "args").and_then(|args| args.get::<Vec<JsonValue>>());
    let mut text = String::new();
    for arg in args.into_iter().flatten() {
        let number = |name: &str| *arg[name].get::<f64>().unwrap();
        let op = match arg["op"].get::<String>().unwrap().as_str() {
            "SCMP_CMP_EQ" => "eq",
            "SCMP_CMP_NE" => "ne",
            "SCMP_CMP_MASKED_EQ" => "mask",
            other => panic!("{other}"),
        };
        text += &format!(" {} {op} {} {}", number("index"), number("value"), number("valueTwo"));
    }
    text
}
