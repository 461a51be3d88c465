//! What a hospital's people do, and a node that is the admin of its groups.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use medsync::config::Role;
use medsync::custodian::{Custodian, Progress};
use medsync::fhir::parse_bundle;
use medsync::keys::CustodianKeys;
use medsync::source::{CustodianPins, GroupId, Groups, NamespaceId, OpenedCircle, SourceResult};
use medsync::store::StoreError;
use medsync_client::wire::{ImportLine, NewCircle};
use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};
use medsync_protocol::seal::SealSecret;
use serde_json::{Value, json};

use super::circle::{CONTEXT, CUSTODIAN, broken, custodian_author};
use super::writes::party::party;
use super::{World, anchorer, row, world};

/// The first context that is opened; the next ones follow.
pub const OPENED: u8 = 100;

/// A node that opens what it is asked to, until it is to fail.
#[derive(Clone, Default)]
pub struct FakeGroups {
    did: Arc<Mutex<Did>>,
}

#[derive(Default)]
struct Did {
    namespaces: usize,
    opened: u8,
    invited: usize,
    removed: Vec<MemberId>,
    is_down: bool,
}

impl FakeGroups {
    fn did(&self) -> SourceResult<std::sync::MutexGuard<'_, Did>> {
        let did = self.did.lock().expect("no panic");
        if did.is_down {
            return Err(broken("groups"));
        }
        Ok(did)
    }

    pub fn is_down(&self, is_down: bool) {
        self.did.lock().expect("no panic").is_down = is_down;
    }

    /// How many namespaces, contexts and invitations it made.
    pub fn made(&self) -> (usize, u8, usize) {
        let did = self.did.lock().expect("no panic");
        (did.namespaces, did.opened, did.invited)
    }

    pub fn removed(&self) -> Vec<MemberId> {
        self.did.lock().expect("no panic").removed.clone()
    }
}

#[async_trait]
impl Groups for FakeGroups {
    async fn create_namespace(&self, _: &Path) -> SourceResult<NamespaceId> {
        self.did()?.namespaces += 1;
        Ok("01".repeat(32).parse().expect("a namespace"))
    }

    async fn create_circle(
        &self,
        _: NamespaceId,
        _: &Path,
        _: &CustodianPins,
    ) -> SourceResult<OpenedCircle> {
        let mut did = self.did()?;
        did.opened += 1;
        let like = row();
        Ok(OpenedCircle {
            context: ContextId([OPENED + did.opened - 1; 32]),
            group: like.group,
            member: CUSTODIAN,
            application: like.application,
            bytecode: like.bytecode,
        })
    }

    async fn invite(&self, _: GroupId, expires_at: UnixSeconds) -> SourceResult<Value> {
        self.did()?.invited += 1;
        Ok(json!({ "until": expires_at }))
    }

    async fn remove_member(&self, _: GroupId, member: MemberId) -> SourceResult<()> {
        self.did()?.removed.push(member);
        Ok(())
    }
}

/// The hospital of a world.
pub fn custodian(world: &World, groups: &FakeGroups) -> Custodian {
    let home = world.home.path().to_owned();
    let party = party(world, Role::Custodian);
    std::fs::write(&party.config.node.app, "an app").expect("written");
    Custodian {
        store: world.pipeline.store.clone(),
        circles: Arc::clone(&world.pipeline.circles),
        groups: Arc::new(groups.clone()),
        clock: Arc::clone(&world.pipeline.clock),
        keys: CustodianKeys {
            author: custodian_author(),
            seal: SealSecret::from_bytes([1; 32]),
        },
        anchorer: anchorer(),
        peer: "/ip4/127.0.0.1/tcp/1".into(),
        chain: party.config.chain,
        app: party.config.node.app,
        home,
    }
}

/// What an import says.
#[derive(Default)]
struct Heard(Mutex<Vec<ImportLine>>);

impl Progress for Heard {
    fn begins(&self, _: u64) {}

    fn looked_at(&self, line: ImportLine) {
        self.0.lock().expect("no panic").push(line);
    }
}

/// Imports a bundle into the circle.
pub async fn import(world: &World, bundle: &str, are_new: bool) -> anyhow::Result<Vec<ImportLine>> {
    let (heard, bundle) = (Heard::default(), parse_bundle(bundle.as_bytes())?);
    let custodian = custodian(world, &FakeGroups::default());
    custodian.import(CONTEXT, bundle, are_new, &heard).await?;
    Ok(heard.0.into_inner().expect("no panic"))
}

#[tokio::test]
async fn of_two_replicas_that_open_an_exchange_with_one_recipient_one_does() {
    let world = world(Vec::new()).await;
    let groups = FakeGroups::default();
    let replicas = [custodian(&world, &groups), custodian(&world, &groups)];
    let recipient = custodian_author().public_key();
    let exchange = || NewCircle {
        label: "a study".into(),
        recipient: Some(recipient),
        hours: 24,
    };
    let opened = tokio::join!(replicas[0].open(exchange()), replicas[1].open(exchange()));
    assert_eq!(groups.made().1, 2, "neither saw the other's");
    let refused = match opened {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused.to_string(),
        both => panic!("{both:?}"),
    };
    assert_eq!(refused, "another exchange with this recipient goes on");
    let kept = world.pipeline.store.circles().await.expect("read");
    let kept = kept
        .iter()
        .filter(|row| row.recipient_key == Some(recipient));
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 1);
    // One that an alarm stopped makes room for another, and is not resumed beside it.
    let (store, stopped) = (&world.pipeline.store, kept[0].context);
    store.raise_alarm(stopped, "a test").await.expect("stopped");
    replicas[0].open(exchange()).await.expect("another");
    let resumed = store.clear_alarm(stopped).await;
    assert!(
        matches!(resumed, Err(StoreError::SecondExchange)),
        "{resumed:?}"
    );
}
