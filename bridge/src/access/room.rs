//! Room in the logs: what is answered may have to be ordered erased one day, and a log has an end.

use medsync_protocol::audit::Seq;
use medsync_protocol::ids::ContextId;

use super::Desk;
use crate::pipeline::PipelineError;

/// How many entries of one author a context's log has room for, as the app lays it out.
pub const LOG_ENTRIES_MAX: u64 = 65_536;
/// How many more are kept free than what is open may need: an answer has several entries.
const RESERVE: u64 = 1_024;
/// How many entries an open release may still need: that it is ordered erased, and that it was.
const ENTRIES_OF_A_RELEASE: u64 = 2;

/// The fact under which it is kept that a context's log is nearly full; it stays so.
#[must_use]
pub fn full_fact(context: ContextId) -> String {
    format!("full:{context}")
}

impl Desk {
    /// Makes sure that what is answered in a context leaves room to order all of it erased.
    ///
    /// # Errors
    /// A log that is nearly full, which is also kept for people to see; a store that does not
    /// answer.
    pub(super) async fn check_room(&self, context: ContextId) -> Result<(), PipelineError> {
        let (store, own) = (&self.pipeline.store, self.author.public_key());
        let Seq(used) = store.log_next(context, own).await?.seq;
        let open = store.open_releases(context).await?;
        let needed = open
            .saturating_mul(ENTRIES_OF_A_RELEASE)
            .saturating_add(RESERVE);
        if used.saturating_add(needed) < self.log_entries_max {
            return Ok(());
        }
        let why = format!(
            "its log is nearly full ({used} entries of at most {}): no request is answered in it \
             any more, so that orders to erase find room. Open another",
            self.log_entries_max
        );
        let fact = full_fact(context);
        if store.fact(&fact).await?.is_none() {
            tracing::error!(%context, why, "ALARM: a log is nearly full");
            store.state_fact(&fact, &why).await?;
        }
        Err(PipelineError::Broken(format!("{context}: {why}")))
    }
}
