//! What is mounted where.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

/// Whether something is mounted under a name in a directory, a directory or a file by itself.
pub(super) fn is_mount_point(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    // What the kernel has in memory is enough.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(dir, name, flags, StatxFlags::empty());
    found.is_ok_and(|found| {
        let known = found.stx_attributes & found.stx_attributes_mask;
        known.contains(StatxAttributes::MOUNT_ROOT)
    })
}
