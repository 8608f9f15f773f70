//! Runs a command in a room with a time limit, and prints what it said and how it ended.
//!
//! ```text
//! agent SECONDS PROGRAM [ARG...]
//! ```

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use agent_shim::error::Failure;
use agent_shim::sys::End;
use agent_shim::{Sandbox, Stdio};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let limit = args.next().and_then(|n| n.parse().ok()).map(Duration::from_secs);
    let (Some(limit), Some(program)) = (limit, args.next()) else {
        eprintln!("usage: agent SECONDS PROGRAM [ARG...]");
        return ExitCode::from(125);
    };
    match run(limit, &program, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("agent: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(limit: Duration, program: &str, args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let sandbox = Sandbox::new(program).args(args).stdio(0, Stdio::Null);
    // Both on one pipe: their order is kept. What it says is read when it has ended, so it may say
    // what a pipe holds (64 KiB); who wants more reads while it runs.
    let mut child = sandbox.stdio(1, Stdio::Piped).stdio(2, Stdio::Output).spawn()?;
    if child.wait_for(limit)?.is_none() {
        child.kill();
        child.wait()?;
        println!("ended after {limit:?}");
    }
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        let _not_utf8 = File::from(output).read_to_string(&mut said);
    }
    print!("{said}");
    if let Some(status) = child.status() {
        match status.agent {
            End::Exited(code) => println!("exit status {code}"),
            End::Signaled(signal) => println!("signal {signal}"),
        }
        let megabytes = status.usage.peak_memory >> 20;
        println!("{:?} of processor time, {megabytes} MiB", status.usage.user);
    }
    Ok(())
}
