//! The whole story on real parts, while its processes are killed; and what is left at the hospital
//! of records that it erased.

mod described;
mod newcomer;
mod secrets;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use medsync::api::{METRICS_TOKEN_FILE, TOKEN_FILE};
use medsync::at_rest::HomeSecret;
use medsync::fhir::read_bundle;
use medsync::parts;
use medsync::party::Party;
use medsync::store::Store;
use medsync_client::Client as ApiClient;
use medsync_client::wire::{Caller, Consent, ConsentState, Session};
use medsync_protocol::audit::EntryKind;
use medsync_protocol::ids::{ContextId, ContextKind, Sha256Digest};
use medsync_protocol::seal::{RecordKey, SealedFor};
use medsync_tests::medsync::medsync;
use medsync_tests::search::{Needle, copy, search};
use medsync_tests::story::{BUNDLE, Part, STEPS, Story, wait_for};
use reqwest::Client;
use serde_json::Value;
use sqlx::SqlitePool;
use tokio::runtime::Runtime;

/// Which process is killed after which step: each of them once, at a moment at which it has work.
const KILLS: [(usize, Part); 8] = [
    // A circle is open: the hospital's node restarts before the patient's joins.
    (6, Part::HospitalNode),
    // Enrolled: the patient's node restarts before the records come.
    (8, Part::PatientNode),
    // Granted: the hospital's daemon dies with the consent on its way.
    (10, Part::Hospital),
    (10, Part::Patient),
    // Anchored: the chain itself goes away and comes back.
    (12, Part::Devnet),
    // The exchange is open: the researcher's node restarts before it asks.
    (15, Part::ResearcherNode),
    // Released: the researcher's daemon dies before the order to erase comes.
    (18, Part::Researcher),
    // Revoked.
    (23, Part::Hospital),
];

const PARTS: [Part; 7] = [
    Part::HospitalNode,
    Part::PatientNode,
    Part::ResearcherNode,
    Part::Hospital,
    Part::Patient,
    Part::Researcher,
    Part::Devnet,
];

#[test]
fn the_story_ends_though_every_process_is_killed_once() {
    let mut story = play(&KILLS);
    let then = the_door_answers_its_operator(&story)
        .and_then(|()| the_door_answers_whoever_is_enrolled(&story))
        .and_then(|()| described::the_door_keeps_to_its_description(&story))
        .and_then(|()| newcomer::the_first_requests_work_as_they_are_written(&story))
        .and_then(|()| recipient_leaves(&story))
        .and_then(|()| commands_ask_the_daemon(&story))
        .and_then(|()| secrets::no_secret_stands_where_it_does_not_belong(&story))
        .and_then(|()| tls::a_hospital_ends_tls_and_its_staff_works_there(&mut story))
        .and_then(|()| nothing_that_was_erased_opens(&mut story));
    if let Err(error) = then {
        story.print_logs();
        panic!("{error:#}");
    }
    if std::env::var_os("MEDSYNC_FULL").is_some() {
        // Each of them after every step; one that does not run yet is left alone.
        for part in PARTS {
            let kills: Vec<_> = (1..=STEPS).map(|step| (step, part)).collect();
            play(&kills);
        }
    }
}

/// The hospital's API says what its command line says, to whoever shows the token of its home, and
/// the token stands in no log.
fn the_door_answers_its_operator(story: &Story) -> anyhow::Result<()> {
    let (home, door) = (story.path("hospital"), story.hospital()?.door()?);
    let token = std::fs::read_to_string(home.join(TOKEN_FILE))?;
    let runtime = Runtime::new()?;
    let ask = |path: &str| {
        let asked = Client::new()
            .get(door.join(path)?)
            .bearer_auth(token.trim());
        runtime
            .block_on(async { anyhow::Ok(asked.send().await?.error_for_status()?.text().await?) })
    };
    ask("/ready")?;
    let circles: Value = serde_json::from_str(&ask("/v1/circles")?)?;
    let circles = circles["circles"].as_array().context("circles")?;
    let home_text = story.path_text("hospital");
    let said = medsync(&["hospital", "status", "--home", &home_text, "--json"])?.json()?;
    for circle in circles {
        let context = circle["context"].as_str().context("a context")?;
        ensure!(said["circles"][context] == circle["alarm"], "{circle}");
    }
    ensure!(circles.len() == said["circles"].as_object().map_or(0, |all| all.len()));
    let status: Value = serde_json::from_str(&ask("/v1/status")?)?;
    ensure!(status["counts"] == said["counts"], "{status} {said}");
    let metrics = ask("/metrics")?;
    let anchored = status["counts"]["batches_anchored"].to_string();
    let line = format!("medsync_queue{{what=\"batches_anchored\"}} {anchored}");
    ensure!(metrics.lines().any(|found| found == line), "{metrics}");
    let stranger = Client::new().get(door.join("/v1/status")?).send();
    ensure!(runtime.block_on(stranger)?.status() == 401);
    let log = std::fs::read_to_string(home.join("daemon.log"))?;
    ensure!(!log.contains(token.trim()), "the token is in the log");
    Ok(())
}

