//! How consents stand: what is shown of them, and in which state.
//!
//! The same consent can be written down more than once, also with the twin of its signature. One
//! copy is shown: one whose signature is in a batch before others, then the patient's own, then the
//! smallest key. The order is also what keeps rubbish cheap: copies that a hostile member makes
//! come after the one that verifies, and no signature is checked twice.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{ContextKind, MemberId, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::tree::Leaf;

use crate::abi::{ConsentPage, ConsentView, OpeningInput};
use crate::circle::Circle;
use crate::consents::{is_of, load, shard_of};
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::{COPIES_LOOKED_AT_MAX, POSITIONS_SHOWN_MAX};
use crate::members::Members;
use crate::paging::Page;
use crate::positions::{self, Position};
use crate::refusal::Refusal;
use crate::revocations;
use crate::store::{self, Key};
use crate::text::{base64, signature};

/// What is kept of each copy while a shard is looked at; terms are dropped again.
struct Seen {
    key: Key,
    handle: Handle,
    patient_key: PublicKey,
    commitment: Commitment,
    signature: Signature,
    writer: Option<MemberId>,
    by_patient: bool,
}

impl Seen {
    fn leaf(&self) -> Leaf {
        self.commitment.leaf(&self.signature)
    }
}

/// One shard's consents with everything that bears on them.
pub struct Standing<'a> {
    circle: &'a Circle,
    members: &'a Members,
    shard: Shard,
    seen: Vec<Seen>,
    revoked: revocations::Revoked,
    positions: Vec<Position>,
    verified: RefCell<BTreeMap<Leaf, bool>>,
}

impl<'a> Standing<'a> {
    /// Reads a shard of consents, and those of revocations and anchors that belong to it.
    pub fn load(circle: &'a Circle, members: &'a Members, shard: Shard) -> Self {
        let revoked = revocations::in_shard(shard);
        Self::of(circle, members, shard, revoked, |_| true)
    }

    /// Reads the consents of one handle, with what bears on them.
    pub fn of_handle(circle: &'a Circle, members: &'a Members, handle: Handle) -> Self {
        let shard = shard_of(Kind::Consents, handle);
        let revoked = revocations::of_handle(handle);
        Self::of(circle, members, shard, revoked, |key| is_of(handle, key))
    }

    fn of(
        circle: &'a Circle,
        members: &'a Members,
        shard: Shard,
        revoked: revocations::Revoked,
        is_wanted: impl Fn(Key) -> bool,
    ) -> Self {
        let mut seen = Vec::new();
        let keys = store::keys(Kind::Consents, shard).into_iter();
        for key in keys.map(|(key, _)| key).filter(|key| is_wanted(*key)) {
            if let Some(found) = load(circle, shard, key) {
                let consent = found.consent;
                seen.push(Seen {
                    key,
                    handle: consent.opening.handle,
                    patient_key: consent.opening.patient_key,
                    commitment: consent.commitment,
                    signature: consent.signature,
                    writer: found.writer,
                    by_patient: found.writer.is_some_and(|by| members.has_member(by)),
                });
            }
        }
        let was_let_in = |member: &MemberId| members.was_let_in(circle, *member);
        let positions = match candidates(&seen, was_let_in).as_slice() {
            [] => Vec::new(),
            candidates => positions::in_shard(circle, members, shard, candidates),
        };
        Self {
            circle,
            members,
            shard,
            seen,
            revoked,
            positions,
            verified: RefCell::default(),
        }
    }

    fn verifies(&self, copy: &Seen) -> bool {
        // The leaf is a digest of commitment and signature, and the commitment one of the key.
        let leaf = copy.leaf();
        if let Some(known) = self.verified.borrow().get(&leaf) {
            return *known;
        }
        let verifies = self.members.has_patient_key(copy.patient_key)
            && copy.patient_key.verifies(
                copy.commitment.grant_message(self.circle.registry),
                &copy.signature,
            );
        self.verified.borrow_mut().insert(leaf, verifies);
        verifies
    }

    /// The less, the sooner it is shown: by how far its own batch is, then the patient's own, then
    /// by key.
    fn rank(&self, copy: &Seen) -> impl Ord {
        let furthest = self.positions_of(copy.leaf()).map(Position::rank).max();
        (Reverse(furthest), !copy.by_patient, copy.key)
    }

    fn positions_of(&self, leaf: Leaf) -> impl Iterator<Item = &Position> {
        self.positions
            .iter()
            .filter(move |position| position.leaf == leaf)
    }

