//! What the probe prints, one JSON object a line, and the strict parser for it. The harness reads these lines from
//! inside a room: they are foreign bytes. RFC 8259; members that are not known are ignored.
//!
//! ```text
//! {"v":1,"op":"fs-read-passwd","result":"BLOCKED","errno":"ENOENT","note":"not present"}
//! {"v":1,"bench":"getppid","calls":1000000,"ns":[61.204,60.871]}
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use tinyjson::JsonValue;

use crate::bench::{MAX_CALLS, MAX_ROUNDS};
use crate::{Errno, Op, Outcome, Verdict, find};

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Most bytes of a record, the newline not counted.
pub const MAX_BYTES: usize = 4096;

/// Most bytes of a bench record, the newline not counted.
pub const MAX_BENCH_BYTES: usize = 32768;

/// Deepest nesting that is read; the JSON parser recurses, and a record needs 2.
const MAX_DEPTH: usize = 16;

/// What happened to one operation of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The operation's id, as it stands in the table.
    pub op: &'static str,
    /// What happened to it.
    pub outcome: Outcome,
}

/// What a system call costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// Calls a round, at least 1.
    pub calls: u64,
    /// Nanoseconds a call, one number per round, in the order of the rounds; finite, not negative.
    pub ns: Vec<f64>,
}

/// Why a line is no record. Its text may be printed: it holds nothing of the line but escaped words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed record: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

impl Record {
    /// The record of an operation.
    pub fn new(op: &Op, outcome: Outcome) -> Record {
        Record { op: op.id, outcome }
    }

    /// One line without its newline, members always in the same order.
    pub fn to_json(&self) -> String {
        let Outcome { verdict, errno, note } = &self.outcome;
        let (op, result) = (string(Some(self.op)), string(Some(verdict.word())));
        let (errno, note) = (string(errno.map(Errno::name).as_deref()), string(note.as_deref()));
        format!(r#"{{"v":{VERSION},"op":{op},"result":{result},"errno":{errno},"note":{note}}}"#)
    }

    /// Reads one line, with or without its newline.
    pub fn parse(line: &[u8]) -> Result<Record, Malformed> {
        let members = Members::parse(line, MAX_BYTES)?;
        let id = members.string("op")?;
        let Some(op) = find(id) else { return malformed(format!("op: unknown: {id:?}")) };
        let word = members.string("result")?;
        let Some(verdict) = Verdict::from_word(word) else {
            return malformed(format!("result: unknown: {word:?}"));
        };
        let errno = members.string_or_null("errno")?.map(|name| match Errno::from_name(name) {
            Some(errno) => Ok(errno),
            None => malformed(format!("errno: unknown: {name:?}")),
        });
        let note = members.string_or_null("note")?.map(|note| Cow::Owned(note.to_owned()));
        Ok(Record { op: op.id, outcome: Outcome { verdict, errno: errno.transpose()?, note } })
    }
}

impl Bench {
    /// One line without its newline; picoseconds are the last digit.
    pub fn to_json(&self) -> String {
        let ns: Vec<String> = self.ns.iter().map(|ns| format!("{ns:.3}")).collect();
        format!(
            r#"{{"v":{VERSION},"bench":"getppid","calls":{},"ns":[{}]}}"#,
            self.calls,
            ns.join(",")
        )
    }

    /// Reads one line, with or without its newline.
    pub fn parse(line: &[u8]) -> Result<Bench, Malformed> {
        let members = Members::parse(line, MAX_BENCH_BYTES)?;
        let name = members.string("bench")?;
        if name != "getppid" {
            return malformed(format!("bench: unknown: {name:?}"));
        }
        Ok(Bench { calls: members.calls()?, ns: members.ns()? })
    }

    /// The median round, in nanoseconds a call: of an even number the lower of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.ns.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }
}

/// A JSON string, or null.
fn string(text: Option<&str>) -> String {
    let value = text.map_or(JsonValue::Null, |text| JsonValue::String(text.to_owned()));
    value.stringify().unwrap_or_else(|_| "null".to_owned()) // fails for infinite numbers only
}

/// The members of the one object of a line whose version is right.
struct Members(HashMap<String, JsonValue>);

impl Members {
    fn parse(line: &[u8], max: usize) -> Result<Members, Malformed> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > max {
            return malformed(format!("{} bytes, more than {max}", line.len()));
        }
        let Ok(text) = std::str::from_utf8(line) else { return malformed("not UTF-8") };
        if depth(text) > MAX_DEPTH {
            return malformed(format!("nested deeper than {MAX_DEPTH}"));
        }
        let members = match text.parse() {
            Ok(JsonValue::Object(members)) => Members(members),
            Ok(_) => return malformed("not an object"),
            Err(_) => return malformed("not JSON"),
        };
        match members.0.get("v") {
            Some(JsonValue::Number(v)) if *v == f64::from(VERSION) => Ok(members),
            Some(_) => malformed(format!("v: not {VERSION}")),
            None => malformed("v: missing"),
        }
    }

