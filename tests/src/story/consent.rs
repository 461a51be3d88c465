//! A consent's life: granted, anchored, verified, tampered with, revoked, verified again.

use std::fs;

use anyhow::{Context, ensure};
use medsync_protocol::codes::CodeSet;
use medsync_protocol::receipt::Receipt;
use serde_json::{Value, json};

use super::access::lines;
use super::{Story, expect_code, insist, text, verify, wait_for};
use crate::medsync::medsync;

pub(super) const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH";
pub(super) const OTHER_PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HMARKT";
pub(super) const CLASS: &str = "http://hl7.org/fhir/resource-types|Observation";
const OTHER_CLASS: &str = "http://hl7.org/fhir/resource-types|Condition";
const VALID: i32 = 0;
const BAD_SIGNATURE: i32 = 10;
const REVOKED: i32 = 13;

impl Story {
    /// The story's circle.
    ///
    /// # Errors
    /// A patient who has not joined.
    pub fn circle(&self) -> anyhow::Result<String> {
        let shown = insist(&[
            "patient",
            "show",
            "--home",
            &self.path_text("patient"),
            "--json",
        ])?;
        text(&shown, "circle")
    }

    /// The researcher's key.
    ///
    /// # Errors
    /// A researcher without keys.
    pub fn grantee(&self) -> anyhow::Result<String> {
        let home = self.path_text("researcher");
        text(
            &medsync(&["researcher", "show", "--home", &home])?.json()?,
            "grantee",
        )
    }

    pub(super) fn grant(&mut self) -> anyhow::Result<()> {
        let (home, grantee) = (self.path_text("patient"), self.grantee()?);
        let policy = self.path_text("policy.txt");
        fs::write(
            &policy,
            "Data may be used for the study; nobody may be re-identified.\n",
        )?;
        self.report
            .step("patient", "grant HRESCH on Observation", |figures| {
                ensure!(previewed(&home, &grantee, PURPOSE)?.is_empty(), "none yet");
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
                let released = previewed(&home, &grantee, PURPOSE)?;
                let covered = released
                    .iter()
                    .all(|line| line["resource_type"] == "Observation");
                ensure!(covered && !released.is_empty(), "{released:?}");
                figures.insert("would be released".into(), released.len().into());
                ensure!(
                    previewed(&home, &grantee, OTHER_PURPOSE)?.is_empty(),
                    "one purpose"
                );
                Ok(())
            })
    }

    /// The story's one consent, as the patient sees it.
    ///
    /// # Errors
    /// A circle without a consent.
    pub fn consent(&self) -> anyhow::Result<Value> {
        let home = self.path_text("patient");
        let shown = insist(&["patient", "show", "--home", &home, "--json"])?;
        shown["consents"]
            .get(0)
            .cloned()
            .context("the patient sees no consent")
    }

