//! The queue on which outcomes travel back to one JavaScript environment.

use std::any::Any;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mutex::guard;

/// Wakes the JavaScript thread. It is only called while the environment is alive.
pub type Waker = Box<dyn Fn() + Send>;

/// Collects messages for one environment and wakes it once for all that have come since it last
/// took some. It also knows which of the environment's jobs are running, so that the environment
/// can end without freeing memory that they use.
pub struct Completions<T> {
    state: Mutex<CompletionState<T>>,
    stopped: Condvar,
    waker: Mutex<Option<Waker>>,
}

struct CompletionState<T> {
    messages: Vec<T>,
    running: usize,
    /// The running jobs that use memory of the environment.
    borrowing: usize,
    closed: bool,
    /// What is dropped when the last job has stopped.
    dropped_after_jobs: Vec<Box<dyn Any + Send>>,
}

/// Marks a job as running for as long as it lives.
pub struct RunningJob<T> {
    completions: Arc<Completions<T>>,
    borrows: bool,
}

/// The jobs that are waited for when an environment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The jobs that use the environment's memory, for as long as they take.
    BorrowingJobs,
    /// All its jobs, but not longer than this.
    AllJobs(Duration),
}

impl<T> Default for Completions<T> {
    fn default() -> Completions<T> {
        Completions {
            state: Mutex::new(CompletionState {
                messages: Vec::new(),
                running: 0,
                borrowing: 0,
                closed: false,
                dropped_after_jobs: Vec::new(),
            }),
            stopped: Condvar::new(),
            waker: Mutex::new(None),
        }
    }
}

impl<T> Completions<T> {
    fn lock(&self) -> MutexGuard<'_, CompletionState<T>> {
        guard(&self.state)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        guard(&self.waker)
    }

    /// Sets how to wake the environment.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker() = Some(waker);
    }

    /// Sends a message. Once the environment has ended the message is dropped.
    pub fn push(&self, message: T) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.messages.push(message);
        let is_first = state.messages.len() == 1;
        drop(state);
        // Only the sender that finds the queue empty wakes the environment, which takes all
        // messages at once. The waker has a lock of its own, so that it cannot be called after
        // `close`, and so that the woken thread does not run into the lock of the messages.
        if is_first && let Some(wake) = &*self.waker() {
            wake();
        }
    }

    /// Takes all messages, in the order in which they were sent.
    pub fn take(&self) -> Vec<T> {
        mem::take(&mut self.lock().messages)
    }

    /// Marks a job as running. `None` when the environment has ended: then the job must not touch
    /// its memory, and no caller waits for its outcome.
    pub fn start(self: &Arc<Self>, borrows: bool) -> Option<RunningJob<T>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.running += 1;
        state.borrowing += usize::from(borrows);
        drop(state);
        Some(RunningJob { completions: Arc::clone(self), borrows })
    }

    /// Ends the environment's part: no further job starts, messages are dropped, the waker is not
    /// called again, and on return the jobs of `wait_for` have stopped.
    pub fn close(&self, wait_for: WaitFor) {
        let mut state = self.lock();
        state.closed = true;
        state.messages = Vec::new();
        drop(state);
        *self.waker() = None;
        state = self.lock();
        match wait_for {
            WaitFor::BorrowingJobs => {
                while state.borrowing > 0 {
                    state = self.stopped.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            WaitFor::AllJobs(limit) => {
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

    /// Drops something, such as a lock, as soon as no running job needs it: now, if none runs. To
    /// be called when the environment has ended, and no other job can start.
    pub fn drop_after_jobs(&self, item: impl Send + 'static) {
        let mut state = self.lock();
        if state.running > 0 {
            state.dropped_after_jobs.push(Box::new(item));
        } else {
            // Not under the mutex: a lock that is released passes to its next holder.
            drop(state);
            drop(item);
        }
    }
}

impl<T> Drop for RunningJob<T> {
    fn drop(&mut self) {
        let mut state = self.completions.lock();
        state.running -= 1;
        state.borrowing -= usize::from(self.borrows);
        if state.closed {
            self.completions.stopped.notify_all();
        }
        let dropped = match state.running {
            0 => mem::take(&mut state.dropped_after_jobs),
            _ => Vec::new(),
        };
        drop(state);
        drop(dropped);
    }
}
