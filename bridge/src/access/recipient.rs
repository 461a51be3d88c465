//! The recipient's side: opening what was released, and erasing it when told to.
//!
//! Each request has a reply key of its own, kept here before anybody is asked to seal to it. What
//! was opened lies in a folder a release. Erasing destroys the key first: from then on nothing
//! that still lies in the exchange opens any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use medsync_protocol::audit::{Body, EntryDigest, EntryKind};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealedFor};
use medsync_protocol::signature::{PublicKey, SecretKey};

use super::only_store;
use crate::audit;
use crate::files;
use crate::guard;
use crate::invitation::Invitation;
use crate::parts::{self, OpenError};
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{Circle, LogEntry, Release, all_releases};
use crate::store::StoreError;
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;

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
    /// says so once. What hinders one order keeps no other waiting.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn erase_all(&self) -> Result<(), PipelineError> {
        let store = &self.pipeline.store;
        for row in store.circles().await? {
            let orders = self.of_kind(&row, EntryKind::EraseOrdered).await?;
            if orders.is_empty() {
                continue;
            }
            let (answered, released) = (self.answered(&row).await?, self.released(&row).await?);
            for order in orders {
                let erased = self.erase(&row, &order, &released, &answered);
                only_store(erased.await, "an erasure")?;
            }
        }
        Ok(())
    }

    /// The log entries of a kind in an exchange.
    async fn of_kind(&self, row: &CircleRow, kind: EntryKind) -> Result<Vec<LogEntry>, StoreError> {
        let filter = LogFilter {
            kind: Some(kind.name()),
            ..LogFilter::default()
        };
        self.pipeline.store.log(row.context, &filter).await
    }

    /// The orders that this recipient answered.
    async fn answered(&self, row: &CircleRow) -> Result<BTreeSet<EntryDigest>, StoreError> {
        let own = self.author.public_key();
        let said = self.of_kind(row, EntryKind::Erased).await?;
        Ok(said
            .into_iter()
            .filter(|entry| entry.entry.author_key == own)
            .filter_map(|entry| match entry.body {
                Body::Erased { order, .. } => order,
                _ => None,
            })
            .collect())
    }

    /// The request that each release answers, by the custodian's entries in the exchange.
    async fn released(
        &self,
        row: &CircleRow,
    ) -> Result<BTreeMap<EntryDigest, EntryDigest>, StoreError> {
        let said = self.of_kind(row, EntryKind::Released).await?;
        Ok(said
            .into_iter()
            .filter_map(|entry| match entry.body {
                Body::Released {
                    request, logged_as, ..
                } => Some((logged_as?, request)),
                _ => None,
            })
            .collect())
    }

    async fn erase(
        &self,
        row: &CircleRow,
        order: &LogEntry,
        released: &BTreeMap<EntryDigest, EntryDigest>,
        answered: &BTreeSet<EntryDigest>,
    ) -> Result<(), PipelineError> {
        let store = &self.pipeline.store;
        let Body::EraseOrdered { release, .. } = order.body else {
            return Ok(());
        };
        if !is_custodian(row, order.entry.author_key)? {
            return Ok(());
        }
        // What was released is not known yet: it must not be said to be erased, and then come.
        let Some(request) = released.get(&release) else {
            return Ok(());
        };
        let Some(Body::Requested(requested)) = store.entry(*request).await?.map(|e| e.body) else {
            return Ok(());
        };
        let is_answered = answered.contains(&order.digest());
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
        self.acknowledge(row, order).await?;
        tracing::info!(%release, "erased, and said so");
        Ok(())
    }

    async fn acknowledge(&self, row: &CircleRow, order: &LogEntry) -> Result<(), PipelineError> {
        let (store, now) = (&self.pipeline.store, self.pipeline.now());
        let circle = guard::enter(&*self.pipeline.circles, store, row, self.pipeline.now()).await?;
        audit::catch_up(store, &*circle, &self.author, now).await?;
        let says = Body::Erased {
            order: Some(order.digest()),
            said_by: None,
            records: Vec::new(),
        };
        let mut random = self.pipeline.random.lock().await;
        audit::append_once(store, row.context, &self.author, &says, now, &mut *random).await?;
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
    let Some(invitation) = &row.invitation else {
        return Ok(true);
    };
    let invitation: Invitation = serde_json::from_str(invitation)
        .map_err(|error| PipelineError::Broken(format!("the kept invitation: {error}")))?;
    Ok(invitation.says.author_key == author_key)
}

fn folder_of(home: &Path, release: EntryDigest) -> PathBuf {
    home.join(RELEASED).join(release.to_string())
}
