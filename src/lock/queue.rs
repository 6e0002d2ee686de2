//! Who gets a lock next in this process.
//!
//! There is one [`Queue`] for each lock that somebody in this process holds or wants. It does
//! what [`Scheduler`] decides: the waiter at its head asks the kernel, first without waiting. When
//! another process has the lock, one thread waits for it in the kernel, on behalf of whoever is
//! at the head when it arrives. Waiters that give up just stop waiting: the thread stands in
//! nobody's way, and a lock that arrives for nobody is given back at once.
//!
//! For a short time ([`TimeSlice`]) the lock passes between the calls of this process before other
//! processes have their turn; after that it asks the kernel anew, so that a process with many
//! calls does not keep others out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::sync::OnceLock;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime};

use super::deferred_wake_ups::DeferredWakeUps;
use super::guard::KernelGuard;
use super::kernel::{self, KernelLock, KernelWait, LockFile};
use super::lock_path::Place;
use super::scheduler::{LockAction, Recipient, Scheduler};
use super::time_slice::TimeSlice;
use super::{FileKey, LockGuard, LockKind, Waiter};
use crate::error::Holder;
use crate::error::{Contention, ErrorKind, Failure};
use crate::fs::os::DirHandle;
#[cfg(target_os = "linux")]
use crate::fs::os::cached_lookup::locks_in_memory;
use crate::mutex::guard;
use crate::threads::pool;
use crate::threads::wait_threads;

/// The locks that somebody in this process holds or wants.
static QUEUES: LazyLock<Mutex<HashMap<FileKey, Arc<Queue>>>> = LazyLock::new(Mutex::default);

/// Those who hold or want one lock.
pub(super) struct Queue {
    key: FileKey,
    dir: DirHandle,
    name: OsString,
    path: PathBuf,
    #[cfg(target_os = "linux")]
    is_in_memory: OnceLock<bool>,
    state: Mutex<State>,
}

struct State {
    scheduler: Scheduler<Arc<Waiter>>,
    /// The waits in the kernel, by their numbers.
    waits: Vec<(u64, Arc<KernelWait>)>,
    last_wait: u64,
    /// The last time_slice of this process, if that is what it had the lock for.
    time_slice: Option<TimeSlice>,
    /// What the kernel has given last, as long as somebody has it, and when.
    kernel: Weak<KernelLock>,
    since: SystemTime,
    /// Somebody may come back soon: it stays although nobody holds or wants the lock, and keeps
    /// the lock file open.
    is_warm: bool,
    opened: Option<Arc<LockFile>>,
    /// There may be another queue for the lock by now.
    is_retired: bool,
}

