//! `agent-probe`: names → records, one a line. It tells what happened, never why.

mod cli;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use agent_probe::record::Record;
use agent_probe::{Errno, bench, errno_words, hold, sys};
use cli::Command;

/// Usage was wrong, or the records could not be written.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let result =
        cli::parse(env::args_os().skip(1)).map_err(usage).and_then(|command| match command {
            Command::Print(text) => put(&text),
            Command::Bench { calls, rounds } => put(&line(bench::run(calls, rounds).to_json())),
            Command::Hold { dir, nonce } => hold::hold(&dir, &nonce),
            Command::Release { dir, nonce } => hold::release(&dir, &nonce),
            // Each record is out before the next operation, which may be the last.
            Command::Try { facts, ops } => ops
                .iter()
                .try_for_each(|op| put(&line(Record::new(op, op.outcome(&facts)).to_json()))),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nobody is left to be told when this fails too; the status says it.
            let _ = writeln!(io::stderr(), "agent-probe: {message}");
            ExitCode::from(FAILED)
        }
    }
}

fn line(record: String) -> String {
    record + "\n"
}

fn usage(error: String) -> String {
    format!("arguments: {error}\nhint: agent-probe --help")
}

/// Writes it all and flushes.
fn put(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    let written = match sys::stdout_was_closed() {
        true => Err(Errno(libc::EBADF)),
        false => {
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Errno::from)
        }
    };
    written.map_err(|errno| {
        let name = errno.name();
        format!("output: write(stdout): {} ({name})", errno_words(&name))
    })
}
