//! agent-shim: argv → command → exit code, no more.

use std::io::Write;
use std::process::ExitCode;

use agent_shim::cli::{self, Command};
use agent_shim::error::{Failure, HARNESS};
use agent_shim::report::text::one_line;
use agent_shim::{bounded, cmd, launch, sys, verbose};

fn main() -> ExitCode {
    bounded::begin();
    launch::ask_umask();
    let command = match cli::parse(std::env::args_os().skip(1)).and_then(Command::read) {
        Ok(command) => command,
        Err(cli::Wrong { line, hint, status_fd }) => {
            let line = one_line(&line);
            let _nobody_reads = writeln!(std::io::stderr(), "agent-shim: {line}");
            if !hint.is_empty() {
                let _nobody_reads = writeln!(std::io::stderr(), "hint: {}", one_line(&hint));
            }
            if let Some(fd) = status_fd {
                cmd::run::wrong(fd, &line);
            }
            return HARNESS.into();
        }
    };
    sys::default_sigchld();
    sys::ignore_sigxfsz();
    let code = match command {
        Command::Print(text) => cmd::print(&text).map(|()| 0),
        Command::Run(options) => {
            verbose::start(options.verbose);
            cmd::run::run(*options)
        }
        Command::Doctor(options) => cmd::doctor::run(&options),
        Command::Policy(options) => cmd::policy::run(&options),
        Command::Matrix(options) => Ok(without_agent(cmd::matrix::run(&options))),
        Command::Attribute(options) => Ok(without_agent(cmd::attribute::run(&options))),
        Command::Bench(options) => cmd::bench::run(&options),
    };
    code.unwrap_or_else(|failure| tell(&failure)).into()
}

/// 126 and 127 speak of an agent, and here is none.
fn without_agent(code: Result<u8, Failure>) -> u8 {
    code.unwrap_or_else(|failure| {
        tell(&failure);
        HARNESS
    })
}

/// One line, and one with the hint.
fn tell(failure: &Failure) -> u8 {
    let mut stderr = std::io::stderr().lock();
    let _nobody_reads = writeln!(stderr, "agent-shim: {failure}");
    if !failure.hint().is_empty() {
        let _nobody_reads = writeln!(stderr, "hint: {}", failure.hint());
    }
    failure.code()
}
