//! agent-init alone, as the entry point of a container: from its command line and environment to
//! the same block of orders that the shim would send. Nothing here is trusted less than an order:
//! whoever writes the command line decides what runs.

use core::ffi::CStr;

use crate::error::{At, Errno, Error};
use crate::landlock::{Access, LEAST_ABI};
use crate::layers::Layers;
use crate::orders::{COUNTS, Flags, GRACE, HEADER, MAGIC, Orders};
use crate::say::Line;
use crate::sys::{self, Strings, Words};

/// What an option does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Profile,
    Grant(Access),
    Limit(u64),
    Grace,
    Flag(Flags),
    Help,
    Version,
}

/// An option: its names, the word for its value (none: it takes none), what it does.
struct Row {
    long: Words,
    short: Words,
    value: Words,
    act: Act,
    help: Words,
}

const fn row(
    long: &'static CStr,
    short: &'static CStr,
    value: &'static CStr,
    act: Act,
    help: &'static CStr,
) -> Row {
    let (long, short) = (Words::of(long), Words::of(short));
    Row { long, short, value: Words::of(value), act, help: Words::of(help) }
}

const NOFILE: Act = Act::Limit(libc::RLIMIT_NOFILE as u64);
const NPROC: Act = Act::Limit(libc::RLIMIT_NPROC as u64);
const FSIZE: Act = Act::Limit(libc::RLIMIT_FSIZE as u64);

#[rustfmt::skip] // a row a line
const OPTIONS: &[Row] = &[
    row(c"--profile",     c"",   c"self", Act::Profile,                  c"the locks that a process puts on itself: all there are here [self]"),
    row(c"--rw",          c"",   c"PATH", Act::Grant(Access::WRITE),     c"the program may read, run and write what is there; repeatable"),
    row(c"--ro",          c"",   c"PATH", Act::Grant(Access::READ),      c"the program may read and run what is there; repeatable"),
    row(c"--group",       c"-g", c"",     Act::Flag(Flags::GROUP),       c"signals go to the program's process group, not to it alone"),
    row(c"--grace",       c"",   c"TIME", Act::Grace,                    c"from SIGTERM to SIGKILL for what the program leaves: 5s, 300ms, 1m [5s]"),
    row(c"--nofile",      c"",   c"N",    NOFILE,                        c"most open files of a process"),
    row(c"--nproc",       c"",   c"N",    NPROC,                         c"most processes of the user"),
    row(c"--fsize",       c"",   c"SIZE", FSIZE,                         c"most bytes in a file that is written; K, M, G"),
    row(c"--best-effort", c"",   c"",     Act::Flag(Flags::BEST_EFFORT), c"accept an older Landlock, or none, and say so"),
    row(c"--help",        c"-h", c"",     Act::Help,                     c"this text"),
    row(c"--version",     c"-V", c"",     Act::Version,                  c"the version"),
];

/// What may be reached in any case: proc is read-only, devices can be used.
const ALWAYS: &[(Access, &CStr)] = &[(Access::READ, c"/proc"), (Access::DEVICES, c"/dev")];

/// Without `--rw` and `--ro`: everything can be read and run, what programs write to by custom can
/// be written. The start directory and the home come to it. What is not there is left out.
#[rustfmt::skip]
const DEFAULT: &[(Access, &CStr)] = &[
    (Access::READ,  c"/"),
    (Access::WRITE, c"/tmp"),
    (Access::WRITE, c"/var/tmp"),
    (Access::WRITE, c"/dev/shm"),
    (Access::WRITE, c"/run"),
];

/// Room for these and two more.
const FIXED_GRANTS: usize = ALWAYS.len() + DEFAULT.len() + 2;

/// Where programs are looked for if the environment does not say. execvp(3).
const PATH: &[u8] = b"/bin:/usr/bin";
/// The longest name of a file: NAME_MAX, limits.h.
const NAME_MAX: usize = 255;

