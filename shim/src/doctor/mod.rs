//! What this kernel and host offer a room, by experiment: one table of rows, one function a row.
//!
//! [`experiment`] runs a list of system calls in a short-lived child; [`facts`] is what can be read,
//! and which calls a filter answers; [`cause`] tells apart why something was refused. The verdict
//! of a profile is no sum of rows: a room of it is started.

pub mod cause;
pub mod experiment;
pub mod facts;
pub mod json;
mod rows;
pub mod text;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use agent_init::error::Errno;
use agent_init::layers::Layers;
use agent_probe::errno_name;

use crate::error::{ASK_THE_DOCTOR, Failure};
use crate::profile::{PROFILES, Profile};
use crate::sys::End;
use crate::{Sandbox, image};
use experiment::{Kit, MAPS, Outcome, Step};
use facts::Facts;

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// In part, or not as far as a room could use it.
    Limited,
    /// It could not be tried.
    Unknown,
}

impl State {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            State::Yes => "yes",
            State::No => "no",
            State::Limited => "limited",
            State::Unknown => "unknown",
        }
    }
}

/// What a row found out.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Whether it is there.
    pub state: State,
    /// What it was measured by, and what was seen.
    pub measured: String,
    /// Why it is not there; empty where it is, or nobody knows.
    pub why: String,
    /// The command or setting that turns it on.
    pub fix: String,
}

impl Finding {
    fn new(state: State, measured: impl Into<String>) -> Finding {
        Finding { state, measured: measured.into(), why: String::new(), fix: String::new() }
    }

    fn yes(measured: impl Into<String>) -> Finding {
        Finding::new(State::Yes, measured)
    }

    fn because(mut self, why: impl Into<String>, fix: impl Into<String>) -> Finding {
        (self.why, self.fix) = (why.into(), fix.into());
        self
    }
}

/// One feature.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What is lost without it: which profile, layer or option.
    pub lost: &'static str,
    ask: fn(&Host) -> Finding,
}

/// This machine, as this process sees it.
#[derive(Debug)]
pub struct Host {
    kit: Kit,
    /// What was read.
    pub facts: Facts,
    /// A user namespace with the own id as its root, and a mount namespace in it.
    base: Outcome,
}

impl Host {
    /// Reads, and tries what most rows stand on.
    pub fn look() -> Host {
        let kit = Kit::of_caller();
        let mut facts = Facts::look(&kit);
        let base = experiment::run(&kit, rows::USER, BASE);
        if base == Outcome::Done {
            facts.look_inside(&kit);
        }
        Host { kit, facts, base }
    }

    /// Namespaces are freed some time after their last process, by a worker of the kernel: under a
    /// tight limit one experiment would be refused because of the one before.
    fn run(&self, namespaces: u64, steps: &'static [Step]) -> Outcome {
        let run = || experiment::run(&self.kit, namespaces, steps);
        patiently(self.facts.max_user, run, |outcome| {
            matches!(outcome, Outcome::Refused { errno: Errno::ENOSPC, .. })
        })
    }

    /// Yes, if every step is taken; else the step that was refused, and why.
    fn tried(&self, how: &str, namespaces: u64, steps: &'static [Step]) -> Finding {
        let needs_userns = namespaces & rows::USER != 0;
        if let Outcome::Refused { call: "clone", .. } = self.base
            && needs_userns
        {
            return Finding::new(State::Unknown, "not tried: it needs a user namespace");
        }
        self.judged(how, self.run(namespaces, steps))
    }

    fn judged(&self, how: &str, outcome: Outcome) -> Finding {
        if outcome == Outcome::Done {
            return Finding::yes(how);
        }
        let state = if outcome == Outcome::Hung { State::Unknown } else { State::No };
        let finding = Finding::new(state, seen(outcome));
        match cause::of(&self.facts, outcome) {
            Some((why, fix)) => finding.because(why, fix),
            None => finding,
        }
    }
}

/// Again while no space is left, for half a second at most; at once where a limit is 0.
fn patiently<T>(limit: Option<u64>, mut run: impl FnMut() -> T, no_space: fn(&T) -> bool) -> T {
    const TRIES: u32 = 25;
    const PAUSE: Duration = Duration::from_millis(20);
    let mut result = run();
    for _ in 0..TRIES {
        if limit == Some(0) || !no_space(&result) {
            break;
        }
        std::thread::sleep(PAUSE);
        result = run();
    }
    result
}

