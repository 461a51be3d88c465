use medsync_protocol::codes::CODE_TEXT_BYTES_MAX;
use medsync_protocol::decide::VALUES_LEN_MAX;
use medsync_protocol::ids::{RecordId, to_base64};
use medsync_protocol::receipt::BlockNumber;
use medsync_protocol::seal::RecordVersion;
use serde_json::{Value, json};

use super::super::names::ChangeDigest;
use super::super::sample;
use super::*;

fn read_consent(view: Value) -> Converted<Consent> {
    consent(
        sample::CONTEXT,
        &serde_json::from_value(view).expect("the mirror takes it"),
    )
}

#[test]
fn a_consent_is_what_its_content_says() {
    let read = read_consent(sample::consent_view()).expect("a sound view");
    let granted = sample::granted();
    assert_eq!(read.commitment, granted.commitment);
    assert_eq!(read.terms, sample::terms());
    assert_eq!(read.state, ConsentState::Revoked);
    assert!(read.is_signed(sample::registry()));
    let position = &read.anchors[0];
    assert!(position.proof.includes(read.leaf(), position.root));
    let block = position.submission.and_then(|submission| submission.block);
    assert_eq!(block.map(|block| block.number), Some(BlockNumber(15)));
}

#[test]
fn a_consent_whose_parts_do_not_belong_together_is_refused() {
    let differs = |change: fn(&mut Value), what: &str| {
        let mut view = sample::consent_view();
        change(&mut view);
        match read_consent(view) {
            Err(ConvertError::Differs(why)) => assert_eq!(why, what),
            other => panic!("{what}: {other:?}"),
        }
    };
    differs(|view| view["commitment"] = json!("0x1"), "the commitment");
    differs(
        |view| view["opening"]["not_before"] = json!(2),
        "the commitment",
    );
    let other = ContextId([9; 32]);
    let view = serde_json::from_value(sample::consent_view()).expect("the mirror takes it");
    assert!(matches!(
        consent(other, &view),
        Err(ConvertError::Differs("the terms' context"))
    ));
}

#[test]
fn hostile_position_is_left_out_and_the_consent_stands() {
    for change in [
        (|view| view["signature"]["r"] = json!("0x1")) as fn(&mut Value),
        |view| view["anchors"][0]["root"] = json!("0x1"),
        |view| view["anchors"][0]["index"] = json!(2),
        |view| view["anchors"][0]["anchorer"] = json!("0x1"),
        |view| view["anchors"][0]["stage"] = json!("sent"),
        |view| view["anchors"][0]["block_time"] = json!(null),
        |view| view["anchors"][0]["transaction_hash"] = json!(null),
    ] {
        let mut view = sample::consent_view();
        change(&mut view);
        let read = read_consent(view).expect("the consent stands");
        assert!(read.anchors.is_empty());
    }
}

#[test]
fn unknown_words_and_missing_parts_are_refused() {
    let refused = |change: fn(&mut Value)| {
        let mut view = sample::consent_view();
        change(&mut view);
        assert!(read_consent(view).is_err());
    };
    refused(|view| view["state"] = json!("fine"));
    refused(|view| view["terms"] = json!("not base64!"));
    refused(|view| view["terms"] = json!("AA=="));
    refused(|view| view["terms"] = json!("A".repeat(TERMS_BYTES_MAX * 2)));
}

#[test]
fn a_circle_is_this_one_and_its_patient_is_enrolled() {
    let read = |change: fn(&mut Value)| {
        let mut view = sample::circle_view();
        change(&mut view);
        circle(
            sample::CONTEXT,
            &serde_json::from_value(view).expect("the mirror takes it"),
        )
    };
    let state = read(|_| ()).expect("a sound view");
    assert_eq!(state.custodian.registry, sample::registry());
    assert_eq!(
        state.patient.map(|patient| patient.enrolment),
        Some(sample::enrolment())
    );
    assert!(read(|view| view["context"] = json!(sample::key(9))).is_err());
    assert!(read(|view| view["custodian"]["kind"] = json!("household")).is_err());
    assert!(read(|view| view["frozen"] = json!(true)).is_err());
    assert!(read(|view| view["enrolments"] = json!([])).is_err());
}

#[test]
fn a_payload_has_the_described_digest() {
    let id = RecordId([1; 32]);
    let read = |asked, payload: Value| {
        let view = json!({ "record": sample::record_view(), "payload": payload });
        full_record(
            asked,
            &serde_json::from_value(view).expect("the mirror takes it"),
        )
    };
    let whole = read((id, None), json!(to_base64(&sample::payload()))).expect("a sound view");
    assert_eq!(whole.payload, Some(sample::payload()));
    assert_eq!(whole.record.attributes.record, Some(id));
    assert!(
        read((id, Some(RecordVersion(1))), Value::Null)
            .expect("sound")
            .payload
            .is_none()
    );
    assert!(read((id, None), json!("AQ==")).is_err());
    assert!(read((id, Some(RecordVersion(2))), Value::Null).is_err());
    let other = RecordId([2; 32]);
    assert!(read((other, None), Value::Null).is_err());
}

