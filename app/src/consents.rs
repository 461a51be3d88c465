//! Consents: granted by a signature, whoever wrote it down.
//!
//! A consent counts if its terms name this circle, its key is the enrolled one and its signature
//! verifies. The same checks run when it is written and whenever it is read, because a hostile
//! member's node can skip the first.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{
    AddressBytes, Anchorer, ContextKind, MemberId, Salt, Sha256Digest, UnixSeconds,
};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::terms::Terms;

use crate::abi::{OpeningInput, SignatureInput, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::{COPIES_MAX, TERMS_TEXT_BYTES_MAX};
use crate::members::Members;
use crate::refusal::Refusal;
use crate::standing::Standing;
use crate::store::{self, Key};
use crate::text::{
    load_signature, read, read_base64, read_signature, store_signature, StoredSignature,
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
        if !members.is_current_key(patient_key) {
            return Err(Refusal::OldKey);
        }
        let message = self.commitment.grant_message(circle.registry);
        if patient_key.verifies(message, &self.signature) {
            Ok(())
        } else {
            Err(Refusal::GrantSignature)
        }
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

/// A consent as it was written down.
pub struct Found {
    /// The consent.
    pub consent: Consent,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
    /// Who wrote it.
    pub writer: Option<MemberId>,
}

/// Whether an entry says that it is of this handle.
pub fn is_of(handle: Handle, key: Key) -> bool {
    store::peek(key).is_some_and(|body: ConsentBody| body.handle == handle.to_bytes())
}

/// One consent, if it is there and may count.
pub fn load(circle: &Circle, shard: Shard, key: Key) -> Option<Found> {
    let stored = store::load(key)?;
    let body: ConsentBody = stored.decode()?;
    let recorded_at = UnixSeconds(body.recorded_at);
    let consent = body.read(circle)?;
    // A consent in another shard than its handle's would miss its own revocation.
    (shard_of(Kind::Consents, consent.opening.handle) == shard).then(|| Found {
        consent,
        recorded_at,
        writer: stored.owner(),
    })
}

/// Grants a consent: it is written down as often as [`store::enough`] says.
pub fn grant(
    terms: &str,
    opening: &OpeningInput,
    signature: &SignatureInput,
    copies: Option<u32>,
) -> Result<(Written, Commitment), Refusal> {
    let terms = read_base64("terms", terms, TERMS_TEXT_BYTES_MAX)?;
    let opening = read_opening(opening)?;
    let signature = read_signature(signature)?;
    let circle = Circle::load_as(ContextKind::Circle)?;
    let members = Members::load(&circle);
    members.patient()?;
    let consent = Consent::bind(&circle, terms, opening, signature)?;
    consent.check_signature(&circle, &members)?;

    let shard = shard_of(Kind::Consents, opening.handle);
    let others = Standing::of_handle(&circle, &members, opening.handle);
    let commitment = consent.commitment;
    let there = others.copies_of(commitment);
    let copies = copies.unwrap_or(1).min(COPIES_MAX);
    if let Some(key) = store::enough(&there, copies) {
        return Ok((Written::there(key), commitment));
    }
    let (now, not_after) = (host::now(), opening.not_after);
    if not_after.0 != 0 && not_after <= now {
        return Err(Refusal::AlreadyOver { not_after, now });
    }
    if there.is_empty() {
        others.check_free(opening.handle)?;
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
    let key = store::insert_copy(Kind::Consents, shard, &there, &body)?;
    Ok((Written::new(key), commitment))
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
/// SHA-256 of the keys and digests of all revocations and consents, valid or not, in the walk's
/// order. Readers that took them all in need not read them again while it is the same.
pub fn digest_of_all() -> Sha256Digest {
    let mut all = Vec::new();
    for kind in [Kind::Revocations, Kind::Consents] {
        for (key, digest) in kind.all_shards().flat_map(|shard| store::keys(kind, shard)) {
            all.extend(key.0);
            all.extend(digest.0);
        }
    }
    Sha256Digest::of(&all)
}
