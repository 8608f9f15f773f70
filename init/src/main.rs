//! agent-init: started by agent-shim as PID 1 of a room, with its orders at descriptor 3; or, with
//! arguments, alone, as the entry point of a container.
#![no_std]
#![no_main]

mod rt;

use agent_init::sys::Strings;

/// Called by `_start`, with what the kernel has put on the stack.
fn start(argv: Strings, envp: Strings) -> ! {
    agent_init::sys::exit(agent_init::run(argv, envp))
}
