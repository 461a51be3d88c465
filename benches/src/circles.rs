//! One hospital's node with more and more circles: what each takes of it while nothing happens, at
//! several sync intervals, how long one more takes to open, and all to look at and to read.
//!
//! The circles are real ones on a real node, opened as `medsync hospital open` does, each in a
//! group of its own. Nobody joined them: what a circle costs that is only kept is what many cost.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use medsync::source::{CalimeroNode, Circle, CustodianPins, NamespaceId, all_changes};
use medsync_protocol::ids::{ContextId, ContextKind, SealKey};
use medsync_tests::circle::{HOSPITAL, INVITATION, anchorer, public_key, registry};
use medsync_tests::node::Node;

use crate::report::{Figure, Report, Target};
use crate::timing::{processor_time, resident_bytes};

const APP: &str = concat!(env!("MEDSYNC_ROOT"), "/target/app/medsync_app.wasm");
/// How many circles there are when it is looked; the last takes hours, and is asked for.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// The seconds between two comparisons of a context with its peers under which a node is watched;
/// the last takes ten minutes at each size, and is asked for with the last size.
const INTERVALS_S: [u64; 4] = [10, 30, 60, 300];
/// The size at which an idle node has to stay below a share of one core, from this interval on.
const TARGET_SIZE: usize = 1_000;
const TARGET_INTERVAL_S: u64 = 60;
const TARGET_IDLE_PERCENT: f64 = 5.0;
/// How long an idle node is watched at least, and how long it rests after its start.
const WATCHED_MIN: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(20);
/// A node looks once an interval which of its contexts are due, and one that was compared a moment
/// after the last look is not due at the next: in two intervals it meets all that it will.
const INTERVALS_WATCHED: u64 = 2;
/// How many circles a daemon asks in a round in which nothing changed.
const ASKED_IN_TURN: usize = 8;
/// How many circles are opened for the time of one, or one less.
const OPENED: usize = 6;
/// What a node logs, and the words with which it begins a comparison.
const LOG: &str = "warn,calimero_node::sync::driver=info";
const COMPARISON: &str = "Scheduled sync";

/// Measures a node at all sizes.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let mut hospital = Hospital::start(&folder.path().join("node"))?;
    // A build meanwhile changes nothing here.
    let app = folder.path().join("app.wasm");
    std::fs::copy(APP, &app)?;
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    runtime.block_on(async {
        let namespace = hospital.client.create_namespace(&app).await?;
        let mut circles = Vec::new();
        for size in SIZES
            .into_iter()
            .filter(|size| is_full || *size <= TARGET_SIZE)
        {
            report.measuring(&format!("opening circles up to {size}"));
            while circles.len() + OPENED < size {
                // Two at a time, on two cores.
                let one = || open(&hospital.client, namespace, &app);
                let (first, second) = tokio::try_join!(one(), one())?;
                circles.extend([first, second]);
            }
            let mut times = Vec::new();
            while circles.len() < size {
                let start = Instant::now();
                circles.push(open(&hospital.client, namespace, &app).await?);
                times.push(start.elapsed());
            }
            let shortest = times.iter().min().context("some were opened")?;
            report.add(figure(
                "open_one_more",
                size,
                "ms",
                shortest.as_secs_f64() * 1e3,
                "the shortest of some, on the whole machine's clock",
            ));
            across(report, &hospital, &circles).await?;
            for interval_s in INTERVALS_S
                .into_iter()
                .filter(|interval_s| is_full || *interval_s <= TARGET_INTERVAL_S)
            {
                idle(report, &mut hospital, size, interval_s).await?;
            }
        }
        Ok(())
    })
}

/// The hospital's node and the way to it.
struct Hospital {
    node: Node,
    client: CalimeroNode,
    log: PathBuf,
}

impl Hospital {
    /// Starts a node with this home under the target's interval.
    fn start(home: &Path) -> anyhow::Result<Self> {
        let interval_s = TARGET_INTERVAL_S.to_string();
        let flags = ["--sync-interval-s", interval_s.as_str(), "--log", LOG];
        let node = Node::start_with(home, &flags)?;
        Ok(Self {
            client: client_of(&node)?,
            node,
            log: home.with_extension("log"),
        })
    }

    /// Starts it again under another interval.
    fn restart(&mut self, interval_s: u64) -> anyhow::Result<()> {
        self.node.kill();
        let interval_s = interval_s.to_string();
        self.node
            .restart_with(&["--sync-interval-s", interval_s.as_str()])?;
        self.client = client_of(&self.node)?;
        Ok(())
    }

