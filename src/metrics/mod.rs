//! What holdfast has done in this process: counters and histograms, for all its threads.
//!
//! There is one [`METRICS`]. Things are counted where they happen, each by a line: calls that
//! write in the engine, attempts where a temp file is made, syncs where the system is called,
//! locks where a waiter has its answer. To count is to add to a number without waiting for
//! anybody, whether or not somebody ever looks; only a call that has waited for a lock, or
//! failed, does more. What is derived (means, quantiles) is worked out by whoever reads.
//!
//! Each section is a struct with a `tell` that says what it has, by the names that users see.
//! Nothing here knows anything of how files are written, so whatever comes along can have a section.
//!
//! All of it is zero at the beginning, so it takes no room in the file of the program, and what is
//! never touched takes none in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::{ErrorKind, Operation};
use crate::lock::Kind;
use crate::write::Durability;

pub mod contention;
pub mod histogram;

use contention::{Contention, Place};
use histogram::{Histogram, Summary};

/// Those of this process.
pub static METRICS: Metrics = Metrics::new();

/// Everything that is counted.
pub struct Metrics {
    /// Calls that write, and what they do.
    pub writes: Writes,
    /// Waits for the disk.
    pub syncs: Syncs,
    /// JSON updates.
    pub updates: Updates,
    /// Backups.
    pub backups: Backups,
    /// Transactions.
    pub transactions: Transactions,
    /// Locks.
    pub locks: Locks,
}

impl Metrics {
    const fn new() -> Metrics {
        Metrics {
            writes: Writes::new(),
            syncs: Syncs::new(),
            updates: Updates::new(),
            backups: Backups::new(),
            transactions: Transactions::new(),
            locks: Locks::new(),
        }
    }

    /// What this operation does is tried once more.
    pub fn retried(&self, operation: Operation) {
        match operation {
            Operation::Transaction => &self.transactions.retries,
            _ => &self.writes.retries,
        }
        .add(1);
    }

    /// All that there is to tell.
    pub fn read(&self, reading: Reading) -> Figures {
        let mut figures =
            Figures { reading, counts: vec![], durations: vec![], contention: vec![] };
        self.writes.tell(&mut figures);
        self.syncs.tell(&mut figures);
        self.updates.tell(&mut figures);
        self.backups.tell(&mut figures);
        self.transactions.tell(&mut figures);
        self.locks.tell(&mut figures);
        figures
    }
}

/// What has been counted, by the names that users see: `writes.latency.full`.
#[derive(Debug)]
pub struct Figures {
    reading: Reading,
    /// Numbers of things.
    pub counts: Vec<(String, u64)>,
    /// Durations of things.
    pub durations: Vec<(String, Summary)>,
    /// The files that were contended for, those with the most waits first.
    pub contention: Vec<Place>,
}

impl Figures {
    fn count(&mut self, name: &str, counter: &Counter) {
        self.counts.push((name.to_owned(), counter.read(self.reading)));
    }

    /// Durations, and under a name of its own how many there are.
    fn durations(&mut self, name: &str, histogram: &Histogram, count: Option<&str>) {
        let summary = histogram.read(self.reading);
        self.counts.extend(count.map(|name| (name.to_owned(), summary.count)));
        self.durations.push((name.to_owned(), summary));
    }

    fn failures(&mut self, name: &str, failures: &Failures) {
        let codes = failures.read(self.reading).into_iter();
        self.counts.extend(codes.map(|(code, count)| (format!("{name}.{code}"), count)));
    }
}

/// What is to become of the numbers that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// They stay.
    Keep,
    /// Each goes back to zero in the moment in which it is read. What is counted at that
    /// moment is in what was read or in what comes after, never in both or in neither.
    Take,
}

impl Reading {
    fn number(self, number: &AtomicU64) -> u64 {
        match self {
            Reading::Keep => number.load(Ordering::Relaxed),
            Reading::Take => number.swap(0, Ordering::Relaxed),
        }
    }
}

/// A number that grows.
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn read(&self, reading: Reading) -> u64 {
        reading.number(&self.0)
    }
}

/// Failures by the code of their error. A failure is rare and dear enough to wait for another.
pub struct Failures {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Failures {
    const fn new() -> Failures {
        Failures { counts: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        // Nothing that runs under this lock can panic and leave the state half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one.
    pub fn add(&self, code: &'static str) {
        *self.lock().entry(code).or_default() += 1;
    }

    fn read(&self, reading: Reading) -> BTreeMap<&'static str, u64> {
        match reading {
            Reading::Keep => self.lock().clone(),
            Reading::Take => std::mem::take(&mut *self.lock()),
        }
    }
}

/// Calls that write, and what they do.
pub struct Writes {
    /// Calls that succeeded, from their submission to their answer, by durability.
    none: Histogram,
    file: Histogram,
    full: Histogram,
    failures: Failures,
    /// Calls for which a newer one was written.
    pub merged: Counter,
    /// Attempts to put a file in its place, for whatever.
    pub attempts: Counter,
    /// Those of them that were made because one before had failed.
    retries: Counter,
    /// Bytes of the files that were put in their place.
    pub bytes: Counter,
    /// Syncs that served several writes.
    rounds: Counter,
    /// The writes that they served.
    shared: Counter,
}

impl Writes {
    const fn new() -> Writes {
        Writes {
            none: Histogram::new(),
            file: Histogram::new(),
            full: Histogram::new(),
            failures: Failures::new(),
            merged: Counter::new(),
            attempts: Counter::new(),
            retries: Counter::new(),
            bytes: Counter::new(),
            rounds: Counter::new(),
            shared: Counter::new(),
        }
    }

