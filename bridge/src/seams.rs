//! The seams by which a test holds time and chance.

use std::time::{SystemTime, UNIX_EPOCH};

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Salt, UnixSeconds};
use medsync_protocol::signature::SecretKey;
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

/// Uniform random bytes.
pub fn random_bytes(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A uniform random felt: values that are no felt are drawn again (odds of about 31 in 32, so
/// that the top bits are cleared first).
pub fn random_felt(rng: &mut (impl CryptoRng + ?Sized)) -> Felt {
    loop {
        let mut bytes = random_bytes(rng);
        bytes[0] &= 0x0f;
        if let Ok(felt) = medsync_protocol::felt::from_bytes(&bytes) {
            return felt;
        }
    }
}

/// A random salt.
pub fn random_salt(rng: &mut (impl CryptoRng + ?Sized)) -> Salt {
    Salt::from_felt(random_felt(rng))
}

/// A random Stark secret key.
pub fn random_key(rng: &mut (impl CryptoRng + ?Sized)) -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_scalar(&random_felt(rng).to_bytes_be()) {
            return key;
        }
    }
}
