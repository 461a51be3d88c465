//! The `medsync` program.
fn main() {}
