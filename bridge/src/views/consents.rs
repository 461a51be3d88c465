//! Consents as people see them, and their receipts.

use std::collections::BTreeMap;

use medsync_client::wire::{self, ConsentStage, Next, Sendable};
use medsync_protocol::consent::{Commitment, Registry};
use medsync_protocol::ids::{Anchorer, UnixSeconds};
use medsync_protocol::receipt::{Block, Receipt, Stage, StageTime};
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;

use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{
    Circle, Consent, ConsentState, Entry, EntryBody, EntryKind, Position, all_consents,
};
use crate::store::{Store, StoreError};

/// How many entries of one consent are read at most, before all of its circle's consents are.
const COPIES_READ_MAX: usize = 4;

/// One consent of a circle by its name. Where this store knows its entry that alone is read.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn find(
    store: &Store,
    circle: &dyn Circle,
    name: Commitment,
) -> Result<Option<Consent>, PipelineError> {
    let (context, said) = (circle.context(), name.to_string());
    let keys = store
        .entries_saying(context, EntryKind::Consent, &said)
        .await?;
    for key in keys.into_iter().take(COPIES_READ_MAX) {
        match circle.entry(EntryKind::Consent, key).await {
            Ok(Entry {
                body: Some(EntryBody::Consent(found)),
                ..
            }) if found.commitment == name => return Ok(Some(*found)),
            // Another copy is shown, or it is gone.
            Ok(_) => {}
            Err(error) if error.refusal() == Some("unknown_entry") => {}
            Err(error) => return Err(error.into()),
        }
    }
    let all = all_consents(circle).await?;
    Ok(all.into_iter().find(|found| found.commitment == name))
}

/// What people see of consents: how each stands, and how far it is.
///
/// # Errors
/// A store that does not answer. A chain that does not is no error: what it would say is unproven.
pub async fn describe(
    pipeline: &Pipeline,
    consents: &[Consent],
) -> Result<Vec<wire::Consent>, PipelineError> {
    let on_chain = OnChain::ask(pipeline, consents).await?;
    let usual = Usual::of(pipeline, consents, &on_chain).await?;
    let mut described = Vec::new();
    for consent in consents {
        described.push(describe_one(pipeline, consent, &usual, &on_chain).await?);
    }
    Ok(described)
}

async fn describe_one(
    pipeline: &Pipeline,
    consent: &Consent,
    usual: &Usual,
    on_chain: &OnChain,
) -> Result<wire::Consent, PipelineError> {
    let (store, anchored) = (&pipeline.store, on_chain.of(consent));
    let handle = consent.opening.handle;
    let kept = store.revocation(handle).await?;
    let revoked_on_chain = match kept.as_ref().and_then(|revocation| revocation.landed) {
        Some(landed) => Some(landed.revoked_at),
        None => {
            let elsewhere = store.revoked_elsewhere(handle).await?;
            elsewhere.map(|elsewhere| elsewhere.revoked_at)
        }
    };
    // Whoever revoked it: what is known here counts at once, in the circle or not.
    let state = match consent.state {
        _ if kept.is_some() || revoked_on_chain.is_some() => wire::ConsentState::Revoked,
        ConsentState::Revoked => wire::ConsentState::Revoked,
        ConsentState::Frozen => wire::ConsentState::Frozen,
        ConsentState::OldKey => wire::ConsentState::OldKey,
        ConsentState::NotYet => wire::ConsentState::NotYet,
        ConsentState::Expired => wire::ConsentState::Expired,
        ConsentState::InForce => wire::ConsentState::InForce,
    };
    let mut stages = stages(consent, anchored.ok().flatten());
    stages.extend(revoked_on_chain.map(|at| StageTime {
        stage: Stage::Revoked,
        at,
    }));
    let unsent = kept.filter(|_| revoked_on_chain.is_none());
    let stage = match (&unsent, stages.last()) {
        (None, Some(last)) => ConsentStage::from(last.stage),
        _ => ConsentStage::DeniedHere,
    };
    Ok(wire::Consent {
        consent: consent.commitment,
        handle,
        salt: consent.opening.salt,
        state,
        stage,
        next: match (&unsent, state) {
            (Some(kept), _) => usual.until(Stage::Revoked, kept.seen_at),
            (None, wire::ConsentState::Revoked) => None,
            (None, _) => usual.next(&stages),
        },
        to: consent.opening.grantee,
        not_before: consent.opening.not_before,
        not_after: consent.opening.not_after,
        provision: consent.terms.provision.clone(),
        exceptions: consent.terms.exceptions.clone(),
        denied_since: unsent
            .as_ref()
            .map(|kept| kept.seen_at)
            .or(consent.revoked_at),
        stages,
        unproven: anchored.err().map(ToOwned::to_owned),
        anyone_can_send: unsent
            .map(|kept| anyone_can_send(pipeline.registry, &kept.secret, kept.claim_key)),
    })
}

