//! A lock directory that is not left behind: neither when its holder drops it nor when the process
//! ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::dir::{LockDirPath, OwnedLockDir, Renewal};
use crate::error::{Failure, LostLock};
use crate::fs::os::Os;
#[cfg(unix)]
use crate::fs::os::RemoveAtExit;

/// A lock directory of this process. Dropping it releases the lock, and so does the end of the
/// process.
pub(in crate::lock) struct HeldDir {
    // In this order: it is known by its number, which another process's may have as soon as it is
    // not open any more.
    #[cfg(unix)]
    _at_exit: Option<RemoveAtExit>,
    owned: OwnedLockDir<Os>,
    at: Arc<LockDirPath<Os>>,
    is_held: bool,
}

impl HeldDir {
    pub(super) fn new(owned: OwnedLockDir<Os>, at: &Arc<LockDirPath<Os>>) -> HeldDir {
        HeldDir {
            #[cfg(unix)]
            _at_exit: RemoveAtExit::of(&at.path(), owned.id()),
            owned,
            at: Arc::clone(at),
            is_held: true,
        }
    }

    /// Makes sure that the lock is this process's, and keeps it fresh until `until`. A lock that is
    /// lost is not touched any more.
    pub(super) fn renew(&mut self, stale: Duration, until: SystemTime) -> Renewal {
        let renewal = self.owned.renew(&self.at, stale, SystemTime::now(), until);
        self.is_held &= !matches!(renewal, Renewal::Lost(_));
        renewal
    }

    /// Releases the lock. `Some` when it was not this process's any more.
    pub(super) fn release(mut self) -> Result<Option<LostLock>, Failure> {
        self.is_held = false;
        self.owned.release(&self.at)
    }
}

impl Drop for HeldDir {
    fn drop(&mut self) {
        if self.is_held {
            let _ = self.owned.release(&self.at);
        }
    }
}
