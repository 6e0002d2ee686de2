//! Two files of a directory change places.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

/// Exchanges two names in one step. `false` where the kernel or the file system has no such step.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) fn exchange(dir: BorrowedFd<'_>, one: &OsStr, other: &OsStr) -> io::Result<bool> {
    use rustix::fs::RenameFlags;
    use rustix::io::Errno;
    match rustix::fs::renameat_with(dir, one, dir, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        // On macOS it is another number.
        #[cfg(target_os = "macos")]
        Err(Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn exchange(_: BorrowedFd<'_>, _: &OsStr, _: &OsStr) -> io::Result<bool> {
    Ok(false)
}
