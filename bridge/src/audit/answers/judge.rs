//! Judging answers by what was known of consents, here and to whoever answered.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{Body, EntryDigest, ErasureReason, RecordRef, Requested, Seq};
use medsync_protocol::consent::Commitment;
use medsync_protocol::decide::{Attributes, Candidate, Outcome, decide};
use medsync_protocol::ids::UnixSeconds;

use crate::access::break_glass_code;
use crate::audit::Fault;
use crate::preview::Question;
use crate::source::LogEntry;

/// How long what a patient decides may be on its way to the custodian, and how far two clocks may
/// be apart, in seconds: an answer is carried if it was right now or this long before.
const ON_ITS_WAY_S: u64 = 10 * 60;
/// How long after the end of a consent its releases have to be ordered erased, in seconds of what
/// the custodian says: it may be down for a while, and whoever judges may have heard nothing since.
const ORDERED_WITHIN_S: u64 = 24 * 60 * 60;

/// When something ended.
#[derive(Clone, Copy, Default)]
pub(super) struct End {
    /// As it was known here.
    pub here: Option<UnixSeconds>,
    /// By when the custodian's node was in reach again. It has heard of it then, if nobody kept it
    /// from that node.
    pub reached: Option<UnixSeconds>,
    /// By when the custodian must have heard of it: by what the chain or itself says.
    pub heard: Option<UnixSeconds>,
}

impl End {
    fn as_known(self, to: KnownTo) -> Option<UnixSeconds> {
        match to {
            KnownTo::Us => self.here,
            KnownTo::InReach => [self.reached, self.heard].into_iter().flatten().min(),
            KnownTo::Custodian => self.heard,
        }
    }
}

/// By whose knowledge an answer is judged.
#[derive(Clone, Copy)]
enum KnownTo {
    Us,
    InReach,
    Custodian,
}

/// A consent with what became of it.
pub(super) struct Consented {
    pub candidate: Candidate,
    pub revoked: End,
    pub key_changed: End,
    /// Where the recovery key replaced it: what was released on the consent is to be erased.
    pub overruled: End,
}

/// What the custodian's own words show of what it has heard.
pub(super) struct Reach {
    /// What it said that arrived here at once: when it was said, and when it arrived.
    prompt: Vec<(UnixSeconds, UnixSeconds)>,
    /// When it ordered the erasure of what it had released on a consent, because that was revoked.
    ordered: BTreeMap<Commitment, Vec<UnixSeconds>>,
}

impl Reach {
    pub fn of(log: &[(LogEntry, UnixSeconds)]) -> Self {
        let said = log
            .iter()
            .map(|(entry, seen_at)| (entry.entry.at, *seen_at));
        let is_prompt =
            |(at, seen_at): &(UnixSeconds, UnixSeconds)| seen_at.0.abs_diff(at.0) <= ON_ITS_WAY_S;
        let mut released: BTreeMap<EntryDigest, &[Commitment]> = BTreeMap::new();
        let mut ordered: BTreeMap<Commitment, Vec<UnixSeconds>> = BTreeMap::new();
        for (entry, seen_at) in log {
            if let Body::Released { based_on, .. } = &entry.body {
                released.insert(entry.digest(), based_on);
            }
            let Body::EraseOrdered {
                release,
                reason: ErasureReason::Revoked,
            } = entry.body
            else {
                continue;
            };
            // Of several consents it does not say which was revoked.
            if let Some([consent]) = released.get(&release) {
                let at = entry.entry.at.min(*seen_at);
                ordered.entry(*consent).or_default().push(at);
            }
        }
        Self {
            prompt: said.filter(is_prompt).collect(),
            ordered,
        }
    }

    /// Since when its node was in reach of what was in the circle at this time: it said something
    /// after it, and that arrived. Another member may have kept from it what was there.
    pub fn reached(&self, since: UnixSeconds) -> Option<UnixSeconds> {
        let after = self.prompt.iter();
        let after = after.filter(|(at, seen_at)| *at > since && *seen_at > since);
        after.map(|(_, seen_at)| *seen_at).min()
    }

    /// Since when it has heard that this consent was revoked, as was known here at this time.
    pub fn ordered(&self, consent: Commitment, since: UnixSeconds) -> Option<UnixSeconds> {
        let orders = self.ordered.get(&consent).into_iter().flatten().copied();
        orders
            .filter(|at| at.0.saturating_add(ON_ITS_WAY_S) >= since.0)
            .min()
    }

    /// An end of which nothing shows that the custodian has heard.
    pub fn unproven(&self, at: Option<UnixSeconds>) -> End {
        End {
            here: at,
            reached: at.and_then(|at| self.reached(at)),
            heard: None,
        }
    }
}