/// What the command line asks for.
pub enum Asked {
    /// A program, behind all locks.
    Run(Orders<'static>),
    /// The help.
    Help,
    /// The version.
    Version,
}

/// Without the words of the program.
struct Settings {
    flags: Flags,
    layers: Layers,
    grace: u64,
    limits: [(u64, u64); 3],
    has_grants: bool,
    asked: Act,
}

/// Reads the command line. An error names the option and its value.
pub fn read(argv: Strings, envp: Strings) -> Result<Asked, Error> {
    let mut settings = Settings {
        flags: Flags::ALONE,
        layers: Layers::SELF,
        grace: 5000,
        limits: [(u64::MAX, 0); 3],
        has_grants: false,
        asked: Act::Profile,
    };
    let first = walk(argv, &mut |row, value| settings.take(row, value))?;
    match settings.asked {
        Act::Help => return Ok(Asked::Help),
        Act::Version => return Ok(Asked::Version),
        _ => {}
    }
    let program = argv.from(first);
    if program.get(0).is_none() {
        return Err(Errno::EINVAL).at(c"PROGRAM(none given)");
    }
    if settings.flags.contains(Flags::BEST_EFFORT) {
        settings.best_effort();
    }
    block(&settings, argv, program, envp).map(Asked::Run)
}

/// Calls `on` with each option and its value; the index of the first word that is none.
fn walk(
    argv: Strings,
    on: &mut dyn FnMut(&'static Row, &'static CStr) -> Result<(), Error>,
) -> Result<usize, Error> {
    let mut n = 1;
    while let Some(word) = argv.get(n) {
        let bytes = word.to_bytes();
        if bytes == b"--" {
            return Ok(n + 1);
        }
        if !bytes.starts_with(b"-") || bytes == b"-" {
            return Ok(n);
        }
        n += 1;
        let end = bytes.iter().position(|b| *b == b'=').unwrap_or(bytes.len());
        let name = bytes.get(..end).unwrap_or(bytes);
        let known = |row: &&Row| name == row.long.bytes() || bytes == row.short.bytes();
        let Some(row) = OPTIONS.iter().find(known) else {
            return Err(Errno::EINVAL).at_object(c"unknown option", word);
        };
        let given = sys::rest_of(word, end + 1);
        let value = match (row.value.bytes().is_empty(), given) {
            (true, None) => c"",
            (true, Some(value)) => return Err(wrong(row, value)),
            (false, Some(value)) => value,
            (false, None) => {
                n += 1;
                argv.get(n - 1).ok_or(Error {
                    errno: Errno::EINVAL,
                    what: row.long,
                    object: Words::of(c"no value"),
                })?
            }
        };
        on(row, value)?;
    }
    Ok(n)
}

fn wrong(row: &Row, value: &'static CStr) -> Error {
    Error { errno: Errno::EINVAL, what: row.long, object: Words::of(value) }
}

impl Settings {
    fn take(&mut self, row: &'static Row, value: &'static CStr) -> Result<(), Error> {
        let bytes = value.to_bytes();
        match row.act {
            Act::Profile if bytes == b"self" => {}
            Act::Profile => return Err(wrong(row, value)),
            Act::Grant(_) => {
                self.has_grants = true;
                sys::is_dir(value).map_err(|errno| Error { errno, ..wrong(row, value) })?;
            }
            Act::Limit(resource) => {
                let limit = number(bytes, SIZES).filter(|n| *n > 0).ok_or(wrong(row, value))?;
                let same = |(r, _): &&mut (u64, u64)| *r == resource || *r == u64::MAX;
                if let Some(slot) = self.limits.iter_mut().find(same) {
                    *slot = (resource, limit);
                }
            }
            Act::Grace => self.grace = number(bytes, TIMES).ok_or(wrong(row, value))?,
            Act::Flag(flag) => self.flags |= flag,
            Act::Help | Act::Version if self.asked == Act::Profile => self.asked = row.act,
            Act::Help | Act::Version => {}
        }
        Ok(())
    }

    /// Says on stderr what is lost, as nothing weaker is run in silence.
    fn best_effort(&mut self) {
        let mut line = Line::new();
        line.text(b"agent-init: best effort, weaker than asked for: ");
        match sys::landlock_abi() {
            Ok(abi) if abi >= LEAST_ABI => return,
            Ok(abi) => {
                line.text(b"Landlock ABI ").number(abi).text(b", not ").number(LEAST_ABI);
            }
            Err(_) => {
                self.layers -= Layers::LANDLOCK;
                line.text(b"no Landlock in this kernel");
            }
        }
        line.end(2);
    }

