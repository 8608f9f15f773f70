//! The orders of a room: one block of memory, written by the shim, received by init over a
//! descriptor. A command line or environment could be read by the agent through `/proc/1`.
//!
//! Shape: 64-bit words in native order. A header of [`HEADER`] words, the values and the strings'
//! offsets that it counts, then NUL-terminated strings. An offset is in bytes from the start of
//! the block; `Orders::check` turns it into a pointer, where it stands.
//!
//! | words | content |
//! |---|---|
//! | 0 | [`MAGIC`] |
//! | 1 | size of the block in bytes, a multiple of 8 |
//! | 2 | layers to put in force |
//! | 3 | [`Flags`]; from bit 32 on the umask |
//! | 4 | layers whose `apply` is left out, for tests: the read-back must then refuse |
//! | 5..12 | the host's namespace inodes, in the order of `NAMESPACES` |
//! | 12 | grace: milliseconds from SIGTERM to SIGKILL for what the agent leaves; 0: SIGKILL at once |
//! | 13..20 | counts: filter, rlimits, kept, grants, candidates, argv, envp |
//! | values | filter: an instruction a word · rlimits: resource, limit · kept: at, wanted · grants: access rights |
//! | offsets | grants: path · start directory · candidates: path · argv, then 0 · envp, then 0 |

use core::ffi::CStr;

use bitflags::bitflags;

use crate::error::{At, Errno, Error};
use crate::layers::Layers;
use crate::sys;

/// First word: the version of this layout, in the last byte.
pub const MAGIC: u64 = u64::from_be_bytes(*b"agentor4");
/// Words before the tables.
pub const HEADER: usize = 20;
/// The word that holds the grace.
pub const GRACE: usize = 12;
/// The first of the counts.
pub const COUNTS: usize = 13;
/// The word that holds the flags, and from this bit on the umask.
const FLAGS: (usize, u32) = (3, 32);
/// The descriptor that init finds the orders at.
pub const ORDERS_FD: i32 = 3;
/// The descriptor that init reports a failed step on; it closes when the agent was started.
pub const REPORT_FD: i32 = 4;
/// A pidfd of the shim: readable once it has died, and then the room ends.
pub const SHIM_FD: i32 = 5;
/// The descriptor that init writes the record of the end to; open as long as init is there.
pub const END_FD: i32 = 6;
/// The descriptor that the program is at, if `Flags::PROGRAM_FD` is set. Kept ones come after it.
pub const PROGRAM_FD: i32 = 7;

bitflags! {
    /// Variations of a launch.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// Accept an older Landlock ABI than the profile needs.
        const BEST_EFFORT = 1 << 0;
        /// The program is [`PROGRAM_FD`], not a path.
        const PROGRAM_FD = 1 << 2;
        /// Descriptor 0 is a terminal of the room: it becomes the agent's controlling terminal.
        const TERMINAL = 1 << 3;
        /// Landlock refuses TCP, to be used where the host's network is in the room unasked.
        const NO_TCP = 1 << 4;
        /// There is no shim and no room of its own: orders of `argv`.
        const ALONE = 1 << 5;
        /// Signals go to the agent's process group: alone, they go to its process.
        const GROUP = 1 << 6;
    }
}

/// Where each table begins, in words.
#[derive(Clone, Copy, Debug)]
struct Tables {
    filter: usize,
    rlimits: usize,
    kept: usize,
    accesses: usize,
    paths: usize,
    start: usize,
    candidates: usize,
    argv: usize,
    envp: usize,
    end: usize,
}

/// A block whose every offset has been checked.
#[derive(Debug)]
pub struct Orders<'a> {
    words: &'a [u64],
    at: Tables,
}

/// A table of rows of two words.
struct Pairs<'a> {
    orders: &'a Orders<'a>,
    at: usize,
    end: usize,
}

impl Iterator for Pairs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let n = self.at;
        self.at += 2;
        (n < self.end).then(|| (self.orders.word(n), self.orders.word(n + 1)))
    }
}

/// Where the tables lie; `None` if they do not lie within `words`.
fn tables(words: &[u64]) -> Option<Tables> {
    let mut counts = [0usize; 7];
    for (count, word) in counts.iter_mut().zip(words.get(COUNTS..HEADER)?) {
        // None is longer than the block, so no sum below overflows.
        *count = usize::try_from(*word).ok().filter(|n| *n <= words.len())?;
    }
    let [filter, rlimits, kept, grants, candidates, argv, envp] = counts;
    let rlimits_at = HEADER + filter;
    let kept_at = rlimits_at + 2 * rlimits;
    let accesses = kept_at + 2 * kept;
    let paths = accesses + grants;
    let start = paths + grants;
    let candidates_at = start + 1;
    let argv_at = candidates_at + candidates;
    let envp_at = argv_at + argv + 1;
    let end = envp_at + envp + 1;
    (argv > 0 && end <= words.len()).then_some(Tables {
        filter: HEADER,
        rlimits: rlimits_at,
        kept: kept_at,
        accesses,
        paths,
        start,
        candidates: candidates_at,
        argv: argv_at,
        envp: envp_at,
        end,
    })
}

