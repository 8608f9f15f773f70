//! `agent-shim run`: a program in a room; its end is ours.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use agent_init::error::{Errno, Step};
use agent_init::landlock::LEAST_ABI;
use agent_init::layers::Layers;

use crate::cli::Run;
use crate::error::{At, Failure};
use crate::limits::{Enforced, Hit, Resource};
use crate::mounts::Mounts;
use crate::plan::Plan;
use crate::report::text::one_line;
use crate::spec::{Spec, What};
use crate::status::Stream;
use crate::streams::{Caller, Sees};
use crate::supervise::{self, Cause, Streams, Supervisor};
use crate::sys::{self, End};
use crate::tty::{self, Outer};
use crate::{Child, Sandbox, bounded, confine, profile, tree};

/// A command line that is wrong, on the stream of records that it names, as far as that can be
/// written: the caller is told on stderr anyway.
pub fn wrong(status_fd: RawFd, line: &str) {
    if let Ok(mut stream) = Stream::to(status_fd) {
        stream.options(line);
        let _nobody_reads = stream.finish();
    }
}

/// Runs the agent to its end: its status, or 128 + the signal that ended it; 124 after a timeout.
pub fn run(options: Run) -> Result<u8, Failure> {
    let mut stream = options.status_fd.map_or(Ok(Stream::default()), Stream::to)?;
    let code = in_room(options, &mut stream);
    stream.finish()?;
    code
}

fn in_room(options: Run, stream: &mut Stream) -> Result<u8, Failure> {
    let limits = options.spec.limits.clone();
    let started = start(options, stream);
    let started = started.inspect_err(|failure| stream.setup(failure))?;
    let Some(started) = started else { return Ok(0) };
    let Started { mut child, signals, streams, outer, plan, quiet } = started;
    log::info!("agent started, every layer read back");
    confine::shim(&child.limits().group);
    let supervisor = Supervisor::new(&mut child, signals, streams, outer, &limits, stream);
    let cause = supervisor.run();
    warn(&plan.watch.planted(), quiet);
    let cut = cause.as_ref().ok().copied().flatten();
    let code = match cause {
        Ok(Some(cause)) => {
            let (resource, code) = told(cause);
            let most = resource.spelled(limits.most(resource));
            say(&format!("{}: {most} is the limit, and the room was ended", resource.name()));
            Ok(code)
        }
        Ok(None) => child.wait().map(code),
        Err(failure) => Err(failure),
    };
    if let Some(status) = child.status() {
        let hits = child.limits().hits(status.agent);
        hits.iter().for_each(|hit| tell_hit(hit, stream, quiet));
        let ended = hits.iter().find(|hit| hit.ended).map(|hit| hit.resource.name());
        let reason = cut.map(|cause| told(cause).0.name()).or(ended);
        let code = code.as_ref().map_or_else(Failure::code, |code| *code);
        stream.exit(&status, reason, code);
    }
    code
}

/// What the caller is told of a room that was ended: the limit, and the exit status.
fn told(cause: Cause) -> (Resource, u8) {
    match cause {
        Cause::Timeout => (Resource::WallTime, TIMED_OUT),
        Cause::Output => (Resource::Output, 128 + 9), // SIGKILL
    }
}

/// `--timeout` has ended the agent. DESIGN §8; the same as of timeout(1).
const TIMED_OUT: u8 = 124;

/// A room whose agent runs, and what it is connected with.
struct Started {
    child: Child,
    signals: OwnedFd,
    streams: Streams,
    outer: Option<Outer>,
    plan: Plan,
    quiet: bool,
}

