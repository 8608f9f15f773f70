//! The commands, one a file.

pub mod attribute;
pub mod bench;
pub mod doctor;
pub mod matrix;
pub mod output;
pub mod policy;
pub mod run;

use std::io::Write;

use agent_init::error::{Errno, Step};

use crate::capability;
use crate::error::Failure;
use crate::plan::is_real_root;

/// Whether there is a standard output: std has put /dev/null in the place of a closed one, where
/// everything would vanish without an error.
pub fn has_stdout() -> Result<(), Failure> {
    if agent_probe::sys::stdout_was_closed() {
        return Err(Failure::new(Step::OUTPUT, "write", "standard output", Errno::EBADF));
    }
    Ok(())
}

/// What the control as real root cannot show, on standard error; before the run, which may be long.
pub fn tell_of_control() {
    let lacks = if is_real_root() { capability::lacking() } else { Vec::new() };
    if !lacks.is_empty() {
        let line = format!("the control as real root has no {}", lacks.join(", "));
        let _nobody_reads = writeln!(
            std::io::stderr(),
            "agent-shim: {line}; what only this allows is said to be absent"
        );
    }
}

/// Colours are for a terminal that shows them, and for who has not said no. no-color.org
pub fn is_colourful() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    !dumb && !unwanted && std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Standard output, all of it or an error.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same of what is no text.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    has_stdout()?;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|e| io_failure(&e, "write", "standard output"))
}

/// An error of std, with the errno it came with.
pub fn io_failure(error: &std::io::Error, call: &str, object: impl AsRef<[u8]>) -> Failure {
    let errno = error.raw_os_error().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    Failure::new(Step::OUTPUT, call, object, Errno(errno))
}
