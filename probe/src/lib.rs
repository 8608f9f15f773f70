//! What `agent-probe` tries from inside a room, and how it says what happened.
//!
//! A row of the table is an [`Op`]: one operation, tried once, in a process of its own, judged by its effect. The probe
//! never says *why* something was refused; `agent-shim` proves that by experiment. The harness links this library for
//! the table, the [`record`] parser, the errno words and the [`facts`] that it hands in.
//!
//! Read down: [`OPS`] → `Op::run` → [`Outcome`] → [`record::Record`] → a line on stdout.

pub mod errno;

pub mod exits;

pub mod facts;

pub mod fixture;

pub mod hold;

mod objects;

pub mod ops;

pub mod record;

pub mod bench;

pub mod sys;

use std::borrow::Cow;

pub use errno::{Errno, errno_name, errno_words};
pub use facts::{Facts, digest, host_facts, pid_identity};
pub use fixture::Fixture;
pub use ops::{GROUPS, OPS, REFERENCE, find};

/// One operation: a row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Name on the command line and in the record: lower-case ASCII, digits and `-`; unique.
    pub id: &'static str,
    /// The row's name in the printed matrix; unique.
    pub title: &'static str,
    /// The table it stands in, as taken by `--group`: see [`GROUPS`].
    pub group: &'static str,
    /// The system calls with their arguments, as strace would print them.
    pub call: &'static str,
    /// Why it may be tried: what keeps the host whole where nothing blocks it.
    pub safe: &'static str,
    /// Which effect has to be seen for `ALLOWED`.
    pub judged: &'static str,
    /// Tries it once, in this process or a child of it; it does not panic.
    pub run: fn(&Facts) -> Tried,
    /// What a room should do with it.
    pub kind: Kind,
    /// What must be there outside of the room, and alive before and after.
    pub needs: &'static [Fixture],
    /// Whether it had an effect only the fixture knows: it counts.
    pub counted: bool,
    /// Why `full` lets an attack through; the README tells them all.
    pub open: Option<&'static str>,
}

/// An outcome, on whichever way it was reached: the error is one too, so that `?` ends an operation at the call that
/// failed.
pub type Tried = Result<Outcome, Outcome>;

/// What a room should do with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Refuse it, or keep its effect inside.
    Attack,
    /// The same, and no layer is asked: the harness itself must not hand it in. The control has it handed in.
    Hygiene,
    /// Let it through: an ordinary program needs it.
    Work,
}

impl Op {
    /// Tries it once, in this process.
    pub fn outcome(&self, facts: &Facts) -> Outcome {
        (self.run)(facts).unwrap_or_else(|ended| ended)
    }

    pub(crate) const fn attack(
        group: &'static str,
        [id, title, call, safe, judged]: [&'static str; 5],
        run: fn(&Facts) -> Tried,
    ) -> Op {
        let (kind, needs, counted, open) = (Kind::Attack, &[], false, None);
        Op { id, title, group, call, safe, judged, run, kind, needs, counted, open }
    }

    pub(crate) const fn of(self, kind: Kind) -> Op {
        Op { kind, ..self }
    }

    pub(crate) const fn counted(self) -> Op {
        Op { counted: true, ..self }
    }

    pub(crate) const fn needs(self, needs: &'static [Fixture]) -> Op {
        Op { needs, ..self }
    }

    pub(crate) const fn open(self, why: &'static str) -> Op {
        Op { open: Some(why), ..self }
    }
}

impl Op {
    /// A room in which it does not work is of no use: everything else is dangerous.
    pub fn must_work(&self) -> bool {
        self.kind == Kind::Work
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

impl From<Errno> for Outcome {
    /// The call that was tried failed.
    fn from(errno: Errno) -> Outcome {
        Outcome::BLOCKED.errno(errno)
    }
}

impl From<std::io::Error> for Outcome {
    fn from(error: std::io::Error) -> Outcome {
        Errno::from(error).into()
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
    /// It is there, its content is not.
    pub const REDACTED: Outcome = Outcome::new(Verdict::Redacted);
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
