//! A lock that somebody has.

use std::sync::Arc;

use super::kernel::KernelLock;
use super::queue::Queue;
use super::{Key, Kind};
use crate::metrics::LockHeld;

/// A lock that is held. Dropping it gives the lock back.
pub struct Hold {
    queue: Arc<Queue>,
    /// Readers that came together share one. `None` once it is given back.
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

    /// Gives it back, if that can be done without waiting for anything: on a thread that must
    /// not wait. Otherwise it is still held.
    ///
    /// # Errors
    ///
    /// With the hold, to be dropped elsewhere.
    pub fn give_back_at_once(mut self) -> Result<(), Hold> {
        let Some(kernel) = self.kernel.take() else { return Ok(()) };
        let refused = match Arc::try_unwrap(kernel) {
            Ok(kernel) => match self.queue.give_back_at_once(kernel, self.kind) {
                Ok(()) => return Ok(()),
                Err(kernel) => Arc::new(kernel),
            },
            Err(shared) => shared,
        };
        self.kernel = Some(refused);
        Err(self)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.take() {
            self.queue.given_back(Arc::into_inner(kernel), self.kind);
        }
    }
}
