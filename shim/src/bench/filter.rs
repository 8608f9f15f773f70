//! What a seccomp filter costs: to install, and per call, ours beside others. seccomp(2).
//!
//! Installing costs the length of the program, which is checked and compiled, and one walk for each number that the
//! kernel knows, which fills its bitmap of calls that are allowed whatever their arguments: kernel/seccomp.c,
//! seccomp_cache_prepare. Such a call then never runs the program; a call with a rule for its arguments always does.

use agent_init::bpf::SockFilter;
use agent_init::nr;

use super::measure::{self, Rounds};
use super::shapes;
use crate::error::Failure;
use crate::policy::FILTERS;
use crate::policy::insn::{Op, Program};
use crate::policy::run::{Call, path, result};
use crate::policy::verdict::Action;

/// What is measured: filters that are installed one after the other; most are one.
#[derive(Debug)]
pub struct Subject {
    /// A word.
    pub name: String,
    /// What made it, if it is none of ours.
    pub by: Option<&'static str>,
    /// In the order in which they are installed.
    pub programs: Vec<Program>,
}

/// The first row, with which all others are compared.
pub const ONE: &str = "one";

/// A call whose time is taken.
#[derive(Debug)]
pub struct Timed {
    /// Its name.
    pub name: &'static str,
    /// Its first arguments, numbers that the kernel answers at once: no descriptor -1, a question of the caller.
    pub args: [u64; 3],
}

const FIONREAD: u64 = 0x541b; // asm-generic/ioctls.h
const QUERY: u64 = 0xffff_ffff; // personality(2)

/// The first is decided by its number, the others by their arguments too.
pub const CALLS: [Timed; 3] = [
    Timed { name: "getppid", args: [0; 3] },
    Timed { name: "ioctl", args: [u64::MAX, FIONREAD, 0] },
    Timed { name: "personality", args: [QUERY, 0, 0] },
];

/// A row of the table. `None`: it cannot be measured, as the filter refuses what that takes.
#[derive(Debug)]
pub struct Row {
    /// As [`Subject::name`].
    pub name: String,
    /// As [`Subject::by`].
    pub by: Option<&'static str>,
    /// Of each of its programs.
    pub instructions: Vec<usize>,
    /// Nanoseconds to install all of them: the median.
    pub install: Option<f64>,
    /// Instructions walked for a number that is decided without a look at arguments: mean and most; of all its
    /// programs together. `None`: there is no such number.
    pub walk: Option<(f64, usize)>,
    /// Nanoseconds of each of [`CALLS`], the best loop.
    pub calls: [Option<f64>; 3],
}

/// One target: what is compared, the most that it may be, and what it is.
#[derive(Debug)]
pub struct Target {
    /// In words.
    pub what: String,
    /// The target.
    pub most: f64,
    /// `None`: there is nothing to compare with.
    pub measured: Option<f64>,
}

impl Target {
    /// Whether it is met, if it was measured.
    pub fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| measured <= self.most)
    }
}

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    /// How often.
    pub rounds: Rounds,
    /// In the order of the subjects.
    pub rows: Vec<Row>,
}

/// A program of one instruction, our filters, and the agent's policy, by number, in two other shapes.
pub fn ours() -> Result<Vec<Subject>, Failure> {
    let allow =
        SockFilter { code: agent_init::bpf::RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let mut subjects = vec![subject(ONE, &[allow])?];
    for filter in FILTERS {
        subjects.push(subject(filter.name, filter.program)?);
    }
    subjects.push(subject("ranges", &shapes::ranges(FILTERS[0].policy))?);
    subjects.push(subject("list", &shapes::list(FILTERS[0].policy))?);
    Ok(subjects)
}

fn subject(name: &str, insns: &[SockFilter]) -> Result<Subject, Failure> {
    use agent_init::error::{Errno, Step};
    let program = Program::check(insns)
        .map_err(|_| Failure::new(Step::POLICY, "check", name, Errno::ENOEXEC))?;
    Ok(Subject { name: name.to_owned(), by: None, programs: vec![program] })
}

/// Measures all of them, in turn, so that all meet the same weather.
pub fn run(subjects: &[Subject], rounds: Rounds) -> Result<Report, Failure> {
    let installs = measure::installs(subjects, rounds)?;
    let calls = measure::calls(subjects, rounds)?;
    let rows = subjects.iter().zip(installs).zip(calls).map(|((subject, install), calls)| Row {
        name: subject.name.clone(),
        by: subject.by,
        instructions: subject.programs.iter().map(|p| p.insns().len()).collect(),
        install,
        walk: walk(&subject.programs),
        calls,
    });
    Ok(Report { rounds, rows: rows.collect() })
}

/// Whether all filters let this call through.
pub fn lets_through(subject: &Subject, name: &str, args: [u64; 3]) -> bool {
    let Some(number) = nr::number(name) else { return false };
    let mut call = Call::new(nr::AUDIT_ARCH, number);
    for (n, arg) in args.into_iter().enumerate() {
        let [low, high] = [arg & 0xffff_ffff, arg >> 32].map(|w| u32::try_from(w).unwrap_or(0));
        call = call.with(Call::argument(n), low).with(Call::argument(n) + 1, high);
    }
    subject.programs.iter().all(|program| Action::of(result(program, &call)).runs())
}

/// Mean and most of the instructions up to the return, of numbers for which no program loads an argument.
fn walk(programs: &[Program]) -> Option<(f64, usize)> {
    let mut walks = Vec::new();
    for &(_, number) in nr::CALLS {
        let paths = programs.iter().map(|p| (p, path(p, &Call::new(nr::AUDIT_ARCH, number)).1));
        let paths: Vec<_> = paths.collect();
        let looks = |program: &Program, pc: usize| matches!(program.ops().get(pc), Some(Op::Load(word)) if *word >= Call::argument(0));
        if !paths.iter().any(|(program, path)| path.iter().any(|pc| looks(program, *pc))) {
            walks.push(paths.iter().map(|(_, path)| path.len()).sum::<usize>());
        }
    }
    let most = walks.iter().max()?;
    Some((walks.iter().sum::<usize>() as f64 / walks.len() as f64, *most))
}

impl Report {
    /// The row of a name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How much more than [`ONE`] something of a row is.
    pub fn ratio(&self, row: &Row, of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        Some(of(row)? / of(self.row(ONE)?)?)
    }

    /// What the agent's filter should be, beside the peers of [`super::peers`].
    pub fn targets(&self) -> Vec<Target> {
        let ours = FILTERS[0].name;
        let install = |other: &str| Some(self.row(ours)?.install? / self.row(other)?.install?);
        let hot = self.row(ours).and_then(|row| self.ratio(row, |row| row.calls[0]));
        let walk = self.row(ours).and_then(|row| row.walk);
        let target = |what: &str, most, measured| Target { what: what.into(), most, measured };
        vec![
            target("install, of the one-instruction filter's", 4.0, install(ONE)),
            target("install, of libseccomp's binary tree", 0.5, install("libseccomp-tree")),
            target("install, of libseccomp's default", 0.2, install("libseccomp")),
            target(
                "walk of a number without a rule, at most",
                12.0,
                walk.map(|(_, most)| most as f64),
            ),
            target("getppid, of the one-instruction filter's", 1.02, hot),
        ]
    }
}
