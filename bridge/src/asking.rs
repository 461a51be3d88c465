//! Asking for records, whoever does: the recipient's command line, or its operator by the API.

use medsync_client::wire::NewRequest;
use medsync_protocol::audit::{Body, EntryDigest, Requested};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::seal::SealSecret;

use crate::access::break_glass_code;
use crate::guard::Circles;
use crate::keys::ResearcherKeys;
use crate::pipeline::PipelineError;
use crate::saying::{SayError, say_once};
use crate::seams::{random_bytes, system_random};
use crate::status::check_clock;
use crate::store::circles::CircleRow;
use crate::store::{Store, StoreError};

/// Why nothing is asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The request makes no sense; what would be right.
    #[error("{0}")]
    Wrong(String),
    /// The exchange is stopped.
    #[error("the exchange is stopped, and nobody would see the request: {0}")]
    Stopped(String),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was not written.
    #[error(transparent)]
    Say(#[from] SayError),
    /// The clock is wrong.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

fn codes(what: &str, named: Vec<Code>) -> Result<CodeSet, AskError> {
    let set = CodeSet::collect(named);
    set.map_err(|error| AskError::Wrong(format!("{what}: {error}")))
}

/// Asks for a patient's records in an exchange, in the recipient's name.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(
    (store, circles): (&Store, &dyn Circles),
    row: &CircleRow,
    keys: &ResearcherKeys,
    new: NewRequest,
    now: UnixSeconds,
) -> Result<EntryDigest, AskError> {
    if let Some(why) = &row.alarm {
        return Err(AskError::Stopped(why.clone()));
    }
    let mut purposes = new.purposes;
    if new.break_glass {
        if !purposes.contains(&break_glass_code()) {
            purposes.push(break_glass_code());
        }
        if new.reason.trim().is_empty() {
            let why = "whoever breaks the glass says why: the reason";
            return Err(AskError::Wrong(why.into()));
        }
    } else if purposes.contains(&break_glass_code()) {
        let why = "to ask for the purpose BTG is to break the glass: say so, with break_glass \
                   (--break-glass)";
        return Err(AskError::Wrong(why.into()));
    }
    let (purposes, classes) = (codes("purposes", purposes)?, codes("classes", new.classes)?);
    let understood = codes("understood", new.understood)?;
    check_clock(store, now).await?;
    let reply = SealSecret::from_bytes(random_bytes(&mut system_random()));
    let says = Body::Requested(Requested {
        asked_by: None,
        recipient: keys.recipient.public_key(),
        patient: new.patient,
        purposes,
        classes,
        understood,
        reason: new.reason,
        break_glass: new.break_glass,
        reply_key: reply.public_key(),
    });
    says.subject()
        .map_err(|error| AskError::Wrong(error.to_string()))?;
    store.keep_reply_key(&reply).await?;
    let kept_in = (store, circles);
    Ok(say_once(kept_in, row.context, &keys.author, &says, now).await?)
}
