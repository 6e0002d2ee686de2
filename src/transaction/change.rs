//! What a transaction is asked to change.

use std::path::PathBuf;

use crate::payload::Payload;
use crate::vocabulary::GuardedFile;

/// What is to become of a file.
#[derive(Debug)]
pub enum Change {
    /// It gets these bytes, which are memory of holdfast's own.
    Write(Payload),
    /// It gets these bytes, which were those of another file. A new one is like that in its
    /// permissions, owner and attributes.
    Move(Payload, PathBuf),
    /// It is made with these bytes. It is an error if it exists, and none is ever replaced.
    Create(Payload),
    /// It is removed. It is no error if it does not exist.
    Remove,
}

/// One file of a transaction.
#[derive(Debug)]
pub struct FileChange {
    /// The file, absolute.
    pub path: PathBuf,
    /// What is to become of it.
    pub change: Change,
    /// The only file that the path may lead to, if its lock is held.
    pub only: Option<GuardedFile>,
}
