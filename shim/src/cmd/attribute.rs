//! `agent-shim attribute`: who blocked what, each with its proof.

use std::io::{IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use agent_init::error::Step;

use super::output::Output;
use super::{has_stdout, print, tell_of_control};
use crate::cli::Attribute;
use crate::cost::{self, Rounds};
use crate::error::{At, Failure};
use crate::fixture;
use crate::lab::Lab;
use crate::proof::baseline::Baseline;
use crate::proof::finding::State;
use crate::proof::judged::Judged;
use crate::proof::{Progress, Proof, examine};
use crate::report::{page, proof_json, proof_text};
use crate::sys;

/// Exit status: something that must work does not, or is weaker than the baseline.
const WORSE: u8 = 1;
/// Evidence disagrees.
const IN_DOUBT: u8 = 2;
/// SIGINT has stopped it.
const STOPPED: u8 = 128 + 2;

/// 0: every operation has a verdict and the evidence agrees; else one of the above.
pub fn run(options: &Attribute) -> Result<u8, Failure> {
    has_stdout()?; // before the run, not after it
    let [json, html] = Output::open([options.json.as_deref(), options.html.as_deref()])?;
    let read = |path| Baseline::read(path, &options.ops);
    let baseline = options.baseline.as_deref().map(read).transpose()?;
    let mut proof = observe(options)?;
    let costs = html.as_ref().map_or(Ok(Vec::new()), |_| costs(&proof));
    let measured = costs.map(|costs| proof.costs = costs);
    let json = json.map_or(Ok(()), |json| json.write(&proof_json::proof(&proof)));
    let html = html.map_or(Ok(()), |html| html.write(&page::proof(&proof)));
    let weaker = baseline.as_ref().map_or(Vec::new(), |baseline| baseline.weaker(&proof));
    let notes = baseline.as_ref().map_or(Vec::new(), |baseline| baseline.notes(&proof));
    // What was found out is not lost with the first of them that fails.
    let printed = print(&text(options, &proof, &weaker, &notes));
    measured.and(json).and(html).and(printed)?;
    Ok(code(&proof, &weaker))
}

fn code(proof: &Proof, weaker: &[String]) -> u8 {
    let any = |state| proof.findings.iter().any(|finding| finding.state == state);
    match () {
        () if proof.is_partial => STOPPED,
        () if !weaker.is_empty() || any(State::Broken) => WORSE,
        () if any(State::Inconclusive) => IN_DOUBT,
        () => 0,
    }
}

fn text(options: &Attribute, proof: &Proof, weaker: &[String], notes: &[String]) -> String {
    let is_asked = |id| options.explain.iter().any(|op| op.id == id);
    let explained = proof.findings.iter().filter(|finding| is_asked(finding.op.id));
    let mut text: String = explained.map(proof_text::explain).collect();
    if proof.findings.iter().any(|finding| !is_asked(finding.op.id)) {
        text.push_str(&proof_text::proof(proof, super::is_colourful()));
    }
    if options.baseline.is_some() {
        text.push('\n');
        notes.iter().for_each(|line| text.push_str(&proof_text::lines(line, "")));
        text.push_str(&format!("weaker than the baseline: {}\n", weaker.len()));
        weaker.iter().for_each(|line| text.push_str(&proof_text::lines(line, "  ")));
    }
    text
}

/// The experiments, and how far they are on standard error, if that is a terminal.
fn observe(options: &Attribute) -> Result<Proof, Failure> {
    fixture::make_variable();
    let judged = Judged::of(&options.spec);
    Lab::open(|_| ())?.judging(judged.clone()).makes(&options.ops)?;
    tell_of_control();
    static PROGRESS: Progress = Progress::new();
    let signals = sys::signal_fd(&[libc::SIGINT, libc::SIGTERM]);
    let signals = signals.at(Step::WAIT, "signalfd", "SIGINT, SIGTERM")?;
    let (begun, all, shown) = (Instant::now(), options.ops.len(), stderr().is_terminal());
    let workers = available_parallelism().map_or(1, std::num::NonZero::get);
    let proof = examine(&options.ops, &judged, options.lattice, workers, &PROGRESS, |is_over| {
        while !is_over() {
            if let Ok(Some(_)) = sys::wait_readable(&[signals.as_fd()], SHOWN_EVERY_MS) {
                PROGRESS.stop.store(true, Relaxed);
                return;
            }
            if shown {
                let line = far(begun.elapsed(), all);
                let _nobody_reads = write!(stderr(), "\r\x1b[K{line}");
            }
        }
    });
    if shown {
        let _nobody_reads = write!(stderr(), "\r\x1b[K");
    }
    return proof;

    fn far(since: Duration, all: usize) -> String {
        let (rooms, done) = (PROGRESS.rooms.load(Relaxed), PROGRESS.ops.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let per_second = rooms as f64 / since.as_secs_f64();
        let left = match u32::try_from(done) {
            Ok(done) if done > 0 => {
                let left = u32::try_from(all).unwrap_or(done).saturating_sub(done);
                format!(", {} s left", (since / done * left).as_secs())
            }
            _ => String::new(),
        };
        format!("{rooms} rooms, {per_second:.0}/s, {done} of {all} operations{left}")
    }
}

/// Workers poll nothing: this is how late their end is noticed.
const SHOWN_EVERY_MS: i32 = 50;

/// What the profiles cost, to stand beside what they protect; not of a run that was stopped.
fn costs(proof: &Proof) -> Result<Vec<cost::Cost>, Failure> {
    if proof.is_partial {
        return Ok(Vec::new());
    }
    cost::measure(&Lab::open(|_| ())?, Rounds::QUICK)
}
