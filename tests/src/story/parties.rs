//! The parties come together: `medsync up` for each, a circle, an enrolment, records.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use medsync::chain::Deployment;
use serde_json::json;

use super::{APP, BUNDLE, PORTAL, Story, insist, wait_for};
use crate::medsync::medsync;
use crate::up::{Up, node_home};

/// What the pages of a portal believe.
const BELIEFS: &str = "verifier.json";

impl Story {
    /// Where other nodes reach the hospital's.
    ///
    /// # Errors
    /// A story without a hospital yet.
    pub fn hospital_peer(&self) -> anyhow::Result<String> {
        Ok(self.hospital()?.swarm()?.to_owned())
    }

    pub(super) fn start_hospital(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let (anchor, anchor_key) = self.account(1, "anchor.key")?;
        let (revoke, revoke_key) = self.account(2, "revoke.key")?;
        let (claim, claim_key) = self.account(7, "claim.key")?;
        let (node_path, home) = (self.path("hospital-node"), self.path_text("hospital"));
        let portal = self.portal(&anchor)?;
        let up = self
            .report
            .step("hospital", "set up a home, medsync up", |figures| {
                let node = node_home(&node_path, None)?;
                let mut init = vec!["hospital", "init", "--home", &home];
                init.extend(node.arguments());
                init.extend(["--peer", &node.swarm, "--app", APP, "--rpc", &rpc]);
                init.extend(["--deployment", &deployment, "--batch-age-s", "2"]);
                init.extend(["--api", "127.0.0.1:0", "--portal", &portal]);
                init.extend(["--anchor-account", &anchor, "--anchor-key", &anchor_key]);
                init.extend(["--revoke-account", &revoke, "--revoke-key", &revoke_key]);
                init.extend(["--claim-account", &claim, "--claim-key", &claim_key]);
                let made = medsync(&init)?.json()?;
                figures.insert("custodian".into(), made["custodian"].clone());
                // They are sealed in the home now.
                for key in [&anchor_key, &revoke_key, &claim_key] {
                    std::fs::remove_file(key)?;
                }
                Up::start(Path::new(&home))
            })?;
        self.hospital = Some(up);
        Ok(())
    }

    /// The portal's files, with what its pages believe about this chain.
    fn portal(&self, custodian: &str) -> anyhow::Result<String> {
        let deployment = Deployment::read(&self.path("deployment.json"))?;
        let folder = self.path("portal");
        std::fs::create_dir_all(&folder)?;
        let built = std::fs::read_dir(PORTAL).context("no portal: run scripts/build-portal");
        for entry in built? {
            let entry = entry?;
            if entry.file_name() != BELIEFS {
                symlink(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        let beliefs = json!({
            "rpc": [self.rpc()?],
            "chain_id": deployment.chain_id,
            "registry": deployment.registry,
            "class_hash": deployment.class_hash,
            "custodians": [custodian],
            "block_age_s_max": 3600,
        });
        std::fs::write(folder.join(BELIEFS), beliefs.to_string())?;
        Ok(self.path_text("portal"))
    }

    pub(super) fn start_patient(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let (node_path, home) = (self.path("patient-node"), self.path_text("patient"));
        let recovery = self.path_text("recovery.json");
        let peer = self.hospital_peer()?;
        let up = self
            .report
            .step("patient", "set up a home, medsync up", |figures| {
                let node = node_home(&node_path, Some(&peer))?;
                let mut init = vec!["patient", "init", "--home", &home];
                init.extend(node.arguments());
                init.extend(["--app", APP, "--rpc", &rpc, "--deployment", &deployment]);
                init.extend(["--recovery", &recovery, "--api", "127.0.0.1:0"]);
                let made = medsync(&init)?.json()?;
                figures.insert("patient key".into(), made["patient_key"].clone());
                Up::start(Path::new(&home))
            })?;
        self.patient = Some(up);
        Ok(())
    }

    pub(super) fn start_researcher(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let custodian = self.devnet()?.accounts()[1].address.clone();
        let (node_path, home) = (self.path("researcher-node"), self.path_text("researcher"));
        let peer = self.hospital_peer()?;
        let up = self
            .report
            .step("researcher", "set up a home, medsync up", |figures| {
                let node = node_home(&node_path, Some(&peer))?;
                let mut init = vec!["researcher", "init", "--home", &home];
                init.extend(node.arguments());
                init.extend(["--app", APP, "--rpc", &rpc, "--deployment", &deployment]);
                init.extend(["--custodian", &custodian, "--api", "127.0.0.1:0"]);
                let made = medsync(&init)?.json()?;
                figures.insert("grantee".into(), made["grantee"].clone());
                Up::start(Path::new(&home))
            })?;
        self.researcher = Some(up);
        Ok(())
    }

    pub(super) fn open_exchange(&mut self) -> anyhow::Result<()> {
        let (hospital, home) = (self.path_text("hospital"), self.path_text("researcher"));
        let (file, grantee) = (self.path_text("exchange.json"), self.grantee()?);
        self.report.step(
            "researcher",
            "join the hospital's exchange, and enrol",
            |figures| {
                let mut open = vec!["hospital", "exchange", "--home", &hospital];
                open.extend([
                    "--recipient",
                    &grantee,
                    "--label",
                    "study 1",
                    "--out",
                    &file,
                ]);
                let opened = insist(&open)?;
                figures.insert("exchange".into(), opened["exchange"].clone());
                insist(&["researcher", "join", "--home", &home, "--invitation", &file])?;
                let enrolled = insist(&["researcher", "enrol", "--home", &home])?;
                figures.insert("recipient".into(), enrolled["party_key"].clone());
                Ok(())
            },
        )
    }

    pub(super) fn open_circle(&mut self) -> anyhow::Result<()> {
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

    pub(super) fn join(&mut self) -> anyhow::Result<()> {
        let (home, file) = (self.path_text("patient"), self.path_text("invitation.json"));
        self.report.step("patient", "join the circle", |figures| {
            let joined = insist(&["patient", "join", "--home", &home, "--invitation", &file])?;
            figures.insert("member".into(), joined["member"].clone());
            Ok(())
        })
    }

    pub(super) fn enrol(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("patient");
        self.report.step("patient", "enrol", |figures| {
            let enrolled = insist(&["patient", "enrol", "--home", &home])?;
            figures.insert("patient key".into(), enrolled["party_key"].clone());
            Ok(())
        })
    }

    pub(super) fn import(&mut self) -> anyhow::Result<()> {
        let (home, patient) = (self.path_text("hospital"), self.path_text("patient"));
        let circle = self.circle()?;
        self.report.step(
            "hospital",
            "import a FHIR bundle as sealed records",
            |figures| {
                let import = [
                    "hospital", "import", "--home", &home, "--circle", &circle, BUNDLE,
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
}
