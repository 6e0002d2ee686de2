//! A lock that the kernel has given, until it is given back.

use std::sync::Arc;

use super::LockKind;
use super::kernel::KernelLock;
use super::queue::Queue;
use crate::metrics::LockHeld;

/// A lock that the kernel has given to a caller. Dropping it releases the lock.
pub struct KernelGuard {
    queue: Arc<Queue>,
    /// Readers share one.
    kernel: Option<Arc<KernelLock>>,
    kind: LockKind,
    is_held: bool,
    _counted: LockHeld,
}

impl KernelGuard {
    pub(super) fn new(queue: Arc<Queue>, kernel: Arc<KernelLock>, kind: LockKind) -> KernelGuard {
        KernelGuard {
            queue,
            kernel: Some(kernel),
            kind,
            is_held: true,
            _counted: LockHeld::new(kind),
        }
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// What it was taken for.
    pub(super) fn kind(&self) -> LockKind {
        self.kind
    }

    /// Gives it back, if that can be done without waiting for anything: on a thread that must
    /// not wait. Otherwise it is still held.
    ///
    /// # Errors
    ///
    /// With the hold, to be dropped elsewhere.
    pub(super) fn release_at_once(mut self) -> Result<(), KernelGuard> {
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

impl Drop for KernelGuard {
    fn drop(&mut self) {
        if self.is_held {
            let last = self.kernel.take().and_then(Arc::into_inner);
            self.queue.release(last, self.kind);
        }
    }
}
