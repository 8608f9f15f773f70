//! Rooms with a filter of their own: what a group opens and closes there, and that work goes on.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use agent_tests::{Output, Scratch, run, shim, skip};
use tinyjson::JsonValue;

const PYTHON: &str = "/usr/bin/python3";

/// The errno of a call by libc, 0 if it succeeded: `errno(libc.ptrace(0, 0, 0, 0))`.
const HEAD: &str = "import ctypes, mmap, os, socket
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def errno(result):
    return ctypes.get_errno() if result in (-1, ctypes.c_void_p(-1).value) else 0
";

/// What a script prints in a room with these options; `None`: there is no Python here.
fn python(test: &str, options: &[&str], script: &str) -> Option<String> {
    if !Path::new(PYTHON).exists() {
        skip(test, "no python3");
        return None;
    }
    let script = format!("{HEAD}{script}");
    let output = in_room(options, &[PYTHON, "-c", &script]);
    Some(output.ok().trim().to_owned())
}

fn in_room(options: &[&str], argv: &[&str]) -> Output {
    run(shim(&["run"]).args(options).arg("--").args(argv))
}

#[test] // seen to fail with the filter not handed over
fn a_debugger_works_where_its_group_was_added() {
    let test = "a_debugger_works_where_its_group_was_added";
    // TRACEME in a child; SEIZE of PID 1; reading PID 1; process_vm_readv of itself and of PID 1.
    let script = "
pid = os.fork()
if pid == 0:
    os._exit(errno(libc.ptrace(0, 0, 0, 0)))
print('traceme', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print('pid 1', errno(libc.ptrace(0x4206, 1, 0, 0)))
def read(pid):
    here, there = ctypes.create_string_buffer(8), ctypes.create_string_buffer(b'secret')
    iov = lambda b: (ctypes.c_void_p * 2)(ctypes.addressof(b), 6)
    wrong = errno(libc.process_vm_readv(pid, iov(here), 1, iov(there), 1, 0))
    return wrong or here.value.decode()
print('read', read(os.getpid()), read(1))
try: open('/proc/1/mem', 'rb'); print('mem')
except OSError as e: print('mem', e.errno)
";
    let without = python(test, &[], script);
    let with = python(test, &["--allow-group", "ptrace"], script);
    let (Some(without), Some(with)) = (without, with) else { return };
    assert_eq!(without, "traceme 1\npid 1 1\nread 1 1\nmem 13");
    assert_eq!(with, "traceme 0\npid 1 1\nread secret 1\nmem 13");
}

#[test] // seen to fail with the filter not handed over
fn strace_runs_where_its_group_was_added() {
    let test = "strace_runs_where_its_group_was_added";
    let strace = ["strace", "-f", "-e", "trace=execve", "/bin/true"];
    if !Path::new("/usr/bin/strace").exists() {
        return skip(test, "no strace");
    }
    let with = in_room(&["--allow-group", "ptrace"], &strace);
    assert!(with.stderr.contains("execve(\"/bin/true\""), "{}", with.stderr);
    assert!(with.stderr.contains("exited with 0"), "{}", with.stderr);
    let without = in_room(&[], &strace);
    assert!(!without.stderr.contains("execve(\"/bin/true\""), "{}", without.stderr);
    let attach = in_room(&["--allow-group", "ptrace"], &["strace", "-p", "1"]);
    assert!(attach.stderr.contains("Operation not permitted"), "{}", attach.stderr);
}

#[test] // seen to fail with the filter not handed over
fn a_group_that_was_taken_away_is_refused() {
    let test = "a_group_that_was_taken_away_is_refused";
    let script = "
try: socket.socket(socket.AF_INET); print('open')
except OSError as e: print(e.errno)
print(errno(libc.inotify_init1(0)), errno(libc.msgget(0, 0o1600)))
";
    let of = |options: &[&str]| python(test, options, script);
    let (Some(default), Some(denied)) = (of(&[]), of(&["--deny-group", "net"])) else { return };
    assert_eq!(default, "open\n0 0");
    assert_eq!(denied, "1\n0 0");
    assert_eq!(of(&["--filter", "strict"]).unwrap(), "1\n38 38");
    assert_eq!(of(&["--filter", "strict", "--allow-group", "ipc"]).unwrap(), "1\n38 0");
}

#[test] // seen to fail with the filter not handed over
fn no_memory_is_written_and_run_where_it_is_refused() {
    let test = "no_memory_is_written_and_run_where_it_is_refused";
    let script = "
rw, rx, rwx, anonymous = 3, 5, 7, 0x22
def map(prot): return libc.mmap(None, 4096, prot, anonymous, -1, 0)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
print(*[errno(map(prot)) for prot in (rw, rx, rwx)], errno(libc.mprotect(map(rw), 4096, rx)))
print(errno(libc.mprotect(map(rw), 4096, 1)), errno(libc.shmat(libc.shmget(0, 4096, 0o1700), None, 0o100000)))
print(errno(libc.mmap(None, 4096, rx, 0x21, -1, 0))) # shared: a second address of it could be written
";
    let of = |options: &[&str]| python(test, options, script);
    let (Some(default), Some(no_wx)) = (of(&[]), of(&["--no-wx"])) else { return };
    assert_eq!(default, "0 0 0 0\n0 0\n0");
    assert_eq!(no_wx, "0 0 1 1\n0 1\n1");
}

/// A lease holds up who opens the file outside, for /proc/sys/fs/lease-break-time: even of a file that
/// can only be read here. The control: without a filter it is given.
#[test] // seen to fail with fcntl allowed by its number
fn no_lease_holds_up_a_file_of_the_host() {
    let test = "no_lease_holds_up_a_file_of_the_host";
    let scratch = agent_tests::Scratch::new();
    let dir = scratch.at("work");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "text").unwrap();
    let script = format!(
        "fd = os.open({:?}, os.O_RDONLY)\nprint(*[errno(libc.fcntl(fd, c, a)) for c, a in ((1024, 1), (1026, 1), (3, 0))])",
        dir.join("file")
    );
    let dir = dir.to_str().unwrap();
    let of = |options: &[&str]| python(test, &[&["--workspace", dir], options].concat(), &script);
    let (Some(without), Some(with)) = (of(&["--layers", "-seccomp"]), of(&[])) else { return };
    // F_NOTIFY is about directories: ENOTDIR.
    assert_eq!((&*without, &*with), ("0 20 0", "1 1 0"));
}

