//! A circle in memory, with faults on demand.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use medsync::guard::Circles;
use medsync::source::{
    AnchorReport, ApplicationId, BlobId, Change, ChangeDigest, ChangePage, Circle, CircleState,
    Consent, ConsentPage, Counts, Cursor, CustodianPins, Enrolled, Entry, EntryBody, EntryKey,
    EntryKind, FullRecord, Granted, GroupId, NewRecord, PageLimit, Pin, RecordPage, Revocation,
    SourceError, SourceResult, StateHash, Written,
};
use medsync_protocol::consent::{Opening, Registry};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    Anchorer, ChainId, ContextId, ContractAddress, MemberId, RecordId, SealKey, UnixSeconds,
};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::{PublicKey, Signature};

use super::faults::{Fault, Faults};

pub const CONTEXT: ContextId = ContextId([7; 32]);
pub const CUSTODIAN: MemberId = MemberId([1; 32]);

#[derive(Default)]
struct State {
    entries: Vec<(Change, EntryBody)>,
    reports: Vec<AnchorReport>,
    members: BTreeSet<MemberId>,
    /// Of each valid enrolment; two freeze the circle.
    patient_keys: Vec<PublicKey>,
    pushed_code: bool,
}

#[derive(Clone)]
pub struct FakeCircle {
    state: Arc<Mutex<State>>,
    faults: Faults,
}

fn broken(call: &str) -> SourceError {
    SourceError::Unreachable {
        call: call.into(),
        reason: "a fault of the test".into(),
    }
}

fn unused<T>(call: &str) -> SourceResult<T> {
    Err(SourceError::Malformed {
        call: call.into(),
        reason: "the pipeline asks this".into(),
    })
}

impl FakeCircle {
    pub fn new(faults: Faults, patient: PublicKey) -> Self {
        let members = [CUSTODIAN, MemberId([2; 32])].into();
        let state = State {
            members,
            patient_keys: vec![patient],
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            faults,
        }
    }

    fn add(&self, kind: EntryKind, body: EntryBody) {
        let mut state = self.state.lock().expect("one test");
        let number = state.entries.len() as u8;
        let (key, digest) = (EntryKey([number; 32]), ChangeDigest([number; 32]));
        state.entries.push((Change { kind, key, digest }, body));
    }

    pub fn add_consent(&self, consent: Consent) {
        self.add(EntryKind::Consent, EntryBody::Consent(Box::new(consent)));
    }

    pub fn add_revocation(&self, revocation: Revocation) {
        self.add(EntryKind::Revocation, EntryBody::Revocation(revocation));
    }

    /// A hostile member's node drops everything.
    pub fn drop_entries(&self) {
        self.state.lock().expect("one test").entries.clear();
    }

    /// Somebody else uses the invitation too.
    pub fn enrol_again(&self, key: PublicKey) {
        self.state.lock().expect("one test").patient_keys.push(key);
    }

    /// The group's admin replaces the app, or puts the old one back.
    pub fn push_code(&self, pushed: bool) {
        self.state.lock().expect("one test").pushed_code = pushed;
    }

    pub fn add_member(&self, member: MemberId) {
        self.state.lock().expect("one test").members.insert(member);
    }

    pub fn reports(&self) -> Vec<AnchorReport> {
        self.state.lock().expect("one test").reports.clone()
    }
}

fn enrolled(party_key: PublicKey) -> Enrolled {
    Enrolled {
        key: EntryKey([8; 32]),
        enrolment: Enrolment {
            member: MemberId([2; 32]),
            party_key,
            recovery_key: party_key,
            login_key: party_key,
            author_key: party_key,
            seal_key: SealKey([2; 32]),
        },
        recorded_at: UnixSeconds(0),
    }
}

