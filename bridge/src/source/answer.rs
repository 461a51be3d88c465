//! What a node answers to a call of the app: from bytes to the model.
//!
//! A node answers a call of the app with status 200 whatever became of it. What an error means is
//! told apart here, because a daemon treats a refusal, a context that is still on its way and a
//! broken node differently.
//!
//! Nothing here asks anybody, so that any bytes can be read as an answer without a node.

use medsync_protocol::audit::Seq;
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{ContextId, RecordId, Sha256Digest};
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::terms::Terms;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::SourceResult;
use super::convert::{self, Converted};
use super::error::{SourceError, printable};
use super::model::{
    ChangePage, CircleState, ConsentPage, Entry, FullRecord, FullRelease, Granted, LogPage,
    ReceiptPage, RecordPage, ReleasePage, Written,
};
use super::names::{EntryKey, EntryKind};

/// What an answer is wrapped in.
#[derive(Deserialize)]
pub(super) struct Envelope {
    result: Option<Output>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Output {
    output: Value,
}

/// What the app answered to one call, before it is known to be what was asked for.
#[derive(Clone, Debug)]
pub struct Answer {
    context: ContextId,
    method: &'static str,
    output: Value,
}

impl Answer {
    /// Reads the bytes with which a node answers a call of `method` in a context.
    ///
    /// # Errors
    /// What the node or the app refuses, and bytes that are no answer: see [`SourceError`].
    pub fn read(context: ContextId, method: &'static str, bytes: &[u8]) -> SourceResult<Self> {
        let envelope = serde_json::from_slice(bytes);
        let envelope = envelope.map_err(|error| SourceError::malformed(method, error))?;
        Self::of(context, method, envelope)
    }

    pub(super) fn of(
        context: ContextId,
        method: &'static str,
        envelope: Envelope,
    ) -> SourceResult<Self> {
        match envelope {
            Envelope {
                result: Some(Output { output }),
                error: None,
            } => Ok(Self {
                context,
                method,
                output,
            }),
            Envelope {
                result: None,
                error: Some(failure),
            } => Err(failure.into_error(context, method)),
            _ => Err(SourceError::malformed(
                method,
                "neither a result nor an error",
            )),
        }
    }

    /// What the output says, first each value by itself, then all of them together.
    fn told<V: DeserializeOwned, T>(
        self,
        convert: impl FnOnce(ContextId, V) -> Converted<T>,
    ) -> SourceResult<T> {
        let (context, method) = (self.context, self.method);
        let view = V::deserialize(self.output);
        let view = view.map_err(|error| SourceError::malformed(method, error))?;
        convert(context, view).map_err(|error| SourceError::malformed(method, error))
    }

    /// What a write did.
    ///
    /// # Errors
    /// [`SourceError::Malformed`], as of every method here.
    pub fn written(self) -> SourceResult<Written> {
        self.told(|_, view| Ok(convert::written(&view)))
    }

    /// What the grant of these did.
    ///
    /// # Errors
    /// Also if the answer names another consent.
    pub fn granted(self, terms: &[u8], opening: &Opening) -> SourceResult<Granted> {
        self.told(|_, view| {
            // The app took these terms, so that they can be read; else it lies.
            let anchorer = convert::anchorer(&Terms::decode(terms)?)?;
            let commitment = Commitment::of(Sha256Digest::of(terms), anchorer, opening);
            convert::granted(commitment, &view)
        })
    }

    /// The circle at a glance.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn circle(self) -> SourceResult<CircleState> {
        self.told(|context, view| convert::circle(context, &view))
    }

    /// A page of consents.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn consents(self) -> SourceResult<ConsentPage> {
        self.told(convert::consents)
    }

    /// A page of records.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn records(self) -> SourceResult<RecordPage> {
        self.told(|_, page| convert::records(page))
    }

    /// The record that was asked for, in its latest version or the one that was named.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn record(self, asked: (RecordId, Option<RecordVersion>)) -> SourceResult<FullRecord> {
        self.told(|_, view| convert::full_record(asked, &view))
    }

    /// The part that was asked for, if it has arrived.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn part(self, digest: Sha256Digest) -> SourceResult<Option<Vec<u8>>> {
        self.told(|_, view| convert::part(digest, &view))
    }

    /// A log from the number that was asked for.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn log(self, from: Seq) -> SourceResult<LogPage> {
        self.told(|context, page| convert::log_page(context, from, &page))
    }

    /// A page of receipts.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn receipts(self) -> SourceResult<ReceiptPage> {
        self.told(|_, page| convert::receipts(page))
    }

    /// A page of released records.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn releases(self) -> SourceResult<ReleasePage> {
        self.told(|_, page| convert::releases(page))
    }

    /// The released record that was asked for.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn release(self, key: EntryKey) -> SourceResult<FullRelease> {
        self.told(|_, view| convert::full_release(key, &view))
    }

    /// A page of the walk.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn changes(self) -> SourceResult<ChangePage> {
        self.told(|_, page| convert::changes(page))
    }

    /// The entry that was asked for.
    ///
    /// # Errors
    /// [`SourceError::Malformed`].
    pub fn entry(self, asked: (EntryKind, EntryKey)) -> SourceResult<Entry> {
        self.told(|context, view| convert::entry(context, asked, &view))
    }
}

/// An error inside an answer.
#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
}

/// What the app's own refusals are wrapped in: the bytes of its JSON, as a list of numbers.
pub(super) const APP_REFUSES: &str = "the method call returned an error: ";
/// What the node says if it has no member key for the context.
const NO_IDENTITY: &str = "No owned identity found";

impl Failure {
    fn into_error(self, context: ContextId, method: &'static str) -> SourceError {
        let text = match &self.data {
            Value::Null => self.kind.clone(),
            Value::String(text) => text.clone(),
            data => format!("{}: {data}", self.kind),
        };
        let call = || method.to_owned();
        match self.kind.as_str() {
            "ContextNotFound" => SourceError::UnknownContext(context),
            "Unauthorized" => SourceError::NotMember {
                call: call(),
                reason: printable(&text),
            },
            "Uninitialized"
            | "GroupKeyPending"
            | "UpgradeInProgress"
            | "ApplicationNotInstalled" => SourceError::NotReady {
                call: call(),
                reason: printable(&text),
            },
            "FunctionCallError" if text.contains(NO_IDENTITY) => SourceError::NotMember {
                call: call(),
                reason: printable(&text),
            },
            "FunctionCallError" => refused(method, &text),
            "ParseError" => SourceError::Node {
                call: call(),
                status: 400,
                reason: printable(&text),
            },
            _ => SourceError::Node {
                call: call(),
                status: 200,
                reason: printable(&text),
            },
        }
    }
}

/// The app's refusal; a text that is none (the app panicked) is a refusal without a name.
fn refused(method: &'static str, text: &str) -> SourceError {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        message: String,
    }
    let bytes = text.strip_prefix(APP_REFUSES);
    let bytes = bytes.and_then(|list| serde_json::from_str::<Vec<u8>>(list).ok());
    match bytes.and_then(|bytes| serde_json::from_slice::<Refusal>(&bytes).ok()) {
        Some(refusal) => SourceError::Refused {
            method,
            code: printable(&refusal.error),
            reason: printable(&refusal.message),
        },
        None => SourceError::Refused {
            method,
            code: "failed".into(),
            reason: printable(text),
        },
    }
}

#[cfg(test)]
mod tests;
