//! Between clone3 and execve nothing allocates: the child of a threaded caller would wait for ever
//! for a lock that no thread of its own holds.
#![allow(clippy::unwrap_used)] // a test

use agent_init::layers::Layers;
use agent_shim::Sandbox;
use agent_shim::profile::PROFILES;
use agent_shim::sys::End;
use agent_tests::sys::{ALLOCATED, NotInAChild, no_allocation_in_a_child};

#[global_allocator]
static ALLOCATOR: NotInAChild = NotInAChild;

#[test] // seen to fail with the names of the namespaces made in the argument of `at`
fn the_child_allocates_nothing() {
    no_allocation_in_a_child();
    for profile in PROFILES {
        let mut child = Sandbox::new("true").layers(profile.layers).spawn().unwrap();
        assert_eq!(child.wait(), Ok(End::Exited(0)), "{}", profile.name);
    }
    // A failure too: what init says is written by it.
    let failure = Sandbox::new("true").omit(Layers::NET).spawn().unwrap_err();
    assert!(failure.to_string().contains("not in force"), "{failure}");
}

/// The experiments of the doctor are forked children too.
#[test] // seen to fail with a step that formats a string
fn an_experiment_allocates_nothing() {
    no_allocation_in_a_child();
    for (row, finding) in agent_shim::doctor::examine().features {
        let allocated = finding.measured.contains(&format!("status {ALLOCATED}"));
        assert!(!allocated, "{}: {finding:?}", row.name);
    }
}

/// Between a launcher and agent-shim stands a forked keeper.
#[test] // seen to fail with a keeper that makes its report by `to_vec`
fn a_keeper_allocates_nothing() {
    no_allocation_in_a_child();
    for own_mounts in [false, agent_shim::plan::is_real_root()] {
        let script = b"sleep 1000 & exit 3".to_vec();
        let kept = agent_shim::keeper::start(script, Vec::new(), own_mounts).unwrap();
        let ended = kept.to_end(std::time::Duration::from_secs(5)).unwrap();
        assert_eq!((ended.end, ended.is_left), (Some(End::Exited(3)), false), "{ended:?}");
    }
}
