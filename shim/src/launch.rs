//! A launch: everything is made ready, then one clone3, then two straight lines.
//!
//! ```text
//! parent                               child
//! clone3 ─────────────────────────────► (new user, mount, pid namespace)
//! uid_map, gid_map (if root) ── "go" ─► outer ids
//! read the report pipe                  compose the root, pivot_root
//!   │                                   unshare: inner user namespace, net, ipc, uts, cgroup
//!   │                                   inner ids, host name, loopback, keyring, descriptors
//!   │                                   execve agent-init ──► lock, fork, execve the agent
//!   ◄── a record: failed ── or "ready" and its end: the agent was started
//! ```

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use agent_init::caps::SETPCAP;
use agent_init::error::{Errno, RECORD, Step};
use agent_init::layers::{LAYERS, Layers};
use agent_init::orders::{END_FD, ORDERS_FD, PROGRAM_FD, REPORT_FD, SHIM_FD, set_umask};
use agent_init::report::READY;
use agent_init::status::Status;
use agent_init::sys::{CapSets, record_bytes, record_from};

use crate::cgroup::Group;
use crate::child::Child;
use crate::compose;
use crate::error::{At, Failure, HARNESS};
use crate::idmap::{self, Maps};
use crate::image;
use crate::limits::InForce;
use crate::mounts::Mounts;
use crate::ns;
use crate::pin::Pins;
use crate::plan::{self, Identity, Plan, Program};
use crate::room::{self, Kind, Node};
use crate::spec::Bend;
use crate::stdio::{self, Ends, Stdio};
use crate::sys::{self, Blocked, End, Side};
use crate::tty;

/// What `ps` in the room and `/proc/1/cmdline` show.
const NAME: &CStr = c"init";

/// All that the child needs, made before it exists.
struct Ready<'a> {
    plan: &'a Plan,
    outer: Maps,
    inner: Maps,
    pins: Pins,
    stdio: [Option<OwnedFd>; 3],
    nulls: [bool; 3],
    /// How the terminal is to be, and where its other side is sent to.
    terminal: Option<(tty::Setup, OwnedFd)>,
    image: High<'a>,
    program: Option<High<'a>>,
    kept: Vec<High<'a>>,
    orders: OwnedFd,
    report: OwnedFd,
    shim: OwnedFd,
    end: OwnedFd,
    go: (OwnedFd, OwnedFd),
}

/// A descriptor past all the numbers that the child fills: as it is, or a copy.
enum High<'a> {
    Lent(BorrowedFd<'a>),
    Copy(OwnedFd),
}

impl<'a> High<'a> {
    fn of(fd: BorrowedFd<'a>, last: RawFd) -> Result<High<'a>, Failure> {
        if fd.as_raw_fd() > last {
            return Ok(High::Lent(fd));
        }
        past(fd, last).map(High::Copy)
    }
}

impl AsRawFd for High<'_> {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            High::Lent(fd) => fd.as_raw_fd(),
            High::Copy(fd) => fd.as_raw_fd(),
        }
    }
}

