//! The story: from an empty machine to a consent that was valid and is revoked.
//!
//! Everything in it is real: devnet, `medsync up` for each party with its Calimero node, and the
//! command line as people use it. The demo plays it for people; the tests play it while they kill
//! its processes.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::devnet::{Blocks, Devnet, DevnetAccount};
use crate::medsync::{Answer, medsync};
use crate::report::Report;
use crate::up::Up;

mod access;
mod consent;
mod parties;
mod rewards;

const ARTIFACTS: &str = concat!(env!("MEDSYNC_ROOT"), "/target/contracts");
const APP: &str = concat!(env!("MEDSYNC_ROOT"), "/target/app/medsync_app.wasm");
const PORTAL: &str = concat!(env!("MEDSYNC_ROOT"), "/target/portal");

/// The records of the story's patient: one synthetic person's, of many types.
pub const BUNDLE: &str = concat!(
    env!("MEDSYNC_ROOT"),
    "/tests/data/fhir/clemente-kreiger.json"
);
/// How many steps the story has.
pub const STEPS: usize = 29;
/// How long the story waits for anything; far longer than any of it takes.
const WAIT: Duration = Duration::from_secs(240);

/// A process that a test may kill between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The hospital's Calimero node.
    HospitalNode,
    /// The patient's Calimero node.
    PatientNode,
    /// The researcher's Calimero node.
    ResearcherNode,
    /// The hospital's `medsync`, and its node with it.
    Hospital,
    /// The patient's `medsync`, and its node with it.
    Patient,
    /// The researcher's `medsync`, and its node with it.
    Researcher,
    /// Starknet.
    Devnet,
}

