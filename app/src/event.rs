//! What the app tells its node about. Events travel in the clear among members and may get lost:
//! they name entries and say nothing else, and readers take the truth from `changes`.

use calimero_sdk::app;

/// Something was written.
#[app::event]
pub enum Event {
    /// An entry.
    Written {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
}
