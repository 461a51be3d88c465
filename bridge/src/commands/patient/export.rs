//! Everything that a patient may see, in a folder of plain files.

use std::path::{Path, PathBuf};

use medsync_protocol::audit::{Body, RECORDS_LEN_MAX, RecordRef};
use medsync_protocol::ids::{ContextId, RecordId};
use serde_json::json;

use super::look::receipt;
use super::records::open_record;
use super::{open_keys, own_circle};
use crate::commands::join::log_once;
use crate::commands::{Home, print_json};
use crate::files;
use crate::keys::PatientKeys;
use crate::party::Party;
use crate::source::{Circle, all_consents, all_records};
use crate::store::log::LogFilter;

/// Write everything that the patient may see into a folder.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    home: Home,
    /// A new folder, readable by its owner alone.
    #[arg(long)]
    out: PathBuf,
}

impl Export {
    /// Writes records, consents with their receipts, and the log; then says so in the log.
    ///
    /// # Errors
    /// A folder that is there already, or a circle that cannot be read: nothing is then said in the
    /// log. Records that do not open: all others are then exported, and that is said.
    pub async fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.out.exists(),
            "{} is there already and is not overwritten",
            self.out.display()
        );
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let keys = open_keys(&self.home.home)?;
        let circle = party.enter(context).await?;
        for folder in ["", "records", "consents", "receipts"] {
            files::private_folder(&self.out.join(folder))?;
        }
        let folder = self.out.join("records");
        let (records, closed) = export_records(&*circle, context, &keys, &folder).await?;
        let mut consents = 0;
        for consent in all_consents(&*circle).await? {
            let name = format!("{}.json", consent.commitment);
            let said = json!({
                "consent": consent.commitment,
                "terms": consent.terms,
                "opening": consent.opening,
                "signature": consent.signature,
                "recorded_at": consent.recorded_at,
                "revoked_at": consent.revoked_at,
            });
            write(&self.out.join("consents").join(&name), &said)?;
            // One that is not anchored yet has none.
            if let Ok(receipt) = receipt(&party, &consent) {
                let file = self.out.join("receipts").join(&name);
                files::write_whole(&file, receipt.to_json()?.as_bytes(), true)?;
            }
            consents += 1;
        }
        let log = party.store.log(context, &LogFilter::default()).await?;
        let lines: Vec<_> = log
            .iter()
            .map(|entry| {
                json!({
                    "entry": entry.entry,
                    "says": entry.body,
                    "signature": entry.signature,
                    "digest": entry.digest(),
                })
            })
            .collect();
        write(&self.out.join("log.json"), &json!(lines))?;
        for some in records.chunks(RECORDS_LEN_MAX) {
            let says = Body::Exported {
                recipient: keys.patient.public_key(),
                records: some.to_vec(),
                at: party.clock.now(),
            };
            log_once(&party, context, &keys.author, &says).await?;
        }
        print_json(&json!({
            "records": records.len(),
            "consents": consents,
            "log_entries": lines.len(),
            "not_opened": closed,
            "folder": self.out,
        }))?;
        anyhow::ensure!(
            closed.is_empty(),
            "{} records did not open; everything else is there",
            closed.len()
        );
        Ok(())
    }
}

/// Opens every record into a file; answers those in order, and the names of those that do not open.
async fn export_records(
    circle: &dyn Circle,
    context: ContextId,
    keys: &PatientKeys,
    folder: &Path,
) -> anyhow::Result<(Vec<RecordRef>, Vec<RecordId>)> {
    let records = all_records(circle, None).await?;
    let bar = indicatif::ProgressBar::new(records.len() as u64);
    let mut exported = Vec::with_capacity(records.len());
    let mut closed = Vec::new();
    for record in records {
        // A custodian that spoils one record keeps no other from the patient.
        let resource = match open_record(circle, context, keys, record.record).await {
            Ok(resource) => resource,
            Err(error) => {
                tracing::warn!(record = %record.record, %error, "a record does not open");
                closed.push(record.record);
                continue;
            }
        };
        let file = folder.join(format!("{}-{}.json", record.record, record.version.0));
        files::write_whole(&file, &resource, true)?;
        exported.push(RecordRef {
            record: record.record,
            version: record.version.0,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    exported.sort_unstable();
    Ok((exported, closed))
}

fn write(file: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec_pretty(value)?;
    Ok(files::write_whole(file, &bytes, true)?)
}
