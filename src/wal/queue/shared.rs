//! What the queues of a log and their jobs share.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard};

use super::state::AppendQueueState;
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::threads::Pool;
use crate::wal::log::Log;

pub(super) struct AppendQueueShared<F: FileSystem> {
    pub(super) log: Log<F>,
    pub(super) pool: Pool,
    /// How many batches have come. A job that spins looks only at this.
    pub(super) arrivals: AtomicUsize,
    /// The positions of the consumers will be looked at.
    pub(super) is_looking: AtomicBool,
    pub(super) state: Mutex<AppendQueueState>,
    /// What is kept for as long as the log may be written to: its lock. The last field, so that
    /// it is dropped last.
    pub(super) guard: Mutex<Option<Box<dyn Send>>>,
}

impl<F: FileSystem> AppendQueueShared<F> {
    pub(super) fn lock(&self) -> MutexGuard<'_, AppendQueueState> {
        guard(&self.state)
    }

    /// How many bytes may be queued and written at a time.
    pub(super) fn limit(&self) -> usize {
        self.log.options().queue_bytes
    }

    /// Ends a job.
    pub(super) fn end_job(&self, mut state: MutexGuard<'_, AppendQueueState>) {
        state.jobs -= 1;
        if state.jobs == 0 {
            let on_idle = std::mem::take(&mut state.on_idle);
            drop(state);
            on_idle.into_iter().for_each(|call| call());
        }
    }
}