/// A patient and a recipient log in at the hospital with the keys of their homes, and read what
/// they see at home; nothing of their sessions stands in the log.
fn the_door_answers_whoever_is_enrolled(story: &Story) -> anyhow::Result<()> {
    let (runtime, door) = (Runtime::new()?, story.hospital()?.door()?);
    let log_in = |who: &str| {
        let home = story.path_text(who);
        let said = medsync(&["login", "party", "--home", &home, "--api", door.as_str()])?;
        let session: Session = serde_json::from_value(said.json()?)?;
        let client = ApiClient::new(door.clone())?.with_token(&session.token);
        anyhow::Ok((session, client, home))
    };
    let (patients, client, home) = log_in("patient")?;
    let Caller::Patient { circle } = patients.caller else {
        anyhow::bail!("{patients:?}");
    };
    let read = runtime.block_on(client.consents(circle, None))?.consents;
    let shown = medsync(&["patient", "show", "--home", &home, "--json"])?.json()?;
    let shown: Vec<Consent> = serde_json::from_value(shown["consents"].clone())?;
    let standing = |all: &[Consent]| -> BTreeMap<String, ConsentState> {
        let each = all.iter().map(|one| (one.consent.to_string(), one.state));
        each.collect()
    };
    ensure!(
        !read.is_empty() && standing(&read) == standing(&shown),
        "{read:?} {shown:?}"
    );
    let log = runtime.block_on(client.log(circle, None))?.entries;
    ensure!(
        log.iter().any(|line| line.kind == EntryKind::Released),
        "{log:?}"
    );
    let (recipients, client, _) = log_in("researcher")?;
    let Caller::Recipient { exchange } = recipients.caller else {
        anyhow::bail!("{recipients:?}");
    };
    let asked = runtime.block_on(client.requests(exchange, None))?.requests;
    ensure!(
        asked.iter().any(|asked| asked.state == "RELEASED"),
        "{asked:?}"
    );
    let others = runtime.block_on(client.consents(circle, None));
    ensure!(others.is_err(), "a recipient reads a patient's circle");
    let log = std::fs::read_to_string(story.path("hospital").join("daemon.log"))?;
    for consent in read {
        let track = format!("consent anchored track={} ", consent.consent);
        ensure!(log.contains(&track), "the log does not have {track}");
    }
    for session in [&patients, &recipients] {
        ensure!(
            !log.contains(&session.token),
            "a session's token is in the log"
        );
    }
    Ok(())
}

fn play(kills: &[(usize, Part)]) -> Story {
    let mut story = Story::new().expect("a folder");
    let played = story.play(&mut |step, story| {
        for (_, part) in kills.iter().filter(|(after, _)| *after == step) {
            println!("      killing {part:?}");
            story.kill_and_restart(*part)?;
        }
        Ok(())
    });
    if let Err(error) = played {
        story.print_logs();
        panic!("{error:#}");
    }
    assert_eq!(story.report.steps.len(), STEPS);
    assert!(story.parties_run().expect("an answer"));
    story
}

