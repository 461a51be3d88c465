//! How long one consent takes on real parts: three nodes, three daemons, a devnet whose blocks
//! close at an interval, and the command line.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::party::Party;
use medsync::pipeline::Pipeline;
use medsync::preview::{Line, Question, judge};
use medsync::source::{Circle, Consent, all_consents};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::ContextId;
use medsync_protocol::receipt::Stage;
use medsync_protocol::secrets::Handle;
use medsync_tests::devnet::Blocks;
use medsync_tests::medsync::medsync;
use medsync_tests::story::Story;

use crate::report::{Figure, Report};

/// How often the chain closes a block, in seconds: about as often as Starknet does.
const BLOCK_S: u32 = 4;
/// For what the patient consents.
const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const PURPOSE: &str = "HRESCH";
/// How far the story goes before: a circle with its patient and records.
const IMPORTED: usize = 9;
/// What the story's hospital is told: a batch closes when its oldest consent waits this long.
const BATCH_AGE_S: u32 = 2;
/// How many consents are granted and revoked, one after the other; the larger number is asked for.
const CONSENTS: usize = 10;
const CONSENTS_FULL: usize = 30;
/// How often it is looked whether something happened, and for how long at most.
const LOOK_EACH: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(240);

/// What is looked at: each side through its own home, as its commands do.
struct Watch {
    hospital: Pipeline,
    hospital_circle: Box<dyn Circle>,
    patient_circle: Box<dyn Circle>,
    question: Question,
}

/// The times of some consents.
#[derive(Default)]
struct Times {
    anchored: Vec<Duration>,
    denied: Vec<Duration>,
    revoked: Vec<Duration>,
    /// What the commands themselves take, most of it for the passphrase; part of the others.
    grant: Vec<Duration>,
    revoke: Vec<Duration>,
}

/// Measures some consents from their grant to their revocation on chain.
pub fn measure(report: &mut Report, is_full: bool) -> anyhow::Result<()> {
    let count = if is_full { CONSENTS_FULL } else { CONSENTS };
    report.measuring("starting nodes, daemons and a devnet");
    let mut story = Story::new()?;
    story.blocks = Blocks::EachSeconds(BLOCK_S);
    story.play_until(IMPORTED, &mut |_, _| Ok(()))?;
    let policy = story.path_text("policy.txt");
    std::fs::write(&policy, "Data may be used for the study.\n")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let taken = runtime.block_on(take(report, &story, &policy, count));
    if taken.is_err() {
        story.print_logs();
    }
    let times = taken?;
    for (name, times) in [
        ("grant_to_anchored", times.anchored),
        ("revoke_to_denied", times.denied),
        ("revoke_to_on_chain", times.revoked),
        ("grant_command", times.grant),
        ("revoke_command", times.revoke),
    ] {
        add(report, name, times);
    }
    Ok(())
}

fn add(report: &mut Report, name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let how = format!(
        "{} consents one after the other, of which p99 is the longest; time passed since the \
         command began, it included; real nodes, daemons and devnet; a block each {BLOCK_S} s, a \
         batch after {BATCH_AGE_S} s",
        times.len()
    );
    for (what, percent) in [("p50", 50), ("p99", 99)] {
        let Some(time) = percentile(&times, percent) else {
            continue;
        };
        let figure = Figure::new(format!("{name}_{what}"), "s", time.as_secs_f64(), &how);
        report.add(figure.against("the block time", f64::from(BLOCK_S)));
    }
}

/// The smallest of the sorted times that so many percent of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

async fn take(report: &Report, story: &Story, policy: &str, count: usize) -> anyhow::Result<Times> {
    let watch = Watch::of(story).await?;
    let (home, grantee) = (story.path_text("patient"), story.grantee()?);
    let purpose = format!("{SYSTEM}|{PURPOSE}");
    let mut grant = vec!["patient", "grant", "--home", &home, "--to", &grantee];
    grant.extend(["--purpose", &purpose, "--days", "365", "--policy", policy]);
    grant.extend(["--policy-uri", "https://example.org/policy/study"]);
    let mut times = Times::default();
    for number in 1..=count {
        report.measuring(&format!("consent {number} of {count} on real parts"));
        let began = Instant::now();
        let consent = command(&grant).await?;
        times.grant.push(began.elapsed());
        let commitment: Commitment = consent.parse().context("a consent's name")?;
        let handle = until("the anchor", || watch.anchored(commitment)).await?;
        times.anchored.push(began.elapsed());
        until("the release", || watch.releases(true)).await?;

        let revoke = ["patient", "revoke", "--home", &home, &consent];
        let began = Instant::now();
        let since = |done: anyhow::Result<()>| done.map(|()| began.elapsed());
        let (own, denied, revoked) = tokio::join!(
            async { since(command(&revoke).await.map(drop)) },
            async { since(until("the denial", || watch.releases(false)).await) },
            async { since(until("the revocation", || watch.revoked(handle)).await) },
        );
        times.revoke.push(own?);
        times.denied.push(denied?);
        times.revoked.push(revoked?);
    }
    Ok(times)
}

/// Runs a command that names a consent; answers its name.
async fn command(words: &[&str]) -> anyhow::Result<String> {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    let answer = tokio::task::spawn_blocking(move || medsync(&words)).await??;
    let name = answer.json()?["consent"].as_str().map(Into::into);
    name.context("a consent has a name")
}

/// Looks until something is there.
async fn until<T, F>(what: &str, look: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(
            began.elapsed() < WAIT,
            "waited {} s for {what}",
            WAIT.as_secs()
        );
        tokio::time::sleep(LOOK_EACH).await;
    }
}

impl Watch {
    async fn of(story: &Story) -> anyhow::Result<Self> {
        let context: ContextId = story.circle()?.parse().context("a circle's name")?;
        let hospital = Party::open(&story.path("hospital")).await?;
        let patient = Party::open(&story.path("patient")).await?;
        Ok(Self {
            hospital: hospital.pipeline()?,
            hospital_circle: hospital.enter(context).await?,
            patient_circle: patient.enter(context).await?,
            question: Question {
                recipient: story.grantee()?.parse().context("a recipient's key")?,
                purposes: CodeSet::collect([Code::new(SYSTEM, PURPOSE)])?,
                classes: CodeSet::default(),
                understood: CodeSet::default(),
            },
        })
    }

    /// The handle of a consent, once the patient's circle says that it is anchored.
    async fn anchored(&self, commitment: Commitment) -> anyhow::Result<Option<Handle>> {
        let consents = all_consents(&*self.patient_circle).await?;
        let own = consents.iter().find(|own| own.commitment == commitment);
        let is_anchored = |own: &&Consent| {
            let mut anchors = own.anchors.iter();
            anchors.any(|position| position.stage() == Stage::Anchored)
        };
        Ok(own.filter(is_anchored).map(|own| own.opening.handle))
    }

    /// Whether the hospital decides so about a request of now.
    async fn releases(&self, expected: bool) -> anyhow::Result<Option<()>> {
        let lines = judge(&self.hospital, &*self.hospital_circle, &self.question).await?;
        ensure!(!lines.is_empty(), "there are records");
        let released = lines.iter().any(Line::is_released);
        Ok((released == expected).then_some(()))
    }

    /// Whether the chain has a revocation.
    async fn revoked(&self, handle: Handle) -> anyhow::Result<Option<()>> {
        let registry = self.hospital.registry.registry;
        let (times, _) = self.hospital.chain.revoked_at(registry, &[handle]).await?;
        Ok(times.first().copied().flatten().map(drop))
    }
}
