//! Key changes: which of a party's keys counts now.
//!
//! A change is signed by the key that it replaces or by the recovery key. The changes are counted
//! from 0; at one number the recovery key wins, so that whoever stole a key and changed it is
//! overruled, and two different changes by one kind of key freeze everything. Consents under an
//! earlier key stay verifiable and revocable, and permit nothing more.

use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::ids::ContextId;
use crate::messages::{RotationNumber, rotate_message};
use crate::signature::{PublicKey, Signature};

/// The most changes of one party's key in one context.
pub const KEY_CHANGES_MAX: usize = 64;

/// One key takes the place of another.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// The key that permits nothing more.
    pub old_key: PublicKey,
    /// The key that takes its place; never one that was there before.
    pub new_key: PublicKey,
    /// The number of the change, from 0.
    pub seq: u64,
}

/// Who signed a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangedBy {
    /// The key that is replaced.
    Old,
    /// The recovery key.
    Recovery,
}

impl ChangedBy {
    /// The name in the interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::Recovery => "recovery",
        }
    }
}

impl KeyChange {
    /// Who signed this change in this context, if anybody did who may.
    #[must_use]
    pub fn signed_by(
        &self,
        context: ContextId,
        recovery: PublicKey,
        signature: &Signature,
    ) -> Option<ChangedBy> {
        let seq = RotationNumber(self.seq);
        let message = rotate_message(context, self.old_key, self.new_key, seq);
        if recovery.verifies(message, signature) {
            Some(ChangedBy::Recovery)
        } else if self.old_key.verifies(message, signature) {
            Some(ChangedBy::Old)
        } else {
            None
        }
    }
}

/// A party's keys through time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory {
    /// The enrolled key, and each that took the place of the one before it.
    pub keys: Vec<PublicKey>,
    /// Who made each change: one fewer than there are keys.
    pub by: Vec<ChangedBy>,
    /// Whether two different changes contradict each other: nothing counts any more.
    pub is_frozen: bool,
}

impl KeyHistory {
    /// What came of these changes, in whatever order they are known.
    #[must_use]
    pub fn of(enrolled: PublicKey, changes: &[(KeyChange, ChangedBy)]) -> Self {
        let mut history = Self {
            keys: alloc::vec![enrolled],
            by: Vec::new(),
            is_frozen: false,
        };
        for seq in 0..KEY_CHANGES_MAX as u64 {
            let known = &history;
            let by = |kind: ChangedBy| {
                let here = changes.iter().filter(move |(change, by)| {
                    *by == kind
                        && change.seq == seq
                        && change.old_key == known.current()
                        && !known.keys.contains(&change.new_key)
                });
                here.map(|(change, _)| change.new_key)
            };
            let recovered = by(ChangedBy::Recovery).next();
            let (next, kind) = match recovered {
                Some(next) => (Some(next), ChangedBy::Recovery),
                None => (by(ChangedBy::Old).next(), ChangedBy::Old),
            };
            let Some(next) = next else {
                break;
            };
            let contradicts = by(kind).any(|other| other != next);
            if contradicts {
                history.is_frozen = true;
                break;
            }
            history.keys.push(next);
            history.by.push(kind);
        }
        history
    }

    /// The key that counts now.
    #[must_use]
    pub fn current(&self) -> PublicKey {
        // Unwrap safety: the enrolled key is always there.
        #[expect(clippy::unwrap_used)]
        *self.keys.last().unwrap()
    }

    /// Whether the recovery key replaced this one: whoever holds it may have stolen it.
    #[must_use]
    pub fn was_recovered_from(&self, key: PublicKey) -> bool {
        let steps = self.keys.iter().zip(&self.by);
        steps
            .filter(|(replaced, _)| **replaced == key)
            .any(|(_, by)| *by == ChangedBy::Recovery)
    }

    /// Whether whom this key admitted is admitted now: it is the present key. A change of the key
    /// ends every admission; who makes it signs anew, with the next key, for those who stay.
    #[must_use]
    pub fn may_admit(&self, key: PublicKey) -> bool {
        !self.is_frozen && self.keys.last() == Some(&key)
    }

    /// Where a change by the recovery key has to stand that makes `new_key` the present one for
    /// whoever holds `own_key`: in the place of whatever an old key said since, and after what the
    /// recovery key said. A change to `new_key` that is there already is that change. Somebody
    /// whose key is none of these starts from the enrolled one.
    ///
    /// # Returns
    /// The key to replace, and the number.
    #[must_use]
    pub fn to_recover(&self, own_key: PublicKey, new_key: PublicKey) -> (PublicKey, u64) {
        let made = self.keys.iter().skip(1).position(|key| *key == new_key);
        let own = self.keys.iter().position(|key| *key == own_key);
        let since = own.unwrap_or_default();
        let mut said = (since..self.by.len()).filter(|step| self.by[*step] == ChangedBy::Old);
        let place = made.or_else(|| said.next()).unwrap_or(self.by.len());
        (self.keys[place], place as u64)
    }

