//! What is decided now on a request, and what log entries have room for of it. What becomes of each
//! record is [`judge`]'s answer, the same as a preview's.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{
    CONSENTS_LEN_MAX, DenialReason, RECORDS_LEN_MAX, RecordRef, Requested,
};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::decide::Outcome;

use super::Desk;
use crate::pipeline::PipelineError;
use crate::preview::{Question, judge};
use crate::source::Circle;

/// What may be released.
pub(super) struct Decided {
    /// The records, by name, and the consents that each rests on.
    pub records: BTreeMap<RecordRef, Vec<Commitment>>,
    /// What the recipient must keep.
    pub obligations: CodeSet,
    /// Where nothing may be released: why, and what the denials rest on.
    pub denial: (DenialReason, BTreeSet<Commitment>),
}

/// What one log entry has room for: records, and the consents they rest on.
pub(super) type Share = (Vec<RecordRef>, BTreeSet<Commitment>);

impl Decided {
    /// What all the permits rest on.
    pub(super) fn all_consents(&self) -> BTreeSet<Commitment> {
        self.records.values().flatten().copied().collect()
    }

    /// These records in as many entries as they need.
    pub(super) fn shares(&self, records: impl IntoIterator<Item = RecordRef>) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for record in records {
            let consents = self.records.get(&record).into_iter().flatten();
            let rests_on: BTreeSet<Commitment> = consents.copied().collect();
            match shares.last_mut() {
                Some((some, based_on))
                    if some.len() < RECORDS_LEN_MAX
                        && based_on.union(&rests_on).count() <= CONSENTS_LEN_MAX =>
                {
                    some.push(record);
                    based_on.extend(rests_on);
                }
                _ => shares.push((vec![record], rests_on)),
            }
        }
        shares
    }
}

impl Desk {
    /// Decides every record that a request asks for, at this moment.
    ///
    /// # Errors
    /// A store, node or chain that does not answer: nothing is then permitted.
    pub(super) async fn decide(
        &self,
        circle: &dyn Circle,
        requested: &Requested,
    ) -> Result<Decided, PipelineError> {
        let mut decided = Decided {
            records: BTreeMap::new(),
            obligations: CodeSet::default(),
            denial: (DenialReason::NoConsent, BTreeSet::new()),
        };
        let mut obligations: BTreeSet<Code> = BTreeSet::new();
        let question = Question::from(requested);
        let judged = async { judge(&self.pipeline, circle, &question).await };
        for line in self.step(circle.context(), judged).await? {
            let what = line.what();
            // A record that cannot be asked about is not released.
            let Some(decision) = line.decision.filter(|_| line.withheld.is_none()) else {
                continue;
            };
            match decision.outcome {
                Outcome::Permit => {
                    obligations.extend(decision.obligations);
                    let mut based_on = decision.based_on;
                    based_on.sort_unstable();
                    // Each of them covers the record alone.
                    based_on.truncate(CONSENTS_LEN_MAX);
                    decided.records.insert(what, based_on);
                }
                Outcome::Deny => {
                    decided.denial.0 = DenialReason::Denied;
                    decided.denial.1.extend(decision.based_on);
                }
                Outcome::NoConsent => {}
            }
        }
        decided.obligations = CodeSet::collect(obligations)
            .map_err(|error| PipelineError::Broken(format!("obligations: {error}")))?;
        Ok(decided)
    }
}
