//! The context itself, a circle or an exchange: what the custodian pinned at init.
//!
//! The entry is under the custodian's stamp, so that no other member can alter it once it is
//! there. The custodian itself can; whoever joins compares it with the invitation, every time.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::consent::Registry;
use medsync_protocol::ids::{
    Anchorer, ChainId, ContextId, ContextKind, ContractAddress, MemberId, SealKey,
};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::signature::{PublicKey, Signature};

use crate::abi::CircleInput;
use crate::host;
use crate::layout::Kind;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::read;

/// What the custodian pinned at init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// What it is for.
    pub kind: ContextKind,
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
    kind: ContextKind,
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
            kind: read("kind", &input.kind)?,
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
            kind: self.kind,
            context: self.context.0,
            custodian_member: self.custodian_member.0,
            invitation_key: self.invitation_key.to_bytes(),
            anchorer: self.anchorer.to_bytes(),
            author_key: self.author_key.to_bytes(),
            seal_key: self.seal_key.0,
            chain_id: self.registry.chain_id.to_bytes(),
            registry: self.registry.registry.to_bytes(),
        };
        store::plant(self.kind)?;
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
        let owned = stored.owner() == Some(MemberId(body.custodian_member));
        if !owned || body.context != here.0 {
            return None;
        }
        Some(Self {
            kind: body.kind,
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

    /// The circle of this context, which has to be one of a kind.
    ///
    /// # Errors
    /// [`Refusal::OtherKind`] in another; as [`Circle::load`].
    pub fn load_as(kind: ContextKind) -> Result<Self, Refusal> {
        let circle = Self::load()?;
        if circle.kind == kind {
            Ok(circle)
        } else {
            Err(Refusal::OtherKind {
                here: circle.kind.name(),
                needed: kind.name(),
            })
        }
    }

    /// Only the custodian's own member passes.
    ///
    /// # Errors
    /// [`Refusal::NotTheCustodian`].
    pub fn check_custodian(&self) -> Result<(), Refusal> {
        let (custodian, executor) = (self.custodian_member, host::executor());
        if executor == custodian {
            Ok(())
        } else {
            Err(Refusal::NotTheCustodian {
                custodian,
                executor,
            })
        }
    }

    /// Only the custodian's own address passes.
    ///
    /// # Errors
    /// [`Refusal::OtherAnchorer`], or a text that is no address.
    pub fn check_anchorer(&self, text: &str) -> Result<(), Refusal> {
        let other: Anchorer = read("anchorer", text)?;
        if other == self.anchorer {
            return Ok(());
        }
        Err(Refusal::OtherAnchorer {
            other: other.to_string(),
            here: self.anchorer,
        })
    }

    /// The arguments of init again.
    #[must_use]
    pub fn to_input(&self) -> CircleInput {
        CircleInput {
            kind: self.kind.name().into(),
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
