//! What a system call costs in this room: a loop of `getppid`, which does nothing but enter the kernel and leave it.

use std::time::Instant;

use crate::{record::Bench, sys};

/// Most calls a round: some minutes at worst.
pub const MAX_CALLS: u64 = 1_000_000_000;

/// Most rounds: the record stays below [`crate::record::MAX_BENCH_BYTES`].
pub const MAX_ROUNDS: u64 = 1000;

/// Warms up for one round, then times `rounds` rounds of `calls` calls each; both at least 1.
pub fn run(calls: u64, rounds: u64) -> Bench {
    sys::getppid_loop(calls);
    let ns = (0..rounds).map(|_| round(calls)).collect();
    Bench { calls, ns }
}

/// Nanoseconds a call, over one round. `Instant` is CLOCK_MONOTONIC, read without entering the kernel. vdso(7).
fn round(calls: u64) -> f64 {
    let start = Instant::now();
    sys::getppid_loop(calls);
    start.elapsed().as_secs_f64() * 1e9 / as_float(calls)
}

/// Exact up to 2^53, far above [`MAX_CALLS`].
#[allow(clippy::cast_precision_loss)] // see above
fn as_float(calls: u64) -> f64 {
    calls as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_one_positive_number() {
        let bench = run(1000, 3);
        assert_eq!((bench.calls, bench.ns.len()), (1000, 3));
        assert!(bench.ns.iter().all(|ns| *ns > 1.0 && ns.is_finite()), "{:?}", bench.ns);
    }
}
