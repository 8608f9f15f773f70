//! What the harness knows of the host and hands in, so that a room's own `/etc/passwd` does not count as the host's and
//! a guard does not guess. A fact that is missing makes a guard hold, never give way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use crate::fixture::{self, Fixture};
use crate::sys;

/// Most bytes read of any file; what lies behind them is neither compared nor digested.
pub const MAX_READ: u64 = 1 << 20;

/// The host's pid 2: kthreadd, unless the harness itself lives in a pid namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pid2 {
    /// The host has none; written `-`.
    Absent,
    /// Its [`pid_identity`].
    Is(String),
}

/// Facts about the host. `None`: the harness does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// [`digest`] of the host's `/etc/passwd`.
    pub passwd: Option<String>,
    /// [`digest`] of the host's `/etc/shadow`; unknown to a harness that may not read it.
    pub shadow: Option<String>,
    /// Who pid 2 is on the host.
    pub pid2: Option<Pid2>,
    /// Inode number of the host's mount namespace. namespaces(7).
    pub mntns: Option<u64>,
    /// Inode number of the host's pid namespace.
    pub pidns: Option<u64>,
    /// Inode number of the user namespace that the harness lives in.
    pub userns: Option<u64>,
    /// Inode number of its network namespace.
    pub netns: Option<u64>,
    /// [`digest`] of the host's name.
    pub hostname: Option<String>,
    /// Inode number of its ipc namespace.
    pub ipcns: Option<u64>,
    /// Inode number of its uts namespace.
    pub utsns: Option<u64>,
    /// Inode number of its cgroup namespace.
    pub cgroupns: Option<u64>,
    /// The longest path in its `/proc/self/cgroup`.
    pub cgroup: Option<String>,
    /// What its [`FILES`] say, by key.
    pub files: BTreeMap<&'static str, String>,
    /// Word that every fixture holds: 16 hex digits.
    pub nonce: Option<String>,
    /// Where the fixtures are, [`Fixture`] by fixture.
    pub fixtures: BTreeMap<Fixture, String>,
}

/// The keys of `--fact` and the shape of their values, for the help.
#[rustfmt::skip] // a row a line
pub const KEYS: &[(&str, &str)] = &[
    ("passwd", "digest of the host's /etc/passwd: FNV-1a, 16 hex digits"),
    ("shadow", "digest of the host's /etc/shadow"),
    ("pid2",   "the host's pid 2 as Name/PPid/NSpid, or - for none"),
    ("mntns",  "inode number of the host's mount namespace"),
    ("pidns",  "inode number of the host's pid namespace"),
    ("userns", "inode number of the host's user namespace"),
    ("netns",  "inode number of the host's network namespace"),
    ("hostname", "digest of the host's name"),
    ("ipcns",  "inode number of the host's ipc namespace"),
    ("utsns",  "inode number of the host's uts namespace"),
    ("cgroupns", "inode number of the host's cgroup namespace"),
    ("cgroup", "longest path in the harness's /proc/self/cgroup"),
    ("bootid", "digest of the kernel's boot id"),
    ("cmdline", "digest of the kernel's command line"),
    ("init",   "digest of the command line of the host's PID 1"),
    ("version", "digest of /proc/version"),
    ("cpuinfo", "digest of the models in /proc/cpuinfo"),
    ("meminfo", "digest of MemTotal in /proc/meminfo"),
    ("zoneinfo", "digest of the zones in /proc/zoneinfo and their size"),
    ("partitions", "digest of /proc/partitions"),
    ("forks",  "processes that were made so far, of /proc/stat"),
    ("faults", "page faults so far, of /proc/vmstat"),
    ("nonce",  "word that every fixture outside of the room holds: 16 hex digits"),
];

/// A file of which every process of a host reads the same.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Of the fact.
    pub key: &'static str,
    /// The file.
    pub path: &'static str,
    /// How the lines start that count; none: all of them.
    pub lines: &'static [&'static str],
    /// The line holds a number that only grows; else the lines stay as they are.
    pub grows: bool,
}

const fn known(key: &'static str, path: &'static str, lines: &'static [&'static str]) -> Known {
    Known { key, path, lines, grows: false }
}