    fn limits(&self) -> impl Iterator<Item = (u64, u64)> {
        self.limits.into_iter().filter(|(resource, _)| *resource != u64::MAX)
    }
}

/// Suffixes, and what they are worth; seconds are counted in milliseconds.
type Units = &'static [(&'static str, u64)];
const SIZES: Units = &[("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
const TIMES: Units = &[("", 1000), ("ms", 1), ("s", 1000), ("m", 60_000)];

/// Decimal digits and a unit.
fn number(text: &[u8], units: Units) -> Option<u64> {
    let digits = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(digits)?;
    let (_, worth) = units.iter().find(|(name, _)| unit == name.as_bytes())?;
    if digits.is_empty() {
        return None;
    }
    let add = |n: u64, b: &u8| n.checked_mul(10)?.checked_add(u64::from(b - b'0'));
    digits.iter().try_fold(0, add)?.checked_mul(*worth)
}

/// The value of a variable.
fn variable(envp: Strings, name: &[u8]) -> Option<&'static CStr> {
    envp.iter().find_map(|entry| {
        let rest = entry.to_bytes().strip_prefix(name)?;
        rest.starts_with(b"=").then(|| sys::rest_of(entry, name.len() + 1))?
    })
}

// -- The block ------------------------------------------------------------------------------------

/// Orders in the making. Its tables have room for all that there can be; strings lie behind them.
struct Block {
    words: &'static mut [u64],
    /// The next word of the tables, and the next byte for a string.
    word: usize,
    byte: usize,
    /// What did not fit: nothing, unless the sums in [`block`] are wrong.
    overflow: bool,
}

impl Block {
    fn set(&mut self, n: usize, value: u64) {
        match self.words.get_mut(n) {
            Some(word) => *word = value,
            None => self.overflow = true,
        }
    }

    fn push(&mut self, value: u64) {
        self.set(self.word, value);
        self.word += 1;
    }

    /// The offset of a string that consists of these parts, and the string.
    fn string(&mut self, parts: &[&[u8]]) {
        self.push(self.byte as u64);
        for part in parts {
            let rest = sys::bytes_of(self.words).get_mut(self.byte..).unwrap_or_default();
            self.overflow |= rest.len() <= part.len();
            for (to, from) in rest.iter_mut().zip(*part) {
                *to = *from;
            }
            self.byte += part.len();
        }
        self.byte += 1; // the memory is zero
    }

    fn strings(&mut self, strings: Strings) {
        for string in strings.iter() {
            self.string(&[string.to_bytes()]);
        }
        self.push(0);
    }
}

fn block(
    settings: &Settings,
    argv: Strings,
    program: Strings,
    envp: Strings,
) -> Result<Orders<'static>, Error> {
    let path = variable(envp, b"PATH").map_or(PATH, CStr::to_bytes);
    let name = program.get(0).map_or(&b""[..], CStr::to_bytes);
    let most_candidates = 1 + path.iter().filter(|b| **b == b':').count();
    let tables = HEADER
        + 2 * settings.limits.len()
        + 2 * (FIXED_GRANTS + argv.len())
        + 1
        + most_candidates
        + program.len()
        + envp.len()
        + 2;
    let strings = 2 * (argv.size() + envp.size())
        + path.len()
        + most_candidates * (NAME_MAX + 2)
        + name.len()
        + 16 * FIXED_GRANTS;
    let words = sys::new_words(tables + strings / 8 + 2).at(c"mmap(the orders)")?;
    let size = size_of_val(words) as u64;
    let mut block = Block { words, word: HEADER, byte: 8 * tables, overflow: false };

    for (resource, limit) in settings.limits() {
        block.push(resource);
        block.push(limit);
    }
    let grants = Grants { argv, envp, settings };
    let (count, start) = (grants.write(&mut block)?, block.word);
    block.string(&[b"."]);
    candidates(&mut block, name, path);
    let candidates = block.word - start - 1;
    block.strings(program);
    block.strings(envp);

    let counts = [0, settings.limits().count(), 0, count, candidates, program.len(), envp.len()];
    for (n, count) in counts.into_iter().enumerate() {
        block.set(COUNTS + n, count as u64);
    }
    let header = [MAGIC, size, settings.layers.bits().into(), settings.flags.bits()];
    for (n, word) in header.into_iter().enumerate() {
        block.set(n, word);
    }
    block.set(GRACE, settings.grace);
    let Block { words, overflow, .. } = block;
    match overflow {
        true => Err(Errno::E2BIG).at(c"check(the block)"),
        false => Orders::check(words).ok_or(Errno::EINVAL).at(c"check(the block)"),
    }
}

/// Where the program may be, as execvp(3) looks for it; but an empty part of PATH is nothing.
fn candidates(block: &mut Block, name: &[u8], path: &[u8]) {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(&b'/') {
        return block.string(&[name]);
    }
    for dir in path.split(|b| *b == b':') {
        if !dir.is_empty() {
            block.string(&[dir, b"/", name]);
        }
    }
}

/// What Landlock grants: two tables, access rights and paths.
struct Grants<'a> {
    argv: Strings,
    envp: Strings,
    settings: &'a Settings,
}

