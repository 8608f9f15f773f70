//! Other sandboxes under the same probe: a table that is true, and launchers that are broken, or
//! lie, or leave something behind.
#![allow(clippy::unwrap_used)] // a test

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_tests::run::{LIMIT, line};
use agent_tests::scripts::Scratch;
use agent_tests::{alone, bins, is_root, run, run_for, shim, skip, sys};
use tinyjson::JsonValue;

/// Result, errno and note of each operation.
type Rows = HashMap<String, [String; 3]>;

/// What `matrix` with these launchers has found, by their names; its exit status, and what it
/// printed.
struct Judged {
    columns: HashMap<String, Rows>,
    code: i32,
    printed: String,
}

/// `home`: where the probe is copied to, and any user can reach it.
fn judge(home: &Scratch, launchers: &[(&str, &str)]) -> Judged {
    fs::copy(bins::bin("agent-probe"), home.path("agent-probe")).unwrap();
    let json = home.path("facts.json");
    let mut command = shim(&["matrix", "--json"]);
    command.arg(&json).env("AGENT_BIN_DIR", home.path(""));
    for (name, launcher) in launchers {
        command.args(["--launcher-as", name, launcher]);
    }
    let output = run_for(&mut command, Duration::from_secs(120));
    let printed = output.stdout.clone();
    let facts: JsonValue = fs::read_to_string(&json).unwrap().parse().unwrap();
    let of = |value: &JsonValue, name: &str| value[name].get::<String>().cloned();
    let text = |value: &JsonValue, name| of(value, name).unwrap_or_else(|| "-".into());
    let rows = |column: &JsonValue| {
        let ops = column["ops"].get::<Vec<JsonValue>>().unwrap().iter();
        ops.map(|op| (text(op, "op"), ["result", "errno", "note"].map(|name| text(op, name))))
            .collect()
    };
    let columns = facts["launchers"].get::<Vec<JsonValue>>().unwrap().iter();
    let columns = columns.map(|column| (text(column, "name"), rows(column))).collect();
    Judged { columns, code: output.code(), printed }
}

/// The same as an ordinary user, whoever runs the tests.
fn as_user(launcher: &str) -> String {
    match is_root() {
        true => format!("setpriv --reuid 65534 --regid 65534 --clear-groups {launcher}"),
        false => launcher.into(),
    }
}

fn has(test: &str, program: &str) -> bool {
    let mut command = Command::new(program);
    let is_there = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let works = is_there.is_ok_and(|status| status.success());
    if !works {
        skip(test, &format!("no {program}"));
    }
    works
}

/// With the walls of bwrap, with none, and with the path of the probe quoted where it stands. The
/// home lies in what `--tmpfs` hides.
#[test] // seen to fail with `{}` put in as it is, and with `--unshare-net` left out below
fn the_table_of_bwrap_is_true() {
    let _alone = alone();
    if !has("the_table_of_bwrap_is_true", "bwrap") {
        return;
    }
    let home = Scratch::new("launch er's \"$x\" `y` \\").unwrap();
    let hidden = std::env::temp_dir();
    let bwrap = as_user(&format!(
        "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs {} --ro-bind {{}} \"{{}}\" --",
        hidden.display()
    ));
    let Judged { columns, code, printed } =
        judge(&home, &[("bwrap", &bwrap), ("nothing", &as_user("env"))]);
    #[rustfmt::skip] // a row a line
    let expected = [
        ("fs-read-passwd",  ["ALLOWED", "-",           "ALLOWED", "-"]),
        ("fs-read-shadow",  ["BLOCKED", "EACCES",      "BLOCKED", "EACCES"]),
        ("fs-write-root",   ["BLOCKED", "EROFS",       "BLOCKED", "EACCES"]),
        ("net-connect-udp", ["BLOCKED", "ENETUNREACH", "ALLOWED", "-"]),
        ("ptrace-traceme",  ["ALLOWED", "-",           "ALLOWED", "-"]),
        ("net-raw-icmp",    ["BLOCKED", "EPERM",       "BLOCKED", "EPERM"]),
        ("sig-kill-all",    ["BLOCKED", "ESRCH",       "SKIP",    "-"]),
    ];
    let has_route = columns["nothing"]["net-connect-udp"][0] == "ALLOWED";
    if !has_route {
        skip("the_table_of_bwrap_is_true", "its row of the network: this host has no route");
    }
    for (op, expected) in expected.into_iter().filter(|(op, _)| has_route || !op.contains("udp")) {
        let seen = ["bwrap", "nothing"].map(|name| columns[name][op].clone());
        let seen = seen.iter().flat_map(|row| [&*row[0], &*row[1]]).collect::<Vec<_>>();
        assert_eq!(seen, expected, "{op}\n{printed}");
    }
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("=== launcher: bwrap ===") && printed.contains("=== beside"));
    assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");
}

