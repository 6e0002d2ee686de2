//! The sections: what is counted of each capability, and under which names.

use std::io;
use std::time::Instant;

use super::contention::ContentionTable;
use super::counter::{Counter, Failures, ReadMode};
use super::histogram::Histogram;
use super::snapshot::Snapshot;
use crate::error::{ErrorKind, Operation};
use crate::vocabulary::{Durability, LockKind};

/// The numbers of this process.
pub static METRICS: Metrics = Metrics::new();

/// A struct of numbers, all of them zero to begin with.
macro_rules! section {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $visible:vis $field:ident: $type:ident,)* }
    ) => {
        $(#[$doc])*
        pub struct $name {
            $($(#[$field_doc])* $visible $field: $type,)*
        }

        impl $name {
            const fn new() -> $name {
                $name { $($field: $type::new(),)* }
            }
        }
    };
}

section! {
    /// Everything that is counted.
    Metrics {
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
        /// Write-ahead logs.
        pub wal: Wal,
        /// Locks.
        pub locks: Locks,
    }
}

impl Metrics {
    /// An operation is tried once more.
    pub fn retried(&self, operation: Operation) {
        match operation {
            Operation::Transaction => &self.transactions.retries,
            _ => &self.writes.retries,
        }
        .add(1);
    }

    /// The numbers of all sections.
    pub fn read(&self, mode: ReadMode) -> Snapshot {
        let mut snapshot = Snapshot::new(mode);
        self.writes.collect(&mut snapshot);
        self.syncs.collect(&mut snapshot);
        self.updates.collect(&mut snapshot);
        self.backups.collect(&mut snapshot);
        self.transactions.collect(&mut snapshot);
        self.wal.collect(&mut snapshot);
        self.locks.collect(&mut snapshot);
        snapshot
    }
}

section! {
    /// Calls that write, and what they do.
    Writes {
        /// Calls that succeeded, from their submission to their outcome, by durability.
        none: Histogram,
        file: Histogram,
        full: Histogram,
        failures: Failures,
        /// Calls for which a newer one was written.
        pub merged: Counter,
        /// Attempts to put a file in its place, by any operation.
        pub attempts: Counter,
        /// Those of the attempts that were made because one before had failed.
        retries: Counter,
        /// Bytes of the files that were put in their place.
        pub bytes: Counter,
        /// Syncs that served several writes.
        rounds: Counter,
        /// The writes that they served.
        shared: Counter,
    }
}

impl Writes {
    /// A call that began then, with this durability, has its outcome.
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

    /// This many writes are synced together.
    pub fn round(&self, writes: usize) {
        if writes > 1 {
            self.rounds.add(1);
            self.shared.add(writes as u64);
        }
    }

    fn collect(&self, snapshot: &mut Snapshot) {
        for (level, latency) in [("none", &self.none), ("file", &self.file), ("full", &self.full)] {
            let count = format!("writes.acknowledged.{level}");
            snapshot.durations(&format!("writes.latency.{level}"), latency, Some(&count));
        }
        snapshot.failures("writes.failed", &self.failures);
        snapshot.count("writes.merged", &self.merged);
        snapshot.count("writes.attempts", &self.attempts);
        snapshot.count("writes.retries", &self.retries);
        snapshot.count("writes.bytes", &self.bytes);
        snapshot.count("writes.sharedSyncs.rounds", &self.rounds);
        snapshot.count("writes.sharedSyncs.writes", &self.shared);
    }
}

section! {
    /// Waits for the disk: calls of the system, those included that failed.
    Syncs {
        file: Histogram,
        dir: Histogram,
        file_system: Histogram,
        write_back: Histogram,
        failed: Counter,
    }
}

impl Syncs {
    /// Runs the sync of a file.
    pub fn file<T>(&self, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.run(&self.file, sync)
    }

    /// Runs the sync of a directory.
    pub fn dir<T>(&self, sync: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.run(&self.dir, sync)
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

    fn collect(&self, snapshot: &mut Snapshot) {
        snapshot.durations("syncs.file", &self.file, None);
        snapshot.durations("syncs.folder", &self.dir, None);
        snapshot.durations("syncs.fileSystem", &self.file_system, None);
        snapshot.durations("syncs.writeBack", &self.write_back, None);
        snapshot.count("syncs.failed", &self.failed);
    }
}

section! {
    /// JSON updates.
    Updates {
        /// Calls that succeeded.
        calls: Counter,
        /// Calls that were run and failed.
        failed: Counter,
        /// Batches of calls that shared, or were to share, a lock, a read and a write.
        batches: Counter,
        /// Those of the batches that left the text as it was, so that nothing was written.
        unchanged: Counter,
    }
}

impl Updates {
    /// A batch of this many calls is over.
    pub fn batch(&self, succeeded: u64, failed: u64, is_unchanged: bool) {
        self.batches.add(1);
        self.calls.add(succeeded);
        self.failed.add(failed);
        self.unchanged.add(is_unchanged.into());
    }

    fn collect(&self, snapshot: &mut Snapshot) {
        snapshot.count("updates.calls", &self.calls);
        snapshot.count("updates.failed", &self.failed);
        snapshot.count("updates.batches", &self.batches);
        snapshot.count("updates.unchanged", &self.unchanged);
    }
}

section! {
    /// Backups.
    Backups {
        created: Counter,
        restored: Counter,
        /// Calls that failed at either.
        failures: Failures,
    }
}

impl Backups {
    /// A call that creates or restores a backup is over.
    pub fn ended(&self, operation: Operation, outcome: Result<(), &ErrorKind>) {
        match (outcome, operation) {
            (Err(kind), _) => self.failures.add(kind.code()),
            (Ok(()), Operation::RestoreBackup) => self.restored.add(1),
            (Ok(()), _) => self.created.add(1),
        }
    }

    fn collect(&self, snapshot: &mut Snapshot) {
        snapshot.count("backups.created", &self.created);
        snapshot.count("backups.restored", &self.restored);
        snapshot.failures("backups.failed", &self.failures);
    }
}

section! {
    /// Transactions.
    Transactions {
        committed: Counter,
        /// The files that they changed.
        files: Counter,
        /// Attempts that were made because one before had failed.
        retries: Counter,
        /// Commits that failed.
        failures: Failures,
    }
}

impl Transactions {
    /// The commit of this many files is over.
    pub fn ended(&self, files: usize, outcome: Result<(), &ErrorKind>) {
        match outcome {
            Err(kind) => self.failures.add(kind.code()),
            Ok(()) if files > 0 => {
                self.committed.add(1);
                self.files.add(files as u64);
            }
            // It has only released its locks.
            Ok(()) => {}
        }
    }

    fn collect(&self, snapshot: &mut Snapshot) {
        snapshot.count("transactions.committed", &self.committed);
        snapshot.count("transactions.files", &self.files);
        snapshot.count("transactions.retries", &self.retries);
        snapshot.failures("transactions.failed", &self.failures);
    }
}

section! {
    /// Write-ahead logs, all that are open in the process.
    Wal {
        /// Groups of batches that were written, and synced, together.
        pub groups: Counter,
        entries: Counter,
        bytes: Counter,
        failures: Failures,
        /// Batches, from the call to its outcome.
        latency: Histogram,
    }
}

impl Wal {
    /// A batch that was submitted then has been appended.
    pub fn appended(&self, entries: usize, bytes: usize, begun: Instant) {
        self.entries.add(entries as u64);
        self.bytes.add(bytes as u64);
        self.latency.record(begun.elapsed());
    }

    /// A batch has not been appended.
    pub fn failed(&self, kind: &ErrorKind) {
        self.failures.add(kind.code());
    }

    fn collect(&self, snapshot: &mut Snapshot) {
        snapshot.durations("wal.latency", &self.latency, Some("wal.batches"));
        snapshot.count("wal.groups", &self.groups);
        snapshot.count("wal.entries", &self.entries);
        snapshot.count("wal.bytes", &self.bytes);
        snapshot.failures("wal.failed", &self.failures);
    }
}

section! {
    /// Locks, for every caller: calls for a lock, and all operations that take one themselves.
    Locks {
        /// How long those who got one waited for it, by kind.
        read_waits: Histogram,
        write_waits: Histogram,
        /// How long those that were released had been held.
        read_holds: Histogram,
        write_holds: Histogram,
        /// Calls that did not get their lock at once.
        pub(super) contended: Counter,
        /// Calls that did not get it in time.
        pub(super) timed_out: Counter,
        /// Calls that tried once, and did not get it.
        pub(super) refused: Counter,
        /// Calls that did not get it for other reasons.
        pub(super) failures: Failures,
        pub(super) contention: ContentionTable,
    }
}

impl Locks {
    pub(super) fn waits(&self, kind: LockKind) -> &Histogram {
        match kind {
            LockKind::Read => &self.read_waits,
            LockKind::Write => &self.write_waits,
        }
    }

    pub(super) fn holds(&self, kind: LockKind) -> &Histogram {
        match kind {
            LockKind::Read => &self.read_holds,
            LockKind::Write => &self.write_holds,
        }
    }

    fn collect(&self, snapshot: &mut Snapshot) {
        snapshot.durations("locks.wait.read", &self.read_waits, Some("locks.acquired.read"));
        snapshot.durations("locks.wait.write", &self.write_waits, Some("locks.acquired.write"));
        snapshot.durations("locks.hold.read", &self.read_holds, None);
        snapshot.durations("locks.hold.write", &self.write_holds, None);
        snapshot.count("locks.contended", &self.contended);
        snapshot.count("locks.timedOut", &self.timed_out);
        snapshot.count("locks.refused", &self.refused);
        snapshot.failures("locks.failed", &self.failures);
        snapshot.contended_paths(&self.contention);
    }
}
