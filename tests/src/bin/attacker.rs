//! What a hostile agent does, in a room. The first argument names the attack; each try prints
//! `WHAT: ok`, or `WHAT: N` with the errno. What it had for an effect is for the test to see.

use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_tests::sys;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| args.get(n).and_then(|a| a.parse::<i32>().ok()).unwrap_or(0);
    match args.first().map(String::as_str) {
        Some("die") => sys::die(number(1)),
        Some("init") => attack_init(),
        Some("signals") => signals(),
        Some("starve") => starve_init(),
        Some("orphans") => orphans(number(1)),
        Some("forks") => forks(number(1)),
        Some("namespaces") => namespaces(),
        Some("loopback") => loopback(),
        Some("fill") => fill(),
        Some("setid") => set_id(args.get(1).map_or("/tmp", String::as_str)),
        Some("hear") => hear(),
        Some("eat") => eat(number(1)),
        Some("open") => open_files(number(1)),
        Some("spin") => spin(),
        Some("zombie") => zombie(),
        Some("fds") => descriptors(),
        Some("tcp") => tcp(number(1)),
        Some("exchange") => exchange(&args),
        Some("look") => args.iter().skip(1).for_each(|path| look(Path::new(path))),
        _ => println!("no such attack"),
    }
}

fn say<T>(what: impl std::fmt::Display, result: Result<T, i32>) {
    match result {
        Ok(_) => println!("{what}: ok"),
        Err(errno) => println!("{what}: {errno}"),
    }
}

/// Exchanges two names until the time is over or one of them is gone, says when it has begun, and in the
/// end how often it did and in how many milliseconds. As fast as it can for a while, then with pauses: what
/// asks for a name twice in a row, and what asks ten times, each have a pace at which they are caught.
fn exchange(args: &[String]) {
    let name = |n: usize| CString::new(args.get(n).map_or("", String::as_str)).unwrap_or_default();
    let (one, other) = (name(1), name(2));
    let seconds = args.get(3).and_then(|a| a.parse().ok()).unwrap_or(0);
    let (begin, mut count) = (Instant::now(), 0u64);
    let end = begin + Duration::from_secs(seconds);
    'all: loop {
        for pause in [0, 10, 100, 1000].map(Duration::from_micros) {
            let next = Instant::now() + Duration::from_millis(2);
            while Instant::now() < next {
                if next > end || sys::exchange(&one, &other).is_err() {
                    break 'all;
                }
                count += 1;
                if count == 1 {
                    println!("begun");
                }
                match pause.as_micros() {
                    0 => {}
                    10 => (0..200).for_each(|_| std::hint::spin_loop()),
                    _ => std::thread::sleep(pause),
                }
            }
        }
    }
    println!("{count} {}", begin.elapsed().as_millis());
}

/// What a path shows, be it a directory, a file or a socket, and whether it can be written; then each mount
/// that is of a directory named `outside`.
fn look(path: &Path) {
    let kind = path.metadata().map(|meta| meta.file_type());
    let file = if kind.as_ref().is_ok_and(|k| k.is_dir()) { path.join("id") } else { path.into() };
    if kind.is_ok_and(|k| k.is_socket()) {
        let there = std::os::unix::net::UnixStream::connect(path);
        println!("connect: {}", there.map_or_else(|e| e.to_string(), |_| "ok".into()));
    } else {
        let text = std::fs::read_to_string(&file);
        println!("read: {}", text.unwrap_or_else(|e| e.to_string()).trim_end());
        let write = |path: &Path, new: bool| {
            std::fs::File::options().append(true).create(new).open(path)?.write_all(b"+")
        };
        let made = if file == path { write(path, false) } else { write(&path.join("new"), true) };
        println!("write: {}", made.map_or_else(|e| e.to_string(), |()| "ok".into()));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
    roots.filter(|root| root.contains("/outside")).for_each(|root| println!("mount: {root}"));
}

/// Everything that could end, trace or read PID 1, and then a proof that it still reaps.
fn attack_init() {
    for signal in 0..=64 {
        say(format!("kill {signal}"), sys::kill_init(signal));
    }
    say("forged SIGCHLD", sys::forge(libc::SIGCHLD, 1)); // CLD_EXITED
    say("forged SIGKILL", sys::forge(libc::SIGKILL, 0x80)); // SI_KERNEL
    say("ptrace attach", sys::ptrace(libc::PTRACE_ATTACH, 1, 0));
    say("ptrace seize", sys::ptrace(libc::PTRACE_SEIZE, 1, 0));
    say("process_vm_readv", sys::read_memory(1, 0x40_0000));
    let pidfd = sys::call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0]);
    say("pidfd_open", pidfd);
    if let Ok(pidfd) = pidfd {
        say("pidfd_getfd", sys::call(libc::SYS_pidfd_getfd, [pidfd, 0, 0, 0, 0]));
        let kill = libc::SIGKILL.into();
        say("pidfd_send_signal", sys::call(libc::SYS_pidfd_send_signal, [pidfd, kill, 0, 0, 0]));
        say("setns", sys::call(libc::SYS_setns, [pidfd, libc::CLONE_NEWUSER.into(), 0, 0, 0]));
    }
    orphans(200);
}

