//! The lock of a record: by it a process that completes a transaction knows that no other process
//! is working on it.

use std::path::PathBuf;

use super::names::{self, RecordKind, TransactionId};
use super::participant::{LockedRecord, Participant};
use crate::error::Failure;
use crate::fs::{FileSystem, if_there};

/// What came of locking the record of a transaction in a directory.
pub(super) enum RecordLock<F: FileSystem> {
    /// There is no record.
    NoRecord,
    /// Another process holds its lock.
    InUse(PathBuf),
    /// It is no file, or another user has put it into a directory that is open to all.
    Untrusted(PathBuf),
    /// This process holds its lock now.
    Locked(LockedRecord<F>),
}

/// How often a record that changes its name while it is being locked is looked for again.
const LOOKS: usize = 8;

impl<F: FileSystem> Participant<F> {
    /// Locks the record of a transaction, if no live process has it.
    pub(super) fn lock_record(&self, id: TransactionId) -> Result<RecordLock<F>, Failure> {
        for _ in 0..LOOKS {
            let mut has_moved = false;
            for kind in [RecordKind::Intent, RecordKind::Prepared] {
                let name = names::record(id, kind);
                let path = self.dir.shown(&name);
                match self.dir.look(&name)? {
                    Some(found) if self.trusts(&found) => {}
                    Some(_) => return Ok(RecordLock::Untrusted(path)),
                    None => continue,
                }
                let Some(file) = if_there(self.dir.open_to_change(&name))? else { continue };
                // It may have been replaced since it was looked at.
                if !self.trusts(&file.metadata().map_err(|failure| failure.on(&path))?) {
                    return Ok(RecordLock::Untrusted(path));
                }
                if !file.try_lock().map_err(|failure| failure.on(&path))? {
                    return Ok(RecordLock::InUse(path));
                }
                if self.dir.is_named(&name, &file) {
                    return Ok(RecordLock::Locked(LockedRecord { file, kind, at_exit: None }));
                }
                has_moved = true;
            }
            if !has_moved {
                return Ok(RecordLock::NoRecord);
            }
        }
        Ok(RecordLock::InUse(self.dir.path().to_owned()))
    }
}
