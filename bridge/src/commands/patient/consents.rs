//! Granting and revoking.

use std::path::PathBuf;

use anyhow::{Context, bail};
use medsync_protocol::audit::Body;
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{self, Commitment};
use medsync_protocol::ids::{AddressBytes, ContextId, Nonce, Sha256Digest, UnixSeconds};
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::secrets::{ConsentSecrets, DeviceNumber};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::{TERMS_VERSION, Terms};

use super::devices::deciding;
use super::terms::Rules;
use super::{open_keys, own_circle};
use crate::commands::verify::code;
use crate::commands::{Home, print_json};
use crate::files;
use crate::invitation::Invitation;
use crate::party::Party;
use crate::revoking::revoke as keep_and_bring;
use crate::seams::{random_bytes, system_random};
use crate::source::{Circle, Consent};
use crate::store::Store;
use crate::store::consents::KeptGrant;
use crate::store::revocations::Origin;
use crate::views;
use crate::views::consents::anyone_can_send;

const POLICY_BYTES_MAX: u64 = 1024 * 1024;
const DAY_S: u64 = 24 * 60 * 60;

/// Grant a consent to one recipient.
#[derive(Debug, clap::Args)]
pub struct Grant {
    #[command(flatten)]
    home: Home,
    /// The recipient's public key (`medsync researcher show`).
    #[arg(long)]
    to: PublicKey,
    #[command(flatten)]
    rules: Rules,
    /// For how many days; open-ended if it is not said.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=365 * 100))]
    days: Option<u64>,
    /// Where the policy is found.
    #[arg(long)]
    policy_uri: String,
    /// The policy's text; its SHA-256 is signed.
    #[arg(long)]
    policy: PathBuf,
    /// The consent that this one takes the place of: it is revoked once this one is in the circle.
    #[arg(long)]
    replaces: Option<Commitment>,
    /// A name for this request: run again with the same name, it grants the same consent and not
    /// a second one.
    #[arg(long)]
    request: Option<String>,
}

/// Revoke a consent.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    home: Home,
    /// The consent.
    consent: Commitment,
}

impl Grant {
    /// Signs the consent, keeps it, and brings it into the circle.
    ///
    /// # Errors
    /// Whatever keeps it from being granted; the same `--request` may be tried again.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        party.check_clock().await?;
        let (context, _) = own_circle(&party).await?;
        let (keys, device) = deciding(&party, context).await?;
        self.grant(&party, (&keys, device)).await
    }

    /// The same with keys that are open.
    ///
    /// # Errors
    /// As [`Grant::run`].
    pub async fn grant(
        &self,
        party: &Party,
        (keys, device): (&PatientKeys, DeviceNumber),
    ) -> anyhow::Result<()> {
        let (context, invitation) = own_circle(party).await?;
        let request = match &self.request {
            Some(name) => name.clone(),
            None => hex::encode(random_bytes(&mut system_random())),
        };
        let kept = match party.store.kept_grant(&request).await? {
            Some(kept) if self.is_same(&kept, context, &invitation)? => kept,
            Some(_) => bail!("the request {request:?} granted something else; take another name"),
            None => {
                self.sign(party, (keys, device), context, &invitation, &request)
                    .await?
            }
        };
        let again = || {
            format!("it is signed and kept; to bring it into the circle, add --request {request}")
        };
        let circle = party.enter(context).await.with_context(again)?;
        let granted = circle
            .grant(&kept.terms, &kept.opening, &kept.signature, 1)
            .await
            .with_context(again)?;
        let consent = granted.commitment;
        party
            .say_once(context, &keys.author, &Body::Granted { consent })
            .await?;
        let replaced = match self.replaces {
            // Run again with the same --request this goes on where it was.
            Some(old) => Some(revoke(party, keys, context, old, Some(consent)).await?),
            None => None,
        };
        print_json(&serde_json::json!({
            "consent": granted.commitment,
            "request": request,
            "stage": "recorded",
            "was_there": granted.existing,
            "replaced": replaced,
        }))
    }

    async fn sign(
        &self,
        party: &Party,
        (keys, device): (&PatientKeys, DeviceNumber),
        context: ContextId,
        invitation: &Invitation,
        request: &str,
    ) -> anyhow::Result<KeptGrant> {
        let terms = self.terms(context, invitation)?.encode()?;
        let now = party.clock.now();
        let counter = party.store.spend_counter(context, request, now).await?;
        let grant = consent::Grant {
            terms: Sha256Digest::of(&terms),
            anchorer: invitation.says.custodian_address,
            grantee: self.to,
            not_before: now,
            not_after: UnixSeconds(self.days.map_or(0, |days| now.0 + days * DAY_S)),
        };
        let registry = party.config.chain.registry();
        let signed = grant.sign(registry, &keys.patient, &keys.seed, device, counter)?;
        let (opening, signature) = (signed.opening, signed.signature);
        party
            .store
            .keep_grant(counter, signed.commitment, &terms, &opening, &signature)
            .await?;
        Ok(KeptGrant {
            terms,
            opening,
            signature,
        })
    }

    /// Whether what was signed under this request's name is what is asked for now.
    fn is_same(
        &self,
        kept: &KeptGrant,
        context: ContextId,
        invitation: &Invitation,
    ) -> anyhow::Result<bool> {
        let (signed, opening) = (Terms::decode(&kept.terms)?, &kept.opening);
        let asked = Terms {
            nonce: signed.nonce,
            ..self.terms(context, invitation)?
        };
        let seconds = (opening.not_after.0).saturating_sub(opening.not_before.0);
        Ok(signed == asked
            && opening.grantee == self.to
            && seconds == self.days.map_or(0, |days| days * DAY_S))
    }

    fn terms(&self, context: ContextId, invitation: &Invitation) -> anyhow::Result<Terms> {
        let policy = files::read_bounded(&self.policy, POLICY_BYTES_MAX)?;
        let (provision, exceptions) = self.rules.provisions()?;
        Ok(Terms {
            version: TERMS_VERSION,
            nonce: Nonce(random_bytes(&mut system_random())),
            context,
            custodian_member: invitation.says.custodian_member,
            custodian_address: AddressBytes::of(invitation.says.custodian_address),
            policy_uri: self.policy_uri.clone(),
            policy_sha256: Sha256Digest::of(&policy),
            provision,
            exceptions,
        })
    }
}

