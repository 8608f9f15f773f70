//! Comparison with an earlier run: what got weaker. The file is foreign: it is bounded, and its
//! schema and version are looked at before anything else of it.

use std::collections::HashMap;
use std::ffi::OsStr;

use agent_init::error::Step;
use agent_init::layers::{LAYERS, Layers};
use agent_probe::{Op, find};
use tinyjson::JsonValue;

use super::Proof;
use super::finding::{Finding, State};
use super::judged::{self, Judged};
use crate::bounded;
use crate::error::{At, Failure};
use crate::report::proof_json::{SCHEMA, VERSION};

/// More than this is no report: one of 1000 operations has about 2 MiB.
const MOST_BYTES: usize = 32 << 20;
/// The parser recurses; a report nests five deep.
const MOST_DEPTH: usize = 16;

/// An earlier run.
#[derive(Debug, PartialEq, Eq)]
pub struct Baseline {
    rows: HashMap<String, Row>,
    judged: Vec<String>,
    has_root: bool,
}

/// Of one operation: its state, how many layers blocked it alone, and which.
type Row = (State, usize, Vec<String>);

impl Baseline {
    /// Reads a report, to compare these operations with it.
    pub fn read(path: &OsStr, ops: &[&Op]) -> Result<Baseline, Failure> {
        let bytes = bounded::file(path, MOST_BYTES, bounded::patience(), false);
        let bytes = bytes.at(Step::BASELINE, "read", path.as_encoded_bytes())?;
        let text = str::from_utf8(&bytes).map_err(|_| "damaged: not UTF-8".to_owned());
        text.and_then(Baseline::parse)
            .and_then(|baseline| baseline.having(ops))
            .map_err(|wrong| Failure::words(Step::BASELINE, format!("{}: {wrong}", path.display())))
    }

    /// The error is what is wrong with it, in words.
    fn parse(text: &str) -> Result<Baseline, String> {
        if agent_probe::record::depth(text) > MOST_DEPTH {
            return Err("nested too deep".into());
        }
        let document: JsonValue = text.parse().map_err(|_| "damaged: not JSON".to_owned())?;
        let members = document.get::<HashMap<_, _>>().ok_or("damaged: not an object")?;
        let word = |name: &str| members.get(name).and_then(JsonValue::get::<String>);
        if word("schema").is_none_or(|schema| schema != SCHEMA) {
            return Err(format!("its schema is not {SCHEMA}"));
        }
        let version = members.get("version").and_then(JsonValue::get::<f64>).copied();
        if version != Some(f64::from(VERSION)) {
            let seen = version.map_or("none".into(), |v| v.to_string());
            return Err(format!("its version is {seen}, this program reads {VERSION}"));
        }
        match members.get("partial").and_then(JsonValue::get::<bool>) {
            Some(false) => {}
            Some(true) => return Err("it is of a run that was stopped".into()),
            None => return Err("damaged: no partial".into()),
        }
        let ops = members.get("ops").and_then(JsonValue::get::<Vec<_>>).ok_or("damaged: no ops")?;
        let has_root = members.get("control").and_then(JsonValue::get::<bool>) == Some(&true);
        let rows: HashMap<_, _> =
            ops.iter().map(row).collect::<Option<_>>().ok_or("damaged: a row")?;
        if rows.len() != ops.len() {
            return Err("damaged: an operation twice".into());
        }
        let judged = match members.get("judged") {
            Some(words) => judged_room(words).ok_or("damaged: what was judged")?,
            None => Judged::default().words(),
        };
        Ok(Baseline { rows, judged, has_root })
    }

    /// Nothing is weaker than what was not compared: that says nothing, and is an error.
    fn having(self, ops: &[&Op]) -> Result<Baseline, String> {
        match ops.iter().any(|op| self.rows.contains_key(op.id)) {
            true => Ok(self),
            false => Err("it has none of the operations asked for".into()),
        }
    }

    /// A line for each operation that is less guarded than it was; one that must work and does not
    /// any more, too. Operations that were not examined now are left out, unless nobody can.
    pub fn weaker(&self, proof: &Proof) -> Vec<String> {
        let mut lines: Vec<String> =
            proof.findings.iter().filter_map(|finding| self.difference(finding)).collect();
        let gone = self.rows.keys().filter(|id| find(id).is_none());
        lines.extend(gone.map(|id| format!("{id}: this agent-probe does not know it")));
        lines.sort();
        lines
    }

    /// What makes the comparison less than it seems, or another one; a line each.
    pub fn notes(&self, proof: &Proof) -> Vec<String> {
        let (before, now) = (&self.judged, proof.judged.words());
        let was =
            before.iter().filter(|line| !now.contains(line)).map(|line| format!("was: {line}"));
        let is =
            now.iter().filter(|line| !before.contains(line)).map(|line| format!("is:  {line}"));
        let mut notes: Vec<String> = was.chain(is).collect();
        if !notes.is_empty() {
            notes.insert(0, "the judged room is not the baseline's:".into());
        }
        if self.has_root != proof.has_root {
            notes
                .push("one of the two runs had the control as real root, the other had not".into());
        }
        let is_new = |finding: &&Finding| !self.rows.contains_key(finding.op.id);
        let new: Vec<_> = proof.findings.iter().filter(is_new).map(|f| f.op.id).collect();
        if !new.is_empty() {
            notes.push(format!("not in the baseline: {}", new.join(" ")));
        }
        notes
    }

