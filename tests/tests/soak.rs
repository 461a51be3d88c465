//! A short soak: `scripts/soak` runs longer ones.

use std::time::Duration;

use medsync_tests::soak::{Asked, KINDS_OF_FAULT, soak};

const KILLS: u32 = 10;
const KILLS_OF_FULL: u32 = 200;
const SECONDS_A_KILL: u64 = 9;

#[test]
fn hostile_world_around_a_stream_of_grants_and_revocations_loses_and_doubles_nothing()
-> anyhow::Result<()> {
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    let kills = if is_full { KILLS_OF_FULL } else { KILLS };
    let length = Duration::from_secs(SECONDS_A_KILL * u64::from(kills));
    let outcome = soak(Asked {
        length,
        kills,
        seed: None,
    })?;
    println!("{}", outcome.summary());
    assert!(outcome.is_sound(), "{}", outcome.summary());
    assert!(outcome.grants > 0 && outcome.revocations > 0);
    let tally = &outcome.tally;
    assert!(tally.endpoint_faults >= KINDS_OF_FAULT, "{tally:?}");
    assert!(tally.reorganisations > 0 && tally.clock_jumps > 0 && tally.full_disks > 0);
    Ok(())
}
