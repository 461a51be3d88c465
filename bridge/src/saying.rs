//! Saying something in a context's log, whoever asks for it: the command line, or a page by the
//! API.

use medsync_protocol::audit::{Body, EntryDigest};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::SecretKey;

use crate::audit::{self, AuditError};
use crate::guard::{self, Circles, GuardError};
use crate::seams::system_random;
use crate::source::SourceError;
use crate::store::{Store, StoreError};

/// Why something is not said.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// This home's admission ended.
    #[error("{}", guard::ADMISSION_ENDED)]
    Ended,
}

/// Writes what somebody did into the log, unless that was written before, and brings it into the
/// context if that answers; else the daemon does.
///
/// # Errors
/// A store that does not answer; a home whose admission ended.
pub async fn say_once(
    (store, circles): (&Store, &dyn Circles),
    context: ContextId,
    author: &SecretKey,
    says: &Body,
    now: UnixSeconds,
) -> Result<EntryDigest, SayError> {
    let row = store.circle(context).await?;
    let entered = guard::enter(circles, store, &row, now).await;
    if let Ok(circle) = &entered {
        audit::catch_up(store, &**circle, author, now).await?;
    } else if is_out((store, circles), context).await {
        return Err(SayError::Ended);
    }
    let mut random = system_random();
    let entry = audit::append_once(store, context, author, says, now, &mut random).await?;
    if let Ok(circle) = entered
        && let Err(error) = audit::publish(store, &*circle, now).await
    {
        tracing::warn!(%error, "the log entry is kept; the daemon brings it into its context");
    }
    Ok(entry.digest())
}

/// Why it is not known whether somebody is out.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Whether this home's admission ended, as far as its circle says: one that does not answer keeps
/// nobody from writing what the daemon brings in later, or not.
async fn is_out((store, circles): (&Store, &dyn Circles), context: ContextId) -> bool {
    let looked = async {
        let row = store.circle(context).await?;
        if row.device == DeviceNumber::FIRST {
            return Ok(false);
        }
        let Some(circle) = guard::enter_for_revocations(circles, &row).await? else {
            return Ok(false);
        };
        let state = circle.circle().await?;
        let Some(enrolled) = state.only() else {
            return Ok(false);
        };
        let history = store.key_history(context, &enrolled.enrolment).await?;
        Ok::<_, Unknown>(guard::is_out(&row, &state, &history))
    };
    looked.await.unwrap_or(false)
}
