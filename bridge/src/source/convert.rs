//! From the interface's types to the model, and back.
//!
//! Reading the JSON has parsed every single value; here is checked what they say together. What
//! can be computed from content is computed and compared, never taken over: a commitment, the
//! root of a path, a handle, a payload's digest. What fails is left out and counted, so that no
//! single entry hides the others of its page.

mod exchange;
mod log;
mod records;
mod tickets;

use medsync_protocol::audit::BodyError;
use medsync_protocol::consent::{Commitment, Registry};
use medsync_protocol::device::Admission;
use medsync_protocol::felt::FeltError;
use medsync_protocol::ids::{AddressBytes, Anchorer, ContextId, Sha256Digest, parse_base64};
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::secrets::{DeviceNumber, Handle, RevocationSecret};
use medsync_protocol::terms::{TERMS_BYTES_MAX, Terms, TermsError};
use medsync_protocol::tree::{Leaf, Proof};

use super::abi;
use super::model::{
    AnchorReport, BlockReport, Change, ChangePage, CircleState, Consent, ConsentPage, ConsentState,
    Counts, CustodianPins, Device, Enrolled, Entry, EntryBody, Granted, Position, Revocation,
    SignedKeyChange, StageReport, Submission, Written,
};
use super::names::{Cursor, EntryKey, EntryKind, NameError};
pub(super) use exchange::{RECEIPT_BYTES_MAX, full_release, receipts, release_to_abi, releases};
use exchange::{receipt, release};
use log::{head, log_entry};
pub(super) use log::{head_to_abi, log_page, log_to_abi};
use records::record;
pub(super) use records::{full_record, part, record_to_abi, records};
use tickets::{pool, ticket};
pub(super) use tickets::{pool_to_abi, ticket_to_abi};

