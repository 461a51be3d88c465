//! Receipts in an exchange: the custodian gives the recipient what a patient's consent to it looks
//! like from outside.
//!
//! A receipt proves itself to whoever verifies it; here it is bytes under the custodian's stamp,
//! which says one thing alone: by which pseudonym this exchange knows the patient.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::audit::Pseudonym;
use medsync_protocol::ids::{ContextId, ContextKind};

use crate::abi::{ReceiptInput, ReceiptPage, ReceiptView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::RECEIPT_TEXT_BYTES_MAX;
use crate::paging::Page;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{base64, read, read_base64};

#[derive(BorshSerialize, BorshDeserialize)]
struct ReceiptBody {
    context: ContextId,
    patient: Pseudonym,
    receipt: Vec<u8>,
    recorded_at: u64,
}

fn load(circle: &Circle, shard: Shard, key: Key) -> Option<ReceiptBody> {
    let stored = store::load(key).filter(|s| s.body.len() <= RECEIPT_TEXT_BYTES_MAX)?;
    let body: ReceiptBody = stored.decode()?;
    let counts = body.context == circle.context
        && Kind::Receipts.shard_of(&body.patient.0) == shard
        && stored.owner() == Some(circle.custodian_member);
    counts.then_some(body)
}

/// Writes a receipt.
pub fn put(input: &ReceiptInput) -> Result<Written, Refusal> {
    let circle = Circle::load_as(ContextKind::Exchange)?;
    circle.check_custodian()?;
    let body = ReceiptBody {
        context: circle.context,
        patient: read("patient", &input.patient)?,
        receipt: read_base64("receipt", &input.receipt, RECEIPT_TEXT_BYTES_MAX)?,
        recorded_at: host::now().0,
    };
    let shard = Kind::Receipts.shard_of(&body.patient.0);
    let same = store::keys(Kind::Receipts, shard)
        .into_iter()
        .find(|(key, _)| {
            let known = load(&circle, shard, *key);
            known.is_some_and(|k| k.patient == body.patient && k.receipt == body.receipt)
        });
    if let Some((key, _)) = same {
        return Ok(Written::there(key));
    }
    let key = store::insert(Kind::Receipts, shard, &body)?;
    Ok(Written::new(key))
}

/// One receipt, as the interface shows it.
pub fn view(circle: &Circle, shard: Shard, key: Key) -> Option<ReceiptView> {
    let body = load(circle, shard, key)?;
    Some(ReceiptView {
        key: key.to_string(),
        patient: body.patient.to_string(),
        receipt: base64(&body.receipt),
        recorded_at: body.recorded_at,
    })
}

/// A page of receipts.
pub fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<ReceiptPage, Refusal> {
    let page = Page::read(cursor, limit)?;
    let circle = Circle::load_as(ContextKind::Exchange)?;
    let (places, next) = page.walk(&[Kind::Receipts]);
    let mut answer = ReceiptPage {
        receipts: Vec::new(),
        ignored: 0,
        next,
    };
    for (place, _) in places {
        match view(&circle, place.shard, place.key) {
            Some(view) => answer.receipts.push(view),
            None => answer.ignored += 1,
        }
    }
    Ok(answer)
}
