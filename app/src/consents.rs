//! Consents: granted by a signature, whoever wrote it down.
//!
//! A consent counts if its terms name this circle, its key is the enrolled one and its signature
//! verifies. The same checks run when it is written and whenever it is read, because a hostile
//! member's node can skip the first.
//!
//! The same consent can be written down more than once, also with the twin of its signature. One
//! copy is shown: one whose signature is in a batch before others, then the smallest key.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{AddressBytes, Anchorer, Salt, Sha256Digest, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::Leaf;

use crate::abi::{ConsentPage, ConsentView, Granted, OpeningInput, SignatureInput};
use crate::anchors::{self, Position};
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::{POSITIONS_SHOWN_MAX, TERMS_TEXT_BYTES_MAX};
use crate::members::{Circle, Members};
use crate::paging::Page;
use crate::refusal::Refusal;
use crate::revocations;
use crate::store::{self, Key};
use crate::text::{
    base64, load_signature, read, read_base64, read_signature, signature, store_signature,
    StoredSignature,
};

/// A consent whose terms are this circle's; its signature is yet to be checked.
#[derive(Clone, Debug)]
pub struct Consent {
    /// The terms' borsh.
    pub terms: Vec<u8>,
    /// What the commitment hides.
    pub opening: Opening,
    /// The patient's signature.
    pub signature: Signature,
    /// The consent's name.
    pub commitment: Commitment,
}

impl Consent {
    /// Puts a consent together and checks everything about it but key and signature.
    ///
    /// # Errors
    /// Terms or an opening that cannot be a consent's, or that belong elsewhere.
    pub fn bind(
        circle: &Circle,
        terms: Vec<u8>,
        opening: Opening,
        signature: Signature,
    ) -> Result<Self, Refusal> {
        let decoded = Terms::decode(&terms)?;
        opening.check()?;
        if decoded.context != circle.context {
            return Err(Refusal::OtherContext {
                terms: decoded.context,
                here: circle.context,
            });
        }
        if decoded.custodian_member != circle.custodian_member {
            let (terms, here) = (decoded.custodian_member, circle.custodian_member);
            return Err(Refusal::OtherCustodian { terms, here });
        }
        if decoded.custodian_address != AddressBytes::of(circle.anchorer) {
            let other = Anchorer::from_bytes(&decoded.custodian_address.0)
                .map_or_else(|error| error.to_string(), |address| address.to_string());
            return Err(Refusal::OtherAnchorer {
                other,
                here: circle.anchorer,
            });
        }
        let commitment = Commitment::of(Sha256Digest::of(&terms), circle.anchorer, &opening);
        Ok(Self {
            terms,
            opening,
            signature,
            commitment,
        })
    }

    /// Checks key and signature.
    ///
    /// # Errors
    /// Nobody's key, or a signature that is not that key's over this consent.
    pub fn check_signature(&self, circle: &Circle, members: &Members) -> Result<(), Refusal> {
        let patient_key = self.opening.patient_key;
        if !members.has_patient_key(patient_key) {
            return Err(Refusal::ForeignKey);
        }
        let message = self.commitment.grant_message(circle.registry);
        if patient_key.verifies(message, &self.signature) {
            Ok(())
        } else {
            Err(Refusal::GrantSignature)
        }
    }

    fn leaf(&self) -> Leaf {
        self.commitment.leaf(&self.signature)
    }
}

#[derive(BorshSerialize, BorshDeserialize)]
struct ConsentBody {
    terms: Vec<u8>,
    patient_key: [u8; 32],
    grantee: [u8; 32],
    not_before: u64,
    not_after: u64,
    handle: [u8; 32],
    salt: [u8; 32],
    signature: StoredSignature,
    recorded_at: u64,
}

impl ConsentBody {
    fn read(self, circle: &Circle) -> Option<Consent> {
        let opening = Opening {
            patient_key: PublicKey::from_bytes(&self.patient_key).ok()?,
            grantee: PublicKey::from_bytes(&self.grantee).ok()?,
            not_before: UnixSeconds(self.not_before),
            not_after: UnixSeconds(self.not_after),
            handle: Handle::from_bytes(&self.handle).ok()?,
            salt: Salt::from_bytes(&self.salt).ok()?,
        };
        let signature = load_signature(&self.signature)?;
        Consent::bind(circle, self.terms, opening, signature).ok()
    }
}

/// The shard of everything that goes by this handle.
pub fn shard_of(kind: Kind, handle: Handle) -> Shard {
    kind.shard_of(&handle.to_bytes())
}

fn load_consent(circle: &Circle, shard: Shard, key: Key) -> Option<(Consent, UnixSeconds)> {
    let body: ConsentBody = store::load(key)?.decode()?;
    let recorded_at = UnixSeconds(body.recorded_at);
    let consent = body.read(circle)?;
    // A consent in another shard than its handle's would miss its own revocation.
    (shard_of(Kind::Consents, consent.opening.handle) == shard).then_some((consent, recorded_at))
}

