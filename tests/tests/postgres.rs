//! A hospital of two replicas over one PostgreSQL database, on real parts: whatever dies or is cut
//! off, nothing is lost and nothing doubled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::config::Config;
use medsync::files;
use medsync_tests::endpoint::{Endpoint, Fault};
use medsync_tests::medsync::medsync;
use medsync_tests::node::Node;
use medsync_tests::search::copy;
use medsync_tests::story::{Story, wait_for};
use medsync_tests::up::Up;
use rustix::process::Signal;
use serde_json::Value;
use server::Server;

#[path = "../../bridge/tests/pipeline/shared/server.rs"]
mod server;

/// Up to which step the story goes: the patient is enrolled, and the researcher has a key.
const ENROLLED: usize = 8;
/// The homes of the replicas.
const HOMES: [&str; 2] = ["hospital", "hospital-2"];

/// The hospital, and a patient who grants.
struct Hospital {
    story: Story,
    server: Server,
    endpoint: Endpoint,
    /// Nobody's child: no replica starts or ends it.
    _node: Node,
    replicas: Vec<Up>,
    granted: BTreeSet<String>,
}

impl Hospital {
    /// Moves the story's hospital to PostgreSQL, and gives it a second replica.
    fn of(mut story: Story) -> anyhow::Result<Self> {
        let server = Server::start();
        let endpoint = Endpoint::before(story.devnet()?)?;
        story.end_hospital();
        let home = story.path(HOMES[0]);
        let mut config = Config::load(&home)?;
        config.node.run = None;
        config.chain.rpc = vec![endpoint.rpc().parse()?];
        config.save(&home)?;
        let node = Node::start(&story.path("hospital-node"))?;
        let url = story.path("postgres.url");
        files::write_whole(&url, server.url("postgres").as_bytes(), true)?;
        let moved = medsync(&[
            "hospital",
            "move-store",
            "--home",
            &story.path_text(HOMES[0]),
            "--postgres",
            &url.to_string_lossy(),
        ])?;
        moved.json()?;
        let other = story.path(HOMES[1]);
        copy(&home, &other)?;
        fs::copy(secret_of(&home), secret_of(&other))?;
        for name in ["medsync.db", "medsync.db-wal", "medsync.db-shm"] {
            let _ = fs::remove_file(other.join(name));
        }
        let mut hospital = Self {
            story,
            server,
            endpoint,
            _node: node,
            replicas: Vec::new(),
            granted: BTreeSet::new(),
        };
        for home in HOMES {
            hospital
                .replicas
                .push(Up::start(&hospital.story.path(home))?);
        }
        hospital.leader()?;
        Ok(hospital)
    }

    /// Which replica leads.
    fn leader(&self) -> anyhow::Result<usize> {
        wait_for("a leader", || Ok(self.replicas.iter().position(Up::leads)))
    }

    /// Waits until this one leads, and says how long that took since then.
    fn led_by(&self, which: usize, what: &str, since: Instant) -> anyhow::Result<()> {
        wait_for("the hand-over", || {
            Ok(self.replicas[which].leads().then_some(()))
        })?;
        let took = since.elapsed();
        println!("hand-over when {what}: {:.1} s", took.as_secs_f64());
        Ok(())
    }

    /// The patient grants one more consent.
    fn grant(&mut self) -> anyhow::Result<()> {
        let (home, grantee) = (self.story.path_text("patient"), self.story.grantee()?);
        let policy = self.story.path_text("policy.txt");
        fs::write(&policy, "Data may be used for the study.\n")?;
        let request = format!("number {}", self.granted.len());
        let grant = [
            "patient",
            "grant",
            "--home",
            &home,
            "--to",
            &grantee,
            "--purpose",
            "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH",
            "--days",
            "365",
            "--policy",
            &policy,
            "--policy-uri",
            "https://example.org/policy/study",
            "--request",
            &request,
        ];
        let granted = wait_for("a grant", || Ok(medsync(&grant)?.json().ok()))?;
        let consent = granted["consent"].as_str().context("its name")?;
        self.granted.insert(consent.to_owned());
        Ok(())
    }

    /// Waits until every consent is anchored, as its circle says.
    fn settle(&self) -> anyhow::Result<()> {
        let home = self.story.path_text("patient");
        let show = ["patient", "show", "--home", &home, "--json"];
        wait_for("every consent to be anchored", || {
            let Ok(shown) = medsync(&show)?.json() else {
                return Ok(None);
            };
            let consents = shown["consents"].as_array().context("consents")?;
            let anchored: BTreeSet<String> = consents
                .iter()
                .filter(|consent| is_anchored(consent))
                .filter_map(|consent| Some(consent["consent"].as_str()?.to_owned()))
                .collect();
            Ok((anchored == self.granted).then_some(()))
        })
    }

