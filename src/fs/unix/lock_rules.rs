//! What is known about locks on a file system.

use std::os::fd::BorrowedFd;

#[cfg(target_os = "linux")]
use super::cached_lookup;
use crate::fs::LockRules;

/// The rules for files in this directory.
#[cfg(target_os = "linux")]
pub(super) fn lock_rules(dir: BorrowedFd<'_>) -> LockRules {
    use super::kinds::*;

    let Ok(kind) = kind_of(dir) else { return LockRules::default() };
    let in_memory = matches!(kind, EXT | XFS | BTRFS | TMPFS | F2FS | OVERLAY);
    let is_local = in_memory
        || matches!(kind, RAMFS | VFAT | EXFAT | NTFS3 | JFS | NILFS | REISERFS | HFSPLUS)
        || matches!(kind, UDF | ZFS | BCACHEFS | ECRYPTFS);
    LockRules {
        takes_no_disk: in_memory && cached_lookup::is_supported(),
        may_remove_files: is_local,
        has_to_poll: is_smb(kind) || matches!(kind, NFS | NINEP | AFS | KAFS | NCP),
        // Not an overlay: what is mapped there is the file below.
        stays_open_mapped: matches!(kind, EXT | XFS | BTRFS | TMPFS | F2FS),
    }
}

/// The rules for files in this directory.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(super) fn lock_rules(dir: BorrowedFd<'_>) -> LockRules {
    let Ok(found) = rustix::fs::fstatfs(dir) else { return LockRules::default() };
    let is_local = found.f_flags & libc::MNT_LOCAL as u32 != 0;
    let name = found.f_fstypename.map(|byte| byte.cast_unsigned());
    let is_known = ["apfs", "hfs"].iter().any(|known| name.starts_with(known.as_bytes()));
    LockRules {
        takes_no_disk: false,
        may_remove_files: is_local && is_known,
        has_to_poll: !is_local,
        // `flock` ends with the descriptor.
        stays_open_mapped: false,
    }
}

/// The rules for files in this directory.
#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "ios")))]
pub(super) fn lock_rules(_: BorrowedFd<'_>) -> LockRules {
    LockRules::default()
}

/// Has a network file system ask its server about a directory: if that has changed, what is remembered
/// of its names is forgotten. A failure shows in what is done next.
#[cfg(target_os = "linux")]
pub(super) fn look_anew(dir: BorrowedFd<'_>) {
    use rustix::fs::{AtFlags, StatxFlags};

    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let _ = rustix::fs::statx(dir, c"", flags, StatxFlags::BASIC_STATS);
}

/// The same.
#[cfg(not(target_os = "linux"))]
pub(super) fn look_anew(dir: BorrowedFd<'_>) {
    let _ = rustix::fs::fstat(dir);
}
