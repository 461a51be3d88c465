//! What a consent covers, as the command line says it: the root provision and its exceptions.

use anyhow::{Context, ensure};
use medsync_protocol::codes::{Code, CodeSet, Member, SortedSet};
use medsync_protocol::ids::{AuthorId, RecordId};
use medsync_protocol::terms::{Provision, ProvisionKind};

use crate::commands::verify::code;

/// The end of a period that was given none: later than any date can be, and still a number that
/// every reader of JSON keeps.
const NO_END: u64 = (1 << 53) - 1;

/// What is permitted or denied. What is not named restricts nothing.
#[derive(Debug, clap::Args)]
pub struct Rules {
    /// For what, as SYSTEM|CODE; may be named several times.
    #[arg(long, required = true, value_parser = code)]
    purpose: Vec<Code>,
    /// Which classes of records, as SYSTEM|CODE; may be named several times. All if none is named.
    #[arg(long, value_parser = code)]
    class: Vec<Code>,
    /// Only records with this clinical code, as SYSTEM|CODE; may be named several times.
    #[arg(long, value_parser = code)]
    code: Vec<Code>,
    /// Only records with this security label, as SYSTEM|CODE; may be named several times.
    #[arg(long, value_parser = code)]
    label: Vec<Code>,
    /// Only records that this author made: 0x and the SHA-256 of the author's FHIR reference, in
    /// hex; may be named several times.
    #[arg(long)]
    author: Vec<AuthorId>,
    /// Only this record (`medsync patient records`); may be named several times.
    #[arg(long)]
    record: Vec<RecordId>,
    /// Only data of this unix second or later.
    #[arg(long)]
    data_from: Option<u64>,
    /// Only data before this unix second.
    #[arg(long)]
    data_until: Option<u64>,
    /// Deny what is named instead of permitting it, whatever other consents permit. The exceptions
    /// are then permitted, for the named purposes.
    #[arg(long)]
    deny: bool,
    /// What the recipient must keep, as SYSTEM|CODE; may be named several times.
    #[arg(long, value_parser = code)]
    obligation: Vec<Code>,
    /// Records with this security label are excepted, as SYSTEM|CODE; may be named several times.
    /// Without --deny, records that have no known label are excepted too.
    #[arg(long, value_parser = code)]
    except_label: Vec<Code>,
    /// Records of this class are excepted, as SYSTEM|CODE; may be named several times.
    #[arg(long, value_parser = code)]
    except_class: Vec<Code>,
    /// Records with this clinical code are excepted, as SYSTEM|CODE; may be named several times.
    /// Without --deny, records that have no known code are excepted too.
    #[arg(long, value_parser = code)]
    except_code: Vec<Code>,
}

impl Rules {
    /// The root provision and its exceptions, which are of the opposite kind.
    ///
    /// # Errors
    /// An option with too much or too long a value, or options that contradict each other.
    pub(super) fn provisions(&self) -> anyhow::Result<(Provision, Vec<Provision>)> {
        let kind = if self.deny {
            ProvisionKind::Deny
        } else {
            ProvisionKind::Permit
        };
        let named = Provision {
            purposes: set("--purpose", &self.purpose)?,
            classes: set("--class", &self.class)?,
            codes: set("--code", &self.code)?,
            labels: set("--label", &self.label)?,
            authors: set("--author", &self.author)?,
            records: set("--record", &self.record)?,
            data_period: self.data_period()?,
            ..Provision::everything(kind)
        };
        let obligations = set("--obligation", &self.obligation)?;
        if !self.deny {
            let exceptions = self.exceptions(&Provision::everything(ProvisionKind::Deny))?;
            let root = Provision {
                obligations,
                ..named
            };
            return Ok((root, exceptions));
        }
        // What is permitted all the same is part of what is denied, and no more.
        let permitted = Provision {
            kind: ProvisionKind::Permit,
            obligations,
            ..named.clone()
        };
        let exceptions = self.exceptions(&permitted)?;
        ensure!(
            self.obligation.is_empty() || !exceptions.is_empty(),
            "--obligation is for what is permitted, and --deny without an exception permits nothing"
        );
        Ok((named, exceptions))
    }

    /// One exception for each option that names some, else like this one.
    fn exceptions(&self, like: &Provision) -> anyhow::Result<Vec<Provision>> {
        let labels: CodeSet = set("--except-label", &self.except_label)?;
        let classes: CodeSet = set("--except-class", &self.except_class)?;
        let codes: CodeSet = set("--except-code", &self.except_code)?;
        let mut exceptions = Vec::new();
        if !labels.is_empty() {
            exceptions.push(Provision {
                labels,
                ..like.clone()
            });
        }
        if !classes.is_empty() {
            exceptions.push(Provision {
                classes,
                ..like.clone()
            });
        }
        if !codes.is_empty() {
            exceptions.push(Provision {
                codes,
                ..like.clone()
            });
        }
        Ok(exceptions)
    }

