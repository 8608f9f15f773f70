//! What a start costs: this project's rooms, bubblewrap, unshare(1), and a plain fork and exec, interleaved in one run.
//!
//! `cargo bench -p agent-tests --bench start [-- --quick]`. A benchmark, not a test: it checks that every start
//! succeeds, and no number fails it. As root it runs as uid 65534, since an ordinary user is who starts agents.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, io, process};

use agent_init::bpf::AGENT_PROGRAM;
use agent_shim::profile::PROFILES;
use agent_shim::{Sandbox, image};

type Res<T> = Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 300;
const QUICK: usize = 60;
const USER: &str = "65534";

/// What the commands are asked to run: a program of the system, found in each of the rooms.
const PROGRAM: &str = "/bin/true";
const SHIM: &str = "agent-shim run --profile full --";
const SHIM_NONE: &str = "agent-shim run --profile none --";
const BWRAP: &str = "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --";
/// The filter is standard input.
const BWRAP_STRONG: &str = "bwrap --unshare-all --die-with-parent --new-session --ro-bind /usr /usr --symlink usr/lib /lib \
    --symlink usr/lib64 /lib64 --symlink usr/bin /bin --proc /proc --dev /dev --tmpfs /tmp --seccomp 0 --";
const UNSHARE: &str = "unshare --user --map-root-user --mount --pid --fork --kill-child --net --ipc --uts --cgroup --";

/// One line of the table.
struct Row<'a> {
    name: String,
    /// The row its cost is compared with as `ours`.
    ours: &'static str,
    start: Box<dyn Fn() -> Res<()> + 'a>,
    times: Vec<Duration>,
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Res<()> {
    let args: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if let Some(other) = args.iter().find(|a| !["--quick", "--test"].contains(&a.as_str())) {
        return Err(format!("{other}: there is --quick").into());
    }
    let rounds = if args.is_empty() { ROUNDS } else { QUICK };
    match env::var_os("AGENT_BENCH_DIR") {
        Some(dir) => measure(Path::new(&dir), rounds),
        None => in_scratch(&args),
    }
}

/// This program again, as an ordinary user, in a directory that such a user can reach: the target directory of root
/// may lie where that user cannot look.
fn in_scratch(args: &[String]) -> Res<()> {
    let myself = env::current_exe()?;
    let release = myself.ancestors().nth(2).ok_or("no target directory")?;
    build(release)?;
    let dir = env::temp_dir().join(format!("agent-bench-{}", process::id()));
    fs::create_dir(&dir)?;
    let result = (|| {
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        open(&dir)?; // whatever the umask
        let shim = release.join("agent-shim");
        fs::copy(&shim, dir.join("agent-shim")).map_err(|e| format!("{}: {e}", shim.display()))?;
        fs::copy(&myself, dir.join("start"))?;
        fs::write(dir.join("exit"), image::exit_program())?;
        fs::write(dir.join("filter"), filter())?;
        for name in ["agent-shim", "start", "exit", "filter"] {
            open(&dir.join(name))?;
        }
        let mut command = if agent_shim::sys::ids().0 == 0 {
            let mut setpriv = Command::new("setpriv");
            setpriv
                .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
                .arg(dir.join("start"));
            setpriv
        } else {
            Command::new(dir.join("start"))
        };
        command.args(args).env("AGENT_BENCH_DIR", &dir).current_dir("/");
        run(&mut command)
    })();
    fs::remove_dir_all(&dir)?;
    result
}

/// `cargo bench` does not build the programs of other packages.
fn build(release: &Path) -> Res<()> {
    let (Some(cargo), Some(target)) = (env::var_os("CARGO"), release.ancestors().nth(2)) else {
        return Ok(()); // not under cargo: what is there is used
    };
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--quiet", "-p", "agent-shim", "--target-dir"]);
    run(command.arg(target).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")))
}

/// The filter of the profile `full` as bubblewrap reads it: an array of `struct sock_filter`.
fn filter() -> Vec<u8> {
    let bytes = |i: &agent_init::bpf::SockFilter| {
        let [c0, c1] = i.code.to_ne_bytes();
        let [k0, k1, k2, k3] = i.k.to_ne_bytes();
        [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
    };
    AGENT_PROGRAM.iter().flat_map(bytes).collect()
}

fn run(command: &mut Command) -> Res<()> {
    let status = command.status().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// `line` and the program; `agent-shim` is the one in `dir`. Standard input is opened anew for each start, as a
/// filter is read from it.
fn command_row<'a>(name: &str, ours: &'static str, line: &'a str, dir: &'a Path) -> Row<'a> {
    let start = move || {
        let mut words = line.split_whitespace().chain([PROGRAM]);
        let name = words.next().unwrap_or_default();
        let found = if name == "agent-shim" { dir.join(name) } else { PathBuf::from(name) };
        run(Command::new(found).args(words).stdin(File::open(dir.join("filter"))?))
    };
    Row { name: name.into(), ours, start: Box::new(start), times: Vec::new() }
}

/// bubblewrap reads an empty filter as none: what it runs must find itself filtered.
fn check_strong(dir: &Path) -> Res<()> {
    let mut words = BWRAP_STRONG.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).args(["grep", "-q", "^Seccomp:[[:space:]]*2$", "/proc/self/status"]);
    run(command.stdin(File::open(dir.join("filter"))?))
}

