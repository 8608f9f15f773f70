//! The limits of a room: each by its effect, told when it is hit; what cannot be enforced here is
//! an error or said aloud; bad values are one line; nothing is left in the cgroup hierarchies.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use agent_init::layers::Layers;
use agent_shim::Sandbox;
use agent_shim::limits::{Enforced, Hit, Resource, TABLE};
use agent_shim::sys::End;
use agent_tests::run::{LIMIT, collect, line, start};
use agent_tests::{Output, alone, attacker, bins, field, is_root, leak, run, shim, skip, sys};

const MIB: u64 = 1 << 20;

/// What a room said, what limited it, what it ran into, the most memory that it used.
struct Seen {
    output: Output,
    enforced: Vec<Enforced>,
    hits: Vec<Hit>,
    peak: Option<u64>,
}

#[track_caller]
fn seen(sandbox: Sandbox) -> Seen {
    let (mut child, ends) = start(sandbox).unwrap();
    let [stdout, stderr] = collect(&ends, child.pidfd(), LIMIT).expect("an end");
    let end = child.wait().unwrap();
    let (limits, agent) = (child.limits(), child.status().unwrap().agent);
    let (enforced, hits) = (limits.enforced().to_vec(), limits.hits(agent));
    println!("{enforced:?}\n{hits:?}");
    Seen { output: Output { end, stdout, stderr }, enforced, hits, peak: limits.peak_memory() }
}

fn attack(args: &[&str]) -> Sandbox {
    Sandbox::image(attacker(), "attacker").args(args)
}

fn by(enforced: &[Enforced], resource: Resource) -> Option<&'static str> {
    enforced.iter().find(|e| e.resource == resource).and_then(|e| e.by)
}

/// Whether this caller's rooms get a cgroup for it here.
fn has_group(resource: Resource, value: u64) -> bool {
    let sandbox = attack(&["open", "0"]).limit(resource, Some(value)).best_effort(true);
    by(&seen(sandbox).enforced, resource).is_some_and(|by| by.starts_with("cgroup"))
}

/// A shim that finds no cgroup: `None` where it cannot be kept from it.
fn without_cgroup(args: &[&str]) -> Option<Command> {
    if !is_root() {
        return (!has_group(Resource::Cpus, 1000)).then(|| shim(args));
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "umount -l /sys/fs/cgroup && exec \"$@\"", "sh"]);
    command.arg(bins::bin("agent-shim")).args(args).stdin(std::process::Stdio::null());
    Some(command)
}

/// The attacker through the command line, after these options.
fn told(options: &[&str], attack: &[&str]) -> Output {
    let program = bins::bin("attacker");
    let mut args = vec!["run"];
    args.extend(options);
    args.extend(["--ro-bind", program.to_str().unwrap(), "/attacker", "--", "/attacker"]);
    args.extend(attack);
    run(&mut shim(&args))
}

