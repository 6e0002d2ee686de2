//! Whether a directory takes names for one that differ in case.

use std::os::fd::BorrowedFd;

/// As far as that is known: not of network file systems other than SMB, nor of FUSE.
#[cfg(target_os = "linux")]
pub(super) fn ignores_case(dir: BorrowedFd<'_>) -> bool {
    use rustix::fs::{Mode, OFlags};

    use super::kinds::{EXFAT, HFSPLUS, NTFS3, VFAT, is_smb, kind_of};

    /// `FS_CASEFOLD_FL`: a directory of ext4, f2fs or tmpfs that was made so.
    const CASEFOLD: u32 = 0x4000_0000;

    let Ok(kind) = kind_of(dir) else { return false };
    if is_smb(kind) || matches!(kind, VFAT | EXFAT | NTFS3 | HFSPLUS) {
        return true;
    }
    // The descriptor may be one that only names files.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(readable) = rustix::fs::openat(dir, ".", flags, Mode::empty()) else { return false };
    rustix::fs::ioctl_getflags(&readable).is_ok_and(|flags| flags.bits() & CASEFOLD != 0)
}

/// As far as that is known.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(super) fn ignores_case(dir: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open while `dir` lives.
    unsafe { libc::fpathconf(dir.as_raw_fd(), libc::_PC_CASE_SENSITIVE) == 0 }
}

/// As far as that is known.
#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "ios")))]
pub(super) fn ignores_case(_: BorrowedFd<'_>) -> bool {
    false
}
