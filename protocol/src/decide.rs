//! Whether one request may have one resource: a pure function, the same in the app, the daemon
//! and the browser.
//!
//! - Codes match exactly. The codings of one concept are one value, held if any of them is.
//! - A permit covers if each of its non-empty dimensions holds *all* of the request's values, at
//!   least one. A deny covers if each of its non-empty dimensions holds *any* of them, or the
//!   value is absent: what is unknown is not released.
//! - The exceptions that cover override the root; among several, any deny beats permits.
//! - An obligation that is not understood denies.
//! - A consent under a key that was changed since forbids what it forbade and permits nothing.
//! - Over several consents, any covering deny beats permits. No covering consent is
//!   [`Outcome::NoConsent`].

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::codes::{Code, CodeSet, Member, SortedSet};
use crate::consent::{Commitment, Opening};
use crate::ids::{AuthorId, RecordId, UnixSeconds};
use crate::signature::PublicKey;
use crate::terms::{Provision, ProvisionKind, Terms};

/// The most purposes of a request and the most values of one attribute of a resource.
pub const VALUES_LEN_MAX: usize = 64;

/// One value that may be coded in several systems, as FHIR's `CodeableConcept`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Concept(pub Vec<Code>);

/// What `decide` knows of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// Its resource type and classes; at least one.
    pub classes: Vec<Concept>,
    /// Its clinical codes.
    pub codes: Vec<Concept>,
    /// Its security labels.
    pub labels: Vec<Concept>,
    /// Who made it.
    pub authors: Vec<AuthorId>,
    /// Which record it is.
    pub record: Option<RecordId>,
    /// The date of the data itself.
    pub data_date: Option<UnixSeconds>,
}

/// Who asks, for what, and what they understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The recipient's key, as in the consent's `grantee`.
    pub recipient: PublicKey,
    /// For what; at least one.
    pub purposes: Vec<Concept>,
    /// The obligations that the recipient understands and will keep.
    pub understood: CodeSet,
    /// When.
    pub at: UnixSeconds,
}

/// One consent that counts: its signature was checked and its context is not frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The consent.
    pub commitment: Commitment,
    /// What it says.
    pub terms: Terms,
    /// To whom, and from when to when.
    pub opening: Opening,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixSeconds>,
    /// Whether it is under the patient's present key. One under an earlier key forbids what it
    /// forbade, and permits nothing more.
    pub is_current: bool,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The resource may be released.
    Permit,
    /// A consent forbids it.
    Deny,
    /// No consent covers it.
    NoConsent,
}

/// Which rule of a consent spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The root provision.
    Root,
    /// The exception with this number, from 0.
    Exception(usize),
}

/// Why the answer is what it is: one line a consent that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The consent is to another recipient.
    OtherRecipient(Commitment),
    /// The consent is revoked.
    Revoked(Commitment),
    /// The consent's validity has not begun.
    NotYetValid(Commitment),
    /// The consent's validity is over.
    Expired(Commitment),
    /// No rule of the consent covers the resource for these purposes.
    NotCovered(Commitment),
    /// A rule would allow it, but the patient's key was changed since.
    KeyChanged(Commitment),
    /// A rule allows it.
    Permitted(Commitment, Rule),
    /// A rule forbids it.
    Denied(Commitment, Rule),
    /// A rule allows it under an obligation that the recipient does not understand.
    ObligationNotUnderstood(Commitment, Code),
}

/// The decision for one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The answer.
    pub outcome: Outcome,
    /// The consents that the answer rests on.
    pub based_on: Vec<Commitment>,
    /// What the recipient must keep, if permitted; sorted, without doubles.
    pub obligations: Vec<Code>,
    /// Every consent that was looked at, and what it said.
    pub reasons: Vec<Reason>,
}

/// Why a question is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum RequestError {
    /// The request names no purpose.
    #[error("a request names at least one purpose")]
    NoPurpose,
    /// The resource has no class.
    #[error("a request names at least one class (the resource type)")]
    NoClass,
    /// More values than are looked at.
    #[error("a request has at most {VALUES_LEN_MAX} values of one kind, and each as many codings")]
    TooManyValues,
    /// A value has no coding: a denial could not tell whether it holds it.
    #[error("each value has at least one coding")]
    NoCoding,
}

/// Decides one request for one resource over a patient's consents.
///
/// # Errors
/// A request without purpose or class, or with too many values.
pub fn decide(
    request: &Request,
    resource: &Attributes,
    consents: &[Candidate],
) -> Result<Decision, RequestError> {
    check(request, resource)?;
    let mut decision = Decision {
        outcome: Outcome::NoConsent,
        based_on: Vec::new(),
        obligations: Vec::new(),
        reasons: Vec::new(),
    };
    let mut permits = Vec::new();
    let mut denies = Vec::new();
    let mut obligations = Vec::new();
    for consent in consents {
        let (reason, duties) = judge(request, resource, consent);
        match &reason {
            Reason::Permitted(commitment, _) => permits.push(*commitment),
            Reason::Denied(commitment, _) | Reason::ObligationNotUnderstood(commitment, _) => {
                denies.push(*commitment);
            }
            _ => {}
        }
        obligations.extend(duties);
        decision.reasons.push(reason);
    }
    if !denies.is_empty() {
        decision.outcome = Outcome::Deny;
        decision.based_on = denies;
    } else if !permits.is_empty() {
        decision.outcome = Outcome::Permit;
        decision.based_on = permits;
        obligations.sort();
        obligations.dedup();
        decision.obligations = obligations;
    }
    Ok(decision)
}

