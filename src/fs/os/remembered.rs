//! What the kernel remembers of names, asked for without ever waiting for a disk: for threads
//! that must not wait.
//!
//! `openat2` with `RESOLVE_CACHED` (Linux 5.12) goes through the kernel's memory of names or not
//! at all. Where it is not known, or refused by a sandbox, nothing is remembered.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::sync_rules::{BTRFS, EXT, XFS};
use super::unix::metadata_of;
use crate::fs::Metadata;

/// The folder that a path leads to. `None` when that takes asking a disk, or fails.
pub(crate) fn folder(path: &Path) -> Option<OwnedFd> {
    open(CWD, path.as_os_str(), OFlags::DIRECTORY).ok()
}

/// What a name in a folder stands for, the inner `None` for nothing. `None` when that takes
/// asking a disk, or fails.
#[allow(clippy::option_option, reason = "nothing is known, and nothing is there, are two answers")]
pub(crate) fn look(folder: BorrowedFd<'_>, name: &OsStr) -> Option<Option<Metadata>> {
    match open(folder, name, OFlags::NOFOLLOW) {
        Ok(found) => of(found.as_fd()).map(Some),
        Err(Errno::NOENT) => Some(None),
        Err(_) => None,
    }
}

/// What an open file is.
pub(crate) fn of(file: BorrowedFd<'_>) -> Option<Metadata> {
    rustix::fs::fstat(file).ok().map(|stat| metadata_of(&stat))
}

fn open(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(folder, name, flags, Mode::empty(), ResolveFlags::CACHED)
}

/// Whether the locks of a file in this folder are decided in memory. A network file system asks
/// its server, and FUSE a program.
pub(crate) fn locks_in_memory(folder: BorrowedFd<'_>) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const F2FS: u64 = 0xF2F5_2010;
    const OVERLAY: u64 = 0x794C_7630;
    let Ok(found) = rustix::fs::fstatfs(folder) else { return false };
    // The type is a signed number on some platforms, but never negative.
    let kind = u64::try_from(found.f_type);
    matches!(kind, Ok(EXT | XFS | BTRFS | TMPFS | F2FS | OVERLAY))
}
