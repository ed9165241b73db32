//! What proves a file's bytes: one hash per block for readers, one over the whole for attestation.
//!
//! Must not: touch a store. Invariant INV-S3: a digest has exactly one hash per started block of its length.

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::limits::BLOCK_BYTES;

/// The hashes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// The file's length.
    pub len_bytes: u64,
    /// BLAKE3 over the whole file: what the log attests.
    pub blake3: [u8; 32],
    /// How many bytes each block hash covers; the last block may be shorter.
    pub block_bytes: u32,
    /// xxh3-128 of each block in order.
    pub blocks: Vec<u128>,
}

impl FileDigest {
    /// Returns the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = BlockHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Checks that the parts fit each other: for digests that come from elsewhere.
    ///
    /// # Errors
    /// `Error::DigestShape` when the number of blocks does not follow from length and block size.
    pub fn validate(&self) -> Result<()> {
        let blocks = self.blocks.len() as u64;
        let covered = match self.block_bytes {
            0 => None,
            block_bytes => Some(self.len_bytes.div_ceil(u64::from(block_bytes))),
        };
        if covered == Some(blocks) {
            return Ok(());
        }
        Err(Error::DigestShape { len_bytes: self.len_bytes, blocks })
    }

    /// Returns whether `bytes` are those of block `block`.
    #[must_use]
    pub fn block_matches(&self, block: u64, bytes: &[u8]) -> bool {
        let expected = usize::try_from(block).ok().and_then(|at| self.blocks.get(at));
        expected.is_some_and(|expected| *expected == xxhash_rust::xxh3::xxh3_128(bytes))
    }

    /// Returns where block `block` lies in the file.
    ///
    /// # Panics
    /// When the file has no such block.
    #[must_use]
    pub fn block_range(&self, block: u64) -> std::ops::Range<u64> {
        assert!(block < self.blocks.len() as u64, "block {block} is past the end");
        let start = block * u64::from(self.block_bytes);
        let end = self.len_bytes.min(start + u64::from(self.block_bytes));
        assert!(start < end, "a digest with an empty block was not validated");
        start..end
    }
}

/// Computes a [`FileDigest`] while a file is written, whatever the sizes of its pieces.
#[derive(Debug)]
pub struct BlockHasher {
    whole: blake3::Hasher,
    block: Xxh3Debug,
    in_block: usize,
    len_bytes: u64,
    blocks: Vec<u128>,
}

#[derive(Default)]
struct Xxh3Debug(Xxh3);

impl std::fmt::Debug for Xxh3Debug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Xxh3")
    }
}

impl Default for BlockHasher {
    fn default() -> Self {
        let block = Xxh3Debug::default();
        let whole = blake3::Hasher::new();
        Self { whole, block, in_block: 0, len_bytes: 0, blocks: Vec::new() }
    }
}

impl BlockHasher {
    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.len_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = BLOCK_BYTES as usize - self.in_block;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.0.update(now);
            self.in_block += now.len();
            if self.in_block == BLOCK_BYTES as usize {
                self.end_block();
            }
            bytes = later;
        }
    }

    /// Returns the digest of all bytes taken.
    #[must_use]
    pub fn finish(mut self) -> FileDigest {
        if self.in_block > 0 {
            self.end_block();
        }
        let digest = FileDigest {
            len_bytes: self.len_bytes,
            blake3: *self.whole.finalize().as_bytes(),
            block_bytes: BLOCK_BYTES,
            blocks: self.blocks,
        };
        assert!(digest.validate().is_ok(), "INV-S3: the hasher counted its blocks wrong");
        digest
    }

    fn end_block(&mut self) {
        self.blocks.push(self.block.0.digest128());
        self.block.0.reset();
        self.in_block = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_digest_does_not_depend_on_how_the_bytes_arrive(
            len in 0_usize..3 * BLOCK_BYTES as usize,
            cuts in proptest::collection::vec(0.0_f64..1.0, 0..5),
        ) {
            let mut bytes = vec![0; len];
            alluvium_stdx::Prng::from_seed(len as u64).fill(&mut bytes);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..len")]
            let mut at: Vec<usize> = cuts.iter().map(|c| (c * len as f64) as usize).collect();
            at.extend([0, len]);
            at.sort_unstable();
            let mut hasher = BlockHasher::default();
            for pair in at.windows(2) {
                hasher.update(&bytes[pair[0]..pair[1]]);
            }
            prop_assert_eq!(hasher.finish(), FileDigest::of(&bytes));
        }
    }

    #[test]
    fn the_last_block_is_short_and_an_empty_file_has_none() {
        let digest = FileDigest::of(&vec![7; BLOCK_BYTES as usize + 1]);
        assert_eq!(digest.blocks.len(), 2);
        assert_eq!(digest.block_range(1), u64::from(BLOCK_BYTES)..u64::from(BLOCK_BYTES) + 1);
        assert_eq!(FileDigest::of(&[]).blocks, []);
    }

    #[test]
    fn a_digest_whose_blocks_do_not_cover_its_length_is_refused() {
        let good = FileDigest::of(b"abc");
        for bad in [
            FileDigest { len_bytes: u64::from(BLOCK_BYTES) + 1, ..good.clone() },
            FileDigest { len_bytes: 0, ..good.clone() },
            FileDigest { block_bytes: 0, ..good.clone() },
            FileDigest { blocks: vec![], ..good },
        ] {
            let refused = bad.validate().map_err(|error| error.to_string());
            assert!(refused.is_err_and(|text| text.contains("cannot cover")), "{bad:?}");
        }
        good.validate().expect("a computed digest is valid");
    }

    #[test]
    fn hashes_are_pinned_because_they_are_stored_in_the_log() {
        let digest = FileDigest::of(b"alluvium");
        assert_eq!(format!("{:032x}", digest.blocks[0]), PINNED_BLOCK);
        assert_eq!(blake3::Hash::from(digest.blake3).to_hex().as_str(), PINNED_WHOLE);
    }

    const PINNED_BLOCK: &str = "04cb717332d2369213d1d411a5e20963";
    const PINNED_WHOLE: &str = "72625c7c28a5b72fa61c2d320d81cc488c25881cf567d8b3a4f869e43740fe82";
}
