//! Members whom the patient admits: further devices, relatives, guardians.
//!
//! An admission counts by the signature of the patient's present key, whoever wrote it down. The
//! patient's node writes it before the member joins; once it is in, the member writes it again
//! with the key that signs its log entries, which counts under its own stamp alone.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::device::{Admission, DEVICES_MAX};
use medsync_protocol::ids::{ContextKind, MemberId, UnixSeconds};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::{PublicKey, Signature};

use crate::abi::{DeviceInput, DeviceView, SignatureInput, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::members::Members;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{
    load_signature, read, read_option, read_signature, signature, store_signature, StoredSignature,
};

const ONLY_SHARD: Shard = Shard(0);
/// The most entries of one writer whose signatures are looked at, those by the patient's present
/// key first: each admission a few times over.
const LOOKED_AT_MAX: usize = 4 * DEVICES_MAX;

#[derive(BorshSerialize, BorshDeserialize)]
struct DeviceBody {
    admission: Admission,
    author_key: Option<PublicKey>,
    signature: StoredSignature,
    recorded_at: u64,
}

/// An admission that the key which it names signed, and its entry.
#[derive(Clone, Debug)]
pub struct Device {
    key: Key,
    /// Who is admitted.
    pub admission: Admission,
    /// The key that signs the member's log entries, if the member itself wrote this.
    pub author_key: Option<PublicKey>,
    signature: Signature,
    recorded_at: UnixSeconds,
}

impl Device {
    /// As the interface shows it.
    pub fn view(&self, members: &Members) -> DeviceView {
        let admission = &self.admission;
        DeviceView {
            key: self.key.to_string(),
            device: DeviceInput {
                member: admission.member.to_string(),
                device: admission.device.0,
                admitted_by: admission.admitted_by.to_string(),
                author_key: self.author_key.as_ref().map(ToString::to_string),
            },
            signature: signature(&self.signature),
            role: admission.device.role().name().into(),
            admitted: members.keys.may_admit(admission.admitted_by),
            recorded_at: self.recorded_at.0,
        }
    }
}

/// One admission, if it is there and the key that it names signed it: one that is not the patient's
/// may become it by a change that is on its way.
pub fn load(circle: &Circle, key: Key) -> Option<Device> {
    let stored = store::load(key)?;
    let body: DeviceBody = stored.decode()?;
    let (admission, signature) = (body.admission, load_signature(&body.signature)?);
    let is_written_by_member = stored.owner() == Some(admission.member);
    let counts = admission.member != circle.custodian_member
        && admission.is_signed(circle.context, &signature);
    counts.then(|| Device {
        key,
        admission,
        author_key: body.author_key.filter(|_| is_written_by_member),
        signature,
        recorded_at: UnixSeconds(body.recorded_at),
    })
}

/// Every admission that somebody signed; of each writer only so many entries are looked at. Those
/// by the `present` key come first, so that what earlier ones admitted takes nobody's place.
pub fn all(circle: &Circle, present: Option<&PublicKey>) -> Vec<Device> {
    let keys = store::keys(Kind::Devices, ONLY_SHARD).into_iter();
    let (first, rest): (Vec<Key>, Vec<Key>) = keys.map(|(key, _)| key).partition(|key| {
        let body = store::peek::<DeviceBody>(*key);
        body.is_some_and(|body| present == Some(&body.admission.admitted_by))
    });
    store::first_of_each_owner(first.into_iter().chain(rest), LOOKED_AT_MAX)
        .filter_map(|key| load(circle, key))
        .collect()
}

/// Writes an admission down.
pub fn admit(input: &DeviceInput, signature: &SignatureInput) -> Result<Written, Refusal> {
    let admission = Admission {
        member: read("member", &input.member)?,
        device: DeviceNumber(input.device),
        admitted_by: read("admitted_by", &input.admitted_by)?,
    };
    let author_key: Option<PublicKey> = read_option("author_key", input.author_key.as_deref())?;
    let signature = read_signature(signature)?;
    let circle = Circle::load_as(ContextKind::Circle)?;
    let members = Members::load(&circle);
    members.patient()?;
    check(&circle, &members, &admission)?;
    let executor = host::executor();
    if author_key.is_some() && executor != admission.member {
        return Err(Refusal::NotTheMember {
            member: admission.member,
            executor,
        });
    }
    // Who was admitted may say so of another's key, and keeps that one from nothing by it.
    let is_taken = |key| {
        let mut authors = members.authors(&circle, key).into_iter();
        authors.any(|of| of != executor && members.is_witness(&circle, of))
    };
    if author_key.is_some_and(|key| key.is_zero() || is_taken(key)) {
        let problem = "not zero, and neither the custodian's nor whoever's enrolled";
        return Err(Refusal::malformed("author_key", problem));
    }
    if !admission.is_signed(circle.context, &signature) {
        return Err(Refusal::AdmissionSignature);
    }
    let known = members.devices(&circle);
    let same = known
        .iter()
        .find(|known| known.admission == admission && known.author_key == author_key);
    if let Some(same) = same {
        return Ok(Written::there(same.key));
    }
    // Whom the same key admits: what earlier keys admitted has ended, or ends with this one.
    let of_key = |known: &&Device| known.admission.admitted_by == admission.admitted_by;
    let mut others: Vec<MemberId> = Vec::new();
    for known in known.iter().filter(of_key) {
        let member = known.admission.member;
        if member != admission.member && !others.contains(&member) {
            others.push(member);
        }
    }
    if others.len() >= DEVICES_MAX {
        return Err(Refusal::TooLarge {
            field: "admitted members",
            max: DEVICES_MAX,
            is: others.len() + 1,
        });
    }
    let body = DeviceBody {
        admission,
        author_key,
        signature: store_signature(&signature),
        recorded_at: host::now().0,
    };
    let key = store::insert(Kind::Devices, ONLY_SHARD, &body)?;
    Ok(Written::new(key))
}

/// Whether the patient's key may admit this member under this number.
fn check(circle: &Circle, members: &Members, admission: &Admission) -> Result<(), Refusal> {
    let is_there_already =
        admission.member == circle.custodian_member || members.has_member(admission.member);
    if is_there_already {
        let problem = "neither the custodian nor whoever enrolled";
        return Err(Refusal::malformed("member", problem));
    }
    let is_patients = members.has_patient_key(admission.admitted_by);
    // The patient's own node writes ahead whom the next key admits.
    if !is_patients && !members.has_member(host::executor()) {
        return Err(Refusal::ForeignKey);
    }
    if is_patients && !members.keys.may_admit(admission.admitted_by) {
        return Err(Refusal::OldKey);
    }
    let is_taken = members.devices(circle).iter().any(|known| {
        known.admission.device == admission.device
            && known.admission.member != admission.member
            && known.admission.admitted_by == admission.admitted_by
    });
    if admission.device == DeviceNumber::FIRST || is_taken {
        let problem = "a number that no other device of the patient has; 0 is the first's";
        return Err(Refusal::malformed("device", problem));
    }
    Ok(())
}