/// Starts the room of `plan`. When this returns Ok, the agent has been started and every layer
/// has been read back; when it returns Err, nothing runs and nothing is left.
pub fn launch(
    plan: &Plan,
    streams: &[Stdio; 3],
    terminal: Option<tty::Setup>,
) -> Result<Child, Failure> {
    check_kept(plan)?;
    let namespaces = plan::host_namespaces()?;
    let in_force = InForce::of(plan)?;
    let (report, report_end) = pipe()?;
    let (record, record_end) = pipe()?;
    // The last number that the child fills.
    let last = plan.kept.iter().fold(plan.first_kept() - 1, |last, _| last + 1);
    let program = match &plan.program {
        Program::Image(fd) => Some(High::of(fd.as_fd(), last)?),
        Program::Path(_) => None,
    };
    let owner = idmap::by_parent(plan).then(|| plan.identity.ids());
    let Ends { agents, ours, nulls } = Ends::of(streams, last, owner)?;
    let (terminal, other_side) = match terminal {
        Some(setup) => {
            let pair = sys::socket_pair().at(Step::TERMINAL, "socketpair", "")?;
            (Some((setup, high(pair.0, last)?)), Some(pair.1))
        }
        None => (None, None),
    };
    let mut orders = plan.orders(&namespaces, &in_force.rlimits);
    set_umask(&mut orders, umask()?);
    let ready = Ready {
        plan,
        outer: Maps::outer(plan),
        inner: Maps::inner(plan),
        pins: pinned(plan)?,
        stdio: agents,
        nulls,
        terminal,
        image: High::of(image::agent_init()?, last)?,
        program,
        kept: plan
            .kept
            .iter()
            .map(|(fd, _)| High::of(fd.as_fd(), last))
            .collect::<Result<_, _>>()?,
        orders: sealed_orders(&orders, last)?,
        report: high(report_end, last)?,
        shim: high(sys::pidfd_of_self().at(Step::DEATH, "pidfd_open", "agent-shim")?, last)?,
        end: high(record_end, last)?,
        go: pipe()?,
    };
    let namespaces = names(plan); // before the clone: both sides would make it
    // No handler of the caller may run in the child, and no signal end it half way.
    let blocked = Blocked::all();
    let birth = in_force.group.birth();
    let side = sys::clone3(ns::outer(plan), birth).at(Step::CLONE, "clone3", &namespaces)?;
    let Side::Parent(pid, pidfd) = side else { run_child(&ready, &in_force.group) };
    drop(blocked);
    let mut child = Child::new(pid, pidfd, record, in_force);
    [child.stdin, child.stdout, child.stderr] = ours;
    let mapped = let_go(&ready, pid);
    drop(ready); // our copies of the child's ends: the report pipe can end now
    let mut child = started(child, mapped, &report)?;
    child.has_started();
    if let Some(socket) = other_side {
        let sent = sys::receive_fd(socket.as_fd());
        child.terminal = Some(sent.at(Step::TERMINAL, "recvmsg", "SCM_RIGHTS")?);
    }
    Ok(child)
}

/// How long a room that has failed may take to end, before it is killed.
const ENDS_ITSELF: Duration = Duration::from_secs(1);

/// Reads the report: "ready" and then its end is an agent that was started. Everything else is
/// a room that failed, and is ended.
fn started(
    mut child: Child,
    mapped: Result<(), Failure>,
    report: &OwnedFd,
) -> Result<Child, Failure> {
    mapped?;
    sys::wait_hangup(report.as_fd()).at(Step::REPORT, "poll", "the room")?;
    let mut is_ready = false;
    let failure = loop {
        let mut bytes = [0; RECORD];
        match sys::read(report.as_raw_fd(), &mut bytes) {
            Ok(RECORD) if record_from(&bytes) == READY => is_ready = true,
            Ok(RECORD) => {
                // Init ends by itself, and reaps its child first: no zombie is left to the host.
                child.wait_for(ENDS_ITSELF)?;
                break Failure::of(record_from(&bytes));
            }
            Ok(0) if is_ready => return Ok(child),
            Ok(_) => break died(&mut child),
            Err(errno) => break Failure::new(Step::REPORT, "read", "the room", errno),
        }
    };
    Err(failure)
}

/// The pipe ended before the agent was started and without a reason: init was killed.
fn died(child: &mut Child) -> Failure {
    let how = match child.wait() {
        Ok(End::Signaled(signal)) => format!("init ended by signal {signal}"),
        Ok(End::Exited(code)) => format!("init ended with status {code}"),
        Err(failure) => return failure,
    };
    let hits = child.limits().hits(End::Signaled(libc::SIGKILL));
    if let Some(hit) = hits.iter().find(|hit| hit.ended) {
        let what = format!("--{} {}", hit.resource.name(), hit.resource.spelled(hit.value));
        return Failure::new(Step::LIMITS, hit.by, what, Errno::ENOMEM);
    }
    Failure::not_in_force(Step::REPORT, how)
}

static UMASK: OnceLock<u32> = OnceLock::new();

/// Asks for the caller's umask by the call that changes it, for a moment: to be done while there is one thread. It
/// takes a hundredth of the time of /proc, where it is looked for otherwise.
pub fn ask_umask() {
    UMASK.get_or_init(|| {
        let umask = sys::umask(0o777);
        sys::umask(umask);
        umask
    });
}

