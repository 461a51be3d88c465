//! Claims: rewards that patients claim are sent to their pools, from an account of their own.
//!
//! A patient needs no account and no gas. Whatever a pool would refuse costs nobody anything: it is
//! tried by a question first, and again later, until the ticket is over.

use async_trait::async_trait;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::{BlockNumber, TransactionHash};
use medsync_protocol::secrets::Handle;

use super::errand::{Errand, look_after, send};
use super::{Pipeline, PipelineError};
use crate::chain::{BlockAt, CLAIMS_MAX, Call, PoolCall};
use crate::store::StoreError;
use crate::store::claims::{ClaimName, ClaimRow};

/// How long a claim rests that was not taken, in seconds: whoever makes its transaction fail costs
/// a fee in this time at most.
const REFUSED_REST_S: u64 = 10 * 60;

/// One round: notes what is paid, looks after what is out, sends what the pools take. Answers
/// whether anything is still on its way.
///
/// # Errors
/// A chain or store that does not answer; the next round does it again.
pub async fn claim_round(pipeline: &Pipeline) -> Result<bool, PipelineError> {
    let Some(account) = pipeline.claim_account.clone() else {
        return Ok(false);
    };
    let now = pipeline.now();
    let tried_before = UnixSeconds(now.0.saturating_sub(REFUSED_REST_S));
    let open = pipeline.store.open_claims((tried_before, now), CLAIMS_MAX);
    let mut unpaid = Vec::new();
    for row in open.await? {
        let (paid_at, read_at) = paid_at(pipeline, &row).await?;
        match paid_at {
            Some(at) => {
                pipeline.store.claim_paid(row.name(), at).await?;
                tracing::info!(track = %row.claim.handle(), at = at.0, "claim paid");
            }
            None => unpaid.push((row, read_at)),
        }
    }
    let Some((first, read_at)) = unpaid.first() else {
        return Ok(false);
    };
    if let Some(out) = first.out.clone() {
        let errand = Claims {
            read_at: *read_at,
            rows: rows_of(unpaid, Some(out.transaction)),
        };
        look_after(pipeline, &*account, &out, &errand).await?;
        return Ok(true);
    }
    let rows = taken(pipeline, rows_of(unpaid, None)).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    let read_at = BlockNumber(0);
    send(pipeline, &*account, &Claims { rows, read_at }).await?;
    Ok(true)
}

/// Those that this transaction carries, or none.
fn rows_of(
    unpaid: Vec<(ClaimRow, BlockNumber)>,
    transaction: Option<TransactionHash>,
) -> Vec<ClaimRow> {
    let rows = unpaid.into_iter().map(|(row, _)| row);
    let carried = |row: &ClaimRow| row.out.as_ref().map(|out| out.transaction) == transaction;
    rows.filter(carried).collect()
}

/// When a claim was paid, if it was, and as of which block.
async fn paid_at(
    pipeline: &Pipeline,
    row: &ClaimRow,
) -> Result<(Option<UnixSeconds>, BlockNumber), PipelineError> {
    let (registry, (pool, handle)) = (pipeline.registry.registry, row.name());
    let times = pipeline
        .chain
        .ticket_times(registry, row.contract, pool, handle);
    let (times, block) = times.await?;
    Ok((times.claimed_at, block.number))
}

/// Of these the ones that the first one's contract would take now.
async fn taken(pipeline: &Pipeline, rows: Vec<ClaimRow>) -> Result<Vec<ClaimRow>, PipelineError> {
    let contract = rows.first().map(|row| row.contract);
    let mut taken = Vec::new();
    for row in rows {
        if Some(row.contract) != contract {
            continue;
        }
        let (chain, store) = (&pipeline.chain, &pipeline.store);
        let Some(reason) = chain.refuses_claim(row.contract, &row.claim).await? else {
            taken.push(row);
            continue;
        };
        let (name, why) = (row.name(), reason.to_string());
        store.claims_refused(&[name], &why, pipeline.now()).await?;
        tracing::info!(track = %name.1, why, "a claim is refused for now");
    }
    Ok(taken)
}

/// Claims that one transaction carries, of one contract.
struct Claims {
    rows: Vec<ClaimRow>,
    /// As of which block they were unpaid.
    read_at: BlockNumber,
}

impl Claims {
    fn names(&self) -> Vec<ClaimName> {
        self.rows.iter().map(ClaimRow::name).collect()
    }
}

#[async_trait]
impl Errand for Claims {
    const NAME: &'static str = "claim";

    fn handles(&self) -> Vec<Handle> {
        self.rows.iter().map(|row| row.claim.handle()).collect()
    }

    fn waits_since(&self) -> UnixSeconds {
        let brought = self.rows.iter().map(|row| row.brought_at);
        brought.min().unwrap_or(UnixSeconds(0))
    }

    fn call(&self) -> Call {
        let mut claims: Vec<_> = self.rows.iter().map(|row| row.claim.clone()).collect();
        Call::Pool {
            contract: self.rows[0].contract,
            call: match claims.len() {
                1 => PoolCall::Claim(Box::new(claims.remove(0))),
                _ => PoolCall::ClaimMany(claims),
            },
        }
    }

    async fn intend(
        &self,
        pipeline: &Pipeline,
        intent: Option<(&str, TransactionHash)>,
    ) -> Result<(), StoreError> {
        let (store, names, now) = (&pipeline.store, self.names(), pipeline.now());
        match intent {
            Some(intent) => store.intend_claims(&names, intent, now).await,
            None => {
                let why = "its transaction did not land; it is tried again";
                store.claims_refused(&names, why, now).await
            }
        }
    }

    async fn accepted(
        &self,
        pipeline: &Pipeline,
        block: BlockAt,
        is_stuck: bool,
    ) -> Result<(), PipelineError> {
        if self.read_at < block.number && !is_stuck {
            // Whether it was paid there, the next round reads.
            return Ok(());
        }
        let why = "the pool passed it over; it is tried again";
        let (names, now) = (self.names(), pipeline.now());
        Ok(pipeline.store.claims_refused(&names, why, now).await?)
    }
}
