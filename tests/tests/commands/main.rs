//! What the patient's and the hospital's commands say they do, on real nodes: consents with every
//! kind of rule, one that replaces another, a decline, an export, an erasure, the log, leaving.

mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use medsync::config::{CONFIG_FILE, Config, NodeRun};
use medsync_protocol::ids::{AuthorId, MemberId, Sha256Digest};
use medsync_tests::medsync::{Answer, medsync, program};
use medsync_tests::story::{Story, wait_for};
use serde_json::{Value, json};

const FAILED: i32 = 1;
/// The patient is enrolled.
const ENROLLED: usize = 8;
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH";
const OTHER_PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HMARKT";
const CLASS: &str = "http://hl7.org/fhir/resource-types|Observation";
const LOINC: &str = "http://loinc.org";
const HEIGHT: &str = "8302-2";
const WEIGHT: &str = "29463-7";
const LOCAL: &str = "https://hospital.example.org/codes";
/// The first second of 2020 and of 2021.
const YEAR: [&str; 2] = ["1577836800", "1609459200"];
const REASON: &str = "not for marketing";

#[test]
fn the_commands_do_what_they_say() {
    let mut story = Story::new().expect("a folder");
    let played = story
        .play_until(ENROLLED, &mut |_, _| Ok(()))
        .and_then(|()| commands(&story));
    if let Err(error) = played {
        story.print_logs();
        panic!("{error:#}");
    }
    assert!(story.parties_run().expect("an answer"));
}

fn commands(story: &Story) -> anyhow::Result<()> {
    let both = Both::import(story)?;
    both.decline().context("decline")?;
    let first = both.grant_by_every_rule().context("grant")?;
    let second = both.replace(&first).context("replace")?;
    both.deny().context("deny")?;
    both.grant_by_label().context("grant --label")?;
    both.admit_a_guardian().context("admit")?;
    both.change_a_record().context("import again")?;
    both.export().context("export")?;
    both.erase().context("erase")?;
    both.filter_the_log().context("audit list")?;
    both.verify_the_log().context("audit verify")?;
    both.verify_a_broken_log().context("a broken log")?;
    both.leave(&second).context("leave")?;
    up_without_a_key(story).context("up")
}

/// A supervisor has to hear of it: `up` ends, though its node would be started again for ever.
fn up_without_a_key(story: &Story) -> anyhow::Result<()> {
    let home = story.path("keyless");
    fs::create_dir(&home)?;
    fs::copy(story.path("hospital.secret"), story.path("keyless.secret"))?;
    let mut config = Config::load(&story.path("hospital"))?;
    config.node.run = Some(NodeRun {
        program: "/bin/false".into(),
        home: home.join("node"),
    });
    config.save(&home)?;
    let ended = Command::new("timeout")
        .arg("60")
        .arg(program("medsync")?)
        .args(["up", "--config"])
        .arg(home.join(CONFIG_FILE))
        .output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.code() == Some(FAILED),
        "{}: {said}",
        ended.status
    );
    ensure!(said.contains("anchor-account.key"), "{said}");
    Ok(())
}

/// A hospital and its patient, with records between them.
struct Both<'a> {
    story: &'a Story,
    circle: String,
    grantee: String,
    /// The record of each resource, by the resource's id.
    records: BTreeMap<String, String>,
}

fn coded(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code }] })
}

