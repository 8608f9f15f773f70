//! The laboratory: one operation of `agent-probe` in one fresh room, and the record of what
//! happened. Nothing here knows why; see [`crate::attribute`].

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;
use agent_probe::record::Record;
use agent_probe::{Fixture, Op, Outcome, Verdict, host_facts};

use crate::error::{At, Failure};
use crate::fixture::{self, Fixtures, Lost};
use crate::limits::Resource;
use crate::plan;
use crate::profile;
use crate::proof::judged::{Judged, Named, columns};
use crate::proof::rooms;
use crate::spec::{Bend, Spec};
use crate::sys::{self, End};
use crate::{Sandbox, Stdio, image, tty};

/// Where an operation is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setup {
    /// In a room with these layers.
    Room(Layers),
    /// The same, and every refusal of the filter answers errno 4095.
    Marked(Layers),
    /// The same room, and its agent is root of its user namespace, whatever its capabilities.
    RootInside(Layers),
    /// The same room without a limit.
    Unlimited(Layers, Limit),
    /// The positive control: as real root, with no layer, in a private mount namespace.
    RealRoot,
    /// The control with one layer, and nothing that this layer stands on elsewhere. With
    /// [`Layers::CAPS`], what is left is ownership.
    RootWith(Layers),
    /// The control as another id, with every capability but those over files of others.
    OtherId,
}

impl std::fmt::Display for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Setup::Room(layers) => write!(f, "room {}", profile::spelled(*layers)),
            Setup::Marked(layers) => write!(f, "marked {}", profile::spelled(*layers)),
            Setup::RootInside(layers) => {
                write!(f, "room {}, as root inside", profile::spelled(*layers))
            }
            Setup::Unlimited(layers, limit) => {
                write!(f, "room {}, no {}", profile::spelled(*layers), limit.word())
            }
            Setup::RealRoot => f.write_str("real root"),
            Setup::RootWith(layers) => write!(f, "real root with {}", profile::spelled(*layers)),
            Setup::OtherId => f.write_str("another id, all capabilities but those over files"),
        }
    }
}

/// What the harness bounds, as far as it is put in force by different means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// setrlimit(2).
    Rlimits,
    /// The room's cgroup.
    Cgroup,
    /// The size of the room's own directories.
    Tmpfs,
    /// Inotify instances of the user namespace.
    Watchers,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 4] = [Limit::Rlimits, Limit::Cgroup, Limit::Tmpfs, Limit::Watchers];

    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Limit::Rlimits => "rlimit",
            Limit::Cgroup => "cgroup",
            Limit::Tmpfs => "tmpfs size",
            Limit::Watchers => "inotify count",
        }
    }

    /// A room without it. Processes are counted by the user namespace where there is one, else by
    /// the room's cgroup: see [`crate::limits`].
    fn off(self, sandbox: Sandbox, layers: Layers) -> Sandbox {
        let counted = layers.contains(Layers::USERNS);
        match self {
            Limit::Rlimits => {
                let sandbox = sandbox.bent(Bend::NoRlimits);
                let sandbox = without(sandbox, &[Resource::OpenFiles, Resource::FileSize]);
                if counted { without(sandbox, &[Resource::Processes]) } else { sandbox }
            }
            Limit::Cgroup if counted => sandbox,
            Limit::Cgroup => without(sandbox, &[Resource::Processes]),
            Limit::Tmpfs => without(sandbox, &[Resource::TmpfsSize, Resource::TmpfsInodes]),
            Limit::Watchers => sandbox.bent(Bend::Watchers),
        }
    }
}

fn without(sandbox: Sandbox, limits: &[Resource]) -> Sandbox {
    limits.iter().fold(sandbox, |sandbox, resource| sandbox.limit(*resource, None))
}

