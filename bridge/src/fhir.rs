//! FHIR R4 bundles: what becomes a record, and what `decide` may know of it.
//!
//! A resource is sealed byte for byte, but for the white space between its tokens, and only named
//! attributes of it are read; typed models of all of FHIR would read much more, would write
//! numbers and unknown elements back differently, and would refuse what a newer release adds.
//!
//! Nothing is dropped silently: every entry of a bundle is a [`Resource`] or a [`Refused`] with
//! its reason. A bundle that is none is refused as a whole, before anything of it is used.
//!
//! This module must not know records, keys or the network.

mod attributes;
mod bundle;
mod dates;

use std::path::Path;

use medsync_protocol::decide::Attributes;
use medsync_protocol::ids::Sha256Digest;
use medsync_protocol::seal::PARTED_BYTES_MAX;

use crate::files::{self, FileError};

/// The largest bundle, in bytes.
pub const BUNDLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most entries of a bundle.
pub const ENTRIES_LEN_MAX: usize = 20_000;
/// The largest resource, in bytes without white space.
pub const RESOURCE_BYTES_MAX: usize = PARTED_BYTES_MAX;

/// Why a file is no bundle that can be imported.
#[derive(Debug, thiserror::Error)]
pub enum FhirError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is too large; it was not read.
    #[error("the bundle has {bytes} bytes and may have {BUNDLE_BYTES_MAX}; import it in parts")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The file is no JSON.
    #[error("this is no JSON: {problem} at line {line}, column {column}")]
    NotJson {
        /// What kind of fault it is.
        problem: &'static str,
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
    },
    /// The JSON is no bundle.
    #[error("this is JSON and no FHIR Bundle: {0}")]
    NotABundle(String),
    /// The bundle is of a type whose entries are no data to be imported.
    #[error("a bundle of type transaction or collection is imported, this is of type {0:?}")]
    OtherType(String),
    /// The bundle has too many entries.
    #[error("the bundle has {0} entries and may have {ENTRIES_LEN_MAX}; import it in parts")]
    TooManyEntries(usize),
}

/// A resource that can become a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its FHIR type.
    pub resource_type: String,
    /// What the bundle calls it, for people.
    pub reference: String,
    /// What `decide` may know of it; without a record, which it is not yet.
    pub attributes: Attributes,
    /// The resource's own JSON, without the white space between its tokens.
    pub payload: Vec<u8>,
    /// Recognizes the resource when its bundle is imported again. It says nothing about content
    /// and stays with the importer all the same; a record's own id is random.
    pub local_key: Sha256Digest,
}

/// An entry that cannot become a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its FHIR type, as far as it has one.
    pub resource_type: String,
    /// What the bundle calls it, or which entry it is.
    pub reference: String,
    /// Why.
    pub why: String,
}

/// A bundle that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// What can become records, in the bundle's order.
    pub resources: Vec<Resource>,
    /// What cannot, in the bundle's order.
    pub refused: Vec<Refused>,
}

/// Reads a bundle from a file.
///
/// # Errors
/// See [`FhirError`].
pub fn read_bundle(path: &Path) -> Result<Bundle, FhirError> {
    let size = std::fs::metadata(path)
        .map_err(|source| FileError::Io {
            path: path.to_owned(),
            source,
        })?
        .len();
    if size > BUNDLE_BYTES_MAX {
        return Err(FhirError::TooLarge { bytes: size });
    }
    // The size of a file that is written to, or of none, is no promise.
    let bytes = files::read_bounded(path, BUNDLE_BYTES_MAX)?;
    parse_bundle(&bytes)
}

/// Reads a bundle from its bytes.
///
/// # Errors
/// See [`FhirError`].
pub fn parse_bundle(bytes: &[u8]) -> Result<Bundle, FhirError> {
    bundle::parse(bytes)
}

/// Reads one resource by itself, as the payload of a record is.
///
/// # Errors
/// Why it cannot be a record.
pub fn parse_resource(json: &str) -> Result<Resource, Refused> {
    bundle::parse_one(json)
}

#[cfg(test)]
mod tests;
