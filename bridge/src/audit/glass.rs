//! Who broke the glass: what the patient is alerted of.

use medsync_protocol::audit::{Body, EntryKind};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use serde::Serialize;

use crate::store::log::LogFilter;
use crate::store::{Store, StoreError};

/// One access that the custodian let through as an emergency, as the patient allowed it to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenGlass {
    /// When, by the custodian's clock.
    pub at: UnixSeconds,
    /// Who asked; nothing if the request never came here.
    pub recipient: Option<PublicKey>,
    /// Why, in the recipient's own words.
    pub reason: Option<String>,
}

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
