//! What `medsync audit` says of the logs.

use anyhow::{Context, ensure};
use medsync::at_rest::HomeSecret;
use medsync::store::Store;
use medsync::store::log::LogFilter;
use medsync_tests::medsync::medsync;
use serde_json::{Value, json};

use super::{Both, expect};

/// The exit codes of `medsync audit`: a log is broken; its circle could not be entered.
const BROKEN: i32 = 2;
const UNREAD: i32 = 3;

impl Both<'_> {
    pub(super) fn filter_the_log(&self) -> anyhow::Result<()> {
        for by in ["patient", "custodian"] {
            let entries = self.log(&["--by", by])?;
            let own = entries.iter().all(|entry| entry["by"] == by);
            ensure!(own && !entries.is_empty(), "{by}: {entries:?}");
        }
        let granted = self.log(&["--kind", "GRANTED"])?;
        let is_kind = granted.iter().all(|entry| entry["kind"] == "GRANTED");
        ensure!(is_kind && granted.len() == 4, "{granted:?}");
        let by_custodian = self.log(&["--kind", "GRANTED", "--by", "custodian"])?;
        ensure!(by_custodian.is_empty(), "{by_custodian:?}");
        let declined = self.entry("DECLINED")?;
        let since = declined["at"].as_u64().context("an entry has a time")?;
        let is_since = |entry: &Value| entry["at"].as_u64().is_some_and(|at| at >= since);
        ensure!(!self.log(&[])?.iter().all(is_since), "some are earlier");
        let entries = self.log(&["--since", &since.to_string()])?;
        ensure!(entries.iter().all(is_since), "{entries:?}");
        ensure!(entries.contains(&declined), "{entries:?}");
        Ok(())
    }

    pub(super) fn verify_the_log(&self) -> anyhow::Result<()> {
        for name in ["patient", "hospital"] {
            let home = self.story.path_text(name);
            let mut arguments = vec!["audit", "verify", "--home", &home];
            arguments.extend(["--circle", &self.circle]);
            let said = medsync(&arguments)?;
            expect(&said, 0, "entries follow each other")?;
            ensure!(!said.out.contains("BROKEN"), "{}", said.out);
            arguments.push("--json");
            let report = medsync(&arguments)?.json()?;
            ensure!(report["sound"] == true, "{report}");
            ensure!(report["circle_was_read"] == true, "{report}");
            let logs = report["logs"].as_array().context("no logs")?;
            let is_sound = logs.iter().all(|log| log["log"]["faults"] == json!([]));
            ensure!(is_sound && logs.len() == 2, "{report}");
        }
        Ok(())
    }

    /// An entry of the first number whose author did not sign it, in the patient's store.
    pub(super) fn verify_a_broken_log(&self) -> anyhow::Result<()> {
        let home = self.story.path("patient");
        tokio::runtime::Runtime::new()?.block_on(async {
            let store = Store::open(&home, &HomeSecret::of(&home)?).await?;
            let context = self.circle.parse()?;
            let log = store.log(context, &LogFilter::default()).await?;
            let mut forged = log.first().context("a log has entries")?.clone();
            forged.entry.at.0 += 1;
            let now = forged.entry.at;
            ensure!(store.keep_entry(&forged, now).await?, "it is another entry");
            anyhow::Ok(())
        })?;
        let home = self.story.path_text("patient");
        let said = medsync(&["audit", "verify", "--home", &home])?;
        expect(&said, BROKEN, "bad_signature")
    }

    /// What was seen is evidence, also when the circle is not entered any more.
    pub(super) fn read_the_log_all_the_same(&self) -> anyhow::Result<()> {
        let home = self.story.path_text("patient");
        let listed = medsync(&["audit", "list", "--home", &home, "--kind", "REVOKED"])?;
        expect(&listed, UNREAD, "this is what was kept here")?;
        ensure!(listed.out.contains("REVOKED"), "{listed:?}");
        Ok(())
    }
}
