//! The options of `run`: spelled as in bwrap for what is mounted, as in docker for limits.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agent_init::error::Errno;
use agent_init::layers::Layers;
use agent_probe::{errno_name, errno_words};
use lexopt::Parser;

use super::env_file;
use super::{Command, End, Opt, Wrong, number, opt, options, utf8, value};
use crate::bounded;
use crate::limits::Resource;
use crate::profile;
use crate::source;
use crate::spec::{Base, Mode, Mount, Net, Spec, What};

/// What they ask for.
#[derive(Debug, Default, PartialEq)]
pub struct Run {
    /// The room.
    pub spec: Spec,
    /// Changes to the layers of the profile, as they were written.
    layers: Option<String>,
    /// `--rootfs`.
    rootfs: Option<PathBuf>,
    /// `--overlay`.
    overlay: bool,
    /// Whether the room has a terminal; `None`: if standard input and output are one.
    pub tty: Option<bool>,
    /// The `--env-file`s: how many variables stand before each, and its path.
    pub env_files: Vec<(usize, OsString)>,
    /// What `--file` puts in the room: which of the mounts, and the descriptor that has its content.
    pub files: Vec<(usize, RawFd)>,
    /// Where records of what happens are written.
    pub status_fd: Option<RawFd>,
    /// Descriptors that the agent keeps.
    pub keep: Vec<RawFd>,
    /// Print the resolved room instead of starting it.
    pub dry_run: bool,
    /// Tell each step.
    pub verbose: bool,
    /// Tell only what ends the run.
    pub quiet: bool,
    /// The program and its arguments; never empty.
    pub argv: Vec<OsString>,
}

