//! The caller's way to cancel a write that is under way.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::ErrorKind;

/// Shared between a write and whoever may cancel it.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
}

impl Control {
    /// Asks the write to stop. It takes effect at the next check, of which the last is
    /// immediately before the rename; a write that is past it stands.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Fails when the write has been cancelled.
    pub(super) fn check(&self) -> Result<(), ErrorKind> {
        match self.cancelled.load(Ordering::Acquire) {
            true => Err(ErrorKind::Cancelled),
            false => Ok(()),
        }
    }
}
