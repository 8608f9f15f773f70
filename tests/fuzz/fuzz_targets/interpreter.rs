//! The interpreter that a program or script names.
#![no_main]

use std::io::Cursor;

use agent_shim::program::named_in;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = named_in(Cursor::new(bytes));
});