/// Who can make experiments: the laboratory, and what tests put in its place.
pub trait Experiments {
    /// Tries `op` once under `setup`. Asked again, it may answer from memory.
    fn run(&mut self, op: &'static Op, setup: Setup) -> Outcome;
    /// Whether the controls as real root can be run.
    fn has_root(&self) -> bool;
    /// The room that is judged.
    fn judged(&self) -> Named {
        Named::FULL
    }
    /// What reports call the place of an experiment.
    fn name(&self, setup: Setup) -> String {
        rooms::name(self.judged(), setup)
    }
}

/// How long an operation may take. The slowest takes a few milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs the probe; every run in a room of its own, each experiment once.
pub struct Lab {
    probe: Arc<OwnedFd>,
    facts: Vec<OsString>,
    known: HashMap<(&'static str, Setup), Outcome>,
    progress: Box<dyn FnMut(usize) + Send>,
    is_real_root: bool,
    judged: Judged,
    // Made for the first operation that needs one. Held during a run: what an operation did to one must not be taken
    // for what another did. Who runs rooms in parallel opens a laboratory for each.
    fixtures: Mutex<Option<Fixtures>>,
}

impl Lab {
    /// Finds `agent-probe` and gathers the facts about the host. `progress` is told the number of
    /// rooms so far.
    pub fn open(progress: impl FnMut(usize) + Send + 'static) -> Result<Lab, Failure> {
        Lab::with_probe(&probe_path(), progress)
    }

    /// The same with the probe at `path`.
    pub fn with_probe(
        path: &Path,
        progress: impl FnMut(usize) + Send + 'static,
    ) -> Result<Lab, Failure> {
        Ok(Lab {
            probe: Arc::new(image::from_file(c"agent-probe", path)?),
            facts: host_facts().to_args(),
            known: HashMap::new(),
            progress: Box::new(progress),
            is_real_root: plan::is_real_root(),
            judged: Judged::default(),
            fixtures: Mutex::new(None),
        })
    }

    /// With this room judged, in the place of `full`.
    pub fn judging(mut self, judged: Judged) -> Lab {
        self.judged = judged;
        self
    }

    /// What the probe is told of the host: its arguments.
    pub fn facts(&self) -> &[OsString] {
        &self.facts
    }

    /// What was tried and what happened, in no particular order.
    pub fn experiments(&self) -> impl Iterator<Item = (&'static str, Setup, &Outcome)> {
        self.known.iter().map(|((op, setup), outcome)| (*op, *setup, outcome))
    }

    /// Tries it now. An error is the harness's: the room could not be made, or no fixture at all. An operation whose
    /// fixture was not alive before or after it is no evidence, and says why.
    pub fn attempt(&self, op: &'static Op, setup: Setup) -> Result<Outcome, Failure> {
        let sandbox = self.sandbox(setup);
        if op.needs.is_empty() {
            return self.tried(op, sandbox, setup);
        }
        let mut fixtures = self.fixtures.lock().unwrap_or_else(PoisonError::into_inner);
        if fixtures.is_none() {
            *fixtures = Some(Fixtures::make(Arc::clone(&self.probe))?);
        }
        let Some(fixtures) = fixtures.as_mut() else { return Ok(Outcome::INCONCLUSIVE) };
        let before = match fixtures.look(op.needs) {
            Ok(count) => count,
            Err(why) => return Ok(Outcome::INCONCLUSIVE.note(why)),
        };
        let sandbox = handed_in(sandbox, op, setup, fixtures);
        let outcome = self.tried(op, sandbox.args(fixtures.facts(op.needs)), setup)?;
        Ok(match fixtures.look(op.needs) {
            Err(why) => Outcome::INCONCLUSIVE.note(why),
            Ok(after) if is_unnoticed(op, &outcome, before, after) => {
                Outcome::BLOCKED.note("returned 0, the fixture noticed nothing")
            }
            Ok(_) => outcome,
        })
    }

