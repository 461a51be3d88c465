//! Sealed records: what the custodian wrote, in versions.
//!
//! A record's description is small and its payload is not, so that they are two entries: lists
//! read descriptions alone. The payload and the keys to it are sealed before they come here. Both
//! entries count only under the custodian's stamp, whose signature is checked. A description
//! carries its context, so that one that is replayed into another circle is ignored there.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::codes::CODE_TEXT_BYTES_MAX;
use medsync_protocol::ids::{AuthorId, ContextKind, RecordId, Sha256Digest};

use crate::abi::{CodeInput, FullPart, FullRecord, RecordInput, RecordPage, RecordView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::{
    CODINGS_LEN_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_TEXT_BYTES_MAX, RECORD_BYTES_MAX,
    RECORD_VALUES_LEN_MAX, RESOURCE_TYPE_BYTES_MAX, SEALED_KEY_TEXT_BYTES_MAX,
};
use crate::paging::Page;
use crate::refusal::Refusal;
use crate::store::{self, Key, Stored};
use crate::text::{base64, read, read_base64};

/// A code as (system, code); a concept is a list of codes of one meaning.
type Concepts = Vec<Vec<(String, String)>>;

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct RecordBody {
    context: [u8; 32],
    record: [u8; 32],
    version: u32,
    resource_type: String,
    classes: Concepts,
    codes: Concepts,
    labels: Concepts,
    authors: Vec<[u8; 32]>,
    data_date: Option<u64>,
    payload_key: [u8; 32],
    payload_sha256: [u8; 32],
    payload_bytes: u64,
    key_for_patient: Vec<u8>,
    key_for_custodian: Vec<u8>,
    recorded_at: u64,
}

/// The payload names nothing: whoever holds the description knows its key and its digest.
#[derive(BorshSerialize, BorshDeserialize)]
struct PayloadBody(Vec<u8>);

/// What borsh writes before the bytes of a payload.
const LENGTH_BYTES: usize = 4;

/// Writes a sealed payload, which counts by its digest in whatever describes it.
pub fn store_payload(record: RecordId, payload: Vec<u8>) -> Result<Key, Refusal> {
    let shard = Kind::Payloads.shard_of(&record.0);
    store::insert(Kind::Payloads, shard, &PayloadBody(payload))
}

/// Writes a part of a payload that is larger than one message. It goes by its own digest, which
/// nobody can foresee, since a part is sealed under a fresh key. A copy of somebody else's is none:
/// its writer may take it away again.
pub fn put_part(text: &str) -> Result<Written, Refusal> {
    let circle = Circle::load()?;
    circle.check_custodian()?;
    let part = read_base64("part", text, PAYLOAD_TEXT_BYTES_MAX)?;
    bounded("part bytes", part.len(), PAYLOAD_BYTES_MAX)?;
    let digest = Sha256Digest::of(&part);
    let key = Key(digest.0);
    let is_own = |stored: &Stored| stored.owner() == Some(circle.custodian_member);
    if store::load(key).is_some_and(|stored| is_own(&stored) && holds(&stored, digest).is_some()) {
        return Ok(Written::there(key));
    }
    let shard = Kind::Payloads.shard_of(&digest.0);
    store::insert_named(Kind::Payloads, shard, key, &PayloadBody(part)).map(Written::new)
}

/// A part of a payload, by its digest.
pub fn part(digest: &str) -> Result<FullPart, Refusal> {
    let digest: Sha256Digest = read("digest", digest)?;
    Circle::load()?;
    let payload = load_payload(Key(digest.0), digest);
    Ok(FullPart {
        digest: digest.to_string(),
        payload: payload.map(|bytes| base64(&bytes)),
    })
}

/// A sealed payload, if it is here and is the one that was described.
pub fn load_payload(key: Key, digest: Sha256Digest) -> Option<Vec<u8>> {
    holds(&store::load(key)?, digest)
}

fn holds(stored: &Stored, digest: Sha256Digest) -> Option<Vec<u8>> {
    if stored.body.len() > PAYLOAD_BYTES_MAX + LENGTH_BYTES {
        return None;
    }
    let PayloadBody(bytes) = stored.decode()?;
    (Sha256Digest::of(&bytes) == digest).then_some(bytes)
}

struct Found {
    key: Key,
    body: RecordBody,
}

fn load_record(circle: &Circle, shard: Shard, key: Key) -> Option<Found> {
    let stored = store::load(key).filter(|stored| stored.body.len() <= RECORD_BYTES_MAX)?;
    let body: RecordBody = stored.decode()?;
    let counts = body.context == circle.context.0
        && Kind::Records.shard_of(&body.record) == shard
        && stored.owner() == Some(circle.custodian_member);
    counts.then_some(Found { key, body })
}

/// Every version of every record of a shard. The custodian can write two descriptions of one
/// version; then the smaller key is shown, on every node the same, and whoever reads the circle is
/// alarmed.
fn in_shard(circle: &Circle, shard: Shard) -> Vec<Found> {
    let mut found: Vec<Found> = store::keys(Kind::Records, shard)
        .into_iter()
        .filter_map(|(key, _)| load_record(circle, shard, key))
        .collect();
    found.sort_unstable_by_key(|found| (found.body.record, found.body.version, found.key));
    found.dedup_by_key(|found| (found.body.record, found.body.version));
    found
}

fn latest(found: &[Found], record: RecordId) -> Option<&Found> {
    found
        .iter()
        .filter(|found| found.body.record == record.0)
        .max_by_key(|f| f.body.version)
}

/// Writes a version of a record.
pub fn put(input: &RecordInput) -> Result<Written, Refusal> {
    let circle = Circle::load_as(ContextKind::Circle)?;
    circle.check_custodian()?;
    let (mut body, payload) = read_record(&circle, input)?;
    let record = RecordId(body.record);
    let shard = Kind::Records.shard_of(&record.0);
    let found = in_shard(&circle, shard);
    let same = found.iter().find(|other| {
        // Key and time are the store's; all else says whether this is the same version again.
        body.payload_key = other.body.payload_key;
        body.recorded_at = other.body.recorded_at;
        body == other.body
    });
    if let Some(same) = same {
        return Ok(Written::there(same.key));
    }
    let expected = latest(&found, record).map_or(1, |last| last.body.version.saturating_add(1));
    if body.version != expected {
        return Err(Refusal::RecordVersion {
            expected,
            version: body.version,
        });
    }
    body.payload_key = store_payload(record, payload)?.0;
    body.recorded_at = host::now().0;
    let key = store::insert(Kind::Records, shard, &body)?;
    Ok(Written::new(key))
}

fn read_record(circle: &Circle, input: &RecordInput) -> Result<(RecordBody, Vec<u8>), Refusal> {
    let payload = read_base64("payload", &input.payload, PAYLOAD_TEXT_BYTES_MAX)?;
    bounded("payload bytes", payload.len(), PAYLOAD_BYTES_MAX)?;
    bounded(
        "resource_type bytes",
        input.resource_type.len(),
        RESOURCE_TYPE_BYTES_MAX,
    )?;
    if input.resource_type.is_empty() {
        return Err(Refusal::malformed("resource_type", "a FHIR resource type"));
    }
    bounded("authors", input.authors.len(), RECORD_VALUES_LEN_MAX)?;
    let authors: Result<Vec<_>, Refusal> = input
        .authors
        .iter()
        .map(|author| read::<AuthorId>("authors", author).map(|author| author.0))
        .collect();
    let sealed = |field, text| read_base64(field, text, SEALED_KEY_TEXT_BYTES_MAX);
    let body = RecordBody {
        context: circle.context.0,
        record: read::<RecordId>("record", &input.record)?.0,
        version: input.version,
        resource_type: input.resource_type.clone(),
        classes: read_concepts("classes", &input.classes)?,
        codes: read_concepts("codes", &input.codes)?,
        labels: read_concepts("labels", &input.labels)?,
        authors: authors?,
        data_date: input.data_date,
        payload_key: [0; 32],
        payload_sha256: Sha256Digest::of(&payload).0,
        payload_bytes: payload.len() as u64,
        key_for_patient: sealed("key_for_patient", &input.key_for_patient)?,
        key_for_custodian: sealed("key_for_custodian", &input.key_for_custodian)?,
        recorded_at: 0,
    };
    let length = borsh::to_vec(&body).map_or(usize::MAX, |bytes| bytes.len());
    bounded(
        "the record's description in bytes",
        length,
        RECORD_BYTES_MAX,
    )?;
    Ok((body, payload))
}

/// Refuses what is beyond a bound.
pub fn bounded(field: &'static str, is: usize, max: usize) -> Result<(), Refusal> {
    if is > max {
        Err(Refusal::TooLarge { field, max, is })
    } else {
        Ok(())
    }
}

fn read_concepts(field: &'static str, concepts: &[Vec<CodeInput>]) -> Result<Concepts, Refusal> {
    bounded(field, concepts.len(), RECORD_VALUES_LEN_MAX)?;
    let mut read = Vec::with_capacity(concepts.len());
    for codings in concepts {
        if codings.is_empty() {
            return Err(Refusal::malformed(
                field,
                "a concept has at least one coding",
            ));
        }
        bounded(field, codings.len(), CODINGS_LEN_MAX)?;
        for code in codings {
            bounded(field, code.system.len(), CODE_TEXT_BYTES_MAX)?;
            bounded(field, code.code.len(), CODE_TEXT_BYTES_MAX)?;
        }
        read.push(
            codings
                .iter()
                .map(|c| (c.system.clone(), c.code.clone()))
                .collect(),
        );
    }
    Ok(read)
}

/// A page of the records, each in its latest version.
pub fn page(
    cursor: Option<&str>,
    limit: Option<u32>,
    resource_type: Option<&str>,
) -> Result<RecordPage, Refusal> {
    let page = Page::read(cursor, limit)?;
    let circle = Circle::load_as(ContextKind::Circle)?;
    let (places, next) = page.walk(&[Kind::Records]);
    let mut answer = RecordPage {
        records: Vec::new(),
        ignored: 0,
        next,
    };
    let mut open: Option<(Shard, Vec<Found>)> = None;
    for (place, _) in places {
        let (_, found) = match open.take() {
            Some(shard) if shard.0 == place.shard => open.insert(shard),
            _ => open.insert((place.shard, in_shard(&circle, place.shard))),
        };
        let Some(this) = found.iter().find(|found| found.key == place.key) else {
            answer.ignored += 1;
            continue;
        };
        let is_latest =
            latest(found, RecordId(this.body.record)).is_some_and(|latest| latest.key == this.key);
        if is_latest && resource_type.is_none_or(|wanted| wanted == this.body.resource_type) {
            answer.records.push(this.view());
        }
    }
    Ok(answer)
}

/// One record with its payload, in its latest version or a named one.
pub fn record(record: &str, version: Option<u32>) -> Result<FullRecord, Refusal> {
    let record: RecordId = read("record", record)?;
    let circle = Circle::load_as(ContextKind::Circle)?;
    let found = in_shard(&circle, Kind::Records.shard_of(&record.0));
    let this = match version {
        None => latest(&found, record),
        Some(version) => found
            .iter()
            .find(|found| found.body.record == record.0 && found.body.version == version),
    };
    let this = this.ok_or(Refusal::UnknownRecord)?;
    Ok(FullRecord {
        record: this.view(),
        payload: this.payload().map(|bytes| base64(&bytes)),
    })
}

/// One description, as the interface shows it.
pub fn view(circle: &Circle, shard: Shard, key: Key) -> Option<RecordView> {
    load_record(circle, shard, key).map(|found| found.view())
}

impl Found {
    fn payload(&self) -> Option<Vec<u8>> {
        let digest = Sha256Digest(self.body.payload_sha256);
        load_payload(Key(self.body.payload_key), digest)
    }

    fn view(&self) -> RecordView {
        let body = &self.body;
        RecordView {
            key: self.key.to_string(),
            record: RecordId(body.record).to_string(),
            version: body.version,
            resource_type: body.resource_type.clone(),
            classes: concepts_view(&body.classes),
            codes: concepts_view(&body.codes),
            labels: concepts_view(&body.labels),
            authors: body
                .authors
                .iter()
                .map(|author| AuthorId(*author).to_string())
                .collect(),
            data_date: body.data_date,
            payload_sha256: Sha256Digest(body.payload_sha256).to_string(),
            payload_bytes: body.payload_bytes,
            key_for_patient: base64(&body.key_for_patient),
            key_for_custodian: base64(&body.key_for_custodian),
            recorded_at: body.recorded_at,
        }
    }
}

fn concepts_view(concepts: &Concepts) -> Vec<Vec<CodeInput>> {
    let code = |(system, code): &(String, String)| CodeInput {
        system: system.clone(),
        code: code.clone(),
    };
    concepts
        .iter()
        .map(|codings| codings.iter().map(code).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> CodeInput {
        CodeInput {
            system: "s".into(),
            code: text.into(),
        }
    }

    #[test]
    fn concepts_are_bounded_in_every_direction() {
        assert!(read_concepts("codes", &[vec![code("c")]]).is_ok());
        assert!(read_concepts("codes", &[]).is_ok());
        assert!(matches!(
            read_concepts("codes", &[vec![]]),
            Err(Refusal::Malformed { .. })
        ));
        for concepts in [
            vec![vec![code("c")]; RECORD_VALUES_LEN_MAX + 1],
            vec![vec![code("c"); CODINGS_LEN_MAX + 1]],
            vec![vec![code(&"c".repeat(CODE_TEXT_BYTES_MAX + 1))]],
        ] {
            let answer = read_concepts("codes", &concepts);
            assert!(matches!(
                answer,
                Err(Refusal::TooLarge { field: "codes", .. })
            ));
        }
    }
}