/// The caller's umask. Other threads of a library's caller may be making files: it is not changed.
fn umask() -> Result<u32, Failure> {
    if let Some(umask) = UMASK.get() {
        return Ok(*umask);
    }
    let mut status = Status::EMPTY;
    let fd = sys::open(c"/proc/self/status", libc::O_RDONLY).map(sys::own);
    let fd = fd.at(Step::ORDERS, "open", "/proc/self/status")?;
    let read = status.read(|to| sys::read(fd.as_raw_fd(), to));
    read.at(Step::ORDERS, "read", "/proc/self/status")?;
    let umask = status.octal("Umask").and_then(|mask| u32::try_from(mask).ok());
    umask.ok_or(Errno::ENOENT).at(Step::ORDERS, "read", "Umask of /proc/self/status")
}

/// The block of orders, in a sealed memfd.
fn sealed_orders(words: &[u64], last: RawFd) -> Result<OwnedFd, Failure> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let fd = sys::sealed_memfd(c"orders", &bytes, false);
    high(fd.at(Step::ORDERS, "memfd_create", "orders")?, last)
}

/// What the agent keeps does not take the place of its stdio, or of one another.
fn check_kept(plan: &Plan) -> Result<(), Failure> {
    for (n, (fd, wanted)) in plan.kept.iter().enumerate() {
        let twice = plan.kept.iter().take(n).any(|(_, other)| other == wanted);
        if *wanted < ORDERS_FD || twice {
            let what = format!("{wanted}{}", if twice { ", twice" } else { "" });
            return Err(Failure::new(Step::KEEP, "number", what, Errno::EINVAL));
        }
        may_be_given(fd.as_raw_fd(), Step::KEEP, &format!("--keep-fd {wanted}"))?;
        may_be_opened_again(plan, fd.as_fd(), *wanted)?;
    }
    Ok(())
}

/// By /proc/self/fd the agent can open what it has once more, with all the rights that the file gives it,
/// on the mount of the host that the caller has opened it on. A socket cannot be opened; of a file that
/// lies on a mount Landlock decides, which knows it by the directories that the room shows.
fn may_be_opened_again(plan: &Plan, fd: BorrowedFd, number: RawFd) -> Result<(), Failure> {
    let refused =
        |call, what, errno| Err(errno).at(Step::KEEP, call, format!("--keep-fd {number}, {what}"));
    match sys::file_type(fd.as_raw_fd()) {
        Ok(libc::S_IFSOCK) => return Ok(()),
        Ok(libc::S_IFIFO) => return refused("fstat", "a pipe or FIFO", Errno::EOPNOTSUPP),
        Ok(libc::S_IFCHR | libc::S_IFBLK) if tty::is_terminal(fd.as_raw_fd()) => {
            return refused("tcgetattr", "a terminal", Errno::EOPNOTSUPP);
        }
        Ok(libc::S_IFCHR | libc::S_IFBLK) => return refused("fstat", "a device", Errno::ENODEV),
        _ if sys::is_sealed(fd.as_raw_fd()) => return Ok(()),
        _ => {}
    }
    let at = || format!("--keep-fd {number}");
    let mount = sys::mount_id(fd.as_raw_fd()).at(Step::KEEP, "statx", at())?;
    let mounts = Mounts::read();
    if !mounts.has(mount) {
        return refused("statx", "on no mount", Errno::EXDEV);
    }
    let name = sys::name_of(fd).at(Step::KEEP, "readlink", at())?;
    let names = mounts.names(Path::new(OsStr::from_bytes(&name)));
    let shows = |node: &Node| match &node.kind {
        Kind::Bind(bind) | Kind::Overlay(bind) => {
            names.iter().any(|name| name.starts_with(bind.source.path()))
        }
        _ => false,
    };
    match plan.nodes.iter().any(shows) {
        true => refused("fstat", "a file that the room shows", Errno::EBUSY),
        false => Ok(()),
    }
}

/// What root pins here, where it has its own reach. Without the right to, the child does it, as
/// for everyone else.
fn pinned(plan: &Plan) -> Result<Pins, Failure> {
    let pins = Pins::of(plan);
    let may = agent_init::sys::caps().is_ok_and(|sets| sets.effective & SYS_ADMIN != 0);
    if idmap::by_parent(plan) && plan.made().contains(Layers::MNT) && may {
        let mut namespaces = BTreeMap::new(); // one for each owner, while they are needed
        pins.binds(plan, |owner| {
            if let Some(namespace) = namespaces.get(&owner) {
                return Ok(OwnedFd::as_raw_fd(namespace));
            }
            let namespace = idmap::swapped(owner, plan.identity.ids())?;
            Ok(namespaces.entry(owner).or_insert(namespace).as_raw_fd())
        })?;
    }
    Ok(pins)
}

