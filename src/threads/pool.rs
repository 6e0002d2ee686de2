//! The worker threads: started on demand, ended when idle, never a reason to delay the exit.
//!
//! How many run at once follows the load and the disk. Work that only uses the processor is done
//! by as many threads as there are cores: more would contend for the same directories. A thread
//! that is about to wait for a disk says so ([`blocking`]) and another takes its place, so that
//! many syncs wait together and the disk can serve them as one. Where threads are blocked without
//! having said so (a network file system that does not respond), another is added each time no
//! job has been started for a while.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutex::guard;

/// A piece of work. It delivers its own outcome, for example to [`super::Completions`].
pub type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for work before it ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long no job is started before another thread is added.
const STALL_TIMEOUT: Duration = Duration::from_millis(2);

/// Jobs use little stack. What is not touched costs no memory.
const STACK_SIZE: usize = 512 * 1024;

/// The pool of this process, shared by all its JavaScript environments.
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Pool::new(cores.max(2), (4 * cores).clamp(8, 64))
    })
}

/// Runs something that mostly waits for a disk. Meanwhile another thread takes the place of this
/// one. Not to be nested: the thread would be counted twice.
pub fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    let section = BlockingSection::begin(CURRENT.with_borrow(Clone::clone));
    let outcome = wait();
    drop(section);
    outcome
}

thread_local! {
    /// The pool that the thread belongs to.
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    /// The thread waits for a disk.
    static IS_BLOCKED: Cell<bool> = const { Cell::new(false) };
}

/// The time in which a thread waits for a disk and does not count as active.
struct BlockingSection(Option<Arc<Shared>>);

impl BlockingSection {
    fn begin(shared: Option<Arc<Shared>>) -> BlockingSection {
        let is_nested = IS_BLOCKED.replace(true);
        debug_assert!(!is_nested, "a wait for a disk within another");
        if let Some(shared) = &shared {
            let mut state = shared.lock();
            state.active -= 1;
            // If the system refuses another thread, those that there are do the work.
            let wake_up = Shared::ensure_worker(shared, &mut state).unwrap_or(WakeUp::None);
            drop(state);
            shared.notify(wake_up);
        }
        BlockingSection(shared)
    }
}

impl Drop for BlockingSection {
    fn drop(&mut self) {
        IS_BLOCKED.set(false);
        if let Some(shared) = &self.0 {
            shared.lock().active += 1;
        }
    }
}

/// Threads that run jobs, in the order of their submission.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<PoolState>,
    changed: Condvar,
    max_active: usize,
    max_threads: usize,
}

#[derive(Default)]
struct PoolState {
    ready: VecDeque<Job>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// Numbers the delayed jobs, so that those due at one time run in order.
    submitted: u64,
    threads: usize,
    /// Threads that run a job and do not wait for a disk.
    active: usize,
    /// Threads that wait for a job.
    idle: usize,
    /// The number of jobs that have been started, which shows whether the pool is stalled.
    jobs_started: u64,
    /// One of the idle threads watches whether the pool is stalled.
    is_watched: bool,
    /// A thread has been started and has not looked for work yet. One at a time is enough: it
    /// starts the next if there is still more to do.
    starting: bool,
}

/// How many of the idle threads to wake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WakeUp {
    None,
    One,
}

struct Delayed {
    due: Instant,
    number: u64,
    job: Job,
}

