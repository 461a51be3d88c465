//! Why a call is refused: what is wrong, and what would be right.
//!
//! A refusal reaches the caller as `{"error": "<code>", "message": "<text>"}`. The code is stable
//! and for programs, the text is for people. No text holds a secret.

use medsync_protocol::audit::BodyError;
use medsync_protocol::consent::OpeningError;
use medsync_protocol::ids::{Anchorer, ContextId, MemberId, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::TermsError;
use medsync_protocol::tree::TreeError;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An argument is not written as it should be.
    #[error("{field}: {problem}")]
    Malformed {
        /// Which argument.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An argument is beyond its bound.
    #[error("{field} has at most {max}, this has {is}")]
    TooLarge {
        /// Which argument, and in what it is counted.
        field: &'static str,
        /// The bound.
        max: usize,
        /// What came.
        is: usize,
    },
    /// The call is for another kind of context.
    #[error("this context is a {here}; this is done in a {needed}")]
    OtherKind {
        /// What it is.
        here: &'static str,
        /// What it would have to be.
        needed: &'static str,
    },
    /// Only the custodian may do this.
    #[error("only the custodian's member {custodian} writes this here, not {executor}")]
    NotTheCustodian {
        /// Who may.
        custodian: MemberId,
        /// Who called.
        executor: MemberId,
    },
    /// Somebody publishes an enrolment for somebody else.
    #[error("an enrolment is published by the member it names, {member}; this is {executor}")]
    NotTheMember {
        /// Whom the enrolment names.
        member: MemberId,
        /// Who called.
        executor: MemberId,
    },
    /// The custodian would be its own patient.
    #[error("the custodian's own member cannot enrol as the patient")]
    CustodianEnrols,
    /// The enrolment is not signed by the invitation's key.
    #[error(
        "the invitation's one-time key did not sign this enrolment: it signs the context, the \
         member and all five keys"
    )]
    EnrolmentSignature,
    /// Two different enrolments are in the state.
    #[error(
        "enrolments or key changes that contradict each other froze this context: nothing counts \
         in it any more"
    )]
    Frozen,
    /// Nobody is enrolled.
    #[error("no patient is enrolled here yet; the invited member calls enrol first")]
    NotEnrolled,
    /// The terms cannot be read.
    #[error("terms: {0}")]
    Terms(#[from] TermsError),
    /// The opening cannot be a consent's.
    #[error("opening: {0}")]
    Opening(#[from] OpeningError),
    /// The terms name another context.
    #[error("the terms are for context {terms}, this is {here}")]
    OtherContext {
        /// The terms' context.
        terms: ContextId,
        /// This one.
        here: ContextId,
    },
    /// The terms name another custodian.
    #[error("the terms name the custodian's member {terms}, this circle's is {here}")]
    OtherCustodian {
        /// The terms' custodian.
        terms: MemberId,
        /// This circle's.
        here: MemberId,
    },
    /// The terms, or an anchor, name another anchorer.
    #[error("this circle is anchored by {here}, not by {other}")]
    OtherAnchorer {
        /// Who is named.
        other: String,
        /// Who would be right.
        here: Anchorer,
    },
    /// The consent is under a key that is not the patient's.
    #[error("patient_key is not the key that the patient enrolled with")]
    ForeignKey,
    /// The consent is under a key that was changed since.
    #[error("patient_key was changed since; sign with the present key")]
    OldKey,
    /// Nobody who may signed the key change.
    #[error("neither the old key nor the recovery key signed this change for this context")]
    KeyChangeSignature,
    /// Nobody who may signed the admission.
    #[error("admitted_by did not sign this member and number for this context")]
    AdmissionSignature,
    /// The key change does not follow.
    #[error("the next key change has number {next} and replaces {current}")]
    KeyChangeOrder {
        /// What would be right.
        next: u64,
        /// The key that counts now.
        current: PublicKey,
    },
    /// The new key is none, or was there before.
    #[error("a new key is not zero and was never the party's key before")]
    KeyNotNew,
    /// The consent's signature does not verify.
    #[error(
        "the signature is not the patient's over this consent: it covers chain, registry, terms \
         and the whole opening"
    )]
    GrantSignature,
    /// The consent is over before it starts.
    #[error("not_after {not_after} has passed, it is {now}; grant with a later one or with 0")]
    AlreadyOver {
        /// The consent's end.
        not_after: UnixSeconds,
        /// This node's clock.
        now: UnixSeconds,
    },
    /// The handle belongs to another consent.
    #[error("another consent has this handle; take the next counter for a fresh one")]
    HandleUsed,
    /// The handle is revoked.
    #[error("this handle is revoked, and there is no un-revoke; grant with a fresh one")]
    HandleRevoked,
    /// The secrets do not open the handle.
    #[error("secret and claim_key do not open this handle")]
    DoesNotOpen,
    /// No such consent counts here.
    #[error("no consent with this commitment and handle counts here")]
    UnknownConsent,
    /// The proof cannot be one.
    #[error("proof: {0}")]
    Proof(#[from] TreeError),
    /// The proof leads to another root.
    #[error("the path from this consent's leaf does not lead to the root")]
    NotIncluded,
    /// Somebody without standing reports from the chain.
    #[error("what the chain says is recorded by the custodian's or the patient's member alone")]
    NotAWitness,
    /// A stage without what it needs.
    #[error("stage {stage} needs {needs}")]
    StageNeeds {
        /// The stage.
        stage: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// Nobody here signs log entries with this key.
    #[error("nobody in this context signs log entries with author_key {0}")]
    NotAnAuthor(PublicKey),
    /// The body is none.
    #[error("body: {0}")]
    Body(#[from] BodyError),
    /// The entry's kind is not its body's.
    #[error("the body is of kind {body}, the entry says {entry:?}")]
    LogKind {
        /// The body's kind.
        body: &'static str,
        /// What the entry says.
        entry: String,
    },
    /// The entry is not signed by its author.
    #[error("the author's signature over the entry's digest does not verify")]
    LogSignature,
    /// The entry does not follow the author's last one.
    #[error(
        "entry {seq} does not follow the author's entry before it, which is not here or another"
    )]
    LogOrder {
        /// The entry's number.
        seq: u64,
    },
    /// The entry is dated before the one that it follows.
    #[error("entry {seq} is dated before the entry that it follows; a log's times never go back")]
    LogBackdated {
        /// The entry's number.
        seq: u64,
    },
    /// The author signed another entry with this number.
    #[error("the author signed another entry with number {seq}: this would fork the log")]
    LogFork {
        /// The entry's number.
        seq: u64,
    },
    /// No such entry counts here.
    #[error("no log entry of this author, number and digest counts here")]
    UnknownLogEntry,
    /// A record does not follow its predecessor.
    #[error("the next version of this record is {expected}, not {version}")]
    RecordVersion {
        /// What would be right.
        expected: u32,
        /// What came.
        version: u32,
    },
    /// No such record.
    #[error("no such record or version here")]
    UnknownRecord,
    /// No log entry covers what is released.
    #[error(
        "the custodian's log here has no RELEASED entry with this number and digest that names \
         this record and version; it is written and read back before anything is released"
    )]
    NotLogged,
    /// No such entry.
    #[error("no entry of this kind has this key here")]
    UnknownEntry,
    /// A shard is full.
    #[error("the shard of {kind} that this belongs to is full ({max}); {advice}")]
    Full {
        /// Which collection.
        kind: &'static str,
        /// The bound.
        max: usize,
        /// What helps.
        advice: &'static str,
    },
    /// Somebody else's entry stands, or stood, where this belongs.
    #[error("another member's entry has this place; seal it under another key")]
    Taken,
    /// The circle's own description is gone or altered.
    #[error("what the custodian wrote at init is missing or altered: trust nothing in here")]
    CircleBroken,
    /// The node's storage failed.
    #[error("storage: {0}")]
    Storage(String),
}

