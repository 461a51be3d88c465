//! Payloads that do not fit into one message between nodes: cut, and each part sealed by itself.
//!
//! What stands in the payload's place is a list: of each part the digest of what was sealed, by
//! which it is found, and the key that opens it. The list is sealed as any payload is, so that
//! whoever opens the record opens its parts, and destroying its keys destroys theirs.

use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::{PAYLOAD_BYTES_MAX, RecordKey, SealError, SealedFor};
use crate::ids::Sha256Digest;

/// The most parts of one payload.
const PARTS_MAX: usize = 256;
/// The largest payload that is cut, in bytes: 8 MiB.
pub const PARTED_BYTES_MAX: usize = PARTS_MAX * PAYLOAD_BYTES_MAX;
/// What a list of parts begins with. FHIR JSON begins with a brace.
const MAGIC: &[u8; 16] = b"MEDSYNC_PARTS_V1";

/// The parts of one payload, in order.
#[derive(Clone, PartialEq, Eq, BorshSerialize)]
pub struct Parts {
    bytes: u64,
    sha256: Sha256Digest,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Part {
    sealed: Sha256Digest,
    key: [u8; 32],
}

impl Drop for Part {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// What a payload turned out to be once it was opened.
pub enum Opened {
    /// The resource itself.
    Whole(Zeroizing<Vec<u8>>),
    /// A list of its parts.
    Parts(Parts),
}

/// Why parts do not come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// The list is none.
    #[error("the list of the payload's parts cannot be read")]
    Malformed,
    /// Too large to be cut.
    #[error("a payload has at most {PARTED_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// A part is another than was sealed, or does not open.
    #[error("a part of the payload does not open: {0}")]
    Closed(#[from] SealError),
    /// The parts make another payload than was cut.
    #[error("the parts do not make the payload that was cut")]
    Differs,
}

/// The parts of a payload in their order, each sealed under a key of its own.
pub type SealedParts = Vec<Vec<u8>>;

/// Cuts a payload of the record in `place` (the reader does not matter) into sealed parts.
///
/// # Returns
/// What is sealed in the payload's place, and the parts.
///
/// # Errors
/// [`PartsError::TooLong`].
pub fn split(
    place: &SealedFor,
    payload: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Zeroizing<Vec<u8>>, SealedParts), PartsError> {
    if payload.len() > PARTED_BYTES_MAX {
        return Err(PartsError::TooLong(payload.len()));
    }
    // Room for everything from the start: what grows leaves copies of keys behind.
    let mut list = Parts {
        bytes: payload.len() as u64,
        sha256: Sha256Digest::of(payload),
        parts: Vec::with_capacity(payload.len().div_ceil(PAYLOAD_BYTES_MAX)),
    };
    let mut sealed = Vec::with_capacity(list.parts.capacity());
    for piece in payload.chunks(PAYLOAD_BYTES_MAX) {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut_slice());
        let part = RecordKey::from_bytes(*key).encrypt(place, piece)?;
        list.parts.push(Part {
            sealed: Sha256Digest::of(&part),
            key: *key,
        });
        sealed.push(part);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(PAYLOAD_BYTES_MAX));
    bytes.extend_from_slice(MAGIC);
    // Writing to memory does not fail.
    let _ = list.serialize(&mut *bytes);
    Ok((bytes, sealed))
}

impl Opened {
    /// Reads what a payload's key opened.
    ///
    /// # Errors
    /// [`PartsError::Malformed`] for something that begins as a list and is none.
    pub fn read(plain: Zeroizing<Vec<u8>>) -> Result<Self, PartsError> {
        match plain.strip_prefix(MAGIC.as_slice()) {
            Some(list) => Parts::decode(list)
                .map(Self::Parts)
                .ok_or(PartsError::Malformed),
            None => Ok(Self::Whole(plain)),
        }
    }
}

impl Parts {
    /// Reads a list. Its length is believed only within the bound, so that there is room for all
    /// of it from the start: what grows leaves copies of keys behind.
    fn decode(mut list: &[u8]) -> Option<Self> {
        let bytes = u64::deserialize(&mut list).ok()?;
        let sha256 = Sha256Digest::deserialize(&mut list).ok()?;
        let len = u32::deserialize(&mut list).ok()? as usize;
        let is_sound = len <= PARTS_MAX
            && bytes <= PARTED_BYTES_MAX as u64
            && bytes.div_ceil(PAYLOAD_BYTES_MAX as u64) == len as u64;
        if !is_sound {
            return None;
        }
        let mut parts = Vec::with_capacity(len);
        for _ in 0..len {
            parts.push(Part::deserialize(&mut list).ok()?);
        }
        list.is_empty().then_some(Self {
            bytes,
            sha256,
            parts,
        })
    }

    /// By which digests the sealed parts are found, in order.
    pub fn digests(&self) -> impl Iterator<Item = Sha256Digest> + '_ {
        self.parts.iter().map(|part| part.sealed)
    }