    /// `fsck` of every home.
    fn check(&self) -> anyhow::Result<()> {
        for home in [HOMES[0], HOMES[1], "patient"] {
            let path = self.story.path_text(home);
            let fsck = ["fsck", "--home", &path, "--json"];
            wait_for("clean homes", || {
                let looked = medsync(&fsck)?;
                let line = looked.out.lines().last().unwrap_or_default();
                let found: Value = serde_json::from_str(line).unwrap_or_default();
                let twice = "anchored_twice";
                ensure!(!line.contains(twice), "{home}: {line}");
                Ok((found["clean"] == true).then_some(()))
            })
            .with_context(|| format!("{home}: {:?}", medsync(&fsck)))?;
        }
        Ok(())
    }

    /// How many batches are in a state, as a replica says.
    fn batches(&self, replica: usize, state: &str) -> anyhow::Result<u64> {
        let home = self.story.path_text(HOMES[replica]);
        let said = medsync(&["hospital", "status", "--home", &home, "--json"])?.json()?;
        Ok(said["counts"][format!("batches_{state}")]
            .as_u64()
            .unwrap_or_default())
    }
}

fn is_anchored(consent: &Value) -> bool {
    let stages = consent["stages"].as_array();
    stages.is_some_and(|all| all.iter().any(|one| one["stage"] == "anchored"))
}

fn secret_of(home: &Path) -> PathBuf {
    home.with_extension("secret")
}

#[test]
fn hostile_world_around_two_replicas_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let mut story = Story::new()?;
    story.play_until(ENROLLED, &mut |_, _| Ok(()))?;
    let mut hospital = Hospital::of(story)?;
    let lived = live(&mut hospital);
    if lived.is_err() {
        hospital.story.print_logs();
        let log = fs::read_to_string(hospital.story.path(HOMES[1]).join("daemon.log"));
        eprintln!("--- {}\n{}", HOMES[1], log.unwrap_or_default());
    }
    lived
}

fn live(hospital: &mut Hospital) -> anyhow::Result<()> {
    hospital.grant()?;
    hospital.settle()?;
    killed_while_it_submits(hospital)?;
    the_database_restarts(hospital)?;
    cut_off_and_back(hospital)?;
    ends_and_the_other_goes_on(hospital)?;
    hospital.settle()?;
    hospital.check()
}

fn killed_while_it_submits(hospital: &mut Hospital) -> anyhow::Result<()> {
    const LAG: Duration = Duration::from_millis(800);
    let first = hospital.leader()?;
    hospital.endpoint.set(Some(Fault::Lags(LAG)));
    hospital.grant()?;
    wait_for("a batch that is on its way", || {
        Ok((hospital.batches(1 - first, "submitted")? > 0).then_some(()))
    })?;
    let since = Instant::now();
    hospital.replicas[first].signal(Signal::KILL)?;
    hospital.led_by(1 - first, "the leader was killed", since)?;
    hospital.endpoint.set(None);
    hospital.replicas[first].kill_and_restart()?;
    hospital.grant()?;
    hospital.settle()
}

fn the_database_restarts(hospital: &mut Hospital) -> anyhow::Result<()> {
    hospital.grant()?;
    let since = Instant::now();
    hospital.server.restart();
    println!(
        "the database restarted: {:.1} s",
        since.elapsed().as_secs_f64()
    );
    hospital.grant()?;
    hospital.settle()?;
    for replica in &mut hospital.replicas {
        ensure!(replica.is_running()?, "it needs no restart of its own");
    }
    Ok(())
}

/// A leader that sleeps past its lease wakes up in the middle of its rounds.
fn cut_off_and_back(hospital: &mut Hospital) -> anyhow::Result<()> {
    let first = hospital.leader()?;
    hospital.grant()?;
    let since = Instant::now();
    hospital.replicas[first].signal(Signal::STOP)?;
    hospital.led_by(1 - first, "the leader slept", since)?;
    hospital.grant()?;
    hospital.replicas[first].signal(Signal::CONT)?;
    wait_for("it to see that it leads no more", || {
        Ok((!hospital.replicas[first].leads()).then_some(()))
    })?;
    hospital.grant()?;
    hospital.settle()?;
    ensure!(hospital.leader()? == 1 - first, "nobody took it back");
    Ok(())
}

fn ends_and_the_other_goes_on(hospital: &mut Hospital) -> anyhow::Result<()> {
    let first = hospital.leader()?;
    let since = Instant::now();
    hospital.replicas[first].signal(Signal::TERM)?;
    hospital.led_by(1 - first, "the leader was stopped", since)?;
    hospital.grant()
}
