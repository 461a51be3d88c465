//! Joining a circle or an exchange, enrolling in it, and saying so in its log.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use medsync_protocol::audit::Body;
use medsync_protocol::ids::{ContextId, ContextKind, MemberId, SealKey};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::{PublicKey, SecretKey};

use super::print_json;
use crate::audit;
use crate::guard::{admitted, difference, take_key_changes};
use crate::invitation::{Invitation, InvitationError};
use crate::party::Party;
use crate::source::{Circle, CircleState};
use crate::store::circles::CircleRow;

/// How often, and how long after another, a leave asks whether everything is said and read.
const LEAVE_TRIES: u32 = 60;
const LEAVE_TRIED_EACH: Duration = Duration::from_secs(1);

/// Checks the invitation, installs the app, joins, and pins what was joined. Every step may be
/// done again: a join that was cut off is completed by the next one.
///
/// # Errors
/// An invitation into another `kind` of context or one that does not fit, a node that does not
/// answer.
pub async fn join(party: &Party, kind: ContextKind, file: &Path) -> anyhow::Result<()> {
    let invitation = Invitation::read(file, party.clock.now())?;
    let says = &invitation.says;
    if says.kind != kind {
        bail!(
            "this invites into a {}, and a {} was expected; nothing was joined",
            says.kind.name(),
            kind.name(),
        );
    }
    let chain = &party.config.chain;
    invitation
        .says
        .fits(chain.registry(), chain.class_hash, party.app_digest()?)?;
    let circles = party.store.circles().await?;
    let other = circles
        .iter()
        .find(|circle| circle.context != says.context && kind == ContextKind::Circle);
    if let Some(other) = other {
        bail!(
            "this home is in circle {} already; use a home of its own",
            other.context
        );
    }
    let installed = party.node.install_app(&party.config.node.app).await?;
    let member = party
        .node
        .join(&says.group_invitation, says.context)
        .await?;
    let circle = party.node.circle(says.context);
    let (state, pin) = party.node.wait_until_synced(&circle, &installed).await?;
    let Some(state) = state else {
        bail!("the context runs other code than the invitation says; it is not entered");
    };
    if !says.describes(&state) {
        bail!("the context is not the one that the invitation describes; it is not entered");
    }
    let history = take_key_changes(&party.store, &circle, &state).await?;
    let row = CircleRow {
        kind,
        context: says.context,
        group: says.group,
        label: format!("my {}", kind.name()),
        member,
        custodian_member: says.custodian_member,
        application: pin.application,
        bytecode: pin.bytecode,
        invitation: Some(serde_json::to_string(&invitation)?),
        entered_at: party.clock.now(),
        patient_member: None,
        recipient_key: None,
        device: own_device(&invitation, &state, member)?,
        state_hash: None,
        consents_digest: None,
        alarm: None,
        suspected_at: None,
    };
    let admitted = history.map(|history| admitted(&row, &state, &history));
    if let Some(why) = difference(&row, &pin, &admitted.unwrap_or_default()) {
        bail!("the context is not the one that the invitation describes: {why}; it is not entered");
    }
    party.store.enter_circle(&row).await?;
    let role = row.device.role().name();
    print_json(&serde_json::json!({
        kind.name(): says.context,
        "member": member,
        "device": row.device,
        "role": role,
    }))
}

/// Which of the patient's devices this member is. Whoever is invited to enrol is the first,
/// whatever the circle says of it.
fn own_device(
    invitation: &Invitation,
    state: &CircleState,
    member: MemberId,
) -> anyhow::Result<DeviceNumber> {
    if !matches!(invitation.one_time_key(), Err(InvitationError::NoKey)) {
        return Ok(DeviceNumber::FIRST);
    }
    let admitted = state.admission_of(member).with_context(|| {
        format!(
            "the patient has not admitted this member: first run `medsync patient admit --member \
             {member}` at the patient's home; it is not entered"
        )
    })?;
    Ok(admitted.device)
}

/// The keys that a party brings into a context.
pub struct Bring {
    /// Signs grants, or is what they are made to.
    pub party: PublicKey,
    /// Replaces it.
    pub recovery: PublicKey,
    /// Signs logins.
    pub login: PublicKey,
    /// Signs log entries.
    pub author: SecretKey,
    /// Is sealed to.
    pub seal: SealKey,
}

