//! Searching the files of a folder for what must not be there, or must.
//!
//! Calimero's store is not compressed, so that what it holds stands in its files as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context;
use medsync_protocol::ids::to_base64;

/// Something to look for, in every spelling in which a store or a node may keep it.
#[derive(Clone, Debug)]
pub struct Needle {
    name: String,
    spellings: Vec<Vec<u8>>,
}

impl Needle {
    /// A text as it stands; its own name.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            name: text.to_owned(),
            spellings: vec![text.as_bytes().to_vec()],
        }
    }

    /// At least five bytes under a name: as they are, in hexadecimal digits, and in base64, also
    /// inside of something longer.
    #[must_use]
    pub fn bytes(name: &str, bytes: &[u8]) -> Self {
        // Three bytes are four letters: where they stand in something longer decides which of the
        // first ones begin with a letter of their own.
        const GROUP: usize = 3;
        let whole = (bytes.len() - (GROUP - 1)) / GROUP * GROUP;
        let in_base64 = (0..GROUP).map(|from| to_base64(&bytes[from..from + whole]).into_bytes());
        let mut spellings = vec![bytes.to_vec(), hex::encode(bytes).into_bytes()];
        spellings.extend(in_base64);
        Self {
            name: name.to_owned(),
            spellings,
        }
    }

    /// A text under a name that may be shown.
    #[must_use]
    pub fn named(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::text(text)
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut spellings = self.spellings.iter();
        spellings.any(|spelling| memchr::memmem::find(bytes, spelling).is_some())
    }
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Searched {
    /// How many bytes were searched.
    pub bytes: u64,
    /// The names of what was found, each with the files that have it.
    pub found: BTreeMap<String, Vec<PathBuf>>,
}

impl Searched {
    /// How many of some needles were found.
    #[must_use]
    pub fn count(&self, needles: &[Needle]) -> usize {
        let is_found = |needle: &&Needle| self.found.contains_key(&needle.name);
        needles.iter().filter(is_found).count()
    }
}

/// Searches every file of a folder and of the folders in it.
///
/// # Errors
/// A folder that cannot be read. A file that its program removes meanwhile is none.
pub fn search(folder: &Path, needles: &[Needle]) -> anyhow::Result<Searched> {
    let mut searched = Searched::default();
    for path in files(folder)? {
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.with_context(|| path.display().to_string())?,
        };
        for needle in needles {
            if needle.is_in(&bytes) {
                let having = searched.found.entry(needle.name.clone()).or_default();
                having.push(path.clone());
            }
        }
        searched.bytes += bytes.len() as u64;
    }
    Ok(searched)
}

/// Copies every file of a folder and of the folders in it, as a backup does.
///
/// # Errors
/// A file that cannot be read or written.
pub fn copy(folder: &Path, to: &Path) -> anyhow::Result<()> {
    for path in files(folder)? {
        let copy = to.join(path.strip_prefix(folder)?);
        fs::create_dir_all(copy.parent().context("a file is in a folder")?)?;
        fs::copy(&path, &copy).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_in_every_spelling_and_others_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        let [secret, other]: [[u8; 32]; 2] =
            [3_u8, 5].map(|step| std::array::from_fn(|at| step.wrapping_mul(at as u8)));
        let needles = [
            Needle::bytes("secret", &secret),
            Needle::bytes("other", &other),
        ];
        let mut texts = vec![secret.to_vec(), hex::encode(secret).into_bytes()];
        for before in 0..4 {
            let longer = [&vec![1_u8; before][..], &secret[..], &[2; 5][..]].concat();
            texts.push(to_base64(&longer).into_bytes());
        }
        for text in texts {
            fs::write(
                inner.join("file"),
                [&b"before "[..], &text[..], &b" after"[..]].concat(),
            )
            .expect("written");
            let searched = search(folder.path(), &needles).expect("searched");
            assert_eq!(searched.count(&needles), 1, "{text:?}");
            assert!(searched.found.contains_key("secret"));
            let copied = folder.path().with_extension("copy");
            copy(folder.path(), &copied).expect("copied");
            assert_eq!(
                search(&copied, &needles).expect("searched").bytes,
                searched.bytes
            );
            fs::remove_dir_all(&copied).expect("removed");
        }
    }
}
