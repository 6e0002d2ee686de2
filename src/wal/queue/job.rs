//! The job of a collection: it commits group after group, until nothing is queued.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::prepare::prepare;
use super::shared::AppendQueueShared;
use super::state::{AppendQueueState, Appended, QueuedBatch};
use crate::error::ErrorKind;
use crate::fs::FileSystem;
use crate::metrics::METRICS;
use crate::threads::task;
use crate::wal::append_error;
use crate::wal::options::SyncMode;

/// How long a job spins for a batch that was announced: longer than most batches take to pack,
/// and short enough to do no harm if none comes.
const LONGEST_SPIN: Duration = Duration::from_micros(60);

/// How many bytes the memtable may be behind. A read has to wait for them.
const MOST_PENDING_BYTES: usize = 2 << 20;

/// If it is dropped unrun, the callers whose batches are queued are told.
pub(super) struct CollectionJob<F: FileSystem> {
    shared: Arc<AppendQueueShared<F>>,
    collection: String,
    /// Nothing was queued any more. The collection may have another job by now.
    is_over: bool,
}

impl<F: FileSystem> CollectionJob<F> {
    /// Starts a job for a collection that has none.
    pub(super) fn start(
        shared: &Arc<AppendQueueShared<F>>,
        mut state: MutexGuard<'_, AppendQueueState>,
        collection: &str,
        work: impl FnOnce(CollectionJob<F>) + Send + 'static,
    ) {
        if !state.starts_job(collection) {
            return;
        }
        drop(state);
        let (own, collection) = (Arc::clone(shared), collection.to_owned());
        let job = CollectionJob { shared: own, collection, is_over: false };
        // A job that cannot be run is dropped, and says so.
        let _ = shared.pool.submit(Box::new(move || work(job)));
    }

    pub(super) fn run(mut self) {
        let is_single = self.shared.log.options().sync == SyncMode::Always;
        loop {
            let mut state = self.shared.lock();
            let group = state.next_group(&self.collection, is_single);
            if group.is_empty() {
                self.is_over = true;
                if state.end_job_of(&self.collection) {
                    self.shared.end_job(state);
                }
                return;
            }
            drop(state);
            self.commit(group);
        }
    }

    /// Spins until another batch has come than were seen, at most [`LONGEST_SPIN`].
    pub(super) fn await_arrival(&self, seen: usize) {
        let started = Instant::now();
        while self.shared.arrivals.load(Ordering::Acquire) == seen
            && started.elapsed() < LONGEST_SPIN
        {
            std::hint::spin_loop();
        }
    }

    /// Appends a group and tells each of its callers.
    fn commit(&self, group: Vec<QueuedBatch>) {
        let CollectionJob { shared, collection, .. } = self;
        let batches: Vec<_> = group.iter().map(|queued| &queued.batch).collect();
        let durable = group.iter().any(|queued| queued.durable);
        let append = || match shared.log.append_pending(collection, &batches, durable) {
            // The room may just be going to the next segment, which then has it for this group; or
            // comes back.
            Err(kind) if is_full(&kind) && shared.log.await_preparation(collection) => {
                shared.log.append_pending(collection, &batches, durable)
            }
            outcome => outcome,
        };
        let outcome = catch_unwind(AssertUnwindSafe(append)).unwrap_or_else(|panic| {
            let kind = task::panic_error(&*panic);
            shared.log.poison(&kind);
            Err(kind)
        });
        let memtable_bytes = shared.log.memtable_bytes(collection);
        self.make_room(batches.iter().map(|batch| batch.bytes()).sum());
        match outcome {
            Ok(firsts) => {
                if let SyncMode::Periodic(interval) = shared.log.options().sync {
                    sync_later(shared, interval);
                }
                METRICS.wal.groups.add(1);
                for (QueuedBatch { batch, on_appended, queued, .. }, first) in
                    group.into_iter().zip(firsts)
                {
                    METRICS.wal.appended(batch.len(), batch.bytes(), queued);
                    on_appended(Ok(Appended { first, count: batch.len() as u64, memtable_bytes }));
                }
                self.apply_pending();
                prepare(shared, collection);
            }
            Err(kind) => {
                for QueuedBatch { on_appended, .. } in group {
                    METRICS.wal.failed(&kind);
                    on_appended(Err(kind.duplicate()));
                }
            }
        }
    }

    /// Makes room before the callers are told, so that a batch that has waited for it comes
    /// before their next ones.
    fn make_room(&self, bytes: usize) {
        let joined = self.shared.lock().make_room(bytes, self.shared.limit());
        for collection in joined {
            CollectionJob::start(&self.shared, self.shared.lock(), &collection, CollectionJob::run);
        }
    }

    /// Applies to the memtable what was appended, while the callers make up their next batches;
    /// on another thread, if there are batches already for this one to write.
    fn apply_pending(&self) {
        let CollectionJob { shared, collection, .. } = self;
        let has_batches = shared.lock().has_batches(collection);
        if !has_batches || shared.log.pending_bytes(collection) > MOST_PENDING_BYTES {
            shared.log.apply_pending(collection);
            return;
        }
        let (own, collection) = (Arc::clone(shared), collection.clone());
        // If it cannot be run, the next group does it, or the next read.
        let _ = shared.pool.submit(Box::new(move || own.log.apply_pending(&collection)));
    }
}

impl<F: FileSystem> Drop for CollectionJob<F> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.shared.lock();
        let refused = state.refuse(&self.collection);
        if state.end_job_of(&self.collection) {
            self.shared.end_job(state);
        } else {
            drop(state);
        }
        for QueuedBatch { on_appended, .. } in refused {
            on_appended(Err(task::no_thread()));
        }
    }
}

fn is_full(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::System(failure) if append_error::is_full(failure))
}

/// Makes sure that there is a sync at the latest after `interval`.
fn sync_later<F: FileSystem>(shared: &Arc<AppendQueueShared<F>>, interval: Duration) {
    if std::mem::replace(&mut shared.lock().is_sync_due, true) {
        return;
    }
    let weak = Arc::downgrade(shared);
    if shared.pool.submit_after(interval, Box::new(move || sync_now(&weak))).is_err() {
        shared.lock().is_sync_due = false;
    }
}

fn sync_now<F: FileSystem>(shared: &Weak<AppendQueueShared<F>>) {
    let Some(shared) = shared.upgrade() else { return };
    // Before the sync: what is appended from now on needs another one.
    shared.lock().is_sync_due = false;
    // A failure has poisoned the log, and the next append tells.
    let _ = shared.log.sync(None);
}
