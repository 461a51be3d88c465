//! The terms of a consent: what a patient allows, in one encoding.
//!
//! The borsh bytes are what the commitment binds (through their SHA-256). They are read back only
//! if they are exactly what writing them gives, so that nobody can hide a second meaning in them.

use alloc::string::String;
use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::codes::{CodeSet, SortedSet};
use crate::ids::{AddressBytes, AuthorId, ContextId, MemberId, Nonce, RecordId, Sha256Digest};

/// The version of the encoding that this crate writes and reads.
pub const TERMS_VERSION: u8 = 1;
/// The largest encoding, in bytes.
pub const TERMS_BYTES_MAX: usize = 16 * 1024;
/// The most exceptions.
pub const EXCEPTIONS_LEN_MAX: usize = 32;
/// The longest policy URI, in bytes.
pub const POLICY_URI_BYTES_MAX: usize = 1024;

/// Whether a provision forbids or allows what it covers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ProvisionKind {
    /// What it covers is forbidden.
    Deny = 0,
    /// What it covers is allowed.
    Permit = 1,
}

/// One rule: a kind and the dimensions that say what it covers. An empty dimension restricts
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// Forbids or allows.
    pub kind: ProvisionKind,
    /// For what the data may be used (PurposeOfUse, DUO).
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub purposes: CodeSet,
    /// Resource types and classes.
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub classes: CodeSet,
    /// Clinical codes.
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub codes: CodeSet,
    /// Security labels.
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub labels: CodeSet,
    /// Who made the record.
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub authors: SortedSet<AuthorId>,
    /// Single records.
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub records: SortedSet<RecordId>,
    /// The data's own dates, `[from, to)` in unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_period: Option<(u64, u64)>,
    /// What the recipient must do or leave.
    #[serde(default, skip_serializing_if = "SortedSet::is_empty")]
    pub obligations: CodeSet,
}

/// The terms of one consent.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The encoding's version; 1.
    #[serde(default = "current_version")]
    pub version: u8,
    /// Makes these terms unlike any others.
    pub nonce: Nonce,
    /// The circle that the consent belongs to.
    pub context: ContextId,
    /// The custodian's member key in it.
    pub custodian_member: MemberId,
    /// The custodian's Starknet address, under which the consent is anchored.
    pub custodian_address: AddressBytes,
    /// Where the policy's text is found.
    pub policy_uri: String,
    /// SHA-256 of the policy's text.
    pub policy_sha256: Sha256Digest,
    /// The rule.
    pub provision: Provision,
    /// The exceptions from it.
    pub exceptions: Vec<Provision>,
}

fn current_version() -> u8 {
    TERMS_VERSION
}

/// Why bytes or values are not terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum TermsError {
    /// More bytes than terms may have.
    #[error("terms have at most {TERMS_BYTES_MAX} bytes, these have {0}")]
    TooLong(usize),
    /// The bytes are not the borsh of terms: truncated, unsorted, doubled, or with bytes left.
    #[error("these bytes are not terms: {0}")]
    Malformed(String),
    /// Another version of the encoding.
    #[error("terms have version {TERMS_VERSION}, these have {0}")]
    Version(u8),
    /// More exceptions than terms may have.
    #[error("terms have at most {EXCEPTIONS_LEN_MAX} exceptions, these have {0}")]
    TooManyExceptions(usize),
    /// The policy's URI is too long.
    #[error("a policy URI has at most {POLICY_URI_BYTES_MAX} bytes, this has {0}")]
    PolicyUri(usize),
    /// A data period that ends before it starts.
    #[error("a data period is [from, to) with from before to")]
    DataPeriod,
    /// The custodian's address is no felt, or zero.
    #[error("the custodian's address is a Starknet address, not zero")]
    Address,
}

impl Provision {
    /// A rule of a kind that covers everything.
    #[must_use]
    pub fn everything(kind: ProvisionKind) -> Self {
        Self {
            kind,
            purposes: CodeSet::default(),
            classes: CodeSet::default(),
            codes: CodeSet::default(),
            labels: CodeSet::default(),
            authors: SortedSet::default(),
            records: SortedSet::default(),
            data_period: None,
            obligations: CodeSet::default(),
        }
    }
}

impl Terms {
    /// The one encoding of these terms.
    ///
    /// # Errors
    /// Whatever makes them unfit to be signed: see [`TermsError`].
    pub fn encode(&self) -> Result<Vec<u8>, TermsError> {
        self.check()?;
        let bytes =
            borsh::to_vec(self).map_err(|e| TermsError::Malformed(alloc::format!("{e}")))?;
        if bytes.len() > TERMS_BYTES_MAX {
            return Err(TermsError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads the one encoding.
    ///
    /// # Errors
    /// Whatever is not exactly what [`Terms::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        if bytes.len() > TERMS_BYTES_MAX {
            return Err(TermsError::TooLong(bytes.len()));
        }
        // The version stands first, so that later encodings get a clear answer.
        match bytes.first() {
            Some(&TERMS_VERSION) => {}
            Some(&version) => return Err(TermsError::Version(version)),
            None => return Err(TermsError::Malformed("no bytes".into())),
        }
        let terms = Self::try_from_slice(bytes)
            .map_err(|e| TermsError::Malformed(alloc::format!("{e}")))?;
        terms.check()?;
        Ok(terms)
    }

    /// SHA-256 of the encoding, which the commitment binds.
    ///
    /// # Errors
    /// As [`Terms::encode`].
    pub fn digest(&self) -> Result<Sha256Digest, TermsError> {
        self.encode().map(|bytes| Sha256Digest::of(&bytes))
    }

    /// Whether any of the rules allows anything. What those that forbid leave of it is for
    /// `decide` to say, of each request.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.rules().any(|rule| rule.kind == ProvisionKind::Permit)
    }

