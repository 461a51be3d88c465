//! The recipient's side: opening what was released, and erasing it when told to.
//!
//! Each request has a reply key of its own, kept here before anybody is asked to seal to it. What
//! was opened lies in a folder a release. Erasing destroys the key first: from then on nothing
//! that still lies in the exchange opens any more.

use std::path::{Path, PathBuf};

use medsync_protocol::audit::{Body, EntryDigest, EntryKind};
use medsync_protocol::ids::ContextId;
use medsync_protocol::seal::{RecordKey, RecordVersion, SealedFor};
use medsync_protocol::signature::SecretKey;
use zeroize::Zeroizing;

use crate::audit;
use crate::files;
use crate::guard;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{Circle, LogEntry, Release, all_releases};
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;
use crate::store::{Store, StoreError};

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
    /// Erases whatever the custodians ordered and this recipient did not answer yet.
    ///
    /// # Errors
    /// A store that does not answer, or a file that cannot be deleted: it is done again.
    pub async fn erase_all(&self) -> Result<(), PipelineError> {
        let store = &self.pipeline.store;
        for row in store.circles().await? {
            for order in self.orders(&row).await? {
                self.erase(&row, &order).await?;
            }
        }
        Ok(())
    }

    /// Orders that were not answered.
    async fn orders(&self, row: &CircleRow) -> Result<Vec<LogEntry>, PipelineError> {
        let store = &self.pipeline.store;
        let of_kind = |kind: EntryKind| LogFilter {
            kind: Some(kind.name()),
            ..LogFilter::default()
        };
        let own = self.author.public_key();
        let mut orders = store
            .log(row.context, &of_kind(EntryKind::EraseOrdered))
            .await?;
        orders.retain(|order| order.entry.author_key != own);
        for said in store.log(row.context, &of_kind(EntryKind::Erased)).await? {
            if said.entry.author_key == own
                && let Body::Erased { order, .. } = said.body
            {
                orders.retain(|waiting| Some(waiting.digest()) != order);
            }
        }
        Ok(orders)
    }

    async fn erase(&self, row: &CircleRow, order: &LogEntry) -> Result<(), PipelineError> {
        let (store, now) = (&self.pipeline.store, self.pipeline.now());
        let Body::EraseOrdered { release, .. } = order.body else {
            return Ok(());
        };
        if let Some(request) = request_of(store, row.context, release).await?
            && let Some(Body::Requested(requested)) = store.entry(request).await?.map(|e| e.body)
        {
            store.destroy_reply_key(requested.reply_key).await?;
        }
        files::remove_folder(&folder_of(&self.home, release))
            .map_err(|error| PipelineError::Broken(error.to_string()))?;
        let says = Body::Erased {
            order: Some(order.digest()),
            said_by: None,
            records: Vec::new(),
        };
        let mut random = self.pipeline.random.lock().await;
        audit::append_once(store, row.context, &self.author, &says, now, &mut *random).await?;
        tracing::info!(%release, "erased, and said so");
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
        let circle = guard::enter(&*self.pipeline.circles, &self.pipeline.store, row).await?;
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
        let opened = RecordKey::open(&secret, &place, &release.sealed_key)
            .and_then(|key| key.decrypt(&place, &payload));
        let resource = match opened {
            Ok(resource) => Zeroizing::new(resource),
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

/// The request that a release answers, by the custodian's entry in the exchange.
async fn request_of(
    store: &Store,
    exchange: ContextId,
    release: EntryDigest,
) -> Result<Option<EntryDigest>, StoreError> {
    let filter = LogFilter {
        kind: Some(EntryKind::Released.name()),
        ..LogFilter::default()
    };
    let released = store.log(exchange, &filter).await?;
    Ok(released.into_iter().find_map(|entry| match entry.body {
        Body::Released {
            request,
            logged_as: Some(logged_as),
            ..
        } if logged_as == release => Some(request),
        _ => None,
    }))
}

fn folder_of(home: &Path, release: EntryDigest) -> PathBuf {
    home.join(RELEASED).join(release.to_string())
}