impl Queue {
    /// Lets waiters into the queue of their lock.
    pub(super) fn join(place: Place, waiters: &[Arc<Waiter>]) -> Arc<Queue> {
        loop {
            let mut queues = guard(&QUEUES);
            let Some(known) = queues.get(&place.key) else {
                let key = place.key.clone();
                let queue = Queue::new(place);
                // Nobody else knows it yet.
                queue.admit(waiters);
                queues.insert(key, Arc::clone(&queue));
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

    /// Whether it is not too late for these.
    fn admit(self: &Arc<Queue>, waiters: &[Arc<Waiter>]) -> bool {
        let mut state = self.lock();
        if state.is_retired {
            return false;
        }
        for waiter in waiters {
            let _ = waiter.queue.set(Arc::downgrade(self));
            state.scheduler.insert(Arc::clone(waiter));
        }
        true
    }

    fn new(place: Place) -> Arc<Queue> {
        let Place { dir, key, name, path, .. } = place;
        let state = State {
            scheduler: Scheduler::default(),
            waits: Vec::new(),
            last_wait: 0,
            time_slice: None,
            kernel: Weak::new(),
            since: SystemTime::now(),
            is_warm: false,
            opened: None,
            is_retired: false,
        };
        Arc::new(Queue {
            key,
            dir,
            name,
            path,
            #[cfg(target_os = "linux")]
            is_in_memory: OnceLock::new(),
            state: Mutex::new(state),
        })
    }

    /// Which lock it is.
    pub(super) fn key(&self) -> &FileKey {
        &self.key
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }

    /// Gives the lock to whoever may have it now. Called whenever something has changed.
    pub(super) fn pump(self: &Arc<Queue>) {
        let mut refused = Vec::new();
        loop {
            let mut state = self.lock();
            let next = state.scheduler.next(&mut refused);
            if let LockAction::Withdraw(number) = next {
                state.wait(number).iter().for_each(|wait| wait.withdraw());
            }
            let (last, mut opened) = match next {
                LockAction::Ask(_) => (state.time_slice, state.opened.take()),
                _ => (None, None),
            };
            drop(state);
            self.refuse(&mut refused);
            match next {
                LockAction::Nothing => return,
                LockAction::Retire => return self.retire(),
                LockAction::Withdraw(_) => {}
                LockAction::Ask(kind) => {
                    let (dir, name) = (&self.dir, &self.name);
                    let taken = KernelLock::try_acquire(dir, name, kind, last, &mut opened);
                    drop(opened);
                    match taken {
                        Ok(Some(lock)) => self.arrived(self.lock(), lock, kind),
                        Ok(None) => self.not_now(self.lock(), None),
                        Err(failure) => self.failed(self.lock(), failure),
                    }
                }
            }
        }
    }

    /// Takes back what one hold had: the lock itself from the last of those who shared it.
    pub(super) fn release(self: &Arc<Queue>, last: Option<KernelLock>, kind: LockKind) {
        if DeferredWakeUps::is_under_way() {
            // Given back by the very reply that brought it. What comes next is seen to after
            // that, and not inside it: there may be thousands who do the same.
            drop(last);
            self.lock().scheduler.released(kind);
            return DeferredWakeUps::then_pump(self);
        }
        let Some(kernel) = last else {
            self.lock().scheduler.released(kind);
            return self.pump();
        };
        let time_slice = (kind == LockKind::Write).then_some(kernel.time_slice());
        // Nobody waits for the system under the mutex.
        let may_pass_on = time_slice.is_some_and(TimeSlice::goes_on)
            && self.lock().scheduler.has_next_after(kind)
            && kernel.is_called(&self.dir, &self.name);
        let mut state = self.lock();
        state.time_slice = time_slice;
        if state.scheduler.has_next_after(kind) {
            if may_pass_on {
                state.scheduler.released(kind);
                self.arrived(state, kernel, kind);
                return self.pump();
            }
            return self.hand_over(state, kernel, kind);
        }
        // The kernel first: whoever comes next asks it.
        drop(state);
        let opened = kernel.release();
        let mut state = self.lock();
        let unneeded = state.keep_open(opened);
        state.scheduler.released(kind);
        drop(state);
        drop(unneeded);
        self.pump();
    }

    /// Takes back what one hold had, as above, without waiting for anything: if nobody in this
    /// process wants the lock, and its file system decides about locks in memory.
    pub(super) fn release_at_once(
        &self,
        last: Option<KernelLock>,
        kind: LockKind,
    ) -> Result<(), Option<KernelLock>> {
        let Ok(mut state) = self.state.try_lock() else { return Err(last) };
        let is_unwanted = state.is_warm && state.scheduler.is_unwanted();
        let may_wait = last.as_ref().is_some_and(|kernel| !kernel.releases_at_once());
        if !is_unwanted || may_wait || DeferredWakeUps::is_under_way() {
            return Err(last);
        }
        state.scheduler.released(kind);
        let Some(kernel) = last else { return Ok(()) };
        state.time_slice = (kind == LockKind::Write).then_some(kernel.time_slice());
        let opened = kernel.release();
        let unneeded = state.keep_open(opened);
        drop(state);
        if unneeded.is_some() {
            // Closing a file may wait. Without a thread for it, it is closed here.
            let _ = pool().submit(Box::new(move || drop(unneeded)));
        }
        Ok(())
    }

    /// Gives a lock back, on behalf of whoever comes next in this process. He has his place
    /// in the line first, so that other processes and this one take turns.
    fn hand_over(
        self: &Arc<Queue>,
        mut state: MutexGuard<'_, State>,
        kernel: KernelLock,
        released: LockKind,
    ) {
        state.scheduler.released(released);
        let mut refused = Vec::new();
        let LockAction::Ask(kind) = state.scheduler.next(&mut refused) else {
            drop(state);
            drop(kernel);
            self.refuse(&mut refused);
            return self.pump();
        };
        if state.waits.iter().any(|(_, wait)| wait.kind() == kind) {
            // Somebody is there already, and only has to be told.
            self.not_now(state, None);
            drop(kernel);
            return self.pump();
        }
        drop(state);
        let begun = KernelWait::begin(&self.dir, &self.name, kind);
        drop(kernel);
        let passed = begun.and_then(|wait| Ok((wait.pass(&self.dir, &self.name)?, wait)));
        match passed {
            Ok((Some(lock), _)) => self.arrived(self.lock(), lock, kind),
            Ok((None, wait)) => self.not_now(self.lock(), Some(wait)),
            Err(failure) => self.failed(self.lock(), failure),
        }
        self.pump();
    }

    /// Another process has the lock, or comes first. WaitingCall in the kernel for whoever is at the
    /// head, with a wait that has begun if there is one.
    fn not_now(self: &Arc<Queue>, mut state: MutexGuard<'_, State>, begun: Option<KernelWait>) {
        let mut refused = Vec::new();
        if let Some(kind) = state.scheduler.busy(&mut refused) {
            match self.wait_in_kernel(&mut state, kind, begun) {
                Ok(number) => {
                    state.scheduler.wait_began(number, kind);
                    drop(state);
                }
                Err(failure) => self.failed(state, failure),
            }
        } else {
            drop(state);
        }
        self.refuse(&mut refused);
    }

    /// WaitingCall for the lock on a thread of its own, or on one that is waiting for it already.
    /// Says which wait it is.
    fn wait_in_kernel(
        self: &Arc<Queue>,
        state: &mut State,
        kind: LockKind,
        begun: Option<KernelWait>,
    ) -> Result<u64, Failure> {
        let wait = match begun {
            Some(wait) if wait.kind() == kind => wait,
            _ => {
                for (number, wait) in &state.waits {
                    if wait.kind() == kind && wait.rejoin()? {
                        return Ok(*number);
                    }
                }
                // It has its place in the line before its thread is awake.
                KernelWait::begin(&self.dir, &self.name, kind)?
            }
        };
        let wait = Arc::new(wait);
        state.last_wait += 1;
        let number = state.last_wait;
        let (queue, own) = (Arc::clone(self), Arc::clone(&wait));
        wait_threads::run(Box::new(move || {
            let outcome = own.wait(&queue.dir, &queue.name);
            queue.waited(number, outcome, own.kind());
            queue.pump();
        }))
        .map_err(|error| Failure::new("pthread_create", error))?;
        state.waits.push((number, wait));
        Ok(number)
    }

    /// Takes what a wait in the kernel has come to.
    fn waited(
        self: &Arc<Queue>,
        number: u64,
        outcome: Result<Option<KernelLock>, Failure>,
        kind: LockKind,
    ) {
        let mut state = self.lock();
        state.waits.retain(|(other, _)| *other != number);
        let is_wanted = state.scheduler.wait_ended(number);
        match outcome {
            Ok(Some(lock)) if is_wanted => self.arrived(state, lock, kind),
            Err(failure) if is_wanted => self.failed(state, failure),
            Ok(None) if is_wanted => self.not_now(state, None),
            outcome => {
                // Giving a lock back takes system calls.
                drop(state);
                drop(outcome);
            }
        }
    }

    /// Hands out a lock that the kernel has given.
    fn arrived(
        self: &Arc<Queue>,
        mut state: MutexGuard<'_, State>,
        mut kernel: KernelLock,
        kind: LockKind,
    ) {
        let recipient = state.scheduler.acquired(kind);
        if recipient == Recipient::Unwanted {
            drop(state);
            return drop(kernel);
        }
        if recipient == Recipient::ReadersOnly
            && let Err(failure) = kernel.downgrade()
        {
            self.failed(state, failure);
            return drop(kernel);
        }
        let served = state.scheduler.grant();
        let kernel = Arc::new(kernel);
        state.has_now(&kernel);
        drop(state);
        let holds: Vec<LockGuard> = served
            .iter()
            .map(|waiter| {
                KernelGuard::new(Arc::clone(self), Arc::clone(&kernel), waiter.kind).into()
            })
            .collect();
        // From here on the lock is theirs alone: it is free when they have dropped it.
        drop(kernel);
        let settling = DeferredWakeUps::begin();
        for (waiter, hold) in served.into_iter().zip(holds) {
            waiter.settle(Ok(hold));
        }
        drop(settling);
    }

    fn failed(&self, mut state: MutexGuard<'_, State>, failure: Failure) {
        let head = state.scheduler.failed();
        drop(state);
        if let Some(head) = head {
            head.settle(Err(failure.on(&self.path).into()));
        }
    }

    fn refuse(&self, triers: &mut Vec<Arc<Waiter>>) {
        if triers.is_empty() {
            return;
        }
        // Not everybody who tries wants to know who has it, so nobody waits for his note.
        let contention = self.contention(None, 0);
        for trier in triers.drain(..) {
            trier.settle(Err(ErrorKind::Locked(Box::new(contention.clone()))));
        }
    }

    /// Why somebody has not got the lock, after waiting for so long.
    pub(super) fn timed_out(&self, waited: Option<Duration>) -> ErrorKind {
        ErrorKind::Locked(Box::new(self.contention(waited, kernel::LOOKS)))
    }

    fn contention(&self, waited: Option<Duration>, looks: u32) -> Contention {
        let state = self.lock();
        let (in_this_process, since) = (state.scheduler.is_held(), state.since);
        let is_own = state.scheduler.has_writer();
        drop(state);
        let holder = match is_own {
            true => Some(Holder::this_process(since)),
            // For the message only: if it cannot be told, it is not told.
            false => kernel::inspect(&self.dir, &self.name, LockKind::Write, looks)
                .ok()
                .flatten()
                .flatten(),
        };
        Contention { path: self.path.clone(), waited, holder, in_this_process }
    }

    /// Is forgotten when nobody holds or wants the lock any more.
    fn retire(self: &Arc<Queue>) {
        let mut state = self.lock();
        if state.scheduler.is_idle() && !state.is_warm {
            state.is_retired = true;
            drop(state);
            self.forget();
        }
    }

    /// There may be another one from now on.
    fn forget(self: &Arc<Queue>) {
        let mut queues = guard(&QUEUES);
        if queues.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, self)) {
            queues.remove(&self.key);
        }
    }
}

#[cfg(target_os = "linux")]
impl Queue {
    /// Whether its file system decides about locks in memory.
    pub(super) fn is_decided_in_memory(&self) -> bool {
        *self.is_in_memory.get_or_init(|| locks_in_memory(self.dir.descriptor()))
    }