/// What anyone can send to bring a revocation on chain.
#[must_use]
pub fn anyone_can_send(
    registry: Registry,
    secret: &RevocationSecret,
    claim_key: PublicKey,
) -> Sendable {
    Sendable {
        registry: registry.registry,
        function: "revoke".into(),
        secret: secret.reveal_text(),
        claim_key,
    }
}

/// What the chain has of the batches that a circle shows as anchored: a custodian that lies about
/// it is not believed.
struct OnChain {
    anchored: BTreeMap<Root, UnixSeconds>,
    /// Why the others were not asked about, if they were not.
    unasked: Option<String>,
}

impl OnChain {
    const NOT_THERE: &'static str = "the hospital says that it is anchored; the chain has nothing";

    /// Asks the chain about each batch once; what it has is kept.
    async fn ask(pipeline: &Pipeline, consents: &[Consent]) -> Result<Self, StoreError> {
        let mut on_chain = Self {
            anchored: BTreeMap::new(),
            unasked: None,
        };
        let shown = consents.iter().filter_map(said_anchored);
        let shown: BTreeMap<Root, Anchorer> = shown.map(|it| (it.root, it.anchorer)).collect();
        for (root, anchorer) in shown {
            if let Some(at) = pipeline.known_anchored(anchorer, root).await? {
                on_chain.anchored.insert(root, at);
                continue;
            }
            if on_chain.unasked.is_some() {
                continue;
            }
            match pipeline.ask_anchored(anchorer, root).await {
                Ok(at) => on_chain.anchored.extend(at.map(|at| (root, at))),
                Err(PipelineError::Store(error)) => return Err(error),
                Err(error) => {
                    let why = format!("the hospital says that it is anchored; {error}");
                    on_chain.unasked = Some(why);
                }
            }
        }
        Ok(on_chain)
    }

    /// When the chain had a consent's batch; why that is not known, where the circle says that it
    /// is anchored.
    fn of(&self, consent: &Consent) -> Result<Option<UnixSeconds>, &str> {
        let Some(position) = said_anchored(consent) else {
            return Ok(None);
        };
        let anchored = self.anchored.get(&position.root).copied().map(Some);
        anchored.ok_or(self.unasked.as_deref().unwrap_or(Self::NOT_THERE))
    }
}

/// Where a consent stands, if its circle says that this is anchored.
fn said_anchored(consent: &Consent) -> Option<&Position> {
    let position = consent.anchors.first()?;
    position
        .submission
        .and_then(|out| out.block)
        .map(|_| position)
}

/// The stages that a consent has reached, with their times.
fn stages(consent: &Consent, anchored_at: Option<UnixSeconds>) -> Vec<StageTime> {
    let mut stages = vec![StageTime {
        stage: Stage::Recorded,
        at: consent.recorded_at,
    }];
    if let Some(position) = consent.anchors.first() {
        stages.push(StageTime {
            stage: Stage::Sealed,
            at: position.sealed_at,
        });
        stages.extend(position.submitted_at.map(|at| StageTime {
            stage: Stage::Submitted,
            at,
        }));
        stages.extend(anchored_at.map(|at| StageTime {
            stage: Stage::Anchored,
            at,
        }));
    }
    stages
}

/// How long a stage usually takes from the one before: the median of what this home sealed and
/// sent last; where it does neither, of these consents; and where there are none yet, what the
/// configuration comes to.
struct Usual(Vec<(Stage, u64)>);

impl Usual {
    /// Of how many of the latest that is.
    const LATEST: u32 = 200;
    /// Each stage with the one before, and as the store calls it.
    const STAGES: [(Stage, Stage, &str); 4] = [
        (Stage::Recorded, Stage::Sealed, "sealed"),
        (Stage::Sealed, Stage::Submitted, "submitted"),
        (Stage::Submitted, Stage::Anchored, "anchored"),
        (Stage::Anchored, Stage::Revoked, "revoked"),
    ];
    /// How long a transaction takes of which nothing is known.
    const SENT_S: u64 = 60;

    async fn of(
        pipeline: &Pipeline,
        consents: &[Consent],
        on_chain: &OnChain,
    ) -> Result<Self, StoreError> {
        let own = pipeline.store.stage_times(Self::LATEST).await?;
        let shown = consents.iter();
        let shown = shown.map(|consent| stages(consent, on_chain.of(consent).ok().flatten()));
        let shown: Vec<Vec<StageTime>> = shown.collect();
        let usual = Self::STAGES.map(|(from, to, name)| {
            let own = own.iter().find(|(known, _)| *known == name);
            let own = own.and_then(|(_, took)| median(took));
            let otherwise = match to {
                Stage::Sealed => pipeline.batch.age_s_max,
                _ => Self::SENT_S,
            };
            (
                to,
                own.or_else(|| between(&shown, from, to))
                    .unwrap_or(otherwise),
            )
        });
        Ok(Self(usual.to_vec()))
    }

