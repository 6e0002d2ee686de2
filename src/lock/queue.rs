//! The calls of this process that hold or want one lock, and the loop that performs what the
//! [`Scheduler`] decides.
//!
//! There is one [`Queue`] for each lock that a call of this process holds or wants. The call at its
//! head asks for the lock, first without waiting. When another process holds it, one wait goes on
//! for whichever call is at the head when it ends. A call that gives up just stops waiting: the
//! wait is in the way of no other process, and a lock that no call wants is released at once.
//!
//! How a lock is asked for, waited for and released is a matter of the [`Backend`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::scheduler::{LockAction, Recipient, Scheduler, WaitingCall};
use super::waiter::{Waiter, WaiterQueue};
use crate::descriptors::{self, SharedPermit, is_shortage};
use crate::error::{Contention, ErrorKind, Failure, Holder};
use crate::mutex::guard;
use crate::threads::pool;
use crate::vocabulary::{FileKey, LockKind};

/// How long a lock is not asked for again after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// A way to lock: how this process gets one lock from other processes.
pub(super) trait Backend: Sized + Send + Sync + 'static {
    /// What this process has when it has the lock. Dropping it releases the lock.
    type Lock: Send;
    /// A wait for the lock.
    type Wait: PendingWait;
    /// What a call holds. Dropping it releases the lock.
    type Guard: Send + 'static;
    /// What a call asks for besides the lock.
    type Options: Send + Sync + 'static;
    /// What is remembered from one attempt to the next.
    type Memory: Default + Send;

    /// The locks of this kind that calls of this process hold or want.
    fn queues() -> &'static Queues<Self>;

    /// How many files a queue for this lock is to keep open; `None` if it needs no permit for that.
    fn files_to_open(&self, _: &FileKey) -> Option<usize> {
        None
    }

    /// The path of the lock, for messages.
    fn path(&self) -> PathBuf;

    /// Calls of this process are about to hold or want this lock.
    fn used(&self, _: &FileKey) {}

    /// No call of this process holds or wants this lock any more.
    fn unused(&self, _: &FileKey) {}

    /// What a call is told that the system has refused.
    fn error(&self, failure: Failure) -> ErrorKind;

    /// Who holds the lock, for messages; a writer of this process has held it since `own`. It
    /// `may_wait` for another process to say so.
    fn holder(&self, own: Option<SystemTime>, may_wait: bool) -> Option<Holder>;

    /// Asks for the lock, without waiting for it. What comes of it; `None` when that will be
    /// reported later. `handed_over`, if any, is released first, but not before the call has its
    /// place among the processes.
    fn ask(
        queue: &Arc<Queue<Self>>,
        state: MutexGuard<'_, QueueState<Self>>,
        kind: LockKind,
        handed_over: Option<Self::Lock>,
    ) -> Option<LockEvent<Self>>;

    /// Makes a write lock one for reading.
    fn downgrade(lock: &mut Self::Lock) -> Result<(), Failure>;

    /// Makes a guard for each of these calls, which share the lock.
    fn hand_out(
        queue: &Arc<Queue<Self>>,
        state: MutexGuard<'_, QueueState<Self>>,
        lock: Self::Lock,
        served: &[Arc<CallOf<Self>>],
    ) -> Vec<Result<Self::Guard, ErrorKind>>;

    /// Begins a wait, which is still to be [`run`](Backend::run_wait).
    fn begin_wait(&self, memory: &mut Self::Memory, kind: LockKind) -> Result<Self::Wait, Failure>;

    /// Sees to it that the wait goes on, and that its result is reported with this number:
    /// [`Queue::wait_ended`].
    fn run_wait(
        queue: &Arc<Queue<Self>>,
        wait: Arc<Self::Wait>,
        number: u64,
    ) -> Result<(), Failure>;
}

/// A wait for a lock that is under way.
pub(super) trait PendingWait: Send + Sync {
    /// What it waits for.
    fn kind(&self) -> LockKind;

    /// No call wants the lock for the time being: no other process may queue up behind this wait.
    fn withdraw(&self);

