//! A set-uid or set-gid file in a directory of the host would outlive the room, where nosuid does not reach: owned by
//! root, if the workspace is. No call of the filter makes one.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use agent_init::layers::Layers;
use agent_shim::Sandbox;
use agent_tests::{Output, attacker, room, run, shim};

/// A directory of the host that ends with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("agent-tests-{name}-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o755).create(&dir).unwrap();
        Place(dir.canonicalize().unwrap())
    }

    /// Files with either bit.
    fn set_id(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().path());
        let has = |path: &PathBuf| path.symlink_metadata().unwrap().mode() & 0o6000 != 0;
        let mut found: Vec<_> = entries.filter(has).map(|p| p.display().to_string()).collect();
        found.sort();
        found
    }

    fn attack(&self, layers: Layers) -> Output {
        let dir = self.0.to_str().unwrap();
        let sandbox = Sandbox::image(attacker(), "attacker").args(["setid", dir]);
        let output = room(sandbox.bind(dir, dir).layers(layers)).unwrap();
        println!("{}{}", output.stdout, output.stderr);
        output
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// 11 calls, 5 modes.
#[test] // seen to fail without the rule of openat, with openat2 allowed, with `Low(1, ..)` for AnyBit in chmod
fn no_call_makes_a_set_uid_or_set_gid_file() {
    let place = Place::new("setid");
    let output = place.attack(Layers::FULL);
    let lines: Vec<_> = output.ok().lines().collect();
    assert_eq!(lines.len(), 11 * 5 + 1);
    for line in lines {
        let errno = if line.starts_with("openat2") { ": 38" } else { ": 1" };
        assert!(line.ends_with(errno), "{line}");
    }
    assert_eq!(place.set_id(), [""; 0]);
    // The control: without the filter each call makes them.
    let place = Place::new("setid-control");
    let output = place.attack(Layers::FULL - Layers::SECCOMP);
    let made = place.set_id();
    for way in [
        "chmod", "fchmod", "fchmodat", "open", "openat", "creat", "mknod", "mknodat", "unnamed",
        "openat2",
    ] {
        for mode in ["4755", "2755"] {
            let name = place.0.join(format!("{way}-{mode}")).display().to_string();
            assert!(made.contains(&name), "{name}: {output:?}");
        }
    }
    assert!(output.stdout.contains("FS_IOC_SETFLAGS: ok"), "{output:?}"); // of the file systems that have flags
}

/// Programs that give modes go on as they do, with ordinary ones.
#[test] // seen to fail with SET_ID | 0o1000, 0o700
fn ordinary_modes_are_given() {
    let place = Place::new("modes");
    let dir = place.0.to_str().unwrap();
    let script = format!(
        "set -e; cd {dir}; umask 022; echo x >a; chmod 0640 a; chmod u+x,g-r a; cp -p a b; install -m 0751 a c
        mkdir -m 1777 d; mkdir -m 0700 e; tar -cf t a b c d e; mkdir x; tar -xpf t -C x; mkfifo -m 600 f; ln a l
        mktemp -d $PWD/tmp.XXX >/dev/null; (umask 0; : >o); cp -a x y; stat -c '%a %n' a b c d e o x/a x/d y/c
        chmod u+s a 2>/dev/null || echo refused; chmod g+s e 2>/dev/null || echo refused; stat -c %a a e"
    );
    let output = run(&mut shim(&["run", "--bind", dir, dir, "--", "sh", "-c", &script]));
    let wanted = "700 a\n700 b\n751 c\n1777 d\n700 e\n666 o\n700 x/a\n1777 x/d\n751 y/c\n\
        refused\nrefused\n700\n700\n";
    assert_eq!(output.ok(), wanted, "{output:?}");
}