/// Name, launcher, and the words that each row has to have. A `#` hides what would follow. The rows
/// of `another` are all but the one that it is a record of.
#[rustfmt::skip] // a row a line
const BROKEN: &[(&str, &str, &str)] = &[
    ("fails",    "sh -c 'echo >&2; echo oh >&2; echo no >&2; exit 3'", "exit status 3: oh"),
    ("missing",  "/no/such --",                                        "exit status 127: "),
    ("syntax",   "(",                                                  "exit status 2: "),
    ("silent",   "true",                                               "no record"),
    ("closed",   "exec >&- 2>&- #",                                    "no record"),
    ("gigabyte", r"head -c 1000000000 /dev/zero | tr '\0' x #",         "more than 65536 bytes of output"),
    ("garbage",  "echo hello",                                         "malformed record: not JSON: hello /"),
    ("control",  r"printf '\033[2J\033]0;x\007\n=== launcher: forged ===\n' #", r"malformed record: not JSON: \u{1b}[2J\u{1b}]0;x\u{7}"),
    ("flood",    "head -c 1000000000 /dev/zero #",                     "more than 65536 bytes of output"),
    ("endless",  "cat /dev/zero #",                                    "more than 65536 bytes of output"),
    ("shouts",   "head -c 100000000 /dev/zero >&2 #",                  r"no record: \u{0}\u{0}"),
    ("another",  r#"printf '{"v":1,"op":"dev-mem","result":"BLOCKED","errno":null,"note":null}\n' #"#, "a record of dev-mem"),
    ("word",     r#"r() { for op; do :; done; printf '{"v":1,"op":"%s","result":"FINE","errno":null,"note":null}\n' "$op"; }; r"#, "malformed record: result: unknown: \"FINE\""),
    ("twice",    r#"r() { "$@"; "$@"; }; r"#,                          "malformed record: not JSON: {"),
    ("late",     r#"r() { "$@"; exit 1; }; r"#,                        "exit status 1"),
    ("murderer", r#"r() { "$@" & kill -9 $!; wait $!; }; r"#,          "exit status 137"),
    ("suicide",  "kill -9 $$ #",                                       "ended by signal 9"),
];

/// Each row is INCONCLUSIVE with the launcher's words, none takes long, nothing is left.
#[test] // seen to fail with any end as good, with any record as its own, and with output unbounded
fn a_broken_launcher_proves_nothing() {
    let alone = alone();
    let home = Scratch::new("broken launchers").unwrap();
    let launchers: Vec<_> = BROKEN.iter().map(|(name, launcher, _)| (*name, *launcher)).collect();
    let begun = Instant::now();
    let Judged { columns, code, printed } = judge(&home, &launchers);
    for (name, _, words) in BROKEN {
        for (op, [result, errno, note]) in &columns[*name] {
            if *name == "another" && op == "dev-mem" {
                continue; // of this it is the record
            }
            assert_eq!([&**result, errno], ["INCONCLUSIVE", "-"], "{name} {op}: {note}");
            assert!(note.starts_with(words), "{name} {op}: {note}");
            assert!(note.chars().count() <= 161, "{name} {op}: {note}");
        }
        assert_eq!(columns[*name].len(), 10, "{name}");
    }
    assert_eq!(code, 2, "{printed}");
    assert!(!printed.chars().any(|c| c.is_control() && c != '\n'), "{printed:?}");
    assert!(!printed.contains("\n=== launcher: forged"), "{printed}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?} of {} starts", begun.elapsed(), {
        BROKEN.len() * 10
    });
    alone.no_stray();
}

/// One that hears no signal, has stopped itself and its keeper, and has put a process into another
/// session. After two starts of 5 s nobody waits for it any longer.
#[test] // seen to fail without the limit, without SIGKILL in `look_after`, SIGCONT in `let_go`
fn a_launcher_that_hangs_is_ended_and_given_up() {
    let alone = alone();
    let home = Scratch::new("hanging launcher").unwrap();
    let hangs = "trap '' TERM HUP INT; (setsid sleep 1000 &); kill -STOP $PPID; kill -STOP $$; sleep 1000 #";
    let begun = Instant::now();
    let Judged { columns, code, .. } = judge(&home, &[("hangs", hangs)]);
    let notes: Vec<_> = columns["hangs"].values().map(|[_, _, note]| note.as_str()).collect();
    let count = |words: &str| notes.iter().filter(|note| note.starts_with(words)).count();
    assert_eq!((count("no answer within 5 s"), count("not tried: ")), (2, 8), "{notes:?}");
    assert_eq!(code, 2);
    let took = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(25)).contains(&took), "{took:?}");
    alone.no_stray();
}

/// Processes that a launcher leaves, one of which holds its standard output and one that hears no
/// signal: its rows are good, and they are ended before the matrix is.
#[test] // seen to fail without the subreaper, and without `Children::kill`
fn what_a_launcher_leaves_is_ended() {
    let alone = alone();
    let home = Scratch::new("daemons").unwrap();
    let launcher = r#"r() {
        (setsid sleep 1000 &)
        (setsid sh -c 'trap "" TERM HUP; sleep 1000; sleep 1000' >/dev/null 2>&1 &)
        exec "$@"
    }; r"#;
    let Judged { columns, code, printed } = judge(&home, &[("daemons", launcher)]);
    assert_eq!(columns["daemons"]["fs-read-passwd"][0], "ALLOWED", "{printed}");
    assert_eq!(code, 0, "{printed}");
    alone.no_stray();
}

/// Whatever ends agent-shim in the middle of a launcher.
#[test] // seen to fail with a keeper that waits for its program alone
fn a_signal_leaves_nothing() {
    let alone = alone();
    let home = Scratch::new("interrupted launcher").unwrap();
    fs::copy(bins::bin("agent-probe"), home.path("agent-probe")).unwrap();
    let fifo = home.path("up");
    run(Command::new("mkfifo").arg(&fifo)).ok();
    // Open for both, so that nobody waits for anybody.
    let up = File::options().read(true).write(true).open(&fifo).unwrap();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let launcher = format!(
            "trap '' TERM HUP INT; (setsid sleep 1000 &); echo up >'{}'; sleep 1000; sleep 1000 #",
            fifo.display()
        );
        let mut command = shim(&["matrix", "--launcher", &launcher]);
        command.env("AGENT_BIN_DIR", home.path("")).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        assert_eq!(line(up.as_fd(), LIMIT).as_deref(), Some("up"));
        assert!(agent_tests::leak::descendants().len() > 3, "the control: they are there");
        sys::kill(child.id().cast_signed(), signal);
        let ended = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(signal));
        alone.gone_within(Duration::from_secs(2));
    }
}

