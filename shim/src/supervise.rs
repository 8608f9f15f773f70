//! The shim while the room lives: one poll(2), a table of what each event does. No threads.
//! signalfd(2), pidfd_open(2), poll(2).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_init::error::{Errno, Step};
use agent_init::reap::FORWARDED;

use crate::bounded;
use crate::child::Child;
use crate::error::{At, Failure};
use crate::lent::Lent;
use crate::limits::{Hit, Limits, Resource};
use crate::pump::{Allowance, Pump};
use crate::status::Stream;
use crate::sys;
use crate::tty::Outer;

/// What is done about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// The signal goes to the agent's process group.
    Forward,
    /// This signal does.
    Send(i32),
    /// What has not ended a grace from now is killed.
    Grace,
    /// The room is ended.
    Kill,
    /// The same, but init may end it first.
    KillSoon,
    /// The room's terminal gets the size of the caller's; without one, the signal is forwarded.
    Resize,
    /// The caller's terminal is as it was.
    Restore,
    /// The caller's terminal passes on every byte.
    Raw,
    /// The shim stops, for the caller's shell to see.
    Stop,
    /// The room's terminal hangs up.
    HangUp,
    /// The shim ends as if nobody had taken the signal.
    Die,
}

use Act::{Die, Forward, Grace, HangUp, Kill, KillSoon, Raw, Resize, Restore, Send, Stop};

/// By signal. One that the caller has ignored (nohup) is not taken, and stays ignored.
#[rustfmt::skip] // a row a line
const ON_SIGNAL: &[(i32, &[Act])] = &[
    (libc::SIGHUP,   &[Forward]),
    (libc::SIGINT,   &[Forward]),
    (libc::SIGQUIT,  &[Forward]),
    (libc::SIGTERM,  &[Forward, Send(libc::SIGCONT), Grace]), // a stopped agent would not see it
    (libc::SIGUSR1,  &[Forward]),
    (libc::SIGUSR2,  &[Forward]),
    (libc::SIGWINCH, &[Resize]),
    (libc::SIGTSTP,  &[Restore, Forward, Stop]), // Ctrl-Z: the agent stops, and so do we
    (libc::SIGCONT,  &[Raw, Forward, Resize]),
];

/// Whatever else would end the shim, while the caller's terminal is raw. Not SIGTTIN and SIGTTOU:
/// they stop what uses a terminal in the background.
const ON_ANY_OTHER: &[Act] = &[Restore, Kill, Die];
#[rustfmt::skip]
const FATAL: &[i32] = &[
    libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF, libc::SIGXCPU, libc::SIGIO, libc::SIGPWR,
    libc::SIGSTKFLT, libc::SIGSYS, libc::SIGTRAP, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE,
    libc::SIGILL, libc::SIGSEGV,
];

/// The wall time is over. SIGCONT: a stopped agent would not see the first.
const ON_TIMEOUT: &[Act] = &[Send(libc::SIGTERM), Send(libc::SIGCONT), Grace];
/// The grace is over. If the agent has ended, and only what it left has not, SIGTERM cuts that short,
/// and the agent's own end is known: init says what it was, if it lives so long.
const ON_GRACE_OVER: &[Act] = &[Send(libc::SIGTERM), KillSoon];
/// And that is, too.
const ON_SOON_OVER: &[Act] = &[Kill];
/// The agent has written more than it may.
const ON_OUTPUT: &[Act] = &[Kill];
/// The caller's terminal has gone, or who reads what the room's says.
const ON_HANG_UP: &[Act] = &[HangUp, Forward, Grace];

/// What init needs to end a room.
const SOON: Duration = Duration::from_millis(200);

/// How many buffers a pump may pass before other events are looked at.
const ROUNDS: usize = 16;
/// The same after the end of the room, when nobody is left to write: what a pipe holds at most
/// (/proc/sys/fs/pipe-max-size), in reads and writes of 4 KiB.
const LAST_ROUNDS: usize = 2 * (1 << 20) / 4096;

