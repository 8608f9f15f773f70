//! What stands outside of a room for the probe to reach: `agent-probe --hold` makes it with the room's id, and removes
//! it when its standard input ends, which is when this process ends, however it does.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_init::error::{Errno, Step};
use agent_probe::{Fixture, OPS, digest};

use crate::cmd::io_failure;
use crate::error::Failure;
use crate::plan;
use crate::room;
use crate::set_uid;
use crate::sys;

/// The number at which the control has the descriptor of [`Fixture::Fd`].
pub const INHERITED: RawFd = 77;

/// How long the holder may take to make everything, to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A fixture that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub fixture: Fixture,
    /// The errno of the call that failed, or words.
    pub why: String,
    /// Operations that say nothing without it.
    pub rows: Vec<&'static str>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Lost { fixture, why, rows } = self;
        write!(f, "fixture {}: {why}; lost: {}", fixture.key(), rows.join(" "))
    }
}

/// The fixtures of one laboratory. Dropped, nothing of them is left.
#[derive(Debug)]
pub struct Fixtures {
    dir: PathBuf,
    nonce: String,
    places: BTreeMap<Fixture, String>,
    lost: Vec<Lost>,
    variable: Option<(OsString, OsString)>,
    file: Option<Arc<OwnedFd>>,
    set_uid: Option<set_uid::Program>,
    program: Arc<OwnedFd>,
    holder: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Fixtures {
    /// Starts the holder, which is `program`, and waits until it has made what it can. An error is the harness's: the
    /// holder did not start, or made nothing at all.
    pub fn make(program: Arc<OwnedFd>) -> Result<Fixtures, Failure> {
        Fixtures::make_in(&place(), program)
    }

    /// The same with its files in a directory beneath `place`.
    pub fn make_in(place: &Path, program: Arc<OwnedFd>) -> Result<Fixtures, Failure> {
        let nonce = nonce()?;
        let dir = place.join(format!("agent-fixtures-{nonce}"));
        let mut holder = command(&program, "--hold", &dir, &nonce)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| io_failure(&e, "execve", "agent-probe --hold"))?;
        let (asks, answers) = (holder.stdin.take(), holder.stdout.take());
        let Some(answers) = answers else { return Err(silent("no pipe")) };
        let mut fixtures = Fixtures {
            dir,
            nonce,
            places: BTreeMap::new(),
            lost: Vec::new(),
            variable: None,
            file: None,
            set_uid: None,
            program,
            holder,
            asks,
            answers: BufReader::new(answers),
        };
        fixtures.hear()?;
        fixtures.own();
        Ok(fixtures)
    }

    fn hear(&mut self) -> Result<(), Failure> {
        loop {
            let line = self.line()?;
            let of = |key| Fixture::of_key(key).ok_or_else(|| silent(&line));
            match (line.split_once('='), line.split_once('!')) {
                _ if line == "ready" => return Ok(()),
                (Some((key, place)), _) => _ = self.places.insert(of(key)?, place.to_owned()),
                (_, Some((key, why))) => self.lose(of(key)?, why),
                _ => return Err(silent(&line)),
            }
        }
    }

    /// Those of this process itself.
    fn own(&mut self) {
        match File::open(self.dir.join("open")) {
            Ok(file) => {
                self.file = Some(Arc::new(file.into()));
                self.places.insert(Fixture::Fd, INHERITED.to_string());
            }
            Err(e) => self.lose(Fixture::Fd, &e.to_string()),
        }
        match own_variable() {
            Some((name, value)) => {
                let digest = digest(value.as_encoded_bytes());
                let place = format!("{}:{digest}", name.to_string_lossy());
                self.places.insert(Fixture::Env, place);
                self.variable = Some((name, value));
            }
            None => self.lose(Fixture::Env, "this process has no variable of its own"),
        }
        self.places.insert(Fixture::Tty, "0".to_owned()); // made with the control itself
        let program = match room_ids() {
            Some(_) => set_uid::Program::given(&self.dir),
            None => set_uid::Program::of_host(),
        };
        match program {
            Ok(program) => {
                self.places.insert(Fixture::SetUid, program.to_string());
                self.set_uid = Some(program);
            }
            Err(e) => self.lose(Fixture::SetUid, &e.to_string()),
        }
    }

    fn lose(&mut self, fixture: Fixture, why: &str) {
        let rows = OPS.iter().filter(|op| op.needs.contains(&fixture)).map(|op| op.id).collect();
        self.lost.push(Lost { fixture, why: why.to_owned(), rows });
    }

    /// What could not be made, and which operations say nothing for it.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// The process that holds them: for tests that plant false evidence.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// The facts of the fixtures that an operation needs, as arguments of the probe.
    pub fn facts(&self, needs: &[Fixture]) -> Vec<OsString> {
        let places = needs.iter().filter_map(|need| Some((need.key(), self.places.get(need)?)));
        let nonce = std::iter::once(("nonce", &self.nonce));
        let facts = nonce.chain(places).map(|(key, value)| format!("{key}={value}"));
        facts.flat_map(|fact| ["--fact".into(), fact.into()]).collect()
    }

    /// A descriptor of the harness, for the control.
    pub fn file(&self) -> Option<&Arc<OwnedFd>> {
        self.file.as_ref()
    }

