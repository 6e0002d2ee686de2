//! Reports what a file system cannot do, where only something open on it is at hand.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::fs::{Limitation, found_limitation};

/// Reports that the file system lacks something that holds this open file or directory.
#[cold]
#[inline(never)]
pub(super) fn lacks(open: BorrowedFd<'_>, limitation: Limitation) {
    let Ok(found) = rustix::fs::fstat(open) else { return };
    // The type differs between the Unixes.
    #[allow(clippy::unnecessary_cast)]
    let mounted = (found.st_dev as u64, mount_number(open));
    let mut dir = path_of(open).unwrap_or_default();
    if !rustix::fs::FileType::from_raw_mode(found.st_mode as rustix::fs::RawMode).is_dir() {
        dir.pop();
    }
    found_limitation(limitation, mounted, &dir);
}

/// A number of the mount that holds something open, which no later mount has.
#[cfg(target_os = "linux")]
pub(super) fn mount_number(open: BorrowedFd<'_>) -> u64 {
    use rustix::fs::{AtFlags, StatxFlags};
    /// `STATX_MNT_ID_UNIQUE`, Linux 6.8. An earlier system ignores it, and says what it knows.
    const UNIQUE: u32 = 0x4000;
    let wanted = StatxFlags::MNT_ID | StatxFlags::from_bits_retain(UNIQUE);
    let found = rustix::fs::statx(open, c"", AtFlags::EMPTY_PATH, wanted);
    found.map_or(0, |found| found.stx_mnt_id)
}

/// The system does not say.
#[cfg(not(target_os = "linux"))]
pub(super) fn mount_number(_: BorrowedFd<'_>) -> u64 {
    0
}

/// The path by which something was opened, if it has that still.
#[cfg(target_os = "linux")]
fn path_of(open: BorrowedFd<'_>) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).ok()
}

/// The same.
#[cfg(any(target_os = "macos", target_os = "ios"))]
fn path_of(open: BorrowedFd<'_>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let path = rustix::fs::getpath(open).ok()?;
    Some(std::ffi::OsString::from_vec(path.into_bytes()).into())
}

/// There is no way to ask.
#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "ios")))]
fn path_of(_: BorrowedFd<'_>) -> Option<PathBuf> {
    None
}
