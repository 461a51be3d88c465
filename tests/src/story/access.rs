//! Asking for data: denied for another purpose, released for the right one, erased after the
//! revocation.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use medsync::party::Party;
use medsync::source::{CalimeroNode, EntryKind, all_changes};
use medsync::store::log::LogFilter;
use medsync_protocol::ids::parse_bytes32;
use serde_json::Value;

use super::consent::{CLASS, OTHER_PURPOSE, PURPOSE};
use super::{Story, insist, text, wait_for};
use crate::medsync::medsync;
use crate::search::{Needle, search};

/// How many Observations of the story's patient carry no label that is excepted.
pub const OBSERVATIONS: usize = 48;

/// Every line that a command prints, as JSON; nothing while it fails.
pub(super) fn lines(arguments: &[&str]) -> anyhow::Result<Option<Vec<Value>>> {
    let answer = medsync(arguments)?;
    if answer.code != 0 {
        return Ok(None);
    }
    let lines: Result<Vec<Value>, _> = answer.out.lines().map(serde_json::from_str).collect();
    Ok(Some(lines?))
}

/// Asks, and waits for the answer: what it came to, and the request.
fn asked(home: &str, purpose: &str) -> anyhow::Result<(String, String)> {
    let receipts = wait_for("the receipt to reach the researcher", || {
        let listed = lines(&["researcher", "receipts", "--home", home])?;
        Ok(listed.filter(|receipts| !receipts.is_empty()))
    })?;
    let patient = text(&receipts[0], "patient")?;
    let asked = insist(&[
        "researcher",
        "request",
        "--home",
        home,
        "--patient",
        &patient,
        "--purpose",
        purpose,
        "--class",
        CLASS,
        "--reason",
        "the study of the story",
    ])?;
    let request = text(&asked, "request")?;
    let state = wait_for("the answer", || {
        let listed = lines(&["researcher", "requests", "--home", home])?.unwrap_or_default();
        let own = listed
            .iter()
            .find(|line| line["request"] == request.as_str());
        let state = own.map(|own| text(own, "state")).transpose()?;
        Ok(state.filter(|state| state == "DENIED" || state == "RELEASED"))
    })?;
    Ok((state, request))
}

#[derive(Debug)]
struct Found {
    contexts: usize,
    kinds: BTreeSet<EntryKind>,
}

/// What a node has: how many contexts, and which kinds of entries in them.
async fn contexts_and_kinds(api: &str, credential: &Path) -> anyhow::Result<Found> {
    let node = CalimeroNode::new(&api.parse()?, credential)?;
    let contexts = node.contexts().await?;
    let mut kinds = BTreeSet::new();
    for known in &contexts {
        let walked = all_changes(&node.circle(known.context)).await?;
        kinds.extend(walked.iter().map(|entry| entry.kind));
    }
    Ok(Found {
        contexts: contexts.len(),
        kinds,
    })
}

/// A record's name, in every spelling.
fn named(record: &str) -> anyhow::Result<Needle> {
    Ok(Needle::bytes(record, &parse_bytes32(record)?))
}

/// What was opened: each line of `researcher open`.
fn opened(home: &str, request: &str) -> anyhow::Result<Vec<Value>> {
    let open = ["researcher", "open", "--home", home, request];
    Ok(lines(&open)?.unwrap_or_default())
}

/// The same once everything that is covered is here: each line, and the resource in its file.
fn all_opened(home: &str, request: &str) -> anyhow::Result<Vec<(Value, Value)>> {
    let opened = wait_for("the released records", || {
        let opened = opened(home, request)?;
        let is_whole = opened.iter().all(|line| line["file"].is_string());
        Ok((is_whole && opened.len() >= OBSERVATIONS).then_some(opened))
    })?;
    ensure!(opened.len() == OBSERVATIONS, "{}", opened.len());
    opened
        .into_iter()
        .map(|line| {
            let resource = serde_json::from_slice(&fs::read(text(&line, "file")?)?)?;
            Ok((line, resource))
        })
        .collect()
}

impl Story {
    pub(super) fn ask_for_another_purpose(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("researcher");
        self.report
            .step("researcher", "ask for marketing: denied", |figures| {
                let (state, _) = asked(&home, OTHER_PURPOSE)?;
                ensure!(state == "DENIED", "{state}");
                figures.insert("answer".into(), state.into());
                Ok(())
            })
    }

    pub(super) fn ask(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("researcher");
        let request = self
            .report
            .step("researcher", "ask for research: released", |figures| {
                let (state, request) = asked(&home, PURPOSE)?;
                ensure!(state == "RELEASED", "{state}");
                figures.insert("answer".into(), state.into());
                Ok(request)
            })?;
        self.request = Some(request);
        Ok(())
    }

    fn request(&self) -> anyhow::Result<String> {
        self.request.clone().context("nothing was asked for")
    }

