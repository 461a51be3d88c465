//! Who carries a hospital's command out: its daemon, asked over the API, or the command itself
//! while no daemon answers.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;
use medsync_client::wire::{
    AddedPool, CircleStatus, Erased, ExpectedRecipient, ImportLine, ImportState, Invited,
    NewCircle, NewErasure, NewInvitation, NewPool, Pool, Status,
};
use medsync_client::{Client, ClientError};
use medsync_protocol::ids::{ContextId, MemberId};
use medsync_protocol::ticket::PoolId;

use crate::api::Announced;
use crate::commands::running::daemon_of;
use crate::config::Config;
use crate::custodian::{Custodian, Progress};
use crate::fhir::{self, BUNDLE_BYTES_MAX};
use crate::files;
use crate::party::Party;
use crate::{status, views};

/// How often it is asked how far an import is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A hospital, as its commands reach it.
pub(super) enum Office {
    /// By its daemon, as long as it answers for that home.
    Daemon(Client, PathBuf),
    /// By itself.
    Here(Box<Custodian>),
}

impl Office {
    /// The hospital at a home.
    pub async fn of(home: &Path) -> anyhow::Result<Self> {
        let config = Config::load(home)?;
        if let Some(client) = daemon_of(home, &config).await? {
            return Ok(Self::Daemon(client, home.to_owned()));
        }
        let party = Party::open(home).await?;
        Ok(Self::Here(Box::new(Custodian::of(&party)?)))
    }

    pub async fn open(&self, new: NewCircle) -> anyhow::Result<Invited> {
        Ok(match self {
            Self::Daemon(client, _) => client.open(&new).await?,
            Self::Here(custodian) => custodian.open(new).await?,
        })
    }

    pub async fn invite(&self, context: ContextId, hours: u64) -> anyhow::Result<Invited> {
        Ok(match self {
            Self::Daemon(client, _) => client.invite(context, NewInvitation { hours }).await?,
            Self::Here(custodian) => custodian.invite(context, hours).await?,
        })
    }

    pub async fn expect_recipient(
        &self,
        exchange: ContextId,
        expected: ExpectedRecipient,
    ) -> anyhow::Result<()> {
        match self {
            Self::Daemon(client, _) => client.expect_recipient(exchange, expected).await?,
            Self::Here(custodian) => custodian.expect_recipient(exchange, expected).await?,
        }
        Ok(())
    }

    pub async fn resume(&self, context: ContextId) -> anyhow::Result<()> {
        match self {
            Self::Daemon(client, _) => client.resume(context).await?,
            Self::Here(custodian) => custodian.resume(context).await?,
        }
        Ok(())
    }

    pub async fn remove(
        &self,
        context: ContextId,
        member: MemberId,
        left: bool,
    ) -> anyhow::Result<()> {
        match self {
            Self::Daemon(client, _) => client.remove(context, member, left).await?,
            Self::Here(custodian) => custodian.remove(context, member, left).await?,
        }
        Ok(())
    }

    pub async fn erase(&self, circle: ContextId, erasure: NewErasure) -> anyhow::Result<Erased> {
        Ok(match self {
            Self::Daemon(client, _) => client.erase(circle, &erasure).await?,
            Self::Here(custodian) => custodian.erase(circle, erasure).await?,
        })
    }

    pub async fn add_pool(&self, new: NewPool) -> anyhow::Result<AddedPool> {
        Ok(match self {
            Self::Daemon(client, _) => client.add_pool(&new).await?,
            Self::Here(custodian) => custodian.add_pool(new).await?,
        })
    }

    pub async fn close_pool(&self, pool: PoolId) -> anyhow::Result<()> {
        match self {
            Self::Daemon(client, _) => client.close_pool(pool).await?,
            Self::Here(custodian) => custodian.close_pool(pool).await?,
        }
        Ok(())
    }

    pub async fn pools(&self) -> anyhow::Result<Vec<Pool>> {
        Ok(match self {
            Self::Daemon(client, _) => client.pools().await?.pools,
            Self::Here(custodian) => {
                let rows = custodian.store.pools().await?.into_iter();
                rows.map(views::anchoring::pool).collect()
            }
        })
    }

    /// Imports a bundle; shows how far it is.
    pub async fn import(
        &self,
        circle: ContextId,
        bundle: &Path,
        not_erased: bool,
    ) -> anyhow::Result<Vec<ImportLine>> {
        let bytes = files::read_bounded(bundle, BUNDLE_BYTES_MAX)?;
        // What is no bundle is sent nowhere.
        let parsed = fhir::parse_bundle(&bytes)?;
        let shown = Shown::default();
        match self {
            Self::Daemon(client, home) => {
                drop(parsed);
                watch_import((client, home), (circle, bytes, not_erased), &shown).await?;
            }
            Self::Here(custodian) => {
                drop(bytes);
                custodian.import(circle, parsed, not_erased, &shown).await?;
            }
        }
        Ok(shown.lines())
    }
}

/// How a party does; asks for no keys, so that it is said of a home that lacks them too.
pub(super) async fn status_of(home: &Path) -> anyhow::Result<(Status, Vec<CircleStatus>)> {
    let Some(client) = daemon_of(home, &Config::load(home)?).await? else {
        let store = Party::open(home).await?.store;
        let circles = status::all_circles(&store).await?;
        return Ok((status::status(&store).await?, circles));
    };
    let (status, mut circles, mut after) = (client.status().await?, Vec::new(), None);
    loop {
        let page = client.circles(after.as_deref()).await?;
        circles.extend(page.circles);
        after = page.next;
        if after.is_none() {
            return Ok((status, circles));
        }
    }
}

/// Begins an import, and looks how far it is until it is over. A daemon that ended is not asked any
/// more: somebody else may listen there, and would be told the operator's token.
async fn watch_import(
    (client, home): (&Client, &Path),
    (circle, bytes, not_erased): (ContextId, Vec<u8>, bool),
    shown: &Shown,
) -> anyhow::Result<()> {
    let began = client.import(circle, bytes, not_erased).await?;
    let mut after = 0;
    loop {
        if Announced::of(home).is_none() {
            bail!("the daemon ended; {after} resources were looked at: import the bundle again");
        }
        let from = after.to_string();
        let report = client.import_report(circle, &began.import, Some(&from));
        let page = match report.await {
            Ok(page) => page,
            // It has much to do, and the import goes on.
            Err(ClientError::Problem(problem)) if matches!(problem.status, 429 | 503) => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        shown.begins(page.total);
        after += page.lines.len();
        for line in page.lines {
            shown.looked_at(line);
        }
        match page.state {
            _ if page.next.is_some() => {}
            ImportState::Running => tokio::time::sleep(LOOK_EVERY).await,
            ImportState::Done => return Ok(()),
            ImportState::Failed => bail!(
                "{}; {after} resources were looked at: import the bundle again",
                page.why.unwrap_or_default()
            ),
        }
    }
}

/// A bar, and the report.
struct Shown {
    bar: ProgressBar,
    lines: Mutex<Vec<ImportLine>>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            bar: ProgressBar::new(0),
            lines: Mutex::default(),
        }
    }
}

impl Progress for Shown {
    fn begins(&self, total: u64) {
        self.bar.set_length(total);
    }

    fn looked_at(&self, line: ImportLine) {
        self.bar.inc(1);
        if let Ok(mut lines) = self.lines.lock() {
            lines.push(line);
        }
    }
}

impl Shown {
    fn lines(self) -> Vec<ImportLine> {
        self.bar.finish_and_clear();
        self.lines.into_inner().unwrap_or_default()
    }
}
