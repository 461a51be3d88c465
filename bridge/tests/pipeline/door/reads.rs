//! What is read by the API is what the parts say.

use std::sync::Arc;

use medsync::audit;
use medsync::pipeline::ingest;
use medsync::seams::system_random;
use medsync_client::wire::{ConsentStage, ConsentState, LoginAs, NewRevocation, PreviewQuestion};
use medsync_protocol::audit::{Body, Entry, head_leaf};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::receipt::{Receipt, Stage};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, ORIGIN};

use super::super::access::{EXCHANGE, RECORDS, Study, researcher};
use super::super::circle::{CONTEXT, CUSTODIAN, FakeCircles, custodian_author};
use super::super::faults::{Fault, Faults, Plan};
use super::super::{START, consent, fill, patient, run, world};
use super::{Door, PAGE, problem, staff};

#[tokio::test]
async fn a_patient_and_a_recipient_read_what_is_theirs() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let door = Door::over(&study.world.pipeline).await;

    let patients = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let circle = patients.circle(CONTEXT).await.expect("read");
    assert_eq!((circle.kind.as_str(), circle.stopped), ("circle", None));
    assert_eq!(circle.party_key, Some(patient().public_key()));
    assert_eq!(circle.custodian_member, CUSTODIAN);
    assert!(circle.party_member.is_some());
    let consents = patients.consents(CONTEXT, None).await.expect("read");
    let [consent] = consents.consents.as_slice() else {
        panic!("one consent: {consents:?}");
    };
    assert_eq!(consent.consent, study.signed.commitment);
    assert_eq!(consent.state, ConsentState::InForce);
    assert_eq!(consent.stage, ConsentStage::Anchored);
    let stages: Vec<_> = consent.stages.iter().map(|reached| reached.stage).collect();
    assert_eq!(
        stages.first().copied().map(ConsentStage::from),
        Some(ConsentStage::Recorded)
    );
    let receipt = patients
        .receipt(CONTEXT, consent.consent)
        .await
        .expect("read");
    let receipt = Receipt::parse(receipt.to_string().as_bytes()).expect("a receipt");
    assert_eq!(receipt.commitment().expect("terms"), consent.consent);
    let records = patients.records(CONTEXT, None).await.expect("read").records;
    assert_eq!(records.len(), usize::from(RECORDS));

    let question = PreviewQuestion {
        to: researcher().public_key(),
        purposes: CodeSet::collect([Code::new("act", "HRESCH")]).expect("one"),
        classes: CodeSet::default(),
        understood: None,
    };
    let previewed = patients
        .preview(CONTEXT, &question)
        .await
        .expect("decided")
        .records;
    assert!(
        previewed.iter().all(|record| record.is_released),
        "{previewed:?}"
    );
    let other = PreviewQuestion {
        purposes: CodeSet::collect([Code::new("act", "HMARKT")]).expect("one"),
        ..question
    };
    let previewed = patients
        .preview(CONTEXT, &other)
        .await
        .expect("decided")
        .records;
    assert!(
        previewed.iter().all(|record| !record.is_released),
        "{previewed:?}"
    );

    let recipients = door
        .logged_in(LoginAs::party_of(EXCHANGE), &researcher())
        .await;
    let asked = recipients
        .requests(EXCHANGE, None)
        .await
        .expect("read")
        .requests;
    let [asked] = asked.as_slice() else {
        panic!("one request: {asked:?}");
    };
    assert_eq!((asked.request, asked.state.as_str()), (request, "RELEASED"));
    let releases = recipients
        .releases(EXCHANGE, None)
        .await
        .expect("read")
        .releases;
    assert_eq!(releases.len(), usize::from(RECORDS));
    assert!(releases.iter().all(|release| release.request == request));
    let receipts = recipients
        .receipts(EXCHANGE, None)
        .await
        .expect("read")
        .receipts;
    assert_eq!(receipts[0].consent, study.signed.commitment);
}

/// What a patient takes along is all there, under the paths that the guide names for it.
#[tokio::test]
async fn a_patient_exports_everything_by_the_paths_that_the_guide_names() {
    let guide = include_str!("../../../../docs/API.md");
    let (_, export) = guide.split_once("**To export**").expect("a chapter");
    let export = export.split("\n\n").next().unwrap_or(export);
    for path in [
        "consents",
        "receipt",
        "records",
        "records/{record}",
        "log",
        "log/heads",
        "tickets",
    ] {
        assert!(export.contains(&format!("…/{path}`")), "{path}");
    }
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let door = Door::over(&study.world.pipeline).await;
    let client = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let consents = client.consents(CONTEXT, None).await.expect("read");
    assert_eq!((consents.consents.len(), consents.next), (1, None));
    for consent in consents.consents {
        let receipt = client.receipt(CONTEXT, consent.consent).await;
        let receipt = receipt.expect("a receipt").to_string();
        Receipt::parse(receipt.as_bytes()).expect("one that verifiers read");
    }
    let records = client.records(CONTEXT, None).await.expect("read").records;
    assert_eq!(records.len(), usize::from(RECORDS));
    for record in records {
        let sealed = client.record(CONTEXT, record.record, None).await;
        let sealed = sealed.expect("a record");
        assert_eq!(sealed.record, record);
        assert!(sealed.payload.is_some(), "its payload");
    }
    let log = client.log(CONTEXT, None).await.expect("read").entries;
    let in_circle = study.world.circle.log_entries();
    assert_eq!(log.len(), in_circle.len(), "the circle has no other entry");
    let heads = client.log_heads(CONTEXT, None).await.expect("read").heads;
    assert!(!heads.is_empty(), "and most are anchored");
    client.tickets(CONTEXT).await.expect("read");
}

