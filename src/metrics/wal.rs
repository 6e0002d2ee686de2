//! What is counted of write-ahead logs.

use std::time::Instant;

use super::counter::{Counter, Failures};
use super::histogram::Histogram;
use super::snapshot::Snapshot;
use crate::error::ErrorKind;

/// Write-ahead logs, all that are open in the process.
pub struct Wal {
    /// Groups of batches that were written, and synced, together.
    pub groups: Counter,
    entries: Counter,
    bytes: Counter,
    failures: Failures,
    /// Batches, from the call to its answer.
    latency: Histogram,
}

impl Wal {
    pub(super) const fn new() -> Wal {
        Wal {
            groups: Counter::new(),
            entries: Counter::new(),
            bytes: Counter::new(),
            failures: Failures::new(),
            latency: Histogram::new(),
        }
    }

    /// A batch that was handed over then has been appended.
    pub fn appended(&self, entries: usize, bytes: usize, begun: Instant) {
        self.entries.add(entries as u64);
        self.bytes.add(bytes as u64);
        self.latency.record(begun.elapsed());
    }

    /// A batch has not been appended.
    pub fn failed(&self, kind: &ErrorKind) {
        self.failures.add(kind.code());
    }

    pub(super) fn tell(&self, figures: &mut Snapshot) {
        figures.durations("wal.latency", &self.latency, Some("wal.batches"));
        figures.count("wal.groups", &self.groups);
        figures.count("wal.entries", &self.entries);
        figures.count("wal.bytes", &self.bytes);
        figures.failures("wal.failed", &self.failures);
    }
}