    /// A call has its answer: it was made then, and asked for this.
    pub fn answered(
        &self,
        begun: Instant,
        durability: Durability,
        outcome: Result<(), &ErrorKind>,
    ) {
        let latency = match durability {
            Durability::None => &self.none,
            Durability::File => &self.file,
            Durability::Full => &self.full,
        };
        match outcome {
            Ok(()) => latency.record(begun.elapsed()),
            Err(kind) => self.failed(kind),
        }
    }

    /// A call has failed.
    pub fn failed(&self, kind: &ErrorKind) {
        self.failures.add(kind.code());
    }

    /// So many writes are synced together.
    pub fn round(&self, writes: usize) {
        if writes > 1 {
            self.rounds.add(1);
            self.shared.add(writes as u64);
        }
    }

    fn tell(&self, figures: &mut Figures) {
        for (level, latency) in [("none", &self.none), ("file", &self.file), ("full", &self.full)] {
            let count = format!("writes.acknowledged.{level}");
            figures.durations(&format!("writes.latency.{level}"), latency, Some(&count));
        }
        figures.failures("writes.failed", &self.failures);
        figures.count("writes.merged", &self.merged);
        figures.count("writes.attempts", &self.attempts);
        figures.count("writes.retries", &self.retries);
        figures.count("writes.bytes", &self.bytes);
        figures.count("writes.sharedSyncs.rounds", &self.rounds);
        figures.count("writes.sharedSyncs.writes", &self.shared);
    }
}

/// Waits for the disk: the calls of the system, those included that failed.
pub struct Syncs {
    file: Histogram,
    folder: Histogram,
    file_system: Histogram,
    write_back: Histogram,
    failed: Counter,
}

impl Syncs {
    const fn new() -> Syncs {
        Syncs {
            file: Histogram::new(),
            folder: Histogram::new(),
            file_system: Histogram::new(),
            write_back: Histogram::new(),
            failed: Counter::new(),
        }
    }

    /// Runs the sync of a file.
    pub fn file<T>(&self, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.run(&self.file, sync)
    }

    /// Runs the sync of a folder.
    pub fn folder<T>(&self, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.run(&self.folder, sync)
    }

    /// Runs the sync of a whole file system.
    pub fn file_system<T>(&self, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.run(&self.file_system, sync)
    }

    /// Runs the wait until the bytes of a file are on the device.
    pub fn write_back<T>(&self, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.run(&self.write_back, sync)
    }

    fn run<T>(&self, histogram: &Histogram, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = Instant::now();
        let outcome = sync();
        histogram.record(begun.elapsed());
        if outcome.is_err() {
            self.failed.add(1);
        }
        outcome
    }

    fn tell(&self, figures: &mut Figures) {
        figures.durations("syncs.file", &self.file, None);
        figures.durations("syncs.folder", &self.folder, None);
        figures.durations("syncs.fileSystem", &self.file_system, None);
        figures.durations("syncs.writeBack", &self.write_back, None);
        figures.count("syncs.failed", &self.failed);
    }
}

/// JSON updates.
pub struct Updates {
    /// Calls that succeeded.
    calls: Counter,
    /// Calls that had their turn and failed.
    failed: Counter,
    /// Batches of calls that shared, or were to share, a lock, a read and a write.
    batches: Counter,
    /// Those of them that left the text as it was, so that nothing was written.
    unchanged: Counter,
}

impl Updates {
    const fn new() -> Updates {
        Updates {
            calls: Counter::new(),
            failed: Counter::new(),
            batches: Counter::new(),
            unchanged: Counter::new(),
        }
    }

    /// A batch is over: for so many calls.
    pub fn batch(&self, succeeded: u64, failed: u64, is_unchanged: bool) {
        self.batches.add(1);
        self.calls.add(succeeded);
        self.failed.add(failed);
        self.unchanged.add(is_unchanged.into());
    }

    fn tell(&self, figures: &mut Figures) {
        figures.count("updates.calls", &self.calls);
        figures.count("updates.failed", &self.failed);
        figures.count("updates.batches", &self.batches);
        figures.count("updates.unchanged", &self.unchanged);
    }
}

/// Backups.
pub struct Backups {
    /// Those that were made.
    created: Counter,
    /// Those that were brought back.
    restored: Counter,
    /// Calls that failed at either.
    failures: Failures,
}

impl Backups {
    const fn new() -> Backups {
        Backups { created: Counter::new(), restored: Counter::new(), failures: Failures::new() }
    }

