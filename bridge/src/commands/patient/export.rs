//! Everything that a patient may see, in a folder of plain files (`medsync/export/v1`).
//!
//! | file | what is in it |
//! |---|---|
//! | `export.json` | format, circle, time, how many of each; what did not open or reads otherwise |
//! | `circle.json` | the custodian's keys, who enrolled, the patient's keys through time |
//! | `records/RECORD-VERSION.json` | a resource, every version of it that the circle has |
//! | `records-N.json` | what each of these files is: type, codes, labels, authors, dates |
//! | `consents/CONSENT.json`, `receipts/CONSENT.json` | a consent; its receipt if it is anchored |
//! | `log-N.json` | every log entry that was ever seen, with its signature |
//! | `heads-N.json` | the places of the logs in batches, with what proves them |
//! | `declines-N.json` | the log's declines, as a list of their own |
//! | `key-changes-N.json`, `members-N.json` | changes of the key; admissions, ended ones too |
//! | `tickets-N.json`, `pools-N.json` | the rewards that were promised, with what proves them |
//!
//! A list is cut into files of at most 1,000 entries, N from 1; an empty one has one file.
//! Heads, tickets and key changes are those that this home's daemon saw. The folder gets its name
//! once everything is in it: it is whole, or it is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use medsync_protocol::audit::{Body, EntryKind as Kind, RECORDS_LEN_MAX, RecordRef};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::secrets::Handle;
use medsync_protocol::terms::Terms;
use serde_json::{Value, json};

use super::records::open_record;
use super::{open_keys, own_circle};
use crate::audit;
use crate::commands::{Home, print_json};
use crate::files;
use crate::party::Party;
use crate::source::{
    Circle, CircleState, EntryBody, EntryKey, EntryKind, Head, LogEntry, PlacedTicket, Record,
    all_changes, all_consents, all_records,
};
use crate::store::Store;
use crate::store::log::LogFilter;
use crate::views::consents::receipt;

/// What the folder's format is called.
const FORMAT: &str = "medsync/export/v1";
/// How many entries one file of a list has at most.
const LIST_LEN: usize = 1_000;

/// Write everything that the patient may see into a folder.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    home: Home,
    /// A new folder, readable by its owner alone.
    #[arg(long)]
    out: PathBuf,
}

/// Every version of every record, by name.
type Versions = BTreeMap<RecordRef, Record>;

impl Export {
    /// Writes everything, says so in the log, then gives the folder its name.
    ///
    /// # Errors
    /// A folder that is there already, or a circle that cannot be read: nothing is then written or
    /// said in the log. Records that do not open: all others are then exported, and that is said.
    pub async fn run(self) -> anyhow::Result<()> {
        // What was decrypted until then goes with the draft.
        tokio::select! {
            done = self.write() => done,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; nothing was exported"),
        }
    }

