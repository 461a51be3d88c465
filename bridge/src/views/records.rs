//! Records as they are described, and what is decided of them.

use medsync_client::wire::{self, Decided};

use crate::preview::Line;
use crate::source::Record;

/// A record, without what is sealed.
#[must_use]
pub fn record(record: Record) -> wire::Record {
    wire::Record {
        record: record.record,
        version: record.version.0,
        resource_type: record.resource_type,
        codes: record.attributes.codes,
        labels: record.attributes.labels,
        data_date: record.attributes.data_date,
        sealed_bytes: record.payload_bytes,
    }
}

/// What would become of a record.
#[must_use]
pub fn decided(line: Line) -> Decided {
    Decided {
        is_released: line.is_released(),
        record: line.record,
        version: line.version,
        resource_type: line.resource_type,
        decision: line.decision,
        withheld: line.withheld,
    }
}
