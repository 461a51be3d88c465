//! One party's parts, put together from its home folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use medsync_protocol::audit::{Body, EntryDigest};
use medsync_protocol::ids::{ContextId, Sha256Digest};
use medsync_protocol::signature::SecretKey;
use tokio::sync::Mutex;

use crate::at_rest::{AtRestError, HomeSecret};
use crate::chain::{
    Account, AccountKey, Chain, ChainError, Health, RpcAccount, SeveralAccounts, SeveralChains,
};
use crate::config::{
    ANCHOR_KEY_FILE, AccountConfig, CLAIM_KEY_FILE, Config, ConfigError, REVOKE_KEY_FILE, Role,
};
use crate::files::{self, FileError};
use crate::guard::{self, Circles, GuardError};
use crate::keys::{self, KeyError};
use crate::lease::{Alone, Only, alone};
use crate::pipeline::ingest::{Readings, SEEN_MAX};
use crate::pipeline::place::LastTree;
use crate::pipeline::{BatchBounds, Pipeline, PipelineError};
use crate::saying::{SayError, say_once};
use crate::seams::{Clock, SystemClock, system_random};
use crate::source::{CalimeroNode, Circle, SourceError};
use crate::status::check_clock;
use crate::store::{PostgresUrl, Store, StoreError};

/// The largest app that is installed, in bytes.
pub const WASM_BYTES_MAX: u64 = 16 * 1024 * 1024;

const DAY_S: u64 = 24 * 60 * 60;

/// How far this machine's clock may be behind the chain's newest block, in seconds.
pub const CLOCK_BEHIND_S_MAX: u64 = 2;

/// Why a party's parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum PartyError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A circle.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The home's secret.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
}

/// A party at its home.
#[derive(Clone)]
pub struct Party {
    /// Its folder.
    pub home: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Opens what is sealed in its folder.
    pub secret: HomeSecret,
    /// Its store.
    pub store: Store,
    /// Its node.
    pub node: Arc<CalimeroNode>,
    /// The circles on it, behind the guard.
    pub circles: Arc<dyn Circles>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
}

impl Party {
    /// Reads the configuration and opens the store; asks nobody anything yet.
    ///
    /// # Errors
    /// A home folder that is none.
    pub async fn open(home: &Path) -> Result<Self, PartyError> {
        let config = Config::load(home)?;
        let node = CalimeroNode::new(&config.node.api, &config.node.credential)?;
        let node = Arc::new(node);
        let secret = HomeSecret::of(home)?;
        let store = match &config.store {
            None => Store::open(home, &secret).await?,
            Some(shared) => {
                let url = PostgresUrl::read(&shared.postgres)?;
                Store::open_shared(&url, &secret, None).await?
            }
        };
        Ok(Self {
            home: home.to_owned(),
            store,
            secret,
            circles: Arc::<CalimeroNode>::clone(&node),
            node,
            clock: Arc::new(SystemClock),
            config,
        })
    }

    /// Does alone what only one process may do at a time, until what is answered is dropped or
    /// ended. Where replicas share the store, this party writes under a lease from now on.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if another does it.
    pub async fn alone(&mut self, only: Only) -> Result<Alone, StoreError> {
        let (store, alone) = alone((&self.store, &self.home), only).await?;
        self.store = store;
        Ok(alone)
    }

    /// Makes sure that this clock was right when the daemon last looked; a daemon that does not run
    /// says nothing.
    ///
    /// # Errors
    /// [`PipelineError::ClockBehind`].
    pub async fn check_clock(&self) -> Result<(), PipelineError> {
        check_clock(&self.store, self.clock.now()).await
    }

    /// Enters a circle through the guard.
    ///
    /// # Errors
    /// A circle that is unknown, changed, or not answering.
    pub async fn enter(&self, context: ContextId) -> Result<Box<dyn Circle>, PartyError> {
        let row = self.store.circle(context).await?;
        Ok(guard::enter(&*self.circles, &self.store, &row, self.clock.now()).await?)
    }

