//! One hospital's node with more and more circles: what each takes of it while nothing happens, how
//! long one more takes to open, and all to look at.
//!
//! The circles are real ones on a real node, opened as `medsync hospital open` does, each in a
//! group of its own. Nobody joined them: what a circle costs that is only kept is what many cost.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use medsync::source::{CalimeroNode, Circle, CustodianPins, NamespaceId};
use medsync_protocol::ids::{ContextId, ContextKind, SealKey};
use medsync_tests::circle::{HOSPITAL, INVITATION, anchorer, public_key, registry};
use medsync_tests::node::Node;

use crate::report::{Figure, Report, Target};

const APP: &str = concat!(env!("MEDSYNC_ROOT"), "/target/app/medsync_app.wasm");
/// How many circles there are when it is looked; the last takes hours, and is asked for.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// The size at which an idle node has to stay below a share of one core.
const TARGET_SIZE: usize = 1_000;
const TARGET_IDLE_PERCENT: f64 = 5.0;
/// How long an idle node is watched, and how long it rests before.
const IDLE: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(20);
/// How many circles are opened for the time of one.
const OPENED: usize = 5;
/// The seconds between two comparisons of a context with its peers.
const SYNC_INTERVAL_S: &str = "60";

/// Measures a node at all sizes.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let flags = ["--sync-interval-s", SYNC_INTERVAL_S];
    let node = Node::start_with(&folder.path().join("node"), &flags)?;
    let client = CalimeroNode::new(&node.api().parse()?, node.credential())?;
    // A build meanwhile changes nothing here.
    let app = folder.path().join("app.wasm");
    std::fs::copy(APP, &app)?;
    runtime.block_on(async {
        let namespace = client.create_namespace(&app).await?;
        let mut circles = Vec::new();
        let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
        for size in SIZES
            .into_iter()
            .filter(|size| is_full || *size <= TARGET_SIZE)
        {
            report.measuring(&format!("opening circles up to {size}"));
            while circles.len() + OPENED < size {
                circles.push(open(&client, namespace, &app).await?);
            }
            let mut times = Vec::new();
            while circles.len() < size {
                let start = Instant::now();
                circles.push(open(&client, namespace, &app).await?);
                times.push(start.elapsed());
            }
            at(report, &node, &client, &circles, &times).await?;
        }
        Ok(())
    })
}

async fn open(
    client: &CalimeroNode,
    namespace: NamespaceId,
    app: &Path,
) -> anyhow::Result<ContextId> {
    let pins = CustodianPins {
        kind: ContextKind::Circle,
        invitation_key: public_key(INVITATION),
        anchorer: anchorer(),
        author_key: public_key(HOSPITAL),
        seal_key: SealKey([9; 32]),
        registry: registry(),
    };
    let opened = client.create_circle(namespace, app, &pins).await?;
    Ok(opened.context)
}

async fn at(
    report: &mut Report,
    node: &Node,
    client: &CalimeroNode,
    circles: &[ContextId],
    times: &[Duration],
) -> anyhow::Result<()> {
    let size = circles.len();
    let figure = |name: &str, unit: &'static str, value: f64, how: &str| {
        Figure::new(format!("circles_{name}_{size}"), unit, value, how)
    };
    let shortest = times.iter().min().context("some were opened")?;
    report.add(figure(
        "open_one_more",
        "ms",
        shortest.as_secs_f64() * 1e3,
        "the shortest of five, on the whole machine's clock",
    ));
    let start = Instant::now();
    for context in circles {
        client.circle(*context).state_hash().await?;
    }
    let each = start.elapsed().as_secs_f64() * 1e3 / size as f64;
    report.add(figure(
        "look_at_each",
        "ms",
        each,
        "the question whether a circle changed, one after the other, for each",
    ));
    report.measuring(&format!("an idle node with {size} circles"));
    tokio::time::sleep(REST).await;
    let before = processor_time(node.process_id())?;
    tokio::time::sleep(IDLE).await;
    let used = processor_time(node.process_id())?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / IDLE.as_secs_f64();
    let how = "processor time of the node in a minute without a call, one sync a minute and circle";
    let idle = figure("idle_core", "%", percent, how);
    report.add(match size {
        TARGET_SIZE => idle.with_target(Target::ValueMax(TARGET_IDLE_PERCENT)),
        _ => idle,
    });
    let memory = resident_bytes(node.process_id())? as f64 / 1e6;
    report.add(figure(
        "memory",
        "MB",
        memory,
        "resident, after that minute",
    ));
    Ok(())
}

/// The processor time that a process took so far, in user and system mode.
fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is a name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages = statm.split_whitespace().nth(1).context("statm has it")?;
    Ok(pages.parse::<u64>()? * rustix::param::page_size() as u64)
}
