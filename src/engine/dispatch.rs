//! Decides and starts what runs next on each file.
//!
//! [`FileQueues`] keeps the order; this file finds out which file a path means, starts what may
//! start on holdfast's threads, and goes on when a file is free again. It is the only place that
//! starts queued calls.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use super::file_queue::{FileQueues, Mergeable, QueueKey, RESOLVE_TIMEOUT};
use super::queued_write::QueuedWrite;
use crate::error::ErrorKind;
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::resolve::{self, Target};
use crate::threads::{Pool, task};
use crate::write::Options;

/// A call that waits for its file.
pub(super) enum QueuedJob<F: FileSystem> {
    Write(QueuedWrite),
    /// Anything else, which has the file to itself until it drops the guard; or is told why it
    /// cannot have it.
    Exclusive(ExclusiveJob<F>),
}

pub(super) type ExclusiveJob<F> = Box<dyn FnOnce(Result<FileQueueGuard<F>, ErrorKind>) + Send>;

impl<F: FileSystem> Mergeable for QueuedJob<F> {
    fn merges_into(&self, newer: &QueuedJob<F>) -> bool {
        match (self, newer) {
            (QueuedJob::Write(older), QueuedJob::Write(newer)) => older.merges_into(newer),
            _ => false,
        }
    }

    fn is_write(&self) -> bool {
        matches!(self, QueuedJob::Write(_))
    }

    fn is_replaceable(&self) -> bool {
        match self {
            QueuedJob::Write(write) => write.is_replaceable(),
            QueuedJob::Exclusive(_) => true,
        }
    }
}

impl<F: FileSystem> QueuedJob<F> {
    fn into_write(self) -> Option<QueuedWrite> {
        match self {
            QueuedJob::Write(write) => Some(write),
            QueuedJob::Exclusive(_) => None,
        }
    }

    /// Tells the caller that it cannot be done.
    fn refuse(self, reason: &ErrorKind) {
        match self {
            QueuedJob::Write(mut write) => write.refuse(reason.duplicate(), 0),
            QueuedJob::Exclusive(job) => job(Err(reason.duplicate())),
        }
    }
}

/// Writes that may start: the newest, and older ones that it stands for.
pub(super) struct StartedWrites<F: FileSystem> {
    pub(super) guard: FileQueueGuard<F>,
    pub(super) lead: QueuedWrite,
    pub(super) absorbed: Vec<QueuedWrite>,
    /// The target, if it was found a moment ago.
    pub(super) found: Option<Target<F>>,
    pub(super) ticket: Option<StagingTicket>,
}

/// Runs writes that may start, on the calling thread.
pub(super) type StartWrites<F> = Box<dyn Fn(StartedWrites<F>) + Send + Sync>;

/// Starts the calls of one engine.
pub(super) struct Dispatcher<F: FileSystem> {
    shared: Arc<DispatcherShared<F>>,
}

struct DispatcherShared<F: FileSystem> {
    fs: F,
    pool: Pool,
    queues: Mutex<FileQueues<QueuedJob<F>>>,
    /// Whether a delayed job will look at the blocked queues again.
    has_timer: AtomicBool,
    /// How many writes are on their way to being staged and wait for nothing but the processor.
    staging: Arc<AtomicUsize>,
    start_writes: StartWrites<F>,
}

/// Counts a write as on its way to being staged.
pub(super) struct StagingTicket(Arc<AtomicUsize>);

impl StagingTicket {
    fn new(count: &Arc<AtomicUsize>) -> StagingTicket {
        count.fetch_add(1, Ordering::SeqCst);
        StagingTicket(Arc::clone(count))
    }
}

impl Drop for StagingTicket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<F: FileSystem> Clone for Dispatcher<F> {
    fn clone(&self) -> Dispatcher<F> {
        Dispatcher { shared: Arc::clone(&self.shared) }
    }
}

impl<F: FileSystem> Dispatcher<F> {
    pub(super) fn new(fs: F, pool: Pool, start_writes: StartWrites<F>) -> Dispatcher<F> {
        Dispatcher {
            shared: Arc::new(DispatcherShared {
                fs,
                pool,
                queues: Mutex::default(),
                has_timer: AtomicBool::new(false),
                staging: Arc::default(),
                start_writes,
            }),
        }
    }

    pub(super) fn fs(&self) -> &F {
        &self.shared.fs
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Whether any write is on its way to being staged.
    pub(super) fn is_staging(&self) -> bool {
        self.shared.staging.load(Ordering::SeqCst) > 0
    }

    fn queues(&self) -> MutexGuard<'_, FileQueues<QueuedJob<F>>> {
        guard(&self.shared.queues)
    }

