//! `medsync hospital`: circles, invitations, imports, status.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use medsync_protocol::audit::{Body, RECORDS_LEN_MAX, RecordRef};
use medsync_protocol::ids::{
    Anchorer, ContextId, ContextKind, ContractAddress, MemberId, RecordId, UnixSeconds,
};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::{PublicKey, SecretKey};

use super::init::{InitParts, KeepAccountKey, keep_account_key};
use super::join::log_once;
use super::{Home, print_json};
use crate::at_rest::HomeSecret;
use crate::config::{
    ANCHOR_KEY_FILE, AccountConfig, BatchConfig, Config, REVOKE_KEY_FILE, RetentionConfig, Role,
};
use crate::files;
use crate::import::{Imported, import};
use crate::invitation::{Invitation, Parts};
use crate::keys::{CustodianKeys, KeyError, read_or_create};
use crate::lease::Only;
use crate::party::Party;
use crate::seams::{random_key, system_random};
use crate::source::{CustodianPins, NamespaceId};
use crate::status;
use crate::store::circles::CircleRow;

const KEY_FILE: &str = "custodian-keys.json";
const NAMESPACE: &str = "namespace";

mod exchange;
mod pools;
mod replicas;

use self::exchange::{Exchange, Recipient};
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
        #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=720))]
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
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=24 * 30))]
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
            Self::Open(open) => open.run(ContextKind::Circle, None).await,
            Self::Exchange(exchange) => exchange.run().await,
            Self::Recipient(recipient) => recipient.run().await,
            Self::Invitation {
                home,
                circle,
                out,
                hours,
            } => write_invitation(&home, circle, &out, hours).await,
            Self::Import(import) => import.run().await,
            Self::MoveStore(moved) => moved.run().await,
            Self::Erase {
                home,
                circle,
                record,
                all: _,
            } => erase(&home, circle, record).await,
            Self::Remove {
                home,
                circle,
                member,
                left,
            } => remove(&home, circle, member, left).await,
            Self::Resume { home, circle } => exchange::resume(&home, circle).await,
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
        Config::check_absent(&self.home.home)?;
        let (node, chain) = self.parts.config(Some(self.peer))?;
        let account = |address| Some(AccountConfig { address });
        let config = Config {
            role: Role::Custodian,
            node,
            chain,
            anchor_account: account(self.anchor_account),
            revoke_account: account(self.revoke_account),
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
        let keys = read_or_create(
            &home.join(KEY_FILE),
            |path| CustodianKeys::read(path, &secret),
            |path| CustodianKeys::create(path, &secret, &mut system_random()),
        )?;
        config.save(home)?;
        print_json(&serde_json::json!({
            "custodian": self.anchor_account,
            "author_key": keys.author.public_key(),
            "seal_key": keys.seal.public_key(),
        }))
    }
}

/// The keys of a hospital.
///
/// # Errors
/// A home that is not one's, or whose secret is another.
pub fn keys(party: &Party) -> Result<CustodianKeys, KeyError> {
    CustodianKeys::read(&party.home.join(KEY_FILE), &party.secret)
}

impl Open {
    async fn run(self, kind: ContextKind, recipient_key: Option<PublicKey>) -> anyhow::Result<()> {
        if self.out.exists() {
            bail!(
                "{} is there already and is not overwritten",
                self.out.display()
            );
        }
        let party = Party::open(&self.home.home).await?;
        let (Some(account), Some(peer)) =
            (&party.config.anchor_account, party.config.node.peer.clone())
        else {
            bail!("only a hospital opens circles and exchanges; this home is not one's");
        };
        let keys = keys(&party)?;
        let one_time = random_key(&mut system_random());
        let pins = CustodianPins {
            kind,
            invitation_key: one_time.public_key(),
            anchorer: Anchorer::from_felt(account.address.felt()),
            author_key: keys.author.public_key(),
            seal_key: keys.seal.public_key(),
            registry: party.config.chain.registry(),
        };
        let namespace = namespace(&party).await?;
        let opened = party
            .node
            .create_circle(namespace, &party.config.node.app, &pins)
            .await?;
        let now = party.clock.now();
        let expires_at = UnixSeconds(now.0 + self.hours * 3600);
        let says = Parts {
            kind,
            group_invitation: party.node.invite(opened.group, expires_at).await?,
            group: opened.group,
            context: opened.context,
            peer,
            wasm_sha256: party.app_digest()?,
            invitation_key: pins.invitation_key,
            custodian_member: opened.member,
            custodian_address: pins.anchorer,
            author_key: pins.author_key,
            seal_key: pins.seal_key,
            registry: pins.registry,
            class_hash: party.config.chain.class_hash,
            expires_at,
        };
        let invitation = Invitation::new(says, &one_time);
        let row = CircleRow {
            kind,
            context: opened.context,
            group: opened.group,
            label: self.label,
            member: opened.member,
            custodian_member: opened.member,
            application: opened.application,
            bytecode: opened.bytecode,
            // Kept with the circle, so that a circle never is without its invitation.
            invitation: Some(serde_json::to_string(&invitation)?),
            entered_at: now,
            patient_member: None,
            recipient_key,
            device: DeviceNumber::FIRST,
            state_hash: None,
            consents_digest: None,
            alarm: None,
            suspected_at: None,
        };
        party.store.enter_circle(&row).await?;
        invitation.write(&self.out)?;
        let answer = serde_json::json!({ kind.name(): opened.context, "expires_at": expires_at });
        print_json(&answer)
    }
}

