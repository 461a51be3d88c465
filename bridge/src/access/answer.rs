//! Answer: a request is logged in the circle, decided, and permitted or denied.
//!
//! A permission may be decided again after a crash, and nothing is released on it alone. A denial
//! that the circle's log has is the last word on its request.

use medsync_protocol::audit::{
    Body, CONSENTS_LEN_MAX, DenialReason, EntryDigest, EntryKind, Requested,
};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, RecordId, UnixSeconds};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealedFor};
use std::collections::BTreeSet;

use super::decision::Decided;
use super::{Desk, break_glass_code, release};
use crate::pipeline::PipelineError;
use crate::seams::random_bytes;
use crate::source::{Circle, LogEntry};
use crate::store::access::{RequestRow, RequestState};
use crate::store::log::LogFilter;

/// How many requests one round answers.
const ANSWERED_PER_ROUND: u32 = 8;
/// How many requests of one recipient about one patient are answered in a day: each leaves entries
/// in the patient's log, which has an end.
const ANSWERED_PER_DAY: u32 = 32;
const DAY_S: u64 = 24 * 60 * 60;
/// How many requests of one recipient are refused in words in a day: each leaves an entry in the
/// custodian's log of the exchange, which has an end and has to hold orders to erase. What is
/// beyond is not answered.
const REFUSED_PER_DAY: u32 = 32;

/// Answers requests, those that wait longest first.
///
/// # Errors
/// A store that does not answer.
pub async fn answer_all(desk: &Desk) -> Result<(), PipelineError> {
    let (store, own) = (&desk.pipeline.store, desk.author.public_key());
    for request in store.open_requests(own, ANSWERED_PER_ROUND).await? {
        match answer(desk, &request).await {
            Ok(state) => {
                let now = desk.pipeline.now();
                store.request_is(request.request, state, now).await?;
            }
            Err(error) if error.is_of_the_store() => return Err(error),
            Err(error) => {
                tracing::warn!(request = %request.request, %error, "a request is tried again");
                let (now, why) = (desk.pipeline.now(), error.to_string());
                store.request_hindered(request.request, &why, now).await?;
            }
        }
    }
    Ok(())
}

async fn answer(desk: &Desk, row: &RequestRow) -> Result<RequestState, PipelineError> {
    let requested = desk.requested(row.request).await?;
    desk.check_room(row.exchange).await?;
    let exchange = desk.enter(row.exchange).await?;
    let state = exchange.circle().await?;
    let Some(recipient) = state.party() else {
        return Err(PipelineError::Broken(
            "the exchange is frozen, or nobody is enrolled in it; nothing is released".into(),
        ));
    };
    let store = &desk.pipeline.store;
    let keys = store
        .key_history(row.exchange, &recipient.enrolment)
        .await?;
    if keys.is_frozen {
        return Err(PipelineError::Broken(
            "the recipient's key changes contradict".into(),
        ));
    }
    let patient = store.circle_of(row.exchange, requested.patient).await?;
    // A recipient names its keys itself, and could name another's.
    let expected = store.circle(row.exchange).await?.recipient_key;
    if expected != Some(keys.current()) {
        return Err(PipelineError::Broken(
            "the recipient's key is not the one that this exchange is for".into(),
        ));
    }
    let is_theirs = requested.recipient == keys.current();
    let can_be_told = is_theirs && copy_of(row.request, &requested).encode().is_ok();
    let (Some(context), true) = (patient, can_be_told) else {
        return deny_here(desk, &*exchange, row.request, DenialReason::Malformed).await;
    };
    let now = desk.pipeline.now();
    let since = UnixSeconds(now.0.saturating_sub(DAY_S));
    let counts = |count_max| {
        let about = (row.exchange, context);
        store.counts_request(row.request, about, (since, now), count_max)
    };
    let mut refused = None;
    if !counts(ANSWERED_PER_DAY).await? {
        // The patient hears of the first that is too many.
        if !counts(ANSWERED_PER_DAY + 1).await? {
            return deny_here(desk, &*exchange, row.request, DenialReason::TooMany).await;
        }
        refused = Some(DenialReason::TooMany);
    } else if !is_sound(&requested) || !can_be_sealed_to(desk, &requested).await {
        refused = Some(DenialReason::Malformed);
    }
    desk.check_room(context).await?;
    let circle = desk.enter(context).await?;
    let asked = Asked {
        desk,
        exchange: &*exchange,
        circle: &*circle,
        request: row.request,
        asked_as: copy(desk, &*circle, row.request, &requested).await?,
        requested,
    };
    if let Some(reason) = refused {
        asked.deny(reason, &BTreeSet::new()).await?;
        return Ok(RequestState::Denied);
    }
    if let Some(Body::Denied {
        reason, based_on, ..
    }) = asked.denied_since().await?.map(|said| said.body)
    {
        // Whoever said so died before the exchange had it, or before it was noted.
        asked.deny(reason, &based_on.into_iter().collect()).await?;
        return Ok(RequestState::Denied);
    }
    if !row.is_permitted {
        let decided = desk.decide(asked.circle, &asked.requested).await?;
        if decided.records.is_empty() {
            let (reason, based_on) = &decided.denial;
            asked.deny(*reason, based_on).await?;
            return Ok(RequestState::Denied);
        }
        asked.permit(&decided).await?;
        let now = desk.pipeline.now();
        store
            .request_is(row.request, RequestState::Permitted, now)
            .await?;
    }
    release::release(&asked).await
}

