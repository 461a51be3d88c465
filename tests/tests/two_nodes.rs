//! Real nodes: a circle between a hospital and a patient, and a second patient who must see
//! nothing of it. Nothing here is a stand-in but the chain, which nobody asks.

use std::collections::BTreeSet;

use anyhow::Context;
use medsync::source::{
    AnchorReport, Circle, CircleState, ConsentState, Device, EntryBody, EntryKind, Head, Installed,
    LogEntry, NamespaceId, NewRecord, NodeCircle, OpenedCircle, PageLimit, PlacedTicket, Pool,
    SignedKeyChange, SourceError, StageReport, all_changes, all_consents, all_records,
};
use medsync_protocol::audit::Seq;
use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Attributes, Concept};
use medsync_protocol::device::Admission;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    ContextId, ContextKind, ContractAddress, MemberId, RecordId, Salt, Sha256Digest, UnixSeconds,
};
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::messages::{RotationNumber, device_message, rotate_message};
use medsync_protocol::receipt::Stage;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolNonce, Ticket};
use medsync_protocol::tree::{Leaf, Tree};
use medsync_tests::circle::{
    Consent, HOSPITAL, INVITATION, Logged, PATIENT, Plan, RECOVERY, anchorer, enrolment,
    public_key, registry, secret_key, terms,
};
use medsync_tests::party::{Party, assert_refused, eventually, in_an_hour};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The patient's next key.
const NEXT: u8 = 30;

/// A circle with both of its members on their own nodes.
struct Both {
    hospital: NodeCircle,
    patient: NodeCircle,
    opened: OpenedCircle,
    member: MemberId,
}

#[tokio::test]
async fn a_circle_lives_on_two_nodes_and_a_third_sees_nothing() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let hospital = Party::start(folder.path(), "hospital", &[])?;
    let swarm = hospital.process.swarm().to_owned();
    let patient = Party::start(folder.path(), "patient", &[&swarm])?;

    nobody_enters_without_a_token(&hospital).await?;

    let namespace = hospital.node.create_namespace(&hospital.app).await?;
    let opened = hospital.open(namespace, ContextKind::Circle).await?;
    // The parties have the app in different places, and it is the same app.
    let installed = patient.node.install_app(&patient.app).await?;
    assert_eq!(
        installed,
        Installed {
            application: opened.application,
            bytecode: opened.bytecode
        }
    );
    let (circle, member) = patient.join(&hospital, &opened).await?;
    let both = Both {
        hospital: hospital.node.circle(opened.context),
        patient: circle,
        opened,
        member,
    };

    both.pins_agree().await?;
    both.enrol().await?;
    let consent = both.grant().await?;
    both.records().await?;
    both.log().await?;
    both.anchor(&consent).await?;
    both.revoke(&consent).await?;
    both.members_and_rewards(&consent).await?;
    both.change_key().await?;
    both.walks_agree().await?;

    let stranger = Party::start(folder.path(), "stranger", &[&swarm])?;
    a_stranger_sees_only_its_own(&hospital, &stranger, namespace, &both).await?;
    // Whatever the stranger tried left no trace.
    both.pins_agree().await?;
    an_intruder_is_seen(&hospital, &stranger, namespace, &both).await
}

