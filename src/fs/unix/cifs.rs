//! What CIFS says otherwise than other file systems.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// The numbers of the kernel's clients: SMB 1, CIFS, SMB 2 and later.
const NUMBERS: [u64; 3] = [0x517B, 0xFF53_4D42, 0xFE53_4D42];

/// Whether CIFS holds what is open here.
pub(super) fn holds(open: BorrowedFd<'_>) -> bool {
    let found = rustix::fs::fstatfs(open).ok();
    // The type is a signed number on some platforms, of 32 bits on some.
    found.is_some_and(|found| NUMBERS.contains(&((found.f_type as u64) & 0xFFFF_FFFF)))
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
