//! A lock that the kernel has given to a call.

use std::sync::Arc;

use super::kernel::KernelLock;
use crate::metrics::LockHeld;
use crate::vocabulary::{FileKey, LockKind};

/// What a lock is released to.
pub(super) trait LockOwner: Send + Sync {
    /// Which lock it is.
    fn key(&self) -> &FileKey;

    /// A call releases the lock; the lock of the kernel comes from the last of the calls that
    /// shared it.
    fn release(self: Arc<Self>, last: Option<KernelLock>, kind: LockKind);

    /// The same without waiting for anything: if no call of this process wants the lock, and its
    /// file system decides about locks in memory. Otherwise it comes back.
    fn release_at_once(
        &self,
        last: Option<KernelLock>,
        kind: LockKind,
    ) -> Result<(), Option<KernelLock>>;
}

/// A lock that the kernel has given to a call. Dropping it releases the lock.
pub struct KernelGuard {
    owner: Arc<dyn LockOwner>,
    /// Readers share one.
    lock: Option<Arc<KernelLock>>,
    kind: LockKind,
    is_held: bool,
    _counted: LockHeld,
}

impl KernelGuard {
    pub(super) fn new(
        owner: Arc<dyn LockOwner>,
        lock: Arc<KernelLock>,
        kind: LockKind,
    ) -> KernelGuard {
        KernelGuard { owner, lock: Some(lock), kind, is_held: true, _counted: LockHeld::new(kind) }
    }

    /// What it is released to.
    pub(super) fn owner(&self) -> &Arc<dyn LockOwner> {
        &self.owner
    }

    /// What it was taken for.
    pub(super) fn kind(&self) -> LockKind {
        self.kind
    }

    /// Releases it, if that can be done without waiting for anything: on a thread that must not
    /// wait. Otherwise it is still held.
    ///
    /// # Errors
    ///
    /// With the guard, to be dropped elsewhere.
    pub(super) fn release_at_once(mut self) -> Result<(), KernelGuard> {
        let last = self.lock.take().and_then(Arc::into_inner);
        match self.owner.release_at_once(last, self.kind) {
            Ok(()) => {
                self.is_held = false;
                Ok(())
            }
            Err(last) => {
                self.lock = last.map(Arc::new);
                Err(self)
            }
        }
    }
}

impl Drop for KernelGuard {
    fn drop(&mut self) {
        if self.is_held {
            let last = self.lock.take().and_then(Arc::into_inner);
            Arc::clone(&self.owner).release(last, self.kind);
        }
    }
}