    /// What comes next, since when it is waited for, and how long that usually takes.
    fn next(&self, stages: &[StageTime]) -> Option<Next> {
        let last = stages.last().filter(|last| last.stage != Stage::Anchored)?;
        let (_, next, _) = Self::STAGES.iter().find(|(from, ..)| *from == last.stage)?;
        self.until(*next, last.at)
    }

    /// How long it takes to a stage, since then.
    fn until(&self, stage: Stage, since: UnixSeconds) -> Option<Next> {
        let (_, usually_s) = self.0.iter().find(|(to, _)| *to == stage)?;
        Some(Next {
            stage,
            since,
            usually_s: *usually_s,
        })
    }
}

fn median(in_order: &[u64]) -> Option<u64> {
    in_order.get(in_order.len() / 2).copied()
}

/// How long the middle one of these consents took from a stage to another; nothing of a revocation,
/// which has no stage before it.
fn between(consents: &[Vec<StageTime>], from: Stage, to: Stage) -> Option<u64> {
    let time = |stages: &[StageTime], stage| {
        let reached = stages.iter().find(|reached| reached.stage == stage);
        reached.map(|reached| reached.at.0)
    };
    let took =
        |stages: &Vec<StageTime>| Some(time(stages, to)?.saturating_sub(time(stages, from)?));
    let mut took: Vec<u64> = consents.iter().filter_map(took).collect();
    took.sort_unstable();
    median(&took)
}

/// Why there is no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReceipt {
    /// It has no place yet.
    #[error("the consent is recorded and waits for its batch; it has no receipt yet")]
    NotSealed,
    /// Its batch is on its way.
    #[error("the consent's batch is sealed and not yet anchored; it has no receipt yet")]
    NotAnchored,
    /// Its circle says that it is anchored, and the chain does not.
    #[error("{}; there is no receipt", OnChain::NOT_THERE)]
    NotThere,
}

/// A receipt, and why nobody looked whether the chain bears it out, if so.
pub type Looked = (Receipt, Option<String>);

/// The receipt of an anchored consent, after a look at the chain.
///
/// # Errors
/// A store that does not answer; inside, why there is no receipt.
pub async fn receipt_on_chain(
    pipeline: &Pipeline,
    consent: &Consent,
) -> Result<Result<Looked, NoReceipt>, StoreError> {
    let on_chain = OnChain::ask(pipeline, std::slice::from_ref(consent)).await?;
    let unlooked = match on_chain.of(consent) {
        Err(OnChain::NOT_THERE) => return Ok(Err(NoReceipt::NotThere)),
        Err(why) => Some(why.to_owned()),
        Ok(_) => None,
    };
    Ok(receipt(pipeline.registry, consent).map(|receipt| (receipt, unlooked)))
}

/// The receipt of an anchored consent, from the circle alone.
///
/// # Errors
/// [`NoReceipt`].
pub fn receipt(registry: Registry, consent: &Consent) -> Result<Receipt, NoReceipt> {
    let position = consent.anchors.first().ok_or(NoReceipt::NotSealed)?;
    let block = position.submission.and_then(|submission| submission.block);
    let block = block.ok_or(NoReceipt::NotAnchored)?;
    Ok(Receipt {
        registry,
        anchorer: position.anchorer,
        terms: consent.terms.clone(),
        opening: consent.opening,
        signature: consent.signature,
        proof: position.proof.clone(),
        root: position.root,
        block: Block {
            number: block.number,
            hash: block.hash,
        },
        stages: stages(consent, Some(block.time)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sample;

    #[test]
    fn hostile_hospital_says_that_it_is_anchored_and_the_chain_alone_is_believed() {
        let consent = sample::consent();
        let root = consent.anchors[0].root;
        let anchored = |stages: Vec<StageTime>| {
            let anchored = stages.into_iter().filter(|it| it.stage == Stage::Anchored);
            anchored.map(|it| it.at).collect::<Vec<_>>()
        };
        let mut on_chain = OnChain {
            anchored: BTreeMap::new(),
            unasked: None,
        };
        assert_eq!(on_chain.of(&consent), Err(OnChain::NOT_THERE));
        on_chain.unasked = Some("it does not answer".into());
        assert_eq!(on_chain.of(&consent), Err("it does not answer"));
        assert_eq!(anchored(stages(&consent, None)), []);
        let at = UnixSeconds(15);
        on_chain.anchored.insert(root, at);
        assert_eq!(on_chain.of(&consent), Ok(Some(at)));
        assert_eq!(anchored(stages(&consent, Some(at))), [at]);
        let mut sealed = consent;
        sealed.anchors[0].submission = None;
        assert_eq!(on_chain.of(&sealed), Ok(None));
    }
}