/// Every signal at PID 1, where the kernel drops SIGKILL and SIGSTOP of its own namespace.
fn signals() {
    for signal in (1..=64).filter(|n| *n != libc::SIGCHLD) {
        // SIGTERM and its like are forwarded by init: this process must not die of them.
        sys::ignore(signal);
    }
    for signal in 0..=64 {
        say(format!("kill {signal}"), sys::kill_init(signal));
    }
    orphans(200);
}

/// What lowers its limits or its share of time.
fn starve_init() {
    for (name, resource) in
        [("CPU", libc::RLIMIT_CPU), ("NOFILE", libc::RLIMIT_NOFILE), ("NPROC", libc::RLIMIT_NPROC)]
    {
        say(format!("prlimit {name}"), sys::prlimit(1, resource, 1));
    }
    let set = |call, which: i64, who, value| sys::call(call, [which, who, value, 0, 0]);
    for (name, which, who) in [("process", 0, 1), ("group", 1, 1), ("user", 2, 0)] {
        say(format!("setpriority {name}"), set(libc::SYS_setpriority, which, who, 19));
    }
    const IDLE: i64 = 3 << 13;
    for (name, which, who) in [("process", 1, 1), ("group", 2, 1), ("user", 3, 0)] {
        say(format!("ioprio {name}"), set(libc::SYS_ioprio_set, which, who, IDLE));
    }
    say("sched_setaffinity", sys::set_affinity(1));
    say("sched_setscheduler", sys::set_idle(1));
    orphans(50);
}

/// That many orphans, in batches that fit RLIMIT_NPROC; then none of them may be left.
fn orphans(count: i32) {
    let (mut made, deadline) = (0, Instant::now() + Duration::from_secs(15));
    while made < count && Instant::now() < deadline {
        // EAGAIN: init is still reaping the last batch.
        made += sys::orphans((count - made).min(100)).unwrap_or(0);
    }
    println!("orphans: {made}");
    // Bounded, and without a sleep: init is runnable as long as one is left.
    let left = || {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
    };
    let mut count = left();
    while count > 2 && Instant::now() < deadline {
        std::thread::yield_now();
        count = left();
    }
    println!("processes: {count}");
}

/// Forks children that stay, until the kernel refuses or there are `most`.
fn forks(most: i32) {
    let mut made = 0;
    let end = loop {
        if made == most {
            break 0;
        }
        match sys::fork_child(None) {
            Ok(_) => made += 1,
            Err(errno) => break errno,
        }
    };
    println!("{made} {end}");
}

