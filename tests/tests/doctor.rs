//! `agent-shim doctor` in places that forbid something: the cause that it names is the one that
//! the test has made. Each row of a place that forbids nothing is the control.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use agent_init::bpf::SockFilter;
use agent_init::layers::Layers;
use agent_shim::{Sandbox, image};
use agent_tests::bins::bin;
use agent_tests::scripts::Scratch;
use agent_tests::{Output, alone, is_root, room, run, shim, skip, sys};
use tinyjson::JsonValue;

/// What was said of a feature or profile.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    state: String,
    measured: String,
    why: String,
    fix: String,
}

struct Report {
    full: bool,
    rows: HashMap<String, Said>,
    profiles: HashMap<String, Said>,
}

impl Report {
    /// Of a run with `--json`, whose status agrees with it.
    #[track_caller]
    fn of(output: &Output) -> Report {
        assert_eq!(output.stderr, "");
        let json: JsonValue = output.stdout.parse().unwrap();
        let json = json.get::<HashMap<_, _>>().unwrap();
        assert_eq!(text(json, "schema"), "agent-shim/doctor");
        assert_eq!(json["version"].get::<f64>(), Some(&1.0));
        let full = *json["full"].get::<bool>().unwrap();
        assert_eq!(output.code(), if full { 0 } else { 1 });
        let all = |list: &str, name: &str, measured: &str, why: &str, fix: &str| {
            let list = json[list].get::<Vec<_>>().unwrap().iter();
            list.map(|row| {
                let row = row.get::<HashMap<_, _>>().unwrap();
                let [state, measured, why, fix] =
                    ["state", measured, why, fix].map(|member| text(row, member));
                (text(row, name), Said { state, measured, why, fix })
            })
            .collect()
        };
        let rows = all("features", "feature", "measured", "why", "fix");
        Report { full, rows, profiles: all("profiles", "profile", "state", "error", "hint") }
    }

    /// The row has this state, and its cause and way out have these words.
    #[track_caller]
    fn says(&self, row: &str, state: &str, why: &str, fix: &str) {
        let said = &self.rows[row];
        println!("{row}: {said:?}");
        assert_eq!(said.state, state, "{row}: {said:?}");
        assert!(said.why.contains(why), "{row}: no {why:?} in {said:?}");
        assert!(said.fix.contains(fix), "{row}: no {fix:?} in {said:?}");
    }

    /// Whether a user namespace can be made at all, which most places need to be made in.
    fn has_userns(&self) -> bool {
        self.rows["user namespace"].state == "yes"
            && self.rows["user ns in a user ns"].state == "yes"
    }
}

fn text(members: &HashMap<String, JsonValue>, name: &str) -> String {
    members[name].get::<String>().cloned().unwrap_or_default()
}

/// This place, which the tests that make another one need.
fn here() -> &'static Report {
    static HERE: OnceLock<Report> = OnceLock::new();
    HERE.get_or_init(|| Report::of(&run(&mut shim(&["doctor", "--json"]))))
}

/// In a user namespace in which the caller is root, after these commands of a shell; `None`,
/// and a skip, where none can be made.
#[track_caller]
fn after(test: &str, options: &str, commands: &str) -> Option<Report> {
    if !here().has_userns() {
        skip(test, "no user namespace");
        return None;
    }
    let mut command = Command::new("unshare");
    let shell = format!("{commands}\nexec \"$0\" doctor --json");
    command.args(options.split(' ')).args(["sh", "-euc", &shell]).arg(bin("agent-shim"));
    Some(Report::of(&run(command.stdin(Stdio::null()))))
}

/// Whether `full` can be built is proved by a room, and nothing of any room or experiment is left.
#[test] // seen to fail with a cgroup that is not removed
fn this_place() {
    let alone = alone();
    let groups = || walk("/sys/fs/cgroup".as_ref());
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = (groups(), mounts());
    let report = Report::of(&run(&mut shim(&["doctor", "--json"])));
    alone.no_stray();
    assert_eq!((groups(), mounts()), before);
    assert_eq!(report.profiles.len(), 4);
    assert_eq!(report.profiles["full"].state == "yes", report.full);
    let starts = room(Sandbox::new("/bin/true")).is_ok();
    assert_eq!(report.full, starts, "the room says otherwise: {:?}", report.profiles["full"]);
    for (name, row) in &report.rows {
        assert!(!row.measured.is_empty(), "{name}");
        // What is missing has a cause and a way out; what could not be tried has neither.
        let is_missing = ["no", "limited"].contains(&&*row.state);
        assert_eq!(!row.fix.is_empty(), is_missing && !row.why.is_empty(), "{name}: {row:?}");
    }
}

/// Groups that the doctor would leave.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("agent-shim-doctor") {
            found.push(name);
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

#[test] // seen to fail with a first column of 33
fn a_table_of_100_columns() {
    let _alone = alone();
    let output = run(&mut shim(&["doctor"]));
    assert!([0, 1].contains(&output.code()), "{output:?}");
    let text = &output.stdout;
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(!text.contains('\x1b'), "colour without a terminal");
    assert!(text.starts_with("feature ") && text.contains("\nprofile "), "{text}");
    for name in here().rows.keys() {
        assert!(text.contains(&format!("\n{name}  ")), "{name}: {text}");
    }
}

