//! A custodian's home that is restored from a backup; then the chain drops what was taken over.

use std::path::Path;
use std::sync::Arc;

use medsync::backup::{backup, restore_with};
use medsync::pipeline::Pipeline;
use medsync::seams::Clock;
use medsync_client::wire::NewErasure;
use medsync_protocol::audit::EntryKind as Kind;

use super::super::access::records::{add_record, first_version};
use super::super::access::{files_of, holds, sealed_key};
use super::super::circle::CONTEXT;
use super::super::custodian::{FakeGroups, custodian};
use super::super::faults::{Fault, Faults, Plan};
use super::super::{SETTLED_S, World, consent, folder, patient, revocation_of, secret, world};
use super::{Day, RUNS_MAX, anchored_in, rounds};

/// What came of it.
pub(super) struct Restored {
    world: World,
    /// The key of a record that was erased after the backup was made, as it lay in the store.
    erased: String,
}

impl Day for Restored {
    const NAME: &'static str = "a restored custodian's day";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = world(Vec::new()).await;
        world.pipeline.batch.consents_max = 1;
        world.circle.add_enrolment(patient().public_key());
        for number in [1, 2] {
            add_record(&world, number).await;
        }
        let store = world.pipeline.store.clone();
        let erased = sealed_key(world.home.path(), first_version(1).record).await;
        world.circle.add_consent(consent(0).0);
        rounds(&mut world, 3).await;
        // One more is sealed and placed nowhere when the backup is made.
        world.circle.add_consent(consent(1).0);
        world.faults.plan_next("record_anchor", Fault::Failed);
        rounds(&mut world, 1).await;
        let backups = tempfile::tempdir().expect("a folder");
        let (out, now) = (backups.path().join("backup"), world.clock.now());
        let made = backup(world.home.path(), &store, &out, now).await;
        made.expect("a backup");
        world.circle.add_consent(consent(2).0);
        let revocation = revocation_of(&consent(0).1);
        world.circle.add_revocation(revocation);
        rounds(&mut world, 4).await;
        let erasure = NewErasure {
            record: Some(first_version(1).record),
            all: false,
        };
        let hospital = custodian(&world, &FakeGroups::default());
        let done = hospital.erase(CONTEXT, erasure).await;
        assert_eq!(done.expect("erased").keys_destroyed, 1);
        drop(hospital);
        rounds(&mut world, 3).await;
        store.close().await;
        world.home = folder();
        world.faults.plan(plans);
        restore_until_whole(&world, &out).await;
        world.restart().await;
        // What stands nowhere is looked up twice, and so is what the chain has no more.
        rounds(&mut world, 4).await;
        world.clock.advance(SETTLED_S);
        rounds(&mut world, 5).await;
        world.chain.forget_everything();
        world.chain.grow(2 * SETTLED_S);
        for _ in 0..4 {
            world.clock.advance(SETTLED_S);
            rounds(&mut world, 6).await;
        }
        Self { world, erased }
    }

    fn faults(&self) -> &Faults {
        &self.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let (world, store) = (&self.world, &self.world.pipeline.store);
        for number in 0..3 {
            let roots = anchored_in(world, consent(number).1.commitment);
            assert_eq!(roots.len(), 1, "{plan}: consent {number} is anchored once");
        }
        let revoked = consent(0).1.secrets.handle();
        assert_eq!(world.chain.revoked(), [revoked], "{plan}");
        for (number, is_here) in [(1, false), (2, true)] {
            let key = store.record_secret(CONTEXT, first_version(number)).await;
            assert_eq!(key.expect("the store").is_some(), is_here, "{plan}");
        }
        let files = files_of(world.home.path());
        assert!(
            !holds(&files, self.erased.as_bytes()),
            "{plan}: nor in its journal"
        );
        let log = world.circle.log_entries();
        let kinds: Vec<Kind> = log.iter().map(|entry| entry.entry.kind).collect();
        assert_eq!(kinds, [Kind::Erased], "{plan}: it is said once");
    }
}

/// Restores the backup; a restore that failed is done again.
async fn restore_until_whole(world: &World, out: &Path) {
    for _ in 0..RUNS_MAX {
        let (faults, now) = (Arc::new(world.faults.clone()), world.clock.now());
        let made = restore_with((out, world.home.path()), &secret(), now, Some(faults)).await;
        if !world.faults.revive() && made.is_ok() {
            return;
        }
    }
    panic!("a restore goes on failing");
}