impl Grants<'_> {
    fn write(&self, block: &mut Block) -> Result<usize, Error> {
        let begin = block.word;
        self.each(&mut |access, path| {
            // Of a file, the rights of a directory are none.
            let is_dir = sys::is_dir(path).unwrap_or(true);
            block.push(if is_dir { access } else { access & Access::OF_A_FILE }.bits());
        })?;
        let count = block.word - begin;
        self.each(&mut |_, path| block.string(&[path.to_bytes()]))?;
        Ok(count)
    }

    /// The same rows in both passes, whatever happens to the files meanwhile: an empty path is
    /// nowhere, and what is nowhere is not granted.
    fn each(&self, on: &mut dyn FnMut(Access, &'static CStr)) -> Result<(), Error> {
        for (access, path) in ALWAYS {
            on(*access, path);
        }
        if self.settings.has_grants {
            let mut given = |row: &'static Row, path| {
                if let Act::Grant(access) = row.act {
                    on(access, path);
                }
                Ok(())
            };
            return walk(self.argv, &mut given).map(drop);
        }
        for (access, path) in DEFAULT {
            on(*access, path);
        }
        on(Access::WRITE, unless_root(c"."));
        on(Access::WRITE, variable(self.envp, b"HOME").map_or(c"", unless_root));
        Ok(())
    }
}

