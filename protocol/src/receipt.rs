//! The receipt: one file that shows a consent to whoever is given it.
//!
//! Reading a receipt refuses everything that has no meaning: malformed or unmatched terms come to
//! no verdict. What is read is then checked locally, except for two values of the chain. A receipt
//! never says which chain, contract or custodian to believe: the verifier brings that.
//!
//! The JSON's schema is `docs/receipt-v1.schema.json`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::consent::{Commitment, Opening, OpeningError, Registry};
use crate::felt::felt_newtype;
use crate::ids::{
    AddressBytes, Anchorer, ChainId, ContractAddress, Sha256Digest, UnixSeconds, parse_base64,
    to_base64,
};
use crate::signature::Signature;
use crate::terms::{Terms, TermsError};
use crate::tree::{Leaf, Proof, Root, TreeError};
use crate::verdict::{Facts, Verdict, verdict};

/// What the first field of a receipt says.
pub const RECEIPT_FORMAT: &str = "medsync/receipt/v1";
/// The largest receipt, in bytes of JSON.
pub const RECEIPT_BYTES_MAX: usize = 128 * 1024;

felt_newtype! {
    /// The hash of a Starknet block.
    BlockHash
}
felt_newtype! {
    /// The hash of a Starknet transaction.
    TransactionHash
}

/// The number of a Starknet block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockNumber(pub u64);

/// A stage of a consent's life, as a person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is in the context.
    Recorded,
    /// It is in a batch.
    Sealed,
    /// The batch was sent to Starknet.
    Submitted,
    /// Starknet accepted the batch.
    Anchored,
    /// It was revoked.
    Revoked,
}

/// When a stage was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// When, in unix seconds, by the clock of whoever wrote the receipt (the chain's for
    /// `anchored` and `revoked`).
    pub at: UnixSeconds,
}

/// The block in which a batch was anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
}

/// A block that is part of the chain, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockAt {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// When it was made, by its own account.
    pub time: UnixSeconds,
}

impl BlockAt {
    /// The block as a receipt names it.
    #[must_use]
    pub fn block(&self) -> Block {
        Block {
            number: self.number,
            hash: self.hash,
        }
    }

    /// Whether the chain up to this block says anything about a time.
    ///
    /// # Errors
    /// [`JudgeError::BeyondBlock`].
    pub fn covers(&self, at: UnixSeconds) -> Result<(), JudgeError> {
        covers(self.time, at)
    }

    /// A time at which something happened, 0 for never, as a call at this block says it.
    ///
    /// # Errors
    /// [`Contradiction::Ahead`].
    pub fn happened(&self, at: UnixSeconds) -> Result<Option<UnixSeconds>, Contradiction> {
        if at > self.time {
            return Err(Contradiction::Ahead { block: *self, at });
        }
        Ok((at != UnixSeconds(0)).then_some(at))
    }

    /// Whether a call at this block saw its time.
    ///
    /// # Errors
    /// [`Contradiction::OtherTime`].
    pub fn saw(&self, time: UnixSeconds) -> Result<(), Contradiction> {
        if time == self.time {
            Ok(())
        } else {
            Err(Contradiction::OtherTime { block: *self, time })
        }
    }
}

fn covers(block_time: UnixSeconds, at: UnixSeconds) -> Result<(), JudgeError> {
    if at > block_time {
        return Err(JudgeError::BeyondBlock { at, block_time });
    }
    Ok(())
}

/// How an endpoint contradicts itself about one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum Contradiction {
    /// Something happened after the block.
    #[error("block {} is of {}, and knows of something at {at}", .block.number.0, .block.time)]
    Ahead {
        /// The block.
        block: BlockAt,
        /// When it would have happened.
        at: UnixSeconds,
    },
    /// A call at the block saw another time.
    #[error("block {} is of {}, and a call at it saw {time}", .block.number.0, .block.time)]
    OtherTime {
        /// The block.
        block: BlockAt,
        /// What the call saw.
        time: UnixSeconds,
    },
}

/// The file as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    chain_id: ChainId,
    registry: ContractAddress,
    anchorer: Anchorer,
    terms: String,
    terms_readable: Terms,
    opening: Opening,
    signature: Signature,
    proof: Proof,
    root: Root,
    block: Block,
    stages: Vec<StageTime>,
}

/// A receipt whose parts belong together. Whether they are true is the verdict's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The chain and the contract that it speaks of.
    pub registry: Registry,
    /// Under whose address the batch was anchored.
    pub anchorer: Anchorer,
    /// What the patient allowed.
    pub terms: Terms,
    /// What the commitment hides.
    pub opening: Opening,
    /// The patient's signature.
    pub signature: Signature,
    /// The leaf's place in its batch.
    pub proof: Proof,
    /// The batch's root.
    pub root: Root,
    /// Where it was anchored, for people; nothing is concluded from it.
    pub block: Block,
    /// What happened when, for people; nothing is concluded from it.
    pub stages: Vec<StageTime>,
}