async fn nobody_enters_without_a_token(party: &Party) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", party.process.api());
    for path in [
        "/admin-api/contexts",
        "/admin-api/peers",
        "/admin-api/applications",
    ] {
        for token in ["", "forged.token.here"] {
            let answer = client.get(url(path)).bearer_auth(token).send().await?;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    let call = client.post(url("/jsonrpc")).json(&json!({})).send().await?;
    assert_eq!(call.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

impl Both {
    async fn pins_agree(&self) -> anyhow::Result<()> {
        let members: BTreeSet<MemberId> = [self.opened.member, self.member].into();
        for circle in [&self.hospital, &self.patient] {
            let pin = eventually("both members in the group", || async {
                let pin = circle.pin().await?;
                Ok((pin.members == members).then_some(pin))
            })
            .await?;
            assert_eq!(pin.bytecode, self.opened.bytecode);
            assert_eq!(pin.group, Some(self.opened.group));
        }
        Ok(())
    }

    async fn enrol(&self) -> anyhow::Result<()> {
        let state = self.patient.circle().await?;
        assert_eq!(state.patient, None);
        assert_eq!(state.custodian.invitation_key, public_key(INVITATION));
        let enrolment = enrolment(self.member, PATIENT);
        let context = self.opened.context;
        // A key that was not invited enrols nobody.
        let forged = secret_key(HOSPITAL).sign(enrolment.message(context))?;
        let error = self.patient.enrol(&enrolment, &forged).await;
        assert_refused(error, "enrolment_signature");
        let signature = secret_key(INVITATION).sign(enrolment.message(context))?;
        let written = self.patient.enrol(&enrolment, &signature).await?;
        assert!(!written.existing);
        assert!(self.patient.enrol(&enrolment, &signature).await?.existing);
        let state = self
            .arrives("the enrolment", |state| state.patient.is_some())
            .await?;
        assert_eq!(
            state.patient.map(|patient| patient.enrolment),
            Some(enrolment)
        );
        Ok(())
    }

    async fn arrives(
        &self,
        what: &str,
        there: fn(&CircleState) -> bool,
    ) -> anyhow::Result<CircleState> {
        eventually(what, || async {
            let state = self.hospital.circle().await?;
            Ok(there(&state).then_some(state))
        })
        .await
    }

    fn terms(&self) -> medsync_protocol::terms::Terms {
        terms(self.opened.member, self.opened.context, 1)
    }

    async fn grant(&self) -> anyhow::Result<Consent> {
        let before = self.patient.state_hash().await?;
        let forged = Plan {
            signer: HOSPITAL,
            ..Plan::sound(1)
        }
        .sign(&self.terms());
        for circle in [&self.hospital, &self.patient] {
            assert_refused(grant(circle, &forged).await, "foreign_key");
        }
        assert_eq!(
            self.patient.state_hash().await?,
            before,
            "a refusal writes nothing"
        );
        let consent = Plan::sound(1).sign(&self.terms());
        let granted = grant(&self.patient, &consent).await?;
        assert_eq!(granted.commitment, consent.signed.commitment);
        assert_ne!(self.patient.state_hash().await?, before);
        assert!(grant(&self.patient, &consent).await?.existing);
        let found = self
            .consent_on(&self.hospital, ConsentState::InForce)
            .await?;
        assert_eq!(found.opening, consent.signed.opening);
        assert!(found.is_signed(registry()));
        Ok(consent)
    }

    async fn consent_on(
        &self,
        circle: &NodeCircle,
        state: ConsentState,
    ) -> anyhow::Result<medsync::source::Consent> {
        eventually("the consent's state", || async {
            let consents = all_consents(circle).await?;
            Ok(consents.into_iter().find(|consent| consent.state == state))
        })
        .await
    }

    /// The hospital's first log entry and its head arrive at the patient as they were written.
    async fn log(&self) -> anyhow::Result<()> {
        let logged = Logged::after(None, self.opened.context, HOSPITAL, 1);
        let entry = LogEntry {
            entry: logged.entry,
            body: logged.body.clone(),
            signature: logged.signature,
        };
        self.hospital.append_log(&entry).await?;
        assert!(self.hospital.append_log(&entry).await?.existing);
        let head: Head = logged.head();
        self.hospital.record_head(&head).await?;
        eventually("the log", || async {
            let author_key = entry.entry.author_key;
            let page = self.patient.log(author_key, Seq(0), PageLimit::MAX).await?;
            Ok((page.entries == [entry.clone()]).then_some(()))
        })
        .await
    }

    async fn records(&self) -> anyhow::Result<()> {
        let payload = vec![7; medsync_app::limits::PAYLOAD_BYTES_MAX];
        let record = NewRecord {
            record: RecordId([5; 32]),
            version: RecordVersion(1),
            resource_type: "Observation".into(),
            attributes: Attributes {
                classes: vec![Concept(vec![Code::new("s", "Observation")])],
                data_date: Some(UnixSeconds(1)),
                ..Attributes::default()
            },
            payload: payload.clone(),
            key_for_patient: vec![1; 80],
            key_for_custodian: vec![2; 80],
        };
        assert_refused(self.patient.put_record(&record).await, "not_the_custodian");
        assert!(!self.hospital.put_record(&record).await?.existing);
        assert!(self.hospital.put_record(&record).await?.existing);
        let whole = eventually("the record with its payload", || async {
            match self.patient.record(record.record, None).await {
                Ok(whole) => Ok(whole.payload.is_some().then_some(whole)),
                Err(error) if error.refusal() == Some("unknown_record") => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        assert_eq!(whole.payload, Some(payload));
        assert_eq!(whole.record.key_for_patient, record.key_for_patient);
        assert_eq!(
            all_records(&self.patient, Some("Observation")).await?,
            [whole.record]
        );
        assert_eq!(all_records(&self.patient, Some("Patient")).await?, []);
        Ok(())
    }

    async fn anchor(&self, consent: &Consent) -> anyhow::Result<()> {
        let leaf = consent.signed.commitment.leaf(&consent.signed.signature);
        let padding = Leaf::from_felt(Felt::ONE);
        let tree = Tree::build(&[padding, leaf])?;
        let report = AnchorReport {
            commitment: consent.signed.commitment,
            handle: consent.signed.opening.handle,
            root: tree.root(),
            proof: tree.proof(1).context("two leaves")?,
            anchorer: anchorer(),
            stage: StageReport::Sealed,
        };
        assert!(!self.hospital.record_anchor(&report).await?.existing);
        let found = eventually("the position", || async {
            let consents = all_consents(&self.patient).await?;
            Ok(consents
                .into_iter()
                .find(|consent| !consent.anchors.is_empty()))
        })
        .await?;
        let position = &found.anchors[0];
        assert_eq!(
            (position.stage(), position.root),
            (Stage::Sealed, tree.root())
        );
        let wrong = AnchorReport {
            proof: tree.proof(0).context("two leaves")?,
            ..report
        };
        assert_refused(self.hospital.record_anchor(&wrong).await, "not_included");
        Ok(())
    }

    async fn revoke(&self, consent: &Consent) -> anyhow::Result<()> {
        let secrets = &consent.signed.secrets;
        let claim_key: PublicKey = secrets.claim_key.public_key();
        assert!(
            !self
                .patient
                .revoke(&secrets.secret, claim_key, 1)
                .await?
                .existing
        );
        assert!(
            self.patient
                .revoke(&secrets.secret, claim_key, 1)
                .await?
                .existing
        );
        for circle in [&self.patient, &self.hospital] {
            let found = self.consent_on(circle, ConsentState::Revoked).await?;
            assert!(found.revoked_at.is_some());
        }
        Ok(())
    }

    /// What the patient admits and the custodian promises arrives on the other side.
    async fn members_and_rewards(&self, consent: &Consent) -> anyhow::Result<()> {
        let admission = Admission {
            member: MemberId([77; 32]),
            device: DeviceNumber(1),
            admitted_by: public_key(PATIENT),
        };
        let message = device_message(self.opened.context, admission.member, admission.device);
        let device = Device {
            admission,
            author_key: None,
            signature: secret_key(PATIENT).sign(message).context("signable")?,
        };
        assert!(!self.patient.admit(&device).await?.existing);
        let pool = Pool {
            contract: ContractAddress::from_felt(Felt::ONE),
            funder: ContractAddress::from_felt(Felt::TWO),
            nonce: PoolNonce::from_felt(Felt::THREE),
            recipient: public_key(HOSPITAL),
            claim_end: UnixSeconds(1_000_000),
            label: "a pool".into(),
        };
        let ticket = Ticket {
            pool_id: pool.id(registry().chain_id),
            anchorer: anchorer(),
            handle: consent.signed.opening.handle,
            claim_until: UnixSeconds(86_400),
            salt: Salt::from_felt(Felt::ONE),
        };
        let tree = Tree::build(&[ticket.leaf(), ticket.leaf()])?;
        let placed = PlacedTicket {
            ticket,
            root: tree.root(),
            proof: tree.proof(1).context("two leaves")?,
        };
        assert_refused(self.patient.put_pool(&pool).await, "not_the_custodian");
        assert!(!self.hospital.put_pool(&pool).await?.existing);
        assert!(!self.hospital.put_ticket(&placed).await?.existing);
        eventually("the admission", || async {
            let state = self.hospital.circle().await?;
            let is_there = state.admitted().any(|found| *found == device);
            Ok(is_there.then_some(()))
        })
        .await?;
        let part = vec![7; medsync_app::limits::PAYLOAD_BYTES_MAX];
        self.hospital.put_part(&part).await?;
        eventually("the part", || async {
            let arrived = self.patient.part(Sha256Digest::of(&part)).await?;
            Ok((arrived.as_ref() == Some(&part)).then_some(()))
        })
        .await
    }

    async fn change_key(&self) -> anyhow::Result<()> {
        let change = KeyChange {
            old_key: public_key(PATIENT),
            new_key: public_key(NEXT),
            seq: 0,
        };
        let seq = RotationNumber(change.seq);
        let message = rotate_message(self.opened.context, change.old_key, change.new_key, seq);
        let signed = SignedKeyChange {
            change,
            signature: secret_key(RECOVERY).sign(message).context("signable")?,
        };
        assert!(!self.patient.change_key(&signed, 1).await?.existing);
        eventually("the new key", || async {
            let state = self.hospital.circle().await?;
            let is_new = state.keys == [change.old_key, change.new_key];
            Ok(is_new.then_some(()))
        })
        .await
    }

    /// Both nodes hold the same state, and each entry of it can be read by its key.
    async fn walks_agree(&self) -> anyhow::Result<()> {
        let walk = eventually("both walks", || async {
            let (here, there) = (
                all_changes(&self.hospital).await?,
                all_changes(&self.patient).await?,
            );
            let agree = here == there
                && self.hospital.state_hash().await? == self.patient.state_hash().await?;
            Ok(agree.then_some(here))
        })
        .await?;
        let kinds: BTreeSet<EntryKind> = walk.iter().map(|entry| entry.kind).collect();
        let mut of_a_circle = BTreeSet::from(EntryKind::ALL);
        of_a_circle.retain(|kind| !matches!(kind, EntryKind::Receipt | EntryKind::Release));
        assert_eq!(kinds, of_a_circle);
        for change in &walk {
            let entry = self.patient.entry(change.kind, change.key).await?;
            assert!(entry.body.is_some(), "{change:?}");
            if let Some(EntryBody::Enrolment(enrolled)) = entry.body {
                assert_eq!(entry.owner, Some(enrolled.enrolment.member));
            }
        }
        let first = self.patient.changes(None, PageLimit::new(1)?).await?;
        let second = self
            .patient
            .changes(first.next.as_ref(), PageLimit::new(1)?)
            .await?;
        assert_eq!([first.entries, second.entries].concat(), walk[..2]);
        Ok(())
    }
}

async fn grant(
    circle: &NodeCircle,
    consent: &Consent,
) -> Result<medsync::source::Granted, SourceError> {
    circle
        .grant(
            &consent.terms,
            &consent.signed.opening,
            &consent.signed.signature,
            1,
        )
        .await
}

/// A second patient, invited to a circle of its own by the same hospital, can neither list, join
/// nor read the first patient's.
async fn a_stranger_sees_only_its_own(
    hospital: &Party,
    stranger: &Party,
    namespace: NamespaceId,
    first: &Both,
) -> anyhow::Result<()> {
    let own = hospital.open(namespace, ContextKind::Circle).await?;
    stranger.join(hospital, &own).await?;
    let invitation = hospital.node.invite(own.group, in_an_hour()).await?;
    let (foreign, group) = (first.opened.context, first.opened.group);

    // List: neither the context nor the group with its members.
    let listed: Vec<ContextId> = stranger
        .node
        .contexts()
        .await?
        .into_iter()
        .map(|listed| listed.context)
        .collect();
    assert_eq!(listed, [own.context]);
    let members = stranger.node.members(group).await;
    assert!(members.is_err(), "{members:?}");
    let groups = groups_of(stranger, namespace).await?;
    assert!(!groups.to_string().contains(&group.to_string()), "{groups}");

    // Join: an invitation opens the group that it is for, and no other.
    let joined = stranger.node.join(&invitation, foreign).await;
    assert!(joined.is_err(), "{joined:?}");

    // Read: nothing answers, also after whatever the attempts to join set in motion.
    stranger.node.sync(own.context).await?;
    let circle = stranger.node.circle(foreign);
    assert!(circle.circle().await.is_err());
    assert!(circle.consents(None, PageLimit::MAX).await.is_err());
    assert!(circle.records(None, PageLimit::MAX, None).await.is_err());
    assert!(circle.record(RecordId([5; 32]), None).await.is_err());
    assert!(circle.state_hash().await.is_err());
    Ok(())
}

/// Calimero 0.11 hands a group's key to any peer that names the group, without a look at the
/// invitation (docs/THREAT_MODEL.md). What cannot be prevented is seen: the custodian's node lists
/// a member whom nobody invited, at which the guard stops the circle.
async fn an_intruder_is_seen(
    hospital: &Party,
    stranger: &Party,
    namespace: NamespaceId,
    first: &Both,
) -> anyhow::Result<()> {
    let own = hospital.open(namespace, ContextKind::Circle).await?;
    let invitation = hospital.node.invite(own.group, in_an_hour()).await?;
    let mut forged = invitation.clone();
    forged["invitation"]["group_id"] = bytes_as_listed(&invitation, &first.opened.group.0);
    // Whether it succeeds is not ours to say; that it is seen is.
    let _ = stranger.node.join(&forged, first.opened.context).await;
    eventually("the intruder in the list of members", || async {
        let members = first.hospital.pin().await?.members;
        Ok((members.len() == 3).then_some(()))
    })
    .await
}

/// A group's id in the spelling of the invitation, whichever that is.
fn bytes_as_listed(invitation: &Value, group: &[u8; 32]) -> Value {
    match &invitation["invitation"]["group_id"] {
        Value::Array(_) => json!(group),
        _ => json!(medsync::source::GroupId(*group).to_string()),
    }
}

/// What the stranger's node says about the groups of the hospital's namespace.
async fn groups_of(party: &Party, namespace: NamespaceId) -> anyhow::Result<Value> {
    let path = format!("/admin-api/namespaces/{namespace}/groups");
    let (status, body) = party.ask(Method::GET, &path, None).await?;
    Ok(json!({ "status": status.as_u16(), "body": body }))
}
