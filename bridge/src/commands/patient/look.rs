//! Looking: consents with their stages, records, receipts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{Anchorer, ContextId, UnixSeconds};
use medsync_protocol::receipt::{Block, Receipt, Stage, StageTime};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;
use serde_json::json;

use super::consents::{anyone_can_send, find};
use super::own_circle;
use crate::audit::{answers_fact, broken_glass, described_fact, forked_fact, logs_fact};
use crate::commands::verify::code;
use crate::commands::{Home, print_json};
use crate::files;
use crate::party::Party;
use crate::pipeline::ingest::rewritten_fact;
use crate::preview::{Question, obligations_on, preview};
use crate::source::{CircleState, Consent, ConsentState, Position, all_consents};

/// Show the circle and every consent in it.
pub async fn show(home: &Path, as_json: bool) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, _) = own_circle(&party).await?;
    let found = found(&party, context).await?;
    let circle = match party.enter(context).await {
        Ok(circle) => circle,
        Err(error) => {
            // Whoever stops a circle takes nothing back of what was found in it.
            match found {
                Some(found) if as_json => print_json(&json!({ "evidence": found }))?,
                Some(found) => println!("ALARM: {found}"),
                None => {}
            }
            return Err(error.into());
        }
    };
    let state = circle.circle().await?;
    let all = all_consents(&*circle).await?;
    let on_chain = OnChain::ask(&party, &all).await?;
    let usual = Usual::of(&all, &on_chain);
    let mut consents = Vec::new();
    for consent in &all {
        consents.push(describe(&party, consent, &usual, &on_chain).await?);
    }
    let custodian = state.custodian.author_key;
    let broken_glass = broken_glass(&party.store, context, custodian).await?;
    let members = members(&state);
    let restored_at = party.store.restored_at().await?;
    if as_json {
        return print_json(&json!({
            "circle": context,
            "frozen": state.frozen,
            "patient": state.keys.last(),
            "members": members,
            "restored_at": restored_at,
            "evidence": found,
            "broken_glass": broken_glass,
            "consents": consents,
        }));
    }
    if let Some(found) = found {
        println!("ALARM: {found}");
    }
    for glass in &broken_glass {
        println!("ALERT: the glass was broken: {}", json!(glass));
    }
    if let Some(UnixSeconds(at)) = restored_at {
        println!("restored from a backup at {at}: the recovery file needs this number");
    }
    if state.frozen {
        println!("FROZEN: two different enrolments are in this circle; no consent counts");
    }
    for member in &members {
        println!("admitted: {member}");
    }
    println!("circle {context}: {} consents", consents.len());
    for consent in consents {
        println!("{}", serde_json::to_string_pretty(&consent)?);
    }
    Ok(())
}

/// What was found of others' doings so far.
async fn found(party: &Party, context: ContextId) -> anyhow::Result<Option<String>> {
    let forked = party.store.fact(&forked_fact(context)).await?;
    let said = async |name: String| {
        let fact = party.store.fact(&name).await?;
        anyhow::Ok(fact.filter(|why| !why.is_empty()))
    };
    let answers = said(answers_fact(context)).await?;
    let logs = said(logs_fact(context)).await?;
    let described = said(described_fact(context)).await?;
    let evidence = party.store.evidence(context).await?.describe();
    let rewritten = party.store.fact(&rewritten_fact(context)).await?;
    let all = [forked, rewritten, logs, answers, described, evidence];
    let all = all.into_iter().flatten();
    Ok(all.reduce(|a, b| format!("{a}; {b}")))
}

/// Whom the patient admitted, once each.
fn members(state: &CircleState) -> Vec<serde_json::Value> {
    let admissions: BTreeSet<_> = state.admitted().map(|found| found.admission).collect();
    admissions
        .iter()
        .map(|admission| {
            json!({
                "member": admission.member,
                "device": admission.device,
                "role": admission.device.role(),
                "admitted_by": admission.admitted_by,
            })
        })
        .collect()
}

