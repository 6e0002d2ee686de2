//! Makes the next segment of a collection on a thread of its own, before it is needed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::shared::AppendQueueShared;
use crate::fs::FileSystem;
use crate::threads::task;
use crate::wal::log::SegmentPreparation;

/// Has the next segment made beforehand, when it is time for that.
pub(super) fn prepare<F: FileSystem>(shared: &Arc<AppendQueueShared<F>>, collection: &str) {
    if shared.lock().is_closing {
        return;
    }
    // With its pauses each has a thread for a long time. The others come later, or are made
    // when they are needed.
    let Some(permit) = PreparationPermit::take() else { return };
    let Some(preparation) = shared.log.next_segment(collection) else { return };
    // Closing the log waits for it, as for any job.
    let mut state = shared.lock();
    state.jobs += 1;
    let is_closing = state.is_closing;
    drop(state);
    if is_closing {
        // What `close` has told the others came too early for this one.
        shared.log.finish_preparations();
    }
    let job = PreparationJob {
        shared: Arc::clone(shared),
        collection: collection.to_owned(),
        preparation: Some(preparation),
        _permit: permit,
    };
    // If there is no thread for it, it is made on this one.
    let _ = shared.pool.submit(Box::new(move || drop(job)));
}

/// The next segment, which is made when this is dropped: so it is made wherever the job ends up.
struct PreparationJob<F: FileSystem> {
    shared: Arc<AppendQueueShared<F>>,
    collection: String,
    preparation: Option<SegmentPreparation<F>>,
    _permit: PreparationPermit,
}

impl<F: FileSystem> Drop for PreparationJob<F> {
    fn drop(&mut self) {
        if let Some(preparation) = self.preparation.take() {
            // A panic must not keep the log from being closed.
            let _ = catch_unwind(AssertUnwindSafe(|| preparation.run()));
            let is_closing = self.shared.lock().is_closing;
            // An error that matters poisons the log; others show at the next append or checkpoint.
            let rotate = || self.shared.log.rotate_if_overdue(&self.collection);
            if !is_closing && let Err(panic) = catch_unwind(AssertUnwindSafe(rotate)) {
                self.shared.log.poison(&task::panic_error(&*panic));
            }
        }
        self.shared.end_job(self.shared.lock());
    }
}

/// How many segments are made beforehand at a time, by all logs of the process.
const MOST_PREPARATIONS: usize = 2;

static PREPARATIONS: AtomicUsize = AtomicUsize::new(0);

/// The permission to make one of them.
struct PreparationPermit;

impl PreparationPermit {
    fn take() -> Option<PreparationPermit> {
        let more = |count: usize| (count < MOST_PREPARATIONS).then_some(count + 1);
        let taken = PREPARATIONS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| PreparationPermit)
    }
}

impl Drop for PreparationPermit {
    fn drop(&mut self) {
        PREPARATIONS.fetch_sub(1, Ordering::Relaxed);
    }
}