    /// The lock is wanted, or wanted after all. Whether this wait is as good as another that
    /// begins now.
    fn rejoin(&self) -> Result<bool, Failure>;
}

/// A call that waits for a lock of this backend.
pub(super) type CallOf<B> = Waiter<<B as Backend>::Guard, <B as Backend>::Options>;

/// The queues of one backend.
pub(super) type Queues<B> = Mutex<HashMap<FileKey, Arc<Queue<B>>>>;

/// Something that has happened to a lock.
pub(super) enum LockEvent<B: Backend> {
    /// A call has come, has given up or has released the lock.
    Changed,
    /// A call has released this lock, and another waits for it that has to ask for it anew.
    HandOver(B::Lock),
    /// It is time to ask for the lock again.
    AskAgain(LockKind),
    /// This process has got the lock.
    Acquired(B::Lock, LockKind),
    /// Another process holds the lock, or comes first. A wait for it may have begun.
    Busy(Option<B::Wait>),
    /// The system has refused.
    Failed(Failure),
}

/// The calls that hold or want one lock.
pub(super) struct Queue<B: Backend> {
    key: FileKey,
    pub(super) backend: B,
    state: Mutex<QueueState<B>>,
    /// To keep its files open. It comes back when they are closed: it is the last of the fields.
    permit: Option<SharedPermit>,
}

pub(super) struct QueueState<B: Backend> {
    pub(super) scheduler: Scheduler<Arc<CallOf<B>>>,
    pub(super) memory: B::Memory,
    /// The waits that are under way, by their numbers.
    waits: Vec<(u64, Arc<B::Wait>)>,
    last_wait: u64,
    /// Since when this process has held the lock, if it does.
    pub(super) since: SystemTime,
    /// The queue stays although no call holds or wants the lock.
    pub(super) is_retained: bool,
    /// There may be another queue for the lock by now.
    pub(super) is_retired: bool,
    /// Since when the system has refused to open another file.
    short_since: Option<Instant>,
}

impl<B: Backend> Queue<B> {
    /// Lets calls into the queue of their lock. A new one has the permit.
    pub(super) fn join(
        key: FileKey,
        backend: B,
        permit: Option<SharedPermit>,
        waiters: &[Arc<CallOf<B>>],
    ) -> Arc<Queue<B>> {
        let mut is_told = false;
        loop {
            let mut queues = guard(B::queues());
            let Some(known) = queues.get(&key) else {
                if !is_told {
                    // This takes system calls.
                    drop(queues);
                    backend.used(&key);
                    is_told = true;
                    continue;
                }
                let queue = Queue::new(key, backend, permit);
                // No other thread knows it yet.
                queue.admit(waiters);
                queues.insert(queue.key.clone(), Arc::clone(&queue));
                return queue;
            };
            let queue = Arc::clone(known);
            drop(queues);
            if queue.admit(waiters) {
                return queue;
            }
            queue.forget();
        }
    }

    fn new(key: FileKey, backend: B, permit: Option<SharedPermit>) -> Arc<Queue<B>> {
        let state = QueueState {
            scheduler: Scheduler::default(),
            memory: B::Memory::default(),
            waits: Vec::new(),
            last_wait: 0,
            since: SystemTime::now(),
            is_retained: false,
            is_retired: false,
            short_since: None,
        };
        Arc::new(Queue { key, backend, state: Mutex::new(state), permit })
    }

    /// Whether it is not too late for these.
    fn admit(self: &Arc<Queue<B>>, waiters: &[Arc<CallOf<B>>]) -> bool {
        let mut state = self.lock();
        if state.is_retired {
            return false;
        }
        for waiter in waiters {
            let own: Weak<Queue<B>> = Arc::downgrade(self);
            waiter.joins(own);
            state.scheduler.insert(Arc::clone(waiter));
        }
        true
    }

    /// Which lock it is.
    pub(super) fn key(&self) -> &FileKey {
        &self.key
    }

