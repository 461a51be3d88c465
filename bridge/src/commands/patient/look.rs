//! Looking: consents with their stages, records, receipts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use medsync_client::wire::Circle;
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::consents::find;
use super::own_circle;
use crate::commands::verify::code;
use crate::commands::{Home, print_json};
use crate::files;
use crate::party::Party;
use crate::preview::{Question, obligations_on, preview};
use crate::source::all_consents;
use crate::views;
use crate::views::consents::receipt_on_chain;

/// Show the circle and every consent in it.
pub async fn show(home: &Path, as_json: bool) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, _) = own_circle(&party).await?;
    let row = party.store.circle(context).await?;
    let circle = match party.enter(context).await {
        Ok(circle) => circle,
        Err(error) => {
            // Whoever stops a circle takes nothing back of what was found in it.
            let kept = views::circle::circle(&party.store, &row, Err(error.to_string())).await?;
            if !as_json {
                alert(&kept);
            } else if kept.evidence.is_some() || !kept.broken_glass.is_empty() {
                print_json(&json!({
                    "evidence": kept.evidence,
                    "broken_glass": kept.broken_glass,
                }))?;
            }
            return Err(error.into());
        }
    };
    let state = circle.circle().await?;
    let all = all_consents(&*circle).await?;
    let consents = views::consents::describe(&party.pipeline()?, &all).await?;
    let shown = views::circle::circle(&party.store, &row, Ok(&state)).await?;
    if as_json {
        return print_json(&json!({
            "circle": context,
            "frozen": shown.frozen,
            "patient": shown.party_key,
            "members": shown.members,
            "restored_at": shown.restored_at,
            "evidence": shown.evidence,
            "broken_glass": shown.broken_glass,
            "consents": consents,
        }));
    }
    alert(&shown);
    for UnixSeconds(at) in &shown.restored_at {
        println!("restored from a backup at {at}: the recovery file needs this number");
    }
    if shown.frozen {
        println!("FROZEN: two different enrolments are in this circle; no consent counts");
    }
    for member in &shown.members {
        println!("admitted: {}", json!(member));
    }
    println!("circle {context}: {} consents", consents.len());
    for consent in consents {
        println!("{}", serde_json::to_string_pretty(&consent)?);
    }
    Ok(())
}

/// What a person has to hear first.
fn alert(shown: &Circle) {
    if let Some(found) = &shown.evidence {
        println!("ALARM: {found}");
    }
    for glass in &shown.broken_glass {
        println!("ALERT: the glass was broken: {}", json!(glass));
    }
}

/// Show what a recipient would get now.
#[derive(Debug, clap::Args)]
pub struct Preview {
    #[command(flatten)]
    home: Home,
    /// The recipient's public key.
    #[arg(long)]
    to: PublicKey,
    /// For what, as SYSTEM|CODE; may be named several times.
    #[arg(long, required = true, value_parser = code)]
    purpose: Vec<Code>,
    /// Which classes of records it asks for, as SYSTEM|CODE; may be named several times. All if
    /// none is named.
    #[arg(long, value_parser = code)]
    class: Vec<Code>,
    /// An obligation that the recipient will keep, as SYSTEM|CODE; may be named several times.
    /// Whatever the consents oblige it to, if none is named.
    #[arg(long, value_parser = code)]
    understood: Vec<Code>,
    /// Also show what they would not get, and why.
    #[arg(long)]
    all: bool,
}

impl Preview {
    /// Decides every record and prints, a line each.
    ///
    /// # Errors
    /// A circle that cannot be read, a chain that does not say what was revoked, or a question that
    /// is none.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        let understood = match self.understood.as_slice() {
            [] => obligations_on(&party.store, &*circle, self.to).await?,
            named => CodeSet::collect(named.iter().cloned()).context("--understood")?,
        };
        let question = Question {
            recipient: self.to,
            purposes: CodeSet::collect(self.purpose).context("--purpose")?,
            classes: CodeSet::collect(self.class).context("--class")?,
            understood,
        };
        let pipeline = party.pipeline()?;
        let chain = pipeline.check_chain().await;
        chain.context("the chain says what was revoked past everybody here")?;
        for line in preview(&pipeline, &*circle, &question).await? {
            if self.all || line.is_released() {
                print_json(&views::records::decided(line))?;
            }
        }
        Ok(())
    }
}

/// Write the receipt of an anchored consent.
#[derive(Debug, clap::Args)]
pub struct WriteReceipt {
    #[command(flatten)]
    home: Home,
    /// The consent.
    consent: Commitment,
    /// Where to write it.
    #[arg(long)]
    out: PathBuf,
}

impl WriteReceipt {
    /// Makes the receipt from the circle alone and writes it.
    ///
    /// # Errors
    /// A consent that is not anchored yet, also if the hospital says that it is.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        let consent = find(&party.store, &*circle, self.consent).await?;
        let (receipt, unlooked) = receipt_on_chain(&party.pipeline()?, &consent).await??;
        if let Some(why) = unlooked {
            eprintln!("nobody looked whether this holds: {why}");
        }
        files::write_whole(&self.out, receipt.to_json()?.as_bytes(), true)?;
        print_json(&json!({ "consent": self.consent, "receipt": self.out }))
    }
}