/// What is kept of each copy while a shard is looked at; terms are dropped again.
struct Seen {
    key: Key,
    handle: Handle,
    patient_key: PublicKey,
    commitment: Commitment,
    signature: Signature,
}

/// One shard's consents with everything that bears on them.
pub struct ConsentShard<'a> {
    circle: &'a Circle,
    members: &'a Members,
    shard: Shard,
    seen: Vec<Seen>,
    revoked: revocations::Revoked,
    positions: Vec<Position>,
}

impl<'a> ConsentShard<'a> {
    /// Reads a shard of consents, and those of revocations and anchors that belong to it.
    pub fn load(circle: &'a Circle, members: &'a Members, shard: Shard) -> Self {
        let mut seen = Vec::new();
        for (key, _) in store::keys(Kind::Consents, shard) {
            if let Some((consent, _)) = load_consent(circle, shard, key) {
                seen.push(Seen {
                    key,
                    handle: consent.opening.handle,
                    patient_key: consent.opening.patient_key,
                    commitment: consent.commitment,
                    signature: consent.signature,
                });
            }
        }
        let leaves: Vec<(Commitment, Leaf)> = seen
            .iter()
            .map(|copy| (copy.commitment, copy.commitment.leaf(&copy.signature)))
            .collect();
        let positions = anchors::positions(circle, members, shard, &leaves);
        Self {
            circle,
            members,
            shard,
            seen,
            revoked: revocations::in_shard(shard),
            positions,
        }
    }

    fn verifies(&self, copy: &Seen) -> bool {
        self.members.has_patient_key(copy.patient_key)
            && copy.patient_key.verifies(
                copy.commitment.grant_message(self.circle.registry),
                &copy.signature,
            )
    }

    /// The less, the sooner it is shown.
    fn rank(&self, copy: &Seen) -> (bool, Key) {
        let leaf = copy.commitment.leaf(&copy.signature);
        (
            !self.positions.iter().any(|position| position.leaf == leaf),
            copy.key,
        )
    }

    /// The copy of a consent that is shown, if one verifies.
    fn shown(&self, commitment: Commitment) -> Option<&Seen> {
        let mut copies: Vec<&Seen> = self
            .seen
            .iter()
            .filter(|copy| copy.commitment == commitment)
            .collect();
        copies.sort_by_key(|copy| self.rank(copy));
        copies.into_iter().find(|copy| self.verifies(copy))
    }

    /// The signatures of this consent that verify, and so the leaves by which it can be anchored.
    pub fn leaves(&self, commitment: Commitment) -> Vec<Leaf> {
        self.seen
            .iter()
            .filter(|copy| copy.commitment == commitment && self.verifies(copy))
            .map(|copy| copy.commitment.leaf(&copy.signature))
            .collect()
    }

    /// The positions of this shard's consents.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// As the interface shows an entry; nothing if it does not count or another copy is shown.
    pub fn view(&self, key: Key, now: UnixSeconds) -> Option<ConsentView> {
        let commitment = self.seen.iter().find(|copy| copy.key == key)?.commitment;
        if self.shown(commitment)?.key != key {
            return None;
        }
        let (consent, recorded_at) = load_consent(self.circle, self.shard, key)?;
        let leaf = consent.leaf();
        let revoked_at = self.revoked.at(consent.opening.handle);
        let state = state(revoked_at, self.members.is_frozen(), &consent.opening, now);
        let mut anchors: Vec<&Position> = self
            .positions
            .iter()
            .filter(|position| position.leaf == leaf)
            .collect();
        anchors.sort_by_key(|position| std::cmp::Reverse(position.rank()));
        anchors.truncate(POSITIONS_SHOWN_MAX);
        Some(ConsentView {
            key: key.to_string(),
            commitment: consent.commitment.to_string(),
            terms: base64(&consent.terms),
            opening: opening_view(&consent.opening),
            signature: signature(&consent.signature),
            state: state.into(),
            recorded_at: recorded_at.0,
            revoked_at: revoked_at.map(|at| at.0),
            anchors: anchors
                .into_iter()
                .map(|position| position.view(self.circle))
                .collect(),
        })
    }

    /// The shown entry of a consent, as the interface shows it.
    pub fn view_of(&self, commitment: Commitment, now: UnixSeconds) -> Option<ConsentView> {
        self.view(self.shown(commitment)?.key, now)
    }
}

/// The state of a consent that counts: the first that applies. Revocation comes first, whatever
/// else is the case and in whatever order things arrived.
#[must_use]
pub fn state(
    revoked_at: Option<UnixSeconds>,
    frozen: bool,
    opening: &Opening,
    now: UnixSeconds,
) -> &'static str {
    if revoked_at.is_some() {
        "revoked"
    } else if frozen {
        "frozen"
    } else if now < opening.not_before {
        "not_yet"
    } else if opening.is_current(now) {
        "in_force"
    } else {
        "expired"
    }
}

