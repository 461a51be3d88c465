//! Records: listing them, by what they say of themselves, and opening one.

use anyhow::Context;
use medsync_protocol::audit::RecordRef;
use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Attributes, Concept};
use medsync_protocol::ids::{ContextId, RecordId, UnixSeconds};
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::seal::{RecordKey, RecordVersion, SealedFor};
use zeroize::Zeroizing;

use super::{open_keys, own_circle, record_id};
use crate::audit::described_fact;
use crate::commands::verify::code;
use crate::commands::{Home, print_json};
use crate::fhir;
use crate::parts;
use crate::party::Party;
use crate::source::{Circle, all_records};
use crate::store::Store;
use crate::views;

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
            let opened = open_record(&*circle, context, &keys, (record, None)).await?;
            opened.note(&party.store, context).await?;
            println!("{}", std::str::from_utf8(&opened.resource)?);
            return Ok(());
        }
        for record in all_records(&*circle, self.resource_type.as_deref()).await? {
            if self.filter.fits(&record.attributes) {
                print_json(&views::records::record(record))?;
            }
        }
        Ok(())
    }
}

/// A version of a record that was opened.
pub(super) struct Opened {
    /// Which one it is.
    pub what: RecordRef,
    /// Its payload.
    pub resource: Zeroizing<Vec<u8>>,
    /// Whether its custodian describes it as it reads: what is released goes by the description.
    pub is_as_described: bool,
}

impl Opened {
    /// Keeps for the patient to see that a custodian describes it otherwise.
    pub async fn note(&self, store: &Store, context: ContextId) -> anyhow::Result<()> {
        if self.is_as_described {
            return Ok(());
        }
        let RecordRef { record, version } = self.what;
        let why = format!(
            "the hospital describes record {record} (version {version}) otherwise than it reads; \
             what it releases goes by that description"
        );
        tracing::error!(why, "ALARM: a record is described falsely");
        Ok(store.state_fact(&described_fact(context), &why).await?)
    }
}

/// Whether a record's type and attributes are what its payload says of itself.
fn describes((resource_type, attributes): (&str, &Attributes), payload: &[u8]) -> bool {
    let resource = std::str::from_utf8(payload).ok();
    let Some(Ok(resource)) = resource.map(fhir::parse_resource) else {
        return false;
    };
    let said = Attributes {
        record: None,
        ..attributes.clone()
    };
    (resource.resource_type.as_str(), &resource.attributes) == (resource_type, &said)
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
) -> anyhow::Result<Opened> {
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
    let resource = parts::open(circle, &key, &place, &payload).await?;
    let described = (full.record.resource_type.as_str(), &full.record.attributes);
    Ok(Opened {
        what: RecordRef {
            record,
            version: full.record.version.0,
        },
        is_as_described: describes(described, &resource),
        resource,
    })
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

    #[test]
    fn hostile_custodian_describes_a_record_otherwise_than_it_reads_and_it_is_noticed() {
        let payload =
            br#"{"resourceType":"Observation","code":{"coding":[{"system":"s","code":"c"}]},
            "meta":{"security":[{"system":"s","code":"R"}]}}"#;
        let text = std::str::from_utf8(payload).expect("text");
        let resource = fhir::parse_resource(text).expect("a resource");
        let honest = Attributes {
            record: Some(RecordId([1; 32])),
            ..resource.attributes
        };
        let without_label = Attributes {
            labels: Vec::new(),
            ..honest.clone()
        };
        assert!(describes(("Observation", &honest), payload));
        assert!(!describes(("Observation", &without_label), payload));
        assert!(!describes(("Condition", &honest), payload));
        for broken in [&b"no resource"[..], br#"1},"resource":{"#, b"\xff"] {
            assert!(!describes(("Observation", &honest), broken));
        }
    }
}