impl Circles for FakeCircle {
    fn open(&self, _: ContextId) -> Box<dyn Circle> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Circle for FakeCircle {
    fn context(&self) -> ContextId {
        CONTEXT
    }

    async fn state_hash(&self) -> SourceResult<StateHash> {
        self.faults
            .before("state_hash")
            .map_err(|()| broken("state_hash"))?;
        let state = self.state.lock().expect("one test");
        let mut hash = [0; 32];
        hash[0] = state.entries.len() as u8;
        hash[1] = state.reports.len() as u8;
        Ok(StateHash(hash))
    }

    async fn pin(&self) -> SourceResult<Pin> {
        let state = self.state.lock().expect("one test");
        Ok(Pin {
            application: ApplicationId([4; 32]),
            bytecode: BlobId([if state.pushed_code { 55 } else { 5 }; 32]),
            group: GroupId([6; 32]),
            members: state.members.clone(),
        })
    }

    async fn circle(&self) -> SourceResult<CircleState> {
        self.faults
            .before("circle")
            .map_err(|()| broken("circle"))?;
        let state = self.state.lock().expect("one test");
        let enrolments: Vec<Enrolled> = state
            .patient_keys
            .iter()
            .map(|key| enrolled(*key))
            .collect();
        let frozen = enrolments.len() > 1;
        Ok(CircleState {
            context: CONTEXT,
            custodian_member: CUSTODIAN,
            custodian: CustodianPins {
                invitation_key: PublicKey::from_felt(Felt::ONE),
                anchorer: Anchorer::from_felt(Felt::ONE),
                author_key: PublicKey::from_felt(Felt::ONE),
                seal_key: SealKey([1; 32]),
                registry: Registry {
                    chain_id: ChainId::from_felt(Felt::ONE),
                    registry: ContractAddress::from_felt(Felt::ONE),
                },
            },
            patient: enrolments.first().filter(|_| !frozen).cloned(),
            enrolments,
            frozen,
            ignored: 0,
            counts: Counts::default(),
            now: UnixSeconds(0),
        })
    }

    async fn enrol(&self, _: &Enrolment, _: &Signature) -> SourceResult<Written> {
        unused("enrol")
    }

    async fn grant(&self, _: &[u8], _: &Opening, _: &Signature) -> SourceResult<Granted> {
        unused("grant")
    }

    async fn revoke(&self, _: &RevocationSecret, _: PublicKey) -> SourceResult<Written> {
        unused("revoke")
    }

    async fn consents(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ConsentPage> {
        unused("consents")
    }

    async fn put_record(&self, _: &NewRecord) -> SourceResult<Written> {
        unused("put_record")
    }

    async fn records(
        &self,
        _: Option<&Cursor>,
        _: PageLimit,
        _: Option<&str>,
    ) -> SourceResult<RecordPage> {
        unused("records")
    }

    async fn record(&self, _: RecordId, _: Option<RecordVersion>) -> SourceResult<FullRecord> {
        unused("record")
    }

    async fn record_anchor(&self, report: &AnchorReport) -> SourceResult<Written> {
        let fault = self.faults.take("record_anchor");
        if fault == Some(Fault::Failed) {
            return Err(broken("record_anchor"));
        }
        self.state
            .lock()
            .expect("one test")
            .reports
            .push(report.clone());
        if fault == Some(Fault::FailedButTookEffect) {
            return Err(broken("record_anchor"));
        }
        Ok(Written {
            key: EntryKey([9; 32]),
            existing: false,
        })
    }

    async fn changes(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ChangePage> {
        self.faults
            .before("changes")
            .map_err(|()| broken("changes"))?;
        let state = self.state.lock().expect("one test");
        let entries = state.entries.iter().map(|(change, _)| *change).collect();
        Ok(ChangePage {
            entries,
            next: None,
            digest: ChangeDigest([0; 32]),
        })
    }

    async fn entry(&self, kind: EntryKind, key: EntryKey) -> SourceResult<Entry> {
        self.faults.before("entry").map_err(|()| broken("entry"))?;
        let state = self.state.lock().expect("one test");
        let body = state
            .entries
            .iter()
            .find(|(c, _)| c.key == key)
            .map(|(_, body)| body.clone());
        Ok(Entry {
            kind,
            key,
            owner: None,
            body,
        })
    }
}