/// Every way to a new namespace, by the raw calls.
fn namespaces() {
    #[rustfmt::skip]
    let kinds: [(&str, i64); 8] = [
        ("user", 0x1000_0000), ("mnt", 0x2_0000), ("pid", 0x2000_0000), ("net", 0x4000_0000),
        ("ipc", 0x0800_0000), ("uts", 0x0400_0000), ("cgroup", 0x0200_0000), ("time", 0x80),
    ];
    for (name, flag) in kinds {
        say(format!("unshare {name}"), sys::call(libc::SYS_unshare, [flag, 0, 0, 0, 0]));
        if name != "time" {
            // A child, if there is one, must not go on as this program does.
            let high = flag | i64::from(libc::SIGCHLD);
            match sys::call(libc::SYS_clone, [high, 0, 0, 0, 0]) {
                Ok(0) => std::process::exit(0),
                other => say(format!("clone {name}"), other),
            }
            match sys::call(libc::SYS_clone, [high | 1 << 32, 0, 0, 0, 0]) {
                Ok(0) => std::process::exit(0),
                other => say(format!("clone high {name}"), other),
            }
        }
    }
    say("clone3", sys::call(libc::SYS_clone3, [0, 88, 0, 0, 0]));
    for fd in 0..3 {
        say(format!("setns {fd}"), sys::call(libc::SYS_setns, [fd, 0, 0, 0, 0]));
    }
    if let Ok(file) = std::fs::File::open("/proc/1/ns/user") {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file).into();
        say("setns of 1", sys::call(libc::SYS_setns, [fd, 0, 0, 0, 0]));
    }
}

/// A server and a client on the room's own loopback.
fn loopback() {
    let echo = || -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        client.write_all(b"through the loopback")?;
        client.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        server.read_to_string(&mut text)?;
        Ok(text)
    };
    println!("{}", echo().unwrap_or_else(|e| e.to_string()));
}

/// Says every signal that comes, by its number, until SIGTERM comes twice in a row.
fn hear() {
    let mut last = 0;
    sys::hear(|signal| {
        println!("{signal}");
        let is_the_end = (last, signal) == (libc::SIGTERM, libc::SIGTERM);
        last = signal;
        !is_the_end
    });
}

/// A child that has ended and that nobody waits for.
fn zombie() {
    let Ok(pid) = sys::fork_child(Some(0)) else { return };
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    while state() != Some('Z') {
        std::thread::yield_now();
    }
    println!("Z");
}

/// What is open, but for the directory that says so.
fn descriptors() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let links = open.filter(|e| {
        std::fs::read_link(e.path()).is_ok_and(|to| !to.to_string_lossy().ends_with("/fd"))
    });
    let mut numbers: Vec<i32> =
        links.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    println!("{numbers:?}");
}

/// A TCP port of its own, one of somebody else, and UDP.
fn tcp(port: i32) {
    let say = |what: &str, error: Option<std::io::Error>| match error {
        None => println!("{what} ok"),
        Some(error) => println!("{what} {}", error.raw_os_error().unwrap_or(0)),
    };
    let to = ("127.0.0.1", u16::try_from(port).unwrap_or(0));
    say("bind", TcpListener::bind("127.0.0.1:0").err());
    say("connect", TcpStream::connect(to).err());
    say("udp", std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.connect(to)).err());
}

/// Memory, a MiB at a time, all of it touched; how many there were.
fn eat(most: i32) {
    let mut blocks = Vec::new();
    for n in 0..most {
        let mut block = Vec::new();
        if let Err(error) = block.try_reserve_exact(1 << 20) {
            return println!("{n} {error}");
        }
        block.resize(1 << 20, 1u8);
        blocks.push(std::hint::black_box(block));
    }
    println!("{most} ok");
}

/// Files, until there are no descriptors left.
fn open_files(most: i32) {
    let mut files = Vec::new();
    let error = (0..most).find_map(|_| match std::fs::File::open("/dev/null") {
        Ok(file) => {
            files.push(file);
            None
        }
        Err(error) => error.raw_os_error(),
    });
    println!("{} {}", files.len() + 3, error.unwrap_or(0));
}

/// Until something ends it.
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

