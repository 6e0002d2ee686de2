//! The threads that wait in the kernel for locks, one for each lock that is waited for.
//!
//! A thread that has what it waited for stays for a while, in case there is more to wait for:
//! starting one takes longer than handing over a lock. It never keeps the process from ending.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Job;
use crate::mutex::guard;

/// How long a thread stays without anything to wait for.
const IDLE: Duration = Duration::from_secs(2);

/// How many threads stay; those that a burst of waits has left behind end at once.
const MAX_IDLE: usize = 4;

/// Waiting needs little stack. What is not touched costs no memory.
const STACK: usize = 256 * 1024;

struct WaitThreads {
    state: Mutex<WaitThreadsState>,
    changed: Condvar,
}

struct WaitThreadsState {
    /// Each of them is for an idle thread.
    jobs: VecDeque<Job>,
    idle: usize,
}

static THREADS: WaitThreads = WaitThreads {
    state: Mutex::new(WaitThreadsState { jobs: VecDeque::new(), idle: 0 }),
    changed: Condvar::new(),
};

/// Runs a job that may wait for as long as it likes, at once and on a thread of its own.
///
/// # Errors
///
/// When the system refuses to start a thread. The job is dropped.
pub(crate) fn run(job: Job) -> io::Result<()> {
    let mut state = THREADS.lock();
    if state.jobs.len() < state.idle {
        state.jobs.push_back(job);
        drop(state);
        THREADS.changed.notify_one();
        return Ok(());
    }
    drop(state);
    std::thread::Builder::new()
        .name("holdfast-lock".to_owned())
        .stack_size(STACK)
        .spawn(move || THREADS.work(job))
        .map(drop)
}

impl WaitThreads {
    fn lock(&self) -> MutexGuard<'_, WaitThreadsState> {
        // No code that runs under this lock can panic and leave the state half changed.
        guard(&self.state)
    }

    fn work(&self, mut job: Job) {
        loop {
            // A job that panics has said so; this keeps the thread.
            let _ = catch_unwind(AssertUnwindSafe(job));
            match self.next() {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    /// Waits for another job. `None` when there has been none for a while.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        if state.idle >= MAX_IDLE {
            return None;
        }
        state.idle += 1;
        let idle_deadline = Instant::now() + IDLE;
        let job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break Some(job);
            }
            let left = idle_deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break None;
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        };
        state.idle -= 1;
        job
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The thread that runs a job.
    fn runner() -> thread::ThreadId {
        let (tell, told) = mpsc::channel();
        run(Box::new(move || tell.send(thread::current().id()).unwrap())).unwrap();
        told.recv().unwrap()
    }

    #[test]
    fn a_thread_stays_for_the_next_job_and_jobs_that_wait_hold_up_no_others() {
        let first = runner();
        while THREADS.lock().idle == 0 {
            thread::yield_now();
        }
        assert_eq!(runner(), first);

        let (open, gate) = mpsc::channel::<()>();
        let gate = std::sync::Arc::new(Mutex::new(gate));
        for _ in 0..10 {
            let gate = std::sync::Arc::clone(&gate);
            run(Box::new(move || drop(gate.lock().map(|gate| gate.recv())))).unwrap();
        }
        let last = runner();
        assert_ne!(last, thread::current().id());
        drop(open);
        let deadline = Instant::now() + Duration::from_secs(60);
        while THREADS.lock().idle > 0 {
            assert!(Instant::now() < deadline, "idle threads go");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
