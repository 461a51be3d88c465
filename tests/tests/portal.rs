//! The portal as the hospital's `medsync` serves it, in a browser, on real parts.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use medsync_tests::medsync::{PASSPHRASE, medsync};
use medsync_tests::story::{Story, wait_for};

const PORTAL: &str = concat!(env!("MEDSYNC_ROOT"), "/portal");
/// The patient has a receipt.
const RECEIPT: usize = 12;
/// What `medsync verify` ends with once the chain has the revocation.
const REVOKED: i32 = 13;

/// Lets a browser do what a file of `portal/story` says.
fn browse(story: &Story, what: &str) -> anyhow::Result<()> {
    let done = Command::new("npm")
        .args(["run", "--silent", "story", "--", what])
        .current_dir(Path::new(PORTAL))
        .env("MEDSYNC_PORTAL", story.hospital()?.door()?.as_str())
        .env("MEDSYNC_RECEIPT", story.path("receipt.json"))
        .env("MEDSYNC_RECOVERY", story.path("recovery.json"))
        .env("MEDSYNC_CIRCLE", story.circle()?)
        .env("MEDSYNC_PASSPHRASE", PASSPHRASE)
        .output()
        .context("npm, which scripts/setup installs the portal's packages with")?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "{what}: {said}");
    println!("{said}");
    Ok(())
}

/// Waits until the chain has what the patient took back.
fn wait_for_revocation(story: &Story) -> anyhow::Result<()> {
    let (config, receipt) = (story.verifier(), story.path_text("receipt.json"));
    wait_for("the revocation on chain", || {
        let answer = medsync(&["verify", &receipt, "--config", &config])?;
        Ok((answer.code == REVOKED).then_some(()))
    })
}

#[test]
fn a_browser_checks_a_receipt_and_its_patient_takes_the_consent_back() {
    let mut story = Story::new().expect("a folder");
    let seen = story
        .play_until(RECEIPT, &mut |_, _| Ok(()))
        .and_then(|()| browse(&story, "valid"))
        .and_then(|()| browse(&story, "patient"))
        .and_then(|()| wait_for_revocation(&story))
        .and_then(|()| browse(&story, "revoked"));
    if let Err(error) = seen {
        story.print_logs();
        panic!("{error:#}");
    }
}
