//! What `decide` may know of a resource.
//!
//! What is unknown must not be released: a value without a usable code makes its whole dimension
//! absent, because an absent dimension fails every permit that is restricted by it and meets every
//! denial. Leaving out one value of several would do the opposite.
//!
//! The resource's type is a coding of every class that it has, since a laboratory observation is
//! an observation: a permit for observations covers it, and so does one for laboratory data, while
//! a denial of either holds. With two categories, a permit that names only one of them and not the
//! type does not cover.
//!
//! What a resource contains is handed over with it, so that its codes, labels and authors are the
//! resource's too. Its classes are further codings of values of the resource's own class: a denial
//! of what is contained holds, and a permit for the resource covers it with what it contains.

use medsync_protocol::codes::{CODE_TEXT_BYTES_MAX, Code};
use medsync_protocol::decide::{Attributes, Concept, VALUES_LEN_MAX};
use medsync_protocol::ids::{AuthorId, Sha256Digest};
use serde_json::Value;

use super::dates;

/// The system of FHIR's own resource types.
pub const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
/// The most codings of one value, as many as a record takes.
const CODINGS_LEN_MAX: usize = 16;
/// All codes and authors together, in bytes; a record's whole description has 16 KiB.
const ATTRIBUTE_BYTES_MAX: usize = 12 * 1024;

/// The elements that say what a resource is about. Results and parts of it (`value`, `component`,
/// `item`) are not in here: a permit has to hold all values, and nobody lists every result.
const CODES: [&str; 5] = [
    "code",
    "medicationCodeableConcept",
    "vaccineCode",
    "type",
    "reasonCode",
];
/// The elements that say who made a resource.
const AUTHORS: [&str; 6] = [
    "performer",
    "author",
    "participant",
    "recorder",
    "asserter",
    "requester",
];
/// Where the reference stands in an author that is an element with parts.
const AUTHOR_PARTS: [&str; 4] = ["actor", "individual", "member", "party"];

/// Why a resource's attributes cannot be a record's.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttributesError {
    #[error("it has {is} {what} and may have {VALUES_LEN_MAX}")]
    Values { what: &'static str, is: usize },
    #[error("one of its values has {0} codings and may have {CODINGS_LEN_MAX}")]
    Codings(usize),
    #[error("its codes and authors have {0} bytes and may have {ATTRIBUTE_BYTES_MAX}")]
    Length(usize),
}

pub(super) fn read(resource_type: &str, resource: &Value) -> Result<Attributes, AttributesError> {
    let parts = parts(resource);
    let codes = values(&parts, &CODES);
    let labels = parts
        .iter()
        .flat_map(|part| each(&part["meta"]["security"]));
    let attributes = Attributes {
        classes: classes(resource_type, &parts),
        codes: all_known(codes.map(|concept| codings(each(&concept["coding"])))),
        labels: all_known(labels.map(|label| codings([label]))),
        authors: authors(values(&parts, &AUTHORS)),
        record: None,
        data_date: dates::of(&parts),
    };
    check(&attributes)?;
    Ok(attributes)
}

/// A resource, then what it contains.
fn parts(resource: &Value) -> Vec<&Value> {
    let mut parts = vec![resource];
    let mut at = 0;
    while let Some(part) = parts.get(at) {
        parts.extend(each(&part["contained"]));
        at += 1;
    }
    parts
}

/// The values of some elements, of all parts.
fn values<'a>(parts: &'a [&'a Value], fields: &'a [&'a str]) -> impl Iterator<Item = &'a Value> {
    let of_part =
        move |part: &'a &'a Value| fields.iter().flat_map(move |field| each(&part[*field]));
    parts.iter().flat_map(of_part)
}

/// The elements of a list, or the one element where there is no list.
fn each(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Null => [].iter(),
        Value::Array(values) => values.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

/// The codings of a value that can be in a set of codes at all.
fn codings<'a>(codings: impl IntoIterator<Item = &'a Value>) -> Concept {
    let code = |coding| Some(Code::new(text(coding, "system")?, text(coding, "code")?));
    Concept(codings.into_iter().filter_map(code).collect())
}

/// A text that can be a code's.
fn text(value: &Value, field: &str) -> Option<String> {
    let text = value[field].as_str()?;
    let fits = (1..=CODE_TEXT_BYTES_MAX).contains(&text.len());
    fits.then(|| text.to_owned())
}

/// The values, or none of them if one is unknown.
fn all_known(concepts: impl Iterator<Item = Concept>) -> Vec<Concept> {
    let concepts: Vec<Concept> = concepts.collect();
    let is_known = concepts.iter().all(|concept| !concept.0.is_empty());
    if is_known { concepts } else { Vec::new() }
}

fn classes(resource_type: &str, parts: &[&Value]) -> Vec<Concept> {
    let itself = Code::new(RESOURCE_TYPES, resource_type);
    let mut classes = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        let mut types = vec![itself.clone()];
        if place > 0 {
            match text(part, "resourceType") {
                Some(contained) => types.push(Code::new(RESOURCE_TYPES, contained)),
                None => return Vec::new(),
            }
        }
        types.dedup();
        // An encounter's class is one coding, a category a value with several.
        let categories = each(&part["category"]).map(|category| codings(each(&category["coding"])));
        let class = each(&part["class"]).map(|class| codings([class]));
        let before = classes.len();
        for Concept(codes) in categories.chain(class) {
            if codes.is_empty() {
                return Vec::new();
            }
            classes.push(Concept(types.iter().cloned().chain(codes).collect()));
        }
        if classes.len() == before && (place == 0 || types.len() > 1) {
            classes.push(Concept(types));
        }
    }
    classes
}

fn authors<'a>(said: impl Iterator<Item = &'a Value>) -> Vec<AuthorId> {
    let mut authors = Vec::new();
    for author in said {
        let parts = AUTHOR_PARTS.iter().map(|part| &author[*part]);
        let reference = std::iter::once(author)
            .chain(parts)
            .find_map(|place| place["reference"].as_str())
            // One that is contained has a name in this resource alone.
            .filter(|reference| !reference.is_empty() && !reference.starts_with('#'));
        match reference {
            Some(reference) => {
                authors.push(AuthorId(Sha256Digest::of(reference.as_bytes()).0));
            }
            None => return Vec::new(),
        }
    }
    authors.sort();
    authors.dedup();
    authors
}

/// What a record takes; more is no reason to leave anything out.
fn check(attributes: &Attributes) -> Result<(), AttributesError> {
    let concepts = [
        ("classes", &attributes.classes),
        ("codes", &attributes.codes),
        ("labels", &attributes.labels),
    ];
    let mut bytes = attributes.authors.len() * size_of::<AuthorId>();
    for (what, concepts) in concepts {
        if concepts.len() > VALUES_LEN_MAX {
            return Err(AttributesError::Values {
                what,
                is: concepts.len(),
            });
        }
        for Concept(codes) in concepts {
            if codes.len() > CODINGS_LEN_MAX {
                return Err(AttributesError::Codings(codes.len()));
            }
            bytes += codes
                .iter()
                .map(|code| code.system.len() + code.code.len())
                .sum::<usize>();
        }
    }
    if attributes.authors.len() > VALUES_LEN_MAX {
        let is = attributes.authors.len();
        return Err(AttributesError::Values {
            what: "authors",
            is,
        });
    }
    if bytes > ATTRIBUTE_BYTES_MAX {
        return Err(AttributesError::Length(bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
