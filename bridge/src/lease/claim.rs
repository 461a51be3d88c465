//! When a lease is taken, renewed and given up: rules alone, without a database or a clock.
//!
//! No clocks are compared. A holder moves the beat; whoever waits measures, by its own time, how
//! long the beat stood still since it first saw it there. A holder counts from when it *asked* for
//! its last renewal, and gives up before anybody who waits may take over: two never hold one lease
//! at one time, unless one of them was asleep, and what that one still writes is of an old epoch.

use std::time::Duration;

use crate::store::leases::LeaseRow;

/// How often a holder renews, and whoever waits looks.
pub const BEAT: Duration = Duration::from_secs(1);
/// How long a holder holds that could not renew.
pub const HELD_MAX: Duration = Duration::from_secs(4);
/// How long a beat stands still before its lease is taken over.
pub const STILL_MIN: Duration = Duration::from_secs(5);

/// What comes next; times are since any moment of this process's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until then.
    Rest(Duration),
    /// See what the lease is.
    Look,
    /// Take it, if it is still this.
    Take(LeaseRow),
    /// Renew this epoch of it.
    Renew(i64),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Done,
    /// The lease is another's, or another than was seen.
    Refused,
    /// Nobody knows: it may have been written.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// What was seen, and since when it is so.
    Waiting(Option<(LeaseRow, Duration)>),
    Holding {
        epoch: i64,
        renewed_at: Duration,
    },
}

/// One process's claim to a lease.
#[derive(Clone, Debug)]
pub struct Claim {
    state: State,
    next_at: Duration,
}

impl Default for Claim {
    fn default() -> Self {
        Self {
            state: State::Waiting(None),
            next_at: Duration::ZERO,
        }
    }
}

impl Claim {
    /// The epoch that is held now, if one is.
    #[must_use]
    pub fn held(&self, now: Duration) -> Option<i64> {
        match self.state {
            State::Holding { epoch, renewed_at } if now < renewed_at + HELD_MAX => Some(epoch),
            _ => None,
        }
    }

    /// Until when it is held, if it is not renewed.
    #[must_use]
    pub fn held_until(&self) -> Option<Duration> {
        match self.state {
            State::Holding { renewed_at, .. } => Some(renewed_at + HELD_MAX),
            State::Waiting(_) => None,
        }
    }

    /// What comes next.
    pub fn step(&mut self, now: Duration) -> Step {
        if self.held(now).is_none() && matches!(self.state, State::Holding { .. }) {
            self.state = State::Waiting(None);
        }
        match self.state {
            State::Waiting(Some((seen, since)))
                if seen.is_free || now >= since + STILL_MIN && now >= self.next_at =>
            {
                Step::Take(seen)
            }
            _ if now < self.next_at => Step::Rest(self.next_at),
            State::Waiting(_) => Step::Look,
            State::Holding { epoch, .. } => Step::Renew(epoch),
        }
    }

    /// What was seen, and whether somebody was seen to live: the beat moved.
    pub fn saw(&mut self, row: LeaseRow, now: Duration) -> bool {
        self.next_at = now + BEAT;
        let State::Waiting(seen) = &mut self.state else {
            return false;
        };
        match seen {
            Some((before, _)) if *before == row => false,
            Some(_) => {
                *seen = Some((row, now));
                !row.is_free
            }
            None => {
                *seen = Some((row, now));
                false
            }
        }
    }

    /// That nothing could be seen: how long the beat stands still is not known any more.
    pub fn saw_nothing(&mut self, now: Duration) {
        self.next_at = now + BEAT;
    }

    /// What became of taking what was seen, which was asked for then.
    pub fn took(
        &mut self,
        seen: LeaseRow,
        outcome: Outcome,
        (asked_at, now): (Duration, Duration),
    ) {
        self.next_at = now + BEAT;
        self.state = match outcome {
            Outcome::Done => State::Holding {
                epoch: seen.epoch + 1,
                renewed_at: asked_at,
            },
            // One that took effect all the same is waited for like anybody's.
            Outcome::Refused | Outcome::Unknown => State::Waiting(None),
        };
    }

    /// What became of a renewal, which was asked for then.
    pub fn renewed(&mut self, outcome: Outcome, (asked_at, now): (Duration, Duration)) {
        self.next_at = now + BEAT;
        let State::Holding { renewed_at, .. } = &mut self.state else {
            return;
        };
        match outcome {
            Outcome::Done => *renewed_at = asked_at,
            Outcome::Refused => self.state = State::Waiting(None),
            // Soon again: there is a little time left.
            Outcome::Unknown => self.next_at = now + BEAT / 4,
        }
    }