    /// How many comparisons of a circle with its peers it began since its log was so long.
    fn comparisons_since(&self, log_bytes: u64) -> anyhow::Result<usize> {
        let mut log = File::open(&self.log)?;
        log.seek(SeekFrom::Start(log_bytes))?;
        let mut lines = Vec::new();
        log.read_to_end(&mut lines)?;
        let lines = String::from_utf8_lossy(&lines);
        Ok(lines.matches(COMPARISON).count())
    }
}

fn client_of(node: &Node) -> anyhow::Result<CalimeroNode> {
    Ok(CalimeroNode::new(&node.api().parse()?, node.credential())?)
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

/// A figure at one size.
fn figure(name: &str, size: usize, unit: &'static str, value: f64, how: &str) -> Figure {
    Figure::new(format!("circles_{name}_{size}"), unit, value, how)
}

/// What the custodian's daemon asks of all circles, one after the other.
async fn across(
    report: &mut Report,
    hospital: &Hospital,
    circles: &[ContextId],
) -> anyhow::Result<()> {
    let (size, client) = (circles.len(), &hospital.client);
    let each_ms = |all: Duration| all.as_secs_f64() * 1e3 / size as f64;
    report.measuring(&format!("reading across {size} circles"));

    let start = Instant::now();
    for context in circles {
        client.circle(*context).state_hash().await?;
    }
    report.add(figure(
        "look_at_each",
        size,
        "ms",
        each_ms(start.elapsed()),
        "the question whether a circle changed, one after the other, for each",
    ));

    let start = Instant::now();
    client.states().await?;
    for context in circles.iter().take(ASKED_IN_TURN) {
        let circle = client.circle(*context);
        circle.pin().await?;
        circle.state_hash().await?;
    }
    let how = "the list of all, and code, members and state of a few in turn: a round without news";
    let round_s = start.elapsed().as_secs_f64();
    report.add(figure("round", size, "s", round_s, how));

    let (start, mut entries) = (Instant::now(), 0);
    for context in circles {
        entries += all_changes(&client.circle(*context)).await?.len();
    }
    let read = start.elapsed();
    let how = "the whole walk of each, which has what the custodian pinned and nothing else";
    report.add(figure("read_each", size, "ms", each_ms(read), how));
    report.add(figure("read_across", size, "s", read.as_secs_f64(), how));
    report.add(figure("read_entries", size, "entries", entries as f64, how));

    let memory = resident_bytes(hospital.node.process_id())? as f64 / 1e6;
    let how = "resident, after all were read";
    report.add(figure("memory", size, "MB", memory, how));
    Ok(())
}

/// What a node takes that was just started under this interval and is asked nothing.
async fn idle(
    report: &mut Report,
    hospital: &mut Hospital,
    size: usize,
    interval_s: u64,
) -> anyhow::Result<()> {
    report.measuring(&format!("an idle node, {size} circles, {interval_s} s"));
    hospital.restart(interval_s)?;
    let process = hospital.node.process_id();
    tokio::time::sleep(REST).await;
    let log_bytes = std::fs::metadata(&hospital.log)?.len();
    let (start, before) = (Instant::now(), processor_time(process)?);
    let watched = Duration::from_secs(INTERVALS_WATCHED * interval_s);
    tokio::time::sleep(watched.max(WATCHED_MIN)).await;
    let used = processor_time(process)?.saturating_sub(before);
    let watched_s = start.elapsed().as_secs_f64();

    let name = |what: &str| format!("{what}_every_{interval_s}_s");
    let percent = 100.0 * used.as_secs_f64() / watched_s;
    let how = "processor time of the node without a call, in two intervals and a minute at least";
    let core = figure(&name("idle_core"), size, "%", percent, how);
    report.add(match (size, interval_s) {
        (TARGET_SIZE, TARGET_INTERVAL_S..) => {
            core.with_target(Target::ValueMax(TARGET_IDLE_PERCENT))
        }
        _ => core,
    });
    let compared = hospital.comparisons_since(log_bytes)? as f64 * 60.0 / watched_s;
    let how = "comparisons of a circle with its peers that the node began meanwhile";
    let compared = figure(&name("compared"), size, "a minute", compared, how);
    report.add(compared);
    let memory = resident_bytes(process)? as f64 / 1e6;
    let how = "resident, after that time";
    let memory = figure(&name("idle_memory"), size, "MB", memory, how);
    report.add(memory);
    Ok(())
}
