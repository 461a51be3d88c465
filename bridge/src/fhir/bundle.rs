//! The bundle itself: entries, references, and the resource's own text.

use std::collections::HashSet;
use std::fmt;

use medsync_protocol::ids::Sha256Digest;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::attributes;
use super::{
    BUNDLE_BYTES_MAX, Bundle, ENTRIES_LEN_MAX, FhirError, RESOURCE_BYTES_MAX, Refused, Resource,
};

/// The longest FHIR type, in bytes; the longest of FHIR itself has 33.
const TYPE_BYTES_MAX: usize = 64;
/// How much of a reference a report shows, in bytes.
const REFERENCE_BYTES_SHOWN: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default)]
    resource_type: Value,
    #[serde(default, rename = "type")]
    bundle_type: Value,
    #[serde(default, borrow)]
    entry: Entries<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(default)]
    full_url: Option<String>,
    #[serde(default, borrow)]
    resource: Option<&'a RawValue>,
}

/// The entries up to the bound, and how many there are.
#[derive(Default)]
struct Entries<'a> {
    kept: Vec<&'a RawValue>,
    total: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Entries::default();
                while entries.kept.len() < ENTRIES_LEN_MAX {
                    let Some(entry) = seq.next_element()? else {
                        break;
                    };
                    entries.kept.push(entry);
                }
                entries.total = entries.kept.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    entries.total += 1;
                }
                Ok(entries)
            }
        }
        d.deserialize_seq(Bounded)
    }
}

/// What a parser says, without the text that it may quote from the file.
fn not_json(error: &serde_json::Error) -> FhirError {
    let problem = if error.is_eof() {
        "it ends too early"
    } else {
        "it cannot be read on"
    };
    FhirError::NotJson {
        problem,
        line: error.line(),
        column: error.column(),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Bundle, FhirError> {
    if bytes.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(FhirError::TooLarge {
            bytes: bytes.len() as u64,
        });
    }
    let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => FhirError::NotABundle(format!(
            "its elements are not those of a bundle (line {}, column {})",
            error.line(),
            error.column()
        )),
        _ => not_json(&error),
    })?;
    match wire.resource_type.as_str() {
        Some("Bundle") => {}
        Some(other) => {
            return Err(FhirError::NotABundle(format!(
                "its resourceType is {:?}",
                shown(other)
            )));
        }
        None => return Err(FhirError::NotABundle("it has no resourceType".into())),
    }
    match wire.bundle_type.as_str() {
        Some("transaction" | "collection") => {}
        other => return Err(FhirError::OtherType(shown(other.unwrap_or_default()))),
    }
    if wire.entry.total > ENTRIES_LEN_MAX {
        return Err(FhirError::TooManyEntries(wire.entry.total));
    }
    let mut bundle = Bundle::default();
    let mut seen = HashSet::new();
    for (number, entry) in wire.entry.kept.iter().enumerate() {
        match read_entry(entry, number) {
            Ok(resource) if seen.insert(resource.local_key) => bundle.resources.push(resource),
            Ok(twice) => bundle.refused.push(Refused {
                resource_type: twice.resource_type,
                reference: twice.reference,
                why: "the bundle has this resource twice; the first was taken".into(),
            }),
            Err(refused) => bundle.refused.push(refused),
        }
    }
    Ok(bundle)
}

