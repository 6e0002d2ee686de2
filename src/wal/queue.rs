//! Batches from many callers, committed together.
//!
//! Each collection has a lane. The first batch in an idle lane starts a job; while it writes and
//! syncs, others gather behind, and are its next group. So batches share a sync exactly as far
//! as the disk is slower than the callers, and nobody waits for company.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::log::{Log, NextSegment};
use super::{SyncMode, format};
use crate::error::ErrorKind;
use crate::error::WalError;
use crate::fs::FileSystem;
use crate::metrics::METRICS;
use crate::threads::{Pool, task};

/// How many bytes one group has, unless a single batch has more.
const LARGEST_GROUP: usize = 8 << 20;

/// How long a lane's job waits for a batch that was said to come: longer than most batches take
/// to pack, and no longer than is lost without harm if it does not come.
const STAND_BY: Duration = Duration::from_micros(60);

/// How many bytes the memtable may be behind. Who reads has to wait for them.
const LARGEST_BACKLOG: usize = 2 << 20;

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The sequence number of the first entry. The others follow it.
    pub first: u64,
    /// How many there are.
    pub count: u64,
    /// How much memory the collection's memtable takes now, about.
    pub memtable_bytes: usize,
}

/// Takes what came of an append.
pub type Reply = Box<dyn FnOnce(Result<Appended, ErrorKind>) + Send>;

/// The queue has no room: the batch and its reply come back, for another attempt when an append
/// has ended.
pub struct Full {
    /// The batch.
    pub batch: Batch,
    /// Its reply.
    pub reply: Reply,
}

impl std::fmt::Debug for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Full")
    }
}

/// Takes batches for one log. Clones are the same queue.
pub struct Queue<F: FileSystem + Clone> {
    shared: Arc<Shared<F>>,
}

