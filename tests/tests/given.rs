//! What the agent is given by order: descriptors at the numbers it wants, a start directory, a
//! controlling terminal; and TCP taken away.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use agent_init::error::{Errno, Step};
use agent_init::layers::Layers;
use agent_init::orders::Flags;
use agent_shim::Sandbox;
use agent_shim::spec::Net;
use agent_tests::run::{LIMIT, line};
use agent_tests::{Scratch, alone, attacker, room, sys};

fn sh(script: &str) -> Sandbox {
    Sandbox::new("sh").args(["-c", script])
}

/// A file with this text, behind a descriptor only.
fn file(text: &str) -> OwnedFd {
    let fd = agent_shim::sys::sealed_memfd(c"given", text.as_bytes(), false).unwrap();
    let mut file = File::from(fd);
    file.rewind().unwrap();
    file.into()
}

/// Says for each descriptor past stdio its number and what is in it; the shell's own apart, which
/// it moves to 10 and more.
const LIST: &str = "for fd in /proc/$$/fd/*; do n=${fd##*/}
    [ $n -lt 3 ] || [ ! -e $fd ] || { read -r text <$fd && echo $n $text; }; done";

/// Numbers that are init's own, in an order that is no order, with holes, many of them.
#[test] // seen to fail with `place_kept` that moves nothing out of the way
fn kept_descriptors_are_where_they_are_wanted() {
    let alone = alone();
    let sets: [&[RawFd]; 9] = [
        &[3],
        &[4],
        &[3, 4, 5, 6, 7, 8],
        &[8, 7, 6, 5, 4, 3],
        &[4, 3, 9, 7],
        &[7, 8, 9, 10, 11, 12, 13],
        &[500, 3, 20],
        &[1023],
        &[6, 30, 5, 31, 4, 32, 3, 33, 7, 34, 8, 35],
    ];
    for layers in [Layers::FULL, Layers::NONE] {
        for wanted in sets {
            let with = |sandbox: Sandbox| {
                let kept =
                    wanted.iter().fold(sandbox, |s, n| s.keep_fd(file(&format!("for {n}\n")), *n));
                room(kept.layers(layers)).unwrap()
            };
            let output = with(sh(LIST));
            let mut expected: Vec<_> = wanted.to_vec();
            expected.sort_by_key(|n| n.to_string()); // as the shell sorts
            let expected: String = expected.iter().map(|n| format!("{n} for {n}\n")).collect();
            assert_eq!(output.ok(), expected, "{wanted:?} {}", output.stderr);
            // By descriptor the program has a number of its own.
            let output = with(Sandbox::image(attacker(), "attacker").args(["fds"]));
            let mut expected: Vec<_> = [0, 1, 2].iter().chain(wanted).copied().collect();
            expected.sort_unstable();
            assert_eq!(output.ok(), format!("{expected:?}\n"), "{wanted:?}");
        }
    }
    alone.no_stray();
}

/// The same socket at two numbers, and one that the agent can write to.
#[test] // seen to fail with kept descriptors that are close-on-exec
fn a_kept_descriptor_can_be_used() {
    let _alone = alone();
    let (read, write) = std::os::unix::net::UnixStream::pair().unwrap();
    let write = std::sync::Arc::new(OwnedFd::from(write));
    let sandbox = sh("echo one >&3; echo two >&7").keep_fd(write.clone(), 3).keep_fd(write, 7);
    assert_eq!(room(sandbox).unwrap().ok(), "");
    assert_eq!(line(read.as_fd(), LIMIT).as_deref(), Some("one"));
    assert_eq!(line(read.as_fd(), LIMIT).as_deref(), Some("two"));
}

