//! Open directories and files, and how they are opened.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use super::mount;
use super::patient_open::open_patiently;
use super::{lock_rules, name_case};
use crate::fs::{DirUse, LockRules};

/// An open directory.
#[derive(Debug)]
pub struct DirHandle {
    pub(super) descriptor: OwnedFd,
    /// Opened for reading, so that it can be synced; otherwise it only names files.
    pub(super) readable: bool,
}

impl DirHandle {
    /// For the lock files in it, which `src/lock/kernel` opens itself.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Whether it takes names for one that differ in case, as far as that is known.
    pub(crate) fn ignores_case(&self) -> bool {
        name_case::ignores_case(self.descriptor())
    }

    /// Whether something is mounted under a name in it, as far as the system tells (Linux 5.8). A
    /// symbolic link is not followed.
    pub(crate) fn is_mount_point(&self, name: &OsStr) -> bool {
        #[cfg(target_os = "linux")]
        return mount::is_mount_point(self.descriptor(), name);
        #[cfg(not(target_os = "linux"))]
        {
            let _ = name;
            false
        }
    }

    /// Has a network file system look up its names anew, if it has changed.
    pub(crate) fn look_anew(&self) {
        lock_rules::look_anew(self.descriptor());
    }

    /// What is known about locks of the files in it.
    pub(crate) fn lock_rules(&self) -> LockRules {
        lock_rules::lock_rules(self.descriptor())
    }

    /// For asking about locks of the directory itself, if it is open for that: the process may list
    /// it.
    #[cfg(target_os = "linux")]
    pub(crate) fn lockable(&self) -> Option<BorrowedFd<'_>> {
        self.readable.then(|| self.descriptor.as_fd())
    }
}

/// An open file.
#[derive(Debug)]
pub struct FileHandle {
    pub(super) descriptor: OwnedFd,
}

/// A directory descriptor that only names files needs no read permission on the directory.
#[cfg(target_os = "linux")]
const NAMES_ONLY: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const NAMES_ONLY: OFlags = OFlags::RDONLY;

/// Opens a directory by its path, or by its name in another one.
pub(super) fn open_dir(at: BorrowedFd<'_>, path: &OsStr, purpose: DirUse) -> io::Result<DirHandle> {
    let open = |access: OFlags| {
        rustix::fs::openat(at, path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    if purpose == DirUse::NamesAndSync {
        match open(OFlags::RDONLY) {
            Ok(descriptor) => return Ok(DirHandle { descriptor, readable: true }),
            Err(Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(DirHandle { descriptor: open(NAMES_ONLY)?, readable: false })
}

/// Opens a file that is there.
pub(super) fn open_existing(
    dir: &DirHandle,
    name: &OsStr,
    flags: OFlags,
) -> io::Result<FileHandle> {
    let open = || rustix::fs::openat(&dir.descriptor, name, flags, Mode::empty());
    Ok(FileHandle { descriptor: open_patiently(open)? })
}
