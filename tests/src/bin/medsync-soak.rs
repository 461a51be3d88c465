//! `scripts/soak`: grants and revocations while everything goes wrong.

use std::time::Duration;

use clap::Parser;
use medsync_tests::soak::{Asked, soak};

/// Runs a stream of grants and revocations on real parts, kills their processes and disturbs
/// endpoint, chain, clock and disk meanwhile, and counts what was lost or doubled.
#[derive(Parser)]
struct Soak {
    /// How long, in minutes.
    minutes: u64,
    /// How many processes are killed.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// What everything random follows from, as far as real processes allow; a soak prints its own.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let asked = Soak::parse();
    let outcome = soak(Asked {
        length: Duration::from_secs(60 * asked.minutes),
        kills: asked.kills,
        seed: asked.seed,
    })?;
    println!("{}", outcome.summary());
    if outcome.is_sound() {
        Ok(())
    } else {
        anyhow::bail!("something was lost or doubled, or does not fit together")
    }
}
