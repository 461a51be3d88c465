//! A hospital's desk over a circle and an exchange: what `medsync` does between a request that was
//! taken in and the release that is handed over, with its own store, over a node's API.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::access::{Desk, LOG_ENTRIES_MAX, Rests, Turns};
use medsync::at_rest::HomeSecret;
use medsync::pipeline::ingest::{self, Round};
use medsync::seams::{SystemClock, random_bytes, system_random};
use medsync::source::{CalimeroNode, NewRecord, PageLimit};
use medsync::store::Store;
use medsync::store::circles::CircleRow;
use medsync::store::records::RecordRow;
use medsync_protocol::audit::Pseudonym;
use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Attributes, Concept};
use medsync_protocol::ids::{ContextKind, MemberId, RecordId, Sha256Digest, UnixSeconds};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealSecret, SealedFor};
use medsync_protocol::secrets::DeviceNumber;
use medsync_tests::circle::{HOSPITAL, RESEARCHER, public_key, secret_key};
use serde_json::json;

use super::node::{self, Asked, Question};
use super::{Cost, EXCHANGE, Pair};
use crate::bridge::chain::MemoryChain;
use crate::bridge::pipeline;
use crate::timing::process_time;
use medsync_tests::circle::CONTEXT;

/// How many records the circle has.
const RECORDS: u8 = 16;
/// How long the desk rests after a round, and after how long something is wrong.
const ROUND_REST: Duration = Duration::from_millis(20);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60 * 60);
/// Under which name the exchange knows the patient.
pub const PATIENT_IN_EXCHANGE: Pseudonym = Pseudonym([5; 32]);

/// What the desk is told to do.
enum Order {
    /// Everything that circle and exchange have is taken in.
    TakeIn,
    /// Requests are answered until so many records were released.
    Release { records: usize },
}

/// What the desk did.
struct Done(anyhow::Result<Duration>);

/// A desk on its own thread.
pub struct Office {
    orders: mpsc::Sender<Order>,
    done: mpsc::Receiver<Done>,
    asked: mpsc::Receiver<Asked>,
    released: usize,
    _thread: JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Office {
    /// Opens a desk with an empty store and puts records into the circle.
    pub fn open(pair: &mut Pair) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let (orders, to_do) = mpsc::channel();
        let (tell, done) = mpsc::channel();
        let (ask, asked) = mpsc::channel();
        let members = [pair.circle.member(true), pair.circle.member(false)];
        let path = home.path().to_owned();
        let thread = std::thread::spawn(move || {
            let worked = work(&path, ask, members, &to_do, &tell);
            if let Err(error) = worked {
                let _ = tell.send(Done(Err(error)));
            }
        });
        let mut office = Self {
            orders,
            done,
            asked,
            released: 0,
            _thread: thread,
            _home: home,
        };
        // Once the records are there, everything is taken in.
        office.carry_out(pair, Order::TakeIn)?;
        Ok(office)
    }

    /// Takes in what is new.
    pub fn take_in(&mut self, pair: &mut Pair) -> anyhow::Result<Cost> {
        self.carry_out(pair, Order::TakeIn)
    }

    /// Answers the one request that was taken in.
    pub fn release(&mut self, pair: &mut Pair) -> anyhow::Result<Cost> {
        self.released += usize::from(RECORDS);
        let records = self.released;
        self.carry_out(pair, Order::Release { records })
    }

    /// Answers whatever the desk asks of the contexts until it is done.
    fn carry_out(&mut self, pair: &mut Pair, order: Order) -> anyhow::Result<Cost> {
        const LOOK_EVERY: Duration = Duration::from_millis(1);
        let before = pair.counts();
        self.orders.send(order).context("the desk is gone")?;
        loop {
            match self.asked.recv_timeout(LOOK_EVERY) {
                Ok(asked) => answer(pair, asked)?,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {}
            }
            match self.done.try_recv() {
                Ok(Done(time)) => return Ok(Cost::between(before, pair.counts(), time?)),
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => anyhow::bail!("the desk is gone"),
            }
        }
    }
}

fn answer(pair: &mut Pair, asked: Asked) -> anyhow::Result<()> {
    let context = match asked.context {
        EXCHANGE => &mut pair.exchange,
        _ => &mut pair.circle,
    };
    let answer = match asked.question {
        Question::State => node::described(asked.context, context.state()),
        Question::Call { method, arguments } => {
            let (output, _) = context.call(true, &method, &arguments)?;
            json!({ "result": { "output": output } })
        }
    };
    // Whoever does not wait any more needs no answer.
    let _ = asked.answer.send(answer);
    Ok(())
}