/// Everything that was released is erased: the researcher leaves its exchange, and is in none.
fn recipient_leaves(story: &Story) -> anyhow::Result<()> {
    let home = story.path_text("researcher");
    let left = medsync(&["researcher", "leave", "--home", &home])?.json()?;
    ensure!(left["not_erased"] == 0, "{left}");
    let again = medsync(&["researcher", "leave", "--home", &home])?;
    ensure!(again.code != 0, "{again:?}");
    let receipts = medsync(&["researcher", "receipts", "--home", &home])?;
    ensure!(receipts.code != 0, "{receipts:?}");
    // What became of its requests it still knows.
    let requests = medsync(&["researcher", "requests", "--home", &home])?;
    ensure!(requests.out.contains("RELEASED"), "{requests:?}");
    // The hospital takes the member out too, once it says that the member left.
    let (hospital, runtime) = (story.path("hospital"), Runtime::new()?);
    let rows = runtime.block_on(async {
        let party = Party::open(&hospital).await?;
        anyhow::Ok(party.store.circles().await?)
    })?;
    let exchange = rows.iter().find(|row| row.kind == ContextKind::Exchange);
    let exchange = exchange.context("an exchange")?;
    let member = exchange.patient_member.context("who enrolled")?.to_string();
    let (hospital, context) = (story.path_text("hospital"), exchange.context.to_string());
    let mut remove = vec!["hospital", "remove", "--home", &hospital];
    remove.extend(["--circle", &context, "--member", &member]);
    let kept = medsync(&remove)?;
    ensure!(kept.err.contains("only if they left"), "{kept:?}");
    remove.push("--left");
    let key = exchange.recipient_key.context("its key")?.to_string();
    let out = story.path_text("again.json");
    let mut again = vec![
        "hospital",
        "exchange",
        "--home",
        &hospital,
        "--recipient",
        &key,
    ];
    again.extend(["--label", "again", "--out", &out]);
    let refused = medsync(&again)?;
    ensure!(refused.err.contains("is the exchange with"), "{refused:?}");
    let removed = medsync(&remove)?.json()?;
    ensure!(removed["removed"] == member.as_str(), "{removed}");
    let opened = medsync(&again)?;
    ensure!(opened.code == 0, "{opened:?}");
    let resume = [
        "hospital", "resume", "--home", &hospital, "--circle", &context,
    ];
    let refused = medsync(&resume)?;
    ensure!(refused.err.contains("is the exchange with"), "{refused:?}");
    Ok(())
}

/// What a hospital's and a recipient's commands did last, their daemons did: they count what they
/// were asked for.
fn commands_ask_the_daemon(story: &Story) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let (hospital, researcher) = (story.hospital()?, story.researcher()?);
    for (up, who, asked) in [
        (hospital, "hospital", "method=\"POST\",path=\"/v1/circles\""),
        (
            hospital,
            "hospital",
            "method=\"DELETE\",path=\"/v1/circles/{context}/members/{member}\"",
        ),
        (
            researcher,
            "researcher",
            "method=\"POST\",path=\"/v1/circles/{context}/requests\"",
        ),
    ] {
        let door = up.door()?;
        let token = std::fs::read_to_string(story.path(who).join(METRICS_TOKEN_FILE))?;
        let asks = Client::new()
            .get(door.join("/metrics")?)
            .bearer_auth(token.trim());
        let metrics = runtime
            .block_on(async { anyhow::Ok(asks.send().await?.error_for_status()?.text().await?) })?;
        let counted = format!("medsync_http_answers_total{{{asked},status=\"20");
        ensure!(metrics.contains(&counted), "{who}: no {asked} in {metrics}");
    }
    Ok(())
}

/// What opens the hospital's records, and what stands in them.
#[derive(Default)]
struct Held {
    /// By which the store knows each.
    local_keys: Vec<Sha256Digest>,
    /// The hospital's keys, which its store alone has.
    secrets: Vec<Needle>,
    /// The same as they lie there.
    at_rest: Vec<Needle>,
    /// The payloads' keys, which the former open.
    keys: Vec<Needle>,
    /// The same as they lie in the circle, sealed.
    sealed: Vec<Needle>,
    /// The resources' own ids.
    contents: Vec<Needle>,
}

