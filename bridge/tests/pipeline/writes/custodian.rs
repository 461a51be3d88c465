//! A custodian's day with its daemon.

use std::collections::BTreeSet;

use medsync::pipeline::Pipeline;
use medsync::pipeline::watch::watch_round;
use medsync::source::{EntryKind, Pool};
use medsync_protocol::audit::{Body, EntryKind as Kind};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContractAddress, UnixSeconds};
use medsync_protocol::ticket::PoolNonce;

use super::super::access::{RECORDS, Study, researcher};
use super::super::circle::CONTEXT;
use super::super::faults::{Faults, Plan};
use super::super::{SETTLED_S, START, anchorer, consent_to, patient, registry, revocation_of, run};
use super::Day;

/// What came of it.
pub(super) struct Custodian {
    study: Study,
    /// The releases that were opened.
    files: usize,
}

impl Day for Custodian {
    const NAME: &'static str = "a custodian's day";

    /// A consent is anchored, asked for, released, promised a reward, revoked and erased; another
    /// is revoked past everybody; a node loses its revocations once.
    async fn live(plans: Vec<Plan>) -> Self {
        let mut study = Study::begin(Vec::new()).await;
        let store = &study.world.pipeline.store;
        let pool = Pool {
            contract: ContractAddress::from_felt(Felt::from(61)),
            funder: ContractAddress::from_felt(Felt::from(62)),
            nonce: PoolNonce::from_felt(Felt::from(63)),
            recipient: researcher().public_key(),
            claim_end: UnixSeconds(1_000_000),
            label: "asthma".into(),
        };
        let chain_id = registry().chain_id;
        store.keep_pool(chain_id, &pool).await.expect("kept");
        let issued = store.issue_from(pool.id(chain_id), Some(9), UnixSeconds(START));
        issued.await.expect("a pool that is kept");
        let recipient = researcher().public_key();
        let (second, signed_second) = consent_to(recipient, &patient(), 2, CONTEXT, anchorer());
        study.world.circle.add_consent(second);
        study.world.circle.add_enrolment(patient().public_key());
        study.world.faults.plan(plans);
        study.world.restart().await;
        settle(&mut study).await;
        let request = study.ask("HRESCH", |_| ()).await;
        settle(&mut study).await;
        let files = study.open(request).await;
        let second = signed_second.secrets.handle();
        study.world.chain.grow(3 * START);
        let at = UnixSeconds(START);
        study.world.chain.revoke_past_everybody(second, at);
        settle(&mut study).await;
        let revocation = revocation_of(&study.signed);
        study.world.circle.add_revocation(revocation);
        settle(&mut study).await;
        study.world.circle.forget(EntryKind::Revocation);
        settle(&mut study).await;
        assert!(files.iter().all(|file| !file.exists()));
        let files = files.len();
        Self { study, files }
    }

    fn faults(&self) -> &Faults {
        &self.study.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.study.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let (study, world) = (&self.study, &self.study.world);
        assert_eq!(self.files, usize::from(RECORDS), "{plan}: all were opened");
        let released = study.exchange.released();
        assert_eq!(released.len(), usize::from(RECORDS), "{plan}: each once");
        let anchored = world.chain.anchored();
        for consent in [1, 2] {
            let recipient = researcher().public_key();
            let (_, signed) = consent_to(recipient, &patient(), consent, CONTEXT, anchorer());
            let reports = world.circle.reports();
            let own = reports
                .iter()
                .filter(|told| told.commitment == signed.commitment);
            let roots: BTreeSet<_> = own.map(|told| told.root.felt().to_bytes_be()).collect();
            assert_eq!(roots.len(), 1, "{plan}: consent {consent} is in one batch");
            let in_chain =
                |root: &[u8; 32]| anchored.iter().any(|a| a.felt().to_bytes_be() == *root);
            assert!(roots.iter().all(in_chain), "{plan}: and that is anchored");
            let revoked = world.chain.revoked();
            assert!(revoked.contains(&signed.secrets.handle()), "{plan}");
        }
        let tickets = world.circle.tickets();
        assert_eq!(tickets.len(), 1, "{plan}: one ticket");
        assert_eq!(world.circle.revocations(), 1, "{plan}: it was brought back");
        let log = world.circle.log_entries();
        for (kind, expected) in [
            (Kind::Requested, 1),
            (Kind::Permitted, 1),
            (Kind::Released, 1),
            (Kind::EraseOrdered, 1),
            (Kind::Erased, 1),
        ] {
            let count = log.iter().filter(|entry| entry.entry.kind == kind).count();
            assert_eq!(count, expected, "{plan}: {kind:?} is said once");
        }
        let numbers: Vec<u64> = log.iter().map(|entry| entry.entry.seq.0).collect();
        let whole: Vec<u64> = (0..log.len() as u64).collect();
        assert_eq!(numbers, whole, "{plan}: the log has no gap and no fork");
        let said = log
            .iter()
            .any(|entry| matches!(entry.body, Body::Erased { order: Some(_), .. }));
        assert!(said, "{plan}: the recipient's answer is copied");
    }
}

/// Rounds of every lane until everything that rests or settles has done so.
async fn settle(study: &mut Study) {
    for _ in 0..3 {
        study.settle().await;
        // A failure is what the daemon would log.
        let _ = watch_round(&study.world.pipeline).await;
        let _ = medsync::daemon::publish_revocations(&study.world.pipeline).await;
        if study.world.faults.revive() {
            study.world.restart().await;
        }
        study.world.clock.advance(SETTLED_S);
    }
    run(&mut study.world).await;
}
