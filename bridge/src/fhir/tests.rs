use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use medsync_protocol::codes::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("MEDSYNC_ROOT"))
        .join("tests/data/fhir")
        .join(name)
}

fn counts(bundle: &Bundle) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for resource in &bundle.resources {
        *counts.entry(resource.resource_type.as_str()).or_default() += 1;
    }
    counts
}

fn bundle_of(entries: &Value) -> Bundle {
    let bundle = json!({"resourceType": "Bundle", "type": "collection", "entry": entries});
    parse_bundle(bundle.to_string().as_bytes()).expect("a bundle")
}

#[test]
fn synthetic_patients_are_read_whole() {
    let expected = [
        ("buster-hoeger.json", 66, ("Observation", 33)),
        ("clemente-kreiger.json", 70, ("Observation", 48)),
        ("ned-hintz.json", 71, ("Immunization", 7)),
    ];
    for (name, total, (resource_type, count)) in expected {
        let bundle = read_bundle(&data(name)).expect("a bundle");
        assert_eq!(bundle.refused, [], "{name}");
        assert_eq!(bundle.resources.len(), total, "{name}");
        assert_eq!(counts(&bundle).get(resource_type), Some(&count), "{name}");
        for resource in &bundle.resources {
            let itself = Code::new(attributes::RESOURCE_TYPES, resource.resource_type.as_str());
            assert!(
                resource
                    .attributes
                    .classes
                    .iter()
                    .all(|class| class.0.contains(&itself))
            );
            let json: Value = serde_json::from_slice(&resource.payload).expect("JSON");
            assert_eq!(json["resourceType"], resource.resource_type.as_str());
        }
        let dated = |wanted: &str| {
            let mut some = bundle
                .resources
                .iter()
                .filter(|r| r.resource_type == wanted);
            some.all(|r| r.attributes.data_date.is_some() && !r.attributes.codes.is_empty())
        };
        assert!(
            dated("Observation") && dated("Encounter") && dated("Immunization"),
            "{name}"
        );
    }
}

#[test]
fn a_bundle_that_is_imported_again_has_the_same_keys_and_bytes() {
    let (first, second) = (
        read_bundle(&data("ned-hintz.json")),
        read_bundle(&data("ned-hintz.json")),
    );
    assert_eq!(first.expect("a bundle"), second.expect("a bundle"));
}

#[test]
fn a_file_of_50_mb_is_refused_by_its_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.json");
    // A hole in a file has a size and no bytes to read.
    File::create(&path)
        .and_then(|file| file.set_len(50_000_000))
        .expect("a sparse file");
    assert!(matches!(
        read_bundle(&path),
        Err(FhirError::TooLarge { bytes: 50_000_000 })
    ));
    assert!(matches!(
        read_bundle(&folder.path().join("absent")),
        Err(FhirError::File(_))
    ));
}

#[test]
fn what_is_no_bundle_says_what_it_is() {
    for text in [
        "",
        "{",
        "nonsense",
        "{\"resourceType\": \"Bundle\",,}",
        "\u{feff}{}",
    ] {
        let error = parse_bundle(text.as_bytes());
        assert!(
            matches!(error, Err(FhirError::NotJson { .. })),
            "{text}: {error:?}"
        );
    }
    assert!(matches!(
        parse_bundle(&[0xff; 9]),
        Err(FhirError::NotJson { .. })
    ));
    for text in [
        "[]",
        "7",
        "{}",
        "{\"resourceType\": \"Patient\"}",
        "{\"resourceType\": 1}",
    ] {
        let error = parse_bundle(text.as_bytes());
        assert!(
            matches!(error, Err(FhirError::NotABundle(_))),
            "{text}: {error:?}"
        );
    }
    let no_list = r#"{"resourceType": "Bundle", "type": "collection", "entry": {}}"#;
    assert!(matches!(
        parse_bundle(no_list.as_bytes()),
        Err(FhirError::NotABundle(_))
    ));
    let other = r#"{"resourceType": "Bundle", "type": "searchset"}"#;
    assert!(
        matches!(parse_bundle(other.as_bytes()), Err(FhirError::OtherType(t)) if t == "searchset")
    );
}

#[test]
fn entries_are_counted_before_they_are_read() {
    let entries = vec!["{}"; ENTRIES_LEN_MAX + 1].join(",");
    let bundle =
        format!(r#"{{"resourceType": "Bundle", "type": "collection", "entry": [{entries}]}}"#);
    let error = parse_bundle(bundle.as_bytes());
    assert!(matches!(error, Err(FhirError::TooManyEntries(count)) if count == ENTRIES_LEN_MAX + 1));
}

#[test]
fn every_entry_is_a_resource_or_has_a_reason() {
    let patient = json!({"resourceType": "Patient", "id": "1"});
    let large =
        json!({"resourceType": "Binary", "id": "2", "data": "x".repeat(RESOURCE_BYTES_MAX)});
    let bundle = bundle_of(&json!([
        {"resource": patient},
        7,
        {"fullUrl": "urn:uuid:3"},
        {"resource": {"id": "4"}},
        {"resource": large},
        {"resource": patient},
        {"fullUrl": "urn:uuid:5", "resource": {"resourceType": "no type"}},
    ]));
    assert_eq!(bundle.resources.len(), 1);
    assert_eq!(bundle.resources[0].reference, "Patient/1");
    let whys: Vec<&str> = bundle
        .refused
        .iter()
        .map(|refused| refused.why.as_str())
        .collect();
    assert_eq!(whys.len(), 6);
    for (why, part) in whys.iter().zip([
        "not one of",
        "no resource",
        "no resourceType",
        "bytes",
        "twice",
    ]) {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(bundle.refused[1].reference, "urn:uuid:3");
}

#[test]
fn depth_is_refused_and_no_stack_ends() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let entry = format!(r#"{{"resource": {{"resourceType": "Patient", "x": {deep}}}}}"#);
    let bundle =
        format!(r#"{{"resourceType": "Bundle", "type": "collection", "entry": [{entry}]}}"#);
    let bundle = parse_bundle(bundle.as_bytes()).expect("a bundle");
    assert!(
        bundle.refused[0].why.contains("deeply"),
        "{:?}",
        bundle.refused
    );
    let open = "[".repeat(1_000_000);
    assert!(parse_bundle(open.as_bytes()).is_err());
}

#[test]
fn decimals_keep_their_digits() {
    let text = r#"{"resourceType": "Bundle", "type": "transaction",
        "entry": [{"resource":
            {"resourceType": "Observation", "valueQuantity": {"value": 1.10}}}]}"#;
    let bundle = parse_bundle(text.as_bytes()).expect("a bundle");
    let payload = String::from_utf8_lossy(&bundle.resources[0].payload).into_owned();
    assert!(payload.contains("{\"value\":1.10}"), "{payload}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse_bundle(&bytes);
    }

    #[test]
    fn no_resource_panics(resource in json_value()) {
        let entries = json!([{"fullUrl": "u", "resource": resource}]);
        let bundle = bundle_of(&entries);
        prop_assert_eq!(bundle.resources.len() + bundle.refused.len(), 1);
    }
}

/// Values with the element names that are looked at, and everything else in them.
fn json_value() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "resourceType",
        "id",
        "code",
        "coding",
        "system",
        "category",
        "class",
        "meta",
        "security",
        "performer",
        "actor",
        "reference",
        "effectivePeriod",
        "start",
        "subject",
        "birthDate",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("Observation")),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}
