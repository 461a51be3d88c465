//! A lease of a store that several replicas share: waited for, kept, and given back.
//!
//! [`claim`] has the rules, [`crate::store::leases`] the writes. Each question to the database is
//! bounded; one that is not answered in time may have taken effect.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::claim::{Claim, Outcome, Step};
use crate::seams::{random_bytes, system_random};
use crate::store::{HomeLock, Store, StoreError};

pub mod claim;

/// How long a question to the database is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// What only one process does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// The daemon's lanes: one submitter owns an account's nonces.
    Daemon,
    /// To import or erase records.
    Records,
}

impl Only {
    const fn lease(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Records => "records",
        }
    }

    const fn work(self) -> &'static str {
        match self {
            Self::Daemon => "medsync up, or fsck --rebuild,",
            Self::Records => "import or erasure",
        }
    }
}

/// One process's part in a lease.
#[derive(Debug)]
pub struct Lease {
    /// What is written under it.
    main: Store,
    /// By connections of its own, so that no other work delays a beat.
    store: Store,
    /// The same, whose single writes wait for no other writer.
    beside: Store,
    only: Only,
    holder: String,
    claim: Claim,
    held: Held,
}

/// Until when a lease is held, as whoever works under it sees it.
#[derive(Clone, Debug, Default)]
pub struct Held {
    until_ms: Arc<AtomicU64>,
}

impl Held {
    /// Does something as long as the lease is held. What was begun before a sleep, the process's or
    /// the machine's, is not gone on with after it: others may have worked under the lease since.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| match self.is_past() {
            true => Poll::Ready(None),
            false => work.as_mut().poll(context).map(Some),
        })
        .await
    }

    fn is_past(&self) -> bool {
        now() >= Duration::from_millis(self.until_ms.load(Ordering::Relaxed))
    }

    fn set(&self, until: Option<Duration>) {
        let until_ms = until.unwrap_or_default().as_millis();
        let until_ms = u64::try_from(until_ms).unwrap_or(u64::MAX);
        self.until_ms.store(until_ms, Ordering::Relaxed);
    }
}

/// Since the machine was started, with the time that it slept.
fn now() -> Duration {
    let since = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(since.tv_nsec).unwrap_or_default())
}

impl Lease {
    /// Of this store; nothing is asked yet.
    #[must_use]
    pub fn new(store: &Store, only: Only) -> Self {
        let main = store.clone();
        let store = store.apart();
        Self {
            main,
            beside: store.beside(),
            store,
            only,
            holder: hex::encode(random_bytes(&mut system_random())),
            claim: Claim::default(),
            held: Held::default(),
        }
    }

    /// Until when it is held; goes along with it.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Waits for this process's turn; answers the store that writes while it lasts.
    pub async fn won(&mut self) -> Store {
        loop {
            if let Some(epoch) = self.claim.held(now()) {
                return self.fenced(epoch);
            }
            self.turn().await;
        }
    }

    /// The same for whoever does not wait: a lease whose holder lives is another's.
    ///
    /// # Errors
    /// [`StoreError::Taken`]; a database that does not answer.
    pub async fn won_or_taken(&mut self) -> Result<Store, StoreError> {
        // A database that answers nothing for so long is not waited for.
        const TURNS_MAX: u32 = 30;
        for _ in 0..TURNS_MAX {
            if let Some(epoch) = self.claim.held(now()) {
                return Ok(self.fenced(epoch));
            }
            if self.turn().await {
                return Err(StoreError::Taken(self.only.work()));
            }
        }
        self.store.lease(self.only.lease()).await?;
        Err(StoreError::Taken(self.only.work()))
    }

    /// Keeps the lease until it is lost.
    pub async fn kept(&mut self) {
        while self.claim.held(now()).is_some() {
            self.turn().await;
        }
    }

    /// Gives it back, if it is held.
    pub async fn release(&mut self) {
        let Some(epoch) = self.claim.held(now()) else {
            return;
        };
        let release = self
            .beside
            .release_lease(self.only.lease(), &self.holder, epoch);
        // Else whoever waits for it waits a few seconds longer.
        if let Ok(Err(error)) = timeout(ANSWER_WAIT, release).await {
            tracing::warn!(%error, "a lease was not given back");
        }
        self.claim.released();
        self.held.set(None);
    }

    fn fenced(&self, epoch: i64) -> Store {
        self.main.fenced(self.only.lease(), epoch)
    }

