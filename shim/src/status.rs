//! What `--json-status-fd` says: one JSON object a line. Members and records may be added within a
//! version; readers ignore what they do not know. The first record names schema and version.
//!
//! ```text
//! {"record":"setup",      a step failed, and nothing was started; the last record
//!  "schema":"agent-shim/status","version":1,
//!  "step":"exec","call":"execve","object":"nano, in PATH",
//!                                          options, parse: what is wrong with the command line
//!  "errno":2,"name":"ENOENT",              0 and null: a lock was not in force when asked back
//!  "hint":"…",                             null where nothing is known
//!  "status":127}                           of agent-shim
//!
//! {"record":"enforced",   what is in force, before the agent is told of
//!  "schema":"agent-shim/status","version":1,
//!  "layers":[{"name":"seccomp","read_back":"Seccomp: 2, a marked call is refused"},…],
//!  "filter":"default +ptrace no-wx",       as `policy dump` takes it; none: without the layer seccomp
//!  "limits":[{"name":"pids","value":256,    null: unlimited
//!             "asked":false,               by the caller, or a default
//!             "by":"RLIMIT_NPROC",          null: nothing does it on this host
//!             "note":"…"}],                null, or what a user should know
//!  "dropped":["…"]}                        what --best-effort went without
//!
//! {"record":"exec","pid":4711}             the agent was started; the pid is that of the room's init
//!
//! {"record":"limit","name":"output","value":16777216,
//!  "times":1,                              how often
//!  "ended":true}                           it ended the agent
//!
//! {"record":"exit",       the last record
//!  "code":0,                               of the agent; null if a signal ended it
//!  "signal":null,                          the number
//!  "reason":"exited",                      exited, signal, timeout, or the name of the limit that ended it
//!  "left":0,                               processes that outlived the agent, and were ended
//!  "status":0,                             of agent-shim
//!  "usage":{"wall_seconds":0.012,"user_seconds":0.001,"system_seconds":0.004,
//!           "peak_memory_bytes":5242880}}   of the process that had most at once, init's share of
//!                                           agent-shim among them; of the room where a cgroup counts
//! ```
//!
//! A reader that goes away, or does not read, does not keep the room from going on: a record that
//! finds no place waits until the end, and `LAST_WORDS` longer.

use std::os::fd::{AsFd, RawFd};
use std::time::{Duration, Instant};

use agent_init::error::{Errno, READ_BACK, Step};
use agent_init::layers::{LAYERS, Layers};
use agent_probe::errno_name;

use crate::child;
use crate::error::{At, Failure, HARNESS};
use crate::limits::{Enforced, Hit};
use crate::pump::{self, Side};
use crate::report::json::{Json, boolean, number, object, text, text_or_null};
use crate::sys::{self, End};

/// How long a reader may take for what is left at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What init asks back of each layer before the agent runs: anything else ends the launch.
#[rustfmt::skip] // a row a line
const READ_BACKS: &[(Layers, &str)] = &[
    (Layers::USERNS,   "/proc/self/ns/user is not the host's"),
    (Layers::MNT,      "/proc/self/ns/mnt is not the host's, / is a tmpfs"),
    (Layers::PID,      "/proc/self/ns/pid is not the host's, init is PID 1"),
    (Layers::NET,      "/proc/self/ns/net is not the host's"),
    (Layers::IPC,      "/proc/self/ns/ipc is not the host's"),
    (Layers::UTS,      "/proc/self/ns/uts is not the host's, the host name is the room's"),
    (Layers::CGROUP,   "/proc/self/ns/cgroup is not the host's"),
    (Layers::CAPS,     "CapInh, CapPrm, CapEff, CapBnd, CapAmb: 0, securebits locked"),
    (Layers::NNP,      "NoNewPrivs: 1"),
    (Layers::LANDLOCK, "a path that no grant names cannot be opened"),
    (Layers::SECCOMP,  "Seccomp: 2, a refused call is refused"),
];

/// The stream of records; without a descriptor, nothing.
#[derive(Debug, Default)]
pub struct Stream {
    side: Option<Side>,
    waiting: Vec<u8>,
    is_begun: bool,
}

