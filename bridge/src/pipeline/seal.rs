//! Seal: waiting consents and reward tickets become a batch, together with the heads of all logs
//! that went on.
//!
//! The batch is padded with uniform random leaves to a power of two, at least
//! [`LEAVES_MIN`], and shuffled, so that neither its size nor its order says anything. Leaves and
//! order are stored with the marks on what is in it in one transaction: after a crash each is
//! in no batch or in exactly one.

use medsync_protocol::audit::head_leaf;
use medsync_protocol::ids::Anchorer;
use medsync_protocol::tree::{Leaf, Tree};
use rand::seq::SliceRandom;
use rand_core::CryptoRng;

use super::{Pipeline, PipelineError};
use crate::seams::{random_felt, random_salt};
use crate::store::batches::Contents;
use crate::store::consents::ConsentLeaf;
use crate::store::log::{HeadLeaf, LogEnd};
use crate::store::tickets::TicketRow;

/// The smallest batch, padding included.
pub const LEAVES_MIN: usize = 16;
/// The most logs of one batch; those that wait longest come first.
const HEADS_LEN_MAX: u32 = 1 << 12;

/// Seals a batch if one is due by size or age.
///
/// # Errors
/// A store that does not answer; nothing is then sealed.
pub async fn seal_due(pipeline: &Pipeline, anchorer: Anchorer) -> Result<(), PipelineError> {
    let (bounds, now) = (pipeline.batch, pipeline.now());
    let store = &pipeline.store;
    let (waiting, first) = store.waiting(now).await?;
    let (tickets, issued) = store.waiting_tickets(bounds.consents_max, now).await?;
    let (ends, began) = store.due_heads(HEADS_LEN_MAX, now).await?;
    let Some(since) = first.into_iter().chain(issued).chain(began).min() else {
        return Ok(());
    };
    let is_full = waiting.max(tickets.len() as u64) >= u64::from(bounds.consents_max);
    // What waits since a time to come waits since a clock that was wrong.
    let is_old = since > now || now.0 - since.0 >= bounds.age_s_max;
    if !is_full && !is_old {
        return Ok(());
    }
    // Only now are they read: most rounds find that nothing is due.
    let consents = store.waiting_consents(bounds.consents_max, now).await?;
    let slots = consents
        .into_iter()
        .map(Slot::Consent)
        .chain(tickets.into_iter().map(Slot::Ticket))
        .chain(ends.into_iter().map(Slot::Head))
        .collect::<Vec<_>>();
    if slots.is_empty() {
        // What waits does not read.
        return Ok(());
    }
    let (leaves, contents) = arrange(slots, anchorer, &mut *pipeline.random.lock().await);
    let tree = Tree::build(&leaves).map_err(|error| PipelineError::Broken(error.to_string()))?;
    let batch = store
        .keep_batch(tree.root(), &leaves, &contents, now)
        .await?;
    tracing::info!(
        batch = batch.0, root = %tree.root(), consents = contents.consents.len(),
        tickets = contents.tickets.len(), logs = contents.heads.len(), "batch sealed",
    );
    Ok(())
}

/// What a leaf stands for; padding stands for nothing.
enum Slot {
    Consent(ConsentLeaf),
    Ticket(TicketRow),
    Head(LogEnd),
    Padding,
}

/// The leaves of a batch in their final order, and where everything stands.
fn arrange(
    mut slots: Vec<Slot>,
    anchorer: Anchorer,
    random: &mut (impl CryptoRng + ?Sized),
) -> (Vec<Leaf>, Contents) {
    let size = slots.len().next_power_of_two().max(LEAVES_MIN);
    slots.resize_with(size, || Slot::Padding);
    slots.shuffle(random);
    let (mut leaves, mut contents) = (Vec::with_capacity(size), Contents::default());
    for (position, slot) in (0u64..).zip(slots) {
        leaves.push(match slot {
            Slot::Consent(consent) => {
                let leaf = consent.leaf;
                contents.consents.push((consent, position));
                leaf
            }
            Slot::Ticket(ticket) => {
                contents.tickets.push((ticket, position));
                ticket.ticket(anchorer).leaf()
            }
            Slot::Head(end) => {
                let salt = random_salt(random);
                contents.heads.push(HeadLeaf {
                    end,
                    salt,
                    position,
                });
                head_leaf(end.context, end.author_key, end.seq, end.digest, salt)
            }
            Slot::Padding => Leaf::from_felt(random_felt(random)),
        });
    }
    (leaves, contents)
}
