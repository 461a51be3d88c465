//! Receipts and releases: bounded, and payloads held to their digests.

use medsync_protocol::audit::RecordRef;
use medsync_protocol::ids::{Sha256Digest, to_base64};
use medsync_protocol::seal::{PAYLOAD_BYTES_MAX, PAYLOAD_OVERHEAD_BYTES, SEALED_KEY_BYTES};

use super::{Converted, bytes, next, same};
use crate::source::abi;
use crate::source::model::{
    FullRelease, NewRelease, ReceiptPage, Release, ReleasePage, SharedReceipt,
};
use crate::source::names::EntryKey;

/// The largest receipt that an exchange takes.
pub(in crate::source) const RECEIPT_BYTES_MAX: usize = 36 * 1024;

pub(super) fn receipt(view: &abi::ReceiptView) -> Converted<SharedReceipt> {
    Ok(SharedReceipt {
        key: view.key,
        patient: view.patient,
        receipt: bytes("a receipt", &view.receipt, RECEIPT_BYTES_MAX)?,
    })
}

pub(in crate::source) fn receipts(page: abi::ReceiptPage) -> Converted<ReceiptPage> {
    let shown = page.receipts.len();
    let receipts: Vec<SharedReceipt> = page
        .receipts
        .iter()
        .filter_map(|view| receipt(view).ok())
        .collect();
    Ok(ReceiptPage {
        ignored: page.ignored.saturating_add((shown - receipts.len()) as u64),
        receipts,
        next: next(page.next)?,
    })
}

pub(in crate::source) fn release_to_abi(release: &NewRelease) -> abi::ReleaseInput {
    abi::ReleaseInput {
        entry_seq: release.entry_seq,
        entry: release.entry,
        circle: release.circle,
        record: release.what.record,
        version: release.what.version,
        resource_type: release.resource_type.clone(),
        payload: to_base64(&release.payload),
        sealed_key: to_base64(&release.sealed_key),
    }
}

pub(super) fn release(view: &abi::ReleaseView) -> Converted<Release> {
    Ok(Release {
        key: view.key,
        entry: view.entry,
        logged_as: view.logged_as,
        request: view.request,
        circle: view.circle,
        what: RecordRef {
            record: view.record,
            version: view.version,
        },
        resource_type: view.resource_type.clone(),
        payload_sha256: view.payload_sha256,
        sealed_key: bytes("a sealed key", &view.sealed_key, SEALED_KEY_BYTES)?,
    })
}

pub(in crate::source) fn releases(page: abi::ReleasePage) -> Converted<ReleasePage> {
    let shown = page.releases.len();
    let releases: Vec<Release> = page
        .releases
        .iter()
        .filter_map(|view| release(view).ok())
        .collect();
    Ok(ReleasePage {
        ignored: page.ignored.saturating_add((shown - releases.len()) as u64),
        releases,
        next: next(page.next)?,
    })
}

pub(in crate::source) fn full_release(
    key: EntryKey,
    view: &abi::FullRelease,
) -> Converted<FullRelease> {
    same("the released entry", &key, &view.release.key)?;
    let release = release(&view.release)?;
    let payload = view.payload.as_deref().map(|text| -> Converted<Vec<u8>> {
        let payload = bytes("payload", text, PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES)?;
        same(
            "the payload's digest",
            &Sha256Digest::of(&payload),
            &release.payload_sha256,
        )?;
        Ok(payload)
    });
    Ok(FullRelease {
        payload: payload.transpose()?,
        release,
    })
}