async fn write_invitation(
    home: &Home,
    circle: ContextId,
    out: &Path,
    hours: u64,
) -> anyhow::Result<()> {
    let party = Party::open(&home.home).await?;
    let row = party.store.circle(circle).await?;
    let kept = row.invitation.context("the circle has no invitation")?;
    let mut invitation: Invitation = serde_json::from_str(&kept)?;
    let now = party.clock.now();
    if row.patient_member.is_some() {
        let expires_at = UnixSeconds(now.0 + hours * 3600);
        invitation = Invitation::without_key(Parts {
            group_invitation: party.node.invite(row.group, expires_at).await?,
            expires_at,
            ..invitation.says
        });
    }
    invitation.check_time(now)?;
    invitation.write(out)?;
    print_json(&serde_json::json!({ "circle": circle, "expires_at": invitation.says.expires_at }))
}

/// The hospital's namespace, made once; the store remembers it.
async fn namespace(party: &Party) -> anyhow::Result<NamespaceId> {
    if let Some(known) = party.store.fact(NAMESPACE).await? {
        return Ok(known.parse()?);
    }
    let namespace = party.node.create_namespace(&party.config.node.app).await?;
    party
        .store
        .state_fact(NAMESPACE, &namespace.to_string())
        .await?;
    Ok(namespace)
}

impl Import {
    async fn run(self) -> anyhow::Result<()> {
        let mut party = Party::open(&self.home.home).await?;
        party.check_clock().await?;
        let alone = party.alone(Only::Records).await?;
        let bar = indicatif::ProgressBar::new(0);
        let are_new = self.not_erased;
        let report = import(
            &party,
            self.circle,
            &self.bundle,
            are_new,
            &|done, total| {
                bar.set_length(total);
                bar.set_position(done);
            },
        )
        .await;
        alone.end().await;
        bar.finish_and_clear();
        let report = report?;
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

/// Whoever the circle is about stays, unless they left: without the patient there is nobody to ask.
async fn remove(
    home: &Home,
    circle: ContextId,
    member: MemberId,
    left: bool,
) -> anyhow::Result<()> {
    let party = Party::open(&home.home).await?;
    let row = party.store.circle(circle).await?;
    if member == row.custodian_member {
        bail!("{member} is the hospital itself, and is not removed");
    }
    if row.patient_member == Some(member) && !left {
        bail!("{member} is the one who enrolled, and is removed only if they left: --left");
    }
    party.node.remove_member(row.group, member).await?;
    if row.kind == ContextKind::Exchange && row.patient_member == Some(member) {
        // Nobody is served in it, and the recipient may come back in another.
        let why = "its recipient left";
        party.store.raise_alarm(circle, why).await?;
    }
    print_json(&serde_json::json!({ "removed": member }))
}

async fn erase(home: &Home, circle: ContextId, record: Option<RecordId>) -> anyhow::Result<()> {
    let mut party = Party::open(&home.home).await?;
    let alone = party.alone(Only::Records).await?;
    let author = keys(&party)?.author;
    let erased = erase_records(&party, &author, circle, record).await;
    alone.end().await;
    let (destroyed, logged) = erased?;
    print_json(&serde_json::json!({ "keys_destroyed": destroyed, "logged": logged }))
}

/// Destroys the keys of a record, or of every record of a circle, and says so in its log. A run
/// that was cut off is completed by the next.
///
/// # Returns
/// How many keys were destroyed, and of how many versions the log says so now.
///
/// # Errors
/// A circle that is unknown; a store that does not answer.
pub async fn erase_records(
    party: &Party,
    author: &SecretKey,
    circle: ContextId,
    record: Option<RecordId>,
) -> anyhow::Result<(u64, usize)> {
    let (store, now) = (&party.store, party.clock.now());
    store.circle(circle).await?;
    let destroyed = store.erase_records(circle, record, now).await?;
    // Also what an earlier run destroyed and did not come to say.
    let unsaid: Vec<RecordRef> = store
        .erased_records(circle, true)
        .await?
        .into_iter()
        .collect();
    for some in unsaid.chunks(RECORDS_LEN_MAX) {
        let says = Body::Erased {
            order: None,
            said_by: None,
            records: some.to_vec(),
        };
        log_once(party, circle, author, &says).await?;
        store.erasure_logged(circle, some, now).await?;
    }
    Ok((destroyed, unsaid.len()))
}

impl Status {
    async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let status = status::status(&party.store).await?;
        let circles = status::all_circles(&party.store).await?;
        if self.json {
            let alarms: BTreeMap<_, _> = circles
                .into_iter()
                .map(|circle| (circle.context, circle.alarm))
                .collect();
            return print_json(&serde_json::json!({
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
