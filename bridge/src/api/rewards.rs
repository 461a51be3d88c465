//! A patient's rewards: `/v1/circles/{context}/tickets`, and `…/claims`, which spend them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{BroughtClaim, NewClaim, Tickets};
use medsync_protocol::claim::Claim;
use medsync_protocol::ids::{Anchorer, ContractAddress};

use super::caller::who::PARTY;
use super::caller::{Said, Theirs};
use super::writes::check_circle;
use super::{Api, Problem};
use crate::store::circles::CircleRow;
use crate::views;

/// The rewards that a circle's patient was promised, each with what a claim needs besides the
/// patient's keys.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/tickets",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "All of them.", body = Tickets), Problem)
)]
pub(super) async fn tickets(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
) -> Result<Json<Tickets>, Problem> {
    let state = api.enter(&row).await?.circle().await?;
    let custodian = state.custodian.anchorer;
    let tickets = views::anchoring::tickets(&api.pipeline, row.context, custodian).await?;
    Ok(Json(Tickets { tickets }))
}

/// Brings a claim that the patient signed: it is kept, and sent to the chain by this party's
/// account as soon as the pool takes it. Again, it is the same one; another address may take its
/// place as long as it was not sent. The tickets say how far it is.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/claims",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    request_body = NewClaim,
    security(("operator" = []), ("session" = [])),
    responses((status = 202, description = "It is kept.", body = BroughtClaim), Problem)
)]
pub(super) async fn claim(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Said(NewClaim(signed)): Said<NewClaim>,
) -> Result<(StatusCode, Json<BroughtClaim>), Problem> {
    check_circle(&row)?;
    let Some(anchorer) = api.claims_of else {
        let why = "this party sends no claims: anybody can, by `medsync rewards claim`";
        return Err(Problem::of(StatusCode::CONFLICT, why));
    };
    let store = &api.pipeline.store;
    let pools = store.pools().await?;
    let pool = pools.iter().find(|known| known.id == signed.pool());
    let pool = pool.ok_or_else(|| Problem::of(StatusCode::NOT_FOUND, "no such pool is known"))?;
    let believed = api.pipeline.registry;
    let claim = signed.claim_for(believed.chain_id, pool.pool.contract);
    let claim = claim.map_err(|error| Problem::wrong(error.to_string()))?;
    api.check_ticket(&row, &claim, anchorer).await?;
    if claim.claim_until <= api.pipeline.now() {
        let why = format!("the ticket was good until {}", claim.claim_until);
        return Err(Problem::of(StatusCode::CONFLICT, why));
    }
    api.keep_claim(&row, &claim, pool.pool.contract).await?;
    tracing::info!(track = %claim.handle(), "claim brought");
    let brought = BroughtClaim {
        pool: claim.pool,
        handle: claim.handle(),
        pay_to: claim.pay_to,
        claim_until: claim.claim_until,
    };
    Ok((StatusCode::ACCEPTED, Json(brought)))
}

impl Api {
    /// Keeps a claim, unless it is kept, or another one is paid or on its way.
    async fn keep_claim(
        &self,
        row: &CircleRow,
        claim: &Claim,
        contract: ContractAddress,
    ) -> Result<(), Problem> {
        let (store, name) = (&self.pipeline.store, (claim.pool, claim.handle()));
        if let Some(kept) = store.claim_of(name).await? {
            let (chain, registry) = (&self.pipeline.chain, self.pipeline.registry.registry);
            // What was paid may have been in a block that the chain dropped.
            let is_paid = kept.claimed_at.is_some()
                && chain
                    .ticket_times_by_all(registry, contract, name.0, name.1)
                    .await
                    .map_or(true, |(times, _)| times.claimed_at.is_some());
            if kept.claim == *claim && (is_paid || kept.claimed_at.is_none()) {
                return Ok(());
            }
            if is_paid {
                let why = "the reward is paid, as it was claimed before";
                return Err(Problem::of(StatusCode::CONFLICT, why));
            }
        }
        let now = self.pipeline.now();
        store.keep_claim(row.context, claim, now).await?;
        let kept = store.claim_of(name).await?;
        if kept.is_none_or(|kept| kept.claim != *claim) {
            let why = "the claim is on its way to another address, as it was brought before";
            return Err(Problem::of(StatusCode::CONFLICT, why));
        }
        Ok(())
    }

    /// Refuses a claim of what is no ticket of this circle by this custodian.
    async fn check_ticket(
        &self,
        row: &CircleRow,
        claim: &Claim,
        anchorer: Anchorer,
    ) -> Result<(), Problem> {
        let name = (claim.pool, claim.handle());
        let issued = self.pipeline.store.ticket_in(row.context, name).await?;
        if issued.is_none_or(|issued| issued.ticket(anchorer) != claim.ticket()) {
            let why = "this spends no ticket that was issued in this circle";
            return Err(Problem::of(StatusCode::NOT_FOUND, why));
        }
        Ok(())
    }
}
