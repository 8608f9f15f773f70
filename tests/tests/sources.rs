//! What of the host is shown: links on the way to it, guards at every place that shows a file, devices,
//! sockets, mounts below it, file systems that do not answer.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use agent_tests::run::{LIMIT, Output};
use agent_tests::{Scratch, alone, is_root, run, run_for, shim, skip};

/// `agent-shim run OPTIONS -- sh -c SCRIPT`.
fn sh(options: &[&str], script: &str) -> Output {
    let mut args = vec!["run"];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    let output = run(&mut shim(&args));
    println!("{options:?}: {output:?}");
    output
}

/// Nothing was started, and it is said in one sentence and one hint with these words.
#[track_caller]
fn refused(options: &[&str], words: &[&str]) {
    let output = sh(options, "echo ran");
    assert_eq!((output.code(), &*output.stdout), (125, ""), "{options:?}");
    let lines: Vec<_> = output.stderr.lines().filter(|l| !l.contains("warning: ")).collect();
    assert!(lines.len() <= 2, "{lines:?}");
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{words:?} in {lines:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// For each option a link at the end, in the middle, relative and absolute, in a directory that an agent
/// may have written: refused, with the path to type; with `--follow-links` it is what it leads to.
#[test] // seen to fail with `is_roots_alone` that is always true
fn a_link_that_an_agent_may_have_made_is_refused() {
    let alone = alone();
    let scratch = Scratch::new();
    let real = scratch.dir("real/dir/deep");
    scratch.file("real/dir/deep/f", "seen\n");
    let _listener = UnixListener::bind(scratch.at("real/dir/s")).unwrap();
    symlink("real", scratch.at("relative")).unwrap();
    symlink(scratch.at("real"), scratch.at("absolute")).unwrap();
    symlink("deep", scratch.at("real/dir/end")).unwrap();
    symlink("s", scratch.at("real/dir/to-s")).unwrap();
    symlink("f", scratch.at("real/dir/deep/to-f")).unwrap();
    let at = |name: &str| text(&scratch.at(name)).to_owned();
    let ways = ["relative/dir/deep", "absolute/dir/deep", "real/dir/end", "relative/dir/end"];
    for way in ways.map(at) {
        #[rustfmt::skip] // a row a line
        let rows: &[(&[&str], &str)] = &[
            (&["--workspace", &way],         "cat f"),
            (&["--home", &way],              "cat /home/agent/f"),
            (&["--bind", &way, "/x"],        "cat /x/f"),
            (&["--ro-bind", &way, "/x"],     "cat /x/f"),
            (&["--dev-bind", &way, "/x"],    "cat /x/f"),
        ];
        for (options, script) in rows {
            refused(options, &["ELOOP", &format!("name {}", real.display()), "--follow-links"]);
            let with = [&["--follow-links"], *options].concat();
            assert_eq!(sh(&with, script).ok(), "seen\n");
        }
        refused(&["--rootfs", &way], &["ELOOP", &format!("name {}", real.display())]);
        refused(&["--rootfs", &way, "--overlay"], &["ELOOP"]);
        refused(&["--follow-links", "--rootfs", &at("real/dir/none")], &["ENOENT"]);
    }
    refused(&["--pass-socket", &at("relative/dir/s"), "/s"], &["ELOOP", &at("real/dir/s")]);
    refused(&["--pass-socket", &at("real/dir/to-s"), "/s"], &["ELOOP", &at("real/dir/s")]);
    refused(&["--ro-bind", &at("real/dir/deep/to-f"), "/f"], &["ELOOP", &at("real/dir/deep/f")]);
    // A link that leads nowhere, and one to itself.
    symlink("nowhere", scratch.at("broken")).unwrap();
    symlink("loop", scratch.at("loop")).unwrap();
    refused(&["--bind", &at("broken"), "/x"], &["if it is there"]);
    refused(&["--bind", &at("loop"), "/x"], &["ELOOP"]);
    refused(&["--follow-links", "--bind", &at("loop"), "/x"], &["ELOOP"]);
    // From a start directory that was reached by a link, `.` is what is open.
    let start = Command::new("sh")
        .args(["-c", "cd \"$1\" && exec \"$2\" run --workspace . -- cat f", "sh"])
        .args([&scratch.at("relative/dir/deep"), &agent_tests::bins::bin("agent-shim")])
        .output()
        .unwrap();
    assert_eq!(start.stdout, b"seen\n", "{start:?}");
    alone.no_stray();
}

/// The system's own links are followed: in a directory of root's, which only root may write in.
#[test] // seen to fail with `is_roots_alone` that is always false
fn links_of_the_system_are_followed() {
    let _alone = alone();
    let Ok(target) = Path::new("/bin").read_link() else {
        return skip("links_of_the_system_are_followed", "/bin is no link here");
    };
    println!("/bin -> {}", target.display());
    assert_eq!(
        sh(
            &[
                "--bare",
                "--ro-bind",
                "/bin",
                "/usr/bin",
                "--ro-bind",
                "/lib",
                "/lib",
                "--ro-bind",
                "/lib64",
                "/lib64",
                "--symlink",
                "usr/bin",
                "/bin"
            ],
            "echo ran"
        )
        .ok(),
        "ran\n"
    );
    if !is_root() {
        return skip("links_of_the_system_are_followed, root's own", "needs root to make one");
    }
    // A directory of root's that may have been a workspace of root's rooms is no directory of the system.
    let scratch = Scratch::new();
    scratch.dir("root/real");
    symlink("real", scratch.at("root/link")).unwrap();
    std::fs::set_permissions(scratch.at("root"), std::fs::Permissions::from_mode(0o755)).unwrap();
    refused(&["--bind", text(&scratch.at("root/link")), "/x"], &["ELOOP"]);
}

/// With `--follow-links` the path that the caller knows works inside too.
#[test] // seen to fail without `put_link`
fn the_path_as_it_was_given_works_inside() {
    let _alone = alone();
    let scratch = Scratch::new();
    scratch.dir("disk/proj");
    scratch.file("disk/proj/f", "seen\n");
    symlink("disk", scratch.at("home")).unwrap();
    symlink(scratch.at("home/proj"), scratch.at("again")).unwrap();
    for given in ["home/proj", "again"].map(|name| scratch.at(name)) {
        let given = text(&given);
        let script =
            format!("cat {given}/f; cd {given} && pwd -P; echo x >{given}/new; ls -A /tmp");
        let output = sh(&["--follow-links", "--workspace", given], &script);
        let real = scratch.at("disk/proj");
        assert!(output.ok().starts_with(&format!("seen\n{}\n", real.display())), "{output:?}");
        std::fs::remove_file(real.join("new")).unwrap();
    }
}

/// What is masked or read-only by one name is so by each other name that the room has for it.
#[test] // seen to fail with `guard::elsewhere` that finds nothing
fn a_guard_follows_the_file() {
    let alone = alone();
    let scratch = Scratch::new();
    let ws = scratch.dir("top/home/proj");
    scratch.file("top/home/proj/secret", "SECRET\n");
    scratch.dir("top/home/proj/private");
    scratch.file("top/home/proj/private/key", "SECRET\n");
    scratch.file("top/home/proj/kept", "kept\n");
    scratch.dir("image/bin");
    let (ws, home, top) = (
        text(&ws).to_owned(),
        text(&scratch.at("top/home")).to_owned(),
        text(&scratch.at("top")).to_owned(),
    );
    let (secret, private, kept) =
        (format!("{ws}/secret"), format!("{ws}/private"), format!("{ws}/kept"));
    let masked = ["--workspace", &ws, "--mask", &secret, "--mask", &private];
    #[rustfmt::skip] // a row a line
    let ways: &[(&[&str], &str)] = &[
        (&["--home", &home],                      "/home/agent/proj"),
        (&["--bind", &home, "/x"],                "/x/proj"),
        (&["--ro-bind", &home, "/x"],             "/x/proj"),
        (&["--ro-bind", &top, "/x"],              "/x/home/proj"),
        (&["--ro-bind", "/", "/x"],               &format!("/x{ws}")),
        (&["--bind", &ws, "/x/y"],                "/x/y"),
        (&["--bind", &home, "/x", "--bind", &top, "/y"], "/y/home/proj"),
    ];
    for (way, at) in ways {
        let options = [&masked[..], way].concat();
        let script = format!(
            "cd {at} && cat secret private/* {ws}/secret; ls private; mv private p; mv secret s; cat s p/*; true"
        );
        let output = sh(&options, &script);
        assert_eq!(output.ok(), "", "{way:?}");
        // Read-only: the file's own name, and the name of a copy elsewhere.
        for guard in [&["--ro-bind", &kept, &kept][..], &["--ro-bind", &kept, "/etc/kept"]] {
            let options = [&["--workspace", &ws], guard, way].concat();
            let script = format!(
                "cd {at} && cat kept; (echo x >kept); (echo x >{ws}/kept); mv kept k; rm -f kept; rm -f {ws}/kept; true"
            );
            assert_eq!(sh(&options, &script).ok(), "kept\n", "{options:?}");
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept\n", "{options:?}");
        }
    }
    refused(&["--workspace", &ws, "--mask", ".env"], &["a path in the room is absolute, as /"]);
    // In an image whose root is around the workspace.
    let image = [
        &masked[..],
        &[
            "--rootfs",
            &top,
            "--ro-bind",
            "/usr",
            "/usr",
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
        ],
    ]
    .concat();
    std::fs::rename(scratch.at("top/home"), scratch.at("top/srv")).unwrap();
    let moved: Vec<String> = image.iter().map(|o| o.replace("/home/", "/srv/")).collect();
    let moved: Vec<&str> = moved.iter().map(String::as_str).collect();
    for overlay in [&[][..], &["--overlay"]] {
        let output =
            sh(&[&moved[..], overlay].concat(), "cat /srv/proj/secret /srv/proj/private/*; true");
        assert_eq!(output.ok(), "");
    }
    std::fs::rename(scratch.at("top/srv"), scratch.at("top/home")).unwrap();
    // To show nothing but what is masked is a mistake.
    for (source, option) in [(&secret, "--ro-bind"), (&secret, "--bind"), (&private, "--bind")] {
        refused(&[&masked[..], &[option, source, "/y"]].concat(), &["EBUSY", "hidden"]);
    }
    refused(&[&masked[..], &["--ro-bind", &format!("{private}/key"), "/y"]].concat(), &["hidden"]);
    // Read-only at one place and writable at another, both by the caller's own words.
    let both = sh(
        &["--ro-bind", &ws, "/ro", "--bind", &ws, "/rw"],
        "(echo x >/ro/new); echo y >/rw/new; cat /ro/new",
    );
    assert_eq!(both.ok(), "y\n");
    alone.no_stray();
}

/// The same file by another mount of the host.
#[test] // seen to fail with `Mounts::names` that knows the path alone
fn a_guard_follows_the_file_through_mounts_of_the_host() {
    let _alone = alone();
    if !is_root() {
        return skip("a_guard_follows_the_file_through_mounts_of_the_host", "needs root to mount");
    }
    let scratch = Scratch::new();
    let (ws, other) = (scratch.dir("home/proj"), scratch.dir("other"));
    scratch.file("home/proj/secret", "SECRET\n");
    let script = format!(
        "mount --bind {0}/home {1} && exec {2} run --workspace {0}/home/proj --mask {0}/home/proj/secret \
         --ro-bind {1} /x --bind {1}/proj /y -- sh -c 'cat /x/proj/secret /y/secret; echo end'",
        scratch.at("").display(),
        other.display(),
        agent_tests::bins::bin("agent-shim").display()
    );
    println!("{}", ws.display());
    let output = run(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    assert_eq!(output.ok(), "end\n", "{output:?}");
}

/// What is mounted in a guarded directory is guarded by its other name too.
#[test] // seen to fail with the names of the directory alone
fn what_is_mounted_in_a_guarded_directory_is_guarded() {
    let _alone = alone();
    if !is_root() {
        return skip("what_is_mounted_in_a_guarded_directory_is_guarded", "needs root to mount");
    }
    let scratch = Scratch::new();
    scratch.dir("ws/sec/m");
    scratch.file("x/f", "SECRET\n");
    let top = scratch.at("");
    let script = format!(
        "mount --bind {0}/x {0}/ws/sec/m && for guard in '--mask {0}/ws/sec' '--ro-bind {0}/ws/sec {0}/ws/sec'; do
        {1} run --quiet --workspace {0}/ws $guard --bind {0} /y -- sh -c 'cat /y/x/f 2>/dev/null; echo evil >>/y/x/f'
        done; cat {0}/x/f",
        top.display(), agent_tests::bins::bin("agent-shim").display()
    );
    let output = run(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    // Masked, it is an empty directory; read-only, it can be read.
    assert_eq!(output.ok(), "SECRET\nSECRET\n", "{output:?}");
}

/// A descriptor of a file that the room shows leads around its guard: the mount that it was opened on is the
/// host's. Not below /tmp, where the room has a rule for its own /tmp.
#[test] // seen to write .git/config with `may_be_opened_again` that leaves files to Landlock
fn a_descriptor_is_no_way_around_a_guard() {
    let _alone = alone();
    let scratch = Scratch::new();
    let ws = scratch.dir("ws");
    scratch.file("ws/kept", "kept\n");
    scratch.file("beside", "beside\n");
    let shim = agent_tests::bins::bin("agent-shim");
    let with = |file: &str, more: &str| {
        let script = format!(
            "exec {0} run --workspace {1} {more} --keep-fd 3 -- sh -c 'echo evil >>/proc/self/fd/3; cat <&3' 3<{file}",
            shim.display(),
            ws.display()
        );
        run(Command::new("sh").args(["-c", &script]))
    };
    let kept = format!("{}/kept", ws.display());
    for more in ["", &format!("--ro-bind {kept} {kept}"), &format!("--mask {kept}")] {
        let output = with(&kept, more);
        assert_eq!((output.code(), &*output.stdout), (125, ""), "{output:?}");
        assert!(output.stderr.contains("a file that the room shows"), "{output:?}");
    }
    let beside = with(&format!("{}/beside", scratch.at("").display()), "");
    assert_eq!(beside.ok(), "beside\n", "{beside:?}");
    assert_eq!(std::fs::read_to_string(scratch.at("beside")).unwrap(), "beside\n");
    assert_eq!(std::fs::read_to_string(scratch.at("ws/kept")).unwrap(), "kept\n");
}

/// However much an agent has left to be told of, it is told in few lines of bounded length.
#[test] // seen to fail without `at_most_ten` and `brief`: 5 MB in one line, 4000 lines
fn what_an_agent_left_floods_nobody() {
    let _alone = alone();
    let scratch = Scratch::new();
    let ws = scratch.dir("ws");
    let git = run(Command::new("git").args(["init", "-q"]).arg(&ws));
    if git.code() != 0 {
        return skip("what_an_agent_left_floods_nobody", "no git");
    }
    for n in 0..2000 {
        symlink("../../script", scratch.at(&format!("ws/.git/hooks/h{n}"))).unwrap();
    }
    let said = sh(&["--workspace", text(&ws)], "true").stderr;
    assert!((2..=12).contains(&said.lines().count()) && said.contains("1990 more"), "{said}");
    let other = scratch.dir("other");
    for (length, code) in [(7000, 0), (1 << 20, 125)] {
        scratch.file("other/.git", &format!("gitdir: /{}", "\u{1}".repeat(length)));
        let output = sh(&["--workspace", text(&other)], "true");
        assert_eq!(output.code(), code);
        assert!(output.stderr.len() < 4096, "{} bytes", output.stderr.len());
    }
}

/// Records that cannot be told from what the agent says are told of.
#[test] // seen to fail without `mixed`
fn records_in_a_stream_are_told() {
    let _alone = alone();
    let scratch = Scratch::new();
    let shim = agent_tests::bins::bin("agent-shim");
    for (redirection, told) in [("3>records", false), ("3>records >&3", true), ("3>&2", true)] {
        let script = format!("{} run --json-status-fd 3 -- true {redirection}", shim.display());
        let output = run(Command::new("sh").args(["-c", &script]).current_dir(scratch.at("")));
        let says = output.stderr.contains("the agent can write records there");
        assert_eq!(says, told, "{output:?}");
    }
}

/// A second name of a guarded file is told of.
#[test] // seen to fail without the check of `links`
fn a_guarded_file_with_a_second_name_is_told() {
    let _alone = alone();
    let scratch = Scratch::new();
    let ws = scratch.dir("ws");
    let (secret, kept) = (scratch.file("ws/secret", "s"), scratch.file("ws/kept", "k"));
    let told = |options: &[&str]| sh(options, "true").stderr.contains("another name");
    let (ws, secret, kept) = (text(&ws), text(&secret), text(&kept));
    let (mask, keep) =
        (["--workspace", ws, "--mask", secret], ["--workspace", ws, "--ro-bind", kept, kept]);
    assert!(!told(&mask) && !told(&keep));
    std::fs::hard_link(secret, scratch.at("ws/s2")).unwrap();
    std::fs::hard_link(kept, scratch.at("ws/k2")).unwrap();
    assert!(told(&mask) && told(&keep));
}

/// Mode, owner and times of the host's nodes: what can be had by any right that the agent has.
#[test] // seen to fail without RDONLY in `pin::device`, for a node and for /dev in `pin::bind`
fn devices_of_the_host_stay_as_they_are() {
    let _alone = alone();
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let facts = || {
        names.map(|name| {
            let meta = std::fs::metadata(format!("/dev/{name}")).unwrap();
            (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec(), meta.atime())
        })
    };
    let script = "cd ${1:-/dev}; for d in null zero full random urandom tty; do touch $d; touch -d @1 $d; chmod 600 $d; chown $(id -u) $d
        done 2>/dev/null; echo x >/dev/null && head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full; : </dev/null; echo end";
    let before = facts();
    let all = "1\n1\nfull\nend\n";
    assert_eq!(sh(&[], script).ok(), all);
    assert_eq!(sh(&["--profile", "ns_only"], script).ok(), all);
    assert_eq!(sh(&["--dev-bind", "/dev/full", "/dev/full"], script).ok(), all);
    assert_eq!(sh(&["--dev-bind", "/dev", "/d"], &script.replace("${1:-/dev}", "/d")).ok(), all);
    assert_eq!(facts(), before);
    // By any directory that holds them, and by a descriptor.
    for (option, at) in [("--dev-bind", "/h/dev"), ("--bind", "/h/dev")] {
        let script = script.replace("${1:-/dev}", at).replace("exit", "true");
        sh(&[option, "/", "/h"], &script);
    }
    sh(&["--bind", "/dev", "/h"], &script.replace("${1:-/dev}", "/h"));
    let mut kept = Command::new("sh");
    kept.args(["-c", "exec \"$1\" run --keep-fd 3 -- touch /proc/self/fd/3 3<>/dev/full", "sh"]);
    let kept = run(kept.arg(agent_tests::bins::bin("agent-shim")));
    assert!(kept.code() == 125 && kept.stderr.contains("a device"), "{kept:?}");
    assert_eq!(facts(), before);
    if is_root() {
        let other = Scratch::new();
        let script = format!(
            "mount --bind /dev {0} && exec {1} run --dev-bind {0} /d -- sh -c 'touch /d/full /d/null /d/zero; echo x >/d/null && echo end'",
            other.at("").display(),
            agent_tests::bins::bin("agent-shim").display()
        );
        let output = run(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
        assert_eq!(output.ok(), "end\n");
        assert_eq!(facts(), before);
    }
    // A pseudo terminal of the room's own is the agent's.
    let pty = sh(&["--tty", "on"], "touch $(tty) && chmod 600 $(tty) && echo mine");
    assert!(pty.ok().contains("mine"), "{pty:?}");
}

/// A socket that somebody of the host listens at is named, unless it is masked.
#[test] // seen to fail with `sockets::warnings` that is empty
fn a_listening_socket_in_what_is_shown_is_named() {
    let _alone = alone();
    if agent_init::sys::landlock_abi().is_ok_and(|abi| abi >= 9) {
        return skip("a_listening_socket_in_what_is_shown_is_named", "Landlock closes it: ABI 9");
    }
    let scratch = Scratch::new();
    let ws = scratch.dir("ws/deep");
    let at = |name: &str| scratch.at(name);
    let listener = UnixListener::bind(at("ws/deep/a b.sock")).unwrap();
    std::fs::set_permissions(at("ws/deep/a b.sock"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    let dead = UnixListener::bind(at("ws/dead.sock")).unwrap();
    drop(dead);
    println!("{listener:?} {}", ws.display());
    let top = at("ws");
    let (top, name) = (text(&top), at("ws/deep/a b.sock"));
    let name = text(&name);
    for (options, place) in [
        (&["--workspace", top][..], name),
        (&["--ro-bind", top, "/x"], "/x/deep/a b.sock"),
        (&["--home", top], "/home/agent/deep/a b.sock"),
        (&["--workspace", top, "--tmpfs", "/tmp/none"], name),
    ] {
        let said = sh(options, "true").stderr;
        let lines: Vec<_> = said.lines().filter(|l| l.contains("socket")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(
            lines[0].contains("warning: ") && lines[0].contains(&format!("--mask {place} ")),
            "{said}"
        );
    }
    // Bound by a link, by `..`, for datagrams.
    symlink("deep", at("ws/link")).unwrap();
    let odd =
        ["ws/link/by-link", "ws/deep/../by-dots"].map(|name| UnixDatagram::bind(at(name)).unwrap());
    let said = sh(&["--ro-bind", text(&at("")), "/x"], "true").stderr;
    for name in ["/x/ws/deep/by-link", "/x/ws/by-dots"] {
        assert!(said.contains(&format!("--mask {name} ")), "{said}");
    }
    drop(odd);
    for name in ["ws/deep/by-link", "ws/by-dots"] {
        std::fs::remove_file(at(name)).unwrap();
    }
    let masked =
        sh(&["--workspace", top, "--mask", name], &format!("test -S '{name}' || echo hidden"));
    assert_eq!((masked.ok(), &*masked.stderr), ("hidden\n", ""));
    let deep = at("ws/deep");
    assert_eq!(sh(&["--workspace", top, "--mask", text(&deep)], "true").stderr, "");
    // Of many, ten; names do not end a line.
    let many: Vec<_> =
        (0..15).map(|n| UnixListener::bind(at(&format!("ws/\u{1b}[31m{n}"))).unwrap()).collect();
    let said = sh(&["--workspace", top], "true").stderr;
    assert!(said.contains("6 more sockets") && !said.contains('\u{1b}'), "{said}");
    assert_eq!(said.lines().count(), 11, "{said}");
    drop(many);
}

/// A file system that does not answer: the mount is named, and nobody waits for long.
#[test] // seen to hang without `try_out`
fn a_file_system_that_does_not_answer_is_named() {
    let _alone = alone();
    let test = "a_file_system_that_does_not_answer_is_named";
    if !is_root() || !Path::new("/dev/fuse").exists() {
        return skip(test, "needs root and /dev/fuse");
    }
    let scratch = Scratch::new();
    scratch.dir("ws/far");
    scratch.dir("ws/in");
    // Nobody reads the other side of it: every question waits.
    let script = format!(
        "exec 5<>/dev/fuse || exit 3
        mount -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 nobody {0}/far || exit 3
        {1} run --ro-bind {0}/far/x /x -- echo ran; echo $?
        {1} run --workspace {0}/far -- echo ran; echo $?
        {1} run --ro-bind {0}/in/../far/x /x -- echo ran; echo $?
        ln -s ../far/x {0}/in/link
        {1} run --ro-bind {0}/in/link /x -- echo ran; echo $?
        {1} run --follow-links --ro-bind {0}/in/link /x -- echo ran; echo $?
        {1} run --env-file {0}/in/link --timeout 1s -- echo ran; echo $?
        echo gitdir: {0}/far/x >{0}/in/.git
        {1} run --workspace {0}/in -- true; echo $?
        {1} run --dry-run --ro-bind {0} /x -- true | grep far",
        scratch.at("ws").display(),
        agent_tests::bins::bin("agent-shim").display()
    );
    let mut unshare = Command::new("unshare");
    let output = run_for(unshare.args(["--mount", "sh", "-c", &script]), 5 * LIMIT);
    if output.code() == 3 {
        return skip(test, "no FUSE mount can be made here");
    }
    assert!(
        output.ok().starts_with(&format!("{}0\n    with far, a mount of fuse", "125\n".repeat(6))),
        "{output:?}"
    );
    assert_eq!(output.stderr.matches("did not answer").count(), 4, "{output:?}");
}

/// Removed, and only held open by who stands in it.
#[test] // seen to fail without the check of `links` in `Resolver::open`
fn a_start_directory_that_was_removed() {
    let _alone = alone();
    let scratch = Scratch::new();
    let dir = scratch.dir("gone");
    let script = "cd \"$1\" && rmdir \"$1\" && exec \"$2\" run --workspace . -- echo ran";
    let output = run(Command::new("sh")
        .args(["-c", script, "sh"])
        .args([&dir, &agent_tests::bins::bin("agent-shim")]));
    assert_eq!((output.code(), &*output.stdout), (125, ""));
    assert!(output.stderr.contains("it was removed"), "{output:?}");
}

/// As many sources as a long command line has.
#[test]
fn sixty_four_sources() {
    let _alone = alone();
    let scratch = Scratch::new();
    let mut options = Vec::new();
    for n in 0..64 {
        scratch.file(&format!("{n}/f"), "x");
        let option = if n % 2 == 0 { "--bind" } else { "--ro-bind" };
        options.extend([
            option.to_owned(),
            text(&scratch.at(&format!("{n}"))).to_owned(),
            format!("/s/{n}"),
        ]);
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    assert_eq!(sh(&options, "cat /s/*/f | wc -c").ok(), "64\n");
}
