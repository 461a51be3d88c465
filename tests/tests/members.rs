//! More than one member on the patient's side, on real nodes: a second device that grants, a
//! guardian who decides, a relative who reads, and somebody whom nobody admitted. At the end all of
//! the patient's machines are lost, and the recovery file alone revokes what they granted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::chain::{Account, AccountKey, Call, Deployment, RpcAccount, RpcChain};
use medsync::party::Party;
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;
use medsync_tests::medsync::{Answer, medsync};
use medsync_tests::node::Node;
use medsync_tests::story::{Story, verify, wait_for};
use medsync_tests::up::Up;
use serde_json::{Value, json};

const FAILED: i32 = 1;
const VALID: i32 = 0;
const REVOKED: i32 = 13;
/// The patient is enrolled.
const ENROLLED: usize = 8;
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH";
const OTHER_PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HMARKT";
/// What the hospital calls the one resource that it imports.
const RESOURCE: &str = "height";

#[test]
fn devices_and_relatives_are_admitted_and_strangers_stop_the_circle() {
    let mut story = Story::new().expect("a folder");
    let played = story
        .play_until(ENROLLED, &mut |_, _| Ok(()))
        .and_then(|()| members(&mut story));
    if let Err(error) = played {
        story.print_logs();
        panic!("{error:#}");
    }
    assert!(story.parties_run().expect("an answer"));
}

/// A home of the patient's side with its node and daemon.
struct Home {
    path: String,
    invitation: String,
    node: Node,
    _daemon: Up,
}

/// After how long a node that hears of nothing is started again.
const DEAF: Duration = Duration::from_secs(60);

impl Home {
    /// With the patient's own keys, or with others; peers of the hospital's node and the patient's.
    fn start(story: &Story, circle: &str, name: &str, keys: Option<&str>) -> anyhow::Result<Self> {
        let patient = story.patient()?.swarm()?;
        // Whom a node cannot reach itself it may hear of minutes later.
        let peers = [&story.hospital_peer()?, patient];
        Self::start_among(story, circle, (name, keys), &peers)
    }

    fn start_among(
        story: &Story,
        circle: &str,
        (name, keys): (&str, Option<&str>),
        peers: &[&str],
    ) -> anyhow::Result<Self> {
        let peers: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
        let node = Node::start_with(&story.path(&format!("{name}-node")), &peers)?;
        let path = story.path_text(name);
        let recovery = story.path_text(&format!("{name}-recovery.json"));
        let which = match keys {
            Some(file) => ["--keys", file],
            None => ["--recovery", &recovery],
        };
        let (credential, rpc) = (node.credential().display().to_string(), story.rpc()?);
        let deployment = story.path_text("deployment.json");
        let app = concat!(env!("MEDSYNC_ROOT"), "/target/app/medsync_app.wasm");
        let mut init = vec!["patient", "init", "--home", &path];
        init.extend(["--node-api", node.api(), "--node-credential", &credential]);
        init.extend(["--app", app, "--rpc", &rpc, "--deployment", &deployment]);
        init.extend(which);
        medsync(&init)?.json()?;
        let daemon = Up::start(path.as_ref())?;
        let invitation = story.path_text(&format!("{name}-invitation.json"));
        let hospital = story.path_text("hospital");
        let mut invite = vec!["hospital", "invitation", "--home", &hospital];
        invite.extend(["--circle", circle, "--out", &invitation]);
        wait_for("the hospital to know its patient", || {
            let answer = medsync(&invite)?;
            let text = fs::read_to_string(&invitation).unwrap_or_default();
            let is_one_time = text.contains("one_time_secret");
            if is_one_time {
                fs::remove_file(&invitation)?;
            }
            Ok((answer.code == 0 && !is_one_time).then_some(()))
        })?;
        Ok(Self {
            path,
            invitation,
            node,
            _daemon: daemon,
        })
    }

    fn patient(&self, command: &str, more: &[&str]) -> anyhow::Result<Answer> {
        let mut arguments = vec!["patient", command, "--home", &self.path];
        arguments.extend(more);
        medsync(&arguments)
    }

    /// Under which key it will join.
    fn member(&self) -> anyhow::Result<String> {
        let answer = self.patient("member", &["--invitation", &self.invitation])?;
        text(&answer.json()?, "member")
    }

    fn join(&self) -> anyhow::Result<Answer> {
        self.patient("join", &["--invitation", &self.invitation])
    }

