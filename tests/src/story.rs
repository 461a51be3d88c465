//! The story: from an empty machine to a consent that was valid and is revoked.
//!
//! Everything in it is real: devnet, two Calimero nodes, a `medsync` daemon beside each, and the
//! command line as people use it. The demo plays it for people; the tests play it while they kill
//! its processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync_protocol::codes::CodeSet;
use medsync_protocol::receipt::Receipt;
use serde_json::Value;

use crate::devnet::Devnet;
use crate::medsync::{Answer, Daemon, medsync};
use crate::node::Node;
use crate::report::Report;

const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH";
const OTHER_PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HMARKT";
const CLASS: &str = "http://hl7.org/fhir/resource-types|Observation";
const OTHER_CLASS: &str = "http://hl7.org/fhir/resource-types|Condition";
/// How long the story waits for anything; far longer than any of it takes.
const WAIT: Duration = Duration::from_secs(240);

const VALID: i32 = 0;
const BAD_SIGNATURE: i32 = 10;
const REVOKED: i32 = 13;

/// A process that a test may kill between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The hospital's Calimero node.
    HospitalNode,
    /// The patient's Calimero node.
    PatientNode,
    /// The hospital's `medsync`.
    HospitalDaemon,
    /// The patient's `medsync`.
    PatientDaemon,
    /// Starknet.
    Devnet,
}

/// The story and all its processes; they end with it.
pub struct Story {
    /// What happened so far.
    pub report: Report,
    folder: tempfile::TempDir,
    devnet: Option<Devnet>,
    hospital_node: Option<Node>,
    patient_node: Option<Node>,
    hospital_daemon: Option<Daemon>,
    patient_daemon: Option<Daemon>,
}

/// Hears the number of each step that is done, and may kill what it likes.
pub type Between<'a> = dyn FnMut(usize, &mut Story) -> anyhow::Result<()> + 'a;

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key]
        .as_str()
        .map(Into::into)
        .with_context(|| format!("no {key} in {value}"))
}

