//! Seeds of random cases: printed, so that what failed is played again.

use medsync::seams::{random_bytes, system_random};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// A seed that nobody chose.
#[must_use]
pub fn random_seed() -> u64 {
    let bytes = random_bytes(&mut system_random());
    let number = bytes.into_iter().take(8);
    number.fold(0, |seed, byte| seed << 8 | u64::from(byte))
}

/// The configuration with a seed, which is printed. `PROPTEST_RNG_SEED` names it; without that it
/// is random.
#[must_use]
pub fn seeded(config: ProptestConfig) -> ProptestConfig {
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => random_seed(),
    };
    println!(
        "{} cases; PROPTEST_RNG_SEED={seed} plays the same",
        config.cases
    );
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        ..config
    }
}