async fn describe(
    party: &Party,
    consent: &Consent,
    usual: &Usual,
    on_chain: &OnChain,
) -> anyhow::Result<serde_json::Value> {
    let anchored = on_chain.of(consent);
    let handle = consent.opening.handle;
    let kept = party.store.revocation(handle).await?;
    let revoked_on_chain = match kept.as_ref().and_then(|revocation| revocation.landed) {
        Some(landed) => Some(landed.revoked_at),
        None => {
            let elsewhere = party.store.revoked_elsewhere(handle).await?;
            elsewhere.map(|elsewhere| elsewhere.revoked_at)
        }
    };
    // Whoever revoked it: what is known here counts at once, in the circle or not.
    let state = match consent.state {
        _ if kept.is_some() || revoked_on_chain.is_some() => "revoked",
        ConsentState::Revoked => "revoked",
        ConsentState::Frozen => "frozen",
        ConsentState::OldKey => "old_key",
        ConsentState::NotYet => "not_yet",
        ConsentState::Expired => "expired",
        ConsentState::InForce => "in_force",
    };
    let mut stages = stages(consent, anchored.ok().flatten());
    stages.extend(revoked_on_chain.map(|at| StageTime {
        stage: Stage::Revoked,
        at,
    }));
    let unsent = kept.filter(|_| revoked_on_chain.is_none());
    let stage = match &unsent {
        Some(_) => json!("denied here, not yet on chain"),
        None => json!(stages.last().map(|last| last.stage)),
    };
    Ok(json!({
        "consent": consent.commitment,
        "handle": handle,
        "state": state,
        "stage": stage,
        "next": (state != "revoked").then(|| usual.next(&stages)).flatten(),
        "to": consent.opening.grantee,
        "not_before": consent.opening.not_before,
        "not_after": consent.opening.not_after,
        "provision": consent.terms.provision,
        "exceptions": consent.terms.exceptions,
        "denied_since": unsent.as_ref().map(|kept| kept.seen_at).or(consent.revoked_at),
        "stages": stages,
        "unproven": anchored.err(),
        "anyone_can_send": unsent
            .map(|kept| anyone_can_send(party, &kept.secret, kept.claim_key)),
    }))
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
    async fn ask(party: &Party, consents: &[Consent]) -> anyhow::Result<Self> {
        let chain = party.pipeline()?.chain;
        let registry = party.config.chain.registry;
        let mut on_chain = Self {
            anchored: BTreeMap::new(),
            unasked: None,
        };
        let shown = consents.iter().filter_map(said_anchored);
        let shown: BTreeMap<Root, Anchorer> = shown.map(|it| (it.root, it.anchorer)).collect();
        for (root, anchorer) in shown {
            let fact = format!("on_chain:{anchorer}:{root}");
            let kept = party.store.fact(&fact).await?;
            if let Some(at) = kept.and_then(|text| text.parse().ok()) {
                on_chain.anchored.insert(root, UnixSeconds(at));
                continue;
            }
            if on_chain.unasked.is_some() {
                continue;
            }
            match chain.anchored_at(registry, anchorer, root).await {
                Ok(Some(at)) => {
                    party.store.state_fact(&fact, &at.0.to_string()).await?;
                    on_chain.anchored.insert(root, at);
                }
                Ok(None) => {}
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

/// How long each stage usually takes to the next: the median of this circle's own consents, or
/// where there are none yet, what a hospital's defaults come to.
struct Usual(Vec<(Stage, u64)>);

impl Usual {
    const STEPS: [(Stage, Stage, u64); 3] = [
        (Stage::Recorded, Stage::Sealed, 10 * 60),
        (Stage::Sealed, Stage::Submitted, 60),
        (Stage::Submitted, Stage::Anchored, 60),
    ];

    fn of(consents: &[Consent], on_chain: &OnChain) -> Self {
        let all = consents.iter();
        let all = all.map(|consent| stages(consent, on_chain.of(consent).ok().flatten()));
        let all: Vec<Vec<StageTime>> = all.collect();
        let usual = Self::STEPS.map(|(from, to, otherwise)| {
            let time = |stages: &[StageTime], stage| {
                let reached = stages.iter().find(|reached| reached.stage == stage);
                reached.map(|reached| reached.at.0)
            };
            let mut taken: Vec<u64> = all
                .iter()
                .filter_map(|stages| Some(time(stages, to)?.saturating_sub(time(stages, from)?)))
                .collect();
            taken.sort_unstable();
            let median = taken.get(taken.len() / 2).copied();
            (from, median.unwrap_or(otherwise))
        });
        Self(usual.to_vec())
    }

    /// What comes next, since when it is waited for, and how long that usually takes.
    fn next(&self, stages: &[StageTime]) -> Option<serde_json::Value> {
        let last = stages.last()?;
        let (_, next, _) = Self::STEPS.iter().find(|(from, ..)| *from == last.stage)?;
        let (_, usually_s) = self.0.iter().find(|(from, _)| *from == last.stage)?;
        Some(json!({ "stage": next, "since": last.at, "usually_s": usually_s }))
    }
}

/// Show what a recipient would get now.
#[derive(Debug, clap::Args)]
pub struct Preview {
    #[command(flatten)]
    home: Home,
    /// The recipient's public key.
    #[arg(long)]
    to: PublicKey,
    /// For what, as SYSTEM|CODE; may be named several times.
    #[arg(long, required = true, value_parser = code)]
    purpose: Vec<Code>,
    /// Which classes of records it asks for, as SYSTEM|CODE; may be named several times. All if
    /// none is named.
    #[arg(long, value_parser = code)]
    class: Vec<Code>,
    /// An obligation that the recipient will keep, as SYSTEM|CODE; may be named several times.
    /// Whatever the consents oblige it to, if none is named.
    #[arg(long, value_parser = code)]
    understood: Vec<Code>,
    /// Also show what they would not get, and why.
    #[arg(long)]
    all: bool,
}

impl Preview {
    /// Decides every record and prints, a line each.
    ///
    /// # Errors
    /// A circle that cannot be read, a chain that does not say what was revoked, or a question that
    /// is none.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        let understood = match self.understood.as_slice() {
            [] => obligations_on(&party.store, &*circle, self.to).await?,
            named => CodeSet::collect(named.iter().cloned()).context("--understood")?,
        };
        let question = Question {
            recipient: self.to,
            purposes: CodeSet::collect(self.purpose).context("--purpose")?,
            classes: CodeSet::collect(self.class).context("--class")?,
            understood,
        };
        let pipeline = party.pipeline()?;
        let chain = pipeline.check_chain().await;
        chain.context("the chain says what was revoked past everybody here")?;
        for line in preview(&pipeline, &*circle, &question).await? {
            if self.all || line.is_released() {
                print_json(&line)?;
            }
        }
        Ok(())
    }
}

/// Write the receipt of an anchored consent.
#[derive(Debug, clap::Args)]
pub struct WriteReceipt {
    #[command(flatten)]
    home: Home,
    /// The consent.
    consent: Commitment,
    /// Where to write it.
    #[arg(long)]
    out: PathBuf,
}

impl WriteReceipt {
    /// Makes the receipt from the circle alone and writes it.
    ///
    /// # Errors
    /// A consent that is not anchored yet, also if the hospital says that it is.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        let consent = find(&all_consents(&*circle).await?, self.consent)?;
        let on_chain = OnChain::ask(&party, std::slice::from_ref(&consent)).await?;
        match on_chain.of(&consent) {
            Err(OnChain::NOT_THERE) => bail!("{}; there is no receipt", OnChain::NOT_THERE),
            Err(why) => eprintln!("nobody looked whether this holds: {why}"),
            Ok(_) => {}
        }
        let receipt = receipt(&party, &consent)?;
        files::write_whole(&self.out, receipt.to_json()?.as_bytes(), true)?;
        print_json(&json!({ "consent": self.consent, "receipt": self.out }))
    }
}

/// The receipt of an anchored consent, from the circle alone.
pub(super) fn receipt(party: &Party, consent: &Consent) -> anyhow::Result<Receipt> {
    let Some(position) = consent.anchors.first() else {
        bail!("the consent is recorded and waits for its batch; it has no receipt yet");
    };
    let Some(block) = position.submission.and_then(|submission| submission.block) else {
        bail!("the consent's batch is sealed and not yet anchored; it has no receipt yet");
    };
    Ok(Receipt {
        registry: party.config.chain.registry(),
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
