//! The program from outside: arguments in, records and exit status out. Only operations that are harmless anywhere.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use agent_probe::record::{Bench, Record};
use agent_probe::{Errno, Outcome, host_facts};

const PROBE: &str = env!("CARGO_BIN_EXE_agent-probe");

fn probe(args: &[&str]) -> Output {
    Command::new(PROBE).args(args).output().expect("agent-probe starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One line a name, in the order of the names, each a record that the library reads.
#[test]
fn names_become_records_in_their_order() {
    let names = ["net-connect-udp", "dev-mem", "fs-read-passwd", "dev-mem"];
    let output = probe(&names);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let lines = output.stdout.split_inclusive(|byte| *byte == b'\n');
    let ops: Vec<&str> = lines.map(|line| Record::parse(line).unwrap().op).collect();
    assert_eq!(ops, names);
}

/// The digest travels from the library on this side to the operation on the other.
#[test] // seen to fail with digest taken without the last byte in the operation
fn the_hosts_own_passwd_is_allowed_and_another_is_contained() {
    let ask = |facts: &[std::ffi::OsString]| {
        let output = Command::new(PROBE).args(facts).arg("fs-read-passwd").output().unwrap();
        Record::parse(&output.stdout).unwrap().outcome
    };
    assert_eq!(ask(&host_facts().to_args()), Outcome::ALLOWED);
    let other = ["--fact".into(), "passwd=0000000000000000".into()];
    assert_eq!(ask(&other), Outcome::CONTAINED.note("another file"));
}

#[test]
fn usage_errors_are_125_and_print_no_record() {
    for bad in [
        &["nothing"][..],
        &["dev-mem", "nothing"],
        &["--fact", "x=1"],
        &["--bench", "1"],
        &["--nothing"],
    ] {
        let output = probe(bad);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{bad:?}");
        assert!(stderr(&output).starts_with("agent-probe: arguments: "), "{}", stderr(&output));
    }
    assert!(stderr(&probe(&["nothing"])).contains("fs-read-passwd"));
}

/// Records that nobody can read are a failure: full, without a reader, and closed, where std would put /dev/null.
#[test] // seen to fail without stdout_was_closed
fn a_stdout_that_takes_nothing_is_125() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, no_reader) = std::io::pipe().unwrap();
    drop(reader);
    for (stdout, errno) in
        [(Stdio::from(full), libc::ENOSPC), (Stdio::from(no_reader), libc::EPIPE)]
    {
        let output = Command::new(PROBE).arg("dev-mem").stdout(stdout).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(stderr(&output).contains(&*Errno(errno).name()), "{}", stderr(&output));
    }
    let closed = Command::new("sh").args(["-c", r#""$0" dev-mem >&-"#, PROBE]).output().unwrap();
    assert_eq!(closed.status.code(), Some(125), "{}", stderr(&closed));
}

/// A tracee stops even at an ignored SIGPIPE, and a harness that does not trace would wait for ever.
#[test] // seen to fail without block_signals: wait reports a stop
fn a_tracee_without_a_reader_still_exits() {
    let (reader, no_reader) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(PROBE)
        .arg("ptrace-traceme")
        .stdout(no_reader)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125));
}

#[test]
fn bench_prints_one_record() {
    let output = probe(&["--bench", "1000", "3"]);
    assert_eq!(Bench::parse(&output.stdout).unwrap().ns.len(), 3);
}

#[test]
fn help_version_and_list_are_no_records() {
    for (option, start) in
        [("-h", "usage: agent-probe"), ("-V", "agent-probe "), ("--list", "=== fs")]
    {
        let output = probe(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(start), "{option}");
    }
}

/// The fixtures live as long as standard input is open, however its other end ends.
#[test] // seen to fail with `release` left out of `hold`
fn what_is_held_is_alive_and_then_gone() {
    use std::io::{BufRead, BufReader, Write};
    let nonce = format!("{:016x}", std::process::id());
    let dir = std::env::temp_dir().join(format!("agent-fixtures-{nonce}"));
    let mut hold = Command::new(PROBE);
    hold.arg("--hold").arg(&dir).arg(&nonce).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = hold.spawn().unwrap();
    let mut asks = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let made: Vec<String> =
        lines.by_ref().map(|l| l.unwrap()).take_while(|l| l != "ready").collect();
    assert!(made.contains(&format!("dir={}", dir.display())), "{made:?}");
    writeln!(asks, "dir\nnothing").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "dir alive 0");
    assert_eq!(lines.next().unwrap().unwrap(), "nothing dead no such fixture");
    let shm = format!("/dev/shm/agent-fixture-{nonce}");
    assert_eq!(std::fs::read_to_string(&shm).unwrap(), nonce);
    drop(asks);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!dir.exists() && !std::path::Path::new(&shm).exists());
    assert_eq!(probe(&["--hold", "/tmp/x"]).status.code(), Some(125));
    assert_eq!(probe(&["--hold", "/tmp/x", "../../etc"]).status.code(), Some(125));
}
