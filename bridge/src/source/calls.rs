//! The real [`Circle`]: calls of the app on one node.
//!
//! Here is what is sent; what comes back is read by [`Answer`].

use async_trait::async_trait;
use medsync_protocol::audit::{Pseudonym, Seq};
use medsync_protocol::consent::Opening;
use medsync_protocol::ids::{ContextId, MemberId, RecordId, Sha256Digest, to_base64};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::{PAYLOAD_BYTES_MAX, PAYLOAD_OVERHEAD_BYTES, RecordVersion};
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::terms::TERMS_BYTES_MAX;
use serde_json::json;

use super::abi::{self, Call};
use super::answer::{Answer, Envelope};
use super::convert;
use super::error::SourceError;
use super::model::{
    AnchorReport, ChangePage, CircleState, ConsentPage, Device, Entry, FullRecord, FullRelease,
    Granted, Head, LogEntry, LogPage, NewRecord, NewRelease, Pin, PlacedTicket, Pool, ReceiptPage,
    RecordPage, ReleasePage, SignedKeyChange, Written,
};
use super::names::{Cursor, EntryKey, EntryKind, PageLimit, StateHash, to_base58};
use super::node::CalimeroNode;
use super::silence::Question;
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

    async fn call(&self, Call { method, args }: Call) -> SourceResult<Answer> {
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
        let came = self.node.http().post("/jsonrpc", &body).await;
        let envelope: Envelope = self.heard(Question::Call, came)?;
        Answer::of(self.context, method, envelope)
    }

    fn heard<T>(&self, question: Question, came: SourceResult<T>) -> SourceResult<T> {
        self.node.silence().note(self.context, question, came)
    }
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
        let came = self.node.context(self.context).await;
        Ok(self.heard(Question::State, came)?.state)
    }

    async fn pin(&self) -> SourceResult<Pin> {
        let came = self.node.pin(self.context).await;
        self.heard(Question::State, came)
    }

    async fn circle(&self) -> SourceResult<CircleState> {
        self.call(Call::circle()).await?.circle()
    }

    async fn add_member(&self, member: MemberId) -> SourceResult<()> {
        match self.node.pin(self.context).await?.group {
            Some(group) => self.node.add_member(group, member).await,
            None => Err(SourceError::UnknownContext(self.context)),
        }
    }

    async fn enrol(&self, enrolment: &Enrolment, signature: &Signature) -> SourceResult<Written> {
        self.call(Call::enrol(enrolment, signature))
            .await?
            .written()
    }

    async fn change_key(&self, change: &SignedKeyChange, copies: u32) -> SourceResult<Written> {
        let call = Call::change_key(&convert::key_change_to_abi(change), copies);
        self.call(call).await?.written()
    }

    async fn admit(&self, device: &Device) -> SourceResult<Written> {
        let call = Call::admit(&convert::device_to_abi(device), &device.signature);
        self.call(call).await?.written()
    }

    async fn grant(
        &self,
        terms: &[u8],
        opening: &Opening,
        signature: &Signature,
        copies: u32,
    ) -> SourceResult<Granted> {
        bounded("terms", terms.len(), TERMS_BYTES_MAX)?;
        let call = Call::grant(&to_base64(terms), opening, signature, copies);
        self.call(call).await?.granted(terms, opening)
    }

    async fn revoke(
        &self,
        secret: &RevocationSecret,
        claim_key: PublicKey,
        copies: u32,
    ) -> SourceResult<Written> {
        self.call(Call::revoke(&secret.reveal_text(), claim_key, copies))
            .await?
            .written()
    }

    async fn consents(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ConsentPage> {
        self.call(Call::consents(cursor, limit)).await?.consents()
    }

    async fn put_record(&self, record: &NewRecord) -> SourceResult<Written> {
        bounded(
            "payload",
            record.payload.len(),
            PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES,
        )?;
        let call = Call::put_record(&convert::record_to_abi(record));
        self.call(call).await?.written()
    }

    async fn records(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
        resource_type: Option<&str>,
    ) -> SourceResult<RecordPage> {
        let call = Call::records(cursor, limit, resource_type);
        self.call(call).await?.records()
    }

    async fn record(
        &self,
        record: RecordId,
        version: Option<RecordVersion>,
    ) -> SourceResult<FullRecord> {
        let call = Call::record(record, version.map(|RecordVersion(version)| version));
        self.call(call).await?.record((record, version))
    }

    async fn put_part(&self, part: &[u8]) -> SourceResult<Written> {
        bounded(
            "a part",
            part.len(),
            PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES,
        )?;
        let call = Call::put_part(&to_base64(part));
        self.call(call).await?.written()
    }

    async fn part(&self, digest: Sha256Digest) -> SourceResult<Option<Vec<u8>>> {
        self.call(Call::part(digest)).await?.part(digest)
    }

    async fn record_anchor(&self, report: &AnchorReport) -> SourceResult<Written> {
        let call = Call::record_anchor(&convert::anchor_to_abi(report));
        self.call(call).await?.written()
    }

    async fn append_log(&self, entry: &LogEntry) -> SourceResult<Written> {
        let said = convert::log_to_abi(entry);
        let said = said.map_err(|error| SourceError::malformed("append_log", error))?;
        let call = Call::append_log(&said);
        self.call(call).await?.written()
    }

    async fn log(
        &self,
        author_key: PublicKey,
        from: Seq,
        limit: PageLimit,
    ) -> SourceResult<LogPage> {
        let call = Call::log_page(author_key, from, limit);
        self.call(call).await?.log(from)
    }

    async fn record_head(&self, head: &Head) -> SourceResult<Written> {
        let call = Call::record_head(&convert::head_to_abi(head));
        self.call(call).await?.written()
    }

    async fn put_pool(&self, pool: &Pool) -> SourceResult<Written> {
        let call = Call::put_pool(&convert::pool_to_abi(pool));
        self.call(call).await?.written()
    }

    async fn put_ticket(&self, ticket: &PlacedTicket) -> SourceResult<Written> {
        let call = Call::put_ticket(&convert::ticket_to_abi(ticket));
        self.call(call).await?.written()
    }

    async fn put_receipt(&self, patient: Pseudonym, receipt: &[u8]) -> SourceResult<Written> {
        bounded("receipt", receipt.len(), convert::RECEIPT_BYTES_MAX)?;
        let receipt = to_base64(receipt);
        let call = Call::put_receipt(&abi::ReceiptInput { patient, receipt });
        self.call(call).await?.written()
    }

    async fn receipts(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ReceiptPage> {
        self.call(Call::receipts(cursor, limit)).await?.receipts()
    }

    async fn put_release(&self, release: &NewRelease) -> SourceResult<Written> {
        let call = Call::put_release(&convert::release_to_abi(release));
        self.call(call).await?.written()
    }

    async fn releases(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ReleasePage> {
        self.call(Call::releases(cursor, limit)).await?.releases()
    }

    async fn release(&self, key: EntryKey) -> SourceResult<FullRelease> {
        self.call(Call::release(key)).await?.release(key)
    }

    async fn changes(&self, cursor: Option<&Cursor>, limit: PageLimit) -> SourceResult<ChangePage> {
        self.call(Call::changes(cursor, limit)).await?.changes()
    }

    async fn entry(&self, kind: EntryKind, key: EntryKey) -> SourceResult<Entry> {
        let call = Call::entry(kind, key);
        self.call(call).await?.entry((kind, key))
    }
}

#[cfg(test)]
mod tests;