/// What of `/proc` is compared with the host's.
#[rustfmt::skip] // a row a line
pub const FILES: &[Known] = &[
    known("bootid",     "/proc/sys/kernel/random/boot_id", &[]), // until the next boot. random(4)
    known("cmdline",    "/proc/cmdline",    &[]),
    known("init",       "/proc/1/cmdline",  &[]),
    known("version",    "/proc/version",    &[]),
    known("cpuinfo",    "/proc/cpuinfo",    &["processor", "model name"]),
    known("meminfo",    "/proc/meminfo",    &["MemTotal:"]),
    known("zoneinfo",   "/proc/zoneinfo",   &["Node", "        spanned"]),
    known("partitions", "/proc/partitions", &[]),
    Known { grows: true, ..known("forks",  "/proc/stat",   &["processes "]) },
    Known { grows: true, ..known("faults", "/proc/vmstat", &["pgfault "]) },
];

impl Known {
    /// What it says here, as the value of a fact; `None`: nothing.
    pub fn read(&self) -> io::Result<Option<String>> {
        let text = read_text(self.path)?;
        let counts = |line: &&str| self.lines.iter().any(|start| line.starts_with(start));
        let lines: Vec<&str> = match self.lines {
            [] => vec![text.as_str()],
            _ => text.lines().filter(counts).collect(),
        };
        let said = lines.join("\n");
        Ok(match (said.trim().is_empty(), self.grows) {
            (true, _) => None,
            (_, true) => said.split(' ').nth(1).map(str::to_owned),
            (_, false) => Some(digest(said.as_bytes())),
        })
    }

    fn parse(&self, value: &str) -> Result<String, String> {
        if self.grows { parse_number(value).map(|n| n.to_string()) } else { parse_digest(value) }
    }
}

impl Facts {
    /// Takes one `KEY=VALUE`. Refuses unknown keys, malformed values and a key given twice.
    pub fn take(&mut self, fact: &str) -> Result<(), String> {
        let (key, value) =
            fact.split_once('=').ok_or_else(|| format!("fact {fact:?}: not KEY=VALUE"))?;
        let known = match key {
            "passwd" => self.passwd.replace(parse_digest(value)?).is_some(),
            "shadow" => self.shadow.replace(parse_digest(value)?).is_some(),
            "pid2" => self.pid2.replace(parse_pid2(value)?).is_some(),
            "mntns" => self.mntns.replace(parse_number(value)?).is_some(),
            "pidns" => self.pidns.replace(parse_number(value)?).is_some(),
            "userns" => self.userns.replace(parse_number(value)?).is_some(),
            "netns" => self.netns.replace(parse_number(value)?).is_some(),
            "hostname" => self.hostname.replace(parse_digest(value)?).is_some(),
            "ipcns" => self.ipcns.replace(parse_number(value)?).is_some(),
            "utsns" => self.utsns.replace(parse_number(value)?).is_some(),
            "cgroupns" => self.cgroupns.replace(parse_number(value)?).is_some(),
            "cgroup" if !value.starts_with('/') => {
                return Err(format!("fact value {value:?}: not a path"));
            }
            "cgroup" => self.cgroup.replace(value.to_owned()).is_some(),
            "nonce" => self.nonce.replace(parse_digest(value)?).is_some(),
            _ if let Some(known) = FILES.iter().find(|known| known.key == key) => {
                self.files.insert(known.key, known.parse(value)?).is_some()
            }
            _ => match Fixture::of_key(key) {
                Some(_) if value.is_empty() => return Err(format!("fact {key}: empty")),
                Some(fixture) => self.fixtures.insert(fixture, value.to_owned()).is_some(),
                None => return Err(unknown(key)),
            },
        };
        if known { Err(format!("fact {key}: given twice")) } else { Ok(()) }
    }

    /// The facts as arguments of `agent-probe`: `--fact`, `KEY=VALUE`, …
    pub fn to_args(&self) -> Vec<OsString> {
        let pid2 = self.pid2.as_ref().map(|pid2| match pid2 {
            Pid2::Absent => "-".to_owned(),
            Pid2::Is(identity) => identity.clone(),
        });
        let values = [
            ("passwd", self.passwd.clone()),
            ("shadow", self.shadow.clone()),
            ("pid2", pid2),
            ("mntns", self.mntns.map(|inode| inode.to_string())),
            ("pidns", self.pidns.map(|inode| inode.to_string())),
            ("userns", self.userns.map(|inode| inode.to_string())),
            ("netns", self.netns.map(|inode| inode.to_string())),
            ("hostname", self.hostname.clone()),
            ("ipcns", self.ipcns.map(|inode| inode.to_string())),
            ("utsns", self.utsns.map(|inode| inode.to_string())),
            ("cgroupns", self.cgroupns.map(|inode| inode.to_string())),
            ("cgroup", self.cgroup.clone()),
            ("nonce", self.nonce.clone()),
        ];
        let fixtures = self.fixtures.iter().map(|(at, value)| (at.key(), Some(value.clone())));
        let files = self.files.iter().map(|(key, value)| (*key, Some(value.clone())));
        let values = values.into_iter().chain(files).chain(fixtures);
        let known = values.filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        known.flat_map(|fact| ["--fact".into(), fact.into()]).collect()
    }
}