impl<F: FileSystem + Clone> Clone for Queue<F> {
    fn clone(&self) -> Queue<F> {
        Queue { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<F: FileSystem + Clone> {
    log: Log<F>,
    pool: Pool,
    /// How many bytes may wait and be written at a time.
    limit: usize,
    /// How many batches have come. Whoever stands by looks only at this.
    arrivals: AtomicUsize,
    state: Mutex<State>,
    /// What is kept for as long as the log may be written to: its lock. The last field, so that
    /// it goes last.
    guard: Mutex<Option<Box<dyn Send>>>,
}

#[derive(Default)]
struct State {
    lanes: HashMap<String, Lane>,
    /// The bytes that wait or are being written.
    bytes: usize,
    /// Lanes with a job.
    running: usize,
    /// A job will sync in the background.
    sync_is_due: bool,
    is_closing: bool,
    /// Who waits for the lanes to run dry.
    closing: Vec<Box<dyn FnOnce() + Send>>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    is_running: bool,
}

struct Waiting {
    batch: Arc<Batch>,
    durable: bool,
    reply: Reply,
    begun: Instant,
}

impl<F: FileSystem + Clone> Queue<F> {
    /// A queue before a log, in which at most `limit` bytes wait, or a single batch. `guard` is
    /// dropped when nothing more is written: when the log has been closed, or the queue is
    /// gone and what it had begun is done.
    pub fn new(log: Log<F>, pool: Pool, limit: usize, guard: Box<dyn Send>) -> Queue<F> {
        let (state, guard) = (Mutex::default(), Mutex::new(Some(guard)));
        let arrivals = AtomicUsize::new(0);
        Queue { shared: Arc::new(Shared { log, pool, limit, arrivals, state, guard }) }
    }

    /// The log. Appends go through the queue.
    pub fn log(&self) -> &Log<F> {
        &self.shared.log
    }

    /// How many bytes wait or are being written.
    pub fn bytes(&self) -> usize {
        self.shared.lock().bytes
    }

    /// Appends a batch in its turn. `reply` is called once, when the promise of the log's sync
    /// mode is kept, or that of a durable append if `durable` is set, or the append has failed.
    ///
    /// # Errors
    ///
    /// The queue has no room.
    pub fn submit(
        &self,
        collection: &str,
        batch: Batch,
        durable: bool,
        reply: Reply,
    ) -> Result<(), Full> {
        if let Err(error) = self.shared.log.check(collection, &batch) {
            reply(Err(error.into()));
            return Ok(());
        }
        if batch.is_empty() {
            reply(Ok(Appended { first: 0, count: 0, memtable_bytes: 0 }));
            return Ok(());
        }
        let mut state = self.shared.lock();
        if state.is_closing {
            drop(state);
            reply(Err(WalError::Closed.into()));
            return Ok(());
        }
        if state.bytes > 0 && state.bytes + batch.bytes() > self.shared.limit {
            return Err(Full { batch, reply });
        }
        state.bytes += batch.bytes();
        if !state.lanes.contains_key(collection) {
            state.lanes.insert(collection.to_owned(), Lane::default());
        }
        let Some(lane) = state.lanes.get_mut(collection) else { return Ok(()) };
        let batch = Arc::new(batch);
        lane.waiting.push_back(Waiting { batch, durable, reply, begun: Instant::now() });
        self.shared.arrivals.fetch_add(1, Ordering::Release);
        self.begin_lane(state, collection, Run::run);
        Ok(())
    }

    /// A batch is about to come: has a thread wake up for it, and stand by for a moment. To wake
    /// a thread that sleeps takes as long as to pack a batch, and so both are done at once. It
    /// does no harm if none comes. Nothing is done for a collection that has had no batch yet,
    /// nor where there is only one processor for both.
    pub fn stand_by(&self, collection: &str) {
        if !has_processor_to_spare() {
            return;
        }
        let state = self.shared.lock();
        if state.is_closing || !state.lanes.contains_key(collection) {
            return;
        }
        // Under the lock, or one that comes before the job is there would not be seen.
        let seen = self.shared.arrivals.load(Ordering::Acquire);
        self.begin_lane(state, collection, move |run| {
            run.shared.await_arrival(seen);
            run.run();
        });
    }

    /// Gives an idle lane its job.
    fn begin_lane(
        &self,
        mut state: MutexGuard<'_, State>,
        collection: &str,
        work: impl FnOnce(Run<F>) + Send + 'static,
    ) {
        let Some(lane) = state.lanes.get_mut(collection) else { return };
        if std::mem::replace(&mut lane.is_running, true) {
            return;
        }
        state.running += 1;
        drop(state);
        let (shared, collection) = (Arc::clone(&self.shared), collection.to_owned());
        let run = Run { shared, collection, is_over: false };
        // A job that cannot be run is dropped, and says so.
        let _ = self.shared.pool.submit(Box::new(move || work(run)));
    }

    /// Makes everything durable that was appended to a collection, or to all.
    pub fn sync(
        &self,
        collection: Option<String>,
        reply: impl FnOnce(Result<(), ErrorKind>) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        let work = move || shared.log.sync(collection.as_deref());
        task::run(&self.shared.pool, work, reply);
    }

    /// Takes no more batches, waits for those that it has, closes the log and drops its guard.
    pub fn close(&self, reply: impl FnOnce(Result<(), ErrorKind>) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        let close = move || {
            let pool = shared.pool.clone();
            let work = move || {
                let outcome = shared.log.close();
                drop(shared.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
                outcome
            };
            task::run(&pool, work, reply);
        };
        let mut state = self.shared.lock();
        state.is_closing = true;
        self.shared.log.hurry();
        if state.running > 0 {
            state.closing.push(Box::new(close));
            return;
        }
        drop(state);
        close();
    }
}

impl<F: FileSystem + Clone> Shared<F> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic and leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, awake, until another batch has come than were seen, at most [`STAND_BY`].
    fn await_arrival(&self, seen: usize) {
        let begun = Instant::now();
        while self.arrivals.load(Ordering::Acquire) == seen && begun.elapsed() < STAND_BY {
            std::hint::spin_loop();
        }
    }

    /// The next group of a lane: what waits, up to a size; one batch where each has a sync of
    /// its own. Empty when the lane has run dry, and then it is idle.
    fn group(&self, collection: &str) -> Vec<Waiting> {
        let mut state = self.lock();
        let mut group = Vec::new();
        let Some(lane) = state.lanes.get_mut(collection) else { return group };
        let mut bytes = 0;
        while let Some(first) = lane.waiting.front() {
            bytes += format::most_bytes(&first.batch);
            if !group.is_empty()
                && (bytes > LARGEST_GROUP || self.log.options().sync == SyncMode::Always)
            {
                break;
            }
            group.extend(lane.waiting.pop_front());
        }
        if group.is_empty() {
            // The name is kept: a collection that was used will be used again.
            self.end_of_lane(state, collection);
        }
        group
    }

    fn end_of_lane(&self, mut state: MutexGuard<'_, State>, collection: &str) {
        if let Some(lane) = state.lanes.get_mut(collection)
            && std::mem::replace(&mut lane.is_running, false)
        {
            self.end_of_running(state);
        }
    }

    /// Appends a group and tells each of its callers.
    fn commit(self: &Arc<Self>, collection: &str, group: Vec<Waiting>) {
        let batches: Vec<_> = group.iter().map(|waiting| &waiting.batch).collect();
        let durable = group.iter().any(|waiting| waiting.durable);
        let append = || self.log.append_shared(collection, &batches, durable);
        let outcome = catch_unwind(AssertUnwindSafe(append)).unwrap_or_else(|panic| {
            let kind = task::panic_error(&*panic);
            self.log.give_up(&kind);
            Err(kind)
        });
        let memtable_bytes = self.log.memtable_bytes(collection);
        // Whoever is told may append at once, and finds room.
        self.lock().bytes -= group.iter().map(|waiting| waiting.batch.bytes()).sum::<usize>();
        match outcome {
            Ok(firsts) => {
                if let SyncMode::Periodic(interval) = self.log.options().sync {
                    self.sync_later(interval);
                }
                METRICS.wal.groups.add(1);
                for (Waiting { batch, reply, begun, .. }, first) in group.into_iter().zip(firsts) {
                    METRICS.wal.appended(batch.len(), batch.bytes(), begun);
                    reply(Ok(Appended { first, count: batch.len() as u64, memtable_bytes }));
                }
                self.settle(collection);
                self.prepare(collection);
            }
            Err(kind) => {
                for Waiting { reply, .. } in group {
                    METRICS.wal.failed(&kind);
                    reply(Err(kind.duplicate()));
                }
            }
        }
    }

    /// Sorts into the memtable what was appended, while those who were told make up their next
    /// batches; on another thread, if there are some already for this one to write.
    fn settle(self: &Arc<Self>, collection: &str) {
        let lane_waits =
            self.lock().lanes.get(collection).is_some_and(|lane| !lane.waiting.is_empty());
        if !lane_waits || self.log.backlog(collection) > LARGEST_BACKLOG {
            self.log.settle(collection);
            return;
        }
        let (shared, collection) = (Arc::clone(self), collection.to_owned());
        // If it cannot be run, the next one does it, or who reads.
        let _ = self.pool.submit(Box::new(move || shared.log.settle(&collection)));
    }

    /// Has the next segment made beforehand, when it is time for that.
    fn prepare(self: &Arc<Self>, collection: &str) {
        if self.lock().is_closing {
            return;
        }
        // With its pauses each has a thread for a long time. The others come later, or are made
        // when they are needed.
        let Some(place) = Place::take() else { return };
        let Some(segment) = self.log.next_segment(collection) else { return };
        // Whoever closes the log waits for it, as for a lane.
        let mut state = self.lock();
        state.running += 1;
        let is_closing = state.is_closing;
        drop(state);
        if is_closing {
            // What was said to the others was too early for this one.
            self.log.hurry();
        }
        let (shared, collection) = (Arc::clone(self), collection.to_owned());
        let preparing = Preparing { shared, collection, segment: Some(segment), _place: place };
        // If there is no thread for it, it is made on this one.
        let _ = self.pool.submit(Box::new(move || drop(preparing)));
    }

    /// Ends a lane, or what counts as one.
    fn end_of_running(&self, mut state: MutexGuard<'_, State>) {
        state.running -= 1;
        if state.running == 0 {
            let closing = std::mem::take(&mut state.closing);
            drop(state);
            closing.into_iter().for_each(|close| close());
        }
    }

    /// Sees to it that there is a sync at the latest after `interval`.
    fn sync_later(self: &Arc<Self>, interval: Duration) {
        if std::mem::replace(&mut self.lock().sync_is_due, true) {
            return;
        }
        let shared = Arc::downgrade(self);
        let sync = move || Shared::sync_now(&shared);
        if self.pool.submit_after(interval, Box::new(sync)).is_err() {
            self.lock().sync_is_due = false;
        }
    }

    fn sync_now(shared: &Weak<Shared<F>>) {
        let Some(shared) = shared.upgrade() else { return };
        // Before the sync: what is appended from now on needs another one.
        shared.lock().sync_is_due = false;
        // A failure has poisoned the log, and the next append tells.
        let _ = shared.log.sync(None);
    }
}

/// Whether a thread may wait awake without keeping from its processor what it waits for.
fn has_processor_to_spare() -> bool {
    static IS_SO: OnceLock<bool> = OnceLock::new();
    *IS_SO.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1))
}

/// The job of a lane. If it is dropped unrun, those who wait are told.
struct Run<F: FileSystem + Clone> {
    shared: Arc<Shared<F>>,
    collection: String,
    /// The lane has run dry, and may have another job by now.
    is_over: bool,
}

impl<F: FileSystem + Clone> Run<F> {
    fn run(mut self) {
        loop {
            let group = self.shared.group(&self.collection);
            if group.is_empty() {
                self.is_over = true;
                return;
            }
            self.shared.commit(&self.collection, group);
        }
    }
}

impl<F: FileSystem + Clone> Drop for Run<F> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.shared.lock();
        let Some(lane) = state.lanes.get_mut(&self.collection) else { return };
        let refused = std::mem::take(&mut lane.waiting);
        state.bytes -= refused.iter().map(|waiting| waiting.batch.bytes()).sum::<usize>();
        self.shared.end_of_lane(state, &self.collection);
        for Waiting { reply, .. } in refused {
            reply(Err(task::no_thread()));
        }
    }
}

/// The next segment in the making. It is made when this is dropped, so that it is made wherever
/// the job ends up.
struct Preparing<F: FileSystem + Clone> {
    shared: Arc<Shared<F>>,
    collection: String,
    segment: Option<NextSegment<F>>,
    _place: Place,
}

/// How many segments are made beforehand at a time, by all logs of the process.
const MOST_PREPARING: usize = 2;

static PREPARING: AtomicUsize = AtomicUsize::new(0);

/// One of the segments that are made beforehand.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let more = |count: usize| (count < MOST_PREPARING).then_some(count + 1);
        PREPARING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PREPARING.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F: FileSystem + Clone> Drop for Preparing<F> {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            // A panic must not keep the log from being closed.
            let _ = catch_unwind(AssertUnwindSafe(|| segment.make()));
            let is_closing = self.shared.lock().is_closing;
            // An error that matters poisons the log; others show at the next append or checkpoint.
            let rotate = || self.shared.log.rotate_if_overdue(&self.collection);
            if !is_closing && let Err(panic) = catch_unwind(AssertUnwindSafe(rotate)) {
                self.shared.log.give_up(&task::panic_error(&*panic));
            }
        }
        self.shared.end_of_running(self.shared.lock());
    }
}
