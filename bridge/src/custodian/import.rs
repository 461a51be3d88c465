//! Import: a FHIR bundle becomes sealed records of a circle.
//!
//! Each resource is encrypted under a fresh key; that key is sealed to the patient and to a fresh
//! key pair of the custodian, whose private half stays in this store. Identity and key are stored
//! before anything is written, so that an import that is run again, after a crash or on purpose,
//! writes nothing twice: the keys follow from the stored one, so that also the parts of a large
//! payload are the same again. A resource that the circle refuses is reported and keeps no other
//! out.

use hkdf::Hkdf;
use medsync_client::wire::{ImportLine, Imported};
use medsync_protocol::audit::RecordRef;
use medsync_protocol::ids::{ContextId, RecordId, SealKey, Sha256Digest};
use medsync_protocol::seal::{
    PAYLOAD_BYTES_MAX, RecordKey, RecordVersion, SealSecret, SealedFor, split,
};
use rand::SeedableRng;
use rand::rngs::ChaCha20Rng;
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Custodian, CustodianError, Done, hindered};
use crate::audit;
use crate::fhir::{Bundle, Resource};
use crate::guard;
use crate::seams::{random_bytes, system_random};
use crate::source::{Circle, NewRecord, SourceError, SourceResult};
use crate::status::check_clock;
use crate::store::records::RecordRow;

/// Hears how far an import is.
pub trait Progress: Send + Sync {
    /// It looks at so many resources.
    fn begins(&self, total: u64);

    /// What became of the next one.
    fn looked_at(&self, line: ImportLine);
}

impl Custodian {
    /// Imports a bundle. In a home that was restored from a backup, resources that it does not know
    /// may have been erased since, and come in only if they `are_new`, as somebody says who knows.
    ///
    /// # Errors
    /// A circle without a patient (nothing is then written), another import or erasure that goes
    /// on, a node that does not answer (run it again).
    pub async fn import(
        &self,
        context: ContextId,
        bundle: Bundle,
        are_new: bool,
        progress: &dyn Progress,
    ) -> Done<()> {
        check_clock(&self.store, self.clock.now()).await?;
        let (alone, only) = self.alone().await?;
        let done = alone.import_alone(context, bundle, are_new, progress).await;
        only.end().await;
        done
    }

    async fn import_alone(
        &self,
        context: ContextId,
        bundle: Bundle,
        are_new: bool,
        progress: &dyn Progress,
    ) -> Done<()> {
        let circle = self.enter(context).await?;
        let state = circle.circle().await?;
        let Some(patient) = state.patient else {
            let why = "the circle has no patient yet; records are sealed to the patient's key";
            return hindered(why);
        };
        let mut may_be_erased = false;
        if !self.store.restored_at().await?.is_empty() {
            self.erase_again(&*circle).await?;
            may_be_erased = !are_new && self.store.has_unknown_erased(context).await?;
        }
        progress.begins((bundle.resources.len() + bundle.refused.len()) as u64);
        for refused in bundle.refused {
            progress.looked_at(ImportLine {
                resource_type: refused.resource_type,
                reference: refused.reference,
                outcome: Imported::Refused(refused.why),
            });
        }
        let seal_key = patient.enrolment.seal_key;
        for resource in &bundle.resources {
            // What changes meanwhile stops the rest.
            let circle = self.enter(context).await?;
            let known = self.store.record(context, resource.local_key).await?;
            let outcome = if may_be_erased && known.is_none() {
                Imported::Refused(MAY_BE_ERASED.into())
            } else {
                self.import_one(&*circle, seal_key, resource).await?
            };
            progress.looked_at(ImportLine {
                resource_type: resource.resource_type.clone(),
                reference: resource.reference.clone(),
                outcome,
            });
        }
        Ok(())
    }

    async fn enter(&self, context: ContextId) -> Done<Box<dyn Circle>> {
        let (row, now) = (self.store.circle(context).await?, self.clock.now());
        Ok(guard::enter(&*self.circles, &self.store, &row, now).await?)
    }

    /// Erases again what this custodian's own log says that it erased: the backup may be of before.
    async fn erase_again(&self, circle: &dyn Circle) -> Done<()> {
        let (store, context, now) = (&self.store, circle.context(), self.clock.now());
        let author_key = self.keys.author.public_key();
        audit::catch_up_with(store, circle, author_key, now).await?;
        let erased = audit::erased_by(store, context, author_key).await?;
        let erased: Vec<RecordRef> = erased.into_iter().collect();
        Ok(store.stay_erased(context, &erased, now).await?)
    }

