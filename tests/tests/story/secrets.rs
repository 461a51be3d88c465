//! No secret of the story's stands in a log, an answer, an error, or in any file but its own.

use std::path::Path;

use anyhow::{Context, ensure};
use medsync::api::{METRICS_TOKEN_FILE, TOKEN_FILE};
use medsync::at_rest::HomeSecret;
use medsync::keys::{CustodianKeys, ResearcherKeys, open_patient_keys};
use medsync_client::wire::Session;
use medsync_protocol::felt::Felt;
use medsync_tests::medsync::{PASSPHRASE, medsync, printed};
use medsync_tests::search::{Needle, search};
use medsync_tests::story::Story;
use serde_json::Value;

/// What every command printed, as a file that is searched with the others.
const PRINTED: &str = "printed";
/// The devnet prints the keys of its accounts, which are the same on every machine.
const DEVNET: &str = "devnet";
const HOMES: [&str; 3] = ["hospital", "patient", "researcher"];

/// A secret, and the files of the story in which it belongs.
struct Secret {
    needle: Needle,
    belongs: Vec<String>,
}

fn text(name: &str, text: &str, belongs: &[&str]) -> Secret {
    Secret {
        needle: Needle::named(name, text.trim()),
        belongs: belongs.iter().map(|&file| file.to_owned()).collect(),
    }
}

fn bytes(name: &str, bytes: &[u8]) -> Secret {
    Secret {
        needle: Needle::bytes(name, bytes),
        belongs: Vec::new(),
    }
}

/// A felt's first byte is left out where it is written without leading zeros.
fn felt(name: &str, secret: &Felt) -> Secret {
    bytes(name, &secret.to_bytes_be()[1..])
}

pub(super) fn no_secret_stands_where_it_does_not_belong(story: &Story) -> anyhow::Result<()> {
    let mut secrets = vec![text("the passphrase", PASSPHRASE, &[])];
    secrets.extend(keys(story)?);
    secrets.extend(tokens(story)?);
    secrets.extend(accounts_and_nodes(story)?);
    std::fs::write(story.path(PRINTED), printed())?;
    let needles: Vec<Needle> = secrets.iter().map(|one| one.needle.clone()).collect();
    let root = story.path(".");
    let searched = search(&root, &needles)?;
    let mut told = Vec::new();
    for secret in &secrets {
        let having = searched.found.get(secret.needle.name());
        for file in having.into_iter().flatten() {
            let file = file.strip_prefix(&root)?;
            let belongs = secret.belongs.iter().any(|own| Path::new(own) == file);
            if !belongs && !file.starts_with(DEVNET) {
                told.push(format!("{} in {}", secret.needle.name(), file.display()));
            }
        }
        // What is found nowhere is looked for in a spelling that nobody uses.
        let is_found = having.is_some();
        let name = secret.needle.name();
        ensure!(is_found || secret.belongs.is_empty(), "no file has {name}");
    }
    ensure!(told.is_empty(), "{told:?}");
    println!(
        "      {} secrets in {} bytes, each where it belongs",
        secrets.len(),
        searched.bytes
    );
    Ok(())
}

/// What signs and opens, of each party, now and before the patient's keys were changed.
fn keys(story: &Story) -> anyhow::Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for file in ["recovery.json", "recovery-2.json"] {
        let keys = open_patient_keys(&story.path(file), PASSPHRASE)?;
        let named = |what: &str| format!("the patient's {what} of {file}");
        secrets.push(felt(&named("seed"), &keys.seed.reveal()));
        secrets.push(bytes(&named("seal key"), keys.seal.reveal()));
        for (what, key) in [
            ("key", &keys.patient),
            ("recovery key", &keys.recovery),
            ("login key", &keys.login),
            ("author key", &keys.author),
        ] {
            secrets.push(felt(&named(what), &key.reveal()));
        }
    }
    let home = story.path("hospital");
    let keys = CustodianKeys::read(&home.join("custodian-keys.json"), &HomeSecret::of(&home)?)?;
    secrets.push(felt("the hospital's author key", &keys.author.reveal()));
    secrets.push(bytes("the hospital's seal key", keys.seal.reveal()));
    let home = story.path("researcher");
    let keys = ResearcherKeys::read(&home.join("researcher-keys.json"), &HomeSecret::of(&home)?)?;
    secrets.push(bytes("the researcher's seal key", keys.seal.reveal()));
    for (what, key) in [
        ("recipient", &keys.recipient),
        ("recovery", &keys.recovery),
        ("login", &keys.login),
        ("author", &keys.author),
    ] {
        secrets.push(felt(&format!("the researcher's {what} key"), &key.reveal()));
    }
    for file in ["invitation.json", "exchange.json"] {
        let invitation: Value = serde_json::from_slice(&std::fs::read(story.path(file))?)?;
        let key = invitation["one_time_secret"].as_str();
        let key = key.context("an invitation hands a key over")?;
        let name = format!("the one-time key of {file}");
        secrets.push(text(&name, key, &[file]));
    }
    Ok(secrets)
}

/// What lets somebody in.
fn tokens(story: &Story) -> anyhow::Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for home in HOMES {
        for file in [TOKEN_FILE, METRICS_TOKEN_FILE] {
            let file = format!("{home}/{file}");
            let token = std::fs::read_to_string(story.path(&file))?;
            secrets.push(text(&file, &token, &[&file]));
        }
        let file = format!("{home}.secret");
        let secret = std::fs::read_to_string(story.path(&file))?;
        secrets.push(text(&file, &secret, &[&file]));
    }
    let door = story.hospital()?.door()?;
    let home = story.path_text("patient");
    let said = medsync(&["login", "party", "--home", &home, "--api", door.as_str()])?;
    let session: Session = serde_json::from_value(said.json()?)?;
    // Who asks for it is told it.
    secrets.push(text("the patient's session", &session.token, &[PRINTED]));
    Ok(secrets)
}

/// What signs transactions, and what opens the nodes' own APIs.
fn accounts_and_nodes(story: &Story) -> anyhow::Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for (number, file) in [(1, "anchor.key"), (2, "revoke.key"), (7, "claim.key")] {
        let account = &story.devnet()?.accounts()[number];
        let key = account.private_key.trim_start_matches("0x");
        let name = format!("the hospital's {file}");
        secrets.push(text(&name, key, &[]));
    }
    for home in HOMES {
        let file = format!("{home}-node/credential.json");
        let credential: Value = serde_json::from_slice(&std::fs::read(story.path(&file))?)?;
        let password = credential["password"].as_str().context("a password")?;
        secrets.push(text(&file, password, &[&file]));
    }
    Ok(secrets)
}
