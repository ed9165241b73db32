//! What was written to a disk since it was last flushed, over the file that has the rest.
//!
//! Must not decide when anything is flushed. Invariant: what is read is what was written last, flushed or not, and the
//! file beneath has nothing that was neither flushed nor chosen to survive.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use alluvium_stdx::Prng;

/// What a disk writes whole or not at all: one of these, as the seed says.
const SECTORS: [u64; 2] = [512, 4_096];

/// What became of the unflushed writes of a disk that lost its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many writes no flush had covered.
    pub writes: usize,
    /// How many sectors they had.
    pub sectors: usize,
    /// How many of these the disk has otherwise than they were read before.
    pub lost: usize,
    /// Of how many writes a part survived and a part did not.
    pub torn: usize,
    /// The size of a sector.
    pub sector_bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// In the order in which they came.
    writes: VecDeque<Write>,
    bytes: usize,
}

#[derive(Debug)]
struct Write {
    offset: u64,
    bytes: Vec<u8>,
}

/// A part of a write that lies in one sector.
#[derive(Debug, Clone, Copy)]
struct Piece {
    write: usize,
    from: usize,
    to: usize,
    offset: u64,
}

impl Overlay {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.writes.push_back(Write { offset, bytes: bytes.to_vec() });
    }

    /// Returns how many bytes wait for a flush.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn read(&self, beneath: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; length];
        beneath.read_exact_at(&mut read, offset)?;
        for write in &self.writes {
            let begin = offset.max(write.offset);
            let end = end_of(offset, length).min(end_of(write.offset, write.bytes.len()));
            if begin < end {
                let (to, from) = (place(begin, offset), place(begin, write.offset));
                let length = place(end, begin);
                read[to..to + length].copy_from_slice(&write.bytes[from..from + length]);
            }
        }
        Ok(read)
    }

    /// Lets the oldest writes reach the file until no more than `most` bytes wait.
    pub(super) fn drain(&mut self, beneath: &File, most: usize) -> io::Result<()> {
        while self.bytes > most {
            let Some(write) = self.writes.front() else { break };
            // It goes only when the file has it: a write that fails is still read, and tried again.
            beneath.write_all_at(&write.bytes, write.offset)?;
            self.bytes -= write.bytes.len();
            self.writes.pop_front();
        }
        Ok(())
    }

    /// Lets a part of the writes reach the file and forgets the rest: all sectors before one by chance, and any of
    /// those after it, as of a disk that wrote in an order of its own.
    pub(super) fn lose(&mut self, beneath: &File, prng: &mut Prng) -> io::Result<Loss> {
        let sector_bytes = prng.pick(&SECTORS).copied().unwrap_or(SECTORS[0]);
        let pieces = self.pieces(sector_bytes);
        // One is lost that the file has otherwise: a cut that takes nothing shows nothing.
        let mut news = Vec::new();
        for (at, piece) in (0..).zip(&pieces) {
            let mut old = vec![0; piece.to - piece.from];
            beneath.read_exact_at(&mut old, piece.offset)?;
            if old != self.bytes_of(piece) {
                news.push(at);
            }
        }
        let never = prng.pick(&news).copied().unwrap_or(0);
        let first = prng.below(never + 1);
        let survives = |(at, _): &(u64, Piece)| *at < first || (*at != never && prng.one_in(2));
        let (kept, dropped): (Vec<_>, Vec<_>) =
            (0..).zip(pieces.iter().copied()).partition(survives);
        let mut seen = BTreeMap::new();
        for (_, piece) in &dropped {
            let length = piece.to - piece.from;
            seen.insert((piece.offset, length), self.read(beneath, piece.offset, length)?);
        }
        for (_, piece) in &kept {
            beneath.write_all_at(self.bytes_of(piece), piece.offset)?;
        }
        let is_torn = |write: &usize| {
            let has = |pieces: &[(u64, Piece)]| pieces.iter().any(|(_, one)| one.write == *write);
            has(&kept) && has(&dropped)
        };
        let (writes, torn) = (self.writes.len(), (0..self.writes.len()).filter(is_torn).count());
        self.writes.clear();
        self.bytes = 0;
        let mut lost = 0;
        for ((offset, length), seen) in seen {
            // A later write of the same bytes may have survived: then nothing is missing.
            lost += usize::from(self.read(beneath, offset, length)? != seen);
        }
        Ok(Loss { writes, sectors: pieces.len(), lost, torn, sector_bytes })
    }

    fn bytes_of(&self, piece: &Piece) -> &[u8] {
        &self.writes[piece.write].bytes[piece.from..piece.to]
    }

    fn pieces(&self, sector_bytes: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (number, write) in self.writes.iter().enumerate() {
            let mut from = 0;
            while from < write.bytes.len() {
                let offset = end_of(write.offset, from);
                let rest = place((offset / sector_bytes + 1) * sector_bytes, offset);
                let to = (from + rest).min(write.bytes.len());
                pieces.push(Piece { write: number, from, to, offset });
                from = to;
            }
        }
        pieces
    }
}

