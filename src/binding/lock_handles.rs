//! The locks that one environment holds. They are given back at the latest when it ends.

use super::handles::HandleTable;
use crate::lock::{FileKey, LockGuard, LockKind};

/// By the numbers that JavaScript knows them by.
pub(super) type LockHandles = HandleTable<LockGuard>;

impl LockHandles {
    /// The number, among these, of the lock with this key.
    pub(super) fn find(&self, numbers: &[u32], key: &FileKey) -> Option<u32> {
        let found = self.look(numbers, |number, hold| (hold.key() == key).then_some(number));
        found.into_iter().flatten().next()
    }

    /// What this lock was taken for, if it is still held.
    pub(super) fn kind(&self, number: u32) -> Option<LockKind> {
        self.look(&[number], |_, hold| hold.kind()).into_iter().next()
    }

    /// Which locks these are, as far as they are still held.
    pub(super) fn keys(&self, numbers: &[u32]) -> Vec<FileKey> {
        self.look(numbers, |_, hold| hold.key().clone())
    }

    /// Which locks these are and what they were taken for, as far as they are still held.
    pub(super) fn kinds(&self, numbers: &[u32]) -> Vec<(FileKey, LockKind)> {
        self.look(numbers, |_, hold| (hold.key().clone(), hold.kind()))
    }
}
