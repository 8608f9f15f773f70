//! Files that the shim reads because somebody named them: what an agent may have put there is refused, what does not
//! end is not waited for, and what a person wrote is what a shell would make of it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_shim::Sandbox;
use agent_tests::run::LIMIT;
use agent_tests::{Output, Scratch, alone, bins, is_root, room, run, run_for, shim, skip};

/// What a wait of 300 ms takes at most, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A shell line, in which `$shim` is `agent-shim run`, `$at` the directory.
fn by_shell(scratch: &Scratch, script: &str) -> Output {
    let mut command = Command::new("bash");
    command.args(["-c", script]).env("at", scratch.at(""));
    command.env("shim", format!("{} run", bins::bin("agent-shim").display()));
    run_for(command.stdin(Stdio::null()), LIMIT)
}

fn with_file(scratch: &Scratch, name: &str, script: &str) -> Output {
    let file = scratch.at(name);
    let args =
        ["run", "--env-file", file.to_str().unwrap(), "--timeout", "5s", "--", "sh", "-c", script];
    run(shim(&args).env("CALLERS", "mine"))
}

/// Under cargo the programs are built when they are first asked for, which is no part of the times here.
fn built() {
    bins::bin("agent-shim");
}

/// One error, and nothing ran.
#[track_caller]
fn is_refused(output: &Output, says: &[&str]) {
    assert_eq!((output.code(), &*output.stdout), (125, ""), "{output:?}");
    let lines: Vec<_> = output.stderr.lines().collect();
    assert!(lines[0].starts_with("agent-shim: "), "{output:?}");
    assert!(lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "), "{output:?}");
    assert!(says.iter().all(|says| output.stderr.contains(says)), "no {says:?} in {output:?}");
    assert!(output.stderr.is_ascii() && !output.stderr.contains('\u{1b}'), "{output:?}");
}

/// The workspace is the agent's; what it leaves there, the next run's `--env-file` meets.
#[test] // seen to fail with std::fs::read, which gave the outside file, the caller's variable, and hung
fn what_an_agent_left_is_no_env_file() {
    let alone = alone();
    built();
    let scratch = Scratch::new();
    scratch.file("outside/private", "TOKEN=outside\n");
    scratch.dir("ws/dir");
    let at = |name: &str| scratch.at(&format!("ws/{name}"));
    symlink("../outside/private", at("link")).unwrap();
    symlink("../outside", at("way")).unwrap();
    symlink("loop", at("loop")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::File::create(at("large")).unwrap().set_len(1 << 40).unwrap();
    fs::write(at("more"), "#".repeat((1 << 20) + 1)).unwrap();
    let outside =
        format!("hint: name {}, or --follow-links\n", scratch.at("outside/private").display());
    #[rustfmt::skip] // a row a line
    let rows: &[(&str, &str, &[&str])] = &[
        ("link",    "",                   &["--env-file", "symbolic link", "(ELOOP)", &outside]),
        ("way/private", "",               &["(ELOOP)", &outside]),
        ("loop",    "",                   &["(ELOOP)"]),
        ("fifo",    "",                   &["a FIFO", "(EOPNOTSUPP)", "<(command)"]),
        ("socket",  "",                   &["(EOPNOTSUPP)"]),
        ("dir",     "",                   &["(EISDIR)"]),
        ("none",    "",                   &["(ENOENT)"]),
        ("large",   "",                   &["more than 1 MiB", "(EFBIG)"]),
        ("more",    "",                   &["(EFBIG)"]),
        ("bare",    "A=1\nCALLERS\n",     &["line 2: ", "--env NAME"]),
        ("exports", "export CALLERS\n",   &["line 1: ", "--env NAME"]),
        ("runs",    "\nA=$(echo ran)\n",  &["line 2: ", "single quotes"]),
        ("two",     "A=1 B=2\n",          &["line 1: ", "second word"]),
        ("open",    "A='x\ny'\n",         &["line 1: ", "not closed"]),
        ("odd\n\u{1b}[31m", "A\u{1b}=1\n", &["odd\\n\\u{1b}[31m", "line 1: "]),
    ];
    for (name, text, says) in rows {
        if !text.is_empty() {
            fs::write(at(name), text).unwrap();
        }
        let begun = Instant::now();
        is_refused(&with_file(&scratch, &format!("ws/{name}"), "echo ran"), says);
        assert!(begun.elapsed() < AT_ONCE, "{name}");
    }
    for device in ["/dev/zero", "/dev/tty", "/dev/fd/0"] {
        is_refused(&run(&mut shim(&["run", "--env-file", device, "--", "echo", "ran"])), &["(E"]);
    }
    is_refused(&run(&mut shim(&["run", "--env-file", "", "--", "echo", "ran"])), &["empty"]);
    alone.no_stray();
}

/// A link in a directory of the system where only root writes is nobody's trap.
#[test] // seen to fail with the links of nobody followed
fn a_link_of_the_system_is_followed() {
    let _alone = alone();
    // /etc/os-release is one, and what it leads to is written as a shell reads it: os-release(5).
    let args = ["run", "--env-file", "/etc/os-release", "--", "sh", "-c", "echo $ID"];
    let output = run(&mut shim(&args));
    assert!(output.ok().len() > 1, "{output:?}");
    let args = ["run", "--env-file", "/usr/lib/os-release", "--", "sh", "-c", "echo $PRETTY_NAME"];
    let text = fs::read_to_string("/usr/lib/os-release").unwrap();
    assert!(text.contains(&format!("PRETTY_NAME=\"{}\"", run(&mut shim(&args)).ok().trim_end())));
}

#[test] // seen to fail with lines taken as they are
fn an_env_file_is_what_a_shell_has() {
    let _alone = alone();
    let scratch = Scratch::new();
    let text = b"# c\nexport A=1\r\nB='two  words' # c\nC=\"\\$x \\\"y\\\"\"\n D=a\\ b#c\nE=\xff\xfe\nA=2\n";
    fs::write(scratch.at("vars"), text).unwrap();
    scratch.file("more", "F=more\nG=more\n");
    let (vars, more) = (scratch.at("vars"), scratch.at("more"));
    let (vars, more) = (vars.to_str().unwrap(), more.to_str().unwrap());
    let script = "printf '%s|' \"$A\" \"$B\" \"$C\" \"$D\" \"$F\" \"$G\" \"$H\"; printf %s \"$E\" | od -An -tx1";
    let args = [
        "run",
        "--env",
        "A=before",
        "--env",
        "F=before",
        "--env-file",
        vars,
        "--env",
        "H=h",
        "--env-file",
        more,
        "--env",
        "G=last",
        "--",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(run(&mut shim(&args)).ok(), "2|two  words|$x \"y\"|a b#c|more|last|h| ff fe\n");
}

/// What the caller hands over by its number is the caller's: process substitution.
#[test] // seen to fail without `number_of`
fn a_pipe_is_read_by_its_descriptor() {
    let alone = alone();
    let scratch = Scratch::new();
    scratch.file("vars", "A=file\n");
    for (line, said) in [
        ("$shim --env-file <(echo A=1; sleep 0.3; echo B=2) -- sh -c 'echo $A $B'", "1 2\n"),
        ("echo A=3 | $shim --env-file /dev/stdin -- sh -c 'echo $A; cat'", "3\n"),
        ("echo A=4 | $shim --env-file /proc/self/fd/0 -- sh -c 'echo $A'", "4\n"),
        ("$shim --env-file /dev/fd/7 -- sh -c 'echo $A' 7<$at/vars", "file\n"),
    ] {
        assert_eq!(by_shell(&scratch, line).ok(), said, "{line}");
    }
    is_refused(&by_shell(&scratch, "$shim --env-file /dev/fd/77 -- echo ran"), &["(EBADF)"]);
    let endless = "cat /dev/zero | $shim --env-file /dev/stdin -- echo ran";
    is_refused(&by_shell(&scratch, endless), &["(EFBIG)"]);
    alone.gone_within(AT_ONCE); // the shell does not wait for what is in <()
}

/// `--timeout` is for what is read too, wherever it stands among the options; and it counts from the start.
#[test] // seen to hang with std::fs::read, and to take 5 s with the time counted from clone3
fn what_does_not_end_is_not_waited_for() {
    let alone = alone();
    built();
    let scratch = Scratch::new();
    assert!(Command::new("mkfifo").arg(scratch.at("fifo")).status().unwrap().success());
    for options in ["--env-file /dev/fd/8 --timeout 300ms", "--timeout 300ms --env-file /dev/fd/8"]
    {
        for begin in ["", "echo A=1 >&8;"] {
            let begun = Instant::now();
            let output = by_shell(
                &scratch,
                &format!("exec 8<>$at/fifo; {begin} $shim {options} -- echo ran"),
            );
            is_refused(&output, &["--env-file \"/dev/fd/8\"", "--timeout", "(ETIMEDOUT)"]);
            assert!((Duration::from_millis(300)..AT_ONCE).contains(&begun.elapsed()));
        }
    }
    let begun = Instant::now();
    let line = "(sleep 2; echo x) | $shim --file 0 /x --timeout 3s -- sleep 100";
    assert_eq!(by_shell(&scratch, line).code(), 124);
    let took = begun.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_millis(4800)).contains(&took), "{took:?}");
    alone.no_stray();
}

/// A file system that never answers, as a dead server's.
#[test] // seen to hang with the file opened in the only thread
fn a_file_system_that_does_not_answer_is_not_waited_for() {
    let alone = alone();
    if !is_root() || !std::path::Path::new("/dev/fuse").exists() {
        return skip(
            "a_file_system_that_does_not_answer_is_not_waited_for",
            "not root, or no /dev/fuse",
        );
    }
    let scratch = Scratch::new();
    built();
    scratch.dir("mnt");
    let script = "exec 8<>/dev/fuse
        mount -i -t fuse -o fd=8,rootmode=40000,user_id=0,group_id=0 none $at/mnt || exit 75
        $shim --env-file $at/mnt/f --timeout 300ms -- echo ran; code=$?
        exec 8<&-; umount -l $at/mnt; exit $code";
    let begun = Instant::now();
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script]).env("at", scratch.at(""));
    command.env("shim", format!("{} run", bins::bin("agent-shim").display()));
    let output = run_for(command.stdin(Stdio::null()), LIMIT);
    if output.code() == 75 {
        return skip(
            "a_file_system_that_does_not_answer_is_not_waited_for",
            "no fuse in this kernel",
        );
    }
    is_refused(&output, &["--timeout", "(ETIMEDOUT)"]);
    assert!(begun.elapsed() < AT_ONCE);
    alone.no_stray();
}

