//! `agent-init`: the PID 1 of a room. It locks the door, starts the agent, reaps.
//!
//! The straight line: [`orders`] (of the shim, or of [`argv`]) → [`lock`] → [`agent`] → [`reap`]. No libc, no allocator.
//! The shim uses this crate too: the layers, the record of a failed step, the layout of orders.
#![no_std]
#![allow(
    long_running_const_eval,
    reason = "tables are checked and assembled while the compiler runs"
)]

#[cfg(test)]
extern crate std;

pub mod layers;

pub mod orders;

pub mod error;

pub mod lock;

pub mod caps;
pub mod landlock;
pub mod no_new_privs;
pub mod place;
pub mod process;
pub mod rlimit;
pub mod seccomp;

pub mod bpf;
pub mod check;
pub mod groups;
pub mod nr;
pub mod policy;
mod text;

pub mod agent;

pub mod reap;

pub mod argv;
pub mod report;
pub mod say;
pub mod status;
pub mod sys;

use argv::Asked;
use error::{At, During, Failure, Step};
use layers::Layers;
use lock::Room;
use orders::{END_FD, Flags, Orders, REPORT_FD, SHIM_FD};
use reap::Watch;
use sys::Strings;

/// Gets the orders, locks init, starts the agent, waits for its end: the exit status. With
/// arguments init is alone; without, its orders are at a descriptor.
pub fn run(argv: Strings, envp: Strings) -> i32 {
    if argv.len() > 1 {
        return alone(argv, envp);
    }
    match Orders::receive().during(Step::ORDERS) {
        Ok(orders) => live(Room::new(orders)),
        Err(failure) => {
            // Nobody has sent any, and nobody waits for a report.
            if report::send(Some(REPORT_FD), &failure).is_err() {
                argv::usage();
            }
            report::HARNESS_FAILED
        }
    }
}

/// By the command line.
fn alone(argv: Strings, envp: Strings) -> i32 {
    match argv::read(argv, envp).during(Step::OPTIONS) {
        Ok(Asked::Run(orders)) => return live(Room::new(orders)),
        Ok(Asked::Help) => argv::help(),
        Ok(Asked::Version) => argv::version(),
        Err(failure) => {
            say::failure(&failure);
            return report::HARNESS_FAILED;
        }
    }
    0
}

fn live(mut room: Room) -> i32 {
    match start(&mut room) {
        Ok(watch) => end(&watch),
        Err(failure) => {
            let _unread = report::send(room.report_fd, &failure);
            failure.code()
        }
    }
}

/// Everything up to the agent's process: an error means that it was not started.
fn start(room: &mut Room) -> Result<Watch, Failure> {
    lock::init_side(room)?;
    let (alone, pid) = (room.is_alone(), sys::getpid());
    let group = sys::getpgid().at(c"getpgid").during(Step::SESSION)?;
    let (agent, signals) = agent::start(room)?;
    Ok(Watch {
        agent,
        signals,
        shim: if alone { -1 } else { SHIM_FD },
        pid,
        group,
        is_pid_1: room.layers().contains(Layers::PID) || alone && pid == 1,
        alone,
        to_group: !alone || room.orders.flags().contains(Flags::GROUP),
        grace: room.orders.grace(),
    })
}

/// Waits for the end, and says what it was.
fn end(watch: &Watch) -> i32 {
    let Ok(end) = watch.until_the_end() else { return report::HARNESS_FAILED };
    if !watch.alone {
        let _unread = sys::write(END_FD, &end.to_bytes());
    }
    reap::exit_code(end.status)
}
