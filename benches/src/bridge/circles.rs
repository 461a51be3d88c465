//! Circles in memory in the place of a node: they hold signed consents, give them out as a node
//! does, and count what is written back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use async_trait::async_trait;
use medsync::guard::Circles;
use medsync::source::{
    AnchorReport, ApplicationId, BlobId, Change, ChangeDigest, ChangePage, Circle, CircleState,
    Consent, ConsentPage, ConsentState, Counts, Cursor, CustodianPins, Device, Enrolled, Entry,
    EntryBody, EntryKey, EntryKind, FullRecord, FullRelease, Granted, GroupId, Head, LogEntry,
    LogPage, NewRecord, NewRelease, PageLimit, Pin, PlacedTicket, Pool, ReceiptPage, RecordPage,
    ReleasePage, SignedKeyChange, SourceError, SourceResult, StageReport, StateHash, Written,
};
use medsync::store::circles::CircleRow;
use medsync_protocol::audit::{Pseudonym, Seq};
use medsync_protocol::consent::{Commitment, Grant, Opening};
use medsync_protocol::ids::{
    ContextId, ContextKind, MemberId, Nonce, RecordId, SealKey, Sha256Digest, UnixSeconds,
};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::secrets::{Counter, DeviceNumber, RevocationSecret, Seed};
use medsync_protocol::signature::{PublicKey, SecretKey, Signature};
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::Leaf;
use medsync_tests::circle::{
    HOSPITAL, INVITATION, RECOVERY, RESEARCHER, anchorer, public_key, registry, terms,
};
use rayon::prelude::*;

/// How many consents a circle holds.
pub const CONSENTS_EACH: usize = 1_000;
const CUSTODIAN: MemberId = MemberId([1; 32]);
const PATIENT_MEMBER: MemberId = MemberId([2; 32]);
/// Of one in so many positions the whole report is kept, to be checked afterwards.
const CHECKED_EACH: usize = 1_000;

/// A consent as a circle holds it.
pub struct Signed {
    /// The terms' encoding.
    pub terms: Vec<u8>,
    /// What the commitment hides.
    pub opening: Opening,
    /// The patient's signature.
    pub signature: Signature,
}

impl Signed {
    /// Its commitment, hashed anew.
    pub fn commitment(&self) -> Commitment {
        Commitment::of(Sha256Digest::of(&self.terms), anchorer(), &self.opening)
    }

    /// Its leaf, hashed anew.
    pub fn leaf(&self) -> Leaf {
        self.commitment().leaf(&self.signature)
    }
}

/// What was written into all circles.
#[derive(Default)]
pub struct Heard {
    sealed: AtomicUsize,
    anchored: AtomicUsize,
    checked: Mutex<Vec<AnchorReport>>,
}

impl Heard {
    /// How many consents' blocks were told.
    pub fn anchored(&self) -> usize {
        self.anchored.load(Ordering::Relaxed)
    }

    /// How many positions were written, and whether the paths that were kept lead to their roots.
    pub fn positions(&self, leaves: &HashMap<Commitment, Leaf>) -> (usize, bool) {
        let lead = |report: &AnchorReport| {
            let leaf = leaves.get(&report.commitment);
            leaf.is_some_and(|leaf| report.proof.includes(*leaf, report.root))
        };
        let sound = self.checked.lock().is_ok_and(|all| all.iter().all(lead));
        (self.sealed.load(Ordering::Relaxed), sound)
    }
}

/// One circle.
#[derive(Clone)]
pub struct MemoryCircle {
    context: ContextId,
    patient: PublicKey,
    /// Its consents.
    pub consents: Arc<Vec<Signed>>,
    heard: Arc<Heard>,
}

/// All circles of a hospital.
pub struct Hospital {
    circles: HashMap<ContextId, MemoryCircle>,
    /// What was written into them.
    pub heard: Arc<Heard>,
}

impl Hospital {
    /// Circles with so many consents, each signed by its patient, on all processors.
    ///
    /// # Errors
    /// Never: the numbers make sound keys.
    pub fn with_consents(count: usize) -> anyhow::Result<Self> {
        let heard = Arc::<Heard>::default();
        let circle = |number: usize| {
            let len = CONSENTS_EACH.min(count - number * CONSENTS_EACH);
            MemoryCircle::signed(number as u64, len, Arc::clone(&heard))
        };
        let numbers = (0..count.div_ceil(CONSENTS_EACH)).into_par_iter();
        let circles: Vec<_> = numbers.map(circle).collect::<anyhow::Result<_>>()?;
        let named = circles.into_iter().map(|circle| (circle.context, circle));
        Ok(Self {
            circles: named.collect(),
            heard,
        })
    }