/// Every limit that has a default is in force, by something, and the kernel says so in the room.
#[test] // seen to fail without the row of FSIZE in `limits::RLIMITS`
fn every_default_is_in_force() {
    let _alone = alone();
    let script = "cat /proc/self/limits; stat -f -c 'tmpfs %b %S %c' /tmp";
    let Seen { output, enforced, .. } = seen(Sandbox::new("sh").args(["-c", script]));
    for row in TABLE.iter().filter(|row| row.default.is_some()) {
        let limit = enforced.iter().find(|e| e.resource == row.resource).unwrap();
        assert_eq!((limit.value, limit.asked), (row.default, false), "{limit:?}");
        assert!(limit.by.is_some(), "{limit:?}");
    }
    assert_eq!(enforced.len(), TABLE.iter().filter(|row| row.default.is_some()).count());
    let text = output.ok();
    let both = |name: &str| -> Vec<String> {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    // Beside a cgroup it is one more, so that the cgroup's is met first, and counted.
    let counted = by(&enforced, Resource::Processes).unwrap().starts_with("cgroup");
    let processes = if counted { "257" } else { "256" };
    assert_eq!(both("Max processes"), [processes, processes]);
    assert_eq!(both("Max open files"), ["1024", "1024"]);
    assert_eq!(both("Max file size"), ["1073741824", "1073741824"]);
    assert_eq!(both("Max cpu time"), ["unlimited", "unlimited"]);
    let data = if by(&enforced, Resource::Memory) == Some("RLIMIT_DATA") {
        "4294967296"
    } else {
        "unlimited"
    };
    assert_eq!(both("Max data size"), [data, data]);
    assert!(text.contains("tmpfs 65536 4096 65536\n"), "{text}");
}

/// What is written to the group's files is what the kernel then has.
#[test] // seen to fail with a `cgroup::as_it_is` that adds a page
fn the_group_holds_what_was_asked_for() {
    let alone = alone();
    let test = "the_group_holds_what_was_asked_for";
    if !has_group(Resource::Memory, 64 * MIB) {
        return skip(test, "no writable cgroup with the memory controller");
    }
    let args =
        ["run", "--memory", "64M", "--pids", "20", "--", "sh", "-c", "echo up; exec sleep 1000"];
    let mut child = shim(&args).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let out = std::os::fd::AsFd::as_fd(child.stdout.as_ref().unwrap());
    line(out, LIMIT);
    let groups = leak::groups_of(child.id());
    let read = |file: &str| {
        let file = groups.iter().map(|dir| dir.join(file)).find(|file| file.exists());
        file.map(|file| std::fs::read_to_string(file).unwrap().trim().to_owned())
    };
    let either = |v1: &str, v2: &str| read(v1).or_else(|| read(v2));
    let memory = either("memory.limit_in_bytes", "memory.max");
    let pids = read("pids.max");
    let inside = read("cgroup.procs").unwrap_or_default().lines().count();
    child.kill().unwrap();
    child.wait().unwrap();
    alone.gone_within(Duration::from_secs(1));
    assert_eq!(memory.as_deref(), Some("67108864"), "{groups:?}");
    assert_eq!(pids.as_deref(), Some("20"), "{groups:?}");
    assert_eq!(inside, 2, "init and the agent, nothing of the shim");
}

/// 300 attempts: EAGAIN at the limit, which is told where a cgroup counts; the host forks on.
#[test] // seen to fail without RLIMIT_NPROC and the row of pids
fn a_fork_bomb_is_bounded() {
    let alone = alone();
    for (limit, layers) in [(20, Layers::FULL), (100, Layers::NS_ONLY)] {
        let sandbox = attack(&["forks", "300"]).layers(layers);
        let Seen { output, enforced, hits, .. } =
            seen(sandbox.limit(Resource::Processes, Some(limit)));
        let (made, errno) = output.ok().trim().split_once(' ').unwrap();
        // init and the attacker are two of them.
        assert_eq!(made.parse::<u64>().unwrap(), limit - 2, "{output:?}");
        assert_eq!(errno, libc::EAGAIN.to_string());
        let counted = by(&enforced, Resource::Processes).unwrap().starts_with("cgroup");
        let hit = hits.iter().find(|hit| hit.resource == Resource::Processes);
        assert_eq!(hit.map(|hit| (hit.times >= 1, hit.ended)), counted.then_some((true, false)));
        assert_eq!(run(&mut Command::new("true")).code(), 0);
        alone.no_stray();
    }
    let output = told(&["--pids", "20"], &["forks", "300"]);
    let line = "agent-shim: pids: 20 is the limit, and it was met (cgroup v";
    assert_eq!(output.stderr.starts_with(line), has_group(Resource::Processes, 20), "{output:?}");
    assert_eq!(output.code(), 0);
}

/// 64 MiB more than the limit: killed and told as memory, or refused where only RLIMIT_DATA is.
#[test] // seen to fail with `Group::enter` that writes nothing
fn memory_is_bounded_and_told() {
    let _alone = alone();
    let eat = |most| attack(&["eat", "128"]).limit(Resource::Memory, Some(most));
    assert_eq!(seen(eat(256 * MIB)).output.ok(), "128 ok\n", "the control");
    let Seen { output, enforced, hits, peak } = seen(eat(64 * MIB));
    if by(&enforced, Resource::Memory) == Some("RLIMIT_DATA") {
        assert!(output.ok().contains("memory allocation failed"), "{output:?}");
        assert!(output.ok().split(' ').next().unwrap().parse::<u64>().unwrap() < 64, "{output:?}");
        assert!(enforced.iter().any(|e| e.note.contains("of each process")), "{enforced:?}");
        return;
    }
    assert_eq!(output.end, End::Exited(137), "{output:?}");
    let hit = hits.iter().find(|hit| hit.resource == Resource::Memory).unwrap();
    assert!(hit.ended && hit.value == Some(64 * MIB), "{hit:?}");
    assert!(peak.is_some_and(|peak| (60 * MIB..=64 * MIB).contains(&peak)), "{peak:?}");
    let output = told(&["--memory", "64M"], &["eat", "128"]);
    assert_eq!(output.code(), 137);
    assert!(
        output.stderr.contains("memory: 64M is the limit, and the agent was ended (cgroup v"),
        "{output:?}"
    );
    // Pages of the room's tmpfs are memory of the room: nothing else bounds two of them.
    let fill = "head -c 100000000 /dev/zero >/tmp/fill; echo $?";
    let sandbox = Sandbox::new("sh").args(["-c", fill]).limit(Resource::Memory, Some(32 * MIB));
    assert_ne!(seen(sandbox).output.stdout, "0\n");
}

/// Too little for the room itself: the launch says which limit it was.
#[test] // seen to fail with `launch::died` that does not ask the group
fn a_room_that_does_not_fit_says_so() {
    let alone = alone();
    if !has_group(Resource::Memory, 64 * MIB) {
        return skip("a_room_that_does_not_fit_says_so", "no writable cgroup with memory");
    }
    let sandbox = Sandbox::new("echo").args(["ran"]).limit(Resource::Memory, Some(4096));
    let failure = start(sandbox).unwrap_err();
    assert_eq!(failure.code(), 125);
    assert!(failure.to_string().contains("--memory 4K"), "{failure}");
    assert!(failure.hint().contains("it needs more than that"), "{failure}");
    alone.no_stray();
}

/// A process that spins gets SIGXCPU, one that ignores it SIGKILL a second later.
#[test] // seen to fail with soft and hard limit alike
fn cpu_time_is_bounded_and_told() {
    let _alone = alone();
    let start = Instant::now();
    let output = told(&["--cpu-time", "1s"], &["spin"]);
    assert_eq!(output.code(), 128 + libc::SIGXCPU, "{output:?}");
    let line = "agent-shim: cpu-time: 1s is the limit, and the agent was ended (RLIMIT_CPU)\n";
    assert_eq!(output.stderr, line);
    assert!(start.elapsed() < Duration::from_secs(5));
    let stubborn = "trap '' XCPU; while :; do :; done";
    let sandbox = Sandbox::new("sh").args(["-c", stubborn]).limit(Resource::CpuTime, Some(1));
    assert_eq!(seen(sandbox).output.end, End::Exited(128 + libc::SIGKILL));
}

/// Half a processor: a second of work takes two.
#[test] // seen to fail with a quota of the whole period
fn the_cpu_rate_is_bounded() {
    let _alone = alone();
    if !has_group(Resource::Cpus, 500) {
        return skip("the_cpu_rate_is_bounded", "no writable cgroup with the cpu controller");
    }
    let spin = || attack(&["spin"]).limit(Resource::CpuTime, Some(1));
    let start = Instant::now();
    let Seen { hits, .. } = seen(spin().limit(Resource::Cpus, Some(300)));
    assert!(start.elapsed() > Duration::from_millis(2500), "{:?}", start.elapsed());
    let hit = hits.iter().find(|hit| hit.resource == Resource::Cpus).unwrap();
    assert!(!hit.ended && hit.times > 5, "{hit:?}");
}

#[test] // seen to fail without the row of NOFILE
fn open_files_are_bounded() {
    let _alone = alone();
    let open = |most| seen(attack(&["open", "2000"]).limit(Resource::OpenFiles, most)).output;
    assert_eq!(open(Some(30)).ok(), format!("30 {}\n", libc::EMFILE));
    assert_eq!(open(Some(40)).ok(), format!("40 {}\n", libc::EMFILE));
    let output = run(Command::new("sh").args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).args([
        bins::bin("agent-shim").to_str().unwrap(),
        "run",
        "--nofile",
        "80",
        "--",
        "sh",
        "-c",
        "ulimit -Hn",
    ]));
    assert_eq!(output.ok(), "64\n");
    let line = "agent-shim: warning: --nofile 64: RLIMIT_NOFILE, the caller's own hard limit\n";
    assert_eq!(output.stderr, line);
}