    /// Queues a call. It starts when all earlier calls for its file are done.
    pub(super) fn enqueue(&self, path: PathBuf, options: Options, job: QueuedJob<F>) {
        if self.queues().enqueue(&path, job) {
            self.run_staging(move |dispatcher, ticket| {
                dispatcher.resolve(&path, &options, ticket);
            });
        }
    }

    /// Waits on the calling thread until the running call for the file at `path` is done, and
    /// takes out the writes that are queued or `paused` there: the caller will stand for them.
    /// There is no guard when the system refuses threads and the queues have been emptied.
    pub(super) fn supersede(
        &self,
        path: &Path,
        options: &Options,
        take_paused: impl FnOnce(&QueueKey) -> Vec<QueuedWrite>,
    ) -> Result<(Option<FileQueueGuard<F>>, Vec<QueuedWrite>), ErrorKind> {
        let (key, _) = self.find(path, options)?;
        let (send, receive) = mpsc::channel();
        let job = QueuedJob::Exclusive(Box::new(move |granted| {
            // The receiver waits a few lines below.
            let _ = send.send(granted);
        }));
        let queued = match options.create_only {
            // The writes before it decide whether there is a file.
            true => {
                self.queues().enqueue_last(&key, job);
                None
            }
            false => self.queues().supersede(path, &key, job),
        };
        let superseded = queued.map_or_else(Vec::new, |queued| {
            let mut all = take_paused(&key);
            all.extend(queued.into_iter().filter_map(QueuedJob::into_write));
            all
        });
        self.start_next(&key, None);
        loop {
            match receive.recv_timeout(RESOLVE_TIMEOUT) {
                // The threads may be blocked, too, by a directory that must not block this call.
                Err(mpsc::RecvTimeoutError::Timeout) => self.start_next(&key, None),
                granted => return Ok((granted.ok().and_then(Result::ok), superseded)),
            }
        }
    }

    /// Takes out the queued writes to the file at `path` that have been cancelled.
    pub(super) fn take_cancelled(&self, path: &Path) -> Vec<QueuedWrite> {
        let is_cancelled = |job: &QueuedJob<F>| matches!(job, QueuedJob::Write(write) if write.control.is_cancelled());
        let cancelled = self.queues().take_if(path, is_cancelled);
        cancelled.into_iter().filter_map(QueuedJob::into_write).collect()
    }

    /// Runs a job on one of holdfast's threads. Returns whether it will be run: when the system
    /// refuses a thread, and there is none, the job is dropped.
    pub(super) fn run_on_thread(&self, job: impl FnOnce(&Dispatcher<F>) + Send + 'static) -> bool {
        let dispatcher = self.clone();
        let is_taken = self.shared.pool.submit(Box::new(move || job(&dispatcher))).is_ok();
        if !is_taken {
            self.refuse_idle();
        }
        is_taken
    }

    /// The same for a job that is likely to stage a write.
    pub(super) fn run_staging(
        &self,
        job: impl FnOnce(&Dispatcher<F>, StagingTicket) + Send + 'static,
    ) -> bool {
        let ticket = StagingTicket::new(&self.shared.staging);
        self.run_on_thread(move |dispatcher| job(dispatcher, ticket))
    }

    /// There is no thread: the callers that wait for one are told so, and no later call waits
    /// behind them.
    fn refuse_idle(&self) {
        let idle = self.queues().take_idle();
        // Not under the mutex: a job that is dropped calls its caller.
        drop(idle);
    }

    /// Finds the file of the calls that were queued for a path, and starts what may start.
    fn resolve(&self, path: &Path, options: &Options, ticket: StagingTicket) {
        self.queues().begin_resolving(path);
        let (key, target) = match self.find(path, options) {
            Ok(found) => found,
            Err(reason) => return self.refuse(path, &reason),
        };
        let mut queues = self.queues();
        queues.resolved(path, &key);
        let unblocked = queues.take_unblocked();
        let group = self.take_next(queues, &key);
        self.start_unblocked(unblocked);
        if let Some(group) = group {
            self.start(key, group, target.map(|target| (target, options)), Some(ticket));
        }
    }

    /// Tells the calls that were queued for a path why its file cannot be found.
    fn refuse(&self, path: &Path, reason: &ErrorKind) {
        let mut queues = self.queues();
        let refused = queues.take_unresolved(path);
        let unblocked = queues.take_unblocked();
        drop(queues);
        self.start_unblocked(unblocked);
        refused.into_iter().for_each(|job| job.refuse(reason));
    }

