//! A lock directory that is not left behind when the process ends.

use super::dir::{Owned, Place};
use crate::fs::os::Os;
#[cfg(unix)]
use crate::fs::os::RemoveAtExit;

/// A lock directory that is ours, and is removed should the process end while this lives.
pub(super) struct Guarded {
    // In this order: it is known by its number, which somebody else's may have as soon as it is
    // not open any more.
    #[cfg(unix)]
    _farewell: Option<RemoveAtExit>,
    pub(super) owned: Owned<Os>,
}

impl Guarded {
    pub(super) fn new(owned: Owned<Os>, #[allow(unused)] place: &Place<Os>) -> Guarded {
        Guarded {
            #[cfg(unix)]
            _farewell: RemoveAtExit::of(&place.path(), owned.id()),
            owned,
        }
    }
}
