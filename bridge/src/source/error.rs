//! Why a node could not be asked, or what it said instead of an answer.
//!
//! No text here carries a credential or a token, and whatever a node says is cut and made
//! printable before it gets into one.

use std::path::PathBuf;
use std::time::Duration;

use medsync_protocol::ids::ContextId;

use crate::files::FileError;

/// The longest text of a node that an error keeps, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The credential file cannot be read.
    #[error("the node's credential: {0}")]
    CredentialFile(#[from] FileError),
    /// The credential file is something else.
    #[error("{0} is no node credential: it holds a username and a password, as JSON")]
    Credential(PathBuf),
    /// The address is none that a password may be sent to.
    #[error("{0} is no address of a node: http on this machine, or https")]
    Address(String),
    /// The node does not take the credential.
    #[error("the node refuses this credential; is it that of another node?")]
    Unauthorized,
    /// The node answers whoever asks.
    #[error(
        "the node at {0} answers without a credential: whoever reaches it reads and writes every \
         circle on it; run it with embedded authentication"
    )]
    Unguarded(String),
    /// Nobody answers.
    #[error("{call}: the node cannot be reached: {reason}")]
    Unreachable {
        /// What was asked.
        call: String,
        /// What the network said.
        reason: String,
    },
    /// The answer takes too long.
    #[error("{call}: the node did not answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// What was asked.
        call: String,
        /// The bound.
        after: Duration,
    },
    /// The answer is too long.
    #[error("{call}: the node's answer has more than {bytes_max} bytes")]
    TooLarge {
        /// What was asked.
        call: String,
        /// The bound.
        bytes_max: usize,
    },
    /// The answer is not what it should be, or says what cannot be.
    #[error("{call}: the node's answer makes no sense: {reason}")]
    Malformed {
        /// What was asked.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The app refuses, and why.
    #[error("{method}: {reason}")]
    Refused {
        /// The app's method.
        method: &'static str,
        /// The app's stable name of the reason.
        code: String,
        /// The reason for people.
        reason: String,
    },
    /// The node does not know the context.
    #[error("the node does not know the context {0}")]
    UnknownContext(ContextId),
    /// The node is no member where it would have to be.
    #[error("{call}: this node is no member: {reason}")]
    NotMember {
        /// What was asked.
        call: String,
        /// What the node says.
        reason: String,
    },
    /// The app could not be put where the node reads it.
    #[error("the app cannot be handed to the node: {0}")]
    Package(#[from] std::io::Error),
    /// The context's state, key or code has not arrived yet.
    #[error("{call}: the context is not ready yet: {reason}")]
    NotReady {
        /// What was asked.
        call: String,
        /// What the node says.
        reason: String,
    },
    /// The node itself failed, or refuses.
    #[error("{call}: the node answers {status}: {reason}")]
    Node {
        /// What was asked.
        call: String,
        /// The HTTP status, or 200 for an error inside an answer.
        status: u16,
        /// What the node says.
        reason: String,
    },
    /// A file that the node should read, or an invitation, is larger than allowed.
    #[error("{what} has more than {bytes_max} bytes")]
    InputTooLarge {
        /// What it is.
        what: &'static str,
        /// The bound.
        bytes_max: usize,
    },
}

impl SourceError {
    /// Whether the same call may succeed later without anybody changing anything. Calimero
    /// answers 500 to what will never do as well, so that a caller bounds its attempts.
    #[must_use]
    pub const fn is_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NotReady { .. } => true,
            Self::Node { status, .. } => *status >= 500 || *status == 429 || *status == 200,
            _ => false,
        }
    }

    /// The app's stable name for its refusal, if the app refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(super) fn malformed(call: impl Into<String>, reason: impl ToString) -> Self {
        Self::Malformed {
            call: call.into(),
            reason: printable(&reason.to_string()),
        }
    }
}

/// A text of a node, cut to what a log can bear and without control characters.
pub(super) fn printable(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if kept.len() + c.len_utf8() > TEXT_BYTES_MAX {
            kept.push('…');
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_printable() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a b [31m");
        let long = printable(&"é".repeat(TEXT_BYTES_MAX));
        assert!(long.len() <= TEXT_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let node = |status| SourceError::Node {
            call: "x".into(),
            status,
            reason: "y".into(),
        };
        assert!(node(503).is_retry());
        assert!(!node(404).is_retry());
        assert!(!SourceError::Unauthorized.is_retry());
        let call = String::from("x");
        assert!(
            SourceError::TimedOut {
                call,
                after: Duration::from_secs(1)
            }
            .is_retry()
        );
    }
}
