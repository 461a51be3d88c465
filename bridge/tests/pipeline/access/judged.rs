//! What may be released, decided by the custodian's own judge over what it read and kept, agrees
//! with a naive model, whatever was granted, revoked and lost in which order.

use std::collections::BTreeSet;

use medsync::pipeline::{Pipeline, ingest};
use medsync::preview::judge;
use medsync::seams::Clock;
use medsync::source::{Circle, EntryKind};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::ProvisionKind;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::keys::change;
use super::super::{START, patient, revocation_of, sign_between};
use super::preview::{ODD, consent_with, just_the_odd_one, question};
use super::{RECORDS, Study, researcher};

/// When some consents begin and others end, and how long a wait is, in seconds.
const BEGIN: u64 = START + 100;
const END: u64 = START + 200;
const WAIT_S: u64 = 50;
/// A fake chain makes no blocks by itself.
const ANY_AGE_S: u64 = 1 << 40;

#[derive(Clone, Copy, Debug)]
enum Times {
    Open,
    Later,
    Ending,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A consent that permits or denies all records, or the odd one.
    Grant {
        denies: bool,
        is_odd: bool,
        times: Times,
    },
    /// A thief has a key of before.
    GrantByOldKey,
    Revoke {
        which: usize,
        on_chain_alone: bool,
    },
    ChangeKey,
    /// The node loses every consent and revocation.
    Lose,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![Just(Times::Open), Just(Times::Later), Just(Times::Ending)];
    let grant = (any::<bool>(), any::<bool>(), times);
    prop_oneof![
        6 => grant.prop_map(|(denies, is_odd, times)| Step::Grant { denies, is_odd, times }),
        1 => Just(Step::GrantByOldKey),
        4 => (0_usize..8, any::<bool>())
            .prop_map(|(which, on_chain_alone)| Step::Revoke { which, on_chain_alone }),
        1 => Just(Step::ChangeKey),
        2 => Just(Step::Lose),
        2 => Just(Step::Wait),
    ]
}

/// A consent as the model has it.
struct Granted {
    denies: bool,
    is_odd: bool,
    times: (u64, u64),
    /// By the how manieth of the patient's keys.
    by: usize,
    is_revoked: bool,
    signed: medsync_protocol::consent::SignedGrant,
}

impl Granted {
    fn holds(&self, record: u8, now: u64) -> bool {
        let (from, until) = self.times;
        let is_of_now = from <= now && (until == 0 || now < until);
        !self.is_revoked && is_of_now && (!self.is_odd || record == ODD)
    }
}

fn key(number: usize) -> SecretKey {
    match number {
        0 => patient(),
        _ => {
            let mut scalar = [0; 32];
            scalar[31] = 40 + number as u8;
            SecretKey::from_scalar(&scalar).expect("a scalar")
        }
    }
}

struct Model {
    study: Study,
    pipeline: Pipeline,
    granted: Vec<Granted>,
    keys: usize,
}

impl Model {
    async fn begin() -> Self {
        let first = consent_with(1, |terms| {
            terms.provision.records = just_the_odd_one();
            terms.provision.kind = ProvisionKind::Permit;
        });
        let granted = vec![Granted {
            denies: false,
            is_odd: true,
            times: (0, 0),
            by: 0,
            is_revoked: false,
            signed: first.1.clone(),
        }];
        let study = Study::begin_with(Vec::new(), first).await;
        let pipeline = Pipeline {
            block_age_s_max: ANY_AGE_S,
            ..study.world.pipeline.clone()
        };
        // What was never taken in permits nothing.
        ingest::ingest_all(&pipeline).await.expect("read");
        Self {
            study,
            pipeline,
            granted,
            keys: 0,
        }
    }

    fn grant(&mut self, denies: bool, is_odd: bool, times: (u64, u64), by: usize) {
        let number = 2 + self.granted.len() as u64;
        let (consent, _) = consent_with(number, |terms| {
            if denies {
                terms.provision.kind = ProvisionKind::Deny;
            }
            if is_odd {
                terms.provision.records = just_the_odd_one();
            }
        });
        let between = (UnixSeconds(times.0), UnixSeconds(times.1));
        let recipient = researcher().public_key();
        let (consent, signed) = sign_between(between, recipient, &key(by), number, consent.terms);
        self.study.world.circle.add_consent(consent);
        self.granted.push(Granted {
            denies,
            is_odd,
            times,
            by,
            is_revoked: false,
            signed,
        });
    }

    async fn take(&mut self, step: Step) {
        let (circle, chain) = (&self.study.world.circle, &self.study.world.chain);
        match step {
            Step::Grant {
                denies,
                is_odd,
                times,
            } => {
                let times = match times {
                    Times::Open => (0, 0),
                    Times::Later => (BEGIN, 0),
                    Times::Ending => (0, END),
                };
                self.grant(denies, is_odd, times, self.keys);
            }
            Step::GrantByOldKey => {
                if self.keys > 0 {
                    self.grant(false, false, (0, 0), self.keys - 1);
                }
            }
            Step::Revoke {
                which,
                on_chain_alone,
            } => {
                let which = which % self.granted.len();
                let granted = &mut self.granted[which];
                granted.is_revoked = true;
                let handle: Handle = granted.signed.secrets.handle();
                if on_chain_alone {
                    chain.revoke_past_everybody(handle, UnixSeconds(START));
                } else {
                    circle.add_revocation(revocation_of(&granted.signed));
                }
            }
            Step::ChangeKey => {
                let (old, new) = (key(self.keys), key(self.keys + 1));
                let change = change(&old, &new, self.keys as u64, &old);
                circle.change_key(&change, 1).await.expect("taken");
                self.keys += 1;
            }
            Step::Lose => {
                circle.forget(EntryKind::Consent);
                circle.forget(EntryKind::Revocation);
            }
            Step::Wait => self.study.world.clock.advance(WAIT_S),
        }
        ingest::ingest_all(&self.pipeline).await.expect("read");
    }

    /// What the model says may be released.
    fn expected(&self) -> BTreeSet<u8> {
        let now = self.study.world.clock.now().0;
        let may = |record: &u8| {
            let mut holding = self.granted.iter().filter(|one| one.holds(*record, now));
            let is_denied = holding.clone().any(|one| one.denies);
            !is_denied && holding.any(|one| one.by == self.keys)
        };
        (0..RECORDS).filter(may).collect()
    }

    async fn judged(&self) -> BTreeSet<u8> {
        let question = question(Default::default());
        let lines = judge(&self.pipeline, &self.study.world.circle, &question).await;
        let lines = lines.expect("an answer");
        let given = lines.iter().filter(|line| line.is_released());
        given.map(|line| line.record.0[0]).collect()
    }
}

#[test]
fn what_is_judged_agrees_with_a_naive_model() {
    const OF_ALL_CASES: u32 = 5;
    let config = Config::default();
    let cases = (config.cases / OF_ALL_CASES).max(1);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..config
    });
    let steps = proptest::collection::vec(step(), 1..16);
    let outcome = runner.run(&steps, |steps| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let mut model = Model::begin().await;
            for step in steps {
                model.take(step).await;
                prop_assert_eq!(model.judged().await, model.expected(), "after {:?}", step);
            }
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("{cases} lists were judged");
}
