//! Calls of the built app as its context grows: on Calimero's own runtime and the node's own
//! database, with what a call reads and writes.
//!
//! At each size the circle holds as many entries as the size says: half of them in the patient's
//! log, a quarter consents, each to another recipient, a quarter revocations; the exchange holds as
//! many log entries. One more consent, and a few records, are for the recipient that asks.

mod database;
mod desk;
mod node;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use calimero_primitives::identity::PrivateKey;
use medsync_protocol::audit::{Body, Requested};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Grant, SignedGrant};
use medsync_protocol::ids::{ContextId, MemberId, SealKey, Sha256Digest, UnixSeconds};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::{PublicKey, SecretKey};
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, Logged, PATIENT, PATIENT_AUTHOR, RESEARCHER, anchorer,
    circle_input, enrol_arguments, enrolment, public_key, registry, secret_key, terms,
};
use medsync_tests::replica::{app, seal};
use rocksdb::checkpoint::Checkpoint;
use serde_json::{Value, json};

use self::database::{Store, Tally};
use self::desk::{Office, PATIENT_IN_EXCHANGE};
use crate::report::{Figure, Report, Target};
use crate::timing::thread_time;

/// How many entries there are when it is looked; the last takes an hour to fill, and is asked for.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 50_000];
/// The size up to which a call has to cost about what it costs at the first.
const TARGET_SIZE: usize = 10_000;
const TARGET_RATIO: f64 = 1.5;
/// How often each call is made at each size; the shortest counts.
const TURNS: usize = 7;
/// The exchange's context; the circle's is the tests'.
const EXCHANGE: ContextId = ContextId([8; 32]);
/// How many entries the party's log is filled with; then the custodian's goes on.
const LOG_LEN_MAX: usize = 30_000;
/// How many entries of a log are read at once.
const PAGE_LEN: u64 = 50;
/// Whose log is whose.
const CUSTODIANS: usize = 0;
const PARTYS: usize = 1;

/// A call that is measured.
type Call = fn(&mut Pair) -> anyhow::Result<Cost>;
const CALLS: [(&str, Call); 7] = [
    ("grant", |pair| pair.circle.grant()),
    ("revoke", |pair| pair.circle.revoke()),
    ("append_log", |pair| pair.circle.append()),
    ("first_log_page", |pair| pair.circle.first_page()),
    ("last_log_page", |pair| pair.circle.last_page()),
    (TAKE_IN, Pair::take_in_request),
    (RELEASE, Pair::release),
];
/// What the desk does. Of what changed it walks everything, which has no target.
const TAKE_IN: &str = "take_in_a_request";
const RELEASE: &str = "request_to_release";

/// Measures the app at all sizes, and its wasm. All sizes are filled first and then called in
/// turns, so that what else the machine does meanwhile is the same to all.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    let mut pairs: Vec<Pair> = Vec::new();
    for size in SIZES
        .into_iter()
        .filter(|size| is_full || *size <= TARGET_SIZE)
    {
        report.measuring(&format!(
            "filling a circle and an exchange with {size} entries"
        ));
        let place = folder.path().join(size.to_string());
        std::fs::create_dir(&place)?;
        let pair = match pairs.last() {
            Some(smaller) => smaller.copy(&place)?,
            None => Pair::open(&place)?,
        };
        pairs.push(pair.fill(size)?);
    }
    for pair in &mut pairs {
        report.measuring(&format!("a desk takes {} entries in", pair.size));
        pair.office = Some(Office::open(pair)?);
    }
    report.measuring("calls at each size in turns");
    let mut shortest: Vec<Vec<Cost>> = Vec::new();
    for turn in 0..TURNS {
        for (at, pair) in pairs.iter_mut().enumerate() {
            // What the turn before wrote is no part of what is measured.
            pair.with_office(Office::take_in)?;
            let mut costs = Vec::new();
            for (_, call) in CALLS {
                costs.push(call(pair)?);
            }
            if turn == 0 {
                shortest.push(costs);
                continue;
            }
            for (known, cost) in shortest[at].iter_mut().zip(costs) {
                if cost.time < known.time {
                    *known = cost;
                }
            }
        }
    }
    for (at, pair) in pairs.iter().enumerate() {
        let size = pair.size;
        for (call, (name, _)) in CALLS.iter().enumerate() {
            let (cost, base) = (shortest[at][call], shortest[0][call]);
            let target =
                (size <= TARGET_SIZE && *name != TAKE_IN).then_some(Target::RatioMax(TARGET_RATIO));
            let how = match *name {
                TAKE_IN | RELEASE => {
                    "processor time of all threads: desk, its store, HTTP, runtime"
                }
                _ => "processor time in the runtime and the database",
            };
            let name = format!("app_{name}_{size}");
            add(report, &name, (cost, base), how, target);
        }
        let how = "keys and values of one circle, as the runtime writes them";
        let bytes = pair.circle.store.borrow().tally.live_bytes as f64 / size as f64;
        report.add(Figure::new(
            format!("app_store_bytes_an_entry_{size}"),
            "B",
            bytes,
            how,
        ));
    }
    wasm(report)
}

