//! What a profile costs: to start, and per system call. A measurement, not a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_init::layers::Layers;

use crate::error::Failure;
use crate::lab::Lab;
use crate::limits::Resource;
use crate::profile::PROFILES;
use crate::{Sandbox, image};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Starts of each profile, in turn.
    pub starts: usize,
    /// Rooms of each set of layers, in turn, that time system calls; even: halves are compared.
    pub rooms: usize,
    /// Loops in each of them.
    pub loops: u64,
    /// Calls in each loop.
    pub calls: u64,
}

impl Rounds {
    /// For a table to be quoted.
    pub const FULL: Rounds = Rounds { starts: 200, rooms: 4, loops: 2, calls: 2_000_000 };
    /// For tests: the same, rougher.
    pub const QUICK: Rounds = Rounds { starts: 20, rooms: 2, loops: 1, calls: 2_000_000 };
}

/// A row of the cost table.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The profile.
    pub profile: &'static str,
    /// Milliseconds from before clone3 to the end of a program that exits at once: the median.
    pub startup_ms: f64,
    /// Nanoseconds of one getppid in the room: the best loop.
    pub ns_per_syscall: f64,
    /// Against `none`; 0 where it is within `noise_ns`.
    pub delta_ns: f64,
    /// What a delta was shown to come from: without it, the room costs what `none` does.
    pub cause: Option<&'static str>,
    /// The largest difference between two halves of the measurements of one set of layers.
    pub noise_ns: f64,
}

/// Measures all profiles, in turn, so that all of them meet the same weather.
pub fn measure(lab: &Lab, rounds: Rounds) -> Result<Vec<Cost>, Failure> {
    let startups = startups(rounds.starts)?;
    let without_filter = Layers::FULL - Layers::SECCOMP;
    let sets: Vec<Layers> = PROFILES.iter().map(|p| p.layers).chain([without_filter]).collect();
    let halves = syscalls(lab, &sets, rounds)?;
    let noise = halves.iter().map(|[a, b]| (a - b).abs()).fold(1.0, f64::max);
    let best: Vec<f64> = halves.iter().map(|[a, b]| a.min(*b)).collect();
    let (none, bare_full) = (at(&best, 0), at(&best, sets.len() - 1));
    let costs = PROFILES.iter().enumerate().map(|(n, profile)| {
        let ns = at(&best, n);
        let delta_ns = if (ns - none).abs() <= noise { 0.0 } else { ns - none };
        let by_filter = profile.layers.contains(Layers::SECCOMP)
            && delta_ns != 0.0
            && (bare_full - none).abs() <= noise;
        Cost {
            profile: profile.name,
            startup_ms: at(&startups, n),
            ns_per_syscall: ns,
            delta_ns,
            cause: by_filter.then_some("seccomp BPF"),
            noise_ns: noise,
        }
    });
    Ok(costs.collect())
}

fn at(numbers: &[f64], n: usize) -> f64 {
    numbers.get(n).copied().unwrap_or(f64::NAN)
}

/// The median of each profile, in milliseconds.
fn startups(starts: usize) -> Result<Vec<f64>, Failure> {
    let program = Arc::new(image::of(c"exit", &image::exit_program())?);
    // What layers cost; a cgroup for the memory comes on top of each.
    let bare = || Sandbox::image(Arc::clone(&program), "exit").bare();
    let room = |layers| bare().layers(layers).limit(Resource::Memory, None);
    let rooms: Vec<Sandbox> = PROFILES.iter().map(|p| room(p.layers)).collect();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); rooms.len()];
    for round in 0..=starts {
        for (room, times) in rooms.iter().zip(&mut times) {
            let start = Instant::now();
            room.spawn()?.wait()?;
            if round > 0 {
                times.push(start.elapsed()); // the first one warms up
            }
        }
    }
    Ok(times.iter_mut().map(|times| median(times).as_secs_f64() * 1e3).collect())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The best loop of each half of the rooms, for each set of layers.
fn syscalls(lab: &Lab, sets: &[Layers], rounds: Rounds) -> Result<Vec<[f64; 2]>, Failure> {
    let mut halves = vec![[f64::INFINITY; 2]; sets.len()];
    for room in 0..rounds.rooms {
        for (layers, halves) in sets.iter().zip(&mut halves) {
            let ns = lab.bench(*layers, rounds.calls, rounds.loops)?;
            if let Some(best) = halves.get_mut(room % 2) {
                *best = ns.into_iter().fold(*best, f64::min);
            }
        }
    }
    Ok(halves)
}
