//! What an entry says: its body, of which the signed digest binds the SHA-256.
//!
//! Requests, decisions and acknowledgements are entries, so that asking and answering cannot be
//! told apart from having it logged. A body has one encoding (borsh, every set in its one order)
//! and is read back only if it is exactly that.

use alloc::string::String;
use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{EntryDigest, EntryKind};
use crate::codes::CodeSet;
use crate::consent::Commitment;
use crate::ids::{MemberId, RecordId, SealKey, Sha256Digest, UnixSeconds, bytes_newtype};
use crate::secrets::Handle;
use crate::signature::PublicKey;

/// The largest body, in bytes: an entry travels with its context's other writes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// The most records of one permit, release, export or erasure order; more take several.
pub const RECORDS_LEN_MAX: usize = 256;
/// The most consents that one answer is based on.
pub const CONSENTS_LEN_MAX: usize = 64;
/// The longest reason that a person gives, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

bytes_newtype! {
    /// By which name an exchange knows a patient: uniform random, and another in each exchange.
    Pseudonym
}

/// One version of a record.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct RecordRef {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
}

/// Who asks for what. In an exchange the recipient says it; in the circle the custodian repeats
/// it, and names the entry that it answers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The entry in the exchange, where this is the circle's copy of it.
    pub asked_by: Option<EntryDigest>,
    /// The recipient's key, as in a consent's `grantee`.
    pub recipient: PublicKey,
    /// Whose data.
    pub patient: Pseudonym,
    /// For what; at least one.
    pub purposes: CodeSet,
    /// Which classes of records; at least one, or the request is malformed.
    pub classes: CodeSet,
    /// The obligations that the recipient understands and will keep.
    pub understood: CodeSet,
    /// Why, in the recipient's words. Break-glass needs it.
    pub reason: String,
    /// Whether the recipient breaks the glass, which a patient may have allowed.
    pub break_glass: bool,
    /// To whom released keys are sealed: made for this request alone and destroyed when what was
    /// released is erased.
    pub reply_key: SealKey,
}

/// Why a request was denied.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DenialReason {
    /// No consent covers anything that was asked for.
    NoConsent = 0,
    /// A consent forbids all of it.
    Denied = 1,
    /// The request is none: it names no purpose, or a patient that this exchange does not know.
    Malformed = 2,
    /// It was permitted, and is no longer at the moment of release.
    Withdrawn = 3,
    /// The recipient asked about this patient too often; it may ask again tomorrow.
    TooMany = 4,
}

/// Why a recipient has to erase.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ErasureReason {
    /// The consent was revoked.
    Revoked = 0,
    /// The consent is over.
    Expired = 1,
    /// The recovery key replaced the key that had signed the consent.
    Overruled = 2,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A party's keys came into the context.
    Enrolled {
        /// The party's member key.
        member: MemberId,
        /// `patient_key` or `grantee`.
        party_key: PublicKey,
    },
    /// A consent was granted.
    Granted {
        /// The consent.
        consent: Commitment,
    },
    /// A consent was declined.
    Declined {
        /// To whom.
        recipient: PublicKey,
        /// For what.
        purposes: CodeSet,
        /// Why, in the patient's words; may be empty.
        reason: String,
    },
    /// A consent was revoked.
    Revoked {
        /// What was opened.
        handle: Handle,
        /// The consent that takes its place, if one does.
        replaced_by: Option<Commitment>,
    },
    /// Somebody asked for data.
    Requested(Requested),
    /// A request was permitted, as far as the records go.
    Permitted {
        /// The request, in this context.
        request: EntryDigest,
        /// What may be released.
        records: Vec<RecordRef>,
        /// The consents that the answer rests on.
        based_on: Vec<Commitment>,
        /// What the recipient must keep.
        obligations: CodeSet,
    },
    /// A request was denied.
    Denied {
        /// The request, in this context.
        request: EntryDigest,
        /// Why.
        reason: DenialReason,
        /// The consents that the answer rests on.
        based_on: Vec<Commitment>,
    },
    /// Somebody used break-glass.
    BreakGlass {
        /// The request, in this context.
        request: EntryDigest,
        /// The consents that allow it.
        based_on: Vec<Commitment>,
    },
    /// Keys were released.
    Released {
        /// The request, in this context.
        request: EntryDigest,
        /// In an exchange, the entry in the circle, which the sealed keys name.
        logged_as: Option<EntryDigest>,
        /// Whose keys.
        records: Vec<RecordRef>,
        /// The consents that it rests on, at the moment of release.
        based_on: Vec<Commitment>,
    },
    /// Data was exported.
    Exported {
        /// To whom.
        recipient: PublicKey,
        /// What.
        records: Vec<RecordRef>,
        /// When it was begun: the same may be exported again.
        at: UnixSeconds,
    },
    /// A recipient was told to erase.
    EraseOrdered {
        /// The release, in the circle.
        release: EntryDigest,
        /// Why.
        reason: ErasureReason,
    },
    /// Somebody erased: a recipient what it was ordered to, a custodian its own keys to records.
    Erased {
        /// The order, in this context; none for a custodian's own keys.
        order: Option<EntryDigest>,
        /// In a circle, the recipient's own entry in the exchange.
        said_by: Option<EntryDigest>,
        /// Of a custodian's own keys: to which records.
        records: Vec<RecordRef>,
    },
    /// A key was changed.
    KeyChanged {
        /// The key that permits nothing more.
        old_key: PublicKey,
        /// The key that takes its place.
        new_key: PublicKey,
        /// The number of the change.
        seq: u64,
    },
}