/// CAP_SYS_ADMIN, as a set. capabilities(7).
const SYS_ADMIN: u64 = 1 << 21;

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    sys::pipe().at(Step::REPORT, "pipe2", "the room's report")
}

/// Out of the way of the numbers up to `last`, which the child fills.
fn high(fd: OwnedFd, last: RawFd) -> Result<OwnedFd, Failure> {
    if fd.as_raw_fd() > last {
        return Ok(fd);
    }
    past(fd.as_fd(), last)
}

fn past(fd: BorrowedFd, last: RawFd) -> Result<OwnedFd, Failure> {
    sys::dup_past(fd, last).at(Step::ORDERS, "fcntl", "F_DUPFD_CLOEXEC")
}

/// For the message of a clone that failed: the namespaces that were asked for.
fn names(plan: &Plan) -> String {
    let made = LAYERS.iter().filter(|l| (plan.made() & Layers::NS_ONLY).contains(l.flag));
    made.map(|l| l.name).collect::<Vec<_>>().join(",")
}

/// The parent's side, while the child waits: its maps, where only root may write them.
fn let_go(ready: &Ready, pid: i32) -> Result<(), Failure> {
    if !idmap::by_parent(ready.plan) || !ready.plan.made().contains(Layers::USERNS) {
        return Ok(());
    }
    ready.outer.write_for(pid)?;
    sys::write_all(ready.go.1.as_raw_fd(), b"!").at(Step::IDMAP, "write", "go")
}

/// The child: it becomes agent-init, or says why not and ends.
fn run_child(ready: &Ready, group: &Group) -> ! {
    let failure = match group.enter().and_then(|()| prepare(ready)) {
        Err(failure) => failure,
        Ok(()) => {
            let errno = sys::exec_image(ready.image.as_raw_fd(), NAME);
            Failure::new(Step::START, "execveat", "agent-init", errno)
        }
    };
    let _unread = sys::write_all(ready.report.as_raw_fd(), record_bytes(&failure.0));
    sys::exit_now(i32::from(HARNESS))
}

/// The child's straight line. No allocation, no panic, no lock from here to execve.
fn prepare(ready: &Ready) -> Result<(), Failure> {
    let plan = ready.plan;
    // Until init looks after the shim by itself; a change of ids clears it.
    agent_init::sys::set_death_signal(libc::SIGKILL).at(
        Step::DEATH,
        "prctl",
        "PR_SET_PDEATHSIG",
    )?;
    sys::umask(0);
    outer_ids(ready)?;
    few_watchers(plan);
    compose::hold(plan, &ready.pins)?;
    if plan.made().contains(Layers::MNT) && ready.nulls.contains(&true) {
        stdio::out_of_reach(&ready.stdio, ready.nulls, ready.pins.at(plan, c"/dev/null"))?;
    }
    compose::compose(plan, &ready.pins)?;
    inner_namespaces(ready)?;
    if plan.made().contains(Layers::UTS) {
        hostname(&plan.hostname)?;
    }
    if plan.made().contains(Layers::NET) {
        sys::loopback_up().at(Step::LOOPBACK, "ioctl", "SIOCSIFFLAGS, lo")?;
    }
    keyring()?;
    if !plan.layers.contains(Layers::MNT) {
        sys::chdir(c"/").at(Step::ROOT, "chdir", "/")?;
    }
    if plan.layers.contains(Layers::CAPS) {
        keep_setpcap()?;
    }
    if let Some((setup, socket)) = &ready.terminal {
        tty::make(setup, socket.as_raw_fd(), plan.layers.contains(Layers::MNT))?;
    }
    descriptors(ready)
}

