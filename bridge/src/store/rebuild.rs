//! The outbox and the queue, made anew from what the circles and the chain have.

use medsync_protocol::ids::{ContextId, UnixSeconds};

use super::batches::{Afterwards, BatchId, BatchState};
use super::db::query;
use super::facts::ask_for_revocations;
use super::held::LeftOut;
use super::{Store, StoreError};
use crate::source::EntryKind;

impl Store {
    /// Gives up what the outbox and the queue hold, so that the daemon finds it anew: broken
    /// batches on chain and those that are not placed are taken apart, no consent that waits is
    /// sealed before its circle was asked where it stands, revocations on their way are asked
    /// about, and every circle is read through: of those that are unreadable, consents and
    /// revocations are taken in again. Keys, pins and evidence stay as they are.
    ///
    /// # Errors
    /// A database that refuses; it is then done again.
    pub async fn rebuild(
        &self,
        broken: &[BatchId],
        unreadable: &[ContextId],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let open = self.open_batches().await?;
        for id in broken {
            if open.iter().all(|batch| batch.id != *id) {
                self.take_apart(*id, now).await?;
            }
        }
        for batch in open {
            // One that was placed may be on its way, and the chain is asked about it.
            if batch.state == BatchState::Sealed {
                self.take_apart(batch.id, now).await?;
            }
        }
        let circles = self.circle_contexts().await?;
        let mut transaction = self.db.begin("rebuild").await?;
        for statement in [
            "UPDATE consents SET place_is_unsure = TRUE WHERE batch IS NULL",
            "UPDATE revocations SET state = 'waiting', intent = NULL, transaction_hash = NULL, \
             sent_at = NULL WHERE state = 'submitted'",
            "UPDATE claims SET intent = NULL, transaction_hash = NULL, sent_at = NULL",
            "DELETE FROM outbox",
            "UPDATE circles SET state_hash = NULL, consents_digest = NULL",
        ] {
            query(statement).execute(&mut *transaction).await?;
        }
        for context in unreadable {
            query(
                "DELETE FROM seen WHERE context = $1 AND kind IN ($2, $3) \
                 AND vanished_at IS NULL AND replaced_at IS NULL",
            )
            .bind(context.to_string())
            .bind(EntryKind::Consent.name())
            .bind(EntryKind::Revocation.name())
            .execute(&mut *transaction)
            .await?;
        }
        for context in circles {
            ask_for_revocations(&mut transaction, context, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Takes a batch apart that may be on chain: none of its consents is sealed again before it
    /// was looked up, also if this process dies now.
    pub(super) async fn take_apart(&self, id: BatchId, now: UnixSeconds) -> Result<(), StoreError> {
        let left_out = LeftOut::default();
        self.dissolve_batch(id, Afterwards::LookedUp, &left_out, now)
            .await
    }
}
