//! The researcher's pool: funded, promised, claimed through a relayer, paid out, and refunded at
//! the end; and that the amounts add up.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::access::lines;
use super::{Story, insist, text, wait_for};

/// The token by which Starknet's fees are paid, on every chain.
const STRK: &str = "0x4718f5a0fc34cc1af16a1cdee98ffb20c31f5cd61d6ab07201858f4287c938d";
/// In the token's smallest unit: five to the patient and one to the hospital for a claim.
const REWARD: u128 = 5_000_000_000_000_000_000;
const SHARE: u128 = 1_000_000_000_000_000_000;
const CLAIMS: u128 = 2;
const DAY_S: u64 = 24 * 60 * 60;
const LABEL: &str = "study of the story";
/// An address at which nothing is yet.
const FRESH: &str = "0x5eed";
/// Devnet's accounts by their numbers: the hospital's, and those that fund and relay.
const HOSPITAL: usize = 1;
const FUNDER: usize = 4;
const RELAYER: usize = 5;

/// Runs a command of `medsync rewards` until it succeeds.
fn rewards(what: &str, options: &[&str], whose: &[String]) -> anyhow::Result<Value> {
    let mut arguments = vec!["rewards", what];
    arguments.extend(options);
    arguments.extend(whose.iter().map(String::as_str));
    insist(&arguments)
}

fn totals(party: &str, place: &[String]) -> anyhow::Result<Value> {
    rewards("totals", &["--party", party, "--token", STRK], place)
}

impl Story {
    /// Where the contract is.
    fn place(&self) -> anyhow::Result<Vec<String>> {
        let deployment = self.path_text("deployment.json");
        let (rpc, of) = (self.rpc()?, "--deployment".to_owned());
        Ok(vec!["--rpc".into(), rpc, of, deployment])
    }

    /// And who pays the gas.
    fn payer(&self, number: usize, file: &str) -> anyhow::Result<Vec<String>> {
        let (account, key) = self.account(number, file)?;
        let mut arguments = self.place()?;
        arguments.extend(["--account".into(), account, "--key-file".into(), key]);
        Ok(arguments)
    }

    fn devnets_address(&self, number: usize) -> anyhow::Result<String> {
        Ok(self.devnet()?.accounts()[number].address.clone())
    }

    pub(super) fn fund_a_pool(&mut self) -> anyhow::Result<()> {
        let payer = self.payer(FUNDER, "funder.key")?;
        let quota = format!("{}={CLAIMS}", self.devnets_address(HOSPITAL)?);
        let end = self.devnet()?.time()? + 3 * DAY_S;
        let pool = self
            .report
            .step("researcher", "fund a pool for two claims", |figures| {
                let [end, back] = [end, end + DAY_S].map(|time| time.to_string());
                let [reward, share] = [REWARD, SHARE].map(|amount| amount.to_string());
                let mut open = vec!["--nonce", "0x1", "--token", STRK, "--reward", &reward];
                open.extend(["--custodian-share", &share, "--claim-end", &end]);
                open.extend(["--refund-time", &back, "--label", LABEL, "--quota", &quota]);
                let opened = rewards("open", &open, &payer)?;
                figures.insert("pool".into(), opened["pool"].clone());
                figures.insert("a claim pays".into(), reward.clone().into());
                text(&opened, "pool")
            })?;
        self.pool = Some(pool);
        Ok(())
    }