    /// The circles, as the store knows them.
    pub fn rows(&self) -> impl Iterator<Item = CircleRow> + '_ {
        self.circles.values().map(MemoryCircle::row)
    }

    /// All consents.
    pub fn consents(&self) -> impl Iterator<Item = &Signed> {
        self.circles.values().flat_map(|circle| &*circle.consents)
    }
}

#[async_trait]
impl Circles for Hospital {
    async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>> {
        let mut states = HashMap::new();
        for (context, circle) in &self.circles {
            states.insert(*context, circle.state_hash().await?);
        }
        Ok(states)
    }

    fn open(&self, context: ContextId) -> Box<dyn Circle> {
        match self.circles.get(&context) {
            Some(circle) => Box::new(circle.clone()),
            None => Box::new(MemoryCircle {
                context,
                patient: public_key(HOSPITAL),
                consents: Arc::default(),
                heard: Arc::clone(&self.heard),
            }),
        }
    }
}

fn numbered(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number_of(key: EntryKey) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.0[24..]);
    u64::from_be_bytes(bytes) as usize
}

fn unused<T>(call: &str) -> SourceResult<T> {
    Err(SourceError::Malformed {
        call: call.into(),
        reason: "no lane that is measured asks this".into(),
    })
}

impl MemoryCircle {
    fn signed(number: u64, len: usize, heard: Arc<Heard>) -> anyhow::Result<Self> {
        let context = ContextId(numbered(number + 1));
        let patient = SecretKey::from_scalar(&numbered(number + 2))?;
        let seed = Seed::from_bytes(&numbered(number + 3))?;
        let mut consents = Vec::with_capacity(len);
        let mut counter = Counter(0);
        for nonce in 0..len as u64 {
            let terms = Terms {
                nonce: Nonce(numbered(nonce)),
                ..terms(CUSTODIAN, context, 0)
            };
            let grant = Grant {
                terms: terms.digest()?,
                anchorer: anchorer(),
                grantee: public_key(RESEARCHER),
                not_before: UnixSeconds(0),
                not_after: UnixSeconds(0),
            };
            let signed = grant.sign(registry(), &patient, &seed, DeviceNumber(0), counter)?;
            counter = signed.next;
            consents.push(Signed {
                terms: terms.encode()?,
                opening: signed.opening,
                signature: signed.signature,
            });
        }
        Ok(Self {
            context,
            patient: patient.public_key(),
            consents: Arc::new(consents),
            heard,
        })
    }

    fn row(&self) -> CircleRow {
        CircleRow {
            kind: ContextKind::Circle,
            context: self.context,
            group: GroupId([6; 32]),
            label: "circle".into(),
            member: CUSTODIAN,
            custodian_member: CUSTODIAN,
            application: ApplicationId([4; 32]),
            bytecode: BlobId([5; 32]),
            invitation: None,
            patient_member: None,
            recipient_key: None,
            device: DeviceNumber::FIRST,
            entered_at: UnixSeconds(0),
            state_hash: None,
            consents_digest: None,
            alarm: None,
            suspected_at: None,
        }
    }

    /// A consent as the real source makes one of what its node answers: the terms are read and the
    /// commitment is hashed from them.
    fn consent(&self, key: EntryKey) -> anyhow::Result<Consent> {
        let signed = self.consents.get(number_of(key));
        let signed = signed.context("a key of this circle")?;
        Ok(Consent {
            key,
            commitment: signed.commitment(),
            terms: Terms::decode(&signed.terms)?,
            terms_bytes: signed.terms.clone(),
            opening: signed.opening,
            signature: signed.signature,
            state: ConsentState::InForce,
            recorded_at: UnixSeconds(10),
            revoked_at: None,
            anchors: Vec::new(),
        })
    }
}

#[async_trait]
impl Circle for MemoryCircle {
    fn context(&self) -> ContextId {
        self.context
    }

    async fn state_hash(&self) -> SourceResult<StateHash> {
        Ok(StateHash(self.context.0))
    }

    async fn pin(&self) -> SourceResult<Pin> {
        Ok(Pin {
            application: ApplicationId([4; 32]),
            bytecode: BlobId([5; 32]),
            group: Some(GroupId([6; 32])),
            members: [CUSTODIAN, PATIENT_MEMBER].into(),
        })
    }

