//! `medsync hospital`: circles, invitations, imports, status.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use clap::builder::RangedU64ValueParser;
use medsync_client::wire::{Imported, Invited, NewCircle, NewErasure};
use medsync_protocol::ids::{ContextId, ContractAddress, MemberId, RecordId};
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::init::{InitParts, KeepAccountKey, keep_account_key};
use super::{Home, print_json};
use crate::at_rest::HomeSecret;
use crate::config::{
    ANCHOR_KEY_FILE, AccountConfig, BatchConfig, CLAIM_KEY_FILE, Config, REVOKE_KEY_FILE,
    RetentionConfig, Role,
};
use crate::custodian::{HOURS_MAX, KEY_FILE};
use crate::files;
use crate::invitation::Invitation;
use crate::keys::{CustodianKeys, read_or_create};
use crate::seams::system_random;

mod exchange;
mod office;
mod pools;
mod replicas;

use self::exchange::{Exchange, Recipient};
use self::office::{Office, status_of};
use self::replicas::MoveStore;

/// What a hospital does.
#[derive(Debug, Subcommand)]
pub enum Hospital {
    /// Set up a hospital's home: configuration and keys.
    Init(Box<Init>),
    /// Seal the key of an account into the home anew.
    AccountKey(KeepAccountKey),
    /// Open a circle for one patient and write the invitation file.
    Open(Open),
    /// Open an exchange with one recipient and write the invitation file.
    Exchange(Exchange),
    /// Say for which key an exchange is from now on, after its recipient told you; then `resume`.
    Recipient(Recipient),
    /// Write the invitation file of a circle again; once the patient enrolled, a new one without
    /// the one-time key, for a member whom the patient admits.
    Invitation {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The circle.
        #[arg(long)]
        circle: ContextId,
        /// Where to write it.
        #[arg(long)]
        out: PathBuf,
        /// How many hours a new one holds.
        #[arg(long, default_value_t = 72, value_parser = hours())]
        hours: u64,
    },
    /// Import a FHIR R4 bundle into a circle, as sealed records.
    Import(Import),
    /// Move the store into a PostgreSQL database, for several replicas.
    MoveStore(MoveStore),
    /// Destroy the hospital's keys to a record, or to all of a circle, and say so in its log; there
    /// is no way back. The patient's own keys go on.
    Erase {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The circle.
        #[arg(long)]
        circle: ContextId,
        /// The record; all of the circle with --all.
        #[arg(long, required_unless_present = "all", conflicts_with = "all")]
        record: Option<RecordId>,
        /// Every record of the circle.
        #[arg(long)]
        all: bool,
    },
    /// Take somebody out of a circle's or an exchange's group whom nobody invited; then `resume`.
    Remove {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The circle or exchange.
        #[arg(long)]
        circle: ContextId,
        /// Who it is, as the alarm names them.
        #[arg(long)]
        member: MemberId,
        /// It is whoever enrolled, and left: nothing comes from them any more.
        #[arg(long)]
        left: bool,
    },
    /// Let a circle go on that an alarm stopped, if it is again what it was.
    Resume {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The circle.
        #[arg(long)]
        circle: ContextId,
    },
    /// Reward pools: which of them this hospital issues tickets from.
    #[command(subcommand)]
    Pools(pools::Pools),
    /// Show circles, anchoring and what hinders it.
    Status(Status),
}

fn hours() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=HOURS_MAX)
}

/// Set up a hospital's home.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    parts: InitParts,
    /// Under which address other nodes reach this one (`swarm` of medsync-node's first line).
    #[arg(long)]
    peer: String,
    /// The account that anchors; its address is the hospital's name on chain.
    #[arg(long)]
    anchor_account: ContractAddress,
    /// The file with its private key.
    #[arg(long)]
    anchor_key: PathBuf,
    /// The account that revokes; another one, so that no stuck batch delays a revocation.
    #[arg(long)]
    revoke_account: ContractAddress,
    /// The file with its private key.
    #[arg(long)]
    revoke_key: PathBuf,
    /// The account that sends the claims that patients bring; another one too. Without it this
    /// hospital sends none.
    #[arg(long, requires = "claim_key")]
    claim_account: Option<ContractAddress>,
    /// The file with its private key.
    #[arg(long, requires = "claim_account")]
    claim_key: Option<PathBuf>,
    /// How long a consent waits for others in its batch, in seconds.
    #[arg(long, default_value_t = BatchConfig::default().age_s_max)]
    batch_age_s: u64,
}

