//! Locks on whole files and directories by `flock`, which say that their process lives.

use std::io;
use std::os::fd::BorrowedFd;

use super::lacks;
use crate::fs::Limitation;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Whether this error says that another client of CIFS holds the lock.
#[cfg(target_os = "linux")]
fn is_held(open: BorrowedFd<'_>, error: Errno) -> bool {
    error == Errno::ACCESS && super::cifs::holds(open)
}

#[cfg(not(target_os = "linux"))]
fn is_held(_: BorrowedFd<'_>, _: Errno) -> bool {
    false
}

/// Takes the lock of a file, if it is free.
pub(super) fn try_lock(file: BorrowedFd<'_>) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) if is_held(file, error) => Ok(false),
        // Some network and FUSE file systems have no locks. No process can take one there,
        // so a lock would say nothing.
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            lacks::lacks(file, Limitation::LockFile);
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes the lock of a directory, if it is free.
pub(super) fn try_lock_dir(dir: BorrowedFd<'_>) -> io::Result<bool> {
    match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) if is_held(dir, error) => Ok(false),
        // Besides file systems without locks: NFS locks only what is open for writing, and
        // a descriptor that only names files has none.
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::BADF) => {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}
