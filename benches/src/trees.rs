//! Batch trees against the bare hashes that they consist of.

use anyhow::ensure;
use medsync_protocol::tree::{Leaf, Tree};
use starknet_types_core::felt::Felt;
use starknet_types_core::hash::{Poseidon, StarkHash};

use crate::report::{Figure, Report};
use crate::timing::{Clock, milliseconds, repeat, shortest};

/// Measures the trees of 2^10 to 2^17 leaves.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let all = rayon::ThreadPoolBuilder::new().build()?;
    for depth in 10..=17 {
        let count = 1usize << depth;
        report.measuring(&format!("tree of {count} leaves"));
        let leaves = leaves(count);
        let mut at = Felt::ONE;
        // Both on the one thread of this pool, whose own time is taken.
        let [bare, single] = one.install(|| {
            let mut hashes = || repeat(count - 1, |_| at = Poseidon::hash(&at, &Felt::TWO));
            let mut tree = || repeat(1, |_| Tree::build(&leaves));
            // As many hashes as the tree has nodes above its leaves.
            shortest(Clock::Thread, [&mut hashes, &mut tree])
        });
        let [alone, parallel] = shortest(
            Clock::Wall,
            [
                &mut || one.install(|| repeat(1, |_| Tree::build(&leaves))),
                &mut || all.install(|| repeat(1, |_| Tree::build(&leaves))),
            ],
        );
        let tree = Tree::build(&leaves)?;
        let proof = tree.proof(count as u64 - 1);
        ensure!(
            proof.is_some_and(|proof| proof.includes(leaves[count - 1], tree.root())),
            "the tree of {count} leaves does not prove its last"
        );
        let times = [bare, single, alone, parallel].map(milliseconds);
        add(report, count, all.current_num_threads(), times);
    }
    Ok(())
}

fn add(report: &mut Report, count: usize, threads: usize, times: [f64; 4]) {
    let [bare, single, alone, parallel] = times;
    let how = "one thread's processor time; shortest of turns with what it is compared with";
    let figure = Figure::new(format!("tree_build_{count}"), "ms", single, how);
    report.add(figure.against(format!("{} bare hashes", count - 1), bare));
    let how = format!("time passed on {threads} threads; shortest of turns");
    let figure = Figure::new(format!("tree_build_parallel_{count}"), "ms", parallel, &how);
    report.add(figure.against("time passed on one thread", alone));
}

/// Leaves that look like real ones: full-width felts.
pub fn leaves(count: usize) -> Vec<Leaf> {
    (0..count as u64)
        .map(|number| Leaf::from_felt(Poseidon::hash_single(&Felt::from(number))))
        .collect()
}
