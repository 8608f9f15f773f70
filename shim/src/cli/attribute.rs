//! The options of `attribute`.

use std::ffi::OsString;

use agent_probe::{OPS, Op, find};
use lexopt::Parser;

use super::{Command, End, Opt, opt, options, utf8};

/// What they ask for.
#[derive(Debug, Default)]
pub struct Attribute {
    /// Which operations, in the order of the table; each once.
    pub ops: Vec<&'static Op>,
    /// Print the chain of experiments of these.
    pub explain: Vec<&'static Op>,
    /// Every subset of the layers too.
    pub lattice: bool,
    /// Where to write the document.
    pub json: Option<OsString>,
    /// Where to write the page.
    pub html: Option<OsString>,
    /// An earlier document to compare with.
    pub baseline: Option<OsString>,
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Attribute) -> bool {
        let ids = |ops: &[&'static Op]| ops.iter().map(|op| op.id).collect::<Vec<_>>();
        ids(&self.ops) == ids(&other.ops)
            && ids(&self.explain) == ids(&other.explain)
            && self.lattice == other.lattice
            && (&self.json, &self.html, &self.baseline)
                == (&other.json, &other.html, &other.baseline)
    }
}

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Attribute>] = &[
    opt("all",      "",     "every operation of agent-probe",                         |a, _| { a.ops.extend(OPS); Ok(()) }),
    opt("group",    "NAME", "the operations of a group; may be repeated",             |a, v| { a.ops.extend(group(utf8(v)?)?); Ok(()) }),
    opt("explain",  "OP",   "print the chain of experiments on OP; may be repeated",  |a, v| { let op = named(utf8(v)?)?; a.explain.push(op); a.ops.push(op); Ok(()) }),
    opt("lattice",  "",     "try all 645 subsets of the layers: some seconds for each operation", |a, _| { a.lattice = true; Ok(()) }),
    opt("baseline", "FILE", "compare with an earlier --json: weaker is exit status 1", |a, v| { a.baseline = v.first().cloned(); Ok(()) }),
    opt("json",     "FILE", "write it all, schema agent-shim/attribute version 1",    |a, v| { a.json = v.first().cloned(); Ok(()) }),
    opt("html",     "FILE", "write a page to look at, without network",               |a, v| { a.html = v.first().cloned(); Ok(()) }),
];

/// The names of the groups, in the order of the table.
pub fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = OPS.iter().map(|op| op.group).collect();
    groups.dedup();
    groups
}

fn group(name: &str) -> Result<impl Iterator<Item = &'static Op>, String> {
    if !groups().contains(&name) {
        return Err(format!("no such group; there are {}", groups().join(", ")));
    }
    Ok(OPS.iter().filter(move |op| op.group == name).collect::<Vec<_>>().into_iter())
}

fn named(id: &str) -> Result<&'static Op, String> {
    find(id).ok_or_else(|| "no such operation; `agent-probe --list` names them".to_owned())
}

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut asked = Attribute::default();
    loop {
        match options(&mut parser, OPTIONS, "attribute", &mut asked)? {
            End::Nothing => break,
            End::Word(word) => {
                let op = word.to_str().ok_or_else(|| "not UTF-8".to_owned()).and_then(named);
                asked.ops.push(op.map_err(|wrong| format!("{word:?}: {wrong}"))?);
            }
            End::Print(text) => return Ok(text),
        }
    }
    if asked.ops.is_empty() {
        return Err(
            "no operation: OP…, --group NAME or --all; `agent-probe --list` names them".into()
        );
    }
    let wanted = std::mem::take(&mut asked.ops);
    asked.ops = OPS.iter().filter(|op| wanted.iter().any(|w| w.id == op.id)).collect();
    Ok(Command::Attribute(asked))
}