impl Refusal {
    /// A refusal of an argument's spelling.
    pub fn malformed(field: &'static str, problem: impl ToString) -> Self {
        Self::Malformed {
            field,
            problem: problem.to_string(),
        }
    }

    /// The stable name for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::OtherKind { .. } => "other_kind",
            Self::NotTheCustodian { .. } => "not_the_custodian",
            Self::NotTheMember { .. } => "not_the_member",
            Self::CustodianEnrols => "custodian_enrols",
            Self::EnrolmentSignature => "enrolment_signature",
            Self::Frozen => "frozen",
            Self::NotEnrolled => "not_enrolled",
            Self::Terms(_) => "terms",
            Self::Opening(_) => "opening",
            Self::OtherContext { .. } => "other_context",
            Self::OtherCustodian { .. } => "other_custodian",
            Self::OtherAnchorer { .. } => "other_anchorer",
            Self::ForeignKey => "foreign_key",
            Self::OldKey => "old_key",
            Self::KeyChangeSignature => "key_change_signature",
            Self::AdmissionSignature => "admission_signature",
            Self::KeyChangeOrder { .. } => "key_change_order",
            Self::KeyNotNew => "key_not_new",
            Self::GrantSignature => "grant_signature",
            Self::AlreadyOver { .. } => "already_over",
            Self::HandleUsed => "handle_used",
            Self::HandleRevoked => "handle_revoked",
            Self::DoesNotOpen => "does_not_open",
            Self::UnknownConsent => "unknown_consent",
            Self::Proof(_) => "proof",
            Self::NotIncluded => "not_included",
            Self::NotAWitness => "not_a_witness",
            Self::StageNeeds { .. } => "stage_needs",
            Self::NotAnAuthor(_) => "not_an_author",
            Self::Body(_) => "body",
            Self::LogKind { .. } => "log_kind",
            Self::LogSignature => "log_signature",
            Self::LogOrder { .. } => "log_order",
            Self::LogBackdated { .. } => "log_backdated",
            Self::LogFork { .. } => "log_fork",
            Self::UnknownLogEntry => "unknown_log_entry",
            Self::RecordVersion { .. } => "record_version",
            Self::UnknownRecord => "unknown_record",
            Self::NotLogged => "not_logged",
            Self::UnknownEntry => "unknown_entry",
            Self::Full { .. } => "full",
            Self::Taken => "taken",
            Self::CircleBroken => "circle_broken",
            Self::Storage(_) => "storage",
        }
    }
}

impl From<calimero_storage::StorageError> for Refusal {
    fn from(error: calimero_storage::StorageError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Refusal", 2)?;
        object.serialize_field("error", self.code())?;
        object.serialize_field("message", &self.to_string())?;
        object.end()
    }
}