/// Runs a command until it succeeds: a node or an endpoint that was killed comes back.
fn insist(arguments: &[&str]) -> anyhow::Result<Value> {
    let start = Instant::now();
    loop {
        let answer = medsync(arguments)?;
        match answer.json() {
            Ok(json) => return Ok(json),
            Err(error) if start.elapsed() > WAIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Looks until something is there.
fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(
            start.elapsed() < WAIT,
            "waited {} s for {what}",
            WAIT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Verifies a receipt; an endpoint that was killed comes back.
fn verify(config: &str, receipt: &str, more: &[&str]) -> anyhow::Result<Answer> {
    let mut arguments = vec!["verify", receipt, "--config", config, "--json"];
    arguments.extend(more);
    const NO_VERDICT: i32 = 1;
    wait_for("a verdict", || {
        let answer = medsync(&arguments)?;
        Ok((answer.code != NO_VERDICT).then_some(answer))
    })
}

fn expect_code(answer: &Answer, code: i32) -> anyhow::Result<Value> {
    ensure!(
        answer.code == code,
        "exit code {}, not {code}: {}{}",
        answer.code,
        answer.out,
        answer.err
    );
    let line = answer.out.lines().last().context("nothing was printed")?;
    Ok(serde_json::from_str(line)?)
}

impl Story {
    /// A story that has not begun, in a folder of its own.
    ///
    /// # Errors
    /// A machine without room for a temporary folder.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            report: Report::default(),
            folder: tempfile::Builder::new().prefix("medsync-story").tempdir()?,
            devnet: None,
            hospital_node: None,
            patient_node: None,
            hospital_daemon: None,
            patient_daemon: None,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path_text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Plays the whole story; `between` is called after each step.
    ///
    /// # Errors
    /// The first step that failed, by name.
    pub fn play(&mut self, between: &mut Between) -> anyhow::Result<()> {
        let steps: [fn(&mut Self) -> anyhow::Result<()>; 17] = [
            Self::start_devnet,
            Self::deploy,
            Self::start_hospital,
            Self::start_patient,
            Self::prepare_researcher,
            Self::open_circle,
            Self::join,
            Self::enrol,
            Self::import,
            Self::grant,
            Self::wait_for_anchor,
            Self::write_receipt,
            Self::verify_valid,
            Self::tamper,
            Self::revoke,
            Self::verify_revoked,
            Self::verify_before,
        ];
        for (number, step) in (1..).zip(steps) {
            step(self)?;
            between(number, self)?;
        }
        Ok(())
    }

    /// Kills a process without a warning and starts it again; one that does not run yet is left.
    ///
    /// # Errors
    /// A process that does not come back.
    pub fn kill_and_restart(&mut self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::HospitalNode => self
                .hospital_node
                .as_mut()
                .map_or(Ok(()), Node::kill_and_restart),
            Part::PatientNode => self
                .patient_node
                .as_mut()
                .map_or(Ok(()), Node::kill_and_restart),
            Part::HospitalDaemon => self
                .hospital_daemon
                .as_mut()
                .map_or(Ok(()), Daemon::kill_and_restart),
            Part::PatientDaemon => self
                .patient_daemon
                .as_mut()
                .map_or(Ok(()), Daemon::kill_and_restart),
            Part::Devnet => self
                .devnet
                .as_mut()
                .map_or(Ok(()), Devnet::kill_and_restart),
        }
    }

    /// Where the parts answer.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let mut addresses = vec![("folder", self.folder.path().display().to_string())];
        addresses.extend(
            self.devnet
                .iter()
                .map(|d| ("Starknet devnet", d.rpc().to_string())),
        );
        addresses.extend(
            self.hospital_node
                .iter()
                .map(|n| ("hospital's node", n.api().into())),
        );
        addresses.extend(
            self.patient_node
                .iter()
                .map(|n| ("patient's node", n.api().into())),
        );
        addresses
    }

    /// Prints the ends of the logs, for whoever looks into a failure.
    pub fn print_logs(&self) {
        for name in ["hospital/daemon.log", "patient/daemon.log"] {
            if let Ok(log) = fs::read_to_string(self.path(name)) {
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- {name}");
                for line in &lines[lines.len().saturating_sub(30)..] {
                    eprintln!("{line}");
                }
            }
        }
    }

    fn devnet(&self) -> anyhow::Result<&Devnet> {
        self.devnet.as_ref().context("the devnet is not started")
    }

    fn rpc(&self) -> anyhow::Result<String> {
        Ok(self.devnet()?.rpc().to_string())
    }

    /// Writes the key of a predeployed account into a file of its own; answers its address.
    fn account(&self, number: usize, name: &str) -> anyhow::Result<(String, String)> {
        let account = &self.devnet()?.accounts()[number];
        let path = self.path(name);
        medsync::files::write_whole(&path, account.private_key.as_bytes(), true)?;
        Ok((account.address.clone(), path.display().to_string()))
    }

    fn start_devnet(&mut self) -> anyhow::Result<()> {
        let folder = self.path("devnet");
        fs::create_dir_all(&folder)?;
        self.devnet = Some(
            self.report
                .step("Starknet devnet", "start devnet", |figures| {
                    let devnet = Devnet::start(&folder)?;
                    figures.insert("rpc".into(), devnet.rpc().to_string().into());
                    Ok(devnet)
                })?,
        );
        Ok(())
    }

    fn deploy(&mut self) -> anyhow::Result<()> {
        let (rpc, out) = (self.rpc()?, self.path_text("deployment.json"));
        let (address, key) = self.account(0, "deployer.key")?;
        self.report
            .step("Starknet devnet", "deploy the ConsentRegistry", |figures| {
                let answer = medsync(&[
                    "deploy",
                    "--rpc",
                    &rpc,
                    "--account",
                    &address,
                    "--key-file",
                    &key,
                    "--out",
                    &out,
                ])?;
                ensure!(answer.code == 0, "{}", answer.err);
                let deployment: Value = serde_json::from_slice(&fs::read(&out)?)?;
                figures.insert("registry".into(), deployment["registry"].clone());
                figures.insert("class hash".into(), deployment["class_hash"].clone());
                Ok(())
            })
    }

    fn start_hospital(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let (anchor, anchor_key) = self.account(1, "anchor.key")?;
        let (revoke, revoke_key) = self.account(2, "revoke.key")?;
        let (node_home, home) = (self.path("hospital-node"), self.path_text("hospital"));
        let (node, daemon) = self
            .report
            .step("hospital", "start node and medsync", |figures| {
                let node = Node::start(&node_home)?;
                let credential = node.credential().display().to_string();
                let answer = medsync(&[
                    "hospital",
                    "init",
                    "--home",
                    &home,
                    "--node-api",
                    node.api(),
                    "--node-credential",
                    &credential,
                    "--peer",
                    node.swarm(),
                    "--rpc",
                    &rpc,
                    "--deployment",
                    &deployment,
                    "--anchor-account",
                    &anchor,
                    "--anchor-key",
                    &anchor_key,
                    "--revoke-account",
                    &revoke,
                    "--revoke-key",
                    &revoke_key,
                    "--batch-age-s",
                    "2",
                ])?;
                figures.insert("custodian".into(), answer.json()?["custodian"].clone());
                Ok((node, Daemon::start(Path::new(&home))?))
            })?;
        (self.hospital_node, self.hospital_daemon) = (Some(node), Some(daemon));
        Ok(())
    }

    fn start_patient(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let (node_home, home) = (self.path("patient-node"), self.path_text("patient"));
        let recovery = self.path_text("recovery.json");
        let peer = self
            .hospital_node
            .as_ref()
            .context("no hospital")?
            .swarm()
            .to_owned();
        let (node, daemon) = self
            .report
            .step("patient", "start node and medsync", |figures| {
                let node = Node::start_with_peer(&node_home, &peer)?;
                let credential = node.credential().display().to_string();
                let answer = medsync(&[
                    "patient",
                    "init",
                    "--home",
                    &home,
                    "--node-api",
                    node.api(),
                    "--node-credential",
                    &credential,
                    "--rpc",
                    &rpc,
                    "--deployment",
                    &deployment,
                    "--recovery",
                    &recovery,
                ])?;
                figures.insert("patient key".into(), answer.json()?["patient_key"].clone());
                Ok((node, Daemon::start(Path::new(&home))?))
            })?;
        (self.patient_node, self.patient_daemon) = (Some(node), Some(daemon));
        Ok(())
    }

    fn prepare_researcher(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let custodian = self.devnet()?.accounts()[1].address.clone();
        let home = self.path_text("researcher");
        self.report.step("researcher", "make keys", |figures| {
            let answer = medsync(&[
                "researcher",
                "init",
                "--home",
                &home,
                "--deployment",
                &deployment,
                "--rpc",
                &rpc,
                "--custodian",
                &custodian,
            ])?;
            figures.insert("grantee".into(), answer.json()?["grantee"].clone());
            Ok(())
        })
    }

    fn open_circle(&mut self) -> anyhow::Result<()> {
        let (home, out) = (
            self.path_text("hospital"),
            self.path_text("invitation.json"),
        );
        self.report.step(
            "hospital",
            "open a circle and write the invitation",
            |figures| {
                let opened = insist(&[
                    "hospital", "open", "--home", &home, "--label", "circle 1", "--out", &out,
                ])?;
                figures.insert("circle".into(), opened["circle"].clone());
                Ok(())
            },
        )
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let (home, file) = (self.path_text("patient"), self.path_text("invitation.json"));
        self.report.step("patient", "join the circle", |figures| {
            let joined = insist(&["patient", "join", "--home", &home, "--invitation", &file])?;
            figures.insert("member".into(), joined["member"].clone());
            Ok(())
        })
    }

    fn enrol(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("patient");
        self.report.step("patient", "enrol", |figures| {
            let enrolled = insist(&["patient", "enrol", "--home", &home])?;
            figures.insert("patient key".into(), enrolled["patient_key"].clone());
            Ok(())
        })
    }

    fn import(&mut self) -> anyhow::Result<()> {
        let (home, patient) = (self.path_text("hospital"), self.path_text("patient"));
        let circle = self.circle()?;
        let bundle = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/data/fhir/clemente-kreiger.json"
        );
        self.report.step(
            "hospital",
            "import a FHIR bundle as sealed records",
            |figures| {
                let import = [
                    "hospital", "import", "--home", &home, "--circle", &circle, bundle,
                ];
                let answer = wait_for("the enrolment to reach the hospital", || {
                    let answer = medsync(&import)?;
                    Ok((answer.code == 0).then_some(answer))
                })?;
                let written = answer.out.lines().filter(|line| line.ends_with("written"));
                let count: u64 = written
                    .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
                    .sum();
                figures.insert("records".into(), count.into());
                let seen = wait_for("the records to reach the patient", || {
                    let listed = medsync(&["patient", "records", "--home", &patient])?;
                    let seen = listed.out.lines().count() as u64;
                    Ok((listed.code == 0 && seen >= count).then_some(seen))
                })?;
                figures.insert("records that the patient sees".into(), seen.into());
                Ok(())
            },
        )
    }

    fn circle(&self) -> anyhow::Result<String> {
        let shown = insist(&[
            "patient",
            "show",
            "--home",
            &self.path_text("patient"),
            "--json",
        ])?;
        text(&shown, "circle")
    }

    fn grantee(&self) -> anyhow::Result<String> {
        let home = self.path_text("researcher");
        text(
            &medsync(&["researcher", "show", "--home", &home])?.json()?,
            "grantee",
        )
    }

    fn grant(&mut self) -> anyhow::Result<()> {
        let (home, grantee) = (self.path_text("patient"), self.grantee()?);
        let policy = self.path_text("policy.txt");
        fs::write(
            &policy,
            "Data may be used for the study; nobody may be re-identified.\n",
        )?;
        self.report
            .step("patient", "grant HRESCH on Observation", |figures| {
                let granted = insist(&[
                    "patient",
                    "grant",
                    "--home",
                    &home,
                    "--to",
                    &grantee,
                    "--purpose",
                    PURPOSE,
                    "--class",
                    CLASS,
                    "--days",
                    "365",
                    "--policy",
                    &policy,
                    "--policy-uri",
                    "https://example.org/policy/study",
                    "--request",
                    "the story's consent",
                ])?;
                figures.insert("consent".into(), granted["consent"].clone());
                Ok(())
            })
    }

    /// The story's one consent, as the patient sees it.
    fn consent(&self) -> anyhow::Result<Value> {
        let home = self.path_text("patient");
        let shown = insist(&["patient", "show", "--home", &home, "--json"])?;
        shown["consents"]
            .get(0)
            .cloned()
            .context("the patient sees no consent")
    }

    fn wait_for_anchor(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("patient");
        self.report
            .step("hospital", "wait for the anchor", |figures| {
                let stages = wait_for("the anchor", || {
                    let shown = insist(&["patient", "show", "--home", &home, "--json"])?;
                    let stages = shown["consents"][0]["stages"].clone();
                    let anchored = stages
                        .as_array()
                        .is_some_and(|s| s.iter().any(|stage| stage["stage"] == "anchored"));
                    Ok(anchored.then_some(stages))
                })?;
                figures.insert("stages".into(), stages);
                Ok(())
            })
    }

    fn write_receipt(&mut self) -> anyhow::Result<()> {
        let consent = text(&self.consent()?, "consent")?;
        let (home, out) = (self.path_text("patient"), self.path_text("receipt.json"));
        self.report
            .step("patient", "export the receipt", |figures| {
                insist(&[
                    "patient", "receipt", "--home", &home, &consent, "--out", &out,
                ])?;
                figures.insert("bytes".into(), fs::metadata(&out)?.len().into());
                Ok(())
            })
    }

    fn verifier(&self) -> String {
        self.path("researcher")
            .join("verifier.toml")
            .display()
            .to_string()
    }

    fn verify_valid(&mut self) -> anyhow::Result<()> {
        let (config, receipt) = (self.verifier(), self.path_text("receipt.json"));
        self.report
            .step("researcher", "verify: Valid, and permitted", |figures| {
                const NO_CONSENT: i32 = 21;
                for (what, purpose, class, code) in [
                    ("HRESCH on Observation", PURPOSE, CLASS, VALID),
                    ("HMARKT on Observation", OTHER_PURPOSE, CLASS, NO_CONSENT),
                    ("HRESCH on Condition", PURPOSE, OTHER_CLASS, NO_CONSENT),
                ] {
                    let about = ["--purpose", purpose, "--class", class];
                    let answer = expect_code(&verify(&config, &receipt, &about)?, code)?;
                    figures.insert("verdict".into(), answer["verdict"].clone());
                    figures.insert(what.into(), answer["decision"]["outcome"].clone());
                }
                Ok(())
            })
    }

    fn tamper(&mut self) -> anyhow::Result<()> {
        let (config, tampered) = (self.verifier(), self.path_text("tampered.json"));
        let original = self.path("receipt.json");
        self.report
            .step("researcher", "tamper with one term: refused", |figures| {
                let mut receipt = Receipt::parse(&fs::read(original)?)?;
                // Any purpose instead of one; the readable terms are changed with the signed ones.
                receipt.terms.provision.purposes = CodeSet::default();
                fs::write(&tampered, receipt.to_json()?)?;
                let refused = expect_code(&verify(&config, &tampered, &[])?, BAD_SIGNATURE)?;
                figures.insert("verdict".into(), refused["verdict"].clone());
                Ok(())
            })
    }

    fn revoke(&mut self) -> anyhow::Result<()> {
        let consent = text(&self.consent()?, "consent")?;
        let home = self.path_text("patient");
        self.report.step(
            "patient",
            "revoke, and wait until the chain has it",
            |figures| {
                let revoked = insist(&["patient", "revoke", "--home", &home, &consent])?;
                figures.insert("at once".into(), revoked["stage"].clone());
                let at = wait_for("the revocation on chain", || {
                    let shown = insist(&["patient", "show", "--home", &home, "--json"])?;
                    let stages = shown["consents"][0]["stages"].as_array().cloned();
                    let revoked = stages
                        .unwrap_or_default()
                        .into_iter()
                        .find(|stage| stage["stage"] == "revoked");
                    Ok(revoked.map(|stage| stage["at"].clone()))
                })?;
                figures.insert("revoked on chain at".into(), at);
                Ok(())
            },
        )
    }

    fn verify_revoked(&mut self) -> anyhow::Result<()> {
        let (config, receipt) = (self.verifier(), self.path_text("receipt.json"));
        self.report
            .step("researcher", "verify: Revoked", |figures| {
                let revoked = expect_code(&verify(&config, &receipt, &[])?, REVOKED)?;
                figures.insert("verdict".into(), revoked["verdict"].clone());
                Ok(())
            })
    }

    fn verify_before(&mut self) -> anyhow::Result<()> {
        let (config, receipt) = (self.verifier(), self.path_text("receipt.json"));
        self.report.step(
            "researcher",
            "verify: the same receipt was Valid before",
            |figures| {
                let revoked = expect_code(&verify(&config, &receipt, &[])?, REVOKED)?;
                let at = revoked["revoked_at"]
                    .as_u64()
                    .context("no time of revocation")?
                    - 1;
                let before = verify(&config, &receipt, &["--at", &at.to_string()])?;
                figures.insert("at".into(), at.into());
                figures.insert(
                    "verdict".into(),
                    expect_code(&before, VALID)?["verdict"].clone(),
                );
                Ok(())
            },
        )
    }

    /// The folder of the hospital's or the patient's home, for tests that look inside.
    #[must_use]
    pub fn home(&self, party: &str) -> PathBuf {
        self.path(party)
    }
}
