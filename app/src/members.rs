//! Who belongs to the context: who enrolled, and which of their keys counts.
//!
//! An enrolment counts if the invitation's one-time key signed it and the member that it names
//! wrote it down. Two different ones mean that the key was used twice, by the custodian or by a
//! thief: nobody can say which patient is the right one, so that the circle freezes and no consent
//! counts. Whoever finds the invitation used enrols all the same, and thereby freezes it.

use std::cell::OnceCell;

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::ids::{MemberId, SealKey, UnixSeconds};
use medsync_protocol::keychange::KeyHistory;
use medsync_protocol::messages::Enrolment;
use medsync_protocol::signature::{PublicKey, Signature};

use crate::abi::{EnrolmentInput, EnrolmentView, SignatureInput, Written};
use crate::circle::Circle;
use crate::devices::{self, Device};
use crate::host;
use crate::keychanges;
use crate::layout::{Kind, Shard};
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{load_signature, read, read_signature, store_signature, StoredSignature};

#[derive(BorshSerialize, BorshDeserialize)]
struct EnrolmentBody {
    member: [u8; 32],
    party_key: [u8; 32],
    recovery_key: [u8; 32],
    login_key: [u8; 32],
    author_key: [u8; 32],
    seal_key: [u8; 32],
    signature: StoredSignature,
    recorded_at: u64,
}

impl EnrolmentBody {
    fn read(&self) -> Option<(Enrolment, Signature)> {
        let enrolment = Enrolment {
            member: MemberId(self.member),
            party_key: PublicKey::from_bytes(&self.party_key).ok()?,
            recovery_key: PublicKey::from_bytes(&self.recovery_key).ok()?,
            login_key: PublicKey::from_bytes(&self.login_key).ok()?,
            author_key: PublicKey::from_bytes(&self.author_key).ok()?,
            seal_key: SealKey(self.seal_key),
        };
        Some((enrolment, load_signature(&self.signature)?))
    }
}

/// A valid enrolment and its entry.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The entry.
    pub key: Key,
    /// The patient's keys.
    pub enrolment: Enrolment,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
}

/// Everybody who enrolled: one, unless somebody cheats.
pub struct Members {
    /// The valid enrolments, each content once.
    pub enrolled: Vec<Enrolled>,
    /// Entries that do not verify or repeat another.
    pub ignored: u64,
    /// The keys of the one who enrolled, through time; of nobody if it is not one.
    pub keys: KeyHistory,
    /// Whom that party admitted; looked at when somebody asks.
    devices: OnceCell<Vec<Device>>,
}

const ONLY_SHARD: Shard = Shard(0);
/// The most enrolments of one member whose signatures are looked at.
const ENROLMENTS_LOOKED_AT_MAX: usize = 4;

impl Members {
    /// Reads and checks every enrolment.
    #[must_use]
    pub fn load(circle: &Circle) -> Self {
        let mut members = Self {
            enrolled: Vec::new(),
            ignored: 0,
            keys: KeyHistory {
                keys: Vec::new(),
                by: Vec::new(),
                is_frozen: false,
            },
            devices: OnceCell::new(),
        };
        let keys = store::keys(Kind::Enrolments, ONLY_SHARD);
        let count = keys.len() as u64;
        let keys = keys.into_iter().map(|(key, _)| key);
        for key in store::first_of_each_owner(keys, ENROLMENTS_LOOKED_AT_MAX) {
            let enrolled = load_enrolment(circle, key);
            let is_new = |found: &Enrolled| !members.has(&found.enrolment);
            let new = enrolled.filter(is_new);
            members.enrolled.extend(new);
        }
        members.ignored = count - members.enrolled.len() as u64;
        if let [only] = members.enrolled.as_slice() {
            members.keys = keychanges::history(circle, &only.enrolment);
        }
        members
    }

    fn has(&self, enrolment: &Enrolment) -> bool {
        self.enrolled
            .iter()
            .any(|enrolled| enrolled.enrolment == *enrolment)
    }

