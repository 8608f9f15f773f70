//! One launch under ptrace(2): which system calls each role makes up to the agent's execve, and
//! what happens when one of them fails, or only claims to have succeeded.
//!
//! strace(1) counts per process, and the composing child and init are one process: it cannot say
//! "the second openat of init". Here a fault names role, call and occurrence. Instead of the call,
//! close(-1) is made, which every filter lets through and which does nothing; then the result is
//! put into the register.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use agent_init::nr;
use agent_shim::sys::End;

use crate::leak;
use crate::run::Output;
use crate::sys;

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// agent-shim itself.
    Parent,
    /// The process that clone3 made, up to the execve of agent-init.
    Child,
    /// agent-init.
    Init,
    /// The process that init forked, up to the execve of the agent.
    Agent,
}

/// What a call returns instead of being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An errno.
    Errno(u16),
    /// Success that did nothing.
    Nothing,
}

/// One call of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who.
    pub role: Role,
    /// Its number.
    pub number: u32,
    /// The how manieth of this role and number, from 0.
    pub occurrence: usize,
    /// What it gets.
    pub effect: Effect,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Fault { role, number, occurrence, effect } = self;
        write!(f, "{role:?} {}#{occurrence} {effect:?}", name(*number))
    }
}

/// The name of a system call.
pub fn name(number: u32) -> &'static str {
    nr::CALLS
        .iter()
        .find(|(name, _)| nr::number(name) == Some(number))
        .map_or("?", |(name, _)| name)
}

/// A launch that was traced.
#[derive(Debug)]
pub struct Traced {
    /// The calls, in the order in which they were seen; those of one role are in its own order.
    pub calls: Vec<(Role, u32)>,
    /// How the command ended and what it said.
    pub output: Output,
    /// Whether the agent's execve succeeded.
    pub started: bool,
    /// Whether the fault's call was made.
    pub hit: bool,
    /// Whether it took too long, and was killed.
    pub hung: bool,
}

struct Tracee {
    role: Role,
    entered: bool,
    // The result to put in at the exit of the call, and its first argument: the kernel keeps it.
    result: Option<(i64, u64)>,
}

/// Runs `command` to the end of all its processes but the started agent's, which is let go.
/// With `parent`, the calls of agent-shim itself are listed too.
#[allow(clippy::zombie_processes, reason = "wait_traced reaps it")]
pub fn trace(command: &mut Command, fault: Option<Fault>, parent: bool, limit: Duration) -> Traced {
    sys::traced(command);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ends: [OwnedFd; 2] =
        [child.stdout.take().unwrap().into(), child.stderr.take().unwrap().into()];
    let shim = child.id().cast_signed();
    let watch = Watch::over(shim, limit);
    let mut tracer = Tracer {
        fault,
        parent,
        calls: Vec::new(),
        counts: HashMap::new(),
        tracees: HashMap::new(),
        started: false,
        hit: false,
        end: None,
    };
    tracer.tracees.insert(shim, Tracee { role: Role::Parent, entered: false, result: None });
    while let Some((pid, status)) = sys::wait_traced() {
        watch.add(pid);
        tracer.on(pid, status, pid == shim);
    }
    let hung = watch.end();
    let pidfd = std::fs::File::open("/dev/null").unwrap(); // always ready: it has ended already
    let texts =
        crate::run::collect(&ends, std::os::fd::AsFd::as_fd(&pidfd), Duration::from_secs(2));
    let [stdout, stderr] =
        texts.unwrap_or(["held open by a process that is left".into(), String::new()]);
    let end = tracer.end.unwrap();
    let Tracer { calls, started, hit, .. } = tracer;
    Traced { calls, output: Output { end, stdout, stderr }, started, hit, hung }
}

struct Tracer {
    fault: Option<Fault>,
    parent: bool,
    calls: Vec<(Role, u32)>,
    counts: HashMap<(Role, u32), usize>,
    tracees: HashMap<i32, Tracee>,
    started: bool,
    hit: bool,
    end: Option<End>,
}

const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

