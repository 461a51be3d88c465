use std::fs;
use std::path::Path;

use medsync_protocol::ids::to_base64;
use serde_json::json;

use super::super::sample;
use super::*;

/// Set to write the examples anew, after the interface changed.
const WRITE: &str = "MEDSYNC_WRITE_EXAMPLES";

fn answered(output: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "result": { "output": output } })
}

/// An answer to each call, by the name that the fuzzer has for the call.
fn examples() -> Vec<(String, Value)> {
    let page = |of: &str, view: Value| json!({ of: [view], "ignored": 1, "next": "c" });
    let payload = to_base64(&sample::payload());
    let change = json!({ "kind": "record", "key": sample::key(1), "digest": sample::key(2) });
    let mut all = vec![
        (
            "written",
            json!({ "key": sample::key(1), "existing": true }),
        ),
        ("circle", sample::circle_view()),
        ("consents", page("consents", sample::consent_view())),
        ("records", page("records", sample::record_view())),
        (
            "record",
            json!({ "record": sample::record_view(), "payload": payload }),
        ),
        (
            "part",
            json!({ "digest": sample::key(1), "payload": payload }),
        ),
        ("log", json!({ "entries": [sample::log_view()], "next": 1 })),
        ("receipts", page("receipts", sample::receipt_view())),
        ("releases", page("releases", sample::release_view())),
        (
            "release",
            json!({ "release": sample::release_view(), "payload": payload }),
        ),
        ("changes", json!({ "entries": [change], "next": null })),
    ];
    let entry = |kind: EntryKind| {
        let mut view = sample::entry_view();
        view["kind"] = json!(kind.name());
        (format!("entry {}", kind.name()), answered(&view))
    };
    let mut named: Vec<(String, Value)> = all
        .drain(..)
        .map(|(call, output)| (call.to_owned(), answered(&output)))
        .collect();
    named.extend([EntryKind::Consent, EntryKind::Ticket].map(entry));
    let refusal = br#"{"error":"full","message":"no room"}"#.to_vec();
    let text = format!("{APP_REFUSES}{}", json!(refusal));
    let error = json!({ "type": "FunctionCallError", "data": text });
    named.push(("written".into(), json!({ "error": error })));
    named
}

#[test]
fn the_fuzzers_examples_are_answers_of_today() {
    let folder = Path::new(env!("MEDSYNC_ROOT")).join("fuzz/corpus/answer");
    for (call, answer) in examples() {
        let is_refusal = answer["error"].is_object();
        let name = if is_refusal {
            "refused".into()
        } else {
            call.replace(' ', "-")
        };
        let path = folder.join(name);
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(&path, format!("{call}\n{answer}\n")).expect("written");
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let kept = kept.split_once('\n').map(|(call, answer)| {
            (
                call.to_owned(),
                serde_json::from_str(answer).unwrap_or_default(),
            )
        });
        assert_eq!(
            kept,
            Some((call, answer)),
            "{}: write it with {WRITE}=1",
            path.display()
        );
    }
}

/// What a node says in an answer, each with what a caller has to know.
#[test]
fn every_failure_of_a_node_has_its_meaning() {
    let told = |kind: &str, data: Value| {
        Failure {
            kind: kind.into(),
            data,
        }
        .into_error(sample::CONTEXT, "circle")
    };
    assert!(matches!(
        told("ContextNotFound", Value::Null),
        SourceError::UnknownContext(_)
    ));
    for kind in [
        "Uninitialized",
        "GroupKeyPending",
        "ApplicationNotInstalled",
    ] {
        let error = told(kind, json!({ "context_id": "x" }));
        assert!(matches!(error, SourceError::NotReady { .. }), "{error}");
        assert!(error.is_retry());
    }
    let nobody = json!("No owned identity found for this context");
    assert!(matches!(
        told("FunctionCallError", nobody),
        SourceError::NotMember { .. }
    ));
    let panicked = told("FunctionCallError", json!("guest panicked: \"CIRCLE\""));
    assert_eq!(panicked.refusal(), Some("failed"));
    let broken = told(
        "FunctionCallError",
        json!(format!("{APP_REFUSES}[1, 2, 999]")),
    );
    assert_eq!(broken.refusal(), Some("failed"));
    assert!(!told("ParseError", json!("missing field")).is_retry());
    assert!(told("InternalError", Value::Null).is_retry());
}
