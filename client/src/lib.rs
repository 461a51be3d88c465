//! The HTTP API of a party's `medsync`, from outside: what goes over it ([`wire`]), and a small
//! client of it: `examples/consents.rs` shows how.

mod client;
pub mod wire;

pub use client::{Client, ClientError, Way};
