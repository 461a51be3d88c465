//! Pools of the researcher and of the hospital: funded, promised, claimed through a relayer, paid
//! out, and refunded at the end; and that the amounts add up, by the token's own account too.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use starknet::core::utils::get_selector_from_name;

use super::access::lines;
use super::{Story, insist, text, wait_for};

/// The token by which Starknet's fees are paid, on every chain.
const STRK: &str = "0x4718f5a0fc34cc1af16a1cdee98ffb20c31f5cd61d6ab07201858f4287c938d";
/// In the token's smallest unit: five to the patient and one to the hospital for a claim.
const REWARD: u128 = 5_000_000_000_000_000_000;
const SHARE: u128 = 1_000_000_000_000_000_000;
const CLAIMS: u128 = 2;
/// In both pools.
const DEPOSITED: u128 = 2 * CLAIMS * (REWARD + SHARE);
const DAY_S: u64 = 24 * 60 * 60;
/// Who funds a pool, from which of devnet's accounts, and by which text people know it.
const POOLS: [(&str, usize, &str); 2] = [
    ("the researcher", 4, "study of the story, 5b1f94c2"),
    ("the hospital", 6, "the hospital's thanks, 0c77ae15"),
];
/// An address at which nothing is yet.
const FRESH: &str = "0x5eed";
/// Devnet's accounts by their numbers: the one that the hospital anchors with, and a relayer's.
const HOSPITAL: usize = 1;
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
    /// Who funds the researcher's pool, and by which text people know it.
    ///
    /// # Errors
    /// Before the devnet is started.
    pub fn first_pool(&self) -> anyhow::Result<(String, &'static str)> {
        let (_, account, label) = POOLS[0];
        Ok((self.devnets_address(account)?, label))
    }

    /// Its id, once it is funded.
    #[must_use]
    pub fn first_pool_id(&self) -> Option<&str> {
        self.pools.first().map(String::as_str)
    }

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

    /// How much STRK somebody has, by the token's own account.
    fn balance(&self, owner: &str) -> anyhow::Result<u128> {
        let request = json!({
            "contract_address": STRK,
            "entry_point_selector": get_selector_from_name("balance_of")?,
            "calldata": [owner],
        });
        let params = json!({ "request": request, "block_id": "latest" });
        let answer = self.devnet()?.ask("starknet_call", &params)?;
        let low = answer[0].as_str().context("an amount")?;
        Ok(u128::from_str_radix(low.trim_start_matches("0x"), 16)?)
    }

    /// The contract of the pools.
    fn pool_contract(&self) -> anyhow::Result<String> {
        let deployment = std::fs::read(self.path("deployment.json"))?;
        let deployment: Value = serde_json::from_slice(&deployment)?;
        text(&deployment, "reward_pool")
    }

    pub(super) fn fund_pools(&mut self) -> anyhow::Result<()> {
        let quota = format!("{}={CLAIMS}", self.devnets_address(HOSPITAL)?);
        let end = self.devnet()?.time()? + 3 * DAY_S;
        let contract = self.pool_contract()?;
        let payers = POOLS.map(|(_, account, _)| {
            let file = format!("funder-{account}.key");
            self.payer(account, &file)
        });
        let pools = self.report.step(
            "researcher, hospital",
            "fund a pool each, for two claims",
            |figures| {
                let mut pools = Vec::new();
                for ((who, _, label), payer) in POOLS.into_iter().zip(payers) {
                    let [end, back] = [end, end + DAY_S].map(|time| time.to_string());
                    let [reward, share] = [REWARD, SHARE].map(|amount| amount.to_string());
                    let mut open = vec!["--nonce", "0x1", "--token", STRK, "--reward", &reward];
                    open.extend(["--custodian-share", &share, "--claim-end", &end]);
                    open.extend(["--refund-time", &back, "--label", label, "--quota", &quota]);
                    let opened = rewards("open", &open, &payer?)?;
                    figures.insert(format!("pool of {who}"), opened["pool"].clone());
                    pools.push(text(&opened, "pool")?);
                }
                figures.insert("a claim pays".into(), REWARD.to_string().into());
                Ok(pools)
            },
        )?;
        self.pools = pools;
        ensure!(self.balance(&contract)? == DEPOSITED, "what was deposited");
        Ok(())
    }

    /// The hospital issues tickets from the pools, also for the consent that was there before, and
    /// the patient has one of each with its receipt.
    pub(super) fn promise_a_reward(&mut self) -> anyhow::Result<()> {
        let (hospital, home) = (self.path_text("hospital"), self.path_text("patient"));
        let (recipient, consent) = (self.grantee()?, self.consent()?);
        let contract = self.pool_contract()?;
        let funders = POOLS.map(|(_, account, _)| self.devnets_address(account));
        let pools = self.pools.clone();
        self.report.step(
            "hospital",
            "promise rewards: one ticket a pool, in a batch",
            |figures| {
                for ((_, _, label), funder) in POOLS.into_iter().zip(funders) {
                    let funder = funder?;
                    let mut add = vec!["hospital", "pools", "add", "--home", &hospital];
                    add.extend(["--contract", &contract, "--funder", &funder]);
                    add.extend(["--nonce", "0x1", "--recipient", &recipient]);
                    add.extend(["--label", label]);
                    let added = insist(&add)?;
                    let pool = added["pool"].as_str().unwrap_or_default();
                    ensure!(pools.iter().any(|known| known == pool), "{added}");
                }
                let tickets = wait_for("the tickets to be anchored", || {
                    let tickets = lines(&["patient", "tickets", "--home", &home])?;
                    let tickets = tickets.unwrap_or_default();
                    ensure!(
                        tickets.len() <= POOLS.len(),
                        "one ticket a pool and patient"
                    );
                    let all = tickets.len() == POOLS.len()
                        && tickets.iter().all(|ticket| ticket["stage"] == "anchored");
                    Ok(all.then_some(tickets))
                })?;
                for ticket in tickets {
                    ensure!(ticket["handle"] == consent["handle"], "{ticket}");
                    ensure!(ticket["paid_since"].is_null(), "{ticket}");
                    let label = &ticket["known_as"]["label"];
                    ensure!(
                        POOLS.iter().any(|(_, _, known)| *label == *known),
                        "{ticket}"
                    );
                }
                figures.insert("tickets for".into(), consent["handle"].clone());
                Ok(())
            },
        )
    }

    pub(super) fn claim_the_rewards(&mut self) -> anyhow::Result<()> {
        let home = self.path_text("patient");
        let (place, payer) = (self.place()?, self.payer(RELAYER, "relayer.key")?);
        let hospital = self.devnets_address(HOSPITAL)?;
        let (file, api) = (
            self.path_text("claim.json"),
            self.hospital()?.door()?.to_string(),
        );
        let pools = self.pools.clone();
        self.report.step(
            "patient",
            "claim to a fresh address, by a relayer and by the hospital; both are paid",
            |figures| {
                for (pool, by) in pools.iter().zip([["--out", &file], ["--api", &api]]) {
                    let mut sign = vec!["patient", "claim", "--home", &home, "--pool", pool];
                    sign.extend(["--pay-to", FRESH]);
                    sign.extend(by);
                    insist(&sign)?;
                }
                rewards("claim", &[&file], &payer)?;
                wait_for("the claims to be paid", || {
                    let tickets = lines(&["patient", "tickets", "--home", &home])?;
                    let tickets = tickets.unwrap_or_default();
                    let is_paid = |ticket: &Value| !ticket["paid_since"].is_null();
                    Ok((tickets.len() == 2 && tickets.iter().all(is_paid)).then_some(()))
                })?;
                for (name, owner, due) in [
                    ("paid to the patient", FRESH, 2 * REWARD),
                    ("paid to the hospital", hospital.as_str(), 2 * SHARE),
                ] {
                    rewards("withdraw", &["--owner", owner, "--token", STRK], &payer)?;
                    let totals = totals(owner, &place)?;
                    ensure!(totals["withdrawn"] == due.to_string(), "{totals}");
                    ensure!(totals["accrued"] == "0", "{totals}");
                    figures.insert(name.into(), due.to_string().into());
                }
                Ok(())
            },
        )?;
        let left = self.balance(&self.pool_contract()?)?;
        ensure!(left == DEPOSITED - 2 * (REWARD + SHARE), "{left} are left");
        ensure!(self.balance(FRESH)? == 2 * REWARD, "the patient has it");
        Ok(())
    }

    /// The chain's clock goes on to the refund time: nothing of the story comes after.
    pub(super) fn refund_what_is_left(&mut self) -> anyhow::Result<()> {
        let (place, payer) = (self.place()?, self.payer(RELAYER, "relayer.key")?);
        let funders = POOLS.map(|(_, account, _)| self.devnets_address(account));
        let pools = self.pools.clone();
        let devnet = self.devnet.as_ref().context("the devnet is not started")?;
        self.report.step(
            "researcher, hospital",
            "get back what nobody claimed; the amounts add up",
            |figures| {
                for ((who, pool), funder) in POOLS.iter().zip(&pools).zip(funders) {
                    let ((who, _, _), funder) = (who, funder?);
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
                    let deposited = totals["deposited"].clone();
                    figures.insert(format!("deposited by {who}"), deposited);
                    figures.insert(format!("back to {who}"), totals["refunded"].clone());
                }
                let paid = 2 * (REWARD + SHARE);
                figures.insert("paid for the claims".into(), paid.to_string().into());
                Ok(())
            },
        )?;
        let left = self.balance(&self.pool_contract()?)?;
        ensure!(left == 0, "{left} are left in the contract");
        Ok(())
    }
}