/// Three heights that the first consent covers, and what it leaves out, each for one reason.
fn resources() -> Vec<Value> {
    let height = |id: &str| {
        json!({
            "resourceType": "Observation",
            "id": id,
            "code": coded(LOINC, HEIGHT),
            "performer": [{ "reference": "Practitioner/1" }],
            "effectiveDateTime": "2020-03-01",
        })
    };
    let with = |id: &str, field: &str, value: Value| {
        let mut resource = height(id);
        resource[field] = value;
        resource
    };
    let codings =
        [coded(LOINC, HEIGHT), coded(LOCAL, "odd")].map(|concept| concept["coding"][0].clone());
    vec![
        height("height"),
        height("height-again"),
        with(
            "labelled",
            "meta",
            json!({ "security": [{ "system": LOCAL, "code": "own" }] }),
        ),
        with("weight", "code", coded(LOINC, WEIGHT)),
        with("odd", "code", json!({ "coding": codings })),
        with("survey", "category", json!([coded(LOCAL, "survey")])),
        with("earlier", "effectiveDateTime", json!("2019-12-31")),
        with("later", "effectiveDateTime", json!("2021-01-01")),
        with(
            "by-another",
            "performer",
            json!([{ "reference": "Practitioner/2" }]),
        ),
        json!({
            "resourceType": "Condition",
            "id": "condition",
            "code": coded(LOINC, HEIGHT),
            "recorder": { "reference": "Practitioner/1" },
            "recordedDate": "2020-03-01",
        }),
    ]
}

/// The condition as it is imported later.
fn changed() -> Value {
    let mut resource = resources().pop().unwrap_or_default();
    resource["recordedDate"] = json!("2020-04-01");
    resource
}

