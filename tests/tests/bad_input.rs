//! The story, while people hand its programs what they should not: each time one clear error, and
//! nothing half written.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context, ensure};
use medsync_tests::medsync::{Answer, medsync, medsync_killed};
use medsync_tests::story::{Story, wait_for};
use serde_json::{Value, json};

/// No verdict, no receipt: exit codes of `medsync`.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NO_RECEIPT: i32 = 3;
const REVOKED: i32 = 13;
/// What was kept of the logs is whole, and the circle could not be read.
const UNREAD: i32 = 3;
const BUNDLE: &str = concat!(
    env!("MEDSYNC_ROOT"),
    "/tests/data/fhir/clemente-kreiger.json"
);
const HUGE_BUNDLE_BYTES: u64 = 50 * 1024 * 1024;
const PRIME: &str = "0x800000000000011000000000000000000000000000000000000000000000001";

#[test]
fn bad_input_is_refused_by_name_and_nothing_is_half_written() {
    let mut story = Story::new().expect("a folder");
    let played = story.play(&mut |step, story| match step {
        6 => invitations(story),
        8 => used_invitation(story).and_then(|()| bundles(story)),
        9 => imported_once(story).and_then(|()| large_record(story)),
        10 => a_request_twice(story),
        12 => receipts(story),
        20 => pools(story),
        22 => revocations(story),
        23 => claims_after_the_revocation(story),
        _ => Ok(()),
    });
    if let Err(error) = played {
        story.print_logs();
        panic!("{error:#}");
    }
    assert!(story.parties_run().expect("an answer"));
}

fn expect(answer: &Answer, code: i32, words: &str) -> anyhow::Result<()> {
    let said = format!("{}{}", answer.out, answer.err);
    ensure!(
        answer.code == code && said.contains(words),
        "expected code {code} and {words:?}, got {}: {said}",
        answer.code,
    );
    Ok(())
}

fn read(story: &Story, name: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(story.path(name))?)?)
}

/// Before the patient joins with the right one.
fn invitations(story: &Story) -> anyhow::Result<()> {
    let (home, file) = (story.path_text("patient"), story.path_text("bad.json"));
    let sound = read(story, "invitation.json")?;
    let key = sound["says"]["seal_key"].clone();
    for (field, value, words) in [
        ("format", json!("medsync/invitation/v9"), "format"),
        ("expires_at", json!(1), "expired"),
        ("class_hash", json!("0x1"), "registry"),
        ("wasm_sha256", key, "app"),
        (
            "author_key",
            json!("0x1"),
            "not the one that the invitation",
        ),
    ] {
        let mut bad = sound.clone();
        if field == "format" {
            bad[field] = value;
        } else {
            bad["says"][field] = value;
        }
        fs::write(&file, bad.to_string())?;
        let joined = medsync(&["patient", "join", "--home", &home, "--invitation", &file])?;
        expect(&joined, FAILED, words).context(field)?;
        let shown = medsync(&["patient", "show", "--home", &home, "--json"])?;
        expect(&shown, FAILED, "no circle was joined yet").context(field)?;
    }
    Ok(())
}

/// Somebody else at the patient's own node: a home with other keys.
fn used_invitation(story: &Story) -> anyhow::Result<()> {
    let node = story.patient()?;
    let credential = node.credential()?.display().to_string();
    let (home, file) = (story.path_text("thief"), story.path_text("invitation.json"));
    let answer = medsync(&[
        "patient",
        "init",
        "--home",
        &home,
        "--node-api",
        node.api()?,
        "--node-credential",
        &credential,
        "--app",
        &app(),
        "--rpc",
        &story.rpc()?,
        "--deployment",
        &story.path_text("deployment.json"),
        "--recovery",
        &story.path_text("thief-recovery.json"),
    ])?;
    answer.json()?;
    medsync(&["patient", "join", "--home", &home, "--invitation", &file])?.json()?;
    let enrolled = medsync(&["patient", "enrol", "--home", &home])?;
    expect(&enrolled, FAILED, "the invitation was used")?;
    let patient = story.path_text("patient");
    let shown = medsync(&["patient", "show", "--home", &patient, "--json"])?.json()?;
    ensure!(shown["frozen"] == false, "{shown}");
    Ok(())
}

fn app() -> String {
    let folder = env!("MEDSYNC_ROOT");
    format!("{folder}/target/app/medsync_app.wasm")
}