/// Root of the outer user namespace, or, without one, the unprivileged id.
fn outer_ids(ready: &Ready) -> Result<(), Failure> {
    let plan = ready.plan;
    let userns = plan.made().contains(Layers::USERNS);
    match plan.identity {
        Identity::RealRoot if plan.bend == Some(Bend::OtherId) => other_id(),
        Identity::RealRoot => Ok(()),
        Identity::Caller { .. } if userns => ready.outer.write_own(),
        Identity::Caller { .. } => Ok(()),
        Identity::Unprivileged { .. } => {
            if userns {
                wait_for_maps(ready)?;
            }
            let (uid, gid) = if userns { (0, 0) } else { plan.identity.ids() };
            sys::clear_groups().at(Step::IDS, "setgroups", "none")?;
            if sys::count_groups() != Ok(0) {
                return Err(Failure::not_in_force(Step::IDS, "no supplementary group"));
            }
            sys::set_ids(uid, gid).at(Step::IDS, "setresuid", "the room's id")?;
            // The change of ids made the files of /proc/self root's.
            agent_init::sys::set_dumpable(true).at(Step::IDS, "prctl", "PR_SET_DUMPABLE")
        }
    }
}

/// The host counts inotify instances per user, and a room's are the caller's there: 128 by default.
/// In the outer user namespace, whose limit the agent cannot raise. Where an outer container has made
/// /proc/sys read-only it is not done; README says so. namespaces(7), /proc/sys/user.
fn few_watchers(plan: &Plan) {
    // Real root is in no user namespace yet: the limit would be that of the host.
    if plan.made().contains(Layers::USERNS)
        && plan.identity != Identity::RealRoot
        && plan.bend != Some(Bend::Watchers)
        && let Ok(fd) = sys::open(MAX_INSTANCES, libc::O_WRONLY | libc::O_CLOEXEC)
    {
        let _or_read_only = sys::write_all(fd, INSTANCES);
        let _closed = sys::close(fd);
    }
}

const MAX_INSTANCES: &CStr = c"/proc/sys/user/max_inotify_instances";
const INSTANCES: &[u8] = b"32";

/// The parent writes the maps. If it dies first, the pipe ends, as no one else can write to it.
fn wait_for_maps(ready: &Ready) -> Result<(), Failure> {
    sys::close(ready.go.1.as_raw_fd()).at(Step::IDMAP, "close", "go")?;
    let mut go = [0; 1];
    match sys::read(ready.go.0.as_raw_fd(), &mut go).at(Step::IDMAP, "read", "go")? {
        1 => Ok(()),
        _ => Err(Failure::not_in_force(Step::IDMAP, "the shim has died")),
    }
}

/// The user namespace that the agent is in, its copy of the mounts, which are locked now, and
/// the namespaces that it owns.
fn inner_namespaces(ready: &Ready) -> Result<(), Failure> {
    let namespaces = ns::inner(ready.plan);
    if namespaces == 0 {
        return Ok(());
    }
    sys::unshare(namespaces).at(Step::INNER, "unshare", "CLONE_NEWUSER and others")?;
    ready.inner.write_own()
}

fn hostname(name: &CStr) -> Result<(), Failure> {
    sys::sethostname(name).at(Step::UTS, "sethostname", name.to_bytes())?;
    match sys::is_hostname(name).at(Step::UTS, "uname", "")? {
        true => Ok(()),
        false => Err(Failure::not_in_force(Step::UTS, name.to_bytes())),
    }
}

/// A session keyring of its own: the caller's would come along. keyrings(7).
fn keyring() -> Result<(), Failure> {
    match sys::join_session_keyring() {
        // No keyrings in this kernel, or all of keyctl is refused to the room too.
        Err(errno @ (Errno::ENOSYS | Errno::EPERM)) if sys::session_keyring() == Err(errno) => {
            Ok(())
        }
        Ok(serial) if serial <= 0 || sys::session_keyring() != Ok(serial) => {
            Err(Failure::not_in_force(Step::KEYRING, "the session keyring"))
        }
        other => other.map(drop).at(Step::KEYRING, "keyctl", "KEYCTL_JOIN_SESSION_KEYRING"),
    }
}

/// execve by another id than root gives up all capabilities but the ambient ones; init needs
/// CAP_SETPCAP to empty the bounding set. capabilities(7).
fn keep_setpcap() -> Result<(), Failure> {
    let sets = agent_init::sys::caps().at(Step::CAPS, "capget", "")?;
    let with = CapSets { inheritable: sets.inheritable | 1 << SETPCAP, ..sets };
    agent_init::sys::set_caps(with).at(Step::CAPS, "capset", "CAP_SETPCAP")?;
    agent_init::sys::raise_ambient(SETPCAP).at(Step::CAPS, "prctl", "PR_CAP_AMBIENT_RAISE")
}