    /// Puts the payload together from its sealed parts, in order.
    ///
    /// # Errors
    /// [`PartsError`] if any part is not the one that was sealed, or one is missing.
    pub fn join(
        &self,
        place: &SealedFor,
        sealed: &[Vec<u8>],
    ) -> Result<Zeroizing<Vec<u8>>, PartsError> {
        // Room for all of it from the start, for the same reason.
        let mut payload = Zeroizing::new(Vec::with_capacity(self.bytes as usize));
        for (part, sealed) in self.parts.iter().zip(sealed) {
            if Sha256Digest::of(sealed) != part.sealed {
                return Err(PartsError::Differs);
            }
            let piece = Zeroizing::new(RecordKey::from_bytes(part.key).decrypt(place, sealed)?);
            payload.extend_from_slice(&piece);
        }
        if sealed.len() == self.parts.len() && Sha256Digest::of(&payload) == self.sha256 {
            Ok(payload)
        } else {
            Err(PartsError::Differs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixed, place};
    use super::*;
    use proptest::prelude::*;

    fn read(plain: impl Into<Vec<u8>>) -> Result<Opened, PartsError> {
        Opened::read(Zeroizing::new(plain.into()))
    }

    fn list(plain: &[u8]) -> Parts {
        match read(plain) {
            Ok(Opened::Parts(parts)) => parts,
            _ => panic!("a list"),
        }
    }

    #[test]
    fn a_payload_comes_together_from_just_its_parts_in_order() {
        let sizes = [
            0,
            1,
            PAYLOAD_BYTES_MAX,
            PAYLOAD_BYTES_MAX + 1,
            3 * PAYLOAD_BYTES_MAX,
        ];
        for bytes in sizes {
            let payload: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let (plain, sealed) = split(&place(), &payload, &mut Fixed(8)).expect("it fits");
            assert!(plain.len() <= PAYLOAD_BYTES_MAX);
            let parts = list(&plain);
            assert_eq!(sealed.len(), bytes.div_ceil(PAYLOAD_BYTES_MAX));
            assert!(
                parts
                    .digests()
                    .eq(sealed.iter().map(|part| Sha256Digest::of(part)))
            );
            assert_eq!(parts.join(&place(), &sealed), Ok(Zeroizing::new(payload)));
            let elsewhere = SealedFor {
                version: super::super::RecordVersion(9),
                ..place()
            };
            if let Some((last, others)) = sealed.split_last() {
                assert!(parts.join(&elsewhere, &sealed).is_err());
                assert_eq!(parts.join(&place(), others), Err(PartsError::Differs));
                let mut doubled = sealed.clone();
                doubled.push(last.clone());
                assert_eq!(parts.join(&place(), &doubled), Err(PartsError::Differs));
                let mut turned = sealed.clone();
                turned.rotate_left(1);
                assert_eq!(parts.join(&place(), &turned).is_ok(), sealed.len() == 1);
            }
        }
        let long = alloc::vec![0; PARTED_BYTES_MAX + 1];
        let error = split(&place(), &long, &mut Fixed(8)).err();
        assert_eq!(error, Some(PartsError::TooLong(PARTED_BYTES_MAX + 1)));
    }

    #[test]
    fn the_largest_list_fits_into_a_payload() {
        let long = alloc::vec![0; PARTED_BYTES_MAX];
        let (plain, _) = split(&place(), &long, &mut Fixed(8)).expect("it fits");
        assert!(plain.len() <= PAYLOAD_BYTES_MAX, "{}", plain.len());
    }

    #[test]
    fn a_list_that_is_none_is_refused_and_a_resource_is_none() {
        let (plain, _) = split(&place(), &[1; 40_000], &mut Fixed(8)).expect("it fits");
        for broken in [
            plain[..plain.len() - 1].to_vec(),
            [plain.as_slice(), &[0]].concat(),
        ] {
            assert!(matches!(read(broken), Err(PartsError::Malformed)));
        }
        let mut short = list(&plain);
        short.parts.pop();
        let mut bytes = MAGIC.to_vec();
        short.serialize(&mut bytes).expect("memory");
        assert!(matches!(read(bytes), Err(PartsError::Malformed)));
        let resource = br#"{"resourceType":"Patient"}"#;
        assert!(
            matches!(read(*resource), Ok(Opened::Whole(whole)) if whole.as_slice() == resource)
        );
    }

    #[test]
    fn hostile_length_of_a_list_is_not_believed() {
        for (bytes, len) in [(0u64, u32::MAX), (u64::MAX, u32::MAX), (u64::MAX, 1)] {
            let mut list = MAGIC.to_vec();
            list.extend_from_slice(&bytes.to_le_bytes());
            list.extend_from_slice(&[0; 32]);
            list.extend_from_slice(&len.to_le_bytes());
            assert!(matches!(read(list), Err(PartsError::Malformed)));
        }
    }

    #[test]
    fn keys_never_move_to_more_room() {
        // What grows doubles its room, which never gives this much.
        let payload = alloc::vec![1; 3 * PAYLOAD_BYTES_MAX];
        let (plain, sealed) = split(&place(), &payload, &mut Fixed(8)).expect("it fits");
        assert_eq!(plain.capacity(), PAYLOAD_BYTES_MAX);
        let parts = list(&plain);
        assert_eq!(parts.parts.capacity(), 3);
        let whole = parts.join(&place(), &sealed).expect("its parts");
        assert_eq!(whole.capacity(), payload.len());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read(bytes.clone());
            let _ = read([MAGIC.as_slice(), &bytes].concat());
        }
    }
}
