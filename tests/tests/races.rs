//! Two rooms on one workspace: in one of them an agent exchanges what the other one, launched again and
//! again, is told to show. Whatever the moment, a launch shows its own or is refused in one sentence;
//! nothing outside is shown, written or connected to. Invariant 11 of DESIGN.md, row 32 of SECURITY.md.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use agent_shim::sys::End;
use agent_tests::bins::bin;
use agent_tests::run::{LIMIT, line};
use agent_tests::scratch::digest;
use agent_tests::{Output, Scratch, alone, is_root, run, shim};

/// What is exchanged with a link to the same thing outside, and the options of the room that is launched
/// meanwhile. `@` is the directory that both rooms may write in; the caller stands in `@/sub`, open before.
/// "Less deep": exchanged with a directory, from which `..` leads elsewhere.
struct Race {
    what: &'static str,
    /// Below `@`, and below the directory outside.
    name: &'static str,
    options: &'static str,
    /// Where the agent looks.
    looks: &'static str,
}

const fn race(
    what: &'static str,
    name: &'static str,
    options: &'static str,
    looks: &'static str,
) -> Race {
    Race { what, name, options, looks }
}

/// Behind each: how many of 200 launches showed what lies outside with the resolver before, as root and as an
/// ordinary user. Where that is 0, the row is a control.
#[rustfmt::skip] // a row a line
const RACES: &[Race] = &[
    race("directory",  "sub",           "--workspace @/sub",                       "@/sub @/alt"), // 104, 120
    race("directory",  "sub",           "--workspace @/sub/in",                    "@/sub/in @/alt/in"), // 111, 114
    race("directory",  "sub",           "--workspace @ --bind @/sub /x",           "/x"), // 8, 12
    race("directory",  "sub",           "--workspace @ --ro-bind @/sub /x",        "/x"), // 10, 3
    race("directory",  "sub",           "--home @/sub",                            "/home/agent"), // 100, 89
    race("directory",  "sub",           "--rootfs @/sub",                          "/ /in"), // 89, 95
    race("directory",  "sub",           "--rootfs @/sub --overlay",                "/ /in"), // 100, 105
    race("file",       "sub/in/id",     "--workspace @ --bind @/sub/in/id /x",     "/x"), // 13, 3
    race("file",       "sub/in/id",     "--workspace @ --ro-bind @/sub/in/id /x",  "/x"), // 17, 12
    race("socket",     "sub/in/socket", "--workspace @ --pass-socket @/sub/in/socket /x", "/x"), // 4, 9
    race(".git",       "sub/in/.git",   "--workspace @/sub/in",                    "@/sub/in/.git @/sub/in/alt"), // 1, 3; 35 of 3000
    race(".git",       "sub/in/.git",   "--git --workspace @/sub/in",              "@/sub/in/.git @/sub/in/alt"), // 2, 2; 19 of 3000
    race("gitlink",    "sub/in/module", "--workspace @/sub/in",                    "@/sub/in/module @/sub/in/alt"), // 3, 0; 23 of 3000
    race("gitlink",    "sub/in/module", "--git --workspace @/sub/in",              "@/sub/in/module @/sub/in/alt"), // 0, 2; 10 of 3000
    race("repository", "sub/in/.git",   "--workspace @/sub/in/tree",               "@/sub/in/.git"), // 115, 105
    race("repository", "sub/in/.git",   "--git --workspace @/sub/in/tree",         "@/sub/in/.git"), // 103, 98
    race("of image",   "sub/in/data",   "--rootfs @/sub/in",                       "/data"), // 0 of 3000
    race("of image",   "sub/in/data",   "--rootfs @/sub/in --overlay",             "/data"), // 0 of 3000
    race("in between", "sub/in",        "--workspace @/sub/in/data",               "@/sub/in/data @/sub/alt/data"), // 105, 107
    race("in between", "sub/in",        "--git --workspace @/sub/in/module",       "@/sub/in/module @/sub/alt/module"), // 101, 113
    race("in between", "sub/in",        "--workspace @ --bind @/sub/in/data /x",   "/x"), // 17, 4
    race("in between", "sub/in",        "--workspace @ --ro-bind @/sub/in/data /x", "/x"), // 6, 9
    race("in between", "sub/in",        "--workspace @ --ro-bind @/sub/in/id /x",  "/x"), // 7, 10
    race("in between", "sub/in",        "--workspace @ --pass-socket @/sub/in/socket /x", "/x"), // 7, 9
    race("in between", "sub/in",        "--workspace @ --mask @/sub/in/data",      "@/sub/in @/sub/alt"), // 0, 0
    race("in between", "sub/in",        "--home @/sub/in/data",                    "/home/agent"), // 104, 100
    race("in between", "sub",           "--rootfs @/sub/in",                       "/ /data"), // 105, 107
    race("in between", "sub",           "--rootfs @/sub/in --overlay",             "/ /data"), // 93, 109
    race("start",      "sub",           "--workspace .",                           "."), // 24, 13
    race("start",      "sub",           "--workspace in",                          "."), // 23, 24
    // Seen to fail with a resolver that asks the kernel for `..`, name by name after a link (/bin): 116 of 2000.
    race("less deep",  "sub/in/data",   "--bind /bin/../..@/sub/in/data/../../id /x", "/x"), // 0, 0
];

