//! The date of the data itself.
//!
//! A day is its first moment, in UTC, and so is a period within one. What is no day is no date: a
//! year, a month, a period of more than a day or without an end, a date that cannot be read or is
//! from before 1970, which no period of a consent can name, and dates of different days in a
//! resource and what it contains. What has no date is outside of every permit that is restricted
//! to a period and inside of every such denial.

use chrono::{DateTime, NaiveDate, NaiveTime};
use medsync_protocol::ids::UnixSeconds;
use serde_json::Value;

const DAY_S: u64 = 24 * 60 * 60;

/// Where a resource says when its data is from: the first of these that it has. One that ends in
/// `[x]` has a type in its name.
const DATES: [&str; 15] = [
    "effective[x]",
    "onset[x]",
    "performed[x]",
    "occurrence[x]",
    "period",
    "billablePeriod",
    "serviced[x]",
    "started",
    "authoredOn",
    "recordedDate",
    "date",
    "issued",
    "created",
    "recorded",
    "birthDate",
];

/// What an element of a resource says; of one without a value, what is said instead, which is no
/// date.
fn said<'a>(resource: &'a Value, element: &str) -> Option<&'a Value> {
    let is_it = |name: &str| match element.strip_suffix("[x]") {
        None => name == element,
        Some(stem) => name
            .strip_prefix(stem)
            .is_some_and(|of| of.starts_with(|c: char| c.is_ascii_uppercase())),
    };
    let fields = resource.as_object()?;
    let value = fields.iter().find(|(name, _)| is_it(name));
    let instead = || {
        fields
            .iter()
            .find(|(name, _)| name.strip_prefix('_').is_some_and(is_it))
    };
    value.or_else(instead).map(|(_, value)| value)
}

/// The date of a resource's data, of which these are the parts.
pub(super) fn of<'a>(parts: &[&'a Value]) -> Option<UnixSeconds> {
    let of_part = |part: &&'a Value| DATES.iter().find_map(|element| said(part, element));
    let said: Vec<&Value> = parts.iter().filter_map(of_part).collect();
    let dates: Option<Vec<UnixSeconds>> = said.into_iter().map(date).collect();
    let dates = dates?;
    let first = *dates.first()?;
    dates
        .iter()
        .all(|date| is_same_day(first, *date))
        .then_some(first)
}

/// The one date that an element says.
fn date(said: &Value) -> Option<UnixSeconds> {
    if let Some(text) = said.as_str() {
        return parse(text);
    }
    let [start, end] = ["start", "end"].map(|part| said[part].as_str().and_then(parse));
    start
        .zip(end)
        .filter(|(start, end)| is_same_day(*start, *end))
        .map(|(start, _)| start)
}

fn is_same_day(one: UnixSeconds, other: UnixSeconds) -> bool {
    one.0 / DAY_S == other.0 / DAY_S
}

/// Reads a FHIR date, dateTime or instant that says a day at least.
fn parse(text: &str) -> Option<UnixSeconds> {
    let seconds = match text.len() {
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
        assert_eq!(at("1970-01-02"), Some(86_400));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(at("2012-03-07T20:15:35+00:00"), Some(1_331_151_335));
        assert_eq!(at("2015-02-07T13:28:17.239+02:00"), Some(1_423_308_497));
        for none in [
            "",
            "1969-12-31",
            "2020",
            "2020-02",
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
    fn the_first_element_counts_and_what_is_no_day_is_no_date() {
        let of = |resource: Value| of(&[&resource]);
        let day = parse("2019-01-01");
        assert_eq!(
            of(json!({"issued": "2020-01-01", "onsetDateTime": "2019-01-01"})),
            day
        );
        let hours = json!({"start": "2019-01-01T10:00:00Z", "end": "2019-01-01T11:00:00Z"});
        assert_eq!(of(json!({"period": hours})), parse("2019-01-01T10:00:00Z"));
        for no_day in [
            json!({"start": "2019-01-01", "end": "2019-01-02"}),
            json!({"start": "2019-01-01"}),
            json!({"end": "2019-01-01"}),
            json!("2019"),
            json!([1]),
        ] {
            let resource = json!({"effectivePeriod": no_day, "issued": "2019-01-01"});
            assert_eq!(of(resource), None, "{no_day}");
        }
        for in_words in [
            "onsetString",
            "onsetAge",
            "_onsetDateTime",
            "performedRange",
            "_date",
        ] {
            let resource = json!({in_words: "2005", "issued": "2019-01-01"});
            assert_eq!(of(resource), None, "{in_words}");
        }
        let explained = json!({"birthDate": "2019-01-01", "_birthDate": {"extension": []}});
        assert_eq!(of(explained), day);
        assert_eq!(
            of(json!({"onsets": "2005", "performer": [], "issued": "2019-01-01"})),
            day
        );
        assert_eq!(of(json!({"date": 7})), None);
        assert_eq!(of(json!({})), None);
    }

    #[test]
    fn what_is_contained_is_of_the_same_day_or_there_is_no_date() {
        let [day, same, other] = ["2019-01-01", "2019-01-01T10:00:00Z", "2019-01-02"];
        let [whole, same, other] = [day, same, other].map(|date| json!({"date": date}));
        assert_eq!(of(&[&whole, &same]), parse(day));
        assert_eq!(of(&[&whole, &json!({})]), parse(day));
        assert_eq!(of(&[&whole, &other]), None);
        assert_eq!(of(&[&json!({}), &other]), parse("2019-01-02"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