    /// The depth of what is started under the lock.
    pub(super) fn depth_inside(&self) -> u32 {
        self.permit.as_ref().map_or(1, |permit| permit.depth_inside())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState<B>> {
        guard(&self.state)
    }

    /// The same, unless another thread has it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, QueueState<B>>> {
        self.state.try_lock().ok()
    }

    /// Does what follows from an event, until the next one has to come from elsewhere.
    pub(super) fn handle(self: &Arc<Queue<B>>, event: LockEvent<B>) {
        self.handle_in(self.lock(), event);
    }

    /// The same, for an event that goes with what has been changed in `state`.
    pub(super) fn handle_in<'a>(
        self: &'a Arc<Queue<B>>,
        mut state: MutexGuard<'a, QueueState<B>>,
        mut event: LockEvent<B>,
    ) {
        let mut refused = Vec::new();
        while let Some(next) = self.step(state, event, &mut refused) {
            self.refuse(&mut refused);
            (state, event) = (self.lock(), next);
        }
        self.refuse(&mut refused);
    }

    /// Tells the scheduler of an event and performs its decision. The event that this leads to.
    fn step(
        self: &Arc<Queue<B>>,
        mut state: MutexGuard<'_, QueueState<B>>,
        event: LockEvent<B>,
        refused: &mut Vec<Arc<CallOf<B>>>,
    ) -> Option<LockEvent<B>> {
        match event {
            LockEvent::Changed => match state.scheduler.next(refused) {
                LockAction::Nothing => None,
                LockAction::Retire => {
                    drop(state);
                    self.retire();
                    None
                }
                LockAction::Withdraw(number) => {
                    state.wait(number).iter().for_each(|wait| wait.withdraw());
                    Some(LockEvent::Changed)
                }
                LockAction::Ask(kind) => B::ask(self, state, kind, None),
            },
            LockEvent::HandOver(lock) => match state.scheduler.next(refused) {
                LockAction::Ask(kind) if state.has_wait(kind) => {
                    // That wait only has to be told that it is wanted, before it can end.
                    let next = self.step(state, LockEvent::Busy(None), refused);
                    drop(lock);
                    next
                }
                LockAction::Ask(kind) => B::ask(self, state, kind, Some(lock)),
                _ => {
                    drop(state);
                    drop(lock);
                    Some(LockEvent::Changed)
                }
            },
            LockEvent::AskAgain(kind) => B::ask(self, state, kind, None),
            LockEvent::Acquired(lock, kind) => {
                self.acquired(state, lock, kind);
                Some(LockEvent::Changed)
            }
            LockEvent::Busy(begun) => match state.scheduler.busy(refused) {
                Some(kind) => Some(self.wait(state, kind, begun)),
                None => {
                    // Ending a wait takes system calls.
                    drop(state);
                    drop(begun);
                    Some(LockEvent::Changed)
                }
            },
            LockEvent::Failed(failure) if is_shortage(&failure) => self.ask_later(state, failure),
            LockEvent::Failed(failure) => {
                self.failed(state, failure);
                Some(LockEvent::Changed)
            }
        }
    }

    /// Hands out a lock that this process has got.
    fn acquired(
        self: &Arc<Queue<B>>,
        mut state: MutexGuard<'_, QueueState<B>>,
        mut lock: B::Lock,
        kind: LockKind,
    ) {
        let recipient = state.scheduler.acquired(kind);
        if recipient == Recipient::Unwanted {
            // Releasing a lock takes system calls.
            drop(state);
            return drop(lock);
        }
        if recipient == Recipient::ReadersOnly
            && let Err(failure) = B::downgrade(&mut lock)
        {
            self.failed(state, failure);
            return drop(lock);
        }
        let served = state.scheduler.grant();
        state.since = SystemTime::now();
        state.short_since = None;
        let outcomes = B::hand_out(self, state, lock, &served);
        // From here on the lock is theirs alone: it is free when they have dropped it.
        let deferred = DeferredWakeUps::begin();
        for (waiter, outcome) in served.into_iter().zip(outcomes) {
            waiter.settle(outcome);
        }
        drop(deferred);
    }

    /// Asks for the lock again in a moment, as the system has refused a file: others are closed
    /// meanwhile. The call at the head waits for that as long as for a permit.
    fn ask_later(
        self: &Arc<Queue<B>>,
        mut state: MutexGuard<'_, QueueState<B>>,
        failure: Failure,
    ) -> Option<LockEvent<B>> {
        let since = *state.short_since.get_or_insert_with(Instant::now);
        let head = state.scheduler.head().map(|head| (head.kind(), head.timeout()));
        let Some((kind, _)) =
            head.filter(|(_, timeout)| since.elapsed() < descriptors::patience(*timeout))
        else {
            state.short_since = None;
            self.failed(state, failure);
            return Some(LockEvent::Changed);
        };
        drop(state);
        descriptors::close_unneeded();
        let queue = Arc::clone(self);
        let ask = move || queue.handle(LockEvent::AskAgain(kind));
        match pool().submit_after(SHORTAGE_PAUSE, Box::new(ask)) {
            Ok(()) => None,
            Err(_) => {
                self.failed(self.lock(), failure);
                Some(LockEvent::Changed)
            }
        }
    }

    fn failed(&self, mut state: MutexGuard<'_, QueueState<B>>, failure: Failure) {
        let head = state.scheduler.failed();
        drop(state);
        if let Some(head) = head {
            head.settle(Err(self.backend.error(failure)));
        }
    }

    /// Waits for the lock: with the wait that has begun, one that is under way or a new one.
    fn wait(
        self: &Arc<Queue<B>>,
        mut state: MutexGuard<'_, QueueState<B>>,
        kind: LockKind,
        begun: Option<B::Wait>,
    ) -> LockEvent<B> {
        let wait = match begun.filter(|wait| wait.kind() == kind) {
            Some(wait) => wait,
            None => match state.rejoin(kind) {
                Ok(Some(number)) => {
                    state.scheduler.wait_began(number, kind);
                    return LockEvent::Changed;
                }
                Ok(None) => match self.backend.begin_wait(&mut state.memory, kind) {
                    Ok(wait) => wait,
                    Err(failure) => return LockEvent::Failed(failure),
                },
                Err(failure) => return LockEvent::Failed(failure),
            },
        };
        let wait = Arc::new(wait);
        state.last_wait += 1;
        let number = state.last_wait;
        state.waits.push((number, Arc::clone(&wait)));
        state.scheduler.wait_began(number, kind);
        // Not under the mutex: where there is no thread for it other jobs may be dropped.
        drop(state);
        match B::run_wait(self, wait, number) {
            Ok(()) => LockEvent::Changed,
            Err(failure) => self.ended(number, LockEvent::Failed(failure)),
        }
    }

    /// Takes the result of a wait.
    pub(super) fn wait_ended(self: &Arc<Queue<B>>, number: u64, result: LockEvent<B>) {
        let event = self.ended(number, result);
        self.handle(event);
    }

    /// The result of a wait, if it is wanted: otherwise a lock is released.
    fn ended(&self, number: u64, result: LockEvent<B>) -> LockEvent<B> {
        let mut state = self.lock();
        state.waits.retain(|(other, _)| *other != number);
        if state.scheduler.wait_ended(number) {
            return result;
        }
        drop(state);
        drop(result);
        LockEvent::Changed
    }

    /// A call has released the lock.
    pub(super) fn released(self: &Arc<Queue<B>>, kind: LockKind) {
        self.lock().scheduler.released(kind);
        if !DeferredWakeUps::add(|| Arc::clone(self) as Arc<dyn WaiterQueue>) {
            self.handle(LockEvent::Changed);
        }
    }

    fn refuse(&self, refused: &mut Vec<Arc<CallOf<B>>>) {
        if refused.is_empty() {
            return;
        }
        // Not every call that tries needs to know the holder, so it does not wait for the note.
        let contention = self.contention(None, false);
        for waiter in refused.drain(..) {
            waiter.settle(Err(ErrorKind::Locked(Box::new(contention.clone()))));
        }
    }

    fn contention(&self, waited: Option<Duration>, may_wait: bool) -> Contention {
        let state = self.lock();
        let in_this_process = state.scheduler.is_held();
        let own = state.scheduler.has_writer().then_some(state.since);
        drop(state);
        let holder = self.backend.holder(own, may_wait);
        Contention { path: self.backend.path(), waited, holder, in_this_process }
    }

    /// Is forgotten when no call holds or wants the lock any more.
    pub(super) fn retire(self: &Arc<Queue<B>>) {
        let mut state = self.lock();
        if state.scheduler.is_idle() && !state.is_retained {
            state.is_retired = true;
            drop(state);
            self.forget();
            self.backend.unused(&self.key);
        }
    }

    /// There may be another one from now on.
    fn forget(self: &Arc<Queue<B>>) {
        let mut queues = guard(B::queues());
        if queues.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, self)) {
            queues.remove(&self.key);
        }
    }
}

