//! How long a node does not answer about a circle.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use medsync_protocol::ids::ContextId;
use tokio::time::Instant;

use super::SourceResult;
use super::error::SourceError;

/// The questions about each circle that ran out of time, with no answer in between.
///
/// A node may live, answer others, and be stuck in one circle.
#[derive(Debug, Default)]
pub struct Silence(Mutex<HashMap<(ContextId, Question), Unanswered>>);

/// What is asked about a circle; one may be answered and the other not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// A call of its app.
    Call,
    /// In which state it is.
    State,
}

#[derive(Clone, Copy, Debug)]
struct Unanswered {
    first: Instant,
    last: Instant,
}

impl Silence {
    /// Notes what came of a question; any answer will do.
    pub(super) fn note<T>(
        &self,
        context: ContextId,
        question: Question,
        came: SourceResult<T>,
    ) -> SourceResult<T> {
        self.note_at(Instant::now(), (context, question), came)
    }

    fn note_at<T>(
        &self,
        now: Instant,
        asked: (ContextId, Question),
        came: SourceResult<T>,
    ) -> SourceResult<T> {
        let mut unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &came {
            Err(SourceError::TimedOut { .. }) => {
                let first = Unanswered {
                    first: now,
                    last: now,
                };
                unanswered.entry(asked).or_insert(first).last = now;
            }
            // Then nobody is there, which is another matter.
            Err(SourceError::Unreachable { .. }) => {}
            _ => drop(unanswered.remove(&asked)),
        }
        came
    }

    /// For how long the circle that waits longest has asked since `began` and heard nothing.
    #[must_use]
    pub fn longest(&self, began: Instant) -> Duration {
        let unanswered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = unanswered
            .values()
            .map(|one| one.last.saturating_duration_since(one.first.max(began)));
        waits.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUCK: ContextId = ContextId([1; 32]);
    const WELL: ContextId = ContextId([2; 32]);
    const WAIT: Duration = Duration::from_secs(60);

    fn timed_out() -> SourceResult<()> {
        Err(SourceError::TimedOut {
            call: "POST /jsonrpc".into(),
            after: WAIT,
        })
    }

    fn refused() -> SourceResult<()> {
        Err(SourceError::UnknownContext(STUCK))
    }

    #[test]
    fn a_circle_is_silent_from_its_first_question_to_its_last() {
        let (silence, began) = (Silence::default(), Instant::now());
        let (call, state) = ((STUCK, Question::Call), (STUCK, Question::State));
        for asked in 0..4_u32 {
            let now = began + WAIT * asked;
            assert!(silence.note_at(now, call, timed_out()).is_err());
            assert!(silence.note_at(now, state, Ok(())).is_ok());
            assert!(silence.note_at(now, (WELL, Question::Call), Ok(())).is_ok());
            // From the last question on nobody has asked.
            assert_eq!(silence.longest(began), WAIT * asked);
        }
        // The process that was asked at first is not this one.
        assert_eq!(silence.longest(began + WAIT * 2), WAIT);
        assert_eq!(silence.longest(began + WAIT * 9), Duration::ZERO);
        // A refusal is an answer.
        assert!(silence.note_at(began + WAIT * 4, call, refused()).is_err());
        assert_eq!(silence.longest(began), Duration::ZERO);
    }
}