    /// A call that makes a backup, or brings one back, is over.
    pub fn ended(&self, operation: Operation, outcome: Result<(), &ErrorKind>) {
        match (outcome, operation) {
            (Err(kind), _) => self.failures.add(kind.code()),
            (Ok(()), Operation::RestoreBackup) => self.restored.add(1),
            (Ok(()), _) => self.created.add(1),
        }
    }

    fn tell(&self, figures: &mut Figures) {
        figures.count("backups.created", &self.created);
        figures.count("backups.restored", &self.restored);
        figures.failures("backups.failed", &self.failures);
    }
}

/// Transactions.
pub struct Transactions {
    /// Those that were committed.
    committed: Counter,
    /// The files that they changed.
    files: Counter,
    /// Attempts that were made because one before had failed.
    retries: Counter,
    /// Commits that failed.
    failures: Failures,
}

impl Transactions {
    const fn new() -> Transactions {
        Transactions {
            committed: Counter::new(),
            files: Counter::new(),
            retries: Counter::new(),
            failures: Failures::new(),
        }
    }

    /// The commit of so many files is over.
    pub fn ended(&self, files: usize, outcome: Result<(), &ErrorKind>) {
        match outcome {
            Err(kind) => self.failures.add(kind.code()),
            Ok(()) if files > 0 => {
                self.committed.add(1);
                self.files.add(files as u64);
            }
            // It has only given its locks back.
            Ok(()) => {}
        }
    }

    fn tell(&self, figures: &mut Figures) {
        figures.count("transactions.committed", &self.committed);
        figures.count("transactions.files", &self.files);
        figures.count("transactions.retries", &self.retries);
        figures.failures("transactions.failed", &self.failures);
    }
}

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
    const fn new() -> Locks {
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

    fn tell(&self, figures: &mut Figures) {
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

    fn waits(&self, kind: Kind) -> &Histogram {
        match kind {
            Kind::Read => &self.read_waits,
            Kind::Write => &self.write_waits,
        }
    }

    fn holds(&self, kind: Kind) -> &Histogram {
        match kind {
            Kind::Read => &self.read_holds,
            Kind::Write => &self.write_holds,
        }
    }
}

/// One call that asks for a lock.
pub struct LockCall {
    path: PathBuf,
    kind: Kind,
    begun: Instant,
    has_waited: AtomicBool,
}

impl LockCall {
    /// It is made now, for the lock of this file.
    pub fn new(path: PathBuf, kind: Kind) -> LockCall {
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

/// A lock that is held, from when it is made until it is dropped.
pub struct LockHeld {
    kind: Kind,
    since: Instant,
}

impl LockHeld {
    /// It is held from now on.
    pub fn new(kind: Kind) -> LockHeld {
        LockHeld { kind, since: Instant::now() }
    }
}

impl Drop for LockHeld {
    fn drop(&mut self) {
        METRICS.locks.holds(self.kind).record(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn failures_are_counted_by_their_codes_from_many_threads() {
        let failures = Failures::new();
        let names = ["ENOSPC", "EIO", "EDQUOT", "EACCES"];
        let begin = Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (failures, begin) = (&failures, &begin);
                scope.spawn(move || {
                    begin.wait();
                    for index in 0..4000 {
                        failures.add(names[(thread + index) % names.len()]);
                    }
                });
            }
        });
        let expected =
            BTreeMap::from(["EACCES", "EDQUOT", "EIO", "ENOSPC"].map(|name| (name, 8000)));
        assert_eq!(failures.read(Reading::Take), expected);
        assert_eq!(failures.read(Reading::Keep), BTreeMap::new());
    }

    #[test]
    fn nothing_is_lost_or_counted_twice_when_it_is_reset_meanwhile() {
        let (counter, histogram) = (Counter::new(), Histogram::new());
        let begin = Barrier::new(5);
        let (mut counted, mut recorded) = (0, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    begin.wait();
                    for number in 0..20_000 {
                        counter.add(3);
                        histogram.record(std::time::Duration::from_nanos(1000 + number));
                    }
                });
            }
            begin.wait();
            for _ in 0..200 {
                counted += counter.read(Reading::Take);
                let summary = histogram.read(Reading::Take);
                recorded += summary.count;
                if summary.count > 0 {
                    assert!(summary.min >= 1000.0 && summary.max < 21_000.0, "{summary:?}");
                    let order = [
                        summary.min,
                        summary.p50,
                        summary.p90,
                        summary.p99,
                        summary.p999,
                        summary.max,
                    ];
                    assert!(order.is_sorted(), "{summary:?}");
                }
            }
        });
        counted += counter.read(Reading::Take);
        recorded += histogram.read(Reading::Take).count;
        assert_eq!((counted, recorded), (4 * 20_000 * 3, 4 * 20_000));
    }
}
