//! What a hospital's people do by its `medsync`: circles and exchanges, invitations, erasures,
//! pools.
//!
//! The daemon does it for whoever asks over the API; without a daemon the command line does. Both
//! are safe beside each other, because each step is kept in the store before the next begins.

use std::path::PathBuf;
use std::sync::Arc;

use medsync_client::wire::{Erased, ExpectedRecipient, Invited, NewCircle, NewErasure};
use medsync_protocol::audit::{RECORDS_LEN_MAX, RecordRef};
use medsync_protocol::ids::{
    Anchorer, ContextId, ContextKind, MemberId, RecordId, Sha256Digest, UnixSeconds,
};
use medsync_protocol::seal::{PartsError, SealError};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::PublicKey;

use crate::access;
use crate::audit::AuditError;
use crate::chain::ChainError;
use crate::config::{ChainConfig, Role};
use crate::files::{self, FileError};
use crate::guard::{self, Circles, GuardError};
use crate::invitation::{Invitation, InvitationError, Parts};
use crate::keys::{CustodianKeys, KeyError};
use crate::lease::{Alone, Only, alone};
use crate::party::{Party, WASM_BYTES_MAX};
use crate::pipeline::PipelineError;
use crate::saying::{SayError, say_once};
use crate::seams::{Clock, random_key, system_random};
use crate::source::{CustodianPins, Groups, NamespaceId, SourceError};
use crate::store::circles::CircleRow;
use crate::store::{Store, StoreError};

mod import;
mod pools;

pub use import::Progress;
pub use pools::QUOTA_MAX;

