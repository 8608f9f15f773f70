//! `agent-init`: the PID 1 of a room. It locks the door, starts the agent, reaps.
//!
//! The straight line: [`orders`] → [`lock`] → [`agent`] → [`reap`]. No libc, no allocator.
//! The shim uses this crate too: the layers, the record of a failed step, the layout of orders.
#![no_std]

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
pub mod nr;
pub mod policy;

pub mod agent;

pub mod reap;

pub mod report;
pub mod status;
pub mod sys;

use error::{During, Failure, Step};
use layers::Layers;
use lock::Room;
use orders::{END_FD, Orders, REPORT_FD, SHIM_FD};
use reap::Watch;

/// Receives the orders, locks init, starts the agent, waits for its end: the exit status.
pub fn run() -> i32 {
    match start() {
        Ok(watch) => end(&watch),
        Err(failure) => {
            report::send(REPORT_FD, &failure);
            report::HARNESS_FAILED
        }
    }
}

/// Everything up to the agent's process: an error means that it was not started.
fn start() -> Result<Watch, Failure> {
    let orders = Orders::receive().during(Step::ORDERS)?;
    let mut room = Room::new(orders);
    lock::init_side(&mut room)?;
    let (agent, signals) = agent::start(&mut room)?;
    let is_pid_1 = room.layers().contains(Layers::PID);
    Ok(Watch { agent, signals, shim: SHIM_FD, is_pid_1, grace: room.orders.grace() })
}

/// Waits for the end, and says what it was.
fn end(watch: &Watch) -> i32 {
    let Ok(end) = watch.until_the_end() else { return report::HARNESS_FAILED };
    let _unread = sys::write(END_FD, &end.to_bytes());
    reap::exit_code(end.status)
}
