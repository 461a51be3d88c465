//! What Prometheus reads.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::caller::ForOperators;
use super::caller::who::OPERATOR;
use super::{Api, Problem, method_label};
use crate::daemon::LANES;
use crate::status::status;
use crate::store::facts::{BEHIND, CLOCK, ENDPOINTS, WELL};
use crate::store::fees::{Paid, StageTimes};

/// Of how many consents, revocations and claims it is said how long they took.
const LATEST: u32 = 200;
/// OpenMetrics 1.0, which Prometheus reads.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    path: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
    quantile: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lane {
    lane: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Endpoint {
    number: u32,
}

/// The answers so far, by path, method and status.
#[derive(Default)]
pub(super) struct Counted(Family<Answer, Counter>);

impl Counted {
    pub(super) fn count(&self, method: &Method, path: &str, status: StatusCode) {
        let answer = Answer {
            method: method_label(method),
            path: path.to_owned(),
            status: status.as_u16(),
        };
        self.0.get_or_create(&answer).inc();
    }
}

/// What Prometheus reads: queues by what is in them, the daemon's last round, lanes that are
/// hindered, which endpoints are well, circles with alarms, the clock, how long stages took, fees,
/// and answers of this API. The token in `metrics.token` reads this alone.
#[utoipa::path(get, path = "/metrics", tag = OPERATOR, security(("operator" = [])), responses(
    (
        status = 200,
        description = "OpenMetrics.",
        body = String,
        content_type = "application/openmetrics-text"
    ),
    Problem,
))]
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
    _: ForOperators,
) -> Result<Response, Problem> {
    let text = text(&api).await?;
    let media_type = HeaderValue::from_static(MEDIA_TYPE);
    Ok(([(CONTENT_TYPE, media_type)], text).into_response())
}

async fn text(api: &Api) -> Result<String, crate::store::StoreError> {
    let status = status(&api.pipeline.store).await?;
    let mut registry = Registry::with_prefix("medsync");
    let queues = Family::<What, Gauge>::default();
    for (what, count) in status.counts.into_iter().chain(status.access) {
        queues.get_or_create(&What { what }).set(signed(count));
    }
    registry.register("queue", "How many are at this stage", queues);
    let oldest = Family::<What, Gauge>::default();
    for (what, since) in status.oldest {
        oldest.get_or_create(&What { what }).set(signed(since));
    }
    registry.register(
        "oldest_timestamp_seconds",
        "Since when the oldest of what is under way waits",
        oldest,
    );
    let hindered = Family::<Lane, Gauge>::default();
    for lane in LANES.into_iter().chain([ENDPOINTS, CLOCK]) {
        let is_hindered = status.hindrances.contains_key(lane);
        let lane = lane.to_owned();
        hindered
            .get_or_create(&Lane { lane })
            .set(is_hindered.into());
    }
    registry.register(
        "hindered",
        "Whether something hinders a lane: 1 if so",
        hindered,
    );
    let endpoints = Family::<Endpoint, Gauge>::default();
    let well = api.pipeline.store.fact(WELL).await?.unwrap_or_default();
    for (number, is_well) in (1..).zip(well.chars()) {
        endpoints
            .get_or_create(&Endpoint { number })
            .set((is_well == '1').into());
    }
    registry.register(
        "endpoint_well",
        "Whether the Starknet endpoint of this number in the configuration is well: 1 if so",
        endpoints,
    );
    let (circles, alarms) = api.pipeline.store.circle_counts().await?;
    let behind_s = api.pipeline.store.fact(BEHIND).await?;
    let behind_s = behind_s
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let gauges = [
        (
            "last_round_timestamp_seconds",
            "When the daemon last completed a round; 0 if never",
            status.last_round_at.unwrap_or_default(),
        ),
        ("circles", "Circles and exchanges", circles),
        (
            "circles_alarmed",
            "Those that are stopped by an alarm",
            alarms,
        ),
        (
            "clock_behind_seconds",
            "How far the clock is behind the chain's",
            behind_s,
        ),
    ];
    for (name, help, value) in gauges {
        let gauge: Gauge = Gauge::default();
        gauge.set(signed(value));
        registry.register(name, help, gauge);
    }
    add_fees(&mut registry, api.pipeline.store.fees().await?);
    add_stages(&mut registry, api.pipeline.store.stage_times(LATEST).await?);
    registry.register("http_answers", "Answers of the API", api.counted.0.clone());
    let mut text = String::new();
    // Only a writer that refuses can fail, and a text does not.
    let _ = encode(&mut text, &registry);
    Ok(text)
}

/// What was paid so far, as the chain charged it.
fn add_fees(registry: &mut Registry, fees: Vec<(String, Paid)>) {
    const GFRI_IN_STRK: f64 = 1e9;
    let (sent, strk) = (
        Family::<What, Counter>::default(),
        Family::<What, Counter<f64, AtomicU64>>::default(),
    );
    for (what, paid) in fees {
        let what = What { what };
        sent.get_or_create(&what).inc_by(paid.transactions);
        // What is lost by a float is less than anybody pays.
        #[expect(clippy::cast_precision_loss)]
        let fees = paid.gfri as f64 / GFRI_IN_STRK;
        strk.get_or_create(&what).inc_by(fees);
    }
    registry.register("transactions", "Transactions in blocks", sent);
    registry.register("fees_strk", "What they cost, in STRK", strk);
}

/// How long the latest took from stage to stage.
fn add_stages(registry: &mut Registry, stages: Vec<StageTimes>) {
    let seconds = Family::<Stage, Gauge>::default();
    for (stage, took) in stages {
        for (quantile, percent) in [("0.5", 50), ("0.9", 90), ("0.99", 99)] {
            let place = (took.len() * percent).div_ceil(100).saturating_sub(1);
            if let Some(at) = took.get(place) {
                let stage = Stage { stage, quantile };
                seconds.get_or_create(&stage).set(signed(*at));
            }
        }
    }
    registry.register(
        "stage_seconds",
        "How long the latest consents, revocations and claims took to a stage from the one before",
        seconds,
    );
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
