//! `agent-shim bench filter`: what filters cost to install and per call, ours beside others.

use std::ffi::OsStr;

use super::output::Output;
use super::policy::program_of;
use super::{has_stdout, print};
use crate::bench::filter::{self, Subject};
use crate::bench::measure::Rounds;
use crate::bench::{json, peers, text};
use crate::cli::Bench;
use crate::error::Failure;

/// 0: a number is no failure.
pub fn run(options: &Bench) -> Result<u8, Failure> {
    has_stdout()?;
    let mut subjects = filter::ours()?;
    subjects.extend(peers::subjects()?);
    for peer in &options.peers {
        let programs = peer.files.iter().map(|file| program_of(OsStr::new(file)));
        let programs = programs.collect::<Result<_, _>>()?;
        subjects.push(Subject { name: peer.name.clone(), by: None, programs });
    }
    let [output] = Output::open([options.json.as_deref()])?;
    let rounds = if options.quick { Rounds::QUICK } else { Rounds::FULL };
    let report = filter::run(&subjects, rounds)?;
    if let Some(output) = output {
        output.write(&json::filter(&report))?;
    }
    print(&text::filter(&report)).map(|()| 0)
}
