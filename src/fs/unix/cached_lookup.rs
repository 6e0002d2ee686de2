//! Look-ups that are answered from the kernel's cache and never wait for a disk: for threads that
//! must not wait.
//!
//! `openat2` with `RESOLVE_CACHED` (Linux 5.12) uses the kernel's cache of names or fails. Where it
//! is not supported, or refused by a sandbox, no look-up is answered.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, ResolveFlags, StatxFlags, makedev,
};
use rustix::io::Errno;

use crate::fs::FileId;

/// Whether the system lacks these calls, or a sandbox refuses them.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// What the kernel's cache has on a file.
pub(crate) struct CachedEntry {
    pub(crate) id: FileId,
    pub(crate) is_link: bool,
    pub(crate) is_empty: bool,
}

/// The directory that a path leads to. `None` when the disk would have to be asked, or on failure.
pub(crate) fn dir(path: &Path) -> Option<OwnedFd> {
    open(CWD, path.as_os_str(), OFlags::DIRECTORY).ok()
}

/// What a name in a directory stands for, the inner `None` for nothing. `None` when the disk would
/// have to be asked, or on failure.
#[allow(clippy::option_option, reason = "'not known' and 'not there' are two outcomes")]
pub(crate) fn look(dir: BorrowedFd<'_>, name: &OsStr) -> Option<Option<CachedEntry>> {
    match open(dir, name, OFlags::NOFOLLOW) {
        Ok(found) => of(found.as_fd()).map(Some),
        Err(Errno::NOENT) => Some(None),
        Err(_) => None,
    }
}

/// The identity and kind of an open file.
pub(crate) fn of(file: BorrowedFd<'_>) -> Option<CachedEntry> {
    // Otherwise a network file system below an overlay would ask its server.
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

/// Whether look-ups can be answered, as far as that is known.
pub(crate) fn is_supported() -> bool {
    !IS_REFUSED.load(Ordering::Relaxed)
}
