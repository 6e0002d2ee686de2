//! Who goes on with a wait: a thread of its own, which waits in the kernel, or the threads of the pool,
//! which ask again after each pause.
//!
//! They ask where the kernel may not wake up a process that waits: on a network file system, whose
//! server knows when the lock is free, and may tell no process. And where the system refuses a thread.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock::KernelLock;
use super::wait::{KernelWait, Polled};
use crate::error::{Code, Contention, ErrorKind, Failure};
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;
use crate::mutex::guard;
use crate::threads::{blocking, pool, wait_threads};

/// The pause after which a lock is asked for again: at first, and at most. It is handed over within
/// the longest pause and what the server takes to answer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Where the lock is, and how it is spoken of in errors.
pub(super) trait LockSite: Send + Sync + 'static {
    /// The directory and the name of the lock file.
    fn dir_and_name(&self) -> (&DirHandle, &LockName);

    /// Whether the kernel may not wake up a process that waits for the lock.
    fn has_to_poll(&self) -> bool;

    /// Has the names in the directory looked up anew by a process that has just got the lock. A network
    /// file system remembers them for a while, even that there is none of a name: another machine that
    /// had the lock may have made the file since.
    fn look_anew(&self) {
        if self.has_to_poll() {
            self.dir_and_name().0.look_anew();
        }
    }

    /// What the call is told that the system has refused.
    fn error(&self, failure: Failure) -> ErrorKind;

    /// Why the call has not got the lock after waiting for so long; `None` if it has only tried.
    fn contention(&self, waited: Option<Duration>) -> Contention;
}

/// Sees to it that a wait goes on. Its outcome goes to `end`, on another thread or on this one.
pub(super) fn run_wait<S: LockSite>(
    site: Arc<S>,
    wait: Arc<KernelWait>,
    end: impl FnOnce(WaitOutcome) + Send + 'static,
) {
    let has_to_poll = site.has_to_poll();
    let running = RunningWait { site, wait, end: Some(Box::new(end)) };
    if has_to_poll {
        return running.go_on_in(SHORTEST_PAUSE);
    }
    let running = Arc::new(Mutex::new(Some(running)));
    let job = {
        let running = Arc::clone(&running);
        move || {
            let running = guard(&running).take();
            running.into_iter().for_each(RunningWait::wait);
        }
    };
    // A thread that has been refused is no reason not to wait.
    if wait_threads::run(Box::new(job)).is_err()
        && let Some(running) = guard(&running).take()
    {
        running.go_on_in(SHORTEST_PAUSE);
    }
}

/// The lock; `None` when it was not wanted any more.
type WaitOutcome = Result<Option<KernelLock>, Failure>;

/// A wait, and what is to be told of it.
struct RunningWait<S: LockSite> {
    site: Arc<S>,
    wait: Arc<KernelWait>,
    end: Option<Box<dyn FnOnce(WaitOutcome) + Send>>,
}

impl<S: LockSite> RunningWait<S> {
    /// Waits on this thread.
    fn wait(mut self) {
        let (dir, name) = self.site.dir_and_name();
        let outcome = self.wait.wait(dir, name);
        self.end(outcome);
    }

    fn go_on_in(self, pause: Duration) {
        // A job that cannot be run is dropped, and says so.
        let _ = pool().submit_after(pause, Box::new(move || self.go_on(pause)));
    }

    fn go_on(mut self, pause: Duration) {
        let (dir, name) = self.site.dir_and_name();
        match blocking(|| self.wait.poll(dir, name)) {
            Ok(Polled::Waits { has_moved: true }) => self.go_on_in(SHORTEST_PAUSE),
            Ok(Polled::Waits { has_moved: false }) => self.go_on_in(LONGEST_PAUSE.min(pause * 2)),
            Ok(Polled::Ended(lock)) => self.end(Ok(lock)),
            Err(failure) => self.end(Err(failure)),
        }
    }

    fn end(&mut self, outcome: WaitOutcome) {
        if let Some(end) = self.end.take() {
            end(outcome);
        }
    }
}

impl<S: LockSite> Drop for RunningWait<S> {
    fn drop(&mut self) {
        self.end(Err(Failure::new("pthread_create", Code::EAGAIN.error())));
    }
}