/// `None`: a dry run.
fn start(options: Run, stream: &mut Stream) -> Result<Option<Started>, Failure> {
    let Run { mut spec, argv, .. } = options;
    contents(&options.files, &mut spec)?;
    let mut dropped = Vec::new();
    if spec.best_effort {
        (spec.layers, dropped) = best_effort(spec.layers);
    }
    let (layers, output) = (spec.layers, spec.limits.get(Resource::Output));
    let filter = match layers.contains(Layers::SECCOMP) {
        true => spec.filter.to_string(),
        false => "none".to_owned(),
    };
    log::info!("layers: {}, filter: {filter}", profile::spelled(layers));
    let mut argv = argv.into_iter();
    let mut sandbox = Sandbox::of(spec, argv.next().unwrap_or_default()).args(argv);
    for number in options.keep {
        let fd = sys::borrow(number).and_then(sys::dup_high);
        let fd = fd.at(Step::KEEP, "--keep-fd", number.to_string())?;
        is_apart(&fd, number, options.status_fd)?;
        sandbox = sandbox.keep_fd(fd, number);
    }
    let mut plan = sandbox.plan()?;
    plan.warnings.extend(options.status_fd.and_then(mixed));
    if options.dry_run {
        let filter = format!("filter: {filter}\n");
        return super::print(&(filter + &tree::text(&plan.nodes, &Mounts::read()))).map(|()| None);
    }
    warn(&plan.warnings, options.quiet);

    let with_terminal = options.tty.unwrap_or_else(|| tty::is_terminal(0) && tty::is_terminal(1));
    let signals = supervise::signals(with_terminal)?;
    let counted = output.asked && output.most.is_some();
    let (sandbox, caller) = Caller::connect(sandbox, with_terminal, counted)?;
    // Of what a person sees no disk gets full: there only what is asked for.
    let is_seen = with_terminal && !output.asked;
    let output = if is_seen { None } else { output.most };
    let mut child = sandbox.start(&plan)?;
    drop(sandbox); // and our copies of the agent's ends
    let enforced = as_counted(child.limits().enforced(), caller.sees(), is_seen);
    tell_enforced(&enforced, &mut dropped, options.quiet);
    stream.enforced(layers, &filter, &enforced, &dropped);
    stream.exec(child.pid());
    let (streams, outer) = caller.streams(&mut child, output)?;
    Ok(Some(Started { child, signals, streams, outer, plan, quiet: options.quiet }))
}

/// Bytes of a `--file` at most: what is larger does not fit a room's tmpfs anyway.
const MOST_OF_A_FILE: usize = 64 << 20;
/// Records in the file that takes what the agent says are not to be told from what it says.
fn mixed(status_fd: RawFd) -> Option<String> {
    let inode =
        |fd: RawFd| sys::file_id(fd).ok().filter(|id| id.device.is_none()).map(|id| id.inode);
    let records = inode(status_fd)?;
    let stream = [(1, "standard output"), (2, "standard error")];
    let (_, name) = stream.into_iter().find(|(fd, _)| inode(*fd) == Some(records))?;
    Some(format!("--json-status-fd {status_fd} is {name} too: the agent can write records there"))
}

/// What the agent keeps is neither the file of the records nor one that it has a pipe in the place
/// of, by whatever number. Devices that keep nothing are.
fn is_apart(fd: &OwnedFd, number: RawFd, status_fd: Option<RawFd>) -> Result<(), Failure> {
    let file = |fd: RawFd| {
        let id = sys::file_id(fd).ok()?;
        (!matches!(id.device, Some((1, 3 | 5 | 7 | 8 | 9)))).then_some(id.inode) // null, zero, full, random, urandom
    };
    let Some(kept) = file(fd.as_raw_fd()) else { return Ok(()) };
    let others = [
        (status_fd, "the file of --json-status-fd"),
        (Some(0), "standard input"),
        (Some(1), "standard output"),
        (Some(2), "standard error"),
    ];
    match others.iter().find(|(other, _)| other.and_then(file) == Some(kept)) {
        Some((_, name)) => {
            Err(Errno::EBUSY).at(Step::KEEP, "fstat", format!("--keep-fd {number}, {name}"))
        }
        None => Ok(()),
    }
}

/// Reads what `--file` names, in the time that the room has.
fn contents(files: &[(usize, RawFd)], spec: &mut Spec) -> Result<(), Failure> {
    let deadline = bounded::deadline(&spec.limits);
    for (n, fd) in files {
        let Some(mount) = spec.mounts.get_mut(*n) else { continue };
        let what = [format!("{fd} ").as_bytes(), mount.dest.as_os_str().as_bytes()].concat();
        let read =
            bounded::descriptor(*fd, MOST_OF_A_FILE, deadline).at(Step::ROOM, "--file", what)?;
        mount.what = What::File(read.into());
    }
    Ok(())
}

