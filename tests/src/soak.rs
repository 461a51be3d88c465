//! Soak: a stream of grants and revocations on real parts, while their processes are killed and
//! everything around them goes wrong.
//!
//! What the patient's command said was granted or revoked counts. In the end each of it has to be
//! on chain, once, and `fsck` has to find nothing on either side.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::ChaCha20Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::medsync::{Answer, Running, medsync};
use crate::seeds::random_seed;
use crate::story::{Part, Story, wait_for};

use disturb::Disturbances;
pub use disturb::{KINDS_OF_FAULT, Tally};

mod disturb;

/// How far the story goes before: a circle with its patient.
const ENROLLED: usize = 8;
/// One in so many commands revokes.
const REVOKES_EACH: u32 = 3;
/// What may be killed at any moment.
const PARTS: [Part; 5] = [
    Part::Hospital,
    Part::Patient,
    Part::HospitalNode,
    Part::PatientNode,
    Part::Devnet,
];

/// What a soak is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// How long it takes at least.
    pub length: Duration,
    /// How many processes are killed.
    pub kills: u32,
    /// What everything random follows from, as far as real processes allow; any, if there is none.
    pub seed: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many processes were killed.
    pub kills: u32,
    /// What else happened.
    pub tally: Tally,
    /// How many consents were granted.
    pub grants: usize,
    /// How many of them were revoked.
    pub revocations: usize,
    /// How much of both is not on chain.
    pub lost: usize,
    /// How many consents are on chain twice.
    pub doubled: usize,
    /// What `fsck` said of both homes, if anything.
    pub found: Vec<String>,
}

impl Outcome {
    /// Whether nothing was lost or doubled, and everything fits together.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.found.is_empty()
    }

    /// In one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Tally {
            endpoint_faults,
            reorganisations,
            clock_jumps,
            full_disks,
        } = self.tally;
        let fsck = match &self.found[..] {
            [] => "clean".to_owned(),
            found => format!("found {}", found.join("; ")),
        };
        let counted = [
            (self.kills, "kill"),
            (endpoint_faults, "endpoint fault"),
            (reorganisations, "reorganisation"),
            (clock_jumps, "clock jump"),
            (full_disks, "full disk"),
        ];
        let counted = counted.map(|(count, what)| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        });
        let Self {
            grants,
            revocations,
            lost,
            doubled,
            ..
        } = self;
        format!(
            "soak: {}; {grants} grants, {revocations} revocations; lost {lost}, doubled {doubled}, \
             fsck {fsck}",
            counted.join(", ")
        )
    }
}

/// The stream, and what was said of it.
struct Stream {
    story: Story,
    home: String,
    grantee: String,
    policy: String,
    granted: Vec<String>,
    revoked: BTreeSet<String>,
}

impl Stream {
    fn begin() -> anyhow::Result<Self> {
        let mut story = Story::new()?;
        story.play_until(ENROLLED, &mut |_, _| Ok(()))?;
        let policy = story.path_text("policy.txt");
        fs::write(&policy, "Data may be used for the study.\n")?;
        Ok(Self {
            home: story.path_text("patient"),
            grantee: story.grantee()?,
            policy,
            story,
            granted: Vec::new(),
            revoked: BTreeSet::new(),
        })
    }

    /// What the patient does next. One that failed is asked for again, and is the same then.
    fn next(&self, random: &mut ChaCha20Rng) -> Vec<String> {
        let in_force: Vec<&String> = self
            .granted
            .iter()
            .filter(|consent| !self.revoked.contains(*consent))
            .collect();
        let revokes = random.random_ratio(1, REVOKES_EACH);
        let which = in_force.choose(random).filter(|_| revokes);
        let words = if let Some(which) = which {
            vec!["revoke", "--home", &self.home, which]
        } else {
            let mut grant = vec!["grant", "--home", &self.home, "--to", &self.grantee];
            grant.extend([
                "--purpose",
                "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH",
            ]);
            grant.extend(["--days", "365", "--policy", &self.policy]);
            grant.extend(["--policy-uri", "https://example.org/policy/study"]);
            grant
        };
        let mut words: Vec<String> = ["patient"]
            .iter()
            .chain(&words)
            .map(ToString::to_string)
            .collect();
        if words[1] == "grant" {
            words.extend(["--request".into(), format!("number {}", self.granted.len())]);
        }
        words
    }

    fn note(&mut self, words: &[String], answer: &Answer) -> anyhow::Result<()> {
        let Ok(json) = answer.json() else {
            return Ok(());
        };
        let consent = json["consent"].as_str().context("a consent has a name")?;
        match words[1].as_str() {
            "grant" => self.granted.push(consent.to_owned()),
            _ => drop(self.revoked.insert(consent.to_owned())),
        }
        Ok(())
    }
}