/// Why bytes are no body, or a body is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than a body may have.
    #[error("an entry's body has at most {BODY_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// The bytes are not the borsh of a body: truncated, unsorted, doubled, or with bytes left.
    #[error("these bytes are no entry's body: {0}")]
    Malformed(String),
    /// More records than one entry may have.
    #[error("one entry has at most {RECORDS_LEN_MAX} records, this has {0}; write several")]
    TooManyRecords(usize),
    /// More consents than one entry may rest on.
    #[error("one entry rests on at most {CONSENTS_LEN_MAX} consents, this on {0}")]
    TooManyConsents(usize),
    /// Records that are not in their one order, or one that is there twice.
    #[error("an entry's records are sorted and there once")]
    Unsorted,
    /// A reason that is too long.
    #[error("a reason has at most {REASON_BYTES_MAX} bytes, this has {0}")]
    Reason(usize),
}

impl Body {
    /// The kind of an entry with this body.
    #[must_use]
    pub const fn kind(&self) -> EntryKind {
        match self {
            Self::Enrolled { .. } => EntryKind::Enrolled,
            Self::Granted { .. } => EntryKind::Granted,
            Self::Declined { .. } => EntryKind::Declined,
            Self::Revoked { .. } => EntryKind::Revoked,
            Self::Requested(_) => EntryKind::Requested,
            Self::Permitted { .. } => EntryKind::Permitted,
            Self::Denied { .. } => EntryKind::Denied,
            Self::BreakGlass { .. } => EntryKind::BreakGlass,
            Self::Released { .. } => EntryKind::Released,
            Self::Exported { .. } => EntryKind::Exported,
            Self::EraseOrdered { .. } => EntryKind::EraseOrdered,
            Self::Erased { .. } => EntryKind::Erased,
            Self::KeyChanged { .. } => EntryKind::KeyChanged,
        }
    }