/// A circle and an exchange of one size.
struct Pair {
    size: usize,
    circle: Filled,
    exchange: Filled,
    /// The hospital's desk, once both are filled.
    office: Option<Office>,
}

impl Pair {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            size: 0,
            circle: Filled::open(&folder.join("circle"), CONTEXT, "circle", PATIENT)?,
            exchange: Filled::open(&folder.join("exchange"), EXCHANGE, "exchange", RESEARCHER)?,
            office: None,
        })
    }

    fn copy(&self, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            size: self.size,
            circle: self.circle.copy(&folder.join("circle"))?,
            exchange: self.exchange.copy(&folder.join("exchange"))?,
            office: None,
        })
    }

    /// Fills both at once, each on a thread of its own.
    fn fill(self, size: usize) -> anyhow::Result<Self> {
        let (circle, exchange) = (self.circle.close(), self.exchange.close());
        let (circle, exchange) = std::thread::scope(|threads| {
            let circle = threads.spawn(|| circle.with(|circle| circle.fill_circle(size)));
            let exchange = exchange.with(|exchange| exchange.fill_log(size));
            (circle.join().expect("no panic"), exchange)
        });
        Ok(Self {
            size,
            circle: Filled::reopen(circle?)?,
            exchange: Filled::reopen(exchange?)?,
            office: None,
        })
    }

    /// How often both contexts were read and written, and how many bytes.
    fn counts(&self) -> [usize; 3] {
        let (circle, exchange) = (self.circle.counts(), self.exchange.counts());
        [0, 1, 2].map(|at| circle[at] + exchange[at])
    }

    fn with_office(
        &mut self,
        does: impl FnOnce(&mut Office, &mut Self) -> anyhow::Result<Cost>,
    ) -> anyhow::Result<Cost> {
        let mut office = self.office.take().context("there is no desk yet")?;
        let done = does(&mut office, self);
        self.office = Some(office);
        done
    }

    /// A request comes into the exchange, and the desk takes it in.
    fn take_in_request(&mut self) -> anyhow::Result<Cost> {
        self.exchange.say(PARTYS, requested()?)?;
        self.with_office(Office::take_in)
    }

    /// From a request that was taken in to what is released on it.
    fn release(&mut self) -> anyhow::Result<Cost> {
        self.with_office(Office::release)
    }
}

/// What one call took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    time: Duration,
    reads: usize,
    writes: usize,
    written_bytes: usize,
}

impl Cost {
    fn between(before: [usize; 3], after: [usize; 3], time: Duration) -> Self {
        let [reads, writes, written_bytes] = [0, 1, 2].map(|at| after[at] - before[at]);
        Self {
            time,
            reads,
            writes,
            written_bytes,
        }
    }
}

fn add(
    report: &mut Report,
    name: &str,
    (cost, base): (Cost, Cost),
    how: &str,
    target: Option<Target>,
) {
    let time = |cost: Cost| cost.time.as_secs_f64() * 1e3;
    let how = format!("{how}; shortest of turns");
    let figure = Figure::new(name, "ms", time(cost), &how);
    let figure = figure.against(format!("at {} entries", SIZES[0]), time(base));
    report.add(match target {
        Some(target) => figure.with_target(target),
        None => figure,
    });
    for (what, value) in [
        ("reads", cost.reads),
        ("writes", cost.writes),
        ("written_bytes", cost.written_bytes),
    ] {
        let how = "counted at the border of runtime and database";
        report.add(Figure::new(format!("{name}_{what}"), "", value as f64, how));
    }
}

/// A context that is filled more and more.
struct Filled {
    store: Rc<RefCell<Store>>,
    ledger: Ledger,
}

/// What is known of it without its database.
struct Ledger {
    /// Where that is.
    folder: PathBuf,
    tally: Tally,
    context: ContextId,
    custodian: PrivateKey,
    party: PrivateKey,
    /// The custodian's log and the other party's.
    logs: [(u8, Vec<Logged>); 2],
    granted: Vec<Consent>,
    revoked: usize,
    counter: Counter,
    /// How often it was called; another number, another state.
    calls: u64,
}