    fn grant(&self, story: &Story, request: &str) -> anyhow::Result<Answer> {
        grant(story, &self.path, request)
    }

    /// Waits for what the node has to hear of. A node of this Calimero can stop for good in the
    /// middle of a merge; it is then started again, as OPERATING says.
    fn hears(
        &mut self,
        what: &str,
        mut has_heard: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let (start, mut was_restarted) = (Instant::now(), false);
        wait_for(what, || {
            if !was_restarted && start.elapsed() > DEAF {
                was_restarted = true;
                self.node.kill_and_restart()?;
            }
            let shown = self.shown()?;
            Ok(shown.is_some_and(|shown| has_heard(&shown)).then_some(()))
        })
    }

    fn shown(&self) -> anyhow::Result<Option<Value>> {
        let answer = self.patient("show", &["--json"])?;
        (answer.code == 0).then(|| answer.json()).transpose()
    }
}

fn grant(story: &Story, home: &str, request: &str) -> anyhow::Result<Answer> {
    let (policy, to) = (story.path_text("policy.txt"), story.grantee()?);
    fs::write(&policy, "Data may be used for the study.\n")?;
    let mut arguments = vec!["patient", "grant", "--home", home, "--to", &to];
    arguments.extend(["--purpose", PURPOSE, "--policy", &policy]);
    arguments.extend(["--policy-uri", "https://example.org/policy"]);
    arguments.extend(["--days", "30", "--request", request]);
    medsync(&arguments)
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

/// A home of the patient's admits a member, and the hospital has heard of it.
fn admit(story: &Story, home: &str, member: &str, role: &str) -> anyhow::Result<Value> {
    let mut admit = vec!["patient", "admit", "--home", home];
    admit.extend(["--member", member, "--as", role]);
    let admitted = wait_for("the patient's node", || {
        let answer = medsync(&admit)?;
        Ok((answer.code == 0).then_some(answer))
    })?;
    let hospital = story.path_text("hospital");
    wait_for("the hospital to hear of it", || {
        let entries = medsync(&["audit", "list", "--home", &hospital, "--kind", "ENROLLED"])?;
        Ok(entries.out.contains(member).then_some(()))
    })?;
    admitted.json()
}

fn consents(shown: &Value) -> &[Value] {
    shown["consents"].as_array().map_or(&[][..], Vec::as_slice)
}

/// A consent of those that are shown.
fn consent<'a>(shown: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let mut consents = consents(shown).iter();
    let found = consents.find(|consent| consent["consent"] == name);
    found.with_context(|| format!("no consent {name} in {shown}"))
}

fn is_anchored(consent: &Value) -> bool {
    let mut stages = consent["stages"].as_array().into_iter().flatten();
    stages.any(|stage| stage["stage"] == "anchored")
}

fn members(story: &mut Story) -> anyhow::Result<()> {
    let circle = story.circle()?;
    let record = import(story, &circle)?;
    let (home, recovery) = (story.path_text("patient"), story.path_text("recovery.json"));
    let mut phone = Home::start(story, &circle, "phone", Some(&recovery))?;
    let member = phone.member()?;
    ensure!(phone.member()? == member, "asked twice it is the same");
    let admitted = admit(story, &home, &member, "own")?;
    ensure!(admitted["device"] == 1, "{admitted}");
    ensure!(admit(story, &home, &member, "own")?["was_there"] == true);
    let joined = phone.join()?.json()?;
    ensure!(joined["member"] == member.as_str(), "{joined}");
    ensure!(joined["device"] == 1, "{joined}");
    phone.patient("enrol", &[])?.json()?;
    let before = text(&phone.grant(story, "from the phone")?.json()?, "consent")?;
    // The consent of the second device counts at the hospital, and at the patient's first one.
    wait_for("the phone's consent to reach the first device", || {
        let shown = medsync(&["patient", "show", "--home", &home, "--json"])?;
        Ok((shown.code == 0 && consents(&shown.json()?).len() == 1).then_some(()))
    })?;
    phone.hears("the phone's consent to be anchored", |shown| {
        shown["consents"][0]["stage"] == "anchored"
    })?;
    let after = the_phone_stays(story, &mut phone, &member)?;
    let first = wait_for("a grant of the first device", || {
        let answer = grant(story, &home, "from the first")?;
        Ok((answer.code == 0).then_some(answer))
    })?;
    let first = text(&first.json()?, "consent")?;
    let guardian = Guardian::start(story, &circle, &record)?;
    guardian.revokes(&after, &mut phone)?;
    relative(story, &circle, &guardian.home, (&record, &first))?;
    let left = guardian.receipts(story, &[before, first, guardian.consent.clone()])?;
    let device = guardian.device.clone();
    drop((phone, guardian));
    stranger(story, &circle)?;
    // Each of the patient's devices, with how often it granted, or tried to.
    let grants = [("0", "1"), ("1", "3"), (device.as_str(), "1")];
    the_recovery_file_alone_revokes(story, &grants, &left)
}

