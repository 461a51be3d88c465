//! What an exchange holds, as people see it.

use std::collections::HashMap;

use medsync_client::wire::{self, Answer, Asked, SharedReceipt};
use medsync_protocol::audit::{Body, EntryDigest};
use medsync_protocol::ids::ContextId;
use medsync_protocol::receipt::Receipt;

use crate::source::{self, Release};
use crate::store::log::LogFilter;
use crate::store::{Store, StoreError};

/// Every request of an exchange, and what became of it, by author and number.
///
/// # Errors
/// A store that does not answer.
pub async fn requests(store: &Store, exchange: ContextId) -> Result<Vec<Asked>, StoreError> {
    let log = store.log(exchange, &LogFilter::default()).await?;
    let mut answers: HashMap<EntryDigest, Vec<Answer>> = HashMap::new();
    for entry in &log {
        if let Body::Permitted { request, .. }
        | Body::Denied { request, .. }
        | Body::Released { request, .. } = &entry.body
        {
            answers.entry(*request).or_default().push(Answer {
                kind: entry.entry.kind,
                says: entry.body.clone(),
            });
        }
    }
    let asked = log.iter().filter_map(|entry| match &entry.body {
        Body::Requested(requested) => Some((entry, requested)),
        _ => None,
    });
    let described = asked.map(|(entry, requested)| {
        let request = entry.digest();
        let answers = answers.remove(&request).unwrap_or_default();
        let state = answers.last().map_or("asked", |last| last.kind.name());
        Asked {
            request,
            at: entry.entry.at,
            patient: requested.patient,
            purposes: requested.purposes.clone(),
            state: state.to_owned(),
            answers,
        }
    });
    Ok(described.collect())
}

/// A released record.
#[must_use]
pub fn release(release: &Release) -> wire::Release {
    wire::Release {
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