/// What the agent could open once more, with more rights than it was given: pipes of both kinds at
/// both ends, both sides of a terminal, what lies on no mount. The controls: a memfd that is sealed,
/// a file, a socket.
#[test] // seen to fail without `launch::may_be_opened_again`
fn what_could_be_opened_again_is_not_kept() {
    let alone = alone();
    let dir = Scratch::new();
    let fifo = dir.at("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let fifo = File::options().read(true).write(true).open(fifo).unwrap();
    let (read, write) = agent_shim::sys::pipe().unwrap();
    let (master, slave) = sys::terminal().unwrap();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    for (fd, errno, word) in [
        (read, Errno::EOPNOTSUPP, "a pipe"),
        (write, Errno::EOPNOTSUPP, "a pipe"),
        (fifo.into(), Errno::EOPNOTSUPP, "a pipe or FIFO"),
        (slave, Errno::EOPNOTSUPP, "a terminal"),
        (master, Errno::EOPNOTSUPP, "a terminal"), // it hangs up the other
        (sys::memfd(), Errno::EXDEV, "on no mount"),
        (sys::half_sealed_memfd(), Errno::EXDEV, "on no mount"), // its end could be cut off
        (null(), Errno::ENODEV, "a device"),
    ] {
        let Err(failure) = room(sh("echo ran").keep_fd(fd, 5)) else { panic!("kept: {word}") };
        assert_eq!((failure.0.step, failure.0.errno), (Step::KEEP, errno), "{failure}");
        assert!(failure.to_string().contains(&format!("--keep-fd 5, {word}")), "{failure}");
        assert!(!failure.hint().is_empty(), "{failure}");
    }
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let on_disk = OwnedFd::from(File::open(dir.file("file", "text")).unwrap());
    let kept = sh("echo ran").keep_fd(file("text"), 4);
    let kept = kept.keep_fd(OwnedFd::from(socket), 6).keep_fd(on_disk, 7);
    assert_eq!(room(kept).unwrap().ok(), "ran\n");
    alone.no_stray();
}

/// What leads out of the room, or is no number to keep something at.
#[test] // seen to fail without `launch::may_be_given` for them
fn what_cannot_be_kept_is_refused() {
    let alone = alone();
    let fails = |sandbox: Sandbox, errno: Errno, word: &str| {
        let failure = room(sandbox).unwrap_err();
        assert_eq!((failure.0.step, failure.0.errno), (Step::KEEP, errno), "{failure}");
        assert!(failure.to_string().contains(word), "{failure}");
    };
    let null = || file("text");
    let at = |path: &str, flags: i32| {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), flags);
        OwnedFd::from(options.open(path).unwrap())
    };
    let agent = || sh("echo ran");
    fails(agent().keep_fd(null(), 2), Errno::EINVAL, "2");
    fails(agent().keep_fd(null(), -1), Errno::EINVAL, "-1");
    fails(agent().keep_fd(null(), 5).keep_fd(null(), 5), Errno::EINVAL, "5, twice");
    fails(agent().keep_fd(at("/", libc::O_DIRECTORY), 5), Errno::EISDIR, "--keep-fd");
    fails(agent().keep_fd(at("/dev/null", libc::O_PATH), 5), Errno::EBADF, "--keep-fd");
    fails(agent().keep_fd(null(), 1024), Errno::EBADF, "dup3"); // RLIMIT_NOFILE
    alone.no_stray();
}

#[test] // seen to fail with a `start` that is always "/"
fn the_agent_starts_where_it_is_told() {
    let alone = alone();
    for dir in ["/", "/tmp", "/usr/bin", "/proc/self", "/dev/pts"] {
        let output = room(sh("pwd -P; ls >/dev/null").start_in(dir)).unwrap();
        let real = if dir == "/proc/self" { "/proc/2" } else { dir };
        assert_eq!(output.ok(), format!("{real}\n"));
    }
    for (dir, errno) in
        [("/nowhere", Errno::ENOENT), ("/dev/null", Errno::ENOTDIR), ("/proc/1/cwd", Errno::EACCES)]
    {
        let failure = room(sh("echo ran").start_in(dir)).unwrap_err();
        assert_eq!((failure.0.step, failure.0.errno), (Step::CHDIR, errno), "{failure}");
        assert!(failure.to_string().contains(&format!("chdir({dir})")), "{failure}");
    }
    alone.no_stray();
}