/// Open a circle for one patient, or an exchange with one recipient.
#[derive(Debug, clap::Args)]
pub struct Open {
    #[command(flatten)]
    home: Home,
    /// What the hospital calls it; not a person's name.
    #[arg(long)]
    label: String,
    /// Where to write the invitation file.
    #[arg(long)]
    out: PathBuf,
    /// How many hours the invitation holds.
    #[arg(long, default_value_t = 72, value_parser = hours())]
    hours: u64,
}

/// Import a FHIR R4 bundle.
#[derive(Debug, clap::Args)]
pub struct Import {
    #[command(flatten)]
    home: Home,
    /// The circle.
    #[arg(long)]
    circle: ContextId,
    /// The bundle.
    bundle: PathBuf,
    /// Nothing in the bundle was erased from this circle: import also what this home does not know,
    /// though it was restored from a backup of before records were erased.
    #[arg(long)]
    not_erased: bool,
    /// Print the report as JSON, a line for each resource.
    #[arg(long)]
    json: bool,
}

/// Show circles and anchoring.
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    home: Home,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Hospital {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(init) => init.run(),
            Self::AccountKey(key) => key.run(),
            Self::Open(open) => open.run(None).await,
            Self::Exchange(exchange) => exchange.run().await,
            Self::Recipient(recipient) => recipient.run().await,
            Self::Invitation {
                home,
                circle,
                out,
                hours,
            } => invite(&home, circle, &out, hours).await,
            Self::Import(import) => import.run().await,
            Self::MoveStore(moved) => moved.run().await,
            Self::Erase {
                home,
                circle,
                record,
                all,
            } => erase(&home, circle, NewErasure { record, all }).await,
            Self::Remove {
                home,
                circle,
                member,
                left,
            } => remove(&home, circle, member, left).await,
            Self::Resume { home, circle } => resume(&home, circle).await,
            Self::Pools(pools) => pools.run().await,
            Self::Status(status) => status.run().await,
        }
    }
}

impl Init {
    fn run(self) -> anyhow::Result<()> {
        if self.anchor_account == self.revoke_account {
            bail!("batches and revocations need two accounts, these are one and the same");
        }
        let others = [Some(self.anchor_account), Some(self.revoke_account)];
        if others.contains(&self.claim_account) {
            bail!("claims need an account of their own, this one has something else to send");
        }
        Config::check_absent(&self.home.home)?;
        let (node, chain) = self.parts.config(Some(self.peer))?;
        let account = |address| Some(AccountConfig { address });
        let config = Config {
            role: Role::Custodian,
            node,
            chain,
            anchor_account: account(self.anchor_account),
            revoke_account: account(self.revoke_account),
            claim_account: self.claim_account.and_then(account),
            relay_after_s: 0,
            batch: BatchConfig {
                age_s_max: self.batch_age_s,
                ..BatchConfig::default()
            },
            retention: RetentionConfig::default(),
            store: None,
            api: self.parts.run.api()?,
        };
        let home = &self.home.home;
        files::private_folder(home)?;
        let secret = HomeSecret::of_new(home, &mut system_random())?;
        keep_account_key((home, &secret), ANCHOR_KEY_FILE, &self.anchor_key)?;
        keep_account_key((home, &secret), REVOKE_KEY_FILE, &self.revoke_key)?;
        if let Some(key) = &self.claim_key {
            keep_account_key((home, &secret), CLAIM_KEY_FILE, key)?;
        }
        let keys = read_or_create(
            &home.join(KEY_FILE),
            |path| CustodianKeys::read(path, &secret),
            |path| CustodianKeys::create(path, &secret, &mut system_random()),
        )?;
        config.save(home)?;
        print_json(&json!({
            "custodian": self.anchor_account,
            "author_key": keys.author.public_key(),
            "seal_key": keys.seal.public_key(),
        }))
    }
}

