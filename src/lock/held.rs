//! The locks that a caller holds, and what it does under them.
//!
//! The locks that a caller holds travel with each operation that it starts ([`HeldLocks`]). An
//! operation that needs a file's lock borrows it if the caller holds it, instead of waiting for
//! the caller. Operations that borrow one lock run one after another, in the order of the calls;
//! the lock is released after the last of them. Before it is known which file an operation is for,
//! it has a [`Reservation`] with each of the caller's locks, so that no later call overtakes it and
//! no lock is released too early.
//!
//! This is the one place that decides that waiting would never end ([`HeldLocks::claim`]): EDEADLK.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::guard::{KernelGuard, LockOwner};
use super::kernel::KernelLock;
use crate::descriptors::SharedPermit;
use crate::error::{Deadlock, ErrorKind};
use crate::mutex::guard;
use crate::threads::task::{OnceCallback, Resume, TakeAgain, TakenAgain, nothing_to_take};
use crate::threads::{Job, pool};
use crate::vocabulary::{FileKey, GuardedFile, LockKind};

/// A lock that is held: taken, or borrowed from the caller, who holds it. Dropping it releases it.
pub struct LockGuard(Source);

enum Source {
    Taken(OwnLock),
    Borrowed(Reservation),
}

impl LockGuard {
    fn lock(&self) -> &LendableLock {
        match &self.0 {
            Source::Taken(OwnLock(lock)) => lock,
            Source::Borrowed(reservation) => &reservation.lock,
        }
    }

    /// Which lock it is.
    pub fn key(&self) -> &FileKey {
        self.lock().owner.key()
    }

    /// Which file it is the lock of.
    pub fn guarded(&self) -> GuardedFile {
        let owner = &self.lock().owner;
        GuardedFile { dir: owner.key().0, name: owner.guarded().to_owned() }
    }

    /// What it was taken for.
    pub fn kind(&self) -> LockKind {
        self.lock().kind
    }

    /// The depth of what is started under it; see [`crate::descriptors`].
    pub fn depth_inside(&self) -> u32 {
        self.lock().owner.depth_inside()
    }

    /// Whether it is borrowed from the caller.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0, Source::Borrowed(_))
    }

    /// Whether the name of its lock file still leads to the file that is locked. If it does not, the
    /// file was removed, and other processes lock another one.
    pub fn is_in_place(&self) -> bool {
        guard(&self.lock().state).guard.as_ref().is_some_and(KernelGuard::is_in_place)
    }

    /// Keeps a write lock without its file being open, where the system can do that
    /// ([`can_be_parked`](super::can_be_parked)): it is one of very many. Other processes are not told
    /// which process has it.
    pub fn park(&self) {
        if let Source::Taken(OwnLock(lock)) = &self.0
            && let Some(taken) = guard(&lock.state).guard.as_mut()
            && lock.kind == LockKind::Write
        {
            taken.park();
        }
    }

    /// Lets other processes have the lock for a while. To the calls of this process it stays held. A
    /// lock that is borrowed stays with its holder.
    pub fn give_back(&self) {
        let Source::Taken(OwnLock(lock)) = &self.0 else { return };
        let given_back = guard(&lock.state).guard.as_mut().and_then(KernelGuard::give_back);
        // Not under the mutex: it takes system calls.
        drop(given_back);
    }

    /// What takes it again after that, and waits for it as long as when it was taken first. The wait
    /// ends with this guard, too.
    pub fn take_again(&self) -> TakeAgain {
        match &self.0 {
            Source::Taken(OwnLock(lock)) => {
                let lock = Arc::clone(lock);
                Box::new(move |then| lock.take_again(then))
            }
            Source::Borrowed(_) => nothing_to_take(),
        }
    }

    /// The same for a caller that gets the guard again only with the lock.
    pub fn into_taken_again(
        self,
        then: impl FnOnce(Result<LockGuard, ErrorKind>) + Send + 'static,
    ) {
        let take_again = self.take_again();
        let _ = take_again(Box::new(move |taken| then(taken.map(|()| self))));
    }

    /// Releases it, if that can be done without waiting for anything: on a thread that must not
    /// wait.
    ///
    /// # Errors
    ///
    /// With the guard, which still holds the lock, to be released elsewhere.
    pub fn release_at_once(self) -> Result<(), LockGuard> {
        let Source::Taken(OwnLock(lock)) = &self.0 else { return Ok(()) };
        let mut state = guard(&lock.state);
        if !state.reservations.is_empty() {
            drop(state);
            return Err(self);
        }
        match state.guard.take().map_or(Ok(()), KernelGuard::release_at_once) {
            Ok(()) => {
                drop(state);
                Ok(())
            }
            Err(kept) => {
                state.guard = Some(kept);
                drop(state);
                Err(self)
            }
        }
    }

    /// Releases it on another thread, after the operations that borrow it, and then calls `then`.
    pub fn release(self, then: impl FnOnce() + Send + 'static) {
        let then = match &self.0 {
            Source::Taken(OwnLock(lock)) => {
                guard(&lock.state).then = Some(Box::new(then));
                None
            }
            Source::Borrowed(_) => Some(then),
        };
        // If there is no thread for it, the job is dropped, and the lock released, on this one.
        let _ = pool().submit(Box::new(move || drop(self)));
        if let Some(then) = then {
            then();
        }
    }
}

