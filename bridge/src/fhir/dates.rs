//! The date of the data itself.
//!
//! A date without a day or a month is its first moment, in UTC. A date that cannot be read, or
//! from before 1970, which no period of a consent can name, is none: what has no date is outside
//! of every permit that is restricted to a period and inside of every such denial.

use chrono::{DateTime, NaiveDate, NaiveTime};
use medsync_protocol::ids::UnixSeconds;
use serde_json::Value;

/// Where a resource says when its data is from: the first of these that it has. A path of two is
/// the start of a period.
const DATES: [(&str, Option<&str>); 20] = [
    ("effectiveDateTime", None),
    ("effectiveInstant", None),
    ("effectivePeriod", Some("start")),
    ("onsetDateTime", None),
    ("onsetPeriod", Some("start")),
    ("performedDateTime", None),
    ("performedPeriod", Some("start")),
    ("occurrenceDateTime", None),
    ("occurrencePeriod", Some("start")),
    ("period", Some("start")),
    ("billablePeriod", Some("start")),
    ("servicedPeriod", Some("start")),
    ("started", None),
    ("authoredOn", None),
    ("recordedDate", None),
    ("date", None),
    ("issued", None),
    ("created", None),
    ("recorded", None),
    ("birthDate", None),
];

/// The date of a resource's data.
pub(super) fn of(resource: &Value) -> Option<UnixSeconds> {
    let place = |(field, part): &(&str, Option<&str>)| match part {
        None => resource[*field].as_str().map(str::to_owned),
        Some(part) => resource[*field][*part].as_str().map(str::to_owned),
    };
    parse(&DATES.iter().find_map(place)?)
}

/// Reads a FHIR date, dateTime or instant.
fn parse(text: &str) -> Option<UnixSeconds> {
    let seconds = match text.len() {
        4 => day(&format!("{text}-01-01")),
        7 => day(&format!("{text}-01")),
        10 => day(text),
        _ => DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.timestamp()),
    };
    u64::try_from(seconds?).ok().map(UnixSeconds)
}

fn day(text: &str) -> Option<i64> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_time(NaiveTime::MIN).and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_spelling_of_fhir_is_read() {
        let at = |text| parse(text).map(|UnixSeconds(at)| at);
        assert_eq!(at("1970"), Some(0));
        assert_eq!(at("1970-02"), Some(31 * 86_400));
        assert_eq!(at("1970-01-02"), Some(86_400));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(at("2012-03-07T20:15:35+00:00"), Some(1_331_151_335));
        assert_eq!(at("2015-02-07T13:28:17.239+02:00"), Some(1_423_308_497));
        for none in [
            "",
            "1969-12-31",
            "12",
            "2012-13",
            "2012-02-30",
            "2012-03-07T20:15:35",
            "?",
        ] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn the_first_date_counts() {
        let resource = json!({
            "issued": "2020-01-01",
            "effectivePeriod": {"start": "2019-01-01", "end": "2019-02-01"},
        });
        assert_eq!(of(&resource), parse("2019-01-01"));
        assert_eq!(
            of(&json!({"period": "2019", "birthDate": "2000"})),
            parse("2000")
        );
        assert_eq!(of(&json!({"period": [1], "date": 7})), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
