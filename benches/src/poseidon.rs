//! Which Poseidon: the implementations that Starknet's crates offer, side by side.

use other_types_core::felt::Felt as OtherFelt;
use other_types_core::hash::{Poseidon as OtherPoseidon, StarkHash as _};
use starknet_types_core::felt::Felt;
use starknet_types_core::hash::{Poseidon, StarkHash as _};

use crate::report::{Figure, Report};
use crate::timing::{Clock, nanoseconds, repeat, shortest};

const HASHES: usize = 2_000;
const HOW: &str =
    "2,000 hashes of two felts, each of the one before; processor time, shortest of turns";
const USED: &str = "poseidon_types_core_0_2_4, which is used";

/// Hashes two felts many times over with each implementation.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    report.measuring("Poseidon implementations");
    let mut used = Felt::ONE;
    let mut other = OtherFelt::ONE;
    let mut crypto = Felt::ONE;
    let times = shortest(
        Clock::Thread,
        [
            &mut || {
                used = Felt::ONE;
                repeat(HASHES, |_| used = Poseidon::hash(&used, &Felt::TWO));
            },
            &mut || {
                other = OtherFelt::ONE;
                repeat(HASHES, |_| {
                    other = OtherPoseidon::hash(&other, &OtherFelt::TWO)
                });
            },
            &mut || {
                crypto = Felt::ONE;
                repeat(HASHES, |_| {
                    crypto = starknet_crypto::poseidon_hash(crypto, Felt::TWO)
                });
            },
        ],
    );
    anyhow::ensure!(
        used == crypto && used.to_bytes_be() == other.to_bytes_be(),
        "the implementations of Poseidon differ"
    );
    let [used, other, crypto] = times.map(|time| nanoseconds(time, HASHES));
    report.add(Figure::new("poseidon_types_core_0_2_4", "ns", used, HOW));
    let figure = Figure::new("poseidon_types_core_1_0", "ns", other, HOW);
    report.add(figure.against(USED, used));
    let figure = Figure::new("poseidon_starknet_crypto", "ns", crypto, HOW);
    report.add(figure.against(USED, used));
    Ok(())
}