    /// Whether no consent counts any more.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.enrolled.len() > 1 || self.keys.is_frozen
    }

    /// The one who enrolled.
    ///
    /// # Errors
    /// Nobody, or more than one.
    pub fn only(&self) -> Result<&Enrolled, Refusal> {
        match self.enrolled.as_slice() {
            [] => Err(Refusal::NotEnrolled),
            [only] => Ok(only),
            _ => Err(Refusal::Frozen),
        }
    }

    /// The one patient.
    ///
    /// # Errors
    /// Nobody is enrolled, or the circle is frozen.
    pub fn patient(&self) -> Result<&Enrolled, Refusal> {
        if self.is_frozen() {
            return Err(Refusal::Frozen);
        }
        self.only()
    }

    /// Whether this is or was the key of somebody who enrolled. In a frozen circle a consent is
    /// still shown, and shown as frozen, under any of them.
    #[must_use]
    pub fn has_patient_key(&self, key: PublicKey) -> bool {
        self.keys.keys.contains(&key)
            || self
                .enrolled
                .iter()
                .any(|enrolled| enrolled.enrolment.party_key == key)
    }

    /// Whether this is the key that counts now.
    #[must_use]
    pub fn is_current_key(&self, key: PublicKey) -> bool {
        self.keys.keys.last() == Some(&key)
    }

    /// Every admission that somebody signed, the patient or not.
    pub fn devices(&self, circle: &Circle) -> &[Device] {
        self.devices
            .get_or_init(|| devices::all(circle, self.keys.keys.last()))
    }

    /// Who says to sign log entries with this key: the custodian, whoever enrolled with it, or else
    /// whom the patient admitted. Of those, one can say so of another's key: an entry proves itself
    /// by its signature, and whose it is nobody can tell then. In a frozen circle the log goes on,
    /// and what was written stays readable when an admission ends.
    #[must_use]
    pub fn authors(&self, circle: &Circle, author_key: PublicKey) -> Vec<MemberId> {
        if author_key == circle.author_key {
            return vec![circle.custodian_member];
        }
        let enrolled = self.enrolled.iter().map(|enrolled| &enrolled.enrolment);
        let mut enrolled = enrolled.filter(|enrolment| enrolment.author_key == author_key);
        if let Some(enrolment) = enrolled.next() {
            return vec![enrolment.member];
        }
        let devices = self.devices(circle).iter().filter(|device| {
            device.author_key == Some(author_key)
                && self.has_patient_key(device.admission.admitted_by)
        });
        devices.map(|device| device.admission.member).collect()
    }

    /// Whether this member is the custodian, enrolled, or ever was admitted by the patient.
    #[must_use]
    pub fn was_let_in(&self, circle: &Circle, member: MemberId) -> bool {
        self.is_witness(circle, member)
            || self.devices(circle).iter().any(|device| {
                device.admission.member == member
                    && self.has_patient_key(device.admission.admitted_by)
            })
    }

    /// Whether this member enrolled.
    #[must_use]
    pub fn has_member(&self, member: MemberId) -> bool {
        self.enrolled
            .iter()
            .any(|enrolled| enrolled.enrolment.member == member)
    }

    /// Whether this member's word on what the chain says is shown.
    #[must_use]
    pub fn is_witness(&self, circle: &Circle, member: MemberId) -> bool {
        member == circle.custodian_member || self.has_member(member)
    }
}

/// One enrolment, if it is there and counts.
pub fn load_enrolment(circle: &Circle, key: Key) -> Option<Enrolled> {
    let stored = store::load(key)?;
    let body: EnrolmentBody = stored.decode()?;
    // The cheap check first: a member's rubbish costs no more than its own stamp.
    if stored.owner() != Some(MemberId(body.member)) {
        return None;
    }
    let (enrolment, signature) = body.read()?;
    circle.admit(&enrolment, &signature).ok()?;
    Some(Enrolled {
        key,
        enrolment,
        recorded_at: UnixSeconds(body.recorded_at),
    })
}

/// Publishes the patient's keys.
pub fn enrol(input: &EnrolmentInput, signature: &SignatureInput) -> Result<Written, Refusal> {
    let enrolment = read_enrolment(input)?;
    let signature = read_signature(signature)?;
    let circle = Circle::load()?;
    let executor = host::executor();
    if enrolment.member != executor {
        return Err(Refusal::NotTheMember {
            member: enrolment.member,
            executor,
        });
    }
    circle.admit(&enrolment, &signature)?;
    let members = Members::load(&circle);
    if let Some(same) = members
        .enrolled
        .iter()
        .find(|other| other.enrolment == enrolment)
    {
        return Ok(Written::there(same.key));
    }
    if members.enrolled.len() > 1 {
        return Err(Refusal::Frozen);
    }
    let body = EnrolmentBody {
        member: enrolment.member.0,
        party_key: enrolment.party_key.to_bytes(),
        recovery_key: enrolment.recovery_key.to_bytes(),
        login_key: enrolment.login_key.to_bytes(),
        author_key: enrolment.author_key.to_bytes(),
        seal_key: enrolment.seal_key.0,
        signature: store_signature(&signature),
        recorded_at: host::now().0,
    };
    let key = store::insert(Kind::Enrolments, ONLY_SHARD, &body)?;
    Ok(Written::new(key))
}

fn read_enrolment(input: &EnrolmentInput) -> Result<Enrolment, Refusal> {
    let key = |field, text: &str| match read::<PublicKey>(field, text) {
        Ok(key) if key.is_zero() => Err(Refusal::malformed(field, "not zero")),
        other => other,
    };
    Ok(Enrolment {
        member: read("member", &input.member)?,
        party_key: key("party_key", &input.party_key)?,
        recovery_key: key("recovery_key", &input.recovery_key)?,
        login_key: key("login_key", &input.login_key)?,
        author_key: key("author_key", &input.author_key)?,
        seal_key: read("seal_key", &input.seal_key)?,
    })
}

impl Enrolled {
    /// As the interface shows it.
    #[must_use]
    pub fn view(&self) -> EnrolmentView {
        let enrolment = &self.enrolment;
        EnrolmentView {
            key: self.key.to_string(),
            enrolment: EnrolmentInput {
                member: enrolment.member.to_string(),
                party_key: enrolment.party_key.to_string(),
                recovery_key: enrolment.recovery_key.to_string(),
                login_key: enrolment.login_key.to_string(),
                author_key: enrolment.author_key.to_string(),
                seal_key: enrolment.seal_key.to_string(),
            },
            recorded_at: self.recorded_at.0,
        }
    }
}
