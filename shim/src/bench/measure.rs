//! Times, each taken in a process of its own: a filter stays for life.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsRawFd;
use std::time::Instant;

use agent_init::error::{Errno, Step};
use agent_init::nr;

use super::filter::{CALLS, Subject, Timed, lets_through};
use crate::error::{At, Failure};
use crate::policy::insn::Program;
use crate::sys;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Installations of each subject, in turn.
    pub installs: usize,
    /// Processes of each subject that make calls, in turn.
    pub loops: usize,
    /// Calls in each of them, and as many before to warm up.
    pub calls: u32,
}

impl Rounds {
    /// For a table to be quoted.
    pub const FULL: Rounds = Rounds { installs: 1000, loops: 100, calls: 10_000 };
    /// For tests: the same, rougher.
    pub const QUICK: Rounds = Rounds { installs: 200, loops: 30, calls: 10_000 };
}

/// What a process needs after its filters are on, to say how long it took.
const NEEDED: [&str; 2] = ["write", "exit_group"];

fn can_report(subject: &Subject) -> bool {
    NEEDED.iter().all(|name| lets_through(subject, name, [1, 0, 16]))
}

/// Nanoseconds to install, of each subject: the median.
///
/// What is timed is the call alone, or the calls of a subject with several programs, each as the first of a fresh
/// process: a process that has filters already pays for those too. As in a launch, two page faults of the code that
/// calls are part of it, some 2 us: each installation pays them, and they make the ratio to the first row smaller.
///
/// All subjects have their turn in each round, in another order each time, as the kernel frees the program of the one
/// before while the next is installed. The median leaves out where the machine did something else meanwhile, which a
/// mean would not.
pub fn installs(subjects: &[Subject], rounds: Rounds) -> Result<Vec<Option<f64>>, Failure> {
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); subjects.len()];
    for round in 0..=rounds.installs {
        for n in order(round, subjects.len()) {
            let (Some(subject), Some(times)) = (subjects.get(n), times.get_mut(n)) else {
                continue;
            };
            if !can_report(subject) {
                continue;
            }
            let time = in_child(&subject.name, || install(&subject.programs))?;
            if round > 0 {
                times.extend(time); // the first round warms up
            }
        }
    }
    Ok(times.iter_mut().map(|times| median(times)).collect())
}

/// All below `count`, in an order of its own for each round.
fn order(round: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|n| {
        let mut hasher = DefaultHasher::new(); // the same in every run
        (round, n).hash(&mut hasher);
        hasher.finish()
    });
    order
}

fn median(times: &mut [u64]) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| *time as f64)
}

/// Nanoseconds of each of [`CALLS`] under each subject: the best loop.
pub fn calls(subjects: &[Subject], rounds: Rounds) -> Result<Vec<[Option<f64>; 3]>, Failure> {
    let mut best = vec![[None; 3]; subjects.len()];
    for _ in 0..rounds.loops {
        for (subject, best) in subjects.iter().zip(&mut best) {
            for (call, best) in CALLS.iter().zip(best) {
                if !can_report(subject) || !lets_through(subject, call.name, call.args) {
                    continue;
                }
                let time = in_child(&subject.name, || repeated(subject, call, rounds.calls))?;
                let each = time.map(|time| time as f64 / f64::from(rounds.calls));
                *best = match (*best, each) {
                    (Some(a), Some(b)) => Some(f64::min(a, b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    Ok(best)
}

/// What a process does that installs filters and ends: nanoseconds.
fn install(programs: &[Program]) -> Result<u64, Errno> {
    agent_init::sys::set_no_new_privs()?;
    let begun = Instant::now();
    for program in programs {
        agent_init::sys::set_filter(program.insns())?;
    }
    Ok(nanoseconds(begun))
}

/// The same, of calls.
fn repeated(subject: &Subject, call: &Timed, count: u32) -> Result<u64, Errno> {
    let number = nr::number(call.name).ok_or(Errno::ENOSYS)?;
    install(&subject.programs)?;
    sys::repeat(number, call.args, count);
    let begun = Instant::now();
    sys::repeat(number, call.args, count);
    Ok(nanoseconds(begun))
}

fn nanoseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What `work` says, in a child of this process; it makes system calls and nothing else. `None`: the child was ended.
fn in_child(name: &str, work: impl Fn() -> Result<u64, Errno>) -> Result<Option<u64>, Failure> {
    let (output, input) = sys::pipe().at(Step::SECCOMP, "pipe2", name)?;
    let Some(pid) = sys::fork_into(0).at(Step::SECCOMP, "clone", name)? else {
        let _no_core = agent_init::sys::set_dumpable(false);
        let (errno, time) = work().map_or_else(|errno| (errno.0.into(), 0), |time| (0u64, time));
        let mut report = [0; 16];
        report[..8].copy_from_slice(&errno.to_ne_bytes());
        report[8..].copy_from_slice(&time.to_ne_bytes());
        let _seen_by_its_absence = sys::write_all(input.as_raw_fd(), &report);
        sys::exit_now(0);
    };
    drop(input);
    let mut report = [0; 16];
    let got = sys::read(output.as_raw_fd(), &mut report).at(Step::SECCOMP, "read", name);
    sys::reap(pid).at(Step::SECCOMP, "waitpid", name)?;
    let [errno, time] = report.as_chunks::<8>().0 else { return Ok(None) };
    match (got?, u64::from_ne_bytes(*errno)) {
        (16, 0) => Ok(Some(u64::from_ne_bytes(*time))),
        (16, errno) => {
            let errno = Errno(u16::try_from(errno).unwrap_or(0));
            Err(Failure::new(Step::SECCOMP, "seccomp", name, errno))
        }
        _ => Ok(None),
    }
}