    /// That it is given back.
    pub fn released(&mut self) {
        self.state = State::Waiting(None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    const fn row(epoch: i64, beat: i64) -> LeaseRow {
        LeaseRow {
            epoch,
            beat,
            is_free: false,
        }
    }

    #[test]
    fn a_free_lease_is_taken_at_once() {
        let mut claim = Claim::default();
        assert_eq!(claim.step(seconds(0)), Step::Look);
        let free = LeaseRow {
            is_free: true,
            ..row(3, 9)
        };
        claim.saw(free, seconds(0));
        assert_eq!(claim.step(seconds(0)), Step::Take(free));
        claim.took(free, Outcome::Done, (seconds(0), seconds(0)));
        assert_eq!(claim.held(seconds(0)), Some(4));
        assert_eq!(claim.step(seconds(0)), Step::Rest(seconds(1)));
        assert_eq!(claim.step(seconds(1)), Step::Renew(4));
    }

    #[test]
    fn a_lease_is_taken_over_when_its_beat_stands_still_for_five_seconds() {
        let mut claim = Claim::default();
        claim.saw(row(3, 9), seconds(0));
        for now in 1..3 {
            assert_eq!(claim.step(seconds(now)), Step::Look);
            assert!(!claim.saw(row(3, 9), seconds(now)));
        }
        assert!(claim.saw(row(3, 10), seconds(3)), "it lives");
        assert_eq!(claim.step(seconds(7)), Step::Look);
        assert!(!claim.saw(row(3, 10), seconds(7)));
        assert_eq!(claim.step(seconds(8)), Step::Take(row(3, 10)));
        claim.took(row(3, 10), Outcome::Refused, (seconds(8), seconds(8)));
        assert_eq!(claim.held(seconds(8)), None);
    }

    #[test]
    fn a_holder_that_cannot_renew_gives_up_after_four_seconds() {
        let mut claim = Claim::default();
        claim.took(row(3, 9), Outcome::Done, (seconds(10), seconds(11)));
        for now in 12..14 {
            assert_eq!(claim.step(seconds(now)), Step::Renew(4));
            claim.renewed(Outcome::Unknown, (seconds(now), seconds(now)));
        }
        assert_eq!(claim.held(seconds(13)), Some(4));
        assert_eq!(claim.held(seconds(14)), None, "four seconds after it asked");
        assert_eq!(claim.step(seconds(15)), Step::Look);
        assert_eq!(claim.held(seconds(11)), None, "for good");
    }

    /// What happens to one step of one process.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Done,
        /// It was not written, and nobody knows.
        Lost,
        /// It was written, and nobody knows.
        Written,
        /// It was written, and its process sleeps before it hears so.
        Asleep(u64),
        /// The process gives the lease back, if it has it.
        Released,
    }

    fn fates() -> impl Strategy<Value = Vec<(usize, u64, Fate)>> {
        let fate = prop_oneof![
            8 => Just(Fate::Done),
            2 => Just(Fate::Lost),
            2 => Just(Fate::Written),
            1 => (0_u64..20_000).prop_map(Fate::Asleep),
            1 => Just(Fate::Released),
        ];
        prop::collection::vec((0..3_usize, 0_u64..1_500, fate), 1..300)
    }

    proptest! {
        #[test]
        fn hostile_weather_no_epoch_and_no_moment_has_two_holders(fates in fates()) {
            let mut claims = [Claim::default(), Claim::default(), Claim::default()];
            // Each process's own clock began at another time, and sleeps until then.
            let mut asleep = [Duration::ZERO; 3];
            let (mut epoch, mut beat, mut holder) = (0_i64, 0_i64, None::<usize>);
            let mut of_epoch = std::collections::BTreeMap::new();
            let mut now = Duration::ZERO;
            for (who, later, fate) in fates {
                now += Duration::from_millis(later);
                if now < asleep[who] {
                    continue;
                }
                if let Fate::Asleep(_) = fate {
                    asleep[who] = now;
                }
                let claim = &mut claims[who];
                let step = claim.step(now);
                let mut heard_at = now;
                if let Fate::Asleep(millis) = fate {
                    heard_at += Duration::from_millis(millis);
                    asleep[who] = heard_at;
                }
                let is_written = !matches!(fate, Fate::Lost);
                let is_known = matches!(fate, Fate::Done | Fate::Asleep(_));
                if let (Fate::Released, Some(held)) = (fate, claim.held(now)) {
                    if holder == Some(who) && epoch == held {
                        (holder, beat) = (None, beat + 1);
                    }
                    claim.released();
                    continue;
                }
                match step {
                    Step::Rest(_) => {}
                    Step::Look if is_known => {
                        claim.saw(LeaseRow { epoch, beat, is_free: holder.is_none() }, heard_at);
                    }
                    Step::Look => claim.saw_nothing(now),
                    Step::Take(seen) => {
                        let is_right = (seen.epoch, seen.beat) == (epoch, beat);
                        if is_right && is_written {
                            (epoch, beat, holder) = (epoch + 1, beat + 1, Some(who));
                            prop_assert!(of_epoch.insert(epoch, who).is_none());
                        }
                        let outcome = match (is_known, is_right) {
                            (false, _) => Outcome::Unknown,
                            (true, true) => Outcome::Done,
                            (true, false) => Outcome::Refused,
                        };
                        claim.took(seen, outcome, (now, heard_at));
                    }
                    Step::Renew(held) => {
                        let is_right = (holder, epoch) == (Some(who), held);
                        if is_right && is_written {
                            beat += 1;
                        }
                        let outcome = match (is_known, is_right) {
                            (false, _) => Outcome::Unknown,
                            (true, true) => Outcome::Done,
                            (true, false) => Outcome::Refused,
                        };
                        claim.renewed(outcome, (now, heard_at));
                    }
                }
                // Whoever believes it holds an epoch was given it, and nobody else believes so now.
                let mut believers = Vec::new();
                for (who, claim) in claims.iter().enumerate() {
                    if let Some(held) = claim.held(now) {
                        prop_assert_eq!(of_epoch.get(&held), Some(&who));
                        believers.push(who);
                    }
                }
                prop_assert!(believers.len() <= 1, "{believers:?}");
            }
        }
    }
}
