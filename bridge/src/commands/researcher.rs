//! `medsync researcher`: keys, and with a node of its own: asking for data, and opening what was
//! released. To verify a receipt, a researcher needs `medsync verify` and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use medsync_client::wire::NewRequest;
use medsync_protocol::audit::{Body, EntryDigest, EntryKind, Pseudonym};
use medsync_protocol::codes::Code;
use medsync_protocol::ids::{Anchorer, ContextId, ContextKind};
use serde_json::json;
use url::Url;

use super::init::{UpParts, absolute, chain};
use super::join::{self, Bring, enrol, join};
use super::running::daemon_of;
use super::verify::code;
use super::{Home, print_json};
use crate::access::Turns;
use crate::access::recipient::{Opened, Recipient};
use crate::asking::ask;
use crate::at_rest::HomeSecret;
use crate::chain::Deployment;
use crate::config::{
    BatchConfig, Config, NodeConfig, RetentionConfig, Role, VerifierConfig, block_age_s_max,
};
use crate::files::{self, FileError};
use crate::invitation::Invitation;
use crate::keys::{KeyError, ResearcherKeys, read_or_create};
use crate::party::Party;
use crate::seams::system_random;
use crate::source::{LogEntry, all_receipts};
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;
use crate::views;
use crate::views::log::Place;

const KEY_FILE: &str = "researcher-keys.json";
const VERIFIER_FILE: &str = "verifier.toml";

/// What a researcher does.
#[derive(Debug, Subcommand)]
pub enum Researcher {
    /// Make keys; prints the public key to which patients grant.
    Init(Box<Init>),
    /// Print the public keys.
    Show {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
    },
    /// Join the exchange of an invitation file.
    Join {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The invitation file.
        #[arg(long)]
        invitation: PathBuf,
    },
    /// Publish the recipient's keys in the exchange, signed by the invitation's one-time key.
    Enrol {
        /// Which exchange.
        #[command(flatten)]
        which: Which,
        /// Somebody else has used the invitation: enrol all the same, so that the exchange freezes.
        #[arg(long)]
        freeze: bool,
    },
    /// List the receipts that the custodian gave, and write them into a folder.
    Receipts {
        /// Which exchange.
        #[command(flatten)]
        which: Which,
        /// Write each as a file into this folder.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Ask for a patient's data.
    Request(Request),
    /// Show every request of this home and what became of it.
    Requests {
        /// Which exchange.
        #[command(flatten)]
        which: Which,
    },
    /// Open everything that was released on a request, into files of this home.
    Open {
        /// Which exchange.
        #[command(flatten)]
        which: Which,
        /// The request, as `request` printed it.
        request: EntryDigest,
    },
    /// Leave an exchange for good: no order to erase arrives any more.
    Leave {
        /// Which exchange.
        #[command(flatten)]
        which: Which,
        /// Leave although something that was released was not erased, which it has to be all the
        /// same, or something is unsaid, and out of an exchange that is stopped.
        #[arg(long)]
        anyway: bool,
    },
}

/// Make keys.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    home: Home,
    /// What `medsync deploy` wrote.
    #[arg(long)]
    deployment: PathBuf,
    /// A Starknet RPC endpoint; may be named several times, all have to agree.
    #[arg(long, required = true)]
    rpc: Vec<Url>,
    /// A custodian that is accepted (its Starknet address); may be named several times.
    #[arg(long, required = true)]
    custodian: Vec<Anchorer>,
    /// Where the own node answers; without one, receipts can be verified and nothing be asked for.
    #[arg(long, requires = "node_credential")]
    node_api: Option<Url>,
    /// The credential that medsync-node init made.
    #[arg(long, requires = "node_api")]
    node_credential: Option<PathBuf>,
    #[command(flatten)]
    run: UpParts,
    /// The app's wasm.
    #[arg(long, default_value = "target/app/medsync_app.wasm")]
    app: PathBuf,
}

/// Which exchange of a home.
#[derive(Debug, clap::Args)]
pub struct Which {
    #[command(flatten)]
    home: Home,
    /// The exchange; the only one of this home if it is not said.
    #[arg(long)]
    exchange: Option<ContextId>,
}

/// Ask for a patient's data.
#[derive(Debug, clap::Args)]
pub struct Request {
    #[command(flatten)]
    which: Which,
    /// Whose data: the name beside the receipt.
    #[arg(long)]
    patient: Pseudonym,
    /// For what, as SYSTEM|CODE; may be named several times.
    #[arg(long, required = true, value_parser = code)]
    purpose: Vec<Code>,
    /// Which classes of records, as SYSTEM|CODE: at least one.
    #[arg(long, required = true, value_parser = code)]
    class: Vec<Code>,
    /// An obligation that is understood and will be kept, as SYSTEM|CODE.
    #[arg(long, value_parser = code)]
    understood: Vec<Code>,
    /// Why; the patient reads it.
    #[arg(long, default_value = "")]
    reason: String,
    /// Break the glass, as far as the patient allowed it; needs a reason, and alerts the patient.
    #[arg(long)]
    break_glass: bool,
}

