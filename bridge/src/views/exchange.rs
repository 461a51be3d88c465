//! What an exchange holds, as people see it.

use medsync_client::wire::{self, Answer, Asked, SharedReceipt};
use medsync_protocol::audit::{Body, EntryKind};
use medsync_protocol::receipt::Receipt;

use super::log::Place;
use crate::invitation::author_in;
use crate::source::{self, Release};
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;
use crate::store::{Store, StoreError};

/// How many answers to a request are shown: an answer, and its releases.
const ANSWERS_MAX: u32 = 100;

/// Requests of an exchange, the latest first, those before `before`: each with what its custodian
/// answered.
///
/// # Errors
/// A store that does not answer, or has no invitation where there was one.
pub async fn requests(
    store: &Store,
    exchange: &CircleRow,
    before: Option<Place>,
    len_max: u32,
) -> Result<Vec<Asked>, StoreError> {
    let custodian = author_in(exchange.invitation.as_deref());
    let custodian = custodian.map_err(|why| StoreError::Corrupt {
        what: "an invitation",
        why: why.to_string(),
    })?;
    let filter = LogFilter {
        kind: Some(EntryKind::Requested.name()),
        ..LogFilter::default()
    };
    let before = before.map(|Place(at, digest)| (at, digest));
    let mut requests = Vec::new();
    for entry in store
        .log_before(exchange.context, &filter, before, len_max)
        .await?
    {
        let request = entry.digest();
        // Whoever asks answers nothing, whatever its log says.
        let answers = store.answers_to(&entry, custodian, ANSWERS_MAX).await?;
        let Body::Requested(requested) = entry.body else {
            continue;
        };
        let answers: Vec<Answer> = answers
            .into_iter()
            .map(|answer| Answer {
                kind: answer.entry.kind,
                says: answer.body,
            })
            .collect();
        let state = answers.last().map_or("asked", |last| last.kind.name());
        requests.push(Asked {
            request,
            at: entry.entry.at,
            patient: requested.patient,
            purposes: requested.purposes,
            state: state.to_owned(),
            answers,
        });
    }
    Ok(requests)
}

/// A released record.
#[must_use]
pub fn release(release: &Release) -> wire::Release {
    wire::Release {
        entry: release.key.to_string(),
        request: release.request,
        logged_as: release.logged_as,
        record: release.what.record,
        version: release.what.version,
        resource_type: release.resource_type.clone(),
    }
}

/// What is a receipt; whether it is true, a verifier says.
#[must_use]
pub fn receipt(shared: &source::SharedReceipt) -> Option<(SharedReceipt, Receipt)> {
    let receipt = Receipt::parse(&shared.receipt).ok()?;
    let described = SharedReceipt {
        patient: shared.patient,
        consent: receipt.commitment().ok()?,
        receipt: serde_json::from_slice(&shared.receipt).ok()?,
    };
    Some((described, receipt))
}