#[test] // seen to fail against the resolver before, in the rows and as often as RACES says
fn whatever_the_moment_nothing_outside_is_shown() {
    races(200);
}

#[test]
#[ignore = "takes an hour"] // --ignored
fn whatever_the_moment_nothing_outside_is_shown_10000() {
    races(10_000);
}

/// What a name leads to is asked once, by the resolver: no file between option and mount asks by a path.
#[test] // seen to fail with `dir.exists()` in `furnish::workspace`
fn between_option_and_mount_no_path_is_walked_again() {
    #[rustfmt::skip]
    let files = ["compose", "furnish", "git", "guard", "launch", "overlay", "pin", "room", "source", "spec", "tree"];
    #[rustfmt::skip]
    let calls = [
        "canonicalize", "read_link(", "metadata(", "fs::", "read_dir(", ".exists()", ".is_symlink()", "File::open",
        "File::create", "File::options", "OpenOptions",
    ];
    // After the run, only whether a name is there.
    let allowed = ["let there = |(path, _): &&(PathBuf, &str)| path.symlink_metadata().is_ok();"];
    let mut found = Vec::new();
    for file in files {
        let path = format!("{}/../shim/src/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (n, line) in (1..).zip(code.lines().map(str::trim)) {
            let is_code = !line.starts_with("//") && !line.starts_with("use ");
            if is_code && !allowed.contains(&line) && calls.iter().any(|c| line.contains(c)) {
                found.push(format!("{path}:{n}: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn races(launches: u32) {
    let alone = alone();
    let user = if is_root() { "root" } else { "an ordinary user" };
    println!("{launches} launches each, as {user}:");
    println!(
        "{:<10}  {:<49} {:>8} {:>5} {:>7} {:>7} {:>5} {:>7} {:>5} {:>11} {:>5}",
        "exchanged",
        "against",
        "launches",
        "own",
        "nothing",
        "refused",
        "read",
        "written",
        "other",
        "exchanges/s",
        "s"
    );
    let begin = Instant::now();
    let next = AtomicUsize::new(0);
    let counts: Vec<(&Race, Count)> = std::thread::scope(|scope| {
        let work = || {
            let place = Place::new();
            let races = std::iter::from_fn(|| RACES.get(next.fetch_add(1, Ordering::Relaxed)));
            races.map(|race| (race, place.race(race, launches))).collect::<Vec<_>>()
        };
        // Two: a launch spends half of its time waiting for another process of its own.
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{:.1} s", begin.elapsed().as_secs_f32());
    for (race, count) in counts {
        let what = (race.what, race.options);
        assert_eq!((count.read, count.written, &count.other), (0, 0, &vec![]), "{what:?}");
        assert!(count.own > 0, "{what:?}: nothing to be seen");
        // What is open, or never left, is its own at any moment.
        let is_always_own = ["start", "less deep"].contains(&race.what);
        assert!(is_always_own || count.own < count.launches, "{what:?}: never exchanged in time");
    }
    alone.no_stray();
}

/// How the launches of a race ended.
#[derive(Debug, Default)]
struct Count {
    launches: u32,
    /// The agent saw what it should.
    own: u32,
    /// It saw nothing at all: a link leads nowhere in a room.
    nothing: u32,
    refused: u32,
    /// Launches that showed what lies outside, or were let in there.
    read: u32,
    /// Times that something outside was not as before.
    written: u32,
    /// Neither run nor refused as it should be.
    other: Vec<String>,
}

/// The directory that the rooms share, the same outside with other contents, and its sockets.
struct Place {
    scratch: Scratch,
    own: UnixListener,
    outside: UnixListener,
}

impl Place {
    fn new() -> Place {
        let scratch = Scratch::new();
        let [own, outside] =
            [("shared/sub", "own"), ("outside/sub", "SECRET")].map(|(dir, word)| {
                plant(&scratch.dir(dir), word, &scratch.at("shared/sub/in/tree/.git"))
            });
        // Where `..` leads to from what is not as deep as it was.
        scratch.file("id", "SECRET");
        scratch.file("in/id", "SECRET");
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(scratch.at("outside"), closed.clone()).unwrap();
        fs::set_permissions(scratch.at("outside/sub"), closed).unwrap();
        Place { scratch, own, outside }
    }

    fn race(&self, race: &Race, launches: u32) -> Count {
        let shared = self.scratch.at("shared");
        let name = shared.join(race.name);
        let link = match race.what {
            "less deep" => shared.join("alt"),
            _ => name.with_file_name("alt"),
        };
        match race.what {
            "less deep" => fs::create_dir(&link).unwrap(),
            _ => symlink(self.scratch.at("outside").join(race.name), &link).unwrap(),
        }
        let held = File::open(shared.join("sub")).unwrap(); // the start directory, whatever its name
        let start = format!("/proc/self/fd/{}", held.as_raw_fd());
        let before = digest(&self.scratch.at("outside"));
        let begin = Instant::now();

        let exchanger = self.exchange(&name, &link);
        let full = |text: &str| text.replace('@', shared.to_str().unwrap());
        let (options, looks) = (full(race.options), full(race.looks));
        let agent = bin("attacker");
        let mut args = vec!["run", "--quiet"];
        args.extend(options.split(' '));
        args.extend(["--ro-bind", agent.to_str().unwrap(), "/agent", "--", "/agent", "look"]);
        args.extend(looks.split(' '));
        let mut count = Count::default();
        // More where its own is seldom caught: a race that shows nothing says nothing.
        let most = |own: u32| if own == 0 { launches * 10 } else { launches };
        while count.launches < most(count.own) {
            self.count(&run(shim(&args).current_dir(&start)), &mut count);
        }
        let rate = self.end(exchanger, &name, &link);
        let after = digest(&self.scratch.at("outside"));
        let changed = after.iter().filter(|line| !before.contains(line));
        count.written = u32::try_from(changed.clone().count()).unwrap();

        println!(
            "{:<10}  {:<49} {:>8} {:>5} {:>7} {:>7} {:>5} {:>7} {:>5} {rate:>11} {:>5.1}",
            race.what,
            race.options,
            count.launches,
            count.own,
            count.nothing,
            count.refused,
            count.read,
            count.written,
            count.other.len(),
            begin.elapsed().as_secs_f32()
        );
        changed.for_each(|line| println!("    written: {line}"));
        count.other.dedup();
        count.other.truncate(3);
        count.other.iter().for_each(|line| println!("    other: {line}"));
        count
    }

    /// What a launch came to.
    fn count(&self, output: &Output, count: &mut Count) {
        count.launches += 1;
        while self.own.accept().is_ok() {} // or it is full
        let mut seen = output.stdout.contains("SECRET") || output.stdout.contains("/outside");
        while self.outside.accept().is_ok() {
            seen = true;
        }
        let has_own = ["own", "connect: ok"].iter().any(|own| output.stdout.contains(own));
        let lines: Vec<&str> = output.stderr.lines().collect();
        let is_sentence = match *lines {
            [error] => error.starts_with("agent-shim: "),
            [error, hint] => error.starts_with("agent-shim: ") && hint.starts_with("hint: "),
            _ => false,
        };
        match output.end {
            _ if seen => count.read += 1,
            End::Exited(0) if has_own => count.own += 1,
            End::Exited(0) => count.nothing += 1,
            End::Exited(125) if is_sentence && output.stdout.is_empty() => count.refused += 1,
            _ => count.other.push(format!("{output:?}")),
        }
    }

    /// A room that may write in the shared directory, and its agent, which has begun.
    fn exchange(&self, name: &Path, link: &Path) -> Child {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (shared, agent) = (text(&self.scratch.at("shared")), text(&bin("attacker")));
        let mut room =
            shim(&["run", "--quiet", "--workspace", &shared, "--ro-bind", &agent, "/agent"]);
        room.args(["--", "/agent", "exchange"]).args([name, link]).arg("600");
        let room = room.stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line(room.stdout.as_ref().unwrap().as_fd(), LIMIT).as_deref(), Some("begun"));
        room
    }

    /// Exchanges a second; everything is as it was.
    fn end(&self, mut room: Child, name: &Path, link: &Path) -> u64 {
        let aside = self.scratch.at("shared/aside");
        fs::rename(link, &aside).unwrap(); // whichever it is, the agent finds it no more
        let said = line(room.stdout.as_ref().unwrap().as_fd(), LIMIT).unwrap();
        assert!(room.wait().unwrap().success(), "{said}");
        let moved =
            if fs::remove_dir(name).is_ok() || name.is_symlink() && fs::remove_file(name).is_ok() {
                fs::rename(&aside, name)
            } else {
                fs::remove_dir(&aside).or_else(|_| fs::remove_file(&aside))
            };
        moved.unwrap();
        let (count, ms) = said.split_once(' ').unwrap();
        count.parse::<u64>().unwrap() * 1000 / ms.parse::<u64>().unwrap().max(1)
    }
}

/// What can be exchanged: directories, a file, a socket, a repository with a submodule and with the worktree
/// of this `.git`. Each file says `word`.
fn plant(dir: &Path, word: &str, worktree: &Path) -> UnixListener {
    let file = |name: &str, content: &[u8]| fs::write(dir.join(name), content).unwrap();
    for dir in
        ["in/data", "in/module", "in/tree", "in/.git/worktrees/tree"].map(|name| dir.join(name))
    {
        fs::create_dir_all(dir).unwrap();
    }
    for name in ["id", "in/id", "in/data/id", "in/module/id"] {
        file(name, word.as_bytes());
    }
    for git in ["in/.git", "in/module/.git"] {
        for name in ["hooks", "objects", "refs"] {
            fs::create_dir_all(dir.join(git).join(name)).unwrap();
        }
        file(&format!("{git}/HEAD"), b"ref: refs/heads/main\n");
        file(&format!("{git}/config"), format!("[core]\n\tbare = false\n# {word}\n").as_bytes());
        file(&format!("{git}/id"), word.as_bytes());
    }
    file("in/.git/index", &index("module"));
    file("in/tree/.git", b"gitdir: ../.git/worktrees/tree\n");
    file("in/.git/worktrees/tree/commondir", b"../..\n");
    file("in/.git/worktrees/tree/gitdir", worktree.as_os_str().as_bytes());
    let listener = UnixListener::bind(dir.join("in/socket")).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// An index with a commit of another repository in it: gitformat-index(5), version 2.
fn index(gitlink: &str) -> Vec<u8> {
    let mode = [0, 0, 0xe0, 0]; // 160000
    let mut index = [&b"DIRC\0\0\0\x02\0\0\0\x01"[..], &[0; 24], &mode, &[0; 12 + 20]].concat();
    index.extend([0, u8::try_from(gitlink.len()).unwrap()]);
    index.extend(gitlink.bytes());
    index.resize(12 + (62 + gitlink.len() + 1).next_multiple_of(8) + 20, 0);
    index
}
