//! One call that asks for a lock, and one lock that is held, as they are counted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::sections::METRICS;
use crate::error::ErrorKind;
use crate::vocabulary::LockKind;

/// One call that asks for a lock.
pub struct LockCall {
    path: PathBuf,
    kind: LockKind,
    begun: Instant,
    has_waited: AtomicBool,
}

impl LockCall {
    /// The call is made now, for the lock of this file.
    pub fn new(path: PathBuf, kind: LockKind) -> LockCall {
        LockCall { path, kind, begun: Instant::now(), has_waited: AtomicBool::new(false) }
    }

    /// The lock is not free.
    pub fn waits(&self) {
        self.has_waited.store(true, Ordering::Relaxed);
    }

    /// The call has its outcome.
    pub fn ended<T>(&self, outcome: &Result<T, ErrorKind>) {
        let locks = &METRICS.locks;
        let waited = self.begun.elapsed();
        let mut was_free = !self.has_waited.load(Ordering::Relaxed);
        match outcome {
            Ok(_) => locks.waits(self.kind).record(waited),
            Err(ErrorKind::Locked(contention)) => {
                was_free = false;
                let is_late = contention.waited.is_some();
                if is_late { &locks.timed_out } else { &locks.refused }.add(1);
            }
            Err(kind) => locks.failures.add(kind.code()),
        }
        if !was_free {
            locks.contended.add(1);
            locks.contention.record(&self.path, waited);
        }
    }
}

/// A call has got its lock without waiting.
pub fn lock_taken_at_once(kind: LockKind, begun: Instant) {
    METRICS.locks.waits(kind).record(begun.elapsed());
}

/// A lock that is held, from when this is made until it is dropped.
pub struct LockHeld {
    kind: LockKind,
    since: Instant,
}

impl LockHeld {
    /// The lock is held from now on.
    pub fn new(kind: LockKind) -> LockHeld {
        LockHeld { kind, since: Instant::now() }
    }
}

impl Drop for LockHeld {
    fn drop(&mut self) {
        METRICS.locks.holds(self.kind).record(self.since.elapsed());
    }
}
