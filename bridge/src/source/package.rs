//! The app as nodes exchange it: Calimero's bundle, a gzipped tar of a manifest and the wasm.
//!
//! A node names a bare wasm after the place that it was installed from, so that a hospital and a
//! patient with the file in different folders would have two applications and never share a
//! context. A bundle is named after the package in its manifest, on every node alike, and which
//! version a context runs is told by the bundle's content.
//!
//! Parties with different builds of this program have to make the same bytes of the same wasm, for
//! years. An archiver or a compressor may change its output with any release, so that the few
//! bytes around the two files are written here: plain ustar headers, and gzip that stores.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use medsync_protocol::ids::Sha256Digest;
use serde_json::json;
use tempfile::NamedTempFile;

/// The package's name: who changes it makes another application.
const PACKAGE: &str = "org.medsync.circle";
const MANIFEST: &str = "manifest.json";
/// Where the wasm stands; a node looks for it under this name by default.
const WASM: &str = "app.wasm";
/// By this ending a node tells a bundle from a bare wasm.
const ENDING: &str = ".mpk";

/// The unit of a tar archive.
const TAR_BLOCK_BYTES: usize = 512;
/// The most bytes of one stored block of deflate.
const STORED_BYTES_MAX: usize = 0xffff;

/// The bundle of a wasm: the same bytes on every machine.
pub(super) fn pack(wasm: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(wasm.len() + 8 * TAR_BLOCK_BYTES);
    add(&mut archive, MANIFEST, manifest(wasm).as_bytes());
    add(&mut archive, WASM, wasm);
    // Two empty blocks end an archive.
    archive.extend_from_slice(&[0; 2 * TAR_BLOCK_BYTES]);
    gzip(&archive)
}

/// Its text is content, so that it is written in one order and not left to a serializer's.
fn manifest(wasm: &[u8]) -> String {
    let hash = hex::encode(Sha256Digest::of(wasm).0);
    // Nodes unpack a version once: other content has to be another version.
    let version = json!(format!("1.0.0+{}", &hash[..16]));
    let (hash, size) = (json!(hash), wasm.len());
    // Written by hand, since the order of the fields is part of what is hashed.
    let wasm = format!(r#"{{"path":"{WASM}","hash":{hash},"size":{size}}}"#);
    let names = format!(r#""version":"1.0","package":"{PACKAGE}","appVersion":{version}"#);
    format!(r#"{{{names},"minRuntimeVersion":"0.1.0","wasm":{wasm}}}"#)
}

/// Adds a file to a tar archive: its header, and its bytes up to a whole block.
fn add(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut header = [0u8; TAR_BLOCK_BYTES];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", bytes.len()));
    put(136, "00000000000\0");
    // The checksum counts itself as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend_from_slice(&header);
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(TAR_BLOCK_BYTES), 0);
}

/// Gzip without compression, of bytes that are not none: the wasm is small, and every node keeps
/// it unpacked anyway.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Deflate, no flags, no time, no system.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut pieces = bytes.chunks(STORED_BYTES_MAX).peekable();
    while let Some(piece) = pieces.next() {
        out.push(u8::from(pieces.peek().is_none()));
        // A piece has at most as many bytes as this number goes.
        let length = piece.len() as u16;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    // Gzip wants the length modulo 2^32.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// The checksum of gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| {
        if sum & 1 == 1 {
            (sum >> 1) ^ 0xedb8_8320
        } else {
            sum >> 1
        }
    };
    let byte = |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), step);
    !bytes.iter().fold(!0, byte)
}

/// Puts a bundle where a node on this machine can read it; it is removed when it is dropped. The
/// node may run as another user, and the app is no secret.
pub(super) fn put(package: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("medsync-")
        .suffix(ENDING)
        .permissions(Permissions::from_mode(0o644))
        .tempfile()?;
    file.write_all(package)?;
    file.flush()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of every wasm.
    const SMALL: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_manifest_names_what_is_in_the_bundle() {
        let manifest: serde_json::Value = serde_json::from_str(&manifest(SMALL)).expect("JSON");
        assert_eq!(manifest["package"], PACKAGE);
        assert_eq!(manifest["appVersion"], "1.0.0+93a44bbb96c75121");
        assert_eq!(manifest["wasm"]["path"], WASM);
        assert_eq!(manifest["wasm"]["size"], SMALL.len());
    }

    /// Whatever changes these digests splits parties with different builds of this program. Both
    /// bundles were unpacked by other programs when the digests were written down; the second has
    /// more than one stored block.
    #[test]
    fn a_bundle_is_the_same_on_every_machine() {
        let digest = |wasm: &[u8]| Sha256Digest::of(&pack(wasm)).to_string();
        assert_eq!(
            digest(SMALL),
            "0x36f03ef15dfa284656b441ecbb67ce785e6faa44d3356d10710f3ed0dc2cee09"
        );
        assert_eq!(
            digest(&SMALL.repeat(20_000)),
            "0x970f41c3b0fb38dc9a1eaa28b95a17aa6a77d6f6adef5eb13f3c22c3d236f93b"
        );
    }

    #[test]
    fn a_bundle_is_readable_until_it_is_dropped() {
        let file = put(SMALL).expect("written");
        let path = file.path().to_owned();
        assert!(path.to_string_lossy().ends_with(ENDING));
        assert_eq!(std::fs::read(&path).expect("readable"), SMALL);
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        drop(file);
        assert!(!path.exists());
    }
}
