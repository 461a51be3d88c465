//! `medsync audit`: reading logs, and checking them.

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use medsync_protocol::audit::{EntryKind, Seq};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use serde_json::json;

use super::{Home, print_json};
use crate::audit::{NamedLog, Report, UNREAD, verify};
use crate::party::Party;
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;
use crate::views;

/// What is done with logs.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List the entries that were ever seen here, a line each. Ends with 3 if the circle could not
    /// be entered; they are listed all the same.
    List(List),
    /// Check every log of a circle: chain, signatures, forks, completeness, anchors, and whether
    /// the consents carry what was answered. Ends with 2 if one is broken, and says where; with 3
    /// if the circle could not be read and what was kept here is whole.
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
            Self::List(list) => list.run().await,
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

impl List {
    async fn run(self) -> anyhow::Result<u8> {
        let (party, row) = self.which.open().await?;
        // What was seen is evidence, also when an alarm has stopped the circle.
        let state = match party.enter(row.context).await {
            Ok(circle) => Some(circle.circle().await?),
            Err(error) => {
                eprintln!("{error}; this is what was kept here, whoever said it");
                None
            }
        };
        let filter = LogFilter {
            author_key: None,
            kind: self.kind.map(EntryKind::name),
            since: UnixSeconds(self.since),
        };
        let mut entries = party.store.log(row.context, &filter).await?;
        entries.sort_by_key(|entry| (entry.entry.at, entry.entry.seq));
        for entry in entries {
            let line = views::log::line(state.as_ref(), entry);
            // Whose an entry is, the circle alone says.
            let wanted = match self.by.filter(|_| state.is_some()) {
                Some(Who::Custodian) => line.by == "custodian",
                Some(Who::Patient) => line.by == "patient" || line.by == "guardian",
                None => true,
            };
            if wanted {
                print_json(&line)?;
            }
        }
        Ok(if state.is_some() { 0 } else { UNREAD })
    }
}

impl Verify {
    async fn run(self) -> anyhow::Result<u8> {
        let (party, row) = self.which.open().await?;
        let report = verify(&party.pipeline()?, &row).await;
        let report = report.context("the logs could not be checked")?;
        if self.json {
            print_json(&views::log::check(&row, &report)?)?;
        } else {
            print(&report);
        }
        Ok(report.exit_code())
    }
}

fn print(report: &Report) {
    if !report.was_read {
        println!("the circle cannot be read; this is about what was kept here");
    }
    if let Some(found) = &report.found_before {
        println!("BROKEN, by what was found before: {found}");
    }
    if report.unasked > 0 {
        println!(
            "the chain was not asked about {} of the batches that would bind entries which nobody \
             here has: there are too many",
            report.unasked
        );
    }
    for NamedLog { by, log } in &report.logs {
        let anchored = match log.anchored {
            Some((Seq(seq), UnixSeconds(since))) => {
                format!("anchored up to entry {seq} since {since}")
            }
            None => "not anchored yet".into(),
        };
        println!("{by}: {} entries follow each other, {anchored}", log.sound);
        for fault in &log.faults {
            let how = if fault.is_certain() {
                "BROKEN"
            } else {
                "UNCERTAIN"
            };
            println!("  {how}: {}", json!(fault));
        }
    }
}
