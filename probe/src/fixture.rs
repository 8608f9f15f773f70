//! What stands outside of the room for an operation to reach: where it is and what it holds. `agent-probe --hold`
//! makes them, on the host, with the room's id; the harness hands their places in as facts.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fixture {
    /// A directory with files of the room's id.
    Dir,
    /// A listening TCP socket on 127.0.0.1.
    Tcp,
    /// A UDP socket on 127.0.0.1.
    Udp,
    /// A listening UNIX socket with an abstract name.
    Abstract,
    /// A listening UNIX socket in a directory.
    Socket,
    /// A process of the room's id, which counts SIGUSR1 and holds a lock.
    Victim,
    /// System V shared memory.
    Shm,
    /// A System V semaphore.
    Sem,
    /// A System V message queue with one message.
    Msg,
    /// POSIX shared memory.
    Posix,
    /// A POSIX message queue with one message.
    Queue,
    /// A key that everyone may read, by its serial number.
    Key,
    /// A pseudo terminal of the host.
    Terminal,
    /// A descriptor of the harness.
    Fd,
    /// A variable of the harness.
    Env,
    /// A controlling terminal.
    Tty,
    /// A set-uid program of another user.
    SetUid,
}

/// Fixture, key of its fact, shape of the fact's value for the help.
#[rustfmt::skip] // a row a line
pub const ALL: &[(Fixture, &str, &str)] = &[
    (Fixture::Dir,      "dir",      "path of a directory: open (0644) and private (0600) hold the nonce, spare may be changed"),
    (Fixture::Tcp,      "tcp",      "port on 127.0.0.1; answers the nonce"),
    (Fixture::Udp,      "udp",      "port on 127.0.0.1; answers the nonce"),
    (Fixture::Abstract, "abstract", "abstract name of a UNIX socket; answers the nonce"),
    (Fixture::Socket,   "socket",   "path of a UNIX socket; answers the nonce"),
    (Fixture::Victim,   "victim",   "pid on the host and address of the nonce in its memory, decimal: PID/ADDRESS"),
    (Fixture::Shm,      "shm",      "key of shared memory that holds the nonce"),
    (Fixture::Sem,      "sem",      "key of a semaphore whose value is the low 15 bits of the nonce"),
    (Fixture::Msg,      "msg",      "key of a queue with one message"),
    (Fixture::Posix,    "posix",    "path in /dev/shm of a file that holds the nonce"),
    (Fixture::Queue,    "queue",    "name of a message queue with one message"),
    (Fixture::Key,      "key",      "serial number of a key that holds the nonce"),
    (Fixture::Terminal, "terminal", "path and size of a terminal: PATH:ROWSxCOLUMNS"),
    (Fixture::Fd,       "fd",       "number of a descriptor: the file open of `dir`"),
    (Fixture::Tty,      "tty",      "number of a descriptor: the controlling terminal, where it was handed in"),
    (Fixture::SetUid,   "set-uid",  "path of a set-uid program, and the id of its owner: PATH:UID"),
    (Fixture::Env,      "env",      "name of a variable, and the digest of its value: NAME:DIGEST"),
];

impl Fixture {
    /// Its key.
    pub fn key(self) -> &'static str {
        ALL.iter().find(|(fixture, ..)| *fixture == self).map_or("", |(_, key, _)| key)
    }

    /// The fixture of a key.
    pub fn of_key(key: &str) -> Option<Fixture> {
        ALL.iter().find(|(_, known, _)| *known == key).map(|(fixture, ..)| *fixture)
    }

    /// Made by `--hold`; the others are the harness's own.
    pub fn is_held(self) -> bool {
        !matches!(self, Fixture::Fd | Fixture::Env | Fixture::Tty | Fixture::SetUid)
    }
}

/// Names that follow from the nonce, so that whoever knows it can remove them.
pub mod names {
    /// A System V key: positive, never IPC_PRIVATE.
    pub fn sysv(nonce: &str) -> i64 {
        i64::try_from(number(nonce) & 0x7fff_ffff | 1).unwrap_or(1)
    }

    /// What the semaphore says: 1 to 32767.
    pub fn semaphore(nonce: &str) -> i64 {
        i64::try_from(number(nonce) & 0x7fff | 1).unwrap_or(1)
    }

    /// Rows and columns that no terminal has by chance.
    pub fn size(nonce: &str) -> (u16, u16) {
        let part = |shift: u32| u16::try_from(number(nonce) >> shift & 0xfff | 1).unwrap_or(1);
        (part(0), part(12))
    }

    /// In /dev/shm.
    pub fn posix(nonce: &str) -> String {
        format!("/dev/shm/agent-fixture-{nonce}")
    }

    /// Without the slash.
    pub fn queue(nonce: &str) -> String {
        format!("agent-fixture-{nonce}")
    }

    fn number(nonce: &str) -> u64 {
        u64::from_str_radix(nonce, 16).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_come_back() {
        for (fixture, key, _) in ALL {
            assert_eq!((Fixture::of_key(key), fixture.key()), (Some(*fixture), *key));
        }
        assert_eq!(Fixture::of_key("nothing"), None);
    }
}