/// Denies in the exchange alone: what is about nobody, in another's name, or no entry at all, and
/// what is more than the patient's log has room for.
async fn deny_here(
    desk: &Desk,
    exchange: &dyn Circle,
    request: EntryDigest,
    reason: DenialReason,
) -> Result<RequestState, PipelineError> {
    let (store, now) = (&desk.pipeline.store, desk.pipeline.now());
    let since = UnixSeconds(now.0.saturating_sub(DAY_S));
    // Counted as one about nobody's circle.
    let about = (exchange.context(), exchange.context());
    if !store
        .counts_request(request, about, (since, now), REFUSED_PER_DAY)
        .await?
    {
        return Ok(RequestState::Denied);
    }
    let says = denied(request, reason, &BTreeSet::new());
    desk.log(exchange, &says).await?;
    Ok(RequestState::Denied)
}

/// A request names a purpose and a class, and whoever breaks the glass says so, and why.
fn is_sound(requested: &Requested) -> bool {
    let breaks = requested.purposes.contains(&break_glass_code());
    !requested.purposes.is_empty()
        && !requested.classes.is_empty()
        && breaks == requested.break_glass
        && (!breaks || !requested.reason.trim().is_empty())
}

/// Whether something can be sealed to its reply key: else a release would be logged that nobody can
/// hand over.
async fn can_be_sealed_to(desk: &Desk, requested: &Requested) -> bool {
    let place = SealedFor {
        context: ContextId([0; 32]),
        record: RecordId([0; 32]),
        version: RecordVersion(1),
        reader: requested.reply_key,
        log: None,
    };
    let mut random = desk.pipeline.random.lock().await;
    let trial = RecordKey::from_bytes(random_bytes(&mut *random));
    trial.seal(&place, &mut &mut *random).is_ok()
}

fn copy_of(request: EntryDigest, requested: &Requested) -> Body {
    Body::Requested(Requested {
        asked_by: Some(request),
        ..requested.clone()
    })
}

/// The request in the circle's log, where the patient reads it.
async fn copy(
    desk: &Desk,
    circle: &dyn Circle,
    request: EntryDigest,
    requested: &Requested,
) -> Result<EntryDigest, PipelineError> {
    let says = copy_of(request, requested);
    Ok(desk.log(circle, &says).await?.digest())
}

fn denied(request: EntryDigest, reason: DenialReason, based_on: &BTreeSet<Commitment>) -> Body {
    Body::Denied {
        request,
        reason,
        based_on: first_of(based_on),
    }
}

/// As many consents as one entry has room for.
fn first_of(based_on: &BTreeSet<Commitment>) -> Vec<Commitment> {
    based_on.iter().take(CONSENTS_LEN_MAX).copied().collect()
}

/// A request with everything that its answer needs.
pub(super) struct Asked<'a> {
    pub desk: &'a Desk,
    pub exchange: &'a dyn Circle,
    pub circle: &'a dyn Circle,
    /// The recipient's entry in the exchange.
    pub request: EntryDigest,
    /// Its copy in the circle.
    pub asked_as: EntryDigest,
    pub requested: Requested,
}

impl Asked<'_> {
    /// The circle's last word on this, if it is that nothing is released.
    async fn denied_since(&self) -> Result<Option<LogEntry>, PipelineError> {
        let denied = self.last_said(EntryKind::Denied).await?;
        let permitted = self.last_said(EntryKind::Permitted).await?;
        Ok(denied.filter(|denied| {
            permitted.is_none_or(|permitted| permitted.entry.seq < denied.entry.seq)
        }))
    }

    /// The last of the own entries of a kind in the circle that is about this request.
    async fn last_said(&self, kind: EntryKind) -> Result<Option<LogEntry>, PipelineError> {
        let filter = LogFilter {
            author_key: Some(self.desk.author.public_key()),
            kind: Some(kind.name()),
            ..LogFilter::default()
        };
        let context = self.circle.context();
        let said = self.desk.pipeline.store.log(context, &filter).await?;
        let is_about = |said: &LogEntry| match &said.body {
            Body::Permitted { request, .. } | Body::Denied { request, .. } => {
                *request == self.asked_as
            }
            _ => false,
        };
        let about = said.into_iter().filter(is_about);
        Ok(about.max_by_key(|said| said.entry.seq))
    }

    /// Says in both logs that nothing is released.
    pub(super) async fn deny(
        &self,
        reason: DenialReason,
        based_on: &BTreeSet<Commitment>,
    ) -> Result<(), PipelineError> {
        let says = denied(self.asked_as, reason, based_on);
        self.desk.log(self.circle, &says).await?;
        let says = denied(self.request, reason, based_on);
        self.desk.log(self.exchange, &says).await?;
        tracing::info!(track = %self.request, ?reason, "request denied");
        Ok(())
    }

    /// Says in both logs what may be released, and in the circle that somebody broke the glass.
    async fn permit(&self, decided: &Decided) -> Result<(), PipelineError> {
        if self.requested.break_glass {
            let says = Body::BreakGlass {
                request: self.asked_as,
                based_on: first_of(&decided.all_consents()),
            };
            self.desk.log(self.circle, &says).await?;
        }
        for (records, based_on) in decided.shares(decided.records.keys().copied()) {
            for (log, request) in [(self.circle, self.asked_as), (self.exchange, self.request)] {
                let says = Body::Permitted {
                    request,
                    records: records.clone(),
                    based_on: based_on.iter().copied().collect(),
                    obligations: decided.obligations.clone(),
                };
                self.desk.log(log, &says).await?;
            }
        }
        let records = decided.records.len();
        tracing::info!(track = %self.request, records, "request permitted");
        Ok(())
    }
}