/// A signalfd of what is taken, made before the room: a signal during the launch is not lost.
pub fn signals(with_terminal: bool) -> Result<OwnedFd, Failure> {
    let mut taken = FORWARDED.to_vec();
    if with_terminal {
        taken.extend(FATAL);
        taken.extend(libc::SIGRTMIN()..=libc::SIGRTMAX());
    }
    taken.retain(|signal| !sys::is_ignored(*signal));
    sys::signal_fd(&taken).at(Step::WAIT, "signalfd", "")
}

/// Why the room ended, where it did not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `--timeout`.
    Timeout,
    /// `--output`.
    Output,
}

/// The streams of a room: the agent's standard input; its standard output and error, which share
/// an allowance.
#[derive(Debug)]
pub struct Streams {
    /// To the agent.
    pub input: Option<Input>,
    /// From the agent.
    pub output: Vec<Pump>,
    /// What it may say.
    pub allowance: Allowance,
}

/// The agent's standard input.
#[derive(Debug)]
pub enum Input {
    /// What it has not read stays the caller's.
    Lent(Lent),
    /// Whatever comes is read, and passed on.
    Pumped(Pump),
}

impl Input {
    /// What poll(2) is to wait for.
    fn polls(&self) -> [libc::pollfd; 2] {
        match self {
            Input::Lent(lent) => lent.polls(),
            Input::Pumped(pump) => [pump.poll(), NOTHING],
        }
    }

    /// After one of them. `false`: it has to be closed.
    fn pass(&mut self, is_room_ready: bool) -> bool {
        match self {
            Input::Lent(lent) => lent.pass(is_room_ready),
            Input::Pumped(pump) => {
                pump.pass(ROUNDS, &mut Allowance::ALL.clone());
                true
            }
        }
    }

    /// Whoever writes it has ended it.
    fn has_ended(&self) -> bool {
        matches!(self, Input::Pumped(pump) if pump.has_ended())
    }
}

/// No event.
const NOTHING: libc::pollfd = libc::pollfd { fd: -1, events: 0, revents: 0 };

/// A room that is looked after until it has ended.
#[derive(Debug)]
pub struct Supervisor<'a> {
    child: &'a mut Child,
    signals: OwnedFd,
    streams: Streams,
    outer: Option<Outer>,
    /// The room has a terminal, and somebody is at its other side.
    has_terminal: bool,
    stream: &'a mut Stream,
    grace: Duration,
    output: Option<u64>,
    timeout: Option<Instant>,
    grace_over: Option<Instant>,
    kill_at: Option<Instant>,
    cause: Option<Cause>,
}

/// The places in the list that is polled; the pumps of output follow.
const ROOM: usize = 0;
const SIGNALS: usize = 1;
const STREAM: usize = 2;
const INPUT: usize = 3;
const INPUT_OF_ROOM: usize = 4;
const OUTPUT: usize = 5;