    /// A variable of this process, for the control.
    pub fn variable(&self) -> Option<(&OsStr, &OsStr)> {
        self.variable.as_ref().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Whether each of `needs` is alive, and how often all of them were reached so far; else what is wrong, in words.
    pub fn look(&mut self, needs: &[Fixture]) -> Result<u64, String> {
        needs.iter().try_fold(0, |sum, need| Ok(sum + self.look_at(*need)?))
    }

    fn look_at(&mut self, need: Fixture) -> Result<u64, String> {
        let key = need.key();
        if let Some(lost) = self.lost.iter().find(|lost| lost.fixture == need) {
            return Err(format!("fixture {key}: not made: {}", lost.why));
        }
        if let (Fixture::SetUid, Some(program)) = (need, &self.set_uid) {
            return program.look().map(|()| 0).map_err(|e| format!("fixture {key}: dead: {e}"));
        }
        if !need.is_held() {
            return Ok(0);
        }
        let gone = |what: &str| format!("fixture {key}: its holder is gone: {what}");
        let asks = self.asks.as_mut().ok_or_else(|| gone("no pipe"))?;
        writeln!(asks, "{key}").map_err(|e| gone(&e.to_string()))?;
        let answer = self.line().map_err(|failure| gone(&failure.to_string()))?;
        match answer.split(' ').collect::<Vec<_>>().as_slice() {
            [about, "alive", count] if *about == key => count.parse().map_err(|_| gone("garbage")),
            [about, "dead", why @ ..] if *about == key => {
                Err(format!("fixture {key}: dead: {}", why.join(" ")))
            }
            _ => Err(gone("garbage")),
        }
    }

    /// One line of the holder's, without its end.
    fn line(&mut self) -> Result<String, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if self.answers.buffer().is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                let ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
                match sys::wait_readable(&[self.answers.get_ref().as_fd()], ms) {
                    Ok(Some(_)) => {}
                    _ => return Err(silent("no answer within 5 s")),
                }
            }
            let mut byte = [0];
            match self.answers.read(&mut byte) {
                Ok(1) => line.extend(byte),
                _ => return Err(silent("it has ended")),
            }
        }
        line.pop();
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

impl Drop for Fixtures {
    /// The holder removes all that has a name. Was it killed, another one does.
    fn drop(&mut self) {
        drop(self.asks.take());
        if ends_well(&mut self.holder) {
            return;
        }
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
        let release = command(&self.program, "--release", &self.dir, &self.nonce).spawn();
        if let Ok(mut release) = release
            && !ends_well(&mut release)
        {
            let _gone = release.kill();
            let _gone = release.wait();
        }
    }
}

/// A variable of this process that no room sets itself: else equal values would say nothing.
fn own_variable() -> Option<(OsString, OsString)> {
    env::vars_os().find(|(name, value)| {
        let name = name.to_string_lossy();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        plain && !name.is_empty() && !value.is_empty() && !OF_A_ROOM.contains(&&*name)
    })
}

/// Sees to it that there is one, as whoever was started with an empty environment has none. To be
/// called before the first thread; cannot it be made, the fixture is lost, which is said then.
pub fn make_variable() {
    if own_variable().is_none()
        && let Ok(nonce) = nonce()
    {
        let _lost = sys::set_variable("AGENT_INHERITED", &nonce);
    }
}

/// Variables that a room has by itself, see `furnish::environment`.
const OF_A_ROOM: &[&str] = &[
    "PATH", "HOME", "LANG", "LC_ALL", "TERM", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR",
    "COLUMNS", "LINES",
];

/// Waits, at most for [`PATIENCE`]; whether its status is 0.
fn ends_well(child: &mut Child) -> bool {
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let ended = sys::pidfd_open(pid)
        .and_then(|pidfd| sys::wait_readable(&[pidfd.as_fd()], 5000))
        .is_ok_and(|ended| ended.is_some());
    ended && child.wait().is_ok_and(|status| status.success())
}

/// The probe with the id that rooms have on the host.
fn command(program: &OwnedFd, what: &str, dir: &Path, nonce: &str) -> Command {
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("agent-probe").arg(what).arg(dir).arg(nonce);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_clear().env("AGENT_FIXTURE", nonce).current_dir("/").process_group(0);
    if let Some((uid, gid)) = room_ids() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Root becomes what it becomes in a room, if it can; an ordinary user stays itself.
fn room_ids() -> Option<(u32, u32)> {
    let id = room::UNPRIVILEGED;
    let is_mapped =
        plan::is_mapped("/proc/self/uid_map", id) && plan::is_mapped("/proc/self/gid_map", id);
    (sys::ids().0 == 0 && is_mapped).then_some((id, id))
}

/// Where everyone may make a directory, and not /tmp: without a mount namespace the room's Landlock lets the agent
/// write there, and a file that the agent is given is none outside.
fn place() -> PathBuf {
    let path = Path::new("/var/tmp");
    let is_open = |meta: std::fs::Metadata| meta.is_dir() && meta.mode() & 0o1777 == 0o1777;
    match path.symlink_metadata().is_ok_and(is_open) {
        true => path.to_owned(),
        false => env::temp_dir(),
    }
}

/// 16 hex digits that nobody can guess.
fn nonce() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|e| io_failure(&e, "read", "/dev/urandom"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn silent(what: &str) -> Failure {
    Failure::new(Step::PROBE, "hold", what, Errno::EINVAL)
}
