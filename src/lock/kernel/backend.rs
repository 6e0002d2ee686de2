//! How the queues get locks from the kernel, and release them.
//!
//! For a short time ([`TimeSlice`]) a lock passes between the calls of this process before other
//! processes have their turn; after that it is asked for anew, so that a process with many calls
//! does not keep others out.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, MutexGuard, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use super::LockFile;
use super::inspect::{Patience, inspect};
use super::lock::KernelLock;
use super::run_wait::{LockSite, run_wait};
use super::take_again::take_again;
use super::wait::KernelWait;
use crate::error::{Contention, ErrorKind, Failure, Holder};
use crate::fs::LockRules;
use crate::fs::os::DirHandle;
use crate::lock::guard::{EndWait, KernelGuard, KernelReply, LockOwner};
use crate::lock::held::LockGuard;
use crate::lock::lock_name::LockName;
use crate::lock::lock_path::LockPath;
use crate::lock::queue::{
    Backend, CallOf, DeferredWakeUps, LockEvent, PendingWait, Queue, QueueState, Queues,
};
use crate::lock::scheduler::WaitingCall;
use crate::lock::time_slice::TimeSlice;
use crate::lock::unused;
use crate::lock::waiter::IfMissing;
use crate::mutex::guard;
use crate::threads::pool;
use crate::vocabulary::{FileKey, LockKind};

/// Locks of the kernel on a lock file.
pub(in crate::lock) struct KernelBackend {
    lock_file: LockPath,
    /// Whether no other lock has the directory open.
    opens_dir: bool,
    rules: OnceLock<LockRules>,
}

/// What is remembered of a lock file.
#[derive(Default)]
pub(in crate::lock) struct KernelMemory {
    /// The last time slice of this process, if it had the lock for writing.
    pub(in crate::lock) time_slice: Option<TimeSlice>,
    /// What the kernel has given last, as long as a call has it.
    pub(in crate::lock) current: Weak<KernelLock>,
    /// The lock file, kept open while the queue is retained.
    pub(in crate::lock) opened: Option<Arc<LockFile>>,
}

impl KernelBackend {
    pub(in crate::lock) fn new(mut lock_file: LockPath) -> KernelBackend {
        let opens_dir = lock_file.share_dir();
        KernelBackend { lock_file, opens_dir, rules: OnceLock::new() }
    }

    /// Whether calls of this process may hold or want the lock with this key.
    pub(in crate::lock) fn has_queue(key: &FileKey) -> bool {
        guard(KernelBackend::queues()).contains_key(key)
    }

    /// What is known about locks on the file system of the lock file.
    pub(in crate::lock) fn rules(&self) -> LockRules {
        *self.rules.get_or_init(|| self.lock_file.dir.handle().lock_rules())
    }

    /// Whether no process uses the lock: there is no lock file, nor a call of this process that holds
    /// or wants the lock.
    pub(in crate::lock) fn is_unused(&self) -> bool {
        let LockPath { dir, name, key, .. } = &self.lock_file;
        let queue = guard(KernelBackend::queues()).get(key).cloned();
        queue.is_none_or(|queue| queue.lock().scheduler.is_idle())
            && dir.look(name).is_ok_and(|found| found.is_none())
    }

    /// Whether a lock with this key, which is held, is the same.
    pub(in crate::lock) fn is_lock_file(&self, other: &FileKey) -> bool {
        self.lock_file.is_lock(other)
    }

    /// The directory and the name of the lock file.
    pub(in crate::lock) fn dir_and_name(&self) -> (&DirHandle, &LockName) {
        (self.lock_file.dir.handle(), &self.lock_file.name)
    }
}

impl Backend for KernelBackend {
    type Lock = KernelLock;
    type Wait = KernelWait;
    type Guard = LockGuard;
    type Options = IfMissing;
    type Memory = KernelMemory;