    /// Enters a circle for revocations alone; see [`guard::enter_for_revocations`].
    ///
    /// # Errors
    /// A circle that is unknown, runs other code, or does not answer.
    pub async fn enter_for_revocations(
        &self,
        context: ContextId,
    ) -> Result<Box<dyn Circle>, PartyError> {
        let row = self.store.circle(context).await?;
        let circle = guard::enter_for_revocations(&*self.circles, &row).await?;
        circle.ok_or_else(|| {
            PartyError::Guard(GuardError::Alarm {
                context,
                why: "its code or its group was replaced".into(),
            })
        })
    }

    /// Says something in a context's log, unless it was said before; see [`say_once`].
    ///
    /// # Errors
    /// A store that does not answer; a home whose admission ended.
    pub async fn say_once(
        &self,
        context: ContextId,
        author: &SecretKey,
        says: &Body,
    ) -> Result<EntryDigest, SayError> {
        let kept_in = (&self.store, &*self.circles);
        say_once(kept_in, context, author, says, self.clock.now()).await
    }

    /// Lets a stopped circle go on, if it is again what was pinned.
    ///
    /// # Errors
    /// What still differs; a circle that is unknown or not answering.
    pub async fn resume(&self, context: ContextId) -> Result<(), PartyError> {
        let row = self.store.circle(context).await?;
        Ok(guard::resume(&*self.circles, &self.store, &row).await?)
    }

    /// SHA-256 of this party's copy of the app.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn app_digest(&self) -> Result<Sha256Digest, PartyError> {
        let wasm = files::read_bounded(&self.config.node.app, WASM_BYTES_MAX)?;
        Ok(Sha256Digest::of(&wasm))
    }

    /// The pipeline of this party, with its accounts; asks nobody anything yet.
    ///
    /// # Errors
    /// An endpoint's address that is none, and key files that cannot be read.
    pub fn pipeline(&self) -> Result<Pipeline, PartyError> {
        let believed = &self.config.chain;
        let endpoints = believed.endpoints()?;
        let health = Health::of(endpoints.len());
        let account = |config: &Option<AccountConfig>, key: &str| -> Result<_, PartyError> {
            let Some(config) = config else {
                return Ok(None);
            };
            let key = keys::read_sealed(&self.home.join(key), &self.secret)?;
            let key = AccountKey::parse(&String::from_utf8_lossy(&key))?;
            let mut by_each: Vec<Arc<dyn Account>> = Vec::new();
            for endpoint in &endpoints {
                let account = RpcAccount::new(Arc::clone(endpoint), config.address, key.clone());
                by_each.push(Arc::new(account));
            }
            let account = SeveralAccounts::new(by_each, Arc::clone(&health));
            Ok(Some(Arc::new(account) as Arc<dyn Account>))
        };
        let chains = endpoints
            .iter()
            .map(|one| Arc::clone(one) as Arc<dyn Chain>);
        let chain = SeveralChains::new(chains.collect(), Arc::clone(&health));
        Ok(Pipeline {
            store: self.store.clone(),
            circles: Arc::clone(&self.circles),
            clock: Arc::clone(&self.clock),
            random: Arc::new(Mutex::new(system_random())),
            registry: believed.registry(),
            class_hash: believed.class_hash,
            anchor_account: account(&self.config.anchor_account, ANCHOR_KEY_FILE)?,
            revoke_account: account(&self.config.revoke_account, REVOKE_KEY_FILE)?,
            claim_account: account(&self.config.claim_account, CLAIM_KEY_FILE)?,
            relay_after_s: match self.config.role {
                Role::Custodian => 0,
                Role::Patient | Role::Recipient => self.config.relay_after_s,
            },
            block_age_s_max: believed.block_age_s_max,
            clock_behind_s_max: CLOCK_BEHIND_S_MAX,
            clock_behind_s: Arc::default(),
            peers_ahead_s: Arc::default(),
            batch: BatchBounds {
                age_s_max: self.config.batch.age_s_max,
                consents_max: self.config.batch.consents_max.max(1),
            },
            chain: Arc::new(chain),
            retention_s: self.config.retention.days * DAY_S,
            seen_max: SEEN_MAX,
            readings: Readings::default(),
            last_tree: LastTree::default(),
            chain_is_right: Arc::default(),
        })
    }
}
