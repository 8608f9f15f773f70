//! Every system call of a launch, failed once, and the security calls also faked: whatever
//! happens, the agent finds the same room, or there is no agent and a message that names a step.

#![cfg(target_arch = "x86_64")] // registers of ptrace(2)
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_init::error::Errno;
use agent_init::nr;
use agent_shim::sys::End;
use agent_tests::trace::{self, Effect, Fault, Role, Traced, trace};
use agent_tests::{alone, is_root, shim, skip, sys};

/// What the agent sees of its room, in a form that does not differ from room to room: what is
/// the host's is marked by the test ([`normal`]), numbers that come and go are left out.
const REPORT: &str = r#"
while read -r name rest; do
    case $name in
    NoNewPrivs:|Seccomp:|Seccomp_filters:|Cap*|Uid:|Gid:|Groups:|SigBlk:|SigIgn:|Umask:|NSpid:|NSsid:|NSpgid:)
        echo "agent $name $rest" ;;
    esac
done </proc/self/status
while read -r name rest; do
    case $name in
    NoNewPrivs:|Seccomp:|Seccomp_filters:|Cap*|Uid:|Gid:|Groups:) echo "init $name $rest" ;;
    esac
done </proc/1/status
while read -r id parent device root at rest; do echo "mount $root $at $rest"; done </proc/self/mountinfo
while read -r line; do echo "limit $line"; done </proc/self/limits
while read -r line; do case $line in *agent-tests-canary*) echo "key of the caller";; esac; done </proc/keys
read -r host </proc/sys/kernel/hostname; echo "host $host"
for ns in user mnt pid net ipc uts cgroup; do echo "ns $(readlink /proc/self/ns/$ns)"; done
for fd in /proc/$$/fd/*; do echo "fd ${fd##*/}"; done
for file in /evil /usr/evil /proc/evil /dev/evil /tmp/fine; do
    if (: >$file) 2>/dev/null; then echo "write $file"; fi
done
for file in /proc/1/environ /proc/1/exe /proc/1/cwd/. /proc/1/root/. /proc/1/mem /.. /../etc/shadow; do
    if [ -e $file ]; then echo "there $file"; fi
    if (: <$file) 2>/dev/null; then echo "open $file"; fi
done
if kill -0 1 2>/dev/null; then echo "can signal 1"; fi
echo "net $(cat /proc/net/dev | wc -l) $(cat /sys/class/net 2>&1 | wc -l)"
echo "cwd $(pwd -P)"
export -p
echo end
"#;

/// The caller leaks a descriptor, a key and, as root, groups: what keeps them out is then seen.
fn launch() -> Command {
    let mut command = shim(&["run", "--", "sh", "-c", REPORT]);
    sys::leaking(&mut command, &[7, 42]);
    sys::with_session_key(&mut command, c"agent-tests-canary", host_uid());
    if is_root() {
        sys::with_groups(&mut command, &[4, 27]);
    }
    command
}