/// Whoever reads the log can check it with nothing but what it says.
#[tokio::test]
async fn the_log_comes_in_pages_and_proves_itself() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    for _ in 0..3 {
        study.ask("HRESCH", |_| ()).await;
    }
    study.settle().await;
    let door = Door::over(&study.world.pipeline).await;
    let client = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let all = client.log(CONTEXT, None).await.expect("read");
    assert_eq!(all.next, None);
    let mut paged = Vec::new();
    let mut path = format!("/v1/circles/{CONTEXT}/log?limit=2");
    loop {
        let page = door.json(&path).await;
        paged.extend(page["entries"].as_array().expect("entries").clone());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/circles/{CONTEXT}/log?limit=2&after={next}"),
            None => break,
        }
    }
    let whole = serde_json::to_value(&all.entries).expect("JSON");
    assert_eq!(whole, serde_json::Value::from(paged));
    assert!(all.entries.len() >= 6, "{}", all.entries.len());
    assert!(
        all.entries.is_sorted_by(|a, b| a.at >= b.at),
        "the latest first"
    );
    for line in &all.entries {
        let entry = Entry {
            context: CONTEXT,
            author_key: line.author_key,
            seq: line.seq,
            prev: line.prev,
            kind: line.kind,
            subject: line.says.subject().expect("within bounds"),
            at: line.at,
            salt: line.salt,
        };
        assert_eq!(entry.digest(), line.digest);
        assert!(
            line.author_key
                .verifies(line.digest.message(), &line.signature)
        );
        assert_eq!(line.by, "custodian");
    }
    let heads = client.log_heads(CONTEXT, None).await.expect("read").heads;
    assert!(!heads.is_empty(), "the log is anchored");
    for placed in heads {
        let leaf = head_leaf(
            CONTEXT,
            placed.author_key,
            placed.seq,
            placed.digest,
            placed.salt,
        );
        assert_eq!(placed.proof.root_of(leaf), Ok(placed.root));
        assert!(study.world.chain.anchored().contains(&placed.root));
        let covered = (placed.seq, placed.digest);
        let mut entries = all.entries.iter();
        assert!(entries.any(|line| (line.seq, line.digest) == covered));
    }
    let released = door
        .json(&format!("/v1/circles/{CONTEXT}/log?kind=RELEASED"))
        .await;
    assert_eq!(released["entries"].as_array().map(Vec::len), Some(3));
    let checked = client.check_log(CONTEXT).await.expect("checked");
    assert!(checked.sound && checked.circle_was_read, "{checked:?}");
    for wrong in [
        "kind=LEAKED",
        "after=x",
        "after=1-2-3",
        "since=never",
        "limit=0",
    ] {
        problem(
            door.get(&format!("/v1/circles/{CONTEXT}/log?{wrong}"))
                .await,
            400,
        )
        .await;
    }
}

