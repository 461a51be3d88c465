//! Spending tickets.

use medsync::chain::{CLAIMS_MAX, Call, Chain, PoolCall};
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ChainId, ContractAddress, Salt, UnixSeconds};
use medsync_protocol::signature::{PublicKey, SignatureHalf};
use medsync_protocol::ticket::{PoolId, Ticket};
use medsync_tests::hand::Hand;

use super::world::{
    Anchored, CLAIMS, CUSTODIAN, DAY_S, OTHER_CUSTODIAN, PRICE, RELAYER, REWARD, SHARE, STRANGER,
    World, assert_names, felts_of, fresh, secrets, strk,
};

fn one(claim: &Claim) -> PoolCall {
    PoolCall::Claim(Box::new(claim.clone()))
}

/// The prototype's pool paid whoever asked, as often as they asked.
#[tokio::test]
async fn hostile_stranger_withdraws_repeatedly_and_drains_nothing() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let held = world.balance(world.pools, strk()).await;
    let stranger = world.address(STRANGER);
    let withdraw = |owner| PoolCall::WithdrawFor {
        owner,
        token: strk(),
    };
    for _ in 0..3 {
        for owner in [stranger, world.address(CUSTODIAN), world.pools] {
            let refused = world.pool(STRANGER, withdraw(owner)).await;
            assert_eq!(refused, Err("NOTHING_ACCRUED"));
        }
        assert_eq!(
            world.pool(STRANGER, PoolCall::Refund(pool)).await,
            Err("REFUND_TOO_EARLY")
        );
        assert_eq!(
            world.pool(STRANGER, PoolCall::Close(pool)).await,
            Err("NOT_THE_FUNDER")
        );
    }
    // With something accrued to a patient, it goes to the patient, once, whoever asks.
    let ticket = world.ticket(pool, 1).await;
    let claim = world.claim(&ticket, fresh(1));
    world.pool(STRANGER, one(&claim)).await.expect("claimed");
    world
        .pool(STRANGER, withdraw(fresh(1)))
        .await
        .expect("paid");
    for _ in 0..3 {
        let refused = world.pool(STRANGER, withdraw(fresh(1))).await;
        assert_eq!(refused, Err("NOTHING_ACCRUED"));
        assert_eq!(
            world.pool(STRANGER, one(&claim)).await,
            Err("ALREADY_CLAIMED")
        );
    }
    assert_eq!(world.balance(fresh(1), strk()).await, REWARD);
    assert_eq!(world.balance(world.pools, strk()).await, held - REWARD);
    world.check_solvent(strk()).await;
}

#[tokio::test]
async fn a_patient_without_gas_is_paid_at_a_fresh_address_through_a_relayer() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let ticket = world.ticket(pool, 1).await;
    let claim = world.claim(&ticket, fresh(1));
    let held = world.balance(world.pools, strk()).await;
    let before = world.now().await;
    let sent = world.pool(RELAYER, one(&claim)).await.expect("claimed");
    // It accrues and transfers nothing, least of all to who relayed it.
    assert_eq!(world.balance(world.pools, strk()).await, held);
    let custodian = world.address(CUSTODIAN);
    for (owner, accrued) in [
        (fresh(1), REWARD),
        (custodian, SHARE),
        (world.address(RELAYER), 0),
    ] {
        assert_eq!(world.accrued(owner, strk()).await, accrued);
    }
    let state = world.state(pool).await;
    assert_eq!(state.claims_left, 2 * CLAIMS - 1);
    assert_eq!(state.escrow, u128::from(2 * CLAIMS - 1) * PRICE);
    assert_eq!(world.used(pool).await[0].claimed, 1);
    let [claimed] = world.events(sent).try_into().expect("one event");
    assert_eq!(claimed.name, "Claimed");
    let handle = claim.handle().felt();
    assert_eq!(claimed.keys, [pool.felt(), custodian.felt(), handle]);
    let at = world
        .chain
        .ticket_times(world.registry, world.pools, pool, claim.handle());
    let at = at.await.expect("an answer").0.claimed_at.expect("claimed");
    assert_eq!(claimed.data, [fresh(1).felt(), Felt::from(at.0)]);
    assert!((before..=world.now().await).contains(&at.0), "{at}");

    let withdraw = |owner| PoolCall::WithdrawFor {
        owner,
        token: strk(),
    };
    world.pool(RELAYER, withdraw(fresh(1))).await.expect("paid");
    assert_eq!(world.balance(fresh(1), strk()).await, REWARD);
    world
        .pool(RELAYER, withdraw(custodian))
        .await
        .expect("paid");
    world.check_solvent(strk()).await;
}

