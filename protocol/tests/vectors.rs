//! The golden vectors, natively. `MEDSYNC_VECTORS` names another file.

use std::fs;
use std::path::PathBuf;

fn vectors() -> Vec<u8> {
    let path = std::env::var_os("MEDSYNC_VECTORS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("MEDSYNC_ROOT"),
                "/tests/vectors/protocol-v1.json"
            ))
        },
        PathBuf::from,
    );
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_golden_vector_holds() {
    let counts = medsync_protocol::vectors::check(&vectors()).expect("the vectors hold");
    for (kind, count) in counts {
        println!("{kind}: {count}");
    }
}

#[test]
fn a_changed_vector_or_an_unknown_kind_is_noticed() {
    let mut file: serde_json::Value = serde_json::from_slice(&vectors()).expect("JSON");
    let check = |file: &serde_json::Value| {
        medsync_protocol::vectors::check(file.to_string().as_bytes()).expect_err("a changed file")
    };
    file["novel"] = serde_json::json!([]);
    assert_eq!(
        check(&file),
        medsync_protocol::vectors::VectorError::UnknownKind("novel".into())
    );
    file.as_object_mut().expect("an object").remove("novel");
    file["handle"][0]["handle"] = serde_json::json!("0x1");
    assert!(check(&file).to_string().contains("handle[0]"));
    file.as_object_mut().expect("an object").remove("tree");
    file["handle"] = serde_json::json!([]);
    assert_eq!(
        check(&file),
        medsync_protocol::vectors::VectorError::MissingKind("handle")
    );
}
