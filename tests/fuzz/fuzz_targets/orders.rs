//! The block that init receives: whatever passes the check can be read.
#![no_main]

use agent_init::orders::{MAGIC, Orders};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut words: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    // Only these can be right, and chance does not find them.
    let size = 8 * words.len() as u64;
    if let Some(head) = words.get_mut(..2) {
        head.copy_from_slice(&[MAGIC, size]);
    }
    let Some(orders) = Orders::check(&mut words) else { return };
    let strings = orders.candidates().chain(orders.grants().map(|(_, path)| path));
    let bytes: usize = strings.chain([orders.start()]).map(|text| text.count_bytes()).sum();
    let rows = orders.rlimits().count() + orders.kept().count() + orders.filter().len();
    let words = orders.argv().len() + orders.envp().len();
    assert!(orders.umask() <= 0o777 && bytes < usize::MAX && rows + words < usize::MAX);
    _ = (orders.flags(), orders.layers(), orders.omitted(), orders.grace());
});
