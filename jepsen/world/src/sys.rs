//! The few system calls that the standard library lacks.
//!
//! The only file with unsafe code. Must not decide anything. Invariant: no memory but that of the call's own arguments
//! is passed, and every failure is returned.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

/// `TUNSETIFF` of linux/if_tun.h.
const TUN_SET_IFF: libc::c_ulong = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`: packets as they are, without a header of the device.
const TUN_FLAGS: u16 = 0x1001;
/// `EXT4_IOC_SHUTDOWN` of fs/ext4.
const EXT4_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: the journal is not flushed, as when the power goes.
const NO_LOG_FLUSH: u32 = 2;

/// `PR_SET_IO_FLUSHER` of linux/prctl.h.
const SET_IO_FLUSHER: libc::c_int = 57;
/// `FS_IOC_FIEMAP` of linux/fs.h.
const FIEMAP: libc::c_ulong = 0xc020_660b;
/// Extents whose bytes are not where they say: `FIEMAP_EXTENT_UNKNOWN`, `_DELALLOC`, `_ENCODED`, `_DATA_INLINE`.
const NO_PLACE: u32 = 0x0002 | 0x0004 | 0x0008 | 0x0200;
/// How many extents are asked for at once.
const EXTENTS: usize = 256;

/// `struct fiemap_extent` of linux/fiemap.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    more_reserved: [u32; 3],
}

/// `struct fiemap` of linux/fiemap.h, with room for the answer.
#[repr(C)]
struct ExtentMap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// The request of `TUNSETIFF`: a name of 16 bytes, flags, and padding to the size of `struct ifreq`.
#[repr(C)]
struct TunRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        other => Ok(other),
    }
}

/// Moves the calling thread, and no other, into a new network namespace.
pub(crate) fn new_network() -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no namespaces")]
    // SAFETY: no memory is passed; the flag concerns the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    checked(result).map(drop)
}

/// Moves the calling thread, and no other, into the network namespace that a file names.
pub(crate) fn enter_network(namespace: &File) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no namespaces")]
    // SAFETY: the descriptor is open, no memory is passed, and the call concerns the calling thread alone.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    checked(result).map(drop)
}

/// Opens a TUN device of this name in the calling thread's network namespace.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = TunRequest { name: [0; 16], flags: TUN_FLAGS, rest: [0; 22] };
    assert!(name.len() < request.name.len(), "a device's name has at most 15 bytes");
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    #[expect(unsafe_code, reason = "the standard library has no ioctl")]
    // SAFETY: the request is a `struct ifreq` of 40 bytes that outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUN_SET_IFF, &raw mut request) };
    checked(result)?;
    #[expect(unsafe_code, reason = "the standard library sets no flags of a file")]
    // SAFETY: the descriptor is open, and the flag takes no memory.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    checked(result)?;
    Ok(file)
}

/// Shuts the ext4 file system that `directory` is in down, without flushing anything.
pub(crate) fn shut_ext4_down(directory: &File) -> io::Result<()> {
    let flags = NO_LOG_FLUSH;
    #[expect(unsafe_code, reason = "the standard library has no ioctl")]
    // SAFETY: the call reads four bytes of `flags`, which outlives it.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), EXT4_SHUTDOWN, &raw const flags) };
    checked(result).map(drop)
}

/// Returns where on its device the bytes of a file lie, as far as they have a place.
pub(crate) fn places_on_device(file: &File) -> io::Result<Vec<Range<u64>>> {
    let none = Extent {
        logical: 0,
        physical: 0,
        length: 0,
        reserved: [0; 2],
        flags: 0,
        more_reserved: [0; 3],
    };
    let (mut places, mut start) = (Vec::new(), 0);
    loop {
        let count = u32::try_from(EXTENTS).map_err(io::Error::other)?;
        let (length, extents) = (u64::MAX - start, [none; EXTENTS]);
        let mut map = ExtentMap { start, length, flags: 0, mapped: 0, count, reserved: 0, extents };
        #[expect(unsafe_code, reason = "the standard library has no ioctl")]
        // SAFETY: the request is a `struct fiemap` with room for `count` extents, and outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP, &raw mut map) };
        checked(result)?;
        let mapped = usize::try_from(map.mapped).map_err(io::Error::other)?.min(EXTENTS);
        let found = &map.extents[..mapped];
        let placed = found.iter().filter(|extent| extent.flags & NO_PLACE == 0);
        places.extend(placed.map(|extent| extent.physical..extent.physical + extent.length));
        match found.last() {
            Some(last) if mapped == EXTENTS => start = last.logical + last.length,
            Some(_) | None => return Ok(places),
        }
    }
}

/// Lets the kernel forget what it has of a file in memory and on the device alike: the next read asks the device.
pub(crate) fn forget_cached(file: &File) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library gives no advice")]
    // SAFETY: no memory is passed; the descriptor is open.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    match result {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Lets the kernel begin to write what it has of a file in memory alone, as it may at any time. Nothing is flushed.
pub(crate) fn write_back(file: &File) -> io::Result<()> {
    let what = libc::SYNC_FILE_RANGE_WRITE;
    #[expect(unsafe_code, reason = "the standard library syncs whole files, and flushes")]
    // SAFETY: no memory is passed; the descriptor is open. Nothing after the start is the whole file.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, what) };
    checked(result).map(drop)
}

/// Gives the calling thread, and those that it starts, descriptors of their own: the first three and what is opened from
/// now on. What other threads have open stays theirs alone.
pub(crate) fn take_own_descriptors() -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLOSE_RANGE_UNSHARE);
    #[expect(unsafe_code, reason = "the standard library shares descriptors between all threads")]
    // SAFETY: no memory is passed; what is closed is closed in a copy that this call makes, so that no other thread
    // loses a descriptor, and the calling thread was given none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, flags) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tells the kernel that the calling thread, and those that it starts, serve a disk: they do not wait for disks when they
/// need memory.
pub(crate) fn serve_disks() -> io::Result<()> {
    let (yes, none) = (libc::c_ulong::from(1_u8), libc::c_ulong::from(0_u8));
    #[expect(unsafe_code, reason = "the standard library has no prctl")]
    // SAFETY: no memory is passed; the setting concerns the calling thread.
    let result = unsafe { libc::prctl(SET_IO_FLUSHER, yes, none, none, none) };
    checked(result).map(drop)
}

/// Returns the machine's monotonic time, which processes share: `Instant` does not say it.
pub(crate) fn monotonic_ns() -> io::Result<i64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the standard library hides the number")]
    // SAFETY: the call writes one `timespec`, which outlives it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    checked(result)?;
    Ok(now.tv_sec * 1_000_000_000 + now.tv_nsec)
}

/// Sends a signal to a process that was started here and not waited for yet, so that its id is its own.
pub(crate) fn signal(pid: u32, number: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    assert!(pid > 1, "no group of processes and not the first one is ever signalled");
    #[expect(unsafe_code, reason = "the standard library sends only SIGKILL")]
    // SAFETY: no memory is passed.
    let result = unsafe { libc::kill(pid, number) };
    checked(result).map(drop)
}

/// Waits until one of the files can be read or the time is over; says of each whether it can.
pub(crate) fn wait_readable(files: &[RawFd], limit: Duration) -> io::Result<Vec<bool>> {
    let one = |fd: &RawFd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = files.iter().map(one).collect();
    let count = libc::nfds_t::try_from(polled.len()).map_err(io::Error::other)?;
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(i32::try_from(limit.subsec_nanos()).unwrap_or(0)),
    };
    #[expect(unsafe_code, reason = "the standard library waits for no files")]
    // SAFETY: the array has `count` elements and outlives the call, as does the time.
    let result =
        unsafe { libc::ppoll(polled.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
    match checked(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(polled.iter().map(|one| one.revents != 0).collect()),
    }
}
