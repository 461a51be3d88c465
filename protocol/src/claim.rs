//! The claim: what spends a reward ticket, as its patient signs it, and the file in which it is
//! handed to whoever sends it.

use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use crate::ids::{Anchorer, ChainId, ContractAddress, Salt, UnixSeconds};
use crate::secrets::{ConsentSecrets, Handle, SecretHash};
use crate::signature::{PublicKey, SignError, Signature};
use crate::ticket::{PoolId, Ticket, claim_message};
use crate::tree::{Proof, TreeError};

/// What the first field of a signed claim says.
pub const CLAIM_FORMAT: &str = "medsync/claim/v1";
/// The largest signed claim, in bytes of JSON.
pub const CLAIM_BYTES_MAX: usize = 16 * 1024;

/// What spends a ticket. It names neither patient nor consent but for the handle, which it makes
/// public, and does not open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The pool that pays.
    pub pool: PoolId,
    /// The custodian that promised.
    pub anchorer: Anchorer,
    /// With the claim key it makes the handle.
    pub secret_hash: SecretHash,
    /// Whose signature the claim carries.
    pub claim_key: PublicKey,
    /// The first second at which the ticket is worth nothing.
    pub claim_until: UnixSeconds,
    /// The ticket's salt.
    pub salt: Salt,
    /// From the ticket's leaf to a root that the custodian anchored.
    pub proof: Proof,
    /// Where the reward goes.
    pub pay_to: ContractAddress,
    /// The claim key's.
    pub signature: Signature,
}

impl Claim {
    /// The claim that spends `ticket`, signed with the consent's secrets.
    ///
    /// # Errors
    /// A message that cannot be signed, with odds of 2^-55: another `pay_to` makes another.
    pub fn sign(
        (chain_id, contract): (ChainId, ContractAddress),
        (ticket, proof): (&Ticket, &Proof),
        secrets: &ConsentSecrets,
        pay_to: ContractAddress,
    ) -> Result<Self, SignError> {
        let message = claim_message(chain_id, contract, ticket.pool_id, ticket.handle, pay_to);
        Ok(Self {
            pool: ticket.pool_id,
            anchorer: ticket.anchorer,
            secret_hash: secrets.secret.hash(),
            claim_key: secrets.claim_key.public_key(),
            claim_until: ticket.claim_until,
            salt: ticket.salt,
            proof: proof.clone(),
            pay_to,
            signature: secrets.claim_key.sign(message)?,
        })
    }

    /// The handle that it uses up.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::of(self.secret_hash, self.claim_key)
    }

    /// The ticket that it spends.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket {
            pool_id: self.pool,
            anchorer: self.anchorer,
            handle: self.handle(),
            claim_until: self.claim_until,
            salt: self.salt,
        }
    }
}

/// A claim as a patient hands it to whoever sends it. It holds no secret: nobody but the claim key
/// can change where it pays to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedClaim {
    format: String,
    chain_id: ChainId,
    contract: ContractAddress,
    claim: Claim,
}

/// Why something is no claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// More bytes than a claim may have.
    #[error("a signed claim has at most {CLAIM_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// Not JSON, or with fields missing, unknown or malformed.
    #[error("this is no signed claim: {0}")]
    Malformed(String),
    /// Another format or version.
    #[error("a signed claim's format is {CLAIM_FORMAT}, this says {0:?}")]
    Format(String),
    /// The proof has no meaning.
    #[error(transparent)]
    Proof(#[from] TreeError),
    /// It is for another chain or another pool contract.
    #[error("it is for {contract} on {chain_id}")]
    Elsewhere {
        /// The contract that it is for.
        contract: ContractAddress,
        /// The chain that it is on.
        chain_id: ChainId,
    },
    /// A copy that pays to somebody else must not stand for the patient's own.
    #[error("it is not signed by its claim key; ask the patient for it again")]
    NotSigned,
}

impl SignedClaim {
    /// A claim for a contract on a chain.
    #[must_use]
    pub fn new(chain_id: ChainId, contract: ContractAddress, claim: Claim) -> Self {
        Self {
            format: CLAIM_FORMAT.into(),
            chain_id,
            contract,
            claim,
        }
    }

    /// Reads a claim. Who signed it is [`SignedClaim::claim_for`]'s to say.
    ///
    /// # Errors
    /// Bytes that are no claim.
    pub fn parse(json: &[u8]) -> Result<Self, ClaimError> {
        if json.len() > CLAIM_BYTES_MAX {
            return Err(ClaimError::TooLong(json.len()));
        }
        let signed: Self = serde_json::from_slice(json)
            .map_err(|error| ClaimError::Malformed(error.to_string()))?;
        signed.check()?;
        Ok(signed)
    }

    /// The pool that it is for.
    #[must_use]
    pub fn pool(&self) -> PoolId {
        self.claim.pool
    }

    /// The claim, if it is for this contract and its claim key signed it.
    ///
    /// # Errors
    /// A claim that its key did not sign so, for this chain and contract.
    pub fn claim_for(
        self,
        chain_id: ChainId,
        contract: ContractAddress,
    ) -> Result<Claim, ClaimError> {
        self.check()?;
        if (self.chain_id, self.contract) != (chain_id, contract) {
            let (chain_id, contract) = (self.chain_id, self.contract);
            return Err(ClaimError::Elsewhere { contract, chain_id });
        }
        let claim = self.claim;
        let message = claim_message(chain_id, contract, claim.pool, claim.handle(), claim.pay_to);
        if !claim.claim_key.verifies(message, &claim.signature) {
            return Err(ClaimError::NotSigned);
        }
        Ok(claim)
    }

    fn check(&self) -> Result<(), ClaimError> {
        if self.format != CLAIM_FORMAT {
            return Err(ClaimError::Format(self.format.chars().take(64).collect()));
        }
        Ok(self.claim.proof.check()?)
    }
}
