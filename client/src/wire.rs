//! What goes over the API, as JSON, in the protocol's own types. Times are unix seconds; keys,
//! digests and names of contexts are texts of `0x` and hexadecimal digits.

mod anchoring;
mod circles;
mod consents;
mod custodian;
mod events;
mod exchanges;
mod log;
mod problem;
mod records;
mod sessions;
mod signed;
mod status;
mod writes;

pub use anchoring::{
    Batch, BatchPage, BroughtClaim, KeptClaim, KnownAs, NewClaim, Pool, Pools, Ticket,
    TicketReceipt, Tickets,
};
pub use circles::{BrokenGlass, Circle, CirclePage, CircleStatus, Member};
pub use consents::{Consent, ConsentPage, ConsentStage, ConsentState, Next, Sendable};
pub use custodian::{
    AddedPool, Erased, ExpectedRecipient, Import, ImportLine, ImportState, Imported, Invited,
    NewCircle, NewErasure, NewInvitation, NewPool,
};
pub use events::{Event, What};
pub use exchanges::{
    Answer, Asked, AskedFor, NewRequest, ReceiptPage, Release, ReleasePage, RequestPage,
    SealedRelease, SharedReceipt,
};
pub use log::{CheckedLog, LogCheck, LogHead, LogHeadPage, LogLine, LogPage};
pub use problem::Problem;
pub use records::{
    Decided, PreviewPage, PreviewQuestion, Record, RecordPage, SealedPart, SealedRecord, Withheld,
};
pub use sessions::{Caller, Challenge, Login, LoginAs, Session};
pub use signed::{Brought, NewAdmission, NewEnrolment, NewKeyChange, NewLogEntry};
pub use status::{Live, Ready, Status};
pub use writes::{NewConsent, NewRevocation, Recorded, Revoked};