/// Without what differs between two rooms that are the same.
fn normal(report: &str) -> String {
    let mut text = String::new();
    for line in report.lines() {
        let line = match line.strip_prefix("ns ") {
            Some(link) => {
                let kind = link.split(':').next().unwrap();
                let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
                let is_host = host.to_str() == Some(link);
                format!("ns {kind} {}", if is_host { "the host's" } else { "its own" })
            }
            None => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Who the room's processes are on the host.
fn host_uid() -> u32 {
    if is_root() { agent_shim::room::UNPRIVILEGED } else { agent_shim::sys::ids().0 }
}

const LIMIT: Duration = Duration::from_secs(5);

/// A launch without a fault, or the reason why it cannot be traced here.
fn good() -> Result<Traced, String> {
    let mut probe = Command::new("true");
    sys::traced(&mut probe);
    let Ok(mut child) = probe.spawn() else { return Err("ptrace is refused".into()) };
    child.kill().unwrap();
    child.wait().unwrap();
    let good = trace(&mut launch(), None, true, LIMIT);
    assert!(good.started && !good.hung, "{good:?}");
    assert_eq!((good.output.end, &*good.output.stderr), (End::Exited(0), ""), "{good:?}");
    assert!(good.output.stdout.ends_with("end\n"), "{good:?}");
    Ok(good)
}

/// The calls of a role, in its order. What init and the shim do once the agent runs is no part of
/// it: the shim's last is that it gives up the file system.
fn calls_of(good: &Traced, role: Role) -> Vec<u32> {
    let calls = good.calls.iter().filter(|(r, _)| *r == role).map(|(_, number)| *number);
    if role == Role::Parent {
        let calls: Vec<_> = calls.collect();
        let last = nr::number("landlock_restrict_self");
        let end = calls.iter().position(|number| Some(*number) == last).unwrap();
        return calls[..=end].to_vec();
    }
    let is = |number: u32, name| Some(number) == nr::number(name);
    // The first one after its own filter: before it, init asks once whether the shim is alive.
    let mut locked = role != Role::Init;
    let mut waits = |number: &u32| {
        locked |= is(*number, "seccomp");
        locked && is(*number, "ppoll")
    };
    calls.take_while(|number| !waits(number)).collect()
}

/// What a launch costs in system calls, by role: what was seen (as root, as user), and a margin
/// for another libc. A launch that grows past it must say why. The shim's own start (libc, std)
/// and its end are in the first number.
#[rustfmt::skip] // a row a line
const CEILINGS: &[(Role, usize)] = &[
    (Role::Parent, 420), // 395, 285: a source is opened and asked what it is
    (Role::Child,  360), // 247, 345: everyone else opens the sources again; devices are made read-only, and asked
    (Role::Init,   180), // 166, 166: three for each grant, one for /; a file to be refused, signalfd
    (Role::Agent,   36), // 33, 33: PATH is tried from the front, sh is its fourth; chdir asked back
];

#[test] // seen to fail with 100 for Init
fn a_launch_stays_lean() {
    let _alone = alone();
    let good = match good() {
        Ok(good) => good,
        Err(reason) => return skip("a_launch_stays_lean", &reason),
    };
    for (role, ceiling) in CEILINGS {
        let calls = calls_of(&good, *role);
        let names: Vec<_> = calls.iter().map(|number| trace::name(*number)).collect();
        println!("{role:?}: {} system calls, at most {ceiling}: {}", calls.len(), names.join(" "));
        assert!(calls.len() <= *ceiling && calls.len() > ceiling / 2, "{role:?}: {}", calls.len());
    }
}

/// The roles whose calls make the room.
const ROOM: [Role; 3] = [Role::Child, Role::Init, Role::Agent];

/// Calls that put a layer in force: they are also told to have succeeded when nothing was done.
const SECURITY: &[&str] = &[
    "prctl",
    "capset",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "setresuid",
    "setresgid",
    "setgroups",
    "mount",
    "open_tree",
    "move_mount",
    "fsmount",
    "mount_setattr",
    "pivot_root",
    "unshare",
    "umount2",
    "prlimit64",
    "close_range",
    "setsid",
    "rt_sigprocmask",
    "rt_sigaction",
    "keyctl",
    "sethostname",
    "umask",
    "chdir",
    "fchdir",
    "fcntl",
    "dup2",
];

/// Lines of the report that may be missing after a fault: the agent then has less than it should,
/// and nothing in their place but an empty file of its own tmpfs. Not here: random and urandom,
/// where an empty file is a danger to the agent itself.
#[rustfmt::skip] // a row a line
const LESS: &[&str] = &[
    "write /tmp/fine",      // landlock_add_rule that did nothing: /tmp is not granted
    "open /..",             // the same of / to be listed, or of /dev, where errors are sent to
    "mount /null /dev/null",
    "mount /zero /dev/zero",
    "mount /full /dev/full",
    "mount /tty /dev/tty",
    "mount / /dev/pts",
    "limit Max data size             unlimited", // with [`WITHOUT_CGROUP`] in its place
];

/// What bounds the memory of a room that can have no cgroup.
const WITHOUT_CGROUP: &str = "limit Max data size             4294967296           4294967296";

/// What became of a launch with a fault.
#[derive(Debug)]
enum Outcome {
    /// The agent found the same room.
    Same,
    /// It found less: see [`LESS`].
    Less,
    /// There was no agent, and a message says why.
    Stopped,
    /// Anything else.
    Bad(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Same => "same",
            Outcome::Less => "less",
            Outcome::Stopped => "stopped",
            Outcome::Bad(_) => "BAD",
        }
    }
}

/// The step that the first line names.
fn step_of(stderr: &str) -> Option<&str> {
    let line = stderr.lines().next()?.strip_prefix("agent-shim: ")?;
    line.split_once(": ").map(|(step, _)| step)
}

fn judge(role: Role, run: &Traced, good: &str) -> Outcome {
    use Outcome::{Bad, Less, Same, Stopped};
    let (output, report) = (&run.output, normal(&run.output.stdout));
    if run.hung {
        return Bad("hung".into());
    }
    if !run.hit {
        return Bad("the call was not made".into());
    }
    if run.started {
        if output.end == End::Exited(0) && output.stderr.is_empty() && report == good {
            return Same;
        }
        let ended = output.end == End::Exited(125) && step_of(&output.stderr).is_some();
        if role == Role::Parent && ended && good.starts_with(report.trim_end()) {
            return Stopped; // while it waited: the room is ended, and the shim says so
        }
        let not_in = |a: &str, b: &str| -> Vec<String> {
            a.lines().filter(|l| !b.lines().any(|o| o == *l)).map(str::to_owned).collect()
        };
        let (mut new, lost) = (not_in(&report, good), not_in(good, &report));
        new.retain(|l| !l.starts_with(WITHOUT_CGROUP));
        let is_less = |l: &String| LESS.iter().any(|less| l.starts_with(less));
        if output.end == End::Exited(0) && new.is_empty() && lost.iter().all(is_less) {
            return Less;
        }
        const MOST: usize = 4;
        let lines = |sign, lines: Vec<String>| {
            let more = lines.len().saturating_sub(MOST);
            let first = lines.iter().take(MOST).map(|l| format!("\n      {sign} {l}"));
            let rest = (more > 0).then(|| format!("\n      {sign} … {more} more"));
            first.chain(rest).collect::<String>()
        };
        let end = format!("agent ran, {:?}, stderr {:?}", output.end, output.stderr);
        return Bad(end + &lines('+', new) + &lines('-', lost));
    }
    let step = step_of(&output.stderr);
    let code = match output.end {
        End::Exited(code) => code,
        End::Signaled(signal) => return Bad(format!("the shim died of signal {signal}")),
    };
    match (step, code) {
        (Some("exec"), 126 | 127) if report.is_empty() => Stopped,
        (Some(step), 125) if step != "?" && report.is_empty() => Stopped,
        _ => Bad(format!("no agent, status {code}, stderr {:?}, stdout {report:?}", output.stderr)),
    }
}

/// Every call of these roles with each of these errnos; with `fake` the security calls also get
/// success that did nothing.
fn faults(good: &Traced, roles: &[Role], errnos: &[u16], fake: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for role in roles {
        let mut seen = BTreeMap::new();
        for number in calls_of(good, *role) {
            let count = seen.entry(number).or_insert(0);
            let mut add = |effect| {
                faults.push(Fault { role: *role, number, occurrence: *count, effect });
            };
            errnos.iter().for_each(|errno| add(Effect::Errno(*errno)));
            if fake && SECURITY.contains(&trace::name(number)) {
                add(Effect::Nothing);
            }
            *count += 1;
        }
    }
    faults
}

/// Runs them all, two at a time; what is bad, by name.
fn sweep(good: &Traced, faults: &[Fault]) -> Vec<String> {
    let expected = normal(&good.output.stdout);
    let (next, bad) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let counts = [const { AtomicUsize::new(0) }; 3];
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = trace(&mut launch(), Some(*fault), fault.role == Role::Parent, LIMIT);
            let outcome = judge(fault.role, &run, &expected);
            println!(
                "  {fault}: {} {}",
                outcome.word(),
                run.output.stderr.lines().next().unwrap_or("")
            );
            match outcome {
                Outcome::Same => drop(counts[0].fetch_add(1, Ordering::Relaxed)),
                Outcome::Stopped => drop(counts[1].fetch_add(1, Ordering::Relaxed)),
                Outcome::Less => drop(counts[2].fetch_add(1, Ordering::Relaxed)),
                Outcome::Bad(why) => bad.lock().unwrap().push(format!("  {fault}: {why}")),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let [same, stopped, less] = counts.map(AtomicUsize::into_inner);
    let mut bad = bad.into_inner().unwrap();
    let count = faults.len();
    println!("{count} faults: {same} same, {stopped} stopped, {less} less, {} bad", bad.len());
    bad.sort();
    bad
}

/// The room: the composing child, init, and the agent's process up to its execve.
#[test] // seen to fail: the list that it prints
fn no_fault_in_the_room_makes_it_weaker() {
    let alone = alone();
    let good = match good() {
        Ok(good) => good,
        Err(reason) => return skip("no_fault_in_the_room_makes_it_weaker", &reason),
    };
    let faults = faults(&good, &ROOM, &[Errno::EPERM.0], true);
    assert!(faults.len() > 300, "{}", faults.len());
    let bad = sweep(&good, &faults);
    alone.gone_within(Duration::from_secs(1));
    assert!(bad.is_empty(), "{} faults were not contained:\n{}", bad.len(), bad.join("\n"));
}

/// The same with errnos that the launch treats in a way of its own somewhere: no such call, file,
/// argument; interrupted; no memory.
#[test] // seen to fail: the list that it prints
fn no_other_errno_makes_the_room_weaker() {
    let alone = alone();
    let good = match good() {
        Ok(good) => good,
        Err(reason) => return skip("no_other_errno_makes_the_room_weaker", &reason),
    };
    let errnos = [libc::ENOSYS, libc::ENOENT, libc::EINVAL, libc::EINTR, libc::ENOMEM];
    let errnos = errnos.map(|errno| u16::try_from(errno).unwrap());
    let bad = sweep(&good, &faults(&good, &ROOM, &errnos, false));
    alone.gone_within(Duration::from_secs(1));
    assert!(bad.is_empty(), "{} faults were not contained:\n{}", bad.len(), bad.join("\n"));
}

/// agent-shim itself, from its first call for the room to the last of the launch: a fault may end
/// the room, even one that has started, but never silently and never weaker.
#[test] // seen to fail with a `tell` that prints no error
fn no_fault_in_the_shim_makes_it_weaker() {
    let alone = alone();
    let good = match good() {
        Ok(good) => good,
        Err(reason) => return skip("no_fault_in_the_shim_makes_it_weaker", &reason),
    };
    // brk(2) has no errno: what libc makes of one is no fault that there is.
    let calls = calls_of(&good, Role::Parent);
    let first = calls.iter().position(|n| Some(*n) == nr::number("signalfd4")).unwrap();
    let occurrence = |n: usize| calls[..n].iter().filter(|other| **other == calls[n]).count();
    let mut at: Vec<_> = (first..calls.len()).map(|n| (calls[n], occurrence(n))).collect();
    // Once the agent runs, as often as it speaks: the first of each, and the end.
    for name in ["poll", "read", "write"] {
        let number = nr::number(name).unwrap();
        at.push((number, calls.iter().filter(|other| **other == number).count()));
    }
    at.push((nr::number("waitid").unwrap(), 0));
    at.retain(|(number, _)| Some(*number) != nr::number("brk"));
    let fault = |(number, occurrence)| Fault {
        role: Role::Parent,
        number,
        occurrence,
        effect: Effect::Errno(1),
    };
    let faults: Vec<_> = at.into_iter().map(fault).collect();
    let bad = sweep(&good, &faults);
    alone.gone_within(Duration::from_secs(1));
    assert!(bad.is_empty(), "{} faults were not contained:\n{}", bad.len(), bad.join("\n"));
}
