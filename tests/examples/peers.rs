//! Makes the files of shim/src/bench/peers again: `cargo run --locked -p agent-tests --example peers`, after a change of
//! the table. Needs libseccomp-dev, cc, and golang-github-containers-common; what is not here is left as it is, and said.

#![allow(clippy::unwrap_used, reason = "a tool of the tests")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use agent_shim::bench::peers::PEERS;
use agent_shim::policy::file;
use agent_tests::{Scratch, made};

fn main() -> ExitCode {
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/src/bench/peers");
    let scratch = Scratch::new();
    let mut is_whole = true;
    for peer in PEERS {
        let made = match made::peer(peer.name, &scratch.at("")) {
            Ok(made) => made,
            Err(why) => {
                eprintln!("{}: left as it is: {why}", peer.name);
                is_whole = false;
                continue;
            }
        };
        for (n, insns) in made.programs.iter().enumerate() {
            let name = format!("{}-{}.bpf", peer.name, n + 1);
            fs::write(to.join(&name), file::bytes(insns)).unwrap();
            println!("{name}: {} instructions", insns.len());
        }
        let (is, was) = (made.programs.len(), peer.programs.len());
        let is_told = made.by.iter().all(|by| peer.by.contains(by));
        if is != was || !is_told {
            eprintln!("{}: say so in peers.rs: {is} files, by {}", peer.name, made.by.join(", "));
            is_whole = false;
        }
    }
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