impl Open {
    async fn run(self, recipient: Option<PublicKey>) -> anyhow::Result<()> {
        check_new(&self.out)?;
        let new = NewCircle {
            label: self.label,
            hours: self.hours,
            recipient,
        };
        let opened = Office::of(&self.home.home).await?.open(new).await?;
        let written = write_invitation(&opened, &self.out);
        written.context("it is open; `medsync hospital invitation` writes its file again")?;
        let (kind, context) = (opened.kind.name(), opened.context);
        print_json(&json!({ kind: context, "expires_at": opened.expires_at }))
    }
}

/// Before anything is done of which it tells.
fn check_new(out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        bail!("{} is there already and is not overwritten", out.display());
    }
    Ok(())
}

fn write_invitation(invited: &Invited, out: &Path) -> anyhow::Result<()> {
    let invitation = Invitation::of_text(&invited.invitation.to_string())?;
    Ok(invitation.write(out)?)
}

async fn invite(home: &Home, circle: ContextId, out: &Path, hours: u64) -> anyhow::Result<()> {
    check_new(out)?;
    let invited = Office::of(&home.home).await?.invite(circle, hours).await?;
    write_invitation(&invited, out)?;
    print_json(&json!({ "circle": circle, "expires_at": invited.expires_at }))
}

impl Import {
    async fn run(self) -> anyhow::Result<()> {
        let office = Office::of(&self.home.home).await?;
        let report = office.import(self.circle, &self.bundle, self.not_erased);
        let report = report.await?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in &report {
            if self.json {
                print_json(line)?;
            }
            let what = match &line.outcome {
                Imported::Written => "written",
                Imported::Unchanged => "unchanged",
                Imported::Refused(_) => "refused",
            };
            *counts
                .entry(format!("{} {what}", line.resource_type))
                .or_default() += 1;
        }
        if !self.json {
            for line in &report {
                if let Imported::Refused(why) = &line.outcome {
                    println!("refused {} {}: {why}", line.resource_type, line.reference);
                }
            }
            for (what, count) in counts {
                println!("{count:6} {what}");
            }
        }
        Ok(())
    }
}

async fn erase(home: &Home, circle: ContextId, erasure: NewErasure) -> anyhow::Result<()> {
    let erased = Office::of(&home.home).await?.erase(circle, erasure).await?;
    print_json(&erased)
}

async fn remove(
    home: &Home,
    circle: ContextId,
    member: MemberId,
    left: bool,
) -> anyhow::Result<()> {
    let office = Office::of(&home.home).await?;
    office.remove(circle, member, left).await?;
    print_json(&json!({ "removed": member }))
}

async fn resume(home: &Home, circle: ContextId) -> anyhow::Result<()> {
    Office::of(&home.home).await?.resume(circle).await?;
    print_json(&json!({ "circle": circle, "state": "goes on" }))
}

impl Status {
    async fn run(self) -> anyhow::Result<()> {
        let (status, circles) = status_of(&self.home.home).await?;
        if self.json {
            let alarms: BTreeMap<_, _> = circles
                .into_iter()
                .map(|circle| (circle.context, circle.alarm))
                .collect();
            return print_json(&json!({
                "last_round_at": status.last_round_at,
                "counts": status.counts,
                "access": status.access,
                "oldest": status.oldest,
                "circles": alarms,
                "hindrances": status.hindrances.into_values().collect::<Vec<_>>(),
            }));
        }
        match status.last_round_at {
            Some(at) => println!("the daemon's last round was at {at}"),
            None => println!("the daemon has not run yet: medsync up --config ..."),
        }
        for (what, count) in status.counts.iter().chain(&status.access) {
            println!("{count:6} {}", what.replace('_', " "));
        }
        for circle in circles {
            let state = match circle.alarm {
                Some(why) => format!("ALARM: {why}"),
                None => "well".into(),
            };
            // Of one that does not open no more is known than its name.
            let kind = circle.kind.unwrap_or_default();
            let label = circle.label.unwrap_or_default();
            println!("{kind} {} ({label}): {state}", circle.context);
        }
        for why in status.hindrances.values() {
            println!("hindered: {why}");
        }
        Ok(())
    }
}
