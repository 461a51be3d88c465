//! A verifier against what a hostile receipt, configuration or endpoint can be.

use medsync::chain::Chain;
use medsync::config::{VerifierConfig, block_age_s_max};
use medsync::source::StageReport;
use medsync::verify::{VerifyError, verify};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{Block, Receipt};
use medsync_protocol::verdict::Verdict;
use medsync_protocol::verifier::{NoVerdict, Refusal};

use super::chain::FakeChain;
use super::faults::Faults;
use super::{World, anchorer, consent, fill, registry, run, world};

/// The second consent: the first is revoked.
const NUMBER: u64 = 1;

fn receipt(world: &World) -> Receipt {
    let (consent, signed) = consent(NUMBER);
    let reports = world.circle.reports();
    let (report, block) = reports
        .iter()
        .filter(|report| report.commitment == signed.commitment)
        .find_map(|report| match &report.stage {
            StageReport::Anchored { block, .. } => Some((report, *block)),
            _ => None,
        })
        .expect("it is anchored");
    Receipt {
        registry: registry(),
        anchorer: anchorer(),
        terms: consent.terms,
        opening: consent.opening,
        signature: consent.signature,
        proof: report.proof.clone(),
        root: report.root,
        block: Block {
            number: block.number,
            hash: block.hash,
        },
        stages: Vec::new(),
    }
}

fn config() -> VerifierConfig {
    VerifierConfig {
        rpc: Vec::new(),
        chain_id: registry().chain_id,
        registry: registry().registry,
        class_hash: ClassHash::from_felt(Felt::ONE),
        custodians: vec![anchorer()],
        block_age_s_max: block_age_s_max(),
    }
}

async fn anchored() -> (World, Receipt) {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let receipt = receipt(&world);
    (world, receipt)
}

/// The block's time is about 1,000; this is soon after.
const SOON: UnixSeconds = UnixSeconds(2_000);

#[tokio::test]
async fn hostile_receipts_of_another_chain_registry_or_custodian_are_refused() {
    let (world, receipt) = anchored().await;
    let json = receipt.to_json().expect("JSON");
    let accepted = config().beliefs().accept(json.as_bytes()).expect("its own");
    let chains: [&dyn Chain; 1] = [&world.chain];
    let report = verify(&config(), &chains, &accepted, None, SOON).await;
    assert_eq!(report.expect("a verdict").verdict, Verdict::Valid);

    let other_chain = VerifierConfig {
        chain_id: ChainId::from_felt(Felt::THREE),
        ..config()
    };
    let other_registry = VerifierConfig {
        registry: ContractAddress::from_felt(Felt::THREE),
        ..config()
    };
    for config in [other_chain, other_registry] {
        let refused = config.beliefs().accept(json.as_bytes());
        assert!(matches!(refused, Err(Refusal::OtherRegistry { .. })));
    }
    let other_custodian = VerifierConfig {
        custodians: vec![Anchorer::from_felt(Felt::THREE)],
        ..config()
    };
    let refused = other_custodian.beliefs().accept(json.as_bytes());
    assert!(matches!(refused, Err(Refusal::OtherCustodian(_))));
    let truncated = config()
        .beliefs()
        .accept(&json.as_bytes()[..json.len() / 2]);
    assert!(matches!(truncated, Err(Refusal::Receipt(_))));
}

#[tokio::test]
async fn hostile_endpoint_serves_another_class() {
    let (world, receipt) = anchored().await;
    let config = VerifierConfig {
        class_hash: ClassHash::from_felt(Felt::TWO),
        ..config()
    };
    let refused = verify(&config, &[&world.chain], &receipt, None, SOON).await;
    assert!(matches!(
        refused,
        Err(VerifyError::NoVerdict(NoVerdict::OtherClass { .. }))
    ));
}

#[tokio::test]
async fn hostile_endpoint_serves_an_old_block() {
    let (world, receipt) = anchored().await;
    let late = UnixSeconds(SOON.0 + block_age_s_max());
    let refused = verify(&config(), &[&world.chain], &receipt, None, late).await;
    assert!(matches!(
        refused,
        Err(VerifyError::NoVerdict(NoVerdict::OldBlock { .. }))
    ));
    // About a time that the block covers it may speak, however old it is.
    let at = Some(world.chain.time());
    let report = verify(&config(), &[&world.chain], &receipt, at, late).await;
    assert_eq!(report.expect("a verdict").verdict, Verdict::Valid);
    // About a later time it may not.
    let refused = verify(&config(), &[&world.chain], &receipt, Some(late), late).await;
    assert!(matches!(
        refused,
        Err(VerifyError::NoVerdict(NoVerdict::Judge(_)))
    ));
}

#[tokio::test]
async fn hostile_endpoint_is_behind_and_hides_no_revocation() {
    let (world, receipt) = anchored().await;
    let behind = world.chain.fork();
    world.chain.grow(5);
    for chains in [[&behind, &world.chain], [&world.chain, &behind]] {
        let chains = chains.map(|chain| chain as &dyn Chain);
        let report = verify(&config(), &chains, &receipt, None, SOON).await;
        let report = report.expect("both see it as valid, each at its own time");
        assert_eq!(
            (report.verdict, report.at),
            (Verdict::Valid, world.chain.time())
        );
    }
    let handle = receipt.opening.handle;
    world
        .chain
        .revoke_past_everybody(handle, world.chain.time());
    for chains in [[&behind, &world.chain], [&world.chain, &behind]] {
        let chains = chains.map(|chain| chain as &dyn Chain);
        let answer = verify(&config(), &chains, &receipt, None, SOON).await;
        assert!(matches!(
            answer,
            Err(VerifyError::NoVerdict(NoVerdict::Disagreement(..)))
        ));
    }
}

#[tokio::test]
async fn hostile_endpoints_that_disagree_are_both_refused() {
    let (world, receipt) = anchored().await;
    let forked = FakeChain::new(Faults::planned(Vec::new()));
    forked.grow(100);
    let chains: [&dyn Chain; 2] = [&world.chain, &forked];
    let answer = verify(&config(), &chains, &receipt, None, SOON).await;
    assert!(matches!(
        answer,
        Err(VerifyError::NoVerdict(NoVerdict::Disagreement(
            Verdict::Valid,
            Verdict::UnknownAnchor
        )))
    ));
}
