//! The builder: a room and what is run in it.

use std::ffi::{CString, OsStr};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;
use agent_init::orders::Flags;

use crate::child::Child;
use crate::error::Failure;
use crate::launch;
use crate::limits::Resource;
use crate::plan::{self, Plan, Program};
use crate::policy::choice::Choice;
use crate::program;
use crate::spec::{Base, Bend, Mode, Mount, Spec, What};
use crate::stdio::Stdio;
use crate::sys;
use crate::tty::Setup;

/// A room to be made, and a program to be run in it.
///
/// ```no_run
/// let mut agent = agent_shim::Sandbox::new("/bin/sh").args(["-c", "id"]).spawn()?;
/// println!("{:?}", agent.wait()?);
/// # Ok::<(), agent_shim::error::Failure>(())
/// ```
#[derive(Debug)]
pub struct Sandbox {
    spec: Spec,
    program: Program,
    argv: Vec<CString>,
    stdio: [Stdio; 3],
    terminal: Option<Setup>,
    kept: Vec<(Arc<OwnedFd>, RawFd)>,
    flags: Flags,
    // A NUL somewhere: told when the room is to be started.
    invalid: Option<&'static str>,
}

impl Sandbox {
    /// `program`: a path in the room, or a name that is looked for in the room's PATH. The room
    /// is the profile `full` with the host's system directories, read-only.
    pub fn new(program: impl AsRef<OsStr>) -> Sandbox {
        Sandbox::of(Spec::default(), program)
    }

    /// A program in the room that `spec` describes.
    pub fn of(spec: Spec, program: impl AsRef<OsStr>) -> Sandbox {
        let mut sandbox = Sandbox {
            spec,
            program: Program::Path(CString::default()),
            argv: Vec::new(),
            stdio: [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit],
            terminal: None,
            kept: Vec::new(),
            flags: Flags::empty(),
            invalid: None,
        };
        let name = sandbox.text(program.as_ref(), "the program");
        sandbox.program = Program::Path(name.clone());
        sandbox.argv = vec![name];
        sandbox
    }

    /// A program in a sealed memfd, called `name`: it need not be a file of the room.
    pub fn image(program: Arc<OwnedFd>, name: &str) -> Sandbox {
        Sandbox { program: Program::Image(program), ..Sandbox::new(name) }
    }

    fn text(&mut self, text: &OsStr, what: &'static str) -> CString {
        CString::new(text.as_bytes()).unwrap_or_else(|_| {
            self.invalid = Some(what);
            CString::default()
        })
    }

