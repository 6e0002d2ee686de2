//! A lock that somebody has.

use std::sync::Arc;

use super::kernel::KernelLock;
use super::queue::Queue;
use super::{Key, Kind};
use crate::metrics::LockHeld;

/// A lock that is held. Dropping it gives the lock back.
pub struct Hold {
    queue: Arc<Queue>,
    /// Readers that came together share one. `None` only while it is being dropped.
    kernel: Option<Arc<KernelLock>>,
    kind: Kind,
    _counted: LockHeld,
}

impl Hold {
    pub(super) fn new(queue: Arc<Queue>, kernel: Arc<KernelLock>, kind: Kind) -> Hold {
        Hold { queue, kernel: Some(kernel), kind, _counted: LockHeld::new(kind) }
    }

    /// Which lock it is.
    pub fn key(&self) -> &Key {
        self.queue.key()
    }

    /// What it was taken for.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let last = self.kernel.take().and_then(Arc::into_inner);
        self.queue.given_back(last, self.kind);
    }
}
