//! Takes the locks of several files, one after the other; first those that the caller holds and
//! lends.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::descriptors::SharedPermit;
use crate::error::{Deadlock, ErrorKind};
use crate::lock::{
    self, FileKey, HeldLocks, LockGuard, LockKind, LockRequest, Reservation, Waiter,
};
use crate::mutex::guard;
use crate::threads::Pool;

/// The locks that were taken, by the key each was asked for; or why one could not be taken, and its
/// path if it was one.
pub(super) type LockedFiles = Result<Vec<(FileKey, LockGuard)>, (ErrorKind, Option<PathBuf>)>;

/// Locks that are taken one after the other.
pub(super) struct LockSequence {
    pub(super) pool: Pool,
    /// The locks that are still to be taken, in their order.
    pub(super) missing: VecDeque<(FileKey, PathBuf)>,
    /// How long to wait for all of them together, for the error.
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    /// The locks that the caller holds.
    pub(super) inside: HashMap<FileKey, LockKind>,
    pub(super) waiter: Arc<BeginWaiter>,
    /// To keep the files of all these locks open, or of so many.
    pub(super) permit: Option<SharedPermit>,
    /// From which number on they are held without their files being open.
    pub(super) parks_from: Option<usize>,
    pub(super) taken: Vec<(FileKey, LockGuard)>,
    /// Takes the outcome, on one of the pool's threads.
    pub(super) reply: Box<dyn FnOnce(LockedFiles) + Send>,
}

impl LockSequence {
    /// Takes the next lock. This runs on any thread, JavaScript's included, and waits for nothing.
    pub(super) fn take_next(mut self) {
        let Some(position) = self.waiter.next_position() else {
            return self.end(Err((ErrorKind::Cancelled, None)));
        };
        let Some((key, path)) = self.missing.pop_front() else { return self.end(Ok(())) };
        // In a directory where names are alike that differ in case, two paths may have one lock.
        let own = self.taken.iter().filter(|(taken, _)| lock::may_be_same(&key, taken));
        let own: Vec<_> = own.map(|(taken, _)| (taken.clone(), LockKind::Write)).collect();
        let is_spelt_otherwise = !own.is_empty();
        let request = LockRequest {
            path: path.clone(),
            kind: LockKind::Write,
            timeout: left(self.deadline),
            held: self.held(own),
            before: None,
        };
        let (pool, waiter) = (self.pool.clone(), Arc::clone(&self.waiter));
        let reply = move |granted: Result<LockGuard, ErrorKind>| match granted {
            Ok(lock) => {
                if self.parks_from.is_some_and(|first| self.taken.len() >= first) {
                    lock.park();
                }
                self.taken.push((key, lock));
                self.take_next();
            }
            Err(ErrorKind::Deadlock(Deadlock::Held(_))) if is_spelt_otherwise => {
                self.end(Err((Deadlock::OtherSpelling.into(), Some(path))));
            }
            Err(mut kind) => {
                if let ErrorKind::Locked(contention) = &mut kind {
                    // The time for all of them together, not for the last one alone.
                    contention.waited = self.timeout.filter(|timeout| !timeout.is_zero());
                }
                self.end(Err((kind, Some(path))));
            }
        };
        waiter.waits_for(position, lock::acquire(&pool, request, Box::new(reply)));
    }

    /// The locks that the caller holds, these of its own, and the permit.
    fn held(&self, own: impl IntoIterator<Item = (FileKey, LockKind)>) -> HeldLocks {
        let held: HeldLocks = self.inside.clone().into_iter().chain(own).collect();
        match &self.permit {
            Some(permit) => held.with_permit(Arc::clone(permit)),
            None => held,
        }
    }

    /// Hands the outcome over on one of the pool's threads: this one may be JavaScript's, and even
    /// the release of locks takes system calls. Without a thread all locks are released, and the
    /// reply is dropped.
    fn end(self, outcome: Result<(), (ErrorKind, Option<PathBuf>)>) {
        let LockSequence { pool, taken, reply, .. } = self;
        let _ = pool.submit(Box::new(move || reply(outcome.map(|()| taken))));
    }
}

/// Borrows locks of the caller, each after the operations that the caller has started before under
/// it.
pub(super) fn borrow_all(
    mut reservations: VecDeque<Reservation>,
    mut borrowed: Vec<LockGuard>,
    reply: impl FnOnce(Result<Vec<LockGuard>, ErrorKind>) + Send + 'static,
) {
    let Some(first) = reservations.pop_front() else { return reply(Ok(borrowed)) };
    first.when_first(move |lent| match lent {
        Ok(lock) => {
            borrowed.push(lock);
            borrow_all(reservations, borrowed, reply);
        }
        Err(kind) => {
            drop(borrowed);
            reply(Err(kind));
        }
    });
}

/// How much time is left; `None` without a deadline.
pub(super) fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// A caller who waits for a transaction to begin.
#[derive(Default)]
pub struct BeginWaiter {
    wait: Mutex<CurrentWait>,
}

#[derive(Default)]
struct CurrentWait {
    is_cancelled: bool,
    /// The position, in the order of acquisition, of the lock that was asked for last.
    position: u64,
    /// The lock being waited for, and its position.
    lock: Option<(u64, Arc<Waiter>)>,
}

impl BeginWaiter {
    /// Ends the wait, unless it is over already.
    pub fn cancel(&self) {
        let mut wait = guard(&self.wait);
        wait.is_cancelled = true;
        let lock = wait.lock.take();
        drop(wait);
        if let Some((_, waiter)) = lock {
            waiter.cancel();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        guard(&self.wait).is_cancelled
    }

    /// The position of the lock that is asked for next; `None` when the wait was cancelled.
    fn next_position(&self) -> Option<u64> {
        let mut wait = guard(&self.wait);
        wait.position += 1;
        (!wait.is_cancelled).then_some(wait.position)
    }

    fn waits_for(&self, position: u64, waiter: Arc<Waiter>) {
        let mut wait = guard(&self.wait);
        if wait.is_cancelled {
            drop(wait);
            return waiter.cancel();
        }
        // The lock may be held by now, and the next one have been asked for on another thread.
        if wait.lock.as_ref().is_none_or(|(other, _)| *other < position) {
            wait.lock = Some((position, waiter));
        }
    }
}