impl<'a> Supervisor<'a> {
    /// `signals`: from [`signals`]. `outer`: the caller's terminal, if the room has one.
    pub fn new(
        child: &'a mut Child,
        signals: OwnedFd,
        streams: Streams,
        outer: Option<Outer>,
        limits: &Limits,
        stream: &'a mut Stream,
    ) -> Supervisor<'a> {
        let timeout = limits.duration(Resource::WallTime);
        Supervisor {
            has_terminal: child.terminal.is_some(),
            timeout: timeout.and_then(|time| begun(child).checked_add(time)),
            child,
            signals,
            output: streams.allowance.left,
            streams,
            outer,
            stream,
            grace: limits.grace(),
            grace_over: None,
            kill_at: None,
            cause: None,
        }
    }

    /// Until the room has ended, and all that it has said is passed on.
    pub fn run(mut self) -> Result<Option<Cause>, Failure> {
        self.act(&[Raw], 0)?;
        while !self.turn()? {}
        self.child.wait()?;
        self.drain()?;
        self.on_output()?;
        self.act(&[Restore], 0)?;
        match self.streams.output.iter().find_map(Pump::failure) {
            Some(errno) => Err(errno).at(Step::OUTPUT, "write", "what the agent has said"),
            None => Ok(self.cause),
        }
    }

    /// Waits once, and does what is to be done. `true`: the room has ended.
    fn turn(&mut self) -> Result<bool, Failure> {
        let polls = self.wait()?;
        let is_ready = |n: usize| polls.get(n).is_some_and(|p| p.revents != 0);
        if is_ready(SIGNALS) {
            let signal = sys::next_signal(self.signals.as_fd());
            self.on_signal(signal.at(Step::WAIT, "read", "signalfd")?)?;
        }
        if is_ready(STREAM) {
            self.stream.pass();
        }
        self.pass(&is_ready)?;
        self.on_time(Instant::now())?;
        Ok(is_ready(ROOM))
    }

    fn wait(&self) -> Result<Vec<libc::pollfd>, Failure> {
        let readable = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let input = self.streams.input.as_ref().map_or([NOTHING; 2], Input::polls);
        let mut polls = vec![
            readable(self.child.pidfd().as_raw_fd()),
            readable(self.signals.as_raw_fd()),
            self.stream.poll(),
        ];
        polls.extend(input.into_iter().chain(self.streams.output.iter().map(Pump::poll)));
        let deadline = [self.timeout, self.grace_over, self.kill_at].into_iter().flatten().min();
        sys::poll(&mut polls, sys::ms_until(deadline)).at(Step::WAIT, "poll", "the room")?;
        Ok(polls)
    }

    fn pass(&mut self, is_ready: &dyn Fn(usize) -> bool) -> Result<(), Failure> {
        let Streams { input, output, allowance } = &mut self.streams;
        if is_ready(INPUT) || is_ready(INPUT_OF_ROOM) {
            input.take_if(|input| !input.pass(is_ready(INPUT_OF_ROOM)));
        }
        for (pump, n) in output.iter_mut().zip(OUTPUT..) {
            if is_ready(n) {
                pump.pass(ROUNDS, allowance);
            }
        }
        self.on_output()?;
        if self.has_terminal && self.has_hung_up() {
            self.act(ON_HANG_UP, libc::SIGHUP)?;
        }
        Ok(())
    }

    fn on_output(&mut self) -> Result<(), Failure> {
        if !self.streams.allowance.is_over || self.cause == Some(Cause::Output) {
            return Ok(());
        }
        self.cause = Some(Cause::Output);
        self.hit(Resource::Output, self.output);
        self.act(ON_OUTPUT, 0)
    }

    /// Nobody types, at what was a terminal, or nobody reads.
    fn has_hung_up(&self) -> bool {
        let typed = self.streams.input.as_ref();
        self.outer.is_some() && typed.is_some_and(Input::has_ended)
            || self.streams.output.iter().all(Pump::is_done)
    }

    fn on_signal(&mut self, signal: i32) -> Result<(), Failure> {
        let row = ON_SIGNAL.iter().find(|(number, _)| *number == signal);
        self.act(row.map_or(ON_ANY_OTHER, |(_, acts)| acts), signal)
    }

    fn on_time(&mut self, now: Instant) -> Result<(), Failure> {
        let times = [self.timeout, self.grace_over, self.kill_at];
        if times.into_iter().flatten().all(|at| at > now) || self.has_ended()? {
            return Ok(());
        }
        if self.timeout.is_some_and(|at| at <= now) {
            let since = begun(self.child);
            let time = self.timeout.take().map(|at| at.saturating_duration_since(since));
            self.cause = self.cause.or(Some(Cause::Timeout));
            self.hit(Resource::WallTime, time.and_then(|t| u64::try_from(t.as_millis()).ok()));
            self.act(ON_TIMEOUT, 0)?;
        }
        if self.grace_over.is_some_and(|at| at <= now) {
            self.grace_over = None;
            self.act(ON_GRACE_OVER, 0)?;
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.act(ON_SOON_OVER, 0)?;
        }
        Ok(())
    }

    /// In time, though it is learnt late: this process may have been stopped meanwhile.
    fn has_ended(&self) -> Result<bool, Failure> {
        let ended = sys::wait_readable(&[self.child.pidfd()], 0);
        ended.at(Step::WAIT, "poll", "the room").map(|ended| ended.is_some())
    }

    fn hit(&mut self, resource: Resource, value: Option<u64>) {
        self.stream.limit(&Hit { resource, value, by: "agent-shim", times: 1, ended: true });
    }

    fn act(&mut self, acts: &[Act], signal: i32) -> Result<(), Failure> {
        for act in acts {
            match act {
                Forward => self.child.signal(signal),
                Send(other) => self.child.signal(*other),
                Grace => {
                    let at = Instant::now().checked_add(self.grace);
                    self.grace_over = self.grace_over.or(at);
                }
                Kill => self.child.kill(),
                KillSoon => self.kill_at = Some(Instant::now() + SOON),
                Resize => self.resize(signal),
                Restore => self.outer.iter_mut().for_each(Outer::restore),
                Raw => self.raw()?,
                Stop => sys::stop_self(),
                HangUp => self.hang_up(),
                Die => {
                    self.child.wait()?;
                    sys::die_by(signal)
                }
            }
        }
        Ok(())
    }

    fn raw(&mut self) -> Result<(), Failure> {
        match self.outer.as_mut().map(Outer::raw) {
            // It has gone: reading it says so. EIO: in the background of a shell that has ended.
            None | Some(Ok(()) | Err(EIO | Errno::ENOTTY)) => Ok(()),
            Some(other) => other.at(Step::TERMINAL, "tcsetattr", "the caller's terminal"),
        }
    }

    fn resize(&self, signal: i32) {
        let size = self.outer.as_ref().and_then(Outer::size);
        match (&self.child.terminal, size) {
            // The kernel tells the foreground process group.
            (Some(terminal), Some(size)) => drop(size.set(terminal.as_raw_fd())),
            _ if signal == libc::SIGWINCH => self.child.signal(signal),
            _ => {}
        }
    }

    fn hang_up(&mut self) {
        self.has_terminal = false;
        self.child.terminal = None;
        self.streams.input = None;
        self.streams.output.clear();
    }

    /// After the end of the room: what it has said and nobody has read yet. A signal that ends
    /// programs ends this too.
    fn drain(&mut self) -> Result<(), Failure> {
        self.streams.input = None; // what it has not read is the caller's again
        let Streams { output, allowance, .. } = &mut self.streams;
        let mut rounds = LAST_ROUNDS;
        while !output.iter().all(Pump::is_done) {
            for pump in output.iter_mut() {
                // What is there now is the last: who else holds the pipe is not waited for.
                rounds = rounds.saturating_sub(pump.pass(rounds, allowance));
                if pump.is_empty() || rounds == 0 {
                    pump.close();
                }
            }
            if output.iter().all(Pump::is_done) {
                break;
            }
            let signals = self.signals.as_fd();
            let fd = signals.as_raw_fd();
            let mut polls = vec![libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
            polls.extend(output.iter().map(Pump::poll));
            sys::poll(&mut polls, -1).at(Step::WAIT, "poll", "standard output")?;
            if polls.first().is_some_and(|p| p.revents != 0) {
                let signal = sys::next_signal(signals).at(Step::WAIT, "read", "signalfd")?;
                if ENDING.contains(&signal) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What the wall time counts from: the start of agent-shim; in a library, of the room.
fn begun(child: &Child) -> Instant {
    bounded::start().unwrap_or(child.since())
}

/// They end a shim that only waits for a reader.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// errno(3): of a terminal that has gone.
const EIO: Errno = Errno(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forwarded_signal_has_a_row() {
        let rows: Vec<_> = ON_SIGNAL.iter().map(|(signal, _)| *signal).collect();
        assert!(FORWARDED.iter().all(|signal| rows.contains(signal)));
        assert_eq!(rows.len(), FORWARDED.len());
        assert!(!FATAL.iter().any(|signal| rows.contains(signal)));
    }
}
