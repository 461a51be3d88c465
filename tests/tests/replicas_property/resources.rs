//! The resources that the members speak of: several values of one kind, several codings of one
//! value, and values that are not known.

use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Attributes, Concept};
use medsync_protocol::ids::{AuthorId, RecordId, UnixSeconds, to_base64};
use serde_json::{Value, json};

/// A code, a purpose, or the name of a state.
pub type Text = &'static str;
/// Values of one kind, each with its codings.
pub type Values = &'static [&'static [Text]];

/// One resource.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// Resource type and classes.
    pub classes: Values,
    /// Clinical codes.
    pub codes: Values,
    /// Security labels.
    pub labels: Values,
    /// Who made it.
    pub authors: &'static [u8],
    /// The data's own date, in unix seconds.
    pub date: Option<u64>,
    /// Which record it is, if it is one.
    pub record: Option<usize>,
}

const PLAIN: Resource = Resource {
    classes: &[&["Observation"]],
    codes: &[&["heart"]],
    labels: &[&["N"]],
    authors: &[1],
    date: None,
    record: None,
};

/// What a version of a record can be. Of most there is a likeness that lacks one value, or has one
/// more.
pub const CONTENTS: [Resource; 8] = [
    PLAIN,
    Resource {
        codes: &[&["heart"], &["local", "mind"]],
        labels: &[&["N"], &["PSY"]],
        authors: &[1, 2],
        ..PLAIN
    },
    Resource {
        classes: &[&["Condition"]],
        codes: &[&["local", "mind"]],
        ..PLAIN
    },
    Resource {
        labels: &[],
        authors: &[],
        ..PLAIN
    },
    Resource {
        classes: &[&["Observation"], &["Condition"]],
        codes: &[],
        ..PLAIN
    },
    Resource {
        codes: &[&["local", "heart"], &["rhythm"]],
        date: Some(15),
        ..PLAIN
    },
    Resource {
        codes: &[&["rhythm"], &["skin"]],
        date: Some(20),
        ..PLAIN
    },
    Resource {
        labels: &[&["N"], &["local", "PSY"]],
        authors: &[1, 3],
        ..PLAIN
    },
];

/// The name of a record of a number.
pub const fn record_id(number: usize) -> RecordId {
    RecordId([number as u8 + 1; 32])
}

/// Whether any value has this coding.
pub fn any_is(values: Values, wanted: Text) -> bool {
    values.iter().any(|codings| codings.contains(&wanted))
}

/// Whether there is a value, and each has one of these codings.
pub fn all_are(values: Values, wanted: &[Text]) -> bool {
    let is_wanted = |codings: &&[Text]| codings.iter().any(|code| wanted.contains(code));
    !values.is_empty() && values.iter().all(is_wanted)
}

/// A value with its codings, as `decide` takes it.
pub fn concept(codings: &[Text]) -> Concept {
    Concept(codings.iter().map(|code| Code::new("s", *code)).collect())
}

fn concepts(values: Values) -> Vec<Concept> {
    values.iter().map(|codings| concept(codings)).collect()
}

impl Resource {
    /// As `decide` takes it.
    pub fn attributes(&self) -> Attributes {
        Attributes {
            classes: concepts(self.classes),
            codes: concepts(self.codes),
            labels: concepts(self.labels),
            authors: self.authors.iter().map(|by| AuthorId([*by; 32])).collect(),
            record: self.record.map(record_id),
            data_date: self.date.map(UnixSeconds),
        }
    }

    /// The arguments of `put_record`, as a version of a record.
    pub fn record_arguments(&self, record: usize, version: u32) -> Value {
        let attributes = self.attributes();
        json!({ "record": {
            "record": record_id(record),
            "version": version,
            "resource_type": self.classes[0][0],
            "classes": attributes.classes,
            "codes": attributes.codes,
            "labels": attributes.labels,
            "authors": attributes.authors,
            "data_date": attributes.data_date,
            "payload": to_base64(b"a sealed payload"),
            "key_for_patient": to_base64(b"sealed to the patient"),
            "key_for_custodian": to_base64(b"sealed to the custodian"),
        } })
    }
}
