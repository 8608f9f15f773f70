//! What `agent-probe` tries from inside a room, and how it says what happened.
//!
//! A row of the table is an [`Op`]: one operation, tried once, in a process of its own, judged by its effect. The probe
//! never says *why* something was refused; `agent-shim` proves that by experiment. The harness links this library for
//! the table, the [`record`] parser, the errno words and the [`facts`] that it hands in.
//!
//! Read down: [`OPS`] → `Op::run` → [`Outcome`] → [`record::Record`] → a line on stdout.

pub mod errno;

pub mod facts;

pub mod ops;

pub mod record;

pub mod bench;

pub mod sys;

use std::borrow::Cow;

pub use errno::{Errno, errno_name, errno_words};
pub use facts::{Facts, digest, host_facts, pid_identity};
pub use ops::{OPS, REFERENCE, find};

/// One operation: a row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Name on the command line and in the record: lower-case ASCII, digits and `-`; unique.
    pub id: &'static str,
    /// The row's name in the printed matrix; unique.
    pub title: &'static str,
    /// The table it stands in, as taken by `--group`: `fs`, `proc`, `dev`, `net`, `process` or `mount`.
    pub group: &'static str,
    /// The system calls with their arguments, as strace would print them.
    pub call: &'static str,
    /// Why it may be tried: what keeps the host whole where nothing blocks it.
    pub safe: &'static str,
    /// Which effect has to be seen for `ALLOWED`.
    pub judged: &'static str,
    /// Tries it once, in this process; it neither forks nor panics.
    pub run: fn(&Facts) -> Outcome,
}

impl Op {
    /// A room in which it does not work is of no use: everything else is dangerous.
    pub fn must_work(&self) -> bool {
        self.group == "work"
    }
}

/// The word for what happened. DESIGN.md §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The effect was seen.
    Allowed,
    /// The call failed, or it succeeded and nothing happened.
    Blocked,
    /// The call works, its effect stays in the room.
    Contained,
    /// The object is there, its content is not.
    Redacted,
    /// Not tried: guarded, or not applicable on this host.
    Skip,
    /// The evidence disagrees or is not enough.
    Inconclusive,
}

#[rustfmt::skip] // a row a line
const VERDICTS: &[(Verdict, &str)] = &[
    (Verdict::Allowed,      "ALLOWED"),
    (Verdict::Blocked,      "BLOCKED"),
    (Verdict::Contained,    "CONTAINED"),
    (Verdict::Redacted,     "REDACTED"),
    (Verdict::Skip,         "SKIP"),
    (Verdict::Inconclusive, "INCONCLUSIVE"),
];

impl Verdict {
    /// The word in records and tables, upper case.
    pub fn word(self) -> &'static str {
        VERDICTS
            .iter()
            .find(|(verdict, _)| *verdict == self)
            .map_or("INCONCLUSIVE", |(_, word)| word)
    }

    /// The verdict of a word, exactly as [`Verdict::word`] spells it.
    pub fn from_word(word: &str) -> Option<Verdict> {
        VERDICTS.iter().find(|(_, known)| *known == word).map(|(verdict, _)| *verdict)
    }
}

/// What happened to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The result word.
    pub verdict: Verdict,
    /// Errno of the call that decided it, as the kernel gave it; `None`: no call failed.
    pub errno: Option<Errno>,
    /// A few words on the evidence, never on the cause.
    pub note: Option<Cow<'static, str>>,
}

impl Outcome {
    /// The effect was seen.
    pub const ALLOWED: Outcome = Outcome::new(Verdict::Allowed);
    /// Nothing failed, and nothing happened.
    pub const BLOCKED: Outcome = Outcome::new(Verdict::Blocked);
    /// It works, on something that is not the host's.
    pub const CONTAINED: Outcome = Outcome::new(Verdict::Contained);
    /// Not tried.
    pub const SKIP: Outcome = Outcome::new(Verdict::Skip);
    /// Not enough evidence.
    pub const INCONCLUSIVE: Outcome = Outcome::new(Verdict::Inconclusive);

    const fn new(verdict: Verdict) -> Outcome {
        Outcome { verdict, errno: None, note: None }
    }

    /// The same, with the errno of the call that failed.
    #[must_use]
    pub fn errno(self, errno: impl Into<Errno>) -> Outcome {
        Outcome { errno: Some(errno.into()), ..self }
    }

    /// The same, with a note.
    #[must_use]
    pub fn note(self, note: impl Into<Cow<'static, str>>) -> Outcome {
        Outcome { note: Some(note.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_word_and_comes_back() {
        for (verdict, word) in VERDICTS {
            assert_eq!(verdict.word(), *word);
            assert_eq!(Verdict::from_word(word), Some(*verdict));
        }
        assert_eq!(VERDICTS.len(), 6);
        assert_eq!(Verdict::from_word("allowed"), None);
    }
}