    /// The root and its exceptions, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Provision> {
        core::iter::once(&self.provision).chain(&self.exceptions)
    }

    fn check(&self) -> Result<(), TermsError> {
        if self.version != TERMS_VERSION {
            return Err(TermsError::Version(self.version));
        }
        if self.exceptions.len() > EXCEPTIONS_LEN_MAX {
            return Err(TermsError::TooManyExceptions(self.exceptions.len()));
        }
        if self.policy_uri.len() > POLICY_URI_BYTES_MAX {
            return Err(TermsError::PolicyUri(self.policy_uri.len()));
        }
        let mut rules = core::iter::once(&self.provision).chain(&self.exceptions);
        if rules.any(|rule| rule.data_period.is_some_and(|(from, to)| from >= to)) {
            return Err(TermsError::DataPeriod);
        }
        match crate::felt::from_bytes(&self.custodian_address.0) {
            Ok(address) if address != crate::felt::Felt::ZERO => Ok(()),
            _ => Err(TermsError::Address),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codes::Code;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Terms {
        let mut provision = Provision::everything(ProvisionKind::Permit);
        provision.purposes =
            CodeSet::collect([Code::new("act", "HRESCH")]).expect("one short code");
        Terms {
            version: TERMS_VERSION,
            nonce: Nonce([1; 32]),
            context: ContextId([2; 32]),
            custodian_member: MemberId([3; 32]),
            custodian_address: AddressBytes([4; 32]),
            policy_uri: "https://example.org/policy".into(),
            policy_sha256: Sha256Digest([5; 32]),
            provision,
            exceptions: Vec::new(),
        }
    }

    #[test]
    fn terms_read_back_as_written() {
        let bytes = sample().encode().expect("the sample is sound");
        assert_eq!(Terms::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn terms_permit_if_any_of_their_rules_does() {
        let mut terms = sample();
        assert!(terms.permits());
        terms.provision.kind = ProvisionKind::Deny;
        assert!(!terms.permits());
        for (kind, permits) in [(ProvisionKind::Deny, false), (ProvisionKind::Permit, true)] {
            terms.exceptions.push(Provision::everything(kind));
            assert_eq!(terms.permits(), permits);
        }
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let bytes = sample().encode().expect("the sample is sound");
        assert!(matches!(
            Terms::decode(&bytes[..40]),
            Err(TermsError::Malformed(_))
        ));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(
            Terms::decode(&longer),
            Err(TermsError::Malformed(_))
        ));
        assert_eq!(Terms::decode(&[2]), Err(TermsError::Version(2)));
        let huge = alloc::vec![1; TERMS_BYTES_MAX + 1];
        assert_eq!(
            Terms::decode(&huge),
            Err(TermsError::TooLong(TERMS_BYTES_MAX + 1))
        );
        let broken = |change: fn(&mut Terms)| {
            let mut terms = sample();
            change(&mut terms);
            terms.encode()
        };
        assert_eq!(broken(|t| t.version = 2), Err(TermsError::Version(2)));
        assert_eq!(
            broken(|t| t.provision.data_period = Some((5, 5))),
            Err(TermsError::DataPeriod)
        );
        assert_eq!(
            broken(|t| t.custodian_address.0 = [0; 32]),
            Err(TermsError::Address)
        );
        assert_eq!(
            broken(|t| t.custodian_address.0 = [255; 32]),
            Err(TermsError::Address)
        );
        assert_eq!(
            broken(|t| t.policy_uri = "x".repeat(1025)),
            Err(TermsError::PolicyUri(1025))
        );
        assert_eq!(
            broken(|t| t.exceptions = alloc::vec![t.provision.clone(); 33]),
            Err(TermsError::TooManyExceptions(33))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_read_twice_over(bytes: Vec<u8>) {
            if let Ok(terms) = Terms::decode(&bytes) {
                prop_assert_eq!(terms.encode(), Ok(bytes));
            }
        }

        #[test]
        fn a_flipped_bit_is_refused_or_other_terms(at in 0usize..200, bit in 0u8..8) {
            let mut bytes = sample().encode().expect("the sample is sound");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(terms) = Terms::decode(&bytes) {
                prop_assert_ne!(&terms, &sample());
                prop_assert_eq!(terms.encode(), Ok(bytes));
            }
        }
    }
}
