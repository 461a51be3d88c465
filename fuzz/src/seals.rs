//! Sealed keys, sealed payloads, and lists of a payload's parts.

use medsync_protocol::ids::{ContextId, RecordId};
use medsync_protocol::seal::{
    Opened, PARTED_BYTES_MAX, PAYLOAD_BYTES_MAX, RecordKey, RecordVersion, SealSecret, SealedFor,
};
use zeroize::Zeroizing;

const READER: [u8; 32] = [9; 32];
const KEY: [u8; 32] = [7; 32];
/// What opens for the reader, and a payload of the key: those of `tests/vectors/seal-v1.json`.
const SEALED_KEY: &[u8] = include_bytes!("../corpus/sealed-key/key");
const PAYLOAD: &[u8] = include_bytes!("../corpus/sealed-key/payload");

fn place() -> SealedFor {
    SealedFor {
        context: ContextId([1; 32]),
        record: RecordId([2; 32]),
        version: RecordVersion(3),
        reader: SealSecret::from_bytes(READER).public_key(),
        log: None,
    }
}

/// A sealed key or payload: it opens if it is the one that was sealed, and only then.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn sealed_key(bytes: &[u8]) -> bool {
    let place = place();
    let opened = RecordKey::open(&SealSecret::from_bytes(READER), &place, bytes);
    assert_eq!(opened.is_ok(), bytes == SEALED_KEY);
    let decrypted = RecordKey::from_bytes(KEY).decrypt(&place, bytes);
    assert_eq!(decrypted.is_ok(), bytes == PAYLOAD);
    opened.is_ok() || decrypted.is_ok()
}

/// What a payload turns out to be: itself, or a list of its parts.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn parts(bytes: &[u8]) -> bool {
    match Opened::read(Zeroizing::new(bytes.to_vec())) {
        Ok(Opened::Whole(whole)) => {
            assert_eq!(whole.as_slice(), bytes);
            false
        }
        Ok(Opened::Parts(list)) => {
            let written = borsh::to_vec(&list).expect("in memory");
            assert!(bytes.ends_with(&written));
            let digests = list.digests().count();
            assert!(digests * PAYLOAD_BYTES_MAX <= PARTED_BYTES_MAX);
            // Parts that are missing, or that nobody sealed, make no payload.
            if digests > 0 {
                assert!(list.join(&place(), &[]).is_err());
                assert!(list.join(&place(), &vec![Vec::new(); digests]).is_err());
            }
            true
        }
        Err(_) => false,
    }
}
