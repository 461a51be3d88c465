//! The circle itself and who belongs to it: what the custodian pinned, and who enrolled.
//!
//! An enrolment counts if the invitation's one-time key signed it, whoever wrote it down. Two
//! different ones mean that the key was used twice, by the custodian or by a thief: nobody can
//! say which patient is the right one, so that the circle freezes and no consent counts.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::consent::Registry;
use medsync_protocol::ids::{
    Anchorer, ChainId, ContextId, ContractAddress, MemberId, SealKey, UnixSeconds,
};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::signature::{PublicKey, Signature};

use crate::abi::{CircleInput, EnrolmentInput, EnrolmentView, SignatureInput, Written};
use crate::host;
use crate::layout::{Kind, Shard};
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{load_signature, read, read_signature, store_signature, StoredSignature};

/// What the custodian pinned at init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// This context.
    pub context: ContextId,
    /// Who called init.
    pub custodian_member: MemberId,
    /// The public half of the invitation's one-time key.
    pub invitation_key: PublicKey,
    /// Under which address consents are anchored.
    pub anchorer: Anchorer,
    /// The custodian's key for log entries.
    pub author_key: PublicKey,
    /// The custodian's sealing key.
    pub seal_key: SealKey,
    /// Chain and contract.
    pub registry: Registry,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct CircleBody {
    context: [u8; 32],
    custodian_member: [u8; 32],
    invitation_key: [u8; 32],
    anchorer: [u8; 32],
    author_key: [u8; 32],
    seal_key: [u8; 32],
    chain_id: [u8; 32],
    registry: [u8; 32],
}

impl Circle {
    /// Reads the arguments of init.
    ///
    /// # Errors
    /// Whatever is not written as it should be, or zero.
    pub fn read(
        input: &CircleInput,
        custodian: MemberId,
        here: ContextId,
    ) -> Result<Self, Refusal> {
        let circle = Self {
            context: here,
            custodian_member: custodian,
            invitation_key: read("invitation_key", &input.invitation_key)?,
            anchorer: read("custodian_address", &input.custodian_address)?,
            author_key: read("author_key", &input.author_key)?,
            seal_key: read("seal_key", &input.seal_key)?,
            registry: Registry {
                chain_id: read("chain_id", &input.chain_id)?,
                registry: read("registry", &input.registry)?,
            },
        };
        for (field, zero) in [
            ("invitation_key", circle.invitation_key.is_zero()),
            ("custodian_address", circle.anchorer.is_zero()),
            ("author_key", circle.author_key.is_zero()),
            ("chain_id", circle.registry.chain_id.is_zero()),
            ("registry", circle.registry.registry.is_zero()),
        ] {
            if zero {
                return Err(Refusal::malformed(field, "not zero"));
            }
        }
        Ok(circle)
    }

    /// Writes the circle down, once, when the custodian is its only member.
    pub fn store(&self) -> Result<Key, Refusal> {
        let body = CircleBody {
            context: self.context.0,
            custodian_member: self.custodian_member.0,
            invitation_key: self.invitation_key.to_bytes(),
            anchorer: self.anchorer.to_bytes(),
            author_key: self.author_key.to_bytes(),
            seal_key: self.seal_key.0,
            chain_id: self.registry.chain_id.to_bytes(),
            registry: self.registry.registry.to_bytes(),
        };
        store::insert_fixed(Kind::Circle, &body)
    }

    /// The circle of this context.
    ///
    /// # Errors
    /// [`Refusal::CircleBroken`] unless the custodian's own entry for this context is there.
    /// A newcomer compares what it says with the invitation file.
    pub fn load() -> Result<Self, Refusal> {
        Self::load_entry(host::context()).ok_or(Refusal::CircleBroken)
    }

