//! The browser binding of `medsync-protocol`, with no judgement of its own: it reads what the page
//! hands it, calls the protocol, and answers in the protocol's own JSON.
//!
//! What has a u64 in it stays on this side, so that no number is rounded on its way: a page holds
//! a [`Receipt`], an [`Endpoint`] and a [`Judgement`], and gets their JSON to show it. An error is
//! a JSON text with a `kind`, which the page has words for in each language.

mod patient;
mod reads;
mod view;

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::RECEIPT_BYTES_MAX;
use medsync_protocol::verifier::{
    Beliefs, Config, Hearing, NoVerdict, Offline, Question, Report, Seen,
};
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::reads::Reader;
use crate::view::View;

/// The types of everything that crosses as JSON, for the page's compiler.
#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.d.ts");

/// An error as the page gets it.
#[derive(Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
enum Failure<'a> {
    Terms(&'a str),
    Question(&'a str),
}

fn json(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

fn failed(error: &impl Serialize) -> String {
    json(error).unwrap_or_else(|error| error)
}

/// The largest receipt, in bytes: no more is read of a file.
#[wasm_bindgen]
#[must_use]
pub fn receipt_bytes_max() -> usize {
    RECEIPT_BYTES_MAX
}

/// A verifier: the page's own configuration.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Verifier {
    config: Config,
    beliefs: Beliefs,
}

#[wasm_bindgen]
impl Verifier {
    /// Reads a configuration, the bytes of `verifier.json`.
    ///
    /// # Errors
    /// A `ConfigError`.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        let config = Config::parse(bytes).map_err(|error| failed(&error))?;
        let beliefs = config.beliefs();
        Ok(Self { config, beliefs })
    }

    /// The configuration, as a `Config`.
    ///
    /// # Errors
    /// None in fact: it was read from JSON.
    pub fn config(&self) -> Result<String, String> {
        json(&self.config)
    }

    /// Reads a receipt and refuses one that this verifier does not accept at all.
    ///
    /// # Errors
    /// A `Refusal`.
    pub fn accept(&self, bytes: &[u8]) -> Result<Receipt, String> {
        let receipt = self.beliefs.accept(bytes).map_err(|error| failed(&error))?;
        Offline::of(receipt)
            .map(|offline| Receipt { offline })
            .map_err(|error| failed(&Failure::Terms(&error.to_string())))
    }

    /// An endpoint that was not asked yet.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            reader: Reader::new(self.beliefs.clone()),
        }
    }

    /// Opens a verification of a receipt: at a time, or about now.
    #[must_use]
    pub fn verification(&self, receipt: &Receipt, at: Option<u64>, now: u64) -> Verification {
        Verification {
            beliefs: self.beliefs.clone(),
            offline: receipt.offline.clone(),
            at: at.map(UnixSeconds),
            now: UnixSeconds(now),
            heard: Vec::new(),
        }
    }
}

/// A receipt that the verifier accepted.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Receipt {
    offline: Offline,
}

#[wasm_bindgen]
impl Receipt {
    /// What it says, as a `ReceiptView`.
    ///
    /// # Errors
    /// None in fact.
    pub fn view(&self) -> Result<String, String> {
        json(&View::of(&self.offline))
    }

    /// The `Verdict` that nothing on the chain can change, if there is one.
    ///
    /// # Errors
    /// None in fact.
    pub fn certain(&self) -> Result<Option<String>, String> {
        self.offline.certain().as_ref().map(json).transpose()
    }

    /// The checks that need no chain, at a time, as a list of `Check`.
    ///
    /// # Errors
    /// None in fact.
    pub fn offline(&self, at: u64) -> Result<String, String> {
        json(&self.offline.checks(UnixSeconds(at)))
    }
}

/// One endpoint, at its newest block. What is asked and what the answers mean is decided here; the
/// page only carries the texts. The block is asked for once, for any number of receipts.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Endpoint {
    reader: Reader,
}

#[wasm_bindgen]
impl Endpoint {
    /// The next request to send before receipts can be asked about; none when it is ready.
    #[must_use]
    pub fn request(&self) -> Option<String> {
        self.reader.request()
    }

    /// The answer to the request.
    ///
    /// # Errors
    /// A `ReadError`.
    pub fn answer(&mut self, answer: &str) -> Result<(), String> {
        self.reader.answer(answer).map_err(|error| failed(&error))
    }

    /// The request for the two values of a receipt.
    ///
    /// # Errors
    /// A `ReadError` if it is not ready.
    pub fn ask(&self, receipt: &Receipt) -> Result<String, String> {
        self.reader
            .times_request(receipt.offline.receipt())
            .map_err(|error| failed(&error))
    }

    /// The two values of a receipt.
    ///
    /// # Errors
    /// A `ReadError`.
    pub fn times(&self, answer: &str) -> Result<Said, String> {
        self.reader
            .times(answer)
            .map(|seen| Said { seen })
            .map_err(|error| failed(&error))
    }
}

/// What one endpoint said of one receipt.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Said {
    seen: Seen,
}

#[wasm_bindgen]
impl Said {
    /// The same as a `Seen`.
    ///
    /// # Errors
    /// None in fact.
    pub fn json(&self) -> Result<String, String> {
        json(&self.seen)
    }
}

/// One verification, which hears one endpoint after the other.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Verification {
    beliefs: Beliefs,
    offline: Offline,
    at: Option<UnixSeconds>,
    now: UnixSeconds,
    heard: Vec<Seen>,
}

#[wasm_bindgen]
impl Verification {
    /// Hears what one more endpoint said.
    pub fn hear(&mut self, said: &Said) {
        self.heard.push(said.seen);
    }

    /// What all of them came to.
    ///
    /// # Errors
    /// A `NoVerdict`.
    pub fn judge(&self) -> Result<Judgement, String> {
        self.report()
            .map(|report| Judgement { report })
            .map_err(|error| failed(&error))
    }

    fn report(&self) -> Result<Report, NoVerdict> {
        let mut hearing = Hearing::open(&self.beliefs, &self.offline, self.at, self.now);
        for seen in &self.heard {
            hearing.hear(seen)?;
        }
        hearing.close()
    }
}

/// What a verification came to.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Judgement {
    report: Report,
}

#[wasm_bindgen]
impl Judgement {
    /// The same as a `Report`.
    ///
    /// # Errors
    /// None in fact.
    pub fn json(&self) -> Result<String, String> {
        json(&self.report)
    }

    /// What the terms say to a `Question`, as a `Decision`; nothing if the consent is not valid.
    ///
    /// # Errors
    /// A `QuestionError`, or a text that is no question.
    pub fn decide(&self, receipt: &Receipt, question: &str) -> Result<Option<String>, String> {
        let question: Question = serde_json::from_str(question)
            .map_err(|error| failed(&Failure::Question(&error.to_string())))?;
        let decision = question
            .ask(receipt.offline.receipt(), &self.report)
            .map_err(|error| failed(&error))?;
        decision.as_ref().map(json).transpose()
    }
}

/// How many golden vectors hold in this build.
///
/// # Errors
/// The first that does not.
#[cfg(feature = "vectors")]
#[wasm_bindgen]
pub fn check_vectors(bytes: &[u8]) -> Result<usize, String> {
    let counts = medsync_protocol::vectors::check(bytes).map_err(|error| error.to_string())?;
    Ok(counts.iter().map(|(_, count)| *count).sum())
}
