//! A room with a terminal of its own. The test is the person at the caller's terminal: it types,
//! and sees.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_shim::sys::{self as shim_sys, Size};
use agent_tests::run::LIMIT;
use agent_tests::{Scratch, alone, bins, skip, sys};

/// A shim in a terminal of the test's.
struct Person {
    screen: OwnedFd,
    /// The side that the shim has, to ask its attributes.
    keyboard: OwnedFd,
    child: Child,
    seen: String,
    before: String,
}

impl Person {
    /// In the terminal, a command that leads a session there.
    fn runs(mut command: Command) -> Person {
        let screen = sys::with_terminal(&mut command).unwrap();
        let keyboard = shim_sys::own(shim_sys::other_side(screen.as_raw_fd()).unwrap());
        Size::new(33, 99).set(keyboard.as_raw_fd()).unwrap();
        let stdio = || Stdio::from(keyboard.try_clone().unwrap());
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        let before = modes(&keyboard);
        let child = command.spawn().unwrap();
        drop(command);
        Person { screen, keyboard, child, seen: String::new(), before }
    }

    fn in_room(args: &[&str]) -> Person {
        let mut command = Command::new(bins::bin("agent-shim"));
        command.arg("run").args(args);
        Person::runs(command)
    }

    /// bash in a room, after its first prompt.
    fn at_bash() -> Person {
        let mut person = Person::in_room(&["--env", "PS1=ready> ", "bash", "--norc", "-i"]);
        person.sees("ready> ");
        person
    }

    fn types(&self, text: &str) {
        shim_sys::write_all(self.screen.as_raw_fd(), text.as_bytes()).unwrap();
    }

    /// Reads on until `text` was seen; what came before it, too.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = sys::poll(&[self.screen.as_raw_fd()], left) == [true];
            let mut bytes = [0; 4096];
            match ready.then(|| shim_sys::read(self.screen.as_raw_fd(), &mut bytes)) {
                Some(Ok(count)) if count > 0 => {
                    self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
                }
                other => panic!("not seen: {text:?} {other:?} in {:?}", self.seen),
            }
        }
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The end, and that the terminal is as it was.
    #[track_caller]
    fn ends(mut self) -> std::process::ExitStatus {
        let pidfd = sys::pidfd_open(self.child.id()).unwrap();
        let deadline = Instant::now() + LIMIT;
        while sys::poll(&[pidfd.as_raw_fd()], Duration::ZERO) != [true] {
            assert!(Instant::now() < deadline, "still there: {:?}", self.seen);
            let fds = [pidfd.as_raw_fd(), self.screen.as_raw_fd()];
            if sys::poll(&fds, Duration::from_millis(100)).get(1) == Some(&true) {
                let mut bytes = [0; 4096];
                let count = shim_sys::read(self.screen.as_raw_fd(), &mut bytes).unwrap_or(0);
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        }
        assert_eq!(modes(&self.keyboard), self.before, "the terminal is not as it was");
        self.child.wait().unwrap()
    }
}

