//! The index of a repository. The first byte says how long its hashes are.
#![no_main]

use agent_shim::git_index::{MOST_NAMES, MOST_OF_A_NAME, gitlinks};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, index)) = bytes.split_first() else { return };
    let Ok(names) = gitlinks(index, if first & 1 == 0 { 20 } else { 32 }) else { return };
    assert!(names.len() <= MOST_NAMES && names.iter().all(|name| name.len() <= MOST_OF_A_NAME));
});
