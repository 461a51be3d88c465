//! Who broke the glass: what the patient is alerted of.

use medsync_client::wire::BrokenGlass;
use medsync_protocol::audit::{Body, EntryKind};
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::PublicKey;

use crate::store::log::LogFilter;
use crate::store::{Store, StoreError};

/// Every time that the glass was broken in a circle, as its custodian's log says. An answer to
/// whoever broke it that says nothing of it is a fault, as [`check_answers`](super::check_answers)
/// says.
///
/// # Errors
/// A store that does not answer.
pub async fn broken_glass(
    store: &Store,
    context: ContextId,
    custodian: PublicKey,
) -> Result<Vec<BrokenGlass>, StoreError> {
    let filter = LogFilter {
        author_key: Some(custodian),
        kind: Some(EntryKind::BreakGlass.name()),
        ..LogFilter::default()
    };
    let mut broken = Vec::new();
    for entry in store.log(context, &filter).await? {
        let Body::BreakGlass { request, .. } = entry.body else {
            continue;
        };
        let (recipient, reason) = match store.entry(request).await?.map(|asked| asked.body) {
            Some(Body::Requested(asked)) => (Some(asked.recipient), Some(asked.reason)),
            _ => (None, None),
        };
        broken.push(BrokenGlass {
            at: entry.entry.at,
            recipient,
            reason,
        });
    }
    Ok(broken)
}
