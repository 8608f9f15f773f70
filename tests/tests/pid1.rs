//! agent-init alone as PID 1 of a pid namespace, beside tini and dumb-init: orphans, signals, exit
//! codes. A table is printed; what is asserted is agent-init's part of it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use agent_shim::sys::End;
use agent_tests::bins::bin;
use agent_tests::{alone, run_for, skip};

const LIMIT: Duration = Duration::from_secs(60);

/// An init, by the words before its program.
struct Init {
    name: &'static str,
    words: Vec<String>,
}

fn inits() -> Vec<Init> {
    let found = |name: &'static str| {
        let path = std::env::split_paths("/usr/bin:/usr/local/bin:/usr/sbin").map(|d| d.join(name));
        let Some(path) = path.into_iter().find(|p| p.exists()) else {
            skip("beside_tini_and_dumb_init", &format!("no {name}"));
            return None;
        };
        Some(Init { name, words: vec![path.to_str().unwrap().into(), "--".into()] })
    };
    let ours = bin("agent-init").to_str().unwrap().to_owned();
    let ours = Init {
        name: "agent-init",
        words: vec![ours, "--profile".into(), "self".into(), "--".into()],
    };
    [Some(ours), found("tini"), found("dumb-init")].into_iter().flatten().collect()
}

/// The init as PID 1 of new user, mount and pid namespaces with a proc of their own.
fn command(init: &Init, program: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount-proc", "--"]).args(&init.words).args(program).stdin(Stdio::null());
    command
}

/// One that is running: unshare, its only child on the host (the init), what it says.
struct Running {
    unshare: Child,
    pid: i32,
    lines: BufReader<ChildStdout>,
}

fn start(init: &Init, script: &str) -> Running {
    let mut unshare =
        command(init, &["bash", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(unshare.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{}", init.name);
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let children = std::fs::read_to_string(children).unwrap();
    Running { pid: children.trim().parse().unwrap(), unshare, lines }
}

/// Signals that an init passes on: not those that the kernel raises for a fault, that cannot be
/// caught, that are about job control, or that libc keeps for itself.
fn forwardable() -> Vec<i32> {
    let not = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCHLD,
        libc::SIGSEGV,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGBUS,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGSYS,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGTSTP,
        libc::SIGCONT,
        32,
        33,
    ];
    (1..=64).filter(|n| !not.contains(n)).collect()
}

/// The signals that arrived: each is sent to the init, the program says its number.
fn arrived(init: &Init) -> Vec<i32> {
    let sent = forwardable();
    let traps: String = sent.iter().fold(String::new(), |mut text, n| {
        let _infallible = write!(text, "trap 'echo {n}' {n}; ");
        text
    });
    let mut running = start(init, &format!("{traps} echo ready; while :; do sleep 0.05; done"));
    let mut seen = Vec::new();
    for n in sent {
        // SAFETY of the host: a pid that this test has started and not reaped.
        assert!(
            run_for(Command::new("kill").args([format!("-{n}"), running.pid.to_string()]), LIMIT)
                .ok()
                .is_empty()
        );
        let deadline = Instant::now() + Duration::from_secs(2);
        if agent_tests::sys::poll(
            &[std::os::fd::AsRawFd::as_raw_fd(running.lines.get_ref())],
            deadline - Instant::now(),
        ) == [true]
        {
            let mut line = String::new();
            running.lines.read_line(&mut line).unwrap();
            seen.extend(line.trim().parse::<i32>().ok().filter(|m| *m == n));
        }
    }
    running.unshare.kill().unwrap();
    running.unshare.wait().unwrap();
    seen
}

/// How many of these ends come back as a shell would say them.
fn ends(init: &Init) -> (usize, usize) {
    let codes = (0..=255).step_by(15).map(|n| (format!("exit {n}"), n));
    let deaths = [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, libc::SIGHUP, libc::SIGUSR1, 64]
        .map(|n| (format!("kill -{n} $$"), 128 + n));
    let all: Vec<_> = codes.chain(deaths).collect();
    let right = all.iter().filter(|(script, code)| {
        run_for(&mut command(init, &["bash", "-c", script]), LIMIT).end == End::Exited(*code)
    });
    (right.count(), all.len())
}

/// Milliseconds for 10,000 orphans; none may be left.
fn orphans(init: &Init) -> u128 {
    let attacker: PathBuf = bin("attacker");
    let begun = Instant::now();
    let output =
        run_for(&mut command(init, &[attacker.to_str().unwrap(), "orphans", "10000"]), LIMIT);
    assert_eq!(output.end, End::Exited(0), "{}: {output:?}", init.name);
    begun.elapsed().as_millis()
}

#[test] // seen to fail with SIGUSR1 left out of what agent-init forwards, without its reaping
fn beside_tini_and_dumb_init() {
    let _alone = alone();
    let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"];
    if run_for(Command::new("unshare").args(unshare), LIMIT).end != End::Exited(0) {
        return skip("beside_tini_and_dumb_init", "unshare(1) cannot make a pid namespace");
    }
    println!(
        "{:<12} {:>11} {:>12} {:>17}",
        "as PID 1", "10k orphans", "exit codes", "signals passed on"
    );
    for init in inits() {
        let (ms, (right, all), seen) = (orphans(&init), ends(&init), arrived(&init));
        let of = forwardable().len();
        println!("{:<12} {ms:>8} ms {right:>9}/{all} {:>14}/{of}", init.name, seen.len());
        if init.name == "agent-init" {
            assert_eq!((right, seen), (all, forwardable()));
        }
    }
}
