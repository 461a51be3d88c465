//! The parties come together: two nodes, two daemons, a circle, an enrolment, records.

use std::path::Path;

use anyhow::Context;

use super::{APP, BUNDLE, Story, insist, wait_for};
use crate::medsync::{Daemon, medsync};
use crate::node::Node;

impl Story {
    /// Where other nodes reach the hospital's.
    ///
    /// # Errors
    /// A story without a hospital yet.
    pub fn hospital_peer(&self) -> anyhow::Result<String> {
        let node = self.hospital_node.as_ref().context("no hospital")?;
        Ok(node.swarm().to_owned())
    }

    pub(super) fn start_hospital(&mut self) -> anyhow::Result<()> {
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
                    "--app",
                    APP,
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

    pub(super) fn start_patient(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let (node_home, home) = (self.path("patient-node"), self.path_text("patient"));
        let recovery = self.path_text("recovery.json");
        let peer = self.hospital_peer()?;
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
                    "--app",
                    APP,
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

    pub(super) fn start_researcher(&mut self) -> anyhow::Result<()> {
        let (rpc, deployment) = (self.rpc()?, self.path_text("deployment.json"));
        let custodian = self.devnet()?.accounts()[1].address.clone();
        let (node_home, home) = (self.path("researcher-node"), self.path_text("researcher"));
        let peer = self.hospital_peer()?;
        let (node, daemon) =
            self.report
                .step("researcher", "start node and medsync", |figures| {
                    let node = Node::start_with_peer(&node_home, &peer)?;
                    let credential = node.credential().display().to_string();
                    let answer = medsync(&[
                        "researcher",
                        "init",
                        "--home",
                        &home,
                        "--node-api",
                        node.api(),
                        "--node-credential",
                        &credential,
                        "--app",
                        APP,
                        "--deployment",
                        &deployment,
                        "--rpc",
                        &rpc,
                        "--custodian",
                        &custodian,
                    ])?;
                    figures.insert("grantee".into(), answer.json()?["grantee"].clone());
                    Ok((node, Daemon::start(Path::new(&home))?))
                })?;
        (self.researcher_node, self.researcher_daemon) = (Some(node), Some(daemon));
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
