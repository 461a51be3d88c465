//! Looking: consents with their stages, records, receipts.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::RecordId;
use medsync_protocol::receipt::{Block, Receipt, Stage, StageTime};
use medsync_protocol::seal::{RecordKey, SealedFor};
use serde_json::json;

use super::consents::find;
use super::{open_keys, own_circle, record_id};
use crate::commands::{Home, print_json};
use crate::files;
use crate::party::Party;
use crate::pipeline::watch::revoked_by_others;
use crate::source::{Consent, ConsentState, all_consents, all_records};

/// Show the circle and every consent in it.
pub async fn show(home: &Path, as_json: bool) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, _) = own_circle(&party).await?;
    let circle = party.enter(context).await?;
    let state = circle.circle().await?;
    let mut consents = Vec::new();
    for consent in all_consents(&*circle).await? {
        consents.push(describe(&party, &consent).await?);
    }
    if as_json {
        return print_json(&json!({
            "circle": context,
            "frozen": state.frozen,
            "patient": state.patient.map(|patient| patient.enrolment.party_key),
            "consents": consents,
        }));
    }
    if state.frozen {
        println!("FROZEN: two different enrolments are in this circle; no consent counts");
    }
    println!("circle {context}: {} consents", consents.len());
    for consent in consents {
        println!("{}", serde_json::to_string_pretty(&consent)?);
    }
    Ok(())
}

async fn describe(party: &Party, consent: &Consent) -> anyhow::Result<serde_json::Value> {
    let state = match consent.state {
        ConsentState::Revoked => "revoked",
        ConsentState::Frozen => "frozen",
        ConsentState::NotYet => "not_yet",
        ConsentState::Expired => "expired",
        ConsentState::InForce => "in_force",
    };
    let handle = consent.opening.handle;
    let revoked_on_chain = match party.store.revocation(handle).await? {
        Some(revocation) => revocation.revoked_at,
        None => revoked_by_others(&party.store, handle).await?,
    };
    let mut stages = stages(consent);
    stages.extend(revoked_on_chain.map(|at| StageTime {
        stage: Stage::Revoked,
        at,
    }));
    Ok(json!({
        "consent": consent.commitment,
        "state": state,
        "to": consent.opening.grantee,
        "not_before": consent.opening.not_before,
        "not_after": consent.opening.not_after,
        "provision": consent.terms.provision,
        "exceptions": consent.terms.exceptions,
        "denied_since": consent.revoked_at,
        "stages": stages,
    }))
}

/// The stages that a consent has reached, with their times.
fn stages(consent: &Consent) -> Vec<StageTime> {
    let mut stages = vec![StageTime {
        stage: Stage::Recorded,
        at: consent.recorded_at,
    }];
    if let Some(position) = consent.anchors.first() {
        stages.push(StageTime {
            stage: Stage::Sealed,
            at: position.sealed_at,
        });
        stages.extend(position.submitted_at.map(|at| StageTime {
            stage: Stage::Submitted,
            at,
        }));
        let block = position.submission.and_then(|submission| submission.block);
        stages.extend(block.map(|block| StageTime {
            stage: Stage::Anchored,
            at: block.time,
        }));
    }
    stages
}

/// List the records, or open one.
#[derive(Debug, clap::Args)]
pub struct Records {
    #[command(flatten)]
    home: Home,
    /// Only of this FHIR type.
    #[arg(long = "type")]
    resource_type: Option<String>,
    /// Open this record and print the resource.
    #[arg(long, value_parser = record_id)]
    open: Option<RecordId>,
}

impl Records {
    /// Lists or opens.
    ///
    /// # Errors
    /// A record that is not there, or that does not open with the patient's key.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        let Some(record) = self.open else {
            for record in all_records(&*circle, self.resource_type.as_deref()).await? {
                print_json(&json!({
                    "record": record.record,
                    "version": record.version.0,
                    "type": record.resource_type,
                    "data_date": record.attributes.data_date,
                    "sealed_bytes": record.payload_bytes,
                }))?;
            }
            return Ok(());
        };
        let keys = open_keys(&self.home.home)?;
        let full = circle.record(record, None).await?;
        let place = SealedFor {
            context,
            record,
            version: full.record.version,
            reader: keys.seal.public_key(),
            log: None,
        };
        let payload = full
            .payload
            .context("the record's payload has not arrived here yet")?;
        let key = RecordKey::open(&keys.seal, &place, &full.record.key_for_patient)?;
        println!("{}", String::from_utf8(key.decrypt(&place, &payload)?)?);
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
    /// A consent that is not anchored yet.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        let consent = find(&all_consents(&*circle).await?, self.consent)?;
        let receipt = receipt(&party, &consent)?;
        files::write_whole(&self.out, receipt.to_json()?.as_bytes(), true)?;
        print_json(&json!({ "consent": self.consent, "receipt": self.out }))
    }
}

fn receipt(party: &Party, consent: &Consent) -> anyhow::Result<Receipt> {
    let Some(position) = consent.anchors.first() else {
        bail!("the consent is recorded and waits for its batch; it has no receipt yet");
    };
    let Some(block) = position.submission.and_then(|submission| submission.block) else {
        bail!("the consent's batch is sealed and not yet anchored; it has no receipt yet");
    };
    Ok(Receipt {
        registry: party.config.chain.registry(),
        anchorer: position.anchorer,
        terms: consent.terms.clone(),
        opening: consent.opening,
        signature: consent.signature,
        proof: position.proof.clone(),
        root: position.root,
        block: Block {
            number: block.number,
            hash: block.hash,
        },
        stages: stages(consent),
    })
}
