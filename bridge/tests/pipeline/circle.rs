//! A circle in memory, with faults on demand.

mod answers;

use super::faults::Faults;
use super::{TestClock, registry};
use async_trait::async_trait;
use medsync::guard::Circles;
use medsync::source::{
    AnchorReport, Change, ChangeDigest, Circle, Consent, ConsentState, Device, Enrolled, EntryBody,
    EntryKey, EntryKind, Granted, Head, LogEntry, NewRecord, PlacedTicket, Pool, Record, Release,
    Revocation, SharedReceipt, SignedKeyChange, SourceError, SourceResult, StageReport, StateHash,
    Written,
};
use medsync_protocol::audit::{Pseudonym, RecordRef};
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::decide::Attributes;
use medsync_protocol::ids::{
    Anchorer, ContextId, MemberId, RecordId, SealKey, Sha256Digest, UnixSeconds,
};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::receipt::BlockNumber;
use medsync_protocol::signature::{PublicKey, SecretKey, Signature};
use medsync_protocol::terms::Terms;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

pub const CONTEXT: ContextId = ContextId([7; 32]);
/// Another patient's circle.
pub const OTHER: ContextId = ContextId([8; 32]);
pub const CUSTODIAN: MemberId = MemberId([1; 32]);

#[derive(Default)]
struct State {
    entries: Vec<(Change, EntryBody)>,
    reports: Vec<AnchorReport>,
    members: BTreeSet<MemberId>,
    /// Of each valid enrolment; two freeze the circle.
    patient_keys: Vec<PublicKey>,
    /// By what enrolments count, where its custodian wrote that anew.
    other_invitation_key: Option<PublicKey>,
    is_undescribed: bool,
    pushed_code: bool,
    refuses: Refuses,
    /// How long it takes to read an entry, in seconds of this clock.
    slow: Option<(Arc<TestClock>, u64)>,
    /// How many entries there ever were.
    added: u64,
    /// Those that came by a call, of whoever calls here.
    own: BTreeSet<ChangeDigest>,
    records: Vec<(Record, Vec<u8>)>,
    parts: HashMap<Sha256Digest, Vec<u8>>,
    receipts: Vec<SharedReceipt>,
    releases: Vec<(Release, Vec<u8>)>,
}

/// Signs the custodian's log entries.
pub fn custodian_author() -> SecretKey {
    SecretKey::from_scalar(&[6; 32]).expect("a scalar")
}

/// Overrules whoever stole the patient's key.
pub fn recovery() -> SecretKey {
    SecretKey::from_scalar(&[5; 32]).expect("a scalar")
}

/// What the app refuses to take of a position.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Refuses {
    #[default]
    Nothing,
    Blocks,
    /// Somebody's log entries.
    LogOf(PublicKey),
    /// Whatever admits a member.
    AdmissionOf(MemberId),
    /// Parts of payloads: somebody else's entries have their places.
    Parts,
    /// A patient's receipts: there are too many.
    ReceiptsOf(Pseudonym),
    /// What is there already and is written down once more: half of a member's room is full.
    Copies,
    /// Versions of records but the first.
    LaterVersions,
    /// To show consents.
    Consents,
    Everything,
}

#[derive(Clone)]
pub struct FakeCircle {
    context: ContextId,
    state: Arc<Mutex<State>>,
    faults: Faults,
}

/// The circles on one node.
pub struct FakeCircles(pub Vec<FakeCircle>);

#[async_trait]
impl Circles for FakeCircles {
    fn open(&self, context: ContextId) -> Box<dyn Circle> {
        let circle = self.0.iter().find(|circle| circle.context == context);
        Box::new(circle.expect("a circle of the test").clone())
    }

    async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>> {
        let states = self.0.iter().map(|it| (it.context, it.current()));
        Ok(states.collect())
    }
}

pub(super) fn broken(call: &str) -> SourceError {
    SourceError::Unreachable {
        call: call.into(),
        reason: "a fault of the test".into(),
    }
}