    fn queues() -> &'static Queues<KernelBackend> {
        static QUEUES: LazyLock<Queues<KernelBackend>> = LazyLock::new(Queues::default);
        &QUEUES
    }

    fn files_to_open(&self, key: &FileKey) -> Option<usize> {
        let has_queue = guard(KernelBackend::queues()).contains_key(key);
        (!has_queue).then(|| 1 + usize::from(self.opens_dir))
    }

    fn path(&self) -> PathBuf {
        self.lock_file.path()
    }

    fn used(&self, key: &FileKey) {
        if self.rules().may_remove_files {
            unused::used(key, || self.path(), KernelBackend::has_queue);
        }
    }

    fn unused(&self, key: &FileKey) {
        if self.rules().may_remove_files {
            unused::unused(key);
        }
    }

    fn error(&self, failure: Failure) -> ErrorKind {
        failure.on(self.path()).into()
    }

    fn holder(&self, own: Option<SystemTime>, may_wait: bool) -> Option<Holder> {
        let (dir, name) = self.dir_and_name();
        let patience = if may_wait { Patience::ForNote } else { Patience::None };
        match own {
            Some(since) => Some(Holder::this_process(since)),
            None => inspect(dir, name, LockKind::Write, patience).ok().flatten().flatten(),
        }
    }

    fn ask(
        queue: &Arc<Queue<KernelBackend>>,
        mut state: MutexGuard<'_, QueueState<KernelBackend>>,
        kind: LockKind,
        handed_over: Option<KernelLock>,
    ) -> Option<LockEvent<KernelBackend>> {
        let (last, mut opened) = (state.memory.time_slice, state.memory.opened.take());
        let only_tries = state.scheduler.head().is_some_and(WaitingCall::only_tries);
        drop(state);
        let (dir, name) = queue.backend.dir_and_name();
        if let Some(lock) = handed_over {
            // The call has its ticket first, so that other processes and this one take turns.
            let begun = KernelWait::begin(dir, name, kind);
            drop(lock);
            let passed = begun.and_then(|wait| Ok((wait.pass(dir, name)?, wait)));
            return Some(match passed {
                Ok((Some(lock), _)) => LockEvent::Acquired(lock, kind),
                Ok((None, wait)) => LockEvent::Busy(Some(wait)),
                Err(failure) => LockEvent::Failed(failure),
            });
        }
        let taken = KernelLock::try_acquire(dir, name, kind, last, only_tries, &mut opened);
        Some(LockEvent::of(taken, kind))
    }

    fn downgrade(lock: &mut KernelLock) -> Result<(), Failure> {
        lock.downgrade()
    }

    fn hand_out(
        queue: &Arc<Queue<KernelBackend>>,
        mut state: MutexGuard<'_, QueueState<KernelBackend>>,
        lock: KernelLock,
        served: &[Arc<CallOf<KernelBackend>>],
    ) -> Vec<Result<LockGuard, ErrorKind>> {
        let lock = Arc::new(lock);
        state.memory.current = Arc::downgrade(&lock);
        drop(state);
        queue.look_anew();
        let guard_for = |waiter: &Arc<CallOf<Self>>| {
            let owner = Arc::clone(queue) as Arc<dyn LockOwner>;
            let lock = Arc::clone(&lock);
            Ok(KernelGuard::new(owner, lock, waiter.kind(), waiter.timeout()).into())
        };
        served.iter().map(guard_for).collect()
    }

    fn begin_wait(&self, _: &mut KernelMemory, kind: LockKind) -> Result<KernelWait, Failure> {
        // It has its ticket before its thread is awake.
        let (dir, name) = self.dir_and_name();
        KernelWait::begin(dir, name, kind)
    }

    fn run_wait(
        queue: &Arc<Queue<KernelBackend>>,
        wait: Arc<KernelWait>,
        number: u64,
    ) -> Result<(), Failure> {
        let (queue, kind) = (Arc::clone(queue), wait.kind());
        let ended = Arc::clone(&queue);
        run_wait(queue, wait, move |outcome| {
            ended.wait_ended(number, LockEvent::of(outcome, kind));
        });
        Ok(())
    }
}

impl LockOwner for Queue<KernelBackend> {
    fn key(&self) -> &FileKey {
        self.key()
    }

    fn guarded(&self) -> &OsStr {
        &self.backend.dir_and_name().1.guarded
    }

