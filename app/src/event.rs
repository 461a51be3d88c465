//! What the app tells its node about. Events travel in the clear among members and may get lost:
//! they name entries and say nothing else, and readers take the truth from `changes`.

use calimero_sdk::app;

/// Something was written.
#[app::event]
pub enum Event {
    /// A patient enrolled.
    Enrolled {
        /// The entry's key.
        key: String,
    },
    /// The enrolled party's key was changed.
    KeyChanged {
        /// The entry's key.
        key: String,
    },
    /// A consent was granted.
    Granted {
        /// The entry's key.
        key: String,
        /// The consent's salted name.
        commitment: String,
    },
    /// Something was revoked.
    Revoked {
        /// The entry's key.
        key: String,
    },
    /// A log entry was written.
    Logged {
        /// The entry's key.
        key: String,
    },
    /// A log's place in a batch was written.
    HeadPlaced {
        /// The entry's key.
        key: String,
    },
    /// A version of a record was written.
    RecordPut {
        /// The entry's key.
        key: String,
    },
    /// A receipt was written.
    ReceiptPut {
        /// The entry's key.
        key: String,
    },
    /// A record was released.
    Released {
        /// The entry's key.
        key: String,
    },
    /// A consent's place in a batch, or news of that batch, was written.
    Anchored {
        /// The position's key.
        key: String,
        /// The consent's salted name.
        commitment: String,
    },
}