/// Dynamic programs, a compiler, an interpreter.
#[test] // seen to fail with every mprotect refused
fn work_goes_on_under_the_stricter_filters() {
    let script =
        "echo 'int main(void) { return 7; }' >a.c && gcc a.c -o a && { ./a || test $? = 7; }
        ls / >list && sort list | head -n 1 >/dev/null && python3 -c 'print(sum(range(10)))'";
    for options in [&["--filter", "strict"][..], &["--no-wx"], &["--filter=strict", "--no-wx"]] {
        for program in ["/usr/bin/gcc", PYTHON] {
            if !Path::new(program).exists() {
                return skip("work_goes_on_under_the_stricter_filters", &format!("no {program}"));
            }
        }
        let output = in_room(options, &["sh", "-ec", &format!("cd /tmp; {script}")]);
        assert_eq!(output.ok().trim(), "45", "{options:?}: {}", output.stderr);
    }
}

#[test] // seen to fail with the name of the default always
fn the_filter_is_in_the_status_and_in_a_dry_run() {
    let options = ["--allow-group", "ptrace", "--no-wx", "--deny-group", "net"];
    let name = "default +ptrace -net no-wx";
    let dry = run(shim(&["run", "--dry-run"]).args(options).arg("true"));
    assert!(dry.ok().contains(&format!("filter: {name}\n")), "{}", dry.stdout);
    let scratch = Scratch::new();
    let status = scratch.at("status");
    let of = |options: &[&str]| {
        let mut command = std::process::Command::new("sh");
        let script = "exec 7>\"$1\"; shift; exec \"$@\"";
        command.args(["-c", script, "sh"]).arg(&status).arg(shim(&[]).get_program());
        command.args(["run", "--json-status-fd", "7"]).args(options).arg("true");
        assert!(command.status().unwrap().success());
        let text = std::fs::read_to_string(&status).unwrap();
        let enforced: JsonValue = text.lines().next().unwrap().parse().unwrap();
        enforced["filter"].clone()
    };
    assert_eq!(of(&options), JsonValue::String(name.into()));
    assert_eq!(of(&[]), JsonValue::String("default".into()));
    assert_eq!(of(&["--profile", "ns_only"]), JsonValue::String("none".into()));
}

/// The filter knows PID 1 by its number. The control is setpriority(2): of the number 1 it is refused, of agent-init,
/// which has another one here, it is not.
#[test] // seen to fail with the warning for every room, with none
fn a_room_whose_init_is_not_pid_1_says_so() {
    let warning = "what the filter says of PID 1 does not protect it";
    let of = |options: &[&str]| in_room(options, &["true"]).stderr.matches(warning).count();
    assert_eq!(of(&["--layers", "-pid"]), 1);
    assert_eq!(
        (of(&[]), of(&["--layers", "-pid,-seccomp"]), of(&["--profile", "ns_only"])),
        (0, 0, 0)
    );
    let script = "
def renice(pid): return errno(libc.setpriority(0, pid, 5))
print(renice(1), renice(os.getppid()), os.getppid() == 1)
";
    let test = "a_room_whose_init_is_not_pid_1_says_so";
    let with = python(test, &[], script);
    let without = python(test, &["--layers", "-pid"], script);
    let (Some(with), Some(without)) = (with, without) else { return };
    assert_eq!((&*with, &*without), ("1 1 True", "1 0 False"));
}

#[test] // seen to fail with a group that cannot be added and is
fn what_cannot_be_chosen_is_an_error_with_its_reason() {
    let rows: &[(&[&str], &str)] = &[
        (&["--filter", "nosuch"], "there are default and strict"),
        (&["--allow-group", "nosuch"], "there are file-io file-open"),
        (&["--allow-group", "namespace"], "cannot be added: a new user namespace"),
        (&["--allow-group", "kernel"], "cannot be added: it administers the host"),
        (&["--allow-group", "keys"], "cannot be added: keyrings go by user id"),
        (&["--allow-group", "io_uring", "--deny-group", "net"], "a filter without `net` refuses"),
        (&["--filter", "strict", "--allow-group", "io_uring"], "a filter without `net` refuses"),
        (&["--deny-group", "process"], "no program runs without it"),
        (&["--deny-group", "net", "--allow-group", "net"], "both added and taken away"),
        (&["--no-wx", "--profile", "ns_only"], "no layer seccomp"),
    ];
    for (options, why) in rows {
        let output = in_room(options, &["true"]);
        assert!(output.stderr.contains(why), "{options:?}: {}", output.stderr);
        assert!(output.stdout.is_empty());
    }
}
