//! A lock that somebody has.

use std::sync::Arc;

use super::kernel::KernelLock;
use super::queue::Queue;
use super::{FileKey, LockKind};
use crate::metrics::LockHeld;

/// A lock that is held. Dropping it gives the lock back.
pub struct LockGuard {
    queue: Arc<Queue>,
    /// Readers share one.
    kernel: Option<Arc<KernelLock>>,
    kind: LockKind,
    is_held: bool,
    _counted: LockHeld,
}

impl LockGuard {
    pub(super) fn new(queue: Arc<Queue>, kernel: Arc<KernelLock>, kind: LockKind) -> LockGuard {
        LockGuard {
            queue,
            kernel: Some(kernel),
            kind,
            is_held: true,
            _counted: LockHeld::new(kind),
        }
    }

    /// Which lock it is.
    pub fn key(&self) -> &FileKey {
        self.queue.key()
    }

    /// What it was taken for.
    pub fn kind(&self) -> LockKind {
        self.kind
    }

    /// Gives it back, if that can be done without waiting for anything: on a thread that must
    /// not wait. Otherwise it is still held.
    ///
    /// # Errors
    ///
    /// With the hold, to be dropped elsewhere.
    pub fn release_at_once(mut self) -> Result<(), LockGuard> {
        let last = self.kernel.take().and_then(Arc::into_inner);
        match self.queue.release_at_once(last, self.kind) {
            Ok(()) => {
                self.is_held = false;
                Ok(())
            }
            Err(last) => {
                self.kernel = last.map(Arc::new);
                Err(self)
            }
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.is_held {
            let last = self.kernel.take().and_then(Arc::into_inner);
            self.queue.release(last, self.kind);
        }
    }
}
