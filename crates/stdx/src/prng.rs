//! Seeded pseudo-random numbers: the only source of chance in Alluvium.
//!
//! Not for secrets. The generator is xoshiro256** seeded through splitmix64, as published by Blackman and
//! Vigna, "Scrambled linear pseudorandom number generators" (2018).

/// A deterministic generator: the same seed gives the same sequence on every platform.
#[derive(Debug, Clone)]
pub struct Prng {
    state: [u64; 4],
}

impl Prng {
    /// Returns the generator for `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut mix = seed;
        Self { state: std::array::from_fn(|_| splitmix64(&mut mix)) }
    }

    /// Returns a generator seeded by the machine: for production, never for tests.
    #[must_use]
    pub fn from_machine() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // RandomState is seeded by the operating system; two of them do not share their keys' use.
        #[expect(clippy::disallowed_types, reason = "the seam to the machine's entropy")]
        let entropy = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self::from_seed(entropy)
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// Returns a number below `bound`.
    ///
    /// # Panics
    /// If `bound` is zero: no number is below it.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below zero");
        // Lemire's multiply-shift; its bias below 2^-32 for our bounds does not matter to a test.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns true once in `one_in` times.
    pub fn one_in(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// Returns one of `items`, or nothing when there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(items.len()).unwrap_or(u64::MAX);
        (bound > 0).then(|| usize::try_from(self.below(bound)).ok().and_then(|i| items.get(i)))?
    }

    /// Fills `buffer` with random bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_pinned_because_kept_seeds_must_replay() {
        let mut prng = Prng::from_seed(0);
        let first: Vec<u64> = (0..3).map(|_| prng.next_u64()).collect();
        assert_eq!(
            first,
            [11_091_344_671_253_066_420, 13_793_997_310_169_335_082, 1_900_383_378_846_508_768]
        );
    }

    #[test]
    fn below_reaches_every_number_and_no_other() {
        let mut prng = Prng::from_seed(7);
        let mut seen = [0_u32; 5];
        for _ in 0..1_000 {
            seen[usize::try_from(prng.below(5)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
    }

    #[test]
    fn an_empty_slice_has_nothing_to_pick() {
        let mut prng = Prng::from_seed(1);
        assert_eq!(prng.pick::<u8>(&[]), None);
        assert_eq!(prng.pick(&[9]), Some(&9));
    }

    #[test]
    fn fill_covers_a_tail_shorter_than_a_word() {
        let mut buffer = [0_u8; 13];
        Prng::from_seed(3).fill(&mut buffer);
        assert!(buffer[8..].iter().any(|&b| b != 0));
    }
}
