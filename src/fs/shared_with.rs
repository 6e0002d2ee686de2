//! For whom the files of holdfast's own are made: locks, and what is beside them.

use std::ffi::OsStr;

/// For whom a file of holdfast's own is made, besides the process that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedWith<'a> {
    /// Everybody who may read or write the file of this name, or the directory if there is no such
    /// file, may read and write it, whatever the umask.
    UsersOf(&'a OsStr),
    /// Everybody who may write to the directory may read and write it, and search it if it is a
    /// directory, whatever the umask; others have what this mode, the umask and the directory's
    /// default ACL give them.
    WritersOfDir {
        /// The permission bits that the file is made with.
        mode: u32,
    },
}

impl SharedWith<'_> {
    const READ: u32 = 4;
    const WRITE: u32 = 2;
    const SEARCH: u32 = 1;

    /// What the owner has.
    pub fn owners(&self) -> u32 {
        match self {
            SharedWith::UsersOf(_) => Self::READ | Self::WRITE,
            SharedWith::WritersOfDir { mode } => Self::READ | Self::WRITE | mode & Self::SEARCH,
        }
    }

    /// What a class of users gets who may do this (three bits) with the file or directory that has
    /// this mode.
    pub fn grants(&self, may: u32, mode: u32) -> u32 {
        const STICKY: u32 = 0o1000;
        let both = Self::READ | Self::WRITE;
        match self {
            SharedWith::UsersOf(_) => {
                if may & both == 0 {
                    0
                } else {
                    both
                }
            }
            SharedWith::WritersOfDir { .. } if may & Self::WRITE == 0 => 0,
            // They may not replace each other's files there, so they must not change them.
            SharedWith::WritersOfDir { .. } if mode & STICKY != 0 => self.owners() & !Self::WRITE,
            SharedWith::WritersOfDir { .. } => self.owners(),
        }
    }

    /// Whether a file with these permission bits allows everything already.
    pub fn is_satisfied_by(&self, mode: u32) -> bool {
        const EVERYTHING: u32 = 0o666;
        mode & EVERYTHING == EVERYTHING
    }
}
