//! `medsync audit`: reading logs, and checking them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use medsync_protocol::audit::{EntryKind, Seq};
use medsync_protocol::ids::{ContextId, ContextKind, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::{Home, print_json};
use crate::audit::{self, Anchorings, LogReport, check, check_answers};
use crate::party::Party;
use crate::source::{CircleState, LogEntry, all_log};
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;

/// The exit code of a log that is broken.
const BROKEN: u8 = 2;
/// The exit code of a log of which only what was kept here could be checked.
const UNREAD: u8 = 3;

/// What is done with logs.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List the entries that were ever seen here, a line each.
    List(List),
    /// Check every log of a circle: chain, signatures, forks, completeness, anchors, and whether
    /// the consents carry what was answered. Ends with 2 if one is broken, and says where.
    Verify(Verify),
}

/// Which circle.
#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    home: Home,
    /// The circle; the only one of this home if it is not said.
    #[arg(long)]
    circle: Option<ContextId>,
}

/// Whose entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    /// The custodian's.
    Custodian,
    /// The patient's, or a guardian's.
    Patient,
}

/// List entries.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    which: Which,
    /// Only of this kind (RELEASED, DENIED, …).
    #[arg(long, value_parser = kind)]
    kind: Option<EntryKind>,
    /// Only by this party.
    #[arg(long, value_enum)]
    by: Option<Who>,
    /// Not before this time, in unix seconds.
    #[arg(long, default_value_t = 0)]
    since: u64,
}

/// Check logs.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    which: Which,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn kind(text: &str) -> Result<EntryKind, String> {
    EntryKind::named(text).ok_or_else(|| {
        let names: Vec<&str> = EntryKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

impl Audit {
    /// Does what was asked; answers the exit code.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self) -> anyhow::Result<u8> {
        match self {
            Self::List(list) => list.run().await.map(|()| 0),
            Self::Verify(verify) => verify.run().await,
        }
    }
}

impl Which {
    async fn open(&self) -> anyhow::Result<(Party, CircleRow)> {
        let party = Party::open(&self.home.home).await?;
        let row = match (self.circle, party.store.circles().await?.as_slice()) {
            (Some(context), _) => party.store.circle(context).await?,
            (None, [only]) => only.clone(),
            (None, []) => bail!("this home is in no circle"),
            (None, _) => bail!("this home is in several circles; name one with --circle"),
        };
        Ok((party, row))
    }
}

/// What an entry is called in a log of this circle.
fn author(state: Option<&CircleState>, author_key: PublicKey) -> &'static str {
    let mut authors = state.into_iter().flat_map(CircleState::authors);
    let known = authors.find(|(key, _)| *key == author_key);
    known.map_or("unknown", |(_, name)| name)
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let (party, row) = self.which.open().await?;
        let circle = party.enter(row.context).await?;
        let state = circle.circle().await?;
        let filter = LogFilter {
            author_key: None,
            kind: self.kind.map(EntryKind::name),
            since: UnixSeconds(self.since),
        };
        let mut entries = party.store.log(row.context, &filter).await?;
        entries.sort_by_key(|entry| (entry.entry.at, entry.entry.seq));
        for entry in entries {
            let by = author(Some(&state), entry.entry.author_key);
            let wanted = match self.by {
                Some(Who::Custodian) => by == "custodian",
                Some(Who::Patient) => by == "patient" || by == "guardian",
                None => true,
            };
            if wanted {
                print_json(&line(by, &entry))?;
            }
        }
        Ok(())
    }
}

fn line(by: &str, entry: &LogEntry) -> serde_json::Value {
    json!({
        "at": entry.entry.at,
        "by": by,
        "seq": entry.entry.seq,
        "kind": entry.entry.kind,
        "says": entry.body,
        "digest": entry.digest(),
    })
}

impl Verify {
    async fn run(self) -> anyhow::Result<u8> {
        let (party, row) = self.which.open().await?;
        let report = verify(&party, &row).await?;
        let is_sound = report.logs.iter().all(|(_, log)| log.faults.is_empty());
        if self.json {
            print_json(&json!({
                "circle": row.context,
                "sound": is_sound && report.was_read,
                "circle_was_read": report.was_read,
                "logs": report.logs.iter().map(|(by, log)| json!({ "by": by, "log": log }))
                    .collect::<Vec<_>>(),
            }))?;
        } else {
            report.print();
        }
        Ok(match (is_sound, report.was_read) {
            (false, _) => BROKEN,
            (true, false) => UNREAD,
            (true, true) => 0,
        })
    }
}