impl Stream {
    /// To a descriptor of the caller's, which must be open for writing.
    pub fn to(fd: RawFd) -> Result<Stream, Failure> {
        let wrong = |errno| Failure::new(Step::OUTPUT, "--json-status-fd", fd.to_string(), errno);
        let flags = sys::open_flags(fd).map_err(wrong)?;
        if flags & libc::O_PATH != 0 || flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err(wrong(Errno::EBADF));
        }
        let own = sys::borrow(fd).and_then(|fd| sys::dup_high(fd.as_fd())).map_err(wrong)?;
        let side = Some(Side::of_caller(own, "--json-status-fd")?);
        Ok(Stream { side, ..Stream::default() })
    }

    fn add<const N: usize>(&mut self, record: &str, members: [(&str, Json); N]) {
        if self.side.is_none() {
            return;
        }
        let head = match std::mem::replace(&mut self.is_begun, true) {
            true => object([("record", text(record))]),
            false => object([
                ("record", text(record)),
                ("schema", text("agent-shim/status")),
                ("version", Json("1".into())),
            ]),
        };
        let rest = object(members).0;
        // `{a}` and `{b}` make `{a,b}`.
        self.waiting.extend(head.0.trim_end_matches('}').bytes());
        self.waiting.push(b',');
        self.waiting.extend(rest.trim_start_matches('{').bytes());
        self.waiting.push(b'\n');
        self.pass();
    }

    /// A step failed.
    pub fn setup(&mut self, failure: &Failure) {
        let record = &failure.0;
        let is_read_back = record.errno.0 == 0 && record.call.bytes() == READ_BACK.as_bytes();
        let name = errno_name(i32::from(record.errno.0));
        let hint = Some(failure.hint()).filter(|hint| !hint.is_empty());
        let words = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let call = words(record.call.bytes());
        let name = (!is_read_back).then_some(&*name);
        self.failed(
            (record.step, &call, &words(record.object.bytes())),
            (record.errno, name, hint),
            failure.code(),
        );
    }

    /// The command line is wrong: `line` says what of it.
    pub fn options(&mut self, line: &str) {
        let errno = (Errno::EINVAL, Some("EINVAL"), None);
        self.failed((Step::OPTIONS, "parse", line), errno, HARNESS);
    }

    /// Step, call and object; errno, its name and a hint; the exit status.
    fn failed(
        &mut self,
        (step, call, object): (Step, &str, &str),
        (errno, name, hint): (Errno, Option<&str>, Option<&str>),
        status: u8,
    ) {
        self.add(
            "setup",
            [
                ("step", text(step.name())),
                ("call", text(call)),
                ("object", text(object)),
                ("errno", Json(errno.0.to_string())),
                ("name", text_or_null(name)),
                ("hint", text_or_null(hint)),
                ("status", Json(status.to_string())),
            ],
        );
    }

    /// Every layer was read back; of limits, what is in force.
    pub fn enforced(
        &mut self,
        layers: Layers,
        filter: &str,
        limits: &[Enforced],
        dropped: &[String],
    ) {
        let named = |flag| LAYERS.iter().find(|l| l.flag == flag).map_or("?", |l| l.name);
        let rows = READ_BACKS.iter().filter(|(flag, _)| layers.contains(*flag));
        let layers = rows.map(|(flag, read_back)| {
            object([("name", text(named(*flag))), ("read_back", text(read_back))])
        });
        let limits = limits.iter().map(|limit| {
            object([
                ("name", text(limit.resource.name())),
                ("value", whole_or_null(limit.value)),
                ("asked", boolean(limit.asked)),
                ("by", text_or_null(limit.by)),
                ("note", text_or_null(Some(limit.note).filter(|n| !n.is_empty()))),
            ])
        });
        let dropped = dropped.iter().map(|what| text(what));
        self.add(
            "enforced",
            [
                ("layers", list(layers)),
                ("filter", text(filter)),
                ("limits", list(limits)),
                ("dropped", list(dropped)),
            ],
        );
    }

    /// The agent was started.
    pub fn exec(&mut self, pid: i32) {
        self.add("exec", [("pid", Json(pid.to_string()))]);
    }

    /// A limit was hit.
    pub fn limit(&mut self, hit: &Hit) {
        self.add(
            "limit",
            [
                ("name", text(hit.resource.name())),
                ("value", whole_or_null(hit.value)),
                ("times", Json(hit.times.to_string())),
                ("ended", boolean(hit.ended)),
            ],
        );
    }

    /// The room has ended, by `reason` where it did not end by itself.
    pub fn exit(&mut self, how: &child::Status, reason: Option<&str>, status: u8) {
        let (code, signal, word) = match how.agent {
            End::Exited(code) => (Some(code), None, "exited"),
            End::Signaled(signal) => (None, Some(signal), "signal"),
        };
        let whole = |n: Option<i32>| Json(n.map_or("null".into(), |n| n.to_string()));
        let usage = object([
            ("wall_seconds", number(how.wall.as_secs_f64(), 6)),
            ("user_seconds", number(how.usage.user.as_secs_f64(), 6)),
            ("system_seconds", number(how.usage.system.as_secs_f64(), 6)),
            ("peak_memory_bytes", Json(how.usage.peak_memory.to_string())),
        ]);
        self.add(
            "exit",
            [
                ("code", whole(code)),
                ("signal", whole(signal)),
                ("reason", text(reason.unwrap_or(word))),
                ("left", Json(how.left.to_string())),
                ("status", Json(status.to_string())),
                ("usage", usage),
            ],
        );
    }

    /// What poll(2) is to wait for: place for what waits.
    pub fn poll(&self) -> libc::pollfd {
        let side = self.side.as_ref().filter(|_| !self.waiting.is_empty());
        let fd = side.map_or(-1, Side::number);
        libc::pollfd { fd, events: libc::POLLOUT, revents: 0 }
    }

    /// Writes what fits. A reader that has gone, or a full disk, ends the stream and nothing else.
    pub fn pass(&mut self) {
        let Some(side) = &self.side else { return };
        while !self.waiting.is_empty() {
            match side.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count.min(self.waiting.len()))),
                Err(Errno::EAGAIN) => return,
                Err(errno) => {
                    if errno != pump::EPIPE {
                        log::info!("the status stream ends: errno {}", errno.0);
                    }
                    (self.side, self.waiting) = (None, Vec::new());
                    return;
                }
            }
        }
    }

    /// Waits for a slow reader, but not for long.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + LAST_WORDS;
        while !self.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let ms = i32::try_from(left.as_millis()).unwrap_or(0) + 1;
            sys::poll(&mut [self.poll()], ms).at(Step::OUTPUT, "poll", "the status stream")?;
            self.pass();
        }
        Ok(())
    }
}

fn whole_or_null(value: Option<u64>) -> Json {
    Json(value.map_or("null".into(), |n| n.to_string()))
}

/// On one line.
fn list(values: impl Iterator<Item = Json>) -> Json {
    let values: Vec<String> = values.map(|v| v.0).collect();
    Json(format!("[{}]", values.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_a_read_back() {
        for layer in LAYERS {
            assert_eq!(READ_BACKS.iter().filter(|(flag, _)| *flag == layer.flag).count(), 1);
        }
    }
}