    fn string_or_null(&self, name: &str) -> Result<Option<&str>, Malformed> {
        match self.0.get(name) {
            Some(JsonValue::String(text)) => Ok(Some(text)),
            Some(JsonValue::Null) => Ok(None),
            Some(_) => malformed(format!("{name}: neither string nor null")),
            None => malformed(format!("{name}: missing")),
        }
    }

    fn string(&self, name: &str) -> Result<&str, Malformed> {
        match self.string_or_null(name)? {
            Some(text) => Ok(text),
            None => malformed(format!("{name}: null")),
        }
    }

    fn calls(&self) -> Result<u64, Malformed> {
        let Some(JsonValue::Number(calls)) = self.0.get("calls") else {
            return malformed("calls: missing or no number");
        };
        // Through its decimal form: a float has no lossless way to an integer.
        match calls.to_string().parse() {
            Ok(calls) if (1..=MAX_CALLS).contains(&calls) => Ok(calls),
            _ => malformed(format!("calls: not a whole number from 1 to {MAX_CALLS}")),
        }
    }

    fn ns(&self) -> Result<Vec<f64>, Malformed> {
        let Some(JsonValue::Array(rounds)) = self.0.get("ns") else {
            return malformed("ns: missing or no array");
        };
        if rounds.is_empty() || u64::try_from(rounds.len()).is_ok_and(|len| len > MAX_ROUNDS) {
            return malformed(format!("ns: not 1 to {MAX_ROUNDS} rounds"));
        }
        let number = |round: &JsonValue| match round {
            JsonValue::Number(ns) if ns.is_finite() && *ns >= 0.0 => Ok(*ns),
            _ => malformed("ns: not a finite number of nanoseconds"),
        };
        rounds.iter().map(number).collect()
    }
}