/// The other commands read by the same reader.
#[test] // seen to fail with `foreign`, which followed links and took FIFOs
fn filters_and_baselines_are_no_links_and_no_fifos() {
    let _alone = alone();
    let scratch = Scratch::new();
    scratch.file("f", "x");
    symlink("f", scratch.at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(scratch.at("fifo")).status().unwrap().success());
    for (name, errno) in [("link", "(ELOOP)"), ("fifo", "(EOPNOTSUPP)")] {
        let path = scratch.at(name);
        let path = path.to_str().unwrap();
        for args in [&["policy", "check", path][..], &["attribute", "--all", "--baseline", path]] {
            is_refused(&run(&mut shim(args)), &[errno, "hint: "]);
        }
    }
}

/// A mode as an agent's file and directory get it from the caller's umask.
#[test] // seen to fail with 022 for every agent
fn the_umask_is_the_callers() {
    let alone = alone();
    let scratch = Scratch::new();
    let ws = scratch.dir("ws");
    // Whoever the agent is.
    fs::set_permissions(&ws, fs::Permissions::from_mode(0o777)).unwrap();
    for (profile, umask, modes) in [
        ("full", "077", "0077 600 700 711"),
        ("full", "002", "0002 664 775 711"),
        ("full", "000", "0000 666 777 711"),
        ("full", "777", "0777 0 0 711"),
        ("ns_only", "027", "0027 640 750 711"),
    ] {
        let script = "umask; f=$(mktemp -u ./XXXXXX); : >$f; mkdir $f.d; stat -c %a $f $f.d; mkdir -m 711 $f.e; stat -c %a $f.e";
        let line = format!(
            "umask {umask}; $shim --profile {profile} --workspace $at/ws -- sh -c '{script}'"
        );
        let output = by_shell(&scratch, &line);
        assert_eq!(
            output.ok().split_whitespace().collect::<Vec<_>>().join(" "),
            modes,
            "{output:?}"
        );
    }
    // Through the library, which may not change it even for a moment.
    let ours = run(Command::new("sh").args(["-c", "umask"])).stdout;
    assert_eq!(room(Sandbox::new("sh").args(["-c", "umask"])).unwrap().ok(), ours);
    // What the shim makes in the room is what it was.
    for umask in ["022", "077"] {
        let line = format!(
            "umask {umask}; $shim -- sh -c 'stat -c %a /tmp /dev/shm /etc /etc/passwd $HOME'"
        );
        assert_eq!(by_shell(&scratch, &line).ok(), "1777\n1777\n755\n644\n700\n");
    }
    alone.no_stray();
}
