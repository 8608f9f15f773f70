//! From what was asked for to what is in the room: nodes, environment, start directory.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;

use crate::error::{Failure, errno_of};
use crate::plan::{Identity, Plan};
use crate::room::{self, Kind, Node};
use crate::spec::{Base, Mode, Mount, Net, Spec, What};
use crate::{git, sys, tree};

/// Fills in the plan's nodes, environment and start directory.
pub fn room(spec: &Spec, plan: &mut Plan) -> Result<(), Failure> {
    let workspace = spec.workspace.as_deref().map(workspace).transpose()?;
    let home = if spec.base == Base::Bare { room::BARE_HOME } else { room::HOME };
    let home = PathBuf::from(OsStr::from_bytes(home.to_bytes()));

    let mut mounts: Vec<Mount> = Vec::new();
    let bind = |option, dest: &Path, source: &Path, mode| Mount {
        option,
        dest: dest.to_owned(),
        what: What::Bind(source.to_owned(), mode),
    };
    if let Some(dir) = &workspace {
        mounts.push(bind("--workspace", dir, dir, Mode::Writable));
    }
    if let Some(dir) = &spec.home {
        if !dir.is_dir() {
            let object = dir.as_os_str().as_bytes();
            return Err(Failure::new(Step::ROOM, "--home", object, Errno::ENOTDIR));
        }
        mounts.push(bind("--home", &home, dir, Mode::Writable));
    }
    mounts.extend(spec.mounts.iter().cloned());
    plan.warnings.extend(mounts.iter().filter_map(too_much));
    plan.warnings.extend(spec.filter.warning().map(str::to_owned));
    if spec.layers.contains(Layers::SECCOMP) && !spec.layers.contains(Layers::PID) {
        plan.warnings.push(NOT_PID_1.into());
    }
    if let Some(dir) = workspace.as_deref().filter(|dir| sys::may_write(dir).is_err()) {
        plan.warnings
            .push(format!("--workspace {dir:?}: you may not write there, nor may the agent"));
    }
    let repository = repository(workspace.as_deref(), spec, plan)?;
    mounts.extend(repository.iter().cloned());
    if spec.net == Net::Host {
        plan.warnings.push("--net host: the agent reaches all that you reach".into());
    }

    let mut asked = Vec::new();
    for mount in &mounts {
        asked.push(tree::asked(mount)?);
    }
    lead_out(spec, &mounts)?;
    plan.nodes = tree::resolve(base(spec, plan)?, asked)?;
    own_what_is_written(plan, workspace.as_deref(), &repository);
    let start = spec.start.clone().or(workspace).unwrap_or_else(|| match spec.base {
        Base::Bare => PathBuf::from("/"),
        // The host's root, which has no home of the agent's.
        _ if !spec.layers.contains(Layers::MNT) => PathBuf::from("/"),
        _ => home.clone(),
    });
    plan.start = start_directory(&start)?;
    plan.env = environment(spec, &home)?;
    Ok(())
}

/// The filter has numbers, and knows agent-init by its own.
const NOT_PID_1: &str = "without the layer pid agent-init is not PID 1: what the filter says of PID 1 does not protect it";

/// A link in a directory that the agent may write is the agent's: an earlier run may have made it,
/// to lead a source out of there, to what was never meant to be shown. Such a source is refused.
fn lead_out(spec: &Spec, mounts: &[Mount]) -> Result<(), Failure> {
    let real = |path: &Path| path.canonicalize().unwrap_or_default();
    let binds = || {
        mounts.iter().filter_map(|m| match &m.what {
            What::Bind(source, mode) => Some((m.option, source.as_path(), *mode)),
            _ => None,
        })
    };
    let is_written = |mode| matches!(mode, Mode::Writable | Mode::Devices);
    let written: Vec<PathBuf> =
        binds().filter(|(.., m)| is_written(*m)).map(|b| real(b.1)).collect();
    // These were resolved by now: as they were asked for.
    let image = match &spec.base {
        Base::Image { dir, .. } => Some(("--rootfs", dir.as_path())),
        _ => None,
    };
    let workspace = spec.workspace.as_deref().map(|dir| ("--workspace", dir));
    let sources = binds().map(|(option, source, _)| (option, source));
    for (option, source) in sources.chain(image).chain(workspace) {
        let (end, links) = (real(source), tree::links_on(source));
        let leads_out =
            |dir: &PathBuf| !end.starts_with(dir) && links.iter().any(|link| link.starts_with(dir));
        if written.iter().any(leads_out) {
            let object = source.as_os_str().as_bytes();
            return Err(Failure::new(Step::ROOM, option, object, Errno::ELOOP));
        }
    }
    Ok(())
}