/// 1 MiB and not a byte more; SIGXFSZ is told.
#[test] // seen to fail without the row of FSIZE
fn the_size_of_a_file_is_bounded_and_told() {
    let _alone = alone();
    let script =
        "head -c 2000000 /dev/zero >/tmp/x; wc -c </tmp/x; exec head -c 2000000 /dev/zero >/tmp/x";
    let output = run(&mut shim(&["run", "--fsize", "1M", "--", "sh", "-c", script]));
    assert_eq!((output.code(), output.stdout.trim()), (128 + libc::SIGXFSZ, "1048576"));
    assert!(
        output.stderr.contains("fsize: 1M is the limit, and the agent was ended"),
        "{output:?}"
    );
}

/// ENOSPC for bytes and for files, in all the room's own directories together.
#[test] // seen to fail with a `compose::Tmpfs` without nr_inodes
fn the_tmpfs_is_bounded() {
    let _alone = alone();
    let script = "exec 2>/dev/null; head -c 5000000 /dev/zero >/tmp/x
        head -c 5000000 /dev/zero >/more/x
        cat /tmp/x /more/x | wc -c; rm /tmp/x /more/x
        n=0; while [ $n -lt 300 ] && true >/more/$n; do n=$((n + 1)); done
        [ $n -lt 200 ] && [ $n -gt 100 ] && echo files; rm /more/*";
    let args = ["run", "--tmpfs-size", "8M", "--tmpfs-inodes", "200", "--tmpfs", "/more"];
    let output = run(shim(&args).args(["--", "sh", "-c", script]));
    let lines: Vec<_> = output.ok().lines().map(str::trim).collect();
    assert!((7 * MIB..=8 * MIB).contains(&lines[0].parse().unwrap()), "{output:?}");
    assert_eq!(lines[1..], ["files"], "{output:?}");
    assert_eq!(output.stderr, "", "it was not full at the end");
    let output = run(&mut shim(&["run", "--tmpfs-size", "1M", "--profile", "none", "true"]));
    assert_eq!(output.code(), 125);
    assert!(output.stderr.contains("--tmpfs-size 1M"), "{output:?}");
}

/// What is full at the end is told, and does not change the agent's status.
#[test] // seen to fail with `InForce::full` empty
fn a_full_tmpfs_is_told() {
    let _alone = alone();
    let files = "n=0; while [ $n -lt 300 ] && true >/tmp/$n; do n=$((n + 1)); done; exit 3";
    for (option, value, script) in [
        ("tmpfs-size", "8M", "head -c 9000000 /dev/zero >/tmp/x; exit 3"),
        ("tmpfs-inodes", "200", files),
    ] {
        let args = ["run", &format!("--{option}"), value, "--", "sh", "-c"];
        let script = format!("exec 2>/dev/null; {script}");
        let output = run(shim(&args).arg(script));
        assert_eq!(output.code(), 3, "{output:?}");
        let line = format!("agent-shim: {option}: {value} is the limit, and it was met (tmpfs)\n");
        assert_eq!(output.stderr, line);
    }
}

/// Each flag with each value that is none: one line with both, and nothing runs.
#[test] // seen to fail with a `scaled` that multiplies without looking
fn what_is_no_limit_is_one_line() {
    let _alone = alone();
    let values = ["0", "-1", "", "x", "1x", "18446744073709551616", "1 ", "0x10", "17179869185G"];
    for row in &TABLE {
        for value in values {
            let option = format!("--{}={value}", row.name);
            let output = run(&mut shim(&["run", &option, "--", "echo", "ran"]));
            assert_eq!((output.code(), &*output.stdout), (125, ""), "{option} {output:?}");
            assert_eq!(output.stderr.lines().count(), 1, "{option} {output:?}");
            let starts = format!("agent-shim: --{} {value:?}: ", row.name);
            assert!(output.stderr.starts_with(&starts), "{option} {output:?}");
        }
        if row.resource != Resource::Cpus {
            let option = format!("--{}=unlimited", row.name);
            assert_eq!(run(&mut shim(&["run", &option, "--", "true"])).code(), 0, "{option}");
        }
    }
}

/// Asked for and impossible: an error with a hint, nothing runs; with --best-effort it runs and is
/// told; a default is put in force by something else and told to who wants to know.
#[test] // seen to fail with `InForce::of` that takes every limit for a default
fn what_cannot_be_enforced_is_said() {
    let alone = alone();
    let Some(mut refused) = without_cgroup(&["run", "--cpus", "1.5", "--", "echo", "ran"]) else {
        return skip("what_cannot_be_enforced_is_said", "this user has a cgroup");
    };
    let refused = run(&mut refused);
    assert_eq!((refused.code(), &*refused.stdout), (125, ""), "{refused:?}");
    assert!(refused.stderr.starts_with("agent-shim: limits: cgroup(--cpus 1.5): "), "{refused:?}");
    let hint = "`systemd-run --user --scope -p Delegate=yes agent-shim run ...`";
    let told = refused.stderr.lines().any(|l| l.starts_with("hint: ") && l.contains(hint));
    assert!(told, "{refused:?}");

    let run_it = |args: &[&str]| run(&mut without_cgroup(args).unwrap());
    let output = run_it(&["run", "--cpus", "1.5", "--best-effort", "--", "echo", "ran"]);
    assert_eq!((output.code(), &*output.stdout), (0, "ran\n"));
    let line = "agent-shim: warning: --cpus 1.5: not enforced, it needs a cgroup\n";
    assert_eq!(output.stderr, line);

    // Without a user namespace processes are counted with those of the host.
    let pids = ["run", "--pids", "20", "--profile", "none", "--", "echo", "ran"];
    assert_eq!(run_it(&pids).code(), 125);
    assert_eq!(run_it(&["run", "--pids", "20", "--", "true"]).ok(), "");

    // Memory is bounded all the same, by less.
    let data = "grep 'data size' /proc/self/limits";
    let output = run_it(&["run", "--memory", "64M", "--", "sh", "-c", data]);
    assert!(output.ok().contains(" 67108864 "), "{output:?}");
    assert!(output.stderr.contains("warning: --memory 64M: RLIMIT_DATA, of each process"));
    let output = run_it(&["run", "--", "sh", "-c", data]);
    assert!(output.ok().contains(" 4294967296 "), "{output:?}");
    assert_eq!(output.stderr, "");
    let output = run_it(&["run", "--verbose", "--", "true"]);
    assert!(output.stderr.contains("--memory 4G: RLIMIT_DATA, of each process"), "{output:?}");
    alone.no_stray();
}

/// 200 threads with the usual stacks of 8 MiB, under both kinds of memory limit.
#[test] // seen to fail with a default of 1G where there is no cgroup
fn two_hundred_threads_fit_the_defaults() {
    let _alone = alone();
    let script = "import threading\nlock = threading.Barrier(201)\n\
        ts = [threading.Thread(target=lock.wait) for _ in range(200)]\n\
        [t.start() for t in ts]; lock.wait(); [t.join() for t in ts]; print('fine')";
    let args = ["run", "--", "/usr/bin/python3", "-c", script];
    if !Path::new(args[2]).exists() {
        return skip("two_hundred_threads_fit_the_defaults", "no /usr/bin/python3");
    }
    assert_eq!(run(&mut shim(&args)).ok(), "fine\n");
    if let Some(mut command) = without_cgroup(&args) {
        assert_eq!(run(&mut command).ok(), "fine\n");
    }
}

/// Fifty rooms, rooms that fail, an agent that leaves processes and no pid namespace to end them:
/// no directory stays.
#[test] // seen to fail without `Drop for Part`
fn nothing_is_left_in_the_hierarchies() {
    let alone = alone();
    let test = "nothing_is_left_in_the_hierarchies";
    if !has_group(Resource::Memory, 64 * MIB) {
        return skip(test, "no writable cgroup with the memory controller");
    }
    let own = std::process::id();
    for n in 0..50 {
        let sandbox = attack(&["open", "0"]).limit(Resource::Processes, Some(20));
        let layers = if n % 2 == 0 { Layers::FULL } else { Layers::NONE };
        let (mut child, ends) = start(sandbox.layers(layers)).unwrap();
        assert!(!leak::groups_of(own).is_empty(), "the control: there is one");
        collect(&ends, child.pidfd(), LIMIT).unwrap();
        child.wait().unwrap();
        drop(child);
        assert_eq!(leak::groups_of(own), [] as [PathBuf; 0]);
    }
    start(Sandbox::new("/nowhere")).unwrap_err();
    start(attack(&[]).omit(Layers::SECCOMP)).unwrap_err();
    drop(start(Sandbox::new("sleep").args(["1000"])).unwrap());
    assert_eq!(leak::groups_of(own), [] as [PathBuf; 0]);

    let leaves = "setsid sleep 1000 & setsid sleep 1000 & exit 3";
    let args = ["run", "--profile", "none", "--memory", "64M", "--", "sh", "-c", leaves];
    let mut child = shim(&args).spawn().unwrap();
    let pid = child.id();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(leak::groups_of(pid), [] as [PathBuf; 0]);
    alone.gone_within(Duration::from_secs(1)); // what was in the group ended with it
}

/// SIGKILL to the shim: the heir removes the directory when the room has ended. Where that was
/// killed too, an empty one stays, which the next room removes at its end.
#[test] // seen to fail with an heir that ends at once, and without `sweep`
fn a_killed_shim_leaves_no_directory() {
    let alone = alone();
    let test = "a_killed_shim_leaves_no_directory";
    if !has_group(Resource::Memory, 64 * MIB) {
        return skip(test, "no writable cgroup with the memory controller");
    }
    for heir_too in [false, true] {
        let mut command =
            shim(&["run", "--cpus", "1", "--", "sh", "-c", "echo up; exec sleep 1000"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        line(std::os::fd::AsFd::as_fd(child.stdout.as_ref().unwrap()), LIMIT);
        assert!(!leak::groups_of(child.id()).is_empty(), "the control: there is one");
        if heir_too {
            heirs_of(child.id()).into_iter().for_each(|heir| sys::kill(heir, libc::SIGKILL));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        alone.gone_within(Duration::from_secs(1));
        let left = leak::groups_of(child.id());
        assert_eq!(left.is_empty(), !heir_too, "{left:?}");
        for dir in &left {
            let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            assert_eq!(procs, "", "{}", dir.display());
        }
        run(&mut shim(&["run", "--cpus", "1", "--", "true"])).ok();
        assert!(left.iter().all(|dir| !dir.exists()), "{left:?}");
    }
}

/// An heir for each directory; they hold nothing of the shim's.
fn heirs_of(pid: u32) -> Vec<i32> {
    let name = agent_shim::heir::NAME.to_str().unwrap();
    let all = leak::descendants_of(pid.cast_signed());
    let heirs: Vec<i32> = all.iter().filter(|p| p.name == name).map(|p| p.pid).collect();
    assert_eq!(heirs.len(), leak::groups_of(pid).len());
    for heir in &heirs {
        let fds = std::fs::read_dir(format!("/proc/{heir}/fd")).unwrap();
        let fds: Vec<_> = fds.map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap()).collect();
        assert!(matches!(&fds[..], [fd] if fd.ends_with("anon_inode:[pidfd]")), "{fds:?}");
        let status = std::fs::read_to_string(format!("/proc/{heir}/status")).unwrap();
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        let caps = u64::from_str_radix(field(&status, "CapPrm"), 16).unwrap();
        assert_eq!(caps & !2, 0, "{status}"); // CAP_DAC_OVERRIDE at most
        let session = std::fs::read_to_string(format!("/proc/{heir}/stat")).unwrap();
        assert_eq!(session.split(' ').nth(5), Some(&*heir.to_string()), "{session}");
        assert_eq!(std::fs::read_link(format!("/proc/{heir}/cwd")).unwrap(), PathBuf::from("/"));
    }
    heirs
}

/// Under cgroup v2 a room cannot be made beneath a group with processes. Beside it, that group's
/// limits would not hold for it: it is made there only if it is to have no more than they allow.
#[test] // seen to fail with `parent` that takes nothing_is_won for true
fn a_limit_of_the_shims_own_group_is_not_escaped() {
    let alone = alone();
    let sandbox = attack(&["open", "0"]).limit(Resource::Cpus, Some(1000)).best_effort(true);
    let (mut child, _ends) = start(sandbox).unwrap();
    let mut groups = leak::groups_of(std::process::id()).into_iter();
    child.wait().unwrap();
    drop(child);
    let above = groups.find_map(|group| group.parent().map(Path::to_owned));
    let Some(above) = above.filter(|dir| dir.join("cgroup.controllers").exists()) else {
        let test = "a_limit_of_the_shims_own_group_is_not_escaped";
        return skip(test, "no writable cgroup v2; scripts/kernels.sh has one");
    };
    let group = above.join(format!("agent-test-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join("memory.max"), "128M").unwrap();
    std::fs::write(group.join("cpu.max"), "50000 100000").unwrap();
    let attacker = bins::bin("attacker");
    let inside = |options: &str, megabytes: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&group);
        command.arg(bins::bin("agent-shim")).arg("run").args(options.split_whitespace());
        command.arg("--ro-bind").arg(&attacker).args(["/attacker", "--"]);
        let output = run(command.args(["/attacker", "eat", megabytes]));
        alone.gone_within(Duration::from_secs(2));
        output
    };
    let fits = inside("--memory 64M --cpus 0.5", "96");
    let too_much = ["--memory 256M --cpus 0.5", "--memory 64M --cpus 1"].map(|o| inside(o, "1"));
    let tried = inside("--memory 256M --cpus 0.5 --best-effort", "1");
    let default = inside("", "1");
    std::fs::remove_dir(&group).unwrap();

    assert_eq!(fits.code(), 137, "{fits:?}");
    assert!(fits.stderr.contains("(cgroup v2 memory)"), "{fits:?}");
    for refused in too_much {
        assert_eq!((refused.code(), &*refused.stdout), (125, ""), "{refused:?}");
        let hint = "hint: the own cgroup has a limit of its own";
        assert!(refused.stderr.contains(hint), "{refused:?}");
    }
    assert_eq!(tried.ok(), "1 ok\n");
    assert!(tried.stderr.contains("warning: --memory 256M: RLIMIT_DATA"), "{tried:?}");
    assert_eq!((default.ok(), &*default.stderr), ("1 ok\n", ""));
}

/// No file of a cgroup is in a room, and none can be mounted; the room's own group is its root.
#[test] // seen to fail with /sys in `room::SYSTEM`
fn an_agent_cannot_reach_its_cgroup() {
    let _alone = alone();
    let script = "grep -c cgroup /proc/self/mounts; find / -xdev -name 'cgroup.procs' 2>/dev/null
        mkdir /tmp/c; mount -t cgroup2 none /tmp/c 2>/dev/null; mount -t cgroup -o memory none /tmp/c 2>/dev/null
        for file in /tmp/c/*; do [ -e $file ] && (echo max >$file) 2>/dev/null && echo $file; done
        grep -v ':/$' /proc/self/cgroup";
    let output = run(&mut shim(&["run", "--memory", "64M", "--", "sh", "-c", script]));
    assert_eq!(output.stdout, "0\n", "{output:?}");
}

/// What a cgroup costs a room: printed, and the fastest of each do not differ by much.
#[test] // seen to fail with the parent moving the child: 6 ms
fn a_group_costs_little() {
    let _alone = alone();
    let exit = agent_shim::image::of(c"exit", &agent_shim::image::exit_program()).unwrap();
    let exit = std::sync::Arc::new(exit);
    let take = |most| {
        let sandbox = Sandbox::image(exit.clone(), "exit").bare().limit(Resource::Memory, most);
        let start = Instant::now();
        let mut child = sandbox.spawn().unwrap();
        child.wait().unwrap();
        drop(child);
        start.elapsed()
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        with.push(take(Some(1 << 30)));
        without.push(take(None));
    }
    with.sort();
    without.sort();
    println!("median of a room: {:?}; with a memory limit {:?}", without[30], with[30]);
    let (with, without) = (with[0], without[0]); // a busy machine makes the others slower
    assert!(with < without * 2, "{without:?}, with a limit {with:?}");
}

/// The sweep of a shim leaves alone what another one uses.
#[test] // seen to fail with a `sweep` that looks for neither process nor lock
fn rooms_at_the_same_time_do_not_touch_one_another() {
    let _alone = alone();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..10 {
                    let sandbox = attack(&["eat", "1"]).limit(Resource::Memory, Some(64 * MIB));
                    assert_eq!(seen(sandbox).output.ok(), "1 ok\n");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(leak::groups_of(std::process::id()), [] as [PathBuf; 0]);
}
