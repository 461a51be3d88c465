//! What the node tells: who calls, in which context, and what its clock says.
//!
//! The clock is this node's own and differs from others'; nothing that must be equal on all
//! replicas is computed from it.

use calimero_sdk::env;
use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The member on whose node this call runs; the node resolves it and no caller can claim it.
pub fn executor() -> MemberId {
    MemberId(env::executor_id())
}

/// The context of this call.
pub fn context() -> ContextId {
    ContextId(env::context_id())
}

/// This node's clock; the host counts nanoseconds.
pub fn now() -> UnixSeconds {
    UnixSeconds(env::time_now() / NANOS_PER_SECOND)
}
