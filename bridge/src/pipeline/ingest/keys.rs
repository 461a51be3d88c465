//! What a walk said of keys, once it is known whole.

use super::*;

/// Notes which consents the recovery key overruled, also in a circle that is stopped: a thief may
/// be why it is. By the one patient who was known here before any other came.
pub(super) async fn overrule(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
) -> Result<(), PipelineError> {
    let (store, context) = (&pipeline.store, row.context);
    if row.kind == ContextKind::Exchange || store.fact(&frozen_fact(context)).await?.is_some() {
        return Ok(());
    }
    let state = match circle.circle().await {
        Err(error) if error.refusal().is_some() => return Ok(()),
        state => state?,
    };
    let is_known = |member| row.patient_member.is_none_or(|known| known == member);
    let Some(enrolled) = state.only().filter(|it| is_known(it.enrolment.member)) else {
        return Ok(());
    };
    let history = store.key_history(context, &enrolled.enrolment).await?;
    if history.is_frozen {
        return Ok(());
    }
    let keys = history.keys.iter().copied();
    let stolen: Vec<PublicKey> = keys
        .filter(|key| history.was_recovered_from(*key))
        .collect();
    let keys = (&*history.keys, &*stolen);
    Ok(store
        .overrule_consents(context, keys, pipeline.now())
        .await?)
}

/// Stops an exchange whose recipient's key is not the one that it is for: whoever is invited names
/// its key itself, and could name another's to get what that one is granted. It is looked at after
/// a walk, so that a further key change can mend it.
pub(super) async fn check_recipient(
    pipeline: &Pipeline,
    row: &CircleRow,
    people: &People,
) -> Result<(), PipelineError> {
    let (context, current) = (row.context, people.patient.last());
    let (Some(expected), Some(current)) = (row.recipient_key, current) else {
        return Ok(());
    };
    if expected == *current {
        return Ok(());
    }
    let why = format!("the recipient says that its key is {current}, and not {expected}");
    pipeline.store.raise_alarm(context, &why).await?;
    Err(GuardError::Alarm { context, why }.into())
}