/// The hospital imports one record; answers its name.
fn import(story: &Story, circle: &str) -> anyhow::Result<String> {
    let (home, hospital) = (story.path_text("patient"), story.path_text("hospital"));
    let bundle = story.path_text("small.json");
    let resource = json!({
        "resourceType": "Observation",
        "id": RESOURCE,
        "code": { "coding": [{ "system": "http://loinc.org", "code": "8302-2" }] },
    });
    let file = json!({
        "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": resource }],
    });
    fs::write(&bundle, file.to_string())?;
    let mut import = vec!["hospital", "import", "--home", &hospital];
    import.extend(["--circle", circle, &bundle]);
    wait_for("the enrolment to reach the hospital", || {
        Ok((medsync(&import)?.code == 0).then_some(()))
    })?;
    let listed = wait_for("the record to reach the patient", || {
        let listed = medsync(&["patient", "records", "--home", &home])?;
        Ok((listed.code == 0 && !listed.out.is_empty()).then_some(listed))
    })?;
    text(&listed.json()?, "record")
}

/// A guardian at home, and what it granted.
struct Guardian {
    home: Home,
    /// Its device number.
    device: String,
    consent: String,
}

impl Guardian {
    /// Has the patient's keys: it reads what the patient reads, declines and grants.
    fn start(story: &Story, circle: &str, record: &str) -> anyhow::Result<Self> {
        let keys = story.path_text("next-recovery.json");
        let mut home = Home::start(story, circle, "guardian", Some(&keys))?;
        let member = home.member()?;
        let admitted = admit(story, &story.path_text("patient"), &member, "guardian")?;
        let joined = home.join()?.json()?;
        ensure!(joined["role"] == "guardian", "{joined}");
        ensure!(joined["device"] == admitted["device"], "{joined}");
        home.patient("enrol", &[])?.json()?;
        home.hears("the guardian to read", |shown| consents(shown).len() == 3)?;
        let opened = wait_for("the record to reach the guardian", || {
            let opened = home.patient("records", &["--open", record])?;
            Ok((opened.code == 0).then_some(opened))
        })?;
        ensure!(opened.json()?["id"] == RESOURCE, "{opened:?}");
        let to = story.grantee()?;
        let decline = ["--to", &to, "--purpose", OTHER_PURPOSE];
        home.patient("decline", &decline)?.json()?;
        let granted = home.grant(story, "from the guardian")?.json()?;
        Ok(Self {
            home,
            device: admitted["device"].to_string(),
            consent: text(&granted, "consent")?,
        })
    }

    /// Revokes what another device granted, and that device hears of it.
    fn revokes(&self, name: &str, phone: &mut Home) -> anyhow::Result<()> {
        let state = |shown: &Value| consent(shown, name).map(|found| found["state"].clone());
        phone.hears("the consent on the phone", |shown| {
            state(shown).is_ok_and(|state| state == "in_force")
        })?;
        self.home.patient("revoke", &[name])?.json()?;
        phone.hears("the phone to hear of the revocation", |shown| {
            state(shown).is_ok_and(|state| state == "revoked")
        })
    }

    /// The receipts of these consents, which are valid; by the consents' handles.
    fn receipts(
        &self,
        story: &Story,
        names: &[String],
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let mut receipts = BTreeMap::new();
        for name in names {
            let handle = wait_for("the consent to be anchored", || {
                let Some(shown) = self.home.shown()? else {
                    return Ok(None);
                };
                let found = consent(&shown, name)?;
                let handle = is_anchored(found).then(|| text(found, "handle"));
                handle.transpose()
            })?;
            let file = story.path_text(&format!("{name}.json"));
            let receipt = self
                .home
                .patient("receipt", &[name.as_str(), "--out", &file])?;
            receipt.json()?;
            expect(&verify(&story.verifier(), &file, &[])?, VALID, "")?;
            receipts.insert(handle, file);
        }
        Ok(receipts)
    }
}