/// Publishes a party's keys; where somebody else did so before, only to `freeze` the context.
///
/// # Errors
/// An invitation that is over or was used, a context that does not take the enrolment.
pub async fn enrol(
    party: &Party,
    (context, invitation): (ContextId, &Invitation),
    keys: &Bring,
    freeze: bool,
) -> anyhow::Result<()> {
    invitation.check_time(party.clock.now())?;
    let enrolment = Enrolment {
        member: party.store.circle(context).await?.member,
        party_key: keys.party,
        recovery_key: keys.recovery,
        login_key: keys.login,
        author_key: keys.author.public_key(),
        seal_key: keys.seal,
    };
    let circle = party.enter(context).await?;
    let state = circle.circle().await?;
    if let Some(other) = state
        .enrolments
        .iter()
        .find(|known| known.enrolment != enrolment)
        && !freeze
    {
        bail!(
            "the invitation was used: somebody enrolled with key {}. Nothing was written. \
             Tell the hospital. If it was not you, nobody may use this {}: run this again \
             with --freeze, and nothing will ever count in it",
            other.enrolment.party_key,
            invitation.says.kind.name(),
        );
    }
    let signature = invitation
        .one_time_key()?
        .sign(enrolment.message(context))
        .context("this enrolment cannot be signed (odds 2^-55); make new keys")?;
    let written = circle.enrol(&enrolment, &signature).await?;
    let says = Body::Enrolled {
        member: enrolment.member,
        party_key: enrolment.party_key,
    };
    party.say_once(context, &keys.author, &says).await?;
    print_json(&serde_json::json!({
        "party_key": enrolment.party_key,
        "was_there": written.existing,
    }))
}

/// Leaves a context for good. A leave that was cut off is completed by the next one.
///
/// # Errors
/// A node that does not answer.
pub async fn leave(party: &Party, row: &CircleRow) -> anyhow::Result<()> {
    if !is_leaving(row) {
        let why = left(row.kind);
        party.store.raise_alarm(row.context, &why).await?;
    }
    party.node.leave(row.group).await?;
    Ok(())
}

/// Before a leave: waits a while until everything that this home has to say is in the context,
/// everything there was read, and both are compared with a node that is in reach, and until its
/// revocations are on chain: what this node alone has heard is lost with it.
///
/// # Errors
/// Something that stays unsaid or unread; a context that is not entered.
pub async fn settle(party: &Party, row: &CircleRow) -> anyhow::Result<()> {
    let circle = party.enter(row.context).await?;
    let mut tries = 0..LEAVE_TRIES;
    while !is_settled(party, &*circle).await? {
        match tries.next() {
            Some(0) => eprintln!("waiting for the daemon to say and read everything there is"),
            Some(_) => {}
            None => bail!(
                "not everything is said, or read, in the {}, a revocation is not on chain, or no \
                 other node is in reach: let the daemon run until it is, or say --anyway",
                row.kind.name()
            ),
        }
        tokio::time::sleep(LEAVE_TRIED_EACH).await;
    }
    Ok(())
}

/// Whether everything is said and read.
async fn is_settled(party: &Party, circle: &dyn Circle) -> anyhow::Result<bool> {
    let (store, context) = (&party.store, circle.context());
    audit::publish(store, circle, party.clock.now()).await?;
    let unsaid = store.contexts_with_unpublished_entries().await?;
    let read = store.circle(context).await?.state_hash;
    let is_alone = party.node.peers().await? == 0;
    // The chain tells whoever may not have heard it in the circle.
    let unlanded = store.unlanded_revocations(context).await?;
    if unsaid.contains(&context) || unlanded > 0 || is_alone {
        return Ok(false);
    }
    if party.node.sync(context).await.is_err() {
        return Ok(false);
    }
    Ok(read == Some(circle.state_hash().await?))
}

/// Whether this home left a context, or began to.
pub fn is_leaving(row: &CircleRow) -> bool {
    row.alarm.as_ref() == Some(&left(row.kind))
}

fn left(kind: ContextKind) -> String {
    format!("this home left the {}", kind.name())
}