/// Bytes and files until the tmpfs is full.
fn fill() {
    let block = vec![1u8; 1 << 20];
    for dir in ["/tmp", "/dev/shm"] {
        let Ok(mut file) = std::fs::File::create(format!("{dir}/fill")) else { continue };
        let mut written = 0;
        let errno = loop {
            match file.write(&block) {
                Ok(n) => written += n,
                Err(error) => break error.raw_os_error().unwrap_or(0),
            }
            if written > 300 << 20 {
                break 0;
            }
        };
        println!("{dir} bytes {written} {errno}");
    }
    for dir in ["/tmp", "/dev/shm"] {
        let _gone = std::fs::remove_file(format!("{dir}/fill"));
    }
    let create = |n: &i32| std::fs::File::create(format!("/tmp/{n}")).is_ok();
    println!("files {}", (0..100_000).take_while(create).count());
}

/// Every call that gives a file its mode, with set-uid and with set-gid; also where a comparison of
/// the wrong width, or of the whole mode, would look past it. Each makes a file of its own in `dir`.
fn set_id(dir: &str) {
    use sys::Arg::{N, Path, Words};
    let here = N(libc::AT_FDCWD.into());
    let create = i64::from(libc::O_CREAT | libc::O_WRONLY);
    let name = |name: String| CString::new(format!("{dir}/{name}")).unwrap_or_default();
    let create_at =
        |path: &CStr| sys::read_call(libc::SYS_openat, [here, Path(path), N(create), N(0o755)]);
    for mode in [0o4755, 0o2755, 0o6755, 0o104_755, 0o4755 | 1 << 32] {
        let regular = N(mode | i64::from(libc::S_IFREG));
        let how = [create.cast_unsigned(), mode.cast_unsigned() & 0o7777, 0];
        let m = N(mode);
        for (way, number) in [
            ("chmod", libc::SYS_chmod),
            ("fchmod", libc::SYS_fchmod),
            ("fchmodat", libc::SYS_fchmodat),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("open", libc::SYS_open),
            ("openat", libc::SYS_openat),
            ("unnamed", libc::SYS_openat),
            ("creat", libc::SYS_creat),
            ("mknod", libc::SYS_mknod),
            ("mknodat", libc::SYS_mknodat),
            ("openat2", libc::SYS_openat2),
        ] {
            let path = name(format!("{way}-{mode:o}"));
            let file = Path(&path);
            let fd = if way.contains("chmod") { create_at(&path).unwrap_or(-1) } else { -1 };
            let args = match way {
                "chmod" | "creat" => [file, m, N(0), N(0)],
                "fchmod" => [N(fd), m, N(0), N(0)],
                "fchmodat" | "fchmodat2" => [here, file, m, N(0)],
                "open" => [file, N(create), m, N(0)],
                "openat" => [here, file, N(create | 1 << 32), m],
                "mknod" => [file, regular, N(0), N(0)],
                "mknodat" => [here, file, regular, N(0)],
                "openat2" => [here, file, Words(&how), N(24)],
                _ => {
                    say(format!("{way} {mode:o}"), unnamed(dir, mode, &path));
                    continue;
                }
            };
            say(format!("{way} {mode:o}"), sys::read_call(number, args));
        }
    }
    let fd = create_at(&name("flags".to_owned())).unwrap_or(-1);
    let set_flags = [N(fd), N(0x4008_6602), Words(&[0x40]), N(0)]; // FS_IOC_SETFLAGS, FS_NODUMP_FL
    say("FS_IOC_SETFLAGS", sys::read_call(libc::SYS_ioctl, set_flags));
}

/// A file that gets its mode before it has a name.
fn unnamed(dir: &str, mode: i64, path: &CStr) -> Result<i64, i32> {
    use sys::Arg::{N, Path};
    let dir = CString::new(dir).unwrap_or_default();
    let (here, flags) = (N(libc::AT_FDCWD.into()), libc::O_TMPFILE | libc::O_WRONLY);
    let fd = sys::read_call(libc::SYS_openat, [here, Path(&dir), N(flags.into()), N(mode)])?;
    let from = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    sys::link(&from, path)
}
