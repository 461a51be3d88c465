//! Changes of the enrolled party's key.
//!
//! A change counts by its signature, whoever wrote it down, and the protocol says what comes of
//! all of them. Writing checks that it follows; a change by the recovery key may come late, since
//! it overrules whatever a thief wrote before.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::keychange::{ChangedBy, KeyChange, KeyHistory, KEY_CHANGES_MAX};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::signature::{PublicKey, Signature};

use crate::abi::{KeyChangeInput, KeyChangeView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::CHANGE_COPIES_MAX;
use crate::members::Members;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{
    load_signature, read, read_signature, signature, store_signature, StoredSignature,
};

const ONLY_SHARD: Shard = Shard(0);
/// The most entries of one writer whose signatures are looked at, for each place among the keys:
/// what one writer has to say of a place is its key's word, and the recovery key's, each with its
/// copies.
const LOOKED_AT_MAX: usize = 2 * CHANGE_COPIES_MAX as usize;

#[derive(BorshSerialize, BorshDeserialize)]
struct KeyChangeBody {
    change: KeyChange,
    signature: StoredSignature,
    recorded_at: u64,
}

/// A change and its entry.
pub struct Found {
    key: Key,
    /// The change.
    pub change: KeyChange,
    /// Who signed it.
    pub by: ChangedBy,
    signature: Signature,
    recorded_at: UnixSeconds,
}

impl Found {
    /// As the interface shows it.
    pub fn view(&self) -> KeyChangeView {
        KeyChangeView {
            key: self.key.to_string(),
            change: KeyChangeInput {
                old_key: self.change.old_key.to_string(),
                new_key: self.change.new_key.to_string(),
                seq: self.change.seq,
                signature: signature(&self.signature),
            },
            by: self.by.name().into(),
            recorded_at: self.recorded_at.0,
        }
    }
}

/// One change, if it is there and signed by whoever may.
pub fn load(circle: &Circle, recovery: PublicKey, key: Key) -> Option<Found> {
    let body: KeyChangeBody = store::load(key)?.decode()?;
    let signature = load_signature(&body.signature)?;
    let by = body
        .change
        .signed_by(circle.context, recovery, &signature)?;
    Some(Found {
        key,
        change: body.change,
        by,
        signature,
        recorded_at: UnixSeconds(body.recorded_at),
    })
}

/// The changes of one place among the keys, by its number and the key there, that somebody signed
/// who may. What is of another place costs no signature, and of each writer only so many entries
/// are looked at.
fn at(circle: &Circle, recovery: PublicKey, place: (u64, PublicKey)) -> Vec<Found> {
    let is_of_place = |key: &Key| {
        let body = store::peek::<KeyChangeBody>(*key);
        body.is_some_and(|body| (body.change.seq, body.change.old_key) == place)
    };
    let keys = store::keys(Kind::KeyChanges, ONLY_SHARD).into_iter();
    let keys = keys.map(|(key, _)| key).filter(is_of_place);
    store::first_of_each_owner(keys, LOOKED_AT_MAX)
        .filter_map(|key| load(circle, recovery, key))
        .collect()
}

/// The keys of the one who enrolled, through time. Only changes that follow what is known so far
/// are looked at: nobody makes reading dear by changes of keys that are nobody's.
pub fn history(circle: &Circle, enrolment: &Enrolment) -> KeyHistory {
    let (mut changes, mut looked_at) = (Vec::new(), None);
    loop {
        let history = KeyHistory::of(enrolment.party_key, &changes);
        let place = (history.next_seq(), history.current());
        // What is said of a place moves the keys on, or they end there.
        if looked_at == Some(place) {
            return history;
        }
        let found = at(circle, enrolment.recovery_key, place);
        changes.extend(found.iter().map(|found| (found.change, found.by)));
        looked_at = Some(place);
    }
}

/// Writes a change down, as often as [`store::enough`] says.
pub fn change(input: &KeyChangeInput, copies: Option<u32>) -> Result<Written, Refusal> {
    let change = KeyChange {
        old_key: read("old_key", &input.old_key)?,
        new_key: read("new_key", &input.new_key)?,
        seq: input.seq,
    };
    let signature = read_signature(&input.signature)?;
    let circle = Circle::load()?;
    let members = Members::load(&circle);
    let enrolled = members.only()?;
    let recovery = enrolled.enrolment.recovery_key;
    let Some(by) = change.signed_by(circle.context, recovery, &signature) else {
        return Err(Refusal::KeyChangeSignature);
    };
    let known = at(&circle, recovery, (change.seq, change.old_key));
    let is_same = |found: &&Found| found.change == change && found.by == by;
    let same: Vec<Key> = known
        .iter()
        .filter(is_same)
        .map(|found| found.key)
        .collect();
    let copies = copies.unwrap_or(1).min(CHANGE_COPIES_MAX);
    if let Some(there) = store::enough(&same, copies) {
        return Ok(Written::there(there));
    }
    if same.is_empty() {
        check_follows(&change, by, &known, &members)?;
    }
    let body = KeyChangeBody {
        change,
        signature: store_signature(&signature),
        recorded_at: host::now().0,
    };
    let key = store::insert_copy(Kind::KeyChanges, ONLY_SHARD, &same, &body)?;
    Ok(Written::new(key))
}

/// Whether a new change may follow what is `known` of its place, and its keys.
fn check_follows(
    change: &KeyChange,
    by: ChangedBy,
    known: &[Found],
    members: &Members,
) -> Result<(), Refusal> {
    let keys = &members.keys.keys;
    let next = members.keys.next_seq();
    // The recovery key may overrule what is there; the old key only follows.
    let may_be_late = by == ChangedBy::Recovery;
    let place = usize::try_from(change.seq).unwrap_or(usize::MAX);
    let until_then = keys.get(..=place).unwrap_or_default();
    let follows = until_then.last() == Some(&change.old_key) && (change.seq == next || may_be_late);
    // Two words of the recovery key about one change would freeze the context for good.
    let contradicts = may_be_late && known.iter().any(|known| known.by == by);
    if !follows || contradicts || change.seq >= KEY_CHANGES_MAX as u64 {
        return Err(Refusal::KeyChangeOrder {
            next,
            current: members.keys.current(),
        });
    }
    if change.new_key.is_zero() || until_then.contains(&change.new_key) {
        return Err(Refusal::KeyNotNew);
    }
    Ok(())
}
