//! Who is logged in. All of it is in memory: a restart ends every session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use medsync_client::wire::{Caller, Challenge};
use medsync_protocol::ids::{Sha256Digest, UnixSeconds};
use medsync_protocol::messages::LoginNonce;

/// How long a challenge can be signed, in seconds.
const CHALLENGE_S: u64 = 2 * 60;
/// How many challenges are open at once. The bound on logins lets half as many be made.
const CHALLENGES_MAX: usize = 4096;
/// How long a session lasts, whatever it is used for, in seconds.
const SESSION_S: u64 = 15 * 60;
/// How many sessions there are at once.
const SESSIONS_MAX: usize = 4096;
/// How many of them one caller has; another ends its oldest.
const SESSIONS_OF_ONE: usize = 8;

/// There are too many of them.
#[derive(Debug)]
pub(super) struct TooMany;

/// Open challenges and sessions.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Open>);

#[derive(Default)]
struct Open {
    challenges: HashMap<LoginNonce, UnixSeconds>,
    /// By the digest of the token: the token itself is kept nowhere here.
    sessions: HashMap<Sha256Digest, Held>,
}

/// A session that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Whose it is.
    pub caller: Caller,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

/// What a session goes by here.
pub(super) fn name(token: &str) -> Sha256Digest {
    Sha256Digest::of(token.as_bytes())
}

impl Sessions {
    /// What is over is not there.
    fn open_at(&self, now: UnixSeconds) -> MutexGuard<'_, Open> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.challenges.retain(|_, expires| *expires > now);
        open.sessions.retain(|_, held| held.expires_at > now);
        open
    }

    /// Opens a challenge.
    pub fn challenge(&self, nonce: LoginNonce, now: UnixSeconds) -> Result<Challenge, TooMany> {
        let mut open = self.open_at(now);
        if open.challenges.len() >= CHALLENGES_MAX {
            return Err(TooMany);
        }
        let expires = UnixSeconds(now.0 + CHALLENGE_S);
        open.challenges.insert(nonce, expires);
        Ok(Challenge { nonce, expires })
    }

    /// Whether a challenge is open; after this it is not, whatever comes of it.
    pub fn spend(&self, challenge: Challenge, now: UnixSeconds) -> bool {
        let mut open = self.open_at(now);
        open.challenges.remove(&challenge.nonce) == Some(challenge.expires)
    }

    /// Opens a session under a fresh token.
    pub fn open(&self, caller: Caller, token: &str, now: UnixSeconds) -> Result<Held, TooMany> {
        let mut open = self.open_at(now);
        let of_caller = open
            .sessions
            .iter()
            .filter(|(_, held)| held.caller == caller);
        let mut own: Vec<_> = of_caller
            .map(|(name, held)| (held.expires_at, *name))
            .collect();
        own.sort_unstable_by_key(|(expires_at, _)| *expires_at);
        let over = (own.len() + 1).saturating_sub(SESSIONS_OF_ONE);
        for (_, name) in own.into_iter().take(over) {
            open.sessions.remove(&name);
        }
        if open.sessions.len() >= SESSIONS_MAX {
            return Err(TooMany);
        }
        let held = Held {
            caller,
            expires_at: UnixSeconds(now.0 + SESSION_S),
        };
        open.sessions.insert(name(token), held.clone());
        Ok(held)
    }

    /// The session of a token.
    pub fn of(&self, token: &str, now: UnixSeconds) -> Option<Held> {
        self.open_at(now).sessions.get(&name(token)).cloned()
    }

    /// Whether a session is open.
    pub fn is_open(&self, name: Sha256Digest, now: UnixSeconds) -> bool {
        self.open_at(now).sessions.contains_key(&name)
    }

    /// Ends a session.
    pub fn close(&self, token: &str, now: UnixSeconds) {
        self.open_at(now).sessions.remove(&name(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::felt::Felt;

    const NOW: UnixSeconds = UnixSeconds(1_000);

    fn nonce(number: u64) -> LoginNonce {
        LoginNonce::from_felt(Felt::from(number))
    }

    fn staff(name: &str) -> Caller {
        Caller::Staff { name: name.into() }
    }

    #[test]
    fn a_challenge_is_good_once_and_for_a_while() {
        let sessions = Sessions::default();
        let one = sessions.challenge(nonce(1), NOW).expect("room");
        let longer = Challenge {
            expires: UnixSeconds(one.expires.0 + 1),
            ..one
        };
        assert!(!sessions.spend(longer, NOW), "another end was signed");
        assert!(!sessions.spend(one, NOW), "it was spent on that");
        let one = sessions.challenge(nonce(2), NOW).expect("room");
        assert!(sessions.spend(one, NOW));
        assert!(!sessions.spend(one, NOW));
        let one = sessions.challenge(nonce(3), NOW).expect("room");
        assert!(!sessions.spend(one, one.expires));
    }

    #[test]
    fn hostile_flood_of_challenges_is_bounded_and_passes() {
        let sessions = Sessions::default();
        for number in 0..CHALLENGES_MAX as u64 {
            sessions.challenge(nonce(number), NOW).expect("room");
        }
        assert!(sessions.challenge(nonce(1 << 20), NOW).is_err());
        let later = UnixSeconds(NOW.0 + CHALLENGE_S);
        assert!(sessions.challenge(nonce(1 << 20), later).is_ok());
    }

    #[test]
    fn a_session_ends_in_time_by_its_caller_and_with_the_ninth() {
        let sessions = Sessions::default();
        let held = sessions.open(staff("a"), "one", NOW).expect("room");
        assert_eq!(sessions.of("one", NOW), Some(held.clone()));
        assert_eq!(sessions.of("another", NOW), None);
        assert_eq!(sessions.of("one", held.expires_at), None);
        sessions.open(staff("a"), "two", NOW).expect("room");
        sessions.close("two", NOW);
        assert_eq!(sessions.of("two", NOW), None);
        for number in 0..=SESSIONS_OF_ONE as u64 {
            let at = UnixSeconds(NOW.0 + number);
            sessions
                .open(staff("b"), &number.to_string(), at)
                .expect("room");
            sessions
                .open(staff("c"), &format!("c{number}"), at)
                .expect("room");
        }
        let now = UnixSeconds(NOW.0 + SESSIONS_OF_ONE as u64);
        assert_eq!(sessions.of("0", now), None, "the oldest made room");
        for number in 1..=SESSIONS_OF_ONE {
            assert!(sessions.of(&number.to_string(), now).is_some(), "{number}");
        }
    }
}