/// What the room has before anything is asked for.
fn base(spec: &Spec, plan: &Plan) -> Result<Vec<Node>, Failure> {
    let mut nodes = room::bare();
    match &spec.base {
        Base::Bare => return Ok(nodes),
        Base::System => {
            nodes.extend(room::system());
            let (uid, gid) = plan.inner;
            nodes.extend(room::identity_files(uid, gid, &spec.hostname));
        }
        Base::Image { dir, overlay } => {
            let wrong =
                |errno| Failure::new(Step::ROOM, "--rootfs", dir.as_os_str().as_bytes(), errno);
            let resolved = dir.canonicalize().map_err(|e| wrong(errno_of(&e)))?;
            // As root, an image's files are shown as the agent's: the host's own never are.
            let as_own = *overlay && matches!(plan.identity, Identity::Unprivileged { .. });
            if as_own && is_root_of_the_host(&resolved) {
                return Err(wrong(Errno::EBUSY));
            }
            let entries = room::image(&resolved, *overlay).map_err(|e| wrong(errno_of(&e)))?;
            nodes.extend(entries);
        }
    }
    if spec.net == Net::Host {
        nodes.extend(resolver(&nodes));
    }
    Ok(nodes)
}

/// By whatever name: a bind of `/` has its inode.
fn is_root_of_the_host(dir: &Path) -> bool {
    let inode = |dir: &Path| dir.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    inode(dir) == inode(Path::new("/"))
}

/// Where the host asks for names.
fn resolver(nodes: &[Node]) -> Option<Node> {
    let path = c"/etc/resolv.conf";
    let etc_is_ours =
        nodes.iter().any(|n| n.path.as_c_str() == c"/etc" && n.kind == Kind::Dir(0o755));
    let source = tree::bind(Path::new("/etc/resolv.conf"), Mode::ReadOnly, "--net").ok()?;
    etc_is_ours.then(|| room::node(path, Kind::Bind(source)))
}

/// The workspace by its own path without links. What would give the agent the whole host, or
/// what is no place for work, is refused.
fn workspace(dir: &Path) -> Result<PathBuf, Failure> {
    let wrong = |errno| Failure::new(Step::ROOM, "--workspace", dir.as_os_str().as_bytes(), errno);
    let resolved = dir.canonicalize().map_err(|e| wrong(errno_of(&e)))?;
    if !resolved.is_dir() {
        return Err(wrong(Errno::ENOTDIR));
    }
    // `/` and whatever else contains or is a directory of the system.
    let of_the_system = |system: &&str| {
        let system = Path::new(system).canonicalize().unwrap_or_else(|_| system.into());
        system.starts_with(&resolved)
    };
    let within = |system: &&str| resolved.starts_with(system);
    if NO_WORKSPACE.iter().any(of_the_system) || NOT_WITHIN.iter().any(within) {
        return Err(wrong(Errno::EBUSY));
    }
    Ok(resolved)
}

/// A directory of the host that shows more than a caller may think of.
fn too_much(mount: &Mount) -> Option<String> {
    let Mount { option, what: What::Bind(source, mode), .. } = mount else { return None };
    let source = source.canonicalize().ok()?;
    let home = std::env::var_os("HOME").map(PathBuf::from).and_then(|h| h.canonicalize().ok());
    let what = match home {
        _ if is_root_of_the_host(&source) => "all that you have on this host",
        Some(home) if home.starts_with(&source) => "your home, with its keys and settings,",
        _ => return None,
    };
    let can = if *mode == Mode::ReadOnly { "read" } else { "written" };
    Some(format!("{option} {source:?}: {what} can be {can}"))
}

/// What is no workspace, nor is what contains it: directories that others rely on.
#[rustfmt::skip]
const NO_WORKSPACE: &[&str] = &[
    "/usr/bin", "/usr/lib", "/usr/sbin", "/usr/local", "/bin", "/sbin", "/lib", "/etc", "/boot",
    "/dev", "/home", "/opt", "/run", "/srv", "/tmp", "/var/lib", "/var/log", "/var/spool", "/var/tmp",
];
/// No workspace is in these.
const NOT_WITHIN: &[&str] =
    &["/proc", "/sys", "/dev", "/etc", "/boot", "/usr/bin", "/usr/lib", "/usr/sbin"];

