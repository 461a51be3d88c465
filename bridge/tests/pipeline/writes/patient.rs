//! A patient's day: it joins, enrols, grants, revokes and changes its key, by commands, with its
//! daemon and the hospital's.

use std::collections::BTreeMap;

use clap::Parser;
use medsync::commands::join::{self, Bring};
use medsync::commands::{Cli, Command, patient as commands};
use medsync::config::Role;
use medsync::files;
use medsync::members::{self, NextKey};
use medsync::pipeline::Pipeline;
use medsync::source::Circle;
use medsync::store::circles::CircleRow;
use medsync::store::facts::PUBLISH_REVOCATION;
use medsync_protocol::audit::EntryKind as Kind;
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{MemberId, SealKey, UnixSeconds};
use medsync_protocol::keychange::ChangedBy;
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::seal::SealSecret;
use medsync_protocol::secrets::{DeviceNumber, Seed};
use medsync_protocol::signature::SecretKey;

use super::super::access::records::{add_record, first_version};
use super::super::access::researcher;
use super::super::circle::{CONTEXT, recovery};
use super::super::devices::{PHONE, admission};
use super::super::faults::{Faults, Plan};
use super::super::keys::change;
use super::super::{World, patient, row, world};
use super::party::{beside, invitation, party};
use super::{Day, again, anchored_in, rounds};

/// What came of it.
pub(super) struct Patient {
    hospital: World,
    home: World,
    /// What was granted, in its order; the first is revoked.
    consents: [Commitment; 2],
}

impl Day for Patient {
    const NAME: &'static str = "a patient's day";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut hospital = world(Vec::new()).await;
        hospital.circle.enrol_nobody();
        add_record(&hospital, 1).await;
        let mut home = beside(&hospital).await;
        home.faults.plan(plans);
        let invitation = serde_json::to_string(&invitation()).expect("JSON");
        let joined = CircleRow {
            member: MemberId([2; 32]),
            invitation: Some(invitation),
            ..row()
        };
        // What `join` does last.
        again(&mut home, async |home| {
            Ok(home.pipeline.store.enter_circle(&joined).await?)
        })
        .await;
        enrol(&mut home).await;
        rounds(&mut home, 2).await;
        let first = grant(&mut home, "monday").await;
        let second = grant(&mut home, "tuesday").await;
        for _ in 0..3 {
            rounds(&mut hospital, 2).await;
            rounds(&mut home, 2).await;
        }
        revoke(&mut home, first).await;
        change_key(&mut home).await;
        for _ in 0..3 {
            rounds(&mut hospital, 2).await;
            rounds(&mut home, 2).await;
        }
        Self {
            hospital,
            home,
            consents: [first, second],
        }
    }

    fn faults(&self) -> &Faults {
        &self.home.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.home.pipeline, &self.hospital.pipeline]
    }

    async fn check(&self, plan: &str) {
        let (circle, store) = (&self.home.circle, &self.home.pipeline.store);
        assert_eq!(
            circle.granted(),
            self.consents,
            "{plan}: each is there once"
        );
        let mut handles = Vec::new();
        for consent in self.consents {
            let roots = anchored_in(&self.hospital, consent);
            assert_eq!(roots.len(), 1, "{plan}: {consent} is anchored once");
            let opening = store.opening_of(consent).await.expect("the store");
            handles.push(opening.expect("it is known").handle);
        }
        assert_ne!(handles[0], handles[1], "{plan}: no counter is spent twice");
        assert_eq!(self.hospital.chain.revoked(), handles[..1], "{plan}");
        assert_eq!(circle.revocations(), 1, "{plan}: it is in its circle");
        let asked = store
            .asked(PUBLISH_REVOCATION, UnixSeconds(1 << 40))
            .await
            .expect("the store");
        assert!(asked.is_empty(), "{plan}: and the daemon knows");
        let state = circle.circle().await.expect("a state");
        let enrolment = state.only().expect("the patient").enrolment;
        let keys = [patient(), next()].map(|key| key.public_key());
        for party in self.parties() {
            let history = party.store.key_history(CONTEXT, &enrolment).await;
            let history = history.expect("the store");
            assert_eq!(history.keys, keys, "{plan}: the key is another");
            assert!(!history.is_frozen, "{plan}: and it alone");
            let unpublished = party.store.contexts_with_unpublished_key_changes().await;
            assert_eq!(unpublished.expect("the store"), [], "{plan}");
        }
        assert_eq!(circle.key_changes().len(), 1, "{plan}");
        assert_eq!(circle.devices().len(), 1, "{plan}: the phone goes along");
        let seen = store.seen_versions(CONTEXT).await.expect("the store");
        let what = first_version(1);
        let first = BTreeMap::from([(what.record, what.version)]);
        assert_eq!(seen, first, "{plan}");
        let log = circle.log_entries();
        let own = patient().public_key();
        let kinds: Vec<Kind> = log
            .iter()
            .filter(|entry| entry.entry.author_key == own)
            .map(|entry| entry.entry.kind)
            .collect();
        assert_eq!(
            kinds,
            [Kind::Enrolled, Kind::Granted, Kind::Granted, Kind::Revoked],
            "{plan}: each was said once"
        );
    }
}

