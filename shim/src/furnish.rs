//! From what was asked for to what is in the room: nodes, environment, start directory.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;

use crate::error::Failure;
use crate::mounts::Mounts;
use crate::plan::{Identity, Plan};
use crate::room::{self, Bind, Kind, Node};
use crate::source::{self, NO_WORKSPACE, NOT_WITHIN, PATIENCE, Resolver, Source};
use crate::spec::{Base, Mode, Net, Spec};
use crate::tree::Asked;
use crate::{bounded, git, sockets, sys, tree};

/// Fills in the plan's nodes, environment and start directory.
pub fn room(spec: &Spec, plan: &mut Plan) -> Result<(), Failure> {
    let mounts = Mounts::read();
    let left =
        bounded::deadline(&spec.limits).map(|at| at.saturating_duration_since(Instant::now()));
    let patience = left.map_or(PATIENCE, |left| left.min(PATIENCE));
    let resolver = Resolver { follow: spec.follow_links, mounts: &mounts, patience };
    let open = |dir: &PathBuf| workspace(dir, &resolver);
    let workspace = spec.workspace.as_ref().map(open).transpose()?;
    let home = if spec.base == Base::Bare { room::BARE_HOME } else { room::HOME };
    let home = PathBuf::from(OsStr::from_bytes(home.to_bytes()));

    let mut asked: Vec<Asked> = Vec::new();
    if let Some(dir) = &workspace {
        asked.push(Asked::opened("--workspace", dir.path(), dir.clone(), Mode::Writable)?);
    }
    if let Some(dir) = &spec.home {
        let source = resolver.open("--home", dir)?;
        if !source.facts.is_dir() {
            let object = dir.as_os_str().as_bytes();
            return Err(Failure::new(Step::ROOM, "--home", object, Errno::ENOTDIR));
        }
        asked.push(Asked::opened("--home", &home, source, Mode::Writable)?);
    }
    for mount in &spec.mounts {
        asked.push(tree::asked(mount, &resolver)?);
    }
    plan.warnings.extend(
        asked.iter().filter_map(Asked::bind).filter_map(|bind| warn_broad_bind(bind, &mounts)),
    );
    plan.warnings.extend(spec.filter.warning().map(str::to_owned));
    if spec.layers.contains(Layers::SECCOMP) && !spec.layers.contains(Layers::PID) {
        plan.warnings.push(NOT_PID_1.into());
    }
    if let Some(dir) = workspace.as_ref().filter(|dir| sys::may_write(dir.as_fd()).is_err()) {
        let dir = dir.path();
        plan.warnings
            .push(format!("--workspace {dir:?}: you may not write there, nor may the agent"));
    }
    let mut repository = git::Shown::new();
    if let Some(dir) = &workspace {
        let (shown, watch) = git::mounts(dir, spec.git, &mounts, &mut plan.warnings)?;
        plan.watch = watch;
        repository = shown;
    }
    // A mount that was asked for at the same place counts.
    let taken: Vec<PathBuf> = asked.iter().map(Asked::dest).collect();
    for (source, mode) in repository.iter().filter(|(own, _)| taken.iter().all(|t| t != own.path()))
    {
        asked.push(Asked::opened(git::OPTION, source.path(), source.clone(), *mode)?);
    }
    if spec.net == Net::Host {
        plan.warnings.push("--net host: the agent reaches all that you reach".into());
    }

    let links = workspace.as_ref().map_or(&[][..], |dir| &dir.links);
    let resolved = tree::resolve(base(spec, plan, &resolver)?, asked, &mounts, links)?;
    plan.nodes = resolved.nodes;
    plan.warnings.extend(resolved.warnings);
    if !closes_sockets(plan) {
        plan.warnings.extend(sockets::warnings(&plan.nodes, &mounts));
    }
    idmap_writable(plan, workspace.as_ref(), &repository);
    let workspace = workspace.map(|dir| dir.path().to_owned());
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

/// Whether Landlock lets the room connect to the sockets only that were passed: ABI 9.
fn closes_sockets(plan: &Plan) -> bool {
    let abi = agent_init::sys::landlock_abi();
    plan.made().contains(Layers::LANDLOCK) && abi.is_ok_and(|abi| abi >= 9)
}

/// The filter has numbers, and knows agent-init by its own.
const NOT_PID_1: &str = "without the layer pid agent-init is not PID 1: what the filter says of PID 1 does not protect it";

/// What the room has before anything is asked for. The links of a system are its own.
fn base(spec: &Spec, plan: &Plan, resolver: &Resolver) -> Result<Vec<Node>, Failure> {
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
            let image = resolver.open("--rootfs", dir)?;
            // As root, an image's files are shown as the agent's: the host's own never are.
            let as_own = *overlay && matches!(plan.identity, Identity::Unprivileged { .. });
            if as_own && is_root_of_the_host(&image) {
                return Err(wrong(Errno::EBUSY));
            }
            nodes.extend(room::image(&image, *overlay).map_err(wrong)?);
        }
    }
    if spec.net == Net::Host {
        nodes.extend(name_servers(&nodes));
    }
    Ok(nodes)
}