type Set = Result<(), String>;

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Run>] = &[
    opt("profile",     "NAME",         "the layers of a profile [full]", |r, v| { r.spec.layers = profile::named(utf8(v)?)?; Ok(()) }),
    opt("layers",      "LIST",         "instead of them a,b, or changes to them +a,-b", |r, v| { r.layers = Some(utf8(v)?.to_owned()); Ok(()) }),
    opt("system",      "",             "the host's system directories, read-only [yes]", |r, _| base(r, Base::System)),
    opt("bare",        "",             "nothing of the host in the room but harmless devices", |r, _| base(r, Base::Bare)),
    opt("rootfs",      "DIR",          "the root of an image, read-only", |r, v| { r.rootfs = Some(value(v, 0).into()); Ok(()) }),
    opt("overlay",     "",             "over it a writable layer, which ends with the room", |r, _| { r.overlay = true; Ok(()) }),
    opt("workspace",   "DIR",          "writable, at its own path, and the start directory", |r, v| { r.spec.workspace = Some(path(v, 0)?); Ok(()) }),
    opt("git",         "",             "the workspace's .git can be committed to; without it, it is\nread-only; its hooks and config always are", |r, _| { r.spec.git = true; Ok(()) }),
    opt("bind",        "SRC DEST",     "a file or directory of the host, writable", |r, v| bind(&mut r.spec, v, "--bind", Mode::Writable)),
    opt("ro-bind",     "SRC DEST",     "the same, read-only", |r, v| bind(&mut r.spec, v, "--ro-bind", Mode::ReadOnly)),
    opt("dev-bind",    "SRC DEST",     "the same, writable and with its devices", |r, v| bind(&mut r.spec, v, "--dev-bind", Mode::Devices)),
    opt("pass-socket", "SRC DEST",     "a UNIX socket of the host that can be connected to", |r, v| bind(&mut r.spec, v, "--pass-socket", Mode::Socket)),
    opt("tmpfs",       "DEST",         "an empty writable directory of the room's own", |r, v| mount(&mut r.spec, "--tmpfs", path(v, 0)?, What::Tmpfs)),
    opt("file",        "FD DEST",      "a file with what can be read from descriptor FD", file),
    opt("symlink",     "SRC DEST",     "a symbolic link at DEST to SRC", |r, v| mount(&mut r.spec, "--symlink", path(v, 1)?, What::Symlink(text(v, 0)?.into()))),
    opt("mask",        "DEST",         "nothing, in place of what is there", |r, v| mount(&mut r.spec, "--mask", path(v, 0)?, What::Mask)),
    opt("home",        "DIR",          "the agent's home: private, or a directory of the host [private]", home),
    opt("follow-links", "",            "follow symbolic links on the way to what is shown, even\nwhere an agent may have made them", |r, _| { r.spec.follow_links = true; Ok(()) }),
    opt("chdir",       "DIR",          "the start directory [the workspace, else the home]", |r, v| { r.spec.start = Some(path(v, 0)?); Ok(()) }),
    opt("hostname",    "NAME",         "the host name in the room [room]", hostname),
    opt("uid",         "N",            "the agent's user id [the caller's; root: 65534]", |r, v| { r.spec.uid = Some(id(v)?); Ok(()) }),
    opt("gid",         "N",            "the agent's group id [likewise]", |r, v| { r.spec.gid = Some(id(v)?); Ok(()) }),
    opt("env",         "NAME[=VALUE]", "a variable; without a value, the caller's", |r, v| { r.spec.env.push(variable(value(v, 0))?); Ok(()) }),
    opt("env-file",    "FILE",         "variables, a line NAME=VALUE each, with quotes and # comments as\na shell has them, and nothing for it to expand or run", env_file),
    opt("filter",      "NAME",         "the agent's system calls: default, or strict, for what only\ncomputes [default]", |r, v| r.spec.filter.base(utf8(v)?)),
    opt("allow-group", "NAME",         "with this group of calls: `agent-shim policy groups`", |r, v| r.spec.filter.allow(utf8(v)?)),
    opt("deny-group",  "NAME",         "without this group", |r, v| r.spec.filter.deny(utf8(v)?)),
    opt("no-wx",       "",             "no memory that can be written and run", |r, _| { r.spec.filter.no_wx(); Ok(()) }),
    opt("net",         "none|host",    "the room's own loopback, or the host's network [none]", net),
    opt("pids",         "N",       "most processes and threads of the room [256]", |r, v| limit(r, v, Resource::Processes)),
    opt("memory",       "SIZE",    "most bytes of memory; K, M, G, T; without a cgroup, of each process [4G]", |r, v| limit(r, v, Resource::Memory)),
    opt("cpus",         "N",       "most processors at a time, as in 1.5 [unlimited]", |r, v| limit(r, v, Resource::Cpus)),
    opt("cpu-time",     "TIME",    "most processor time of each process; 30s, 5m, 1h [unlimited]", |r, v| limit(r, v, Resource::CpuTime)),
    opt("timeout",      "TIME",    "most wall time of the room; 500ms, 30s, 5m, 1h [unlimited]", |r, v| limit(r, v, Resource::WallTime)),
    opt("grace",        "TIME",    "from SIGTERM to SIGKILL for what does not end [5s]", |r, v| limit(r, v, Resource::Grace)),
    opt("nofile",       "N",       "most open files of each process [1024]", |r, v| limit(r, v, Resource::OpenFiles)),
    opt("fsize",        "SIZE",    "most bytes of a file that is written [1G]", |r, v| limit(r, v, Resource::FileSize)),
    opt("tmpfs-size",   "SIZE",    "most bytes in the room's own directories [256M]", |r, v| limit(r, v, Resource::TmpfsSize)),
    opt("tmpfs-inodes", "N",       "most files in them [65536]", |r, v| limit(r, v, Resource::TmpfsInodes)),
    opt("output",       "SIZE",    "most bytes on standard output and error [16M]", |r, v| limit(r, v, Resource::Output)),
    opt("tty",         "auto|on|off",  "a terminal of the room's own [auto: if stdin and stdout are one]", tty),
    opt("keep-fd",     "N",            "descriptor N of the caller, a socket or a file that lies in\nnothing that is shown, at the same number", |r, v| { r.keep.push(descriptor(v)?); Ok(()) }),
    opt("json-status-fd", "N",         "write records of what happens to descriptor N, a line each", |r, v| { r.status_fd = Some(descriptor(v)?); Ok(()) }),
    opt("best-effort", "",             "accept what this host cannot enforce, and say what it is", |r, _| { r.spec.best_effort = true; Ok(()) }),
    opt("dry-run",     "",             "print what the room would hold, and start nothing", |r, _| { r.dry_run = true; Ok(()) }),
    opt("quiet",       "",             "no warnings on stderr", |r, _| { r.quiet = true; Ok(()) }),
    opt("verbose",     "",             "tell on stderr what is done", |r, _| { r.verbose = true; Ok(()) }),
];

pub(super) fn parse(parser: Parser) -> Result<Command, Wrong> {
    let mut run = Run::default();
    match gather(parser, &mut run) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Ok(Command::Run(Box::new(run))),
        Err(line) => Err(Wrong { status_fd: run.status_fd, ..line.into() }),
    }
}

