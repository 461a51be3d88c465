//! What the generated tests of the golden vectors share. `scripts/cairo/vectors.mjs` writes them.

use core::sha256::compute_sha256_byte_array;
use crate::hashes::secret_hash;
use crate::tree::node;
use crate::types::{Deployment, Opening, Proof, ReceiptTimes, Signature, Verdict};
use crate::verdict::{Receipt, verdict_at};

/// Some test runners do not start a test that uses the curve but no Poseidon.
pub fn hash_something() {
    let _ = secret_hash(0);
}

/// The SHA-256 of `bytes`, whose first word is the most significant.
pub fn sha256(bytes: @ByteArray) -> u256 {
    let mut digest: u256 = 0;
    for word in compute_sha256_byte_array(bytes).span() {
        digest = digest * 0x100000000 + (*word).into();
    };
    digest
}

/// The root of `leaves`, padded with 0 to a power of two, built level by level as the protocol
/// tells it and not as proofs are followed.
pub fn tree_root(leaves: Span<felt252>) -> felt252 {
    let mut level = leaves;
    let mut width = 1;
    while width < leaves.len() {
        width *= 2;
    };
    while width > 1 {
        let mut parents = array![];
        let mut at = 0;
        while at < width {
            parents.append(node(node_at(level, at), node_at(level, at + 1)));
            at += 2;
        };
        level = parents.span();
        width /= 2;
    };
    *level[0]
}

fn node_at(level: Span<felt252>, at: u32) -> felt252 {
    match level.get(at) {
        Option::Some(node) => *node.unbox(),
        Option::None => 0,
    }
}

/// Takes a consent of the vectors through the whole verdict, as a batch of one leaf that was
/// anchored when the consent begins.
pub fn assert_valid_receipt(
    deployment: Deployment,
    anchorer: felt252,
    terms_sha256: u256,
    opening: Opening,
    signature: Signature,
    leaf: felt252,
) {
    let at = opening.not_before;
    let times = ReceiptTimes { anchored_at: at, revoked_at: 0, block_time: at };
    let proof = Proof { index: 0, siblings: [].span() };
    let receipt = Receipt { anchorer, root: leaf, terms_sha256, opening, signature, proof };
    assert_eq!(verdict_at(deployment, receipt, times, at), Verdict::Valid);
}
