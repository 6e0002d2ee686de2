//! What CIFS says otherwise than other file systems.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// The numbers of the kernel's clients: SMB 1, CIFS, SMB 2 and later.
const NUMBERS: [u64; 3] = [0x517B, 0xFF53_4D42, 0xFE53_4D42];

/// The error of a rename in a directory to whose files the process has just written. On CIFS 'access
/// denied' means that a program has the file open that would be replaced, which passes; elsewhere it
/// is what it says.
pub(super) fn told_apart(dir: BorrowedFd<'_>, error: Errno) -> Errno {
    let is_cifs = || {
        let found = rustix::fs::fstatfs(dir).ok();
        // The type is a signed number on some platforms, of 32 bits on some.
        found.is_some_and(|found| NUMBERS.contains(&((found.f_type as u64) & 0xFFFF_FFFF)))
    };
    match error {
        Errno::ACCESS if is_cifs() => Errno::BUSY,
        error => error,
    }
}
