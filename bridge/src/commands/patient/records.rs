//! Records: listing them, by what they say of themselves, and opening one.

use anyhow::Context;
use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Attributes, Concept};
use medsync_protocol::ids::{ContextId, RecordId, UnixSeconds};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealedFor};
use serde_json::json;
use zeroize::Zeroizing;

use super::{open_keys, own_circle, record_id};
use crate::commands::verify::code;
use crate::commands::{Home, print_json};
use crate::keys::PatientKeys;
use crate::parts;
use crate::party::Party;
use crate::source::{Circle, all_records};

/// List the records, or open one.
#[derive(Debug, clap::Args)]
pub struct Records {
    #[command(flatten)]
    home: Home,
    /// Only of this FHIR type.
    #[arg(long = "type")]
    resource_type: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Open this record and print the resource.
    #[arg(long, value_parser = record_id)]
    open: Option<RecordId>,
}

/// Which records are listed: those that fit all that is asked.
#[derive(Debug, Default, clap::Args)]
struct Filter {
    /// Only with this clinical code, as SYSTEM|CODE.
    #[arg(long, value_parser = code)]
    code: Option<Code>,
    /// Only with this security label, as SYSTEM|CODE.
    #[arg(long, value_parser = code)]
    label: Option<Code>,
    /// Only data of this unix second or later.
    #[arg(long)]
    from: Option<u64>,
    /// Only data before this unix second.
    #[arg(long)]
    to: Option<u64>,
}

impl Filter {
    fn fits(&self, record: &Attributes) -> bool {
        let has = |wanted: &Option<Code>, concepts: &[Concept]| {
            wanted.as_ref().is_none_or(|wanted| {
                concepts
                    .iter()
                    .any(|concept| concept.0.iter().any(|code| code == wanted))
            })
        };
        let in_period = match record.data_date {
            Some(UnixSeconds(date)) => {
                self.from.is_none_or(|from| from <= date) && self.to.is_none_or(|to| date < to)
            }
            // Of what has no date nobody knows whether it is of that time.
            None => self.from.is_none() && self.to.is_none(),
        };
        in_period && has(&self.code, &record.codes) && has(&self.label, &record.labels)
    }
}

impl Records {
    /// Lists or opens.
    ///
    /// # Errors
    /// A record that is not there, or that does not open with the patient's key.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let circle = party.enter(context).await?;
        if let Some(record) = self.open {
            let keys = open_keys(&self.home.home)?;
            let resource = open_record(&*circle, context, &keys, (record, None)).await?;
            println!("{}", std::str::from_utf8(&resource)?);
            return Ok(());
        }
        for record in all_records(&*circle, self.resource_type.as_deref()).await? {
            if self.filter.fits(&record.attributes) {
                print_json(&json!({
                    "record": record.record,
                    "version": record.version.0,
                    "type": record.resource_type,
                    "codes": record.attributes.codes,
                    "labels": record.attributes.labels,
                    "data_date": record.attributes.data_date,
                    "sealed_bytes": record.payload_bytes,
                }))?;
            }
        }
        Ok(())
    }
}

/// Opens a version of a record with the patient's key, the latest if none is named.
///
/// # Errors
/// A record that is not there, whose payload has not arrived, or that does not open.
pub(super) async fn open_record(
    circle: &dyn Circle,
    context: ContextId,
    keys: &PatientKeys,
    (record, version): (RecordId, Option<RecordVersion>),
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let full = circle.record(record, version).await?;
    let place = SealedFor {
        context,
        record,
        version: full.record.version,
        reader: keys.seal.public_key(),
        log: None,
    };
    let payload = full
        .payload
        .context("the record's payload has not arrived here yet")?;
    let key = RecordKey::open(&keys.seal, &place, &full.record.key_for_patient)?;
    Ok(parts::open(circle, &key, &place, &payload).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_listed_if_it_fits_all_that_is_asked() {
        let concept = |code| vec![Concept(vec![Code::new("s", "other"), Code::new("s", code)])];
        let record = Attributes {
            codes: concept("heart"),
            labels: concept("R"),
            data_date: Some(UnixSeconds(100)),
            ..Attributes::default()
        };
        let wanted = |code| Some(Code::new("s", code));
        assert!(Filter::default().fits(&record));
        let all = Filter {
            code: wanted("heart"),
            label: wanted("R"),
            from: Some(100),
            to: Some(101),
        };
        assert!(all.fits(&record));
        for other in [
            Filter {
                code: wanted("mind"),
                ..Filter::default()
            },
            Filter {
                label: wanted("N"),
                ..Filter::default()
            },
            Filter {
                from: Some(101),
                ..Filter::default()
            },
            Filter {
                to: Some(100),
                ..Filter::default()
            },
        ] {
            assert!(!other.fits(&record), "{other:?}");
        }
        let undated = Attributes {
            data_date: None,
            ..record
        };
        assert!(!all.fits(&undated));
        assert!(Filter::default().fits(&undated));
    }
}
