use super::*;
use medsync_protocol::ids::UnixSeconds;
use serde_json::json;

fn concept(codes: &[(&str, &str)]) -> Concept {
    Concept(
        codes
            .iter()
            .map(|(system, code)| Code::new(*system, *code))
            .collect(),
    )
}

fn attributes(resource: &Value) -> Attributes {
    read("Observation", resource).expect("within its bounds")
}

#[test]
fn every_class_is_of_the_resources_type_too() {
    let itself = (RESOURCE_TYPES, "Observation");
    assert_eq!(attributes(&json!({})).classes, [concept(&[itself])]);
    let read = attributes(&json!({
        "category": [
            {"coding": [{"system": "c", "code": "laboratory"}, {"system": "d", "code": "lab"}]},
            {"coding": [{"system": "c", "code": "vital-signs"}]},
        ],
        "class": {"system": "e", "code": "AMB"},
    }));
    assert_eq!(
        read.classes,
        [
            concept(&[itself, ("c", "laboratory"), ("d", "lab")]),
            concept(&[itself, ("c", "vital-signs")]),
            concept(&[itself, ("e", "AMB")]),
        ]
    );
}

#[test]
fn codes_labels_authors_and_date_are_read() {
    let read = attributes(&json!({
        "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]},
        "reasonCode": [{"coding": [{"system": "s", "code": "r"}]}],
        "meta": {"security": [{"system": "l", "code": "R"}, {"system": "l", "code": "ETH"}]},
        "performer": [{"reference": "Practitioner/1"}, {"actor": {"reference": "Practitioner/2"}}],
        "asserter": {"reference": "Practitioner/1"},
        "effectiveDateTime": "1970-01-02",
    }));
    let codes = [
        concept(&[("http://loinc.org", "8302-2")]),
        concept(&[("s", "r")]),
    ];
    assert_eq!(read.codes, codes);
    assert_eq!(
        read.labels,
        [concept(&[("l", "R")]), concept(&[("l", "ETH")])]
    );
    let author = |reference: &str| AuthorId(Sha256Digest::of(reference.as_bytes()).0);
    let mut authors = vec![author("Practitioner/1"), author("Practitioner/2")];
    authors.sort();
    assert_eq!(read.authors, authors);
    assert_eq!(read.data_date, Some(UnixSeconds(86_400)));
    assert_eq!(read.record, None);
}

/// A denial of what is contained holds, and so do its codes and labels.
#[test]
fn what_is_contained_is_the_resources_own() {
    let read = attributes(&json!({
        "category": [{"coding": [{"system": "c", "code": "laboratory"}]}],
        "code": {"coding": [{"system": "s", "code": "heart"}]},
        "effectiveDateTime": "1970-01-02",
        "contained": [
            {
                "resourceType": "Condition",
                "code": {"coding": [{"system": "s", "code": "hidden"}]},
                "category": [{"coding": [{"system": "c", "code": "diagnosis"}]}],
                "meta": {"security": [{"system": "l", "code": "R"}]},
                "asserter": {"reference": "Practitioner/1"},
                "recordedDate": "1971",
            },
            {"resourceType": "Observation"},
        ],
    }));
    let [itself, condition] = ["Observation", "Condition"].map(|name| (RESOURCE_TYPES, name));
    assert_eq!(
        read.classes,
        [
            concept(&[itself, ("c", "laboratory")]),
            concept(&[itself, condition, ("c", "diagnosis")]),
        ]
    );
    let codes = [concept(&[("s", "heart")]), concept(&[("s", "hidden")])];
    assert_eq!(read.codes, codes);
    assert_eq!(read.labels, [concept(&[("l", "R")])]);
    assert_eq!(read.authors.len(), 1);
    assert_eq!(read.data_date, None);
}

/// No permit covers what has no class.
#[test]
fn a_class_that_nobody_can_match_leaves_none() {
    for unknown in [
        json!({"category": [{"coding": [{"system": "c", "code": "x"}]}, {"text": "words"}]}),
        json!({"class": {"display": "words"}}),
        json!({"contained": [{"code": {}}]}),
        json!({"contained": [{"resourceType": "Condition", "category": {"text": "words"}}]}),
    ] {
        assert!(attributes(&unknown).classes.is_empty(), "{unknown}");
    }
}

/// One value of several that nobody can match makes all of them unknown.
#[test]
fn what_is_unknown_makes_its_dimension_absent() {
    let known = json!({"coding": [{"system": "s", "code": "c"}]});
    for unknown in [
        json!({"text": "in words only"}),
        json!({"coding": [{"code": "without a system"}]}),
        json!({"coding": [{"system": "s", "code": "x".repeat(CODE_TEXT_BYTES_MAX + 1)}]}),
        json!("a string"),
        json!(7),
    ] {
        let read = attributes(&json!({"code": known, "type": [known, unknown]}));
        assert!(read.codes.is_empty(), "{unknown}");
    }
    let labels = json!({"meta": {"security": [{"system": "s", "code": "c"}, {"code": "R"}]}});
    assert!(attributes(&labels).labels.is_empty());
    let authors = json!({"performer": [{"reference": "Practitioner/1"}, {"display": "Dr. X"}]});
    assert!(attributes(&authors).authors.is_empty());
}

#[test]
fn a_resource_beyond_the_bounds_is_refused_and_not_cut() {
    let coding = json!({"system": "s", "code": "c"});
    let many = json!({"type": vec![json!({"coding": [coding]}); VALUES_LEN_MAX + 1]});
    assert!(matches!(
        read("Claim", &many),
        Err(AttributesError::Values {
            what: "codes",
            is: 65
        })
    ));
    let wide = json!({"code": {"coding": vec![coding; CODINGS_LEN_MAX + 1]}});
    assert!(matches!(
        read("Claim", &wide),
        Err(AttributesError::Codings(17))
    ));
    let long = json!({"system": "s", "code": "x".repeat(CODE_TEXT_BYTES_MAX)});
    let long = json!({"type": vec![json!({"coding": vec![long; CODINGS_LEN_MAX]}); 8]});
    assert!(matches!(
        read("Claim", &long),
        Err(AttributesError::Length(_))
    ));
    let crowd: Vec<Value> = (0..=VALUES_LEN_MAX)
        .map(|i| json!({"reference": format!("P/{i}")}))
        .collect();
    let crowd = json!({"author": crowd});
    assert!(matches!(
        read("Claim", &crowd),
        Err(AttributesError::Values {
            what: "authors",
            is: 65
        })
    ));
}
