//! What a store keeps, what it gives up, and what is made anew of the rest.

use std::sync::Arc;

use medsync::chain::{Chain, Health, SeveralChains};
use medsync::fsck::{Discrepancy, rebuild};
use medsync::pipeline::ingest;
use medsync::pipeline::retention::retention_round;
use medsync::pipeline::watch::watch_round;
use medsync::store::batches::{BatchId, BatchRow};

use super::faults::Fault;
use super::restored::found;
use super::writes::anchored_in;
use super::{
    CONSENTS, RETENTION_S, SETTLED_S, World, check, consent, fill, revocation_of, run, world,
};

async fn anchored(world: &World) -> Vec<BatchRow> {
    let batches = world.pipeline.store.anchored_batches(BatchId(0), 9).await;
    batches.expect("the store")
}

/// Writes into the store past its own code.
pub(super) async fn spoil(world: &World, statement: &str) {
    let written = super::shared::write_past(world.home.path(), statement).await;
    assert!(written > 0);
}

#[tokio::test]
async fn an_old_batch_gives_up_its_padding_and_keeps_its_receipts() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    retention_round(&world.pipeline).await.expect("a round");
    assert!(
        anchored(&world)
            .await
            .iter()
            .all(|batch| !batch.leaves.is_empty())
    );
    world.chain.grow(RETENTION_S + SETTLED_S);
    world.clock.advance(RETENTION_S + SETTLED_S);
    // One whose circle was not told keeps its leaves.
    spoil(&world, "UPDATE consents SET told_at = NULL").await;
    retention_round(&world.pipeline).await.expect("a round");
    assert!(
        anchored(&world)
            .await
            .iter()
            .all(|batch| !batch.leaves.is_empty())
    );
    run(&mut world).await;
    retention_round(&world.pipeline).await.expect("a round");
    let batches = anchored(&world).await;
    assert!(!batches.is_empty() && batches.iter().all(|batch| batch.leaves.is_empty()));
    for batch in &batches {
        let consents = world.pipeline.store.consents_in(batch.id).await;
        for consent in consents.expect("the store") {
            let proof = consent.proof.expect("a path");
            assert!(proof.includes(consent.leaf, batch.root));
        }
    }
    watch_round(&world.pipeline).await.expect("a round");
    run(&mut world).await;
    check(&world, "compacted");
    assert_eq!(found(&world).await, []);
}

/// Its leaves are not known any more: it cannot be sent again.
#[tokio::test]
async fn hostile_endpoint_says_that_an_old_batch_is_gone_and_nothing_is_doubled() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let lying = world.chain.fork();
    run(&mut world).await;
    for chain in [&world.chain, &lying] {
        chain.grow(RETENTION_S + SETTLED_S);
    }
    world.clock.advance(RETENTION_S + SETTLED_S);
    retention_round(&world.pipeline).await.expect("a round");
    let honest = Arc::clone(&world.pipeline.chain);
    let endpoints: Vec<Arc<dyn Chain>> = vec![Arc::new(lying.clone()), Arc::clone(&honest)];
    world.pipeline.chain = Arc::new(SeveralChains::new(endpoints, Health::of(2)));
    for _ in 0..4 {
        let _ = watch_round(&world.pipeline).await;
        world.clock.advance(SETTLED_S);
        run(&mut world).await;
    }
    check(&world, "one says so for long");
    // The only one says so once.
    world.pipeline.chain = Arc::new(lying);
    let _ = watch_round(&world.pipeline).await;
    world.pipeline.chain = honest;
    world.clock.advance(SETTLED_S);
    watch_round(&world.pipeline).await.expect("asked");
    run(&mut world).await;
    check(&world, "the only one said so once");
    assert_eq!(found(&world).await, []);
}

/// The store is half rebuilt when the daemon starts again, and nobody rebuilds it once more.
#[tokio::test]
async fn a_rebuild_that_dies_doubles_nothing() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    spoil(&world, "UPDATE batches SET leaves = '[\"0x1\"]'").await;
    let spoilt = found(&world).await;
    world.restart().await;
    for fault in [Fault::Failed, Fault::Died] {
        world.faults.plan_next("rebuild", fault);
        assert!(rebuild(&world.pipeline, &spoilt).await.is_err());
        world.faults.revive();
        world.restart().await;
        run(&mut world).await;
        check(&world, "half rebuilt");
    }
}