/// The story and all its processes; they end with it.
pub struct Story {
    /// What happened so far.
    pub report: Report,
    /// When its chain closes a block; after every transaction unless told otherwise.
    pub blocks: Blocks,
    folder: tempfile::TempDir,
    devnet: Option<Devnet>,
    hospital: Option<Up>,
    patient: Option<Up>,
    researcher: Option<Up>,
    /// What the researcher asked for and got.
    request: Option<String>,
    /// The researcher's reward pool, and the hospital's.
    pools: Vec<String>,
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
///
/// # Errors
/// A look that fails, or nothing after [`WAIT`].
pub fn wait_for<T>(
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

/// Verifies a receipt as `medsync verify` does, until it comes to a verdict: an endpoint that was
/// killed comes back.
///
/// # Errors
/// A program that cannot be started, or no verdict after [`WAIT`].
pub fn verify(config: &str, receipt: &str, more: &[&str]) -> anyhow::Result<Answer> {
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
            blocks: Blocks::OnTransaction,
            folder: tempfile::Builder::new().prefix("medsync-story").tempdir()?,
            devnet: None,
            hospital: None,
            patient: None,
            researcher: None,
            request: None,
            pools: Vec::new(),
        })
    }

    /// A file or folder of the story.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    #[must_use]
    pub fn path_text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Plays the whole story; `between` is called after each step.
    ///
    /// # Errors
    /// The first step that failed, by name.
    pub fn play(&mut self, between: &mut Between) -> anyhow::Result<()> {
        self.play_until(STEPS, between)
    }

    /// Plays the first steps of the story.
    ///
    /// # Errors
    /// As [`Story::play`].
    pub fn play_until(&mut self, last: usize, between: &mut Between) -> anyhow::Result<()> {
        let steps: [fn(&mut Self) -> anyhow::Result<()>; STEPS] = [
            Self::start_devnet,
            Self::deploy,
            Self::start_hospital,
            Self::start_patient,
            Self::start_researcher,
            Self::open_circle,
            Self::join,
            Self::enrol,
            Self::import,
            Self::grant,
            Self::wait_for_anchor,
            Self::write_receipt,
            Self::verify_valid,
            Self::tamper,
            Self::open_exchange,
            Self::ask_for_another_purpose,
            Self::ask,
            Self::open_what_was_released,
            Self::look_what_else_is_there,
            Self::fund_pools,
            Self::promise_a_reward,
            Self::claim_the_rewards,
            Self::revoke,
            Self::ask_after_revocation,
            Self::verify_revoked,
            Self::verify_before,
            Self::change_key,
            Self::read_the_log,
            Self::refund_what_is_left,
        ];
        for (number, step) in (1..=last).zip(steps) {
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
            Part::HospitalNode => self.hospital.as_mut().map_or(Ok(()), Up::kill_node),
            Part::PatientNode => self.patient.as_mut().map_or(Ok(()), Up::kill_node),
            Part::ResearcherNode => self.researcher.as_mut().map_or(Ok(()), Up::kill_node),
            Part::Hospital => self.hospital.as_mut().map_or(Ok(()), Up::kill_and_restart),
            Part::Patient => self.patient.as_mut().map_or(Ok(()), Up::kill_and_restart),
            Part::Researcher => {
                let up = self.researcher.as_mut();
                up.map_or(Ok(()), Up::kill_and_restart)
            }
            Part::Devnet => self
                .devnet
                .as_mut()
                .map_or(Ok(()), Devnet::kill_and_restart),
        }
    }

    /// Ends the hospital for good, without a warning.
    pub fn end_hospital(&mut self) {
        drop(self.hospital.take());
    }

    /// Ends the patient for good, without a warning.
    pub fn end_patient(&mut self) {
        drop(self.patient.take());
    }

    /// Does something while the patient's node is dead, and starts it again.
    ///
    /// # Errors
    /// What was done, or a node that does not come back.
    pub fn without_patient_node<T>(
        &mut self,
        act: impl FnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut patient = self.patient.take().context("it runs")?;
        let done = patient.without_node(|| act(self));
        self.patient = Some(patient);
        done
    }

    /// Restarts the patient, with another Starknet endpoint if one is named.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn restart_patient(&mut self, rpc: Option<&str>) -> anyhow::Result<()> {
        self.patient()?;
        let patient = self.patient.as_mut();
        patient.map_or(Ok(()), |patient| patient.restart_with_rpc(rpc))
    }

    /// The hospital, once it runs.
    ///
    /// # Errors
    /// A story without one.
    pub fn hospital(&self) -> anyhow::Result<&Up> {
        self.hospital.as_ref().context("no hospital runs")
    }

    /// The patient, once it runs.
    ///
    /// # Errors
    /// A story without one.
    pub fn patient(&self) -> anyhow::Result<&Up> {
        self.patient.as_ref().context("no patient runs")
    }

    /// The researcher, once it runs.
    ///
    /// # Errors
    /// A story without one.
    pub fn researcher(&self) -> anyhow::Result<&Up> {
        self.researcher.as_ref().context("no researcher runs")
    }

    /// The hospital, to be disturbed.
    ///
    /// # Errors
    /// A story without one.
    pub fn hospital_mut(&mut self) -> anyhow::Result<&mut Up> {
        self.hospital.as_mut().context("no hospital runs")
    }

    /// Whether no party has ended by itself.
    ///
    /// # Errors
    /// A system that does not say.
    pub fn parties_run(&mut self) -> anyhow::Result<bool> {
        let mut parties = [&mut self.hospital, &mut self.patient, &mut self.researcher];
        for party in parties.iter_mut().filter_map(|party| party.as_mut()) {
            if !party.is_running()? {
                return Ok(false);
            }
        }
        Ok(true)
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
        for (node, party) in [
            ("hospital's node", &self.hospital),
            ("patient's node", &self.patient),
            ("researcher's node", &self.researcher),
        ] {
            let api = party.as_ref().and_then(|party| party.api().ok());
            addresses.extend(api.map(|api| (node, api.to_owned())));
        }
        for (door, party) in [
            ("hospital's API, and the portal", &self.hospital),
            ("patient's API", &self.patient),
            ("researcher's API", &self.researcher),
        ] {
            let at = party.as_ref().and_then(|party| party.door().ok());
            addresses.extend(at.map(|at| (door, at.to_string())));
        }
        addresses
    }

    /// Prints the ends of the logs, for whoever looks into a failure.
    pub fn print_logs(&self) {
        for name in [
            "hospital/daemon.log",
            "patient/daemon.log",
            "researcher/daemon.log",
        ] {
            if let Ok(log) = fs::read_to_string(self.path(name)) {
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- {name}");
                for line in &lines[lines.len().saturating_sub(30)..] {
                    eprintln!("{line}");
                }
            }
        }
    }

    /// The chain.
    ///
    /// # Errors
    /// A story without a chain yet.
    pub fn devnet(&self) -> anyhow::Result<&Devnet> {
        self.devnet.as_ref().context("the devnet is not started")
    }

    /// The chain's endpoint.
    ///
    /// # Errors
    /// A story without a chain yet.
    pub fn rpc(&self) -> anyhow::Result<String> {
        Ok(self.devnet()?.rpc().to_string())
    }

    /// An account that is nobody's in the story, and can pay for a transaction.
    ///
    /// # Errors
    /// A story without a chain yet.
    pub fn bystander(&self) -> anyhow::Result<&DevnetAccount> {
        let last = self.devnet()?.accounts().last();
        last.context("a devnet has accounts")
    }

    /// Writes the key of a predeployed account into a file of its own; answers its address.
    fn account(&self, number: usize, name: &str) -> anyhow::Result<(String, String)> {
        let account = &self.devnet()?.accounts()[number];
        let path = self.path(name);
        medsync::files::write_whole(&path, account.private_key.as_bytes(), true)?;
        Ok((account.address.clone(), path.display().to_string()))
    }

    fn start_devnet(&mut self) -> anyhow::Result<()> {
        let (folder, blocks) = (self.path("devnet"), self.blocks);
        fs::create_dir_all(&folder)?;
        self.devnet = Some(
            self.report
                .step("Starknet devnet", "start devnet", |figures| {
                    let devnet = Devnet::start_making(blocks, &folder)?;
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
                    "--artifacts",
                    ARTIFACTS,
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
}
