//! Terms that every module uses: how durable a write is, what a lock is for, which file is meant.
//!
//! This file imports nothing of the crate, so every other file may import it.

use std::ffi::OsString;

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