/// Adds the agent's umask to a block that is being written.
pub fn set_umask(words: &mut [u64], umask: u32) {
    let (word, begin) = FLAGS;
    if let Some(word) = words.get_mut(word) {
        *word |= u64::from(umask & 0o777) << begin;
    }
}

impl<'a> Orders<'a> {
    /// Maps the block behind [`ORDERS_FD`], closes the descriptor, checks the block.
    pub fn receive() -> Result<Orders<'static>, Error> {
        let words = sys::map_words(ORDERS_FD).at(c"mmap(descriptor 3)")?;
        sys::close(ORDERS_FD).at(c"close(descriptor 3)")?;
        Orders::check(words).ok_or(Errno::EINVAL).at(c"check(the block)")
    }

    /// Checks the block and turns offsets into pointers. `None`: another version, another size
    /// than it says, a table or string outside of it, an argument list without an end or without
    /// a first word.
    pub fn check(words: &'a mut [u64]) -> Option<Orders<'a>> {
        let size = size_of_val(words) as u64;
        if words.get(..2) != Some(&[MAGIC, size]) {
            return None;
        }
        let at = tables(words)?;
        let strings = (at.end * 8) as u64..size;
        let base = words.as_ptr().expose_provenance() as u64;
        let ends = [at.envp - 1, at.end - 1];
        for n in at.paths..at.end {
            let word = words.get_mut(n)?;
            if ends.contains(&n) != (*word == 0) || *word != 0 && !strings.contains(word) {
                return None;
            }
            *word += if *word == 0 { 0 } else { base };
        }
        sys::ends_in_nul(words).then_some(Orders { words, at })
    }

    #[inline(never)]
    fn word(&self, n: usize) -> u64 {
        self.words.get(n).copied().unwrap_or(0)
    }

    /// The string that word `n`, one of the offsets, points to.
    fn string(&self, n: usize) -> &'a CStr {
        sys::string_in(self.words, self.word(n))
    }

    /// The layers to put in force. Bits of a later version are kept: they fail the read-back.
    #[inline(never)]
    pub fn layers(&self) -> Layers {
        Layers::from_bits_retain(u32::try_from(self.word(2)).unwrap_or(u32::MAX))
    }

    /// Variations of this launch.
    #[inline(never)]
    pub fn flags(&self) -> Flags {
        let (word, end) = FLAGS;
        Flags::from_bits_retain(self.word(word) & ((1 << end) - 1))
    }

    /// The agent's umask, nine bits; alone, the container's is kept.
    pub fn umask(&self) -> u32 {
        let (word, begin) = FLAGS;
        u32::try_from(self.word(word) >> begin & 0o777).unwrap_or(0o777)
    }

    /// Layers whose `apply` is left out. They are still read back, so this can only refuse.
    pub fn omitted(&self) -> Layers {
        Layers::from_bits_truncate(u32::try_from(self.word(4)).unwrap_or(0))
    }

    /// The inode of the host's namespace number `n` of `NAMESPACES`.
    pub fn host_namespace(&self, n: usize) -> u64 {
        self.word(5 + n)
    }

    /// Milliseconds between SIGTERM and SIGKILL for what the agent leaves behind.
    pub fn grace(&self) -> u64 {
        self.word(GRACE)
    }

    /// The agent's filter, `struct sock_filter` as they lie in memory; none: the one that init has in it.
    pub fn filter(&self) -> &'a [u64] {
        self.words.get(self.at.filter..self.at.rlimits).unwrap_or(&[0])
    }

    /// Resource and limit, soft and hard alike; getrlimit(2).
    pub fn rlimits(&self) -> impl Iterator<Item = (u64, u64)> {
        Pairs { orders: self, at: self.at.rlimits, end: self.at.kept }
    }

    /// Descriptors that the agent keeps: where init has them, in a row, and where the agent wants
    /// them. The row contains no number that is wanted: see `process::place_kept`.
    pub fn kept(&self) -> impl Iterator<Item = (sys::Fd, sys::Fd)> {
        let number = |word: u64| i32::try_from(word).unwrap_or(-1);
        let pairs = Pairs { orders: self, at: self.at.kept, end: self.at.accesses };
        pairs.map(move |(at, wanted)| (number(at), number(wanted)))
    }

    /// The agent's start directory.
    pub fn start(&self) -> &'a CStr {
        self.string(self.at.start)
    }

    /// Landlock access rights and the path they are granted beneath.
    pub fn grants(&self) -> impl Iterator<Item = (u64, &'a CStr)> {
        let (values, paths) = (self.at.accesses, self.at.paths);
        (0..paths - values).map(move |n| (self.word(values + n), self.string(paths + n)))
    }

    /// The paths that the program may be at, in the order of PATH.
    pub fn candidates(&self) -> impl Iterator<Item = &'a CStr> {
        (self.at.candidates..self.at.argv).map(|n| self.string(n))
    }

    /// NULL-terminated, for execve.
    pub fn argv(&self) -> &'a [u64] {
        self.words.get(self.at.argv..self.at.envp).unwrap_or(&[0])
    }

    /// NULL-terminated, for execve.
    pub fn envp(&self) -> &'a [u64] {
        self.words.get(self.at.envp..self.at.end).unwrap_or(&[0])
    }
}
