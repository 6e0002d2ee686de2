//! Bringing files to the disk.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use crate::error::Code;

#[cfg(not(any(target_os = "macos", target_os = "ios")))]
pub(super) fn sync(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(descriptor)?)
}

/// `fsync` on macOS leaves the bytes in the drive's cache. `F_FULLFSYNC` empties it;
/// file systems that do not support it get the next best, as in libuv.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(super) fn sync(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    const F_BARRIERFSYNC: libc::c_int = 85;
    for command in [libc::F_FULLFSYNC, F_BARRIERFSYNC] {
        // SAFETY: the descriptor is open while it is borrowed, and these commands take
        // no argument.
        if unsafe { libc::fcntl(descriptor.as_raw_fd(), command) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Only 'this file system does not support the command' leads to the next one: after a
        // real failure, a weaker sync that succeeds proves nothing.
        if !matches!(Code::of(&error), Some(Code::ENOTSUP | Code::EINVAL | Code::ENOSYS))
            && error.raw_os_error() != Some(libc::ENOTTY)
        {
            return Err(error);
        }
    }
    Ok(rustix::fs::fsync(descriptor)?)
}

/// Whether the system does not have a call (WSL 1), or a sandbox forbids it. Nothing has been tried.
#[cfg(target_os = "linux")]
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(Code::of(error), Some(Code::ENOSYS | Code::EPERM))
}

#[cfg(target_os = "linux")]
pub(super) fn sync_file_range(file: BorrowedFd<'_>, how: std::ffi::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the call takes numbers only. A
    // length of 0 means up to the end.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A directory that the process may write to but not list cannot be opened for syncing.
/// Syncing the file system that holds it makes its names durable too.
#[cfg(target_os = "linux")]
pub(super) fn sync_whole_file_system(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Closes a descriptor and returns the system's error. An interrupted close has closed the
/// descriptor all the same.
pub(super) fn close(descriptor: OwnedFd) -> io::Result<()> {
    let raw = descriptor.into_raw_fd();
    // SAFETY: the descriptor was owned and has just been released, so no other code closes it or
    // uses it afterwards.
    if unsafe { libc::close(raw) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// Whether a sync of a directory has failed because directories cannot be synced there (vboxsf, CIFS
/// before Linux 5.10, some FUSE file systems). The descriptor is open and that of a directory, so
/// `EBADF` and `EISDIR` cannot mean anything else.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const UNSUPPORTED: [Errno; 6] =
        [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::BADF, Errno::ISDIR];
    Errno::from_io_error(error).is_some_and(|error| UNSUPPORTED.contains(&error))
}
