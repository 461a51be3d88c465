//! The consents that there are: what each says to `decide`, and the same in plain Rust.

use std::sync::LazyLock;

use medsync_protocol::codes::{Code, CodeSet, SortedSet};
use medsync_protocol::ids::AuthorId;
use medsync_protocol::terms::{Provision, ProvisionKind};
use medsync_tests::circle::{HOSPITAL, PATIENT};

use crate::resources::{Resource, all_are, any_is, record_id};

/// The key that the patient changes to, and the one that a thief does.
pub const NEXT: u8 = 30;
/// See [`NEXT`].
pub const THIEF: u8 = 31;

/// Times that no test reaches: a consent ends at one and another begins at the next.
const END: u64 = 1 << 39;
/// See [`END`].
pub const FAR: u64 = 1 << 40;
/// Before either, which is when the custodian answers.
pub const NOW: u64 = 1_000_000;
/// When is asked: before either, twice between them, and after both.
pub const TIMES: [u64; 4] = [NOW, END, FAR - 1, FAR];

/// The purposes for which is asked.
pub const RESEARCH: &str = "HRESCH";
/// See [`RESEARCH`].
pub const TREATMENT: &str = "TREAT";

/// The number of the consent to research on observations, which the patient signs.
pub const OBSERVATIONS: usize = 0;
/// The number of a consent under a key that is nobody's here.
pub const THIEFS: usize = 7;
/// The number of the consent that the hospital signs itself.
pub const HOSPITALS: usize = 8;
/// The number of the consent under the patient's key with the signature of another.
pub const UNSIGNED: usize = 13;

/// What a consent says of a resource for a purpose, if anything: whether it permits it.
type Model = fn(&Resource, &str) -> Option<bool>;

/// What a consent says, who signed it, from when on and until when, if not for ever.
pub struct Says {
    /// Whose key it names.
    pub signer: u8,
    /// Whether the signature is that key's.
    pub is_signed: bool,
    /// The first second, in unix seconds.
    pub not_before: u64,
    /// The first second after, or 0.
    pub not_after: u64,
    /// The rule.
    pub provision: Provision,
    /// What overrides it.
    pub exceptions: Vec<Provision>,
    /// The same in plain Rust, but for the times.
    pub model: Model,
}

/// Every consent; its number is its place.
pub static CONSENTS: LazyLock<Vec<Says>> = LazyLock::new(|| {
    let mut consents = permits();
    consents.extend(under_other_keys());
    consents.extend(of_values());
    consents
});

/// The one code of a name.
pub fn codes(code: &str) -> CodeSet {
    CodeSet::collect([Code::new("s", code)]).expect("one code")
}

fn permit(purpose: &str, classes: CodeSet) -> Provision {
    Provision {
        purposes: codes(purpose),
        classes,
        ..Provision::everything(ProvisionKind::Permit)
    }
}

fn deny() -> Provision {
    Provision::everything(ProvisionKind::Deny)
}

fn plain(signer: u8, provision: Provision, model: Model) -> Says {
    Says {
        signer,
        is_signed: true,
        not_before: 1,
        not_after: 0,
        provision,
        exceptions: Vec::new(),
        model,
    }
}

fn observations(resource: &Resource, purpose: &str) -> Option<bool> {
    (all_are(resource.classes, &["Observation"]) && purpose == RESEARCH).then_some(true)
}

fn treatment(_: &Resource, purpose: &str) -> Option<bool> {
    (purpose == TREATMENT).then_some(true)
}

fn to_observations(signer: u8) -> Says {
    let provision = permit(RESEARCH, codes("Observation"));
    plain(signer, provision, observations)
}

fn to_treatment(signer: u8) -> Says {
    let provision = permit(TREATMENT, CodeSet::default());
    plain(signer, provision, treatment)
}

/// Numbers 0 to 5.
fn permits() -> Vec<Says> {
    let not_the_mind = Provision {
        labels: codes("PSY"),
        ..deny()
    };
    let but_for_the_mind = plain(
        PATIENT,
        permit(RESEARCH, CodeSet::default()),
        // A label that is not known may be this one.
        |resource, purpose| match purpose {
            _ if resource.labels.is_empty() || any_is(resource.labels, "PSY") => Some(false),
            RESEARCH => Some(true),
            _ => None,
        },
    );
    let no_mind = Provision {
        codes: codes("mind"),
        ..deny()
    };
    vec![
        to_observations(PATIENT),
        Says {
            exceptions: vec![not_the_mind],
            ..but_for_the_mind
        },
        plain(PATIENT, no_mind, |resource, _| {
            (resource.codes.is_empty() || any_is(resource.codes, "mind")).then_some(false)
        }),
        to_treatment(PATIENT),
        Says {
            not_before: FAR,
            ..to_observations(PATIENT)
        },
        Says {
            not_after: END,
            ..to_treatment(PATIENT)
        },
    ]
}

/// Numbers 6 to 8.
fn under_other_keys() -> Vec<Says> {
    vec![
        to_observations(NEXT),
        to_treatment(THIEF),
        to_treatment(HOSPITAL),
    ]
}

/// Numbers 9 to 13.
fn of_values() -> Vec<Says> {
    let not_by_the_second = Provision {
        authors: SortedSet::collect([AuthorId([2; 32])]).expect("one author"),
        ..deny()
    };
    let heart_or_rhythm = Provision {
        codes: CodeSet::collect([Code::new("s", "heart"), Code::new("s", "rhythm")])
            .expect("two codes"),
        ..permit(RESEARCH, CodeSet::default())
    };
    let not_the_second = Provision {
        records: SortedSet::collect([record_id(1)]).expect("one record"),
        ..deny()
    };
    let dated = Provision {
        data_period: Some((10, 20)),
        ..permit(RESEARCH, CodeSet::default())
    };
    vec![
        plain(PATIENT, not_by_the_second, |resource, _| {
            (resource.authors.is_empty() || resource.authors.contains(&2)).then_some(false)
        }),
        plain(PATIENT, heart_or_rhythm, |resource, purpose| {
            let covers = all_are(resource.codes, &["heart", "rhythm"]);
            (covers && purpose == RESEARCH).then_some(true)
        }),
        plain(PATIENT, not_the_second, |resource, _| {
            (resource.record.is_none() || resource.record == Some(1)).then_some(false)
        }),
        plain(PATIENT, dated, |resource, purpose| {
            let covers = resource.date.is_some_and(|date| (10..20).contains(&date));
            (covers && purpose == RESEARCH).then_some(true)
        }),
        Says {
            is_signed: false,
            ..to_treatment(PATIENT)
        },
    ]
}