/// What answers are judged by.
pub(super) struct Judge {
    /// The consents of the patient; nothing if nobody can say who that is.
    pub consents: Option<Vec<Consented>>,
    /// What the records that are named are.
    pub records: BTreeMap<RecordRef, Attributes>,
    /// Since when two enrolments say that nobody consents.
    pub frozen: End,
}

impl Judge {
    /// What is wrong with the answers of a log, whose entries come with the time at which they were
    /// first seen here.
    pub fn faults(&self, log: &[(LogEntry, UnixSeconds)]) -> Vec<Fault> {
        let mut requests: BTreeMap<EntryDigest, &Requested> = BTreeMap::new();
        let mut permitted: BTreeSet<EntryDigest> = BTreeSet::new();
        let mut erased: BTreeMap<RecordRef, UnixSeconds> = BTreeMap::new();
        let mut glass: BTreeSet<EntryDigest> = BTreeSet::new();
        let ordered: BTreeSet<EntryDigest> = log
            .iter()
            .filter_map(|(entry, _)| order_in(entry))
            .collect();
        let said: Vec<UnixSeconds> = log.iter().map(|(entry, _)| entry.entry.at).collect();
        let mut faults = Vec::new();
        for (entry, seen_at) in log {
            let (seq, at) = (entry.entry.seq, entry.entry.at);
            match &entry.body {
                // With an order it is a recipient's, and of what was released.
                Body::Erased {
                    order: None,
                    records,
                    ..
                } => erased.extend(records.iter().map(|record| (*record, at))),
                Body::Requested(requested) => {
                    requests.insert(entry.digest(), requested);
                }
                Body::Denied { request, .. } => {
                    permitted.remove(request);
                }
                Body::BreakGlass { request, .. } => {
                    glass.insert(*request);
                }
                body => {
                    let Some((request, records, based_on)) = answer_in(body) else {
                        continue;
                    };
                    if matches!(body, Body::Permitted { .. }) {
                        permitted.insert(request);
                    } else if !ordered.contains(&entry.digest()) {
                        if self.is_over(based_on, &said, KnownTo::Custodian) {
                            faults.push(Fault::NotOrdered { seq });
                        } else if self.is_over(based_on, &said, KnownTo::InReach) {
                            let records = records.to_vec();
                            faults.push(Fault::Unproven { seq, records });
                        }
                    }
                    let Some(requested) = requests.get(&request) else {
                        faults.push(Fault::NotAsked { seq });
                        continue;
                    };
                    if !permitted.contains(&request) {
                        faults.push(Fault::NotPermitted { seq });
                    }
                    if requested.purposes.contains(&break_glass_code()) && !glass.contains(&request)
                    {
                        faults.push(Fault::SilentGlass { seq });
                    }
                    if at.0 > seen_at.0.saturating_add(ON_ITS_WAY_S) {
                        faults.push(Fault::Postdated { seq });
                    }
                    // One that was on its way at the erasure is left out when keys leave.
                    let was_erased = |name: &&RecordRef| {
                        let since = erased.get(*name);
                        since.is_some_and(|since| since.0.saturating_add(ON_ITS_WAY_S) <= at.0)
                    };
                    let gone: Vec<RecordRef> = records.iter().filter(was_erased).copied().collect();
                    if !gone.is_empty() {
                        faults.push(Fault::AfterErasure { seq, records: gone });
                    }
                    let answer = Answer {
                        requested,
                        based_on,
                        at,
                        seen_at: *seen_at,
                    };
                    let here = self.uncovered(&answer, records, KnownTo::Us);
                    let reached = self.uncovered(&answer, records, KnownTo::InReach);
                    let heard = self.uncovered(&answer, records, KnownTo::Custodian);
                    let (certain, rest): (Vec<RecordRef>, Vec<RecordRef>) =
                        here.into_iter().partition(|name| heard.contains(name));
                    let (unproven, unheard): (Vec<RecordRef>, Vec<RecordRef>) =
                        rest.into_iter().partition(|name| reached.contains(name));
                    if !certain.is_empty() {
                        let records = certain;
                        faults.push(Fault::NotCovered { seq, records });
                    }
                    if !unproven.is_empty() {
                        let records = unproven;
                        faults.push(Fault::Unproven { seq, records });
                    }
                    if !unheard.is_empty() {
                        let records = unheard;
                        faults.push(Fault::Unheard { seq, records });
                    }
                }
            }
        }
        faults
    }