impl Ledger {
    /// Opens it for some work.
    fn with(self, work: impl FnOnce(&mut Filled) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let mut filled = Filled::reopen(self)?;
        work(&mut filled)?;
        Ok(filled.close())
    }
}

impl Filled {
    fn open(folder: &Path, context: ContextId, kind: &str, party: u8) -> anyhow::Result<Self> {
        let mut filled = Self::reopen(Ledger {
            folder: folder.to_owned(),
            tally: Tally::default(),
            context,
            custodian: PrivateKey::from([101; 32]),
            party: PrivateKey::from([102; 32]),
            logs: [(HOSPITAL, Vec::new()), (PATIENT_AUTHOR, Vec::new())],
            granted: Vec::new(),
            revoked: 0,
            counter: Counter(0),
            calls: 0,
        })?;
        let mut pins = circle_input();
        pins.kind = kind.into();
        filled.call(true, "init", &json!({ "circle": pins }))?;
        let member = MemberId(*filled.ledger.party.public_key().digest());
        let enrolment = enrolment(member, party);
        let arguments = enrol_arguments(&enrolment, context, INVITATION);
        filled.call(false, "enrol", &arguments)?;
        if party == PATIENT {
            filled.grant_to(public_key(RESEARCHER))?;
        }
        Ok(filled)
    }

    fn reopen(ledger: Ledger) -> anyhow::Result<Self> {
        Ok(Self {
            store: Store::open(&ledger.folder, ledger.tally)?,
            ledger,
        })
    }

    /// Closes its database, so that another thread may open it.
    fn close(self) -> Ledger {
        let tally = self.store.borrow().tally;
        Ledger {
            tally,
            ..self.ledger
        }
    }

    /// The same once more, which goes its own way from here on.
    fn copy(&self, folder: &Path) -> anyhow::Result<Self> {
        let store = self.store.borrow();
        Checkpoint::new(&store.db)?.create_checkpoint(folder)?;
        let ledger = &self.ledger;
        Self::reopen(Ledger {
            folder: folder.to_owned(),
            tally: store.tally,
            custodian: PrivateKey::from(*ledger.custodian),
            party: PrivateKey::from(*ledger.party),
            logs: ledger.logs.clone(),
            granted: ledger.granted.clone(),
            ..*ledger
        })
    }

    /// One call, by the custodian or the other party.
    fn call(
        &mut self,
        by_custodian: bool,
        method: &str,
        arguments: &Value,
    ) -> anyhow::Result<(Value, Cost)> {
        let key = if by_custodian {
            &self.ledger.custodian
        } else {
            &self.ledger.party
        };
        let input = serde_json::to_vec(arguments)?;
        let before = self.counts();
        let start = thread_time();
        let outcome = app().run(
            self.ledger.context.0.into(),
            key.public_key(),
            method,
            &input,
            &mut *self.store.borrow_mut(),
            None,
            None,
        )?;
        seal(&self.store, self.ledger.context, key, &outcome.artifact);
        let time = thread_time().saturating_sub(start);
        self.ledger.calls += u64::from(self.counts()[1] > before[1]);
        let cost = Cost::between(before, self.counts(), time);
        match outcome.returns {
            Ok(answer) => Ok((
                serde_json::from_slice(answer.as_deref().unwrap_or(b"null"))?,
                cost,
            )),
            Err(error) => anyhow::bail!("{method}: {error}"),
        }
    }

    fn counts(&self) -> [usize; 3] {
        self.store.borrow().counts()
    }

    /// A name of its state.
    fn state(&self) -> [u8; 32] {
        Sha256Digest::of(&self.ledger.calls.to_be_bytes()).0
    }

    fn member(&self, is_custodian: bool) -> MemberId {
        let key = if is_custodian {
            &self.ledger.custodian
        } else {
            &self.ledger.party
        };
        MemberId(*key.public_key().digest())
    }

    fn fill_circle(&mut self, size: usize) -> anyhow::Result<()> {
        self.fill_log(size / 2)?;
        while self.ledger.granted.len() < size / 4 {
            self.grant()?;
        }
        while self.ledger.revoked < size / 4 {
            self.revoke()?;
        }
        Ok(())
    }

    fn fill_log(&mut self, size: usize) -> anyhow::Result<()> {
        while self
            .ledger
            .logs
            .iter()
            .map(|(_, log)| log.len())
            .sum::<usize>()
            < size
        {
            self.append()?;
        }
        Ok(())
    }

    /// The log that is being filled: of the custodian's the desk writes the end.
    fn growing(&self) -> usize {
        match self.ledger.logs[PARTYS].1.len() {
            LOG_LEN_MAX.. => CUSTODIANS,
            _ => PARTYS,
        }
    }