    fn data_period(&self) -> anyhow::Result<Option<(u64, u64)>> {
        if self.data_from.is_none() && self.data_until.is_none() {
            return Ok(None);
        }
        let from = self.data_from.unwrap_or(0);
        let until = self.data_until.unwrap_or(NO_END);
        ensure!(
            from < until,
            "--data-from has to be before --data-until: {from} is not before {until}"
        );
        Ok(Some((from, until)))
    }
}

/// What an option named, as a set; an error says which option.
fn set<T: Member + Clone>(option: &'static str, named: &[T]) -> anyhow::Result<SortedSet<T>> {
    SortedSet::collect(named.iter().cloned()).context(option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use medsync_protocol::codes::{CODE_TEXT_BYTES_MAX, SET_LEN_MAX};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        rules: Rules,
    }

    fn parsed(options: &[&str]) -> Result<Rules, clap::Error> {
        let line = ["grant", "--purpose", "s|research"].into_iter();
        Line::try_parse_from(line.chain(options.iter().copied())).map(|line| line.rules)
    }

    fn provisions(options: &[&str]) -> anyhow::Result<(Provision, Vec<Provision>)> {
        parsed(options).expect("these are options").provisions()
    }

    fn codes(code: &str) -> CodeSet {
        CodeSet::collect([Code::new("s", code)]).expect("one short code")
    }

    fn error(options: &[&str]) -> String {
        let refused = provisions(options).expect_err("these are refused");
        format!("{refused:#}")
    }

    #[test]
    fn every_option_has_its_place() {
        let (author, record) = (AuthorId([1; 32]), RecordId([2; 32]));
        let (a, r) = (author.to_string(), record.to_string());
        let mut options = vec!["--class", "s|class", "--code", "s|code", "--author", &a];
        options.extend(["--record", &r, "--data-from", "5", "--data-until", "9"]);
        options.extend(["--label", "s|own", "--obligation", "s|duty"]);
        options.extend(["--except-label", "s|label"]);
        options.extend(["--except-class", "s|other", "--except-code", "s|odd"]);
        let (root, exceptions) = provisions(&options).expect("sound");
        let named = Provision {
            purposes: codes("research"),
            classes: codes("class"),
            codes: codes("code"),
            labels: codes("own"),
            authors: SortedSet::collect([author]).expect("one"),
            records: SortedSet::collect([record]).expect("one"),
            data_period: Some((5, 9)),
            obligations: codes("duty"),
            ..Provision::everything(ProvisionKind::Permit)
        };
        assert_eq!(root, named);
        let deny = Provision::everything(ProvisionKind::Deny);
        let [label, class, code] = exceptions.as_slice() else {
            panic!("{exceptions:?}");
        };
        assert_eq!((label.kind, &label.labels), (deny.kind, &codes("label")));
        assert_eq!((class.kind, &class.classes), (deny.kind, &codes("other")));
        assert_eq!((code.kind, &code.codes), (deny.kind, &codes("odd")));
        assert!(exceptions.iter().all(|rule| rule.purposes.is_empty()));

        options.push("--deny");
        let (root, exceptions) = provisions(&options).expect("sound");
        let denied = Provision {
            kind: ProvisionKind::Deny,
            obligations: CodeSet::default(),
            ..named.clone()
        };
        assert_eq!(root, denied);
        let odd = Provision {
            codes: codes("odd"),
            ..named
        };
        assert_eq!(
            exceptions.last(),
            Some(&odd),
            "within the root, under its duties"
        );
    }

    #[test]
    fn a_period_may_be_open_at_one_side() {
        let period = |options: &[&str]| provisions(options).expect("sound").0.data_period;
        assert_eq!(period(&[]), None);
        assert_eq!(period(&["--data-from", "5"]), Some((5, NO_END)));
        assert_eq!(period(&["--data-until", "5"]), Some((0, 5)));
    }

    #[test]
    fn what_is_refused_names_its_option() {
        let long = format!("s|{}", "x".repeat(CODE_TEXT_BYTES_MAX + 1));
        for option in [
            "--purpose",
            "--class",
            "--code",
            "--label",
            "--obligation",
            "--except-label",
            "--except-class",
            "--except-code",
        ] {
            assert!(error(&[option, &long]).starts_with(option), "{option}");
        }
        let ids: Vec<String> = (0..=SET_LEN_MAX)
            .map(|number| format!("0x{number:064x}"))
            .collect();
        for option in ["--author", "--record"] {
            let many: Vec<&str> = ids.iter().flat_map(|id| [option, id.as_str()]).collect();
            assert!(error(&many).starts_with(option), "{option}");
            let refused = parsed(&[option, "0x00"]).expect_err("no 32 bytes");
            assert!(refused.to_string().contains(option), "{refused}");
        }
        assert!(error(&["--data-from", "5", "--data-until", "5"]).contains("--data-until"));
        assert!(error(&["--deny", "--obligation", "s|duty"]).contains("--deny"));
    }
}
