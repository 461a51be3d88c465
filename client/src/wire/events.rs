//! What changed, as it changes.

use medsync_protocol::ids::ContextId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One change. It says where to look, and nothing of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// What there is.
    pub what: What,
    /// Of which circle or exchange, if of one.
    #[schema(value_type = Option<String>)]
    pub context: Option<ContextId>,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// From now on changes are told; what was read before may be old.
    Listening,
    /// Something is new in a circle, or it was entered or left.
    Changed,
    /// A circle was stopped by an alarm, or goes on.
    Alarm,
    /// Changes came too fast for this listener: read anew what is shown.
    Missed,
}
