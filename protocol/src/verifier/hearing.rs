//! What a receipt comes to: checked by itself, then by what each endpoint says. All have to agree.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Beliefs;
use crate::consent::Commitment;
use crate::ids::{ChainId, ClassHash, ContractAddress, UnixSeconds};
use crate::receipt::{BlockAt, JudgeError, Receipt};
use crate::terms::TermsError;
use crate::verdict::{Facts, Verdict, verdict};

/// What one endpoint says of one receipt, all of it at one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The chain that it serves.
    pub chain_id: ChainId,
    /// The class of the registry.
    pub class_hash: ClassHash,
    /// When the anchorer anchored the receipt's root, if it did.
    pub anchored_at: Option<UnixSeconds>,
    /// When the receipt's handle was opened, if it was.
    pub revoked_at: Option<UnixSeconds>,
    /// The block that was read.
    pub block: BlockAt,
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum NoVerdict {
    /// The endpoint serves another chain.
    #[error("the Starknet RPC serves chain {found}, not {expected}; use an endpoint of that chain")]
    OtherChain {
        /// The chain that is believed in.
        expected: ChainId,
        /// The chain that answered.
        found: ChainId,
    },
    /// The registry is of another class than the one that is believed in.
    #[error("the contract at {contract} is of class {found}, not {expected}")]
    OtherClass {
        /// The contract.
        contract: ContractAddress,
        /// The class that is believed in.
        expected: ClassHash,
        /// The class that was found.
        found: ClassHash,
    },
    /// The newest block that an endpoint serves is too old to say anything about now.
    #[error(
        "the endpoint's newest block is of time {block}, and now is {now}: more than {age_s_max} s \
         (block_age_s_max). It lags or lies; what happened since would not show"
    )]
    OldBlock {
        /// The block's time.
        block: UnixSeconds,
        /// The verifier's clock.
        now: UnixSeconds,
        /// The bound.
        age_s_max: u64,
    },
    /// The time asked about lies beyond the block that was read.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The endpoints disagree.
    #[error(
        "the endpoints disagree: {0:?} and {1:?}. One may be a block behind: ask again; believe \
         neither until they agree"
    )]
    Disagreement(Verdict, Verdict),
    /// Nobody was asked.
    #[error("no endpoint was named")]
    NoEndpoint,
}

impl From<TermsError> for NoVerdict {
    fn from(error: TermsError) -> Self {
        Self::Judge(error.into())
    }
}

/// What a check is about, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// The signature is the patient's over this consent.
    Signed,
    /// The anchorer had anchored the batch by the time asked about.
    Anchored,
    /// The signed consent's leaf leads to the batch's root.
    Included,
    /// No revocation by the time asked about.
    NotRevoked,
    /// The time asked about lies within the validity.
    Current,
}

impl CheckName {
    /// What is checked, in words for a person.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Signed => "the patient signed exactly these terms",
            Self::Anchored => "the custodian anchored the batch by then",
            Self::Included => "the signed consent is in that batch",
            Self::NotRevoked => "the patient had not revoked it by then",
            Self::Current => "the time lies within its validity",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: CheckName,
    /// The same in words for a person.
    pub what: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

impl Check {
    fn new(name: CheckName, holds: bool, found: String) -> Self {
        Self {
            name,
            what: name.words(),
            holds,
            found,
        }
    }
}

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// The time that it is about.
    pub at: UnixSeconds,
    /// The consent.
    pub commitment: Commitment,
    /// When the root was anchored.
    pub anchored_at: Option<UnixSeconds>,
    /// When the consent was revoked.
    pub revoked_at: Option<UnixSeconds>,
    /// The block that was read.
    pub block: BlockAt,
    /// Every check.
    pub checks: Vec<Check>,
}

/// A receipt with what it shows by itself: checked once, whatever the chain then says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    receipt: Receipt,
    /// The consent.
    pub commitment: Commitment,
    /// The signature is the patient's over the grant message.
    pub is_signed: bool,
    /// The leaf's proof leads to the root.
    pub is_included: bool,
}

impl Offline {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// Terms that cannot be encoded; a parsed receipt has none.
    pub fn of(receipt: Receipt) -> Result<Self, TermsError> {
        let commitment = receipt.commitment()?;
        let (opening, signature) = (&receipt.opening, &receipt.signature);
        let message = commitment.grant_message(receipt.registry);
        let leaf = commitment.leaf(signature);
        Ok(Self {
            commitment,
            is_signed: opening.patient_key.verifies(message, signature),
            is_included: receipt.proof.includes(leaf, receipt.root),
            receipt,
        })
    }

