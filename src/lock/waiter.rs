//! A call that asks for a lock, until it has its answer: its place in the order of calls, its
//! time-out, its cancellation, and what is counted of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::held::HeldLocks;
use super::scheduler::WaitingCall;
use crate::descriptors::SharedPermit;
use crate::error::{ErrorKind, Failure};
use crate::metrics::LockCall;
use crate::mutex::guard;
use crate::threads::Pool;
use crate::vocabulary::LockKind;

/// What is to happen before the lock is looked for: the directories above it are made, say.
pub type Before = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

/// What a call asks for.
pub struct LockRequest {
    /// The file or directory to lock, absolute.
    pub path: PathBuf,
    /// Whether it is to be shared with readers or not.
    pub kind: LockKind,
    /// How long to wait; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds.
    pub held: HeldLocks,
    /// What is to happen first, if anything.
    pub before: Option<Before>,
}

/// What a call wants if there is no file of which to take the lock.
pub enum IfMissing {
    /// The lock all the same.
    Lock,
    /// To be told so, here, and no lock.
    Tell(Arc<AtomicBool>),
}

/// Takes the outcome: the lock, or why there is none.
pub type LockReply<G> = Box<dyn FnOnce(Result<G, ErrorKind>) + Send>;

/// What a call that waits needs of its queue.
pub(super) trait WaiterQueue: Send + Sync {
    /// Lets the calls behind it move up.
    fn pump(self: Arc<Self>);

    /// Whether this call is the next to be served.
    fn is_next(&self, number: u64) -> bool;

    /// Why a call has not got the lock after waiting for so long; `None` if it has only tried.
    fn timed_out(&self, waited: Option<Duration>) -> ErrorKind;
}

/// A call that waits for a lock, held by a guard `G`. `O` is what it asks for besides.
pub struct Waiter<G, O = ()> {
    kind: LockKind,
    timeout: Option<Duration>,
    since: Mutex<Instant>,
    /// The order of calls, in which they are served.
    number: u64,
    held: Mutex<Option<HeldLocks>>,
    before: Mutex<Option<Before>>,
    pub(super) options: O,
    /// Taken by the thread that settles the wait, so that this happens once.
    reply: Mutex<Option<LockReply<G>>>,
    queue: OnceLock<Weak<dyn WaiterQueue>>,
    pool: Pool,
    counted: LockCall,
}

impl<G, O> WaitingCall for Arc<Waiter<G, O>> {
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

impl<G: 'static, O: Send + Sync + 'static> Waiter<G, O> {
    pub(super) fn new(
        pool: &Pool,
        request: LockRequest,
        options: O,
        reply: LockReply<G>,
    ) -> Arc<Waiter<G, O>> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let LockRequest { path, kind, timeout, held, before } = request;
        Arc::new(Waiter {
            kind,
            timeout,
            since: Mutex::new(Instant::now()),
            number: CALLS.fetch_add(1, Ordering::Relaxed),
            held: Mutex::new(Some(held)),
            before: Mutex::new(before),
            options,
            reply: Mutex::new(Some(reply)),
            queue: OnceLock::new(),
            pool: pool.clone(),
            counted: LockCall::new(path, kind),
        })
    }

    /// How long it waits at most; `None` for ever.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The depth of the call; see [`crate::descriptors`].
    pub(super) fn depth(&self) -> u32 {
        guard(&self.held).as_ref().map_or(0, HeldLocks::depth)
    }

    /// The permit to keep files open that it has already.
    pub(super) fn permit(&self) -> Option<SharedPermit> {
        guard(&self.held).as_ref().and_then(HeldLocks::permit)
    }

    /// Its time begins only now, as it has waited for a permit before.
    pub(super) fn begin_time(&self) {
        *guard(&self.since) = Instant::now();
    }

    /// Whether something is to happen before its lock is looked for.
    pub(super) fn has_to_prepare(&self) -> bool {
        guard(&self.before).is_some()
    }

    /// Does what is to happen first. If that fails, the call has its answer.
    pub(super) fn prepare(&self) {
        let before = guard(&self.before).take();
        if let Some(Err(failure)) = before.map(|before| before()) {
            self.settle(Err(failure.into()));
        }
    }

    /// Says in which queue it waits.
    pub(super) fn joins(&self, queue: Weak<dyn WaiterQueue>) {
        let _ = self.queue.set(queue);
    }

    /// Counts a call that has not got the lock at once, and sets its timer.
    pub(super) fn start_timer(self: Arc<Waiter<G, O>>) {
        if !self.is_waiting() {
            return;
        }
        self.counted.waits();
        // A call that only tries, and is the next, is being asked for: it will have its answer.
        let is_asked_for = || self.queue().is_some_and(|queue| queue.is_next(self.number));
        if let Some(timeout) = self.timeout
            && !(timeout.is_zero() && is_asked_for())
        {
            let left = timeout.saturating_sub(guard(&self.since).elapsed());
            let pool = self.pool.clone();
            let _ = pool.submit_after(left, Box::new(move || self.time_out()));
        }
    }

    /// Gives the call its answer, unless it has one: then a lock that came too late is released.
    pub(super) fn settle(&self, outcome: Result<G, ErrorKind>) {
        if let Some(reply) = self.take_reply() {
            self.counted.ended(&outcome);
            reply(outcome);
        }
    }

    /// The same for a call that has not come to wait for a lock of its own, and is not counted.
    pub(super) fn settle_uncounted(&self, outcome: Result<G, ErrorKind>) {
        if let Some(reply) = self.take_reply() {
            reply(outcome);
        }
    }

    fn take_reply(&self) -> Option<LockReply<G>> {
        // When the caller has the outcome there is no reservation of this call any more.
        drop(self.take_held());
        guard(&self.reply).take()
    }

    /// The locks that the caller holds, once.
    pub(super) fn take_held(&self) -> HeldLocks {
        guard(&self.held).take().unwrap_or_default()
    }

    /// Ends the wait without a lock, unless it is over already.
    pub fn cancel(&self) {
        self.settle(Err(ErrorKind::Cancelled));
        self.leave();
    }

    /// The same, as if the lock had never been asked for.
    pub fn withdraw(&self) {
        self.settle_uncounted(Err(ErrorKind::Cancelled));
        self.leave();
    }

    /// Lets the calls behind it move up. Not on this thread: it may be JavaScript's.
    fn leave(&self) {
        if let Some(queue) = self.queue() {
            let _ = self.pool.submit(Box::new(move || queue.pump()));
        }
    }

    pub(super) fn time_out(self: &Arc<Waiter<G, O>>) {
        if !self.is_waiting() {
            return;
        }
        if let Some(queue) = self.queue() {
            let waited = self.timeout.filter(|timeout| !timeout.is_zero());
            self.settle(Err(queue.timed_out(waited)));
            queue.pump();
        }
    }

    fn queue(&self) -> Option<Arc<dyn WaiterQueue>> {
        self.queue.get().and_then(Weak::upgrade)
    }
}
