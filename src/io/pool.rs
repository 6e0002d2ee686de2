//! The worker threads: started on demand, gone when idle, never in the way of exit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A piece of work. It says itself what came of it; see [`super::Completions`].
pub type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Jobs use little stack. What is not touched costs no memory.
const STACK: usize = 512 * 1024;

/// The pool of this process, shared by all its JavaScript environments.
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Pool::new((4 * cores).clamp(8, 64))
    })
}

/// Threads that run jobs, in the order of their submission.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    most_threads: usize,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Job>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// Numbers the delayed jobs, so that those due at one time run in order.
    submitted: u64,
    threads: usize,
    idle: usize,
    /// A thread has been started and has not looked for work yet. One at a time is
    /// enough: it starts the next if there is still more to do.
    starting: bool,
}

struct Delayed {
    due: Instant,
    number: u64,
    job: Job,
}

impl Pool {
    /// A pool that grows to `most_threads` under load.
    pub fn new(most_threads: usize) -> Pool {
        Pool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
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
        self.see_to_it(state)
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
        state.delayed.push(Reverse(Delayed { due: Instant::now() + delay, number, job }));
        self.see_to_it(state)
    }

    /// Makes sure that some thread takes notice of a job that was just added.
    fn see_to_it(&self, mut state: MutexGuard<'_, State>) -> io::Result<()> {
        if state.idle > 0 {
            drop(state);
            self.shared.changed.notify_one();
            return Ok(());
        }
        if !Shared::wants_a_thread(&state, self.shared.most_threads) {
            return Ok(());
        }
        Shared::start_thread(&self.shared, &mut state).or_else(|error| {
            if state.threads > 0 {
                return Ok(());
            }
            state.ready.clear();
            state.delayed.clear();
            Err(error)
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic and leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants_a_thread(state: &State, most_threads: usize) -> bool {
        let is_work = !state.ready.is_empty() || !state.delayed.is_empty();
        is_work && state.idle == 0 && !state.starting && state.threads < most_threads
    }

    fn start_thread(shared: &Arc<Shared>, state: &mut State) -> io::Result<()> {
        let own = Arc::clone(shared);
        thread::Builder::new()
            .name("holdfast-io".to_owned())
            .stack_size(STACK)
            .spawn(move || own.work())?;
        state.threads += 1;
        state.starting = true;
        Ok(())
    }

    /// What a thread does.
    fn work(self: Arc<Shared>) {
        let mut state = self.lock();
        state.starting = false;
        loop {
            let job;
            (state, job) = self.next(state);
            let Some(job) = job else { break };
            if Shared::wants_a_thread(&state, self.most_threads) {
                // If the system refuses, the threads that there are do the work.
                let _ = Shared::start_thread(&self, &mut state);
            }
            drop(state);
            // A job reports its own panics; this keeps the thread.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = self.lock();
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
            if let Some(job) = state.ready.pop_front() {
                return (state, Some(job));
            }
            let next_due = state.delayed.peek().map(|Reverse(first)| first.due);
            let wake_up = match next_due {
                Some(due) if now < tired => due.min(tired),
                Some(due) if state.idle == 0 => due,
                None if now < tired => tired,
                _ => return (state, None),
            };
            state.idle += 1;
            (state, _) = self
                .changed
                .wait_timeout(state, wake_up - now)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
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