/// `Some`: a text to be printed instead.
fn gather(mut parser: Parser, run: &mut Run) -> Result<Option<Command>, String> {
    match options(&mut parser, OPTIONS, "run", run)? {
        End::Print(text) => return Ok(Some(text)),
        End::Nothing => {}
        End::Word(program) => {
            run.argv.push(program);
            run.argv.extend(parser.raw_args().map_err(|e| e.to_string())?);
        }
    }
    match run.argv.first() {
        None => {
            return Err(
                "a program is missing: agent-shim run [options] [--] PROGRAM [ARG...]".into()
            );
        }
        Some(name) if name.is_empty() => return Err("the program's name is empty".into()),
        Some(_) => {}
    }
    together(run)?;
    Ok(None)
}

/// What options mean together, wherever they stand.
fn together(run: &mut Run) -> Set {
    walls(&mut run.spec, run.layers.as_deref())?;
    if let Some(dir) = run.rootfs.take() {
        if run.spec.base == Base::Bare {
            return Err("--rootfs and --bare: one root or the other".into());
        }
        run.spec.base = Base::Image { dir, overlay: run.overlay };
    } else if run.overlay {
        return Err("--overlay lies over a root that --rootfs names".into());
    }
    if run.spec.net == Net::Host {
        run.spec.layers.remove(Layers::NET);
    }
    for (n, fd) in run.keep.iter().enumerate() {
        if run.status_fd == Some(*fd) {
            return Err(format!("--keep-fd {fd}: the agent could write records of its own"));
        }
        if run.keep.iter().take(n).any(|other| other == fd) {
            return Err(format!("--keep-fd {fd}: twice"));
        }
    }
    if run.spec.git && run.spec.workspace.is_none() {
        return Err("--git is about the repository of a --workspace".into());
    }
    Ok(())
}

/// Layers and filter: `layers` is what `--layers` says.
pub(super) fn walls(spec: &mut Spec, layers: Option<&str>) -> Set {
    if let Some(list) = layers {
        spec.layers = profile::layers(list, spec.layers)?;
    }
    if !spec.filter.is_default() && !spec.layers.contains(Layers::SECCOMP) {
        return Err(format!("a filter `{}`, and no layer seccomp", spec.filter));
    }
    spec.filter.together()
}

fn base(run: &mut Run, base: Base) -> Set {
    run.spec.base = base;
    Ok(())
}

fn mount(spec: &mut Spec, option: &'static str, dest: PathBuf, what: What) -> Set {
    spec.mounts.push(Mount { option, dest, what });
    Ok(())
}

pub(super) fn bind(spec: &mut Spec, values: &[OsString], option: &'static str, mode: Mode) -> Set {
    mount(spec, option, path(values, 1)?, What::Bind(path(values, 0)?, mode))
}

/// A path, as far as a command line can tell.
fn path(values: &[OsString], n: usize) -> Result<PathBuf, String> {
    text(values, n).map(PathBuf::from)
}

fn text(values: &[OsString], n: usize) -> Result<&OsStr, String> {
    Some(value(values, n)).filter(|v| !v.is_empty()).ok_or_else(|| "empty".to_owned())
}

fn home(run: &mut Run, values: &[OsString]) -> Set {
    let private = value(values, 0) == "private";
    run.spec.home = if private { None } else { Some(path(values, 0)?) };
    Ok(())
}

fn hostname(run: &mut Run, values: &[OsString]) -> Set {
    let name = utf8(values)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err("1 to 64 letters, digits, `-`, `.`, `_`".into());
    }
    run.spec.hostname = CString::new(name).map_err(|e| e.to_string())?;
    Ok(())
}

/// -1 means "no change" to the kernel: setresuid(2).
fn id(values: &[OsString]) -> Result<u32, String> {
    number(values).and_then(|n| if n == u32::MAX { Err("not an id".into()) } else { Ok(n) })
}

fn limit(run: &mut Run, values: &[OsString], resource: Resource) -> Set {
    run.spec.limits.ask_text(resource, utf8(values)?)?;
    let Some(most) = run.spec.limits.most(resource) else { return Ok(()) };
    match BOUNDS.iter().find(|(of, ..)| *of == resource) {
        Some((_, least, _)) if most < *least => {
            let least = resource.spelled(Some(*least));
            Err(format!("less than {least}, and no program could live with it"))
        }
        Some((.., greatest)) if most > *greatest => {
            let greatest = resource.spelled(Some(*greatest));
            Err(format!(
                "more than {greatest}, which the kernel cannot count; `unlimited` is a word"
            ))
        }
        _ => Ok(()),
    }
}

/// What can be put in force: least and greatest. A program that is given less data than this is
/// ended by a signal before it can say why; agent-init needs some descriptors; tmpfs(5) and the counters of a cgroup hold no more.
#[rustfmt::skip] // a row a line
const BOUNDS: &[(Resource, u64, u64)] = &[
    (Resource::Memory,      1 << 20, 1 << 62),
    (Resource::OpenFiles,   16,      u64::MAX),
    (Resource::TmpfsSize,   1,       1 << 62),
    (Resource::TmpfsInodes, 1,       u64::MAX >> 10), // 1 KiB is charged for each: mm/shmem.c
];

