//! agent-init: started by agent-shim as PID 1 of a room, with its orders at descriptor 3.
#![no_std]
#![no_main]

mod rt;

/// Called by `_start`.
extern "C" fn start() -> ! {
    agent_init::sys::exit(agent_init::run())
}
