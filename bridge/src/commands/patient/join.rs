//! Joining a circle and enrolling in it.

use std::path::Path;

use anyhow::{Context, bail};
use medsync_protocol::audit::Body;
use medsync_protocol::messages::Enrolment;

use super::{log_once, open_keys, own_circle};
use crate::commands::print_json;
use crate::guard::difference;
use crate::invitation::Invitation;
use crate::party::Party;
use crate::source::CircleState;
use crate::store::circles::CircleRow;

/// Checks the invitation, installs the app, joins, and pins what was joined. Every step may be
/// done again: a join that was cut off is completed by the next one.
pub async fn join(home: &Path, file: &Path) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let invitation = Invitation::read(file, party.clock.now())?;
    let says = &invitation.says;
    let chain = &party.config.chain;
    invitation
        .says
        .fits(chain.registry(), chain.class_hash, party.app_digest()?)?;
    if let Some(other) = party
        .store
        .circles()
        .await?
        .iter()
        .find(|circle| circle.context != says.context)
    {
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
        bail!("the circle runs other code than the invitation says; it is not entered");
    };
    check_pins(&invitation, &state)?;
    let row = CircleRow {
        context: says.context,
        group: says.group,
        label: "my circle".into(),
        member,
        custodian_member: says.custodian_member,
        application: pin.application,
        bytecode: pin.bytecode,
        invitation: Some(serde_json::to_string(&invitation)?),
        entered_at: party.clock.now(),
        patient_member: None,
        state_hash: None,
        alarm: None,
    };
    if let Some(why) = difference(&row, &pin) {
        bail!("the circle is not the one that the invitation describes: {why}; it is not entered");
    }
    party.store.enter_circle(&row).await?;
    print_json(&serde_json::json!({ "circle": says.context, "member": member }))
}

/// What the circle says of its custodian has to be what the invitation says.
fn check_pins(invitation: &Invitation, state: &CircleState) -> anyhow::Result<()> {
    let says = &invitation.says;
    let pins = &state.custodian;
    let invited = invitation.one_time_key()?.public_key();
    let same = state.context == says.context
        && state.custodian_member == says.custodian_member
        && pins.invitation_key == invited
        && pins.anchorer == says.custodian_address
        && pins.author_key == says.author_key
        && pins.seal_key == says.seal_key
        && pins.registry == says.registry;
    if !same {
        bail!("the circle is not the one that the invitation describes; it is not entered");
    }
    Ok(())
}

/// Publishes the patient's keys; where somebody else did so before, only to `freeze` the circle.
pub async fn enrol(home: &Path, freeze: bool) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, invitation) = own_circle(&party).await?;
    invitation.check_time(party.clock.now())?;
    let keys = open_keys(home)?;
    let enrolment = Enrolment {
        member: party.store.circle(context).await?.member,
        party_key: keys.patient.public_key(),
        recovery_key: keys.recovery.public_key(),
        login_key: keys.login.public_key(),
        author_key: keys.author.public_key(),
        seal_key: keys.seal.public_key(),
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
            "the invitation was used: somebody enrolled with patient key {}. Nothing was written. \
             Tell the hospital. If it was not you, nobody may use this circle: run this again \
             with --freeze, and no consent will ever count in it",
            other.enrolment.party_key
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
    log_once(&party, context, &keys, &says).await?;
    print_json(&serde_json::json!({
        "patient_key": enrolment.party_key,
        "was_there": written.existing,
    }))
}