/// What is usual is what this home's last took; of a home that sealed nothing yet, what its
/// configuration comes to.
#[tokio::test]
async fn what_comes_next_is_said_with_how_long_it_usually_takes() {
    let mut world = world(Vec::new()).await;
    world.pipeline.batch.age_s_max = 3_600;
    let (first, signed) = consent(1);
    world.circle.add_consent(first);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let door = Door::over(&world.pipeline).await;
    let client = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let next = async |number: usize| {
        let page = client.consents(CONTEXT, None).await.expect("read");
        page.consents[number].next.clone()
    };
    let sealed = next(0).await.expect("it waits");
    assert_eq!((sealed.stage, sealed.usually_s), (Stage::Sealed, 3_600));
    world.pipeline.batch.age_s_max = 0;
    run(&mut world).await;
    assert_eq!(next(0).await, None, "it is anchored");
    world.circle.add_consent(consent(2).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let all = client.consents(CONTEXT, None).await.expect("read").consents;
    let waits = all.iter().find_map(|consent| consent.next.clone());
    let waits = waits.expect("the second waits");
    assert_eq!(waits.stage, Stage::Sealed);
    assert!(waits.usually_s < 3_600, "as long as the first took");
    // So is what a patient waits for who revokes.
    let opens = NewRevocation {
        secret: signed.secrets.secret.reveal_text(),
        claim_key: signed.secrets.claim_key.public_key(),
    };
    client.revoke(CONTEXT, &opens).await.expect("kept");
    let all = client.consents(CONTEXT, None).await.expect("read").consents;
    let revoked = all.iter().find(|consent| consent.denied_since.is_some());
    let waits = revoked.and_then(|consent| consent.next.clone());
    assert_eq!(waits.map(|next| next.stage), Some(Stage::Revoked));
}

#[tokio::test]
async fn batches_come_in_pages_the_latest_first_with_their_blocks() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let door = Door::over(&world.pipeline).await;
    let client = door.logged_in(LoginAs::staff("ward"), &staff()).await;
    let all = client.batches(None).await.expect("read").batches;
    assert_eq!(all.len(), 2, "three consents, two a batch");
    assert!(all[0].batch > all[1].batch);
    for batch in &all {
        assert_eq!((batch.state.as_str(), batch.leaf_count), ("anchored", 16));
        assert!(world.chain.anchored().contains(&batch.root));
        assert!(batch.block.is_some() && batch.anchored_at.is_some() && batch.hindrance.is_none());
    }
    let first = door.json("/v1/batches?limit=1").await;
    let next = first["next"].as_str().expect("another page");
    let second = client.batches(Some(next)).await.expect("read").batches;
    assert_eq!(second, all[1..]);
    assert!(client.pools().await.expect("read").pools.is_empty());
    assert!(
        client
            .tickets(CONTEXT)
            .await
            .expect("read")
            .tickets
            .is_empty()
    );
    problem(door.get("/v1/batches?after=x").await, 400).await;
}

#[tokio::test]
async fn requests_come_in_pages_the_latest_first() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    for _ in 0..3 {
        study.ask("HRESCH", |_| ()).await;
    }
    study.settle().await;
    let door = Door::over(&study.world.pipeline).await;
    let path = format!("/v1/circles/{EXCHANGE}/requests");
    let all = door.json(&path).await["requests"].clone();
    let first = door.json(&format!("{path}?limit=2")).await;
    let next = first["next"].as_str().expect("another page");
    let second = door.json(&format!("{path}?limit=2&after={next}")).await;
    assert_eq!(second["next"], serde_json::Value::Null);
    let pages = [&first["requests"], &second["requests"]];
    let pages = pages
        .into_iter()
        .flat_map(|page| page.as_array().expect("a page"));
    let pages: Vec<_> = pages.cloned().collect();
    assert_eq!(all, serde_json::Value::from(pages));
    problem(door.get(&format!("{path}?after=0x12")).await, 400).await;
}

/// What a recipient writes into its own log answers nothing.
#[tokio::test]
async fn hostile_recipient_answers_itself_and_it_is_no_answer() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HMARKT", |_| ()).await;
    study.settle().await;
    let says = Body::Permitted {
        request,
        records: Vec::new(),
        based_on: Vec::new(),
        obligations: CodeSet::default(),
    };
    let store = &study.recipient.pipeline.store;
    let (author, now) = (researcher(), UnixSeconds(START));
    let mut random = system_random();
    let made = audit::append(store, EXCHANGE, &author, &says, now, &mut random).await;
    made.expect("kept");
    study.settle().await;
    let door = Door::over(&study.world.pipeline).await;
    let client = door
        .logged_in(LoginAs::party_of(EXCHANGE), &researcher())
        .await;
    let asked = client
        .requests(EXCHANGE, None)
        .await
        .expect("read")
        .requests;
    assert_eq!(asked[0].state, "DENIED");
    let log = client.log(EXCHANGE, None).await.expect("read").entries;
    assert!(
        log.iter().any(|line| line.says == says),
        "it is in the log, as what it is"
    );
}

/// A log whose entries are of the end of time shows them first.
#[tokio::test]
async fn hostile_custodian_writes_at_the_end_of_time_and_it_is_read() {
    let world = world(Vec::new()).await;
    let store = &world.pipeline.store;
    let (author, at) = (custodian_author(), UnixSeconds(i64::MAX as u64));
    let mut random = system_random();
    for number in 0..3 {
        let says = Body::Declined {
            recipient: researcher().public_key(),
            purposes: CodeSet::default(),
            reason: number.to_string(),
        };
        let made = audit::append(store, CONTEXT, &author, &says, at, &mut random).await;
        made.expect("kept");
    }
    let door = Door::over(&world.pipeline).await;
    let first = door
        .json(&format!("/v1/circles/{CONTEXT}/log?limit=2"))
        .await;
    assert_eq!(first["entries"].as_array().map(Vec::len), Some(2));
    let next = first["next"].as_str().expect("another page");
    let path = format!("/v1/circles/{CONTEXT}/log?limit=2&after={next}");
    assert_eq!(
        door.json(&path).await["entries"].as_array().map(Vec::len),
        Some(1)
    );
}