impl Tracer {
    fn on(&mut self, pid: i32, status: i32, is_shim: bool) {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            self.tracees.remove(&pid);
            if is_shim {
                self.end = Some(if libc::WIFEXITED(status) {
                    End::Exited(libc::WEXITSTATUS(status))
                } else {
                    End::Signaled(libc::WTERMSIG(status))
                });
            }
            return;
        }
        // Only shim, child and agent's process are ever traced: one new one after another.
        let known = self.tracees.contains_key(&pid);
        if !known && leak::is_heir(pid) {
            let _gone = sys::ptrace(libc::PTRACE_DETACH, pid, 0);
            return;
        }
        if !known {
            let role = if self.tracees.values().any(|t| t.role >= Role::Child) {
                Role::Agent
            } else {
                Role::Child
            };
            self.tracees.insert(pid, Tracee { role, entered: false, result: None });
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let mut pass = 0;
        if signal == SYSCALL_STOP {
            self.on_call(pid);
        } else if event == libc::PTRACE_EVENT_EXEC {
            if self.on_exec(pid) {
                return;
            }
        } else if event == 0 && signal == libc::SIGTRAP && is_shim && self.calls.is_empty() {
            // The execve of the command itself.
            let _gone = sys::ptrace(libc::PTRACE_SETOPTIONS, pid, OPTIONS.into());
        } else if event == 0 && (known || signal != libc::SIGSTOP) {
            pass = signal;
        }
        let role = self.tracees.get(&pid).map_or(Role::Parent, |t| t.role);
        let request = if role == Role::Parent && !self.parent {
            libc::PTRACE_CONT
        } else {
            libc::PTRACE_SYSCALL
        };
        let _gone = sys::ptrace(request, pid, pass.into());
    }

    /// The child has become init; the agent's process has become the agent, and is let go.
    fn on_exec(&mut self, pid: i32) -> bool {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return false };
        match tracee.role {
            Role::Child => tracee.role = Role::Init,
            Role::Agent => {
                self.started = true;
                self.tracees.remove(&pid);
                let _gone = sys::ptrace(libc::PTRACE_DETACH, pid, 0);
                return true;
            }
            Role::Parent | Role::Init => {}
        }
        false
    }

    fn on_call(&mut self, pid: i32) {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return };
        let Ok(mut regs) = sys::registers(pid) else { return };
        if tracee.entered {
            tracee.entered = false;
            if let Some((result, argument)) = tracee.result.take() {
                regs.rax = result.cast_unsigned();
                regs.rdi = argument;
                let _gone = sys::set_registers(pid, &regs);
            }
            return;
        }
        tracee.entered = true;
        let number = u32::try_from(regs.orig_rax).unwrap_or(u32::MAX);
        let key = (tracee.role, number);
        self.calls.push(key);
        let seen = self.counts.entry(key).or_insert(0);
        let occurrence = *seen;
        *seen += 1;
        let Some(fault) = self.fault else { return };
        if (fault.role, fault.number, fault.occurrence) != (key.0, number, occurrence) {
            return;
        }
        self.hit = true;
        let result = match fault.effect {
            Effect::Errno(errno) => -i64::from(errno),
            Effect::Nothing => 0,
        };
        tracee.result = Some((result, regs.rdi));
        // close(2) releases the descriptor whatever it returns; in the room it is failed harder.
        if fault.role == Role::Parent && number == u32::try_from(libc::SYS_close).unwrap() {
            return;
        }
        regs.orig_rax = u64::try_from(libc::SYS_close).unwrap();
        regs.rdi = u64::MAX;
        let _gone = sys::set_registers(pid, &regs);
    }
}

/// Whether it is over, and who is watched.
type Watched = (bool, Vec<i32>);

/// Kills the tracees when the limit has passed.
struct Watch {
    state: Arc<(Mutex<Watched>, Condvar)>,
    thread: std::thread::JoinHandle<bool>,
}

impl Watch {
    fn over(pid: i32, limit: Duration) -> Watch {
        let state = Arc::new((Mutex::new((false, vec![pid])), Condvar::new()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let (lock, ended) = &*shared;
            let (state, timeout) =
                ended.wait_timeout_while(lock.lock().unwrap(), limit, |s| !s.0).unwrap();
            if timeout.timed_out() {
                state.1.iter().for_each(|pid| sys::kill(*pid, libc::SIGKILL));
            }
            timeout.timed_out()
        });
        Watch { state, thread }
    }

    fn add(&self, pid: i32) {
        let pids = &mut self.state.0.lock().unwrap().1;
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }

    /// Whether it had to kill.
    fn end(self) -> bool {
        self.state.0.lock().unwrap().0 = true;
        self.state.1.notify_one();
        self.thread.join().unwrap()
    }
}
