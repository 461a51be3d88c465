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
use medsync::store::circles::CircleRow;
use medsync_client::wire::{ImportLine, NewCircle};
use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};
use medsync_protocol::seal::SealSecret;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::circle::{CONTEXT, CUSTODIAN, broken, custodian_author};
use super::writes::party::party;
use super::{World, anchorer, row, world};

/// The first context that is opened; the next ones follow.
pub const OPENED: u8 = 100;

/// A node that opens what it is asked to, until it is to fail.
#[derive(Clone, Default)]
pub struct FakeGroups {
    did: Arc<Mutex<Did>>,
    /// Whoever holds it keeps the node from opening anything.
    pub held: Arc<RwLock<()>>,
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
        let _goes_on = self.held.read().await;
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

/// Each saw that there was none: the store takes one of them.
#[tokio::test]
async fn of_two_replicas_that_open_an_exchange_with_one_recipient_one_does() {
    let world = world(Vec::new()).await;
    let custodian = custodian(&world, &FakeGroups::default());
    let recipient = custodian_author().public_key();
    let exchange = || NewCircle {
        label: "a study".into(),
        recipient: Some(recipient),
        hours: 24,
    };
    let opened = custodian.open(exchange()).await.expect("open").context;
    let store = &world.pipeline.store;
    let others = CircleRow {
        context: ContextId([0x77; 32]),
        ..store.circle(opened).await.expect("a row")
    };
    let refused = store.enter_circle(&others).await;
    assert!(
        matches!(refused, Err(StoreError::SecondExchange)),
        "{refused:?}"
    );
    // One that an alarm stopped makes room for another, and is not resumed beside it.
    store.raise_alarm(opened, "a test").await.expect("stopped");
    custodian.open(exchange()).await.expect("another");
    let resumed = store.clear_alarm(opened).await;
    assert!(
        matches!(resumed, Err(StoreError::SecondExchange)),
        "{resumed:?}"
    );
}
