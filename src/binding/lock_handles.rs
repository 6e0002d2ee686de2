//! The locks that one environment holds. They are released at the latest when it ends.

use napi_derive::napi;

use super::handles::HandleTable;
use crate::lock::{FileKey, HeldLocks, LockGuard};

/// By the numbers that JavaScript knows them by.
pub(super) type LockHandles = HandleTable<LockGuard>;

/// The locks that the caller of an operation holds, by their numbers.
#[napi(object)]
#[derive(Default)]
pub struct HeldNumbers {
    /// Those that the operation may borrow.
    pub lendable: Vec<u32>,
    /// Those under which the caller updates a file at this moment.
    pub updating: Vec<u32>,
    /// Those under which the operation comes, and which it may wait for like any other.
    pub around: Option<Vec<u32>>,
}

impl LockHandles {
    /// Which locks these are, as far as they are still held.
    pub(super) fn keys(&self, held: Option<HeldNumbers>) -> Vec<FileKey> {
        let HeldNumbers { mut lendable, mut updating, .. } = held.unwrap_or_default();
        lendable.append(&mut updating);
        self.look(&lendable, |_, guard| guard.key().clone())
    }

    /// The locks, for an operation that asks for another one.
    pub(super) fn held(&self, held: Option<HeldNumbers>) -> HeldLocks {
        let HeldNumbers { mut lendable, mut updating, around } = held.unwrap_or_default();
        lendable.append(&mut updating);
        let held: HeldLocks = self.look(&lendable, |_, guard| guard.held()).into_iter().collect();
        let depths = self.look(&around.unwrap_or_default(), |_, guard| guard.depth_inside());
        held.at_depth(depths.into_iter().max().unwrap_or(0))
    }

    /// The locks, for an operation that borrows the one that it needs. It has its turn from now on.
    pub(super) fn lend(&self, held: Option<HeldNumbers>) -> HeldLocks {
        let HeldNumbers { lendable, updating, .. } = held.unwrap_or_default();
        let mut all = self.look(&lendable, |_, guard| guard.lend(false));
        all.append(&mut self.look(&updating, |_, guard| guard.lend(true)));
        all.into_iter().collect()
    }
}