    /// The one encoding of this body.
    ///
    /// # Errors
    /// Whatever is beyond its bound or out of order: see [`BodyError`].
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        self.check()?;
        let bytes =
            borsh::to_vec(self).map_err(|error| BodyError::Malformed(alloc::format!("{error}")))?;
        if bytes.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads the one encoding.
    ///
    /// # Errors
    /// Whatever is not exactly what [`Body::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        if bytes.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLong(bytes.len()));
        }
        let body = Self::try_from_slice(bytes)
            .map_err(|error| BodyError::Malformed(alloc::format!("{error}")))?;
        body.check()?;
        Ok(body)
    }

    /// What an entry with this body binds: SHA-256 of the encoding.
    ///
    /// # Errors
    /// As [`Body::encode`].
    pub fn subject(&self) -> Result<Sha256Digest, BodyError> {
        self.encode().map(|bytes| Sha256Digest::of(&bytes))
    }

    fn check(&self) -> Result<(), BodyError> {
        let (records, consents, reason): (&[RecordRef], &[Commitment], &str) = match self {
            Self::Permitted {
                records, based_on, ..
            }
            | Self::Released {
                records, based_on, ..
            } => (records, based_on, ""),
            Self::Denied { based_on, .. } | Self::BreakGlass { based_on, .. } => {
                (&[], based_on, "")
            }
            Self::Exported { records, .. } | Self::Erased { records, .. } => (records, &[], ""),
            Self::Declined { reason, .. } => (&[], &[], reason),
            Self::Requested(requested) => (&[], &[], &requested.reason),
            _ => (&[], &[], ""),
        };
        if records.len() > RECORDS_LEN_MAX {
            return Err(BodyError::TooManyRecords(records.len()));
        }
        if consents.len() > CONSENTS_LEN_MAX {
            return Err(BodyError::TooManyConsents(consents.len()));
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(BodyError::Reason(reason.len()));
        }
        let is_sorted = records.is_sorted_by(|a, b| a < b) && consents.is_sorted_by(|a, b| a < b);
        if is_sorted {
            Ok(())
        } else {
            Err(BodyError::Unsorted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::felt::Felt;
    use proptest::prelude::*;

    fn permitted(records: Vec<RecordRef>) -> Body {
        Body::Permitted {
            request: EntryDigest::from_felt(Felt::ONE),
            records,
            based_on: alloc::vec![Commitment::from_felt(Felt::TWO)],
            obligations: CodeSet::default(),
        }
    }

    fn record(number: u8) -> RecordRef {
        RecordRef {
            record: RecordId([number; 32]),
            version: 1,
        }
    }

    #[test]
    fn a_body_reads_back_and_says_its_kind() {
        let body = permitted(alloc::vec![record(1), record(2)]);
        let bytes = body.encode().expect("sound");
        assert_eq!(Body::decode(&bytes), Ok(body.clone()));
        assert_eq!(body.kind(), EntryKind::Permitted);
        assert_eq!(body.subject(), Ok(Sha256Digest::of(&bytes)));
        // The number of the variant is the number of the kind: the encoding of both is fixed.
        assert_eq!(EntryKind::ALL[usize::from(bytes[0])], EntryKind::Permitted);
    }

    #[test]
    fn each_fault_has_its_own_error() {
        for records in [
            alloc::vec![record(2), record(1)],
            alloc::vec![record(1), record(1)],
        ] {
            assert_eq!(permitted(records).encode(), Err(BodyError::Unsorted));
        }
        let many = permitted(alloc::vec![record(1); RECORDS_LEN_MAX + 1]);
        assert_eq!(
            many.encode(),
            Err(BodyError::TooManyRecords(RECORDS_LEN_MAX + 1))
        );
        let declined = Body::Declined {
            recipient: PublicKey::from_felt(Felt::ONE),
            purposes: CodeSet::default(),
            reason: "x".repeat(REASON_BYTES_MAX + 1),
        };
        assert_eq!(
            declined.encode(),
            Err(BodyError::Reason(REASON_BYTES_MAX + 1))
        );
        let mut bytes = permitted(Vec::new()).encode().expect("sound");
        bytes.push(0);
        assert!(matches!(Body::decode(&bytes), Err(BodyError::Malformed(_))));
        assert!(matches!(Body::decode(&[13]), Err(BodyError::Malformed(_))));
        assert_eq!(
            Body::decode(&alloc::vec![0; BODY_BYTES_MAX + 1]),
            Err(BodyError::TooLong(BODY_BYTES_MAX + 1))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_read_twice_over(bytes: Vec<u8>, kind in 0u8..14) {
            let bytes: Vec<u8> = core::iter::once(kind).chain(bytes).collect();
            if let Ok(body) = Body::decode(&bytes) {
                prop_assert_eq!(body.encode(), Ok(bytes));
            }
        }
    }
}