    fn start_unblocked(&self, keys: Vec<QueueKey>) {
        for key in keys {
            self.run_staging(move |dispatcher, ticket| dispatcher.start_next(&key, Some(ticket)));
        }
    }

    /// Which queue a path leads to, and the target if it was found. An error is a panic: what the
    /// system refuses, the write will report.
    fn find(
        &self,
        path: &Path,
        options: &Options,
    ) -> Result<(QueueKey, Option<Target<F>>), ErrorKind> {
        let look = || {
            let (fs, follow_symlinks) = (&self.shared.fs, options.follow_symlinks);
            let target = resolve::target(fs, path, follow_symlinks, options.dir_use()).ok()?;
            let dir = target.dir.metadata().ok()?;
            Some((QueueKey::of(dir.id, &target.name), Some(target)))
        };
        let found = task::catch_panic(|| Ok::<_, ErrorKind>(look()))?;
        Ok(found.unwrap_or_else(|| (QueueKey::Unresolved(path.to_owned()), None)))
    }

    /// Takes what is next in a queue, if it may start. A queue that is blocked is looked at again
    /// later.
    fn take_next(
        &self,
        mut queues: MutexGuard<'_, FileQueues<QueuedJob<F>>>,
        key: &QueueKey,
    ) -> Option<Vec<QueuedJob<F>>> {
        let group = queues.start_next(key);
        let has_blocked = queues.has_blocked();
        drop(queues);
        if has_blocked {
            self.set_timer();
        }
        group
    }

    /// Starts what is next in a queue, if it may start, on this thread.
    fn start_next(&self, key: &QueueKey, ticket: Option<StagingTicket>) {
        if let Some(group) = self.take_next(self.queues(), key) {
            self.start(key.clone(), group, None, ticket);
        }
    }

    /// Runs what was taken from a queue, on this thread.
    fn start(
        &self,
        key: QueueKey,
        group: Vec<QueuedJob<F>>,
        found: Option<(Target<F>, &Options)>,
        ticket: Option<StagingTicket>,
    ) {
        let guard = FileQueueGuard { dispatcher: self.clone(), key };
        let mut writes = Vec::new();
        for job in group {
            match job {
                QueuedJob::Write(write) => writes.push(write),
                // An exclusive job is never merged, so it is alone.
                QueuedJob::Exclusive(job) => return job(Ok(guard)),
            }
        }
        let Some(lead) = writes.pop() else { return };
        writes.iter().for_each(QueuedWrite::merged);
        // What was found for one path and one use of the directory serves only that.
        let found = found.filter(|(_, options)| **options == lead.request.options);
        let found = found.map(|(target, _)| target);
        (self.shared.start_writes)(StartedWrites { guard, lead, absorbed: writes, found, ticket });
    }

    /// Has the blocked queues looked at again when the calls that block them have had their time.
    fn set_timer(&self) {
        if self.shared.has_timer.swap(true, Ordering::SeqCst) {
            return;
        }
        let dispatcher = self.clone();
        let look = move || {
            dispatcher.shared.has_timer.store(false, Ordering::SeqCst);
            let unblocked = dispatcher.queues().take_unblocked();
            unblocked.iter().for_each(|key| dispatcher.start_next(key, None));
            if dispatcher.queues().has_blocked() {
                dispatcher.set_timer();
            }
        };
        if self.shared.pool.submit_after(RESOLVE_TIMEOUT, Box::new(look)).is_err() {
            self.shared.has_timer.store(false, Ordering::SeqCst);
        }
    }
}

/// The exclusive use of a file's queue. When it is dropped, the next call for the file starts.
pub struct FileQueueGuard<F: FileSystem> {
    dispatcher: Dispatcher<F>,
    key: QueueKey,
}

impl<F: FileSystem> FileQueueGuard<F> {
    pub(super) fn dispatcher(&self) -> &Dispatcher<F> {
        &self.dispatcher
    }

    pub(super) fn key(&self) -> &QueueKey {
        &self.key
    }
}

impl<F: FileSystem> Drop for FileQueueGuard<F> {
    fn drop(&mut self) {
        let mut queues = self.dispatcher.queues();
        queues.finish(&self.key);
        if let Some(group) = self.dispatcher.take_next(queues, &self.key) {
            // At the back of the pool's queue, so that other files are not delayed.
            let key = self.key.clone();
            let is_started = self.dispatcher.run_staging(move |dispatcher, ticket| {
                dispatcher.start(key, group, None, Some(ticket));
            });
            if !is_started {
                self.dispatcher.queues().finish(&self.key);
                self.dispatcher.refuse_idle();
            }
        }
    }
}