    /// Makes a room of each column: one that this host cannot make is an error, not a table of doubts.
    pub fn makes(&self, ops: &[&'static Op]) -> Result<(), Failure> {
        for column in columns(self.judged.room) {
            if let Some(op) = ops.first() {
                self.attempt(op, Setup::Room(column.layers))?;
            }
        }
        Ok(())
    }

    /// What could not be made of the fixtures, and which rows it costs; makes them if they are not there yet.
    pub fn lost(&self) -> Result<Vec<Lost>, Failure> {
        let mut fixtures = self.fixtures.lock().unwrap_or_else(PoisonError::into_inner);
        if fixtures.is_none() {
            *fixtures = Some(Fixtures::make(Arc::clone(&self.probe))?);
        }
        Ok(fixtures.as_ref().map(|fixtures| fixtures.lost().to_vec()).unwrap_or_default())
    }

    /// The process that holds the fixtures, if there are any yet: for tests that end it.
    pub fn holder(&self) -> Option<u32> {
        let fixtures = self.fixtures.lock().unwrap_or_else(PoisonError::into_inner);
        fixtures.as_ref().map(Fixtures::holder)
    }

    fn tried(&self, op: &'static Op, sandbox: Sandbox, setup: Setup) -> Result<Outcome, Failure> {
        let (end, output) = self.output(sandbox.args(&self.facts).args([op.id]))?;
        Ok(match (end, Record::parse(&output)) {
            (None, _) => Outcome::INCONCLUSIVE.note("no answer within 5 s"),
            (Some(_), Ok(record)) if record.op == op.id => record.outcome,
            // The filter kills. Any other death says nothing about the operation.
            (Some(End::Exited(SIGSYS)), _) if has_filter(setup) => {
                Outcome::BLOCKED.note("ended by SIGSYS")
            }
            (Some(end), _) => Outcome::INCONCLUSIVE.note(format!("no record, {end:?}")),
        })
    }

    /// Runs the probe's loop of `calls` getppid, `rounds` times: nanoseconds a call, per round.
    pub fn bench(&self, layers: Layers, calls: u64, rounds: u64) -> Result<Vec<f64>, Failure> {
        let args = ["--bench".to_owned(), calls.to_string(), rounds.to_string()];
        let (_, output) = self.output(self.sandbox(Setup::Room(layers)).args(args))?;
        agent_probe::record::Bench::parse(&output)
            .map(|bench| bench.ns)
            .map_err(|error| Failure::new(Step::PROBE, "bench", error.to_string(), Errno::EINVAL))
    }

    fn sandbox(&self, setup: Setup) -> Sandbox {
        let mut sandbox = Sandbox::image(Arc::clone(&self.probe), "agent-probe");
        *sandbox.spec() = match setup {
            Setup::Room(layers) => self.judged.spec(layers),
            Setup::Marked(layers) => Spec { marked: true, ..self.judged.spec(layers) },
            Setup::RootInside(layers) => {
                Spec { bend: Some(Bend::RootInside), ..self.judged.spec(layers) }
            }
            Setup::Unlimited(layers, _) => self.judged.spec(layers),
            Setup::RealRoot => self.control(Layers::empty()),
            Setup::RootWith(layers) => self.control(layers),
            Setup::OtherId => Spec { bend: Some(Bend::OtherId), ..self.control(Layers::empty()) },
        };
        // An experiment is about layers: without a cgroup, which would take its time.
        let sandbox = sandbox
            .bare()
            .limit(Resource::Memory, None)
            .stdio(0, Stdio::Null)
            .stdio(2, Stdio::Null);
        match setup {
            Setup::Unlimited(layers, limit) => limit.off(sandbox, layers),
            _ if is_control(setup) => unlimited(sandbox),
            _ => sandbox,
        }
    }

    /// As real root, outside of every room.
    fn control(&self, layers: Layers) -> Spec {
        Spec { as_real_root: true, ..self.judged.spec(layers) }
    }

    /// Runs it to its end: how it ended (`None`: it did not, and was killed), and what it said on
    /// standard output. A pipe holds it: who writes more than 64 KiB waits, and runs into the limit.
    fn output(&self, sandbox: Sandbox) -> Result<(Option<End>, Vec<u8>), Failure> {
        let (output, end) = sys::pipe().at(Step::PROBE, "pipe2", "")?;
        let sandbox = sandbox.stdio(1, end);
        let mut child = sandbox.spawn()?;
        drop(sandbox); // and our copy of the writing end with it
        let ended = child.wait_for(LIMIT)?;
        drop(child); // ends it, if it has not
        Ok((ended, what_is_there(&output)?))
    }
}

fn is_control(setup: Setup) -> bool {
    matches!(setup, Setup::RealRoot | Setup::RootWith(_) | Setup::OtherId)
}

/// Every room has limits, whatever its layers: that a row about them can succeed is shown by the control, which has
/// none.
fn unlimited(sandbox: Sandbox) -> Sandbox {
    use Resource::{FileSize, OpenFiles, Processes, TmpfsInodes, TmpfsSize};
    without(sandbox, &[Processes, OpenFiles, FileSize, TmpfsSize, TmpfsInodes])
}

/// No layer stands between a room and what the harness hands in: the same.
fn handed_in(sandbox: Sandbox, op: &Op, setup: Setup, fixtures: &Fixtures) -> Sandbox {
    let mut sandbox = sandbox;
    if !is_control(setup) {
        return sandbox;
    }
    if op.needs.contains(&Fixture::Fd)
        && let Some(file) = fixtures.file()
    {
        sandbox = sandbox.keep_fd(Arc::clone(file), fixture::INHERITED);
    }
    if op.needs.contains(&Fixture::Env)
        && let Some((name, value)) = fixtures.variable()
    {
        sandbox = sandbox.env(name, value);
    }
    if op.needs.contains(&Fixture::Tty) {
        sandbox = sandbox.stdio(0, Stdio::Inherit).terminal(tty::Setup::default());
    }
    sandbox
}

/// A signal that was sent and never came is no effect.
fn is_unnoticed(op: &Op, outcome: &Outcome, before: u64, after: u64) -> bool {
    op.counted && outcome.verdict == Verdict::Allowed && before == after
}

/// The status of init when SIGSYS ended the probe.
const SIGSYS: i32 = 128 + libc::SIGSYS;

fn has_filter(setup: Setup) -> bool {
    match setup {
        Setup::Room(l)
        | Setup::Marked(l)
        | Setup::RootInside(l)
        | Setup::Unlimited(l, _)
        | Setup::RootWith(l) => l.contains(Layers::SECCOMP),
        Setup::RealRoot | Setup::OtherId => false,
    }
}

/// Reads a pipe until it is empty, at most 64 KiB. Not to its end: where no pid namespace takes
/// them along, something that the probe left behind may hold it open.
fn what_is_there(pipe: &OwnedFd) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while text.len() < 64 << 10
        && sys::wait_readable(&[pipe.as_fd()], 0).at(Step::PROBE, "poll", "output")?.is_some()
    {
        match sys::read(pipe.as_raw_fd(), &mut part).at(Step::PROBE, "read", "output")? {
            0 => break,
            n => text.extend(part.iter().take(n)),
        }
    }
    Ok(text)
}

impl Experiments for Lab {
    fn run(&mut self, op: &'static Op, setup: Setup) -> Outcome {
        if let Some(outcome) = self.known.get(&(op.id, setup)) {
            return outcome.clone();
        }
        // An experiment whose room cannot be made is no evidence, and says why.
        let outcome = self
            .attempt(op, setup)
            .unwrap_or_else(|failure| Outcome::INCONCLUSIVE.note(failure.to_string()));
        self.known.insert((op.id, setup), outcome.clone());
        (self.progress)(self.known.len());
        outcome
    }

