//! Which generation is current: a small file beside them, replaced by an atomic rename.
//!
//! Invariant: the file names a generation that is whole, or one that is being created for the first
//! time.

use std::io;
use std::path::{Path, PathBuf};

use alluvium_state_machine::StoreError;
use alluvium_stdx::durable;

const FILE: &str = "GENERATION";
const TITLE: &str = "alluvium metastore";
const BYTES_MAX: u64 = 256;

/// What the pointer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointer {
    /// The first generation is being created; nothing was ever committed.
    Creating,
    /// This generation is current.
    Ready(Current),
}

/// The current generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    /// Its number.
    pub(crate) number: u64,
    /// The highest index that a finished flush covered. RocksDB takes a cut manifest for an
    /// unfinished one and opens the state before; this tells that from what was promised, when the
    /// log below is purged.
    pub(crate) flushed: u64,
}

/// Why a pointer is no pointer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PointerFault {
    /// Its content is not what was written.
    #[error("the pointer to the current generation is damaged")]
    Damaged,
    /// It is gone, and generations are there.
    #[error("the pointer to the current generation is missing")]
    Missing,
}

impl Pointer {
    /// Reads the pointer of a store; none when there was never one.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>, StoreError> {
        let path = root.join(FILE);
        let corrupt = |fault| StoreError::Corrupt { path: path.clone(), source: Box::new(fault) };
        let bytes = match durable::read_bounded(&path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match generations(root)?.is_empty() {
                    true => Ok(None),
                    false => Err(corrupt(PointerFault::Missing)),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(corrupt(PointerFault::Damaged));
            }
            Err(source) => return Err(StoreError::File { path, source }),
        };
        Self::parse(&bytes).map(Some).ok_or_else(|| corrupt(PointerFault::Damaged))
    }

    /// Replaces the pointer; durable when it returns.
    pub(crate) fn write(self, root: &Path) -> Result<(), StoreError> {
        let path = root.join(FILE);
        durable::write(&path, self.text().as_bytes())
            .map_err(|source| StoreError::File { path, source })
    }

    fn text(self) -> String {
        let line = match self {
            Self::Creating => format!("{TITLE}\ncreating\n"),
            Self::Ready(Current { number, flushed }) => {
                format!("{TITLE}\nready {number} {flushed}\n")
            }
        };
        format!("{line}{:08x}\n", crc32c::crc32c(line.as_bytes()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let words: Vec<&str> = text.lines().nth(1)?.split(' ').collect();
        let pointer = match words[..] {
            ["ready", number, flushed] => {
                let (number, flushed) = (number.parse().ok()?, flushed.parse().ok()?);
                Self::Ready(Current { number, flushed })
            }
            _ => Self::Creating,
        };
        // Only the exact text counts, checksum included.
        (pointer.text() == text).then_some(pointer)
    }
}

/// Returns the directory of a generation.
pub(crate) fn directory(root: &Path, number: u64) -> PathBuf {
    root.join(format!("db-{number}"))
}

/// Returns the generations that are there, whole or not.
pub(crate) fn generations(root: &Path) -> Result<Vec<u64>, StoreError> {
    let failed = |source| StoreError::File { path: root.to_path_buf(), source };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("db-")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes the generations that are not current: an import did not finish, or did not clean up.
pub(crate) fn remove_others(root: &Path, current: Option<u64>) -> Result<(), StoreError> {
    for number in generations(root)? {
        if Some(number) != current {
            remove(root, number)?;
        }
    }
    Ok(())
}

/// Removes a generation.
pub(crate) fn remove(root: &Path, number: u64) -> Result<(), StoreError> {
    let path = directory(root, number);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| StoreError::File { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_reads_back_and_every_flipped_bit_is_found() {
        let ready = |number, flushed| Pointer::Ready(Current { number, flushed });
        for pointer in [Pointer::Creating, ready(0, 0), ready(17, 1_234)] {
            let text = pointer.text().into_bytes();
            assert_eq!(Pointer::parse(&text), Some(pointer));
            for bit in 0..text.len() * 8 {
                let mut damaged = text.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Pointer::parse(&damaged), None, "bit {bit} of {pointer:?}");
            }
            for length in 0..text.len() {
                assert_eq!(Pointer::parse(&text[..length]), None, "cut at {length}");
            }
        }
    }

    #[test]
    fn a_missing_pointer_beside_generations_is_damage() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(Pointer::read(dir.path()).expect("nothing there"), None);
        std::fs::create_dir(directory(dir.path(), 3)).expect("create");
        let error = Pointer::read(dir.path()).expect_err("missing");
        assert!(matches!(error, StoreError::Corrupt { path, .. } if path.ends_with(FILE)));
    }
}
