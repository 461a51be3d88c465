//! `scripts/soak`: grants and revocations while processes are killed.

use std::time::Duration;

use clap::Parser;
use medsync_tests::soak::soak;

/// Runs a stream of grants and revocations on real parts, kills their processes meanwhile, and
/// counts what was lost or doubled.
#[derive(Parser)]
struct Soak {
    /// How long, in minutes.
    minutes: u64,
    /// How many processes are killed.
    #[arg(long, default_value_t = 10)]
    kills: u32,
}

fn main() -> anyhow::Result<()> {
    let asked = Soak::parse();
    let outcome = soak(Duration::from_secs(60 * asked.minutes), asked.kills)?;
    println!("{}", outcome.summary());
    if outcome.is_sound() {
        Ok(())
    } else {
        anyhow::bail!("something was lost or doubled, or does not fit together")
    }
}