    fn depth_inside(&self) -> u32 {
        self.depth_inside()
    }

    fn is_in_place(&self, lock: &KernelLock) -> bool {
        let (dir, name) = self.backend.dir_and_name();
        lock.is_called(dir, name)
    }

    fn release(self: Arc<Self>, last: Option<KernelLock>, kind: LockKind) {
        let Some(lock) = last else { return self.released(kind) };
        if DeferredWakeUps::is_under_way() {
            drop(lock);
            return self.released(kind);
        }
        let time_slice = (kind == LockKind::Write).then_some(lock.time_slice());
        // No thread waits for the system under the mutex.
        let (dir, name) = self.backend.dir_and_name();
        let may_pass_on = time_slice.is_some_and(TimeSlice::goes_on)
            && self.lock().scheduler.has_next_after(kind)
            && lock.is_called(dir, name);
        let mut state = self.lock();
        state.memory.time_slice = time_slice;
        if state.scheduler.has_next_after(kind) {
            state.scheduler.released(kind);
            if may_pass_on {
                return self.handle_in(state, LockEvent::Acquired(lock, kind));
            }
            return self.handle_in(state, LockEvent::HandOver(lock));
        }
        // The kernel first: the call that comes next asks it.
        drop(state);
        let opened = lock.release();
        let mut state = self.lock();
        let unneeded = state.keep_open(opened);
        drop(state);
        drop(unneeded);
        self.released(kind);
    }

    fn release_at_once(
        &self,
        last: Option<KernelLock>,
        kind: LockKind,
    ) -> Result<(), Option<KernelLock>> {
        let Some(mut state) = self.try_lock() else { return Err(last) };
        let is_unwanted = state.is_retained && state.scheduler.is_unwanted();
        let may_wait = last.as_ref().is_some_and(|lock| !lock.releases_at_once());
        if !is_unwanted || may_wait || DeferredWakeUps::is_under_way() {
            return Err(last);
        }
        state.scheduler.released(kind);
        let Some(lock) = last else { return Ok(()) };
        state.memory.time_slice = (kind == LockKind::Write).then_some(lock.time_slice());
        let opened = lock.release();
        let unneeded = state.keep_open(opened);
        drop(state);
        if unneeded.is_some() {
            // Closing a file may wait. Without a thread for it, it is closed here.
            let _ = pool().submit(Box::new(move || drop(unneeded)));
        }
        Ok(())
    }

    fn park(&self, lock: &mut KernelLock) {
        if self.backend.rules().stays_open_mapped {
            let (dir, name) = self.backend.dir_and_name();
            lock.park(dir, name);
        }
    }

    fn take_again(self: Arc<Self>, timeout: Option<Duration>, reply: KernelReply) -> EndWait {
        take_again(self, timeout, reply)
    }
}

impl LockSite for Queue<KernelBackend> {
    fn dir_and_name(&self) -> (&DirHandle, &LockName) {
        self.backend.dir_and_name()
    }

    fn has_to_poll(&self) -> bool {
        self.backend.rules().has_to_poll
    }

    fn error(&self, failure: Failure) -> ErrorKind {
        self.backend.error(failure)
    }

    fn contention(&self, waited: Option<Duration>) -> Contention {
        let holder = self.backend.holder(None, waited.is_some());
        Contention { path: self.backend.path(), waited, holder, in_this_process: false }
    }
}

impl LockEvent<KernelBackend> {
    /// What has come of asking for a lock of this kind.
    fn of(outcome: Result<Option<KernelLock>, Failure>, kind: LockKind) -> Self {
        match outcome {
            Ok(Some(lock)) => LockEvent::Acquired(lock, kind),
            Ok(None) => LockEvent::Busy(None),
            Err(failure) => LockEvent::Failed(failure),
        }
    }
}

impl QueueState<KernelBackend> {
    /// Keeps the lock file open while the queue is retained. A file that is to be closed, not under
    /// the mutex.
    fn keep_open(&mut self, file: Option<Arc<LockFile>>) -> Option<Arc<LockFile>> {
        match self.is_retained {
            true => std::mem::replace(&mut self.memory.opened, file),
            false => file,
        }
    }
}
