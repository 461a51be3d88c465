//! Import: a FHIR bundle becomes sealed records of a circle.
//!
//! Each resource is encrypted under a fresh key; that key is sealed to the patient and to a fresh
//! key pair of the custodian, whose private half stays in this store. Identity and key are stored
//! before anything is written, so that an import that is run again, after a crash or on purpose,
//! writes nothing twice.

use std::path::Path;

use anyhow::Context;
use medsync_protocol::ids::{ContextId, RecordId, SealKey, Sha256Digest};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealSecret, SealedFor};
use rand_core::CryptoRng;
use serde::Serialize;

use crate::fhir::{self, Resource};
use crate::party::Party;
use crate::seams::{random_bytes, system_random};
use crate::source::{Circle, NewRecord};
use crate::store::records::RecordRow;

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Imported {
    /// A record, or a new version of one, was written.
    Written,
    /// The circle has it already.
    Unchanged,
    /// It cannot be a record; why.
    Refused(String),
}

/// The report on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its FHIR type.
    pub resource_type: String,
    /// What the bundle calls it.
    pub reference: String,
    /// What became of it.
    pub outcome: Imported,
}

/// Imports a bundle; `progress` hears how many of how many resources are done.
///
/// # Errors
/// A file that is no bundle (nothing is then written), a circle without a patient, a node that
/// does not answer (run it again).
pub async fn import(
    party: &Party,
    context: ContextId,
    bundle: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> anyhow::Result<Vec<Line>> {
    let bundle = fhir::read_bundle(bundle)?;
    let circle = party.enter(context).await?;
    let patient = circle
        .circle()
        .await?
        .patient
        .context("the circle has no patient yet; records are sealed to the patient's key")?;
    let total = (bundle.resources.len() + bundle.refused.len()) as u64;
    let mut report: Vec<Line> = bundle
        .refused
        .into_iter()
        .map(|refused| Line {
            resource_type: refused.resource_type,
            reference: refused.reference,
            outcome: Imported::Refused(refused.why),
        })
        .collect();
    for resource in &bundle.resources {
        progress(report.len() as u64, total);
        let seal_key = patient.enrolment.seal_key;
        let outcome = import_one(party, context, &*circle, seal_key, resource).await?;
        report.push(Line {
            resource_type: resource.resource_type.clone(),
            reference: resource.reference.clone(),
            outcome,
        });
    }
    Ok(report)
}

async fn import_one(
    party: &Party,
    context: ContextId,
    circle: &dyn Circle,
    patient: SealKey,
    resource: &Resource,
) -> anyhow::Result<Imported> {
    let payload = Sha256Digest::of(&resource.payload);
    let known = party.store.record(context, resource.local_key).await?;
    let mut random = system_random();
    let row = match known {
        Some(row) if row.is_written && row.payload == payload => return Ok(Imported::Unchanged),
        // Planned but not written, or not known to be: the circle says which.
        Some(row) if !row.is_written && row.payload == payload => {
            if circle.record(row.record, Some(row.version)).await.is_ok() {
                party
                    .store
                    .record_written(context, resource.local_key, party.clock.now())
                    .await?;
                return Ok(Imported::Written);
            }
            row
        }
        Some(row) => {
            let version = RecordVersion(row.version.0 + u32::from(row.is_written));
            let secret = SealSecret::from_bytes(random_bytes(&mut random));
            RecordRow {
                version,
                payload,
                secret,
                is_written: false,
                ..row
            }
        }
        None => RecordRow {
            record: RecordId(random_bytes(&mut random)),
            version: RecordVersion(1),
            payload,
            secret: SealSecret::from_bytes(random_bytes(&mut random)),
            is_written: false,
        },
    };
    party
        .store
        .plan_record(context, resource.local_key, &row)
        .await?;
    let sealed = seal(context, &row, patient, resource, &mut random)?;
    circle.put_record(&sealed).await?;
    party
        .store
        .record_written(context, resource.local_key, party.clock.now())
        .await?;
    Ok(Imported::Written)
}

fn seal(
    context: ContextId,
    row: &RecordRow,
    patient: SealKey,
    resource: &Resource,
    random: &mut impl CryptoRng,
) -> anyhow::Result<NewRecord> {
    let key = RecordKey::from_bytes(random_bytes(random));
    let place = |reader| SealedFor {
        context,
        record: row.record,
        version: row.version,
        reader,
        log: None,
    };
    Ok(NewRecord {
        record: row.record,
        version: row.version,
        resource_type: resource.resource_type.clone(),
        attributes: resource.attributes.clone(),
        payload: key.encrypt(&place(patient), &resource.payload)?,
        key_for_patient: key.seal(&place(patient), random)?,
        key_for_custodian: key.seal(&place(row.secret.public_key()), random)?,
    })
}
