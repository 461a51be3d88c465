//! A claim that a patient signed elsewhere comes in by the door and is paid; nothing else does.

use medsync_client::wire::{LoginAs, NewClaim};
use medsync_client::{Client, ClientError};
use medsync_protocol::claim::{Claim, SignedClaim};
use medsync_protocol::ids::{ContractAddress, UnixSeconds};

use super::super::circle::{CONTEXT, OTHER};
use super::super::claims::{address, claim_of, promised};
use super::super::tickets::pool;
use super::super::{World, patient, registry, run};
use super::Door;

fn for_contract(claim: &Claim, contract: ContractAddress) -> NewClaim {
    let chain_id = registry().chain_id;
    NewClaim(SignedClaim::new(chain_id, contract, claim.clone()))
}

fn signed(claim: &Claim) -> NewClaim {
    for_contract(claim, pool().contract)
}

async fn patients(door: &Door) -> Client {
    door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await
}

/// What a claim is refused with, and why.
async fn refused(client: &Client, claim: &NewClaim) -> (u16, String) {
    match client.claim(CONTEXT, claim).await {
        Err(ClientError::Problem(problem)) => (problem.status, problem.detail),
        other => panic!("{other:?}"),
    }
}

/// Whose patient has one ticket, and its claim.
async fn with_a_claim() -> (World, Claim) {
    let (world, consent) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &consent, address(1));
    (world, claim)
}

#[tokio::test]
async fn a_claim_is_brought_sent_and_paid_and_the_tickets_say_how_far_it_is() {
    let (mut world, claim) = with_a_claim().await;
    let door = Door::over(&world.pipeline).await;
    let client = patients(&door).await;
    let tickets = client.tickets(CONTEXT).await.expect("read").tickets;
    assert_eq!(tickets[0].claim, None);
    for _ in 0..2 {
        let brought = client.claim(CONTEXT, &signed(&claim)).await;
        let brought = brought.expect("kept");
        assert_eq!((brought.pool, brought.pay_to), (claim.pool, claim.pay_to));
    }
    let tickets = client.tickets(CONTEXT).await.expect("read").tickets;
    let kept = tickets[0].claim.as_ref().expect("it was brought");
    assert_eq!((kept.pay_to, kept.transaction), (claim.pay_to, None));
    run(&mut world).await;
    let tickets = client.tickets(CONTEXT).await.expect("read").tickets;
    assert!(tickets[0].paid_since.is_some());
    let paid = [(claim.pool, claim.handle(), claim.pay_to)];
    assert_eq!(world.chain.claimed(), paid);
}

#[tokio::test]
async fn hostile_claims_that_spend_no_ticket_of_the_circle_are_refused_by_words() {
    let (world, claim) = with_a_claim().await;
    world.enter_other().await;
    let door = Door::over(&world.pipeline).await;
    let client = patients(&door).await;
    // Whoever reads the claim cannot have it paid to themselves.
    let redirected = Claim {
        pay_to: address(2),
        ..claim.clone()
    };
    let (status, why) = refused(&client, &signed(&redirected)).await;
    assert_eq!(status, 400, "{why}");
    assert!(why.contains("not signed by its claim key"), "{why}");
    let (status, why) = refused(&client, &for_contract(&claim, address(9))).await;
    assert_eq!(status, 400, "{why}");
    assert!(why.contains(&address(9).to_string()), "{why}");
    let longer = Claim {
        claim_until: UnixSeconds(u64::MAX >> 1),
        ..claim.clone()
    };
    let (status, why) = refused(&client, &signed(&longer)).await;
    assert_eq!(status, 404, "{why}");
    let operator = door.client().with_token(&door.token());
    let elsewhere = operator.claim(OTHER, &signed(&claim)).await;
    let Err(ClientError::Problem(problem)) = elsewhere else {
        panic!("{elsewhere:?}");
    };
    assert_eq!(problem.status, 404, "{}", problem.detail);
    world.clock.advance(claim.claim_until.0);
    let (status, why) = refused(&operator, &signed(&claim)).await;
    assert_eq!(status, 409, "{why}");
    assert!(why.contains("was good until"), "{why}");
    let kept = world.pipeline.store.claim_of((claim.pool, claim.handle()));
    assert!(kept.await.expect("the store").is_none(), "nothing was kept");
}

#[tokio::test]
async fn a_claim_that_is_on_its_way_goes_to_no_other_address() {
    let (world, consent) = promised(&[]).await;
    let placed = world.circle.tickets().remove(0);
    let to = |number| signed(&claim_of(&placed, &consent, address(number)));
    let door = Door::over(&world.pipeline).await;
    let client = patients(&door).await;
    client.claim(CONTEXT, &to(1)).await.expect("kept");
    client.claim(CONTEXT, &to(2)).await.expect("in its place");
    world.chain.get_stuck();
    let sent = medsync::pipeline::claims::claim_round(&world.pipeline).await;
    assert!(sent.expect("sent"));
    let (status, why) = refused(&client, &to(3)).await;
    assert_eq!(status, 409, "{why}");
    client.claim(CONTEXT, &to(2)).await.expect("the same");
    let tickets = client.tickets(CONTEXT).await.expect("read").tickets;
    let kept = tickets[0].claim.as_ref().expect("it was brought");
    assert_eq!(kept.pay_to, address(2));
    assert!(kept.transaction.is_some());
}

#[tokio::test]
async fn who_sends_no_claims_says_who_can() {
    let (mut world, claim) = with_a_claim().await;
    world.pipeline.claim_account = None;
    let door = Door::over(&world.pipeline).await;
    let (status, why) = refused(&patients(&door).await, &signed(&claim)).await;
    assert_eq!(status, 409, "{why}");
    assert!(why.contains("medsync rewards claim"), "{why}");
}
