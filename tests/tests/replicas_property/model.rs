//! The naive model: a set of facts that a replica has heard, and what follows from them alone.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::decide::Outcome;
use medsync_tests::circle::{HOSPITAL, PATIENT, PATIENT_AUTHOR};

use crate::consents::{CONSENTS, FAR};
use crate::resources::{Resource, Text};

/// Custodian, patient, the patient's second device, and whoever stole something.
pub const MEMBERS: usize = 4;
/// The custodian's place among them.
pub const CUSTODIANS_NODE: usize = 0;
/// The patient's place.
pub const PATIENTS_NODE: usize = 1;
/// The second device's place.
pub const PHONES_NODE: usize = 2;
/// The thief's place.
pub const THIEFS_NODE: usize = 3;
/// The key by which the second device signs its log.
pub const PHONE_AUTHOR: u8 = 40;

/// Who may be admitted, by place: the second device, the thief's node and a relative.
pub const PHONE: usize = 0;
/// See [`PHONE`].
pub const STRANGER: usize = 1;
/// Their device numbers: the thief wants the phone's.
pub const DEVICE_NUMBERS: [u32; 3] = [1, 1, (1 << 24) + 1];

/// Who signed a key change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The key that is replaced.
    Old,
    /// The recovery key.
    Recovery,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Somebody enrolled with this key.
    Enrolled(u8),
    /// The key was changed to this one.
    Changed(By, u8),
    /// A consent was granted.
    Granted(usize),
    /// A consent was revoked.
    Revoked(usize),
    /// An author wrote the log entry of this number.
    Logged(u8, u64),
    /// A record has a version with a content.
    Put(usize, u32, usize),
    /// A key admitted a member; the member itself says so, with its author key, or somebody.
    Admitted(usize, u8, bool),
}

/// What one replica has heard.
pub type Heard = BTreeSet<Fact>;

/// What a call comes to: whether the same was there already, or the name of the refusal.
pub type Expected = Result<bool, &'static str>;

/// For what is asked, and when in unix seconds.
pub type Asked = (Text, u64);

fn all_of<T>(heard: &Heard, pick: impl Fn(&Fact) -> Option<T>) -> Vec<T> {
    heard.iter().filter_map(pick).collect()
}

fn enrolled(heard: &Heard) -> Vec<u8> {
    all_of(heard, |fact| match fact {
        Fact::Enrolled(key) => Some(*key),
        _ => None,
    })
}

/// The one party's keys through time, and whether changes contradict each other.
pub fn keys(heard: &Heard) -> (Vec<u8>, bool) {
    let only = enrolled(heard);
    if only != [PATIENT] {
        return (if only.len() == 1 { only } else { Vec::new() }, false);
    }
    let counting = match changed_by(heard, By::Recovery) {
        none if none.is_empty() => changed_by(heard, By::Old),
        some => some,
    };
    match counting.as_slice() {
        [] => (only, false),
        [next] => (vec![PATIENT, *next], false),
        _ => (only, true),
    }
}

fn changed_by(heard: &Heard, wanted: By) -> Vec<u8> {
    all_of(heard, |fact| match fact {
        Fact::Changed(by, to) if *by == wanted => Some(*to),
        _ => None,
    })
}

/// Whether nothing counts any more.
pub fn is_frozen(heard: &Heard) -> bool {
    enrolled(heard).len() > 1 || keys(heard).1
}

/// Whether this is or was the key of somebody who enrolled.
fn has_key(heard: &Heard, key: u8) -> bool {
    keys(heard).0.contains(&key) || enrolled(heard).contains(&key)
}

/// Who is enrolled at this place among the members.
fn is_enrolled_at(heard: &Heard, place: usize) -> bool {
    let key = match place {
        PATIENTS_NODE => PATIENT,
        THIEFS_NODE => HOSPITAL,
        _ => return false,
    };
    heard.contains(&Fact::Enrolled(key))
}

