//! agent-init as the entry point of OCI containers that runc and crun make: an image of nothing but
//! agent-init and busybox, and one with a shell that is linked dynamically. As root, and rootless.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_tests::run::{LIMIT, line};
use agent_tests::scripts::Scratch;
use agent_tests::{Output, agent_init, alone, field, is_root, run, skip};

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A directory of one image and of what the runtime knows of its containers.
struct Bundle {
    scratch: Scratch,
    runtime: PathBuf,
    shell: &'static str,
}

/// Capabilities of a container, and its user.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    caps: &'static [&'static str],
}

/// What docker gives root: enough to give up everything.
const ROOT: User =
    User { uid: 0, caps: &["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP", "CAP_NET_RAW", "CAP_MKNOD"] };
/// An image with a USER line: nothing, but the bounding set is as it is.
const USER: User = User { uid: 1000, caps: &[] };

impl Bundle {
    /// An image with a file system of these files, each at its own path or the second one.
    fn new(runtime: &Path, shell: &'static str, files: &[(PathBuf, PathBuf)]) -> Bundle {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bundle-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::new(&name).unwrap();
        let root = scratch.path("rootfs");
        for dir in ["proc", "dev", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (from, to) in files {
            let to = root.join(to.strip_prefix("/").unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
        fs::copy(agent_init(), root.join("agent-init")).unwrap();
        Bundle { scratch, runtime: runtime.into(), shell }
    }

    /// agent-init and a static busybox. `None`: there is none.
    fn busybox(runtime: &Path) -> Option<Bundle> {
        let busybox = in_path("busybox")?;
        let bundle = Bundle::new(runtime, "/bin/sh", &[(busybox, "/bin/busybox".into())]);
        for name in ["sh", "cat", "mount", "unshare", "sleep", "id"] {
            symlink("busybox", bundle.scratch.path(format!("rootfs/bin/{name}"))).unwrap();
        }
        Some(bundle)
    }

    /// A shell and the libraries that ldd(1) names, cat(1) among the users of them.
    fn dynamic(runtime: &Path) -> Option<Bundle> {
        let mut files = Vec::new();
        for name in ["dash", "cat", "sleep"] {
            let program = in_path(name)?;
            let libraries = run(Command::new("ldd").arg(&program)).stdout;
            let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
            files.extend(paths.map(|path| (path.into(), path.into())));
            files.push((program, Path::new("/bin").join(name)));
        }
        assert!(files.iter().any(|(path, _)| path.ends_with("libc.so.6")), "{files:?}");
        Some(Bundle::new(runtime, "/bin/dash", &files))
    }

    /// The container of `args` with this user; its name.
    fn container(&self, user: User, args: &[&str]) -> (Command, String) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id =
            format!("agent-tests-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        fs::write(self.scratch.path("config.json"), config(user, args)).unwrap();
        let mut command = self.runtime();
        command.args(["run", "--bundle"]).arg(self.scratch.path("")).arg(&id);
        (command, id)
    }

    fn runtime(&self) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.scratch.path("state")).stdin(Stdio::null());
        command
    }

    /// A script under agent-init.
    fn sh(&self, user: User, options: &[&str], script: &str) -> Output {
        let init = ["/agent-init", "--profile", "self"];
        let args = [&init[..], options, &["--", self.shell, "-c", script]].concat();
        run(&mut self.container(user, &args).0)
    }
}

/// The runtime specification, config.json: what runc(8) and crun(1) make of `spec`, less what an
/// image of nothing has no use for.
fn config(user: User, args: &[&str]) -> String {
    let strings = |words: &[&str]| {
        let quoted = words.iter().map(|word| format!("{word:?}")); // ASCII without control characters
        format!("[{}]", quoted.collect::<Vec<_>>().join(","))
    };
    let caps = strings(user.caps);
    let all = strings(ROOT.caps);
    let me = agent_shim::sys::ids();
    let (namespaces, maps) = if is_root() {
        (r#"{"type":"network"}"#.to_owned(), String::new())
    } else {
        let map = |id| format!(r#"[{{"containerID":0,"hostID":{id},"size":1}}]"#);
        let maps = format!(r#","uidMappings":{},"gidMappings":{}"#, map(me.0), map(me.1));
        (r#"{"type":"user"}"#.to_owned(), maps)
    };
    format!(
        r#"{{"ociVersion":"1.0.2","process":{{"terminal":false,"cwd":"/","env":["PATH=/bin"],
"user":{{"uid":{uid},"gid":{uid}}},"args":{args},
"capabilities":{{"bounding":{all},"effective":{caps},"permitted":{caps},"inheritable":[],"ambient":[]}}}},
"root":{{"path":"rootfs","readonly":false}},
"mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
{{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]}},
{{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","nodev","mode=1777"]}},
{{"destination":"/tmp","type":"tmpfs","source":"tmp","options":["nosuid","nodev","mode=1777"]}}],
"linux":{{"namespaces":[{{"type":"pid"}},{{"type":"ipc"}},{{"type":"uts"}},{{"type":"mount"}},{namespaces}],
"maskedPaths":["/proc/kcore","/proc/keys"],"readonlyPaths":["/proc/sys"]{maps}}}}}"#,
        uid = user.uid,
        args = strings(args),
    )
}

/// Both images under the first runtime that can make a container here; why not is said.
fn bundles(test: &str) -> Vec<Bundle> {
    let mut reasons = Vec::new();
    for name in ["runc", "crun"] {
        let Some(runtime) = in_path(name) else {
            reasons.push(format!("no {name}"));
            continue;
        };
        let images = [("busybox", Bundle::busybox(&runtime)), ("dash", Bundle::dynamic(&runtime))];
        let mut bundles = Vec::new();
        for (image, bundle) in images {
            let Some(bundle) = bundle else {
                skip(test, &format!("no {image}"));
                continue;
            };
            // The control: the image without agent-init.
            let control = bundle.container(ROOT, &[bundle.shell, "-c", "echo fine"]).0;
            let output = run(&mut { control });
            if output.stdout == "fine\n" {
                println!("{name}, {image}");
                bundles.push(bundle);
            } else {
                reasons.push(format!("{name}, {image}: {}", output.stderr.trim()));
            }
        }
        if !bundles.is_empty() {
            return bundles;
        }
    }
    skip(test, &reasons.join("; "));
    Vec::new()
}

#[test] // seen to fail with a `Layers::SELF` that lacks each of its layers in turn
fn every_lock_is_in_force() {
    let _alone = alone();
    for bundle in bundles("every_lock_is_in_force") {
        for user in if is_root() { &[ROOT, USER][..] } else { &[ROOT] } {
            let script = "cat /proc/1/comm /proc/self/status";
            let output = bundle.sh(*user, &[], script);
            let (name, status) = output.ok().split_once('\n').unwrap();
            assert_eq!(name, "agent-init");
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(field(status, set), "0000000000000000", "{set}");
            }
            let all = u64::from_str_radix(field(status, "CapBnd"), 16).unwrap();
            assert_eq!(all == 0, user.caps.contains(&"CAP_SETPCAP"), "{all:x}");
            assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("1", "2"));
        }
    }
}

