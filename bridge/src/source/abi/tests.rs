//! Holds the mirror to the description that the app's build writes (`app/abi.json`).

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Map;

use super::super::{convert, sample};
use super::*;

fn described() -> Value {
    let path = Path::new(env!("MEDSYNC_ROOT")).join("app/abi.json");
    let text = fs::read_to_string(&path).expect("the app's description is tracked");
    serde_json::from_str(&text).expect("JSON")
}

/// Whether a value has exactly the described type: every field, no other, and no null.
fn fits(types: &Value, described: &Value, value: &Value, at: &str) {
    if let Some(name) = described["$ref"].as_str() {
        let fields = types[name]["fields"].as_array().expect("a record");
        return fits_fields(types, fields, value, &format!("{at} ({name})"));
    }
    match described["kind"].as_str().expect("a kind") {
        "string" => assert!(value.is_string(), "{at}: {value}"),
        "bool" => assert!(value.is_boolean(), "{at}: {value}"),
        "u32" => assert!(
            value.as_u64().is_some_and(|v| u32::try_from(v).is_ok()),
            "{at}: {value}"
        ),
        "u64" => assert!(value.is_u64(), "{at}: {value}"),
        "list" => {
            let items = value.as_array().expect("a list");
            assert!(!items.is_empty(), "{at}: the sample shows no item");
            for item in items {
                fits(types, &described["items"], item, at);
            }
        }
        other => panic!("{at}: the mirror knows no {other}"),
    }
}

fn fits_fields(types: &Value, fields: &[Value], value: &Value, at: &str) {
    let value = value.as_object().expect("an object");
    let names = |field: &Value| field["name"].as_str().expect("a name").to_owned();
    let mut expected: Vec<String> = fields.iter().map(names).collect();
    let mut found: Vec<String> = value.keys().cloned().collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{at}");
    for field in fields {
        let name = names(field);
        fits(
            types,
            &field["type"],
            &value[&name],
            &format!("{at}.{name}"),
        );
    }
}

/// A sample that is read and written again without a change.
fn mirrored<T: Serialize + DeserializeOwned>(sample: Value) -> Value {
    let read: T = serde_json::from_value(sample.clone()).expect("the sample is read");
    assert_eq!(serde_json::to_value(&read).expect("it is written"), sample);
    sample
}

/// One field more or less is refused.
fn is_strict<T: DeserializeOwned>(sample: &Value) {
    let mut more = sample.clone();
    more["something_else"] = json!(1);
    assert!(serde_json::from_value::<T>(more).is_err());
    let fields = sample.as_object().cloned().unwrap_or_default();
    let mut less: Map<String, Value> = fields;
    less.remove("key");
    less.remove("record");
    less.remove("commitment");
    assert!(serde_json::from_value::<T>(Value::Object(less)).is_err());
}

