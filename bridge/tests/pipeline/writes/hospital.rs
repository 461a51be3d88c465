//! A hospital's commands: an exchange is opened, a bundle imported, a record erased, a pool begun
//! and ended, an exchange let go on for another key.

use medsync::custodian::NAMESPACE;
use medsync::pipeline::Pipeline;
use medsync::seams::Clock;
use medsync::source::{Circle, Record};
use medsync::store::circles::CircleRow;
use medsync_client::wire::{ExpectedRecipient, ImportLine, Imported, NewErasure};
use medsync_protocol::audit::{Body, RecordRef};
use medsync_protocol::ids::RecordId;
use medsync_protocol::seal::{RecordKey, RecordVersion, SealSecret, SealedFor};
use medsync_protocol::signature::SecretKey;

use super::super::access::{
    EXCHANGE, at_rest, exchange_row, files_of, holds, researcher, sealed_key,
};
use super::super::circle::CONTEXT;
use super::super::custodian::{FakeGroups, custodian, import};
use super::super::faults::{Faults, Plan};
use super::super::tickets::{pool, pool_id};
use super::super::{World, consent, patient, registry, world};
use super::{Day, again, anchored_in, rounds};

const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"collection","entry":[
{"resource":{"resourceType":"Observation","id":"1","status":"final"}},
{"resource":{"resourceType":"Observation","id":"2","status":"final"}}]}"#;

/// What came of it.
pub(super) struct Hospital {
    world: World,
    erased: RecordId,
    /// The key of what was erased, as it lay in the store.
    key: String,
}

impl Day for Hospital {
    const NAME: &'static str = "a hospital's commands";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = world(Vec::new()).await;
        world.circle.add_enrolment(patient().public_key());
        world.circle.add_consent(consent(1).0);
        world.other.enrol_instead(researcher().public_key());
        world.other.add_enrolment(researcher().public_key());
        world.faults.plan(plans);
        world.restart().await;
        again(&mut world, async |world| {
            let store = &world.pipeline.store;
            Ok(store.first_fact(NAMESPACE, "the first").await?)
        })
        .await;
        open_exchange(&mut world).await;
        rounds(&mut world, 3).await;
        go_on_for_another_key(&mut world).await;
        import_twice(&mut world).await;
        let erased = world.circle.all_records()[0].record;
        let key = sealed_key(world.home.path(), erased).await;
        again(&mut world, async |world| {
            let custodian = custodian(world, &FakeGroups::default());
            let erasure = NewErasure {
                record: Some(erased),
                all: false,
            };
            Ok(custodian.erase(CONTEXT, erasure).await?)
        })
        .await;
        rounds(&mut world, 3).await;
        begin_and_end_a_pool(&mut world).await;
        rounds(&mut world, 3).await;
        Self { world, erased, key }
    }

    fn faults(&self) -> &Faults {
        &self.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let (world, store) = (&self.world, &self.world.pipeline.store);
        let another = store.first_fact(NAMESPACE, "another").await;
        assert_eq!(another.expect("the store"), "the first", "{plan}");
        let roots = anchored_in(world, consent(1).1.commitment);
        assert_eq!(roots.len(), 1, "{plan}: the consent is anchored once");
        let records = world.circle.all_records();
        assert_eq!(records.len(), 2, "{plan}: each is there once");
        for record in &records {
            let opens = opens(world, record).await;
            assert_eq!(opens, record.record != self.erased, "{plan}");
            let query = "SELECT payload_sha256 FROM records WHERE record = $1";
            let digest = at_rest(world.home.path(), query, &record.record.to_string()).await;
            assert!(!digest.starts_with("0x"), "{plan}: it lies sealed");
            assert_eq!(digest.is_empty(), !opens, "{plan}: or not at all");
        }
        let files = files_of(world.home.path());
        assert!(
            !holds(&files, self.key.as_bytes()),
            "{plan}: nor in its journal"
        );
        let erased: Vec<_> = world
            .circle
            .log_entries()
            .into_iter()
            .filter_map(|entry| match entry.body {
                Body::Erased { records, .. } => Some(records),
                _ => None,
            })
            .collect();
        let (record, version) = (self.erased, 1);
        assert_eq!(erased, [[RecordRef { record, version }]], "{plan}: once");
        let unsaid = store.erased_records(CONTEXT, true).await;
        assert!(unsaid.expect("the store").is_empty(), "{plan}");
        let pools = store.pools().await.expect("the store");
        let [kept] = &pools[..] else {
            panic!("{plan}: one pool");
        };
        assert_eq!((kept.id, kept.quota), (pool_id(), Some(5)), "{plan}");
        assert!(kept.closed_at.is_some(), "{plan}: it is ended");
        let row = store.circle(EXCHANGE).await.expect("a row");
        let expected = Some(researcher().public_key());
        assert_eq!((row.alarm, row.recipient_key), (None, expected), "{plan}");
    }
}

