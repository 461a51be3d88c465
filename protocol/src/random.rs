//! Random values of the protocol's kinds, from whatever source the caller has.

use rand_core::CryptoRng;

use crate::felt::Felt;
use crate::ids::Salt;
use crate::signature::SecretKey;

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
        if let Ok(felt) = crate::felt::from_bytes(&bytes) {
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
