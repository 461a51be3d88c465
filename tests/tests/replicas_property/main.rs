//! Whatever four members do, in whatever order and however often it arrives: replicas that heard
//! the same agree, logs have no gaps, nothing is permitted that the patient does not permit, and
//! every decision is the one of a naive model.
//!
//! The model is a set of facts that each replica has heard. After everything was delivered
//! everywhere, all replicas have one root hash.

mod consents;
mod decisions;
mod exchange;
mod kept;
mod model;
mod resources;
mod shown;
mod steps;
mod world;

use medsync_tests::seeds::seeded;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use steps::step;
use world::play;

/// Where the seeds of failures go; see [`kept`].
const FAILURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/replicas_property/failures.txt"
);

/// As many cases as everywhere, or a part of them where a case costs as much as many elsewhere.
fn config(part: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    seeded(ProptestConfig {
        cases: (default.cases / part).max(1),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(FAILURES))),
        ..default
    })
}

#[test]
fn replicas_converge_on_the_models_states_decisions_and_logs() {
    // `proptest!` would take the environment's number of cases in the place of a part of it.
    let mut runner = TestRunner::new(config(10));
    let lists = (prop::collection::vec(step(), 1..48), 0..97usize);
    let outcome = runner.run(&lists, |(steps, order)| {
        play(steps, order);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