#[test]
fn a_record_beyond_its_bounds_is_left_out_and_counted() {
    let mut wide = sample::record_view();
    wide["authors"] = json!(vec![sample::key(4); VALUES_LEN_MAX + 1]);
    let mut long = sample::record_view();
    long["codes"] = json!([[{ "system": "s", "code": "x".repeat(CODE_TEXT_BYTES_MAX + 1) }]]);
    let page = json!({
        "records": [wide, sample::record_view(), long], "ignored": 1, "next": null,
    });
    let page = records(serde_json::from_value(page).expect("the mirror takes it")).expect("sound");
    assert_eq!((page.records.len(), page.ignored), (1, 3));
}

#[test]
fn hostile_count_of_what_was_ignored_overflows_nothing() {
    let mut consent = sample::consent_view();
    consent["terms"] = json!("*");
    let mut receipt = sample::receipt_view();
    receipt["receipt"] = json!("*");
    let mut release = sample::release_view();
    release["sealed_key"] = json!("*");
    let page = |of: &str, view: &Value| json!({ of: [view], "ignored": u64::MAX, "next": null });
    let read = serde_json::from_value(page("consents", &consent)).expect("the mirror takes it");
    let ignored = consents(sample::CONTEXT, read).expect("sound").ignored;
    assert_eq!(ignored, u64::MAX);
    let read = serde_json::from_value(page("receipts", &receipt)).expect("the mirror takes it");
    assert_eq!(receipts(read).expect("sound").ignored, u64::MAX);
    let read = serde_json::from_value(page("releases", &release)).expect("the mirror takes it");
    assert_eq!(releases(read).expect("sound").ignored, u64::MAX);
}

#[test]
fn a_bound_is_of_the_bytes_and_not_of_their_text() {
    // Both texts have the same length.
    assert!(bytes("x", &to_base64(&[0; 80]), 80).is_ok());
    assert!(bytes("x", &to_base64(&[0; 81]), 80).is_err());
}

#[test]
fn an_entry_is_the_one_that_was_asked_for() {
    let key = EntryKey([1; 32]);
    let read = |kind: EntryKind, key, valid: bool| {
        let mut view = sample::entry_view();
        view["kind"] = json!(kind.name());
        view["valid"] = json!(valid);
        let view = serde_json::from_value(view).expect("the mirror takes it");
        entry(sample::CONTEXT, (kind, key), &view)
    };
    for kind in EntryKind::ALL {
        assert!(
            read(kind, key, true).expect("a sound view").body.is_some(),
            "{kind}"
        );
        let other = read(kind, key, false).expect("a sound view").body;
        // Of a consent alone it is said which it is a copy of.
        let is_copy = matches!(other, Some(EntryBody::Copy(_)));
        assert_eq!(is_copy, kind == EntryKind::Consent, "{kind}");
        assert!(is_copy || other.is_none(), "{kind}");
        assert!(read(kind, EntryKey([2; 32]), true).is_err(), "{kind}");
    }
    let view = serde_json::from_value(sample::entry_view()).expect("the mirror takes it");
    assert!(entry(sample::CONTEXT, (EntryKind::Record, key), &view).is_err());
}

#[test]
fn a_revocation_opens_its_handle() {
    let mut view = sample::revocation_view();
    let good = serde_json::from_value(view.clone()).expect("the mirror takes it");
    assert_eq!(
        revocation(&good).expect("sound").handle,
        sample::opening().handle
    );
    view["secret"] = json!("0x1");
    let bad = serde_json::from_value(view).expect("the mirror takes it");
    assert!(matches!(
        revocation(&bad),
        Err(ConvertError::Differs("the handle"))
    ));
}

#[test]
fn a_walk_has_known_kinds_and_sound_cursors() {
    let page = |kind: &str, next: &str| {
        let entries = vec![abi::Change {
            kind: kind.into(),
            key: EntryKey([1; 32]),
            digest: ChangeDigest([2; 32]),
        }];
        changes(abi::ChangePage {
            entries,
            next: Some(next.into()),
        })
    };
    assert_eq!(
        page("record", "c").expect("sound").entries[0].kind,
        EntryKind::Record
    );
    assert!(page("payload", "c").is_err());
    assert!(page("record", "").is_err());
}
