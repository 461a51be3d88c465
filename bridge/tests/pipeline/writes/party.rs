//! Parties for commands: the circles and the chain are those of a world.

use std::sync::Arc;

use medsync::config::{BatchConfig, ChainConfig, Config, NodeConfig, RetentionConfig, Role};
use medsync::files;
use medsync::invitation::{Invitation, Parts};
use medsync::party::Party;
use medsync::pipeline::ingest::Readings;
use medsync::pipeline::{Pipeline, PipelineError};
use medsync::source::{CalimeroNode, GroupId};
use medsync::store::facts::{BEHIND, LAST_ROUND};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    ClassHash, ContextKind, ContractAddress, SealKey, Sha256Digest, UnixSeconds,
};

use super::super::chain::FakeAccount;
use super::super::circle::{CONTEXT, CUSTODIAN, FakeCircles, custodian_author};
use super::super::faults::Faults;
use super::super::{START, World, anchorer, folder, patient, registry, secret, world};

/// The party of a world; its node is never asked.
pub(crate) fn party(world: &World, role: Role) -> Party {
    let home = world.home.path();
    let credential = home.join("credential.json");
    let said = br#"{"username":"a test","password":"a test"}"#;
    files::write_whole(&credential, said, true).expect("written");
    let api: url::Url = "http://127.0.0.1:1/".parse().expect("an address");
    let node = CalimeroNode::new(&api, &credential).expect("a node that is not asked");
    let config = Config {
        role,
        node: NodeConfig {
            api,
            credential,
            peer: None,
            app: home.join("app.wasm"),
            run: None,
        },
        chain: ChainConfig {
            rpc: Vec::new(),
            chain_id: registry().chain_id,
            registry: registry().registry,
            class_hash: ClassHash::from_felt(Felt::ONE),
            block_age_s_max: u64::MAX,
        },
        anchor_account: None,
        revoke_account: None,
        claim_account: None,
        relay_after_s: 0,
        batch: BatchConfig::default(),
        retention: RetentionConfig::default(),
        store: None,
        api: None,
    };
    Party {
        home: home.to_owned(),
        config,
        secret: secret(),
        store: world.pipeline.store.clone(),
        node: Arc::new(node),
        circles: Arc::clone(&world.pipeline.circles),
        clock: Arc::clone(&world.pipeline.clock),
    }
}

/// Another party over the circles and the chain of a world, with a store and faults of its own.
pub(super) async fn beside(world: &World) -> World {
    let (home, faults) = (folder(), Faults::default());
    let store = crate::shared::opened_with(home.path(), Some(Arc::new(faults.clone()))).await;
    let [circle, other] = [&world.circle, &world.other].map(|it| it.with_faults(faults.clone()));
    let chain = world.chain.with_faults(faults.clone());
    let revoker = FakeAccount {
        chain: chain.clone(),
        address: ContractAddress::from_felt(Felt::from(300)),
    };
    let pipeline = Pipeline {
        store: store.expect("a store"),
        circles: Arc::new(FakeCircles(vec![circle.clone(), other.clone()])),
        chain: Arc::new(chain.clone()),
        anchor_account: None,
        revoke_account: Some(Arc::new(revoker)),
        readings: Readings::default(),
        ..world.pipeline.clone()
    };
    World {
        home,
        clock: Arc::clone(&world.clock),
        pipeline,
        chain,
        circle,
        other,
        faults,
    }
}

/// What a patient was invited by.
pub(in super::super) fn invitation() -> Invitation {
    let says = Parts {
        kind: ContextKind::Circle,
        group_invitation: serde_json::Value::Null,
        group: GroupId([6; 32]),
        context: CONTEXT,
        peer: "/ip4/127.0.0.1/tcp/1".into(),
        wasm_sha256: Sha256Digest([3; 32]),
        invitation_key: patient().public_key(),
        custodian_member: CUSTODIAN,
        custodian_address: anchorer(),
        author_key: custodian_author().public_key(),
        seal_key: SealKey([1; 32]),
        registry: registry(),
        class_hash: ClassHash::from_felt(Felt::ONE),
        expires_at: UnixSeconds(1 << 40),
    };
    Invitation::new(says, &patient())
}

#[tokio::test]
async fn a_clock_that_the_daemon_found_behind_lets_no_command_sign() {
    let world = world(Vec::new()).await;
    let party = party(&world, Role::Patient);
    let behind = async |seconds: u64| {
        let said = seconds.to_string();
        let fact = party.store.state_fact(BEHIND, &said).await;
        fact.expect("the store");
        party.check_clock().await
    };
    let now = START.to_string();
    let round = party.store.state_fact(LAST_ROUND, &now).await;
    round.expect("the store");
    assert!(behind(2).await.is_ok());
    assert!(matches!(
        behind(3).await,
        Err(PipelineError::ClockBehind(3))
    ));
    // A daemon that ended long ago says nothing of now.
    world.clock.advance(3 * 60);
    assert!(behind(3).await.is_ok());
}