    /// What is asked for, to be changed where no function here does.
    pub fn spec(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Arguments after the name.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Sandbox {
        for arg in args {
            let arg = self.text(arg.as_ref(), "an argument");
            self.argv.push(arg);
        }
        self
    }

    /// A variable of the agent's environment; it takes the place of one of the same name.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Sandbox {
        self.spec.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The layers that must be in force.
    pub fn layers(mut self, layers: Layers) -> Sandbox {
        self.spec.layers = layers;
        self
    }

    /// Nothing of the host in the room but its harmless devices.
    pub fn bare(mut self) -> Sandbox {
        self.spec.base = Base::Bare;
        self
    }

    /// The root of an image, read-only, or with a writable layer over it.
    pub fn rootfs(mut self, dir: impl Into<PathBuf>, overlay: bool) -> Sandbox {
        self.spec.base = Base::Image { dir: dir.into(), overlay };
        self
    }

    /// A directory of the host that the agent may write, at its own path; it starts there.
    pub fn workspace(mut self, dir: impl Into<PathBuf>) -> Sandbox {
        self.spec.workspace = Some(dir.into());
        self
    }

    fn put(mut self, option: &'static str, dest: impl Into<PathBuf>, what: What) -> Sandbox {
        self.spec.mounts.push(Mount { option, dest: dest.into(), what });
        self
    }

    /// A file or directory of the host, writable.
    pub fn bind(self, source: impl Into<PathBuf>, dest: impl Into<PathBuf>) -> Sandbox {
        self.put("bind", dest, What::Bind(source.into(), Mode::Writable))
    }

    /// A file or directory of the host, read-only.
    pub fn ro_bind(self, source: impl Into<PathBuf>, dest: impl Into<PathBuf>) -> Sandbox {
        self.put("ro_bind", dest, What::Bind(source.into(), Mode::ReadOnly))
    }

    /// A UNIX socket of the host that can be connected to.
    pub fn pass_socket(self, source: impl Into<PathBuf>, dest: impl Into<PathBuf>) -> Sandbox {
        self.put("pass_socket", dest, What::Bind(source.into(), Mode::Socket))
    }

    /// An empty writable directory of the room's own.
    pub fn tmpfs(self, dest: impl Into<PathBuf>) -> Sandbox {
        self.put("tmpfs", dest, What::Tmpfs)
    }

    /// A file of the room's own.
    pub fn file(self, dest: impl Into<PathBuf>, content: impl Into<Arc<[u8]>>) -> Sandbox {
        self.put("file", dest, What::File(content.into()))
    }

    /// Nothing, in place of what would be there.
    pub fn mask(self, dest: impl Into<PathBuf>) -> Sandbox {
        self.put("mask", dest, What::Mask)
    }

    /// Accept less than was asked for where the host cannot give it.
    pub fn best_effort(mut self, yes: bool) -> Sandbox {
        self.spec.best_effort = yes;
        self
    }

    /// Which filter the agent runs under.
    pub fn filter(mut self, choice: Choice) -> Sandbox {
        self.spec.filter = choice;
        self
    }

    /// The filter's refusals answer errno 4095: for experiments.
    pub fn marked(mut self, yes: bool) -> Sandbox {
        self.spec.marked = yes;
        self
    }

    /// Not a room but the control of an experiment: as real root, if the caller is.
    pub fn as_real_root(mut self) -> Sandbox {
        self.spec.as_real_root = true;
        self
    }

    /// An experiment that differs from this room in one thing.
    pub fn bent(mut self, bend: Bend) -> Sandbox {
        self.spec.bend = Some(bend);
        self
    }

    /// Leaves out the making of layers that are still asked back: the launch must fail. For tests
    /// of exactly that; it cannot weaken a room that starts.
    pub fn omit(mut self, layers: Layers) -> Sandbox {
        self.spec.omitted = layers;
        self
    }

    /// Descriptor 0, 1 or 2 of the agent; without it the caller's.
    pub fn stdio(mut self, number: usize, what: impl Into<Stdio>) -> Sandbox {
        if let Some(end) = self.stdio.get_mut(number) {
            *end = what.into();
        }
        self
    }

    /// Descriptors 0, 1 and 2 are a terminal of the room, which is the agent's controlling
    /// terminal; [`Child::terminal`] is its other side.
    pub fn terminal(mut self, setup: Setup) -> Sandbox {
        self.terminal = Some(setup);
        self
    }

    /// Where the agent starts: a directory of the room.
    pub fn start_in(mut self, dir: impl Into<PathBuf>) -> Sandbox {
        self.spec.start = Some(dir.into());
        self
    }

    /// At most this much, in the unit of [`crate::limits::TABLE`]; `None`: unlimited. What this
    /// host cannot enforce is an error when the room is started, unless best effort is enough.
    pub fn limit(mut self, resource: Resource, most: Option<u64>) -> Sandbox {
        self.spec.limits.ask(resource, most);
        self
    }

    /// What the agent leaves behind may take this long between SIGTERM and SIGKILL.
    pub fn grace(mut self, time: Duration) -> Sandbox {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.spec.limits.ask(Resource::Grace, Some(ms));
        self
    }

    /// A descriptor that the agent has at `number`, which is 3 or more.
    pub fn keep_fd(mut self, fd: impl Into<Arc<OwnedFd>>, number: RawFd) -> Sandbox {
        self.kept.push((fd.into(), number));
        self
    }

    /// Variations that no option sets yet, for tests.
    #[doc(hidden)]
    pub fn with_flags(mut self, flags: Flags) -> Sandbox {
        self.flags |= flags;
        self
    }

    /// What will be done: the room, resolved against what is there on the host.
    pub fn plan(&self) -> Result<Plan, Failure> {
        if let Some(what) = self.invalid {
            return Err(Failure::new(Step::EXEC, "execve", what, Errno::EINVAL));
        }
        let mut plan = Plan::of(&self.spec, self.program.clone(), self.argv.clone())?;
        plan.kept.clone_from(&self.kept);
        plan.flags |= self.flags;
        Ok(plan)
    }

    /// Makes the room and starts the agent in it. The room ends with this process, whatever
    /// thread of it calls this.
    pub fn spawn(&self) -> Result<Child, Failure> {
        self.start(&self.plan()?)
    }

    /// The same of a plan that was looked at.
    pub fn start(&self, plan: &Plan) -> Result<Child, Failure> {
        if sys::is_privileged_by_exec() {
            let what = "set-uid, set-gid or with file capabilities";
            return Err(Failure::new(Step::IDS, "started", what, Errno::EPERM));
        }
        if plan::is_host_root(plan.identity) {
            let what = "no unprivileged id for the room";
            return Err(Failure::new(Step::IDS, "uid_map", what, Errno::EPERM));
        }
        let started = match self.terminal {
            None => launch::launch(plan, &self.stdio, None),
            terminal => {
                let flags = plan.flags | Flags::TERMINAL;
                launch::launch(&Plan { flags, ..plan.clone() }, &self.stdio, terminal)
            }
        };
        started.map_err(|failure| self.in_words(plan, failure))
    }

    /// A program that is there without its interpreter is told so; a name that PATH has nowhere,
    /// as the user knows it and not as its last candidate.
    fn in_words(&self, plan: &Plan, failure: Failure) -> Failure {
        if failure.0.step != Step::EXEC || failure.0.errno != Errno::ENOENT {
            return failure;
        }
        if let Some(what) = program::without_interpreter(plan) {
            return Failure::new(Step::EXEC, "execve", what, Errno::ENOENT);
        }
        match &self.program {
            Program::Path(name) if !name.to_bytes().contains(&b'/') => {
                let object = [name.to_bytes(), b", in PATH"].concat();
                Failure::new(Step::EXEC, "execve", object, Errno::ENOENT)
            }
            _ => failure,
        }
    }
}