fn bundles(story: &Story) -> anyhow::Result<()> {
    let (home, circle) = (story.path_text("hospital"), story.circle()?);
    let file = story.path_text("bad-bundle.json");
    let import = || {
        medsync(&[
            "hospital", "import", "--home", &home, "--circle", &circle, &file,
        ])
    };
    for (text, words) in [
        ("<Bundle/>", "JSON"),
        (r#"{"resourceType": "Patient", "id": "1"}"#, "Bundle"),
        (r#"{"resourceType": "Bundle", "type": "collection""#, "JSON"),
    ] {
        fs::write(&file, text)?;
        expect(&import()?, FAILED, words).context(text)?;
    }
    File::create(&file)?.set_len(HUGE_BUNDLE_BYTES)?;
    expect(&import()?, FAILED, "bytes")?;
    let patient = story.path_text("patient");
    let records = medsync(&["patient", "records", "--home", &patient])?;
    expect(&records, 0, "")?;
    ensure!(records.out.is_empty(), "{}", records.out);
    // Killed in the middle of the right one, several times; the story then imports it whole.
    for after in [200, 400, 800].map(Duration::from_millis) {
        medsync_killed(
            &[
                "hospital", "import", "--home", &home, "--circle", &circle, BUNDLE,
            ],
            after,
        )?;
    }
    Ok(())
}

/// After the story's own import: each resource is one record, and another run writes nothing.
fn imported_once(story: &Story) -> anyhow::Result<()> {
    let again = medsync(&[
        "hospital",
        "import",
        "--home",
        &story.path_text("hospital"),
        "--circle",
        &story.circle()?,
        "--json",
        BUNDLE,
    ])?;
    let unchanged = again.out.matches(r#""outcome":"unchanged""#).count();
    ensure!(unchanged > 0 && !again.out.contains(r#""outcome":"written""#));
    let patient = story.path_text("patient");
    wait_for("the records to reach the patient", || {
        let records = medsync(&["patient", "records", "--home", &patient])?;
        let count = records.out.lines().count();
        ensure!(
            count <= unchanged,
            "{count} records of {unchanged} resources"
        );
        Ok((count == unchanged).then_some(()))
    })
}

/// A resource that fits into no message between nodes is cut, and opens whole.
fn large_record(story: &Story) -> anyhow::Result<()> {
    let (hospital, patient) = (story.path_text("hospital"), story.path_text("patient"));
    let (circle, file) = (story.circle()?, story.path_text("large.json"));
    let data = "iVBORw0KGgo=".repeat(10_000);
    let large = json!({
        "resourceType": "Binary", "id": "scan", "contentType": "image/png", "data": data,
    });
    let bundle = json!({
        "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": large }],
    });
    fs::write(&file, bundle.to_string())?;
    let import = [
        "hospital", "import", "--home", &hospital, "--circle", &circle, &file,
    ];
    expect(&medsync(&import)?, 0, "1 Binary written")?;
    let opened = wait_for("the large record to reach the patient", || {
        let listed = ["patient", "records", "--home", &patient, "--type", "Binary"];
        let listed = medsync(&listed)?;
        let Some(line) = listed.out.lines().next() else {
            return Ok(None);
        };
        let line: Value = serde_json::from_str(line)?;
        let name = line["record"].as_str().context("a record has a name")?;
        let opened = medsync(&["patient", "records", "--home", &patient, "--open", name])?;
        Ok((opened.code == 0).then_some(opened.out))
    })?;
    let opened: Value = serde_json::from_str(&opened)?;
    ensure!(opened == large, "it opens as what was imported");
    Ok(())
}

/// The name of the story's own request, with another recipient.
fn a_request_twice(story: &Story) -> anyhow::Result<()> {
    let granted = medsync(&[
        "patient",
        "grant",
        "--home",
        &story.path_text("patient"),
        "--to",
        "0x1",
        "--purpose",
        "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH",
        "--policy",
        &story.path_text("policy.txt"),
        "--policy-uri",
        "https://example.org/policy/study",
        "--request",
        "the story's consent",
    ])?;
    expect(&granted, FAILED, "granted something else")
}

fn receipts(story: &Story) -> anyhow::Result<()> {
    let (config, file) = (story.verifier(), story.path_text("bad-receipt.json"));
    let sound = fs::read_to_string(story.path("receipt.json"))?;
    let json: Value = serde_json::from_str(&sound)?;
    let with = |field: &str, value: &str| {
        let mut bad = json.clone();
        bad[field] = value.into();
        bad.to_string()
    };
    for (what, text) in [
        ("truncated", sound[..sound.len() / 2].to_owned()),
        ("another chain", with("chain_id", "0x1")),
        ("another registry", with("registry", "0x1")),
        ("another anchorer", with("anchorer", "0x1")),
        ("a felt at the prime", with("root", PRIME)),
    ] {
        let changed = serde_json::from_str::<Value>(&text).ok();
        ensure!(
            changed.as_ref() != Some(&json),
            "{what}: nothing was changed"
        );
        fs::write(&file, text)?;
        let answer = medsync(&["verify", &file, "--config", &config, "--json"])?;
        expect(&answer, NO_RECEIPT, "refused").context(what)?;
    }
    Ok(())
}

/// A hospital promises from no pool that is not what it is said to be; nothing is kept of one.
fn pools(story: &Story) -> anyhow::Result<()> {
    let (home, deployment) = (story.path_text("hospital"), read(story, "deployment.json")?);
    let in_file = |name: &str| deployment[name].as_str().context("an address");
    let (contract, registry) = (in_file("reward_pool")?, in_file("registry")?);
    let (funder, label) = story.first_pool()?;
    let recipient = story.grantee()?;
    let sound = [
        ("--contract", contract),
        ("--funder", &funder),
        ("--nonce", "0x1"),
        ("--recipient", &recipient),
        ("--label", label),
        ("--quota", "1"),
    ];
    for (option, value, words) in [
        ("--contract", registry, "is of class"),
        ("--contract", "0x5eed", "there is no contract"),
        ("--funder", "0x5eed", "has no pool"),
        ("--nonce", "0x2", "has no pool"),
        ("--label", "another study", "another label"),
        ("--quota", "3", "promises 2 claims"),
        ("--quota", "0", "0 is not in"),
    ] {
        let mut add = vec!["hospital", "pools", "add", "--home", &home];
        for (name, right) in sound {
            add.extend([name, if name == option { value } else { right }]);
        }
        let code = if words.ends_with("not in") {
            USAGE
        } else {
            FAILED
        };
        expect(&medsync(&add)?, code, words).context(option)?;
    }
    let listed = medsync(&["hospital", "pools", "list", "--home", &home])?;
    ensure!(listed.code == 0 && listed.out.is_empty(), "{listed:?}");
    claim(story, "there is no ticket to claim")
}

fn claims_after_the_revocation(story: &Story) -> anyhow::Result<()> {
    claim(story, "its consent was revoked")
}

/// Signs no claim, says so, and writes no file.
fn claim(story: &Story, words: &str) -> anyhow::Result<()> {
    let (home, file) = (story.path_text("patient"), story.path_text("no claim.json"));
    let pool = story.first_pool_id().unwrap_or("0x1");
    let mut sign = vec!["patient", "claim", "--home", &home, "--pool", pool];
    sign.extend(["--pay-to", "0x5eed", "--out", &file]);
    expect(&medsync(&sign)?, FAILED, words)?;
    ensure!(!story.path("no claim.json").exists(), "a file was written");
    Ok(())
}

fn revocations(story: &mut Story) -> anyhow::Result<()> {
    let consent = story.consent()?["consent"].clone();
    let consent = consent.as_str().context("a consent has a name")?;
    let thief = story.path_text("thief");
    let revoked = medsync(&["patient", "revoke", "--home", &thief, consent])?;
    expect(&revoked, FAILED, "cannot revoke")?;
    ensure!(story.consent()?["state"] == "in_force", "it is in force");
    let home = story.path_text("patient");
    let left = medsync(&["patient", "leave", "--home", &home])?;
    expect(&left, FAILED, "in force and go on")?;
    let home = story.path_text("researcher");
    let left = medsync(&["researcher", "leave", "--home", &home])?;
    expect(&left, FAILED, "releases that were not erased: 1")?;
    // A revocation is kept though the node is dead and the daemon has no endpoint; it brings it
    // into the circle all the same, and the hospital's sends it.
    story.restart_patient(Some("http://127.0.0.1:9/rpc"))?;
    let kept = story.without_patient_node(|story| {
        let home = story.path_text("patient");
        let logs = medsync(&["audit", "verify", "--home", &home])?;
        expect(&logs, UNREAD, "the circle cannot be read")?;
        medsync(&["patient", "revoke", "--home", &home, consent])?.json()
    })?;
    let stage = kept["stage"].as_str().unwrap_or_default();
    ensure!(stage.starts_with("kept"), "{kept}");
    // The recovery file alone opens the same handle.
    let (recovery, opening) = (story.path_text("recovery.json"), &kept["anyone_can_send"]);
    let opened = medsync(&[
        "patient",
        "openings",
        "--recovery",
        &recovery,
        "--grants",
        "2",
    ])?;
    let secret = opening["secret"].as_str().context("what anyone can send")?;
    expect(&opened, 0, secret).context("openings")?;
    let (config, receipt) = (story.verifier(), story.path_text("receipt.json"));
    wait_for("the hospital's relay", || {
        let answer = medsync(&["verify", &receipt, "--config", &config, "--json"])?;
        Ok((answer.code == REVOKED).then_some(()))
    })?;
    story.restart_patient(None)
}
