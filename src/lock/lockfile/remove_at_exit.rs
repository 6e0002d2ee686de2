//! A lock directory that is not left behind when the process ends.

use super::dir::{LockDirPath, OwnedLockDir};
use crate::fs::os::Os;
#[cfg(unix)]
use crate::fs::os::RemoveAtExit;

/// A lock directory that is ours, and is removed should the process end while this lives.
pub(super) struct Guarded {
    // In this order: it is known by its number, which somebody else's may have as soon as it is
    // not open any more.
    #[cfg(unix)]
    _farewell: Option<RemoveAtExit>,
    pub(super) owned: OwnedLockDir<Os>,
}

impl Guarded {
    pub(super) fn new(
        owned: OwnedLockDir<Os>,
        #[allow(unused)] place: &LockDirPath<Os>,
    ) -> Guarded {
        Guarded {
            #[cfg(unix)]
            _farewell: RemoveAtExit::of(&place.path(), owned.id()),
            owned,
        }
    }
}