fn refusal(method: &'static str) -> SourceError {
    refused(method, "full")
}

fn refused(method: &'static str, code: &str) -> SourceError {
    SourceError::Refused {
        method,
        code: code.into(),
        reason: "a fault of the test".into(),
    }
}

impl State {
    /// The app refuses the place of a consent that is not there.
    fn check_consent(&self, commitment: Commitment) -> Result<(), SourceError> {
        let is_it = |body: &EntryBody| match body {
            EntryBody::Consent(consent) => consent.commitment == commitment,
            _ => false,
        };
        match self.entries.iter().any(|(_, body)| is_it(body)) {
            true => Ok(()),
            false => Err(refused("record_anchor", "unknown_consent")),
        }
    }

    /// The same of a log's entry.
    fn check_log(&self, head: &Head) -> Result<(), SourceError> {
        let is_it = |body: &EntryBody| match body {
            EntryBody::Log(entry) => entry.digest() == head.digest,
            _ => false,
        };
        match self.entries.iter().any(|(_, body)| is_it(body)) {
            true => Ok(()),
            false => Err(refused("record_head", "unknown_log_entry")),
        }
    }
}

impl FakeCircle {
    pub fn new(context: ContextId, faults: Faults, patient: PublicKey) -> Self {
        let members = [CUSTODIAN, MemberId([2; 32])].into();
        let state = State {
            members,
            patient_keys: vec![patient],
            ..State::default()
        };
        Self {
            context,
            state: Arc::new(Mutex::new(state)),
            faults,
        }
    }

    /// Its node takes so long to read an entry from now on.
    pub fn be_slow(&self, clock: Arc<TestClock>, seconds: u64) {
        self.state.lock().expect("one test").slow = Some((clock, seconds));
    }

    /// What the app refuses from now on.
    pub fn refuse(&self, refuses: Refuses) {
        self.state.lock().expect("one test").refuses = refuses;
    }

    /// How many revocations it has.
    pub fn revocations(&self) -> usize {
        let state = self.state.lock().expect("one test");
        let is_revocation =
            |(change, _): &&(Change, EntryBody)| change.kind == EntryKind::Revocation;
        state.entries.iter().filter(is_revocation).count()
    }

    /// A hostile member overwrites an entry.
    pub fn replace_entry(&self, at: usize) {
        let mut state = self.state.lock().expect("one test");
        state.entries[at].0.digest = ChangeDigest([0xff; 32]);
    }

    /// Whoever wrote its revocations down writes another one in the place of each.
    pub fn overwrite_revocations(&self, with: &Revocation) {
        let mut state = self.state.lock().expect("one test");
        for (change, body) in &mut state.entries {
            if change.kind == EntryKind::Revocation {
                change.digest = ChangeDigest([0xfe; 32]);
                *body = EntryBody::Revocation(with.clone());
            }
        }
    }

    fn add(&self, kind: EntryKind, body: EntryBody) {
        let mut state = self.state.lock().expect("one test");
        let mut name = [0; 32];
        name[..8].copy_from_slice(&state.added.to_be_bytes());
        state.added += 1;
        let (key, digest) = (EntryKey(name), ChangeDigest(name));
        state.entries.push((Change { kind, key, digest }, body));
    }

    /// The enrolment is also an entry, as in a real context.
    pub fn add_enrolment(&self, key: PublicKey) {
        let body = EntryBody::Enrolment(enrolled(key));
        self.add(EntryKind::Enrolment, body);
    }

    pub fn add_consent(&self, consent: Consent) {
        self.add(EntryKind::Consent, EntryBody::Consent(Box::new(consent)));
    }

    pub fn add_revocation(&self, revocation: Revocation) {
        self.add(EntryKind::Revocation, EntryBody::Revocation(revocation));
    }