/// By whatever name: a bind of `/` has its inode.
fn is_root_of_the_host(dir: &Source) -> bool {
    Source::itself(c"/").is_ok_and(|root| root.facts.inode == dir.facts.inode)
}

/// Where the host asks for names.
fn name_servers(nodes: &[Node]) -> Option<Node> {
    let path = c"/etc/resolv.conf";
    let etc_is_ours =
        nodes.iter().any(|n| n.path.as_c_str() == c"/etc" && n.kind == Kind::Dir(0o755));
    let source = source::at(Path::new("/etc/resolv.conf"), true).ok()?;
    let bind = tree::bind(source, Mode::ReadOnly, "--net").ok()?;
    etc_is_ours.then(|| room::node(path, Kind::Bind(bind)))
}

/// The workspace by its own path. What would give the agent the whole host, or what is no place for
/// work, is refused.
fn workspace(dir: &Path, resolver: &Resolver) -> Result<Source, Failure> {
    let wrong = |errno| Failure::new(Step::ROOM, "--workspace", dir.as_os_str().as_bytes(), errno);
    let source = resolver.open("--workspace", dir)?;
    if !source.facts.is_dir() {
        return Err(wrong(Errno::ENOTDIR));
    }
    // `/` and whatever else contains or is a directory of the system, which may be a link itself, or
    // lie in one.
    let are_moved = ["/usr", "/var"].iter().any(|dir| Source::is_link(Path::new(dir)));
    let of_the_system = |system: &&str| {
        let system = Path::new(system);
        let is_moved = are_moved || Source::is_link(system);
        let real = is_moved.then(|| Source::following_links(system).ok()).flatten();
        real.as_ref().map_or(system, Source::path).starts_with(source.path())
    };
    let within = |system: &&str| source.path().starts_with(system);
    if NO_WORKSPACE.iter().any(of_the_system) || NOT_WITHIN.iter().any(within) {
        return Err(wrong(Errno::EBUSY));
    }
    Ok(source)
}

/// A directory of the host that shows more than a caller may think of.
fn warn_broad_bind((option, bind): (&'static str, &Bind), mounts: &Mounts) -> Option<String> {
    let source = bind.source.path();
    let what = match own_home(mounts) {
        _ if is_root_of_the_host(&bind.source) => "all that you have on this host",
        Some(home) if home.starts_with(source) => "your home, with its keys and settings,",
        _ => return None,
    };
    let can = if bind.mode == Mode::ReadOnly { "read" } else { "written" };
    Some(format!("{option} {source:?}: {what} can be {can}"))
}

/// The caller's home, by the kernel's name, if that can be had at once.
fn own_home(mounts: &Mounts) -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    if mounts.waiting_on_the_way(&home).is_some() {
        return Some(home);
    }
    let home = Source::following_links(&home).ok()?;
    home.facts.is_dir().then(|| home.path().to_owned())
}

/// As root, the agent is nobody: what it may write is shown to it as its own, and what it makes
/// there is the owner's. For everyone else it is so already. Its repository is what the workspace
/// is, read-only or not: git looks at the owner. But no more is: a directory of another owner,
/// which the agent may have moved there, stays that owner's.
fn idmap_writable(plan: &mut Plan, workspace: Option<&Source>, repository: &git::Shown) {
    if !matches!(plan.identity, Identity::Unprivileged { .. })
        || !plan.made().contains(Layers::USERNS)
    {
        return;
    }
    let of_git =
        |bind: &Bind| repository.iter().any(|(own, _)| own.facts.inode == bind.source.facts.inode);
    let owner = workspace.map(|dir| dir.facts.owner);
    for node in &mut plan.nodes {
        let bind = match &mut node.kind {
            Kind::Bind(bind) if of_git(bind) && Some(bind.owner) != owner => continue,
            Kind::Bind(bind) if of_git(bind) => bind,
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
