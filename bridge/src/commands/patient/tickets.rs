//! The rewards that a patient was promised, with what proves each promise.

use std::collections::BTreeMap;
use std::path::Path;

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use serde_json::{Value, json};

use super::own_circle;
use crate::commands::print_json;
use crate::party::Party;
use crate::pipeline::Pipeline;
use crate::source::PlacedTicket;

/// Print each ticket, a line each, with its receipt: what a claim needs besides the patient's keys.
pub async fn list(home: &Path) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, invitation) = own_circle(&party).await?;
    let labels: BTreeMap<PoolId, Value> = party
        .store
        .pools()
        .await?
        .into_iter()
        .map(|row| {
            let pool = row.pool;
            let shown = json!({ "label": pool.label, "contract": pool.contract });
            (row.id, shown)
        })
        .collect();
    let pipeline = party.pipeline()?;
    let mut tickets: BTreeMap<(PoolId, Handle), Value> = BTreeMap::new();
    for placed in party.store.placed_tickets(context).await? {
        let ticket = placed.ticket;
        // Its custodian's alone: another's promise is none that this circle's pool pays.
        if ticket.anchorer != invitation.says.custodian_address {
            continue;
        }
        let name = (ticket.pool_id, ticket.handle);
        let stage = stage(&party, &pipeline, &placed).await?;
        let shown = json!({
            "pool": ticket.pool_id,
            "known_as": labels.get(&ticket.pool_id),
            "handle": ticket.handle,
            "claim_until": ticket.claim_until,
            "stage": stage.0,
            "since": stage.1,
            "receipt": {
                "anchorer": ticket.anchorer,
                "salt": ticket.salt,
                "root": placed.root,
                "proof": placed.proof,
            },
        });
        // A ticket may be in several batches; one that is anchored is what counts.
        if stage.0 != "sealed" || !tickets.contains_key(&name) {
            tickets.insert(name, shown);
        }
    }
    for ticket in tickets.into_values() {
        print_json(&ticket)?;
    }
    Ok(())
}

/// How far a ticket is, as the chain says, and since when.
async fn stage(
    party: &Party,
    pipeline: &Pipeline,
    placed: &PlacedTicket,
) -> anyhow::Result<(&'static str, Option<UnixSeconds>)> {
    let ticket = placed.ticket;
    if let Some(revoked) = party.store.revocation(ticket.handle).await? {
        return Ok((
            "revoked",
            Some(revoked.revoked_at.unwrap_or(revoked.seen_at)),
        ));
    }
    pipeline.check_chain().await?;
    let registry = pipeline.registry.registry;
    let anchored = pipeline
        .chain
        .anchored_at(registry, ticket.anchorer, placed.root)
        .await?;
    Ok(match anchored {
        Some(at) => ("anchored", Some(at)),
        None => ("sealed", None),
    })
}
