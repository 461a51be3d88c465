//! FHIR bundles.

use medsync::fhir::{ENTRIES_LEN_MAX, RESOURCE_BYTES_MAX, parse_bundle};
use medsync_protocol::decide::Concept;
use serde_json::Value;

/// A bundle: each resource that is taken is JSON within its bounds, and alone in a bundle it is
/// taken for the same.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn bundle(bytes: &[u8]) -> bool {
    let Ok(read) = parse_bundle(bytes) else {
        return false;
    };
    assert!(read.resources.len() + read.refused.len() <= ENTRIES_LEN_MAX);
    for refused in &read.refused {
        assert!(!refused.why.is_empty());
        assert!(!refused.reference.contains(char::is_control));
    }
    for resource in &read.resources {
        assert!(resource.payload.len() <= RESOURCE_BYTES_MAX);
        let value: Value = serde_json::from_slice(&resource.payload).expect("JSON");
        assert_eq!(value["resourceType"], resource.resource_type.as_str());
        let head = br#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":"#;
        let alone = [head, resource.payload.as_slice(), b"}]}"].concat();
        let alone = parse_bundle(&alone).expect("a bundle of what was in one");
        let [again] = alone.resources.as_slice() else {
            panic!("alone it is refused: {:?}", alone.refused);
        };
        assert_eq!(again.payload, resource.payload);
        assert_eq!(again.attributes, resource.attributes);
        // None where one cannot be read; each is of the resource's type too.
        for Concept(codes) in &resource.attributes.classes {
            assert_eq!(codes[0].code, resource.resource_type);
        }
    }
    !read.resources.is_empty()
}
