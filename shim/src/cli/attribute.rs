//! The options of `attribute`.

use std::ffi::OsString;

use agent_probe::{GROUPS, OPS, Op, find};
use lexopt::Parser;

use super::run::{bind, walls};
use super::{Command, End, Opt, opt, options, utf8};
use crate::profile;
use crate::spec::{Mode, Spec};

/// What they ask for.
#[derive(Debug, Default)]
pub struct Attribute {
    /// Which operations, in the order of the table; each once.
    pub ops: Vec<&'static Op>,
    /// Print the chain of experiments of these.
    pub explain: Vec<&'static Op>,
    /// The room that is judged.
    pub spec: Box<Spec>,
    /// Changes to the layers of the profile, as they were written.
    layers: Option<String>,
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
            && (self.lattice, &self.spec) == (other.lattice, &other.spec)
            && (&self.json, &self.html, &self.baseline)
                == (&other.json, &other.html, &other.baseline)
    }
}

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Attribute>] = &[
    opt("all",      "",     "every operation of agent-probe",                         |a, _| { a.ops.extend(OPS); Ok(()) }),
    opt("group",    "NAME", "the operations of a group; may be repeated",             |a, v| { a.ops.extend(group(utf8(v)?)?); Ok(()) }),
    opt("explain",  "OP",   "print the chain of experiments on OP; may be repeated",  |a, v| { let op = named(utf8(v)?)?; a.explain.push(op); a.ops.push(op); Ok(()) }),
    opt("profile",     "NAME", "judge the room of a profile [full]",                          |a, v| { a.spec.layers = profile::named(utf8(v)?)?; Ok(()) }),
    opt("layers",      "LIST", "or of a,b, or of the profile with changes +a,-b",             |a, v| { a.layers = Some(utf8(v)?.to_owned()); Ok(()) }),
    opt("filter",      "NAME", "with the filter default or strict [default]",                 |a, v| a.spec.filter.base(utf8(v)?)),
    opt("allow-group", "NAME", "with this group of calls: `agent-shim policy groups`",        |a, v| a.spec.filter.allow(utf8(v)?)),
    opt("deny-group",  "NAME", "without this group",                                          |a, v| a.spec.filter.deny(utf8(v)?)),
    opt("no-wx",       "",     "with no memory that can be written and run",                  |a, _| { a.spec.filter.no_wx(); Ok(()) }),
    opt("bind",        "SRC DEST", "with a file or directory of the host in it, writable",    |a, v| bind(&mut a.spec, v, "--bind", Mode::Writable)),
    opt("ro-bind",     "SRC DEST", "the same, read-only",                                     |a, v| bind(&mut a.spec, v, "--ro-bind", Mode::ReadOnly)),
    opt("lattice",  "",     "try all 645 subsets of the layers: some seconds for each operation", |a, _| { a.lattice = true; Ok(()) }),
    opt("baseline", "FILE", "compare with an earlier --json: weaker is exit status 1", |a, v| { a.baseline = v.first().cloned(); Ok(()) }),
    opt("json",     "FILE", "write it all, schema agent-shim/attribute version 2",    |a, v| { a.json = v.first().cloned(); Ok(()) }),
    opt("html",     "FILE", "write a page to look at, without network",               |a, v| { a.html = v.first().cloned(); Ok(()) }),
];

fn group(name: &str) -> Result<impl Iterator<Item = &'static Op>, String> {
    let names: Vec<&str> = GROUPS.iter().map(|(group, _)| *group).collect();
    if !names.contains(&name) {
        return Err(format!("no such group; there are {}", names.join(", ")));
    }
    Ok(OPS.iter().filter(move |op| op.group == name))
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
    walls(&mut asked.spec, asked.layers.as_deref())?;
    let wanted = std::mem::take(&mut asked.ops);
    asked.ops = OPS.iter().filter(|op| wanted.iter().any(|w| w.id == op.id)).collect();
    Ok(Command::Attribute(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::proof_json::{SCHEMA, VERSION};

    #[test] // seen to fail with the version before
    fn the_help_names_the_schema_that_is_written() {
        let json = OPTIONS.iter().find(|option| option.name == "json").unwrap();
        let version = format!("schema {SCHEMA} version {VERSION}");
        assert!(json.about.ends_with(&version), "{}", json.about);
    }
}