/// Why values that parse say nothing sensible together.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error("{0} is longer than it may be")]
    TooLong(&'static str),
    #[error("{0} is not base64")]
    Base64(&'static str),
    #[error("{0} is none that is known: {1:?}")]
    Unknown(&'static str, String),
    #[error("{0} is not that of the content beside it")]
    Differs(&'static str),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("terms: {0}")]
    Terms(#[from] TermsError),
    #[error("a log entry's body: {0}")]
    Body(#[from] BodyError),
    #[error("secret: {0}")]
    Secret(#[from] FeltError),
    #[error("{0}")]
    Name(#[from] NameError),
}

pub(super) type Converted<T> = Result<T, ConvertError>;

fn bounded(what: &'static str, is: usize, max: usize) -> Converted<()> {
    if is > max {
        Err(ConvertError::TooLong(what))
    } else {
        Ok(())
    }
}

fn same<T: PartialEq>(what: &'static str, left: &T, right: &T) -> Converted<()> {
    if left == right {
        Ok(())
    } else {
        Err(ConvertError::Differs(what))
    }
}

fn bytes(what: &'static str, text: &str, bytes_max: usize) -> Converted<Vec<u8>> {
    // A text that is longer is not even decoded; the last digits may still hold too much.
    bounded(what, text.len(), bytes_max.div_ceil(3) * 4)?;
    let bytes = parse_base64(text).map_err(|_| ConvertError::Base64(what))?;
    bounded(what, bytes.len(), bytes_max)?;
    Ok(bytes)
}

fn next(text: Option<String>) -> Converted<Option<Cursor>> {
    Ok(text.map(|text| text.parse()).transpose()?)
}

pub(super) fn pins_to_abi(pins: &CustodianPins) -> abi::CircleInput {
    abi::CircleInput {
        kind: pins.kind.name().into(),
        invitation_key: pins.invitation_key,
        custodian_address: pins.anchorer,
        author_key: pins.author_key,
        seal_key: pins.seal_key,
        chain_id: pins.registry.chain_id,
        registry: pins.registry.registry,
    }
}

fn pins(view: &abi::CircleInput) -> Converted<CustodianPins> {
    let kind = view.kind.parse();
    Ok(CustodianPins {
        kind: kind.map_err(|_| ConvertError::Unknown("a kind of context", view.kind.clone()))?,
        invitation_key: view.invitation_key,
        anchorer: view.custodian_address,
        author_key: view.author_key,
        seal_key: view.seal_key,
        registry: Registry {
            chain_id: view.chain_id,
            registry: view.registry,
        },
    })
}

pub(super) fn key_change_to_abi(signed: &SignedKeyChange) -> abi::KeyChangeInput {
    abi::KeyChangeInput {
        old_key: signed.change.old_key,
        new_key: signed.change.new_key,
        seq: signed.change.seq,
        signature: signed.signature,
    }
}

fn key_change(view: &abi::KeyChangeView) -> SignedKeyChange {
    let said = &view.change;
    SignedKeyChange {
        change: KeyChange {
            old_key: said.old_key,
            new_key: said.new_key,
            seq: said.seq,
        },
        signature: said.signature,
    }
}

pub(super) fn device_to_abi(device: &Device) -> abi::DeviceInput {
    let admission = &device.admission;
    abi::DeviceInput {
        member: admission.member,
        device: admission.device.0,
        admitted_by: admission.admitted_by,
        author_key: device.author_key,
    }
}

fn device(view: &abi::DeviceView) -> Device {
    let said = &view.device;
    Device {
        admission: Admission {
            member: said.member,
            device: DeviceNumber(said.device),
            admitted_by: said.admitted_by,
        },
        author_key: said.author_key,
        signature: view.signature,
    }
}

fn enrolled(view: &abi::EnrolmentView) -> Enrolled {
    Enrolled {
        key: view.key,
        enrolment: view.enrolment,
        recorded_at: view.recorded_at,
    }
}

pub(super) fn circle(context: ContextId, view: &abi::CircleView) -> Converted<CircleState> {
    same("the context", &context, &view.context)?;
    let enrolments: Vec<Enrolled> = view.enrolments.iter().map(enrolled).collect();
    let patient = view.patient.as_ref().map(enrolled);
    let known = patient
        .as_ref()
        .is_none_or(|patient| enrolments.contains(patient));
    same(
        "the patient",
        &(known && !(view.frozen && patient.is_some())),
        &true,
    )?;
    let first = patient.as_ref().map(|patient| &patient.enrolment.party_key);
    same(
        "the first key",
        &(first.is_none() || first == view.keys.first()),
        &true,
    )?;
    Ok(CircleState {
        keys: view.keys.clone(),
        context,
        custodian_member: view.custodian_member,
        custodian: pins(&view.custodian)?,
        enrolments,
        patient,
        devices: view.devices.iter().map(device).collect(),
        frozen: view.frozen,
        ignored: view.ignored,
        counts: Counts {
            enrolments: view.counts.enrolments,
            consents: view.counts.consents,
            revocations: view.counts.revocations,
            anchors: view.counts.anchors,
            log: view.counts.log,
            heads: view.counts.heads,
            records: view.counts.records,
            receipts: view.counts.receipts,
            releases: view.counts.releases,
        },
        consents_digest: view.consents_digest,
        now: view.now,
    })
}

pub(super) fn written(view: &abi::Written) -> Written {
    Written {
        key: view.key,
        existing: view.existing,
    }
}

/// `expected` is what the caller granted: another name in the answer is a lie.
pub(super) fn granted(expected: Commitment, view: &abi::Granted) -> Converted<Granted> {
    same("the commitment", &expected, &view.commitment)?;
    Ok(Granted {
        key: view.key,
        commitment: view.commitment,
        existing: view.existing,
    })
}

/// The anchorer that terms name.
pub(super) fn anchorer(terms: &Terms) -> Converted<Anchorer> {
    let AddressBytes(address) = terms.custodian_address;
    Ok(Anchorer::from_bytes(&address)?)
}

pub(super) fn consent(context: ContextId, view: &abi::ConsentView) -> Converted<Consent> {
    let terms_bytes = bytes("terms", &view.terms, TERMS_BYTES_MAX)?;
    let terms = Terms::decode(&terms_bytes)?;
    same("the terms' context", &context, &terms.context)?;
    let anchorer = anchorer(&terms)?;
    let commitment = Commitment::of(Sha256Digest::of(&terms_bytes), anchorer, &view.opening);
    same("the commitment", &commitment, &view.commitment)?;
    let leaf = commitment.leaf(&view.signature);
    // What a witness wrote about the chain may be anything; the consent stands without it.
    let anchors = view
        .anchors
        .iter()
        .filter_map(|anchor| position(anchorer, leaf, anchor).ok())
        .collect();
    Ok(Consent {
        key: view.key,
        commitment,
        terms,
        terms_bytes,
        opening: view.opening,
        signature: view.signature,
        state: state(&view.state)?,
        recorded_at: view.recorded_at,
        revoked_at: view.revoked_at,
        anchors,
    })
}

fn state(text: &str) -> Converted<ConsentState> {
    Ok(match text {
        "revoked" => ConsentState::Revoked,
        "old_key" => ConsentState::OldKey,
        "frozen" => ConsentState::Frozen,
        "not_yet" => ConsentState::NotYet,
        "expired" => ConsentState::Expired,
        "in_force" => ConsentState::InForce,
        other => {
            return Err(ConvertError::Unknown(
                "the state of a consent",
                other.into(),
            ));
        }
    })
}

/// The app shows the positions of exactly the signature beside them.
fn position(anchorer: Anchorer, leaf: Leaf, view: &abi::AnchorView) -> Converted<Position> {
    same("the anchorer", &anchorer, &view.anchorer)?;
    let proof = Proof {
        index: view.index,
        siblings: view.siblings.clone(),
    };
    same(
        "the root of a path",
        &proof.includes(leaf, view.root),
        &true,
    )?;
    Ok(Position {
        key: view.key,
        root: view.root,
        proof,
        anchorer,
        sealed_at: view.sealed_at,
        submitted_at: view.submitted_at,
        submission: submission(view)?,
    })
}

fn submission(view: &abi::AnchorView) -> Converted<Option<Submission>> {
    let transaction = || {
        view.transaction_hash
            .ok_or(ConvertError::Missing("transaction_hash"))
    };
    Ok(match view.stage.as_str() {
        "sealed" => None,
        "submitted" => Some(Submission {
            transaction: transaction()?,
            block: None,
        }),
        "anchored" => {
            let number = view
                .block_number
                .ok_or(ConvertError::Missing("block_number"))?;
            let hash = view.block_hash.ok_or(ConvertError::Missing("block_hash"))?;
            let time = view.block_time.ok_or(ConvertError::Missing("block_time"))?;
            let block = Some(BlockReport { number, hash, time });
            Some(Submission {
                transaction: transaction()?,
                block,
            })
        }
        other => return Err(ConvertError::Unknown("the stage", other.into())),
    })
}

pub(super) fn anchor_to_abi(report: &AnchorReport) -> abi::AnchorInput {
    let (stage, transaction_hash, block) = match report.stage {
        StageReport::Sealed => ("sealed", None, None),
        StageReport::Submitted { transaction } => ("submitted", Some(transaction), None),
        StageReport::Anchored { transaction, block } => {
            ("anchored", Some(transaction), Some(block))
        }
    };
    abi::AnchorInput {
        commitment: report.commitment,
        handle: report.handle,
        root: report.root,
        index: report.proof.index,
        siblings: report.proof.siblings.clone(),
        anchorer: report.anchorer,
        stage: stage.into(),
        transaction_hash,
        block_number: block.map(|block| block.number),
        block_hash: block.map(|block| block.hash),
        block_time: block.map(|block| block.time),
    }
}

pub(super) fn consents(context: ContextId, page: abi::ConsentPage) -> Converted<ConsentPage> {
    let shown = page.consents.len();
    let consents: Vec<Consent> = page
        .consents
        .iter()
        .filter_map(|view| consent(context, view).ok())
        .collect();
    Ok(ConsentPage {
        ignored: page.ignored.saturating_add((shown - consents.len()) as u64),
        consents,
        next: next(page.next)?,
    })
}

fn revocation(view: &abi::RevocationView) -> Converted<Revocation> {
    let secret = RevocationSecret::parse(&view.secret)?;
    same(
        "the handle",
        &Handle::of(secret.hash(), view.claim_key),
        &view.handle,
    )?;
    Ok(Revocation {
        key: view.key,
        handle: view.handle,
        secret,
        claim_key: view.claim_key,
        recorded_at: view.recorded_at,
    })
}

pub(super) fn changes(page: abi::ChangePage) -> Converted<ChangePage> {
    let entry = |change: &abi::Change| -> Converted<Change> {
        Ok(Change {
            kind: change.kind.parse()?,
            key: change.key,
            digest: change.digest,
        })
    };
    let entries: Converted<Vec<Change>> = page.entries.iter().map(entry).collect();
    Ok(ChangePage {
        entries: entries?,
        next: next(page.next)?,
    })
}

pub(super) fn entry(
    context: ContextId,
    (kind, key): (EntryKind, EntryKey),
    view: &abi::EntryView,
) -> Converted<Entry> {
    same("the entry's kind", &kind.name(), &view.kind.as_str())?;
    same("the entry's key", &key, &view.key)?;
    let body = match view.copy_of {
        _ if view.valid => Some(entry_body(context, kind, view)?),
        Some(consent) if kind == EntryKind::Consent => Some(EntryBody::Copy(consent)),
        _ => None,
    };
    Ok(Entry {
        kind,
        key,
        owner: view.owner,
        body,
    })
}

fn entry_body(context: ContextId, kind: EntryKind, view: &abi::EntryView) -> Converted<EntryBody> {
    let missing = || ConvertError::Missing("the body of a valid entry");
    let consent_of = |view: &Option<abi::ConsentView>| {
        consent(context, view.as_ref().ok_or_else(missing)?).map(Box::new)
    };
    Ok(match kind {
        EntryKind::Circle => EntryBody::Circle,
        EntryKind::Enrolment => {
            EntryBody::Enrolment(enrolled(view.enrolment.as_ref().ok_or_else(missing)?))
        }
        EntryKind::KeyChange => {
            EntryBody::KeyChange(key_change(view.key_change.as_ref().ok_or_else(missing)?))
        }
        EntryKind::Device => {
            EntryBody::Device(Box::new(device(view.device.as_ref().ok_or_else(missing)?)))
        }
        EntryKind::Pool => {
            EntryBody::Pool(Box::new(pool(view.pool.as_ref().ok_or_else(missing)?)?))
        }
        EntryKind::Ticket => {
            EntryBody::Ticket(Box::new(ticket(view.ticket.as_ref().ok_or_else(missing)?)?))
        }
        EntryKind::Consent => EntryBody::Consent(consent_of(&view.consent)?),
        EntryKind::Revocation => {
            EntryBody::Revocation(revocation(view.revocation.as_ref().ok_or_else(missing)?)?)
        }
        EntryKind::Anchor => EntryBody::Anchor(consent_of(&view.anchored)?),
        EntryKind::Log => EntryBody::Log(Box::new(log_entry(
            context,
            view.log.as_ref().ok_or_else(missing)?,
        )?)),
        EntryKind::Head => EntryBody::Head(Box::new(head(
            context,
            view.head.as_ref().ok_or_else(missing)?,
        )?)),
        EntryKind::Receipt => EntryBody::Receipt(Box::new(receipt(
            view.receipt.as_ref().ok_or_else(missing)?,
        )?)),
        EntryKind::Release => EntryBody::Release(Box::new(release(
            view.release.as_ref().ok_or_else(missing)?,
        )?)),
        EntryKind::Record => {
            EntryBody::Record(Box::new(record(view.record.as_ref().ok_or_else(missing)?)?))
        }
    })
}

#[cfg(test)]
mod tests;