    fn append(&mut self) -> anyhow::Result<Cost> {
        let place = self.growing();
        let (author, log) = &self.ledger.logs[place];
        let entry = Logged::after(log.last(), self.ledger.context, *author, 0);
        Ok(self.write(place, entry)?.1)
    }

    fn say(&mut self, place: usize, says: Body) -> anyhow::Result<(Logged, Cost)> {
        let (author, log) = &self.ledger.logs[place];
        let entry = Logged::saying(log.last(), self.ledger.context, *author, says);
        self.write(place, entry)
    }

    fn write(&mut self, place: usize, entry: Logged) -> anyhow::Result<(Logged, Cost)> {
        let by_custodian = place == CUSTODIANS;
        let (_, cost) = self.call(by_custodian, "append_log", &entry.arguments())?;
        self.ledger.logs[place].1.push(entry.clone());
        Ok((entry, cost))
    }

    /// To a recipient of its own.
    fn grant(&mut self) -> anyhow::Result<Cost> {
        let mut scalar = [0; 32];
        scalar[24..].copy_from_slice(&(1 << 32 | self.ledger.counter.0).to_be_bytes());
        let (consent, cost) = self.grant_to(SecretKey::from_scalar(&scalar)?.public_key())?;
        self.ledger.granted.push(consent);
        Ok(cost)
    }

    fn grant_to(&mut self, grantee: PublicKey) -> anyhow::Result<(Consent, Cost)> {
        let member = self.member(true);
        let terms = terms(member, CONTEXT, 1).encode()?;
        let grant = Grant {
            terms: Sha256Digest::of(&terms),
            anchorer: anchorer(),
            grantee,
            not_before: UnixSeconds(1),
            not_after: UnixSeconds(0),
        };
        let mut seed = [0; 32];
        seed[31] = 1;
        let seed = Seed::from_bytes(&seed)?;
        let signed: SignedGrant = grant.sign(
            registry(),
            &secret_key(PATIENT),
            &seed,
            DeviceNumber(0),
            self.ledger.counter,
        )?;
        self.ledger.counter = signed.next;
        let consent = Consent { terms, signed };
        let (_, cost) = self.call(false, "grant", &consent.grant_arguments())?;
        Ok((consent, cost))
    }

    fn revoke(&mut self) -> anyhow::Result<Cost> {
        let arguments = self.ledger.granted[self.ledger.revoked].revoke_arguments();
        self.ledger.revoked += 1;
        Ok(self.call(false, "revoke", &arguments)?.1)
    }

    fn page(&mut self, from: u64) -> anyhow::Result<Cost> {
        let author = public_key(self.ledger.logs[self.growing()].0);
        let arguments = json!({ "author_key": author, "from": from, "limit": PAGE_LEN });
        let (page, cost) = self.call(true, "log_page", &arguments)?;
        let len = page["entries"].as_array().map_or(0, Vec::len) as u64;
        ensure!(len == PAGE_LEN, "a page of {PAGE_LEN} entries has {len}");
        Ok(cost)
    }

    fn first_page(&mut self) -> anyhow::Result<Cost> {
        self.page(0)
    }

    fn last_page(&mut self) -> anyhow::Result<Cost> {
        self.page(self.ledger.logs[self.growing()].1.len() as u64 - PAGE_LEN)
    }
}

fn requested() -> anyhow::Result<Body> {
    Ok(Body::Requested(Requested {
        asked_by: None,
        recipient: public_key(RESEARCHER),
        patient: PATIENT_IN_EXCHANGE,
        purposes: CodeSet::collect([Code::new("act", "HRESCH")])?,
        classes: CodeSet::collect([Code::new("types", "Observation")])?,
        understood: CodeSet::default(),
        reason: "a study".into(),
        break_glass: false,
        reply_key: SealKey([9; 32]),
    }))
}

/// The app's wasm before and after optimisation, against an app that does next to nothing.
fn wasm(report: &mut Report) -> anyhow::Result<()> {
    for (what, target) in [("built", None), ("optimised", Some(Target::RatioMax(2.0)))] {
        let size = |name: &str| -> anyhow::Result<f64> {
            let file = Path::new(env!("MEDSYNC_ROOT"))
                .join("target/app")
                .join(format!("{name}.{what}.size"));
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("{}: run scripts/bench", file.display()))?;
            Ok(text.trim().parse()?)
        };
        let how = "the same compiler, profile and optimiser";
        let figure = Figure::new(format!("wasm_{what}"), "B", size("medsync_app")?, how);
        let figure = figure.against("a bare key-value app", size("medsync_bare_app")?);
        report.add(match target {
            Some(target) => figure.with_target(target),
            None => figure,
        });
    }
    Ok(())
}