struct Report {
    logs: Vec<(&'static str, LogReport)>,
    was_read: bool,
}

impl Report {
    fn print(&self) {
        if !self.was_read {
            println!("the circle cannot be read; this is about what was kept here");
        }
        for (by, log) in &self.logs {
            let anchored = match log.anchored {
                Some((Seq(seq), UnixSeconds(since))) => {
                    format!("anchored up to entry {seq} since {since}")
                }
                None => "not anchored yet".into(),
            };
            println!("{by}: {} entries follow each other, {anchored}", log.sound);
            for fault in &log.faults {
                println!("  BROKEN: {}", serde_json::json!(fault));
            }
        }
    }
}

/// Reads what the circle shows, adds what was ever kept, asks the chain, and checks each log.
async fn verify(party: &Party, row: &CircleRow) -> anyhow::Result<Report> {
    let (context, store, now) = (row.context, &party.store, party.clock.now());
    let mut there = None;
    let mut state = None;
    let mut answers = Vec::new();
    if let Ok(circle) = party.enter(context).await {
        let found = circle.circle().await?;
        let mut digests = BTreeSet::new();
        for (author_key, _) in found.authors() {
            for entry in all_log(&*circle, author_key, Seq(0)).await? {
                digests.insert(entry.digest());
                if entry.is_signed() {
                    audit::keep(store, &entry, now).await?;
                }
            }
        }
        if row.kind == ContextKind::Circle {
            answers = check_answers(store, &*circle, party.config.chain.registry()).await?;
        }
        there = Some(digests);
        state = Some(found);
    }
    let kept = store.log(context, &LogFilter::default()).await?;
    let heads = store.heads(context).await?;
    let anchored = anchorings(party, row, &heads, state.as_ref()).await?;
    let authors: BTreeSet<PublicKey> = kept
        .iter()
        .map(|entry| entry.entry.author_key)
        .chain(heads.iter().map(|head| head.author_key))
        .collect();
    let custodian = state.as_ref().map(|state| state.custodian.author_key);
    let logs = authors
        .into_iter()
        .map(|author_key| {
            let own: Vec<LogEntry> = kept
                .iter()
                .filter(|entry| entry.entry.author_key == author_key)
                .cloned()
                .collect();
            let whose = (context, author_key);
            let mut report = check(whose, &own, there.as_ref(), &heads, &anchored);
            if custodian == Some(author_key) {
                report.faults.append(&mut answers);
            }
            (author(state.as_ref(), author_key), report)
        })
        .collect();
    let was_read = there.is_some();
    Ok(Report { logs, was_read })
}

/// Since when each root is on the chain.
async fn anchorings(
    party: &Party,
    row: &CircleRow,
    heads: &[crate::source::Head],
    state: Option<&CircleState>,
) -> anyhow::Result<Anchorings> {
    let mut anchored = Anchorings::new();
    if heads.is_empty() {
        return Ok(anchored);
    }
    let pipeline = party.pipeline()?;
    pipeline
        .check_chain()
        .await
        .context("the chain says whether the log is anchored")?;
    let anchorer = match (&row.invitation, state) {
        (Some(invitation), _) => {
            let invitation: crate::invitation::Invitation = serde_json::from_str(invitation)?;
            invitation.says.custodian_address
        }
        (None, Some(state)) => state.custodian.anchorer,
        (None, None) => bail!("the circle cannot be read, and who anchors it is not known here"),
    };
    let roots: BTreeMap<_, _> = heads.iter().map(|head| (head.root, head)).collect();
    for head in roots.into_values() {
        let registry = pipeline.registry.registry;
        if let Some(since) = pipeline
            .chain
            .anchored_at(registry, anchorer, head.root)
            .await?
        {
            anchored.insert(head.root, since);
        }
    }
    Ok(anchored)
}