#[tokio::test]
async fn what_the_patient_and_the_custodian_did_not_promise_is_refused() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let sound = world.ticket(pool, 1).await;
    let claim = world.claim(&sound, fresh(1));
    let with = |change: &dyn Fn(&mut Claim)| {
        let mut changed = claim.clone();
        change(&mut changed);
        changed
    };
    let zero = ContractAddress::from_felt(Felt::ZERO);
    let stolen = secrets(99).claim_key.public_key();
    let not_r = SignatureHalf::from_felt(claim.signature.r.felt() + Felt::ONE);
    let altered: Vec<(&str, Claim)> = vec![
        (
            "POOL_UNKNOWN",
            with(&|c| c.pool = PoolId::from_felt(Felt::from(404))),
        ),
        ("PAY_TO_ZERO", with(&|c| c.pay_to = zero)),
        ("PAY_TO_POOL", with(&|c| c.pay_to = world.pools)),
        // Redirected, and forged.
        ("BAD_SIGNATURE", with(&|c| c.pay_to = fresh(2))),
        ("BAD_SIGNATURE", with(&|c| c.signature.r = not_r)),
        // A handle with another key is another handle, which has no ticket.
        ("UNKNOWN_ANCHOR", with(&|c| c.claim_key = stolen)),
        (
            "UNKNOWN_ANCHOR",
            with(&|c| c.claim_key = PublicKey::from_felt(Felt::ZERO)),
        ),
        (
            "UNKNOWN_ANCHOR",
            with(&|c| c.salt = Salt::from_felt(Felt::from(404))),
        ),
        (
            "UNKNOWN_ANCHOR",
            with(&|c| c.claim_until = UnixSeconds(c.claim_until.0 + 1)),
        ),
        // Promised by one custodian, anchored by another.
        (
            "UNKNOWN_ANCHOR",
            with(&|c| c.anchorer = world.anchorer(OTHER_CUSTODIAN)),
        ),
        // A custodian to whom the pool promises nothing.
        (
            "QUOTA_EXHAUSTED",
            with(&|c| c.anchorer = world.anchorer(STRANGER)),
        ),
        ("NOT_INCLUDED", with(&|c| c.proof.index = 16)),
        ("TICKET_EXPIRED", with(&|c| c.claim_until = UnixSeconds(1))),
    ];
    for (name, altered) in altered {
        let refused = world.pool(STRANGER, one(&altered)).await;
        assert_eq!(refused, Err(name), "{altered:?}");
    }

    // A root of another hospital's: the same leaves, anchored by somebody without a quota.
    let strangers = world
        .ticket_of(STRANGER, pool, 1, world.now().await + DAY_S)
        .await;
    let refused = world
        .pool(STRANGER, one(&world.claim(&strangers, fresh(1))))
        .await;
    assert_eq!(refused, Err("QUOTA_EXHAUSTED"));
    // One hospital's ticket in a root that another anchored is nobody's.
    let lent = Ticket {
        handle: secrets(2).handle(),
        ..sound.ticket
    };
    let [proof] = world
        .anchor(OTHER_CUSTODIAN, &[lent])
        .await
        .try_into()
        .expect("one");
    let lent = Anchored {
        secrets: secrets(2),
        ticket: lent,
        proof,
    };
    let mut lent = world.claim(&lent, fresh(1));
    for anchorer in [CUSTODIAN, OTHER_CUSTODIAN] {
        lent.anchorer = world.anchorer(anchorer);
        assert_eq!(
            world.pool(STRANGER, one(&lent)).await,
            Err("UNKNOWN_ANCHOR")
        );
    }
    world.anchor(OTHER_CUSTODIAN, &[sound.ticket]).await;
    let anothers = with(&|c| c.anchorer = world.anchorer(OTHER_CUSTODIAN));
    assert_eq!(
        world.pool(STRANGER, one(&anothers)).await,
        Err("UNKNOWN_ANCHOR")
    );

    // A signature for one pool, contract or chain is none for another.
    let other_pool = world.open(2, strk()).await.expect("opened");
    let replayed = Ticket {
        pool_id: other_pool,
        ..sound.ticket
    };
    let [proof] = world
        .anchor(CUSTODIAN, &[replayed])
        .await
        .try_into()
        .expect("one");
    let replayed = Claim {
        pool: other_pool,
        proof,
        ..claim.clone()
    };
    assert_eq!(
        world.pool(STRANGER, one(&replayed)).await,
        Err("BAD_SIGNATURE")
    );
    let mainnet = ChainId::named("SN_MAIN").expect("a short string");
    for at in [
        (world.chain.expected_chain(), fresh(3)),
        (mainnet, world.pools),
    ] {
        let elsewhere = Claim::sign(at, (&sound.ticket, &sound.proof), &sound.secrets, fresh(1));
        let elsewhere = elsewhere.expect("signed");
        assert_eq!(
            world.pool(STRANGER, one(&elsewhere)).await,
            Err("BAD_SIGNATURE")
        );
    }

    // After all that, it is worth what it was.
    world.pool(STRANGER, one(&claim)).await.expect("claimed");
    assert_eq!(world.accrued(fresh(1), strk()).await, REWARD);
    assert_eq!(world.accrued(fresh(2), strk()).await, 0);
}

