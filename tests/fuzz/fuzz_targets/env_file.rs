//! `--env-file`.
#![no_main]

use std::os::unix::ffi::OsStrExt;

use agent_shim::cli::env_file::{MOST_VARIABLES, variables};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let Ok(all) = variables(text) else { return };
    assert!(all.len() <= MOST_VARIABLES);
    for (name, value) in all {
        let is_of_a_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        assert!(!name.is_empty() && name.as_bytes().iter().all(is_of_a_name));
        assert!(!name.as_bytes()[0].is_ascii_digit() && !value.as_bytes().contains(&0));
    }
});
