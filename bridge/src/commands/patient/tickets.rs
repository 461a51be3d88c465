//! The rewards that a patient was promised, with what proves each promise.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use medsync_client::wire::{LoginAs, NewClaim};
use medsync_protocol::claim::{Claim, SignedClaim};
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::secrets::{ConsentSecrets, Handle};
use medsync_protocol::ticket::PoolId;
use serde_json::json;
use url::Url;

use super::{open_keys, own_circle};
use crate::commands::login::client;
use crate::commands::{Home, print_json};
use crate::files;
use crate::party::Party;
use crate::pipeline::tickets::{TicketStage, promised};
use crate::source::PlacedTicket;
use crate::views;

/// Print each ticket, a line each, with its receipt: what a claim needs besides the patient's keys.
/// If the chain does not answer, the line says what hinders: the stage, or since when it is paid,
/// is not known then.
pub async fn list(home: &Path) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, invitation) = own_circle(&party).await?;
    let custodian = invitation.says.custodian_address;
    for ticket in views::anchoring::tickets(&party.pipeline()?, context, custodian).await? {
        print_json(&ticket)?;
    }
    Ok(())
}

/// Sign the claim that spends a ticket, for whoever sends it: the hospital, to which --api brings
/// it, or anybody by `medsync rewards claim`. It needs no account, and whoever has the claim can
/// send it and cannot send the reward elsewhere.
#[derive(Debug, clap::Args)]
pub struct ClaimReward {
    #[command(flatten)]
    home: Home,
    /// The pool; that of the only ticket if it is not said.
    #[arg(long)]
    pool: Option<PoolId>,
    /// The handle of the ticket's consent, if a pool has several.
    #[arg(long)]
    handle: Option<Handle>,
    /// Where the reward goes. A claim links this address to the consent's handle: use a fresh one.
    #[arg(long)]
    pay_to: ContractAddress,
    /// Where to write the signed claim.
    #[arg(long, required_unless_present = "api")]
    out: Option<PathBuf>,
    /// Where the hospital's API answers: log in there and bring the claim, which it sends.
    #[arg(long)]
    api: Option<Url>,
    /// Certificates (PEM) of authorities to trust besides those that browsers do.
    #[arg(long, value_name = "FILE", requires = "api")]
    authority: Option<PathBuf>,
}

impl ClaimReward {
    /// Signs, writes and brings it.
    ///
    /// # Errors
    /// No ticket, or one that is revoked or not anchored yet; keys that did not grant its consent;
    /// a hospital that does not take it.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, invitation) = own_circle(&party).await?;
        let custodian = invitation.says.custodian_address;
        let mut tickets = promised(&party.pipeline()?, context, custodian).await?;
        tickets.retain(|(PlacedTicket { ticket, .. }, _)| {
            self.pool.is_none_or(|pool| ticket.pool_id == pool)
                && self.handle.is_none_or(|handle| ticket.handle == handle)
        });
        // One whose consent was revoked is issued anew: the later one is meant.
        if tickets.len() > 1 {
            tickets.retain(|(_, stage)| !matches!(stage, TicketStage::Revoked(_)));
        }
        let (placed, stage) = match tickets.as_slice() {
            [] => bail!("there is no ticket to claim; `medsync patient tickets` lists them"),
            [only] => only,
            _ => bail!("there are several tickets; name one with --pool and --handle"),
        };
        match stage {
            TicketStage::Anchored(_) => {}
            TicketStage::Revoked(at) => bail!("its consent was revoked at {at}"),
            TicketStage::Sealed => bail!("its batch is not on chain yet; try again later"),
            TicketStage::Unknown(why) => bail!("the chain does not answer: {why}"),
        }
        let ticket = placed.ticket;
        if ticket.claim_until <= party.clock.now() {
            bail!("the ticket was good until {}", ticket.claim_until);
        }
        let pools = party.store.pools().await?;
        let known = pools.iter().find(|row| row.id == ticket.pool_id);
        let known = known.context("the circle does not name the pool's contract")?;
        let (believed, contract) = (&party.config.chain, known.pool.contract);
        // Another contract would pay nothing, and learn where the reward was to go.
        believed
            .first_endpoint()?
            .check_pools(contract, believed.registry)
            .await?;
        let consents = party.store.consents_in_circle(context).await?;
        let granted = consents
            .iter()
            .find(|kept| kept.leaf.handle == ticket.handle);
        let granted = granted.context("the ticket is for no consent of this circle")?;
        let keys = open_keys(&self.home.home)?;
        let secrets = ConsentSecrets::from_salt(&keys.seed, granted.opening.salt);
        if secrets.handle() != ticket.handle {
            bail!("the keys of this home did not grant the ticket's consent");
        }
        let chain_id = believed.chain_id;
        let with = (&ticket, &placed.proof);
        let claim = Claim::sign((chain_id, contract), with, &secrets, self.pay_to)?;
        let signed = SignedClaim::new(chain_id, contract, claim);
        if let Some(out) = &self.out {
            files::write_whole(out, &serde_json::to_vec_pretty(&signed)?, true)?;
        }
        let brought = self.api.is_some();
        if let Some(api) = self.api {
            let mut client = client(api, self.authority.as_deref())?;
            client
                .log_in(LoginAs::party_of(context), &keys.login)
                .await?;
            client.claim(context, &NewClaim(signed)).await?;
        }
        print_json(&json!({
            "pool": ticket.pool_id,
            "handle": ticket.handle,
            "pay_to": self.pay_to,
            "claim_until": ticket.claim_until,
            "file": self.out.map(|out| out.display().to_string()),
            "brought": brought,
        }))
    }
}