    fn difference(&self, finding: &Finding) -> Option<String> {
        let (was, depth_was, layers) = self.rows.get(finding.op.id)?;
        let (was, depth_was) = (*was, *depth_was);
        let (now, depth) = (finding.state, finding.depth());
        let id = finding.op.id;
        if guarded(now) < guarded(was) {
            return Some(format!("{id}: was {}, is {}", was.word(), now.word()));
        }
        if (was, now) != (State::Blocked, State::Blocked) {
            return None;
        }
        if depth < depth_was {
            return Some(format!("{id}: {depth_was} layers were enough alone, now {depth}"));
        }
        let still = finding.cell().map_or(Layers::empty(), |cell| cell.sufficient);
        let names =
            |name: &&String| LAYERS.iter().any(|l| still.contains(l.flag) && l.name == **name);
        let lost = layers.iter().find(|name| !names(name))?;
        Some(format!("{id}: {lost} blocked it alone, and does not now"))
    }
}

/// The more, the better it is for whoever runs the agent.
fn guarded(state: State) -> u8 {
    match state {
        State::Works | State::Blocked | State::Absent => 4,
        State::Redacted | State::Contained => 3,
        State::Skipped => 2,
        State::Inconclusive => 1,
        State::Open | State::Broken => 0,
    }
}

/// As [`Judged::words`].
fn judged_room(judged: &JsonValue) -> Option<Vec<String>> {
    let members = judged.get::<HashMap<_, _>>()?;
    let filter = members.get("filter").and_then(JsonValue::get::<String>)?;
    let layers = match texts(members.get("layers")?)? {
        none if none.is_empty() => "none".into(),
        layers => layers.join(","),
    };
    Some(judged::lines(&layers, filter, &texts(members.get("mounts")?)?))
}

fn texts(list: &JsonValue) -> Option<Vec<String>> {
    let list = list.get::<Vec<_>>()?;
    list.iter().map(|text| text.get::<String>().cloned()).collect()
}

fn row(op: &JsonValue) -> Option<(String, Row)> {
    let op = op.get::<HashMap<_, _>>()?;
    let word = |name: &str| op.get(name).and_then(JsonValue::get::<String>);
    let state = State::ALL
        .into_iter()
        .find(|state| Some(state.word()) == word("state").map(String::as_str))?;
    let depth = op.get("depth").and_then(JsonValue::get::<f64>)?;
    let depth = depth.to_string().parse().ok()?; // a whole number, or nothing
    Some((word("op")?.clone(), (state, depth, texts(op.get("sufficient")?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: &str, rest: &str) -> String {
        format!(r#"{{"schema":"agent-shim/attribute","version":{version},{rest}}}"#)
    }

    const ROW: &str =
        r#"{"op":"dev-mem","state":"blocked","depth":1,"sufficient":["mnt"],"more":[]}"#;

    #[test]
    fn a_report_is_read() {
        let good = text("2", &format!(r#""partial":false,"ops":[{ROW}]"#));
        let row = (State::Blocked, 1, vec!["mnt".to_owned()]);
        let rows = HashMap::from([("dev-mem".to_owned(), row)]);
        assert_eq!(
            Baseline::parse(&good),
            Ok(Baseline { rows, judged: Judged::default().words(), has_root: false })
        );
    }

    #[test] // seen to fail with `having` that is always Ok
    fn what_has_nothing_in_common_is_no_comparison() {
        let read = |rest: &str| Baseline::parse(&text("2", rest)).unwrap();
        let [mem, disk] = ["dev-mem", "dev-disk"].map(|id| find(id).unwrap());
        let one = || read(&format!(r#""partial":false,"ops":[{ROW}]"#));
        assert!(one().having(&[disk, mem]).is_ok());
        assert!(one().having(&[disk]).unwrap_err().contains("none of the operations"));
        assert!(read(r#""partial":false,"ops":[]"#).having(&[mem]).is_err());
    }

    #[test]
    fn what_is_none_says_why() {
        let ops = r#""partial":false,"ops":[]"#;
        for (text, why) in [
            (String::new(), "not JSON"),
            ("[]".into(), "not an object"),
            ("{}".into(), "schema"),
            (text("1", ops), "version is 1"),
            (text("\"2\"", ops), "version is none"),
            (text("2", r#""partial":true,"ops":[]"#), "stopped"),
            (text("2", r#""ops":[]"#), "no partial"),
            (text("2", &format!(r#""judged":{{"layers":[7]}},{ops}"#)), "what was judged"),
            (text("2", r#""partial":false"#), "no ops"),
            (text("2", r#""partial":false,"ops":[{}]"#), "a row"),
            (text("2", r#""partial":false,"ops":[{"op":"x","state":"fine","depth":0}]"#), "a row"),
            (text("2", r#""partial":false,"ops":[{"op":"x","state":"open","depth":-1}]"#), "a row"),
            (text("2", &format!(r#""partial":false,"ops":[{ROW},{ROW}]"#)), "twice"),
            ("[".repeat(100_000), "too deep"),
            (text("2", ops).replace("attribute", "matrix"), "schema"),
        ] {
            let said = Baseline::parse(&text).unwrap_err();
            assert!(said.contains(why), "{said:?} for {why}");
        }
    }
}
