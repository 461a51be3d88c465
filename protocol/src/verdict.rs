//! Whether a consent was valid at a time: the first rule that applies, on chain and off.

use serde::{Deserialize, Serialize};

use crate::consent::Opening;
use crate::ids::UnixSeconds;

/// What can be said of a consent at a time. Valid is not yet Permit: a verifier then runs
/// [`decide`](crate::decide::decide) on the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The signature is not the patient's over this consent.
    BadSignature,
    /// The anchorer had not anchored the root by then.
    UnknownAnchor,
    /// The consent is not in the anchored batch.
    NotIncluded,
    /// The consent was revoked by then.
    Revoked,
    /// Its validity had not begun.
    NotYetValid,
    /// Its validity was over.
    Expired,
    /// It was valid.
    Valid,
}

/// What was found out about a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The signature is the patient's over the grant message.
    pub is_signed: bool,
    /// The leaf's proof leads to the root.
    pub is_included: bool,
    /// When the anchorer anchored the root, if it did.
    pub anchored_at: Option<UnixSeconds>,
    /// When the handle was opened, if it was.
    pub revoked_at: Option<UnixSeconds>,
}

/// The verdict on a consent at `at`.
#[must_use]
pub fn verdict(facts: &Facts, opening: &Opening, at: UnixSeconds) -> Verdict {
    if !facts.is_signed {
        Verdict::BadSignature
    } else if facts.anchored_at.is_none_or(|anchored| at < anchored) {
        Verdict::UnknownAnchor
    } else if !facts.is_included {
        Verdict::NotIncluded
    } else if facts.revoked_at.is_some_and(|revoked| revoked <= at) {
        Verdict::Revoked
    } else if opening.is_early(at) {
        Verdict::NotYetValid
    } else if opening.is_over(at) {
        Verdict::Expired
    } else {
        Verdict::Valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::tests::grant;
    use crate::felt::Felt;
    use crate::ids::{Anchorer, Sha256Digest};

    #[test]
    fn every_verdict_at_its_boundaries() {
        let mut opening = grant(Sha256Digest([1; 32]), Anchorer::from_felt(Felt::ONE)).opening;
        let good = Facts {
            is_signed: true,
            is_included: true,
            anchored_at: Some(UnixSeconds(900)),
            revoked_at: None,
        };
        let at = |facts: Facts, opening: &Opening, at| verdict(&facts, opening, UnixSeconds(at));
        assert_eq!(at(good, &opening, 899), Verdict::UnknownAnchor);
        assert_eq!(at(good, &opening, 900), Verdict::NotYetValid);
        assert_eq!(at(good, &opening, 999), Verdict::NotYetValid);
        assert_eq!(at(good, &opening, 1_000), Verdict::Valid);
        assert_eq!(at(good, &opening, 1_999), Verdict::Valid);
        assert_eq!(at(good, &opening, 2_000), Verdict::Expired);
        let revoked = Facts {
            revoked_at: Some(UnixSeconds(1_500)),
            ..good
        };
        assert_eq!(at(revoked, &opening, 1_499), Verdict::Valid);
        assert_eq!(at(revoked, &opening, 1_500), Verdict::Revoked);
        assert_eq!(at(revoked, &opening, 3_000), Verdict::Revoked);
        let absent = Facts {
            is_included: false,
            ..revoked
        };
        assert_eq!(at(absent, &opening, 1_500), Verdict::NotIncluded);
        let unknown = Facts {
            anchored_at: None,
            ..absent
        };
        assert_eq!(at(unknown, &opening, 1_500), Verdict::UnknownAnchor);
        let unsigned = Facts {
            is_signed: false,
            ..unknown
        };
        assert_eq!(at(unsigned, &opening, 1_500), Verdict::BadSignature);
        opening.not_after = UnixSeconds(0);
        assert_eq!(at(good, &opening, u64::MAX), Verdict::Valid);
    }
}