fn check(request: &Request, resource: &Attributes) -> Result<(), RequestError> {
    if request.purposes.is_empty() {
        return Err(RequestError::NoPurpose);
    }
    if resource.classes.is_empty() {
        return Err(RequestError::NoClass);
    }
    let lengths = [
        request.purposes.len(),
        resource.classes.len(),
        resource.codes.len(),
        resource.labels.len(),
        resource.authors.len(),
    ];
    let concepts = [
        &request.purposes,
        &resource.classes,
        &resource.codes,
        &resource.labels,
    ];
    let mut codings = concepts
        .into_iter()
        .flatten()
        .map(|concept| concept.0.len());
    if codings.clone().any(|len| len == 0) {
        return Err(RequestError::NoCoding);
    }
    if lengths.into_iter().any(|len| len > VALUES_LEN_MAX)
        || codings.any(|len| len > VALUES_LEN_MAX)
    {
        return Err(RequestError::TooManyValues);
    }
    Ok(())
}

/// What one consent says, and the obligations under which it permits.
fn judge(request: &Request, resource: &Attributes, consent: &Candidate) -> (Reason, Vec<Code>) {
    let id = consent.commitment;
    let silent = |reason| (reason, Vec::new());
    if consent.opening.grantee != request.recipient {
        return silent(Reason::OtherRecipient(id));
    }
    if consent
        .revoked_at
        .is_some_and(|revoked| revoked <= request.at)
    {
        return silent(Reason::Revoked(id));
    }
    if consent.opening.is_early(request.at) {
        return silent(Reason::NotYetValid(id));
    }
    if consent.opening.is_over(request.at) {
        return silent(Reason::Expired(id));
    }
    let spoken = spoken(request, resource, &consent.terms);
    let Some((first, _)) = spoken.first() else {
        return silent(Reason::NotCovered(id));
    };
    if let Some((rule, _)) = spoken.iter().find(|(_, p)| p.kind == ProvisionKind::Deny) {
        return silent(Reason::Denied(id, *rule));
    }
    if !consent.is_current {
        return silent(Reason::KeyChanged(id));
    }
    // Several permitting exceptions bind together: each one's obligations have to be kept.
    let duties: Vec<Code> = spoken
        .iter()
        .flat_map(|(_, p)| p.obligations.as_slice())
        .cloned()
        .collect();
    match duties
        .iter()
        .find(|duty| !request.understood.contains(duty))
    {
        Some(strange) => silent(Reason::ObligationNotUnderstood(id, strange.clone())),
        None => (Reason::Permitted(id, *first), duties),
    }
}

/// The rules that speak: the covering exceptions, or else the root if it covers.
fn spoken<'a>(
    request: &Request,
    resource: &Attributes,
    terms: &'a Terms,
) -> Vec<(Rule, &'a Provision)> {
    let exceptions: Vec<_> = terms
        .exceptions
        .iter()
        .enumerate()
        .filter(|(_, rule)| covers(rule, request, resource))
        .map(|(i, rule)| (Rule::Exception(i), rule))
        .collect();
    if !exceptions.is_empty() {
        return exceptions;
    }
    covers(&terms.provision, request, resource)
        .then_some((Rule::Root, &terms.provision))
        .into_iter()
        .collect()
}

fn covers(rule: &Provision, request: &Request, resource: &Attributes) -> bool {
    let kind = rule.kind;
    let record = resource.record.as_slice();
    let in_period = match (rule.data_period, resource.data_date) {
        (None, _) => true,
        (Some(_), None) => kind == ProvisionKind::Deny,
        (Some((from, to)), Some(UnixSeconds(date))) => (from..to).contains(&date),
    };
    in_period
        && holds_concepts(kind, &rule.purposes, &request.purposes)
        && holds_concepts(kind, &rule.classes, &resource.classes)
        && holds_concepts(kind, &rule.codes, &resource.codes)
        && holds_concepts(kind, &rule.labels, &resource.labels)
        && holds(kind, &rule.authors, &resource.authors, |set, v| {
            set.contains(v)
        })
        && holds(kind, &rule.records, record, |set, v| set.contains(v))
}

fn holds_concepts(kind: ProvisionKind, set: &CodeSet, values: &[Concept]) -> bool {
    holds(kind, set, values, |set, concept| {
        concept.0.iter().any(|code| set.contains(code))
    })
}

fn holds<T: Member, V>(
    kind: ProvisionKind,
    set: &SortedSet<T>,
    values: &[V],
    has: impl Fn(&SortedSet<T>, &V) -> bool,
) -> bool {
    if set.is_empty() {
        return true;
    }
    match kind {
        ProvisionKind::Permit => !values.is_empty() && values.iter().all(|v| has(set, v)),
        ProvisionKind::Deny => values.is_empty() || values.iter().any(|v| has(set, v)),
    }
}

#[cfg(test)]
mod tests;