/// Returns where something ends that begins at `offset`.
fn end_of(offset: u64, length: usize) -> u64 {
    offset + u64::try_from(length).expect("a length fits 64 bits")
}

/// Returns how far `offset` is behind `base`.
fn place(offset: u64, base: u64) -> usize {
    usize::try_from(offset - base).expect("both lie in one buffer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn file() -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(SIZE).expect("a size");
        file
    }

    fn whole(file: &File) -> Vec<u8> {
        Overlay::default().read(file, 0, usize::try_from(SIZE).expect("small")).expect("a read")
    }

    /// Writes of every length, one over the other, each of a byte of its own.
    fn scribbled(seed: u64, count: u8) -> (Overlay, Vec<u8>) {
        let (mut overlay, mut model) = (Overlay::default(), vec![0; 1 << 20]);
        let mut prng = Prng::from_seed(seed);
        for number in 1..=count {
            let offset = prng.below(SIZE / 1_024 - 64) * 512;
            let length = usize::try_from((1 + prng.below(64)) * 512).expect("small");
            overlay.write(offset, &vec![number; length]);
            let at = usize::try_from(offset).expect("small");
            model[at..at + length].fill(number);
        }
        (overlay, model)
    }

    #[test]
    fn what_was_written_is_read_before_and_after_it_reaches_the_file() {
        let beneath = file();
        let (mut overlay, model) = scribbled(1, 200);
        assert_eq!(overlay.read(&beneath, 0, model.len()).unwrap(), model);
        assert_eq!(overlay.read(&beneath, 777, 5_000).unwrap(), model[777..5_777]);
        assert!(whole(&beneath).iter().all(|byte| *byte == 0), "nothing was flushed");
        let most = overlay.bytes / 2;
        overlay.drain(&beneath, most).unwrap();
        assert!(0 < overlay.bytes && overlay.bytes <= most, "{}", overlay.bytes);
        assert_eq!(overlay.read(&beneath, 0, model.len()).unwrap(), model);
        overlay.drain(&beneath, 0).unwrap();
        assert_eq!((overlay.bytes, whole(&beneath)), (0, model));
    }

    #[test]
    fn a_power_cut_keeps_what_was_flushed_and_whole_sectors_of_the_rest() {
        for seed in 0..50 {
            let beneath = file();
            let (mut flushed, old) = scribbled(1_000 + seed, 100);
            flushed.drain(&beneath, 0).unwrap();
            let (mut overlay, _) = scribbled(seed, 60);
            let touched: Vec<(u64, u64)> = overlay
                .writes
                .iter()
                .map(|write| (write.offset, end_of(write.offset, write.bytes.len())))
                .collect();
            let loss = overlay.lose(&beneath, &mut Prng::from_seed(seed)).unwrap();
            assert!(0 < loss.lost && loss.lost <= loss.sectors && loss.writes == 60, "{loss:?}");
            let now = whole(&beneath);
            for (sector, at) in now.chunks(512).zip((0_u64..).step_by(512)) {
                assert!(sector.iter().all(|byte| *byte == sector[0]) || is_old(&old, sector, at));
                let is_touched = touched.iter().any(|(from, to)| *from <= at && at < *to);
                assert!(is_touched || is_old(&old, sector, at), "seed {seed}, offset {at}");
            }
        }
    }

    fn is_old(old: &[u8], sector: &[u8], at: u64) -> bool {
        let at = usize::try_from(at).expect("small");
        old[at..at + sector.len()] == *sector
    }

    #[test]
    fn a_seed_decides_what_a_power_cut_leaves_and_another_seed_leaves_something_else() {
        let left = |seed: u64| {
            let beneath = file();
            let (mut overlay, _) = scribbled(5, 80);
            let loss = overlay.lose(&beneath, &mut Prng::from_seed(seed)).unwrap();
            (loss, whole(&beneath))
        };
        assert_eq!(left(1), left(1));
        assert_ne!(left(1).1, left(2).1);
        let sizes: Vec<u64> = (0..20).map(|seed| left(seed).0.sector_bytes).collect();
        assert!(SECTORS.iter().all(|size| sizes.contains(size)), "{sizes:?}");
        assert!((0..20).any(|seed| left(seed).0.torn > 0), "no write is torn");
    }

    #[test]
    fn nothing_is_lost_when_everything_was_flushed() {
        let loss = Overlay::default().lose(&file(), &mut Prng::from_seed(1)).unwrap();
        assert_eq!((loss.writes, loss.sectors, loss.lost, loss.torn), (0, 0, 0, 0));
    }
}
