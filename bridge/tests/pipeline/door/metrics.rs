//! What Prometheus reads, and with which token.

use std::path::Path;
use std::sync::Arc;

use medsync::api::METRICS_TOKEN_FILE;
use medsync::daemon::say_endpoints;
use medsync::pipeline::fees::fee_round;
use medsync::store::facts::{HINDRANCE, LAST_ROUND};

use super::super::endpoints::behind;
use super::super::faults::Faults;
use super::super::{fill, round, run, world};
use super::{Door, NOW};

const DAY_S: u64 = 24 * 60 * 60;

/// What measures is told nothing else: its token goes over the wire every few seconds.
#[tokio::test]
async fn hostile_reader_of_metrics_reads_nothing_else() {
    let door = Door::open().await;
    let token = door.home.path().join(METRICS_TOKEN_FILE);
    let token = std::fs::read_to_string(token).expect("made");
    let client = reqwest::Client::new();
    for (path, expected) in [("/metrics", 200), ("/v1/status", 401), ("/v1/circles", 401)] {
        let url = format!("http://{}{path}", door.address);
        let asked = client.get(url).bearer_auth(token.trim()).send().await;
        assert_eq!(asked.expect("an answer").status(), expected, "{path}");
    }
}

#[tokio::test]
async fn metrics_say_what_the_store_says() {
    let door = Door::open().await;
    door.enter(1).await;
    let context = door.enter(2).await;
    door.store
        .raise_alarm(context, "a reader")
        .await
        .expect("raised");
    let fact = format!("{HINDRANCE}:relay");
    door.store
        .state_fact(&fact, "no endpoint answers")
        .await
        .expect("kept");
    door.store
        .state_fact(LAST_ROUND, &NOW.to_string())
        .await
        .expect("kept");
    let text = door.get("/metrics").await.text().await.expect("a text");
    for line in [
        "medsync_circles 3",
        "medsync_circles_alarmed 1",
        "medsync_hindered{lane=\"relay\"} 1",
        "medsync_hindered{lane=\"ingest\"} 0",
        "medsync_last_round_timestamp_seconds 5000",
        "medsync_queue{what=\"consents_waiting\"} 0",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in {text}"
        );
    }
    let again = door.get("/metrics").await.text().await.expect("a text");
    let counted = "medsync_http_answers_total{method=\"GET\",path=\"/metrics\",status=\"200\"} 1";
    assert!(again.lines().any(|found| found == counted), "{again}");
}

#[tokio::test]
async fn metrics_say_how_long_stages_took_and_what_they_cost() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let sent = world.pipeline.store.unpaid_for(9).await.expect("the store");
    assert_eq!(sent.len(), 3, "two batches and a revocation");
    for _ in 0..2 {
        fee_round(&world.pipeline).await.expect("asked");
    }
    let door = Door::over(&world.pipeline).await;
    let text = door.get("/metrics").await.text().await.expect("a text");
    let value = |line: &str| -> f64 {
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        let found = found.unwrap_or_else(|| panic!("{line} is not in {text}"));
        found.trim().parse().expect("a number")
    };
    assert_eq!(value("medsync_transactions_total{what=\"batch\"}"), 2.0);
    assert_eq!(value("medsync_fees_strk_total{what=\"batch\"}"), 0.003);
    assert_eq!(
        value("medsync_fees_strk_total{what=\"revocation\"}"),
        0.0015
    );
    for stage in ["sealed", "submitted", "anchored", "told", "revoked"] {
        let line = format!("medsync_stage_seconds{{stage=\"{stage}\",quantile=\"0.9\"}}");
        assert!(value(&line) < 1e6, "{line}");
    }
}

#[tokio::test]
async fn metrics_say_which_endpoint_is_well() {
    let mut world = world(Vec::new()).await;
    let dead = world.chain.with_faults(Faults::dead());
    let (chain, _) = behind(&world, &dead);
    world.pipeline.chain = Arc::new(chain);
    for (first, second) in [(0, 1), (1, 1)] {
        world.pipeline.chain.tip().await.expect("the other answers");
        say_endpoints(&world.pipeline).await.expect("the store");
        let door = Door::over(&world.pipeline).await;
        let text = door.get("/metrics").await.text().await.expect("a text");
        for (number, is_well) in [(1, first), (2, second)] {
            let line = format!("medsync_endpoint_well{{number=\"{number}\"}} {is_well}");
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let (chain, _) = behind(&world, &world.chain);
        world.pipeline.chain = Arc::new(chain);
    }
}

/// A transaction that never landed is not asked about for ever, and costs nothing.
#[tokio::test]
async fn a_transaction_that_never_lands_is_forgotten_after_a_day() {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    world.chain.get_stuck();
    for _ in 0..3 {
        round(&world).await;
    }
    let store = &world.pipeline.store;
    assert!(!store.unpaid_for(9).await.expect("the store").is_empty());
    fee_round(&world.pipeline).await.expect("asked");
    assert!(!store.unpaid_for(9).await.expect("the store").is_empty());
    world.clock.advance(2 * DAY_S);
    fee_round(&world.pipeline).await.expect("asked");
    assert_eq!(store.unpaid_for(9).await.expect("the store"), []);
    assert_eq!(store.fees().await.expect("the store"), []);
}

/// The examples ask for nothing that is not there.
#[tokio::test]
async fn the_dashboard_and_the_rules_name_metrics_that_are_served() {
    let door = Door::open().await;
    door.get("/metrics").await;
    let text = door.get("/metrics").await.text().await.expect("a text");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    for example in ["grafana-dashboard.json", "alerts.yml"] {
        let asked = std::fs::read_to_string(examples.join(example)).expect("an example");
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = asked.split(|c| !is_of_a_name(c));
        let names: Vec<&str> = words.filter(|word| word.starts_with("medsync_")).collect();
        assert!(!names.is_empty(), "{example} asks for nothing");
        for name in names {
            let family = name.strip_suffix("_total").unwrap_or(name);
            let is_served = text.contains(&format!("# HELP {family} "));
            assert!(is_served, "{example}: {name} is not in {text}");
        }
    }
}

/// Whom an alert wakes finds what to do.
#[test]
fn each_alert_is_in_the_operators_guide() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let rules = std::fs::read_to_string(docs.join("examples/alerts.yml")).expect("the rules");
    let guide = std::fs::read_to_string(docs.join("OPERATING.md")).expect("the guide");
    let named = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let named: Vec<&str> = named.collect();
    assert_eq!(named.len(), 8);
    for alert in named {
        assert!(guide.contains(&format!("| `{alert}` |")), "{alert}");
    }
}