const PLAIN: &str = "fork + exec";
const OURS_IN_PROCESS: &str = "  full";
const OURS: &str = "agent-shim run, full";

fn rows(dir: &Path) -> Res<Vec<Row<'_>>> {
    let exit = Arc::new(image::from_file(c"exit", &dir.join("exit")).map_err(|f| f.to_string())?);
    let plain = dir.join("exit");
    let start = Box::new(move || run(&mut Command::new(&plain)));
    let mut rows =
        vec![Row { name: PLAIN.into(), ours: OURS_IN_PROCESS, start, times: Vec::new() }];
    for profile in PROFILES {
        let sandbox = Sandbox::image(exit.clone(), "exit").bare().layers(profile.layers);
        let start = Box::new(move || {
            let end =
                sandbox.spawn().and_then(|mut child| child.wait()).map_err(|f| f.to_string())?;
            let ok = end == agent_shim::sys::End::Exited(0);
            if ok { Ok(()) } else { Err(format!("{}: {end:?}", profile.name).into()) }
        });
        let name = format!("  {}", profile.name);
        rows.push(Row { name, ours: OURS_IN_PROCESS, start, times: Vec::new() });
    }
    let start = Box::new(|| run(Command::new(PROGRAM).stdin(Stdio::null())));
    rows.push(Row { name: format!("fork + exec {PROGRAM}"), ours: OURS, start, times: Vec::new() });
    rows.push(command_row("agent-shim run, none", OURS, SHIM_NONE, dir));
    rows.push(command_row(OURS, OURS, SHIM, dir));
    for (name, line) in [
        ("bwrap basic", BWRAP),
        ("bwrap strong", BWRAP_STRONG),
        ("unshare, all namespaces", UNSHARE),
    ] {
        let program = line.split(' ').next().unwrap_or_default();
        let row = command_row(name, OURS, line, dir);
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            println!("{name}: not measured, {program} is not installed");
            continue;
        }
        let tried = if line == BWRAP_STRONG { check_strong(dir) } else { (row.start)() };
        match tried {
            Ok(()) => rows.push(row),
            Err(error) => println!("{name}: not measured: {error}"),
        }
    }
    Ok(rows)
}

fn measure(dir: &Path, rounds: usize) -> Res<()> {
    let mut rows = rows(dir)?;
    for round in 0..=rounds {
        for row in &mut rows {
            let begun = Instant::now();
            (row.start)()?;
            let took = begun.elapsed();
            if round > 0 {
                row.times.push(took); // the first round fills the caches
            }
        }
    }
    rows.iter_mut().for_each(|r| r.times.sort_unstable());
    print(&rows, rounds);
    Ok(())
}

fn print(rows: &[Row], rounds: usize) {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = line("/proc/cpuinfo");
    let cpu =
        cpus.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown processor");
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "start-up, spawn to exit; {rounds} rounds, interleaved; uid {}",
        agent_shim::sys::ids().0
    );
    println!("machine: {count} x {}", cpu.trim_start_matches([' ', '\t', ':']));
    println!("kernel:  Linux {}", line("/proc/sys/kernel/osrelease").trim());
    let command = "cargo bench -p agent-tests --bench start";
    println!("command: {command}{}\n", if rounds == QUICK { " -- --quick" } else { "" });
    println!("{:<26}{:>9}{:>11}{:>9}{:>8}", "", "min us", "median us", "x plain", "x ours");
    let least = |name: &str| rows.iter().find(|r| r.name == name).and_then(|r| r.times.first());
    for row in rows {
        if row.name.trim_start() == PLAIN {
            println!("in process, the exit program in the bare room");
        } else if row.name.ends_with(PROGRAM) {
            println!("as a command, {PROGRAM} (dynamic) in a room with the system");
        }
        let (Some(min), Some(median)) = (row.times.first(), row.times.get(row.times.len() / 2))
        else {
            continue;
        };
        let us = |d: &Duration| d.as_secs_f64() * 1e6;
        let times = |base: Option<&Duration>| base.map_or(f64::NAN, |b| us(min) / us(b));
        println!(
            "{:<26}{:>9.0}{:>11.0}{:>9.1}{:>8.2}",
            row.name,
            us(min),
            us(median),
            times(least(PLAIN)),
            times(least(row.ours))
        );
    }
    println!(
        "\nx: of the minima. plain: fork + exec. ours: the profile full, in process or as a command."
    );
    println!("bwrap strong has the filter of the profile full, byte for byte, and no Landlock:");
    for line in [SHIM, BWRAP, BWRAP_STRONG, UNSHARE] {
        print_wrapped(&format!("{line} {PROGRAM}"));
    }
    println!(
        "A benchmark, not a test: other work on the machine moves every number; compare within one table."
    );
}

/// At most 100 columns, continued with two more spaces.
fn print_wrapped(text: &str) {
    let mut line = String::from(" ");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            println!("{line}");
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    println!("{line}");
}
