//! What processes share: System V and POSIX objects, keys. ipc_namespaces(7), keyrings(7).

use std::fs;

use super::{at, doubt, happened, nonce, number, seen};
use crate::facts::{read_bounded, read_text};
use crate::fixture::names;
use crate::objects::{self, PROCESS};
use crate::sys::{Arg, call};
use crate::{Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], needs: &'static [Fixture], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("ipc", texts, run).needs(needs)
}

const READS: &str = "only reads a fixture";
const NONCE: &str = "the nonce is read back";
const GONE: &str = "in a keyring of this process, gone with it";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["ipc-shm",        "System V shared memory",   "shmget(KEY); shmat(SHM_RDONLY)",                  READS, NONCE], &[Fixture::Shm], |f| seen(f, &objects::shared_memory(number(f, Fixture::Shm)?)?)),
    row(["ipc-shm-list",   "list shared memory",       r#"open("/proc/sysvipc/shm"); read"#,              READS, "the key of the fixture is in the list"], &[Fixture::Shm], list),
    row(["ipc-sem",        "System V semaphore",       "semget(KEY); semctl(GETVAL)",                     READS, "its value is that of the fixture"], &[Fixture::Sem], semaphore),
    row(["ipc-msg",        "System V message queue",   "msgget(KEY); msgctl(IPC_STAT)",                   "takes no message", "it has one message"], &[Fixture::Msg], message),
    row(["ipc-posix-shm",  "POSIX shared memory",      r#"open("/dev/shm/NAME", O_RDONLY); read"#,        READS, NONCE], &[Fixture::Posix], posix),
    row(["ipc-shm-write",  "write shared memory",      "shmget(KEY); shmat; write the nonce over itself", "what it writes is what was there", NONCE], &[Fixture::Shm], write_shared),
    row(["ipc-posix-mq",   "POSIX message queue",      r#"mq_open("NAME", O_RDONLY); mq_getattr"#,        "takes no message", "it has one message"], &[Fixture::Queue], queue),
    row(["key-read",       "read a key outside",       "keyctl(KEYCTL_READ, SERIAL)",                     READS, NONCE], &[Fixture::Key], |f| seen(f, &objects::read_key(number(f, Fixture::Key)?)?)),
    row(["key-list",       "list keys outside",        r#"open("/proc/keys"); read"#,                     READS, "the serial number of the fixture is in the list"], &[Fixture::Key], list_keys),
    row(["key-add",        "add a key",                r#"add_key("user", …, KEY_SPEC_PROCESS_KEYRING)"#, GONE, "keyctl(KEYCTL_READ) gives it back"], &[], add),
    row(["key-session",    "a new session keyring",    "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)",       GONE, "it has another serial number"], &[], join),
    row(["key-user-ring",  "the user keyring", "keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0)", "makes nothing", "it has a serial number"], &[], user_keyring),
];

fn list(facts: &Facts) -> Tried {
    let key = at(facts, Fixture::Shm)?;
    let table = read_text("/proc/sysvipc/shm")?;
    let mut keys = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    match keys.any(|found| found == key) {
        true => Ok(Outcome::ALLOWED),
        false => Ok(Outcome::CONTAINED.note("the room's own list")),
    }
}

fn semaphore(facts: &Facts) -> Tried {
    let key = Arg::N(number(facts, Fixture::Sem)?);
    let id = call(libc::SYS_semget, &mut [key, Arg::N(0), Arg::N(0)])?;
    happened(objects::semaphore(id)? == names::semaphore(nonce(facts)?))
}

fn message(facts: &Facts) -> Tried {
    let key = Arg::N(number(facts, Fixture::Msg)?);
    let id = call(libc::SYS_msgget, &mut [key, Arg::N(0)])?;
    happened(objects::messages(id)? == 1)
}

fn posix(facts: &Facts) -> Tried {
    seen(facts, &fs::read(at(facts, Fixture::Posix)?)?)
}

fn write_shared(facts: &Facts) -> Tried {
    let key = Arg::N(number(facts, Fixture::Shm)?);
    let id = call(libc::SYS_shmget, &mut [key, Arg::N(0), Arg::N(0)])?;
    seen(facts, &crate::sys::shared(id, Some(objects::word(nonce(facts)?)))?)
}

fn queue(facts: &Facts) -> Tried {
    happened(objects::queued(at(facts, Fixture::Queue)?)? == 1)
}

/// A mask of the harness shows an empty file.
fn list_keys(facts: &Facts) -> Tried {
    let serial = format!("{:08x} ", number(facts, Fixture::Key)?);
    let list = read_bounded("/proc/keys")?;
    let list = String::from_utf8_lossy(&list);
    match list.lines().any(|line| line.starts_with(&serial)) {
        true => Ok(Outcome::ALLOWED),
        false if list.is_empty() => Ok(Outcome::REDACTED),
        false => Ok(Outcome::BLOCKED.note("not in the list")),
    }
}

fn add(_: &Facts) -> Tried {
    let word = Arg::In(b"agent-probe-word");
    let name = Arg::Text(c"agent-probe");
    let args = &mut [Arg::Text(c"user"), name, word, Arg::N(16), Arg::N(PROCESS)];
    let serial = call(libc::SYS_add_key, args)?;
    happened(objects::read_key(serial).map_err(doubt("added, not read"))? == *b"agent-probe-word")
}

fn keyring(id: i64) -> Result<i64, crate::Errno> {
    call(libc::SYS_keyctl, &mut [Arg::N(0), Arg::N(id), Arg::N(0)])
}

fn join(_: &Facts) -> Tried {
    let before = keyring(-3);
    let joined = call(libc::SYS_keyctl, &mut [Arg::N(1), Arg::N(0)])?;
    happened(before != Ok(joined) && keyring(-3) == Ok(joined))
}

fn user_keyring(_: &Facts) -> Tried {
    keyring(-4)?;
    Ok(Outcome::ALLOWED)
}
