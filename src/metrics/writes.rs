//! What is counted of calls that write.

use std::time::Instant;

use super::counter::{Counter, Failures};
use super::histogram::Histogram;
use super::snapshot::Snapshot;
use crate::error::ErrorKind;
use crate::vocabulary::Durability;

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
    pub(super) retries: Counter,
    /// Bytes of the files that were put in their place.
    pub bytes: Counter,
    /// Syncs that served several writes.
    rounds: Counter,
    /// The writes that they served.
    shared: Counter,
}

impl Writes {
    pub(super) const fn new() -> Writes {
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

    pub(super) fn tell(&self, figures: &mut Snapshot) {
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
