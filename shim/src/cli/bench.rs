//! The words and options of `bench`.

use std::ffi::OsString;

use lexopt::Parser;

use super::{Command, End, Opt, opt, options, utf8};
use crate::bench::filter::ONE;
use crate::bench::peers::PEERS;
use crate::policy::FILTERS;

/// What they ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bench {
    /// Others to measure.
    pub peers: Vec<Peer>,
    /// Fewer rounds: rougher numbers.
    pub quick: bool,
    /// Where to write the facts.
    pub json: Option<OsString>,
}

/// Filters that are installed one after the other, by their name.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    /// A word.
    pub name: String,
    /// Raw filters.
    pub files: Vec<String>,
}

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Bench>] = &[
    opt("peer",  "NAME=FILE", "filter: one more, a file as `policy dump --format bpf` writes it;\nNAME=FILE,FILE: several, installed one after the other", peer),
    opt("quick", "",          "a fifth of the rounds", |b, _| { b.quick = true; Ok(()) }),
    opt("json",  "FILE",      "write the same facts, schema agent-shim/bench-filter version 1", |b, v| { b.json = v.first().cloned(); Ok(()) }),
];

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let (mut bench, mut given) = (Bench::default(), Vec::new());
    loop {
        match options(&mut parser, OPTIONS, "bench", &mut bench)? {
            End::Word(word) => given.push(word),
            End::Print(text) => return Ok(text),
            End::Nothing => break,
        }
    }
    match given.as_slice() {
        [] => Err("bench: what? There is filter".into()),
        [word] if word == "filter" => Ok(Command::Bench(bench)),
        [word] => Err(format!("bench has no {word:?}; there is filter")),
        [_, extra, ..] => Err(format!("bench filter: unexpected argument {extra:?}")),
    }
}

fn peer(bench: &mut Bench, values: &[OsString]) -> Result<(), String> {
    let (name, files) = utf8(values)?.split_once('=').ok_or("NAME=FILE is wanted")?;
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=20).contains(&name.len()) || !name.bytes().all(is_letter) {
        return Err("a name has 1 to 20 letters, digits, - _ .".into());
    }
    let ours = [ONE, "ranges", "list"].into_iter().chain(FILTERS.iter().map(|filter| filter.name));
    let ours = ours.chain(PEERS.iter().map(|peer| peer.name));
    if ours.chain(bench.peers.iter().map(|peer| peer.name.as_str())).any(|known| known == name) {
        return Err(format!("there is one with the name {name} already"));
    }
    let files: Vec<String> = files.split(',').map(str::to_owned).collect();
    if files.iter().any(String::is_empty) {
        return Err("a file is missing".into());
    }
    bench.peers.push(Peer { name: name.to_owned(), files });
    Ok(())
}