    /// The receipt.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The verdict that nothing on the chain can change, if there is one.
    #[must_use]
    pub fn certain(&self) -> Option<Verdict> {
        (!self.is_signed).then_some(Verdict::BadSignature)
    }

    /// The checks that need no chain, at a time.
    #[must_use]
    pub fn checks(&self, at: UnixSeconds) -> Vec<Check> {
        let receipt = &self.receipt;
        let opening = &receipt.opening;
        let leaf = format!("leaf {} of root {}", receipt.proof.index, receipt.root);
        let validity = match opening.not_after {
            UnixSeconds(0) => format!("from {}, open-ended", opening.not_before),
            end => format!("from {} to before {end}", opening.not_before),
        };
        let key = format!("patient key {}", opening.patient_key);
        Vec::from([
            Check::new(CheckName::Signed, self.is_signed, key),
            Check::new(CheckName::Included, self.is_included, leaf),
            Check::new(CheckName::Current, opening.is_current(at), validity),
        ])
    }

    /// All checks in the order in which they decide.
    fn all_checks(&self, seen: &Seen, at: UnixSeconds) -> Vec<Check> {
        let time = |time: Option<UnixSeconds>| {
            time.map_or_else(
                || "not as of this block".to_owned(),
                |time| format!("at {time}"),
            )
        };
        let is_anchored = seen.anchored_at.is_some_and(|anchored| anchored <= at);
        let is_kept = seen.revoked_at.is_none_or(|revoked| revoked > at);
        let revoked = format!("revoked {}", time(seen.revoked_at));
        let mut checks = self.checks(at);
        checks.insert(
            1,
            Check::new(CheckName::Anchored, is_anchored, time(seen.anchored_at)),
        );
        checks.insert(3, Check::new(CheckName::NotRevoked, is_kept, revoked));
        checks
    }
}

/// One verification: hears one endpoint after the other, and comes to a report if all agree.
#[derive(Debug)]
pub struct Hearing<'a> {
    beliefs: &'a Beliefs,
    offline: &'a Offline,
    at: Option<UnixSeconds>,
    now: UnixSeconds,
    agreed: Option<Report>,
}

impl<'a> Hearing<'a> {
    /// Opens a verification of an accepted receipt at a time; by default that of each endpoint's
    /// newest block, which must then not be old by the verifier's own clock. So one that is behind
    /// cannot hide what another has seen since.
    #[must_use]
    pub fn open(
        beliefs: &'a Beliefs,
        offline: &'a Offline,
        at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Self {
        Self {
            beliefs,
            offline,
            at,
            now,
            agreed: None,
        }
    }

    /// Hears one more endpoint.
    ///
    /// # Errors
    /// See [`NoVerdict`]; none of them is a verdict.
    pub fn hear(&mut self, seen: &Seen) -> Result<(), NoVerdict> {
        let report = self.report_by(seen)?;
        match &self.agreed {
            Some(first) if first.verdict != report.verdict => {
                return Err(NoVerdict::Disagreement(first.verdict, report.verdict));
            }
            Some(first) if first.block.time >= report.block.time => {}
            _ => self.agreed = Some(report),
        }
        Ok(())
    }

    /// What all of them came to, by the newest block that was heard of.
    ///
    /// # Errors
    /// [`NoVerdict::NoEndpoint`].
    pub fn close(self) -> Result<Report, NoVerdict> {
        self.agreed.ok_or(NoVerdict::NoEndpoint)
    }

    fn report_by(&self, seen: &Seen) -> Result<Report, NoVerdict> {
        self.beliefs.check_chain(seen.chain_id)?;
        self.beliefs.check_class(seen.class_hash)?;
        let block = seen.block.time;
        let age_s_max = self.beliefs.block_age_s_max;
        if self.at.is_none() && self.now.0.saturating_sub(block.0) > age_s_max {
            return Err(NoVerdict::OldBlock {
                block,
                now: self.now,
                age_s_max,
            });
        }
        let at = self.at.unwrap_or(block);
        seen.block.covers(at)?;
        let facts = Facts {
            is_signed: self.offline.is_signed,
            is_included: self.offline.is_included,
            anchored_at: seen.anchored_at,
            revoked_at: seen.revoked_at,
        };
        Ok(Report {
            verdict: verdict(&facts, &self.offline.receipt.opening, at),
            at,
            commitment: self.offline.commitment,
            anchored_at: seen.anchored_at,
            revoked_at: seen.revoked_at,
            block: seen.block,
            checks: self.offline.all_checks(seen, at),
        })
    }
}
