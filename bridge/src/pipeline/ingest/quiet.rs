//! Which circles a round leaves alone: of many, those of which the node's list shows nothing new.
//!
//! The list says whether a circle's entries changed, and nothing of its code and members, which the
//! guard compares. So each circle is asked in turn, whatever the list says, and before each call.

use std::collections::HashMap;

use medsync_protocol::ids::{ContextId, UnixSeconds};

use super::reading::Reading;
use crate::pipeline::Pipeline;
use crate::source::StateHash;
use crate::store::circles::CircleRow;

/// How many circles are asked in each round, whatever the list says. A party with no more asks no
/// list.
const ASKED_IN_TURN: usize = 8;

/// What a round knows before it asks any circle.
#[derive(Default)]
pub(super) struct Quiet {
    states: HashMap<ContextId, StateHash>,
    /// Where the turn begins, and how many circles there are.
    turn: (usize, usize),
}

impl Quiet {
    /// Asks the node for its list. Without one every circle is asked.
    pub(super) async fn look(pipeline: &Pipeline, rows: &[CircleRow], round: usize) -> Self {
        if rows.len() <= ASKED_IN_TURN {
            return Self::default();
        }
        let states = pipeline.circles.states().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the node lists no circles; each is asked");
            HashMap::new()
        });
        let begin = round.wrapping_mul(ASKED_IN_TURN) % rows.len();
        Self {
            states,
            turn: (begin, rows.len()),
        }
    }

    /// Whether the circle at this place is left alone.
    pub(super) fn is_left(
        &self,
        (place, row): (usize, &CircleRow),
        reading: &Reading,
        now: UnixSeconds,
    ) -> bool {
        let (begin, len) = self.turn;
        let is_asked = (place + len).saturating_sub(begin) % len.max(1) < ASKED_IN_TURN;
        let is_read = row.state_hash.is_some() && reading.is_at_rest(now);
        let is_sound = row.alarm.is_none() && row.suspected_at.is_none();
        !is_asked && is_read && is_sound && self.states.get(&row.context) == row.state_hash.as_ref()
    }
}
