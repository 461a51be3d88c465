//! Other members whom the patient admits to its circle: a second device, a relative, a guardian.
//!
//! The patient's key signs the member's key and a device number. The number says what the member
//! is for, so that nobody can make more of an admission than was signed, and it keeps the secrets
//! of each device's consents apart.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::ids::{ContextId, MemberId};
use crate::messages::device_message;
use crate::secrets::DeviceNumber;
use crate::signature::{PublicKey, Signature};

/// The most members whom a patient admits to one circle.
pub const DEVICES_MAX: usize = 16;
/// The bits of a device number that count; those above say the role.
const COUNT_BITS: u32 = 24;

/// What an admitted member is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRole {
    /// A device of the patient, with the patient's keys.
    Own,
    /// Somebody who reads the circle and decides nothing.
    Relative,
    /// Somebody who decides for the patient, with the patient's keys.
    Guardian,
}

impl DeviceRole {
    /// The name in the interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Relative => "relative",
            Self::Guardian => "guardian",
        }
    }

    /// The first number of this role that none of these has, who may be gone: two devices of one
    /// number would share the secrets of their consents. Nothing if the role has no more.
    #[must_use]
    pub fn next_number(self, taken: &[DeviceNumber]) -> Option<DeviceNumber> {
        let base = match self {
            Self::Own => 0,
            Self::Relative => 1 << COUNT_BITS,
            Self::Guardian => 2 << COUNT_BITS,
        };
        // 0 is the device that enrolled.
        (1u32..1 << COUNT_BITS)
            .map(|count| DeviceNumber(base + count))
            .find(|number| !taken.contains(number))
    }
}

impl DeviceNumber {
    /// The device that enrolled.
    pub const FIRST: Self = Self(0);

    /// What the device is for. A number of no known role may do least.
    #[must_use]
    pub const fn role(self) -> DeviceRole {
        match self.0 >> COUNT_BITS {
            0 => DeviceRole::Own,
            2 => DeviceRole::Guardian,
            _ => DeviceRole::Relative,
        }
    }
}

/// The patient admits a member.
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
pub struct Admission {
    /// Who is admitted.
    pub member: MemberId,
    /// Its number, which says what it is for.
    pub device: DeviceNumber,
    /// The patient's key that signed this.
    pub admitted_by: PublicKey,
}

impl Admission {
    /// Whether the key that it names signed it for this context; whose key that is, and whether
    /// it counts, is for [`KeyHistory`](crate::keychange::KeyHistory) to say. Nobody is admitted
    /// under the number of the device that enrolled, whoever signed that.
    #[must_use]
    pub fn is_signed(&self, context: ContextId, signature: &Signature) -> bool {
        let message = device_message(context, self.member, self.device);
        self.device != DeviceNumber::FIRST && self.admitted_by.verifies(message, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SecretKey;
    use proptest::prelude::*;

    #[test]
    fn a_number_says_its_role_and_none_is_given_twice() {
        for role in [DeviceRole::Own, DeviceRole::Relative, DeviceRole::Guardian] {
            let mut taken = alloc::vec![DeviceNumber::FIRST];
            // Those who are gone use up nobody's place.
            for _ in 0..3 * DEVICES_MAX {
                let next = role.next_number(&taken).expect("there are more");
                assert_eq!(next.role(), role);
                assert!(!taken.contains(&next));
                taken.push(next);
            }
        }
        assert_eq!(DeviceNumber(3 << COUNT_BITS).role(), DeviceRole::Relative);
        assert_eq!(DeviceNumber(u32::MAX).role(), DeviceRole::Relative);
    }

    #[test]
    fn hostile_admission_as_the_device_that_enrolled_is_none() {
        let key = SecretKey::from_scalar(&[3; 32]).expect("a scalar");
        let context = ContextId([1; 32]);
        for (device, is_one) in [(DeviceNumber::FIRST, false), (DeviceNumber(1), true)] {
            let admission = Admission {
                member: MemberId([2; 32]),
                device,
                admitted_by: key.public_key(),
            };
            let message = device_message(context, admission.member, device);
            let signature = key.sign(message).expect("signable");
            assert_eq!(admission.is_signed(context, &signature), is_one);
        }
    }

    proptest! {
        #[test]
        fn an_admission_counts_for_its_member_number_and_context_alone(
            member in any::<[u8; 32]>(), device in 1..u32::MAX, other in 1..u32::MAX,
        ) {
            let key = SecretKey::from_scalar(&[3; 32]).expect("a scalar");
            let context = ContextId([1; 32]);
            let admission = Admission {
                member: MemberId(member),
                device: DeviceNumber(device),
                admitted_by: key.public_key(),
            };
            let message = device_message(context, admission.member, admission.device);
            let Ok(signature) = key.sign(message) else { return Ok(()); };
            prop_assert!(admission.is_signed(context, &signature));
            prop_assert!(!admission.is_signed(ContextId([2; 32]), &signature));
            let renumbered = Admission { device: DeviceNumber(other), ..admission };
            prop_assert_eq!(renumbered.is_signed(context, &signature), device == other);
            let mut stranger = member;
            stranger[0] ^= 1;
            let stranger = Admission { member: MemberId(stranger), ..admission };
            prop_assert!(!stranger.is_signed(context, &signature));
        }
    }
}