#[tokio::test]
async fn a_spoilt_queue_is_built_anew_and_doubles_nothing() {
    let mut world = world(Vec::new()).await;
    world.pipeline.batch.consents_max = 1;
    world.circle.add_consent(consent(0).0);
    world.circle.add_revocation(revocation_of(&consent(0).1));
    run(&mut world).await;
    world.pipeline.batch.consents_max = 2;
    for number in [1, 2] {
        world.circle.add_consent(consent(number).0);
    }
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let before = world.chain.anchored().len();
    spoil(&world, "UPDATE batches SET leaves = '[\"0x1\"]'").await;
    spoil(
        &world,
        "UPDATE revocations SET state = 'submitted', intent = 'nonsense'",
    )
    .await;
    let spoilt = found(&world).await;
    let is_broken = |one: &Discrepancy| matches!(one, Discrepancy::BrokenBatch { .. });
    assert!(spoilt.iter().any(is_broken), "{spoilt:?}");
    rebuild(&world.pipeline, &spoilt).await.expect("rebuilt");
    let left = found(&world).await;
    assert!(!left.iter().any(is_broken), "{left:?}");
    world.restart().await;
    run(&mut world).await;
    check(&world, "rebuilt");
    assert_eq!(world.chain.anchored().len(), before + 1);
    assert_eq!(found(&world).await, []);
}

#[tokio::test]
async fn hostile_disk_spoils_rows_and_keeps_no_other_waiting() {
    for (table, column, number) in [
        ("consents", "opening", 1),
        ("revocations", "secret", 0),
        ("batches", "leaves", 0),
    ] {
        let mut world = world(Vec::new()).await;
        fill(&world.circle);
        ingest::ingest_all(&world.pipeline).await.expect("read");
        let (spoilt, signed) = consent(number);
        let statement = match table {
            "consents" => format!(
                "UPDATE {table} SET {column} = 'x' WHERE commitment = '{}'",
                spoilt.commitment
            ),
            "revocations" => format!(
                "UPDATE {table} SET {column} = 'x' WHERE handle = '{}'",
                signed.secrets.handle()
            ),
            _ => {
                run(&mut world).await;
                format!("UPDATE {table} SET {column} = 'x' WHERE id = 1")
            }
        };
        spoil(&world, &statement).await;
        world.circle.add_revocation(revocation_of(&consent(2).1));
        run(&mut world).await;
        watch_round(&world.pipeline).await.expect("asked");
        let handle = consent(2).1.secrets.handle();
        assert!(
            world.chain.revoked().contains(&handle),
            "{table}: the other"
        );
        let spoilt = found(&world).await;
        let is_named = match table {
            "batches" => matches!(spoilt[..], [Discrepancy::BrokenBatch { batch: 1, .. }]),
            _ => {
                matches!(&spoilt[..], [Discrepancy::Unreadable { why, .. }] if why.contains(column))
            }
        };
        assert!(is_named, "{table}: {spoilt:?}");
        rebuild(&world.pipeline, &spoilt).await.expect("rebuilt");
        world.restart().await;
        run(&mut world).await;
        world.clock.advance(SETTLED_S);
        run(&mut world).await;
        assert_eq!(found(&world).await, [], "{table}: it is mended");
        check_all(&world, table);
    }
}

/// All is anchored, and the first and the last are revoked.
fn check_all(world: &World, why: &str) {
    let revoked = world.chain.revoked();
    for number in [0, 2] {
        let handle = consent(number).1.secrets.handle();
        assert!(revoked.contains(&handle), "{why}: {number} is revoked");
    }
    for number in 0..CONSENTS {
        let roots = anchored_in(world, consent(number).0.commitment);
        assert_eq!(roots.len(), 1, "{why}: {number} is anchored once");
    }
}