    /// How many changes there were: the number of the next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.keys.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::felt::Felt;
    use crate::signature::SecretKey;
    use proptest::prelude::*;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_scalar(&[number; 32].map(|byte| byte % 8)).expect("a scalar")
    }

    fn public(number: u64) -> PublicKey {
        PublicKey::from_felt(Felt::from(number))
    }

    fn change(old: u64, new: u64, seq: u64) -> KeyChange {
        KeyChange {
            old_key: public(old),
            new_key: public(new),
            seq,
        }
    }

    #[test]
    fn a_signature_says_who_changed_the_key() {
        let (old, recovery, context) = (key(1), key(2), ContextId([9; 32]));
        let change = KeyChange {
            old_key: old.public_key(),
            new_key: key(3).public_key(),
            seq: 0,
        };
        let seq = RotationNumber(0);
        let message = rotate_message(context, change.old_key, change.new_key, seq);
        let by = |key: &SecretKey| {
            let signature = key.sign(message).expect("signable");
            change.signed_by(context, recovery.public_key(), &signature)
        };
        assert_eq!(by(&old), Some(ChangedBy::Old));
        assert_eq!(by(&recovery), Some(ChangedBy::Recovery));
        assert_eq!(by(&key(3)), None);
        let signature = old.sign(message).expect("signable");
        let elsewhere = ContextId([8; 32]);
        assert_eq!(
            change.signed_by(elsewhere, recovery.public_key(), &signature),
            None
        );
    }

    #[test]
    fn recovery_overrules_a_thief_and_contradictions_freeze() {
        use ChangedBy::{Old, Recovery};
        let of = |changes: &[(KeyChange, ChangedBy)]| KeyHistory::of(public(1), changes);
        assert_eq!(of(&[]).current(), public(1));
        let plain = of(&[(change(1, 2, 0), Old), (change(2, 3, 1), Old)]);
        assert_eq!((plain.current(), plain.next_seq()), (public(3), 2));
        // The thief changed the key, and changed it on; the recovery key has another word.
        let thief = [(change(1, 6, 0), Old), (change(6, 7, 1), Old)];
        let overruled = of(&[thief[0], thief[1], (change(1, 2, 0), Recovery)]);
        assert_eq!(overruled.keys, [public(1), public(2)]);
        assert!(!overruled.is_frozen);
        // What was changed by hand is overruled too; what recovery said is gone on from.
        let recover = |history: &KeyHistory, own, new| history.to_recover(public(own), public(new));
        assert_eq!(recover(&plain, 1, 9), (public(1), 0));
        assert_eq!(recover(&plain, 2, 9), (public(2), 1));
        assert_eq!(recover(&plain, 3, 9), (public(3), 2));
        assert_eq!(recover(&plain, 8, 9), (public(1), 0));
        assert_eq!(recover(&overruled, 1, 9), (public(2), 1));
        assert_eq!(recover(&overruled, 1, 2), (public(1), 0));
        let torn = of(&[(change(1, 2, 0), Old), (change(1, 3, 0), Old)]);
        assert!(torn.is_frozen);
        assert_eq!(recover(&torn, 2, 9), (public(1), 0));
        let torn = of(&[(change(1, 2, 0), Recovery), (change(1, 3, 0), Recovery)]);
        assert!(torn.is_frozen);
        // The present key alone admits, whoever changed it.
        let may = |history: &KeyHistory| [1, 2, 3].map(|key| history.may_admit(public(key)));
        assert_eq!(may(&plain), [false, false, true]);
        let recovered = of(&[(change(1, 2, 0), Recovery), (change(2, 3, 1), Old)]);
        assert_eq!(may(&recovered), [false, false, true]);
        assert_eq!(may(&torn), [false; 3]);
        // Said twice is said once; a gap, a wrong predecessor and a key that was there are nothing.
        assert!(!of(&[(change(1, 2, 0), Old), (change(1, 2, 0), Old)]).is_frozen);
        for nothing in [change(1, 2, 1), change(5, 2, 0), change(1, 1, 0)] {
            assert_eq!(of(&[(nothing, Old)]).current(), public(1));
        }
    }

    proptest! {
        #[test]
        fn the_order_in_which_changes_are_known_does_not_matter(
            changes in prop::collection::vec((1u64..6, 1u64..6, 0u64..4, any::<bool>()), 0..12),
            turn in 0usize..12,
        ) {
            let by = |recovery| if recovery { ChangedBy::Recovery } else { ChangedBy::Old };
            let mut changes: Vec<_> = changes
                .into_iter()
                .map(|(old, new, seq, recovery)| (change(old, new, seq), by(recovery)))
                .collect();
            let history = KeyHistory::of(public(1), &changes);
            let len = changes.len();
            if len > 0 {
                changes.rotate_left(turn % len);
            }
            changes.reverse();
            prop_assert_eq!(&KeyHistory::of(public(1), &changes), &history);
            // No key is there twice.
            let distinct: BTreeSet<_> = history.keys.iter().collect();
            prop_assert_eq!(distinct.len(), history.keys.len());
        }
    }
}