impl<B: Backend> WaiterQueue for Queue<B> {
    fn pump(self: Arc<Self>) {
        self.handle(LockEvent::Changed);
    }

    fn is_next(&self, number: u64) -> bool {
        self.lock().scheduler.head().is_some_and(|head| head.number() == number)
    }

    fn timed_out(&self, waited: Option<Duration>) -> ErrorKind {
        ErrorKind::Locked(Box::new(self.contention(waited, true)))
    }
}

impl<B: Backend> QueueState<B> {
    /// Whether a wait of this kind is under way.
    fn has_wait(&self, kind: LockKind) -> bool {
        self.waits.iter().any(|(_, wait)| wait.kind() == kind)
    }

    /// Lets a wait of this kind go on, if there is one. Which it is.
    fn rejoin(&self, kind: LockKind) -> Result<Option<u64>, Failure> {
        for (number, wait) in self.waits.iter().filter(|(_, wait)| wait.kind() == kind) {
            if wait.rejoin()? {
                return Ok(Some(*number));
            }
        }
        Ok(None)
    }

    fn wait(&self, number: u64) -> Option<&Arc<B::Wait>> {
        self.waits.iter().find(|(other, _)| *other == number).map(|(_, wait)| wait)
    }
}

thread_local! {
    /// While this thread hands out locks: the queues of those that were released meanwhile.
    static DEFERRED: RefCell<Option<Vec<Arc<dyn WaiterQueue>>>> = const { RefCell::new(None) };
}

