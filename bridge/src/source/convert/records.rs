//! Sealed records: bounds of what a custodian may have written past the app, digests.

use medsync_protocol::codes::CODE_TEXT_BYTES_MAX;
use medsync_protocol::decide::{Attributes, Concept, VALUES_LEN_MAX};
use medsync_protocol::ids::{RecordId, Sha256Digest, to_base64};
use medsync_protocol::seal::{PAYLOAD_BYTES_MAX, PAYLOAD_OVERHEAD_BYTES, RecordVersion};

use super::super::abi;
use super::super::model::{FullRecord, NewRecord, Record, RecordPage};
use super::{Converted, bounded, bytes, next, same};

/// The largest sealed key, in bytes.
const SEALED_KEY_BYTES_MAX: usize = 512;
/// The longest FHIR resource type, in bytes.
const RESOURCE_TYPE_BYTES_MAX: usize = 64;
/// The most codings of one concept.
const CODINGS_LEN_MAX: usize = 16;

fn concepts_to_abi(concepts: &[Concept]) -> abi::Concepts {
    concepts
        .iter()
        .map(|Concept(codings)| codings.clone())
        .collect()
}

fn concepts(what: &'static str, view: &abi::Concepts) -> Converted<Vec<Concept>> {
    bounded(what, view.len(), VALUES_LEN_MAX)?;
    for codings in view {
        bounded(what, codings.len(), CODINGS_LEN_MAX)?;
        for code in codings {
            bounded(
                what,
                code.system.len().max(code.code.len()),
                CODE_TEXT_BYTES_MAX,
            )?;
        }
    }
    Ok(view.iter().cloned().map(Concept).collect())
}

pub(in super::super) fn record_to_abi(record: &NewRecord) -> abi::RecordInput {
    let attributes = &record.attributes;
    abi::RecordInput {
        record: record.record,
        version: record.version.0,
        resource_type: record.resource_type.clone(),
        classes: concepts_to_abi(&attributes.classes),
        codes: concepts_to_abi(&attributes.codes),
        labels: concepts_to_abi(&attributes.labels),
        authors: attributes.authors.clone(),
        data_date: attributes.data_date,
        payload: to_base64(&record.payload),
        key_for_patient: to_base64(&record.key_for_patient),
        key_for_custodian: to_base64(&record.key_for_custodian),
    }
}

pub(super) fn record(view: &abi::RecordView) -> Converted<Record> {
    bounded(
        "resource_type",
        view.resource_type.len(),
        RESOURCE_TYPE_BYTES_MAX,
    )?;
    bounded("authors", view.authors.len(), VALUES_LEN_MAX)?;
    Ok(Record {
        key: view.key,
        record: view.record,
        version: RecordVersion(view.version),
        resource_type: view.resource_type.clone(),
        attributes: Attributes {
            classes: concepts("classes", &view.classes)?,
            codes: concepts("codes", &view.codes)?,
            labels: concepts("labels", &view.labels)?,
            authors: view.authors.clone(),
            record: Some(view.record),
            data_date: view.data_date,
        },
        payload_sha256: view.payload_sha256,
        payload_bytes: view.payload_bytes,
        key_for_patient: sealed_key("key_for_patient", &view.key_for_patient)?,
        key_for_custodian: sealed_key("key_for_custodian", &view.key_for_custodian)?,
        recorded_at: view.recorded_at,
    })
}

fn sealed_key(what: &'static str, text: &str) -> Converted<Vec<u8>> {
    bytes(what, text, SEALED_KEY_BYTES_MAX)
}

pub(in super::super) fn full_record(
    (asked, version): (RecordId, Option<RecordVersion>),
    view: &abi::FullRecord,
) -> Converted<FullRecord> {
    let record = record(&view.record)?;
    same("the record", &asked, &record.record)?;
    same(
        "the version",
        &version.unwrap_or(record.version),
        &record.version,
    )?;
    let bytes_max = PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES;
    let payload = view
        .payload
        .as_deref()
        .map(|text| bytes("payload", text, bytes_max));
    let payload = payload.transpose()?;
    if let Some(payload) = &payload {
        same(
            "the payload's digest",
            &Sha256Digest::of(payload),
            &record.payload_sha256,
        )?;
    }
    Ok(FullRecord { record, payload })
}

/// A part goes by its digest, whatever the node says of it.
pub(in super::super) fn part(
    digest: Sha256Digest,
    view: &abi::FullPart,
) -> Converted<Option<Vec<u8>>> {
    let bytes_max = PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES;
    let payload = view.payload.as_deref();
    let payload = payload
        .map(|text| bytes("a part", text, bytes_max))
        .transpose()?;
    if let Some(payload) = &payload {
        same("the part's digest", &Sha256Digest::of(payload), &digest)?;
    }
    Ok(payload)
}

pub(in super::super) fn records(page: abi::RecordPage) -> Converted<RecordPage> {
    let shown = page.records.len() as u64;
    let records: Vec<Record> = page
        .records
        .iter()
        .filter_map(|view| record(view).ok())
        .collect();
    let ignored = page.ignored.saturating_add(shown - records.len() as u64);
    Ok(RecordPage {
        records,
        ignored,
        next: next(page.next)?,
    })
}