/// The attributes as `stty -g` has them.
fn modes(terminal: &OwnedFd) -> String {
    let mut stty = Command::new("stty");
    let output = stty.arg("-g").stdin(terminal.try_clone().unwrap()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a process of this test's with this name runs, in the foreground of its terminal.
fn in_foreground(name: &str) -> bool {
    let named = agent_tests::leak::descendants().into_iter().filter(|p| p.name == name);
    named.into_iter().any(|p| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", p.pid)).unwrap_or_default();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        p.state == 'S' && fields.get(5).is_some_and(|pgid| *pgid != "-1" && *pgid != "0")
    })
}

/// Types, sees; job control; the size at the start and after a change; the end of input.
#[test] // seen to fail without TIOCSCTTY in init, and without the row of SIGWINCH
fn a_person_at_bash() {
    let alone = alone();
    let mut person = Person::at_bash();
    assert_ne!(modes(&person.keyboard), person.before, "the control: it is raw");
    person.types("stty size; tty\r");
    assert!(person.sees("/dev/pts/0").contains("33 99"));
    // Once it has spoken, it is in the foreground.
    let sleep = "sh -c 'echo \"u\"p; exec sleep 1000'\r";
    person.types(sleep);
    person.sees("up\r\n");
    person.types("\x03");
    person.sees("^C");
    person.sees("ready> ");
    person.types("echo $?\r");
    person.sees("130\r\n");
    person.types(sleep);
    person.sees("up\r\n");
    person.types("\x1a");
    person.sees("Stopped");
    person.types("fg\r");
    person.sees("exec sleep 1000'\r\n");
    while !in_foreground("sleep") {}
    person.types("\x03");
    person.types("sleep 1000 & jobs\r");
    person.sees("Running");
    // Quoted as they are typed, the words are seen only when they are said.
    person.types("sh -c 'trap \"echo re\"\"sized; stty size; exit\" WINCH; echo w\"ai\"ts; while :; do sleep 0.1; done'\r");
    person.sees("waits\r\n");
    Size::new(44, 88).set(person.keyboard.as_raw_fd()).unwrap();
    person.sees("resized\r\n44 88\r\n");
    person.types("kill %1; echo l'as't; (exit 7)\r");
    person.sees("last\r\n");
    person.sees("ready> ");
    person.types("\x04"); // Ctrl-D
    assert_eq!(person.ends().code(), Some(7));
    alone.gone_within(LIMIT);
}

/// `auto` is on where both ends are terminals, and off else; off is no terminal at all.
#[test] // seen to fail without Flags::TERMINAL in the orders
fn when_there_is_a_terminal() {
    let alone = alone();
    let script = "test -t 0 && test -t 1 && test -t 2 && echo is one; (: </dev/tty) && echo has one; echo end";
    for (tty, expected) in
        [("auto", "is one\r\nhas one\r\n"), ("on", "is one\r\nhas one\r\n"), ("off", "")]
    {
        let mut person =
            Person::in_room(&["--tty", tty, "sh", "-c", &format!("exec 2>&1; {script}")]);
        let seen = person.sees("end\r\n");
        assert_eq!(seen.contains("is one"), !expected.is_empty(), "{tty}: {seen}");
        assert_eq!(seen.contains("has one"), !expected.is_empty(), "{tty}: {seen}");
        assert_eq!(person.ends().code(), Some(0));
    }
    // Without a terminal of the caller's: what is read, then its end.
    let mut command = Command::new("sh");
    let line =
        "printf 'a\\nb' | \"$0\" run --tty on -- sh -c 'stty -echo; cat; tty; exit 3'; echo $?";
    command.args(["-c", line]).arg(bins::bin("agent-shim")).stdin(Stdio::null());
    let output = agent_tests::run_for(&mut command, LIMIT);
    assert!(output.ok().contains("b/dev/pts/0\r\n3\n"), "{output:?}");
    alone.gone_within(LIMIT);
}

/// However it ends, the terminal is as it was: a signal to the shim, one that it does not forward,
/// the agent killed, a launch that fails, a timeout. `ends` compares.
#[test] // seen to fail with an `Outer` that is forgotten
fn the_terminal_is_as_it_was() {
    let alone = alone();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGALRM, libc::SIGSEGV, libc::SIGRTMIN()] {
        let mut person = Person::in_room(&["sh", "-c", "echo up; exec sleep 1000"]);
        person.sees("up");
        while modes(&person.keyboard) == person.before {}
        sys::kill(person.pid(), signal);
        let end = person.ends();
        let how = (end.code(), std::os::unix::process::ExitStatusExt::signal(&end));
        let forwarded = [libc::SIGTERM, libc::SIGHUP].contains(&signal);
        let expected = if forwarded { (Some(128 + signal), None) } else { (None, Some(signal)) };
        assert_eq!(how, expected);
        alone.gone_within(LIMIT);
    }
    let end = Person::in_room(&["sh", "-c", "kill -KILL $$"]).ends();
    assert_eq!(end.code(), Some(137));
    assert_eq!(Person::in_room(&["no-such-program"]).ends().code(), Some(127));
    let mut person = Person::in_room(&["--timeout", "300ms", "sleep", "1000"]);
    person.sees("is the limit");
    assert_eq!(person.ends().code(), Some(124));
    alone.gone_within(LIMIT);
}

