//! What `agent_shim::bench::peers` carries, made anew by the libraries of this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use agent_init::bpf::SockFilter;
use agent_shim::policy::FILTERS;
use tinyjson::JsonValue;

use crate::peers::{self, Of, Shape};

/// A peer's programs, and the versions of what made them.
#[derive(Debug)]
pub struct Made {
    /// In the order in which they are installed.
    pub programs: Vec<Vec<SockFilter>>,
    /// `libseccomp 2.5.4`.
    pub by: Vec<String>,
}

/// The peer of this name; the error: what is missing here. The tool is built in `dir`.
pub fn peer(name: &str, dir: &Path) -> Result<Made, String> {
    let policy = FILTERS[0].policy;
    if name == "seccompiler" {
        let by = vec![format!("seccompiler {}", locked("seccompiler"))];
        return Ok(Made { programs: peers::seccompiler(policy), by });
    }
    let tool = peers::libseccomp_tool(dir)?;
    let mut by = vec![format!("libseccomp {}", output(Command::new(&tool).arg("version"))?)];
    let libseccomp = |of, shape| peers::libseccomp(&tool, policy, of, shape);
    let programs = match name {
        "libseccomp" => libseccomp(Of::Arguments, Shape::List),
        "libseccomp-tree" => libseccomp(Of::Arguments, Shape::Tree),
        "libseccomp-nr" => libseccomp(Of::Numbers, Shape::List),
        "libseccomp-tree-nr" => libseccomp(Of::Numbers, Shape::Tree),
        "containers" => {
            let text = fs::read_to_string(CONTAINERS)
                .map_err(|e| format!("{CONTAINERS}: {e}; Debian has it in {PACKAGE}"))?;
            let version =
                output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", PACKAGE]))?;
            by.push(format!("containers-common {}", version.split('+').next().unwrap()));
            vec![peers::exported(&tool, &profile(&text.parse().unwrap()), Shape::List)]
        }
        _ => panic!("nobody makes {name}"),
    };
    Ok(Made { programs, by })
}

/// The version of a package that this workspace is built with.
fn locked(package: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let rest = lock.split(&format!("name = \"{package}\"\nversion = \"")).nth(1).unwrap();
    rest.split('"').next().unwrap()
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}: {}", output.status)) }
}

// -- The default profile of containers -----------------------------------------------------------------------------

/// Docker's profile, as podman has it; docker carries its own within its daemon.
const CONTAINERS: &str = "/usr/share/containers/seccomp.json";
const PACKAGE: &str = "golang-github-containers-common";

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
