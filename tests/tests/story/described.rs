//! The API against its description: asked about what is there and what is not, as each who may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use medsync::api::TOKEN_FILE;
use medsync_client::Client;
use medsync_client::wire::{ConsentState, ImportState, Session};
use medsync_protocol::ids::ContextId;
use medsync_tests::medsync::medsync;
use medsync_tests::story::{BUNDLE, Story};
use serde_json::Value;
use tokio::runtime::Runtime;

/// How often what is there is asked about, and not something that looks like it.
const REAL: f64 = 0.8;
/// What destroys or stops something that is there: asked about what is not, alone.
const DESTROYS: [&str; 2] = ["/erasures", "/recipient"];
/// What an exchange has; all else is a circle's.
const OF_EXCHANGES: [&str; 4] = ["/receipts", "/releases", "/releases/{entry}", "/requests"];
/// What nobody is answered in a story: a stream has no end, no record of its patient has parts, and
/// what was released is erased by then.
const UNANSWERED: [&str; 3] = [
    "/v1/events",
    "/v1/circles/{context}/parts/{part}",
    "/v1/circles/{context}/releases/{entry}",
];
/// What a patient is answered besides what their circle has.
const OF_PATIENTS: [&str; 3] = ["/live", "/ready", "/v1/session"];
const CIRCLES: &str = "/v1/circles/{context}";

/// Whatever is asked that the description allows, and much that it does not, is answered as it
/// says, and never by a fault of its own; and each who may ask is answered about what is theirs.
pub(super) fn the_door_keeps_to_its_description(story: &Story) -> anyhow::Result<()> {
    let door = story.hospital()?.door()?;
    let operator = std::fs::read_to_string(story.path("hospital").join(TOKEN_FILE))?;
    let operator = operator.trim();
    let home = story.path_text("patient");
    let said = medsync(&["login", "party", "--home", &home, "--api", door.as_str()])?;
    let patient: Session = serde_json::from_value(said.json()?)?;
    let client = Client::new(door.clone())?.with_token(operator);
    let there = Runtime::new()?.block_on(There::find(&client, story.circle()?.parse()?))?;
    let described = text_of(door.join("/openapi.json")?.as_str(), operator)?;
    let described: Value = serde_json::from_str(&described)?;
    let paths = described["paths"].as_object().context("paths")?;
    let config = story.path("schemathesis.toml");
    std::fs::write(&config, there.config(paths.keys())?)?;
    let gets = paths.iter().filter(|(_, does)| does.get("get").is_some());
    let gets: BTreeSet<&str> = gets
        .map(|(path, _)| path.as_str())
        .filter(|path| !UNANSWERED.contains(path))
        .collect();
    let patients = |path: &&str| {
        let of = path.strip_prefix(CIRCLES);
        OF_PATIENTS.contains(path) || of.is_some_and(is_patients)
    };
    for (token, wanted) in [
        (operator, gets.clone()),
        (
            patient.token.as_str(),
            gets.iter().copied().filter(patients).collect(),
        ),
    ] {
        let metrics = door.join("/metrics")?;
        let before = answered(&text_of(metrics.as_str(), operator)?);
        check(&config, door.join("/openapi.json")?.as_str(), token)?;
        let after = answered(&text_of(metrics.as_str(), operator)?);
        let was = |path: &&str| after.get(*path) > before.get(*path);
        let silent: Vec<&str> = wanted.iter().copied().filter(|path| !was(path)).collect();
        ensure!(silent.is_empty(), "nothing of {silent:?} was answered");
        println!("      {} paths answered as described", wanted.len());
    }
    Ok(())
}

/// An import is its hospital's alone.
fn is_patients(of_circle: &str) -> bool {
    !OF_EXCHANGES.contains(&of_circle) && !of_circle.starts_with("/imports")
}

fn text_of(url: &str, token: &str) -> anyhow::Result<String> {
    let asked = reqwest::Client::new().get(url).bearer_auth(token).send();
    Runtime::new()?.block_on(async { Ok(asked.await?.error_for_status()?.text().await?) })
}