/// Nowhere, if it is the root directory by whatever name, or cannot be reached.
fn unless_root(path: &'static CStr) -> &'static CStr {
    match (sys::file(path), sys::file(c"/")) {
        (Ok(file), Ok(root)) if file != root => path,
        _ => c"",
    }
}

// -- What is said ---------------------------------------------------------------------------------

/// One line on stderr: there are neither orders nor arguments.
pub fn usage() {
    Line::new().text(USAGE).end(2);
}

/// The version, on stdout.
pub fn version() {
    Line::new().text(concat!("agent-init ", env!("CARGO_PKG_VERSION")).as_bytes()).end(1);
}

/// The help, on stdout: what it does, and the table.
pub fn help() {
    let mut line = Line::new();
    line.text(USAGE).end(1);
    let _unread = sys::write(1, ABOUT);
    for row in OPTIONS {
        line.text(b"  ").text(row.long.bytes()).text(b" ").text(row.short.bytes());
        line.text(row.value.bytes()).pad(20).text(row.help.bytes()).end(1);
    }
}

const USAGE: &[u8] = b"usage: agent-init [options] [--] PROGRAM [ARG...] | --help";

const ABOUT: &[u8] = b"\
Runs PROGRAM without capabilities, with no_new_privs, a Landlock domain and a system-call filter;
passes on signals, reaps, and ends as it does. Without --rw and --ro all can be read, and /tmp,
/var/tmp, /dev/shm, /run, the start directory and $HOME written; with them, only what they name.
/proc can be read and /dev used in any case. Exit: the program's status or 128+signal; 125 a lock
failed and nothing was run, 126 it cannot be executed, 127 it was not found.
The filter is built in: `default` of `agent-shim policy list`. agent-shim run has others.
";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    const ENV: &[&str] = &["PATH=/bin::/usr/bin", "HOME=/", "EMPTY="];

    fn asked(argv: &[&str], envp: &[&str]) -> Result<Asked, Error> {
        let argv: Vec<_> = ["agent-init"].iter().chain(argv).copied().collect();
        read(Strings::leaked(&argv), Strings::leaked(envp))
    }

    fn orders(argv: &[&str]) -> Orders<'static> {
        match asked(argv, ENV).unwrap() {
            Asked::Run(orders) => orders,
            _ => panic!("no orders"),
        }
    }

    fn error(argv: &[&str]) -> (String, String) {
        let Err(error) = asked(argv, ENV) else { panic!("{argv:?} is accepted") };
        let text = |words: sys::Words| String::from_utf8_lossy(words.bytes()).into_owned();
        (text(error.what), text(error.object))
    }

    #[test]
    fn a_command_line_becomes_orders() {
        let orders = orders(&[
            "--grace=300ms",
            "--nofile",
            "64",
            "--fsize=1G",
            "--nofile=32",
            "-g",
            "--",
            "sh",
            "-c",
            "",
        ]);
        assert_eq!(orders.layers(), Layers::SELF);
        assert_eq!(orders.flags(), Flags::ALONE | Flags::GROUP);
        assert_eq!((orders.grace(), orders.start()), (300, c"."));
        let limits: Vec<_> = orders.rlimits().collect();
        assert_eq!(
            limits,
            [(u64::from(libc::RLIMIT_NOFILE), 32), (u64::from(libc::RLIMIT_FSIZE), 1 << 30)]
        );
        assert_eq!(orders.candidates().collect::<Vec<_>>(), [c"/bin/sh", c"/usr/bin/sh"]);
        assert_eq!((orders.argv().len(), orders.envp().len()), (4, 4));
        let paths: Vec<_> = orders.grants().map(|(_, path)| path).collect();
        assert_eq!(paths[..4], [c"/proc", c"/dev", c"/", c"/tmp"]);
        assert_eq!(paths.last(), Some(&c""), "a home that is the root directory");
        assert_eq!(orders.kept().count(), 0);
    }

    #[test]
    fn named_paths_take_the_place_of_the_default() {
        let orders = orders(&["--rw", "/tmp", "--ro=/usr", "--rw=/dev/null", "x"]);
        let grants: Vec<_> = orders.grants().collect();
        let file = Access::WRITE & Access::OF_A_FILE;
        assert_eq!(
            grants[2..],
            [
                (Access::WRITE.bits(), c"/tmp"),
                (Access::READ.bits(), c"/usr"),
                (file.bits(), c"/dev/null")
            ]
        );
    }

    #[test]
    fn odd_words_are_told_by_name() {
        let pair = |a: &str, b: &str| (String::from(a), String::from(b));
        assert_eq!(error(&["--frob", "x"]), pair("unknown option", "--frob"));
        assert_eq!(error(&["-x"]), pair("unknown option", "-x"));
        assert_eq!(error(&["-g=1"]), pair("unknown option", "-g=1"));
        assert_eq!(error(&["--rw"]), pair("--rw", "no value"));
        assert_eq!(error(&["--rw", "/no\nwhere", "x"]), pair("--rw", "/no\nwhere"));
        assert_eq!(error(&["--ro=", "x"]), pair("--ro", ""));
        assert_eq!(error(&["--profile", "full", "x"]), pair("--profile", "full"));
        assert_eq!(error(&["--group=yes", "x"]), pair("--group", "yes"));
        for bad in ["", "0", "-1", "1T", "x", "1 ", "18446744073709551616", "18014398509481985K"] {
            assert_eq!(error(&["--nofile", bad, "x"]), pair("--nofile", bad));
        }
        for bad in ["", "s", "1h", "1.5s", "18446744073709552s"] {
            assert_eq!(error(&["--grace", bad, "x"]), pair("--grace", bad));
        }
        for none in [&["--"][..], &["-g"], &["--grace", "1s", "--"]] {
            assert_eq!(error(none), pair("PROGRAM(none given)", ""));
        }
    }

    #[test]
    fn the_program_begins_where_options_end() {
        let candidates = |argv: &[&str]| orders(argv).candidates().collect::<Vec<_>>();
        assert_eq!(candidates(&["--", "--"]), [c"/bin/--", c"/usr/bin/--"]);
        assert_eq!(candidates(&["./x", "--help"]), [c"./x"]);
        assert_eq!(candidates(&["-"]), [c"/bin/-", c"/usr/bin/-"]);
        assert_eq!(candidates(&[""]), [c""]);
        assert_eq!(candidates(&[&"x".repeat(256)]).len(), 1);
        assert!(matches!(asked(&["--help"], ENV), Ok(Asked::Help)));
        assert!(matches!(asked(&["-V", "-h"], &[]), Ok(Asked::Version)));
        let Ok(Asked::Run(orders)) = asked(&["x"], &[]) else { panic!("no environment") };
        assert_eq!(orders.candidates().collect::<Vec<_>>(), [c"/bin/x", c"/usr/bin/x"]);
    }

    #[test]
    fn many_words_fit() {
        let path = String::from("PATH=") + &":/a".repeat(10_000);
        let many: Vec<_> = std::iter::repeat_n("word", 100_000).collect();
        let Ok(Asked::Run(orders)) = asked(&many, &[&path]) else { panic!("too many") };
        assert_eq!((orders.argv().len(), orders.candidates().count()), (100_001, 10_000));
        let many: Vec<_> = ["--rw", "/tmp"].repeat(50_000).into_iter().chain(["x"]).collect();
        let Ok(Asked::Run(orders)) = asked(&many, ENV) else { panic!("too many") };
        assert_eq!(orders.grants().count(), 50_000 + ALWAYS.len());
    }

    #[test]
    fn the_help_fits() {
        for row in OPTIONS {
            let names = row.long.bytes().len() + row.short.bytes().len() + row.value.bytes().len();
            assert!(names + 4 <= 20 && 20 + row.help.bytes().len() <= 100, "{:?}", row.long);
        }
        assert!(ABOUT.split(|b| *b == b'\n').all(|line| line.len() <= 100));
    }
}
