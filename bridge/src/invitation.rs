//! The invitation file: everything that a patient pins when it joins a circle, or a recipient when
//! it joins an exchange.
//!
//! The file carries the secret half of a one-time key; whoever has it can enrol as the patient,
//! so that it is handed over like a key. Its public half is in the context already.

use std::path::Path;

use medsync_protocol::consent::Registry;
use medsync_protocol::felt::FeltError;
use medsync_protocol::ids::{
    Anchorer, ClassHash, ContextId, ContextKind, MemberId, SealKey, Sha256Digest, UnixSeconds,
};
use medsync_protocol::signature::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::source::{CircleState, GroupId};

const INVITATION_FORMAT: &str = "medsync/invitation/v1";
const INVITATION_BYTES_MAX: u64 = 64 * 1024;
const PEER_BYTES_MAX: usize = 512;

/// Why a file is no invitation for us.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no invitation.
    #[error("this is no invitation file: {0}")]
    Malformed(String),
    /// The invitation is over.
    #[error("the invitation expired at {expired} and it is {now}; ask the hospital for a new one")]
    Expired {
        /// When it expired, in unix seconds.
        expired: UnixSeconds,
        /// Now.
        now: UnixSeconds,
    },
    /// The one-time key is no key.
    #[error("the invitation's one-time key: {0}")]
    Key(#[from] FeltError),
    /// The invitation lets nobody enrol.
    #[error(
        "this invitation has no one-time key: it is for a member whom the patient admits \
         (`medsync patient admit`), before it joins"
    )]
    NoKey,
    /// The invitation is for another chain or contract than this party believes in.
    #[error(
        "the invitation is for another chain or registry than this configuration; \
         it may be meant for somebody else"
    )]
    OtherRegistry,
    /// The invitation asks for other code than this party has.
    #[error("the invitation asks for app {invited}, this medsync has {ours}; nothing is installed")]
    OtherApp {
        /// SHA-256 of the wasm that the hospital runs.
        invited: Sha256Digest,
        /// SHA-256 of ours.
        ours: Sha256Digest,
    },
}

/// An invitation: what it says, and the key that it hands over.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    format: String,
    /// What it says.
    pub says: Parts,
    /// Absent in the invitation of a member whom the patient admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_time_secret: Option<String>,
}

/// The custodian's author key, as the kept invitation of a context names it; a home without one
/// takes any.
///
/// # Errors
/// A text that is no invitation.
pub fn author_in(kept: Option<&str>) -> Result<Option<PublicKey>, serde_json::Error> {
    let invitation = kept.map(serde_json::from_str::<Invitation>).transpose()?;
    Ok(invitation.map(|invitation| invitation.says.author_key))
}

/// What an invitation says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// Into what.
    pub kind: ContextKind,
    /// What the node joins the group by; opaque.
    pub group_invitation: serde_json::Value,
    /// The circle's Restricted subgroup.
    pub group: GroupId,
    /// The circle.
    pub context: ContextId,
    /// Under which address the custodian's node is reached.
    pub peer: String,
    /// SHA-256 of the app's wasm.
    pub wasm_sha256: Sha256Digest,
    /// The public half of the one-time key, as the context has it.
    pub invitation_key: PublicKey,
    /// The custodian's member key.
    pub custodian_member: MemberId,
    /// The custodian's Starknet address.
    pub custodian_address: Anchorer,
    /// The custodian's key for log entries.
    pub author_key: PublicKey,
    /// The custodian's X25519 key.
    pub seal_key: SealKey,
    /// Where consents are anchored.
    pub registry: Registry,
    /// The class of the registry.
    pub class_hash: ClassHash,
    /// The first second at which it is over.
    pub expires_at: UnixSeconds,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation")
            .field("says", &self.says)
            .finish_non_exhaustive()
    }
}

impl Invitation {
    /// An invitation with its one-time key.
    #[must_use]
    pub fn new(says: Parts, one_time: &SecretKey) -> Self {
        Self {
            format: INVITATION_FORMAT.into(),
            says,
            one_time_secret: Some(one_time.reveal_text()),
        }
    }

    /// The same for somebody who joins and does not enrol.
    #[must_use]
    pub fn without_key(says: Parts) -> Self {
        Self {
            format: INVITATION_FORMAT.into(),
            says,
            one_time_secret: None,
        }
    }