/// What both user namespaces of a room begin with.
const BASE: &[Step] = &[MAPS, ("unshare(CLONE_NEWNS)", |_| crate::sys::unshare(rows::MNT))];

/// `mount(proc): EPERM`.
fn seen(outcome: Outcome) -> String {
    match outcome {
        Outcome::Done => "it works".into(),
        Outcome::Refused { call, errno: Errno(0), .. } => format!("{call} had no effect"),
        Outcome::Refused { call, errno, .. } => {
            format!("{call}: {}", errno_name(i32::from(errno.0)))
        }
        Outcome::Ended(End::Exited(code)) => format!("a child ended with status {code}"),
        Outcome::Ended(End::Signaled(signal)) => format!("a child ended by signal {signal}"),
        Outcome::Hung => "no end within 2 s".into(),
    }
}

/// Whether a room of a profile starts here.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The profile.
    pub profile: &'static str,
    /// Yes; limited: with `--best-effort` only; no; unknown: it did not end in time.
    pub state: State,
    /// The line of the launch that failed; empty if it started.
    pub error: String,
    /// Its hint.
    pub hint: String,
}

/// Everything.
#[derive(Debug)]
pub struct Report {
    /// What was read.
    pub facts: Facts,
    /// One a row, in the order of the table.
    pub features: Vec<(&'static Row, Finding)>,
    /// One a profile.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Whether `full` can be built, without leaving anything out.
    pub fn is_full(&self) -> bool {
        self.verdicts.iter().any(|v| v.profile == "full" && v.state == State::Yes)
    }
}

/// Asks every row and starts a room of every profile. Nothing is left behind.
pub fn examine() -> Report {
    let host = Host::look();
    let features = rows::ROWS.iter().map(|row| (row, (row.ask)(&host))).collect();
    let verdicts = PROFILES.iter().map(|profile| builds(&host, profile)).collect();
    Report { facts: host.facts, features, verdicts }
}

/// A room of the profile is started; where it is not, one as `--best-effort` has it: with an older
/// Landlock, or without one if there is none.
fn builds(host: &Host, profile: &Profile) -> Verdict {
    let run = |best_effort| {
        let is_without = best_effort && agent_init::sys::landlock_abi().is_err();
        let left_out = if is_without { Layers::LANDLOCK } else { Layers::empty() };
        let end = || start(profile.layers - left_out, best_effort);
        patiently(host.facts.max_user, end, |end| match end {
            Some(Err(failure)) => failure.0.errno == Errno::ENOSPC,
            _ => false,
        })
    };
    let mut verdict = verdict(profile.name, run(false));
    if verdict.state == State::No && run(true) == Some(Ok(End::Exited(0))) {
        verdict.state = State::Limited;
    }
    verdict
}

fn verdict(profile: &'static str, end: Option<Result<End, Failure>>) -> Verdict {
    let (state, error, hint) = match &end {
        Some(Ok(End::Exited(0))) => (State::Yes, String::new(), ""),
        Some(Ok(end)) => (State::No, format!("its program ended otherwise: {end:?}"), ""),
        Some(Err(failure)) => (State::No, failure.to_string(), failure.hint()),
        None => (State::Unknown, "no end within 5 s".into(), ""),
    };
    Verdict { profile, state, error, hint: hint.trim_end_matches(ASK_THE_DOCTOR).to_owned() }
}

/// Starts a room whose program exits at once, and waits for its end: `None` if that takes too
/// long. A room ends with the thread that started it, so one that hangs ends with this process.
fn start(layers: Layers, best_effort: bool) -> Option<Result<End, Failure>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (sender, end) = mpsc::sync_channel(1);
    let starter = move || {
        let started = image::of(c"exit", &image::exit_program()).and_then(|program| {
            let room = Sandbox::image(Arc::new(program), "exit");
            room.layers(layers).best_effort(best_effort).spawn()?.wait()
        });
        let _nobody_waits = sender.send(started);
    };
    match std::thread::Builder::new().spawn(starter) {
        Ok(_) => end.recv_timeout(PATIENCE).ok(),
        Err(error) => {
            let errno = error.raw_os_error().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
            Some(Err(Failure::new(
                agent_init::error::Step::CLONE,
                "clone",
                "a thread",
                Errno(errno),
            )))
        }
    }
}
