//! The MedSync program: the daemon that carries consents from a private circle to Starknet, and
//! the command line of every role.
//!
//! Only [`chain`] knows Starknet and only `source` knows Calimero. Everything else speaks the
//! protocol's own names.

pub mod chain;