    fn has_root(&self) -> bool {
        self.is_real_root
    }

    fn judged(&self) -> Named {
        self.judged.room
    }
}

/// `AGENT_BIN_DIR/agent-probe`, else the one beside this program.
pub(crate) fn probe_path() -> PathBuf {
    let beside = || env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from));
    let named = env::var_os("AGENT_BIN_DIR").filter(|dir| !dir.is_empty());
    let dir = named.map(PathBuf::from).or_else(beside);
    dir.unwrap_or_default().join("agent-probe")
}

/// A line on standard error that shows how far it is, if that is a terminal.
pub fn progress_line() -> impl FnMut(usize) + Send + 'static {
    |rooms| progress_of(&format!("{rooms} rooms"))
}

/// The same of anything that is under way.
pub fn progress_of(what: &str) {
    use std::io::{IsTerminal, stderr};
    if stderr().is_terminal() {
        let _nobody_reads = write!(stderr(), "\r\x1b[K{what}");
    }
}

/// Takes that line away again.
pub fn end_of_progress() {
    use std::io::{IsTerminal, stderr};
    if stderr().is_terminal() {
        let _nobody_reads = write!(stderr(), "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_probe::find;

    /// F_SETOWN succeeds, and the signal may be refused when it is due.
    #[test] // seen to fail without the comparison of the verdict
    fn a_signal_that_never_came_is_no_effect() {
        let (signal, read) = (find("sig-sigio").unwrap(), find("fs-outside-read").unwrap());
        assert!(is_unnoticed(signal, &Outcome::ALLOWED, 3, 3));
        assert!(!is_unnoticed(signal, &Outcome::ALLOWED, 3, 4));
        assert!(!is_unnoticed(signal, &Outcome::INCONCLUSIVE, 3, 3));
        assert!(!is_unnoticed(read, &Outcome::ALLOWED, 3, 3));
    }
}
