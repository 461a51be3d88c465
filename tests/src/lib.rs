//! What the tests of the whole share.
//!
//! - [`story`]: the whole story on real parts, played by the demo and by the tests; [`report`]
//!   notes its steps;
//! - [`devnet`], [`up`], [`medsync`]: the processes of the story; [`node`]: a node alone;
//! - [`endpoint`]: a bad endpoint before a devnet; [`hand`]: contracts called past `medsync`;
//! - [`replica`]: the built app in Calimero's runtime, on stores in memory;
//! - [`party`]: parties on real nodes, without `medsync` beside them;
//! - [`seeds`]: random cases that can be played again;
//! - [`search`]: what stands in the files of a folder;
//! - [`circle`]: keys, terms and signatures of a custodian and a patient.

pub mod circle;
pub mod devnet;
pub mod endpoint;
pub mod hand;
pub mod medsync;
pub mod node;
pub mod party;
pub mod postgres;
pub mod replica;
pub mod replicas;
pub mod report;
pub mod search;
pub mod seeds;
pub mod soak;
pub mod story;
pub mod up;
pub mod wire;