/// Opens every record with the key that the hospital's store has.
async fn held(home: &Path, context: ContextId) -> anyhow::Result<Held> {
    let party = Party::open(home).await?;
    let circle = party.enter(context).await?;
    let mut held = Held::default();
    for resource in read_bundle(Path::new(BUNDLE))?.resources {
        let what = &resource.reference;
        let row = party.store.record(context, resource.local_key).await?;
        let row = row.with_context(|| format!("no key of {what}"))?;
        let full = circle.record(row.record, Some(row.version)).await?;
        let place = SealedFor {
            context,
            record: row.record,
            version: row.version,
            reader: row.secret.public_key(),
            log: None,
        };
        let sealed = &full.record.key_for_custodian;
        let key = RecordKey::open(&row.secret, &place, sealed)?;
        let payload = full.payload.context("a hospital has what it wrote")?;
        let opened = parts::open(&*circle, &key, &place, &payload).await?;
        ensure!(opened[..] == resource.payload[..], "{what} is another");
        let read: Value = serde_json::from_slice(&resource.payload)?;
        let id = read["id"].as_str().context("a resource has an id")?;
        let needle = |kind: &str, bytes: &[u8]| Needle::bytes(&format!("{kind} {what}"), bytes);
        held.local_keys.push(resource.local_key);
        held.secrets
            .push(needle("the hospital's key of", row.secret.reveal()));
        held.keys.push(needle("the payload's key of", key.reveal()));
        held.sealed.push(needle("the sealed key of", sealed));
        held.contents.push(Needle::text(id));
    }
    let database = home.join("medsync.db");
    let database = SqlitePool::connect(&database.display().to_string()).await?;
    let at_rest: Vec<String> = sqlx::query_scalar("SELECT custodian_secret FROM record_keys")
        .fetch_all(&database)
        .await?;
    held.at_rest = at_rest.iter().map(|text| Needle::text(text)).collect();
    Ok(held)
}

/// The hospital destroys its keys to a circle. Neither its store, nor its node, nor a backup of
/// both that is made afterwards has one of them, or a word of what they opened.
fn nothing_that_was_erased_opens(story: &mut Story) -> anyhow::Result<()> {
    let circle = story.circle()?;
    let context: ContextId = circle.parse()?;
    let (home, node) = (story.path("hospital"), story.path("hospital-node"));
    let runtime = Runtime::new()?;
    let held = runtime.block_on(held(&home, context))?;
    let all = held.local_keys.len();
    // The search finds what is there; nothing lies there as it is.
    let opens = [&held.secrets[..], &held.keys[..], &held.contents[..]].concat();
    let before = search(&home, &[&opens[..], &held.at_rest].concat())?;
    ensure!(before.count(&held.at_rest) >= all, "{:?}", before.found);
    ensure!(before.count(&opens) == 0, "{:?}", before.found);
    let bundles = Path::new(BUNDLE).parent().context("it is in a folder")?;
    let bundles = search(bundles, &held.contents)?;
    ensure!(bundles.count(&held.contents) == all, "{:?}", bundles.found);

    let hospital = story.path_text("hospital");
    let mut erase = vec!["hospital", "erase", "--home", &hospital];
    erase.extend(["--circle", &circle, "--all"]);
    wait_for("the erasure", || {
        Ok((medsync(&erase)?.code == 0).then_some(()))
    })?;
    // Of files that nobody writes to a copy is a whole one.
    story.end_hospital();
    let (home_copy, node_copy) = (story.path("backup/home"), story.path("backup/node"));
    copy(&home, &home_copy)?;
    copy(&node, &node_copy)?;
    for folder in [&home, &home_copy] {
        let after = search(folder, &[&opens[..], &held.at_rest].concat())?;
        ensure!(after.found.is_empty(), "{:?}", after.found);
    }
    // A node has hundreds of megabytes: some are looked for there. It has what is sealed to the key
    // that is gone.
    let some = |needles: &[Needle]| -> Vec<Needle> { needles.iter().step_by(8).cloned().collect() };
    let sealed = some(&held.sealed);
    let in_node = search(&node_copy, &[some(&opens), sealed.clone()].concat())?;
    ensure!(
        in_node.count(&sealed) == sealed.len() && in_node.found.len() == sealed.len(),
        "{:?}",
        in_node.found
    );
    let secret = HomeSecret::of(&home)?;
    let store = runtime.block_on(Store::open(&home_copy, &secret))?;
    runtime.block_on(has_no_keys(&store, context, &held.local_keys))
}

/// A hospital that is set up again from a backup knows of the erasure, and has no key.
async fn has_no_keys(
    store: &Store,
    context: ContextId,
    local_keys: &[Sha256Digest],
) -> anyhow::Result<()> {
    for local_key in local_keys {
        let was_erased = store.was_erased(context, *local_key).await?;
        ensure!(was_erased, "it does not know that {local_key} was erased");
        let row = store.record(context, *local_key).await?;
        ensure!(row.is_none(), "it has the key of {row:?}");
    }
    Ok(())
}
