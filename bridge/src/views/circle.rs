//! A circle at a glance.

use std::collections::BTreeSet;

use medsync_client::wire::{self, BrokenGlass, Member};
use medsync_protocol::ids::ContextId;

use crate::audit::{answers_fact, broken_glass, described_fact, forked_fact, logs_fact};
use crate::invitation::author_in;
use crate::pipeline::ingest::rewritten_fact;
use crate::source::CircleState;
use crate::store::circles::CircleRow;
use crate::store::{Store, StoreError};

/// A circle or exchange: what it says if it was entered, and what was kept of it here.
///
/// # Errors
/// A store that does not answer.
pub async fn circle(
    store: &Store,
    row: &CircleRow,
    entered: Result<&CircleState, String>,
) -> Result<wire::Circle, StoreError> {
    let state = entered.as_ref().ok().copied();
    let said = state.map(|state| state.custodian.author_key);
    // Who breaks the glass and stops the circle then takes that back no more than anything else.
    let invited = author_in(row.invitation.as_deref()).ok().flatten();
    let glass: Vec<BrokenGlass> = match said.or(invited) {
        Some(custodian) => broken_glass(store, row.context, custodian).await?,
        None => Vec::new(),
    };
    Ok(wire::Circle {
        context: row.context,
        kind: row.kind.name().to_owned(),
        label: row.label.clone(),
        stopped: entered.err(),
        frozen: state.is_some_and(|state| state.frozen),
        party_key: state.and_then(|state| state.keys.last().copied()),
        custodian_member: row.custodian_member,
        party_member: row.patient_member,
        members: state.map(members).unwrap_or_default(),
        restored_at: store.restored_at().await?,
        evidence: evidence(store, row.context).await?,
        broken_glass: glass,
    })
}

/// What was found of others' doings so far.
async fn evidence(store: &Store, context: ContextId) -> Result<Option<String>, StoreError> {
    let forked = store.fact(&forked_fact(context)).await?;
    let said = async |name: String| {
        let fact = store.fact(&name).await?;
        Ok::<_, StoreError>(fact.filter(|why| !why.is_empty()))
    };
    let answers = said(answers_fact(context)).await?;
    let logs = said(logs_fact(context)).await?;
    let described = said(described_fact(context)).await?;
    let kept = store.evidence(context).await?.describe();
    let rewritten = store.fact(&rewritten_fact(context)).await?;
    let all = [forked, rewritten, logs, answers, described, kept];
    let all = all.into_iter().flatten();
    Ok(all.reduce(|a, b| format!("{a}; {b}")))
}

/// Whom the patient admitted, once each.
fn members(state: &CircleState) -> Vec<Member> {
    let admissions: BTreeSet<_> = state.admitted().map(|found| found.admission).collect();
    let members = admissions.iter().map(|admission| Member {
        member: admission.member,
        device: admission.device,
        role: admission.device.role(),
        admitted_by: admission.admitted_by,
    });
    members.collect()
}
