//! Side by side, as PID 1: tini, dumb-init and agent-init alone. A table of what each does; of
//! agent-init what it must.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_shim::sys::End;
use agent_tests::pid1::{self, As, command};
use agent_tests::run::{LIMIT, line};
use agent_tests::{agent_init, alone, bins, run, run_for, skip, sys};

/// A program that can be PID 1, and its own arguments.
struct Peer {
    name: &'static str,
    path: PathBuf,
    args: &'static [&'static str],
}

/// Those that are there.
fn peers(test: &str) -> Vec<Peer> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find =
        |name: &str| std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file());
    let mut peers = Vec::new();
    for (name, args) in [("tini", &["--"][..]), ("dumb-init", &["--"])] {
        match find(name) {
            Some(path) => peers.push(Peer { name, path, args }),
            None => skip(test, &format!("no {name}")),
        }
    }
    peers.push(Peer { name: "agent-init", path: agent_init().into(), args: &["--"] });
    peers
}

impl Peer {
    fn command(&self, args: &[&str]) -> std::process::Command {
        command(As::Pid1, &self.path, &[self.args, args].concat())
    }

    /// How many of the 256 exit statuses are the program's.
    fn statuses(&self) -> usize {
        let end = |code| run(&mut self.command(&["sh", "-c", &format!("exit {code}")])).end;
        (0..=255).filter(|code| end(*code) == End::Exited(*code)).count()
    }

    /// How many of the signals that end a program are its status: 128 + n.
    fn deaths(&self, attacker: &str) -> usize {
        let end = |n: i32| run(&mut self.command(&[attacker, "die", &n.to_string()])).end;
        DEADLY.iter().filter(|n| end(**n) == End::Exited(128 + **n)).count()
    }

    /// Which signals reach the program.
    fn forwarded(&self, attacker: &str) -> Vec<i32> {
        let mut command = self.command(&[attacker, "hear"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let hear = |limit| line(out.as_fd(), limit).and_then(|text| text.parse::<i32>().ok());
        assert_eq!(hear(LIMIT), Some(0), "{}", self.name);
        let pid = pid1::pid(As::Pid1, &child);
        let mut forwarded = Vec::new();
        for signal in SIGNALS {
            sys::kill(pid, signal);
            forwarded.extend(hear(Duration::from_millis(300)));
            if child.try_wait().unwrap().is_some() {
                return forwarded; // it has died of the signal
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        forwarded.sort_unstable();
        forwarded.dedup();
        forwarded
    }

    /// How long 10,000 orphans take, if all are reaped.
    fn orphans(&self, attacker: &str) -> Option<Duration> {
        let since = Instant::now();
        let mut command = self.command(&[attacker, "orphans", "10000"]);
        let output = run_for(&mut command, Duration::from_secs(60));
        (output.stdout == "orphans: 10000\nprocesses: 2\n").then(|| since.elapsed())
    }

    /// Whether what is left behind is told to end.
    fn tells(&self) -> bool {
        let left = "(trap 'echo told; exit' TERM; echo up >&2; while :; do sleep 0.01; done) &
            sleep 0.2";
        run(&mut self.command(&["sh", "-c", left])).stdout == "told\n"
    }
}

/// All but those that cannot be caught, those that libc keeps for itself, and SIGCHLD.
const SIGNALS: [i32; 60] = {
    let (mut signals, mut n, mut signal) = ([0; 60], 0, 1);
    while signal <= 64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP && signal != 32 && signal != 33 {
            signals[n] = signal;
            n += 1;
        }
        signal += 1;
    }
    signals
};

/// Those that end a program by default.
const DEADLY: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGPIPE,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGSYS,
];

#[test] // seen to fail with `reap::FORWARDED` in place of `reap::KEPT`
fn side_by_side() {
    let test = "side_by_side";
    if let Some(reason) = pid1::no_pid_1() {
        return skip(test, &reason);
    }
    let alone = alone();
    let attacker = bins::bin("attacker").to_str().unwrap().to_owned();
    println!(
        "{:<11} {:>7} {:>12} {:>11} {:>10} {:>15} {:>6}",
        "PID 1", "bytes", "exit 0..255", "128+signal", "forwarded", "10,000 orphans", "tells"
    );
    let mut forwarded = Vec::new();
    for peer in peers(test) {
        let (statuses, deaths) = (peer.statuses(), peer.deaths(&attacker));
        let (orphans, tells) = (peer.orphans(&attacker), peer.tells());
        let signals = peer.forwarded(&attacker);
        let time = orphans.map_or("not reaped".into(), |t| format!("{} ms", t.as_millis()));
        println!(
            "{:<11} {:>7} {:>12} {:>11} {:>10} {time:>15} {:>6}",
            peer.name,
            std::fs::metadata(&peer.path).unwrap().len(),
            format!("{statuses} of 256"),
            format!("{deaths} of {}", DEADLY.len()),
            format!("{} of 60", signals.len()),
            if tells { "yes" } else { "no" },
        );
        if peer.name == "agent-init" {
            assert_eq!((statuses, deaths), (256, DEADLY.len()));
            assert!(orphans.is_some() && tells);
        }
        forwarded.push((peer.name, signals));
    }
    let of = |name: &str| forwarded.iter().find(|(n, _)| *n == name).map(|(_, signals)| signals);
    let ours = of("agent-init").unwrap();
    assert_eq!(ours.len(), 50, "{ours:?}");
    if let Some(tini) = of("tini") {
        assert_eq!(ours, tini, "what tini passes on, and nothing else");
    }
    alone.gone_within(LIMIT);
}