fn net(run: &mut Run, values: &[OsString]) -> Set {
    run.spec.net = match utf8(values)? {
        "none" => Net::None,
        "host" => Net::Host,
        _ => return Err("there are none and host".into()),
    };
    Ok(())
}

fn tty(run: &mut Run, values: &[OsString]) -> Set {
    run.tty = match utf8(values)? {
        "auto" => None,
        "on" => Some(true),
        "off" => Some(false),
        _ => return Err("there are auto, on and off".into()),
    };
    Ok(())
}

/// Open, and none of the agent's standard streams.
fn descriptor(values: &[OsString]) -> Result<RawFd, String> {
    let fd = RawFd::try_from(number(values)?).map_err(|_| "not a descriptor".to_owned())?;
    if fd <= 2 {
        return Err("0, 1 and 2 are the agent's standard streams".into());
    }
    crate::sys::borrow(fd).map(|_| fd).map_err(|_| "not open".to_owned())
}

/// The content is read when all options are known: it may take as long as `--timeout` says.
fn file(run: &mut Run, values: &[OsString]) -> Set {
    let fd = RawFd::try_from(number(values)?).map_err(|_| "not a descriptor".to_owned())?;
    crate::sys::borrow(fd).map_err(|_| format!("descriptor {fd} is not open"))?;
    run.files.push((run.spec.mounts.len(), fd));
    mount(&mut run.spec, "--file", path(values, 1)?, What::File([].into()))
}

/// `NAME=VALUE`, or `NAME` for the caller's value.
fn variable(spec: &OsStr) -> Result<(OsString, OsString), String> {
    let bytes = spec.as_bytes();
    let end = bytes.iter().position(|b| *b == b'=').unwrap_or(bytes.len());
    let name = OsStr::from_bytes(bytes.get(..end).unwrap_or(bytes)).to_owned();
    if name.is_empty() {
        return Err("a name is missing".into());
    }
    if name.as_bytes().contains(&b'\n') {
        return Err("a name with a newline".into());
    }
    let value = match bytes.get(end + 1..) {
        Some(value) => OsStr::from_bytes(value).to_owned(),
        None => std::env::var_os(&name).ok_or("not set here")?,
    };
    Ok((name, value))
}

/// What it says is read when all options are known: see [`Run::read`].
fn env_file(run: &mut Run, values: &[OsString]) -> Set {
    run.env_files.push((run.spec.env.len(), text(values, 0)?.to_owned()));
    Ok(())
}

impl Run {
    /// Reads the variables of each `--env-file`, in the place of the option among the others.
    pub(super) fn read(&mut self) -> Result<(), Wrong> {
        let deadline = bounded::deadline(&self.spec.limits);
        for (at, path) in std::mem::take(&mut self.env_files).into_iter().rev() {
            let wrong = |(line, hint)| Wrong {
                line: format!("--env-file {path:?}: {line}"),
                hint,
                status_fd: self.status_fd,
            };
            let text = bounded::file(&path, bounded::MOST, deadline, self.spec.follow_links);
            let text = text.map_err(|errno| wrong(unread(&path, errno)))?;
            let variables = env_file::variables(&text);
            let variables = variables.map_err(|bad| wrong((bad.to_string(), String::new())))?;
            self.spec.env.splice(at..at, variables);
        }
        Ok(())
    }
}

/// What is wrong with a file that cannot be read, and a hint.
fn unread(path: &OsStr, errno: Errno) -> (String, String) {
    let words = match errno {
        Errno::ELOOP => "a symbolic link is on the way",
        Errno::EOPNOTSUPP => "a FIFO, a socket or a device, where a regular file is read",
        Errno::EFBIG => "more than 1 MiB",
        bounded::ETIMEDOUT => {
            "it has not been read to its end within --timeout, or 10 s without it"
        }
        _ => "it cannot be read",
    };
    let hint = match errno {
        Errno::ELOOP => source::leads_to(Path::new(path))
            .map(|path| format!("name {}, or --follow-links", source::typed(&path))),
        Errno::EOPNOTSUPP => {
            Some("what a command says is passed as /dev/fd/N, as in <(command)".into())
        }
        _ => None,
    };
    let name = errno_name(i32::from(errno.0));
    (format!("{words}: {} ({name})", errno_words(&name)), hint.unwrap_or_default())
}