/// SIGTSTP to the shim: the person's shell has its terminal back while the shim is stopped.
#[test] // seen to fail without `Restore` in the row of SIGTSTP
fn a_stopped_shim_gives_the_terminal_back() {
    let alone = alone();
    let person = Person::at_bash();
    let raw = modes(&person.keyboard);
    // What leads a session is not stopped by SIGTSTP; it stops itself with SIGSTOP.
    sys::kill(person.pid(), libc::SIGTSTP);
    let deadline = Instant::now() + LIMIT;
    while modes(&person.keyboard) != person.before {
        assert!(Instant::now() < deadline);
    }
    sys::kill(person.pid(), libc::SIGCONT);
    while modes(&person.keyboard) != raw {
        assert!(Instant::now() < deadline);
    }
    person.types("exit 3\r");
    assert_eq!(person.ends().code(), Some(3));
    alone.gone_within(LIMIT);
}

/// The person closes the window: the room ends, though the agent ignores what it can.
#[test] // seen to fail without `ON_HANG_UP`
fn a_terminal_that_goes_ends_the_room() {
    let alone = alone();
    let script = "trap '' HUP TERM; echo up; while :; do sleep 1000; done";
    for ignored in [&[][..], &[libc::SIGHUP]] {
        let mut command = Command::new(bins::bin("agent-shim"));
        command.args(["run", "--grace", "200ms", "sh", "-c", script]);
        sys::ignoring(&mut command, ignored);
        let mut person = Person::runs(command);
        person.sees("up");
        let Person { screen, keyboard, mut child, .. } = person;
        drop((screen, keyboard));
        let pidfd = sys::pidfd_open(child.id()).unwrap();
        assert_eq!(sys::poll(&[pidfd.as_raw_fd()], LIMIT), [true], "still there");
        child.wait().unwrap();
        alone.gone_within(LIMIT);
    }
}

/// By default what a terminal shows is not counted, and is not said to be.
#[test] // seen to fail with a `cmd::run::as_counted` that ignores `is_seen`
fn the_output_of_a_terminal_is_counted_if_asked_for() {
    let alone = alone();
    let scratch = Scratch::new();
    let file = scratch.at("records");
    for (options, by) in
        [(&[][..], "\"by\":null"), (&["--output", "1000"], "\"by\":\"agent-shim\"")]
    {
        let mut command = Command::new("sh");
        command.arg("-c").arg(
            "file=$0; shim=$1; shift; \
             exec \"$shim\" run --json-status-fd 9 \"$@\" -- true 9>\"$file\"",
        );
        command.arg(&file).arg(bins::bin("agent-shim")).args(options);
        assert_eq!(Person::runs(command).ends().code(), Some(0));
        let text = std::fs::read_to_string(&file).unwrap();
        let at = text.find("\"name\":\"output\"").unwrap();
        let row = text[at..].split('}').next().unwrap();
        assert!(row.contains(by), "{row}");
    }
    alone.gone_within(LIMIT);
}

/// What the agent types into its terminal is not typed into the person's (CVE-2017-5226).
#[test] // the control types; with the terminal of the caller alone it passes, as setsid protects too
fn typing_ahead_stays_in_the_room() {
    let alone = alone();
    let script = "import fcntl, termios\n\
        print('tries', flush=True)\n\
        for c in 'echo typed-ahead\\n':\n    \
        fcntl.ioctl(0, termios.TIOCSTI, c)\n";
    // The control, without a room: the next reader of the terminal has it.
    let mut control = Command::new("sh");
    control.args(["-c", "python3 -c \"$0\"; read -r line; echo \"got: $line\"", script]);
    let mut person = Person::runs(control);
    person.types("\n");
    let can = person.sees("got: ").contains("typed-ahead");
    person.ends();
    if !can {
        skip(
            "typing_ahead_stays_in_the_room",
            "TIOCSTI is off here: sysctl dev.tty.legacy_tiocsti",
        );
        return;
    }
    for args in [&["--profile", "ns_only"][..], &["--tty", "off", "--profile", "ns_only"], &[]] {
        let mut outer = Command::new("sh");
        outer.arg("-c").arg(
            "program=$0; shim=$1; shift; \"$shim\" run \"$@\" -- python3 -c \"$program\"; \
             echo after; read -r line; echo \"got: $line\"",
        );
        outer.arg(script).arg(bins::bin("agent-shim")).args(args);
        let mut person = Person::runs(outer);
        person.sees("tries");
        person.sees("after");
        person.types("mine\r");
        person.sees("got: mine");
        person.ends();
    }
    alone.gone_within(LIMIT);
}
