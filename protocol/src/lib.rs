//! What every part of MedSync agrees on, protocol version 1.
//!
//! This crate holds the rules and nothing else: it does no I/O, reads no clock, draws no
//! randomness of its own and knows neither Calimero nor Starknet's network. The same code runs in
//! the daemon, inside the Calimero app (WebAssembly) and in the browser, so that a consent means
//! the same thing wherever it is judged.
//!
//! The rules are those of the protocol text (`docs/PROTOCOL.md`); golden vectors written by an
//! independent implementation hold this crate to it.
//!
//! | module | what it decides |
//! |---|---|
//! | [`felt`], [`ids`] | how values are written and when they are refused |
//! | [`hash`] | Poseidon, and the tags that keep its uses apart |
//! | [`signature`] | Stark-curve ECDSA, with everything odd an ordinary refusal |
//! | [`codes`], [`terms`] | what a patient allows, in one encoding |
//! | [`secrets`], [`consent`] | per-consent secrets, handles, commitments, grants |
//! | [`messages`] | enrolment, devices, key changes, logins |
//! | [`device`] | other members whom the patient admits |
//! | [`keychange`] | which of a party's keys counts now |
//! | [`decide`](mod@decide) | whether one request may have one resource |
//! | [`audit`] | the signed log chain |
//! | [`ticket`], [`claim`] | reward tickets, and what spends one |
//! | [`tree`], [`anchor`] | batch trees, proofs and the anchor head |
//! | [`verdict`], [`receipt`] | whether a consent was valid at a time, and the file that shows it |
//! | [`verifier`] | what a verifier believes, accepts and concludes |
//! | `seal` | sealing records to people (feature `seal`) |
//! | `keys`, `random` | a patient's keys and the file that they recover from (feature `keys`) |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod anchor;
pub mod audit;
pub mod claim;
pub mod codes;
pub mod consent;
pub mod decide;
pub mod device;
pub mod felt;
pub mod hash;
pub mod ids;
pub mod keychange;
#[cfg(feature = "keys")]
pub mod keys;
pub mod messages;
#[cfg(feature = "keys")]
pub mod random;
pub mod receipt;
#[cfg(feature = "seal")]
pub mod seal;
pub mod secrets;
pub mod signature;
pub mod terms;
pub mod ticket;
pub mod tree;
#[cfg(feature = "vectors")]
pub mod vectors;
pub mod verdict;
pub mod verifier;