impl From<KernelGuard> for LockGuard {
    fn from(taken: KernelGuard) -> LockGuard {
        LockGuard(Source::Taken(OwnLock(Arc::new(LendableLock {
            owner: Arc::clone(taken.owner()),
            kind: taken.kind(),
            state: Mutex::new(LendableLockState {
                guard: Some(taken),
                is_released: false,
                then: None,
                calls: 0,
                reservations: VecDeque::new(),
            }),
        }))))
    }
}

impl From<Reservation> for LockGuard {
    fn from(reservation: Reservation) -> LockGuard {
        LockGuard(Source::Borrowed(reservation))
    }
}

/// A lock that was taken, until its holder releases it.
struct OwnLock(Arc<LendableLock>);

impl Drop for OwnLock {
    fn drop(&mut self) {
        let mut state = guard(&self.0.state);
        state.is_released = true;
        let released = state.take_if_unused();
        // Not under the mutex: the lock leads to its next holder.
        drop(state);
        drop(released);
    }
}

/// A lock, and the operations that borrow it.
struct LendableLock {
    owner: Arc<dyn LockOwner>,
    kind: LockKind,
    state: Mutex<LendableLockState>,
}

impl LendableLock {
    fn take_again(self: &Arc<LendableLock>, then: TakenAgain) -> Resume {
        let begun = guard(&self.state).guard.as_mut().and_then(KernelGuard::begin_again);
        let Some(timeout) = begun else {
            then(Ok(()));
            return Box::new(|| {});
        };
        let own = Arc::downgrade(self);
        let reply = move |taken: Result<KernelLock, ErrorKind>| {
            then(taken.and_then(|taken| match own.upgrade() {
                Some(lock) => lock.taken_again(taken),
                None => Err(ErrorKind::Cancelled),
            }));
        };
        let end_wait = Arc::clone(&self.owner).take_again(timeout, Box::new(reply));
        let mut state = guard(&self.state);
        if let Some(guard) = state.guard.as_mut() {
            guard.waits_for_it(&end_wait);
            drop(state);
        } else {
            // It was released meanwhile.
            drop(state);
            end_wait();
        }
        Box::new(move || end_wait())
    }

    fn taken_again(&self, taken: KernelLock) -> Result<(), ErrorKind> {
        let mut state = guard(&self.state);
        if let Some(guard) = state.guard.as_mut() {
            guard.taken_again(taken);
            return Ok(());
        }
        drop(state);
        // It was released meanwhile. Releasing it takes system calls.
        drop(taken);
        Err(ErrorKind::Cancelled)
    }
}

struct LendableLockState {
    /// `None` once it has been released.
    guard: Option<KernelGuard>,
    /// Its holder has released it.
    is_released: bool,
    /// To be called when it has been released.
    then: Option<Box<dyn FnOnce() + Send>>,
    calls: u64,
    /// The operations that borrow it, or may, in the order of the calls, and what starts them. The
    /// first one has the lock.
    reservations: VecDeque<(u64, Option<Job>)>,
}

impl LendableLockState {
    fn take_if_unused(&mut self) -> Released {
        match self.is_released && self.reservations.is_empty() {
            true => Released { guard: self.guard.take(), then: self.then.take() },
            false => Released::default(),
        }
    }
}

/// What is left of a lock that its holder has released, and no operation borrows. Dropping it
/// releases the lock, and says so.
#[derive(Default)]
struct Released {
    guard: Option<KernelGuard>,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for Released {
    fn drop(&mut self) {
        drop(self.guard.take());
        if let Some(then) = self.then.take() {
            then();
        }
    }
}

/// A position among the operations that borrow a lock. Dropping it leaves the lock to the next.
pub struct Reservation {
    lock: Arc<LendableLock>,
    number: u64,
}

impl Reservation {
    fn new(lock: &Arc<LendableLock>) -> Reservation {
        let mut state = guard(&lock.state);
        state.calls += 1;
        let number = state.calls;
        state.reservations.push_back((number, None));
        Reservation { lock: Arc::clone(lock), number }
    }

