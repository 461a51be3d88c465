//! What a replica shows, as the tests compare it.

use medsync_tests::circle::{Logged, public_key};
use medsync_tests::replica::Replica;
use serde_json::{Value, json};

/// The most entries that are asked for at once: one page.
const LIMIT: usize = 100;

/// The text that a value is.
pub fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A page that holds everything.
pub fn list(replica: &Replica, method: &str) -> Vec<Value> {
    let page = replica.view(method, &json!({ "limit": LIMIT }));
    let page = page.expect("a page");
    assert!(page["next"].is_null(), "{method} fill more than a page");
    page[method].as_array().expect("a list").clone()
}

/// A replica shows a log up to the first entry that does not count for it, and nothing else: every
/// entry that comes before it is there, once, as its author signed it.
pub fn check_log(replica: &Replica, author: u8, log: &[Logged], counts: impl Fn(&Logged) -> bool) {
    let arguments = json!({ "author_key": public_key(author), "from": 0, "limit": LIMIT });
    let page = replica.view("log_page", &arguments).expect("a page");
    let entries = page["entries"].as_array().expect("a list").iter();
    let shown: Vec<String> = entries.map(|entry| text(&entry["digest"])).collect();
    let expected: Vec<String> = log
        .iter()
        .take_while(|entry| counts(entry))
        .take(LIMIT)
        .map(|entry| entry.entry.digest().to_string())
        .collect();
    assert_eq!(shown, expected, "the log of {author}");
}
