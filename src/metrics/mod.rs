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

mod backups;
pub mod contention;
mod counter;
pub mod histogram;
mod locks;
mod snapshot;
mod syncs;
mod transactions;
mod updates;
mod wal;
mod writes;

pub use backups::Backups;
pub use counter::{Counter, Failures};
pub use locks::{LockCall, LockHeld, Locks, lock_taken_at_once};
pub use snapshot::{ReadMode, Snapshot};
pub use syncs::Syncs;
pub use transactions::Transactions;
pub use updates::Updates;
pub use wal::Wal;
pub use writes::Writes;

use crate::error::Operation;

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
    /// Write-ahead logs.
    pub wal: Wal,
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
            wal: Wal::new(),
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
    pub fn read(&self, reading: ReadMode) -> Snapshot {
        let mut figures = Snapshot::new(reading);
        self.writes.tell(&mut figures);
        self.syncs.tell(&mut figures);
        self.updates.tell(&mut figures);
        self.backups.tell(&mut figures);
        self.transactions.tell(&mut figures);
        self.wal.tell(&mut figures);
        self.locks.tell(&mut figures);
        figures
    }
}
