//! What did not take its place in a batch, and is left out of the batches to come for a while.

use std::collections::BTreeSet;

use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::PublicKey;

use super::db::{Open, query, query_as};
use super::{StoreError, read, signed, unsigned};

/// What of a batch that is taken apart is not sealed again at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Circles that did not take their positions.
    pub circles: BTreeSet<ContextId>,
    /// Consents that their circle did not have any more.
    pub consents: BTreeSet<Commitment>,
    /// Logs, by their author, whose head their circle did not have any more.
    pub logs: BTreeSet<(ContextId, PublicKey)>,
}

impl LeftOut {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.circles.is_empty() && self.consents.is_empty() && self.logs.is_empty()
    }

    /// Leaves it out of the batches to come, as part of a transaction. A circle that lacks
    /// consents again within an hour is left out whole: else whoever deletes one after the other
    /// would have every batch taken apart.
    pub(super) async fn leave_out(
        &self,
        connection: &mut Open,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut circles = self.circles.clone();
        for commitment in &self.consents {
            let name = commitment.to_string();
            hold_back(connection, CONSENT, &[&name], now).await?;
            let lacked: Option<(String, Option<i64>)> = query_as(
                "SELECT circles.context, lacked_at FROM circles \
                 JOIN consents ON consents.context = circles.context WHERE commitment = $1",
            )
            .bind(&name)
            .fetch_optional(&mut *connection)
            .await?;
            if let Some((context, Some(at))) = lacked
                && now.0.abs_diff(unsigned(at)) < HOLD_S
            {
                circles.insert(read("a context", &context)?);
            }
        }
        for commitment in &self.consents {
            query(
                "UPDATE circles SET lacked_at = $2 WHERE context = \
                 (SELECT context FROM consents WHERE commitment = $1)",
            )
            .bind(commitment.to_string())
            .bind(signed(now.0))
            .execute(&mut *connection)
            .await?;
        }
        for (context, author) in &self.logs {
            let (context, author) = (context.to_string(), author.to_string());
            query(
                "INSERT INTO held_logs (context, author_key) VALUES ($1, $2) \
                 ON CONFLICT (context, author_key) DO NOTHING",
            )
            .bind(&context)
            .bind(&author)
            .execute(&mut *connection)
            .await?;
            hold_back(connection, LOG, &[&context, &author], now).await?;
        }
        for context in &circles {
            hold_back(connection, CIRCLE, &[&context.to_string()], now).await?;
        }
        Ok(())
    }
}

/// How something is held back: what is known of it, and what is kept, by its names and then the
/// end and number of the hold.
type Held = (&'static str, &'static str);

const CIRCLE: Held = (
    "SELECT held_until, holds FROM circles WHERE context = $1",
    "UPDATE circles SET held_until = $2, holds = $3 WHERE context = $1",
);
const CONSENT: Held = (
    "SELECT held_until, holds FROM consents WHERE commitment = $1",
    "UPDATE consents SET held_until = $2, holds = $3 WHERE commitment = $1",
);
const LOG: Held = (
    "SELECT held_until, holds FROM held_logs WHERE context = $1 AND author_key = $2",
    "UPDATE held_logs SET held_until = $3, holds = $4 WHERE context = $1 AND author_key = $2",
);

/// For how long something is left out at first, in seconds; doubles each time up to the
/// other, and is forgotten when it went well for as long.
const HOLD_S: u64 = 60 * 60;
const HOLD_S_MAX: u64 = 24 * 60 * 60;
/// How long the next hold is, and how many there were then, by the last one.
fn hold(held_until: u64, holds: u64, now: UnixSeconds) -> (u64, u64) {
    let holds = match now.0.saturating_sub(held_until) >= HOLD_S_MAX {
        true => 0,
        false => holds,
    };
    let how_long = (HOLD_S << holds.min(16)).min(HOLD_S_MAX);
    (how_long, holds + 1)
}

/// Holds one thing back.
async fn hold_back(
    connection: &mut Open,
    (known, kept): Held,
    names: &[&str],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let mut asked = query(known);
    for name in names {
        asked = asked.bind(*name);
    }
    let Some(row) = asked.fetch_optional(&mut *connection).await? else {
        return Ok(());
    };
    let (until, holds) = (row.try_get("held_until")?, row.try_get("holds")?);
    let (how_long, holds) = hold(unsigned(until), unsigned(holds), now);
    let mut held = query(kept);
    for name in names {
        held = held.bind(*name);
    }
    held.bind(signed(now.0.saturating_add(how_long)))
        .bind(signed(holds))
        .execute(&mut *connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_circle_that_takes_no_place_is_left_out_ever_longer() {
        let (mut now, mut held) = (UnixSeconds(1_000_000), (0, 0));
        let mut hours = Vec::new();
        for _ in 0..7 {
            let (how_long, holds) = hold(held.0, held.1, now);
            hours.push(how_long / 3_600);
            held = (now.0 + how_long, holds);
            now = UnixSeconds(held.0);
        }
        assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24]);
        now = UnixSeconds(now.0 + HOLD_S_MAX);
        assert_eq!(hold(held.0, held.1, now), (HOLD_S, 1));
    }
}
