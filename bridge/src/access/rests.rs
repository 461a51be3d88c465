//! Contexts whose node answers slowly rest meanwhile: what one member's circle costs, no other's
//! waits for.
//!
//! Whether a context rests is asked when something is begun in it; what was begun goes on to its
//! end, so that a circle that is large, and slow each time, is answered all the same.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use medsync_protocol::ids::{ContextId, UnixSeconds};

use crate::pipeline::PipelineError;
use crate::seams::Clock;

/// How long one step in a context may take; it is then given up, and done again later.
const STEP_MAX: Duration = Duration::from_secs(300);
/// From how long on a step is slow, in seconds.
const SLOW_S: u64 = 2;
/// How many times as long as a slow step took its context rests.
const REST_TIMES: u64 = 4;
/// How long any rests at most, in seconds.
const REST_S_MAX: u64 = REST_TIMES * STEP_MAX.as_secs();

/// Until when contexts rest. It is forgotten with the process.
#[derive(Debug)]
pub struct Rests {
    until: Mutex<HashMap<ContextId, UnixSeconds>>,
    step_max: Duration,
}

impl Default for Rests {
    fn default() -> Self {
        Self::with(STEP_MAX)
    }
}

impl Rests {
    fn with(step_max: Duration) -> Self {
        let until = Mutex::default();
        Self { until, step_max }
    }

    /// Whether something may be begun in a context.
    ///
    /// # Errors
    /// A context that rests.
    pub(super) fn check(&self, context: ContextId, now: UnixSeconds) -> Result<(), PipelineError> {
        if self.rests(context, now) {
            let why = format!("context {context} answers slowly and rests for a while");
            return Err(PipelineError::Broken(why));
        }
        Ok(())
    }

    /// Does one step in a context, and has it rest afterwards if that was slow.
    ///
    /// # Errors
    /// Those of the step; one that took too long.
    pub(super) async fn step<T>(
        &self,
        clock: &dyn Clock,
        context: ContextId,
        step: impl Future<Output = Result<T, PipelineError>>,
    ) -> Result<T, PipelineError> {
        let began = clock.now();
        let done = tokio::time::timeout(self.step_max, step).await;
        let now = clock.now();
        let took_s = match done {
            Ok(_) => now.0.saturating_sub(began.0),
            Err(_) => self.step_max.as_secs().max(SLOW_S),
        };
        if took_s >= SLOW_S {
            let rest_s = took_s.saturating_mul(REST_TIMES).min(REST_S_MAX);
            let until = UnixSeconds(now.0.saturating_add(rest_s));
            let mut rests = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            rests.retain(|_, until| *until > now);
            let known = rests.entry(context).or_insert(until);
            *known = until.max(*known);
            tracing::warn!(%context, took_s, rest_s, "a context answers slowly; it rests");
        }
        done.unwrap_or_else(|_| {
            let why = format!(
                "context {context} took longer than {} s",
                self.step_max.as_secs()
            );
            Err(PipelineError::Broken(why))
        })
    }

    /// A rest that is longer than any began before a clock was set back.
    fn rests(&self, context: ContextId, now: UnixSeconds) -> bool {
        let rests = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let left_s = rests
            .get(&context)
            .map_or(0, |until| until.0.saturating_sub(now.0));
        (1..=REST_S_MAX).contains(&left_s)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Now(AtomicU64);

    impl Clock for Now {
        fn now(&self) -> UnixSeconds {
            UnixSeconds(self.0.load(Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn hostile_circle_that_is_slow_rests_and_no_other_waits_for_it() {
        let [slow, other] = [1, 2].map(|number| ContextId([number; 32]));
        let (rests, now) = (Rests::default(), Now(AtomicU64::new(1_000)));
        let takes = async |context, seconds: u64| {
            let step = async {
                now.0.fetch_add(seconds, Ordering::SeqCst);
                Ok(())
            };
            rests.step(&now, context, step).await.expect("done");
        };
        let may_begin = |context| rests.check(context, now.now()).is_ok();
        takes(slow, SLOW_S - 1).await;
        assert!(may_begin(slow));
        takes(slow, SLOW_S).await;
        assert!(!may_begin(slow), "it rests");
        assert!(may_begin(other));
        takes(slow, 0).await;
        now.0.fetch_add(SLOW_S * REST_TIMES, Ordering::SeqCst);
        assert!(may_begin(slow), "what was begun went on");
        takes(slow, 1_000_000).await;
        assert!(!may_begin(slow));
        now.0.fetch_sub(500_000, Ordering::SeqCst);
        assert!(may_begin(slow), "a clock that was set back");
    }

    #[tokio::test]
    async fn hostile_circle_that_never_answers_is_given_up() {
        let rests = Rests::with(Duration::from_millis(1));
        let now = Now(AtomicU64::new(1_000));
        let never = std::future::pending::<Result<(), PipelineError>>();
        let context = ContextId([1; 32]);
        assert!(rests.step(&now, context, never).await.is_err());
        let next = rests.check(context, now.now());
        assert!(next.is_err_and(|error| error.to_string().contains("rests")));
    }
}
