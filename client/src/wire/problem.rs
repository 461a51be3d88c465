//! What went wrong, as RFC 9457 has it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An answer that is no success: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of problem; of these the status says all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, for a person.
    pub detail: String,
}
