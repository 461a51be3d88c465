//! The types of the app's interface, as they stand in JSON.
//!
//! Felts are `0x` and lower-case digits without leading zeros; 32-byte values are `0x` and 64
//! digits; terms, payloads and sealed keys are standard base64; times are unix seconds. They are
//! texts here and become the protocol's types at the border, each with an error that names it.

mod input;
mod object;
mod view;

pub use input::*;
pub use view::*;

/// The description that Calimero's tools read, as the build generates it; `app/abi.json` is the
/// tracked copy.
pub const JSON: &str = include_str!(concat!(env!("OUT_DIR"), "/abi.json"));
