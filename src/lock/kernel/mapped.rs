//! Lock files that stay open, and locked, without a descriptor: a process may hold more locks than it
//! may have files open.
//!
//! A file that is mapped into memory stays open when its descriptor is closed, and with it the locks
//! of the kernel that belong to the open file. They end when it is unmapped, or with the process. (A
//! child between `fork` and `exec` has no part of such a mapping.) Nothing is ever read or written by
//! it, and nothing more can be asked of the lock: it is held, and then it is not.
//!
//! Not on every file system: an overlay maps the file below, and a network file system may count
//! otherwise. Only those that are known are taken ([`LockRules::stays_open_mapped`]), and each file is
//! tried with another lock first.
//!
//! [`LockRules::stays_open_mapped`]: crate::fs::LockRules::stays_open_mapped

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use rustix::fs::OFlags;

use super::LockFile;
use super::byte_range::{control, range_at};
use super::offset;
use super::unix::open_itself;
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;

/// A lock file that is open by a mapping. Dropping it frees what is locked of it.
pub(super) struct MappedFile {
    address: *mut libc::c_void,
}

// SAFETY: it is an address, and what is there is never touched. Any thread may unmap it.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

/// One byte is enough; the kernel maps a page.
const LENGTH: usize = 1;

impl MappedFile {
    /// Keeps the locks of an open lock file of this name without its descriptor, which can be closed
    /// then. `None` where they would end with that, as far as can be told.
    pub(super) fn keep(file: &LockFile, dir: &DirHandle, name: &LockName) -> Option<MappedFile> {
        match stays_locked(file.descriptor(), dir, name) {
            Ok(true) => MappedFile::of(file.descriptor()).ok(),
            Ok(false) | Err(_) => None,
        }
    }

    fn of(file: BorrowedFd<'_>) -> io::Result<MappedFile> {
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses the address, and nothing may be done with what is there.
        let address = unsafe {
            libc::mmap(ptr::null_mut(), LENGTH, libc::PROT_NONE, flags, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapped = MappedFile { address };
        // SAFETY: it is a mapping of this process, of which nothing else knows.
        match unsafe { libc::madvise(address, LENGTH, libc::MADV_DONTFORK) } {
            0 => Ok(mapped),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: it is a mapping of this process, of which nothing else knows.
        unsafe { libc::munmap(self.address, LENGTH) };
    }
}

/// Whether a lock of this file lasts as long as a mapping of it: tried with a byte that no other
/// process locks, by a second open file.
fn stays_locked(file: BorrowedFd<'_>, dir: &DirHandle, name: &LockName) -> io::Result<bool> {
    let second = open_itself(dir, name, OFlags::RDWR)?;
    let (own, other) = (rustix::fs::fstat(file)?, rustix::fs::fstat(&second)?);
    if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino) {
        return Ok(false);
    }
    control(second.as_fd(), libc::F_OFD_SETLK, &mut range_at(offset::TRIED, libc::F_WRLCK))?;
    let is_locked = || -> io::Result<bool> {
        let mut range = range_at(offset::TRIED, libc::F_WRLCK);
        control(file, libc::F_OFD_GETLK, &mut range)?;
        Ok(range.l_type != libc::F_UNLCK as libc::c_short)
    };
    let mapped = MappedFile::of(second.as_fd())?;
    drop(second);
    let is_kept = is_locked()?;
    drop(mapped);
    Ok(is_kept && !is_locked()?)
}