    /// Stays for a while, for those who come back soon.
    pub(super) fn warm_up(&self) {
        self.lock().is_warm = true;
    }

    /// Does not stay any longer than it is needed.
    pub(super) fn cool_down(self: &Arc<Queue>) {
        let mut state = self.lock();
        state.is_warm = false;
        let opened = state.opened.take();
        drop(state);
        drop(opened);
        self.retire();
    }

    /// Takes the lock without waiting for anything, if nobody wants it, nobody holds it (or only
    /// readers, for reading) and it then `is_right`.
    pub(super) fn take_at_once(
        self: &Arc<Queue>,
        kind: LockKind,
        is_right: impl FnOnce() -> bool,
    ) -> Option<LockGuard> {
        let mut state = self.state.try_lock().ok()?;
        if !state.is_warm || state.is_retired || !state.scheduler.is_unwanted() {
            return None;
        }
        let kernel = match state.scheduler.is_held() {
            true if kind == LockKind::Write || state.scheduler.has_writer() => return None,
            true => self.share_at_once(&state, is_right)?,
            false => self.ask_at_once(&mut state, kind, is_right)?,
        };
        state.scheduler.taken_at_once(kind);
        drop(state);
        kernel.leave_note_soon();
        Some(KernelGuard::new(Arc::clone(self), kernel, kind).into())
    }