fn unknown(key: &str) -> String {
    let fixtures = fixture::ALL.iter().map(|(_, key, _)| *key);
    let keys: Vec<&str> = KEYS.iter().map(|(key, _)| *key).chain(fixtures).collect();
    format!("fact {key:?}: unknown key; known: {}", keys.join(" "))
}

fn parse_digest(value: &str) -> Result<String, String> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if value.len() == 16 && value.bytes().all(hex) {
        return Ok(value.to_owned());
    }
    Err(format!("fact value {value:?}: not 16 lower-case hex digits"))
}

fn parse_number(value: &str) -> Result<u64, String> {
    let number = value.parse().ok().filter(|n: &u64| *n != 0 && n.to_string() == value);
    number.ok_or_else(|| format!("fact value {value:?}: not a number"))
}

fn parse_pid2(value: &str) -> Result<Pid2, String> {
    match value {
        "-" => Ok(Pid2::Absent),
        _ if value.split('/').count() >= 3 => Ok(Pid2::Is(value.to_owned())),
        _ => Err(format!("fact value {value:?}: neither Name/PPid/NSpid nor -")),
    }
}

/// Gathers the facts; called by the harness, on the host, with the most rights it has. What cannot be read stays
/// unknown.
pub fn host_facts() -> Facts {
    let file = |path: &str| read_bounded(path).ok().map(|content| digest(&content));
    let pid2 = match read_text("/proc/2/status") {
        Ok(status) => pid_identity(&status).map(Pid2::Is),
        // A missing /proc is not a missing process.
        Err(e) if e.kind() == io::ErrorKind::NotFound && proc_works() => Some(Pid2::Absent),
        Err(_) => None,
    };
    Facts {
        passwd: file("/etc/passwd"),
        shadow: file("/etc/shadow"),
        pid2,
        mntns: ns_inode("mnt"),
        pidns: ns_inode("pid"),
        userns: ns_inode("user"),
        netns: ns_inode("net"),
        hostname: sys::hostname().ok().map(|name| digest(name.as_bytes())),
        ipcns: ns_inode("ipc"),
        utsns: ns_inode("uts"),
        cgroupns: ns_inode("cgroup"),
        cgroup: cgroups().ok().and_then(|paths| paths.into_iter().max_by_key(String::len)),
        files: FILES.iter().filter_map(|f| Some((f.key, f.read().ok()??))).collect(),
        ..Facts::default()
    }
}

/// Where this process is in each hierarchy: the third field. cgroups(7).
pub(crate) fn cgroups() -> io::Result<Vec<String>> {
    let text = read_text("/proc/self/cgroup")?;
    Ok(text.lines().filter_map(|line| Some(line.splitn(3, ':').nth(2)?.to_owned())).collect())
}

/// FNV-1a, 64 bits, as 16 lower-case hex digits: tells files apart, hides nothing and stops no forger.
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
pub fn digest(content: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", content.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Who a process is, from its `/proc/PID/status`: name, parent, and pid in the namespace of that proc mount
/// (`kthreadd/0/2`). `None` where a line is missing. proc_pid_status(5).
pub fn pid_identity(status: &str) -> Option<String> {
    let pid = status_field(status, "NSpid")?.split_whitespace().next()?;
    Some(format!("{}/{}/{pid}", status_field(status, "Name")?, status_field(status, "PPid")?))
}

/// The value of a line `KEY:\tVALUE` of a status file.
pub(crate) fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':').map(str::trim);
    status.lines().find_map(value)
}

/// Inode number of one of this process's namespaces (`mnt`, `pid`, `user`). The link's text and what it leads to must
/// agree: a file that only stands in its place has no such name. namespaces(7).
pub(crate) fn ns_inode(kind: &str) -> Option<u64> {
    let path = format!("/proc/self/ns/{kind}");
    let inode = fs::metadata(&path).ok()?.ino();
    let link = fs::read_link(&path).ok()?;
    (link.to_str()? == format!("{kind}:[{inode}]")).then_some(inode)
}

/// Whether `/proc` is mounted and knows this process.
pub(crate) fn proc_works() -> bool {
    fs::symlink_metadata("/proc/self/status").is_ok()
}

/// The content of a file, at most [`MAX_READ`] bytes.
pub(crate) fn read_bounded(path: &str) -> io::Result<Vec<u8>> {
    // Room for a status or a small table in one read: it is then one moment's picture.
    let mut content = Vec::with_capacity(16384);
    File::open(path)?.take(MAX_READ).read_to_end(&mut content)?;
    Ok(content)
}

