//! What the tests of the whole share.
//!
//! - [`replica`]: the built app in Calimero's runtime, on stores in memory;
//! - [`circle`]: keys, terms and signatures of a custodian and a patient.

pub mod circle;
pub mod replica;