#[tokio::test]
async fn a_revoked_expired_or_used_ticket_is_worth_nothing() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let end = world.state(pool).await.promise.claim_end.0;

    let revoked = world.ticket(pool, 1).await;
    let opened = Call::Revoke {
        registry: world.registry,
        openings: vec![(
            revoked.secrets.secret.clone(),
            revoked.secrets.claim_key.public_key(),
        )],
    };
    world.send(STRANGER, &opened).await.expect("revoked");
    let refused = world
        .pool(RELAYER, one(&world.claim(&revoked, fresh(1))))
        .await;
    assert_eq!(refused, Err("REVOKED"));

    // One handle has one reward in a pool, whatever tickets there are for it.
    let used = world.ticket(pool, 2).await;
    world
        .pool(RELAYER, one(&world.claim(&used, fresh(1))))
        .await
        .expect("claimed");
    let again = Ticket {
        salt: Salt::from_felt(Felt::from(1_000)),
        ..used.ticket
    };
    let [proof] = world
        .anchor(CUSTODIAN, &[again])
        .await
        .try_into()
        .expect("one");
    let again = Anchored {
        ticket: again,
        proof,
        secrets: used.secrets,
    };
    let refused = world
        .pool(RELAYER, one(&world.claim(&again, fresh(2))))
        .await;
    assert_eq!(refused, Err("ALREADY_CLAIMED"));

    // No quota is exceeded: one was used.
    let third = world.ticket(pool, 3).await;
    world
        .pool(RELAYER, one(&world.claim(&third, fresh(1))))
        .await
        .expect("claimed");
    let fourth = world.ticket(pool, 4).await;
    let refused = world
        .pool(RELAYER, one(&world.claim(&fourth, fresh(1))))
        .await;
    assert_eq!(refused, Err("QUOTA_EXHAUSTED"));

    let soon = world
        .ticket_of(OTHER_CUSTODIAN, pool, 5, end - DAY_S / 2)
        .await;
    let late = world.ticket_of(OTHER_CUSTODIAN, pool, 6, end + DAY_S).await;
    let last = world.ticket_of(OTHER_CUSTODIAN, pool, 7, end).await;
    world.wait_until(end - DAY_S / 2);
    let refused = world
        .pool(RELAYER, one(&world.claim(&soon, fresh(1))))
        .await;
    assert_eq!(refused, Err("TICKET_EXPIRED"));
    world
        .pool(RELAYER, one(&world.claim(&last, fresh(1))))
        .await
        .expect("claimed");
    world.wait_until(end);
    let refused = world
        .pool(RELAYER, one(&world.claim(&late, fresh(1))))
        .await;
    assert_eq!(refused, Err("CLAIM_END_REACHED"));
    world.wait_until(end + DAY_S);
    world
        .pool(STRANGER, PoolCall::Refund(pool))
        .await
        .expect("refunded");
    let refused = world
        .pool(RELAYER, one(&world.claim(&late, fresh(1))))
        .await;
    assert_eq!(refused, Err("POOL_ENDED"));
    world.check_solvent(strk()).await;
}