/// What guards the workspace's repository; a mount that was asked for at the same place counts.
fn repository(
    workspace: Option<&Path>,
    spec: &Spec,
    plan: &mut Plan,
) -> Result<Vec<Mount>, Failure> {
    let Some(dir) = workspace else { return Ok(Vec::new()) };
    let (mut mounts, watch) = git::mounts(dir, spec.git, &mut plan.warnings)?;
    plan.watch = watch;
    mounts.retain(|own| !spec.mounts.iter().any(|asked| asked.dest == own.dest));
    Ok(mounts)
}

/// As root, the agent is nobody: what it may write is shown to it as its own, and what it makes
/// there is the owner's. For everyone else it is so already. Its repository is what the workspace
/// is, read-only or not: git looks at the owner. But no more is: a directory of another owner,
/// which the agent may have moved there, stays that owner's.
fn own_what_is_written(plan: &mut Plan, workspace: Option<&Path>, repository: &[Mount]) {
    if !matches!(plan.identity, Identity::Unprivileged { .. })
        || !plan.made().contains(Layers::USERNS)
    {
        return;
    }
    let path = |node: &Node| PathBuf::from(OsStr::from_bytes(node.path.to_bytes()));
    let of_git = |path: &Path| repository.iter().any(|mount| mount.dest == path);
    let owner = plan.nodes.iter().find_map(|node| match &node.kind {
        Kind::Bind(bind) if Some(&*path(node)) == workspace => Some(bind.owner),
        _ => None,
    });
    for node in &mut plan.nodes {
        let is_of_git = of_git(&path(node));
        let bind = match &mut node.kind {
            Kind::Bind(bind) if is_of_git && Some(bind.owner) != owner => continue,
            Kind::Bind(bind) if is_of_git => bind,
            // A socket: whose it is decides who may connect. Devices are the host's as they are.
            Kind::Bind(bind) if matches!(bind.mode, Mode::Writable | Mode::Socket) => bind,
            Kind::Overlay(bind) => bind,
            _ => continue,
        };
        let ids = plan.identity.ids();
        bind.shown_as_own = bind.owner != ids;
    }
}

/// A path of the room; whether it is there is seen when the agent is to start in it.
fn start_directory(path: &Path) -> Result<CString, Failure> {
    let bytes = path.as_os_str().as_bytes();
    let wrong = || Failure::new(Step::ROOM, "--chdir", bytes, Errno::EINVAL);
    if !path.is_absolute() {
        return Err(wrong());
    }
    CString::new(bytes).map_err(|_| wrong())
}

/// `NAME=VALUE`: what every room has, then what was asked for; the last of a name counts.
fn environment(spec: &Spec, home: &Path) -> Result<Vec<CString>, Failure> {
    let caller = |name: &str| std::env::var_os(name).filter(|v| is_sane(v));
    let mut all: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), room::PATH.into()),
        ("HOME".into(), home.into()),
        ("USER".into(), "agent".into()),
        ("LANG".into(), "C.UTF-8".into()),
        ("TERM".into(), caller("TERM").filter(is_name).unwrap_or_else(|| "dumb".into())),
        ("TMPDIR".into(), "/tmp".into()),
    ];
    all.extend(caller("TZ").filter(is_zone).map(|tz| ("TZ".into(), tz)));
    for (name, value) in &spec.env {
        all.retain(|(known, _)| known != name);
        all.push((name.clone(), value.clone()));
    }
    let wrong = || Failure::new(Step::EXEC, "execve", "a variable", Errno::EINVAL);
    let joined = |(name, value): (OsString, OsString)| {
        let bad = name.is_empty() || name.as_bytes().contains(&b'=');
        let both = [name.as_bytes(), b"=", value.as_bytes()].concat();
        if bad { None } else { CString::new(both).ok() }
    };
    all.into_iter().map(|v| joined(v).ok_or_else(wrong)).collect()
}

/// Of a terminal: no way to a file.
fn is_name(value: &OsString) -> bool {
    !value.as_bytes().contains(&b'/')
}

/// Of a time zone: tzset(3) looks for it below a directory.
fn is_zone(value: &OsString) -> bool {
    let text = value.to_string_lossy();
    !text.trim_start_matches(':').starts_with('/') && !text.contains("..")
}

/// A terminal's or time zone's name, and nothing that a program could take for more.
fn is_sane(value: &OsStr) -> bool {
    let bytes = value.as_bytes();
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"+-._/:,<>".contains(b);
    !bytes.is_empty() && bytes.len() <= 64 && bytes.iter().all(good) && !bytes.contains(&b'\0')
}
