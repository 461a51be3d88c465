//! Which Poseidon: the implementations that Starknet's crates offer, side by side.

use anyhow::ensure;
use other_types_core::felt::Felt as OtherFelt;
use other_types_core::hash::{Poseidon as OtherPoseidon, StarkHash as _};
use starknet_types_core::felt::Felt;
use starknet_types_core::hash::{Poseidon, StarkHash as _};

use crate::report::{Figure, Report};
use crate::timing::{Clock, nanoseconds, repeat, shortest};

const HASHES: usize = 2_000;
const HOW: &str =
    "2,000 hashes of two felts, each of the one before; processor time, shortest of turns";
/// What the protocol hashes with.
const USED: &str = "poseidon_types_core_0_2_4";

/// Hashes two felts many times over with each implementation.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    report.measuring("Poseidon implementations");
    let (mut used, mut fork, mut older) = (Felt::ONE, Felt::ONE, Felt::ONE);
    let mut newer = OtherFelt::ONE;
    let mut use_used = || {
        used = Felt::ONE;
        repeat(HASHES, |_| used = Poseidon::hash(&used, &Felt::TWO));
    };
    let mut use_newer = || {
        newer = OtherFelt::ONE;
        repeat(HASHES, |_| {
            newer = OtherPoseidon::hash(&newer, &OtherFelt::TWO)
        });
    };
    let mut use_fork = || {
        fork = Felt::ONE;
        repeat(HASHES, |_| {
            fork = starknet_crypto::poseidon_hash(fork, Felt::TWO)
        });
    };
    let mut use_older = || {
        older = Felt::ONE;
        repeat(HASHES, |_| {
            older = other_starknet_crypto::poseidon_hash(older, Felt::TWO)
        });
    };
    let tasks: [&mut dyn FnMut(); 4] =
        [&mut use_used, &mut use_newer, &mut use_fork, &mut use_older];
    let times = shortest(Clock::Thread, tasks);
    let are_same = used == fork && used == older && used.to_bytes_be() == newer.to_bytes_be();
    ensure!(are_same, "the implementations of Poseidon differ");
    let [used, newer, fork, older] = times.map(|time| nanoseconds(time, HASHES));
    report.add(Figure::new(USED, "ns", used, HOW));
    for (name, time) in [
        ("poseidon_types_core_1_0_0", newer),
        ("poseidon_starknet_rust_crypto_0_20_1", fork),
        ("poseidon_starknet_crypto_0_8_1", older),
    ] {
        report.add(Figure::new(name, "ns", time, HOW).against(USED, used));
    }
    Ok(())
}