#[tokio::test]
async fn a_bad_claim_among_many_costs_the_others_nothing() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let (first, second) = (world.ticket(pool, 1).await, world.ticket(pool, 2).await);
    let (first, second) = (
        world.claim(&first, fresh(1)),
        world.claim(&second, fresh(2)),
    );
    let redirected = Claim {
        pay_to: fresh(3),
        ..second.clone()
    };
    let all = vec![first.clone(), redirected, first.clone(), second.clone()];
    let sent = world
        .pool(RELAYER, PoolCall::ClaimMany(all))
        .await
        .expect("sent");
    let events = world.events(sent);
    let names: Vec<&str> = events.iter().map(|event| event.name).collect();
    assert_eq!(
        names,
        ["Claimed", "ClaimSkipped", "ClaimSkipped", "Claimed"]
    );
    for (at, skipped, reason) in [
        (1, &second, "BAD_SIGNATURE"),
        (2, &first, "ALREADY_CLAIMED"),
    ] {
        assert_eq!(events[at].keys, [pool.felt(), skipped.handle().felt()]);
        assert_eq!(
            events[at].data,
            [Felt::from_bytes_be_slice(reason.as_bytes())]
        );
    }
    for (owner, accrued) in [(fresh(1), REWARD), (fresh(2), REWARD), (fresh(3), 0)] {
        assert_eq!(world.accrued(owner, strk()).await, accrued);
    }

    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    for (count, name) in [(0, "CLAIMS_EMPTY"), (CLAIMS_MAX + 1, "CLAIMS_TOO_MANY")] {
        let mut felts = vec![Felt::from(count)];
        felts.extend((0..count).flat_map(|_| felts_of(&first)));
        let refused = hand.invoke(world.pools, "claim_many", felts).await;
        assert_names(name, &refused.expect_err("refused"));
    }
    world.check_solvent(strk()).await;
}

/// The claim key signs no hospital (protocol v1). What another hospital gets that way is the
/// funder's promise to it, and the patient has the reward all the same.
#[tokio::test]
async fn hostile_custodian_takes_anothers_share_and_nothing_of_the_patients() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let sound = world.ticket(pool, 1).await;
    let seen = world.claim(&sound, fresh(1));
    // It anchors a ticket of its own for the handle that it saw, and claims with the signature.
    let own = Ticket {
        anchorer: world.anchorer(OTHER_CUSTODIAN),
        ..sound.ticket
    };
    let [proof] = world
        .anchor(OTHER_CUSTODIAN, &[own])
        .await
        .try_into()
        .expect("one");
    let taken = Claim {
        anchorer: own.anchorer,
        proof,
        ..seen.clone()
    };
    world.pool(STRANGER, one(&taken)).await.expect("claimed");
    assert_eq!(
        world.pool(RELAYER, one(&seen)).await,
        Err("ALREADY_CLAIMED")
    );
    assert_eq!(world.accrued(fresh(1), strk()).await, REWARD);
    let shares = [(OTHER_CUSTODIAN, SHARE), (CUSTODIAN, 0), (STRANGER, 0)];
    for (whose, accrued) in shares {
        assert_eq!(world.accrued(world.address(whose), strk()).await, accrued);
    }
    // It comes out of its own quota.
    let used = world.used(pool).await;
    assert_eq!([used[0].claimed, used[1].claimed], [0, 1]);
}

/// A time of zero would read as never. A chain can have it in its first block alone.
#[tokio::test]
async fn nothing_is_claimed_at_a_time_that_reads_as_never() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let ticket = world.ticket(pool, 1).await;
    let felts = felts_of(&world.claim(&ticket, fresh(1)));
    world.wait_until(0);
    for (name, felts) in [
        ("claim", felts.clone()),
        ("claim_many", [vec![Felt::ONE], felts].concat()),
    ] {
        let refused = world.ask_at_tip(name, &felts);
        assert_names("BLOCK_TIME_ZERO", &refused.expect_err("refused"));
    }
}
