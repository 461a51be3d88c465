//! More than one member on the patient's side, on real nodes: a second device that grants, a
//! relative who reads, and somebody whom nobody admitted.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync_tests::medsync::{Answer, Daemon, medsync};
use medsync_tests::node::Node;
use medsync_tests::story::{Story, wait_for};
use serde_json::Value;

const FAILED: i32 = 1;
/// The patient is enrolled.
const ENROLLED: usize = 8;
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH";

#[test]
fn devices_and_relatives_are_admitted_and_strangers_stop_the_circle() {
    let mut story = Story::new().expect("a folder");
    let played = story
        .play_until(ENROLLED, &mut |_, _| Ok(()))
        .and_then(|()| members(&story, &story.circle()?));
    if let Err(error) = played {
        story.print_logs();
        panic!("{error:#}");
    }
    assert!(story.daemons_run().expect("an answer"));
}

/// A home of the patient's side with its node and daemon.
struct Home {
    path: String,
    invitation: String,
    node: Node,
    _daemon: Daemon,
}

/// After how long a node that hears of nothing is started again.
const DEAF: Duration = Duration::from_secs(60);

impl Home {
    /// With the patient's own keys, or with others.
    fn start(story: &Story, circle: &str, name: &str, keys: Option<&str>) -> anyhow::Result<Self> {
        let patient = story.patient_node().context("it runs")?.swarm();
        // Whom a node cannot reach itself it may hear of minutes later.
        let peers = ["--peer", &story.hospital_peer()?, "--peer", patient];
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
        let daemon = Daemon::start(path.as_ref())?;
        let invitation = story.path_text(&format!("{name}-invitation.json"));
        let hospital = story.path_text("hospital");
        let mut invite = vec!["hospital", "invitation", "--home", &hospital];
        invite.extend(["--circle", circle, "--out", &invitation]);
        wait_for("the hospital to know its patient", || {
            let answer = medsync(&invite)?;
            let text = std::fs::read_to_string(&invitation).unwrap_or_default();
            let is_one_time = text.contains("one_time_secret");
            if is_one_time {
                std::fs::remove_file(&invitation)?;
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
        let (policy, to) = (story.path_text("policy.txt"), story.grantee()?);
        std::fs::write(&policy, "Data may be used for the study.\n")?;
        let mut more = vec!["--to", &to, "--purpose", PURPOSE, "--policy", &policy];
        more.extend(["--policy-uri", "https://example.org/policy"]);
        more.extend(["--days", "30", "--request", request]);
        self.patient("grant", &more)
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

/// The patient admits a member, and the hospital has heard of it.
fn admit(story: &Story, member: &str, role: &str) -> anyhow::Result<Value> {
    let home = story.path_text("patient");
    let mut admit = vec!["patient", "admit", "--home", &home];
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

fn consents(shown: &Value) -> usize {
    shown["consents"].as_array().map_or(0, Vec::len)
}

fn members(story: &Story, circle: &str) -> anyhow::Result<()> {
    let recovery = story.path_text("recovery.json");
    let mut phone = Home::start(story, circle, "phone", Some(&recovery))?;
    let member = phone.member()?;
    ensure!(phone.member()? == member, "asked twice it is the same");
    let admitted = admit(story, &member, "own")?;
    ensure!(admitted["device"] == 1, "{admitted}");
    ensure!(admit(story, &member, "own")?["was_there"] == true);
    let joined = phone.join()?.json()?;
    ensure!(joined["member"] == member.as_str(), "{joined}");
    ensure!(joined["device"] == 1, "{joined}");
    phone.patient("enrol", &[])?.json()?;
    phone.grant(story, "from the phone")?.json()?;
    // The consent of the second device counts at the hospital, and at the patient's first one.
    let first = story.path_text("patient");
    wait_for("the phone's consent to reach the first device", || {
        let shown = medsync(&["patient", "show", "--home", &first, "--json"])?;
        Ok((shown.code == 0 && consents(&shown.json()?) == 1).then_some(()))
    })?;
    phone.hears("the phone's consent to be anchored", |shown| {
        shown["consents"][0]["stage"] == "anchored"
    })?;
    the_phone_stays(story, &mut phone, &member)?;
    let mut relative = Home::start(story, circle, "relative", None)?;
    let reader = relative.member()?;
    admit(story, &reader, "relative")?;
    ensure!(relative.join()?.json()?["role"] == "relative");
    relative.hears("the relative to read", |shown| consents(shown) == 2)?;
    expect(
        &relative.grant(story, "not mine")?,
        FAILED,
        "only the patient decides",
    )?;
    stranger(story, circle)
}

/// The patient's key is replaced as if it was stolen: the phone stays, and takes over the new one.
fn the_phone_stays(story: &Story, phone: &mut Home, member: &str) -> anyhow::Result<()> {
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
    wait_for("a grant with the new key", || {
        Ok((phone.grant(story, "with the new key")?.code == 0).then_some(()))
    })?;
    let hospital = medsync(&["hospital", "status", "--home", &story.path_text("hospital")])?;
    expect(&hospital, 0, "well")
}

/// Somebody with an invitation whom nobody admitted.
fn stranger(story: &Story, circle: &str) -> anyhow::Result<()> {
    let stranger = Home::start(story, circle, "stranger", None)?;
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
        Ok(own.err.contains("ALARM").then_some(()))
    })?;
    command("remove", &["--member", &member])?.json()?;
    wait_for("the circle to go on", || {
        Ok((command("resume", &[])?.code == 0).then_some(()))
    })?;
    ensure!(alarm()?.is_empty(), "{}", alarm()?);
    Ok(())
}
