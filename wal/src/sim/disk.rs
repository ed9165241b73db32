//! The state of the simulated disk: files, names, faults, and the count of operations.
//!
//! Invariant: an operation that a fault hits is counted like any other, so that fault points can be
//! enumerated.

use std::collections::BTreeMap;
use std::io;

use alluvium_stdx::Prng;

use crate::number::{sum, u64_of, usize_of};
use crate::sim::inode::{Inode, Keep};

/// What goes wrong, and when. By default nothing does.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The power goes at this operation; whether it took effect is random. All later ones fail.
    pub crash_at: Option<u64>,
    /// This operation fails with an I/O error; a write may be done in part, a sync loses some of
    /// its sectors and claims success when it is asked again.
    pub fail_at: Option<u64>,
    /// This read fails with an I/O error.
    pub fail_read_at: Option<u64>,
    /// Each sync lies with a chance of one in this many: success is said, nothing is synced.
    pub lying_sync_one_in: Option<u64>,
    /// All files together have at most this many bytes.
    pub capacity_bytes: Option<u64>,
}

/// A change of a name that is not synced.
#[derive(Debug)]
struct NameChange {
    number: u64,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Disk {
    prng: Prng,
    pub(crate) faults: Faults,
    pub(crate) operations: u64,
    pub(crate) reads: u64,
    pub(crate) trace: u64,
    /// Counts processes and power cycles; from one on.
    pub(crate) cycle: u64,
    power_is_off: bool,
    inodes: BTreeMap<u64, Inode>,
    next_number: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameChange>,
}

/// What a fault makes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Failed,
    /// The power goes after it, or in the middle of it.
    CutAfter,
    CutBefore,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            prng: Prng::from_seed(seed),
            faults: Faults::default(),
            operations: 0,
            reads: 0,
            trace: seed,
            cycle: 1,
            power_is_off: false,
            inodes: BTreeMap::new(),
            next_number: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
        }
    }

    /// Counts an operation and says what becomes of it.
    fn begin(&mut self, what: &str, subject: u64, detail: u64) -> io::Result<Fate> {
        self.powered()?;
        self.operations = sum(self.operations, 1);
        let fate = if self.faults.crash_at == Some(self.operations) {
            self.power_is_off = true;
            if self.prng.one_in(2) { Fate::CutAfter } else { Fate::CutBefore }
        } else if self.faults.fail_at == Some(self.operations) {
            Fate::Failed
        } else {
            Fate::Done
        };
        self.note(what, &[subject, detail, u64::from(fate == Fate::Done)]);
        Ok(fate)
    }

    fn note(&mut self, what: &str, values: &[u64]) {
        let mut bytes = self.trace.to_le_bytes().to_vec();
        bytes.extend_from_slice(what.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.trace = xxhash_rust::xxh3::xxh3_64(&bytes);
    }

    fn powered(&self) -> io::Result<()> {
        if self.power_is_off { Err(power_is_off()) } else { Ok(()) }
    }

    /// Runs `effect` unless the fate forbids it, and answers as the fate wants.
    fn finish(&mut self, fate: Fate, effect: impl FnOnce(&mut Self)) -> io::Result<()> {
        match fate {
            Fate::Done => {
                effect(self);
                Ok(())
            }
            Fate::CutAfter => {
                effect(self);
                Err(power_is_off())
            }
            Fate::CutBefore => Err(power_is_off()),
            Fate::Failed => Err(io_error()),
        }
    }

    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        self.powered()?;
        Ok(self.names.keys().cloned().collect())
    }

    pub(crate) fn create(&mut self, name: &str) -> io::Result<u64> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = self.next_number;
        self.next_number = sum(number, 1);
        let fate = self.begin("create", number, u64_of(name.len()))?;
        self.finish(fate, |disk| {
            disk.inodes.insert(number, Inode::default());
            disk.change_name(number, None, Some(name));
        })?;
        Ok(number)
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<u64> {
        self.powered()?;
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let number = self.open(from)?;
        if self.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let fate = self.begin("rename", number, u64_of(to.len()))?;
        self.finish(fate, |disk| disk.change_name(number, Some(from), Some(to)))
    }

    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        let number = self.open(name)?;
        let fate = self.begin("remove", number, 0)?;
        self.finish(fate, |disk| disk.change_name(number, Some(name), None))
    }

    fn change_name(&mut self, number: u64, from: Option<&str>, to: Option<&str>) {
        let change =
            NameChange { number, from: from.map(str::to_owned), to: to.map(str::to_owned) };
        apply(&mut self.names, &change);
        self.pending_names.push(change);
    }

    pub(crate) fn sync_dir(&mut self) -> io::Result<()> {
        let fate = self.begin("sync_dir", 0, 0)?;
        let lies = self.lies();
        self.finish(fate, |disk| {
            if !lies {
                disk.durable_names = disk.names.clone();
                disk.pending_names.clear();
            }
        })
    }

    pub(crate) fn len(&self, number: u64) -> io::Result<u64> {
        self.powered()?;
        Ok(self.inodes.get(&number).map_or(0, |inode| u64_of(inode.cache.len())))
    }

    pub(crate) fn read(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.powered()?;
        self.reads = sum(self.reads, 1);
        self.note("read", &[number, offset, u64_of(buffer.len())]);
        if self.faults.fail_read_at == Some(self.reads) {
            return Err(io_error());
        }
        let inode = self.inodes.get(&number).ok_or(io::ErrorKind::NotFound)?;
        let end = sum(offset, u64_of(buffer.len()));
        let bytes = inode.cache.get(usize_of(offset)..usize_of(end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(crate) fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fate = self.begin("write", number, offset)?;
        self.note("bytes", &[xxhash_rust::xxh3::xxh3_64(bytes)]);
        if !self.has_room(number, sum(offset, u64_of(bytes.len()))) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if fate == Fate::Failed {
            let part = usize_of(self.prng.below(sum(u64_of(bytes.len()), 1)));
            let (done, _) = bytes.split_at(part);
            self.inode(number).write(offset, done);
        }
        self.finish(fate, |disk| disk.inode(number).write(offset, bytes))
    }

    fn has_room(&self, number: u64, end: u64) -> bool {
        let Some(capacity) = self.faults.capacity_bytes else { return true };
        let len = |number: &u64| self.inodes.get(number).map_or(0, |i| u64_of(i.cache.len()));
        let used = self.names.values().map(len).fold(0, sum);
        let grows = end.saturating_sub(len(&number));
        grows == 0 || sum(used, grows) <= capacity
    }

    pub(crate) fn sync(&mut self, number: u64) -> io::Result<()> {
        let fate = self.begin("sync", number, 0)?;
        let lies = self.lies();
        if fate == Fate::Failed {
            let mut prng = self.prng.clone();
            self.inode(number).fail_sync(&mut prng);
            self.prng = prng;
        }
        self.finish(fate, |disk| {
            if !lies {
                disk.inode(number).sync();
            }
        })
    }

    fn lies(&mut self) -> bool {
        self.faults.lying_sync_one_in.is_some_and(|one_in| self.prng.one_in(one_in))
    }

    fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("an open file has an inode")
    }

    /// Cuts the power: unsynced sectors and names survive at random.
    pub(crate) fn crash(&mut self) {
        let keep = Keep::choose(&mut self.prng);
        for inode in self.inodes.values_mut() {
            inode.crash(keep, &mut self.prng);
        }
        let keep = Keep::choose(&mut self.prng);
        self.crash_names(keep);
        self.note("crash", &[self.cycle]);
        self.restart();
    }

    /// Of each file, the first changes of its name survive, any number of them.
    fn crash_names(&mut self, keep: Keep) {
        let mut of_file: BTreeMap<u64, Vec<NameChange>> = BTreeMap::new();
        for change in std::mem::take(&mut self.pending_names) {
            of_file.entry(change.number).or_default().push(change);
        }
        for changes in of_file.into_values() {
            let kept = keep.of(changes.len(), &mut self.prng);
            for change in changes.iter().take(kept) {
                apply(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        let alive: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|number, _| alive.contains(number));
    }

    /// Begins a new process: open files are dead, faults are over, the power is on.
    pub(crate) fn restart(&mut self) {
        self.cycle = sum(self.cycle, 1);
        self.power_is_off = false;
        let capacity_bytes = self.faults.capacity_bytes;
        self.faults = Faults { capacity_bytes, ..Faults::default() };
    }

    pub(crate) fn files(&self) -> Vec<(String, u64)> {
        let len = |number| self.inodes.get(number).map_or(0, |inode| u64_of(inode.cache.len()));
        self.names.iter().map(|(name, number)| (name.clone(), len(number))).collect()
    }

    pub(crate) fn content(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.inodes.get(self.names.get(name)?)?.cache.clone())
    }

    pub(crate) fn put(&mut self, name: &str, content: &[u8]) {
        let number = self.names.get(name).copied().unwrap_or(self.next_number);
        self.next_number = self.next_number.max(sum(number, 1));
        self.inodes.insert(number, Inode::of(content));
        self.names.insert(name.to_owned(), number);
        self.durable_names.insert(name.to_owned(), number);
    }

    pub(crate) fn erase(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }

    pub(crate) fn flip_bit(&mut self, name: &str, bit: u64) {
        let number = self.names.get(name).copied().expect("the test aims at a file");
        self.inode(number).flip_bit(bit);
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    if let Some(from) = &change.from
        && names.get(from) == Some(&change.number)
    {
        names.remove(from);
    }
    if let Some(to) = &change.to {
        names.insert(to.clone(), change.number);
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

fn io_error() -> io::Error {
    io::Error::other("input/output error")
}
