//! Verification: a receipt against what the verifier believes and what the chain says.
//!
//! Everything but two values is checked here, without asking anybody. The two values are read
//! from every endpoint that the verifier names, at one block each; all have to come to the same
//! verdict. About now each is asked as of its own newest block, so that one that is behind cannot
//! hide what another has seen since. The hospital is asked for nothing.

use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{Anchorer, UnixSeconds};
use medsync_protocol::receipt::{ChainFacts, JudgeError, Receipt, ReceiptError};
use medsync_protocol::verdict::Verdict;
use serde::Serialize;

use crate::chain::{BlockAt, Chain, ChainError};
use crate::config::VerifierConfig;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file is no receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The receipt speaks of another chain or contract than the verifier believes in.
    #[error(
        "the receipt is for chain {chain} and registry {registry}; this verifier accepts {own}"
    )]
    OtherRegistry {
        /// The receipt's chain.
        chain: String,
        /// The receipt's contract.
        registry: String,
        /// The verifier's own.
        own: String,
    },
    /// The receipt is of a custodian that the verifier does not accept.
    #[error("the receipt is anchored by {0}, whom this verifier does not list as a custodian")]
    OtherCustodian(Anchorer),
    /// The chain did not answer, or not as the verifier believes.
    #[error(transparent)]
    Chain(#[from] ChainError),
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
}

/// One thing that was checked, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub what: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub found: String,
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

/// Reads a receipt and refuses one that this verifier does not accept at all.
///
/// # Errors
/// A file that is no receipt; another chain, registry or custodian.
pub fn accept(config: &VerifierConfig, json: &[u8]) -> Result<Receipt, VerifyError> {
    let receipt = Receipt::parse(json)?;
    let theirs = receipt.registry;
    if (theirs.chain_id, theirs.registry) != (config.chain_id, config.registry) {
        return Err(VerifyError::OtherRegistry {
            chain: theirs.chain_id.to_string(),
            registry: theirs.registry.to_string(),
            own: format!("chain {} and registry {}", config.chain_id, config.registry),
        });
    }
    if !config.custodians.contains(&receipt.anchorer) {
        return Err(VerifyError::OtherCustodian(receipt.anchorer));
    }
    Ok(receipt)
}

/// Verifies an accepted receipt at a time, by default that of each endpoint's newest block, which
/// must then not be old by the verifier's own clock.
///
/// # Errors
/// See [`VerifyError`]; none of them is a verdict.
pub async fn verify(
    config: &VerifierConfig,
    chains: &[&dyn Chain],
    receipt: &Receipt,
    at: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Result<Report, VerifyError> {
    let mut agreed: Option<Report> = None;
    for chain in chains {
        let found = chain.chain_id().await?;
        if found != config.chain_id {
            return Err(ChainError::OtherChain {
                expected: config.chain_id,
                found,
            }
            .into());
        }
        let (anchorer, root) = (receipt.anchorer, receipt.root);
        let facts = chain
            .facts(config.registry, anchorer, root, receipt.opening.handle)
            .await?;
        if facts.class_hash != config.class_hash {
            return Err(ChainError::OtherClass {
                contract: config.registry,
                expected: config.class_hash,
                found: facts.class_hash,
            }
            .into());
        }
        let block = facts.block.time;
        let age_s_max = config.block_age_s_max;
        if at.is_none() && now.0.saturating_sub(block.0) > age_s_max {
            return Err(VerifyError::OldBlock {
                block,
                now,
                age_s_max,
            });
        }
        let at = at.unwrap_or(facts.chain.block_time);
        let report = report(receipt, &facts.chain, facts.block, at)?;
        match &agreed {
            Some(first) if first.verdict != report.verdict => {
                return Err(VerifyError::Disagreement(first.verdict, report.verdict));
            }
            Some(first) if first.block.time >= report.block.time => {}
            _ => agreed = Some(report),
        }
    }
    agreed.ok_or_else(|| ChainError::Unreachable("no endpoint was named".into()).into())
}

fn report(
    receipt: &Receipt,
    chain: &ChainFacts,
    block: BlockAt,
    at: UnixSeconds,
) -> Result<Report, VerifyError> {
    let verdict = receipt.judge(chain, at)?;
    let facts = receipt.facts(chain).map_err(JudgeError::from)?;
    let opening = &receipt.opening;
    let time = |time: Option<UnixSeconds>| {
        time.map_or_else(
            || "not as of this block".to_owned(),
            |time| format!("at {time}"),
        )
    };
    let check = |what, holds, found| Check { what, holds, found };
    let checks = vec![
        check(
            "the patient signed exactly these terms",
            facts.is_signed,
            format!("patient key {}", opening.patient_key),
        ),
        check(
            "the custodian anchored the batch by then",
            facts.anchored_at.is_some_and(|anchored| anchored <= at),
            time(facts.anchored_at),
        ),
        check(
            "the signed consent is in that batch",
            facts.is_included,
            format!("leaf {} of root {}", receipt.proof.index, receipt.root),
        ),
        check(
            "the patient had not revoked it by then",
            facts.revoked_at.is_none_or(|revoked| revoked > at),
            format!("revoked {}", time(facts.revoked_at)),
        ),
        check(
            "the time lies within its validity",
            opening.is_current(at),
            match opening.not_after {
                UnixSeconds(0) => format!("from {}, open-ended", opening.not_before),
                end => format!("from {} to before {end}", opening.not_before),
            },
        ),
    ];
    Ok(Report {
        verdict,
        at,
        commitment: receipt.commitment().map_err(JudgeError::from)?,
        anchored_at: chain.anchored_at,
        revoked_at: chain.revoked_at,
        block,
        checks,
    })
}
