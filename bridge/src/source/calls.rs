//! The real [`Circle`]: calls of the app on one node.
//!
//! A node answers a call of the app with status 200 whatever became of it. What an error means is
//! told apart here, because a daemon treats a refusal, a context that is still on its way and a
//! broken node differently.

use async_trait::async_trait;
use medsync_protocol::audit::{Pseudonym, Seq};
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{ContextId, MemberId, RecordId, Sha256Digest, to_base64};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::{PAYLOAD_BYTES_MAX, PAYLOAD_OVERHEAD_BYTES, RecordVersion};
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::terms::{TERMS_BYTES_MAX, Terms};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::abi::{self, Call};
use super::convert::{self, ConvertError};
use super::error::{SourceError, printable};
use super::model::{
    AnchorReport, ChangePage, CircleState, ConsentPage, Device, Entry, FullRecord, FullRelease,
    Granted, Head, LogEntry, LogPage, NewRecord, NewRelease, Pin, PlacedTicket, Pool, ReceiptPage,
    RecordPage, ReleasePage, SignedKeyChange, Written,
};
use super::names::{Cursor, EntryKey, EntryKind, PageLimit, StateHash, to_base58};
use super::node::CalimeroNode;
use super::{Circle, SourceResult};

/// One context on a real node.
#[derive(Clone)]
pub struct NodeCircle {
    node: CalimeroNode,
    context: ContextId,
}

impl NodeCircle {
    pub(super) const fn new(node: CalimeroNode, context: ContextId) -> Self {
        Self { node, context }
    }

    async fn call<T: DeserializeOwned>(&self, Call { method, args }: Call) -> SourceResult<T> {
        #[derive(Deserialize)]
        struct Answer {
            result: Option<Output>,
            error: Option<Failure>,
        }
        #[derive(Deserialize)]
        struct Output {
            output: Value,
        }
        let body = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "execute",
            "params": {
                "contextId": to_base58(&self.context.0),
                "method": method,
                "argsJson": args,
            },
        });
        let answer: Answer = self.node.http().post("/jsonrpc", &body).await?;
        match answer {
            Answer {
                result: Some(Output { output }),
                error: None,
            } => T::deserialize(output).map_err(|error| SourceError::malformed(method, error)),
            Answer {
                result: None,
                error: Some(failure),
            } => Err(failure.into_error(self.context, method)),
            _ => Err(SourceError::malformed(
                method,
                "neither a result nor an error",
            )),
        }
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
const APP_REFUSES: &str = "the method call returned an error: ";
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

fn told<T>(method: &'static str, converted: Result<T, ConvertError>) -> SourceResult<T> {
    converted.map_err(|error| SourceError::malformed(method, error))
}

/// Refuses what the app would refuse too, before it is sent.
fn bounded(what: &'static str, is: usize, bytes_max: usize) -> SourceResult<()> {
    if is > bytes_max {
        Err(SourceError::InputTooLarge { what, bytes_max })
    } else {
        Ok(())
    }
}

#[async_trait]
impl Circle for NodeCircle {
    fn context(&self) -> ContextId {
        self.context
    }

    async fn state_hash(&self) -> SourceResult<StateHash> {
        Ok(self.node.context(self.context).await?.state)
    }

    async fn pin(&self) -> SourceResult<Pin> {
        self.node.pin(self.context).await
    }

    async fn circle(&self) -> SourceResult<CircleState> {
        let view: abi::CircleView = self.call(Call::circle()).await?;
        told("circle", convert::circle(self.context, &view))
    }

    async fn add_member(&self, member: MemberId) -> SourceResult<()> {
        match self.node.pin(self.context).await?.group {
            Some(group) => self.node.add_member(group, member).await,
            None => Err(SourceError::UnknownContext(self.context)),
        }
    }

    async fn enrol(&self, enrolment: &Enrolment, signature: &Signature) -> SourceResult<Written> {
        let view: abi::Written = self.call(Call::enrol(enrolment, signature)).await?;
        Ok(convert::written(&view))
    }