    /// The hospital issues tickets from the pool, also for the consent that was there before, and
    /// the patient has one with its receipt.
    pub(super) fn promise_a_reward(&mut self) -> anyhow::Result<()> {
        let (hospital, home) = (self.path_text("hospital"), self.path_text("patient"));
        let (recipient, consent) = (self.grantee()?, self.consent()?);
        let funder = self.devnets_address(FUNDER)?;
        let pool = self.pool.clone().context("a pool")?;
        let deployment = std::fs::read(self.path("deployment.json"))?;
        let deployment: Value = serde_json::from_slice(&deployment)?;
        let contract = text(&deployment, "reward_pool")?;
        self.report.step(
            "hospital",
            "promise a reward: one ticket, in a batch",
            |figures| {
                let mut add = vec!["hospital", "pools", "add", "--home", &hospital];
                add.extend([
                    "--contract",
                    &contract,
                    "--funder",
                    &funder,
                    "--nonce",
                    "0x1",
                ]);
                add.extend(["--recipient", &recipient, "--label", LABEL]);
                let added = insist(&add)?;
                ensure!(added["pool"] == pool.as_str(), "{added}");
                let ticket = wait_for("the ticket to be anchored", || {
                    let tickets = lines(&["patient", "tickets", "--home", &home])?;
                    let tickets = tickets.unwrap_or_default();
                    ensure!(tickets.len() <= 1, "one ticket a pool and patient");
                    let anchored = |ticket: &Value| ticket["stage"] == "anchored";
                    Ok(tickets.into_iter().find(anchored))
                })?;
                ensure!(ticket["pool"] == added["pool"], "{ticket}");
                ensure!(ticket["known_as"]["label"] == LABEL, "{ticket}");
                let handle = ticket["handle"].clone();
                ensure!(consent["handle"] == handle, "{consent} {handle}");
                figures.insert("ticket".into(), handle);
                Ok(())
            },
        )
    }

    pub(super) fn claim_the_reward(&mut self) -> anyhow::Result<()> {
        let (home, file) = (self.path_text("patient"), self.path_text("claim.json"));
        let (place, payer) = (self.place()?, self.payer(RELAYER, "relayer.key")?);
        let hospital = self.devnets_address(HOSPITAL)?;
        self.report.step(
            "patient",
            "claim through a relayer, to a fresh address; both are paid",
            |figures| {
                let mut sign = vec!["patient", "claim", "--home", &home];
                sign.extend(["--pay-to", FRESH, "--out", &file]);
                insist(&sign)?;
                rewards("claim", &[file.as_str()], &payer)?;
                for (name, owner, due) in [
                    ("paid to the patient", FRESH, REWARD),
                    ("paid to the hospital", hospital.as_str(), SHARE),
                ] {
                    rewards("withdraw", &["--owner", owner, "--token", STRK], &payer)?;
                    let totals = totals(owner, &place)?;
                    ensure!(totals["withdrawn"] == due.to_string(), "{totals}");
                    ensure!(totals["accrued"] == "0", "{totals}");
                    figures.insert(name.into(), due.to_string().into());
                }
                Ok(())
            },
        )
    }

    /// The chain's clock goes on to the refund time: nothing of the story comes after.
    pub(super) fn refund_what_is_left(&mut self) -> anyhow::Result<()> {
        let (place, payer) = (self.place()?, self.payer(RELAYER, "relayer.key")?);
        let (pool, funder) = (
            self.pool.clone().context("a pool")?,
            self.devnets_address(FUNDER)?,
        );
        let devnet = self.devnet.as_ref().context("the devnet is not started")?;
        self.report.step(
            "researcher",
            "get back what nobody claimed; the amounts add up",
            |figures| {
                let status = rewards("status", &[pool.as_str()], &place)?;
                let back = status["refund_time"].as_u64().context("a time")?;
                if devnet.time()? < back {
                    devnet.close_block_at(back)?;
                }
                rewards("refund", &[pool.as_str()], &payer)?;
                rewards("withdraw", &["--owner", &funder, "--token", STRK], &payer)?;
                let totals = totals(&funder, &place)?;
                let (paid, left) = (REWARD + SHARE, (CLAIMS - 1) * (REWARD + SHARE));
                ensure!(totals["deposited"] == (left + paid).to_string(), "{totals}");
                for what in ["refunded", "withdrawn"] {
                    ensure!(totals[what] == left.to_string(), "{totals}");
                }
                let status = rewards("status", &[pool.as_str()], &place)?;
                ensure!(status["escrow"] == "0", "{status}");
                figures.insert("deposited".into(), totals["deposited"].clone());
                figures.insert("refunded".into(), totals["refunded"].clone());
                figures.insert("paid for the claim".into(), paid.to_string().into());
                Ok(())
            },
        )
    }
}