    fn ask_at_once(
        &self,
        state: &mut State,
        kind: LockKind,
        is_right: impl FnOnce() -> bool,
    ) -> Option<Arc<KernelLock>> {
        let file = state.opened.take()?;
        let (dir, name) = (&self.dir, &self.name);
        let taken = KernelLock::try_at_once(&file, dir, name, kind, state.time_slice, is_right);
        let Some(kernel) = taken.ok()? else {
            state.opened = Some(file);
            return None;
        };
        let kernel = Arc::new(kernel);
        state.has_now(&kernel);
        Some(kernel)
    }

    /// Readers of this process have it already.
    fn share_at_once(
        &self,
        state: &State,
        is_right: impl FnOnce() -> bool,
    ) -> Option<Arc<KernelLock>> {
        let kernel = state.kernel.upgrade()?;
        (kernel.may_be_shared(&self.dir, &self.name) && is_right()).then_some(kernel)
    }
}

impl State {
    /// The kernel has given this to the process.
    fn has_now(&mut self, kernel: &Arc<KernelLock>) {
        self.kernel = Arc::downgrade(kernel);
        self.since = SystemTime::now();
    }

    /// Keeps the lock file for those who come back soon, if any may. What is to be closed, not
    /// under the mutex.
    fn keep_open(&mut self, file: Option<Arc<LockFile>>) -> Option<Arc<LockFile>> {
        match self.is_warm {
            true => std::mem::replace(&mut self.opened, file),
            false => file,
        }
    }

    fn wait(&self, number: u64) -> Option<&Arc<KernelWait>> {
        self.waits.iter().find(|(other, _)| *other == number).map(|(_, wait)| wait)
    }
}
