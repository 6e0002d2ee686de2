//! The caller's way to cancel a write that is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::ErrorKind;

/// Shared between a write and whoever may cancel it.
#[derive(Default)]
pub struct Control {
    cancelled: AtomicBool,
    /// Wakes a write that is waiting.
    wake: Mutex<Option<Wake>>,
}

type Wake = Box<dyn Fn() + Send>;

impl Control {
    /// Asks the write to stop. It takes effect at the next check, of which the last is
    /// immediately before the rename; a write that is past it stands.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(wake) = self.wake.lock().unwrap_or_else(PoisonError::into_inner).take() {
            wake();
        }
    }

    /// Says how to wake the write should it be cancelled while it waits.
    pub(super) fn on_cancel(&self, wake: Wake) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
        if self.is_cancelled() {
            self.cancel();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Fails when the write has been cancelled.
    pub(crate) fn check(&self) -> Result<(), ErrorKind> {
        match self.is_cancelled() {
            true => Err(ErrorKind::Cancelled),
            false => Ok(()),
        }
    }
}
