//! A patient's keys in the browser: opened by their passphrase, kept on this side, and never handed
//! to the page, which gets signatures and what opens a handle.

use medsync_protocol::ids::{Salt, Sha256Digest, UnixSeconds};
use medsync_protocol::keys::{KEY_FILE_BYTES_MAX, KeysError, PatientKeys};
use medsync_protocol::messages::{LoginNonce, login_message};
use medsync_protocol::secrets::{ConsentSecrets, Handle};
use medsync_protocol::signature::{PublicKey, SignError, Signature};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::{failed, json};

/// The largest file of keys, in bytes: no more is read of a file.
#[wasm_bindgen]
#[must_use]
pub fn key_file_bytes_max() -> usize {
    KEY_FILE_BYTES_MAX
}

/// Why keys do not do what the page asks for.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
enum PatientError {
    /// The API's challenge, or the consent, does not read.
    Asked(String),
    /// The keys are another patient's: they do not open the handle.
    NotTheirs,
    /// The message cannot be signed.
    Unsigned(String),
}

/// What the API wants to be signed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Challenge {
    nonce: LoginNonce,
    expires: UnixSeconds,
}

/// A challenge that the login key signed.
#[derive(Serialize)]
struct Signed<'a> {
    origin: &'a str,
    nonce: LoginNonce,
    expires: UnixSeconds,
    signature: Signature,
}

/// What a revocation opens, of the consents that the API lists.
#[derive(Deserialize)]
struct Revoked {
    handle: Handle,
    salt: Salt,
}

/// What opens a handle.
#[derive(Serialize)]
struct Revocation {
    secret: String,
    claim_key: PublicKey,
}

/// A patient who is here.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Patient {
    keys: PatientKeys,
}

#[wasm_bindgen]
impl Patient {
    /// Opens a file of keys, or a recovery file; it takes a second or two, by design.
    ///
    /// # Errors
    /// A `KeysError`.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8], passphrase: &str) -> Result<Self, String> {
        PatientKeys::open(bytes, passphrase)
            .map(|keys| Self { keys })
            .map_err(|error: KeysError| failed(&error))
    }

    /// The patient's public key: what their consents are signed by.
    #[must_use]
    pub fn key(&self) -> String {
        self.keys.patient.public_key().to_string()
    }

    /// Signs a `Challenge` of the API for a page of this origin; answers a `SignedChallenge`.
    ///
    /// # Errors
    /// A `PatientError`.
    #[wasm_bindgen(js_name = logIn)]
    pub fn log_in(&self, origin: &str, challenge: &str) -> Result<String, String> {
        let Challenge { nonce, expires } = read(challenge)?;
        let message = login_message(Sha256Digest::of(origin.as_bytes()), nonce, expires);
        let signature = self
            .keys
            .login
            .sign(message)
            .map_err(|error: SignError| failed(&PatientError::Unsigned(error.to_string())))?;
        json(&Signed {
            origin,
            nonce,
            expires,
            signature,
        })
    }

    /// What revokes a consent of the API's list: a `Revocation`, which whoever has it can send.
    ///
    /// # Errors
    /// A `PatientError`: of a consent that these keys did not make nothing is told.
    pub fn revocation(&self, consent: &str) -> Result<String, String> {
        let Revoked { handle, salt } = read(consent)?;
        let secrets = ConsentSecrets::from_salt(&self.keys.seed, salt);
        if secrets.handle() != handle {
            return Err(failed(&PatientError::NotTheirs));
        }
        json(&Revocation {
            secret: secrets.secret.reveal_text(),
            claim_key: secrets.claim_key.public_key(),
        })
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| failed(&PatientError::Asked(error.to_string())))
}

#[cfg(test)]
mod tests {
    use medsync_protocol::secrets::{Counter, DeviceNumber};
    use serde_json::{Value, json};

    use super::*;

    /// Sealed by a derivation that is quick.
    const FILE: &[u8] = include_bytes!("../../fuzz/corpus/sealed-key-file/quick.json");
    const PASSPHRASE: &str = "a long enough passphrase";

    fn patient() -> Patient {
        Patient::new(FILE, PASSPHRASE).expect("it opens")
    }

    #[test]
    fn a_login_is_signed_for_one_origin() {
        let patient = patient();
        let challenge = json!({ "nonce": "0x11", "expires": 1_767_225_600 });
        let origin = "https://medsync.hospital.example";
        let signed = patient.log_in(origin, &challenge.to_string());
        let signed: Value = serde_json::from_str(&signed.expect("signed")).expect("JSON");
        assert_eq!(signed["origin"], origin);
        let signature: Signature =
            serde_json::from_value(signed["signature"].clone()).expect("a signature");
        let nonce: LoginNonce = serde_json::from_value(json!("0x11")).expect("a nonce");
        let expires = UnixSeconds(1_767_225_600);
        for (origin, verifies) in [(origin, true), ("https://other.example", false)] {
            let message = login_message(Sha256Digest::of(origin.as_bytes()), nonce, expires);
            let key = patient.keys.login.public_key();
            assert_eq!(key.verifies(message, &signature), verifies, "{origin}");
        }
    }

    #[test]
    fn a_revocation_opens_the_handle_of_these_keys_alone() {
        let patient = patient();
        let (device, counter) = (DeviceNumber(0), Counter(3));
        let secrets = ConsentSecrets::derive(&patient.keys.seed, device, counter);
        let consent = json!({ "handle": secrets.handle(), "salt": secrets.salt, "more": 1 });
        let opened = patient.revocation(&consent.to_string()).expect("opened");
        let opened: Value = serde_json::from_str(&opened).expect("JSON");
        assert_eq!(opened["secret"], secrets.secret.reveal_text());
        let other = json!({ "handle": "0x1", "salt": secrets.salt });
        let refused = patient.revocation(&other.to_string()).expect_err("another");
        assert_eq!(refused, r#"{"kind":"not_theirs"}"#);
    }

    #[test]
    fn what_does_not_open_says_why_and_no_secret() {
        let wrong = Patient::new(FILE, "another long passphrase").expect_err("closed");
        assert_eq!(wrong, r#"{"kind":"closed"}"#);
        let wrong = Patient::new(b"{}", PASSPHRASE).expect_err("no file of keys");
        assert_eq!(wrong, r#"{"kind":"malformed"}"#);
        assert!(!format!("{:?}", patient()).contains("0x"));
    }
}
