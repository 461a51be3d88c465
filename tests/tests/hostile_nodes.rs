//! Real nodes under attack: a hospital, a peer or a program in the place of `medsync` that asks the
//! node for what `medsync` never would. What the platform lets through, a guard sees.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use medsync::at_rest::HomeSecret;
use medsync::audit;
use medsync::config::{
    BatchConfig, ChainConfig, Config, NodeConfig, RetentionConfig, Role, block_age_s_max,
};
use medsync::guard::{self, Circles, GuardError};
use medsync::invitation::{Invitation, Parts};
use medsync::seams::{Clock, SystemClock, system_random};
use medsync::source::{
    CalimeroNode, Circle, ConsentState, LogEntry, NamespaceId, NewRelease, NodeCircle,
    OpenedCircle, PageLimit, SignedKeyChange, SourceResult, StateHash, all_consents,
};
use medsync::store::Store;
use medsync::store::circles::CircleRow;
use medsync_protocol::audit::{Body, DenialReason, EntryDigest, RecordRef, Seq};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    ClassHash, ContextId, ContextKind, MemberId, RecordId, SealKey, Sha256Digest, UnixSeconds,
};
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::messages::{RotationNumber, rotate_message};
use medsync_protocol::secrets::DeviceNumber;
use medsync_tests::circle::{
    Consent, HOSPITAL, INVITATION, Logged, PATIENT, Plan, RESEARCHER, anchorer, enrolment,
    public_key, registry, secret_key, terms,
};
use medsync_tests::medsync::{Answer, medsync};
use medsync_tests::party::{Party, assert_refused, eventually, in_an_hour, in_seconds};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

/// The exit code of a command that failed.
const FAILED: i32 = 1;
const PATIENTS_HOME: &str = "b";

/// A hospital and the patient or recipient of one context, with what the latter's `medsync` pinned
/// when it joined.
struct World {
    folder: TempDir,
    hospital: Party,
    namespace: NamespaceId,
    opened: OpenedCircle,
    other: Party,
    circle: NodeCircle,
    member: MemberId,
    /// The daemon of the hospital.
    custodian: Guarded,
    /// The daemon of the patient or the recipient.
    patient: Guarded,
}

/// A party's node behind the daemon's guard, with what it pinned.
struct Guarded {
    node: CalimeroNode,
    store: Store,
    context: ContextId,
}

#[async_trait]
impl Circles for Guarded {
    fn open(&self, context: ContextId) -> Box<dyn Circle> {
        Box::new(self.node.circle(context))
    }

    async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>> {
        self.node.states().await
    }
}

impl Guarded {
    async fn new(party: &Party, home: &Path, row: &CircleRow) -> anyhow::Result<Self> {
        std::fs::create_dir(home)?;
        config(party)?.save(home)?;
        let store = Store::open(home, &HomeSecret::of_new(home, &mut system_random())?).await?;
        store.enter_circle(row).await?;
        Ok(Self {
            node: party.node.clone(),
            store,
            context: row.context,
        })
    }

    /// What the daemon gets of its circle.
    async fn enter(&self) -> Result<Box<dyn Circle>, GuardError> {
        let row = self.store.circle(self.context).await?;
        guard::enter(self, &self.store, &row, SystemClock.now()).await
    }