    async fn change_key(&self, change: &SignedKeyChange) -> SourceResult<Written> {
        let call = Call::change_key(&convert::key_change_to_abi(change));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn admit(&self, device: &Device) -> SourceResult<Written> {
        let call = Call::admit(&convert::device_to_abi(device), &device.signature);
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn grant(
        &self,
        terms: &[u8],
        opening: &Opening,
        signature: &Signature,
    ) -> SourceResult<Granted> {
        bounded("terms", terms.len(), TERMS_BYTES_MAX)?;
        let call = Call::grant(&to_base64(terms), opening, signature);
        let view: abi::Granted = self.call(call).await?;
        // The app took these terms, so that they can be read; else it lies.
        let anchorer = Terms::decode(terms).map_err(ConvertError::from);
        let anchorer = told(
            "grant",
            anchorer.and_then(|terms| convert::anchorer(&terms)),
        )?;
        let commitment = Commitment::of(Sha256Digest::of(terms), anchorer, opening);
        told("grant", convert::granted(commitment, &view))
    }

    async fn revoke(
        &self,
        secret: &RevocationSecret,
        claim_key: PublicKey,
    ) -> SourceResult<Written> {
        let view: abi::Written = self
            .call(Call::revoke(&secret.reveal_text(), claim_key))
            .await?;
        Ok(convert::written(&view))
    }

    async fn consents(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ConsentPage> {
        let page: abi::ConsentPage = self.call(Call::consents(cursor, limit)).await?;
        told("consents", convert::consents(self.context, page))
    }

    async fn put_record(&self, record: &NewRecord) -> SourceResult<Written> {
        bounded(
            "payload",
            record.payload.len(),
            PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES,
        )?;
        let call = Call::put_record(&convert::record_to_abi(record));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn records(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
        resource_type: Option<&str>,
    ) -> SourceResult<RecordPage> {
        let call = Call::records(cursor, limit, resource_type);
        let page: abi::RecordPage = self.call(call).await?;
        told("records", convert::records(page))
    }

    async fn record(
        &self,
        record: RecordId,
        version: Option<RecordVersion>,
    ) -> SourceResult<FullRecord> {
        let call = Call::record(record, version.map(|RecordVersion(version)| version));
        let view: abi::FullRecord = self.call(call).await?;
        told("record", convert::full_record((record, version), &view))
    }

    async fn put_part(&self, part: &[u8]) -> SourceResult<Written> {
        bounded(
            "a part",
            part.len(),
            PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES,
        )?;
        let call = Call::put_part(&to_base64(part));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn part(&self, digest: Sha256Digest) -> SourceResult<Option<Vec<u8>>> {
        let view: abi::FullPart = self.call(Call::part(digest)).await?;
        told("part", convert::part(digest, &view))
    }

    async fn record_anchor(&self, report: &AnchorReport) -> SourceResult<Written> {
        let call = Call::record_anchor(&convert::anchor_to_abi(report));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn append_log(&self, entry: &LogEntry) -> SourceResult<Written> {
        let call = Call::append_log(&told("append_log", convert::log_to_abi(entry))?);
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn log(
        &self,
        author_key: PublicKey,
        from: Seq,
        limit: PageLimit,
    ) -> SourceResult<LogPage> {
        let page: abi::LogPage = self.call(Call::log_page(author_key, from, limit)).await?;
        told("log_page", convert::log_page(self.context, from, &page))
    }

    async fn record_head(&self, head: &Head) -> SourceResult<Written> {
        let call = Call::record_head(&convert::head_to_abi(head));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn put_pool(&self, pool: &Pool) -> SourceResult<Written> {
        let call = Call::put_pool(&convert::pool_to_abi(pool));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn put_ticket(&self, ticket: &PlacedTicket) -> SourceResult<Written> {
        let call = Call::put_ticket(&convert::ticket_to_abi(ticket));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn put_receipt(&self, patient: Pseudonym, receipt: &[u8]) -> SourceResult<Written> {
        bounded("receipt", receipt.len(), convert::RECEIPT_BYTES_MAX)?;
        let receipt = to_base64(receipt);
        let call = Call::put_receipt(&abi::ReceiptInput { patient, receipt });
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn receipts(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ReceiptPage> {
        let page: abi::ReceiptPage = self.call(Call::receipts(cursor, limit)).await?;
        told("receipts", convert::receipts(page))
    }

    async fn put_release(&self, release: &NewRelease) -> SourceResult<Written> {
        let call = Call::put_release(&convert::release_to_abi(release));
        let view: abi::Written = self.call(call).await?;
        Ok(convert::written(&view))
    }

    async fn releases(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ReleasePage> {
        let page: abi::ReleasePage = self.call(Call::releases(cursor, limit)).await?;
        told("releases", convert::releases(page))
    }

    async fn release(&self, key: EntryKey) -> SourceResult<FullRelease> {
        let view: abi::FullRelease = self.call(Call::release(key)).await?;
        told("release", convert::full_release(key, &view))
    }

    async fn changes(&self, cursor: Option<&Cursor>, limit: PageLimit) -> SourceResult<ChangePage> {
        let page: abi::ChangePage = self.call(Call::changes(cursor, limit)).await?;
        told("changes", convert::changes(page))
    }

    async fn entry(&self, kind: EntryKind, key: EntryKey) -> SourceResult<Entry> {
        let view: abi::EntryView = self.call(Call::entry(kind, key)).await?;
        told("entry", convert::entry(self.context, (kind, key), &view))
    }
}

#[cfg(test)]
mod tests;
