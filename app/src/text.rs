//! From the interface's texts to the protocol's types, and back.

use std::str::FromStr;

use medsync_protocol::ids::{parse_base64, to_base64};
use medsync_protocol::signature::{Signature, SignatureHalf};

use crate::abi::SignatureInput;
use crate::refusal::Refusal;

/// Reads one value; the refusal names the argument.
pub fn read<T>(field: &'static str, text: &str) -> Result<T, Refusal>
where
    T: FromStr,
    T::Err: ToString,
{
    text.parse()
        .map_err(|error: T::Err| Refusal::malformed(field, error))
}

/// Reads a value that is there or not.
pub fn read_option<T>(field: &'static str, text: Option<&str>) -> Result<Option<T>, Refusal>
where
    T: FromStr,
    T::Err: ToString,
{
    text.map(|text| read(field, text)).transpose()
}

/// Reads base64 whose length was bounded before it is decoded.
pub fn read_base64(field: &'static str, text: &str, max: usize) -> Result<Vec<u8>, Refusal> {
    if text.len() > max {
        return Err(Refusal::TooLarge {
            field,
            max,
            is: text.len(),
        });
    }
    parse_base64(text).map_err(|error| Refusal::malformed(field, error))
}

/// Writes base64.
pub fn base64(bytes: &[u8]) -> String {
    to_base64(bytes)
}

/// Reads a signature.
pub fn read_signature(text: &SignatureInput) -> Result<Signature, Refusal> {
    Ok(Signature {
        r: read("signature.r", &text.r)?,
        s: read("signature.s", &text.s)?,
    })
}

/// Writes a signature.
pub fn signature(signature: &Signature) -> SignatureInput {
    SignatureInput {
        r: signature.r.to_string(),
        s: signature.s.to_string(),
    }
}

/// A signature as it is stored.
pub type StoredSignature = [[u8; 32]; 2];

/// The stored form of a signature.
pub fn store_signature(signature: &Signature) -> StoredSignature {
    [signature.r.to_bytes(), signature.s.to_bytes()]
}

/// The signature of a stored form, if its halves are felts.
pub fn load_signature(stored: &StoredSignature) -> Option<Signature> {
    Some(Signature {
        r: SignatureHalf::from_bytes(&stored[0]).ok()?,
        s: SignatureHalf::from_bytes(&stored[1]).ok()?,
    })
}
