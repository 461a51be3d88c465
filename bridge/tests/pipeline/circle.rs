//! A circle in memory, with faults on demand.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use medsync::guard::Circles;
use medsync::source::{
    AnchorReport, ApplicationId, BlobId, Change, ChangeDigest, ChangePage, Circle, CircleState,
    Consent, ConsentPage, Cursor, Entry, EntryBody, EntryKey, EntryKind, FullRecord, Granted,
    GroupId, NewRecord, PageLimit, Pin, RecordPage, Revocation, SourceError, SourceResult,
    StateHash, Written,
};
use medsync_protocol::consent::Opening;
use medsync_protocol::ids::{ContextId, MemberId, RecordId};
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
    pub fn new(faults: Faults) -> Self {
        let members = [CUSTODIAN, MemberId([2; 32])].into();
        let state = State {
            members,
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

    pub fn add_member(&self, member: MemberId) {
        self.state.lock().expect("one test").members.insert(member);
    }

    pub fn reports(&self) -> Vec<AnchorReport> {
        self.state.lock().expect("one test").reports.clone()
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
        Ok(Pin {
            application: ApplicationId([4; 32]),
            bytecode: BlobId([5; 32]),
            group: GroupId([6; 32]),
            members: self.state.lock().expect("one test").members.clone(),
        })
    }

    async fn circle(&self) -> SourceResult<CircleState> {
        unused("circle")
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
