//! Whether a consent that is valid permits one use: valid is not yet permitted.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Report;
use crate::codes::{Code, CodeSet, SetError};
use crate::decide::{Attributes, Candidate, Concept, Decision, Request, RequestError, decide};
use crate::ids::UnixSeconds;
use crate::receipt::Receipt;
use crate::verdict::Verdict;

/// What a verifier asks of a consent that is valid: Valid is not yet Permit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// For what the data would be used; at least one.
    pub purposes: Vec<Code>,
    /// The classes of the resource; at least one.
    pub classes: Vec<Code>,
    /// The obligations that will be kept.
    #[serde(default)]
    pub understood: Vec<Code>,
    /// The resource's security labels, as far as they are known.
    #[serde(default)]
    pub labels: Vec<Code>,
    /// The date of the data itself, if it is known.
    #[serde(default)]
    pub data_date: Option<UnixSeconds>,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum QuestionError {
    /// It is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The obligations are no set.
    #[error(transparent)]
    Understood(#[from] SetError),
}

impl Question {
    /// What the consent's terms say to it; nothing if the verdict is another than Valid.
    ///
    /// # Errors
    /// A question that is none.
    pub fn ask(
        &self,
        receipt: &Receipt,
        report: &Report,
    ) -> Result<Option<Decision>, QuestionError> {
        if report.verdict != Verdict::Valid {
            return Ok(None);
        }
        let concept = |code: &Code| Concept(Vec::from([code.clone()]));
        let request = Request {
            recipient: receipt.opening.grantee,
            purposes: self.purposes.iter().map(concept).collect(),
            understood: CodeSet::collect(self.understood.iter().cloned())?,
            at: report.at,
        };
        let resource = Attributes {
            classes: self.classes.iter().map(concept).collect(),
            labels: self.labels.iter().map(concept).collect(),
            data_date: self.data_date,
            ..Attributes::default()
        };
        let candidate = Candidate {
            commitment: report.commitment,
            terms: receipt.terms.clone(),
            opening: receipt.opening,
            revoked_at: report.revoked_at,
            // Whether the key was changed since, a receipt cannot say.
            is_current: true,
        };
        Ok(Some(decide(&request, &resource, &[candidate])?))
    }
}