    /// Calls `start` when the operations of earlier calls are over: now, if they are, and on
    /// another thread otherwise.
    pub fn when_first(self, start: impl FnOnce(Result<LockGuard, ErrorKind>) + Send + 'static) {
        let lock = Arc::clone(&self.lock);
        let number = self.number;
        let start = OnceCallback::new(start);
        let mut state = guard(&lock.state);
        match state.reservations.iter_mut().position(|(other, _)| *other == number) {
            Some(0) | None => {
                drop(state);
                start.call(Ok(self.into()));
            }
            Some(index) => {
                if let Some((_, job)) = state.reservations.get_mut(index) {
                    *job = Some(Box::new(move || start.call(Ok(self.into()))));
                }
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = guard(&self.lock.state);
        let is_first = state.reservations.front().is_some_and(|(first, _)| *first == self.number);
        if let Ok(index) =
            state.reservations.binary_search_by_key(&self.number, |(other, _)| *other)
        {
            state.reservations.remove(index);
        }
        let next = state.reservations.front_mut().filter(|_| is_first);
        let next = next.and_then(|(_, job)| job.take());
        let released = state.take_if_unused();
        drop(state);
        // What comes next reads files, and this may be JavaScript's thread. A job that cannot be
        // run is dropped, and its caller told.
        if let Some(next) = next {
            let _ = pool().submit(next);
        }
        if released.guard.is_some() {
            let _ = pool().submit(Box::new(move || drop(released)));
        }
    }
}

/// The locks that the caller of an operation holds.
#[derive(Default)]
pub struct HeldLocks {
    locks: Vec<HeldLock>,
    /// The depth that the operation has besides.
    depth: u32,
    /// The permit to keep the files open that the operation asks for, if it has it already.
    permit: Option<SharedPermit>,
}

/// One of them, as far as this operation is concerned.
pub struct HeldLock {
    key: FileKey,
    kind: LockKind,
    /// The depth of what is started under it; see [`crate::descriptors`].
    depth: u32,
    use_of: HeldLockUse,
}

enum HeldLockUse {
    /// The operation asks for a lock of its own.
    None,
    /// The operation borrows the lock; the reservation is there until it is claimed.
    Borrow(Option<Reservation>),
    /// The caller is a function that updates the file under this lock.
    Updating,
}

impl LockGuard {
    /// The lock, for a call that asks for another one.
    pub fn held(&self) -> HeldLock {
        HeldLock {
            key: self.key().clone(),
            kind: self.kind(),
            depth: self.depth_inside(),
            use_of: HeldLockUse::None,
        }
    }

    /// The lock, for an operation that borrows it, unless the caller is an update under it.
    pub fn lend(&self, is_updating: bool) -> HeldLock {
        let use_of = match &self.0 {
            Source::Taken(OwnLock(lock)) if !is_updating => {
                let reservation = (lock.kind == LockKind::Write).then(|| Reservation::new(lock));
                HeldLockUse::Borrow(reservation)
            }
            _ => HeldLockUse::Updating,
        };
        HeldLock { use_of, ..self.held() }
    }
}

impl FromIterator<(FileKey, LockKind)> for HeldLocks {
    /// For a call that asks for another lock.
    fn from_iter<I: IntoIterator<Item = (FileKey, LockKind)>>(all: I) -> HeldLocks {
        let held = |(key, kind)| HeldLock { key, kind, depth: 0, use_of: HeldLockUse::None };
        all.into_iter().map(held).collect()
    }
}

impl FromIterator<HeldLock> for HeldLocks {
    /// The one that was taken last comes last.
    fn from_iter<I: IntoIterator<Item = HeldLock>>(all: I) -> HeldLocks {
        HeldLocks { locks: all.into_iter().collect(), ..HeldLocks::default() }
    }
}

impl HeldLocks {
    /// The same for an operation that has the permit to keep the files open that it asks for.
    #[must_use]
    pub fn with_permit(self, permit: SharedPermit) -> HeldLocks {
        HeldLocks { permit: Some(permit), ..self }
    }

    /// The permit, if there is one already.
    pub(super) fn permit(&self) -> Option<SharedPermit> {
        self.permit.clone()
    }

    /// The same for an operation that comes under further locks, which it may wait for: it has at
    /// least this depth.
    #[must_use]
    pub fn at_depth(self, depth: u32) -> HeldLocks {
        HeldLocks { depth, ..self }
    }

    /// The depth of the operation: one more than that of the deepest of the locks.
    pub fn depth(&self) -> u32 {
        self.locks.iter().map(|held| held.depth).max().unwrap_or(0).max(self.depth)
    }

    /// Whether the caller holds none.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// Which locks these are, and what they were taken for.
    pub fn kinds(&self) -> impl Iterator<Item = (FileKey, LockKind)> {
        self.locks.iter().map(|held| (held.key.clone(), held.kind))
    }

    /// What an operation has to do that needs the lock with this key, whose lock file is at
    /// `path`: to take it (`None`), or to borrow it from the caller. Another key may be that of the
    /// same lock (`is_same`): where names are alike that differ in case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Deadlock`] when the operation would wait for its own caller.
    pub fn claim(
        &mut self,
        key: &FileKey,
        path: &Path,
        is_same: impl Fn(&FileKey) -> bool,
    ) -> Result<Option<Reservation>, ErrorKind> {
        let is_it = |held: &&mut HeldLock| held.key == *key || is_same(&held.key);
        let Some(held) = self.locks.iter_mut().rfind(is_it) else { return Ok(None) };
        let deadlock = match &mut held.use_of {
            HeldLockUse::None => Deadlock::Held(path.to_owned()),
            HeldLockUse::Updating => Deadlock::InUpdate,
            HeldLockUse::Borrow(_) if held.kind == LockKind::Read => Deadlock::ForReading,
            HeldLockUse::Borrow(reservation) => return Ok(reservation.take()),
        };
        Err(deadlock.into())
    }
}