/// How deep a JSON text nests, brackets in strings not counted; a text that is no JSON may count for more.
pub fn depth(text: &str) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"v":1,"op":"fs-read-passwd","result":"BLOCKED","errno":"ENOENT","note":"not present"}"#;
    const BENCH: &str = r#"{"v":1,"bench":"getppid","calls":1000,"ns":[61.204,60.871]}"#;

    fn error(line: &str) -> String {
        Record::parse(line.as_bytes()).unwrap_err().0
    }

    #[test]
    fn the_documented_line_is_read_and_written() {
        let record = Record::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(record.op, "fs-read-passwd");
        assert_eq!(record.outcome, Outcome::BLOCKED.errno(Errno(libc::ENOENT)).note("not present"));
        assert_eq!(record.to_json(), GOOD);
        assert_eq!(Record::parse(format!("{GOOD}\n").as_bytes()), Ok(record));
    }

    #[test]
    fn every_op_verdict_errno_and_note_comes_back() {
        let words = ["ALLOWED", "BLOCKED", "CONTAINED", "REDACTED", "SKIP", "INCONCLUSIVE"];
        let errnos = [None, Some(Errno(libc::EPERM)), Some(Errno(libc::E2BIG)), Some(Errno(4095))];
        for op in crate::OPS {
            for verdict in words.map(|word| Verdict::from_word(word).unwrap()) {
                for (errno, note) in
                    errnos.into_iter().zip([None, Some(""), Some("a\"\\\n\u{1}é"), Some("{[")])
                {
                    let outcome = Outcome { verdict, errno, note: note.map(Cow::Borrowed) };
                    let record = Record::new(op, outcome);
                    assert!(!record.to_json().contains('\n'));
                    assert_eq!(Record::parse(record.to_json().as_bytes()), Ok(record));
                }
            }
        }
    }

    #[test]
    fn a_marker_errno_is_a_number() {
        let record = Record { op: "dev-mem", outcome: Outcome::BLOCKED.errno(Errno(4095)) };
        assert!(record.to_json().contains(r#""errno":"E4095""#));
    }

    #[test]
    fn unknown_members_are_ignored() {
        let more = GOOD.replace("{\"v\"", r#"{"w":[{"v":2}],"v""#);
        assert_eq!(Record::parse(more.as_bytes()), Record::parse(GOOD.as_bytes()));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "\n", "null", "[]", "\"x\"", "1", "{", &GOOD[1..], &format!("{GOOD}{GOOD}")]
        {
            assert!(error(bad).starts_with("not "), "{bad}");
        }
        assert_eq!(Record::parse(b"{\"v\":1,\"op\":\"\xff\"}").unwrap_err().0, "not UTF-8");
    }

    #[test]
    fn other_versions_are_refused() {
        for bad in ["2", "0", "1.5", "\"1\"", "null", "true"] {
            assert_eq!(
                error(&GOOD.replace("\"v\":1", &format!("\"v\":{bad}"))),
                "v: not 1",
                "{bad}"
            );
        }
        assert_eq!(error(&GOOD.replace("\"v\":1,", "")), "v: missing");
    }

    #[test]
    fn every_member_is_needed_and_has_its_type() {
        for (name, value) in [
            ("op", r#""fs-read-passwd""#),
            ("result", r#""BLOCKED""#),
            ("errno", r#""ENOENT""#),
            ("note", r#""not present""#),
        ] {
            let member = format!("\"{name}\":{value}");
            assert!(
                error(&GOOD.replace(&member, "\"x\":0")).starts_with(&format!("{name}: missing"))
            );
            for bad in ["2", "true", "[]", "{}"] {
                let line = GOOD.replace(&member, &format!("\"{name}\":{bad}"));
                assert!(error(&line).starts_with(&format!("{name}: neither")), "{line}");
            }
        }
        assert_eq!(error(&GOOD.replace("\"fs-read-passwd\"", "null")), "op: null");
        assert_eq!(error(&GOOD.replace("\"BLOCKED\"", "null")), "result: null");
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(error(&GOOD.replace("passwd", "nothing")).starts_with("op: unknown"));
        assert!(error(&GOOD.replace("BLOCKED", "blocked")).starts_with("result: unknown"));
        for bad in ["ENOPE", "E2", "E4096", ""] {
            assert!(error(&GOOD.replace("ENOENT", bad)).starts_with("errno: unknown"), "{bad}");
        }
    }

    #[test]
    fn a_line_has_a_most_of_bytes_and_of_nesting() {
        let padded = |len: usize| format!("{GOOD}{}", " ".repeat(len - GOOD.len()));
        assert!(Record::parse(padded(MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(error(&padded(MAX_BYTES + 1)), "4097 bytes, more than 4096");
        assert_eq!(error(&"[".repeat(MAX_BYTES)), "nested deeper than 16");
        assert_eq!(depth(r#"{"a\"[[":["[",{}]}"#), 3);
    }

    #[test]
    fn a_bench_record_comes_back() {
        let bench = Bench::parse(BENCH.as_bytes()).unwrap();
        assert_eq!(bench, Bench { calls: 1000, ns: vec![61.204, 60.871] });
        assert_eq!(bench.to_json(), BENCH);
        assert_eq!(bench.median(), Some(60.871));
        let most = Bench { calls: MAX_CALLS, ns: vec![123_456_789_012.345; 1000] };
        assert!(most.to_json().len() <= MAX_BENCH_BYTES);
        assert_eq!(Bench::parse(most.to_json().as_bytes()), Ok(most));
    }

    #[test]
    fn malformed_bench_records_are_refused() {
        for (good, bad) in [
            ("\"v\":1", "\"v\":2"),
            ("getppid", "getpid"),
            ("\"getppid\"", "1"),
            ("1000", "0"),
            ("1000", "1.5"),
            ("1000", "-1"),
            ("1000", "1e99"),
            ("1000", "\"1\""),
            ("[61.204,60.871]", "[]"),
            ("[61.204,60.871]", "61"),
            ("61.204", "-61"),
            ("61.204", "1e999"),
            ("61.204", "null"),
            ("\"calls\"", "\"call\""),
            ("\"ns\"", "\"n\""),
        ] {
            assert!(Bench::parse(BENCH.replace(good, bad).as_bytes()).is_err(), "{bad}");
        }
        assert!(Bench::parse(GOOD.as_bytes()).is_err());
        assert!(Record::parse(BENCH.as_bytes()).is_err());
        let rounds = format!("[{}1]", "1,".repeat(1000));
        assert!(Bench::parse(BENCH.replace("[61.204,60.871]", &rounds).as_bytes()).is_err());
    }
}
