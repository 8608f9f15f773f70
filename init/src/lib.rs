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
use orders::Orders;

/// Receives the orders, locks init, starts the agent, waits for its end: the exit status.
pub fn run() -> i32 {
    match start() {
        Ok((agent, layers)) => end(agent, layers, reap::until_end_of(agent)),
        Err(failure) => {
            report::send(&failure);
            report::HARNESS_FAILED
        }
    }
}

/// Everything up to the agent's process: an error means that it was not started.
fn start() -> Result<(i32, Layers), Failure> {
    let orders = Orders::receive().during(Step::ORDERS)?;
    let mut room = Room::new(orders);
    lock::init_side(&mut room)?;
    Ok((agent::start(&mut room)?, room.layers()))
}

/// With PID 1 the kernel ends all that is left. Without a pid namespace, the agent's process
/// group is all that can be reached.
fn end(agent: i32, layers: Layers, code: i32) -> i32 {
    if !layers.contains(Layers::PID) {
        let _gone = sys::kill(-agent, libc::SIGKILL);
    }
    code
}