/// The patient's next key.
fn next() -> SecretKey {
    SecretKey::from_scalar(&[4; 32]).expect("a scalar")
}

fn keys() -> PatientKeys {
    PatientKeys {
        seed: Seed::from_bytes(&[5; 32]).expect("a felt"),
        patient: patient(),
        recovery: recovery(),
        login: patient(),
        author: patient(),
        seal: SealSecret::from_bytes([2; 32]),
    }
}

/// A patient's command.
fn said(words: &[&str]) -> commands::Patient {
    let words = ["medsync", "patient"].iter().chain(words);
    match Cli::try_parse_from(words).expect("a command").command {
        Command::Patient(command) => command,
        other => panic!("{other:?}"),
    }
}

/// Enrols under the invitation that it joined by.
async fn enrol(home: &mut World) {
    let key = patient();
    let brought = Bring {
        party: key.public_key(),
        recovery: recovery().public_key(),
        login: key.public_key(),
        author: key,
        seal: SealKey([2; 32]),
    };
    again(home, async |home| {
        let place = (CONTEXT, &invitation());
        join::enrol(&party(home, Role::Patient), place, &brought, false).await
    })
    .await;
}

/// Grants to the researcher under a name of a request.
async fn grant(home: &mut World, request: &str) -> Commitment {
    let before = home.circle.granted();
    let policy = home.home.path().join("policy.txt");
    files::write_whole(&policy, b"for research", false).expect("written");
    let (folder, policy) = (
        home.home.path().display().to_string(),
        policy.display().to_string(),
    );
    let recipient = researcher().public_key().to_string();
    let words = [
        "grant",
        "--home",
        &folder,
        "--to",
        &recipient,
        "--purpose",
        "act|HRESCH",
        "--policy-uri",
        "https://example.org",
        "--policy",
        &policy,
        "--request",
        request,
    ];
    again(home, async |home| {
        let commands::Patient::Grant(command) = said(&words) else {
            panic!("another command");
        };
        let who = (&keys(), DeviceNumber::FIRST);
        command.grant(&party(home, Role::Patient), who).await
    })
    .await;
    let granted = home.circle.granted();
    let new: Vec<_> = granted.iter().filter(|it| !before.contains(it)).collect();
    assert_eq!(new.len(), 1, "one request, one consent");
    *new[0]
}

async fn revoke(home: &mut World, consent: Commitment) {
    let (folder, consent) = (home.home.path().display().to_string(), consent.to_string());
    let words = ["revoke", "--home", &folder, &consent];
    again(home, async |home| {
        let commands::Patient::Revoke(command) = said(&words) else {
            panic!("another command");
        };
        command.revoke(&party(home, Role::Patient), &keys()).await
    })
    .await;
}

/// Changes the key as the command does, which keeps the next one in a file until it is used; a
/// phone goes along.
async fn change_key(home: &mut World) {
    again(home, async |home| {
        let circle = party(home, Role::Patient)
            .enter_for_revocations(CONTEXT)
            .await?;
        let state = circle.circle().await?;
        let enrolment = state.only().expect("the patient").enrolment;
        let next = NextKey {
            change: change(&patient(), &next(), 0, &patient()),
            by: ChangedBy::Old,
            admits: vec![admission(PHONE, 1, &next())],
        };
        let (store, now) = (&home.pipeline.store, home.pipeline.clock.now());
        let left = members::change_key(&*circle, store, &enrolment, &next, now).await?;
        assert!(left.is_empty());
        Ok(())
    })
    .await;
}
