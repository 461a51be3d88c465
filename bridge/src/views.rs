//! What people and programs see, for the command line and the API alike.

pub mod anchoring;
pub mod circle;
pub mod consents;
pub mod exchange;
pub mod log;
pub mod records;
