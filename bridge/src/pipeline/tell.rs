//! Tell: circles hear that the batches of their consents are on chain.
//!
//! Each consent is told by itself and, if that fails, again later, the more often the later: what
//! keeps one circle from hearing keeps nobody else's batch open. Of a batch whose leaves do not
//! read here the circles have the paths, since before it was sent.

use std::collections::{BTreeMap, HashSet};

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::Anchorer;
use medsync_protocol::receipt::TransactionHash;

use super::{Pipeline, PipelineError, place, take_over};
use crate::source::{BlockReport, SourceError, StageReport};
use crate::store::batches::BatchId;
use crate::store::consents::{ConsentLeaf, TellLater};

/// How many consents one round tells.
const CONSENTS_PER_ROUND: u32 = 256;

/// Tells the consents that are due.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn tell_due(pipeline: &Pipeline, anchorer: Anchorer) -> Result<(), PipelineError> {
    let due = pipeline
        .store
        .untold_consents(CONSENTS_PER_ROUND, pipeline.now())
        .await?;
    let mut batches: BTreeMap<BatchId, Vec<ConsentLeaf>> = BTreeMap::new();
    for consent in due {
        if let Some(batch) = consent.batch {
            batches.entry(batch).or_default().push(consent);
        }
    }
    for (batch, consents) in batches {
        match tell(pipeline, anchorer, batch, &consents).await {
            // With the node down all circles wait, and none longer for it.
            Err(error) if place::is_node_down(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(batch = batch.0, %error, "its circles are told later");
                for consent in consents {
                    let which = TellLater::Consent(consent.commitment);
                    pipeline.store.tell_later(which, pipeline.now()).await?;
                }
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn tell(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    batch: BatchId,
    consents: &[ConsentLeaf],
) -> Result<(), PipelineError> {
    let batch = pipeline.store.batch(batch).await?;
    let Some((block, time)) = batch.block else {
        return Ok(());
    };
    let stage = StageReport::Anchored {
        // A batch that landed by a transaction that this store does not know says zero.
        transaction: batch
            .transaction
            .unwrap_or(TransactionHash::from_felt(Felt::ZERO)),
        block: BlockReport {
            number: block.number,
            hash: block.hash,
            time,
        },
    };
    let consents = &take_over::with_paths(pipeline, anchorer, &batch, consents).await?[..];
    let untold = place::report(pipeline, &batch, consents, anchorer, stage).await;
    let now = pipeline.now();
    let (mut later, mut silent) = (HashSet::new(), HashSet::new());
    for (consent, error) in untold {
        if place::is_node_down(&error) {
            return Err(error);
        }
        let is_of_the_consent = matches!(
            error,
            PipelineError::Source(SourceError::Refused { .. }) | PipelineError::Broken(_)
        );
        let which = if is_of_the_consent {
            later.insert(consent.commitment);
            TellLater::Consent(consent.commitment)
        } else {
            silent.insert(consent.context);
            TellLater::Circle(consent.context)
        };
        pipeline.store.tell_later(which, now).await?;
    }
    // What was told before its circle fell silent is told again: that is the same.
    let told = consents
        .iter()
        .filter(|consent| !later.contains(&consent.commitment))
        .filter(|consent| !silent.contains(&consent.context));
    for consent in told {
        pipeline.store.consent_told(consent.commitment, now).await?;
    }
    Ok(())
}