/// The desk's thread.
fn work(
    home: &std::path::Path,
    ask: mpsc::Sender<Asked>,
    members: [MemberId; 2],
    to_do: &mpsc::Receiver<Order>,
    tell: &mpsc::Sender<Done>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let desk = runtime.block_on(open(home, ask, members))?;
    let mut is_first = true;
    while let Ok(order) = to_do.recv() {
        if std::mem::take(&mut is_first) {
            runtime.block_on(put_records(&desk))?;
        }
        let began = process_time();
        let done = runtime.block_on(carry_out(&desk, order));
        let took = process_time().saturating_sub(began);
        if tell.send(Done(done.map(|()| took))).is_err() {
            break;
        }
    }
    Ok(())
}

async fn open(
    home: &std::path::Path,
    ask: mpsc::Sender<Asked>,
    [custodian, party]: [MemberId; 2],
) -> anyhow::Result<Desk> {
    let port = node::serve(ask, [custodian, party].into()).await?;
    let credential = home.join("credential.json");
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&credential)?;
    file.write_all(
        json!({ "username": "u", "password": "p" })
            .to_string()
            .as_bytes(),
    )?;
    let node = CalimeroNode::new(&format!("http://127.0.0.1:{port}").parse()?, &credential)?;
    let store = Store::open(home, &HomeSecret::from_bytes(&[7; 32])).await?;
    let [application, bytecode, group] = node::pins();
    for (context, kind) in [
        (CONTEXT, ContextKind::Circle),
        (EXCHANGE, ContextKind::Exchange),
    ] {
        let row = CircleRow {
            kind,
            context,
            group: group.parse()?,
            label: "bench".into(),
            member: custodian,
            custodian_member: custodian,
            application: application.parse()?,
            bytecode: bytecode.parse()?,
            invitation: None,
            entered_at: UnixSeconds(0),
            patient_member: Some(party),
            recipient_key: (kind == ContextKind::Exchange).then(|| public_key(RESEARCHER)),
            device: DeviceNumber::FIRST,
            state_hash: None,
            consents_digest: None,
            alarm: None,
            suspected_at: None,
        };
        store.enter_circle(&row).await?;
    }
    store
        .pseudonym(EXCHANGE, CONTEXT, PATIENT_IN_EXCHANGE)
        .await?;
    let (circles, chain) = (Arc::new(node), MemoryChain::default());
    Ok(Desk {
        pipeline: pipeline(&store, circles, &chain, Arc::new(SystemClock)),
        author: secret_key(HOSPITAL),
        turns: Turns::default(),
        rests: Rests::default(),
        log_entries_max: LOG_ENTRIES_MAX,
    })
}

async fn carry_out(desk: &Desk, order: Order) -> anyhow::Result<()> {
    let exchange = desk.pipeline.circles.open(EXCHANGE);
    let began = Instant::now();
    while began.elapsed() < GIVEN_UP_AFTER {
        match order {
            Order::TakeIn => {
                let round = ingest::ingest_all(&desk.pipeline).await?;
                ensure!(round.failed == 0, "a context could not be read");
                if round == Round::default() {
                    return Ok(());
                }
            }
            Order::Release { records } => {
                desk.round().await?;
                let state = exchange.circle().await?;
                if state.counts.releases >= records as u64 {
                    return Ok(());
                }
            }
        }
        tokio::time::sleep(ROUND_REST).await;
    }
    anyhow::bail!("it does not come to an end")
}

/// Sealed Observations whose keys the store has.
async fn put_records(desk: &Desk) -> anyhow::Result<()> {
    let (store, mut random) = (&desk.pipeline.store, system_random());
    let circle = desk.pipeline.circles.open(CONTEXT);
    let known = circle.records(None, PageLimit::MAX, None).await?;
    ensure!(known.records.is_empty(), "the circle has records");
    for number in 0..RECORDS {
        let record = RecordId([number; 32]);
        let secret = SealSecret::from_bytes(random_bytes(&mut random));
        let place = SealedFor {
            context: CONTEXT,
            record,
            version: RecordVersion(1),
            reader: secret.public_key(),
            log: None,
        };
        let key = RecordKey::from_bytes(random_bytes(&mut random));
        let payload = key.encrypt(&place, &[b' '; 2_048])?;
        let new = NewRecord {
            record,
            version: RecordVersion(1),
            resource_type: "Observation".into(),
            attributes: Attributes {
                classes: vec![Concept(vec![Code::new("types", "Observation")])],
                ..Attributes::default()
            },
            key_for_patient: vec![0; 80],
            key_for_custodian: key.seal(&place, &mut random)?,
            payload,
        };
        let local_key = Sha256Digest(record.0);
        let row = RecordRow {
            record,
            version: RecordVersion(1),
            payload: Sha256Digest::of(&new.payload),
            secret,
            is_written: true,
        };
        store.plan_record(CONTEXT, local_key, &row).await?;
        circle.put_record(&new).await?;
        store
            .record_written(CONTEXT, local_key, UnixSeconds(1))
            .await?;
    }
    Ok(())
}
