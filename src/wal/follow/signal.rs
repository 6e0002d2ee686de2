//! Tells a caller that waits that there may be more.

use std::sync::Mutex;

use crate::mutex::guard;
use crate::threads::Job;

/// Counts what has happened, so that nothing that happens before a caller waits is missed.
#[derive(Default)]
pub struct Signal {
    state: Mutex<SignalState>,
}

#[derive(Default)]
struct SignalState {
    count: u64,
    is_ended: bool,
    waiting: Option<Job>,
}

impl Signal {
    /// Something has happened.
    pub fn notify(&self) {
        self.change(|state| state.count += 1);
    }

    /// There will be nothing more to wait for.
    pub fn end(&self) {
        self.change(|state| state.is_ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut SignalState)) {
        let mut state = guard(&self.state);
        change(&mut state);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(job) = waiting {
            job();
        }
    }

    /// How often something has happened.
    pub fn count(&self) -> u64 {
        guard(&self.state).count
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        guard(&self.state).is_ended
    }

    /// Runs a short job when something has happened since the count was `seen`: now, or later on the
    /// thread that tells of it. One caller waits at a time.
    pub fn when_more_than(&self, seen: u64, job: Job) {
        let mut state = guard(&self.state);
        if state.count == seen && !state.is_ended {
            state.waiting = Some(job);
            return;
        }
        drop(state);
        job();
    }
}