    fn load_entry(here: ContextId) -> Option<Self> {
        let stored = store::load(Key(*Kind::Circle.fixed_entry_id().as_bytes()))?;
        let body: CircleBody = stored.decode()?;
        let owned = stored.owner == Some(MemberId(body.custodian_member));
        if !owned || body.context != here.0 {
            return None;
        }
        Some(Self {
            context: here,
            custodian_member: MemberId(body.custodian_member),
            invitation_key: PublicKey::from_bytes(&body.invitation_key).ok()?,
            anchorer: Anchorer::from_bytes(&body.anchorer).ok()?,
            author_key: PublicKey::from_bytes(&body.author_key).ok()?,
            seal_key: SealKey(body.seal_key),
            registry: Registry {
                chain_id: ChainId::from_bytes(&body.chain_id).ok()?,
                registry: ContractAddress::from_bytes(&body.registry).ok()?,
            },
        })
    }

    /// The arguments of init again.
    #[must_use]
    pub fn to_input(&self) -> CircleInput {
        CircleInput {
            invitation_key: self.invitation_key.to_string(),
            custodian_address: self.anchorer.to_string(),
            author_key: self.author_key.to_string(),
            seal_key: self.seal_key.to_string(),
            chain_id: self.registry.chain_id.to_string(),
            registry: self.registry.registry.to_string(),
        }
    }

    /// Whether an enrolment is one of this circle's, by its content alone.
    ///
    /// # Errors
    /// The custodian as its own patient, or a signature that is not the invitation's.
    pub fn admit(&self, enrolment: &Enrolment, signature: &Signature) -> Result<(), Refusal> {
        if enrolment.member == self.custodian_member {
            return Err(Refusal::CustodianEnrols);
        }
        if !enrolment.is_signed(self.context, self.invitation_key, signature) {
            return Err(Refusal::EnrolmentSignature);
        }
        Ok(())
    }
}

#[derive(BorshSerialize, BorshDeserialize)]
struct EnrolmentBody {
    member: [u8; 32],
    party_key: [u8; 32],
    recovery_key: [u8; 32],
    login_key: [u8; 32],
    author_key: [u8; 32],
    seal_key: [u8; 32],
    signature: StoredSignature,
    recorded_at: u64,
}

impl EnrolmentBody {
    fn read(&self) -> Option<(Enrolment, Signature)> {
        let enrolment = Enrolment {
            member: MemberId(self.member),
            party_key: PublicKey::from_bytes(&self.party_key).ok()?,
            recovery_key: PublicKey::from_bytes(&self.recovery_key).ok()?,
            login_key: PublicKey::from_bytes(&self.login_key).ok()?,
            author_key: PublicKey::from_bytes(&self.author_key).ok()?,
            seal_key: SealKey(self.seal_key),
        };
        Some((enrolment, load_signature(&self.signature)?))
    }
}

/// A valid enrolment and its entry.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The entry.
    pub key: Key,
    /// The patient's keys.
    pub enrolment: Enrolment,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
}

/// Everybody who enrolled: one, unless somebody cheats.
pub struct Members {
    /// The valid enrolments, each content once.
    pub enrolled: Vec<Enrolled>,
    /// Entries that do not verify or repeat another.
    pub ignored: u64,
}

const ONLY_SHARD: Shard = Shard(0);

impl Members {
    /// Reads and checks every enrolment.
    #[must_use]
    pub fn load(circle: &Circle) -> Self {
        let mut members = Self {
            enrolled: Vec::new(),
            ignored: 0,
        };
        for (key, _) in store::keys(Kind::Enrolments, ONLY_SHARD) {
            match load_enrolment(circle, key) {
                Some(enrolled) if !members.has(&enrolled.enrolment) => {
                    members.enrolled.push(enrolled);
                }
                _ => members.ignored += 1,
            }
        }
        members
    }

    fn has(&self, enrolment: &Enrolment) -> bool {
        self.enrolled
            .iter()
            .any(|enrolled| enrolled.enrolment == *enrolment)
    }

