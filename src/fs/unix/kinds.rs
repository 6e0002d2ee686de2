//! The numbers by which the kernel tells types of file systems apart.

use std::os::fd::BorrowedFd;

/// ext2, ext3 and ext4 have the same number.
pub(super) const EXT: u64 = 0xEF53;
pub(super) const XFS: u64 = 0x5846_5342;
pub(super) const BTRFS: u64 = 0x9123_683E;
pub(super) const F2FS: u64 = 0xF2F5_2010;
pub(super) const NILFS: u64 = 0x3434;
pub(super) const BCACHEFS: u64 = 0xCA45_1A4E;
pub(super) const TMPFS: u64 = 0x0102_1994;
pub(super) const OVERLAY: u64 = 0x794C_7630;
pub(super) const ECRYPTFS: u64 = 0xF15F;
pub(super) const FUSE: u64 = 0x6573_5546;

/// The type of the file system that holds something open.
pub(super) fn kind_of(open: BorrowedFd<'_>) -> Option<u64> {
    // The type is a signed number on some platforms, but never negative.
    u64::try_from(rustix::fs::fstatfs(open).ok()?.f_type).ok()
}
