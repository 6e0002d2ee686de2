//! The queue in front of a log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::job::CollectionJob;
use super::shared::AppendQueueShared;
use super::state::{Appended, OnAppended, QueuedBatch};
use crate::error::{ErrorKind, WalError};
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::threads::{Pool, task};
use crate::wal::batch::Batch;
use crate::wal::log::Log;

/// Takes batches for one log. Clones are the same queue.
pub struct AppendQueue<F: FileSystem> {
    shared: Arc<AppendQueueShared<F>>,
}

impl<F: FileSystem> Clone for AppendQueue<F> {
    fn clone(&self) -> AppendQueue<F> {
        AppendQueue { shared: Arc::clone(&self.shared) }
    }
}

impl<F: FileSystem> AppendQueue<F> {
    /// A queue in front of a log. `guard` is dropped when nothing more is written: when the log
    /// has been closed, or the queue is gone and its jobs are done.
    pub fn new(log: Log<F>, pool: Pool, guard: Box<dyn Send>) -> AppendQueue<F> {
        AppendQueue {
            shared: Arc::new(AppendQueueShared {
                log,
                pool,
                arrivals: AtomicUsize::new(0),
                is_looking: AtomicBool::new(false),
                state: Mutex::default(),
                guard: Mutex::new(Some(guard)),
            }),
        }
    }

    /// The log. Appends go through the queue.
    pub fn log(&self) -> &Log<F> {
        &self.shared.log
    }

    /// How many bytes are queued or being written.
    pub fn bytes(&self) -> usize {
        self.shared.lock().bytes()
    }

    /// How many batches wait for room.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting()
    }

    /// Appends a batch, in the order of the calls. `on_appended` is called once, when the promise
    /// of the log's sync mode is kept, or that of a durable append if `durable` is set, or the
    /// append has failed.
    pub fn submit(&self, collection: &str, batch: Batch, durable: bool, on_appended: OnAppended) {
        if let Err(error) = self.shared.log.check(collection, &batch) {
            return on_appended(Err(error.into()));
        }
        if batch.is_empty() {
            return on_appended(Ok(Appended { first: 0, count: 0, memtable_bytes: 0 }));
        }
        let mut state = self.shared.lock();
        if state.is_closing {
            drop(state);
            return on_appended(Err(WalError::Closed.into()));
        }
        let queued =
            QueuedBatch { batch: Arc::new(batch), durable, on_appended, queued: Instant::now() };
        if state.add(collection, queued, self.shared.limit()) {
            self.shared.arrivals.fetch_add(1, Ordering::Release);
            CollectionJob::start(&self.shared, state, collection, CollectionJob::run);
        }
    }

    /// Announces a batch: a thread wakes up for it, and spins for a moment. To wake a thread that
    /// sleeps takes as long as to pack a batch, and so both are done at once. It does no harm if
    /// none comes. Nothing is done for a collection that has had no batch yet, nor where there is
    /// only one processor for both.
    pub fn expect_batch(&self, collection: &str) {
        if !has_spare_processor() {
            return;
        }
        let state = self.shared.lock();
        if state.is_closing || !state.is_known(collection) {
            return;
        }
        // Under the lock, or a batch that comes before the job is there would not be seen.
        let seen = self.shared.arrivals.load(Ordering::Acquire);
        CollectionJob::start(&self.shared, state, collection, move |job| {
            job.await_arrival(seen);
            job.run();
        });
    }

    /// Has the positions of the consumers looked at, for the next figures of the log.
    pub fn look_at_consumers(&self) {
        if self.shared.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let look = move || {
            shared.is_looking.store(false, Ordering::Release);
            // A position that cannot be read is told to the checkpoint that it holds up.
            let _ = shared.log.look_at_consumers();
        };
        if self.shared.pool.submit(Box::new(look)).is_err() {
            self.shared.is_looking.store(false, Ordering::Release);
        }
    }

    /// Makes everything durable that was appended to a collection, or to all.
    pub fn sync(
        &self,
        collection: Option<String>,
        on_synced: impl FnOnce(Result<(), ErrorKind>) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        let work = move || shared.log.sync(collection.as_deref());
        task::run(&self.shared.pool, work, on_synced);
    }

    /// Takes no more batches, waits for those that it has, closes the log and drops its guard.
    pub fn close(&self, on_closed: impl FnOnce(Result<(), ErrorKind>) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        let close = move || {
            let pool = shared.pool.clone();
            let work = move || {
                let outcome = shared.log.close();
                drop(guard(&shared.guard).take());
                outcome
            };
            task::run(&pool, work, on_closed);
        };
        let mut state = self.shared.lock();
        state.is_closing = true;
        self.shared.log.finish_preparations();
        if state.jobs > 0 {
            state.on_idle.push(Box::new(close));
            return;
        }
        drop(state);
        close();
    }
}

/// Whether a thread may spin without keeping the processor from the thread it waits for.
fn has_spare_processor() -> bool {
    static HAS_SPARE: OnceLock<bool> = OnceLock::new();
    *HAS_SPARE
        .get_or_init(|| std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1))
}
