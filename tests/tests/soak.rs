//! A short soak: `scripts/soak` runs longer ones.

use std::time::Duration;

use medsync_tests::soak::soak;

const KILLS: u32 = 10;
const KILLS_OF_FULL: u32 = 200;
const SECONDS_A_KILL: u64 = 9;

#[test]
fn hostile_kills_in_a_stream_of_grants_and_revocations_lose_and_double_nothing()
-> anyhow::Result<()> {
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    let kills = if is_full { KILLS_OF_FULL } else { KILLS };
    let length = Duration::from_secs(SECONDS_A_KILL * u64::from(kills));
    let outcome = soak(length, kills)?;
    println!("{}", outcome.summary());
    assert!(outcome.is_sound(), "{}", outcome.summary());
    assert!(outcome.grants > 0 && outcome.revocations > 0);
    Ok(())
}
