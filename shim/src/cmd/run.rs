//! `agent-shim run`: a program in a room; its end is ours.

use std::io::Write;
use std::os::fd::AsFd;

use agent_init::error::{Errno, Step};
use agent_init::landlock::LEAST_ABI;
use agent_init::layers::Layers;
use agent_init::reap::FORWARDED;

use crate::cli::Run;
use crate::error::{At, Failure};
use crate::report::text::one_line;
use crate::sys::{self, End};
use crate::{Sandbox, confine, profile, tree};

/// Runs the agent to its end: its status, or 128 + the signal that ended it.
pub fn run(options: Run) -> Result<u8, Failure> {
    let Run { mut spec, argv, .. } = options;
    if spec.best_effort {
        spec.layers = best_effort(spec.layers);
    }
    log::info!("layers: {}", profile::spelled(spec.layers));
    let mut argv = argv.into_iter();
    let sandbox = Sandbox::of(spec, argv.next().unwrap_or_default()).args(argv);
    let plan = sandbox.plan()?;
    if options.dry_run {
        return super::print(&tree::text(&plan.nodes)).map(|()| 0);
    }
    let warn = |lines: &[String]| {
        for line in lines.iter().filter(|_| !options.quiet).map(|l| one_line(l)) {
            let _nobody_reads = writeln!(std::io::stderr(), "agent-shim: warning: {line}");
        }
    };
    warn(&plan.warnings);

    let signals = sys::signal_fd(&FORWARDED).at(Step::WAIT, "signalfd", "")?;
    let mut child = sandbox.start(&plan)?;
    log::info!("agent started, every layer read back");
    confine::shim();
    let end = child.wait_forwarding(signals.as_fd())?;
    warn(&plan.watch.planted());
    Ok(code(end))
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
        (4, "without the net layer, TCP is open"),
        (5, "device ioctls are open"),
        (6, "signals and abstract sockets are not scoped"),
    ];
    let lost: Vec<_> = SINCE.iter().filter(|(since, _)| abi < *since).map(|(_, l)| *l).collect();
    lost.join(", ")
}
