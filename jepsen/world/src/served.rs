//! A disk image that is served by a file system of our own: a drive with a cache that is lost when the power goes, and
//! with reads and writes that fail or wait. Beneath it is a plain file.
//!
//! Guarantees: no call waits for longer than a stall, whatever becomes of the world; and whatever ends the program ends
//! the file system, because only its own threads have its descriptor. Must not be unmounted before the loop device let go
//! of the image. Invariant: a thread that serves never waits for a disk that it serves, nor for a lock that the world
//! holds while it waits for the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_stdx::{Clock as _, Prng, SystemClock, spawn};
use fuser::{Config, MountOption, Session};

mod drive;
mod files;
mod overlay;

pub(crate) use drive::Counters;
pub use overlay::Loss;

use crate::command::{Line, sleep};
use crate::error::Error;
use crate::{limits, sys};

use drive::Drive;
use files::Files;

/// What the kernel is talked to through.
const DEVICE: &str = "/dev/fuse";
/// Calls that are answered side by side: fewer that wait keep no read waiting.
const THREADS: usize = 4;
/// The ends of a mount, each tried when the one before failed: in order, without an answer, and out of sight.
const UNMOUNTS: [&[&str]; 3] = [&["umount"], &["umount", "-f"], &["umount", "-l"]];

/// See the module.
#[derive(Debug)]
pub(crate) struct Served {
    image: PathBuf,
    dir: PathBuf,
    drive: Arc<Drive>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Says why this machine cannot serve disks; nothing when it can.
pub(crate) fn missing() -> Option<String> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.err().map(|error| format!("{DEVICE} cannot be opened: {error}: modprobe fuse"))
}

impl Served {
    /// Serves an image, which has its size already, in a directory.
    pub(crate) fn make(image: PathBuf, dir: PathBuf) -> Result<Self, Error> {
        let what = || format!("serve {}", image.display());
        fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let size = fs::metadata(&image).map_err(Error::io(what()))?.len();
        let drive = Arc::new(Drive::new(size));
        let (tell, told) = mpsc::sync_channel(1);
        let (files, place) = ((image.clone(), Arc::clone(&drive)), dir.clone());
        let serve = move || match begin(files, &place) {
            Ok(session) => {
                drop(tell.send(Ok(())));
                session.run()
            }
            Err(error) => {
                drop(tell.send(Err(error)));
                Ok(())
            }
        };
        let thread = spawn::thread("disk", serve).map_err(Error::io(what()))?;
        // From here on dropping it ends the thread and the mount.
        let served = Self { image, dir, drive, thread: Some(thread) };
        let what = || format!("serve {}", served.image.display());
        match told.recv_timeout(limits::COMMAND) {
            Ok(Ok(())) => Ok(served),
            Ok(Err(error)) => Err(Error::io(what())(error)),
            Err(_) => Err(Error::TooLate {
                what: what(),
                limit: limits::COMMAND,
                state: "the kernel does not mount it".to_owned(),
            }),
        }
    }

    /// Returns the file that a loop device may be on.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join(files::NAME)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.drive.counters()
    }

    /// Lets the power go with the write that makes so many bytes wait for a flush.
    pub(crate) fn cut_at(&self, bytes: usize) {
        self.drive.cut_at(bytes);
    }

    /// Lets the power go: each call fails from now on.
    pub(crate) fn cut(&self) {
        self.drive.cut();
    }

    /// Whether the power is gone.
    pub(crate) fn is_off(&self) -> bool {
        self.drive.is_off()
    }

    /// Lets reads of these bytes fail.
    pub(crate) fn fail_reads(&self, unreadable: Vec<Range<u64>>) {
        self.drive.fail_reads(unreadable);
    }

    /// Lets each write and flush wait for so long.
    pub(crate) fn stall(&self, delay: Duration) {
        self.drive.stall(delay);
    }

    /// Ends what makes calls fail or wait, but for a power cut.
    pub(crate) fn calm(&self) {
        self.drive.calm();
    }

    /// Lets the image beneath have everything.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.drive.settle(&self.beneath()?).map_err(self.failed("write"))
    }

    /// Decides what of the unflushed writes the image has after a power cut, and gives the disk its power back. Nobody
    /// may have the file open: what is still under way would be written afterwards.
    pub(crate) fn lose(&self, prng: &mut Prng) -> Result<Loss, Error> {
        self.wait_until_closed()?;
        self.drive.lose(&self.beneath()?, prng).map_err(self.failed("cut the power of"))
    }

    fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> Error {
        Error::io(format!("{what} {}", self.image.display()))
    }

    fn beneath(&self) -> Result<File, Error> {
        OpenOptions::new().read(true).write(true).open(&self.image).map_err(self.failed("open"))
    }

    /// Waits for the loop device to let go: the kernel detaches it when its file system is gone, and soon after.
    fn wait_until_closed(&self) -> Result<(), Error> {
        let clock = SystemClock::new();
        while self.drive.is_open() {
            if Duration::from_nanos(clock.monotonic_ns()) > limits::COMMAND {
                return Err(Error::TooLate {
                    what: format!("nobody to have {} open", self.file().display()),
                    limit: limits::COMMAND,
                    state: "it is open".to_owned(),
                });
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Unmounts it and waits for its threads, for a bounded time.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.calm();
        let mut unmounted = Ok(());
        for words in UNMOUNTS {
            if thread.is_finished() {
                break;
            }
            unmounted = Line::of(words).path(&self.dir).run(limits::COMMAND).map(drop);
            if unmounted.is_ok() {
                break;
            }
        }
        let clock = SystemClock::new();
        while !thread.is_finished() {
            if Duration::from_nanos(clock.monotonic_ns()) > limits::COMMAND {
                return unmounted.and(Err(Error::TooLate {
                    what: format!("the end of the threads that serve {}", self.image.display()),
                    limit: limits::COMMAND,
                    state: "they run".to_owned(),
                }));
            }
            sleep(Duration::from_millis(2));
        }
        match thread.join() {
            Ok(served) => unmounted.and(served.map_err(self.failed("serve"))),
            Err(_) => unmounted.and(Err(self.failed("serve")(io::Error::other("it panicked")))),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        drop(self.close());
    }
}

/// Mounts the file system, by the thread that is to serve it.
fn begin(files: (PathBuf, Arc<Drive>), dir: &Path) -> io::Result<Session<Files>> {
    let (image, drive) = files;
    // If the program is killed while another of its threads waits for this disk, that thread keeps the program's
    // descriptors open until it has an answer. Those of the threads that serve must not be among them: they are closed
    // with these threads, and the kernel then answers for them.
    sys::take_own_descriptors()?;
    // A thread that serves a disk and needs memory must not wait for that very disk to be written. Where root may not
    // say so, such as in many containers, it waits for a bounded time when there is little memory.
    match sys::serve_disks() {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let beneath = OpenOptions::new().read(true).write(true).open(image)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("alluvium-world".to_owned())];
    config.n_threads = Some(THREADS);
    Session::new(Files { drive, beneath }, dir, &config)
}
