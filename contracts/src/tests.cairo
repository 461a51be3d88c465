//! Every revert, every verdict at its boundaries, and what the golden vectors' tests share.
//!
//! The golden vectors' own tests are generated beside this module, from the project's vectors.

mod anchoring;
mod forgeries;
mod proofs;
mod reads;
mod revoking;
mod setup;
mod signatures;
pub(crate) mod signer;
pub(crate) mod vector_checks;
mod verdict_order;
mod verdicts;
