//! What is counted of locks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::METRICS;
use super::contention::Contention;
use super::counter::{Counter, Failures};
use super::histogram::Histogram;
use super::snapshot::Snapshot;
use crate::error::ErrorKind;
use crate::lock::LockKind;

/// Locks, whoever asks for them: calls for a lock, and all that work under one that they take
/// themselves.
pub struct Locks {
    /// How long those who got one waited for it, by kind.
    read_waits: Histogram,
    write_waits: Histogram,
    /// How long those that were given back had been held.
    read_holds: Histogram,
    write_holds: Histogram,
    /// Calls that did not get their lock at once.
    contended: Counter,
    /// Calls that did not get it in time.
    timed_out: Counter,
    /// Calls that tried once, and did not get it.
    refused: Counter,
    /// Calls that did not get it for other reasons.
    failures: Failures,
    contention: Contention,
}

impl Locks {
    pub(super) const fn new() -> Locks {
        Locks {
            read_waits: Histogram::new(),
            write_waits: Histogram::new(),
            read_holds: Histogram::new(),
            write_holds: Histogram::new(),
            contended: Counter::new(),
            timed_out: Counter::new(),
            refused: Counter::new(),
            failures: Failures::new(),
            contention: Contention::new(),
        }
    }

    pub(super) fn tell(&self, figures: &mut Snapshot) {
        figures.durations("locks.wait.read", &self.read_waits, Some("locks.acquired.read"));
        figures.durations("locks.wait.write", &self.write_waits, Some("locks.acquired.write"));
        figures.durations("locks.hold.read", &self.read_holds, None);
        figures.durations("locks.hold.write", &self.write_holds, None);
        figures.count("locks.contended", &self.contended);
        figures.count("locks.timedOut", &self.timed_out);
        figures.count("locks.refused", &self.refused);
        figures.failures("locks.failed", &self.failures);
        figures.contention = self.contention.read(figures.reading);
    }

    fn waits(&self, kind: LockKind) -> &Histogram {
        match kind {
            LockKind::Read => &self.read_waits,
            LockKind::Write => &self.write_waits,
        }
    }

    fn holds(&self, kind: LockKind) -> &Histogram {
        match kind {
            LockKind::Read => &self.read_holds,
            LockKind::Write => &self.write_holds,
        }
    }
}

/// One call that asks for a lock.
pub struct LockCall {
    path: PathBuf,
    kind: LockKind,
    begun: Instant,
    has_waited: AtomicBool,
}

impl LockCall {
    /// It is made now, for the lock of this file.
    pub fn new(path: PathBuf, kind: LockKind) -> LockCall {
        LockCall { path, kind, begun: Instant::now(), has_waited: AtomicBool::new(false) }
    }

    /// The lock is not free.
    pub fn waits(&self) {
        self.has_waited.store(true, Ordering::Relaxed);
    }

    /// It has its answer.
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

/// A call has got the lock at once.
pub fn lock_taken_at_once(kind: LockKind, begun: Instant) {
    METRICS.locks.waits(kind).record(begun.elapsed());
}

/// A lock that is held, from when it is made until it is dropped.
pub struct LockHeld {
    kind: LockKind,
    since: Instant,
}

impl LockHeld {
    /// It is held from now on.
    pub fn new(kind: LockKind) -> LockHeld {
        LockHeld { kind, since: Instant::now() }
    }
}

impl Drop for LockHeld {
    fn drop(&mut self) {
        METRICS.locks.holds(self.kind).record(self.since.elapsed());
    }
}