    /// Waits until the guard stops the circle, for a reason that has this in it; then it stays
    /// stopped.
    async fn stops(&self, why: &str) -> anyhow::Result<()> {
        let said = eventually("the alarm", || async {
            match self.enter().await {
                Err(GuardError::Alarm { why, .. }) => Ok(Some(why)),
                Ok(_) | Err(GuardError::Source(_) | GuardError::Suspect { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        ensure!(said.contains(why), "{said}");
        let alarm = self.store.circle(self.context).await?.alarm;
        ensure!(alarm.is_some(), "an alarm stays until a person has looked");
        Ok(())
    }
}

/// With this, `medsync` can be asked what it says of the circle. No chain answers it.
fn config(party: &Party) -> anyhow::Result<Config> {
    Ok(Config {
        role: Role::Patient,
        node: NodeConfig {
            api: party.process.api().parse()?,
            credential: party.process.credential().to_owned(),
            peer: None,
            app: party.app.clone(),
            run: None,
        },
        chain: ChainConfig {
            rpc: vec!["http://127.0.0.1:9/rpc".parse()?],
            chain_id: registry().chain_id,
            registry: registry().registry,
            class_hash: ClassHash::from_felt(Felt::ONE),
            block_age_s_max: block_age_s_max(),
        },
        anchor_account: None,
        revoke_account: None,
        claim_account: None,
        relay_after_s: 0,
        batch: BatchConfig::default(),
        retention: RetentionConfig::default(),
        store: None,
        api: None,
    })
}

/// What a context was joined by.
fn invitation(kind: ContextKind, opened: &OpenedCircle) -> Invitation {
    Invitation::without_key(Parts {
        kind,
        group_invitation: json!({}),
        group: opened.group,
        context: opened.context,
        peer: String::new(),
        wasm_sha256: Sha256Digest([0; 32]),
        invitation_key: public_key(INVITATION),
        custodian_member: opened.member,
        custodian_address: anchorer(),
        author_key: public_key(HOSPITAL),
        seal_key: SealKey([9; 32]),
        registry: registry(),
        class_hash: ClassHash::from_felt(Felt::ONE),
        expires_at: in_an_hour(),
    })
}

impl World {
    async fn start(kind: ContextKind) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let hospital = Party::start(folder.path(), "hospital", &[])?;
        let other = Party::start(folder.path(), "other", &[hospital.process.swarm()])?;
        let namespace = hospital.node.create_namespace(&hospital.app).await?;
        let opened = hospital.open(namespace, kind).await?;
        let (circle, member) = other.join(&hospital, &opened).await?;
        let invitation = serde_json::to_string(&invitation(kind, &opened))?;
        let row = |member| CircleRow {
            kind,
            context: opened.context,
            group: opened.group,
            label: "mine".into(),
            member,
            custodian_member: opened.member,
            application: opened.application,
            bytecode: opened.bytecode,
            invitation: Some(invitation.clone()),
            patient_member: None,
            recipient_key: None,
            device: DeviceNumber::FIRST,
            entered_at: UnixSeconds(0),
            state_hash: None,
            consents_digest: None,
            alarm: None,
            suspected_at: None,
        };
        let home = |name| folder.path().join(name);
        let custodian = Guarded::new(&hospital, &home("a"), &row(opened.member)).await?;
        let patient = Guarded::new(&other, &home(PATIENTS_HOME), &row(member)).await?;
        let world = Self {
            hospital,
            namespace,
            opened,
            other,
            circle,
            member,
            custodian,
            patient,
            folder,
        };
        world.enrol(kind).await?;
        Ok(world)
    }

    async fn enrol(&self, kind: ContextKind) -> anyhow::Result<()> {
        let party = match kind {
            ContextKind::Circle => PATIENT,
            ContextKind::Exchange => RESEARCHER,
        };
        let enrolment = enrolment(self.member, party);
        let message = enrolment.message(self.opened.context);
        let signature = secret_key(INVITATION).sign(message)?;
        self.circle.enrol(&enrolment, &signature).await?;
        self.enrolled(&self.custodians()).await
    }

    async fn enrolled(&self, circle: &dyn Circle) -> anyhow::Result<()> {
        eventually("the enrolment", || async {
            let state = circle.circle().await?;
            Ok(state.patient.map(|_| ()))
        })
        .await
    }

    /// The custodian's side of the context.
    fn custodians(&self) -> NodeCircle {
        self.hospital.node.circle(self.opened.context)
    }

    /// Somebody with a node that reaches both others.
    async fn stranger(&self) -> anyhow::Result<Party> {
        let peers = [&self.hospital, &self.other].map(|party| party.process.swarm());
        let stranger = Party::start(self.folder.path(), "stranger", &peers)?;
        // It knows the hospital as one whose patient it is.
        let own = self
            .hospital
            .open(self.namespace, ContextKind::Circle)
            .await?;
        stranger.join(&self.hospital, &own).await?;
        Ok(stranger)
    }

    /// What the patient's `medsync` says of the circle.
    fn shown(&self) -> anyhow::Result<Answer> {
        let home = self.folder.path().join(PATIENTS_HOME);
        medsync(&["patient", "show", "--home", &home.display().to_string()])
    }

    /// Waits until the patient's guard stops the circle, for a reason that has this in it; the
    /// patient's `medsync` then shows nothing but that.
    async fn patient_stops(&self, why: &str) -> anyhow::Result<()> {
        self.patient.stops(why).await?;
        let shown = self.shown()?;
        let says_why = shown.err.contains("ALARM") && shown.err.contains(why);
        ensure!(
            shown.code == FAILED && says_why && shown.out.is_empty(),
            "{shown:?}"
        );
        Ok(())
    }

    fn consent(&self, number: u8, signer: u8) -> Consent {
        let plan = Plan {
            signer,
            ..Plan::sound(number)
        };
        plan.sign(&terms(self.opened.member, self.opened.context, number))
    }
}

fn entry_of(logged: &Logged) -> LogEntry {
    LogEntry {
        entry: logged.entry,
        body: logged.body.clone(),
        signature: logged.signature,
    }
}

async fn grant(circle: &NodeCircle, consent: &Consent) -> Result<(), medsync::source::SourceError> {
    let signed = &consent.signed;
    let granted = circle.grant(&consent.terms, &signed.opening, &signed.signature, 1);
    granted.await.map(|_| ())
}

/// The app with something more in it: another program by its hash.
fn other_build(app: &Path) -> anyhow::Result<()> {
    let mut wasm = std::fs::read(app)?;
    // A custom section of four bytes, which is named "bad".
    wasm.extend([0, 4, 3, b'b', b'a', b'd']);
    Ok(std::fs::write(app, wasm)?)
}

/// One circle, attacked in turns: each world costs two nodes half a minute of work.
#[tokio::test]
async fn hostile_hospital_peer_and_program_meet_a_circle() -> anyhow::Result<()> {
    let mut world = World::start(ContextKind::Circle).await?;
    hostile_medsync_writes_in_the_patients_name_and_is_refused(&world).await?;
    hostile_hospital_forks_its_log_and_both_entries_are_there(&mut world).await?;
    let stranger = world.stranger().await?;
    hostile_hospital_pushes_other_code_and_whoever_would_run_it_stops(&world).await?;
    hostile_peer_with_an_invitation_that_is_over_is_kept_out(&world, &stranger).await?;
    hostile_hospital_adds_a_reader_and_the_patients_guard_stops(&world, &stranger).await?;
    members_are_removed_and_leave(&world).await
}

/// In a circle of its own: from then on nothing on the patient's side goes on as before.
#[tokio::test]
async fn hostile_peer_forges_an_invitation_and_the_patients_guard_stops() -> anyhow::Result<()> {
    let mut world = World::start(ContextKind::Circle).await?;
    let stranger = world.stranger().await?;
    forged_invitation(&mut world, &stranger).await?;
    let (store, context) = (&world.patient.store, world.opened.context);
    // A person has looked, and the reader is still there.
    store.clear_alarm(context).await?;
    world.patient_stops("readers were added").await
}

/// The hospital removes the reader; then the patient leaves.
async fn members_are_removed_and_leave(world: &World) -> anyhow::Result<()> {
    let circle = world.custodians();
    let both = BTreeSet::from([world.opened.member, world.member]);
    let group = world.opened.group;
    let others = circle.pin().await?.members;
    for reader in others.difference(&both) {
        world.hospital.node.remove_member(group, *reader).await?;
    }
    ensure!(circle.pin().await?.members == both, "the reader is gone");
    world.other.node.leave(group).await?;
    ensure!(
        world.circle.circle().await.is_err(),
        "who left reads nothing"
    );
    // Whether the hospital's node hears of it is up to the attacks before: a governance message
    // hangs on all before it. A removal needs no word of the patient's, and changes the keys.
    if circle.pin().await?.members.contains(&world.member) {
        let node = &world.hospital.node;
        node.remove_member(group, world.member).await?;
    }
    let alone = BTreeSet::from([world.opened.member]);
    ensure!(circle.pin().await?.members == alone, "the hospital alone");
    Ok(())
}

async fn hostile_medsync_writes_in_the_patients_name_and_is_refused(
    world: &World,
) -> anyhow::Result<()> {
    let (hospital, context) = (world.custodians(), world.opened.context);
    // A consent that the hospital signed, and one of another circle's terms.
    let forged = grant(&hospital, &world.consent(1, HOSPITAL)).await;
    assert_refused(forged, "foreign_key");
    let elsewhere = Plan::sound(1).sign(&terms(world.opened.member, ContextId([9; 32]), 1));
    assert_refused(grant(&hospital, &elsewhere).await, "other_context");
    // A key change.
    let change = KeyChange {
        old_key: public_key(PATIENT),
        new_key: public_key(HOSPITAL),
        seq: 0,
    };
    let message = rotate_message(context, change.old_key, change.new_key, RotationNumber(0));
    let signed = SignedKeyChange {
        change,
        signature: secret_key(HOSPITAL).sign(message)?,
    };
    assert_refused(
        hospital.change_key(&signed, 1).await,
        "key_change_signature",
    );
    // A log entry under the patient's author key, and one that leaves a number out.
    let mut forged = Logged::after(None, context, medsync_tests::circle::PATIENT_AUTHOR, 1);
    forged.signature = secret_key(HOSPITAL).sign(forged.entry.digest().message())?;
    let refusal = hospital.append_log(&entry_of(&forged)).await;
    assert_refused(refusal, "log_signature");
    let log = Logged::chain(context, HOSPITAL, 2);
    let refusal = hospital.append_log(&entry_of(&log[1])).await;
    assert_refused(refusal, "log_order");
    // What was revoked is granted again.
    let consent = world.consent(2, PATIENT);
    grant(&world.circle, &consent).await?;
    let secrets = &consent.signed.secrets;
    let claim_key = secrets.claim_key.public_key();
    world.circle.revoke(&secrets.secret, claim_key, 1).await?;
    eventually("the revocation", || async {
        let consents = all_consents(&hospital).await?;
        let is_revoked = |c: &medsync::source::Consent| c.state == ConsentState::Revoked;
        Ok(consents.iter().any(is_revoked).then_some(()))
    })
    .await?;
    grant(&hospital, &consent).await?;
    let states: Vec<_> = all_consents(&hospital).await?;
    ensure!(
        states.len() == 1 && states[0].state == ConsentState::Revoked,
        "{states:?}"
    );
    Ok(())
}

async fn hostile_hospital_forks_its_log_and_both_entries_are_there(
    world: &mut World,
) -> anyhow::Result<()> {
    let context = world.opened.context;
    let [first, other] = [1, 2].map(|salt| Logged::after(None, context, HOSPITAL, salt));
    // Each is written on a node that does not hear of the other.
    world.other.process.kill();
    world.custodians().append_log(&entry_of(&first)).await?;
    world.hospital.process.kill();
    world.other.process.restart()?;
    world.circle.append_log(&entry_of(&other)).await?;
    world.hospital.process.restart()?;
    let author = public_key(HOSPITAL);
    for circle in [world.custodians(), world.circle.clone()] {
        let entries = eventually("both entries", || async {
            let page = circle.log(author, Seq(0), PageLimit::MAX).await;
            // A node that was just started may not answer yet.
            let entries = page.map(|page| page.entries).unwrap_or_default();
            Ok((entries.len() == 2).then_some(entries))
        })
        .await?;
        let there = entries.iter().map(LogEntry::digest).collect();
        let report = audit::check((context, author), &entries, Some(&there), &[], &[].into());
        ensure!(!report.faults.is_empty(), "a fork is a fault");
    }
    Ok(())
}

/// The patient's node runs what it installed, whatever the group's admin wants; and a node that
/// follows the admin's wish is stopped by its guard.
async fn hostile_hospital_pushes_other_code_and_whoever_would_run_it_stops(
    world: &World,
) -> anyhow::Result<()> {
    world.patient.enter().await?;
    world.custodian.enter().await?;
    other_build(&world.hospital.app)?;
    let pushed = world.hospital.node.install_app(&world.hospital.app).await?;
    ensure!(pushed.bytecode != world.opened.bytecode, "another program");
    let path = format!("/admin-api/groups/{}/upgrade", world.opened.group);
    let body = json!({ "targetApplicationId": pushed.application });
    let (status, answer) = world.hospital.ask(Method::POST, &path, Some(&body)).await?;
    ensure!(status.is_success(), "{status} {answer}");
    world.custodian.stops("replaced the code").await?;
    world.enrolled(&*world.patient.enter().await?).await?;
    let pin = world.circle.pin().await?;
    ensure!(pin.bytecode == world.opened.bytecode, "{pin:?}");
    Ok(())
}

async fn hostile_peer_with_an_invitation_that_is_over_is_kept_out(
    world: &World,
    stranger: &Party,
) -> anyhow::Result<()> {
    let invitation = world
        .hospital
        .node
        .invite(world.opened.group, in_seconds(2))
        .await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let joined = stranger.node.join(&invitation, world.opened.context).await;
    ensure!(joined.is_err(), "{joined:?}");
    world.patient.enter().await?;
    Ok(())
}

/// Only the node of whoever joins looks at the time. One that does not is let in by the node that
/// it asks, here the patient's, which lists it. The hospital's node is gone from here on.
async fn forged_invitation(world: &mut World, stranger: &Party) -> anyhow::Result<()> {
    let (group, context) = (world.opened.group, world.opened.context);
    let mut invitation = world.hospital.node.invite(group, in_seconds(1)).await?;
    let until = &mut invitation["invitation"]["expiration_timestamp"];
    ensure!(until.is_u64(), "an invitation that ends: {until}");
    *until = in_an_hour().0.into();
    world.patient.enter().await?;
    world.hospital.process.kill();
    // Whether it succeeds is not ours to say; that it is seen is.
    let _ = stranger.node.join(&invitation, context).await;
    world.patient_stops("readers were added").await
}

async fn hostile_hospital_adds_a_reader_and_the_patients_guard_stops(
    world: &World,
    stranger: &Party,
) -> anyhow::Result<()> {
    world.patient.enter().await?;
    let invitation = world
        .hospital
        .node
        .invite(world.opened.group, in_an_hour())
        .await?;
    stranger
        .node
        .join(&invitation, world.opened.context)
        .await?;
    world.patient.stops("readers were added").await
}

#[tokio::test]
async fn hostile_hospital_releases_what_no_entry_names_and_is_refused() -> anyhow::Result<()> {
    let world = World::start(ContextKind::Exchange).await?;
    let (hospital, context) = (world.custodians(), world.opened.context);
    let what = |number| RecordRef {
        record: RecordId([number; 32]),
        version: 1,
    };
    let request = EntryDigest::from_felt(Felt::from(11));
    let denied = Body::Denied {
        request,
        reason: DenialReason::Denied,
        based_on: Vec::new(),
    };
    let released = Body::Released {
        request,
        logged_as: Some(EntryDigest::from_felt(Felt::from(12))),
        records: vec![what(1)],
        based_on: Vec::new(),
    };
    let denied = Logged::saying(None, context, HOSPITAL, denied);
    let released = Logged::saying(Some(&denied), context, HOSPITAL, released);
    let release = |logged: &Logged, number| NewRelease {
        entry_seq: logged.entry.seq,
        entry: logged.entry.digest(),
        circle: ContextId([3; 32]),
        what: what(number),
        resource_type: "Observation".into(),
        payload: b"sealed".to_vec(),
        sealed_key: b"a sealed key".to_vec(),
    };
    // Before there is an entry, for a denied request, and more than is named.
    let early = hospital.put_release(&release(&released, 1)).await;
    assert_refused(early, "not_logged");
    hospital.append_log(&entry_of(&denied)).await?;
    assert_refused(
        hospital.put_release(&release(&denied, 1)).await,
        "not_logged",
    );
    hospital.append_log(&entry_of(&released)).await?;
    let more = hospital.put_release(&release(&released, 2)).await;
    assert_refused(more, "not_logged");
    hospital.put_release(&release(&released, 1)).await?;
    let page = eventually("the release", || async {
        let page = world.circle.releases(None, PageLimit::MAX).await?;
        Ok((!page.releases.is_empty()).then_some(page))
    })
    .await?;
    let [only] = page.releases.as_slice() else {
        anyhow::bail!("one release, not {}", page.releases.len());
    };
    ensure!(only.what == what(1), "{only:?}");
    // Nor does the recipient release anything to itself.
    let own = world.circle.put_release(&release(&released, 1)).await;
    assert_refused(own, "not_the_custodian");
    Ok(())
}
