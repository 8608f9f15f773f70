//! The proof of every blocker: each operation of the probe in each room that says something about
//! it, what follows from the outcomes, and the doubts that remain. DESIGN §5.
//!
//! Every experiment is a room of its own. Operations are shared out among as many workers as there
//! are processors; a worker makes all experiments of one operation, one after another.

pub mod judged;

pub mod rooms;

pub mod finding;

pub mod lattice;

pub mod summary;

pub mod baseline;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use agent_init::error::{Errno, Step};
use agent_probe::{Op, Outcome};

use crate::capability;
use crate::cost::Cost;
use crate::error::Failure;
use crate::lab::{Experiments, Lab, Setup};
use finding::Finding;
use judged::{Judged, Named};

/// All that one run has found out.
#[derive(Debug)]
pub struct Proof {
    /// Of which room.
    pub judged: Judged,
    /// One for each operation, in the order asked for; a run that was stopped has fewer.
    pub findings: Vec<Finding>,
    /// What each profile costs; empty where that was not measured.
    pub costs: Vec<Cost>,
    /// Whether the controls as real root were run.
    pub has_root: bool,
    /// Capabilities that they had not, though root.
    pub lacks: Vec<String>,
    /// Stopped before the last operation.
    pub is_partial: bool,
}

/// How far it is: written by the workers, read by who shows it. `stop` is the other way.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rooms made.
    pub rooms: AtomicUsize,
    /// Operations that are done.
    pub ops: AtomicUsize,
    /// To be stopped: what is known of the operations that are under way is dropped.
    pub stop: AtomicBool,
}

impl Progress {
    /// Not begun.
    pub const fn new() -> Progress {
        Progress {
            rooms: AtomicUsize::new(0),
            ops: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        }
    }
}

/// Examines them all. `meanwhile` runs until all workers have ended, or it wants no more; it is
/// told whether they have. `all_subsets`: the lattice of each operation too.
pub fn examine(
    ops: &[&'static Op],
    judged: &Judged,
    all_subsets: bool,
    workers: usize,
    progress: &'static Progress,
    meanwhile: impl Fn(&dyn Fn() -> bool),
) -> Result<Proof, Failure> {
    let labs: Vec<Lab> = (0..workers.clamp(1, ops.len().max(1)))
        .map(|_| Lab::open(|_| _ = progress.rooms.fetch_add(1, Ordering::Relaxed)))
        .map(|lab| Ok(lab?.judging(judged.clone())))
        .collect::<Result<_, _>>()?;
    let has_root = labs.iter().all(Experiments::has_root);
    let next = AtomicUsize::new(0);
    let work = |lab: Lab| {
        let (mut lab, mut found) = (UntilStopped { lab, stop: &progress.stop }, Vec::new());
        while !progress.stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(op) = ops.get(n) else { break };
            let mut finding = finding::of(&mut lab, op);
            if all_subsets {
                finding.add_lattice(&mut lab);
            }
            if progress.stop.load(Ordering::Relaxed) {
                break; // it is not complete
            }
            found.push((n, finding));
            progress.ops.fetch_add(1, Ordering::Relaxed);
        }
        found
    };
    let mut found = Vec::new();
    let is_whole = thread::scope(|scope| {
        let threads: Vec<_> = labs.into_iter().map(|lab| scope.spawn(|| work(lab))).collect();
        meanwhile(&|| threads.iter().all(thread::ScopedJoinHandle::is_finished));
        threads.into_iter().all(|thread| thread.join().map(|some| found.extend(some)).is_ok())
    });
    if !is_whole {
        return Err(Failure::new(Step::PROBE, "examine", "a worker has panicked", Errno::EINVAL));
    }
    found.sort_by_key(|(n, _)| *n);
    let findings: Vec<Finding> = found.into_iter().map(|(_, finding)| finding).collect();
    let lacks = if has_root { capability::lacking() } else { Vec::new() };
    let is_partial = findings.len() < ops.len();
    Ok(Proof { judged: judged.clone(), findings, costs: Vec::new(), has_root, lacks, is_partial })
}

/// A laboratory that makes no more rooms when it has been stopped.
struct UntilStopped<'a> {
    lab: Lab,
    stop: &'a AtomicBool,
}

impl Experiments for UntilStopped<'_> {
    fn run(&mut self, op: &'static Op, setup: Setup) -> Outcome {
        match self.stop.load(Ordering::Relaxed) {
            true => Outcome::INCONCLUSIVE.note("stopped"),
            false => self.lab.run(op, setup),
        }
    }

    fn has_root(&self) -> bool {
        self.lab.has_root()
    }

    fn judged(&self) -> Named {
        self.lab.judged()
    }
}
