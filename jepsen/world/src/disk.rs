//! A disk for each node: an ext4 file system in a file, on a loop device of its own. The file can be moved into memory
//! that then ends, or be served by a file system of ours: devices that fail below the file system, with all that the
//! kernel makes of it.
//!
//! Guarantees: [`Disk::cut`] drops what was not synced, as a power cut does: the journal is not flushed, and data that
//! was only in memory is gone. Must not be used from outside of [`crate::enter`]'s mount namespace, which is what
//! unmounts everything when the harness dies. Invariant: the loop device goes with its mount.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_stdx::Prng;

use crate::command::{Line, sleep};
use crate::error::Error;
use crate::served::{Loss, Served};
use crate::{limits, sys};

/// The file that fills the disk.
const BALLAST: &str = "ballast";
/// What of a disk is filled by writes, to the last block.
const LAST_BYTES: u64 = 4 << 20;
/// How often the end of a mount is tried: the kernel may hold it for a moment after a process ended.
const UNMOUNT_TRIES: u32 = 100;

/// The image while it is in memory, and how much there is before it ends.
const MOVED: &str = "image";
const MEMORY_OPTIONS: &str = "size=8g";
/// What tells that the device fails.
const PROBE: &str = "failing";
const PROBE_BYTES: usize = 8 << 20;
/// The last exit code of `e2fsck` that says that all is well now.
const REPAIRED: i32 = 2;

/// What the disks of a world are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// Files of the machine.
    Plain,
    /// Files of a file system of ours, which can lose, fail and stall. Where the machine has none, they are plain.
    Served,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
    /// Who stands between the image and the loop device, if anybody.
    served: Option<Served>,
    /// The memory that has the image now, instead of the machine's disk.
    memory: Option<PathBuf>,
}

impl Disk {
    /// Makes an empty disk and mounts it.
    pub(crate) fn make(
        image: PathBuf,
        mount: PathBuf,
        mib: u64,
        disks: Disks,
    ) -> Result<Self, Error> {
        fs::create_dir_all(&mount).map_err(Error::io(format!("make {}", mount.display())))?;
        let file = File::create(&image).map_err(Error::io(format!("make {}", image.display())))?;
        file.set_len(mib << 20).map_err(Error::io(format!("size {}", image.display())))?;
        let mut disk = Self { image, mount, served: None, memory: None };
        disk.format()?;
        if disks == Disks::Served {
            let place = disk.image.with_extension("served");
            disk.served = Some(Served::make(disk.image.clone(), place)?);
        }
        disk.mount()?;
        Ok(disk)
    }

    fn format(&self) -> Result<(), Error> {
        // No space is reserved for root: nodes run as root, and the disk must be able to be full.
        let line = Line::of(&["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1"]);
        line.path(&self.image).run(limits::COMMAND).map(drop)
    }

    /// Returns the directory that a node is given. It is not the root of the file system, so that it can be missing.
    pub(crate) fn node_dir(&self) -> PathBuf {
        self.mount.join("node")
    }

    pub(crate) fn mount(&self) -> Result<(), Error> {
        // Without `noauto_da_alloc` ext4 syncs a renamed file by itself and hides that nobody asked for it; a long
        // `commit` keeps the journal from writing what nobody synced.
        let line =
            Line::of(&["mount", "-t", "ext4", "-o", "loop,noatime,noauto_da_alloc,commit=300"]);
        line.path(&self.device_file()).path(&self.mount).run(limits::COMMAND).map(drop)
    }

    /// Returns the file that the loop device is on.
    fn device_file(&self) -> PathBuf {
        let moved = self.memory.as_ref().map(|memory| memory.join(MOVED));
        let served = self.served.as_ref().map(Served::file);
        moved.or(served).unwrap_or_else(|| self.image.clone())
    }

