//! `agent-shim run`: a program in a room; its end is ours.

use std::io::Write;
use std::os::fd::AsFd;

use agent_init::error::{Errno, Step};
use agent_init::landlock::LEAST_ABI;
use agent_init::layers::Layers;
use agent_init::reap::FORWARDED;

use crate::cli::Run;
use crate::error::{At, Failure};
use crate::sys::{self, End};
use crate::{Sandbox, confine, profile};

/// Runs the agent to its end: its status, or 128 + the signal that ended it.
pub fn run(options: Run) -> Result<u8, Failure> {
    let mut argv = options.argv.into_iter();
    let mut sandbox = Sandbox::new(argv.next().unwrap_or_default()).args(argv);
    for (name, value) in &options.env {
        sandbox = sandbox.env(name, value);
    }
    if options.bare {
        sandbox = sandbox.bare();
    }
    let layers = if options.best_effort { best_effort(options.layers) } else { options.layers };
    log::info!("layers: {}", profile::spelled(layers));
    let sandbox = sandbox.layers(layers).best_effort(options.best_effort);

    let signals = sys::signal_fd(&FORWARDED).at(Step::WAIT, "signalfd", "")?;
    let mut child = sandbox.spawn()?;
    log::info!("agent started, every layer read back");
    confine::shim();
    Ok(code(child.wait_forwarding(signals.as_fd())?))
}

/// The status of init is the agent's. If init itself was ended from outside, so was the agent.
fn code(end: End) -> u8 {
    match end {
        End::Exited(code) => u8::try_from(code).unwrap_or(crate::error::HARNESS),
        End::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(crate::error::HARNESS),
    }
}

/// Says on stderr what the kernel's Landlock lacks, and leaves it out if there is none at all.
fn best_effort(layers: Layers) -> Layers {
    if !layers.contains(Layers::LANDLOCK) {
        return layers;
    }
    let (lost, left) = match agent_init::sys::landlock_abi() {
        Ok(abi) if abi >= LEAST_ABI => return layers,
        Ok(abi) => (format!("Landlock ABI {abi}, not {LEAST_ABI}: {}", lacks(abi)), layers),
        Err(Errno(_)) => ("no Landlock in this kernel".to_owned(), layers - Layers::LANDLOCK),
    };
    let _nobody_reads =
        writeln!(std::io::stderr(), "agent-shim: best effort, weaker than asked for: {lost}");
    left
}

/// What an older ABI cannot restrict.
fn lacks(abi: usize) -> String {
    #[rustfmt::skip] // a row a line
    const SINCE: &[(usize, &str)] = &[
        (2, "links across directories are refused"), // REFER cannot be granted
        (3, "truncate is open"),
        (5, "device ioctls are open"),
        (6, "signals and abstract sockets are not scoped"),
    ];
    let lost: Vec<_> = SINCE.iter().filter(|(since, _)| abi < *since).map(|(_, l)| *l).collect();
    lost.join(", ")
}
