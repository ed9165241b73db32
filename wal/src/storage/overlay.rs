//! A directory as it would be after writes that are kept in memory: what lies below is only read.
//!
//! It lets opening do all that it does, mending included, on a log that must not change. It must
//! not pass a write, a lock or a sync on. Invariant: a page is kept here only while it differs from
//! what lies below, so preparing files of zeros and writing the same bytes again cost no memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::number::{gap, sum, u64_of, usize_of};
use crate::storage::{Access, Storage, StorageFile};

const PAGE_BYTES: u64 = 4096;

/// A storage whose changes stay in memory.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Arc<dyn Storage>,
    /// Every name, with its file once it was opened.
    files: Mutex<BTreeMap<String, Option<Arc<OverlayFile>>>>,
}

#[derive(Debug)]
struct OverlayFile {
    below: Option<Arc<dyn StorageFile>>,
    /// Bytes of the file below; it does not change.
    below_len: u64,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// Returns an overlay on what `below` holds now; nobody may write there meanwhile.
    pub(crate) fn new(below: Arc<dyn Storage>) -> io::Result<Self> {
        let names = match below.list() {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let files = names.into_iter().map(|name| (name, None)).collect();
        Ok(Self { below, files: Mutex::new(files) })
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<OverlayFile>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, name: &str) -> io::Result<Arc<OverlayFile>> {
        let mut files = self.files();
        let known = files.get_mut(name).ok_or(ErrorKind::NotFound)?;
        if let Some(file) = known {
            return Ok(Arc::clone(file));
        }
        let file = OverlayFile::over(Some(self.below.open(name, Access::Read)?))?;
        *known = Some(Arc::clone(&file));
        Ok(file)
    }
}

impl Storage for Overlay {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str, _access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let mut files = self.files();
        if files.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = OverlayFile::over(None)?;
        files.insert(name.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.opened(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.opened(from)?;
        let mut files = self.files();
        if files.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        files.remove(from);
        files.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn read_workers(&self) -> usize {
        self.below.read_workers()
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl OverlayFile {
    fn over(below: Option<Arc<dyn StorageFile>>) -> io::Result<Arc<Self>> {
        let below_len = below.as_ref().map_or(Ok(0), |file| file.len())?;
        let written = Mutex::new(Written { len: below_len, pages: BTreeMap::new() });
        Ok(Arc::new(Self { below, below_len, written }))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `buffer` with what lies below; behind its end there are zeros.
    fn read_below(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let there = self.below_len.saturating_sub(offset).min(u64_of(buffer.len()));
        let (bytes, zeros) = buffer.split_at_mut(usize_of(there));
        zeros.fill(0);
        match &self.below {
            Some(file) if there > 0 => file.read_at(offset, bytes),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes within one page.
    fn write_page(&self, written: &mut Written, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize_of(offset.checked_rem(PAGE_BYTES).expect("a page has bytes"));
        let start = gap(offset, u64_of(at));
        let mut below = vec![0; usize_of(PAGE_BYTES)];
        self.read_below(start, &mut below)?;
        let mut page = written.pages.remove(&start).unwrap_or_else(|| below.clone());
        let place = page.get_mut(at..at.saturating_add(bytes.len()));
        place.expect("the caller cut it at the page's end").copy_from_slice(bytes);
        if page != below {
            written.pages.insert(start, page);
        }
        Ok(())
    }
}

impl StorageFile for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = sum(offset, u64_of(buffer.len()));
        if self.len()? < end {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // Without the lock: several threads may read at once.
        self.read_below(offset, buffer)?;
        let written = self.written();
        let first = gap(offset, offset.checked_rem(PAGE_BYTES).expect("a page has bytes"));
        for (&start, page) in written.pages.range(first..end.max(first)) {
            let (from, to) = (start.max(offset), sum(start, PAGE_BYTES).min(end));
            let source = page.get(usize_of(gap(from, start))..usize_of(gap(to, start)));
            let place = buffer.get_mut(usize_of(gap(from, offset))..usize_of(gap(to, offset)));
            let place = place.expect("between offset and end");
            place.copy_from_slice(source.expect("within the page"));
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut written = self.written();
        let mut offset = offset;
        for slice in slices.iter() {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                let at = offset.checked_rem(PAGE_BYTES).expect("a page has bytes");
                let room = usize_of(gap(PAGE_BYTES, at)).min(rest.len());
                let (now, later) = rest.split_at(room);
                self.write_page(&mut written, offset, now)?;
                offset = sum(offset, u64_of(room));
                rest = later;
            }
        }
        written.len = written.len.max(offset);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDisk;

    #[test]
    fn the_overlay_passes_the_storage_suite() {
        crate::storage::suite::run(&mut || {
            Arc::new(Overlay::new(Arc::new(SimDisk::new(1))).expect("lists"))
        });
    }

    #[test]
    fn what_is_written_is_read_back_and_what_lies_below_stays() {
        let disk = SimDisk::new(1);
        let content: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        disk.put("a", &content);
        disk.put("b", b"below");
        let overlay = Overlay::new(Arc::new(disk.clone())).expect("lists");
        let file = overlay.open("a", Access::Write).expect("there");
        file.write_at(4_090, &mut [IoSlice::new(&[7; 20])]).expect("in memory");
        file.write_at(12_000, &mut [IoSlice::new(b"end")]).expect("in memory");
        overlay.rename("a", "c").expect("in memory");
        overlay.remove("b").expect("in memory");
        let mut expected = content.clone();
        expected[4_090..4_110].fill(7);
        expected.resize(12_000, 0);
        expected.extend_from_slice(b"end");
        let mut found = vec![0; 12_003];
        overlay.open("c", Access::Read).expect("there").read_at(0, &mut found).expect("reads");
        assert_eq!((overlay.list().expect("lists"), found), (vec!["c".to_owned()], expected));
        assert_eq!(disk.files(), [("a".to_owned(), 10_000), ("b".to_owned(), 5)]);
        assert_eq!(disk.content("a"), Some(content));
    }

    #[test]
    fn the_same_bytes_and_zeros_behind_the_end_are_not_kept() {
        let disk = SimDisk::new(1);
        disk.put("a", &[5; 8_192]);
        let file = OverlayFile::over(Some(disk.open("a", Access::Read).expect("there")));
        let file = file.expect("has a length");
        file.write_at(100, &mut [IoSlice::new(&[5; 5_000])]).expect("in memory");
        file.write_at(8_192, &mut [IoSlice::new(&[0; 100_000])]).expect("in memory");
        let kept = file.written().pages.len();
        assert_eq!((kept, file.len().expect("known")), (0, 108_192));
        file.write_at(1, &mut [IoSlice::new(&[6])]).expect("in memory");
        assert_eq!(file.written().pages.len(), 1);
    }
}
