//! Somebody who waits for a lock, until he has an answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::scheduler::WaitingCall;
use super::{Before, HeldLocks, LockGuard, LockKind, LockRequest};
use crate::error::ErrorKind;
use crate::metrics::LockCall;
use crate::mutex::guard;
use crate::threads::Pool;

/// Takes the outcome: the lock, or why there is none.
pub type Reply = Box<dyn FnOnce(Result<LockGuard, ErrorKind>) + Send>;

/// Somebody who waits for a lock.
pub struct Waiter {
    pub(super) kind: LockKind,
    pub(super) timeout: Option<Duration>,
    since: Instant,
    /// The order of calls, in which waiters are served.
    number: u64,
    held: Mutex<Option<HeldLocks>>,
    pub(super) before: Mutex<Option<Before>>,
    /// Taken by whoever settles the wait, so that this happens once.
    reply: Mutex<Option<Reply>>,
    pub(super) queue: OnceLock<Weak<Queue>>,
    pool: Pool,
    counted: LockCall,
}

impl WaitingCall for Arc<Waiter> {
    fn kind(&self) -> LockKind {
        self.kind
    }

    fn is_waiting(&self) -> bool {
        guard(&self.reply).is_some()
    }

    fn only_tries(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    fn number(&self) -> u64 {
        self.number
    }
}

impl Waiter {
    pub(super) fn new(pool: &Pool, request: LockRequest, reply: Reply) -> Arc<Waiter> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let LockRequest { path, kind, timeout, held, before } = request;
        Arc::new(Waiter {
            kind,
            timeout,
            since: Instant::now(),
            number: CALLS.fetch_add(1, Ordering::Relaxed),
            held: Mutex::new(Some(held)),
            before: Mutex::new(before),
            reply: Mutex::new(Some(reply)),
            queue: OnceLock::new(),
            pool: pool.clone(),
            counted: LockCall::new(path, kind),
        })
    }

    /// Counts one who has not got the lock at once, and sets his timer.
    pub(super) fn waits_from_here(self: Arc<Waiter>) {
        if self.is_waiting() {
            self.counted.waits();
        }
        if let Some(timeout) = self.timeout
            && self.is_waiting()
        {
            let left = timeout.saturating_sub(self.since.elapsed());
            let pool = self.pool.clone();
            let _ = pool.submit_after(left, Box::new(move || self.time_out()));
        }
    }

    pub(super) fn settle(&self, outcome: Result<LockGuard, ErrorKind>) {
        // Otherwise the wait is over already, and a lock that came too late is given back.
        if let Some(reply) = self.take_reply() {
            self.counted.ended(&outcome);
            reply(outcome);
        }
    }

    /// The same for a call that has not come to wait for a lock of its own, and is not counted.
    pub(super) fn settle_uncounted(&self, outcome: Result<LockGuard, ErrorKind>) {
        if let Some(reply) = self.take_reply() {
            reply(outcome);
        }
    }

    fn take_reply(&self) -> Option<Reply> {
        // Whoever is told of the outcome finds no reservation of this call.
        drop(self.take_held());
        guard(&self.reply).take()
    }

    /// The locks that the caller holds, once.
    pub(super) fn take_held(&self) -> HeldLocks {
        guard(&self.held).take().unwrap_or_default()
    }

    /// Ends the wait without a lock, unless it is over already.
    pub fn cancel(self: &Arc<Waiter>) {
        self.settle(Err(ErrorKind::Cancelled));
        self.leave();
    }

    /// The same, as if the lock had never been asked for.
    pub fn withdraw(self: &Arc<Waiter>) {
        self.settle_uncounted(Err(ErrorKind::Cancelled));
        self.leave();
    }

    /// Lets those behind move up. Not on this thread: it may be JavaScript's.
    fn leave(self: &Arc<Waiter>) {
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            let _ = self.pool.submit(Box::new(move || queue.pump()));
        }
    }

    fn time_out(self: &Arc<Waiter>) {
        if !self.is_waiting() {
            return;
        }
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            let waited = self.timeout.filter(|timeout| !timeout.is_zero());
            self.settle(Err(queue.timed_out(waited)));
            queue.pump();
        }
    }
}