/// As root, what a launcher mounts is not mounted on the host, as it is where mounts are shared (by
/// systemd): it has mounts of its own, as the control as real root has. The host is one of the
/// test's own here.
#[test] // seen to fail without `own_mounts`, and with MS_SHARED for MS_SLAVE
fn roots_launcher_has_mounts_of_its_own() {
    if !agent_shim::plan::is_real_root() {
        return skip("roots_launcher_has_mounts_of_its_own", "not real root");
    }
    let _alone = alone();
    let home = Scratch::new("mounting launcher").unwrap();
    fs::copy(bins::bin("agent-probe"), home.path("agent-probe")).unwrap();
    let launcher = r#"r() { mount -t tmpfs tmpfs /mnt || exit; "$@"; }; r"#;
    let mut host = Command::new("unshare");
    host.args(["--mount", "--propagation", "shared", "sh", "-c"]);
    host.arg(r#"grep -q ' / / .*shared' /proc/self/mountinfo && "$@" && cat /proc/self/mountinfo"#);
    host.arg("sh").arg(bins::bin("agent-shim"));
    host.args(["matrix", "--launcher-as", "root", launcher]);
    let output = run_for(host.env("AGENT_BIN_DIR", home.path("")), Duration::from_secs(60));
    let (_, table) = output.ok().split_once("=== launcher: root ===").unwrap();
    let row = |title| table.lines().find(|line| line.starts_with(title)).unwrap();
    assert!(row("mount tmpfs /tmp").contains("ALLOWED"), "{table}");
    assert!(row("read /etc/shadow").contains("ALLOWED"), "{table}");
    assert!(table.contains("The launchers were started by root"), "{table}");
    assert!(table.contains(" / / ") && !table.contains(" / /mnt "), "{table}");
}

/// As root, what a launcher does to its streams is done to pipes: `runsc do` gives them another owner.
#[test] // seen to fail with /dev/null on standard input
fn a_launcher_gets_no_device_of_the_host() {
    let _alone = alone();
    let home = Scratch::new("piped launcher").unwrap();
    let of = |meta: fs::Metadata| (meta.uid(), meta.gid(), meta.mode());
    let before = of(fs::metadata("/dev/null").unwrap());
    let launcher = r#"p() { read -r line && exit 8; for n in 0 1 2; do [ -p /proc/self/fd/$n ] || exit 9; done
        chmod 620 /proc/self/fd/0 || exit 10; "$@"; }; p"#;
    let Judged { columns, .. } = judge(&home, &[("piped", launcher)]);
    let after = of(fs::metadata("/dev/null").unwrap());
    if before != after {
        fs::set_permissions("/dev/null", fs::Permissions::from_mode(0o666)).unwrap();
    }
    assert_eq!(before, after);
    assert_eq!(columns["piped"]["fs-read-passwd"], ["ALLOWED", "-", "-"]);
}
