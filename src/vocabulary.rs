//! Terms that every module uses: how durable a write is, what a lock is for, which file is meant.
//!
//! This file imports nothing of the crate, so every other file may import it.

use std::ffi::{OsStr, OsString};

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device, or volume, that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u128,
}

/// The file that a path means, and so its lock and its queue: the directory that holds the file, and
/// its name there.
pub type FileKey = (FileId, OsString);

/// The file whose lock an operation holds. It may touch no other, wherever its path leads by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedFile {
    /// The directory.
    pub dir: FileId,
    /// The file's name in it.
    pub name: OsString,
}

impl GuardedFile {
    /// Whether a name in a directory is that file. One that differs in case may be: where names
    /// ignore case, the lock is that of both.
    pub fn is(&self, dir: FileId, name: &OsStr) -> bool {
        let folded = |name: &OsStr| name.to_string_lossy().to_lowercase();
        dir == self.dir && (name == self.name || folded(name) == folded(&self.name))
    }
}

/// The three levels of durability, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Readers see the old file or the new one, whole; nothing is synced.
    None,
    /// The bytes are synced before the rename: after a power cut the target is the old
    /// file or the new one, whole, but it may be the old one.
    File,
    /// The bytes and the rename are synced: an acknowledged write is there after a
    /// power cut.
    Full,
}

impl Durability {
    /// The level that users know by this name.
    pub fn named(name: &str) -> Option<Durability> {
        match name {
            "none" => Some(Durability::None),
            "file" => Some(Durability::File),
            "full" => Some(Durability::Full),
            _ => None,
        }
    }
}

/// What a lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Beside other readers, never beside a writer.
    Read,
    /// Beside no other reader or writer.
    Write,
}