#[test] // seen to fail with no grants at all, and with WRITE for `/`
fn what_is_not_granted_is_refused() {
    let _alone = alone();
    for bundle in bundles("what_is_not_granted_is_refused") {
        let script = "for f in /evil /bin/evil /proc/self/oom_score_adj /tmp/fine /dev/null; do
            (: >$f) 2>/dev/null && echo $f; done; true";
        assert_eq!(bundle.sh(ROOT, &[], script).ok(), "/tmp/fine\n/dev/null\n");
        // The control: without agent-init, root of the container may.
        let mut control = bundle.container(ROOT, &[bundle.shell, "-c", script]).0;
        assert!(run(&mut control).ok().contains("/evil\n"));
        let named = bundle.sh(ROOT, &["--rw=/bin", "--ro=/"], script);
        assert_eq!(named.ok(), "/bin/evil\n/dev/null\n");
        if bundle.shell == "/bin/sh" {
            let calls = bundle.sh(ROOT, &[], "mount -t tmpfs x /tmp || unshare -U true || echo no");
            assert_eq!(calls.ok(), "no\n");
        }
    }
}

#[test] // seen to fail with `exit_code` that gives the signal alone
fn the_end_is_the_programs() {
    let _alone = alone();
    for bundle in bundles("the_end_is_the_programs") {
        for code in [0, 1, 9, 125, 255] {
            assert_eq!(bundle.sh(ROOT, &[], &format!("exit {code}")).code(), code);
        }
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGUSR1] {
            let output = bundle.sh(ROOT, &[], &format!("kill -{signal} $$"));
            assert_eq!(output.code(), 128 + signal);
        }
        // What is left: SIGTERM first, though PID 1 of the container has ended its work.
        let left =
            "(trap 'echo told; exit' TERM; while :; do sleep 0.01; done) & sleep 0.2; exit 3";
        let output = bundle.sh(ROOT, &[], left);
        assert_eq!((output.code(), &*output.stdout), (3, "told\n"));
        // Orphans are reaped: no zombie stays.
        let script = "for n in 1 2 3 4 5; do (sleep 0.05 &); done; sleep 0.5
            cat /proc/[0-9]*/stat | while read -r _ _ state _; do [ $state != Z ] || echo zombie; done";
        assert_eq!(bundle.sh(ROOT, &[], script).ok(), "");
        let output = run(&mut bundle.container(ROOT, &["/agent-init", "/nowhere"]).0);
        let told = "agent-init: exec: execve(/nowhere): No such file or directory (ENOENT)\n";
        assert_eq!((output.code(), &*output.stderr), (127, told));
    }
}

/// As `docker stop` does it.
#[test] // seen to fail with a `forward` that does nothing
fn a_signal_to_the_container_reaches_the_program() {
    let alone = alone();
    for bundle in bundles("a_signal_to_the_container_reaches_the_program") {
        let script = "trap 'echo told; exit 4' TERM; echo up; while :; do sleep 0.01; done";
        let args = ["/agent-init", bundle.shell, "-c", script];
        let (mut command, id) = bundle.container(ROOT, &args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        assert_eq!(line(out.as_fd(), LIMIT).as_deref(), Some("up"));
        run(bundle.runtime().args(["kill", &id, "TERM"])).ok();
        assert_eq!(line(out.as_fd(), LIMIT).as_deref(), Some("told"));
        assert_eq!(child.wait().unwrap().code(), Some(4));
    }
    alone.gone_within(LIMIT);
}