/// What comes of an enrolment with this key.
pub fn enrols(heard: &Heard, key: u8) -> Expected {
    match (heard.contains(&Fact::Enrolled(key)), enrolled(heard).len()) {
        (true, _) => Ok(true),
        (false, 2..) => Err("frozen"),
        (false, _) => Ok(false),
    }
}

/// Whether a grant is refused, exists already, or is made.
pub fn granted(heard: &Heard, number: usize) -> Expected {
    if is_frozen(heard) {
        return Err("frozen");
    }
    let (keys, _) = keys(heard);
    let says = &CONSENTS[number];
    match keys.last() {
        None => return Err("not_enrolled"),
        Some(current) if *current == says.signer => {}
        Some(_) if keys.contains(&says.signer) => return Err("old_key"),
        Some(_) => return Err("foreign_key"),
    }
    if !says.is_signed {
        return Err("grant_signature");
    }
    if heard.contains(&Fact::Granted(number)) {
        return Ok(true);
    }
    if heard.contains(&Fact::Revoked(number)) {
        Err("handle_revoked")
    } else {
        Ok(false)
    }
}

/// Whether a key change is refused, exists already, or is made.
pub fn changed(heard: &Heard, by: By, to: u8) -> Expected {
    match enrolled(heard).as_slice() {
        [] => return Err("not_enrolled"),
        [_, _, ..] => return Err("frozen"),
        [_] if heard.contains(&Fact::Changed(by, to)) => return Ok(true),
        [key] if *key != PATIENT => return Err("key_change_order"),
        [_] => {}
    }
    if by == By::Recovery && !changed_by(heard, By::Recovery).is_empty() {
        return Err("key_change_order");
    }
    if by == By::Old && keys(heard).0.len() > 1 {
        return Err("key_change_order");
    }
    Ok(false)
}

/// The records, each in its latest version with that version's content.
pub fn records(heard: &Heard) -> BTreeMap<usize, (u32, usize)> {
    let versions = all_of(heard, |fact| match fact {
        Fact::Put(record, version, content) => Some((*record, (*version, *content))),
        _ => None,
    });
    // They come by version: the last one stays.
    versions.into_iter().collect()
}

/// What comes of writing a version of a record.
pub fn put(heard: &Heard, by: usize, (record, version, content): (usize, u32, usize)) -> Expected {
    if by != CUSTODIANS_NODE {
        return Err("not_the_custodian");
    }
    if heard.contains(&Fact::Put(record, version, content)) {
        return Ok(true);
    }
    let latest = records(heard).get(&record).map_or(0, |latest| latest.0);
    if version == latest + 1 {
        Ok(false)
    } else {
        Err("record_version")
    }
}

/// Whether whom this key admits is admitted now: it is the present one.
pub fn may_admit(heard: &Heard, key: u8) -> bool {
    let (keys, is_frozen) = keys(heard);
    !is_frozen && keys.last() == Some(&key)
}

/// What comes of writing an admission down, in somebody's own words or not.
pub fn admitted(heard: &Heard, by: usize, (whom, key, speaks): (usize, u8, bool)) -> Expected {
    if is_frozen(heard) {
        return Err("frozen");
    }
    if enrolled(heard).is_empty() {
        return Err("not_enrolled");
    }
    if whom == STRANGER && is_enrolled_at(heard, THIEFS_NODE) {
        return Err("malformed");
    }
    let is_patients = has_key(heard, key);
    if !is_patients && !is_enrolled_at(heard, by) {
        return Err("foreign_key");
    }
    if is_patients && !may_admit(heard, key) {
        return Err("old_key");
    }
    let is_taken = heard.iter().any(|fact| match fact {
        Fact::Admitted(other, signer, _) => {
            let has_number = DEVICE_NUMBERS[*other] == DEVICE_NUMBERS[whom];
            *other != whom && has_number && *signer == key
        }
        _ => false,
    });
    if is_taken {
        return Err("malformed");
    }
    Ok(heard.contains(&Fact::Admitted(whom, key, speaks)))
}