    pub(super) fn open_what_was_released(&mut self) -> anyhow::Result<()> {
        let (home, request) = (self.path_text("researcher"), self.request()?);
        self.report.step(
            "researcher",
            "open exactly the covered Observations",
            |figures| {
                let opened = all_opened(&home, &request)?;
                for (_, resource) in &opened {
                    ensure!(resource["resourceType"] == "Observation", "{resource}");
                }
                figures.insert("records opened".into(), opened.len().into());
                Ok(())
            },
        )
    }

    /// Looks at everything that the researcher's side has: no context but the exchange, no entry
    /// but those of an exchange, and not one record that the consent does not cover. The same
    /// search finds every record that it does cover.
    pub(super) fn look_what_else_is_there(&mut self) -> anyhow::Result<()> {
        let (circle, request) = (self.circle()?, self.request()?);
        let node = self.researcher.as_ref().context("no researcher")?;
        let (credential, api) = (node.credential()?, node.api()?.to_owned());
        let (patient, researcher) = (self.path_text("patient"), self.path_text("researcher"));
        let (home, node_home) = (self.path("researcher"), self.path("researcher-node"));
        let unsealed = self.path("researcher-unsealed");
        self.report.step(
            "researcher",
            "look what else is there: nothing",
            |figures| {
                let listed = lines(&["patient", "records", "--home", &patient])?;
                let others: Vec<Needle> = listed
                    .context("the patient's records")?
                    .iter()
                    .filter(|record| record["type"] != "Observation")
                    .map(|record| named(&text(record, "record")?))
                    .collect::<anyhow::Result<_>>()?;
                ensure!(!others.is_empty(), "there are records that are not covered");
                let (mut covered, mut contents) = (Vec::new(), Vec::new());
                for (line, resource) in all_opened(&researcher, &request)? {
                    covered.push(named(&text(&line, "record")?)?);
                    contents.push(Needle::text(&text(&resource, "id")?));
                }
                let found = tokio::runtime::Runtime::new()?
                    .block_on(contexts_and_kinds(&api, &credential))?;
                ensure!(found.contexts == 1, "{found:?}");
                for kind in [EntryKind::Consent, EntryKind::Record, EntryKind::Anchor] {
                    ensure!(!found.kinds.contains(&kind), "{found:?}");
                }
                // Whatever files there are: no name of other records. The node and the log have
                // those that are covered; the home has what was opened, and its log is sealed.
                tokio::runtime::Runtime::new()?.block_on(unseal_log(&home, &unsealed))?;
                let needles = [&others[..], &covered[..], &contents[..]].concat();
                let mut bytes = 0;
                for (folder, named, opened) in [
                    (home, 0, contents.len()),
                    (unsealed, covered.len(), 0),
                    (node_home, covered.len(), 0),
                ] {
                    let searched = search(&folder, &needles)?;
                    let counts = [&others, &covered, &contents].map(|some| searched.count(some));
                    ensure!(
                        counts == [0, named, opened],
                        "{}: {counts:?}: {:?}",
                        folder.display(),
                        searched.found
                    );
                    bytes += searched.bytes;
                }
                figures.insert("contexts".into(), found.contexts.into());
                figures.insert("bytes searched".into(), bytes.into());
                figures.insert("circle".into(), circle.into());
                Ok(())
            },
        )
    }

    pub(super) fn ask_after_revocation(&mut self) -> anyhow::Result<()> {
        let (home, request) = (self.path_text("researcher"), self.request()?);
        let released = self.path("researcher").join("released");
        let patient = self.path_text("patient");
        self.report.step(
            "researcher",
            "ask again: denied; what was released is erased, and said to be",
            |figures| {
                let (state, _) = asked(&home, PURPOSE)?;
                ensure!(state == "DENIED", "{state}");
                let erased = wait_for("the acknowledgement in the patient's log", || {
                    let kind = ["audit", "list", "--home", &patient, "--kind", "ERASED"];
                    Ok(lines(&kind)?.filter(|entries| !entries.is_empty()))
                })?;
                let after = opened(&home, &request)?;
                let left = fs::read_dir(&released).map_or(0, Iterator::count);
                ensure!(
                    left == 0,
                    "{left} releases are left in {}",
                    released.display()
                );
                let opens = after.iter().any(|line| line["file"].is_string());
                ensure!(!opens, "nothing opens any more: {after:?}");
                figures.insert("answer".into(), state.into());
                figures.insert("acknowledged".into(), erased[0]["at"].clone());
                Ok(())
            },
        )
    }
}

/// Writes what the log in a home says into a folder, as it is.
async fn unseal_log(home: &Path, folder: &Path) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let mut said = Vec::new();
    for row in party.store.circles().await? {
        for entry in party.store.log(row.context, &LogFilter::default()).await? {
            said.extend(entry.body.encode()?);
        }
    }
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("log"), said)?)
}