impl Revoke {
    /// Revokes: kept here first, then in the circle; the daemon sees to the rest.
    ///
    /// # Errors
    /// A consent that is not the patient's own. A node that is down, or a circle that is stopped
    /// by an alarm, is no error: the daemon sends the revocation to the chain all the same, and
    /// brings it into the circle when it can.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let keys = open_keys(&self.home.home)?;
        self.revoke(&party, &keys).await
    }

    /// The same with keys that are open.
    ///
    /// # Errors
    /// As [`Revoke::run`].
    pub async fn revoke(&self, party: &Party, keys: &PatientKeys) -> anyhow::Result<()> {
        let (context, _) = own_circle(party).await?;
        print_json(&revoke(party, keys, context, self.consent, None).await?)
    }
}

/// Revokes a consent, kept here first; answers how far that is.
async fn revoke(
    party: &Party,
    keys: &PatientKeys,
    context: ContextId,
    consent: Commitment,
    replaced_by: Option<Commitment>,
) -> anyhow::Result<serde_json::Value> {
    let known = party.store.opening_of(consent).await;
    let opening = match known {
        Ok(Some(opening)) => opening,
        Err(error) if !error.is_of_a_row() => return Err(error.into()),
        _ => {
            let circle = party.enter_for_revocations(context).await?;
            find(&party.store, &*circle, consent).await?.opening
        }
    };
    let secrets = ConsentSecrets::from_salt(&keys.seed, opening.salt);
    if secrets.handle() != opening.handle {
        bail!("the keys of this home did not grant {consent}; they cannot revoke it");
    }
    let (handle, claim_key) = (secrets.handle(), secrets.claim_key.public_key());
    let (row, now) = (party.store.circle(context).await?, party.clock.now());
    let (kept_in, opens) = (
        (&party.store, &*party.circles),
        (&secrets.secret, claim_key),
    );
    let (stage, hindrance) = match keep_and_bring(kept_in, &row, opens, Origin::Here, now).await? {
        Ok(()) => ("denied here, not yet on chain", None),
        Err(error) if party.config.revoke_account.is_some() => (
            "kept; the daemon brings it to the chain and into the circle",
            Some(error.to_string()),
        ),
        Err(error) => (
            "kept; the daemon brings it into the circle, and has no account to send it with",
            Some(error.to_string()),
        ),
    };
    // Last, and whatever becomes of it: nothing delays a revocation.
    let says = Body::Revoked {
        handle,
        replaced_by,
    };
    let logged = party.say_once(context, &keys.author, &says).await;
    let registry = party.config.chain.registry();
    Ok(serde_json::json!({
        "consent": consent,
        "logged": logged.is_ok(),
        "stage": stage,
        "hindrance": hindrance,
        "anyone_can_send": anyone_can_send(registry, &secrets.secret, claim_key),
    }))
}

/// Decline to consent; that too is recorded.
#[derive(Debug, clap::Args)]
pub struct Decline {
    #[command(flatten)]
    home: Home,
    /// The recipient's public key.
    #[arg(long)]
    to: PublicKey,
    /// For what, as SYSTEM|CODE; may be named several times.
    #[arg(long, required = true, value_parser = code)]
    purpose: Vec<Code>,
    /// Why; the hospital reads it.
    #[arg(long, default_value = "")]
    reason: String,
}

impl Decline {
    /// Writes the decline into the circle's log.
    ///
    /// # Errors
    /// A home that is in no circle, or a reason that is too long.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        party.check_clock().await?;
        let (context, _) = own_circle(&party).await?;
        let (keys, _) = deciding(&party, context).await?;
        let says = Body::Declined {
            recipient: self.to,
            purposes: CodeSet::collect(self.purpose).context("--purpose")?,
            reason: self.reason,
        };
        let declined = party.say_once(context, &keys.author, &says).await?;
        print_json(&serde_json::json!({ "declined": declined }))
    }
}

/// One consent of a circle by its name.
pub(super) async fn find(
    store: &Store,
    circle: &dyn Circle,
    name: Commitment,
) -> anyhow::Result<Consent> {
    let found = views::consents::find(store, circle, name).await?;
    found.with_context(|| format!("there is no consent {name} in this circle"))
}