impl Researcher {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(init) => init.run(),
            Self::Show { home } => {
                // Without a node there is no party.
                let secret = HomeSecret::of(&home.home)?;
                show(&ResearcherKeys::read(&home.home.join(KEY_FILE), &secret)?)
            }
            Self::Join { home, invitation } => {
                let party = Party::open(&home.home).await?;
                join(&party, ContextKind::Exchange, &invitation).await
            }
            Self::Enrol { which, freeze } => enrol_recipient(&which, freeze).await,
            Self::Receipts { which, out } => receipts(&which, out.as_deref()).await,
            Self::Request(request) => request.run().await,
            Self::Requests { which } => requests(&which).await,
            Self::Open { which, request } => open(&which, request).await,
            Self::Leave { which, anyway } => leave(&which, anyway).await,
        }
    }
}

/// The keys of a researcher.
///
/// # Errors
/// A home that is not one's, or whose secret is another.
pub fn keys(party: &Party) -> Result<ResearcherKeys, KeyError> {
    ResearcherKeys::read(&party.home.join(KEY_FILE), &party.secret)
}

fn show(keys: &ResearcherKeys) -> anyhow::Result<()> {
    print_json(&json!({
        "grantee": keys.recipient.public_key(),
        "author_key": keys.author.public_key(),
        "seal_key": keys.seal.public_key(),
    }))
}

impl Init {
    fn run(self) -> anyhow::Result<()> {
        let home = &self.home.home;
        let deployment = Deployment::read(&self.deployment)?;
        files::private_folder(home)?;
        let verifier = home.join(VERIFIER_FILE);
        if verifier.exists() {
            return Err(FileError::Exists { path: verifier }.into());
        }
        let config = self.config(&deployment)?;
        let secret = HomeSecret::of_new(home, &mut system_random())?;
        let keys = read_or_create(
            &home.join(KEY_FILE),
            |path| ResearcherKeys::read(path, &secret),
            |path| ResearcherKeys::create(path, &secret, &mut system_random()),
        )?;
        if let Some(config) = config {
            config.save(home)?;
        }
        // Last: a set-up that was interrupted before is done again.
        VerifierConfig {
            rpc: self.rpc,
            chain_id: deployment.chain_id,
            registry: deployment.registry,
            class_hash: deployment.class_hash,
            custodians: self.custodian,
            block_age_s_max: block_age_s_max(),
        }
        .save(&verifier)?;
        show(&keys)
    }

    /// The configuration of a researcher with a node.
    fn config(&self, deployment: &Deployment) -> anyhow::Result<Option<Config>> {
        let (Some(api), Some(credential)) = (&self.node_api, &self.node_credential) else {
            return Ok(None);
        };
        Ok(Some(Config {
            role: Role::Recipient,
            node: NodeConfig {
                api: api.clone(),
                credential: absolute(credential)?,
                peer: None,
                app: absolute(&self.app)?,
                run: self.run.config()?,
            },
            chain: chain(deployment, &self.rpc),
            anchor_account: None,
            revoke_account: None,
            claim_account: None,
            relay_after_s: 0,
            batch: BatchConfig::default(),
            retention: RetentionConfig::default(),
            store: None,
            api: self.run.api()?,
        }))
    }
}

impl Which {
    async fn open(&self) -> anyhow::Result<(Party, CircleRow)> {
        let party = Party::open(&self.home.home).await?;
        let mut rows = party.store.circles().await?;
        rows.retain(|row| self.exchange.is_none_or(|wanted| wanted == row.context));
        match rows.as_slice() {
            [only] => Ok((party, only.clone())),
            [] => bail!("this home is in no such exchange: medsync researcher join"),
            _ => bail!("this home is in several exchanges; name one with --exchange"),
        }
    }
}

async fn enrol_recipient(which: &Which, freeze: bool) -> anyhow::Result<()> {
    let (party, row) = which.open().await?;
    let kept = row
        .invitation
        .as_deref()
        .context("the exchange has no invitation")?;
    let invitation: Invitation = serde_json::from_str(kept)?;
    let keys = keys(&party)?;
    let bring = Bring {
        party: keys.recipient.public_key(),
        recovery: keys.recovery.public_key(),
        login: keys.login.public_key(),
        author: keys.author.clone(),
        seal: keys.seal.public_key(),
    };
    enrol(&party, (row.context, &invitation), &bring, freeze).await
}

