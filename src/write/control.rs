//! The caller's way to cancel a write that is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::error::ErrorKind;
use crate::mutex::guard;
use crate::threads::task::{self, Resume, TakeAgain, nothing_to_take};

/// What a write has until its new content is in place: a lock.
pub trait Kept: Send {
    /// Gives it back to other processes, for the pause between two attempts.
    fn give_back(&self) {}

    /// What takes it again after that.
    fn take_again(&self) -> TakeAgain {
        nothing_to_take()
    }
}

/// Shared between a write and the caller that may cancel it.
#[derive(Default)]
pub struct Control {
    cancelled: AtomicBool,
    /// Wakes a write that is waiting.
    wake: Mutex<Option<Resume>>,
    /// What is dropped when the new content is in place, and whether it is given back meanwhile.
    kept: Mutex<Option<(Box<dyn Kept>, bool)>>,
}

impl Control {
    /// Asks the write to stop. It takes effect at the next check, of which the last is
    /// immediately before the rename; a write that is past it stands.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let wake = guard(&self.wake).take();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Gives the write something, such as a lock, that is dropped as soon as its new content is
    /// in place for good, or when it has failed. In the pauses between attempts other processes may
    /// have it.
    ///
    /// It is dropped before the last sync: the next holder of the lock finds the new content, and
    /// the sync that makes a later content durable makes this one durable too, or replaces it. So
    /// processes that write one file one after another can share their syncs. But a write that is
    /// synced together with others may have to be made again, and keeps what it was given until
    /// that is over.
    pub fn keep(&self, what: Box<dyn Kept>) {
        *guard(&self.kept) = Some((what, false));
    }

    /// Gives what was kept back to other processes, for the pause before the next attempt.
    pub(crate) fn give_back(&self) {
        if let Some((kept, is_given_back)) = guard(&self.kept).as_mut() {
            *is_given_back = true;
            kept.give_back();
        }
    }

    /// What takes again what was given back, if anything was. The wait ends when what is kept is
    /// dropped.
    pub(crate) fn take_again(&self) -> Option<TakeAgain> {
        let mut kept = guard(&self.kept);
        let (kept, is_given_back) = kept.as_mut()?;
        std::mem::take(is_given_back).then(|| kept.take_again())
    }

    /// The same, on a thread that may wait for it.
    pub(crate) fn take_again_here(&self) -> Result<(), ErrorKind> {
        let Some(take) = self.take_again() else { return Ok(()) };
        let (tell, outcome) = mpsc::channel();
        let _ = take(Box::new(move |taken| drop(tell.send(taken))));
        outcome.recv().unwrap_or_else(|_| Err(task::no_thread()))
    }

    /// Drops what was kept.
    pub(crate) fn release_kept(&self) {
        let kept = guard(&self.kept).take();
        // Not under the mutex: releasing a lock may run its next holder.
        drop(kept);
    }

    /// Sets what wakes the write if it is cancelled while it waits.
    pub(crate) fn on_cancel(&self, wake: Resume) {
        *guard(&self.wake) = Some(wake);
        if self.is_cancelled() {
            self.cancel();
        }
    }

    /// A function that takes what wakes the write in each pause between attempts.
    pub(crate) fn listener(self: &Arc<Control>) -> impl Fn(Resume) + Clone + Send + 'static {
        let control = Arc::clone(self);
        move |wake| control.on_cancel(wake)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
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
