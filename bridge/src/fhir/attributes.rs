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
    let codes = CODES.iter().flat_map(|field| each(&resource[*field]));
    let labels = each(&resource["meta"]["security"]).map(|label| vec![label]);
    let attributes = Attributes {
        classes: classes(resource_type, resource),
        codes: all_known(codes.map(|concept| codings(each(&concept["coding"])))),
        labels: all_known(labels.map(codings)),
        authors: authors(resource),
        record: None,
        data_date: dates::of(resource),
    };
    check(&attributes)?;
    Ok(attributes)
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
    let text = |coding: &Value, field: &str| {
        let text = coding[field].as_str()?;
        (1..=CODE_TEXT_BYTES_MAX)
            .contains(&text.len())
            .then(|| text.to_owned())
    };
    let code = |coding| Some(Code::new(text(coding, "system")?, text(coding, "code")?));
    Concept(codings.into_iter().filter_map(code).collect())
}

/// The values, or none of them if one is unknown.
fn all_known(concepts: impl Iterator<Item = Concept>) -> Vec<Concept> {
    let concepts: Vec<Concept> = concepts.collect();
    let is_known = concepts.iter().all(|concept| !concept.0.is_empty());
    if is_known { concepts } else { Vec::new() }
}

fn classes(resource_type: &str, resource: &Value) -> Vec<Concept> {
    let itself = || Code::new(RESOURCE_TYPES, resource_type);
    // An encounter's class is one coding, a category a value with several.
    let categories = each(&resource["category"]).map(|category| codings(each(&category["coding"])));
    let class = each(&resource["class"]).map(|class| codings([class]));
    let mut classes: Vec<Concept> = categories
        .chain(class)
        .filter(|class| !class.0.is_empty())
        .map(|Concept(mut codes)| {
            codes.insert(0, itself());
            Concept(codes)
        })
        .collect();
    if classes.is_empty() {
        classes.push(Concept(vec![itself()]));
    }
    classes
}

fn authors(resource: &Value) -> Vec<AuthorId> {
    let mut authors = Vec::new();
    for author in AUTHORS.iter().flat_map(|field| each(&resource[*field])) {
        let parts = AUTHOR_PARTS.iter().map(|part| &author[*part]);
        let reference = std::iter::once(author)
            .chain(parts)
            .find_map(|place| place["reference"].as_str())
            .filter(|reference| !reference.is_empty());
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