async fn receipts(which: &Which, out: Option<&Path>) -> anyhow::Result<()> {
    let (party, row) = which.open().await?;
    let exchange = party.enter(row.context).await?;
    for shared in all_receipts(&*exchange).await? {
        // Whether it is true, `medsync verify` says; here only that it is one.
        let Some((described, receipt)) = views::exchange::receipt(&shared) else {
            continue;
        };
        let file = out.map(|folder| folder.join(format!("{}.json", described.consent)));
        if let (Some(folder), Some(file)) = (out, &file) {
            std::fs::create_dir_all(folder)?;
            files::write_whole(file, &shared.receipt, true)?;
        }
        print_json(&json!({
            "patient": described.patient,
            "consent": described.consent,
            "provision": receipt.terms.provision,
            "not_after": receipt.opening.not_after,
            "file": file,
        }))?;
    }
    Ok(())
}

impl Request {
    async fn run(self) -> anyhow::Result<()> {
        let new = NewRequest {
            patient: self.patient,
            purposes: self.purpose,
            classes: self.class,
            understood: self.understood,
            reason: self.reason,
            break_glass: self.break_glass,
        };
        let (party, row) = self.which.open().await?;
        let request = match daemon_of(&party.home, &party.config).await? {
            Some(client) => client.request(row.context, &new).await?.request,
            None => {
                let (kept_in, now) = ((&party.store, &*party.circles), party.clock.now());
                ask(kept_in, &row, &keys(&party)?, new, now).await?
            }
        };
        print_json(&json!({ "request": request }))
    }
}

async fn requests(which: &Which) -> anyhow::Result<()> {
    let (party, row) = which.open().await?;
    const AT_ONCE: u32 = 100;
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = views::exchange::requests(&party.store, &row, before, AT_ONCE).await?;
        let Some(last) = page.last() else {
            break;
        };
        before = Some(Place(last.at, last.request));
        all.extend(page);
    }
    for asked in all.iter().rev() {
        print_json(asked)?;
    }
    Ok(())
}

async fn open(which: &Which, request: EntryDigest) -> anyhow::Result<()> {
    let (party, row) = which.open().await?;
    let recipient = Recipient {
        pipeline: party.pipeline()?,
        author: keys(&party)?.author,
        home: party.home.clone(),
        turns: Turns::default(),
    };
    let filter = LogFilter {
        kind: Some(EntryKind::Requested.name()),
        ..LogFilter::default()
    };
    let asked = party.store.log(row.context, &filter).await?;
    if !asked.iter().any(|entry| entry.digest() == request) {
        bail!("this home made no request {request}; medsync researcher requests lists them");
    }
    for (release, opened) in recipient.open(&row, request).await? {
        let (file, why) = match opened {
            Opened::File(file) => (Some(file), None),
            Opened::Not(why) => (None, Some(why)),
        };
        print_json(&json!({
            "record": release.what.record,
            "version": release.what.version,
            "resource_type": release.resource_type,
            "logged_as": release.logged_as,
            "file": file,
            "not_opened": why,
        }))?;
    }
    Ok(())
}

async fn leave(which: &Which, anyway: bool) -> anyhow::Result<()> {
    let (party, row) = which.open().await?;
    if !join::is_leaving(&row) && !anyway {
        join::settle(&party, &row).await?;
    }
    let log = party.store.log(row.context, &LogFilter::default()).await?;
    let kept = released_and_not_erased(&log);
    if kept > 0 && !anyway {
        bail!(
            "releases that were not erased: {kept}. No order to erase them arrives after you left: \
             wait for the orders, or say --anyway"
        );
    }
    join::leave(&party, &row).await?;
    print_json(&json!({ "left": row.context, "not_erased": kept }))
}

/// How many releases of an exchange's log no recipient said to have erased.
fn released_and_not_erased(log: &[LogEntry]) -> usize {
    let erased: BTreeSet<EntryDigest> = log
        .iter()
        .filter_map(|entry| match entry.body {
            Body::Erased { order, .. } => order,
            _ => None,
        })
        .collect();
    let mut kept: BTreeSet<EntryDigest> = log
        .iter()
        .filter_map(|entry| match entry.body {
            Body::Released { logged_as, .. } => logged_as,
            _ => None,
        })
        .collect();
    for entry in log {
        if let Body::EraseOrdered { release, .. } = entry.body
            && erased.contains(&entry.digest())
        {
            kept.remove(&release);
        }
    }
    kept.len()
}