    /// Whether no consent counts any more.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.enrolled.len() > 1
    }

    /// The one patient.
    ///
    /// # Errors
    /// Nobody is enrolled, or the circle is frozen.
    pub fn patient(&self) -> Result<&Enrolled, Refusal> {
        match self.enrolled.as_slice() {
            [] => Err(Refusal::NotEnrolled),
            [patient] => Ok(patient),
            _ => Err(Refusal::Frozen),
        }
    }

    /// Whether somebody enrolled with this key. In a frozen circle a consent is still shown, and
    /// shown as frozen, under any of them.
    #[must_use]
    pub fn has_patient_key(&self, key: PublicKey) -> bool {
        self.enrolled
            .iter()
            .any(|enrolled| enrolled.enrolment.party_key == key)
    }

    /// Whether this member's word on what the chain says is shown.
    #[must_use]
    pub fn is_witness(&self, circle: &Circle, member: MemberId) -> bool {
        member == circle.custodian_member
            || self
                .enrolled
                .iter()
                .any(|enrolled| enrolled.enrolment.member == member)
    }
}

/// One enrolment, if it is there and counts.
pub fn load_enrolment(circle: &Circle, key: Key) -> Option<Enrolled> {
    let body: EnrolmentBody = store::load(key)?.decode()?;
    let (enrolment, signature) = body.read()?;
    circle.admit(&enrolment, &signature).ok()?;
    Some(Enrolled {
        key,
        enrolment,
        recorded_at: UnixSeconds(body.recorded_at),
    })
}

/// Publishes the patient's keys.
pub fn enrol(input: &EnrolmentInput, signature: &SignatureInput) -> Result<Written, Refusal> {
    let enrolment = read_enrolment(input)?;
    let signature = read_signature(signature)?;
    let circle = Circle::load()?;
    let executor = host::executor();
    if enrolment.member != executor {
        return Err(Refusal::NotTheMember {
            member: enrolment.member,
            executor,
        });
    }
    circle.admit(&enrolment, &signature)?;
    let members = Members::load(&circle);
    if let Some(same) = members
        .enrolled
        .iter()
        .find(|other| other.enrolment == enrolment)
    {
        return Ok(Written {
            key: same.key.to_string(),
            existing: true,
        });
    }
    if !members.enrolled.is_empty() {
        return Err(Refusal::AlreadyEnrolled);
    }
    let body = EnrolmentBody {
        member: enrolment.member.0,
        party_key: enrolment.party_key.to_bytes(),
        recovery_key: enrolment.recovery_key.to_bytes(),
        login_key: enrolment.login_key.to_bytes(),
        author_key: enrolment.author_key.to_bytes(),
        seal_key: enrolment.seal_key.0,
        signature: store_signature(&signature),
        recorded_at: host::now().0,
    };
    let key = store::insert(Kind::Enrolments, ONLY_SHARD, &body)?;
    Ok(Written {
        key: key.to_string(),
        existing: false,
    })
}

fn read_enrolment(input: &EnrolmentInput) -> Result<Enrolment, Refusal> {
    let key = |field, text: &str| match read::<PublicKey>(field, text) {
        Ok(key) if key.is_zero() => Err(Refusal::malformed(field, "not zero")),
        other => other,
    };
    Ok(Enrolment {
        member: read("member", &input.member)?,
        party_key: key("party_key", &input.party_key)?,
        recovery_key: key("recovery_key", &input.recovery_key)?,
        login_key: key("login_key", &input.login_key)?,
        author_key: key("author_key", &input.author_key)?,
        seal_key: read("seal_key", &input.seal_key)?,
    })
}

impl Enrolled {
    /// As the interface shows it.
    #[must_use]
    pub fn view(&self) -> EnrolmentView {
        let enrolment = &self.enrolment;
        EnrolmentView {
            key: self.key.to_string(),
            enrolment: EnrolmentInput {
                member: enrolment.member.to_string(),
                party_key: enrolment.party_key.to_string(),
                recovery_key: enrolment.recovery_key.to_string(),
                login_key: enrolment.login_key.to_string(),
                author_key: enrolment.author_key.to_string(),
                seal_key: enrolment.seal_key.to_string(),
            },
            recorded_at: self.recorded_at.0,
        }
    }
}