/// The custodian's keys in its home.
pub const KEY_FILE: &str = "custodian-keys.json";
/// The fact under which the store knows the namespace.
pub const NAMESPACE: &str = "namespace";
/// The longest label of a circle or a pool, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// How long an invitation holds at most, in hours.
pub const HOURS_MAX: u64 = 24 * 30;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum CustodianError {
    /// What was asked for cannot be; what would be right.
    #[error("{0}")]
    Wrong(String),
    /// Something stands against it that a person has to change first.
    #[error("{0}")]
    Hindered(String),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node did not answer, or refused.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A circle is not entered.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The chain did not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// What was asked for is done, and its log does not say so yet.
    #[error(
        "the keys are destroyed; the log does not say so yet ({0}): the daemon says it, or the \
         same command again"
    )]
    Unsaid(Box<CustodianError>),
    /// The log was not written.
    #[error(transparent)]
    Say(#[from] SayError),
    /// The invitation that is kept is none, or is over.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// A record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A large payload could not be cut.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// The log could not be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The clock is wrong.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The app cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

type Done<T> = Result<T, CustodianError>;

fn wrong<T>(why: impl Into<String>) -> Done<T> {
    Err(CustodianError::Wrong(why.into()))
}

fn hindered<T>(why: impl Into<String>) -> Done<T> {
    Err(CustodianError::Hindered(why.into()))
}

/// Why a home is no hospital's.
#[derive(Debug, thiserror::Error)]
pub enum NoCustodian {
    /// Another role's.
    #[error("only a hospital does this; this home is not one's")]
    OtherRole,
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The keys of a hospital.
///
/// # Errors
/// A home that is not one's, or whose secret is another.
pub fn keys(party: &Party) -> Result<CustodianKeys, KeyError> {
    CustodianKeys::read(&party.home.join(KEY_FILE), &party.secret)
}

/// A hospital: its store, its node, its keys.
#[derive(Clone)]
pub struct Custodian {
    /// Its store.
    pub store: Store,
    /// The contexts on its node, behind the guard.
    pub circles: Arc<dyn Circles>,
    /// Its node, as the admin of its groups.
    pub groups: Arc<dyn Groups>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its keys.
    pub keys: CustodianKeys,
    /// Its name on chain: the account that anchors.
    pub anchorer: Anchorer,
    /// Under which address other nodes reach its own.
    pub peer: String,
    /// The chain that it believes in.
    pub chain: ChainConfig,
    /// Its copy of the app.
    pub app: PathBuf,
    /// Its folder.
    pub home: PathBuf,
}

impl Custodian {
    /// The hospital at a home.
    ///
    /// # Errors
    /// Another role's home, or one whose keys cannot be read.
    pub fn of(party: &Party) -> Result<Self, NoCustodian> {
        let config = &party.config;
        let (Role::Custodian, Some(account), Some(peer)) = (
            config.role,
            &config.anchor_account,
            config.node.peer.clone(),
        ) else {
            return Err(NoCustodian::OtherRole);
        };
        Ok(Self {
            store: party.store.clone(),
            circles: Arc::clone(&party.circles),
            groups: Arc::<crate::source::CalimeroNode>::clone(&party.node),
            clock: Arc::clone(&party.clock),
            keys: keys(party)?,
            anchorer: Anchorer::from_felt(account.address.felt()),
            peer,
            chain: config.chain.clone(),
            app: config.node.app.clone(),
            home: party.home.clone(),
        })
    }

    fn kept_in(&self) -> (&Store, &dyn Circles) {
        (&self.store, &*self.circles)
    }

    /// Opens a circle for one patient, or an exchange with one recipient. The context and its
    /// invitation are kept together; a cut before that leaves an empty context on the node.
    ///
    /// # Errors
    /// See [`CustodianError`].
    pub async fn open(&self, new: NewCircle) -> Done<Invited> {
        if new.label.is_empty() || new.label.len() > LABEL_BYTES_MAX {
            return wrong(format!("a label has 1 to {LABEL_BYTES_MAX} bytes"));
        }
        let expires_at = self.expiry(new.hours)?;
        let kind = match new.recipient {
            None => ContextKind::Circle,
            Some(key) => {
                self.check_no_other(None, key).await?;
                ContextKind::Exchange
            }
        };
        let one_time = random_key(&mut system_random());
        let pins = CustodianPins {
            kind,
            invitation_key: one_time.public_key(),
            anchorer: self.anchorer,
            author_key: self.keys.author.public_key(),
            seal_key: self.keys.seal.public_key(),
            registry: self.chain.registry(),
        };
        let wasm_sha256 = self.app_digest()?;
        let namespace = self.namespace().await?;
        let opened = self
            .groups
            .create_circle(namespace, &self.app, &pins)
            .await?;
        let says = Parts {
            kind,
            group_invitation: self.groups.invite(opened.group, expires_at).await?,
            group: opened.group,
            context: opened.context,
            peer: self.peer.clone(),
            wasm_sha256,
            invitation_key: pins.invitation_key,
            custodian_member: opened.member,
            custodian_address: pins.anchorer,
            author_key: pins.author_key,
            seal_key: pins.seal_key,
            registry: pins.registry,
            class_hash: self.chain.class_hash,
            expires_at,
        };
        let invitation = Invitation::new(says, &one_time);
        let row = CircleRow {
            kind,
            context: opened.context,
            group: opened.group,
            label: new.label,
            member: opened.member,
            custodian_member: opened.member,
            application: opened.application,
            bytecode: opened.bytecode,
            // Kept with the circle, so that a circle never is without its invitation.
            invitation: Some(invitation.to_text()?),
            entered_at: self.clock.now(),
            patient_member: None,
            recipient_key: new.recipient,
            device: DeviceNumber::FIRST,
            state_hash: None,
            consents_digest: None,
            alarm: None,
            suspected_at: None,
        };
        self.store.enter_circle(&row).await?;
        invited(&invitation)
    }

    /// The invitation of a circle or exchange again; once somebody enrolled, a new one without the
    /// one-time key, for a member whom the patient admits.
    ///
    /// # Errors
    /// See [`CustodianError`].
    pub async fn invite(&self, context: ContextId, hours: u64) -> Done<Invited> {
        let expires_at = self.expiry(hours)?;
        let row = self.store.circle(context).await?;
        let Some(kept) = &row.invitation else {
            return hindered("this home was invited into it itself, and invites nobody");
        };
        let mut invitation = Invitation::of_text(kept)?;
        if row.patient_member.is_some() || !self.enrolled(&row).await?.is_empty() {
            invitation = Invitation::without_key(Parts {
                group_invitation: self.groups.invite(row.group, expires_at).await?,
                expires_at,
                ..invitation.says
            });
        }
        invitation.check_time(self.clock.now())?;
        invited(&invitation)
    }

    /// Who enrolled in a context, also in one that is stopped, and in one that the daemon did not
    /// look at since.
    async fn enrolled(&self, row: &CircleRow) -> Done<Vec<MemberId>> {
        let Some(circle) = guard::enter_for_revocations(&*self.circles, row).await? else {
            return hindered(
                "another context stands where this one was; only `resume` looks at it",
            );
        };
        let enrolled = circle.circle().await?.enrolments;
        Ok(enrolled
            .into_iter()
            .map(|known| known.enrolment.member)
            .collect())
    }

    /// Says for which key an exchange is from now on, after its recipient said so.
    ///
    /// # Errors
    /// See [`CustodianError`].
    pub async fn expect_recipient(
        &self,
        exchange: ContextId,
        expected: ExpectedRecipient,
    ) -> Done<()> {
        self.check_no_other(Some(exchange), expected.key).await?;
        Ok(self.store.expect_recipient(exchange, expected.key).await?)
    }

    /// Lets a circle or an exchange go on that an alarm stopped, if it is again what it was; not a
    /// second exchange with one recipient.
    ///
    /// # Errors
    /// See [`CustodianError`].
    pub async fn resume(&self, context: ContextId) -> Done<()> {
        let row = self.store.circle(context).await?;
        if let Some(key) = row.recipient_key {
            self.check_no_other(Some(context), key).await?;
        }
        Ok(guard::resume(&*self.circles, &self.store, &row).await?)
    }

    /// Takes somebody out of a context's group. Whoever enrolled stays, unless they `left`: without
    /// the patient there is nobody to ask.
    ///
    /// # Errors
    /// See [`CustodianError`].
    pub async fn remove(&self, context: ContextId, member: MemberId, left: bool) -> Done<()> {
        let row = self.store.circle(context).await?;
        if member == row.custodian_member {
            return wrong(format!(
                "{member} is the hospital itself, and is not removed"
            ));
        }
        let enrolled = self.enrolled(&row).await?;
        if (row.patient_member == Some(member) || enrolled.contains(&member)) && !left {
            return hindered(format!(
                "{member} is the one who enrolled, and is removed only if they left: say so, with \
                 left (--left)"
            ));
        }
        self.groups.remove_member(row.group, member).await?;
        if row.kind == ContextKind::Exchange && row.patient_member == Some(member) {
            // Nobody is served in it, and the recipient may come back in another.
            let why = "its recipient left";
            self.store.raise_alarm(context, why).await?;
        }
        Ok(())
    }

    /// Destroys the keys of a record, or of every record of a circle, and says so in its log. One
    /// that was cut off is completed by the next.
    ///
    /// # Errors
    /// See [`CustodianError`].
    pub async fn erase(&self, circle: ContextId, erasure: NewErasure) -> Done<Erased> {
        if erasure.record.is_some() == erasure.all {
            return wrong("name one record, or say all of the circle, and not both");
        }
        let (alone, only) = self.alone().await?;
        let erased = alone.erase_alone(circle, erasure.record).await;
        only.end().await;
        erased
    }

    /// The same, as long as nobody else imports or erases.
    async fn alone(&self) -> Done<(Self, Alone)> {
        let (store, only) = alone((&self.store, &self.home), Only::Records).await?;
        Ok((
            Self {
                store,
                ..self.clone()
            },
            only,
        ))
    }

    async fn erase_alone(&self, circle: ContextId, record: Option<RecordId>) -> Done<Erased> {
        let store = &self.store;
        store.circle(circle).await?;
        let now = self.clock.now();
        let keys_destroyed = store.erase_records(circle, record, now).await?;
        if let Some(record) = record.filter(|_| keys_destroyed == 0) {
            let erased = store.erased_records(circle, false).await?;
            if !erased.iter().any(|known| known.record == record) {
                let name = record.to_string();
                return Err(StoreError::Absent {
                    what: "record",
                    name,
                }
                .into());
            }
        }
        let logged = self.say_erased(circle).await;
        let logged = logged.map_err(|why| CustodianError::Unsaid(Box::new(why)))?;
        Ok(Erased {
            keys_destroyed,
            logged,
        })
    }

    /// Says in a circle's log what was erased there and is not said yet; answers how much that was.
    ///
    /// # Errors
    /// See [`CustodianError`].
    async fn say_erased(&self, circle: ContextId) -> Done<u64> {
        let store = &self.store;
        let unsaid = store.erased_records(circle, true).await?;
        let unsaid: Vec<RecordRef> = unsaid.into_iter().collect();
        for some in unsaid.chunks(RECORDS_LEN_MAX) {
            let says = access::said_erased(some);
            let now = self.clock.now();
            say_once(self.kept_in(), circle, &self.keys.author, &says, now).await?;
            store.erasure_logged(circle, some, now).await?;
        }
        Ok(unsaid.len() as u64)
    }

    /// The hospital's namespace, made once; the store remembers it.
    async fn namespace(&self) -> Done<NamespaceId> {
        if let Some(known) = self.store.fact(NAMESPACE).await? {
            return crate::store::read("a namespace", &known).map_err(Into::into);
        }
        let namespace = self.groups.create_namespace(&self.app).await?;
        // Another replica may have made one meanwhile.
        let first = self
            .store
            .first_fact(NAMESPACE, &namespace.to_string())
            .await?;
        crate::store::read("a namespace", &first).map_err(Into::into)
    }

    fn expiry(&self, hours: u64) -> Done<UnixSeconds> {
        if !(1..=HOURS_MAX).contains(&hours) {
            return wrong(format!("an invitation holds 1 to {HOURS_MAX} hours"));
        }
        Ok(UnixSeconds(self.clock.now().0 + hours * 3600))
    }

    fn app_digest(&self) -> Done<Sha256Digest> {
        Ok(Sha256Digest::of(&files::read_bounded(
            &self.app,
            WASM_BYTES_MAX,
        )?))
    }

    /// One recipient has one exchange that goes on: in a second one, somebody else would have its
    /// receipts too.
    async fn check_no_other(&self, exchange: Option<ContextId>, key: PublicKey) -> Done<()> {
        // One that cannot be read keeps nobody from another.
        let (rows, _) = self.store.readable_circles().await?;
        let is_other = |row: &&CircleRow| {
            row.recipient_key == Some(key)
                && row.alarm.is_none()
                && exchange.is_none_or(|own| own != row.context)
        };
        match rows.iter().find(is_other) {
            Some(other) => hindered(format!(
                "{} is the exchange with {key} already; its invitation is given out again \
                 (`medsync hospital invitation`)",
                other.context
            )),
            None => Ok(()),
        }
    }
}

fn invited(invitation: &Invitation) -> Done<Invited> {
    Ok(Invited {
        context: invitation.says.context,
        kind: invitation.says.kind,
        expires_at: invitation.says.expires_at,
        invitation: invitation.to_json()?,
    })
}
