//! Claims: rewards that patients claim are sent to their pools, from an account of their own.
//!
//! A patient needs no account and no gas. Whatever a pool would refuse costs nobody anything: it is
//! tried by a question first, and again later, until the ticket is over. Of several endpoints a
//! refusal counts if no other takes the claim, and that it is paid two have to say.

use async_trait::async_trait;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::{BlockNumber, TransactionHash};
use medsync_protocol::secrets::Handle;

use super::errand::{Errand, look_after, send};
use super::{Pipeline, PipelineError};
use crate::chain::{Account, BlockAt, CLAIMS_MAX, Call, ChainError, Class, PoolCall};
use crate::store::StoreError;
use crate::store::claims::ClaimRow;

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
    let mut open = open.await?;
    // The others wait until what is out is through.
    let out = open.first().and_then(|row| row.out.clone());
    let carried_by = |row: &ClaimRow| row.out.as_ref().map(|out| out.transaction);
    open.retain(|row| carried_by(row) == out.as_ref().map(|out| out.transaction));
    let unpaid = unpaid(pipeline, open).await?;
    if unpaid.rows.is_empty() {
        return Ok(false);
    }
    if let Some(out) = out {
        look_after(pipeline, &*account, &out, &unpaid).await?;
        return Ok(true);
    }
    let rows = taken(pipeline, unpaid.rows).await?;
    send_them(pipeline, &*account, rows).await
}

/// Notes which of these are paid; answers the others. One whose pool cannot be asked keeps no other
/// waiting.
async fn unpaid(pipeline: &Pipeline, open: Vec<ClaimRow>) -> Result<Claims, PipelineError> {
    let (store, registry, now) = (&pipeline.store, pipeline.registry.registry, pipeline.now());
    let (mut rows, mut read_at) = (Vec::new(), None);
    for row in open {
        let (pool, handle) = row.name();
        let times = pipeline
            .chain
            .ticket_times_by_all(registry, row.contract, pool, handle);
        let (times, block) = match times.await {
            Err(error) if error.class() == Class::Fatal => {
                refuse(pipeline, row, &error.to_string()).await?;
                continue;
            }
            times => times?,
        };
        if let Some(at) = times.claimed_at {
            store.claim_paid(row.name(), at.min(now)).await?;
            tracing::info!(track = %handle, at = at.0, "claim paid");
            continue;
        }
        read_at = Some(read_at.map_or(block.number, |known: BlockNumber| known.min(block.number)));
        rows.push(row);
    }
    let read_at = read_at.unwrap_or(BlockNumber(0));
    Ok(Claims { rows, read_at })
}

/// Notes why a claim is not sent now. One that is out is looked after all the same.
async fn refuse(pipeline: &Pipeline, row: ClaimRow, why: &str) -> Result<(), PipelineError> {
    tracing::info!(track = %row.claim.handle(), why, "claim refused for now");
    if row.out.is_none() {
        let now = pipeline.now();
        pipeline.store.claims_refused(&[row], why, now).await?;
    }
    Ok(())
}

/// Of these the ones that the first one's contract would take now.
async fn taken(pipeline: &Pipeline, rows: Vec<ClaimRow>) -> Result<Vec<ClaimRow>, PipelineError> {
    let contract = rows.first().map(|row| row.contract);
    let mut taken = Vec::new();
    for row in rows {
        if Some(row.contract) != contract {
            continue;
        }
        match pipeline.chain.refuses_claim(row.contract, &row.claim).await {
            Ok(None) => taken.push(row),
            Ok(Some(reason)) => refuse(pipeline, row, &reason.to_string()).await?,
            Err(error) if error.class() == Class::Fatal => {
                refuse(pipeline, row, &error.to_string()).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// Sends these in one transaction: half of them, where all cost too much; none, where it would not
/// land.
async fn send_them(
    pipeline: &Pipeline,
    account: &dyn Account,
    mut rows: Vec<ClaimRow>,
) -> Result<bool, PipelineError> {
    while !rows.is_empty() {
        let read_at = BlockNumber(0);
        let claims = Claims { rows, read_at };
        match send(pipeline, account, &claims).await {
            Err(PipelineError::Chain(ChainError::FeeAboveCap { .. })) if claims.rows.len() > 1 => {
                rows = claims.rows;
                rows.truncate(rows.len() / 2);
            }
            Err(PipelineError::Chain(error)) if error.class() == Class::FailBatch => {
                let (why, now) = (error.to_string(), pipeline.now());
                pipeline
                    .store
                    .claims_refused(&claims.rows, &why, now)
                    .await?;
                return Ok(false);
            }
            sent => return sent.map(|()| true),
        }
    }
    Ok(false)
}

/// Claims that one transaction carries, of one contract.
struct Claims {
    rows: Vec<ClaimRow>,
    /// As of which block they were unpaid, at the least.
    read_at: BlockNumber,
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
    ) -> Result<bool, StoreError> {
        let (store, now) = (&pipeline.store, pipeline.now());
        match intent {
            Some(intent) => store.intend_claims(&self.rows, intent, now).await,
            None => {
                let why = "its transaction did not land; it is tried again";
                store.claims_refused(&self.rows, why, now).await?;
                Ok(true)
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
        let (store, now) = (&pipeline.store, pipeline.now());
        Ok(store.claims_refused(&self.rows, why, now).await?)
    }
}
