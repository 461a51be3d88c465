//! Starknet.