/// The same as text; a process may name itself with bytes that are no UTF-8.
pub(crate) fn read_text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_bounded(path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KTHREADD: &str =
        "Name:\tkthreadd\nUmask:\t0022\nPid:\t2\nPPid:\t0\nTracerPid:\t0\nNSpid:\t2\n";

    #[test]
    fn digests_are_fnv_1a() {
        assert_eq!(digest(b""), "cbf29ce484222325");
        assert_eq!(digest(b"a"), "af63dc4c8601ec8c");
        assert_eq!(digest(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn identity_is_name_parent_and_outermost_pid() {
        assert_eq!(pid_identity(KTHREADD).as_deref(), Some("kthreadd/0/2"));
        let nested = "Name:\tsh -c x\nPPid:\t1\nNSpid:\t2\t17\n";
        assert_eq!(pid_identity(nested).as_deref(), Some("sh -c x/1/2"));
    }

    #[test]
    fn identity_needs_all_three_lines() {
        for line in ["Name:\tkthreadd\n", "PPid:\t0\n", "NSpid:\t2\n"] {
            assert_eq!(pid_identity(&KTHREADD.replace(line, "")), None, "without {line:?}");
        }
        assert_eq!(pid_identity(&KTHREADD.replace("NSpid:\t2", "NSpid:\t")), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_key() {
        assert_eq!(status_field(KTHREADD, "Pid"), Some("2"));
        assert_eq!(status_field(KTHREADD, "PPid"), Some("0"));
        assert_eq!(status_field(KTHREADD, "Nam"), None);
    }

    #[test]
    fn facts_survive_the_command_line() {
        let all = Facts {
            passwd: Some(digest(b"p")),
            shadow: Some(digest(b"s")),
            pid2: Some(Pid2::Is("a=b c/0/2".into())),
            mntns: Some(4026531832),
            pidns: Some(u64::MAX),
            userns: Some(7),
            nonce: Some(digest(b"n")),
            fixtures: [(Fixture::Dir, "/tmp/a=b".into()), (Fixture::Tcp, "1".into())].into(),
            ..Facts::default()
        };
        let absent = Facts { pid2: Some(Pid2::Absent), ..Facts::default() };
        for facts in [all, absent, Facts::default(), host_facts()] {
            let mut back = Facts::default();
            for pair in facts.to_args().chunks(2) {
                assert_eq!(pair[0], "--fact");
                back.take(pair[1].to_str().unwrap()).unwrap();
            }
            assert_eq!(back, facts);
        }
    }

    #[test]
    fn every_key_of_the_help_is_taken_and_nothing_else() {
        let fixtures = fixture::ALL.iter().map(|(_, key, _)| key);
        for key in KEYS.iter().map(|(key, _)| key).chain(fixtures) {
            let error = Facts::default().take(&format!("{key}=")).unwrap_err();
            assert!(!error.contains("unknown key"), "{error}");
        }
        assert_eq!(host_facts().to_args().len(), 2 * (KEYS.len() - 1) - missing()); // no nonce
        assert!(Facts::default().take("uid=0").unwrap_err().contains("unknown key"));
    }

    /// Arguments fewer where the tests may not read /etc/shadow.
    fn missing() -> usize {
        if File::open("/etc/shadow").is_ok() { 0 } else { 2 }
    }

    #[test]
    fn malformed_facts_are_refused() {
        let hex = [
            "passwd=",
            "passwd=CBF29CE484222325",
            "shadow=cbf29ce48422232",
            "shadow=cbf29ce48422232g",
        ];
        let inodes =
            ["mntns=", "mntns=0", "pidns=-1", "pidns=+1", "pidns=01", "pidns=99999999999999999999"];
        for bad in
            hex.into_iter().chain(inodes).chain(["", "passwd", "=x", "pid2=", "pid2=kthreadd"])
        {
            assert!(Facts::default().take(bad).is_err(), "{bad}");
        }
        let mut twice = Facts::default();
        twice.take("pidns=1").unwrap();
        assert!(twice.take("pidns=1").unwrap_err().contains("twice"));
    }

    #[test]
    fn own_namespaces_have_inodes_and_others_do_not() {
        assert!(ns_inode("pid").is_some_and(|inode| inode > 0));
        assert_ne!(ns_inode("pid"), ns_inode("mnt"));
        assert_eq!(ns_inode("none"), None);
        assert_eq!(ns_inode("../status"), None); // a file, not a namespace
    }
}