    /// One step; answers whether another holder was seen to live.
    async fn turn(&mut self) -> bool {
        let lives = self.step().await;
        self.held.set(self.claim.held_until());
        lives
    }

    async fn step(&mut self) -> bool {
        let name = self.only.lease();
        let asked_at = now();
        match self.claim.step(asked_at) {
            Step::Rest(until) => sleep(until.saturating_sub(asked_at)).await,
            Step::Look => match timeout(ANSWER_WAIT, self.beside.lease(name)).await {
                Ok(Ok(row)) => return self.claim.saw(row, now()),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a lease could not be looked at");
                    self.claim.saw_nothing(now());
                }
                Err(_) => self.claim.saw_nothing(now()),
            },
            Step::Take(seen) => {
                let taken = self.store.take_lease(name, &self.holder, seen);
                let outcome = outcome(timeout(ANSWER_WAIT, taken).await);
                let times = (asked_at, now());
                self.claim.took(seen, outcome, times);
            }
            Step::Renew(epoch) => {
                let left = self.claim.held_until().unwrap_or_default();
                let wait = left.saturating_sub(asked_at).min(ANSWER_WAIT);
                let renewed = self.beside.renew_lease(name, &self.holder, epoch);
                let outcome = outcome(timeout(wait, renewed).await);
                let times = (asked_at, now());
                self.claim.renewed(outcome, times);
            }
        }
        false
    }
}

/// A lease that is kept beside other work. If it is lost, what is written under it is refused.
#[derive(Debug)]
pub struct Kept {
    keeper: JoinHandle<()>,
    end: Arc<Notify>,
}

impl Kept {
    /// Keeps one that was won.
    #[must_use]
    pub fn of(mut lease: Lease) -> Self {
        let end = Arc::new(Notify::new());
        let ended = Arc::clone(&end);
        let keeper = tokio::spawn(async move {
            tokio::select! {
                () = lease.kept() => {}
                () = ended.notified() => lease.release().await,
            }
        });
        Self { keeper, end }
    }

    /// Gives it back.
    pub async fn end(mut self) {
        self.end.notify_one();
        // It ends by itself: it is neither cut off nor does it panic.
        let _ = (&mut self.keeper).await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What keeps others from doing the same.
#[derive(Debug)]
pub enum Alone {
    /// A lock on a file of the home.
    InThisHome(HomeLock),
    /// A lease of the store.
    Leased(Kept),
}

impl Alone {
    /// Lets others do it at once; so does dropping it, but a lease is then taken over later.
    pub async fn end(self) {
        if let Self::Leased(kept) = self {
            kept.end().await;
        }
    }
}

/// Lets one process at a time do something, until what is answered is dropped or ended. Where
/// replicas share the store, the one that is answered writes under a lease.
///
/// # Errors
/// [`StoreError::Taken`] if another does it.
pub async fn alone(
    (store, home): (&Store, &Path),
    only: Only,
) -> Result<(Store, Alone), StoreError> {
    if !store.is_shared() {
        let lock = match only {
            Only::Daemon => HomeLock::of_daemon(home),
            Only::Records => HomeLock::of_records(home),
        };
        return Ok((store.clone(), Alone::InThisHome(lock?)));
    }
    let mut lease = Lease::new(store, only);
    let fenced = lease.won_or_taken().await?;
    Ok((fenced, Alone::Leased(Kept::of(lease))))
}

fn outcome<E>(answer: Result<Result<bool, StoreError>, E>) -> Outcome {
    match answer {
        Ok(Ok(true)) => Outcome::Done,
        Ok(Ok(false)) => Outcome::Refused,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a lease could not be written");
            Outcome::Unknown
        }
        Err(_) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hostile_sleep_ends_what_was_begun_before_it() {
        let held = Held::default();
        let work = async || unreachable!("nothing is begun without the lease");
        assert_eq!(held.during::<()>(work()).await, None);
        held.set(Some(now() + Duration::from_secs(3600)));
        assert_eq!(held.during(async { 7 }).await, Some(7));
        // It sleeps in the middle, for longer than the lease lasts.
        let mut begun = 0;
        let work = async {
            begun += 1;
            held.set(Some(now()));
            tokio::task::yield_now().await;
            begun += 1;
        };
        assert_eq!(held.during(work).await, None);
        assert_eq!(begun, 1);
    }
}
