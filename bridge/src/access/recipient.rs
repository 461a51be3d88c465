//! The recipient's side: opening what was released, and erasing it when told to.
//!
//! Each request has a reply key of its own, kept here before anybody is asked to seal to it. What
//! was opened lies in a folder a release. Erasing destroys the key first: from then on nothing
//! that still lies in the exchange opens any more.

use std::path::{Path, PathBuf};

use medsync_protocol::audit::{Body, EntryDigest, EntryKind};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealedFor};
use medsync_protocol::signature::{PublicKey, SecretKey};

use super::erase::answer_to;
use super::{LOOKED_AT_PER_ROUND, Turns, only_store};
use crate::audit;
use crate::files;
use crate::guard;
use crate::invitation::author_in;
use crate::parts::{self, OpenError};
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{Circle, LogEntry, Release, all_releases};
use crate::store::StoreError;
use crate::store::circles::CircleRow;

/// The folder of a recipient's home in which opened releases lie.
const RELEASED: &str = "released";

/// A recipient at its home.
pub struct Recipient {
    /// Store, node, clock, chance.
    pub pipeline: Pipeline,
    /// Signs the recipient's log entries.
    pub author: SecretKey,
    /// Its folder.
    pub home: PathBuf,
    /// How far the looks through the orders are; empty at the start.
    pub turns: Turns,
}

/// What became of one released record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It lies in this file.
    File(PathBuf),
    /// It cannot be opened, and why.
    Not(String),
}