/// Every method: its arguments as they are sent, and its answer as it is read.
fn methods() -> Vec<(Call, Value)> {
    let written = || mirrored::<Written>(json!({ "key": sample::key(1), "existing": false }));
    let (cursor, limit) = (sample::cursor(), PageLimit::MAX);
    let record = sample::record_view();
    let mut revoke = Call::revoke("0x1", PublicKey::from_felt(sample::felt(2)), 1);
    revoke.args["handle"] = json!("0x3");
    vec![
        (
            Call::circle(),
            mirrored::<CircleView>(sample::circle_view()),
        ),
        (
            Call::enrol(&sample::enrolment(), &sample::signature()),
            written(),
        ),
        (
            Call::change_key(&convert::key_change_to_abi(&sample::key_change()), 1),
            written(),
        ),
        (
            Call::grant("AA==", &sample::opening(), &sample::signature(), 1),
            mirrored::<Granted>(
                json!({ "key": sample::key(1), "commitment": "0x1", "existing": true }),
            ),
        ),
        (revoke, written()),
        (
            Call::consents(Some(&cursor), limit),
            mirrored::<ConsentPage>(
                json!({ "consents": [sample::consent_view()], "ignored": 0, "next": "c" }),
            ),
        ),
        (Call::put_record(&sample::record_input()), written()),
        (
            Call::records(Some(&cursor), limit, Some("Observation")),
            mirrored::<RecordPage>(json!({ "records": [record], "ignored": 0, "next": "c" })),
        ),
        (
            Call::record(RecordId([1; 32]), Some(1)),
            mirrored::<FullRecord>(json!({ "record": record, "payload": "AA==" })),
        ),
        (Call::put_part("AA=="), written()),
        (
            Call::part(Sha256Digest([1; 32])),
            mirrored::<FullPart>(json!({ "digest": Sha256Digest([1; 32]), "payload": "AA==" })),
        ),
        (Call::record_anchor(&sample::anchor_input()), written()),
        (
            Call::append_log(&convert::log_to_abi(&sample::log_entry()).expect("sound")),
            written(),
        ),
        (
            Call::log_page(PublicKey::from_felt(sample::felt(2)), Seq(0), limit),
            mirrored::<LogPage>(json!({ "entries": [sample::log_view()], "next": 1 })),
        ),
        (
            Call::record_head(&convert::head_to_abi(&sample::head())),
            written(),
        ),
        (
            Call::admit(
                &convert::device_to_abi(&sample::device()),
                &sample::device().signature,
            ),
            written(),
        ),
        (
            Call::put_pool(&convert::pool_to_abi(&sample::pool())),
            written(),
        ),
        (
            Call::put_ticket(&convert::ticket_to_abi(&sample::ticket())),
            written(),
        ),
        (
            Call::put_receipt(&ReceiptInput {
                patient: Pseudonym([6; 32]),
                receipt: "AA==".into(),
            }),
            written(),
        ),
        (
            Call::receipts(Some(&cursor), limit),
            mirrored::<ReceiptPage>(
                json!({ "receipts": [sample::receipt_view()], "ignored": 0, "next": "c" }),
            ),
        ),
        (
            Call::put_release(&convert::release_to_abi(&sample::release())),
            written(),
        ),
        (
            Call::releases(Some(&cursor), limit),
            mirrored::<ReleasePage>(
                json!({ "releases": [sample::release_view()], "ignored": 0, "next": "c" }),
            ),
        ),
        (
            Call::release(EntryKey([7; 32])),
            mirrored::<FullRelease>(
                json!({ "release": sample::release_view(), "payload": "AA==" }),
            ),
        ),
        (
            Call::changes(Some(&cursor), limit),
            mirrored::<ChangePage>(json!({
                "entries": [{ "kind": "consent", "key": sample::key(1), "digest": sample::key(2) }],
                "next": "c",
            })),
        ),
        (
            Call::entry(EntryKind::Consent, EntryKey([1; 32])),
            mirrored::<EntryView>(sample::entry_view()),
        ),
    ]
}

#[test]
fn the_mirror_is_what_the_app_describes() {
    let described = described();
    let types = &described["types"];
    let mut left: Vec<&Value> = described["methods"]
        .as_array()
        .expect("methods")
        .iter()
        .collect();
    let init = abi_method(&mut left, "init");
    fits_fields(
        types,
        params(init),
        &super::init(&sample::circle_input()),
        "init",
    );
    for (call, answer) in methods() {
        let method = abi_method(&mut left, call.method);
        fits_fields(types, params(method), &call.args, call.method);
        fits(types, &method["returns"], &answer, call.method);
    }
    assert!(
        left.is_empty(),
        "the app has methods that nobody calls: {left:?}"
    );
}

fn abi_method<'a>(left: &mut Vec<&'a Value>, name: &str) -> &'a Value {
    let at = left.iter().position(|method| method["name"] == name);
    left.remove(at.unwrap_or_else(|| panic!("the app has no {name}")))
}

fn params(method: &Value) -> &[Value] {
    method["params"].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn unknown_and_missing_fields_are_refused() {
    is_strict::<ConsentView>(&sample::consent_view());
    is_strict::<RecordView>(&sample::record_view());
    is_strict::<LogView>(&sample::log_view());
    is_strict::<EntryView>(&sample::entry_view());
}
