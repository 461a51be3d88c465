//! Preview: what a recipient would get now, record by record.
//!
//! The answer is that of [`decide`] over the consents that count here, with every revocation that
//! is known here, in the circle or not. A revocation counts because it exists, whatever its time
//! says: clocks differ.

use medsync_protocol::decide::{Candidate, Decision, Outcome, Request, decide};
use medsync_protocol::ids::{RecordId, UnixSeconds};
use medsync_protocol::seal::RecordVersion;
use serde::Serialize;

use crate::pipeline::watch::revoked_by_others;
use crate::source::{Consent, ConsentState, Record};
use crate::store::{Store, StoreError};

/// What would become of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The record.
    pub record: RecordId,
    /// Its latest version.
    pub version: u32,
    /// Its FHIR resource type.
    pub resource_type: String,
    /// What is decided, and why; nothing if it cannot be asked about, which is a denial.
    pub decision: Option<Decision>,
}

impl Line {
    /// Whether the recipient would get it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        let decision = self.decision.as_ref();
        decision.is_some_and(|decision| decision.outcome == Outcome::Permit)
    }
}

/// The consents of a circle as `decide` takes them; none of a frozen circle counts.
///
/// # Errors
/// A store that does not answer.
pub async fn candidates(
    store: &Store,
    consents: &[Consent],
    now: UnixSeconds,
) -> Result<Vec<Candidate>, StoreError> {
    let mut candidates = Vec::new();
    for consent in consents {
        if consent.state == ConsentState::Frozen {
            continue;
        }
        // As a custodian decides: what came after its key was changed says nothing.
        if consent.state == ConsentState::OldKey
            && store.opening_of(consent.commitment).await?.is_none()
        {
            continue;
        }
        let handle = consent.opening.handle;
        let is_revoked = consent.revoked_at.is_some()
            || store.revocation(handle).await?.is_some()
            || revoked_by_others(store, handle).await?.is_some();
        candidates.push(Candidate {
            commitment: consent.commitment,
            terms: consent.terms.clone(),
            opening: consent.opening,
            revoked_at: is_revoked.then_some(now),
            is_current: consent.state != ConsentState::OldKey,
        });
    }
    Ok(candidates)
}

/// What would become of each record.
#[must_use]
pub fn preview(request: &Request, candidates: &[Candidate], records: &[Record]) -> Vec<Line> {
    let line = |record: &Record| {
        let RecordVersion(version) = record.version;
        Line {
            record: record.record,
            version,
            resource_type: record.resource_type.clone(),
            decision: decide(request, &record.attributes, candidates).ok(),
        }
    };
    records.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::EntryKey;
    use medsync_protocol::codes::{Code, CodeSet};
    use medsync_protocol::consent::{Commitment, Opening};
    use medsync_protocol::decide::{Attributes, Concept};
    use medsync_protocol::felt::Felt;
    use medsync_protocol::ids::{AddressBytes, ContextId, MemberId, Nonce, Salt, Sha256Digest};
    use medsync_protocol::secrets::Handle;
    use medsync_protocol::signature::PublicKey;
    use medsync_protocol::terms::{Provision, ProvisionKind, TERMS_VERSION, Terms};

    const NOW: UnixSeconds = UnixSeconds(100);

    fn concept(code: &str) -> Concept {
        Concept(vec![Code::new("system", code)])
    }

    fn record(number: u8, codes: Vec<Concept>) -> Record {
        let record = RecordId([number; 32]);
        Record {
            key: EntryKey([number; 32]),
            record,
            version: RecordVersion(1),
            resource_type: "Observation".into(),
            attributes: Attributes {
                classes: vec![concept("Observation")],
                codes,
                record: Some(record),
                ..Attributes::default()
            },
            payload_sha256: Sha256Digest([0; 32]),
            payload_bytes: 0,
            key_for_patient: Vec::new(),
            key_for_custodian: Vec::new(),
            recorded_at: UnixSeconds(0),
        }
    }

    fn candidate(revoked_at: Option<UnixSeconds>) -> Candidate {
        let codes = CodeSet::collect([Code::new("system", "heart")]).expect("short");
        Candidate {
            commitment: Commitment::from_felt(Felt::ONE),
            terms: Terms {
                version: TERMS_VERSION,
                nonce: Nonce([0; 32]),
                context: ContextId([0; 32]),
                custodian_member: MemberId([0; 32]),
                custodian_address: AddressBytes([0; 32]),
                policy_uri: String::new(),
                policy_sha256: Sha256Digest([0; 32]),
                provision: Provision {
                    codes,
                    ..Provision::everything(ProvisionKind::Permit)
                },
                exceptions: Vec::new(),
            },
            opening: Opening {
                patient_key: PublicKey::from_felt(Felt::ONE),
                grantee: PublicKey::from_felt(Felt::TWO),
                not_before: UnixSeconds(0),
                not_after: UnixSeconds(0),
                handle: Handle::from_felt(Felt::ONE),
                salt: Salt::from_felt(Felt::ONE),
            },
            revoked_at,
            is_current: true,
        }
    }

    #[test]
    fn exactly_what_is_covered_would_be_released() {
        let request = Request {
            recipient: PublicKey::from_felt(Felt::TWO),
            purposes: vec![concept("research")],
            understood: CodeSet::default(),
            at: NOW,
        };
        let records = [
            record(1, vec![concept("heart")]),
            record(2, vec![concept("lung")]),
            record(3, Vec::new()),
            record(4, vec![Concept(Vec::new())]),
        ];
        let released = |candidates: &[Candidate], request: &Request| -> Vec<RecordId> {
            preview(request, candidates, &records)
                .iter()
                .filter(|line| line.is_released())
                .map(|line| line.record)
                .collect()
        };
        let all = [candidate(None)];
        assert_eq!(released(&all, &request), [RecordId([1; 32])]);
        assert!(released(&[], &request).is_empty());
        assert!(released(&[candidate(Some(NOW))], &request).is_empty());
        let other = Request {
            recipient: PublicKey::from_felt(Felt::THREE),
            ..request
        };
        assert!(released(&all, &other).is_empty());
    }
}