    /// The answers that arrived long after the time that they say, when consents that they name had
    /// ended here: each with the records that these covered at that time, and no more when it was
    /// there. `made_by` says by when an entry was there, where that is known from elsewhere.
    pub fn late(
        &self,
        log: &[(LogEntry, UnixSeconds)],
        made_by: impl Fn(Seq) -> Option<UnixSeconds>,
    ) -> Vec<(Seq, Vec<RecordRef>)> {
        let mut requests: BTreeMap<EntryDigest, &Requested> = BTreeMap::new();
        let mut late = Vec::new();
        for (entry, seen_at) in log {
            let (seq, at) = (entry.entry.seq, entry.entry.at);
            if let Body::Requested(requested) = &entry.body {
                requests.insert(entry.digest(), requested);
            }
            let Some((request, records, based_on)) = answer_in(&entry.body) else {
                continue;
            };
            let by = made_by(seq).map_or(*seen_at, |by| by.min(*seen_at));
            let Some(requested) = requests.get(&request) else {
                continue;
            };
            if by.0 <= at.0.saturating_add(ON_ITS_WAY_S) {
                continue;
            }
            let answer = |at| Answer {
                requested,
                based_on,
                at,
                seen_at: *seen_at,
            };
            let said = self.uncovered(&answer(at), records, KnownTo::Us);
            let mut gone = self.uncovered(&answer(by), records, KnownTo::Us);
            gone.retain(|record| !said.contains(record));
            if !gone.is_empty() {
                late.push((seq, gone));
            }
        }
        late
    }

    /// The records that no consent which an answer names covers, at its time or when the custodian
    /// last can have heard of it. Of nobody's consents it is not said that they do not.
    fn uncovered(
        &self,
        answer: &Answer<'_>,
        records: &[RecordRef],
        known: KnownTo,
    ) -> Vec<RecordRef> {
        let is_past = |since: UnixSeconds| answer.seen_at.0 > since.0.saturating_add(ON_ITS_WAY_S);
        if self.frozen.as_known(known).is_some_and(is_past) {
            return records.to_vec();
        }
        let Some(consents) = &self.consents else {
            return Vec::new();
        };
        let question = Question::from(answer.requested);
        let earlier = UnixSeconds(answer.at.0.saturating_sub(ON_ITS_WAY_S));
        let standing = [answer.at, earlier].map(|at| {
            let stands = |consent: &Consented| {
                let key_changed = consent.key_changed.as_known(known);
                Candidate {
                    revoked_at: consent.revoked.as_known(known),
                    is_current: key_changed.is_none_or(|changed| at < changed),
                    ..consent.candidate.clone()
                }
            };
            let candidates: Vec<Candidate> = consents.iter().map(stands).collect();
            (question.request(at), candidates)
        });
        let is_covered = |attributes: &Attributes| {
            question.asks_for(attributes)
                && standing.iter().any(|(request, candidates)| {
                    decide(request, attributes, candidates).is_ok_and(|decision| {
                        let mut rests_on = decision.based_on.iter();
                        decision.outcome == Outcome::Permit
                            && rests_on.any(|consent| answer.based_on.contains(consent))
                    })
                })
        };
        let is_uncovered = |name: &&RecordRef| !self.records.get(name).is_some_and(is_covered);
        records.iter().filter(is_uncovered).copied().collect()
    }

    /// Whether the custodian went on saying things for so long, since it first said something when
    /// it had heard that one of these consents ended, that what was released on it should have been
    /// ordered erased. Who is down orders nothing. `said` is in the order of time.
    fn is_over(&self, based_on: &[Commitment], said: &[UnixSeconds], known: KnownTo) -> bool {
        let is_long_over = |end: UnixSeconds| {
            let after = &said[said.partition_point(|at| *at < end)..];
            let between = after.first().zip(after.last());
            between.is_some_and(|(first, last)| last.0 - first.0 >= ORDERED_WITHIN_S)
        };
        self.consents.iter().flatten().any(|consent| {
            let opening = &consent.candidate.opening;
            let expired = Some(opening.not_after).filter(|at| *at != UnixSeconds(0));
            let said = [consent.revoked, consent.overruled].map(|end| end.as_known(known));
            let ends = said.into_iter().chain([expired]);
            based_on.contains(&consent.candidate.commitment) && ends.flatten().any(is_long_over)
        })
    }
}

/// What one answer says.
struct Answer<'a> {
    requested: &'a Requested,
    based_on: &'a [Commitment],
    at: UnixSeconds,
    seen_at: UnixSeconds,
}

/// What permits or releases: which request it answers, the records, and the consents that it names.
pub(super) fn answer_in(body: &Body) -> Option<(EntryDigest, &[RecordRef], &[Commitment])> {
    match body {
        Body::Permitted {
            request,
            records,
            based_on,
            ..
        }
        | Body::Released {
            request,
            records,
            based_on,
            ..
        } => Some((*request, records, based_on)),
        _ => None,
    }
}

/// Which release an order to erase is about.
fn order_in(entry: &LogEntry) -> Option<EntryDigest> {
    match entry.body {
        Body::EraseOrdered { release, .. } => Some(release),
        _ => None,
    }
}