    /// The copy of a consent that is shown, if one verifies.
    fn shown(&self, commitment: Commitment) -> Option<&Seen> {
        let mut copies: Vec<&Seen> = self
            .seen
            .iter()
            .filter(|copy| copy.commitment == commitment)
            .collect();
        copies.sort_by_cached_key(|copy| self.rank(copy));
        copies.into_iter().find(|copy| self.verifies(copy))
    }

    /// The entries of a consent that count, the one that is shown first.
    pub fn copies_of(&self, commitment: Commitment) -> Vec<Key> {
        let mut copies: Vec<&Seen> = self
            .seen
            .iter()
            .filter(|copy| copy.commitment == commitment && self.verifies(copy))
            .collect();
        copies.sort_by_cached_key(|copy| self.rank(copy));
        copies.into_iter().map(|copy| copy.key).collect()
    }

    /// Whether a handle is free for a new consent.
    ///
    /// # Errors
    /// It is revoked, or another consent that counts has it.
    pub fn check_free(&self, handle: Handle) -> Result<(), Refusal> {
        if self.revoked.at(handle).is_some() {
            return Err(Refusal::HandleRevoked);
        }
        let mut holders = self.own_first(move |copy| copy.handle == handle);
        if holders.any(|copy| self.verifies(copy)) {
            return Err(Refusal::HandleUsed);
        }
        Ok(())
    }

    /// The signatures of this consent that verify, and so the leaves by which it can be anchored;
    /// the patient's own copies first, each checked only when it is asked for.
    pub fn leaves(&self, commitment: Commitment) -> impl Iterator<Item = Leaf> + '_ {
        self.own_first(move |copy| copy.commitment == commitment)
            .filter(|copy| self.verifies(copy))
            .map(Seen::leaf)
    }

    /// The copies that are wanted, those that the patient wrote before others.
    fn own_first(&self, is_wanted: impl Fn(&Seen) -> bool) -> impl Iterator<Item = &Seen> {
        let wanted = move |by_patient| {
            let seen = self.seen.iter();
            seen.filter(move |copy| copy.by_patient == by_patient)
        };
        wanted(true)
            .chain(wanted(false))
            .filter(move |copy| is_wanted(copy))
    }

    /// The positions of this shard's consents.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// As the interface shows an entry; nothing if it does not count or another copy is shown.
    pub fn view(&self, key: Key, now: UnixSeconds) -> Option<ConsentView> {
        let commitment = self.seen.iter().find(|copy| copy.key == key)?.commitment;
        if self.shown(commitment)?.key != key {
            return None;
        }
        let found = load(self.circle, self.shard, key)?;
        let (consent, recorded_at) = (found.consent, found.recorded_at);
        let leaf = consent.commitment.leaf(&consent.signature);
        let revoked_at = self.revoked.at(consent.opening.handle);
        let standing = if self.members.is_frozen() {
            KeyStanding::Frozen
        } else if self.members.is_current_key(consent.opening.patient_key) {
            KeyStanding::Current
        } else {
            KeyStanding::Old
        };
        let state = state(revoked_at, standing, &consent.opening, now);
        let mut anchors: Vec<&Position> = self.positions_of(leaf).collect();
        anchors.sort_unstable_by_key(|position| Reverse(position.rank()));
        anchors.truncate(POSITIONS_SHOWN_MAX);
        Some(ConsentView {
            key: key.to_string(),
            commitment: consent.commitment.to_string(),
            terms: base64(&consent.terms),
            opening: opening_view(&consent.opening),
            signature: signature(&consent.signature),
            state: state.into(),
            recorded_at: recorded_at.0,
            revoked_at: revoked_at.map(|at| at.0),
            anchors: anchors
                .into_iter()
                .map(|position| position.view(self.circle))
                .collect(),
        })
    }

    /// Which consent an entry is, if it verifies, whichever copy is shown.
    pub fn copy(&self, key: Key) -> Option<Commitment> {
        let copy = self.seen.iter().find(|copy| copy.key == key)?;
        self.verifies(copy).then_some(copy.commitment)
    }

    /// The shown entry of a consent, as the interface shows it.
    pub fn view_of(&self, commitment: Commitment, now: UnixSeconds) -> Option<ConsentView> {
        self.view(self.shown(commitment)?.key, now)
    }
}