    /// Writes the file, readable by its owner alone.
    ///
    /// # Errors
    /// A file that is there already or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), InvitationError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| InvitationError::Malformed(error.to_string()))?;
        Ok(files::write_new_secret(path, &Zeroizing::new(json))?)
    }

    /// What the file says, as JSON.
    ///
    /// # Errors
    /// None that can happen: it is made of texts and numbers.
    pub fn to_json(&self) -> Result<serde_json::Value, InvitationError> {
        serde_json::to_value(self).map_err(|error| InvitationError::Malformed(error.to_string()))
    }

    /// The same as a text, as a store keeps it.
    ///
    /// # Errors
    /// As [`Invitation::to_json`].
    pub fn to_text(&self) -> Result<String, InvitationError> {
        Ok(self.to_json()?.to_string())
    }

    /// Back from [`Invitation::to_text`], also one that is over.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`].
    pub fn of_text(text: &str) -> Result<Self, InvitationError> {
        // The parser's own text may quote the secret.
        serde_json::from_str(text)
            .map_err(|_| InvitationError::Malformed("what is kept of it makes no sense".into()))
    }

    /// Reads a file and checks that it is an invitation, whole and not over.
    ///
    /// # Errors
    /// See [`InvitationError`].
    pub fn read(path: &Path, now: UnixSeconds) -> Result<Self, InvitationError> {
        let bytes = Zeroizing::new(files::read_bounded(path, INVITATION_BYTES_MAX)?);
        Self::parse(&bytes, now)
    }

    /// Reads the bytes of a file, as [`Invitation::read`].
    ///
    /// # Errors
    /// See [`InvitationError`].
    pub fn parse(bytes: &[u8], now: UnixSeconds) -> Result<Self, InvitationError> {
        let invitation: Self = serde_json::from_slice(bytes).map_err(|error| {
            // The parser's own text may quote the secret; its place is enough.
            let (line, column) = (error.line(), error.column());
            InvitationError::Malformed(format!("at line {line}, column {column}"))
        })?;
        if invitation.format != INVITATION_FORMAT {
            return Err(InvitationError::Malformed(format!(
                "its format is not {INVITATION_FORMAT}"
            )));
        }
        if invitation.says.peer.is_empty() || invitation.says.peer.len() > PEER_BYTES_MAX {
            return Err(InvitationError::Malformed("its peer is no address".into()));
        }
        if invitation.one_time_secret.is_some() {
            let public = invitation.one_time_key()?.public_key();
            if public != invitation.says.invitation_key {
                let why = "its one-time key is not the one that it names";
                return Err(InvitationError::Malformed(why.into()));
            }
        }
        invitation.check_time(now)?;
        Ok(invitation)
    }

    /// Whether it may still be used.
    ///
    /// # Errors
    /// [`InvitationError::Expired`].
    pub fn check_time(&self, now: UnixSeconds) -> Result<(), InvitationError> {
        let expired = self.says.expires_at;
        if now >= expired {
            return Err(InvitationError::Expired { expired, now });
        }
        Ok(())
    }

    /// The one-time key, which signs the enrolment.
    ///
    /// # Errors
    /// A value that is no key, or an invitation without one.
    pub fn one_time_key(&self) -> Result<SecretKey, InvitationError> {
        let Some(secret) = &self.one_time_secret else {
            return Err(InvitationError::NoKey);
        };
        let felt = medsync_protocol::felt::parse(secret)?;
        SecretKey::from_scalar(&felt.to_bytes_be())
            .map_err(|error| InvitationError::Malformed(error.to_string()))
    }
}

impl Parts {
    /// Whether a circle says of itself what the invitation says of it.
    #[must_use]
    pub fn describes(&self, state: &CircleState) -> bool {
        let pins = &state.custodian;
        state.context == self.context
            && pins.kind == self.kind
            && state.custodian_member == self.custodian_member
            && pins.invitation_key == self.invitation_key
            && pins.anchorer == self.custodian_address
            && pins.author_key == self.author_key
            && pins.seal_key == self.seal_key
            && pins.registry == self.registry
    }