    async fn circle(&self) -> SourceResult<CircleState> {
        let enrolled = Enrolled {
            key: EntryKey([8; 32]),
            enrolment: Enrolment {
                member: PATIENT_MEMBER,
                party_key: self.patient,
                recovery_key: public_key(RECOVERY),
                login_key: self.patient,
                author_key: self.patient,
                seal_key: SealKey([2; 32]),
            },
            recorded_at: UnixSeconds(0),
        };
        Ok(CircleState {
            context: self.context,
            custodian_member: CUSTODIAN,
            custodian: CustodianPins {
                kind: ContextKind::Circle,
                invitation_key: public_key(INVITATION),
                anchorer: anchorer(),
                author_key: public_key(HOSPITAL),
                seal_key: SealKey([1; 32]),
                registry: registry(),
            },
            enrolments: vec![enrolled.clone()],
            patient: Some(enrolled),
            keys: vec![self.patient],
            devices: Vec::new(),
            frozen: false,
            ignored: 0,
            counts: Counts::default(),
            // No bench of these decides anything.
            consents_digest: Sha256Digest([0; 32]),
            now: UnixSeconds(0),
        })
    }

    async fn changes(&self, cursor: Option<&Cursor>, limit: PageLimit) -> SourceResult<ChangePage> {
        let malformed = |_| SourceError::Malformed {
            call: "changes".into(),
            reason: "a cursor of nobody".into(),
        };
        let from = cursor.map_or(Ok(0), |cursor| cursor.as_str().parse::<usize>());
        let from = from.map_err(malformed)?;
        let to = self.consents.len().min(from + limit.get() as usize);
        let change = |number: usize| Change {
            kind: EntryKind::Consent,
            key: EntryKey(numbered(number as u64)),
            digest: ChangeDigest(numbered(number as u64)),
        };
        let next = (to < self.consents.len()).then(|| to.to_string().parse());
        let unspoken = |_| SourceError::Malformed {
            call: "changes".into(),
            reason: "a number is a cursor".into(),
        };
        Ok(ChangePage {
            entries: (from..to).map(change).collect(),
            next: next.transpose().map_err(unspoken)?,
        })
    }

    async fn entry(&self, kind: EntryKind, key: EntryKey) -> SourceResult<Entry> {
        let consent = self.consent(key).map_err(|error| SourceError::Malformed {
            call: "entry".into(),
            reason: error.to_string(),
        })?;
        Ok(Entry {
            kind,
            key,
            owner: None,
            body: Some(EntryBody::Consent(Box::new(consent))),
        })
    }

    async fn record_anchor(&self, report: &AnchorReport) -> SourceResult<Written> {
        match report.stage {
            StageReport::Sealed => {
                let number = self.heard.sealed.fetch_add(1, Ordering::Relaxed);
                if number.is_multiple_of(CHECKED_EACH)
                    && let Ok(mut checked) = self.heard.checked.lock()
                {
                    checked.push(report.clone());
                }
            }
            StageReport::Submitted { .. } => {}
            StageReport::Anchored { .. } => {
                self.heard.anchored.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Written {
            key: EntryKey([9; 32]),
            existing: false,
        })
    }

    async fn add_member(&self, _: MemberId) -> SourceResult<()> {
        unused("add_member")
    }

    async fn enrol(&self, _: &Enrolment, _: &Signature) -> SourceResult<Written> {
        unused("enrol")
    }

    async fn change_key(&self, _: &SignedKeyChange, _: u32) -> SourceResult<Written> {
        unused("change_key")
    }

    async fn admit(&self, _: &Device) -> SourceResult<Written> {
        unused("admit")
    }

    async fn grant(&self, _: &[u8], _: &Opening, _: &Signature, _: u32) -> SourceResult<Granted> {
        unused("grant")
    }

    async fn revoke(&self, _: &RevocationSecret, _: PublicKey, _: u32) -> SourceResult<Written> {
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

    async fn put_part(&self, _: &[u8]) -> SourceResult<Written> {
        unused("put_part")
    }

    async fn part(&self, _: Sha256Digest) -> SourceResult<Option<Vec<u8>>> {
        unused("part")
    }

    async fn append_log(&self, _: &LogEntry) -> SourceResult<Written> {
        unused("append_log")
    }

    async fn log(&self, _: PublicKey, _: Seq, _: PageLimit) -> SourceResult<LogPage> {
        unused("log")
    }

    async fn record_head(&self, _: &Head) -> SourceResult<Written> {
        unused("record_head")
    }

    async fn put_pool(&self, _: &Pool) -> SourceResult<Written> {
        unused("put_pool")
    }

    async fn put_ticket(&self, _: &PlacedTicket) -> SourceResult<Written> {
        unused("put_ticket")
    }

    async fn put_receipt(&self, _: Pseudonym, _: &[u8]) -> SourceResult<Written> {
        unused("put_receipt")
    }

    async fn receipts(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ReceiptPage> {
        unused("receipts")
    }

    async fn put_release(&self, _: &NewRelease) -> SourceResult<Written> {
        unused("put_release")
    }

    async fn releases(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ReleasePage> {
        unused("releases")
    }

    async fn release(&self, _: EntryKey) -> SourceResult<FullRelease> {
        unused("release")
    }
}