/// How often each path was asked and answered, by what the API counts.
fn answered(metrics: &str) -> BTreeMap<String, u64> {
    let lines = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix("medsync_http_answers_total{method=\"GET\",path=\"")?;
        let (path, count) = line.split_once("\",status=\"200\"} ")?;
        Some((path.to_owned(), count.parse().ok()?))
    });
    lines.collect()
}

fn check(config: &Path, described: &str, token: &str) -> anyhow::Result<()> {
    let program = std::env::var_os("MEDSYNC_SCHEMATHESIS");
    let program = program.context("MEDSYNC_SCHEMATHESIS is not set: source scripts/env")?;
    let checked = Command::new(program)
        .arg("--config-file")
        .arg(config)
        .args(["run", described, "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // Who logs out is told nothing more.
        .args([
            "--exclude-path",
            "/v1/events",
            "--exclude-operation-id",
            "log_out",
        ])
        // What a text has to look like, the description says in words.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "25"])
        .args(["--generation-deterministic", "--rate-limit", "100/s"])
        .current_dir(config.parent().context("a folder")?)
        .output()
        .context("schemathesis; scripts/setup installs it")?;
    let said = String::from_utf8_lossy(&checked.stdout);
    ensure!(checked.status.success(), "{said}");
    Ok(())
}

/// What is there in the story, by the parameters that name it.
struct There(BTreeMap<&'static str, String>);

impl There {
    async fn find(client: &Client, circle: ContextId) -> anyhow::Result<Self> {
        let circles = client.circles(None).await?.circles;
        let exchange = circles
            .iter()
            .find(|one| one.kind.as_deref() == Some("exchange") && one.alarm.is_none())
            .context("an exchange")?;
        let consents = client.consents(circle, None).await?.consents;
        let consent = consents
            .iter()
            .find(|one| matches!(one.state, ConsentState::Revoked | ConsentState::OldKey))
            .context("a consent that was anchored")?;
        let records = client.records(circle, None).await?.records;
        let record = records.first().context("a record")?;
        let bundle = std::fs::read(BUNDLE)?;
        let import = client.import(circle, bundle, false).await?.import;
        loop {
            let report = client.import_report(circle, &import, None).await?;
            if report.state == ImportState::Done {
                break;
            }
            ensure!(report.state != ImportState::Failed, "{:?}", report.why);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        Ok(Self(BTreeMap::from([
            ("circle", circle.to_string()),
            ("exchange", exchange.context.clone()),
            ("consent", consent.consent.to_string()),
            ("record", record.record.to_string()),
            ("import", import),
        ])))
    }

    /// Lets each path be asked about what is there, most of the time.
    fn config<'a>(&self, paths: impl Iterator<Item = &'a String>) -> anyhow::Result<String> {
        let mut config = String::new();
        for (name, value) in &self.0 {
            writeln!(config, "[dictionaries.{name}]\nvalues = [\"{value}\"]")?;
        }
        for path in paths {
            let Some(of) = path.strip_prefix(CIRCLES) else {
                continue;
            };
            if DESTROYS.contains(&of) {
                continue;
            }
            let context = match OF_EXCHANGES.contains(&of) {
                true => "exchange",
                false => "circle",
            };
            writeln!(config, "[[operations]]\ninclude-path = \"{path}\"")?;
            writeln!(config, "[operations.parameters]")?;
            let named = ["consent", "record", "import"].into_iter();
            let named = named.filter(|name| path.contains(&format!("{{{name}}}")));
            let each = named.map(|name| (name, name));
            for (parameter, dictionary) in each.chain([("context", context)]) {
                write!(config, "\"path.{parameter}\" = {{ probability = {REAL}, ")?;
                writeln!(config, "dictionary = \"{dictionary}\" }}")?;
            }
        }
        Ok(config)
    }
}