#[test]
fn bad_input() {
    let _alone = alone();
    for (args, says) in [
        (&["doctor", "--bogus"][..], "--bogus"),
        (&["doctor", "extra"], "extra"),
        (&["doctor", "--json=1"], "json"),
    ] {
        let output = run(&mut shim(args));
        assert_eq!((output.code(), &*output.stdout), (125, ""), "{output:?}");
        assert!(output.stderr.starts_with("agent-shim: ") && output.stderr.contains(says));
    }
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" doctor >&-"]).arg(bin("agent-shim"));
    let output = run(&mut command);
    assert_eq!(output.code(), 125, "{output:?}");
    assert!(output.stderr.contains("standard output"), "{output:?}");
}

#[test] // seen to fail without the row of user.max_user_namespaces
fn no_user_namespace_by_a_sysctl() {
    let _alone = alone();
    let commands = "echo 0 >/proc/sys/user/max_user_namespaces";
    let Some(report) = after("no_user_namespace_by_a_sysctl", "-Ur", commands) else { return };
    let fix = "sysctl -w user.max_user_namespaces=";
    report.says("user namespace", "no", "user.max_user_namespaces is 0", fix);
    report.says("user ns: unshare", "no", "user.max_user_namespaces is 0", fix);
    report.says("net namespace", "unknown", "", "");
    report.says("Landlock", &here().rows["Landlock"].state, "", "");
    assert!(!report.full);
    // root of that namespace enters no room, not even this one.
    assert_eq!(report.profiles["none"].state, if is_root() { "no" } else { "yes" });
}

/// One is enough for the outer namespace of a room and not for the inner one.
#[test] // seen to fail without `patiently`: the namespace of the experiment before was counted
fn one_user_namespace_and_not_two() {
    let _alone = alone();
    let commands = "echo 1 >/proc/sys/user/max_user_namespaces";
    let Some(report) = after("one_user_namespace_and_not_two", "-Ur", commands) else { return };
    report.says("user namespace", "yes", "", "");
    report.says("user ns in a user ns", "no", "max_user_namespaces", "sysctl -w user.max_user_");
    report.says("tmpfs in a user ns", "yes", "", "");
    assert!(!report.full);
}

#[test] // seen to fail without the sysctl of the kind
fn no_network_namespace_by_a_sysctl() {
    let _alone = alone();
    let commands = "echo 0 >/proc/sys/user/max_net_namespaces";
    let Some(report) = after("no_network_namespace_by_a_sysctl", "-Ur", commands) else { return };
    let fix = "sysctl -w user.max_net_namespaces=";
    report.says("net namespace", "no", "user.max_net_namespaces is 0", fix);
    report.says("ipc namespace", "yes", "", "");
    assert!(!report.full);
}

/// As an outer container does it: then proc cannot be mounted, and tmpfs can.
#[test] // seen to fail without the row of masks
fn proc_is_masked() {
    let _alone = alone();
    let commands = "mount -t tmpfs none /proc/irq";
    let Some(report) = after("proc_is_masked", "-Urm", commands) else { return };
    report.says("proc in a pid ns", "no", "(/proc/irq)", "systempaths=unconfined");
    report.says("tmpfs in a user ns", "yes", "", "");
    report.says("no filter around us", &here().rows["no filter around us"].state, "", "");
    assert!(!report.full);
}

#[test] // seen to fail without the row of ids
fn an_id_without_a_number() {
    let _alone = alone();
    let Some(report) = after("an_id_without_a_number", "-U", "") else { return };
    report.says("user namespace", "no", "no number", "uid_map");
    report.says("no filter around us", &here().rows["no filter around us"].state, "", "");
}

