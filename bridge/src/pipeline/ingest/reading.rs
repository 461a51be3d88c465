//! Where the reading of each circle is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use medsync_protocol::ids::{ContextId, UnixSeconds};
use tokio::sync::Mutex;

use crate::source::{Change, ChangeWalk, StateHash};

/// After how long a circle is walked though its hash is the same, in seconds.
const WALK_ANYWAY_S: u64 = 60 * 60;
/// How long any circle rests at most, in seconds: clocks jump.
pub(super) const REST_S_MAX: u64 = 4 * 60;

/// Where the reading of each circle is. A start without it reads every circle once.
#[derive(Clone, Default)]
pub struct Readings {
    pub(super) open: Arc<Mutex<HashMap<ContextId, Reading>>>,
    /// Those that were read to their end.
    pub(super) read: Arc<std::sync::Mutex<HashSet<ContextId>>>,
    pub(super) rounds: Arc<AtomicUsize>,
}

impl Readings {
    /// Whether a circle was read to its end since this process started, with every ticket in it.
    pub(in crate::pipeline) fn was_read(&self, context: ContextId) -> bool {
        self.read.lock().is_ok_and(|read| read.contains(&context))
    }
}

/// Where the reading of one circle is.
#[derive(Default)]
pub struct Reading {
    pub(super) walk: Option<Walk>,
    pub(super) walked_at: Option<UnixSeconds>,
    /// The state that was read through for what proves itself alone, while the circle was stopped.
    /// It is forgotten with the process, and no other lane takes it for a circle that was read.
    pub(super) read_while_stopped: Option<StateHash>,
    pub(super) failures: u32,
    pub(super) rests_until: UnixSeconds,
}

impl Reading {
    /// Whether it was read not long ago and is not being read, and did not fail. A walk in times to
    /// come was made by a clock that was wrong, who knows when.
    pub(super) fn is_at_rest(&self, now: UnixSeconds) -> bool {
        self.walk.is_none() && self.failures == 0 && self.was_walked_lately(now)
    }

    pub(super) fn was_walked_lately(&self, now: UnixSeconds) -> bool {
        self.walked_at
            .is_some_and(|at| now.0.abs_diff(at.0) < WALK_ANYWAY_S)
    }

    /// Whether the circle rests; a rest that is longer than any began before a clock was set back.
    pub(super) fn rests_at(&self, now: UnixSeconds) -> bool {
        let left_s = self.rests_until.0.saturating_sub(now.0);
        left_s > 0 && left_s <= REST_S_MAX
    }
}

/// A walk that is under way.
pub(super) struct Walk {
    /// The circle's state when it began.
    pub(super) state: StateHash,
    /// It is the first of this process, or the last one is long ago.
    pub(super) is_thorough: bool,
    pub(super) changes: ChangeWalk,
    /// What was looked at and left unsettled; the next walk looks again.
    pub(super) unsettled: HashSet<Change>,
    /// How often an entry could not be read for now.
    pub(super) retries: u32,
    /// A key change was looked at, and nothing since.
    pub(super) keys_changed: bool,
}