/// Writes a bundle of some resources; answers how many they are.
fn write_bundle(story: &Story, resources: Vec<Value>) -> anyhow::Result<usize> {
    let entries: Vec<Value> = resources
        .into_iter()
        .map(|resource| json!({ "resource": resource }))
        .collect();
    let count = entries.len();
    let bundle = json!({
        "resourceType": "Bundle", "type": "collection", "entry": entries,
    });
    fs::write(story.path("small.json"), bundle.to_string())?;
    Ok(count)
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    let found = value[key].as_str();
    Ok(found
        .with_context(|| format!("no {key} in {value}"))?
        .into())
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

/// Every line of the output, as JSON.
fn lines(answer: &Answer) -> anyhow::Result<Vec<Value>> {
    expect(answer, 0, "")?;
    let lines: Result<Vec<Value>, _> = answer.out.lines().map(serde_json::from_str).collect();
    Ok(lines?)
}

impl<'a> Both<'a> {
    /// Imports the bundle, and waits until every record opens at the patient's.
    fn import(story: &'a Story) -> anyhow::Result<Self> {
        let count = write_bundle(story, resources())?;
        fs::write(story.path("policy.txt"), "Data may be used.\n")?;
        let mut both = Self {
            story,
            circle: story.circle()?,
            grantee: story.grantee()?,
            records: BTreeMap::new(),
        };
        let imported = wait_for("the enrolment to reach the hospital", || {
            let answer = both.import_again()?;
            Ok((answer.code == 0).then_some(answer))
        })?;
        let written = |line: &Value| line["outcome"] == "written";
        ensure!(lines(&imported)?.iter().all(written), "{}", imported.out);
        let listed = wait_for("the records to reach the patient", || {
            let listed = lines(&both.patient("records", &[])?)?;
            Ok((listed.len() == count).then_some(listed))
        })?;
        for line in &listed {
            let record = text(line, "record")?;
            let opened = wait_for("the record's payload", || {
                let answer = both.patient("records", &["--open", &record])?;
                Ok((answer.code == 0).then_some(answer))
            })?;
            let resource: Value = serde_json::from_str(&opened.out)?;
            both.records.insert(text(&resource, "id")?, record);
        }
        ensure!(both.records.len() == count, "{:?}", both.records);
        Ok(both)
    }

    fn import_again(&self) -> anyhow::Result<Answer> {
        let bundle = self.story.path_text("small.json");
        self.hospital("import", &["--circle", &self.circle, "--json", &bundle])
    }

    fn patient(&self, command: &str, more: &[&str]) -> anyhow::Result<Answer> {
        let home = self.story.path_text("patient");
        let mut arguments = vec!["patient", command, "--home", &home];
        arguments.extend(more);
        medsync(&arguments)
    }

    fn hospital(&self, command: &str, more: &[&str]) -> anyhow::Result<Answer> {
        let home = self.story.path_text("hospital");
        let mut arguments = vec!["hospital", command, "--home", &home];
        arguments.extend(more);
        medsync(&arguments)
    }

    fn grant(&self, request: &str, more: &[&str]) -> anyhow::Result<Answer> {
        let policy = self.story.path_text("policy.txt");
        let mut options = vec!["--to", &self.grantee, "--purpose", PURPOSE];
        options.extend(["--policy", &policy, "--request", request]);
        options.extend(["--policy-uri", "https://example.org/policy"]);
        options.extend(more);
        self.patient("grant", &options)
    }

    fn shown(&self) -> anyhow::Result<Value> {
        self.patient("show", &["--json"])?.json()
    }

    /// A consent as `patient show` shows it.
    fn consent(&self, name: &str) -> anyhow::Result<Value> {
        let shown = self.shown()?;
        let consents = shown["consents"].as_array().context("no consents")?;
        let found = consents.iter().find(|consent| consent["consent"] == name);
        found
            .cloned()
            .with_context(|| format!("no consent {name} in {shown}"))
    }

    /// What the patient's `medsync` has seen of the log.
    fn log(&self, filter: &[&str]) -> anyhow::Result<Vec<Value>> {
        let home = self.story.path_text("patient");
        let mut arguments = vec!["audit", "list", "--home", &home];
        arguments.extend(filter);
        lines(&medsync(&arguments)?)
    }

    /// The one entry of a kind.
    fn entry(&self, kind: &str) -> anyhow::Result<Value> {
        let entries = self.log(&["--kind", kind])?;
        let [only] = entries.as_slice() else {
            anyhow::bail!("not one {kind}: {entries:?}");
        };
        ensure!(only["kind"] == kind, "{only}");
        Ok(only.clone())
    }

    fn record(&self, id: &str) -> anyhow::Result<&str> {
        let record = self.records.get(id).map(String::as_str);
        record.with_context(|| format!("no record of {id}"))
    }

    /// That the preview names the records of these resources and no others.
    fn expect_preview(&self, ids: &[&str]) -> anyhow::Result<()> {
        let previewed = |more: &[&str]| -> anyhow::Result<Vec<Value>> {
            let mut options = vec!["--to", &self.grantee, "--purpose", PURPOSE];
            options.extend(more);
            lines(&self.patient("preview", &options)?)
        };
        let released: BTreeSet<String> = previewed(&[])?
            .iter()
            .map(|line| text(line, "record"))
            .collect::<Result<_, _>>()?;
        let expected: BTreeSet<String> = ids
            .iter()
            .map(|id| self.record(id).map(str::to_owned))
            .collect::<Result<_, _>>()?;
        let all = previewed(&["--all"])?;
        ensure!(released == expected, "{ids:?} are not what is in {all:?}");
        ensure!(all.len() == self.records.len(), "{all:?}");
        Ok(())
    }

    fn decline(&self) -> anyhow::Result<()> {
        let mut options = vec!["--to", self.grantee.as_str(), "--purpose", OTHER_PURPOSE];
        options.extend(["--reason", REASON]);
        let declined = self.patient("decline", &options)?.json()?;
        let entry = self.entry("DECLINED")?;
        ensure!(entry["digest"] == declined["declined"], "{entry}");
        let says = &entry["says"]["declined"];
        ensure!(says["reason"] == REASON, "{entry}");
        ensure!(says["recipient"] == self.grantee.as_str(), "{entry}");
        ensure!(says["purposes"][0]["code"] == "HMARKT", "{entry}");
        Ok(())
    }

    /// A consent by class, code, author and time, with exceptions; answers its name.
    fn grant_by_every_rule(&self) -> anyhow::Result<String> {
        let author = AuthorId(Sha256Digest::of(b"Practitioner/1").0).to_string();
        let (code, odd) = (format!("{LOINC}|{HEIGHT}"), format!("{LOCAL}|odd"));
        let survey = format!("{LOCAL}|survey");
        let mut options = vec!["--class", CLASS, "--code", &code, "--author", &author];
        options.extend(["--data-from", YEAR[0], "--data-until", YEAR[1]]);
        options.extend(["--except-class", &survey]);
        let without_code = options.clone();
        options.extend(["--except-code", &odd]);
        self.expect_preview(&[])?;
        let granted = self.grant("by every rule", &options)?.json()?;
        self.expect_preview(&["height", "height-again", "labelled"])?;
        let again = self.grant("by every rule", &options)?.json()?;
        ensure!(again["consent"] == granted["consent"], "{again}");
        ensure!(again["was_there"] == true, "{again}");
        let other = self.grant("by every rule", &without_code)?;
        expect(&other, FAILED, "granted something else")?;
        let backwards = ["--data-from", YEAR[1], "--data-until", YEAR[0]];
        expect(&self.grant("none", &backwards)?, FAILED, "--data-from")?;
        let consent = text(&granted, "consent")?;
        let provision = self.consent(&consent)?["provision"].clone();
        ensure!(provision["authors"] == json!([author]), "{provision}");
        Ok(consent)
    }

    /// Another consent, for one record, takes the place of the first; answers its name.
    fn replace(&self, old: &str) -> anyhow::Result<String> {
        let mut options = vec!["--record", self.record("height")?, "--days", "30"];
        options.extend(["--replaces", old]);
        let granted = self.grant("in its place", &options)?.json()?;
        ensure!(granted["replaced"]["consent"] == old, "{granted}");
        let new = text(&granted, "consent")?;
        ensure!(new != old, "{granted}");
        let (before, after) = (self.consent(old)?, self.consent(&new)?);
        ensure!(before["state"] == "revoked", "{before}");
        ensure!(after["state"] == "in_force", "{after}");
        self.expect_preview(&["height"])?;
        // Run again, it says nothing twice.
        self.grant("in its place", &options)?.json()?;
        let entry = self.entry("REVOKED")?;
        let says = &entry["says"]["revoked"];
        ensure!(says["handle"] == before["handle"], "{entry}");
        ensure!(says["replaced_by"] == new.as_str(), "{entry}");
        Ok(new)
    }

    /// A consent that denies counts more than one that permits, until it is revoked.
    fn deny(&self) -> anyhow::Result<()> {
        let options = ["--deny", "--record", self.record("height")?];
        let denied = self.grant("a denial", &options)?.json()?;
        let consent = text(&denied, "consent")?;
        ensure!(self.consent(&consent)?["provision"]["kind"] == "deny");
        self.expect_preview(&[])?;
        self.patient("revoke", &[&consent])?.json()?;
        self.expect_preview(&["height"])
    }

    /// A consent for what has a label, until it is revoked.
    fn grant_by_label(&self) -> anyhow::Result<()> {
        let label = format!("{LOCAL}|own");
        let granted = self.grant("by label", &["--label", &label])?.json()?;
        let consent = text(&granted, "consent")?;
        let provision = self.consent(&consent)?["provision"].clone();
        ensure!(provision["labels"][0]["code"] == "own", "{provision}");
        self.expect_preview(&["height", "labelled"])?;
        self.patient("revoke", &[&consent])?.json()?;
        self.expect_preview(&["height"])
    }

    /// The hospital has another version of the condition, and the patient sees it.
    fn change_a_record(&self) -> anyhow::Result<()> {
        let mut resources = resources();
        resources.pop();
        resources.push(changed());
        write_bundle(self.story, resources)?;
        let written: Vec<Value> = lines(&self.import_again()?)?
            .into_iter()
            .filter(|line| line["outcome"] == "written")
            .collect();
        ensure!(written.len() == 1, "{written:?}");
        let record = self.record("condition")?;
        wait_for("the record's second version", || {
            let listed = lines(&self.patient("records", &["--type", "Condition"])?)?;
            let opened = self.patient("records", &["--open", record])?;
            let is_here = opened.code == 0 && listed.iter().all(|line| line["version"] == 2);
            Ok(is_here.then_some(()))
        })
    }

    /// A file of the export's folder.
    fn exported(&self, name: &str) -> anyhow::Result<Value> {
        let file = self.story.path("export").join(name);
        let bytes = fs::read(&file).with_context(|| name.to_owned())?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The one part of a list in the export's folder.
    fn exported_list(&self, name: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.exported(&format!("{name}-1.json"))?;
        Ok(list.as_array().context("a list")?.clone())
    }

    /// Every version of every resource is in the folder as it was in its bundle, with everything
    /// else that the patient may see, and the log says so.
    fn export(&self) -> anyhow::Result<()> {
        let home = self.story.path_text("patient");
        wait_for("a log to be anchored", || {
            let said = medsync(&["audit", "verify", "--home", &home])?;
            Ok(said.out.contains("anchored up to").then_some(()))
        })?;
        let out = self.story.path_text("export");
        let said = self.patient("export", &["--out", &out])?.json()?;
        ensure!(said["not_opened"] == json!([]), "{said}");
        ensure!(said["records"] == self.records.len(), "{said}");
        ensure!(said["versions"] == self.records.len() + 1, "{said}");
        let mut exported = BTreeMap::new();
        for file in fs::read_dir(self.story.path("export").join("records"))? {
            let file = file?.path();
            let resource: Value = serde_json::from_slice(&fs::read(&file)?)?;
            let name = file.file_stem().and_then(|name| name.to_str());
            let (record, version) = name
                .and_then(|name| name.rsplit_once('-'))
                .context("RECORD-VERSION.json")?;
            let id = text(&resource, "id")?;
            ensure!(self.record(&id)? == record, "{id} is in {record}");
            exported.insert((id, version.to_owned()), resource);
        }
        let first = resources().into_iter().map(|resource| (resource, "1"));
        let imported: BTreeMap<(String, String), Value> = first
            .chain([(changed(), "2")])
            .map(|(resource, version)| Ok(((text(&resource, "id")?, version.into()), resource)))
            .collect::<anyhow::Result<_>>()?;
        ensure!(exported == imported, "{exported:?}");
        let consents = fs::read_dir(self.story.path("export").join("consents"))?.count();
        ensure!(said["consents"] == consents && consents == 4, "{said}");
        self.expect_lists(&said)?;
        let entry = self.entry("EXPORTED")?;
        let says = &entry["says"]["exported"];
        ensure!(says["recipient"] == self.shown()?["patient"], "{entry}");
        let named: BTreeSet<&str> = says["records"]
            .as_array()
            .context("no records")?
            .iter()
            .filter_map(|named| named["record"].as_str())
            .collect();
        let all: BTreeSet<&str> = self.records.values().map(String::as_str).collect();
        ensure!(named == all, "{entry}");
        // What is there is not overwritten.
        let again = self.patient("export", &["--out", &out])?;
        expect(&again, FAILED, "is there already")
    }

    /// What the export's lists hold.
    fn expect_lists(&self, said: &Value) -> anyhow::Result<()> {
        let manifest = self.exported("export.json")?;
        ensure!(manifest["format"] == "medsync/export/v1", "{manifest}");
        ensure!(manifest["versions"] == said["versions"], "{manifest}");
        let circle = self.exported("circle.json")?;
        ensure!(circle["circle"] == self.circle.as_str(), "{circle}");
        ensure!(circle["patient_keys"][0] == self.shown()?["patient"]);
        let described = self.exported_list("records")?;
        ensure!(said["versions"] == described.len(), "{described:?}");
        ensure!(said["log_entries"] == self.exported_list("log")?.len());
        let declines = self.exported_list("declines")?;
        ensure!(declines.len() == 1, "{declines:?}");
        ensure!(declines[0]["says"]["declined"]["reason"] == REASON);
        let heads = self.exported_list("heads")?;
        ensure!(!heads.is_empty());
        let has_place = |head: &Value| head["proof"]["siblings"].is_array();
        ensure!(heads.iter().all(has_place), "{heads:?}");
        let members = self.exported_list("members")?;
        ensure!(members.len() == 1, "{members:?}");
        ensure!(members[0]["role"] == "guardian" && members[0]["counts"] == true);
        // Nothing was promised, and no key was changed: that is said too.
        for name in ["tickets", "pools", "key-changes"] {
            ensure!(self.exported_list(name)?.is_empty(), "{name}");
        }
        for file in fs::read_dir(self.story.path("."))? {
            let name = file?.file_name().to_string_lossy().into_owned();
            ensure!(!name.contains("medsync-export"), "{name} is left over");
        }
        Ok(())
    }

    /// The hospital's key to one record is gone, and the log says so to both.
    fn erase(&self) -> anyhow::Result<()> {
        let record = self.record("weight")?;
        let erase = || self.hospital("erase", &["--circle", &self.circle, "--record", record]);
        let erased = erase()?.json()?;
        ensure!(erased["keys_destroyed"] == 1, "{erased}");
        ensure!(erased["logged"] == 1, "{erased}");
        let again = erase()?.json()?;
        ensure!(again["keys_destroyed"] == 0, "{again}");
        wait_for("the erasure in the patient's log", || {
            Ok((!self.log(&["--kind", "ERASED"])?.is_empty()).then_some(()))
        })?;
        let entry = self.entry("ERASED")?;
        let says = &entry["says"]["erased"];
        ensure!(says["order"].is_null(), "{entry}");
        let named = json!([{ "record": record, "version": 1 }]);
        ensure!(says["records"] == named, "{entry}");
        let options = ["--to", &self.grantee, "--purpose", PURPOSE, "--all"];
        let mut previewed = lines(&self.patient("preview", &options)?)?;
        previewed.retain(|line| line["record"] == record);
        ensure!(previewed[0]["withheld"] == "erased", "{previewed:?}");
        // Imported again it stays erased, and every other is there.
        for line in lines(&self.import_again()?)? {
            let refused = line["outcome"]["refused"].as_str();
            let is_right = match line["reference"].as_str() {
                Some("Observation/weight") => refused.is_some_and(|why| why.contains("erased")),
                _ => line["outcome"] == "unchanged",
            };
            ensure!(is_right, "{line}");
        }
        Ok(())
    }

    fn admit_a_guardian(&self) -> anyhow::Result<()> {
        let member = MemberId([77; 32]).to_string();
        let admit = ["--member", member.as_str(), "--as", "guardian"];
        let admitted = self.patient("admit", &admit)?.json()?;
        ensure!(admitted["role"] == "guardian", "{admitted}");
        ensure!(self.patient("admit", &admit)?.json()?["was_there"] == true);
        let shown = self.shown()?;
        let [only] = shown["members"].as_array().map_or(&[][..], Vec::as_slice) else {
            anyhow::bail!("not one member: {shown}");
        };
        ensure!(only["member"] == member.as_str(), "{only}");
        ensure!(only["role"] == "guardian", "{only}");
        ensure!(only["device"] == admitted["device"], "{only}");
        Ok(())
    }

    /// Not while a consent is in force; then for good.
    fn leave(&self, in_force: &str) -> anyhow::Result<()> {
        expect(&self.patient("leave", &[])?, FAILED, "in force and go on")?;
        self.patient("revoke", &[in_force])?.json()?;
        let left = self.patient("leave", &[])?.json()?;
        ensure!(left["left"] == self.circle.as_str(), "{left}");
        expect(&self.patient("show", &["--json"])?, FAILED, "ALARM")?;
        self.read_the_log_all_the_same()
    }
}
