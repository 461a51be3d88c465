//! Many circles in which nothing happens.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use medsync::guard::Circles;
use medsync::pipeline::ingest;
use medsync::source::{Circle, SourceError, SourceResult, StateHash};
use medsync_protocol::ids::{ContextId, MemberId};

use super::circle::{CONTEXT, FakeCircle, FakeCircles};
use super::faults::Faults;
use super::{World, consent, patient, row, world};

const CIRCLES: u8 = 20;
const ASKED_IN_TURN: u8 = 8;

/// A node that gives no list.
struct Unlisted(FakeCircles);

#[async_trait]
impl Circles for Unlisted {
    fn open(&self, context: ContextId) -> Box<dyn Circle> {
        self.0.open(context)
    }

    async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>> {
        Err(SourceError::UnknownContext(CONTEXT))
    }
}

/// A party with many circles, all read.
async fn many() -> (World, Vec<FakeCircle>, Faults) {
    let mut world = world(Vec::new()).await;
    let faults = Faults::default();
    let mut circles = vec![world.circle.with_faults(faults.clone())];
    for number in 1..CIRCLES {
        let mut row = row();
        row.context = ContextId([100 + number; 32]);
        let entered = world.pipeline.store.enter_circle(&row).await;
        entered.expect("entered");
        let key = patient().public_key();
        circles.push(FakeCircle::new(row.context, faults.clone(), key));
    }
    world.pipeline.circles = Arc::new(FakeCircles(circles.clone()));
    round(&world).await;
    (world, circles, faults)
}

async fn round(world: &World) {
    let read = ingest::ingest_all(&world.pipeline).await.expect("read");
    assert_eq!(read, ingest::Round::default());
}

#[tokio::test]
async fn circles_without_news_are_asked_in_turn() {
    let (world, _, faults) = many().await;
    for number in 0..5 {
        let (asked, walked) = (faults.calls("pin"), faults.calls("changes"));
        round(&world).await;
        assert_eq!(
            faults.calls("pin") - asked,
            u32::from(ASKED_IN_TURN),
            "round {number}"
        );
        assert_eq!(faults.calls("changes"), walked, "round {number}");
    }
}

#[tokio::test]
async fn news_of_any_circle_are_read_in_the_next_round() {
    let (world, circles, _) = many().await;
    for (number, circle) in (0..).zip(&circles) {
        circle.add_consent(consent(number).0);
        round(&world).await;
        let context = circle.context();
        let kept = world.pipeline.store.circle(context).await.expect("a row");
        assert_eq!(kept.state_hash, Some(circle.current()), "circle {number}");
    }
}

/// What the list does not say: who was added, and which code was pushed.
#[tokio::test]
async fn hostile_reader_of_a_quiet_circle_is_seen_when_its_turn_comes() {
    let (world, circles, _) = many().await;
    for circle in &circles {
        circle.add_to_group(MemberId([78; 32]));
    }
    let mut stopped = BTreeSet::new();
    for _ in 0..CIRCLES.div_ceil(ASKED_IN_TURN) {
        let _ = ingest::ingest_all(&world.pipeline).await;
        for circle in &circles {
            let row = world.pipeline.store.circle(circle.context()).await;
            let row = row.expect("a row");
            if row.alarm.is_some() || row.suspected_at.is_some() {
                stopped.insert(row.context);
            }
        }
    }
    assert_eq!(stopped.len(), usize::from(CIRCLES));
}

/// A list that does not come, or leaves circles out, leaves none of them unread.
#[tokio::test]
async fn hostile_list_without_circles_has_each_asked() {
    let (mut world, circles, faults) = many().await;
    world.pipeline.circles = Arc::new(Unlisted(FakeCircles(circles)));
    let asked = faults.calls("pin");
    round(&world).await;
    assert_eq!(faults.calls("pin") - asked, u32::from(CIRCLES));
}
