//! Where the binaries under test are. AGENT_BIN_DIR names their directory; without it they are
//! beside the test's own directory, and built if cargo runs the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `target/<triple>/<profile>`, of which the tests lie in `deps`.
fn beside() -> PathBuf {
    let exe = std::env::current_exe().expect("/proc/self/exe");
    let deps = exe.parent().expect("a test is a file in a directory");
    if deps.ends_with("deps") { deps.with_file_name("") } else { deps.to_owned() }
}

/// `cargo test -p agent-tests` builds the shim's library, not its program. Cargo knows best
/// whether the program is fresh: it is asked once in a process, one process at a time.
fn ensure_built(dir: &Path) {
    let (Some(cargo), Some(manifest)) =
        (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    else {
        return; // not under cargo: the binaries are there or the test says that they are not
    };
    let (Some(profile), Some(triple)) = (dir.file_name(), dir.parent().and_then(Path::file_name))
    else {
        return;
    };
    let lock = File::create(dir.join(".agent-tests.lock")).expect("target can be written");
    lock.lock().expect("flock");
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--bins", "--examples"]);
    build.args(["-p", "agent-shim", "-p", "agent-probe", "-p", "agent-init"]);
    build.arg("--manifest-path").arg(Path::new(&manifest).with_file_name("Cargo.toml"));
    build.arg("--profile").arg(if profile == "debug" { "dev".as_ref() } else { profile });
    build.arg("--target").arg(triple);
    build.arg("--target-dir").arg(dir.ancestors().nth(2).expect("target/triple/profile"));
    assert!(build.status().expect("cargo can be run").success(), "agent-shim does not build");
}

/// The path of a program of this workspace.
pub fn bin(name: &str) -> PathBuf {
    static BESIDE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(dir) = std::env::var_os("AGENT_BIN_DIR") {
        let path = PathBuf::from(dir).join(name);
        if path.exists() {
            return path;
        }
    }
    let dir = BESIDE.get_or_init(|| {
        let dir = beside();
        if std::env::var_os("AGENT_BIN_DIR").is_none() {
            ensure_built(&dir);
        }
        dir
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is not built; see AGENT_BIN_DIR", path.display());
    path
}

/// The path of an example of agent-shim.
pub fn example(name: &str) -> PathBuf {
    let path = bin("agent-shim").with_file_name("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

/// `agent-shim` with these arguments and nothing on its standard input.
pub fn shim(args: &[&str]) -> Command {
    let mut command = Command::new(bin("agent-shim"));
    command.args(args).stdin(Stdio::null());
    command
}

/// agent-init, as agent-shim carries it, in a file of its own: removed at the end of the process.
pub fn agent_init() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("agent-init-{}", std::process::id()));
        std::fs::write(&path, agent_shim::image::AGENT_INIT).expect("a file in /tmp");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("chmod");
        crate::sys::at_exit(|| _ = std::fs::remove_file(agent_init()));
        path
    })
}

/// The program that attacks from within (`src/bin/attacker.rs`), to be run as
/// [`agent_shim::Sandbox::image`].
pub fn attacker() -> std::sync::Arc<std::os::fd::OwnedFd> {
    let image = agent_shim::image::from_file(c"attacker", &bin("attacker"));
    std::sync::Arc::new(image.expect("the attacker can be read"))
}
