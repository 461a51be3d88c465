use super::*;
use crate::felt::Felt;
use core::convert::Infallible;
use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};

/// Repeats one byte, so that the ephemeral key of a test is fixed. Not a random source.
pub(super) struct Fixed(pub(super) u8);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

fn reader() -> SealSecret {
    SealSecret::from_bytes([9; 32])
}

pub(super) fn place() -> SealedFor {
    SealedFor {
        context: ContextId([1; 32]),
        record: RecordId([2; 32]),
        version: RecordVersion(3),
        reader: reader().public_key(),
        log: None,
    }
}

#[test]
fn the_seal_vector_holds() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/seal-v1.json")).expect("JSON");
    let key = RecordKey::from_bytes([7; 32]);
    let with_log = SealedFor {
        log: Some(EntryDigest::from_felt(Felt::from(5))),
        ..place()
    };
    let made = serde_json::json!({
        "reader_key": hex::encode(place().reader.0),
        "sealed_key": hex::encode(key.seal(&place(), &mut Fixed(8)).expect("sealed")),
        "released_key": hex::encode(key.seal(&with_log, &mut Fixed(8)).expect("sealed")),
        "payload": hex::encode(key.encrypt(&place(), b"one observation").expect("short")),
    });
    assert_eq!(vectors["made"], made);
}

#[test]
fn nothing_opens_elsewhere() {
    let key = RecordKey::from_bytes([7; 32]);
    let sealed = key.seal(&place(), &mut Fixed(8)).expect("sealed");
    assert_eq!(
        RecordKey::open(&reader(), &place(), &sealed),
        Ok(key.clone())
    );
    for other in [
        SealedFor {
            context: ContextId([0; 32]),
            ..place()
        },
        SealedFor {
            record: RecordId([0; 32]),
            ..place()
        },
        SealedFor {
            version: RecordVersion(4),
            ..place()
        },
        SealedFor {
            reader: SealKey([0; 32]),
            ..place()
        },
        SealedFor {
            log: Some(EntryDigest::from_felt(Felt::ONE)),
            ..place()
        },
    ] {
        assert_eq!(
            RecordKey::open(&reader(), &other, &sealed),
            Err(SealError::Closed)
        );
    }
    let stranger = SealSecret::from_bytes([10; 32]);
    assert_eq!(
        RecordKey::open(&stranger, &place(), &sealed),
        Err(SealError::Closed)
    );
    assert_eq!(
        RecordKey::open(&reader(), &place(), &sealed[1..]),
        Err(SealError::Length(79))
    );
}

#[test]
fn a_reader_key_of_small_order_is_refused() {
    let key = RecordKey::from_bytes([7; 32]);
    let zero = SealedFor {
        reader: SealKey([0; 32]),
        ..place()
    };
    assert_eq!(key.seal(&zero, &mut Fixed(8)), Err(SealError::ReaderKey));
}

#[test]
fn a_payload_has_a_bound() {
    let key = RecordKey::from_bytes([7; 32]);
    let long = alloc::vec![0; PAYLOAD_BYTES_MAX + 1];
    assert_eq!(
        key.encrypt(&place(), &long),
        Err(SealError::TooLong(PAYLOAD_BYTES_MAX + 1))
    );
}

proptest! {
    // A case here costs as much as many elsewhere.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

    #[test]
    fn payloads_open_unchanged_and_changed_ones_do_not(
        payload in proptest::collection::vec(any::<u8>(), 0..600),
        at: usize,
        bit in 0u8..8,
    ) {
        let key = RecordKey::from_bytes([7; 32]);
        let mut sealed = key.encrypt(&place(), &payload).expect("short");
        prop_assert_eq!(key.decrypt(&place(), &sealed), Ok(payload));
        let at = at % sealed.len();
        sealed[at] ^= 1 << bit;
        prop_assert_eq!(key.decrypt(&place(), &sealed), Err(SealError::Closed));
    }
}