    /// Moves a disk that nobody uses into memory, with as much room as it may ever need.
    pub(crate) fn move_to_memory(&mut self) -> Result<(), Error> {
        assert!(self.memory.is_none(), "it was moved back before");
        self.unmount()?;
        self.settle()?;
        let memory = self.image.with_extension("memory");
        fs::create_dir_all(&memory).map_err(Error::io(format!("make {}", memory.display())))?;
        let line = Line::of(&["mount", "-t", "tmpfs", "-o", MEMORY_OPTIONS, "tmpfs"]);
        line.path(&memory).run(limits::COMMAND)?;
        copy(&self.image, &memory.join(MOVED))?;
        self.memory = Some(memory);
        self.mount()
    }

    /// Lets the device take `more` bytes of what it has no place for yet; then it fails.
    pub(crate) fn end_memory(&self, more: u64) -> Result<(), Error> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let file = memory.join(MOVED);
        let status =
            fs::metadata(&file).map_err(Error::io(format!("look at {}", file.display())))?;
        // Zero would be no limit at all.
        let size = (status.blocks() * 512 + more).max(4_096);
        let line = Line::of(&["mount", "-o", &format!("remount,size={size}")]);
        line.path(memory).run(limits::COMMAND).map(drop)
    }

    /// Tries to write a file, and says what the system answers.
    pub(crate) fn probe_failing(&self) -> Option<String> {
        let path = self.mount.join(PROBE);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&vec![1; PROBE_BYTES])?;
            file.sync_all()
        };
        write().err().map(|error| error.to_string())
    }

    /// Copies what the device took to the machine's disk, repairs it as an operator does, and mounts it.
    pub(crate) fn move_back(&mut self) -> Result<(), Error> {
        self.unmount()?;
        let Some(memory) = self.memory.take() else { return self.mount() };
        copy(&memory.join(MOVED), &self.image)?;
        Line::new("umount").path(&memory).run(limits::COMMAND)?;
        let line = Line::of(&["e2fsck", "-f", "-y"]).path(&self.image);
        let status = line.output(limits::COMMAND)?.status;
        if status.code().is_none_or(|code| code > REPAIRED) {
            return Err(Error::Command {
                line: line.to_string(),
                status: status.to_string(),
                said: "the file system cannot be repaired".to_owned(),
            });
        }
        self.mount()?;
        match fs::remove_file(self.mount.join(PROBE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("empty {}", self.mount.display()))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Lets the image have what whoever serves it keeps back.
    fn settle(&self) -> Result<(), Error> {
        self.served.as_ref().map_or(Ok(()), Served::settle)
    }

    pub(crate) fn unmount(&self) -> Result<(), Error> {
        // Nobody may wait for a disk that waits.
        if let Some(served) = &self.served {
            served.calm();
        }
        for tries_left in (0..UNMOUNT_TRIES).rev() {
            match Line::new("umount").path(&self.mount).run(limits::COMMAND) {
                Err(error) if tries_left == 0 => return Err(error),
                Err(_) => sleep(Duration::from_millis(50)),
                Ok(_) => break,
            }
        }
        Ok(())
    }

    /// Cuts the power. Whoever has files open on it gets errors until they are closed; then [`Disk::remount`].
    pub(crate) fn cut(&self) -> Result<(), Error> {
        let what = || format!("shut the file system of {} down", self.mount.display());
        let directory = File::open(&self.mount).map_err(Error::io(what()))?;
        sys::shut_ext4_down(&directory).map_err(Error::io(what()))
    }

    /// Mounts it anew, which replays its journal.
    pub(crate) fn remount(&self) -> Result<(), Error> {
        self.unmount()?;
        self.mount()
    }

    /// Returns who serves it; nothing for a plain file.
    pub(crate) const fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    /// Mounts a disk anew whose power is gone, with what the chance of `prng` left of what was not flushed.
    pub(crate) fn remount_after_loss(&self, prng: &mut Prng) -> Result<Option<Loss>, Error> {
        self.unmount()?;
        let loss = self.served.as_ref().map(|served| served.lose(prng)).transpose()?;
        self.mount()?;
        Ok(loss)
    }

    /// Returns where on the device the bytes of files lie, and lets the kernel forget what it has of them. A file that
    /// is gone meanwhile has no place.
    pub(crate) fn uncache(&self, files: &[PathBuf]) -> Result<Vec<Range<u64>>, Error> {
        let mut places = Vec::new();
        for path in files {
            let failed = || Error::io(format!("find the place of {}", path.display()));
            let file = match File::open(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(failed())?,
            };
            places.extend(sys::places_on_device(&file).map_err(failed())?);
            sys::forget_cached(&file).map_err(failed())?;
        }
        Ok(places)
    }

    /// Lets the kernel begin to write what it has of the node's files in memory alone, as it may at any time, as far as
    /// the disk can still be read and written: it may be about to lose its power. Returns of how many.
    pub(crate) fn write_back(files: &[PathBuf]) -> u64 {
        let write_back = |path: &PathBuf| sys::write_back(&File::open(path)?);
        files.iter().map(write_back).map(|result| u64::from(result.is_ok())).sum()
    }

    /// Ends it: unmounts it, and lets nobody serve it any more.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let unmounted = self.unmount();
        unmounted.and(self.served.as_mut().map_or(Ok(()), Served::close))
    }

    /// Replaces the disk by an empty one.
    pub(crate) fn renew(&self) -> Result<(), Error> {
        self.unmount()?;
        self.settle()?;
        self.format()?;
        self.mount()
    }

    /// Fills it up to the last block, and says what the system answers to one more write.
    pub(crate) fn fill(&self) -> Result<String, Error> {
        let path = self.mount.join(BALLAST);
        let what = || format!("fill {}", self.mount.display());
        let mut file = File::create(&path).map_err(Error::io(what()))?;
        let free = alluvium_stdx::durable::bytes_free(&self.mount).map_err(Error::io(what()))?;
        // Most of it at once; what the file system needs for the file itself is not known before.
        let most = free.saturating_sub(LAST_BYTES).to_string();
        if free > LAST_BYTES {
            Line::of(&["fallocate", "-l", &most]).path(&path).run(limits::COMMAND)?;
            file.seek(SeekFrom::End(0)).map_err(Error::io(what()))?;
        }
        for chunk_bytes in [1 << 20, 4096] {
            let chunk = vec![0_u8; chunk_bytes];
            loop {
                match file.write(&chunk) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(Error::io(what())(error)),
                }
            }
        }
        // Blocks that are only promised must be taken before the node asks for its own.
        file.sync_all().map_err(Error::io(what()))?;
        self.probe_full()
    }

    /// Tries to write one more block.
    fn probe_full(&self) -> Result<String, Error> {
        let path = self.mount.join(BALLAST);
        let what = || format!("write to {}", path.display());
        let mut file = OpenOptions::new().append(true).open(&path).map_err(Error::io(what()))?;
        match file.write_all(&[0; 4096]).and_then(|()| file.sync_all()) {
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(error.to_string()),
            Err(error) => Err(Error::io(what())(error)),
            Ok(()) => Ok(String::new()),
        }
    }

    /// Gives the space back.
    pub(crate) fn unfill(&self) -> Result<(), Error> {
        match fs::remove_file(self.mount.join(BALLAST)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("empty {}", self.mount.display()))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the loop device as control groups name it.
    pub(crate) fn device(&self) -> Result<String, Error> {
        let metadata = fs::metadata(&self.mount);
        let device =
            metadata.map_err(Error::io(format!("look at {}", self.mount.display())))?.dev();
        Ok(format!("{}:{}", libc::major(device), libc::minor(device)))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.mount
    }
}

/// Copies an image without the blocks that it has never had.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    Line::of(&["cp", "--sparse=always"]).path(from).path(to).run(limits::COMMAND).map(drop)
}