/// An alarm takes nothing back of what was seen.
#[tokio::test]
async fn of_a_stopped_circle_what_was_kept_is_read_and_nothing_else() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let world = &study.world;
    let raised = world
        .pipeline
        .store
        .raise_alarm(CONTEXT, "a reader whom nobody invited");
    raised.await.expect("raised");
    let door = Door::over(&world.pipeline).await;
    let client = door.logged_in(LoginAs::staff("ward"), &staff()).await;
    let circle = client.circle(CONTEXT).await.expect("read");
    assert!(
        circle
            .stopped
            .is_some_and(|why| why.contains("a reader whom nobody invited"))
    );
    let log = client.log(CONTEXT, None).await.expect("read");
    assert!(!log.entries.is_empty() && log.entries.iter().all(|line| line.by == "unknown"));
    for what in ["consents", "records", "releases", "receipts"] {
        let answer = door.get(&format!("/v1/circles/{CONTEXT}/{what}")).await;
        let why = problem(answer, 409).await;
        assert!(why.contains("ALARM"), "{what}: {why}");
    }
}

#[tokio::test]
async fn what_does_not_answer_is_said_and_no_name_of_its_own_is() {
    let study = Study::begin(Vec::new()).await;
    let mut world = study.world;
    // The first reading of it, and the first question.
    let plans = [1, 2].map(|call| Plan {
        operation: "pin",
        call,
        fault: Fault::Failed,
    });
    let circle = world.circle.with_faults(Faults::planned(plans.to_vec()));
    world.pipeline.circles = Arc::new(FakeCircles(vec![circle, study.exchange]));
    let door = Door::over(&world.pipeline).await;
    let answer = door.get(&format!("/v1/circles/{CONTEXT}/consents")).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    let why = problem(answer, 503).await;
    assert_eq!(why, "the party's node does not answer; the log says why");
    assert_eq!(
        door.get(&format!("/v1/circles/{CONTEXT}/consents"))
            .await
            .status(),
        200
    );
    let absent = ContextId([0x33; 32]);
    problem(door.get(&format!("/v1/circles/{absent}")).await, 404).await;
}

/// Also what is refused before anybody looks who asks is a page's to read.
#[tokio::test]
async fn a_page_that_may_ask_reads_why_it_was_not_answered() {
    let door = Door::open().await;
    let post = |origin: &str, body: Vec<u8>| {
        let asked = door.request(Method::POST, "/v1/challenges");
        asked.header(ORIGIN, origin).body(body).send()
    };
    let large = post(PAGE, vec![0; 128 * 1024]).await.expect("an answer");
    assert_eq!(large.status(), 413);
    assert_eq!(large.headers()["access-control-allow-origin"], PAGE);
    let mut refused = None;
    for _ in 0..1_000 {
        let answer = post(PAGE, Vec::new()).await.expect("an answer");
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("too many");
    assert_eq!(refused.headers()["access-control-allow-origin"], PAGE);
    let named = refused.headers()["access-control-expose-headers"].to_str();
    assert!(named.is_ok_and(|named| named.contains("retry-after")));
    assert!(refused.headers().contains_key("retry-after"));
    let elsewhere = post("https://evil.example", Vec::new()).await;
    let elsewhere = elsewhere.expect("an answer");
    let told = elsewhere.headers().get("access-control-allow-origin");
    assert_eq!(told, None);
}

#[tokio::test]
async fn a_page_that_may_ask_is_told_so_and_no_other() {
    let door = Door::open().await;
    let preflight = |origin: &str| {
        let asked = door
            .request(Method::OPTIONS, "/v1/status")
            .header(ORIGIN, origin);
        let asked = asked.header("access-control-request-method", "GET");
        asked
            .header("access-control-request-headers", "authorization")
            .send()
    };
    let answer = preflight(PAGE).await.expect("an answer");
    assert!(answer.status().is_success());
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
    let named = answer.headers()["access-control-allow-headers"]
        .to_str()
        .expect("a text");
    assert!(named.contains("authorization"), "{named}");
    assert!(
        answer
            .headers()
            .get("access-control-allow-credentials")
            .is_none()
    );
    problem(
        preflight("https://evil.example").await.expect("an answer"),
        403,
    )
    .await;
    let asked = door.request(Method::GET, "/v1/status").header(ORIGIN, PAGE);
    let asked = asked.header(AUTHORIZATION, format!("Bearer {}", door.token()));
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
    assert!(
        answer.headers()["vary"]
            .to_str()
            .is_ok_and(|vary| vary.contains("origin"))
    );
}
