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

/// How many circles are asked in each round at least, whatever the list says. A party with no more
/// asks no list.
const ASKED_IN_TURN: usize = 8;
/// Within how many rounds every circle is asked, however many there are.
const ROUNDS_OF_A_TURN: usize = 120;

/// What a round knows before it asks any circle.
#[derive(Default)]
pub(super) struct Quiet {
    states: HashMap<ContextId, StateHash>,
    turn: Turn,
}

/// Which circles a round asks, whatever the list says.
#[derive(Default)]
struct Turn {
    begin: usize,
    asked: usize,
    /// How many circles there are.
    len: usize,
}

impl Turn {
    fn of(round: usize, len: usize) -> Self {
        let asked = ASKED_IN_TURN.max(len.div_ceil(ROUNDS_OF_A_TURN));
        let begin = round.wrapping_mul(asked) % len;
        Self { begin, asked, len }
    }

    fn has(&self, place: usize) -> bool {
        (place + self.len).saturating_sub(self.begin) % self.len.max(1) < self.asked
    }
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
        Self {
            states,
            turn: Turn::of(round, rows.len()),
        }
    }

    /// Whether the circle at this place is left alone.
    pub(super) fn is_left(
        &self,
        (place, row): (usize, &CircleRow),
        reading: &Reading,
        now: UnixSeconds,
    ) -> bool {
        let is_read = row.state_hash.is_some() && reading.is_at_rest(now);
        let is_sound = row.alarm.is_none() && row.suspected_at.is_none();
        !self.turn.has(place)
            && is_read
            && is_sound
            && self.states.get(&row.context) == row.state_hash.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_circle_is_asked_within_the_rounds_of_a_turn() {
        for len in [9, 100, 1_000, 10_000] {
            let rounds = (0..ROUNDS_OF_A_TURN).map(|round| Turn::of(round, len));
            let asked: BTreeSet<usize> = rounds
                .flat_map(|turn| (0..len).filter(move |place| turn.has(*place)))
                .collect();
            assert_eq!(asked.len(), len);
        }
        assert_eq!(Turn::of(0, 500).asked, ASKED_IN_TURN);
    }
}