pub(super) fn parse_one(json: &str) -> Result<Resource, Refused> {
    let refused = |_| Refused {
        resource_type: String::new(),
        reference: String::new(),
        why: "it is no JSON".into(),
    };
    let entry = RawValue::from_string(format!(r#"{{"resource":{json}}}"#)).map_err(refused)?;
    read_entry(&entry, 0)
}

fn read_entry(entry: &RawValue, number: usize) -> Result<Resource, Refused> {
    let mut refused = Refused {
        resource_type: String::new(),
        reference: format!("entry {number}"),
        why: String::new(),
    };
    let mut refuse = |why: &str| {
        refused.why = why.into();
        refused.clone()
    };
    let Ok(entry) = serde_json::from_str::<Entry<'_>>(entry.get()) else {
        return Err(refuse("the entry is not one of a bundle"));
    };
    if let Some(url) = &entry.full_url {
        refused.reference = shown(url);
    }
    let mut refuse = |why: String| {
        refused.why = why;
        refused.clone()
    };
    let Some(raw) = entry.resource else {
        return Err(refuse("the entry has no resource".into()));
    };
    let payload = compact(raw.get());
    if payload.len() > RESOURCE_BYTES_MAX {
        let bytes = payload.len();
        return Err(refuse(format!(
            "it has {bytes} bytes and may have {RESOURCE_BYTES_MAX}"
        )));
    }
    let resource: Value = match serde_json::from_slice(&payload) {
        Ok(resource) => resource,
        // The text is JSON already, so that depth and numbers beyond any range are what is left.
        Err(_) => {
            return Err(refuse(
                "it is nested too deeply, or has a number of no size".into(),
            ));
        }
    };
    let text = |field: &str| resource[field].as_str().unwrap_or_default();
    let resource_type = text("resourceType").to_owned();
    let is_type = (1..=TYPE_BYTES_MAX).contains(&resource_type.len())
        && resource_type
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric());
    if !is_type {
        return Err(refuse("it has no resourceType".into()));
    }
    refused.resource_type.clone_from(&resource_type);
    if entry.full_url.is_none() && !text("id").is_empty() {
        refused.reference = shown(&format!("{resource_type}/{}", text("id")));
    }
    let attributes = attributes::read(&resource_type, &resource).map_err(|why| Refused {
        why: why.to_string(),
        ..refused.clone()
    })?;
    let url = entry.full_url.unwrap_or_default();
    Ok(Resource {
        local_key: local_key(&url, &resource_type, &resource, &payload),
        resource_type,
        reference: refused.reference,
        attributes,
        payload,
    })
}

/// The same for the same resource of the same patient whenever it is imported. What has neither
/// address nor id is told apart by its content.
fn local_key(url: &str, resource_type: &str, resource: &Value, payload: &[u8]) -> Sha256Digest {
    let patient = ["subject", "patient"]
        .iter()
        .find_map(|field| resource[*field]["reference"].as_str())
        .unwrap_or_default();
    let id = resource["id"].as_str().unwrap_or_default();
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for text in ["medsync/fhir-resource/v1", patient, url, resource_type, id] {
        part(text.as_bytes());
    }
    if url.is_empty() && id.is_empty() {
        part(payload);
    }
    Sha256Digest(hash.finalize().into())
}

/// JSON without the white space between its tokens. Tokens stay as they are: a FHIR decimal
/// carries its precision in its digits.
fn compact(json: &str) -> Vec<u8> {
    let mut kept = Vec::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_text = byte == b'"';
        }
        kept.push(byte);
    }
    kept
}

/// A text of the file as a report may show it.
fn shown(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > REFERENCE_BYTES_SHOWN {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_white_space_between_tokens_goes() {
        let json = "{ \"a b\" : [ 1.10 , \"\\\" \\\\\" ,\ttrue ] }\r\n";
        let kept = compact(json);
        assert_eq!(
            String::from_utf8_lossy(&kept),
            "{\"a b\":[1.10,\"\\\" \\\\\",true]}"
        );
    }

    proptest! {
        #[test]
        fn compacting_changes_no_value(
            text in ".{0,40}",
            number: i64,
            padding in "[ \t\r\n]{0,4}",
        ) {
            let value = serde_json::json!({ "t": text, "n": [number, null] });
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            let kept = compact(&format!("{padding}{pretty}{padding}"));
            prop_assert_eq!(&kept, &serde_json::to_vec(&value).expect("JSON"));
        }
    }
}
