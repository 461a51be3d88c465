//! The seams by which a test holds time and chance.

use std::time::{SystemTime, UNIX_EPOCH};

use medsync_protocol::ids::UnixSeconds;
pub use medsync_protocol::random::{random_bytes, random_felt, random_key, random_salt};
use rand_core::CryptoRng;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Now, in unix seconds.
    fn now(&self) -> UnixSeconds;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixSeconds {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixSeconds(since.as_secs())
    }
}

/// The machine's random source. A machine that cannot give random bytes must not make keys, so
/// that a failure ends the program.
#[must_use]
pub fn system_random() -> impl CryptoRng + Send + 'static {
    rand_core::UnwrapErr(getrandom::SysRng)
}
