//! The queue on which outcomes travel back to one JavaScript environment.

use std::any::Any;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mutex::guard;

/// Wakes the JavaScript thread. It is only called while the environment is alive.
pub type Waker = Box<dyn Fn() + Send>;

/// Collects messages for one environment and wakes it once for all that have come since
/// it last looked. It also knows which of the environment's jobs are running, so that
/// the environment can end without taking their memory away.
pub struct Completions<T> {
    state: Mutex<State<T>>,
    stopped: Condvar,
    waker: Mutex<Option<Waker>>,
}

struct State<T> {
    messages: Vec<T>,
    running: usize,
    /// Those of the running jobs that use memory of the environment.
    borrowing: usize,
    closed: bool,
    /// What goes when the last job has stopped.
    left_to_jobs: Vec<Box<dyn Any + Send>>,
}

/// Says that a job is running, for as long as it lives.
pub struct Started<T> {
    completions: Arc<Completions<T>>,
    borrows: bool,
}

/// Whom to wait for when an environment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The jobs that use the environment's memory, for as long as it takes.
    Borrowers,
    /// All its jobs, but not longer than this.
    Everyone(Duration),
}

impl<T> Default for Completions<T> {
    fn default() -> Completions<T> {
        Completions {
            state: Mutex::new(State {
                messages: Vec::new(),
                running: 0,
                borrowing: 0,
                closed: false,
                left_to_jobs: Vec::new(),
            }),
            stopped: Condvar::new(),
            waker: Mutex::new(None),
        }
    }
}

impl<T> Completions<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        guard(&self.state)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        guard(&self.waker)
    }

    /// Says how to wake the environment.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker() = Some(waker);
    }

    /// Sends a message. Once the environment has ended it goes nowhere.
    pub fn push(&self, message: T) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.messages.push(message);
        let is_first = state.messages.len() == 1;
        drop(state);
        // Whoever finds the queue empty wakes; the environment takes everything at once,
        // so those that come in between need not wake it again. The waker has a lock of its
        // own, so that it cannot be called after `close`, and so that whoever wakes does not
        // run into the lock of the messages.
        if is_first && let Some(wake) = &*self.waker() {
            wake();
        }
    }

    /// Takes all messages, in the order in which they were sent.
    pub fn take(&self) -> Vec<T> {
        mem::take(&mut self.lock().messages)
    }

    /// Declares that a job starts. `None` when the environment has ended: then the job
    /// must not touch its memory, and nobody waits for its outcome.
    pub fn start(self: &Arc<Self>, borrows: bool) -> Option<Started<T>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.running += 1;
        state.borrowing += usize::from(borrows);
        drop(state);
        Some(Started { completions: Arc::clone(self), borrows })
    }

    /// Ends the environment's part: jobs that have not started never will, messages are
    /// dropped, the waker is not called again, and on return the jobs that had to be
    /// waited for have stopped.
    pub fn close(&self, wait_for: WaitFor) {
        let mut state = self.lock();
        state.closed = true;
        state.messages = Vec::new();
        drop(state);
        *self.waker() = None;
        state = self.lock();
        match wait_for {
            WaitFor::Borrowers => {
                while state.borrowing > 0 {
                    state = self.stopped.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            WaitFor::Everyone(limit) => {
                let deadline = Instant::now() + limit;
                while state.running > 0 {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    (state, _) = self
                        .stopped
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl<T> Completions<T> {
    /// Drops something, such as a lock, as soon as none of the jobs that are running needs it: now,
    /// if none is. To be called when the environment has ended, and no other job can start.
    pub fn drop_after_jobs(&self, what: impl Send + 'static) {
        let mut state = self.lock();
        if state.running > 0 {
            state.left_to_jobs.push(Box::new(what));
        } else {
            // Not under the lock: a lock that is given back leads to its next holder.
            drop(state);
            drop(what);
        }
    }
}

impl<T> Drop for Started<T> {
    fn drop(&mut self) {
        let mut state = self.completions.lock();
        state.running -= 1;
        state.borrowing -= usize::from(self.borrows);
        if state.closed {
            self.completions.stopped.notify_all();
        }
        let left = match state.running {
            0 => mem::take(&mut state.left_to_jobs),
            _ => Vec::new(),
        };
        drop(state);
        drop(left);
    }
}
