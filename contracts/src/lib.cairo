//! What MedSync keeps on Starknet.
//!
//! The registry learns roots, counts, handles and times: no term, identity, purpose or record ever
//! reaches it (protocol v1, P2). Everything here but `registry` is pure and touches no storage, so
//! that off-chain implementations can be held against it value by value.

pub mod errors;
pub mod hashes;
pub mod interface;
pub mod registry;
pub mod rewards;
pub mod signature;
pub mod tree;
pub mod types;
pub mod verdict;

#[cfg(test)]
mod tests;