/// What limits the room, and what of its output that does not count: by default, what a terminal
/// shows (`is_seen`) and what goes to /dev/null. Asked for, all of it counts.
fn as_counted(enforced: &[Enforced], sees: Sees, is_seen: bool) -> Vec<Enforced> {
    let mut all = enforced.to_vec();
    let is_default = |row: &&mut Enforced| row.resource == Resource::Output && !row.asked;
    if let Some(row) = all.iter_mut().find(is_default) {
        (row.by, row.note) = match sees {
            _ if is_seen => (None, "what a terminal shows is not counted, unless asked for"),
            Sees::All => (row.by, row.note),
            Sees::One => (row.by, "what goes to /dev/null is not counted, unless asked for"),
            Sees::Nothing => (None, "what goes to /dev/null is not counted, unless asked for"),
        };
    }
    all
}

/// What limits the room; aloud, what was asked for and is less here than its words say.
fn tell_enforced(enforced: &[Enforced], dropped: &mut Vec<String>, quiet: bool) {
    for limit in enforced {
        let Enforced { resource, value, by, note, .. } = limit;
        let what = format!("--{} {}", resource.name(), resource.spelled(*value));
        let comma = if note.is_empty() { "" } else { ", " };
        let line = format!("{what}: {}{comma}{note}", by.unwrap_or("not enforced"));
        log::info!("{line}");
        if limit.is_less() {
            warn(std::slice::from_ref(&line), quiet);
        }
        if by.is_none() && limit.asked {
            dropped.push(line);
        }
    }
}

/// That a limit was met, by the kernel's count. A slower pace is no news.
fn tell_hit(hit: &Hit, stream: &mut Stream, quiet: bool) {
    stream.limit(hit);
    let (name, value) = (hit.resource.name(), hit.resource.spelled(hit.value));
    let what = if hit.ended { "the agent was ended" } else { "it was met" };
    let line = format!("{name}: {value} is the limit, and {what} ({})", hit.by);
    match hit.resource {
        Resource::Cpus => log::info!("{line}"),
        _ if quiet && !hit.ended => {}
        _ => say(&line),
    }
}

/// What a user should know, unless the user does not want to.
fn warn(lines: &[String], quiet: bool) {
    lines.iter().filter(|_| !quiet).for_each(|line| say(&format!("warning: {line}")));
}

/// One line on stderr.
fn say(what: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "agent-shim: {}", one_line(what));
}

/// The status of init is the agent's. If init itself was ended from outside, so was the agent.
fn code(end: End) -> u8 {
    match end {
        End::Exited(code) => u8::try_from(code).unwrap_or(crate::error::HARNESS),
        End::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(crate::error::HARNESS),
    }
}

/// Says on stderr what the kernel's Landlock lacks, and leaves it out if there is none at all.
fn best_effort(layers: Layers) -> (Layers, Vec<String>) {
    if !layers.contains(Layers::LANDLOCK) {
        return (layers, Vec::new());
    }
    let (lost, left) = match agent_init::sys::landlock_abi() {
        Ok(abi) if abi >= LEAST_ABI => return (layers, Vec::new()),
        Ok(abi) => (format!("Landlock ABI {abi}, not {LEAST_ABI}: {}", lacks(abi)), layers),
        Err(Errno(_)) => ("no Landlock in this kernel".to_owned(), layers - Layers::LANDLOCK),
    };
    say(&format!("best effort, weaker than asked for: {lost}"));
    (left, vec![lost])
}

/// What an older ABI cannot restrict.
fn lacks(abi: usize) -> String {
    #[rustfmt::skip] // a row a line
    const SINCE: &[(usize, &str)] = &[
        (2, "links across directories are refused"), // REFER cannot be granted
        (3, "truncate is open"),
        (4, "without the net layer, TCP is open"),
        (5, "device ioctls are open"),
        (6, "signals and abstract sockets are not scoped"),
    ];
    let lost: Vec<_> = SINCE.iter().filter(|(since, _)| abi < *since).map(|(_, l)| *l).collect();
    lost.join(", ")
}
