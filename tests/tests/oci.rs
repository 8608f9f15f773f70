//! The filter as `policy dump --format oci` gives it to a container runtime: busybox does its work under runc, and what
//! the filter refuses is refused. Without the filter the same container may.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use agent_tests::{Output, Scratch, is_root, run, shim, skip};
use tinyjson::JsonValue;

/// In a container as runc's own `spec` describes it, on a read-only root, with a tmpfs at /dev/shm.
const SCRIPT: &str = "cd /dev/shm && echo work >a && busybox cp a b && busybox wc -c <b && \
    (busybox sleep 0; exit 3) || echo $?
    busybox chmod 4755 a && echo set-uid || echo refused
    busybox unshare -U /bin/busybox true && echo namespace || echo refused
    busybox uname -s";

fn member<'a>(json: &'a mut JsonValue, name: &str) -> &'a mut HashMap<String, JsonValue> {
    json[name].get_mut().unwrap()
}

/// The container of `config`, changed; `None`: runc cannot run here, and why.
fn container(scratch: &Scratch, seccomp: Option<&JsonValue>) -> Output {
    let spec = fs::read_to_string(scratch.at("spec.json")).unwrap();
    let mut config: JsonValue = spec.parse().unwrap();
    let args = ["/bin/busybox", "sh", "-c", SCRIPT].map(|word| JsonValue::String(word.into()));
    let process = member(&mut config, "process");
    process.insert("args".into(), JsonValue::Array(args.to_vec()));
    process.insert("terminal".into(), JsonValue::Boolean(false));
    if let Some(seccomp) = seccomp {
        member(&mut config, "linux").insert("seccomp".into(), seccomp.clone());
    }
    fs::write(scratch.at("config.json"), config.stringify().unwrap()).unwrap();
    let name = format!("agent-oci-{}-{}", std::process::id(), seccomp.is_some());
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(scratch.at("state")).args(["run", &name]);
    run(runc.current_dir(scratch.at("")).stdin(Stdio::null()))
}

#[test] // seen to fail with mask and value exchanged, refusals that allow
fn busybox_works_under_runc_and_is_refused_what_the_table_refuses() {
    let test = "busybox_works_under_runc_and_is_refused_what_the_table_refuses";
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let Some(busybox) = busybox else { return skip(test, "no busybox") };
    if !is_root() {
        return skip(test, "not root");
    }
    let scratch = Scratch::new();
    for dir in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys"] {
        scratch.dir(dir);
    }
    fs::copy(busybox, scratch.at("rootfs/bin/busybox")).unwrap();
    let mut spec = Command::new("runc");
    let Ok(made) = spec.arg("spec").current_dir(scratch.at("")).output() else {
        return skip(test, "no runc");
    };
    assert!(made.status.success(), "{made:?}");
    fs::rename(scratch.at("config.json"), scratch.at("spec.json")).unwrap();
    let control = container(&scratch, None);
    if !control.stdout.ends_with("Linux\n") {
        return skip(test, &format!("runc cannot run here: {}", control.stderr.trim()));
    }
    assert!(control.stdout.starts_with("5\n3\nset-uid\n"), "{control:?}");
    let dumped = run(&mut shim(&["policy", "dump", "--format", "oci"]));
    let filtered = container(&scratch, Some(&dumped.ok().parse().unwrap()));
    assert_eq!(filtered.ok(), "5\n3\nrefused\nrefused\nLinux\n", "{filtered:?}");
    // Which of the refusals is the filter's shows without it.
    println!("without the filter: {:?}", control.stdout);
}
