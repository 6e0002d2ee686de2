//! The worker threads: started on demand, gone when idle, never in the way of exit.
//!
//! How many run at once follows the load and the disk. Work that only uses the processor is
//! done by as many threads as there are cores: more would fight over the same directories. A
//! thread that is about to wait for a disk says so ([`blocking`]) and another takes its place,
//! so that many syncs wait together and the disk can serve them as one. And where threads are
//! held up without having said so (a network file system that does not answer), another is
//! added each time nothing has moved for a while.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutex::guard;

/// A piece of work. It says itself what came of it; see [`super::Completions`].
pub type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// How long nothing moves before another thread is added.
const STALL: Duration = Duration::from_millis(2);

/// Jobs use little stack. What is not touched costs no memory.
const STACK: usize = 512 * 1024;

/// The pool of this process, shared by all its JavaScript environments.
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Pool::new(cores.max(2), (4 * cores).clamp(8, 64))
    })
}

/// Does something that mostly waits for a disk. Meanwhile another thread takes the place of
/// this one. Not to be called within itself: the thread would count as two.
pub fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    let aside = StepAside::new(CURRENT.with_borrow(Clone::clone));
    let outcome = wait();
    drop(aside);
    outcome
}

thread_local! {
    /// The pool that the thread belongs to.
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    /// The thread waits for a disk.
    static IS_ASIDE: Cell<bool> = const { Cell::new(false) };
}

struct StepAside(Option<Arc<Shared>>);

impl StepAside {
    fn new(shared: Option<Arc<Shared>>) -> StepAside {
        let is_nested = IS_ASIDE.replace(true);
        debug_assert!(!is_nested, "a wait for a disk within another");
        if let Some(shared) = &shared {
            let mut state = shared.lock();
            state.active -= 1;
            // Whatever it answers, the threads that there are do the work.
            let call = Shared::see_to_it(shared, &mut state).unwrap_or(Call::Nobody);
            drop(state);
            shared.make(call);
        }
        StepAside(shared)
    }
}

impl Drop for StepAside {
    fn drop(&mut self) {
        IS_ASIDE.set(false);
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
    state: Mutex<State>,
    changed: Condvar,
    most_active: usize,
    most_threads: usize,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Job>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// Numbers the delayed jobs, so that those due at one time run in order.
    submitted: u64,
    threads: usize,
    /// Threads that run a job and do not wait for a disk.
    active: usize,
    /// Threads that wait for a job.
    idle: usize,
    /// The number of jobs that have been begun: whether anything moves.
    begun: u64,
    /// One of the idle threads watches whether anything moves.
    is_watched: bool,
    /// A thread has been started and has not looked for work yet. One at a time is
    /// enough: it starts the next if there is still more to do.
    starting: bool,
}

/// Whom to wake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Nobody,
    Somebody,
}

struct Delayed {
    due: Instant,
    number: u64,
    job: Job,
}

impl Pool {
    /// A pool in which up to `most_active` threads compute, and up to `most_threads` wait.
    pub fn new(most_active: usize, most_threads: usize) -> Pool {
        Pool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                most_active: most_active.max(1),
                most_threads: most_threads.max(1),
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
        let outcome = Shared::see_to_it(&self.shared, &mut state);
        self.call_or_drop_jobs(state, outcome)
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
        let outcome = Shared::see_to_it(&self.shared, &mut state);
        self.call_or_drop_jobs(state, outcome)
    }

    fn call_or_drop_jobs(
        &self,
        mut state: MutexGuard<'_, State>,
        outcome: io::Result<Call>,
    ) -> io::Result<()> {
        let refused = match outcome {
            Err(error) if state.threads == 0 => error,
            Err(_) => return Ok(()),
            Ok(call) => {
                drop(state);
                self.shared.make(call);
                return Ok(());
            }
        };
        let jobs = (std::mem::take(&mut state.ready), std::mem::take(&mut state.delayed));
        // Not under the lock: a job that is dropped may have something to say.
        drop(state);
        drop(jobs);
        Err(refused)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }

    /// Makes a call. Not under the lock: whoever wakes would run into it.
    fn make(&self, call: Call) {
        if call == Call::Somebody {
            self.changed.notify_one();
        }
    }

    /// Makes sure that some thread takes notice of what there is to do.
    fn see_to_it(shared: &Arc<Shared>, state: &mut State) -> io::Result<Call> {
        if state.ready.is_empty() && state.delayed.is_empty() {
            return Ok(Call::Nobody);
        }
        if state.idle > 0 {
            // With all cores busy nobody is called, but somebody has to watch.
            return Ok(match state.active < shared.most_active || !state.is_watched {
                true => Call::Somebody,
                false => Call::Nobody,
            });
        }
        if state.starting || state.threads >= shared.most_threads {
            return Ok(Call::Nobody);
        }
        let own = Arc::clone(shared);
        thread::Builder::new()
            .name("holdfast-io".to_owned())
            .stack_size(STACK)
            .spawn(move || own.work())?;
        state.threads += 1;
        state.starting = true;
        Ok(Call::Nobody)
    }

    /// What a thread does.
    fn work(self: Arc<Shared>) {
        CURRENT.set(Some(Arc::clone(&self)));
        let mut state = self.lock();
        state.starting = false;
        loop {
            let job;
            (state, job) = self.next(state);
            let Some(job) = job else { break };
            state.active += 1;
            state.begun += 1;
            // If the system refuses another thread, those that there are do the work.
            let call = Shared::see_to_it(&self, &mut state).unwrap_or(Call::Nobody);
            drop(state);
            self.make(call);
            // A job reports its own panics; this keeps the thread.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = self.lock();
            state.active -= 1;
        }
        state.threads -= 1;
    }

    /// Waits for a job. `None` when there has been nothing to do for a while, and no
    /// delayed job needs somebody to stay up for it.
    fn next<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Option<Job>) {
        let tired = Instant::now() + IDLE;
        loop {
            let now = Instant::now();
            while state.delayed.peek().is_some_and(|Reverse(first)| first.due <= now) {
                if let Some(Reverse(delayed)) = state.delayed.pop() {
                    state.ready.push_back(delayed.job);
                }
            }
            if state.active < self.most_active
                && let Some(job) = state.ready.pop_front()
            {
                return (state, Some(job));
            }
            if !state.ready.is_empty() && !state.is_watched {
                let begun = state.begun;
                state.is_watched = true;
                state = self.wait(state, STALL);
                state.is_watched = false;
                if state.begun == begun
                    && let Some(job) = state.ready.pop_front()
                {
                    return (state, Some(job));
                }
                continue;
            }
            let next_due = state.delayed.peek().map(|Reverse(first)| first.due);
            let wake_up = match next_due {
                Some(due) if now < tired => due.min(tired),
                Some(due) if state.idle == 0 => due,
                None if now < tired => tired,
                _ => return (state, None),
            };
            state = self.wait(state, wake_up - now);
        }
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        longest: Duration,
    ) -> MutexGuard<'a, State> {
        state.idle += 1;
        let (mut state, _) =
            self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state
    }
}

/// When a delay is over. One beyond what the clock can count is as good as for ever.
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