/// `ls /` works, and nothing else is granted by it.
#[test] // seen to fail without ROOT_ACCESS
fn the_root_can_be_listed_and_not_written() {
    let _alone = alone();
    for layers in [Layers::WITH_LANDLOCK, Layers::FULL] {
        let output =
            room(sh("ls /; (: >/evil); mkdir /evil; ls /usr/.. | grep evil; true").layers(layers))
                .unwrap();
        assert!(output.ok().lines().any(|name| name == "usr"), "{output:?}");
        assert_eq!(output.stderr.matches("Permission denied").count(), 2, "{output:?}");
    }
}

/// A terminal is the agent's: `/dev/tty` opens, and its group is in the foreground. The control: without
/// the flag the same pty is none to it.
#[test] // seen to fail without TIOCSCTTY in `process::apply_agent`
fn a_terminal_becomes_the_controlling_terminal() {
    let alone = alone();
    let script =
        "exec 2>&1; tty </dev/tty && : >/dev/tty && ps -o tpgid= -p $$ && echo $$; echo end";
    for layers in [Layers::FULL, Layers::NONE] {
        for (flags, has) in [(Flags::TERMINAL, true), (Flags::empty(), false)] {
            let (master, slave) = sys::terminal().unwrap();
            let end = |n, sandbox: Sandbox| sandbox.stdio(n, slave.try_clone().unwrap());
            let sandbox = sh(script).layers(layers).with_flags(flags);
            let mut child = end(2, end(1, end(0, sandbox))).spawn().unwrap();
            let mut lines = Vec::new();
            while lines.last().map(String::as_str) != Some("end") {
                lines.push(line(master.as_fd(), LIMIT).unwrap());
            }
            assert!(child.wait_for(LIMIT).unwrap().is_some());
            match has {
                true => assert_eq!((lines.len(), lines[1].trim()), (4, &*lines[2]), "{lines:?}"),
                false => assert!(lines[0].contains("/dev/tty"), "{lines:?}"),
            }
        }
    }
    alone.no_stray();
}

/// Descriptor 0 must be a terminal, and one that is nobody's yet.
#[test] // seen to fail with `take_terminal` whose error is dropped
fn what_is_no_terminal_cannot_be_one() {
    let _alone = alone();
    let failure = room(sh("echo ran").with_flags(Flags::TERMINAL)).unwrap_err();
    assert_eq!(failure.0.step, Step::SESSION, "{failure}");
    assert!(failure.to_string().contains("TIOCSCTTY"), "{failure}");
}

/// Without the net layer and without the host's network asked for: no bind and no connect. The
/// controls: asked for, and UDP, which Landlock does not know.
#[test] // seen to fail without NO_TCP in `Plan::of`, without the second word of the ruleset
fn tcp_can_be_taken_away() {
    let alone = alone();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let ask = |layers: Layers, net| {
        let mut sandbox = Sandbox::image(attacker(), "attacker").args(["tcp", &port]);
        sandbox.spec().net = net;
        room(sandbox.layers(layers)).unwrap().ok().to_owned()
    };
    let without_net = Layers::FULL - Layers::NET;
    assert_eq!(ask(without_net, Net::None), "bind 13\nconnect 13\nudp ok\n");
    assert_eq!(ask(without_net, Net::Host), "bind ok\nconnect ok\nudp ok\n");
    assert_eq!(ask(Layers::FULL, Net::None), "bind ok\nconnect 111\nudp ok\n");
    let mut null = File::options().write(true).open("/dev/null").unwrap();
    writeln!(null, "{}", server.as_raw_fd()).unwrap(); // open until here
    alone.no_stray();
}
