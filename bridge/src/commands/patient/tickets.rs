//! The rewards that a patient was promised, with what proves each promise.

use std::collections::BTreeMap;
use std::path::Path;

use medsync_protocol::ticket::PoolId;
use serde_json::{Value, json};

use super::own_circle;
use crate::commands::print_json;
use crate::party::Party;
use crate::pipeline::tickets::{TicketStage, promised};

/// Print each ticket, a line each, with its receipt: what a claim needs besides the patient's keys.
/// If the chain does not answer, the stage is unknown and the line says what hinders.
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
    let custodian = invitation.says.custodian_address;
    for (placed, stage) in promised(&party.pipeline()?, context, custodian).await? {
        let ticket = placed.ticket;
        let (stage, since, hindrance) = match stage {
            TicketStage::Sealed => ("sealed", None, None),
            TicketStage::Unknown(why) => ("unknown", None, Some(why)),
            TicketStage::Anchored(at) => ("anchored", Some(at), None),
            TicketStage::Revoked(at) => ("revoked", Some(at), None),
        };
        print_json(&json!({
            "pool": ticket.pool_id,
            "known_as": labels.get(&ticket.pool_id),
            "handle": ticket.handle,
            "claim_until": ticket.claim_until,
            "stage": stage,
            "since": since,
            "hindrance": hindrance,
            "receipt": {
                "anchorer": ticket.anchorer,
                "salt": ticket.salt,
                "root": placed.root,
                "proof": placed.proof,
            },
        }))?;
    }
    Ok(())
}