    /// Whether this party may join: the chain that it believes in, and the code that it has.
    ///
    /// # Errors
    /// [`InvitationError::OtherRegistry`] or [`InvitationError::OtherApp`].
    pub fn fits(
        &self,
        registry: Registry,
        class_hash: ClassHash,
        wasm: Sha256Digest,
    ) -> Result<(), InvitationError> {
        if self.registry != registry || self.class_hash != class_hash {
            return Err(InvitationError::OtherRegistry);
        }
        if self.wasm_sha256 != wasm {
            let (invited, ours) = (self.wasm_sha256, wasm);
            return Err(InvitationError::OtherApp { invited, ours });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::{random_key, system_random};
    use medsync_protocol::felt::Felt;
    use medsync_protocol::ids::{ChainId, ContractAddress};

    fn invitation() -> (Invitation, SecretKey) {
        let key = random_key(&mut system_random());
        let says = Parts {
            kind: ContextKind::Circle,
            group_invitation: serde_json::json!({"any": "thing"}),
            group: GroupId([1; 32]),
            context: ContextId([2; 32]),
            peer: "/ip4/127.0.0.1/tcp/2428".into(),
            wasm_sha256: Sha256Digest([3; 32]),
            invitation_key: key.public_key(),
            custodian_member: MemberId([4; 32]),
            custodian_address: Anchorer::from_felt(Felt::ONE),
            author_key: PublicKey::from_felt(Felt::TWO),
            seal_key: SealKey([5; 32]),
            registry: registry(),
            class_hash: ClassHash::from_felt(Felt::THREE),
            expires_at: UnixSeconds(1_000),
        };
        (Invitation::new(says, &key), key)
    }

    fn registry() -> Registry {
        Registry {
            chain_id: ChainId::from_felt(Felt::ONE),
            registry: ContractAddress::from_felt(Felt::TWO),
        }
    }

    #[test]
    fn an_invitation_is_read_until_it_expires() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("invitation.json");
        let (invitation, key) = invitation();
        invitation.write(&path).expect("a new file");
        let read = Invitation::read(&path, UnixSeconds(999)).expect("not over");
        assert_eq!(read.one_time_key().expect("a key"), key);
        let late = Invitation::read(&path, UnixSeconds(1_000));
        assert!(matches!(late, Err(InvitationError::Expired { .. })));
    }

    #[test]
    fn an_invitation_without_a_key_lets_nobody_enrol() {
        let (invitation, _) = invitation();
        let json = serde_json::to_vec(&Invitation::without_key(invitation.says)).expect("JSON");
        let read = Invitation::parse(&json, UnixSeconds(0)).expect("an invitation");
        assert!(matches!(read.one_time_key(), Err(InvitationError::NoKey)));
    }

    #[test]
    fn a_damaged_invitation_is_refused_without_quoting_its_secret() {
        let (invitation, key) = invitation();
        let json = serde_json::to_string(&invitation).expect("JSON");
        let now = UnixSeconds(0);
        let secret = key.reveal_text();
        for broken in [
            json[..json.len() / 2].to_owned(),
            json.replace(&secret, &secret.to_uppercase()),
            json.replace(&secret, "0x0"),
            json.replace(&secret, "0x1"),
            json.replace("invitation/v1", "invitation/v2"),
            json.replace("\"peer\":\"", "\"pear\":\""),
        ] {
            let error = Invitation::parse(broken.as_bytes(), now).expect_err("a broken file");
            assert!(!error.to_string().contains(&secret[2..]), "{error}");
        }
    }

    #[test]
    fn a_foreign_invitation_and_other_code_are_refused() {
        let (invitation, _) = invitation();
        let (class, wasm) = (ClassHash::from_felt(Felt::THREE), Sha256Digest([3; 32]));
        assert!(invitation.says.fits(registry(), class, wasm).is_ok());
        let other = Registry {
            registry: ContractAddress::from_felt(Felt::ONE),
            ..registry()
        };
        let foreign = invitation.says.fits(other, class, wasm);
        assert!(matches!(foreign, Err(InvitationError::OtherRegistry)));
        let pushed = invitation
            .says
            .fits(registry(), class, Sha256Digest([9; 32]));
        assert!(matches!(pushed, Err(InvitationError::OtherApp { .. })));
    }
}