    async fn write(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.out.exists(),
            "{} is there already and is not overwritten",
            self.out.display()
        );
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let keys = open_keys(&self.home.home)?;
        let circle = party.enter(context).await?;
        let state = circle.circle().await?;
        let begun_at = party.clock.now();
        let draft = draft_of(&self.out)?;
        let folder = draft.path();
        let versions = versions(&*circle).await?;
        let read_by = (&*circle, &keys);
        let exported = export_records(&party.store, context, read_by, &versions, folder).await?;
        let Exported {
            closed,
            described_otherwise,
        } = exported;
        let consents = export_consents(&party, &*circle, folder).await?;
        audit::read_all(&party.store, &*circle, &state, begun_at).await?;
        let log = party.store.log(context, &LogFilter::default()).await?;
        write_list(folder, "log", &log, log_line)?;
        let declines: Vec<&LogEntry> = log
            .iter()
            .filter(|entry| entry.entry.kind == Kind::Declined)
            .collect();
        write_list(folder, "declines", &declines, |entry| log_line(entry))?;
        export_kept(&party, &state, folder).await?;
        write(&folder.join("circle.json"), &circle_line(&state))?;
        let opened: Vec<RecordRef> = versions
            .into_keys()
            .filter(|what| !closed.contains(what))
            .collect();
        let records: BTreeSet<_> = opened.iter().map(|what| what.record).collect();
        let mut said = json!({
            "format": FORMAT,
            "circle": context,
            "at": begun_at,
            "records": records.len(),
            "versions": opened.len(),
            "consents": consents,
            "log_entries": log.len(),
            "declines": declines.len(),
            "not_opened": closed,
            "described_otherwise": described_otherwise,
        });
        write(&folder.join("export.json"), &said)?;
        // Said before the folder has its name, as a release is before its keys leave: what is cut
        // off between the two was said and not done.
        for some in opened.chunks(RECORDS_LEN_MAX) {
            let says = Body::Exported {
                recipient: keys.patient.public_key(),
                records: some.to_vec(),
                at: begun_at,
            };
            party.say_once(context, &keys.author, &says).await?;
        }
        fs::rename(folder, &self.out)
            .with_context(|| format!("{} could not be named", self.out.display()))?;
        // It has another name now: there is nothing left to be removed.
        let _renamed = draft.keep();
        files::make_durable(&self.out)?;
        said["folder"] = json!(self.out);
        print_json(&said)?;
        anyhow::ensure!(
            closed.is_empty(),
            "{} versions of records did not open; everything else is there",
            closed.len()
        );
        anyhow::ensure!(
            described_otherwise.is_empty(),
            "{} versions of records are described otherwise than they read; everything is there",
            described_otherwise.len()
        );
        Ok(())
    }
}

/// What is wrong with records that were to be exported.
struct Exported {
    /// They did not open.
    closed: BTreeSet<RecordRef>,
    /// They are there, and their custodian describes them otherwise than they read.
    described_otherwise: BTreeSet<RecordRef>,
}

/// A folder beside the one that is asked for; it is removed if anything goes wrong.
fn draft_of(out: &Path) -> anyhow::Result<tempfile::TempDir> {
    let beside = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = beside.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(beside).with_context(|| format!("{}", beside.display()))?;
    let draft = tempfile::Builder::new()
        .prefix(".medsync-export-")
        .tempdir_in(beside)
        .with_context(|| format!("{} cannot be written to", beside.display()))?;
    for folder in ["", "records", "consents", "receipts"] {
        files::private_folder(&draft.path().join(folder))?;
    }
    Ok(draft)
}

/// Every version of every record that the circle has: the lists of a circle name the latest alone,
/// and its walk finds the others.
async fn versions(circle: &dyn Circle) -> anyhow::Result<Versions> {
    let latest = all_records(circle, None).await?;
    let known: BTreeSet<EntryKey> = latest.iter().map(|record| record.key).collect();
    let mut versions: Versions = latest
        .into_iter()
        .map(|record| (name_of(&record), record))
        .collect();
    for change in all_changes(circle).await? {
        if change.kind != EntryKind::Record || known.contains(&change.key) {
            continue;
        }
        match circle.entry(change.kind, change.key).await {
            Ok(entry) => {
                if let Some(EntryBody::Record(record)) = entry.body {
                    versions.entry(name_of(&record)).or_insert(*record);
                }
            }
            Err(error) if error.is_retry() => return Err(error.into()),
            // A custodian that spoils one version keeps no other from the patient.
            Err(error) => tracing::warn!(key = %change.key, %error, "a record cannot be read"),
        }
    }
    Ok(versions)
}

fn name_of(record: &Record) -> RecordRef {
    RecordRef {
        record: record.record,
        version: record.version.0,
    }
}

