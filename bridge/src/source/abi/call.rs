//! Calls of the app's methods, with their arguments by name.

use super::*;

/// A call of a method of the app.
pub(in crate::source) struct Call {
    /// The method.
    pub(in crate::source) method: &'static str,
    /// Its arguments, by name.
    pub(in crate::source) args: Value,
}

impl Call {
    pub(in crate::source) fn circle() -> Self {
        Self {
            method: "circle",
            args: json!({}),
        }
    }

    pub(in crate::source) fn enrol(enrolment: &Enrolment, signature: &Signature) -> Self {
        Self {
            method: "enrol",
            args: json!({ "enrolment": enrolment, "signature": signature }),
        }
    }

    pub(in crate::source) fn change_key(change: &KeyChangeInput, copies: u32) -> Self {
        Self {
            method: "change_key",
            args: json!({ "change": change, "copies": copies }),
        }
    }

    pub(in crate::source) fn admit(device: &DeviceInput, signature: &Signature) -> Self {
        Self {
            method: "admit",
            args: json!({ "device": device, "signature": signature }),
        }
    }

    pub(in crate::source) fn grant(
        terms: &str,
        opening: &Opening,
        signature: &Signature,
        copies: u32,
    ) -> Self {
        Self {
            method: "grant",
            args: json!({
                "terms": terms,
                "opening": opening,
                "signature": signature,
                "copies": copies,
            }),
        }
    }

    /// The secret becomes public by this call, which is its purpose.
    pub(in crate::source) fn revoke(secret: &str, claim_key: PublicKey, copies: u32) -> Self {
        Self {
            method: "revoke",
            args: json!({
                "secret": secret,
                "claim_key": claim_key,
                "handle": null,
                "copies": copies,
            }),
        }
    }

    pub(in crate::source) fn consents(cursor: Option<&Cursor>, limit: PageLimit) -> Self {
        Self {
            method: "consents",
            args: json!({ "cursor": cursor, "limit": limit }),
        }
    }

    pub(in crate::source) fn put_record(record: &RecordInput) -> Self {
        Self {
            method: "put_record",
            args: json!({ "record": record }),
        }
    }

    pub(in crate::source) fn records(
        cursor: Option<&Cursor>,
        limit: PageLimit,
        resource_type: Option<&str>,
    ) -> Self {
        let args = json!({ "cursor": cursor, "limit": limit, "resource_type": resource_type });
        Self {
            method: "records",
            args,
        }
    }

    pub(in crate::source) fn record(record: RecordId, version: Option<u32>) -> Self {
        Self {
            method: "record",
            args: json!({ "record": record, "version": version }),
        }
    }

    pub(in crate::source) fn put_part(part: &str) -> Self {
        Self {
            method: "put_part",
            args: json!({ "part": part }),
        }
    }

    pub(in crate::source) fn part(digest: Sha256Digest) -> Self {
        Self {
            method: "part",
            args: json!({ "digest": digest }),
        }
    }

    pub(in crate::source) fn record_anchor(anchor: &AnchorInput) -> Self {
        Self {
            method: "record_anchor",
            args: json!({ "anchor": anchor }),
        }
    }

    pub(in crate::source) fn append_log(entry: &LogInput) -> Self {
        Self {
            method: "append_log",
            args: json!({ "entry": entry }),
        }
    }

    pub(in crate::source) fn log_page(author_key: PublicKey, from: Seq, limit: PageLimit) -> Self {
        let args = json!({ "author_key": author_key, "from": from, "limit": limit });
        Self {
            method: "log_page",
            args,
        }
    }

    pub(in crate::source) fn record_head(head: &HeadInput) -> Self {
        Self {
            method: "record_head",
            args: json!({ "head": head }),
        }
    }

    pub(in crate::source) fn put_pool(pool: &PoolInput) -> Self {
        Self {
            method: "put_pool",
            args: json!({ "pool": pool }),
        }
    }

    pub(in crate::source) fn put_ticket(ticket: &TicketInput) -> Self {
        Self {
            method: "put_ticket",
            args: json!({ "ticket": ticket }),
        }
    }

    pub(in crate::source) fn put_receipt(receipt: &ReceiptInput) -> Self {
        Self {
            method: "put_receipt",
            args: json!({ "receipt": receipt }),
        }
    }

    pub(in crate::source) fn receipts(cursor: Option<&Cursor>, limit: PageLimit) -> Self {
        Self {
            method: "receipts",
            args: json!({ "cursor": cursor, "limit": limit }),
        }
    }

    pub(in crate::source) fn put_release(release: &ReleaseInput) -> Self {
        Self {
            method: "put_release",
            args: json!({ "release": release }),
        }
    }

    pub(in crate::source) fn releases(cursor: Option<&Cursor>, limit: PageLimit) -> Self {
        Self {
            method: "releases",
            args: json!({ "cursor": cursor, "limit": limit }),
        }
    }

    pub(in crate::source) fn release(key: EntryKey) -> Self {
        Self {
            method: "release",
            args: json!({ "key": key }),
        }
    }

    pub(in crate::source) fn changes(cursor: Option<&Cursor>, limit: PageLimit) -> Self {
        Self {
            method: "changes",
            args: json!({ "cursor": cursor, "limit": limit }),
        }
    }

    pub(in crate::source) fn entry(kind: EntryKind, key: EntryKey) -> Self {
        Self {
            method: "entry",
            args: json!({ "kind": kind.name(), "key": key }),
        }
    }
}
