//! Whose bucket this is: a small object that a wrong or swapped bucket cannot show.
//!
//! Must not: be guessed from content. Layout (56 bytes, little-endian): magic `ALVMBKT1`, cluster id 16,
//! bucket id 16, format version u64, xxh3-64 of the 48 bytes before. Invariant: written once, never replaced.

use uuid::Uuid;

const MAGIC: &[u8; 8] = b"ALVMBKT1";
const VERSION: u64 = 1;
const BODY_BYTES: usize = 48;
const MARKER_BYTES: usize = BODY_BYTES + 8;

/// The cluster and the bucket that a store's content belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketIdentity {
    /// The cluster that owns the bucket.
    pub cluster: Uuid,
    /// The bucket within the cluster.
    pub bucket: Uuid,
}

impl BucketIdentity {
    /// Returns the marker's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MARKER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(self.bucket.as_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        assert!(bytes.len() == BODY_BYTES, "the marker's body changed size");
        bytes.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Returns the identity in a marker, or nothing when the bytes are no intact marker.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.split_at_checked(BODY_BYTES)?;
        let intact = check == xxhash_rust::xxh3::xxh3_64(body).to_le_bytes();
        let rest = body.strip_prefix(MAGIC).filter(|_| intact)?;
        let (cluster, rest) = rest.split_at_checked(16)?;
        let (bucket, version) = rest.split_at_checked(16)?;
        if version != VERSION.to_le_bytes() {
            return None;
        }
        Some(Self {
            cluster: Uuid::from_slice(cluster).ok()?,
            bucket: Uuid::from_slice(bucket).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> BucketIdentity {
        BucketIdentity { cluster: Uuid::from_u128(1), bucket: Uuid::from_u128(2) }
    }

    #[test]
    fn a_marker_reads_back_and_any_flipped_bit_or_cut_is_noticed() {
        let bytes = identity().encode();
        assert_eq!(BucketIdentity::decode(&bytes), Some(identity()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BucketIdentity::decode(&damaged), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(BucketIdentity::decode(&bytes[..len]), None, "cut at {len}");
        }
    }
}