/// Somebody whom the guardian admits to read, with keys of their own: they decide nothing.
fn relative(
    story: &Story,
    circle: &str,
    guardian: &Home,
    (record, first): (&str, &str),
) -> anyhow::Result<()> {
    let mut relative = Home::start(story, circle, "relative", None)?;
    let reader = relative.member()?;
    admit(story, &guardian.path, &reader, "relative")?;
    ensure!(relative.join()?.json()?["role"] == "relative");
    relative.hears("the relative to read", |shown| consents(shown).len() == 4)?;
    let granted = relative.grant(story, "not mine")?;
    expect(&granted, FAILED, "only the patient decides")?;
    let to = story.grantee()?;
    let declined = relative.patient("decline", &["--to", &to, "--purpose", OTHER_PURPOSE])?;
    expect(&declined, FAILED, "only the patient decides")?;
    let revoked = relative.patient("revoke", &[first])?;
    expect(&revoked, FAILED, "did not grant")?;
    let admitted = relative.patient("admit", &["--member", &reader, "--as", "own"])?;
    expect(&admitted, FAILED, "enrolled with other keys")?;
    wait_for("the record's payload at the relative", || {
        let opened = relative.patient("records", &["--open", record])?;
        ensure!(opened.code == FAILED, "it is not theirs: {opened:?}");
        Ok(opened.err.contains("does not open").then_some(()))
    })?;
    // Whatever the relative tried, the consent goes on.
    relative.hears("the consent in force", |shown| {
        consent(shown, first).is_ok_and(|found| found["state"] == "in_force")
    })
}

/// The patient's key is replaced as if it was stolen: the phone stays, and takes over the new one.
/// Answers what it grants with that.
fn the_phone_stays(story: &Story, phone: &mut Home, member: &str) -> anyhow::Result<String> {
    let home = story.path_text("patient");
    let (first, next) = (
        story.path_text("recovery.json"),
        story.path_text("next-recovery.json"),
    );
    let mut change = vec![
        "patient",
        "change-key",
        "--home",
        &home,
        "--recovery",
        &next,
    ];
    change.extend(["--stolen", "--keep", member]);
    let mut old = Value::Null;
    phone.hears("the phone's node", |shown| {
        old = shown["patient"].clone();
        true
    })?;
    wait_for("the key change", || {
        Ok((medsync(&change)?.code == 0).then_some(()))
    })?;
    phone.hears("the phone to hear of it", |shown| shown["patient"] != old)?;
    let keys = |file: &str| phone.patient("use-keys", &["--keys", file]);
    expect(&keys(&first)?, 0, "patient_key")?;
    expect(
        &phone.grant(story, "with the old key")?,
        FAILED,
        "changed since",
    )?;
    expect(&keys(&next)?, 0, "patient_key")?;
    let granted = wait_for("a grant with the new key", || {
        let answer = phone.grant(story, "with the new key")?;
        Ok((answer.code == 0).then_some(answer))
    })?;
    let hospital = medsync(&["hospital", "status", "--home", &story.path_text("hospital")])?;
    expect(&hospital, 0, "well")?;
    text(&granted.json()?, "consent")
}

/// Somebody with an invitation whom nobody admitted.
fn stranger(story: &Story, circle: &str) -> anyhow::Result<()> {
    // The hospital's node lets it in, and so both hear of it; the patient's would tell the patient
    // alone.
    let hospital_peer = story.hospital_peer()?;
    let stranger = Home::start_among(story, circle, ("stranger", None), &[&hospital_peer])?;
    let member = stranger.member()?;
    expect(&stranger.join()?, FAILED, "has not admitted this member")?;
    let hospital = story.path_text("hospital");
    let alarm = || -> anyhow::Result<String> {
        let status = medsync(&["hospital", "status", "--home", &hospital, "--json"])?.json()?;
        let why = status["circles"][circle].as_str();
        Ok(why.unwrap_or_default().to_owned())
    };
    wait_for("the hospital's alarm", || {
        Ok(alarm()?.contains(&member).then_some(()))
    })?;
    let command = |name: &'static str, more: &[&str]| {
        let mut arguments = vec!["hospital", name, "--home", &hospital, "--circle", circle];
        arguments.extend(more);
        medsync(&arguments)
    };
    expect(&command("resume", &[])?, FAILED, "readers were added")?;
    // The patient's own node stops too, on each of the patient's devices.
    let patient = story.path_text("patient");
    wait_for("the patient's alarm", || {
        let own = medsync(&["patient", "show", "--home", &patient, "--json"])?;
        let is_stopped = own.code == FAILED && own.out.is_empty();
        Ok((is_stopped && own.err.contains("ALARM")).then_some(()))
    })?;
    command("remove", &["--member", &member])?.json()?;
    wait_for("the circle to go on", || {
        Ok((command("resume", &[])?.code == 0).then_some(()))
    })?;
    ensure!(alarm()?.is_empty(), "{}", alarm()?);
    Ok(())
}