    async fn import_one(
        &self,
        circle: &dyn Circle,
        patient: SealKey,
        resource: &Resource,
    ) -> Done<Imported> {
        let context = circle.context();
        let payload = Sha256Digest::of(&resource.payload);
        let key = resource.local_key;
        if self.store.was_erased(context, key).await? {
            return Ok(Imported::Refused(
                "it was erased at this patient's circle, and stays so".into(),
            ));
        }
        let mut known = self.store.record(context, key).await?;
        // Planned and not known to be written: the circle says which, also if the resource is
        // another by now.
        if let Some(row) = known.as_mut().filter(|row| !row.is_written) {
            match version_there(context, circle, row).await? {
                There::Nothing => {}
                There::Planned => {
                    let now = self.clock.now();
                    self.store.record_written(context, key, now).await?;
                    row.is_written = true;
                    if row.payload == payload {
                        return Ok(Imported::Written);
                    }
                }
                There::Other => {
                    row.is_written = true;
                    row.payload = Sha256Digest([0; 32]);
                }
            }
        }
        let mut random = system_random();
        let mut row = match known {
            Some(row) if row.is_written && row.payload == payload => {
                return Ok(Imported::Unchanged);
            }
            Some(row) if row.is_written => RecordRow {
                version: RecordVersion(row.version.0 + 1),
                secret: SealSecret::from_bytes(random_bytes(&mut random)),
                is_written: false,
                ..row
            },
            // A write that is still on its way is sealed to the planned key, so that it is kept.
            Some(row) => row,
            None => new_row(&mut random),
        };
        row.payload = payload;
        for attempt in 0..SHARDS_TRIED_MAX {
            self.store.plan_record(context, key, &row).await?;
            let (sealed, parts) = seal(context, &row, patient, resource, attempt)?;
            // Parts first: a record that is there is whole.
            match put_parts(circle, &parts).await {
                Ok(()) => {}
                // Parts that are sealed otherwise have other places, which nobody foresees.
                Err(error) if matches!(error.refusal(), Some("full" | "taken")) => continue,
                Err(error @ SourceError::Refused { .. }) => {
                    return Ok(Imported::Refused(error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
            match circle.put_record(&sealed).await {
                Ok(_) => {
                    let now = self.clock.now();
                    self.store.record_written(context, key, now).await?;
                    return Ok(Imported::Written);
                }
                // Written by this custodian before its home was restored: without a key here.
                Err(error) if error.refusal() == Some("record_version") => {
                    row = RecordRow {
                        version: RecordVersion(row.version.0 + 1),
                        secret: SealSecret::from_bytes(random_bytes(&mut random)),
                        ..row
                    };
                }
                // A record of another name has another place; what has the name of before is
                // withheld.
                Err(error) if error.refusal() == Some("full") => {
                    row = RecordRow {
                        payload,
                        ..new_row(&mut random)
                    };
                }
                Err(error @ SourceError::Refused { .. }) => {
                    return Ok(Imported::Refused(error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Imported::Refused(
            "the circle has no room for it now".into(),
        ))
    }
}

/// Of a resource that this home does not know.
const MAY_BE_ERASED: &str = "this home was restored from a backup of before records of this \
     patient's were erased, and this may be one of them; whoever knows that it is not says so, \
     with not_erased (--not-erased)";

async fn put_parts(circle: &dyn Circle, parts: &[Vec<u8>]) -> SourceResult<()> {
    for part in parts {
        circle.put_part(part).await?;
    }
    Ok(())
}

/// How often a record, or one of its parts, is given another place because its own is full.
const SHARDS_TRIED_MAX: u8 = 8;
const FIRST_VERSION: RecordVersion = RecordVersion(1);

/// What stands in the place of a version that was planned.
enum There {
    Nothing,
    Planned,
    /// What a home wrote of which this one has no key.
    Other,
}

async fn version_there(context: ContextId, circle: &dyn Circle, row: &RecordRow) -> Done<There> {
    let full = match circle.record(row.record, Some(row.version)).await {
        Ok(full) => full,
        Err(error) if error.refusal() == Some("unknown_record") => return Ok(There::Nothing),
        Err(error) => return Err(error.into()),
    };
    let place = SealedFor {
        context,
        record: row.record,
        version: row.version,
        reader: row.secret.public_key(),
        log: None,
    };
    let opened = RecordKey::open(&row.secret, &place, &full.record.key_for_custodian);
    Ok(opened.map_or(There::Other, |_| There::Planned))
}

fn new_row(random: &mut impl CryptoRng) -> RecordRow {
    RecordRow {
        record: RecordId(random_bytes(random)),
        version: FIRST_VERSION,
        payload: Sha256Digest([0; 32]),
        secret: SealSecret::from_bytes(random_bytes(random)),
        is_written: false,
    }
}

fn seal(
    context: ContextId,
    row: &RecordRow,
    patient: SealKey,
    resource: &Resource,
    attempt: u8,
) -> Done<(NewRecord, Vec<Vec<u8>>)> {
    let mut keys = keys_of(context, row, attempt)?;
    let mut random = system_random();
    let key = RecordKey::from_bytes(random_bytes(&mut keys));
    let place = |reader| SealedFor {
        context,
        record: row.record,
        version: row.version,
        reader,
        log: None,
    };
    let in_patients = place(patient);
    let (list, parts) = if resource.payload.len() > PAYLOAD_BYTES_MAX {
        split(&in_patients, &resource.payload, &mut keys)?
    } else {
        (Zeroizing::default(), Vec::new())
    };
    let payload: &[u8] = if parts.is_empty() {
        &resource.payload
    } else {
        &list
    };
    let record = NewRecord {
        record: row.record,
        version: row.version,
        resource_type: resource.resource_type.clone(),
        attributes: resource.attributes.clone(),
        payload: key.encrypt(&in_patients, payload)?,
        key_for_patient: key.seal(&in_patients, &mut random)?,
        key_for_custodian: key.seal(&place(row.secret.public_key()), &mut random)?,
    };
    Ok((record, parts))
}

/// Where the keys of a record's payload and of its parts come from: HKDF-SHA256 of the custodian's
/// key for this version, and ChaCha20 from there. They are the same for the same payload, others
/// for any other, and nothing makes them again once that key is destroyed.
fn keys_of(context: ContextId, row: &RecordRow, attempt: u8) -> Done<ChaCha20Rng> {
    let info: [&[u8]; 6] = [
        b"MEDSYNC_IMPORT_V1",
        &context.0,
        &row.record.0,
        &row.version.0.to_le_bytes(),
        &row.payload.0,
        &[attempt],
    ];
    let mut seed = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, row.secret.reveal())
        .expand_multi_info(&info, seed.as_mut_slice())
        .map_err(|_| CustodianError::Wrong("HKDF gives no key of 32 bytes".into()))?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::decide::Attributes;

    fn resource(payload: Vec<u8>) -> Resource {
        Resource {
            resource_type: "DocumentReference".into(),
            reference: "urn:uuid:1".into(),
            local_key: Sha256Digest([1; 32]),
            attributes: Attributes::default(),
            payload,
        }
    }

    fn parts(row: &RecordRow, payload: Vec<u8>, attempt: u8) -> Vec<Vec<u8>> {
        let row = RecordRow {
            payload: Sha256Digest::of(&payload),
            ..row.clone()
        };
        let patient = SealSecret::from_bytes([7; 32]).public_key();
        let context = ContextId([2; 32]);
        let sealed = seal(context, &row, patient, &resource(payload), attempt);
        sealed.expect("sealed").1
    }

    #[test]
    fn an_import_that_was_cut_off_seals_the_same_parts_again_and_no_other_does() {
        let row = new_row(&mut system_random());
        let payload = vec![b'x'; 3 * PAYLOAD_BYTES_MAX];
        let first = parts(&row, payload.clone(), 0);
        assert_eq!(first.len(), 3);
        assert_eq!(parts(&row, payload.clone(), 0), first);
        let other_row = new_row(&mut system_random());
        let mut other_payload = payload.clone();
        other_payload[0] = b'y';
        let next_version = RecordRow {
            version: RecordVersion(2),
            ..row.clone()
        };
        for others in [
            parts(&row, payload.clone(), 1),
            parts(&other_row, payload.clone(), 0),
            parts(&next_version, payload, 0),
            parts(&row, other_payload, 0),
        ] {
            assert!(others.iter().all(|part| !first.contains(part)));
        }
    }
}
