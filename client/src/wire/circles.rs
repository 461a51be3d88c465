//! Circles and exchanges.

use medsync_protocol::device::DeviceRole;
use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::PublicKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One circle or exchange in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CircleStatus {
    /// Its context: `0x` and 64 digits.
    pub context: String,
    /// `circle` or `exchange`; nothing if its row does not open.
    pub kind: Option<String>,
    /// What its people call it.
    pub label: Option<String>,
    /// What a person has to look at, if anything.
    pub alarm: Option<String>,
}

/// Circles and exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CirclePage {
    /// In the order of their contexts.
    pub circles: Vec<CircleStatus>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// A circle or exchange at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Circle {
    /// Its context.
    #[schema(value_type = String)]
    pub context: ContextId,
    /// `circle` or `exchange`.
    pub kind: String,
    /// What its custodian calls it.
    pub label: String,
    /// Why it is not entered, if it is not; what follows then is what was kept here.
    pub stopped: Option<String>,
    /// Whether enrolments or key changes contradict each other: no consent counts.
    pub frozen: bool,
    /// The present key of whoever enrolled.
    #[schema(value_type = Option<String>)]
    pub party_key: Option<PublicKey>,
    /// The custodian's member key.
    #[schema(value_type = String)]
    pub custodian_member: MemberId,
    /// That of whoever enrolled, if that was seen.
    #[schema(value_type = Option<String>)]
    pub party_member: Option<MemberId>,
    /// Whom the patient admitted besides, once each.
    pub members: Vec<Member>,
    /// When this home was restored from a backup, each time.
    #[schema(value_type = Vec<u64>)]
    pub restored_at: Vec<UnixSeconds>,
    /// What was found of others' doings, in words for a person.
    pub evidence: Option<String>,
    /// Every time that the glass was broken.
    pub broken_glass: Vec<BrokenGlass>,
}

/// A member whom the patient admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its member key.
    #[schema(value_type = String)]
    pub member: MemberId,
    /// The number that the patient signed.
    #[schema(value_type = u32)]
    pub device: DeviceNumber,
    /// What that makes of it: `own`, `relative` or `guardian`.
    #[schema(value_type = String)]
    pub role: DeviceRole,
    /// The patient's key that admitted it.
    #[schema(value_type = String)]
    pub admitted_by: PublicKey,
}

/// One access that the custodian let through as an emergency, as the patient allowed it to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokenGlass {
    /// When, by the custodian's clock.
    #[schema(value_type = u64)]
    pub at: UnixSeconds,
    /// Who asked; nothing if the request never came here.
    #[schema(value_type = Option<String>)]
    pub recipient: Option<PublicKey>,
    /// Why, in the recipient's own words.
    pub reason: Option<String>,
}