/// All machines of the patient's are gone, and all homes with them. What the recovery file opens
/// is sent by an account that is nobody's; hospital and verifier hear of it from the chain.
fn the_recovery_file_alone_revokes(
    story: &mut Story,
    grants: &[(&str, &str)],
    receipts: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    story.end_patient();
    for name in ["patient", "phone", "guardian", "relative"] {
        fs::remove_dir_all(story.path(name))?;
        fs::remove_dir_all(story.path(&format!("{name}-node")))?;
    }
    let file = story.path_text("next-recovery.json");
    let mut openings = Vec::new();
    for (device, count) in grants {
        let mut open = vec!["patient", "openings", "--recovery", &file];
        open.extend(["--device", device, "--grants", count]);
        let opened = medsync(&open)?;
        expect(&opened, 0, "")?;
        for line in opened.out.lines() {
            openings.push(serde_json::from_str::<Value>(line)?);
        }
    }
    // A receipt's handle alone is found as well; a home that was restored counts from elsewhere.
    let first = receipts.keys().next().context("a receipt")?;
    let found = (grants.iter()).find_map(|(device, count)| {
        let find = ["--device", device, "--grants", count, "--find", first];
        let found = medsync(&[&["patient", "openings", "--recovery", &file], &find[..]].concat());
        found.ok().filter(|found| found.code == 0)
    });
    let found: Value = serde_json::from_str(&found.context("nothing is found")?.out)?;
    ensure!(openings.contains(&found), "{found}");
    let is_open = |handle: &&String| openings.iter().any(|one| one["handle"] == handle.as_str());
    ensure!(receipts.keys().filter(is_open).count() == receipts.len());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(send(story, &openings))?;
    for receipt in receipts.values() {
        let verdict = wait_for("the revocation on chain", || {
            let verdict = verify(&story.verifier(), receipt, &[])?;
            Ok((verdict.code != VALID).then_some(verdict))
        })?;
        expect(&verdict, REVOKED, "")?;
    }
    let hospital = story.path("hospital");
    for handle in receipts.keys() {
        wait_for("the hospital to know of the revocation", || {
            let known = runtime.block_on(is_revoked(&hospital, handle.parse()?))?;
            Ok(known.then_some(()))
        })?;
    }
    Ok(())
}

/// Sends openings to the registry, as anybody can.
async fn send(story: &Story, openings: &[Value]) -> anyhow::Result<()> {
    let deployment = Deployment::read(&story.path("deployment.json"))?;
    let chain = RpcChain::new(&story.rpc()?.parse()?, deployment.chain_id)?;
    let sender = story.bystander()?;
    let key = AccountKey::parse(&sender.private_key)?;
    let account = RpcAccount::new(Arc::new(chain), sender.address.parse()?, key);
    let mut pairs = Vec::new();
    for opening in openings {
        let secret = RevocationSecret::parse(&text(opening, "secret")?)?;
        let claim_key: PublicKey = text(opening, "claim_key")?.parse()?;
        pairs.push((secret, claim_key));
    }
    let call = Call::Revoke {
        registry: deployment.registry,
        openings: pairs,
    };
    let prepared = account.prepare(&call, account.nonce().await?).await?;
    account.send(&prepared).await?;
    Ok(())
}

/// Whether the hospital decides with the chain's word that a handle is open.
async fn is_revoked(hospital: &Path, handle: Handle) -> anyhow::Result<bool> {
    let party = Party::open(hospital).await?;
    Ok(party.store.revoked_elsewhere(handle).await?.is_some())
}
