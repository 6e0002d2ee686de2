//! What the kernel remembers of names, asked for without ever waiting for a disk: for threads
//! that must not wait.
//!
//! `openat2` with `RESOLVE_CACHED` (Linux 5.12) goes through the kernel's memory of names or not
//! at all. Where it is not known, or refused by a sandbox, nothing is remembered.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, ResolveFlags, StatxFlags, makedev,
};
use rustix::io::Errno;

use super::sync_rules::{BTRFS, EXT, XFS};
use crate::fs::FileId;

/// Whether the system has no such calls, or a sandbox keeps us from them.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// What the kernel remembers of a file.
pub(crate) struct CachedEntry {
    pub(crate) id: FileId,
    pub(crate) is_link: bool,
    pub(crate) is_empty: bool,
}

/// The directory that a path leads to. `None` when that takes asking a disk, or fails.
pub(crate) fn dir(path: &Path) -> Option<OwnedFd> {
    open(CWD, path.as_os_str(), OFlags::DIRECTORY).ok()
}

/// What a name in a directory stands for, the inner `None` for nothing. `None` when that takes
/// asking a disk, or fails.
#[allow(clippy::option_option, reason = "nothing is known, and nothing is there, are two answers")]
pub(crate) fn look(dir: BorrowedFd<'_>, name: &OsStr) -> Option<Option<CachedEntry>> {
    match open(dir, name, OFlags::NOFOLLOW) {
        Ok(found) => of(found.as_fd()).map(Some),
        Err(Errno::NOENT) => Some(None),
        Err(_) => None,
    }
}

/// What an open file is.
pub(crate) fn of(file: BorrowedFd<'_>) -> Option<CachedEntry> {
    // A network file system below an overlay would otherwise ask its server.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
    let found = rustix::fs::statx(file, c"", flags, wanted).map_err(refused).ok()?;
    let device = makedev(found.stx_dev_major, found.stx_dev_minor);
    Some(CachedEntry {
        id: FileId { device, inode: found.stx_ino.into() },
        is_link: FileType::from_raw_mode(RawMode::from(found.stx_mode)) == FileType::Symlink,
        is_empty: found.stx_size == 0,
    })
}

fn open(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::CACHED).map_err(refused)
}

fn refused(error: Errno) -> Errno {
    if matches!(error, Errno::NOSYS | Errno::INVAL | Errno::PERM) {
        IS_REFUSED.store(true, Ordering::Relaxed);
    }
    error
}

/// Whether the locks of a file in this directory are decided in memory, and names can be looked up
/// there. A network file system asks its server for locks, and FUSE a program.
pub(crate) fn locks_in_memory(dir: BorrowedFd<'_>) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const F2FS: u64 = 0xF2F5_2010;
    const OVERLAY: u64 = 0x794C_7630;
    if IS_REFUSED.load(Ordering::Relaxed) {
        return false;
    }
    let Ok(found) = rustix::fs::fstatfs(dir) else { return false };
    // The type is a signed number on some platforms, but never negative.
    let kind = u64::try_from(found.f_type);
    matches!(kind, Ok(EXT | XFS | BTRFS | TMPFS | F2FS | OVERLAY))
}