/// Opens an exchange for a key that its recipient does not have: by its last step, as often as it
/// takes, since the node here has the exchange already.
async fn open_exchange(world: &mut World) {
    let opened = CircleRow {
        recipient_key: Some(another().public_key()),
        ..exchange_row()
    };
    again(world, async |world| {
        Ok(world.pipeline.store.enter_circle(&opened).await?)
    })
    .await;
}

/// The recipient says past the exchange, which was stopped, that the other key is its own.
async fn go_on_for_another_key(world: &mut World) {
    let row = world.pipeline.store.circle(EXCHANGE).await.expect("a row");
    assert!(row.alarm.is_some_and(|why| why.contains("its key is")));
    let key = researcher().public_key();
    again(world, async |world| {
        let custodian = custodian(world, &FakeGroups::default());
        let expected = ExpectedRecipient { key };
        Ok(custodian.expect_recipient(EXCHANGE, expected).await?)
    })
    .await;
    again(world, async |world| {
        let custodian = custodian(world, &FakeGroups::default());
        Ok(custodian.resume(EXCHANGE).await?)
    })
    .await;
}

/// A second import finds everything there.
async fn import_twice(world: &mut World) {
    for _ in 0..2 {
        let report = again(world, async |world| import(world, BUNDLE, false).await);
        let report = report.await;
        let is_there = |line: &ImportLine| !matches!(line.outcome, Imported::Refused(_));
        assert!(report.iter().all(is_there), "{report:?}");
    }
}

async fn begin_and_end_a_pool(world: &mut World) {
    let chain_id = registry().chain_id;
    for quota in [Some(5), None] {
        again(world, async |world| {
            let (store, now) = (&world.pipeline.store, world.clock.now());
            store.keep_pool(chain_id, &pool()).await?;
            Ok(store.issue_from(pool_id(), quota, now).await?)
        })
        .await;
    }
}

fn another() -> SecretKey {
    SecretKey::from_scalar(&[4; 32]).expect("a scalar")
}

/// The hospital's key of a record's first version.
async fn secret_of(world: &World, record: RecordId) -> Option<SealSecret> {
    let store = &world.pipeline.store;
    let what = RecordRef { record, version: 1 };
    let secret = store.record_secret(CONTEXT, what).await;
    secret.expect("the store")
}

/// Whether the hospital's key of a record is there; it then opens it.
async fn opens(world: &World, record: &Record) -> bool {
    let Some(secret) = secret_of(world, record.record).await else {
        return false;
    };
    let place = SealedFor {
        context: CONTEXT,
        record: record.record,
        version: RecordVersion(1),
        reader: secret.public_key(),
        log: None,
    };
    let key = RecordKey::open(&secret, &place, &record.key_for_custodian).expect("its key");
    let full = world.circle.record(record.record, None).await;
    let payload = full
        .expect("it is there")
        .payload
        .expect("with its payload");
    key.decrypt(&place, &payload).expect("it opens");
    true
}