/// Runs for a while; kills processes at even times, each while a command is at work, and disturbs
/// what is around them.
///
/// # Errors
/// A process that does not come back, a disturbance that does not end, or a command that says what
/// it should not.
pub fn soak(asked: Asked) -> anyhow::Result<Outcome> {
    let seed = asked.seed.unwrap_or_else(random_seed);
    println!("soak: seed {seed}");
    let mut stream = Stream::begin()?;
    let random = ChaCha20Rng::seed_from_u64(seed);
    let mut disturbances = Disturbances::begin(&mut stream.story, asked.length, random)?;
    if let Err(error) = run(&mut stream, &mut disturbances, asked) {
        stream.story.print_logs();
        return Err(error);
    }
    disturbances.endpoint.set(None);
    settle(&stream, asked.kills, &disturbances.tally)
}

fn run(stream: &mut Stream, disturbances: &mut Disturbances, asked: Asked) -> anyhow::Result<()> {
    let Asked { length, kills, .. } = asked;
    let (began, pause) = (Instant::now(), length / (kills + 1));
    let mut killed = 0;
    let bar = indicatif::ProgressBar::new(length.as_secs());
    while began.elapsed() < length || killed < kills || !disturbances.are_over() {
        bar.set_position(began.elapsed().as_secs());
        bar.set_message(format!("{killed} kills, {} grants", stream.granted.len()));
        disturbances.look(&mut stream.story)?;
        let words = stream.next(disturbances.random());
        let running = Running::start(&words)?;
        if killed < kills && began.elapsed() >= pause * (killed + 1) {
            kill(&mut stream.story, disturbances)?;
            killed += 1;
        }
        let answer = running.end()?;
        stream.note(&words, &answer)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn kill(story: &mut Story, disturbances: &mut Disturbances) -> anyhow::Result<()> {
    let part = if disturbances.wait_for_a_look() {
        Part::Hospital
    } else {
        // A node that starts while the disk is full would have no room for ever: the limit is its
        // process's own.
        let is_full = disturbances.disk_is_full();
        let mut parts = PARTS.to_vec();
        parts.retain(|part| !(is_full && *part == Part::HospitalNode));
        let part = parts.choose(disturbances.random());
        *part.context("there are parts")?
    };
    disturbances.say(&format!("kill {part:?}"));
    if part == Part::Devnet {
        // What it took after its history was written down would be lost without being counted.
        let endpoint = &disturbances.endpoint;
        return endpoint.closed_while(|| story.kill_and_restart(part));
    }
    story.kill_and_restart(part)
}

/// Waits until nothing is under way, and counts.
fn settle(stream: &Stream, kills: u32, tally: &Tally) -> anyhow::Result<Outcome> {
    let mut last = Outcome::default();
    let sound = wait_for("everything to be on chain", || {
        last = Outcome {
            kills,
            tally: tally.clone(),
            ..count(stream)?
        };
        Ok(last.is_sound().then_some(()))
    });
    if sound.is_err() {
        stream.story.print_logs();
    }
    Ok(last)
}

fn count(stream: &Stream) -> anyhow::Result<Outcome> {
    let show = ["patient", "show", "--home", &stream.home, "--json"];
    let shown = wait_for("the patient's circle", || Ok(medsync(&show)?.json().ok()))?;
    let consents = shown["consents"].as_array().context("consents")?;
    let reached = |consent: &Value, stage: &str| {
        let stages = consent["stages"].as_array();
        stages.is_some_and(|all| all.iter().any(|one| one["stage"] == stage))
    };
    let with = |stage: &str| -> BTreeSet<&str> {
        let there = consents.iter().filter(|consent| reached(consent, stage));
        there
            .filter_map(|consent| consent["consent"].as_str())
            .collect()
    };
    let (anchored, revoked) = (with("anchored"), with("revoked"));
    let missing = stream
        .granted
        .iter()
        .filter(|one| !anchored.contains(one.as_str()));
    let going_on = stream
        .revoked
        .iter()
        .filter(|one| !revoked.contains(one.as_str()));
    let mut outcome = Outcome {
        grants: stream.granted.len(),
        revocations: stream.revoked.len(),
        lost: missing.count() + going_on.count(),
        ..Outcome::default()
    };
    for home in ["hospital", "patient"] {
        let path = stream.story.path_text(home);
        let looked = medsync(&["fsck", "--home", &path, "--json"])?;
        let line = looked.out.lines().last().unwrap_or_default();
        let Ok(json) = serde_json::from_str::<Value>(line) else {
            outcome.found.push(format!("{home}: {}", looked.err.trim()));
            continue;
        };
        for one in json["found"].as_array().context("what was found")? {
            let what = one["found"]["what"].as_str().unwrap_or_default();
            outcome.doubled += usize::from(what == "anchored_twice");
            outcome.found.push(format!("{home}: {}", one["found"]));
        }
    }
    Ok(outcome)
}