/// Grants a consent.
pub fn grant(
    terms: &str,
    opening: &OpeningInput,
    signature: &SignatureInput,
) -> Result<Granted, Refusal> {
    let terms = read_base64("terms", terms, TERMS_TEXT_BYTES_MAX)?;
    let opening = read_opening(opening)?;
    let signature = read_signature(signature)?;
    let circle = Circle::load()?;
    let members = Members::load(&circle);
    members.patient()?;
    let consent = Consent::bind(&circle, terms, opening, signature)?;
    consent.check_signature(&circle, &members)?;

    let shard = shard_of(Kind::Consents, opening.handle);
    let others = ConsentShard::load(&circle, &members, shard);
    let commitment = consent.commitment;
    let granted = |key: Key, existing| Granted {
        key: key.to_string(),
        commitment: commitment.to_string(),
        existing,
    };
    if let Some(same) = others.shown(commitment) {
        return Ok(granted(same.key, true));
    }
    let now = host::now();
    if opening.not_after.0 != 0 && opening.not_after <= now {
        return Err(Refusal::AlreadyOver {
            not_after: opening.not_after,
            now,
        });
    }
    if others.revoked.at(opening.handle).is_some() {
        return Err(Refusal::HandleRevoked);
    }
    let mut same_handle = others
        .seen
        .iter()
        .filter(|other| other.handle == opening.handle);
    if same_handle.any(|other| others.verifies(other)) {
        return Err(Refusal::HandleUsed);
    }
    let body = ConsentBody {
        terms: consent.terms,
        patient_key: opening.patient_key.to_bytes(),
        grantee: opening.grantee.to_bytes(),
        not_before: opening.not_before.0,
        not_after: opening.not_after.0,
        handle: opening.handle.to_bytes(),
        salt: opening.salt.to_bytes(),
        signature: store_signature(&signature),
        recorded_at: now.0,
    };
    Ok(granted(store::insert(Kind::Consents, shard, &body)?, false))
}

/// A page of the consents that count.
pub fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<ConsentPage, Refusal> {
    let page = Page::read(cursor, limit)?;
    let circle = Circle::load()?;
    let members = Members::load(&circle);
    let now = host::now();
    let (places, next) = page.walk(&[Kind::Consents]);
    let mut answer = ConsentPage {
        consents: Vec::new(),
        ignored: 0,
        next,
    };
    let mut open: Option<ConsentShard<'_>> = None;
    for (place, _) in places {
        let shard = match open.take() {
            Some(shard) if shard.shard == place.shard => open.insert(shard),
            _ => open.insert(ConsentShard::load(&circle, &members, place.shard)),
        };
        match shard.view(place.key, now) {
            Some(view) => answer.consents.push(view),
            None => answer.ignored += 1,
        }
    }
    Ok(answer)
}

fn read_opening(input: &OpeningInput) -> Result<Opening, Refusal> {
    Ok(Opening {
        patient_key: read("opening.patient_key", &input.patient_key)?,
        grantee: read("opening.grantee", &input.grantee)?,
        not_before: UnixSeconds(input.not_before),
        not_after: UnixSeconds(input.not_after),
        handle: read("opening.handle", &input.handle)?,
        salt: read("opening.salt", &input.salt)?,
    })
}

fn opening_view(opening: &Opening) -> OpeningInput {
    OpeningInput {
        patient_key: opening.patient_key.to_string(),
        grantee: opening.grantee.to_string(),
        not_before: opening.not_before.0,
        not_after: opening.not_after.0,
        handle: opening.handle.to_string(),
        salt: opening.salt.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::felt::Felt;

    fn opening(not_before: u64, not_after: u64) -> Opening {
        Opening {
            patient_key: PublicKey::from_felt(Felt::ONE),
            grantee: PublicKey::from_felt(Felt::TWO),
            not_before: UnixSeconds(not_before),
            not_after: UnixSeconds(not_after),
            handle: Handle::from_felt(Felt::THREE),
            salt: Salt::from_felt(Felt::ZERO),
        }
    }

    #[test]
    fn the_state_is_the_first_that_applies() {
        let validity = opening(10, 20);
        let at = |now| state(None, false, &validity, UnixSeconds(now));
        assert_eq!(
            [9, 10, 19, 20].map(at),
            ["not_yet", "in_force", "in_force", "expired"]
        );
        assert_eq!(
            state(None, false, &opening(10, 0), UnixSeconds(u64::MAX)),
            "in_force"
        );
        for now in [9, 10, 20] {
            let revoked = Some(UnixSeconds(15));
            assert_eq!(state(None, true, &validity, UnixSeconds(now)), "frozen");
            assert_eq!(
                state(revoked, false, &validity, UnixSeconds(now)),
                "revoked"
            );
            assert_eq!(state(revoked, true, &validity, UnixSeconds(now)), "revoked");
        }
    }

    #[test]
    fn everything_about_a_handle_is_in_one_shard() {
        for byte in 0..=u8::MAX {
            let handle = Handle::from_felt(Felt::from(byte));
            let shard = shard_of(Kind::Consents, handle);
            assert_eq!(shard, shard_of(Kind::Revocations, handle));
            assert_eq!(shard, shard_of(Kind::Anchors, handle));
        }
    }
}
