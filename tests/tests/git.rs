//! The workspace's repository: what an agent can make git on the host run, and what work it can do. Each attack has a
//! canary that git touches on the host, and a control: the same with the workspace as a plain bind.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_tests::{Output, run, shim, skip};

/// A directory of the host that ends with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "agent-tests-git-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().canonicalize().unwrap().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(dir.join("home")).unwrap();
        Place(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A script on the host, as the user who has nothing to do with the agent but the workspace.
    #[track_caller]
    fn host(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(&self.0).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.0.join("home"));
        for (name, value) in WHO {
            command.env(name, value);
        }
        run(command.stdin(std::process::Stdio::null()))
    }

    /// A script in a room with these options, started in `dir`.
    #[track_caller]
    fn room(&self, options: &[&str], dir: &str, script: &str) -> Output {
        let script = format!("cd '{}' && {script}", self.path(dir));
        let mut args = vec!["run"];
        let env: Vec<String> =
            WHO.iter().map(|(name, value)| format!("--env={name}={value}")).collect();
        args.extend(env.iter().map(String::as_str));
        let canary = format!("--env=CANARY={}", self.path("canary"));
        let place = format!("--env=PLACE={}", self.0.display());
        args.extend([&*canary, &place]);
        args.extend(options.iter().chain(&["--", "sh", "-c", &script]));
        run(&mut shim(&args))
    }

    /// Whether git on the host, in `dir`, now runs what the agent wants.
    fn fires(&self, dir: &str) -> bool {
        // In a shell each: a broken repository must not keep the next from running.
        let uses = "for c in status 'commit -q --allow-empty -m host'; do
            timeout 10 git $c >>out 2>&1 </dev/null || true; done";
        let output = self.host(&format!("cd '{}'; {uses}", self.path(dir)));
        output.ok();
        self.0.join("canary").exists()
    }

    /// A repository of one commit, with hooks as git makes them.
    #[track_caller]
    fn repository(&self, name: &str) -> String {
        let script = format!(
            "git init -q {name}; cd {name}; echo one >a; echo out >.gitignore; git add .; git commit -q -m one"
        );
        self.host(&script).ok();
        self.path(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Who commits; in the room this way too, as it has no config of the user's.
const WHO: &[(&str, &str)] = &[
    ("GIT_AUTHOR_NAME", "a"),
    ("GIT_AUTHOR_EMAIL", "a@example.com"),
    ("GIT_COMMITTER_NAME", "c"),
    ("GIT_COMMITTER_EMAIL", "c@example.com"),
    ("GIT_CONFIG_COUNT", "2"),
    ("GIT_CONFIG_KEY_0", "init.defaultBranch"),
    ("GIT_CONFIG_VALUE_0", "main"),
    ("GIT_CONFIG_KEY_1", "protocol.file.allow"),
    ("GIT_CONFIG_VALUE_1", "always"),
];

fn has_git(test: &str) -> bool {
    let found = Command::new("git").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skip(test, "git is not installed");
    }
    found
}

/// What the attacks share: a hook, and a config that runs a program.
const EVIL: &str = r#"
hook() { printf '#!/bin/sh\ntouch %s\n' "$CANARY" >"$1" && chmod +x "$1"; }
config() { printf '[core]\n\tfsmonitor = "touch %s; false"\n' "$CANARY" >>"$1"; }
repo() { mkdir -p "$1" && cp -r .git/. "$1" && config "$1/config"; }
"#;

/// Where the plain bind lets it through, it has to be stopped otherwise.
#[rustfmt::skip] // a row a line
const ATTACKS: &[(&str, &str)] = &[
    ("a hook",                  "hook .git/hooks/pre-commit"),
    ("a hook by rename",        "hook x; mv x .git/hooks/pre-commit"),
    ("a hook by hard link",     "hook x; ln x .git/hooks/pre-commit"),
    ("a hook by link",          "hook x; ln -s ../../x .git/hooks/pre-commit"),
    ("hooks renamed",           "mv .git/hooks .git/old; mkdir .git/hooks; hook .git/hooks/pre-commit"),
    ("hooks removed",           "rm -rf .git/hooks; mkdir .git/hooks; hook .git/hooks/pre-commit"),
    ("hooks a link",            "mkdir x; hook x/pre-commit; rm -rf .git/hooks; ln -s ../x .git/hooks"),
    ("hooks exchanged",         "mkdir x; hook x/pre-commit; mv --exchange -T x .git/hooks || { rm -rf .git/hooks; mv -T x .git/hooks; }"),
    ("hooks made writable",     "chmod -R 777 .git; mount -o remount,bind,rw $PWD/.git/hooks; hook .git/hooks/pre-commit"),
    ("config",                  "config .git/config"),
    ("config by rename",        "cp .git/config x; config x; mv -f x .git/config"),
    ("config by removal",       "cp .git/config x; config x; rm -f .git/config; cp x .git/config"),
    ("config by truncation",    "cp .git/config x; config x; truncate -s 0 .git/config; cat x >.git/config"),
    ("config by hard link",     "ln .git/config x; config x"),
    ("config by link",          "cp .git/config x; config x; rm -f .git/config; ln -s ../x .git/config"),
    ("config by git",           "git config core.fsmonitor \"touch $CANARY; false\""),
    ("config by GIT_DIR",       "GIT_DIR=$PWD/.git GIT_WORK_TREE=/tmp git config core.fsmonitor \"touch $CANARY; false\""),
    ("config by GIT_CONFIG",    "GIT_CONFIG=.git/config git config -f .git/config core.fsmonitor \"touch $CANARY; false\""),
    ("config by proc",          "config /proc/self/root$PWD/.git/config; cd .git; config /proc/self/cwd/config"),
    (".git renamed",            "mv .git x; cp -r x .git; config .git/config"),
    (".git removed",            "cp -r .git x; config x/config; rm -rf .git; mv x .git"),
    (".git exchanged",          "repo x; mv --exchange -T x .git || { mv .git y; mv x .git; }"),
    (".git a link",             "repo x; mv .git y; rm -rf .git; ln -s x .git"),
    (".git a file",             "repo x; mv .git y; rm -rf .git; echo gitdir: x >.git"),
    (".git by git init",        "repo x; git init -q --separate-git-dir=$PWD/y; config y/config"),
];

/// Git on the host runs nothing of the agent's, whatever it did to the repository.
#[test] // seen to fail without the mount of `.git` itself in `Room::show`: it is renamed, the mounts in it too
fn what_the_agent_writes_is_not_run_on_the_host() {
    if !has_git("what_the_agent_writes_is_not_run_on_the_host") {
        return;
    }
    let place = Place::new();
    let (mut wrong, mut controls) = (Vec::new(), 0);
    for (name, script) in ATTACKS {
        for option in ["--bind", "", "--git"] {
            place.host("rm -rf w canary").ok();
            let dir = place.repository("w");
            let script = format!("{EVIL} {script}");
            let output = match option {
                "--bind" => place.room(&["--bind", &dir, &dir], "w", &script),
                "" => place.room(&["--workspace", &dir], "w", &script),
                git => place.room(&[git, "--workspace", &dir], "w", &script),
            };
            let fired = place.fires("w");
            controls += usize::from(option == "--bind" && fired);
            if fired != (option == "--bind") {
                wrong.push(format!("{name}, {option:?}: {output:?}"));
            }
        }
    }
    println!("{controls} of {} attacks work on a plain bind", ATTACKS.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A submodule's repository is named by a file that lies among what the agent may write.
#[test] // seen to fail without `Room::submodules`; without the mounts above `.git` (`libs` is renamed)
fn submodules_do_not_run_what_the_agent_writes() {
    if !has_git("submodules_do_not_run_what_the_agent_writes") {
        return;
    }
    let place = Place::new();
    #[rustfmt::skip] // a row a line
    let attacks = [
        "rm -f libs/sub/.git; repo x; rm -rf libs/sub/.git; mv x libs/sub/.git",
        "repo x; echo gitdir: ../../x >libs/sub/.git",
        "repo x; mv libs/sub libs/old; mkdir libs/sub; mv x libs/sub/.git",
        "repo x; mv libs old; mkdir -p libs/sub; mv x libs/sub/.git",
        "config .git/modules/libs/sub/config",
        "mv .git/modules .git/old; cp -r .git/old .git/modules; config .git/modules/libs/sub/config",
    ];
    for version in ["2", "4"] {
        for attack in attacks {
            for option in ["--bind", "", "--git"] {
                place.host("rm -rf w lib canary").ok();
                let (dir, _) = (place.repository("w"), place.repository("lib"));
                let add = "cd w; git submodule -q add ../lib libs/sub; git commit -q -m sub; echo >>libs/sub/a";
                place.host(&format!("{add}; git update-index --index-version {version}")).ok();
                let script = format!("{EVIL} {attack}");
                let output = match option {
                    "--bind" => place.room(&["--bind", &dir, &dir], "w", &script),
                    "" => place.room(&["--workspace", &dir], "w", &script),
                    git => place.room(&[git, "--workspace", &dir], "w", &script),
                };
                assert_eq!(place.fires("w"), option == "--bind", "{attack} {option:?} {output:?}");
            }
        }
    }
}

/// What is not there cannot be mounted over: it is told, and the next run refuses it.
#[test] // seen to fail without `planted` in `cmd::run`
fn what_no_mount_keeps_away_is_told() {
    if !has_git("what_no_mount_keeps_away_is_told") {
        return;
    }
    let place = Place::new();
    let rows: &[(&str, &str)] = &[
        ("repo x; config x/config; echo ../x >.git/commondir", ".git/commondir"),
        ("mkdir .git/modules", ".git/modules"),
        (
            "git checkout -q -b y; git rebase -q --exec false HEAD~0 || true; mkdir -p .git/rebase-merge",
            ".git/rebase-merge",
        ),
    ];
    for (script, says) in rows {
        place.host("rm -rf w").ok();
        let dir = place.repository("w");
        let quiet =
            place.room(&["--git", "--workspace", &dir], "w", "git commit -q --allow-empty -m x");
        assert_eq!((quiet.ok(), &*quiet.stderr), ("", ""));
        let output = place.room(&["--git", "--workspace", &dir], "w", &format!("{EVIL} {script}"));
        let wanted = format!("warning: {dir}/{says} has appeared while the room ran: ");
        assert!(output.stderr.contains(&wanted), "{script}: {output:?}");
    }
    // Where git has no repository yet, the agent may make one.
    place.host("mkdir empty").ok();
    let dir = place.path("empty");
    let output = place.room(
        &["--workspace", &dir],
        "empty",
        "git init -q; git commit -q --allow-empty -m x",
    );
    assert!(output.stderr.contains(&format!("{dir}/.git has appeared")), "{output:?}");
}

/// A layout that cannot be guarded ends the launch, and says what to do.
#[test] // seen to fail without the checks in `git::kept`, `git::find`, `Room::repository`
fn what_cannot_be_guarded_is_refused() {
    if !has_git("what_cannot_be_guarded_is_refused") {
        return;
    }
    let place = Place::new();
    // In the repository; with --git, and without: the errno, and what it is about. Empty: it starts.
    #[rustfmt::skip] // a row a line
    let rows: &[(&str, &str, &str, &str)] = &[
        ("",                                                     "", "",        ".git"),
        ("rm -r .git/hooks",                                     "ENOENT", "",        ".git/hooks"),
        ("rm -r .git/hooks; : >.git/hooks",                      "ENOTDIR", "ENOTDIR", ".git/hooks"),
        ("mv .git/hooks x; ln -s ../x .git/hooks",               "ELOOP", "ELOOP",   ".git/hooks"),
        ("mv .git/config x; ln -s ../x .git/config",             "ELOOP", "ELOOP",   ".git/config"),
        ("ln .git/config x",                                     "EMLINK", "EMLINK",  ".git/config"),
        ("echo >x; ln x .git/hooks/pre-push",                    "EMLINK", "EMLINK",  ".git/hooks/pre-push"),
        ("mv .git x; ln -s x .git",                              "ELOOP", "ELOOP",   ".git"),
        ("mv .git x; ln -s /nowhere .git",                       "ELOOP", "ELOOP",   ".git"),
        ("echo ../x >.git/commondir",                            "EEXIST", "EEXIST",  ".git/commondir"),
        ("git config extensions.worktreeConfig true",            "ENOENT", "",        ".git/config.worktree"),
        ("mkdir -p .git/modules; mv .git/modules x; ln -s ../x .git/modules", "ELOOP", "ELOOP", ".git/modules"),
        ("rm -r .git; mkfifo .git",                              "EOPNOTSUPP", "EOPNOTSUPP", ".git"),
    ];
    for (script, with_git, without, about) in rows {
        for (option, errno) in [("--git", with_git), ("--quiet", without)] {
            place.host("rm -rf w").ok();
            let dir = place.repository("w");
            place.host(&format!("cd w; {script}")).ok();
            let list = "find w -printf '%p %y %m %n %s %l\n' | sort";
            let before = place.host(list).ok().to_owned();
            let output = place.room(&[option, "--workspace", &dir], "w", "echo started");
            println!("{script}: {}{}", output.stdout, output.stderr);
            assert_eq!(
                output.stdout == "started\n",
                errno.is_empty(),
                "{script} {option} {output:?}"
            );
            if !errno.is_empty() {
                assert_eq!(output.code(), 125);
                assert!(output.stderr.contains(&format!("{about}): ")), "{script} {output:?}");
                assert!(output.stderr.contains(&format!("({errno})")), "{script} {output:?}");
                let has_hint = ["ENOENT", "ELOOP", "EEXIST", "EMLINK"].contains(errno);
                assert!(output.stderr.contains("hint: ") || !has_hint, "{output:?}");
            }
            assert_eq!(place.host(list).ok(), before, "{script} {option}");
        }
    }
}

/// A worktree's `.git` is a file that names the repository; what it names is shown if that names it back.
#[test] // seen to fail with a `names_back` that is always true; without a mount of `commondir`
fn a_worktree_has_its_repository_and_no_other() {
    if !has_git("a_worktree_has_its_repository_and_no_other") {
        return;
    }
    let place = Place::new();
    let make = || {
        place.host("rm -rf main w other w2 canary secret").ok();
        place.repository("main");
        place.repository("other");
        place.host("git -C main worktree add -q ../w; git -C main worktree add -q ../w2; mkdir secret; echo >secret/key").ok();
        place.path("w")
    };
    let sees = |dir: &str, options: &[&str], script: &str| {
        let options = [options, &["--workspace", dir]].concat();
        let output = place.room(&options, "w", script);
        println!("{script}: {}{}", output.stdout, output.stderr);
        output
    };
    let dir = make();
    // It works; without --git, to be read only.
    let log = "git log --format=%s && git status --porcelain && ls .. && (echo >../main/.git/x) 2>&1 | grep -c Read-only";
    assert_eq!(sees(&dir, &[], log).ok(), "one\nmain\nw\n1\n");
    let commit = "echo 2 >a && git commit -q -a -m two && git log --format=%s && ls ../main && ls ../main/.git/worktrees/w2";
    let output = sees(&dir, &["--git"], commit);
    assert!(
        output.ok().starts_with("two\none\n") && output.stdout.contains("commondir"),
        "{output:?}"
    );
    assert_eq!(
        place
            .host("git -C w log -1 --format=%s; git -C main branch --format='%(refname:short)'")
            .ok(),
        "two\nmain\nw\nw2\n"
    );

    // What another worktree or the repository itself would run.
    #[rustfmt::skip] // a row a line
    let attacks = [
        "repo() { cp -r ../main/.git $1; config $1/config; }; repo x; rm -f .git; echo gitdir: x >.git",
        "cp -r ../main/.git x; config x/config; echo $PWD/x >../main/.git/worktrees/w/commondir",
        "cp -r ../main/.git x; config x/config; rm -f ../main/.git/worktrees/w/commondir; echo $PWD/x >../main/.git/worktrees/w/commondir",
        "mv ../main/.git/worktrees/w ../main/.git/worktrees/old; cp -r ../main/.git/worktrees/old ../main/.git/worktrees/w; cp -r ../main/.git x; config x/config; echo $PWD/x >../main/.git/worktrees/w/commondir",
        "config ../main/.git/config",
        "hook ../main/.git/hooks/pre-commit",
        "mv ../main/.git ../main/old && cp -r ../main/old ../main/.git && config ../main/.git/config",
    ];
    for attack in attacks {
        for options in [&[][..], &["--git"], &["--bind"]] {
            let dir = make();
            let script = format!("{EVIL} {attack}");
            let main = place.path("main/.git");
            let output = match options {
                ["--bind"] => {
                    place.room(&["--bind", &dir, &dir, "--bind", &main, &main], "w", &script)
                }
                _ => sees(&dir, options, &script),
            };
            // A mount point of its own cannot be renamed by the control either.
            let control =
                options == ["--bind"] && !attack.starts_with("mv ../main/.git ../main/old");
            assert_eq!(
                place.fires("w") || place.fires("main") || place.fires("w2"),
                control,
                "{attack} {output:?}"
            );
        }
    }

    // An earlier agent, unguarded, has written what it likes: a link, a repository, a directory of the user.
    #[rustfmt::skip] // a row a line
    let lies = [
        "echo gitdir: $PLACE/other/.git >.git",
        "echo gitdir: $PLACE/main/.git >.git",
        "echo gitdir: $PLACE/main/.git/worktrees/w2 >.git",
        "echo gitdir: $PLACE/secret >.git",
        "echo gitdir: ../secret >.git",
        "ln -s $PLACE/secret x; echo gitdir: x >.git",
        "ln -s $PLACE/main/.git/worktrees x; echo gitdir: $PWD/x/w >.git",
        "mkdir -p x/worktrees/w; echo $PWD/.git >x/worktrees/w/gitdir; ln -s $PLACE/secret x/objects; echo >x/HEAD; echo >x/config; echo gitdir: x/worktrees/w >.git",
        "printf 'gitdir: /\\n' >.git",
        "printf 'gitdir: /etc\\n' >.git",
        "printf 'gitdir: ' >.git; head -c 100000 /dev/zero | tr '\\0' x >>.git",
        ": >.git",
    ];
    let dir = make();
    place.host("cp w/.git file").ok();
    for lie in lies {
        for options in [&[][..], &["--git"]] {
            let reset = "rm -rf w/x; cp file w/.git; cd w";
            place.host(&format!("{reset}; PLACE={}; {lie}", place.0.display())).ok();
            let look = "ls -A ..; find .. -name key; git log 2>/dev/null; for d in other main secret; do ls -d ../$d; done 2>/dev/null; cat /proc/self/mountinfo";
            let output = sees(&dir, options, look);
            let mounts: Vec<_> =
                output.stdout.lines().filter(|l| l.contains(place.0.to_str().unwrap())).collect();
            let outside = mounts
                .iter()
                .filter(|l| !l.contains(&format!("{dir} ")) && !l.contains(&format!("{dir}/")));
            assert_eq!(outside.count(), 0, "{lie} {output:?}");
            assert!(
                !output.stdout.contains("secret/key") && !output.stdout.contains("../other"),
                "{lie} {output:?}"
            );
        }
    }
}

/// What is done with git all day, and that git does not doubt the owner.
#[test] // seen to fail with binds of the repository that are not shown as the agent's (as root)
fn git_works_in_a_room() {
    if !has_git("git_works_in_a_room") {
        return;
    }
    let place = Place::new();
    let dir = place.repository("w");
    // Nobody else can read it: not shown as the agent's, it would be of no use. (A stranger's has the
    // number 65534 in a room, which root's agents have.)
    place.host("chmod -R go= w").ok();
    let other = place.repository("other");
    place
        .host("cd other; git checkout -q -b theirs; echo 3 >c; git add c; git commit -q -m theirs")
        .ok();
    // The config is read-only: what would be written there is given by -c, or by the environment.
    let script = "set -ex
        git status --porcelain; echo two >b; git add b; git commit -q -m two; git log --oneline | wc -l
        git checkout -q -b side HEAD~1; echo side >s; git add s; git commit -q -m side
        git checkout -q main; git merge -q -m merge side; git log --format=%s -1
        git checkout -q -b late HEAD~1; echo late >l; git add l; git commit -q -m late; git rebase -q main
        echo change >>a; git diff --stat; git stash -q; git diff --quiet; git stash pop -q; git checkout -q a
        git tag v1; git tag -a -m v2 v2; git describe
        git fetch -q $PLACE/other theirs; git log --format=%s -1 FETCH_HEAD; git merge -q --allow-unrelated-histories -m fetched FETCH_HEAD
        git gc -q; git fsck --strict; git repack -q -a -d; git rm -q c; git mv b bb; git commit -q -m moved
        git show --stat HEAD; git blame a; git grep -n one; git reflog | wc -l; git bundle create -q /tmp/b HEAD; git clone -q . /tmp/clone
        git cherry-pick v1 || git cherry-pick --abort || true; git reset -q --hard; git clean -q -fd; git branch -D side
        git worktree add -q /tmp/tree; git -C /tmp/tree log -1 --format=%s; git worktree remove /tmp/tree
        git status --porcelain; ls -lnd . .git .git/config .git/hooks .git/index; id -u";
    let output =
        place.room(&["--git", "--workspace", &dir, "--ro-bind", &other, &other], "w", script);
    println!("{}{}", output.stdout, output.stderr);
    let text = output.ok();
    assert!(!output.stderr.contains("dubious"), "{output:?}");
    let uid = text.lines().last().unwrap();
    let owners: Vec<_> = text.lines().rev().skip(1).take(5).collect();
    assert!(owners.iter().all(|line| line.split_whitespace().nth(2) == Some(uid)), "{owners:?}");
    // On the host it is the user's, and whole.
    let host = "cd w; git fsck --strict --no-dangling 2>&1; git status --porcelain; git log --format=%s -1; find . ! -user $(stat -c %u .)";
    assert_eq!(place.host(host).ok(), "moved\n");

    // Without --git, what only reads; and no command that would write leaves anything.
    let reads = "git status; git log --oneline; git diff v1 v2; git show HEAD; git branch; git blame a; git stash list; git describe";
    let output = place.room(&["--workspace", &dir], "w", &format!("set -e; {reads}"));
    assert!(output.ok().contains("nothing to commit") && output.stderr.is_empty(), "{output:?}");
    let before = place.host("find w/.git -type f | sort | xargs cat | cksum").ok().to_owned();
    let writes = [
        "add -A",
        "commit --allow-empty -m x",
        "stash",
        "branch x",
        "tag x",
        "gc",
        "config a.b c",
        "fetch ../other",
    ];
    for write in writes {
        let script = format!("echo >>a; git {write}");
        assert_ne!(place.room(&["--workspace", &dir], "w", &script).code(), 0, "{write}");
    }
    assert_eq!(place.host("find w/.git -type f | sort | xargs cat | cksum").ok(), before);

    // A directory of a repository: that is above, and not in the room.
    place.host("mkdir w/sub").ok();
    let output = place.room(&["--git", "--workspace", &place.path("w/sub")], "w/sub", "git status");
    assert!(output.code() == 128 && output.stderr.contains("not a git repository"), "{output:?}");
}

/// A mount that is asked for at the same place counts: the user says what `.git` is.
#[test] // seen to fail without `retain` in `furnish::repository`: EEXIST
fn an_option_for_the_same_place_wins() {
    if !has_git("an_option_for_the_same_place_wins") {
        return;
    }
    let place = Place::new();
    let dir = place.repository("w");
    let git = place.path("w/.git");
    let options = ["--workspace", &dir, "--bind", &git, &git];
    assert_eq!(place.room(&options, "w", "echo x >.git/x && echo written").ok(), "written\n");
    let options = ["--workspace", &dir, "--mask", &git];
    assert_eq!(place.room(&options, "w", "ls .git | wc -l").ok().trim(), "0");
}