/// Opens every version into a file.
async fn export_records(
    store: &Store,
    context: ContextId,
    (circle, keys): (&dyn Circle, &PatientKeys),
    versions: &Versions,
    folder: &Path,
) -> anyhow::Result<Exported> {
    let bar = indicatif::ProgressBar::new(versions.len() as u64);
    let (mut closed, mut described_otherwise) = (BTreeSet::new(), BTreeSet::new());
    for (what, record) in versions {
        let version = Some(record.version);
        match open_record(circle, context, keys, (what.record, version)).await {
            Ok(opened) => {
                let name = format!("{}-{}.json", what.record, what.version);
                let file = folder.join("records").join(name);
                files::write_whole(&file, &opened.resource, true)?;
                opened.note(store, context).await?;
                if !opened.is_as_described {
                    described_otherwise.insert(*what);
                }
            }
            // A custodian that spoils one record keeps no other from the patient.
            Err(error) => {
                tracing::warn!(record = %what.record, %error, "a record does not open");
                closed.insert(*what);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let described: Vec<&Record> = versions.values().collect();
    write_list(folder, "records", &described, |record| {
        json!({
            "record": record.record,
            "version": record.version.0,
            "type": record.resource_type,
            "attributes": record.attributes,
            "recorded_at": record.recorded_at,
        })
    })?;
    Ok(Exported {
        closed,
        described_otherwise,
    })
}

/// Writes every consent, and the receipts of those that are anchored; answers how many consents.
async fn export_consents(
    party: &Party,
    circle: &dyn Circle,
    folder: &Path,
) -> anyhow::Result<usize> {
    let store = &party.store;
    let all = all_consents(circle).await?;
    let mut shown: BTreeSet<Commitment> = BTreeSet::new();
    for consent in &all {
        shown.insert(consent.commitment);
        let name = format!("{}.json", consent.commitment);
        let said = json!({
            "consent": consent.commitment,
            "terms": consent.terms,
            "opening": consent.opening,
            "signature": consent.signature,
            "recorded_at": consent.recorded_at,
            "revoked_at": revoked_at(store, consent.opening.handle, consent.revoked_at).await?,
        });
        write(&folder.join("consents").join(&name), &said)?;
        // One that is not anchored yet has none.
        if let Ok(receipt) = receipt(party.config.chain.registry(), consent) {
            let file = folder.join("receipts").join(&name);
            files::write_whole(&file, receipt.to_json()?.as_bytes(), true)?;
        }
    }
    // Those that vanished from the circle stay in force.
    for kept in store.consents_in_circle(circle.context()).await? {
        if !shown.insert(kept.leaf.commitment) {
            continue;
        }
        let said = json!({
            "consent": kept.leaf.commitment,
            "vanished": true,
            "terms": Terms::decode(&kept.terms)?,
            "opening": kept.opening,
            "signature": kept.signature,
            "recorded_at": kept.recorded_at,
            "revoked_at": revoked_at(store, kept.leaf.handle, None).await?,
        });
        let name = format!("{}.json", kept.leaf.commitment);
        write(&folder.join("consents").join(name), &said)?;
    }
    Ok(shown.len())
}

/// When a consent was revoked, by whatever is known of it here.
async fn revoked_at(
    store: &Store,
    handle: Handle,
    in_circle: Option<UnixSeconds>,
) -> anyhow::Result<Option<UnixSeconds>> {
    let kept = store.revocation(handle).await?;
    let kept = kept.map(|kept| kept.landed.map_or(kept.seen_at, |landed| landed.revoked_at));
    let elsewhere = store.revoked_elsewhere(handle).await?;
    let on_chain = elsewhere.map(|elsewhere| elsewhere.revoked_at);
    Ok([in_circle, kept, on_chain].into_iter().flatten().min())
}

/// What the store keeps of a circle besides its log.
async fn export_kept(party: &Party, state: &CircleState, folder: &Path) -> anyhow::Result<()> {
    let (store, context) = (&party.store, state.context);
    write_list(folder, "heads", &store.heads(context).await?, head_line)?;
    let tickets = store.placed_tickets(context).await?;
    write_list(folder, "tickets", &tickets, ticket_line)?;
    write_list(folder, "pools", &store.pools().await?, |row| {
        json!({
            "pool": row.id,
            "contract": row.pool.contract,
            "funder": row.pool.funder,
            "nonce": row.pool.nonce,
            "recipient": row.pool.recipient,
            "claim_end": row.pool.claim_end,
            "label": row.pool.label,
        })
    })?;
    let changes = match state.only() {
        Some(enrolled) => store.key_changes(context, &enrolled.enrolment).await?,
        None => Vec::new(),
    };
    write_list(folder, "key-changes", &changes, |(signed, by)| {
        json!({
            "change": signed.change,
            "signed_by": by,
            "signature": signed.signature,
        })
    })?;
    let members: Vec<_> = state.ever_admitted().collect();
    write_list(folder, "members", &members, |device| {
        let admission = device.admission;
        json!({
            "admission": admission,
            "role": admission.device.role(),
            "author_key": device.author_key,
            "signature": device.signature,
            "counts": state.admission_of(admission.member) == Some(admission),
        })
    })
}

fn circle_line(state: &CircleState) -> Value {
    let custodian = &state.custodian;
    let enrolments: Vec<Value> = state
        .enrolments
        .iter()
        .map(|found| json!({ "enrolment": found.enrolment, "recorded_at": found.recorded_at }))
        .collect();
    json!({
        "circle": state.context,
        "custodian": {
            "member": state.custodian_member,
            "invitation_key": custodian.invitation_key,
            "anchorer": custodian.anchorer,
            "author_key": custodian.author_key,
            "seal_key": custodian.seal_key,
            "registry": custodian.registry,
        },
        "enrolments": enrolments,
        "patient_keys": state.keys,
        "frozen": state.frozen,
    })
}

fn log_line(entry: &LogEntry) -> Value {
    json!({
        "entry": entry.entry,
        "says": entry.body,
        "signature": entry.signature,
        "digest": entry.digest(),
    })
}

fn head_line(head: &Head) -> Value {
    json!({
        "author_key": head.author_key,
        "seq": head.seq,
        "digest": head.digest,
        "salt": head.salt,
        "root": head.root,
        "proof": head.proof,
    })
}

fn ticket_line(placed: &PlacedTicket) -> Value {
    let ticket = placed.ticket;
    json!({
        "pool": ticket.pool_id,
        "anchorer": ticket.anchorer,
        "handle": ticket.handle,
        "claim_until": ticket.claim_until,
        "salt": ticket.salt,
        "root": placed.root,
        "proof": placed.proof,
    })
}

/// Writes a list in files of [`LIST_LEN`] entries; an empty one is said too.
fn write_list<T>(
    folder: &Path,
    name: &str,
    list: &[T],
    show: impl Fn(&T) -> Value,
) -> anyhow::Result<()> {
    let parts = list.chunks(LIST_LEN);
    let parts = parts.chain(list.is_empty().then_some(list));
    for (number, part) in (1..).zip(parts) {
        let shown: Vec<Value> = part.iter().map(&show).collect();
        write(&folder.join(format!("{name}-{number}.json")), &json!(shown))?;
    }
    Ok(())
}

fn write(file: &Path, value: &Value) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec_pretty(value)?;
    Ok(files::write_whole(file, &bytes, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, name: &str) -> Value {
        let bytes = fs::read(folder.join(name)).expect("there");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn a_list_is_cut_and_an_empty_one_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let list: Vec<usize> = (0..2 * LIST_LEN + 1).collect();
        write_list(folder.path(), "long", &list, |number| json!(number)).expect("written");
        for (number, len) in [(1, LIST_LEN), (2, LIST_LEN), (3, 1)] {
            let part = read(folder.path(), &format!("long-{number}.json"));
            assert_eq!(part.as_array().map(Vec::len), Some(len));
            assert_eq!(part[0], json!((number - 1) * LIST_LEN));
        }
        assert!(!folder.path().join("long-4.json").exists());
        write_list(folder.path(), "none", &[0; 0], |number| json!(number)).expect("written");
        assert_eq!(read(folder.path(), "none-1.json"), json!([]));
    }

    #[test]
    fn what_was_begun_and_not_ended_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("export");
        let draft = draft_of(&out).expect("a draft");
        write(&draft.path().join("circle.json"), &json!({})).expect("written");
        assert!(!out.exists(), "it has no name yet");
        drop(draft);
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 0);
    }
}
