//! The builder: a room and what is run in it.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;
use agent_init::orders::Flags;

use crate::error::Failure;
use crate::launch::{self, Stdio};
use crate::plan::{self, Identity, Plan, Program};
use crate::room;
use crate::supervise::Child;
use crate::sys;

/// A room to be made, and a program to be run in it.
///
/// ```no_run
/// let mut agent = agent_shim::Sandbox::new("/bin/sh").args(["-c", "id"]).spawn()?;
/// println!("{:?}", agent.wait()?);
/// # Ok::<(), agent_shim::error::Failure>(())
/// ```
#[derive(Debug)]
pub struct Sandbox {
    plan: Plan,
    stdio: Stdio,
    // A NUL somewhere: told when the room is to be started.
    invalid: Option<&'static str>,
}

impl Sandbox {
    /// `program`: a path in the room, or a name that is looked for in the room's PATH. The room
    /// is the profile `full` with the host's system directories, read-only.
    pub fn new(program: impl AsRef<OsStr>) -> Sandbox {
        let mut sandbox = Sandbox::of(Program::Path(CString::default()));
        let name = sandbox.text(program.as_ref(), "the program");
        sandbox.plan.program = Program::Path(name.clone());
        sandbox.plan.argv = vec![name];
        sandbox
    }

    /// A program in a sealed memfd, called `name`: it need not be a file of the room.
    pub fn image(program: Arc<OwnedFd>, name: &str) -> Sandbox {
        let mut sandbox = Sandbox::of(Program::Image(program));
        let name = sandbox.text(OsStr::new(name), "the name of the program");
        sandbox.plan.argv = vec![name];
        sandbox
    }

    fn of(program: Program) -> Sandbox {
        let plan = Plan {
            layers: Layers::FULL,
            omitted: Layers::empty(),
            flags: Flags::empty(),
            identity: Identity::of_caller(),
            nodes: room::system(),
            program,
            argv: Vec::new(),
            env: room::ENV.iter().map(|e| CString::from(*e)).collect(),
        };
        Sandbox { plan, stdio: [None, None, None], invalid: None }
    }

    fn text(&mut self, text: &OsStr, what: &'static str) -> CString {
        CString::new(text.as_bytes()).unwrap_or_else(|_| {
            self.invalid = Some(what);
            CString::default()
        })
    }

    /// Arguments after the name.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Sandbox {
        for arg in args {
            let arg = self.text(arg.as_ref(), "an argument");
            self.plan.argv.push(arg);
        }
        self
    }

    /// A variable of the agent's environment; it takes the place of one of the same name.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Sandbox {
        let name = [name.as_ref().as_bytes(), b"="].concat();
        let both = [&name, value.as_ref().as_bytes()].concat();
        let both = self.text(OsStr::from_bytes(&both), "a variable");
        self.plan.env.retain(|e| !e.to_bytes().starts_with(&name));
        self.plan.env.push(both);
        self
    }

    /// The layers that must be in force.
    pub fn layers(mut self, layers: Layers) -> Sandbox {
        self.plan.layers = layers;
        self
    }

    /// Nothing of the host in the room but its harmless devices.
    pub fn bare(mut self) -> Sandbox {
        self.plan.nodes = room::bare();
        self
    }

    /// Accept an older Landlock ABI than the profile needs.
    pub fn best_effort(mut self, yes: bool) -> Sandbox {
        self.plan.flags.set(Flags::BEST_EFFORT, yes);
        self
    }

    /// The filter's refusals answer errno 4095: for experiments.
    pub fn marked(mut self, yes: bool) -> Sandbox {
        self.plan.flags.set(Flags::MARKED, yes);
        self
    }

    /// Not a room but the control of an experiment: as real root, if the caller is.
    pub fn as_real_root(mut self) -> Sandbox {
        self.plan.identity = Identity::RealRoot;
        self
    }

    /// Leaves out the making of layers that are still asked back: the launch must fail. For tests
    /// of exactly that; it cannot weaken a room that starts.
    pub fn omit(mut self, layers: Layers) -> Sandbox {
        self.plan.omitted = layers;
        self
    }

    /// Descriptor 0, 1 or 2 of the agent.
    pub fn stdio(mut self, number: usize, fd: OwnedFd) -> Sandbox {
        if let Some(end) = self.stdio.get_mut(number) {
            *end = Some(fd);
        }
        self
    }

    /// Makes the room and starts the agent in it. The room ends with the *thread* that calls this:
    /// its init has PR_SET_PDEATHSIG. See prctl(2).
    pub fn spawn(&self) -> Result<Child, Failure> {
        if sys::is_privileged_by_exec() {
            let what = "set-uid, set-gid or with file capabilities";
            return Err(Failure::new(Step::IDS, "started", what, Errno::EPERM));
        }
        if plan::is_host_root(self.plan.identity) {
            let what = "no unprivileged id for the room";
            return Err(Failure::new(Step::IDS, "uid_map", what, Errno::EPERM));
        }
        if let Some(what) = self.invalid {
            return Err(Failure::new(Step::EXEC, "execve", what, Errno::EINVAL));
        }
        launch::launch(&self.plan, &self.stdio).map_err(|failure| self.in_path(failure))
    }

    /// A name that PATH has nowhere is told as the user knows it, not as its last candidate.
    fn in_path(&self, failure: Failure) -> Failure {
        match &self.plan.program {
            Program::Path(name)
                if failure.0.step == Step::EXEC
                    && failure.0.errno == Errno::ENOENT
                    && !name.to_bytes().contains(&b'/') =>
            {
                let object = [name.to_bytes(), b", in PATH"].concat();
                Failure::new(Step::EXEC, "execve", object, Errno::ENOENT)
            }
            _ => failure,
        }
    }
}
