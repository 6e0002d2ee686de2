//! What CIFS says otherwise than other file systems.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::kinds::{is_smb, kind_of};

/// Whether CIFS holds what is open here.
pub(super) fn holds(open: BorrowedFd<'_>) -> bool {
    kind_of(open).is_ok_and(is_smb)
}

/// The error of a rename in a directory to whose files the process has just written. On CIFS 'access
/// denied' means that a program has the file open that would be replaced, which passes; elsewhere it
/// is what it says.
pub(super) fn told_apart(dir: BorrowedFd<'_>, error: Errno) -> Errno {
    match error {
        Errno::ACCESS if holds(dir) => Errno::BUSY,
        error => error,
    }
}
