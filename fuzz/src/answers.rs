//! Log entries, and what a Calimero node answers to each call.

use medsync::source::{
    Answer, Entry, EntryBody, EntryKey, EntryKind, FullRecord, LogEntry, Record, SourceResult,
};
use medsync_protocol::audit::{Body, LogCursor, Seq};
use medsync_protocol::ids::{ContextId, RecordId, Sha256Digest};
use medsync_protocol::seal::{PAYLOAD_BYTES_MAX, PAYLOAD_OVERHEAD_BYTES, SEALED_KEY_BYTES};

/// The circle of the examples, and what is asked for in it.
const CONTEXT: ContextId = ContextId([2; 32]);
const RECORD: RecordId = RecordId([1; 32]);
const RELEASED: EntryKey = EntryKey([7; 32]);
const ENTRY: EntryKey = EntryKey([1; 32]);
/// The largest sealed key that a record may name, in bytes.
const RECORD_KEY_BYTES_MAX: usize = 512;
/// The bytes of the examples' payload and part.
const PAYLOAD: &[u8] = &[0; 3];

/// The packed body of a log entry, which has one spelling.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn entry_body(bytes: &[u8]) -> bool {
    let Ok(body) = Body::decode(bytes) else {
        return false;
    };
    assert_eq!(body.encode().as_deref(), Ok(bytes));
    assert_eq!(body.subject(), Ok(Sha256Digest::of(bytes)));
    let json = serde_json::to_vec(&body).expect("a body is JSON");
    let again: Body = serde_json::from_slice(&json).expect("a body in JSON");
    assert_eq!(again, body);
    true
}

/// A call's name in a line of its own, and what the node answers to it.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn answer(bytes: &[u8]) -> bool {
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(call), Some(bytes)) = (halves.next(), halves.next()) else {
        return false;
    };
    let Ok(call) = str::from_utf8(call) else {
        return false;
    };
    if let Some(kind) = call.strip_prefix("entry ") {
        let Ok(kind) = kind.parse::<EntryKind>() else {
            return false;
        };
        let answer = Answer::read(CONTEXT, "entry", bytes);
        return answer
            .and_then(|answer| answer.entry((kind, ENTRY)))
            .map(|e| entry(kind, &e))
            .is_ok();
    }
    let read = |method| Answer::read(CONTEXT, method, bytes);
    match call {
        "written" => read("admit").and_then(Answer::written).is_ok(),
        "circle" => read("circle").and_then(Answer::circle).map(circle).is_ok(),
        "consents" => is_page(read("consents").and_then(Answer::consents), |page| {
            for consent in &page.consents {
                assert_eq!(consent.terms.context, CONTEXT);
                assert_eq!(consent.terms.encode().as_ref(), Ok(&consent.terms_bytes));
                for place in &consent.anchors {
                    assert!(place.proof.includes(consent.leaf(), place.root));
                }
            }
        }),
        "records" => is_page(read("records").and_then(Answer::records), |page| {
            page.records.iter().for_each(record);
        }),
        "record" => {
            let answer = read("record").and_then(|answer| answer.record((RECORD, None)));
            answer.map(|full| full_record(&full)).is_ok()
        }
        "part" => {
            let digest = Sha256Digest::of(PAYLOAD);
            let part = read("part").and_then(|answer| answer.part(digest));
            is_page(part, |part| {
                assert!(part.as_deref().is_none_or(|part| part == PAYLOAD))
            })
        }
        "log" => is_page(
            read("log_page").and_then(|answer| answer.log(Seq(0))),
            |page| {
                page.entries.iter().for_each(log_entry);
                assert!(page.next.is_none_or(|next| next > Seq(0)));
            },
        ),
        "receipts" => read("receipts").and_then(Answer::receipts).is_ok(),
        "releases" => is_page(read("releases").and_then(Answer::releases), |page| {
            for release in &page.releases {
                assert!(release.sealed_key.len() <= SEALED_KEY_BYTES);
            }
        }),
        "release" => {
            let answer = read("release").and_then(|answer| answer.release(RELEASED));
            is_page(answer, |full| assert_eq!(full.release.key, RELEASED))
        }
        "changes" => read("changes").and_then(Answer::changes).is_ok(),
        _ => false,
    }
}

fn is_page<T>(read: SourceResult<T>, check: impl FnOnce(&T)) -> bool {
    read.inspect(check).is_ok()
}

fn circle(state: medsync::source::CircleState) {
    assert_eq!(state.context, CONTEXT);
    // Whose log entries count is worked out of what the node said.
    let authors = state.authors().count();
    assert!(authors <= 1 + state.enrolments.len() + state.devices.len());
    for device in &state.devices {
        let _ = state.admission_of(device.admission.member);
        let _ = state.last_admission_of(device.admission.member, device.admission.admitted_by);
    }
}

fn record(record: &Record) {
    for key in [&record.key_for_patient, &record.key_for_custodian] {
        assert!(key.len() <= RECORD_KEY_BYTES_MAX);
    }
    assert_eq!(record.attributes.record, Some(record.record));
}

fn full_record(full: &FullRecord) {
    record(&full.record);
    assert_eq!(full.record.record, RECORD);
    if let Some(payload) = &full.payload {
        assert!(payload.len() <= PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES);
        assert_eq!(Sha256Digest::of(payload), full.record.payload_sha256);
    }
}

fn log_entry(read: &LogEntry) {
    let (entry, signature) = (&read.entry, &read.signature);
    assert_eq!(entry.context, CONTEXT);
    assert_eq!(
        (read.body.subject(), read.body.kind()),
        (Ok(entry.subject), entry.kind)
    );
    let start = LogCursor::start(CONTEXT, entry.author_key);
    if let Ok(after) = start.follow(entry, signature) {
        assert_eq!((after.next(), after.prev()), (Seq(1), entry.digest()));
        assert_eq!(after.follow(entry, signature), Ok(after));
    }
}

fn entry(kind: EntryKind, read: &Entry) {
    assert_eq!((read.kind, read.key), (kind, ENTRY));
    match &read.body {
        Some(EntryBody::Record(read)) => record(read),
        Some(EntryBody::Log(read)) => log_entry(read),
        Some(EntryBody::Head(head)) => assert!(head.is_included(CONTEXT)),
        Some(EntryBody::Ticket(ticket)) => assert!(ticket.is_included()),
        _ => {}
    }
}