impl Pool {
    /// A pool of up to `max_threads` threads, of which up to `max_active` run at once and the
    /// others wait for a disk.
    pub fn new(max_active: usize, max_threads: usize) -> Pool {
        Pool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                max_active: max_active.max(1),
                max_threads: max_threads.max(1),
            }),
        }
    }

    /// Runs a job as soon as a thread is free.
    ///
    /// # Errors
    ///
    /// When there is no thread and the system refuses to start one. The job is dropped.
    pub fn submit(&self, job: Job) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.ready.push_back(job);
        let wake_up = Shared::ensure_worker(&self.shared, &mut state);
        self.notify_or_drop_jobs(state, wake_up)
    }

    /// Runs a job after a delay, during which it holds no thread.
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`].
    pub fn submit_after(&self, delay: Duration, job: Job) -> io::Result<()> {
        if delay.is_zero() {
            return self.submit(job);
        }
        let mut state = self.shared.lock();
        state.submitted += 1;
        let number = state.submitted;
        let due = due_in(delay);
        state.delayed.push(Reverse(Delayed { due, number, job }));
        let wake_up = Shared::ensure_worker(&self.shared, &mut state);
        self.notify_or_drop_jobs(state, wake_up)
    }

    fn notify_or_drop_jobs(
        &self,
        mut state: MutexGuard<'_, PoolState>,
        wake_up: io::Result<WakeUp>,
    ) -> io::Result<()> {
        let refused = match wake_up {
            Err(error) if state.threads == 0 => error,
            Err(_) => return Ok(()),
            Ok(wake_up) => {
                drop(state);
                self.shared.notify(wake_up);
                return Ok(());
            }
        };
        let jobs = (std::mem::take(&mut state.ready), std::mem::take(&mut state.delayed));
        // Not under the mutex: a job that is dropped may report that.
        drop(state);
        drop(jobs);
        Err(refused)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        guard(&self.state)
    }

    /// Wakes a thread. Not under the mutex: the thread would run into it.
    fn notify(&self, wake_up: WakeUp) {
        if wake_up == WakeUp::One {
            self.changed.notify_one();
        }
    }

    /// Makes sure that a thread will run the jobs that wait, and says whether to wake one.
    fn ensure_worker(shared: &Arc<Shared>, state: &mut PoolState) -> io::Result<WakeUp> {
        if state.ready.is_empty() && state.delayed.is_empty() {
            return Ok(WakeUp::None);
        }
        if state.idle > 0 {
            // With all cores busy no thread is woken, except to watch whether the pool stalls.
            return Ok(match state.active < shared.max_active || !state.is_watched {
                true => WakeUp::One,
                false => WakeUp::None,
            });
        }
        if state.starting || state.threads >= shared.max_threads {
            return Ok(WakeUp::None);
        }
        let own = Arc::clone(shared);
        thread::Builder::new()
            .name("holdfast-io".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || own.work())?;
        state.threads += 1;
        state.starting = true;
        Ok(WakeUp::None)
    }

    /// The loop of a thread.
    fn work(self: Arc<Shared>) {
        CURRENT.set(Some(Arc::clone(&self)));
        let mut state = self.lock();
        state.starting = false;
        loop {
            let job;
            (state, job) = self.next(state);
            let Some(job) = job else { break };
            state.active += 1;
            state.jobs_started += 1;
            // If the system refuses another thread, those that there are do the work.
            let wake_up = Shared::ensure_worker(&self, &mut state).unwrap_or(WakeUp::None);
            drop(state);
            self.notify(wake_up);
            // A job reports its own panics; this keeps the thread.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = self.lock();
            state.active -= 1;
        }
        state.threads -= 1;
    }

    /// Waits for a job. `None` when there has been nothing to do for a while, and no delayed job
    /// needs this thread.
    fn next<'a>(
        &'a self,
        mut state: MutexGuard<'a, PoolState>,
    ) -> (MutexGuard<'a, PoolState>, Option<Job>) {
        let idle_deadline = Instant::now() + IDLE_TIMEOUT;
        loop {
            let now = Instant::now();
            while state.delayed.peek().is_some_and(|Reverse(first)| first.due <= now) {
                if let Some(Reverse(delayed)) = state.delayed.pop() {
                    state.ready.push_back(delayed.job);
                }
            }
            if state.active < self.max_active
                && let Some(job) = state.ready.pop_front()
            {
                return (state, Some(job));
            }
            if !state.ready.is_empty() && !state.is_watched {
                let jobs_started = state.jobs_started;
                state.is_watched = true;
                state = self.wait(state, STALL_TIMEOUT);
                state.is_watched = false;
                if state.jobs_started == jobs_started
                    && let Some(job) = state.ready.pop_front()
                {
                    return (state, Some(job));
                }
                continue;
            }
            let next_due = state.delayed.peek().map(|Reverse(first)| first.due);
            let wake_up_at = match next_due {
                Some(due) if now < idle_deadline => due.min(idle_deadline),
                Some(due) if state.idle == 0 => due,
                None if now < idle_deadline => idle_deadline,
                _ => return (state, None),
            };
            state = self.wait(state, wake_up_at - now);
        }
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, PoolState>,
        timeout: Duration,
    ) -> MutexGuard<'a, PoolState> {
        state.idle += 1;
        let (mut state, _) =
            self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state
    }
}

/// When a delay is over. One beyond the range of the clock ends in a hundred years.
fn due_in(delay: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    Instant::now() + delay.min(FOR_EVER)
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Delayed) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Delayed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Delayed) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
