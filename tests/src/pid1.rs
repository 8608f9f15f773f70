//! Programs that are PID 1, or a child like any other: agent-init alone, and its peers.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{agent_init, run_for};

/// What it runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// PID 1 of a pid namespace, with its own proc; root of a user namespace.
    Pid1,
    /// A child of the test.
    Child,
}

/// Both.
pub const BOTH: [As; 2] = [As::Pid1, As::Child];

/// `program` with these arguments, nothing on standard input, and no core files.
pub fn command(how: As, program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(if how == As::Pid1 { "unshare" } else { "sh" });
    if how == As::Pid1 {
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]);
        command.args(["--mount-proc", "--", "sh"]);
    }
    command.args(["-c", "ulimit -c 0; exec \"$@\"", "sh"]).arg(program).args(args);
    command.stdin(Stdio::null());
    command
}

/// agent-init with these arguments.
pub fn init(how: As, args: &[&str]) -> Command {
    command(how, agent_init(), args)
}

/// Why nothing can be PID 1 here, if so.
pub fn no_pid_1() -> Option<String> {
    let output = run_for(&mut command(As::Pid1, "true".as_ref(), &[]), Duration::from_secs(20));
    (output.end != agent_shim::sys::End::Exited(0)).then(|| output.stderr.trim().to_owned())
}

/// The process that has the role of init, as the host numbers it: of `unshare` the child.
pub fn pid(how: As, child: &Child) -> i32 {
    let parent = child.id();
    if how == As::Child {
        return parent.cast_signed();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let file = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().expect("a number");
        }
        assert!(Instant::now() < deadline, "unshare has no child");
        std::thread::yield_now();
    }
}
