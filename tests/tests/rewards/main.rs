//! Reward pools on a real devnet, through what `medsync` uses and its commands, and by hand where
//! no honest program would go: every reason to refuse, every event, hostile tokens, and sequences
//! against a model.

mod claiming;
mod commands;
mod gas;
mod landing;
mod model;
mod opening;
mod paying;
mod tokens;
mod world;