/// A thread that hands out locks. A call may release its lock in the very reply that brings it, and
/// so may thousands: what comes next is done when the outermost of these is dropped, and not
/// inside the reply.
pub(super) struct DeferredWakeUps {
    is_outermost: bool,
}

impl DeferredWakeUps {
    fn begin() -> DeferredWakeUps {
        let is_outermost = !DeferredWakeUps::is_under_way();
        if is_outermost {
            let _ = DEFERRED.try_with(|queues| queues.replace(Some(Vec::new())));
        }
        DeferredWakeUps { is_outermost }
    }

    /// Whether this thread is handing out locks.
    pub(super) fn is_under_way() -> bool {
        DEFERRED.try_with(|queues| queues.borrow().is_some()).unwrap_or(false)
    }

    /// Puts off what a queue has to do. `false` where this thread hands out no locks.
    fn add(queue: impl FnOnce() -> Arc<dyn WaiterQueue>) -> bool {
        let add = |queues: &RefCell<Option<Vec<_>>>| {
            queues.borrow_mut().as_mut().map(|queues| queues.push(queue()))
        };
        DEFERRED.try_with(add).ok().flatten().is_some()
    }

    fn next() -> Option<Arc<dyn WaiterQueue>> {
        DEFERRED.try_with(|queues| queues.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten()
    }
}

impl Drop for DeferredWakeUps {
    fn drop(&mut self) {
        if self.is_outermost {
            while let Some(queue) = DeferredWakeUps::next() {
                queue.pump();
            }
            let _ = DEFERRED.try_with(|queues| queues.replace(None));
        }
    }
}