    pub(super) fn wait_for_anchor(&mut self) -> anyhow::Result<()> {
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

    pub(super) fn write_receipt(&mut self) -> anyhow::Result<()> {
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

    /// The researcher's configuration.
    #[must_use]
    pub fn verifier(&self) -> String {
        self.path("researcher")
            .join("verifier.toml")
            .display()
            .to_string()
    }

    pub(super) fn verify_valid(&mut self) -> anyhow::Result<()> {
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

    pub(super) fn tamper(&mut self) -> anyhow::Result<()> {
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

    pub(super) fn revoke(&mut self) -> anyhow::Result<()> {
        let consent = text(&self.consent()?, "consent")?;
        let (home, grantee) = (self.path_text("patient"), self.grantee()?);
        self.report.step(
            "patient",
            "revoke, and wait until the chain has it",
            |figures| {
                let revoked = insist(&["patient", "revoke", "--home", &home, &consent])?;
                figures.insert("at once".into(), revoked["stage"].clone());
                ensure!(
                    previewed(&home, &grantee, PURPOSE)?.is_empty(),
                    "none any more"
                );
                let at = wait_for("the revocation on chain", || {
                    let shown = insist(&["patient", "show", "--home", &home, "--json"])?;
                    let consent = &shown["consents"][0];
                    ensure!(consent["state"] == "revoked", "denied at once: {consent}");
                    ensure!(shown["evidence"].is_null(), "nothing vanished: {shown}");
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

    pub(super) fn verify_revoked(&mut self) -> anyhow::Result<()> {
        let (config, receipt) = (self.verifier(), self.path_text("receipt.json"));
        self.report
            .step("researcher", "verify: Revoked", |figures| {
                let revoked = expect_code(&verify(&config, &receipt, &[])?, REVOKED)?;
                figures.insert("verdict".into(), revoked["verdict"].clone());
                Ok(())
            })
    }

    pub(super) fn verify_before(&mut self) -> anyhow::Result<()> {
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
}

impl Story {
    pub(super) fn change_key(&mut self) -> anyhow::Result<()> {
        let (home, recovery) = (self.path_text("patient"), self.path_text("recovery-2.json"));
        self.report
            .step("patient", "replace a key that was stolen", |figures| {
                let change = ["patient", "change-key", "--stolen"];
                let whose = ["--home", &home, "--recovery", &recovery];
                let changed = insist(&[&change[..], &whose[..]].concat())?;
                let new = text(&changed, "new_key")?;
                let show = ["patient", "show", "--home", &home, "--json"];
                wait_for("the new key", || {
                    Ok((insist(&show)?["patient"] == new.as_str()).then_some(()))
                })?;
                figures.insert("key".into(), new.into());
                Ok(())
            })
    }

    pub(super) fn read_the_log(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("patient");
        self.report
            .step("patient", "read the log, and prove it", |figures| {
                let kinds = [
                    ("ENROLLED", 1),
                    ("GRANTED", 1),
                    ("REQUESTED", 3),
                    ("DENIED", 2),
                    ("PERMITTED", 1),
                    ("RELEASED", 1),
                    ("REVOKED", 1),
                    ("ERASE_ORDERED", 1),
                    ("ERASED", 1),
                    ("KEY_CHANGED", 1),
                ];
                let all: usize = kinds.iter().map(|(_, expected)| expected).sum();
                // The last answer may be on its way from the hospital's node.
                let listed = wait_for("the whole log", || {
                    let listed = lines(&["audit", "list", "--home", &home])?;
                    Ok(listed.filter(|listed| listed.len() >= all))
                })?;
                let count = |kind: &str| listed.iter().filter(|l| l["kind"] == kind).count();
                for (kind, expected) in kinds {
                    ensure!(count(kind) == expected, "{kind}: {listed:?}");
                }
                figures.insert("entries".into(), listed.len().into());
                // Logs that are whole and whose last entries are in a batch on chain.
                let proven = wait_for("the logs' anchors", || {
                    let answer = medsync(&["audit", "verify", "--home", &home, "--json"])?;
                    let Ok(proven) = answer.json() else {
                        return Ok(None);
                    };
                    let logs = proven["logs"].as_array().cloned().unwrap_or_default();
                    let mut is_anchored = logs.len() == 2;
                    for log in logs.iter().map(|line| &line["log"]) {
                        ensure!(log["faults"] == json!([]), "{proven}");
                        let sound = log["sound"].as_u64().unwrap_or_default();
                        is_anchored &= log["anchored"][0].as_u64() == sound.checked_sub(1);
                    }
                    Ok(is_anchored.then_some(proven))
                })?;
                figures.insert("sound".into(), proven["sound"].clone());
                Ok(())
            })
    }
}

/// What the recipient would get now, as the patient's `medsync` says.
fn previewed(home: &str, to: &str, purpose: &str) -> anyhow::Result<Vec<Value>> {
    let preview = [
        "patient",
        "preview",
        "--home",
        home,
        "--to",
        to,
        "--purpose",
        purpose,
    ];
    wait_for("a preview", || lines(&preview))
}