/// The leaves whose place in a batch is looked for: of each consent the first few copies by the
/// patient, by each whom it admitted, and by all others together.
fn candidates(seen: &[Seen], was_let_in: impl Fn(&MemberId) -> bool) -> Vec<(Commitment, Leaf)> {
    let mut counts: BTreeMap<(Commitment, Option<MemberId>), usize> = BTreeMap::new();
    let mut leaves = Vec::new();
    for copy in seen {
        let writer = copy.writer;
        let writer = writer.filter(|writer| copy.by_patient || was_let_in(writer));
        let count = counts.entry((copy.commitment, writer)).or_default();
        *count += 1;
        if *count <= COPIES_LOOKED_AT_MAX {
            leaves.push((copy.commitment, copy.leaf()));
        }
    }
    leaves
}

/// How the key of a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStanding {
    /// It is the patient's present key.
    Current,
    /// It was changed since: the consent permits nothing more.
    Old,
    /// Nobody can say which key is the patient's.
    Frozen,
}

/// The state of a consent that counts: the first that applies. Revocation comes first, whatever
/// else is the case and in whatever order things arrived.
#[must_use]
pub fn state(
    revoked_at: Option<UnixSeconds>,
    key: KeyStanding,
    opening: &Opening,
    now: UnixSeconds,
) -> &'static str {
    if revoked_at.is_some() {
        "revoked"
    } else if key == KeyStanding::Frozen {
        "frozen"
    } else if key == KeyStanding::Old {
        "old_key"
    } else if now < opening.not_before {
        "not_yet"
    } else if opening.is_current(now) {
        "in_force"
    } else {
        "expired"
    }
}

/// A page of the consents that count.
pub fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<ConsentPage, Refusal> {
    let page = Page::read(cursor, limit)?;
    let circle = Circle::load_as(ContextKind::Circle)?;
    let members = Members::load(&circle);
    let now = host::now();
    let (places, next) = page.walk(&[Kind::Consents]);
    let mut answer = ConsentPage {
        consents: Vec::new(),
        ignored: 0,
        next,
    };
    let mut open: Option<Standing<'_>> = None;
    for (place, _) in places {
        let shard = match open.take() {
            Some(shard) if shard.shard == place.shard => open.insert(shard),
            _ => open.insert(Standing::load(&circle, &members, place.shard)),
        };
        match shard.view(place.key, now) {
            Some(view) => answer.consents.push(view),
            None => answer.ignored += 1,
        }
    }
    Ok(answer)
}

fn opening_view(opening: &Opening) -> OpeningInput {
    OpeningInput {
        patient_key: opening.patient_key.to_string(),
        grantee: opening.grantee.to_string(),
        not_before: opening.not_before.0,
        not_after: opening.not_after.0,
        handle: opening.handle.to_string(),
        salt: opening.salt.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consents::shard_of;
    use medsync_protocol::felt::Felt;
    use medsync_protocol::ids::Salt;

    fn opening(not_before: u64, not_after: u64) -> Opening {
        Opening {
            patient_key: PublicKey::from_felt(Felt::ONE),
            grantee: PublicKey::from_felt(Felt::TWO),
            not_before: UnixSeconds(not_before),
            not_after: UnixSeconds(not_after),
            handle: Handle::from_felt(Felt::THREE),
            salt: Salt::from_felt(Felt::ZERO),
        }
    }

    #[test]
    fn the_state_is_the_first_that_applies() {
        let validity = opening(10, 20);
        let at = |now| state(None, KeyStanding::Current, &validity, UnixSeconds(now));
        assert_eq!(
            [9, 10, 19, 20].map(at),
            ["not_yet", "in_force", "in_force", "expired"]
        );
        assert_eq!(
            state(
                None,
                KeyStanding::Current,
                &opening(10, 0),
                UnixSeconds(u64::MAX)
            ),
            "in_force"
        );
        for now in [9, 10, 20] {
            let revoked = Some(UnixSeconds(15));
            let at = |revoked_at, key| state(revoked_at, key, &validity, UnixSeconds(now));
            assert_eq!(at(None, KeyStanding::Frozen), "frozen");
            assert_eq!(at(None, KeyStanding::Old), "old_key");
            for key in [KeyStanding::Current, KeyStanding::Old, KeyStanding::Frozen] {
                assert_eq!(at(revoked, key), "revoked");
            }
        }
    }

    #[test]
    fn everything_about_a_handle_is_in_one_shard() {
        for byte in 0..=u8::MAX {
            let handle = Handle::from_felt(Felt::from(byte));
            let shard = shard_of(Kind::Consents, handle);
            assert_eq!(shard, shard_of(Kind::Revocations, handle));
            assert_eq!(shard, shard_of(Kind::Anchors, handle));
        }
    }
}
