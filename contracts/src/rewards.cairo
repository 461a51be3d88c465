//! Rewards for compliant use: ERC-20 pools that are funded when they promise, and tickets that are
//! paid once, while the consent lives, without naming the patient (protocol v1, P8).

pub mod errors;
pub mod interface;
pub mod pool;
pub mod token;
pub mod types;