/// Every admission that is shown: whom, by which key, in whose words, and whether it counts.
pub fn admissions(heard: &Heard) -> BTreeSet<(usize, u8, bool, bool)> {
    let known = all_of(heard, |fact| match fact {
        Fact::Admitted(whom, key, speaks) => Some((*whom, *key, *speaks)),
        _ => None,
    });
    let with_standing = |(whom, key, speaks)| (whom, key, speaks, may_admit(heard, key));
    known.into_iter().map(with_standing).collect()
}

/// Whether this key's log entries count.
pub fn is_author(heard: &Heard, author: u8) -> bool {
    match author {
        HOSPITAL => true,
        PATIENT_AUTHOR => !enrolled(heard).is_empty(),
        _ => heard.iter().any(|fact| match fact {
            Fact::Admitted(PHONE, key, true) => has_key(heard, *key),
            _ => false,
        }),
    }
}

/// The consents that are shown, and their states.
pub fn states(heard: &Heard) -> BTreeMap<usize, Text> {
    let (keys, _) = keys(heard);
    let state = |number: usize| {
        let says = &CONSENTS[number];
        if heard.contains(&Fact::Revoked(number)) {
            "revoked"
        } else if is_frozen(heard) {
            "frozen"
        } else if keys.last() != Some(&says.signer) {
            "old_key"
        } else if says.not_before == FAR {
            "not_yet"
        } else {
            "in_force"
        }
    };
    let granted = all_of(heard, |fact| match fact {
        Fact::Granted(number) => Some(*number),
        _ => None,
    });
    granted
        .into_iter()
        .filter(|number| has_key(heard, CONSENTS[*number].signer))
        .map(|number| (number, state(number)))
        .collect()
}

/// What one consent says, if it is in its time and says anything.
fn spoken(number: usize, resource: &Resource, (purpose, at): Asked) -> Option<bool> {
    let says = &CONSENTS[number];
    let is_in_time = says.not_before <= at && (says.not_after == 0 || at < says.not_after);
    is_in_time.then(|| (says.model)(resource, purpose))?
}

/// What the model decides on one resource, and by which consents: a denial of any that speaks, else
/// a permit by those under the present key.
pub fn decision(heard: &Heard, resource: &Resource, asked: Asked) -> (Outcome, BTreeSet<usize>) {
    let (mut denying, mut permitting) = (BTreeSet::new(), BTreeSet::new());
    for (number, state) in states(heard) {
        let said = match (state, spoken(number, resource, asked)) {
            ("in_force" | "not_yet" | "old_key", Some(false)) => &mut denying,
            ("in_force" | "not_yet", Some(true)) => &mut permitting,
            _ => continue,
        };
        said.insert(number);
    }
    match (denying.is_empty(), permitting.is_empty()) {
        (false, _) => (Outcome::Deny, denying),
        (true, false) => (Outcome::Permit, permitting),
        (true, true) => (Outcome::NoConsent, denying),
    }
}

/// Whether the patient gave a permit that rests on these consents, said once more and apart from
/// [`decision`]: each was granted and signed by the present key, covers the resource, is in its
/// time and not revoked, and nothing else that the patient said touches the resource with a denial.
pub fn is_covered(heard: &Heard, resource: &Resource, asked: Asked, by: &BTreeSet<usize>) -> bool {
    let present = keys(heard).0.last().copied();
    let covers = |number: &usize| {
        let says = &CONSENTS[*number];
        says.is_signed
            && Some(says.signer) == present
            && heard.contains(&Fact::Granted(*number))
            && !heard.contains(&Fact::Revoked(*number))
            && spoken(*number, resource, asked) == Some(true)
    };
    let denies = |number: usize| {
        heard.contains(&Fact::Granted(number))
            && !heard.contains(&Fact::Revoked(number))
            && has_key(heard, CONSENTS[number].signer)
            && spoken(number, resource, asked) == Some(false)
    };
    let is_covered = !by.is_empty() && by.iter().all(covers);
    is_covered && !is_frozen(heard) && !(0..CONSENTS.len()).any(denies)
}
