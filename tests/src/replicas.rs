//! A hospital of two replicas over one PostgreSQL database, each by a wire of its own, and a
//! patient who grants.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::config::Config;
use medsync::files;
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::medsync::medsync;
use crate::node::Node;
use crate::postgres::Server;
use crate::search::copy;
use crate::story::{Story, wait_for};
use crate::up::Up;
use crate::wire::Wire;

/// Up to which step the story goes before: the patient is enrolled, and the researcher has a key.
pub const ENROLLED: usize = 8;
/// The homes of the replicas.
pub const HOMES: [&str; 2] = ["hospital", "hospital-2"];

/// The hospital and its patient.
pub struct Replicas {
    /// Who is in it.
    pub story: Story,
    /// The database.
    pub server: Server,
    /// How each replica reaches the database.
    pub wires: Vec<Wire>,
    /// How they reach the chain.
    pub endpoint: Endpoint,
    /// The replicas.
    pub replicas: Vec<Up>,
    /// Nobody's child: no replica starts or ends it.
    _node: Node,
    granted: BTreeSet<String>,
    revoked: BTreeSet<String>,
}

impl Replicas {
    /// Moves the story's hospital to PostgreSQL, and gives it a second replica.
    ///
    /// # Errors
    /// A part that does not start.
    pub fn of(mut story: Story) -> anyhow::Result<Self> {
        let server = Server::start();
        let wires = [Wire::to(server.port())?, Wire::to(server.port())?];
        let endpoint = Endpoint::before(story.devnet()?)?;
        story.end_hospital();
        let home = story.path(HOMES[0]);
        let mut config = Config::load(&home)?;
        config.node.run = None;
        config.chain.rpc = vec![endpoint.rpc().parse()?];
        config.save(&home)?;
        let node = Node::start(&story.path("hospital-node"))?;
        let url = |home: &str| story.path(&format!("{home}.url"));
        for (home, wire) in HOMES.iter().zip(&wires) {
            let by_wire = Server::url_at(wire.port(), "postgres");
            files::write_whole(&url(home), by_wire.as_bytes(), true)?;
        }
        let moved = medsync(&[
            "hospital",
            "move-store",
            "--home",
            &story.path_text(HOMES[0]),
            "--postgres",
            &url(HOMES[0]).to_string_lossy(),
        ])?;
        moved.json()?;
        let other = story.path(HOMES[1]);
        copy(&home, &other)?;
        fs::copy(secret_of(&home), secret_of(&other))?;
        for name in ["medsync.db", "medsync.db-wal", "medsync.db-shm"] {
            let _ = fs::remove_file(other.join(name));
        }
        let mut config = Config::load(&other)?;
        let store = config.store.as_mut().context("it was moved")?;
        store.postgres = url(HOMES[1]);
        config.save(&other)?;
        let mut hospital = Self {
            story,
            server,
            wires: wires.into(),
            endpoint,
            _node: node,
            replicas: Vec::new(),
            granted: BTreeSet::new(),
            revoked: BTreeSet::new(),
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
    ///
    /// # Errors
    /// None does.
    pub fn leader(&self) -> anyhow::Result<usize> {
        wait_for("a leader", || Ok(self.replicas.iter().position(Up::leads)))
    }

    /// Waits until this one leads; answers how long that took since then.
    ///
    /// # Errors
    /// It does not.
    pub fn led_by(&self, which: usize, since: Instant) -> anyhow::Result<Duration> {
        wait_for("the hand-over", || {
            Ok(self.replicas[which].leads().then_some(()))
        })?;
        Ok(since.elapsed())
    }

    /// The patient grants one more consent.
    ///
    /// # Errors
    /// No answer in time.
    pub fn grant(&mut self) -> anyhow::Result<()> {
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

    /// The patient takes back one consent that is anchored.
    ///
    /// # Errors
    /// There is none, or no answer in time.
    pub fn revoke(&mut self) -> anyhow::Result<()> {
        let consents = wait_for("what the patient sees", || Ok(self.consents().ok()))?;
        let stands = reached(&consents, "anchored");
        let consent = stands.difference(&self.revoked).next();
        let consent = consent.context("a consent in force")?.clone();
        let home = self.story.path_text("patient");
        let revoke = ["patient", "revoke", "--home", &home, &consent];
        wait_for("a revocation", || Ok(medsync(&revoke)?.json().ok()))?;
        self.revoked.insert(consent);
        Ok(())
    }

    /// Waits until every consent is anchored, and every revocation is on chain, as the circle says.
    ///
    /// # Errors
    /// Some are not.
    pub fn settle(&self) -> anyhow::Result<()> {
        wait_for("every consent and revocation to be on chain", || {
            let Ok(consents) = self.consents() else {
                return Ok(None);
            };
            let are_there = reached(&consents, "anchored") == self.granted;
            let are_back = reached(&consents, "revoked") == self.revoked;
            Ok((are_there && are_back).then_some(()))
        })
    }

    fn consents(&self) -> anyhow::Result<Vec<Value>> {
        let home = self.story.path_text("patient");
        let shown = medsync(&["patient", "show", "--home", &home, "--json"])?.json()?;
        let consents = shown["consents"].as_array();
        Ok(consents.context("consents")?.clone())
    }

    /// Waits until `fsck` finds nothing in any home.
    ///
    /// # Errors
    /// What is wrong in a home.
    pub fn check(&self) -> anyhow::Result<()> {
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
    ///
    /// # Errors
    /// No answer.
    pub fn batches(&self, replica: usize, state: &str) -> anyhow::Result<u64> {
        let home = self.story.path_text(HOMES[replica]);
        let said = medsync(&["hospital", "status", "--home", &home, "--json"])?.json()?;
        Ok(said["counts"][format!("batches_{state}")]
            .as_u64()
            .unwrap_or_default())
    }
}

/// Which consents reached a stage.
fn reached(consents: &[Value], wanted: &str) -> BTreeSet<String> {
    let is_there = |consent: &&Value| {
        let stages = consent["stages"].as_array();
        stages.is_some_and(|all| all.iter().any(|one| one["stage"] == wanted))
    };
    consents
        .iter()
        .filter(is_there)
        .filter_map(|consent| Some(consent["consent"].as_str()?.to_owned()))
        .collect()
}

fn secret_of(home: &Path) -> PathBuf {
    home.with_extension("secret")
}