/// Why a file is no receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum ReceiptError {
    /// More bytes than a receipt may have.
    #[error("a receipt has at most {RECEIPT_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// Truncated, not JSON, or with fields missing, unknown, doubled or malformed.
    #[error("this is no receipt: {0}")]
    Malformed(String),
    /// Another format or version.
    #[error("a receipt's format is {RECEIPT_FORMAT}, this says {0:?}")]
    Format(String),
    /// The terms' base64 is none.
    #[error("the terms are not base64")]
    TermsBase64,
    /// The terms' bytes are no terms.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The readable terms say something else than the signed bytes.
    #[error("the readable terms differ from the signed ones; believe neither")]
    TermsDiffer,
    /// The terms name another custodian.
    #[error("the anchorer {anchorer} is not the custodian that the terms name")]
    OtherCustodian {
        /// The receipt's anchorer.
        anchorer: Anchorer,
    },
    /// The opening has no meaning.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The proof has no meaning.
    #[error(transparent)]
    Proof(#[from] TreeError),
}

impl Receipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// Whatever has no meaning: see [`ReceiptError`].
    pub fn parse(json: &[u8]) -> Result<Self, ReceiptError> {
        if json.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLong(json.len()));
        }
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| ReceiptError::Malformed(alloc::format!("{error}")))?;
        if wire.format != RECEIPT_FORMAT {
            return Err(ReceiptError::Format(wire.format.chars().take(64).collect()));
        }
        let bytes = parse_base64(&wire.terms).map_err(|_| ReceiptError::TermsBase64)?;
        let terms = Terms::decode(&bytes)?;
        if terms != wire.terms_readable {
            return Err(ReceiptError::TermsDiffer);
        }
        let receipt = Self {
            registry: Registry {
                chain_id: wire.chain_id,
                registry: wire.registry,
            },
            anchorer: wire.anchorer,
            terms,
            opening: wire.opening,
            signature: wire.signature,
            proof: wire.proof,
            root: wire.root,
            block: wire.block,
            stages: wire.stages,
        };
        receipt.check()?;
        Ok(receipt)
    }

    /// Writes the receipt as JSON, for people to read and for [`Receipt::parse`].
    ///
    /// # Errors
    /// Whatever [`Receipt::parse`] would refuse.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        self.check()?;
        let wire = Wire {
            format: RECEIPT_FORMAT.into(),
            chain_id: self.registry.chain_id,
            registry: self.registry.registry,
            anchorer: self.anchorer,
            terms: to_base64(&self.terms.encode()?),
            terms_readable: self.terms.clone(),
            opening: self.opening,
            signature: self.signature,
            proof: self.proof.clone(),
            root: self.root,
            block: self.block,
            stages: self.stages.clone(),
        };
        let json = serde_json::to_string_pretty(&wire)
            .map_err(|error| ReceiptError::Malformed(alloc::format!("{error}")))?;
        if json.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLong(json.len()));
        }
        Ok(json)
    }

    fn check(&self) -> Result<(), ReceiptError> {
        if self.terms.custodian_address != AddressBytes::of(self.anchorer) {
            return Err(ReceiptError::OtherCustodian {
                anchorer: self.anchorer,
            });
        }
        self.opening.check()?;
        self.proof.check()?;
        Ok(())
    }

    /// SHA-256 of the terms' encoding.
    ///
    /// # Errors
    /// Terms that cannot be encoded; a parsed receipt has none.
    pub fn terms_digest(&self) -> Result<Sha256Digest, TermsError> {
        self.terms.digest()
    }

    /// The consent that the receipt shows.
    ///
    /// # Errors
    /// As [`Receipt::terms_digest`].
    pub fn commitment(&self) -> Result<Commitment, TermsError> {
        Ok(Commitment::of(
            self.terms_digest()?,
            self.anchorer,
            &self.opening,
        ))
    }

    /// The leaf that should be in the batch.
    ///
    /// # Errors
    /// As [`Receipt::terms_digest`].
    pub fn leaf(&self) -> Result<Leaf, TermsError> {
        Ok(self.commitment()?.leaf(&self.signature))
    }

    /// What can be checked without the chain, and what the chain says, as one set of facts.
    ///
    /// # Errors
    /// As [`Receipt::terms_digest`].
    pub fn facts(&self, chain: &ChainFacts) -> Result<Facts, TermsError> {
        let commitment = self.commitment()?;
        let message = commitment.grant_message(self.registry);
        Ok(Facts {
            is_signed: self.opening.patient_key.verifies(message, &self.signature),
            is_included: self
                .proof
                .includes(commitment.leaf(&self.signature), self.root),
            anchored_at: chain.anchored_at,
            revoked_at: chain.revoked_at,
        })
    }

    /// The verdict at `at`, which must not lie beyond the block that was read.
    ///
    /// # Errors
    /// [`JudgeError::BeyondBlock`], or terms that cannot be encoded.
    pub fn judge(&self, chain: &ChainFacts, at: UnixSeconds) -> Result<Verdict, JudgeError> {
        covers(chain.block_time, at)?;
        Ok(verdict(&self.facts(chain)?, &self.opening, at))
    }
}

/// The two values that a verifier reads from the chain, both at one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainFacts {
    /// When the anchorer anchored the receipt's root, if it did.
    pub anchored_at: Option<UnixSeconds>,
    /// When the receipt's handle was opened, if it was.
    pub revoked_at: Option<UnixSeconds>,
    /// The time of the block at which both were read.
    pub block_time: UnixSeconds,
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum JudgeError {
    /// The time asked about lies after the block that was read.
    #[error("the chain was read at {block_time}; it says nothing about {at}")]
    BeyondBlock {
        /// The time asked about.
        at: UnixSeconds,
        /// The block's time.
        block_time: UnixSeconds,
    },
    /// The terms cannot be encoded.
    #[error(transparent)]
    Terms(#[from] TermsError),
}

#[cfg(test)]
pub(crate) mod tests;