    /// The key changes that it has.
    pub fn key_changes(&self) -> Vec<SignedKeyChange> {
        let state = self.state.lock().expect("one test");
        let changes = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::KeyChange(change) => Some(*change),
            _ => None,
        });
        changes.collect()
    }

    fn has(&self, wanted: &EntryBody) -> bool {
        let state = self.state.lock().expect("one test");
        state.entries.iter().any(|(_, body)| body == wanted)
    }

    /// The hash of what is there.
    pub fn current(&self) -> StateHash {
        let state = self.state.lock().expect("one test");
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(state.entries.len() as u64).to_be_bytes());
        hash[8..16].copy_from_slice(&(state.reports.len() as u64).to_be_bytes());
        let replaced = |(change, _): &&(Change, EntryBody)| change.digest.0 == [0xff; 32];
        hash[16] = state.entries.iter().filter(replaced).count() as u8;
        StateHash(hash)
    }

    /// Writes a body down as often as is asked for, as the app does: others' copies stand for none
    /// of one's own. Answers whether there was enough.
    fn write_copy(
        &self,
        method: &'static str,
        copies: u32,
        (kind, body): (EntryKind, EntryBody),
    ) -> SourceResult<bool> {
        {
            let state = self.state.lock().expect("one test");
            let there = state
                .entries
                .iter()
                .filter(|(_, there)| is_copy(there, &body));
            let there: Vec<bool> = there
                .map(|(change, _)| state.own.contains(&change.digest))
                .collect();
            let own = there.iter().filter(|is_own| **is_own).count();
            if !there.is_empty() && (copies <= 1 || own >= copies as usize) {
                return Ok(true);
            }
            match state.refuses {
                Refuses::Everything => return Err(refusal(method)),
                Refuses::Copies if !there.is_empty() => return Err(refusal(method)),
                _ => {}
            }
        }
        self.add(kind, body);
        let mut state = self.state.lock().expect("one test");
        let added = state.entries.last().map(|(change, _)| change.digest);
        state.own.extend(added);
        Ok(false)
    }

    /// The same context on another node, whose calls fail in their own way.
    pub fn with_faults(&self, faults: Faults) -> Self {
        Self {
            faults,
            ..self.clone()
        }
    }

    /// What was released into it.
    pub fn released(&self) -> Vec<Release> {
        let state = self.state.lock().expect("one test");
        state.releases.iter().map(|(r, _)| r.clone()).collect()
    }

    /// The receipts that it was given.
    pub fn shared_receipts(&self) -> Vec<SharedReceipt> {
        self.state.lock().expect("one test").receipts.clone()
    }

    /// Adds a sealed record.
    pub fn add_record(&self, record: Record, payload: Vec<u8>) {
        let body = EntryBody::Record(Box::new(record.clone()));
        self.add(EntryKind::Record, body);
        let mut state = self.state.lock().expect("one test");
        state.records.push((record, payload));
    }

    /// Takes a record as the app does: the same version a second time changes nothing.
    fn take_record(&self, new: &NewRecord) -> Written {
        let known = {
            let state = self.state.lock().expect("one test");
            let mut records = state.records.iter().map(|(record, _)| record);
            let is_same =
                |known: &&Record| (known.record, known.version) == (new.record, new.version);
            records.find(is_same).map(|known| known.key)
        };
        let existing = known.is_some();
        let key = known.unwrap_or(EntryKey(Sha256Digest::of(&new.key_for_custodian).0));
        if !existing {
            let attributes = Attributes {
                record: Some(new.record),
                ..new.attributes.clone()
            };
            let described = Record {
                key,
                record: new.record,
                version: new.version,
                resource_type: new.resource_type.clone(),
                attributes,
                payload_sha256: Sha256Digest::of(&new.payload),
                payload_bytes: new.payload.len() as u64,
                key_for_patient: new.key_for_patient.clone(),
                key_for_custodian: new.key_for_custodian.clone(),
                recorded_at: UnixSeconds(13),
            };
            self.add_record(described, new.payload.clone());
        }
        Written { key, existing }
    }

    /// Takes a consent as the app does: the same one a second time changes nothing.
    fn take_grant(
        &self,
        terms: &[u8],
        opening: &Opening,
        signature: &Signature,
        copies: u32,
    ) -> SourceResult<Granted> {
        let said = Terms::decode(terms).expect("sound");
        let anchorer = Anchorer::from_bytes(&said.custodian_address.0).expect("an address");
        let commitment = Commitment::of(Sha256Digest::of(terms), anchorer, opening);
        let key = EntryKey(commitment.felt().to_bytes_be());
        let consent = Consent {
            key,
            commitment,
            terms: said,
            terms_bytes: terms.to_vec(),
            opening: *opening,
            signature: *signature,
            state: ConsentState::InForce,
            recorded_at: UnixSeconds(14),
            revoked_at: None,
            anchors: Vec::new(),
        };
        if !consent.is_signed(registry()) || consent.terms.context != self.context {
            return Err(refused("grant", "bad_signature"));
        }
        let body = EntryBody::Consent(Box::new(consent));
        let existing = self.write_copy("grant", copies, (EntryKind::Consent, body))?;
        Ok(Granted {
            key,
            commitment,
            existing,
        })
    }

    /// The consents that it has.
    pub fn granted(&self) -> Vec<Commitment> {
        let state = self.state.lock().expect("one test");
        let consents = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Consent(consent) => Some(consent.commitment),
            _ => None,
        });
        consents.collect()
    }

    /// The records that it has, in every version.
    pub fn all_records(&self) -> Vec<Record> {
        let state = self.state.lock().expect("one test");
        let records = state.records.iter();
        records.map(|(record, _)| record.clone()).collect()
    }

    /// A version of a record is gone.
    pub fn lose_record(&self, what: RecordRef) {
        let mut state = self.state.lock().expect("one test");
        state
            .records
            .retain(|(found, _)| (found.record, found.version.0) != (what.record, what.version));
        state.entries.retain(|(_, body)| {
            !matches!(body, EntryBody::Record(found)
                if (found.record, found.version.0) == (what.record, what.version))
        });
    }

    /// The payload of a record has not arrived.
    pub fn lose_payload(&self, record: RecordId) {
        let mut state = self.state.lock().expect("one test");
        for (found, payload) in &mut state.records {
            if found.record == record {
                payload.clear();
            }
        }
    }

    /// A hostile node loses one kind of entry.
    pub fn forget(&self, kind: EntryKind) {
        let mut state = self.state.lock().expect("one test");
        state.entries.retain(|(change, _)| change.kind != kind);
    }

    /// The log entries that it has.
    pub fn log_entries(&self) -> Vec<LogEntry> {
        let state = self.state.lock().expect("one test");
        let entries = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Log(entry) => Some(entry.as_ref().clone()),
            _ => None,
        });
        entries.collect()
    }

    /// The places of logs that it has.
    pub fn heads(&self) -> Vec<Head> {
        let state = self.state.lock().expect("one test");
        let heads = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Head(head) => Some(head.as_ref().clone()),
            _ => None,
        });
        heads.collect()
    }

    /// The pools that it knows.
    pub fn pools(&self) -> Vec<Pool> {
        let state = self.state.lock().expect("one test");
        let pools = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Pool(pool) => Some(pool.as_ref().clone()),
            _ => None,
        });
        pools.collect()
    }

    /// The tickets that it has, with their places.
    pub fn tickets(&self) -> Vec<PlacedTicket> {
        let state = self.state.lock().expect("one test");
        let tickets = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Ticket(ticket) => Some(ticket.as_ref().clone()),
            _ => None,
        });
        tickets.collect()
    }

    /// Whom the patient admitted.
    pub fn devices(&self) -> Vec<Device> {
        let state = self.state.lock().expect("one test");
        let devices = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Device(device) => Some(**device),
            _ => None,
        });
        devices.collect()
    }

    /// Writes an admission, sound or not.
    pub fn add_device(&self, device: Device) {
        self.add(EntryKind::Device, EntryBody::Device(Box::new(device)));
    }

    /// Parts of payloads do not arrive.
    pub fn lose_parts(&self) {
        self.state.lock().expect("one test").parts.clear();
    }

    /// A hostile member's node drops everything.
    pub fn drop_entries(&self) {
        self.state.lock().expect("one test").entries.clear();
    }

    /// A member deletes a consent of its own.
    pub fn drop_consent(&self, commitment: Commitment) {
        let mut state = self.state.lock().expect("one test");
        state.entries.retain(|(_, body)| {
            !matches!(body, EntryBody::Consent(found) if found.commitment == commitment)
        });
    }

    /// Nobody has used the invitation yet.
    pub fn enrol_nobody(&self) {
        self.state.lock().expect("one test").patient_keys.clear();
    }

    /// Another patient's circle.
    pub fn enrol_instead(&self, key: PublicKey) {
        self.state.lock().expect("one test").patient_keys = vec![key];
    }

    /// Its custodian says that other enrolments count than those of the invitation.
    pub fn describe_anew(&self, invitation_key: Option<PublicKey>) {
        self.state.lock().expect("one test").other_invitation_key = invitation_key;
    }

    /// Its node does not show where consents stand, until it is given what this answers again.
    pub fn lose_reports(&self) -> Vec<AnchorReport> {
        std::mem::take(&mut self.state.lock().expect("one test").reports)
    }

    /// Its node has heard where consents stand.
    pub fn hear_reports(&self, reports: Vec<AnchorReport>) {
        self.state.lock().expect("one test").reports.extend(reports);
    }

    /// Somebody else uses the invitation too.
    pub fn enrol_again(&self, key: PublicKey) {
        self.state.lock().expect("one test").patient_keys.push(key);
    }

    /// The custodian takes away what the circle says of itself, or puts it back.
    pub fn be_undescribed(&self, is_undescribed: bool) {
        self.state.lock().expect("one test").is_undescribed = is_undescribed;
    }

    /// The group's admin replaces the app, or puts the old one back.
    pub fn push_code(&self, pushed: bool) {
        self.state.lock().expect("one test").pushed_code = pushed;
    }

    pub fn add_to_group(&self, member: MemberId) {
        self.state.lock().expect("one test").members.insert(member);
    }

    pub fn remove_from_group(&self, member: MemberId) {
        let mut state = self.state.lock().expect("one test");
        state.members.remove(&member);
    }

    /// A member says that everything is in another block than it is.
    pub fn report_another_block(&self) {
        let mut state = self.state.lock().expect("one test");
        for report in &mut state.reports {
            if let StageReport::Anchored { block, .. } = &mut report.stage {
                block.number = BlockNumber(77);
            }
        }
    }

    pub fn reports(&self) -> Vec<AnchorReport> {
        self.state.lock().expect("one test").reports.clone()
    }
}

/// Whether two entries say the same of the same.
fn is_copy(one: &EntryBody, other: &EntryBody) -> bool {
    match (one, other) {
        (EntryBody::Consent(one), EntryBody::Consent(other)) => one.commitment == other.commitment,
        (EntryBody::Revocation(one), EntryBody::Revocation(other)) => one.handle == other.handle,
        _ => one == other,
    }
}

pub(super) fn enrolled(party_key: PublicKey) -> Enrolled {
    Enrolled {
        key: EntryKey([8; 32]),
        enrolment: Enrolment {
            member: MemberId([2; 32]),
            party_key,
            recovery_key: recovery().public_key(),
            login_key: party_key,
            author_key: party_key,
            seal_key: SealKey([2; 32]),
        },
        recorded_at: UnixSeconds(0),
    }
}