impl Recipient {
    /// Erases whatever the custodians ordered, also again if a restored backup brought it back, and
    /// says so once; each round looks at a part of the orders. What hinders one of them keeps no
    /// other waiting.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn erase_all(&self) -> Result<(), PipelineError> {
        // What is left out says the lane that reads it.
        let (rows, _) = self.pipeline.store.readable_circles().await?;
        for row in rows {
            for order in self.next_orders(&row).await? {
                only_store(self.erase(&row, &order).await, "an erasure")?;
            }
        }
        Ok(())
    }

    /// The next orders to erase of an exchange, a part of them.
    async fn next_orders(&self, row: &CircleRow) -> Result<Vec<LogEntry>, StoreError> {
        let (store, list) = (&self.pipeline.store, row.context.to_string());
        let orders = store
            .log_page(
                (row.context, EntryKind::EraseOrdered),
                self.turns.after(&list),
                LOOKED_AT_PER_ROUND as u32,
            )
            .await?;
        self.turns
            .looked_at(list, orders.iter().map(LogEntry::digest));
        Ok(orders)
    }

    async fn erase(&self, row: &CircleRow, order: &LogEntry) -> Result<(), PipelineError> {
        let (store, custodian) = (&self.pipeline.store, order.entry.author_key);
        let Body::EraseOrdered { release, .. } = order.body else {
            return Ok(());
        };
        if !is_custodian(row, custodian)? {
            return Ok(());
        }
        // What was released is not known yet: it must not be said to be erased, and then come.
        let released = store.handing_over((row.context, custodian), release);
        let Some(Body::Released { request, .. }) = released.await?.map(|e| e.body) else {
            return Ok(());
        };
        let Some(Body::Requested(requested)) = store.entry(request).await?.map(|e| e.body) else {
            return Ok(());
        };
        let (own, says) = (self.author.public_key(), answer_to(order.digest()));
        let is_answered = store.entry_saying(row.context, own, &says).await?.is_some();
        let folder = folder_of(&self.home, release);
        let is_here = store.reply_key(requested.reply_key).await?.is_some() || folder.exists();
        if is_here || !is_answered {
            store.destroy_reply_key(requested.reply_key).await?;
            files::remove_folder(&folder)
                .map_err(|error| PipelineError::Broken(error.to_string()))?;
        }
        if is_answered {
            return Ok(());
        }
        self.acknowledge(row, &says).await?;
        tracing::info!(%release, "erased, and said so");
        Ok(())
    }

    async fn acknowledge(&self, row: &CircleRow, says: &Body) -> Result<(), PipelineError> {
        let (store, now) = (&self.pipeline.store, self.pipeline.now());
        let circle = guard::enter(&*self.pipeline.circles, store, row, self.pipeline.now()).await?;
        audit::catch_up(store, &*circle, &self.author, now).await?;
        let mut random = self.pipeline.random.lock().await;
        audit::append_once(store, row.context, &self.author, says, now, &mut *random).await?;
        Ok(())
    }

    /// Opens everything that was released on a request; answers what became of each record.
    ///
    /// # Errors
    /// A store or a node that does not answer, or a file that cannot be written.
    pub async fn open(
        &self,
        row: &CircleRow,
        request: EntryDigest,
    ) -> Result<Vec<(Release, Opened)>, PipelineError> {
        let circle = guard::enter(
            &*self.pipeline.circles,
            &self.pipeline.store,
            row,
            self.pipeline.now(),
        )
        .await?;
        let mut opened = Vec::new();
        for release in all_releases(&*circle).await? {
            if release.request == request {
                let outcome = self.open_one(&*circle, &release).await?;
                opened.push((release, outcome));
            }
        }
        Ok(opened)
    }

    async fn open_one(
        &self,
        exchange: &dyn Circle,
        release: &Release,
    ) -> Result<Opened, PipelineError> {
        let store = &self.pipeline.store;
        let not = |why: &str| Ok(Opened::Not(why.to_owned()));
        if !self.is_logged(release).await? {
            return not("the custodian's log does not have it; it is not believed");
        }
        let requested = match store.entry(release.request).await?.map(|e| e.body) {
            Some(Body::Requested(requested)) => requested,
            _ => return not("it answers no request of this home"),
        };
        let Some(secret) = store.reply_key(requested.reply_key).await? else {
            return not("the reply key was destroyed: it was erased");
        };
        let Some(payload) = exchange.release(release.key).await?.payload else {
            return not("its payload has not arrived here yet");
        };
        let place = SealedFor {
            context: release.circle,
            record: release.what.record,
            version: RecordVersion(release.what.version),
            reader: requested.reply_key,
            log: Some(release.logged_as),
        };
        let key = match RecordKey::open(&secret, &place, &release.sealed_key) {
            Ok(key) => key,
            Err(error) => return not(&error.to_string()),
        };
        let resource = match parts::open(exchange, &key, &place, &payload).await {
            Ok(resource) => resource,
            Err(OpenError::Source(error)) => return Err(error.into()),
            Err(error) => return not(&error.to_string()),
        };
        let written = |error: files::FileError| PipelineError::Broken(error.to_string());
        let folder = folder_of(&self.home, release.logged_as);
        files::private_folder(&self.home.join(RELEASED)).map_err(written)?;
        files::private_folder(&folder).map_err(written)?;
        let file = folder.join(format!(
            "{}-{}.json",
            release.what.record, release.what.version
        ));
        files::write_whole(&file, &resource, true).map_err(written)?;
        // Whoever erases destroys the key first: after this look the folder is theirs to remove.
        if store.reply_key(requested.reply_key).await?.is_none() {
            files::remove_folder(&folder).map_err(written)?;
            return not("the reply key was destroyed meanwhile: it was erased");
        }
        Ok(Opened::File(file))
    }

    /// Whether the custodian signed an entry in this exchange that names just this release.
    async fn is_logged(&self, release: &Release) -> Result<bool, PipelineError> {
        let entry = self.pipeline.store.entry(release.entry).await?;
        Ok(entry.is_some_and(|entry| {
            entry.entry.author_key != self.author.public_key()
                && matches!(entry.body, Body::Released { request, logged_as, ref records, .. }
                    if request == release.request
                        && logged_as == Some(release.logged_as)
                        && records.contains(&release.what))
        }))
    }
}

/// Whether this is the author key that the invitation named; a home without one takes any.
fn is_custodian(row: &CircleRow, author_key: PublicKey) -> Result<bool, PipelineError> {
    let named = author_in(row.invitation.as_deref())
        .map_err(|error| PipelineError::Broken(format!("the kept invitation: {error}")))?;
    Ok(named.is_none_or(|named| named == author_key))
}

fn folder_of(home: &Path, release: EntryDigest) -> PathBuf {
    home.join(RELEASED).join(release.to_string())
}