/// An ordinary user who may do all that a capability allows, but not what belongs to others.
fn other_id() -> Result<(), Failure> {
    let all = agent_init::sys::caps().at(Step::CAPS, "capget", "")?.permitted & !OVER_FILES;
    // The change of ids would give them up.
    agent_init::sys::set_securebits(KEEP_CAPS).at(Step::CAPS, "prctl", "PR_SET_SECUREBITS")?;
    sys::clear_groups().at(Step::IDS, "setgroups", "none")?;
    sys::set_ids(room::UNPRIVILEGED, room::UNPRIVILEGED).at(Step::IDS, "setresuid", "")?;
    let sets = CapSets { effective: all, permitted: all, inheritable: all };
    agent_init::sys::set_caps(sets).at(Step::CAPS, "capset", "")?;
    for cap in (0..64).filter(|cap| all & 1 << cap != 0) {
        agent_init::sys::raise_ambient(cap).at(Step::CAPS, "prctl", "PR_CAP_AMBIENT_RAISE")?;
    }
    agent_init::sys::set_dumpable(true).at(Step::IDS, "prctl", "PR_SET_DUMPABLE")
}

/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID. capabilities(7).
const OVER_FILES: u64 = 0b11111;

/// SECBIT_KEEP_CAPS.
const KEEP_CAPS: usize = 1 << 4;

/// The numbers that init knows; all others are close-on-exec or closed by it.
fn descriptors(ready: &Ready) -> Result<(), Failure> {
    let names = ["standard input", "standard output", "standard error"];
    for ((fd, number), name) in ready.stdio.iter().zip(0..).zip(names) {
        if let Some(fd) = fd {
            put(fd.as_raw_fd(), number, Step::STDIO, name)?;
        }
        may_be_given(number, Step::STDIO, name)?;
    }
    for (fd, number) in ready.kept.iter().zip(ready.plan.first_kept()..) {
        put(fd.as_raw_fd(), number, Step::KEEP, "--keep-fd")?;
        may_be_given(number, Step::KEEP, "--keep-fd")?;
    }
    sys::dup_to(ready.orders.as_raw_fd(), ORDERS_FD).at(Step::ORDERS, "dup2", "")?;
    if let Some(program) = &ready.program {
        sys::dup_to(program.as_raw_fd(), PROGRAM_FD).at(Step::PROGRAM, "dup2", "")?;
    }
    sys::dup_to(ready.shim.as_raw_fd(), SHIM_FD).at(Step::DEATH, "dup2", "")?;
    sys::dup_to(ready.end.as_raw_fd(), END_FD).at(Step::REPORT, "dup2", "")?;
    sys::dup_to(ready.report.as_raw_fd(), REPORT_FD).at(Step::REPORT, "dup2", "")
}

/// dup2, and sees it there: else the agent would have the caller's.
pub fn put(fd: RawFd, number: RawFd, step: Step, name: &str) -> Result<(), Failure> {
    sys::dup_to(fd, number).at(step, "dup2", name)?;
    match (sys::file_id(fd), sys::file_id(number)) {
        (Ok(given), Ok(seen)) if given == seen => Ok(()),
        _ => Err(Failure::not_in_force(step, name)),
    }
}

/// Whether a room may have what is open at `number`.
fn may_be_given(number: RawFd, step: Step, name: &str) -> Result<(), Failure> {
    // From a directory of the host, openat(2) leads out of every root (CVE-2024-21626).
    match sys::file_type(number) {
        Ok(libc::S_IFDIR) => return Err(Errno::EISDIR).at(step, "fstat", name),
        // Neither a file, a device, a pipe nor a socket: epoll, io_uring and their like.
        Ok(0) => return Err(Errno::EBADF).at(step, "fstat", name),
        _ => {}
    }
    // By /proc/self/fd, it would name a socket or file of the host that nobody has opened.
    if sys::is_path_only(number) == Ok(true) {
        return Err(Errno::EBADF).at(step, "O_PATH", name);
    }
    Ok(())
}