#[test] // seen to fail without the row of chroot
fn a_chroot() {
    let _alone = alone();
    let scratch = Scratch::new("doctor chroot").unwrap();
    fs::create_dir(scratch.path("proc")).unwrap();
    let program = scratch.path("shim");
    fs::copy(bin("agent-shim"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let root = scratch.path("");
    let root = root.to_str().unwrap();
    let commands =
        format!("cd '{root}'\nmount --rbind /proc proc\nexec chroot . /shim doctor --json");
    let Some(report) = after("a_chroot", "-Urm", &commands) else { return };
    report.says("outside a chroot", "no", "chroot", "pivot_root");
    report.says("user namespace", "no", "chroot", "pivot_root");
    report.says("device nodes", "no", "", "mknod");
}

#[test] // seen to fail without the row of vm.memfd_noexec
fn memfds_are_no_programs() {
    let _alone = alone();
    if !is_root() || !std::path::Path::new("/proc/sys/vm/memfd_noexec").exists() {
        return skip("memfds_are_no_programs", "not root, or no vm.memfd_noexec");
    }
    // The sysctl belongs to the pid namespace.
    let commands = "echo 2 >/proc/sys/vm/memfd_noexec";
    let Some(report) = after("memfds_are_no_programs", "-Urmpf --mount-proc", commands) else {
        return;
    };
    report.says("programs in memfds", "no", "vm.memfd_noexec is 2", "sysctl -w vm.memfd_noexec=");
    assert!(!report.full);
}

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

/// seccomp_data: the number at 0, the first argument at 16.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
const fn is(number: i64, then: u8) -> SockFilter {
    op(IF_EQUAL, then, 0, number as u32)
}

/// As container engines do it: no new user namespace, and no clone3, whose flags a filter cannot
/// see.
static NO_USERNS: [SockFilter; 10] = [
    op(LOAD, 0, 0, 0),
    is(libc::SYS_clone3, 7),
    is(libc::SYS_unshare, 2),
    is(libc::SYS_clone, 1),
    op(RETURN, 0, 0, ALLOW),
    op(LOAD, 0, 0, 16),
    op(IF_ANY_BIT, 0, 1, libc::CLONE_NEWUSER.cast_unsigned()),
    op(RETURN, 0, 0, EPERM),
    op(RETURN, 0, 0, ALLOW),
    op(RETURN, 0, 0, ENOSYS),
];

/// User namespaces, but none of the calls that mount.
static NO_MOUNT: [SockFilter; 5] = [
    op(LOAD, 0, 0, 0),
    is(libc::SYS_mount, 2),
    is(libc::SYS_move_mount, 1),
    op(RETURN, 0, 0, ALLOW),
    op(RETURN, 0, 0, EPERM),
];

fn under(program: &'static [SockFilter]) -> Report {
    let mut command = shim(&["doctor", "--json"]);
    sys::filtered(&mut command, program);
    Report::of(&run(&mut command))
}

#[test] // seen to fail without the first row of causes
fn a_filter_refuses_user_namespaces() {
    let _alone = alone();
    let report = under(&NO_USERNS);
    report.says("no filter around us", "no", "clone, clone3, unshare", "seccomp=unconfined");
    report.says("user namespace", "no", "seccomp filter", "seccomp=unconfined");
    report.says("user ns: unshare", "no", "seccomp filter", "seccomp=unconfined");
    report.says("clone3", "no", "seccomp filter", "seccomp=unconfined");
    report.says("openat2", &here().rows["openat2"].state, "", "");
    assert!(!report.full);
}

/// EPERM of mount is what a security module, a Landlock domain and a filter answer.
#[test] // seen to fail with "mount" taken out of the calls that are asked
fn a_filter_refuses_mounts() {
    let _alone = alone();
    if !here().has_userns() {
        return skip("a_filter_refuses_mounts", "no user namespace");
    }
    let report = under(&NO_MOUNT);
    report.says("user namespace", "yes", "", "");
    report.says("tmpfs in a user ns", "no", "seccomp filter", "seccomp=unconfined");
    report.says("devpts in a user ns", "no", "seccomp filter", "seccomp=unconfined");
    report.says("no filter around us", "no", "mount", "");
    report.says("no Landlock around us", &here().rows["no Landlock around us"].state, "", "");
    assert!(!report.full);
}

#[test] // seen to fail without the row of Landlock domains
fn in_a_landlock_domain() {
    let _alone = alone();
    let is_outermost = here().rows["no Landlock around us"].state == "yes";
    if !here().has_userns() || here().rows["Landlock"].state == "no" || !is_outermost {
        return skip("in_a_landlock_domain", "no user namespace, no Landlock, or in a domain");
    }
    let mut command = shim(&["doctor", "--json"]);
    sys::landlocked(&mut command);
    let report = Report::of(&run(&mut command));
    report.says("no Landlock around us", "no", "in 1 Landlock domain", "outside of that sandbox");
    report.says("user namespace", "yes", "", "");
    report.says("tmpfs in a user ns", "no", "Landlock domain", "outside of that sandbox");
    report.says("no filter around us", &here().rows["no filter around us"].state, "", "");
    assert!(!report.full);
}

/// The shim in a room of its own.
fn inside(layers: Layers) -> Report {
    let program = image::from_file(c"agent-shim", &bin("agent-shim")).unwrap();
    let sandbox = Sandbox::image(Arc::new(program), "agent-shim").args(["doctor", "--json"]);
    Report::of(&room(sandbox.layers(layers)).unwrap())
}

#[test] // seen to fail without the first row of causes
fn in_a_room_of_ours() {
    let _alone = alone();
    if !here().full {
        return skip("in_a_room_of_ours", "full cannot be built");
    }
    let report = inside(Layers::FULL);
    report.says("user namespace", "no", "seccomp filter", "seccomp=unconfined");
    report.says("outside a container", "no", "namespaces of somebody else", "");
    assert!(!report.full);
    // The room's own masks lie over its proc.
    let report = inside(Layers::NS_ONLY);
    report.says("tmpfs in a user ns", "yes", "", "");
    if std::path::Path::new("/proc/keys").exists() {
        report.says("proc in a pid ns", "no", "/proc/keys", "systempaths=unconfined");
    }
    let report = inside(Layers::LANDLOCK | Layers::NNP | Layers::USERNS);
    report.says("no Landlock around us", "no", "Landlock domain", "outside of that sandbox");
}
