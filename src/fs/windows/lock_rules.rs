//! What is known about the lock files of a directory and about its names, and how one is removed.

use std::ffi::OsStr;
use std::io;
use std::os::windows::io::AsHandle;

use windows_sys::Wdk::Storage::FileSystem::FILE_OPEN;
use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::DELETE;

use super::native::{self, Name, Opening, is_unknown};
use super::{DirHandle, FILE_ITSELF, GONE_AT_ONCE};
use crate::fs::LockRules;

impl DirHandle {
    /// Whether it takes names for one that differ in case.
    pub(crate) fn ignores_case(&self) -> bool {
        true
    }

    /// What is known about locks of the files in it.
    pub(crate) fn lock_rules(&self) -> LockRules {
        // `remove_at_once` finds out whether a file may be removed.
        LockRules { may_remove_files: true, ..LockRules::default() }
    }

    /// Nothing is remembered of its names that would have to be forgotten.
    #[allow(clippy::unused_self, reason = "the twin of Unix needs it")]
    pub(crate) fn look_anew(&self) {}

    /// Removes a name that is gone when this returns, even if a process has the file open. `false`
    /// where the system cannot do that.
    pub(crate) fn remove_at_once(&self, name: &OsStr) -> io::Result<bool> {
        let opening =
            Opening { access: DELETE, disposition: FILE_OPEN, options: FILE_ITSELF, attributes: 0 };
        let file = native::open_at(self.handle.as_handle(), &Name::new(name)?, &opening)?;
        let removed = native::set(file.as_handle(), &GONE_AT_ONCE).map(|()| true);
        removed.or_else(|error| if is_unknown(&error) { Ok(false) } else { Err(error) })
    }

    /// Opens a lock file that is there, for looking at it or `to_write`.
    pub(crate) fn open_existing_lock_file(
        &self,
        name: &OsStr,
        to_write: bool,
    ) -> io::Result<std::fs::File> {
        let write = if to_write { GENERIC_WRITE } else { 0 };
        self.open_itself(name, FILE_OPEN, GENERIC_READ | write)
    }
}
