//! What is read of the counters.

use std::sync::atomic::{AtomicU64, Ordering};

use super::contention::Place;
use super::counter::{Counter, Failures};
use super::histogram::{Histogram, Summary};

/// What has been counted, by the names that users see: `writes.latency.full`.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) reading: ReadMode,
    /// Numbers of things.
    pub counts: Vec<(String, u64)>,
    /// Durations of things.
    pub durations: Vec<(String, Summary)>,
    /// The files that were contended for, those with the most waits first.
    pub contention: Vec<Place>,
}

impl Snapshot {
    pub(super) fn new(reading: ReadMode) -> Snapshot {
        Snapshot { reading, counts: vec![], durations: vec![], contention: vec![] }
    }

    pub(super) fn count(&mut self, name: &str, counter: &Counter) {
        self.counts.push((name.to_owned(), counter.read(self.reading)));
    }

    /// Durations, and under a name of its own how many there are.
    pub(super) fn durations(&mut self, name: &str, histogram: &Histogram, count: Option<&str>) {
        let summary = histogram.read(self.reading);
        self.counts.extend(count.map(|name| (name.to_owned(), summary.count)));
        self.durations.push((name.to_owned(), summary));
    }

    pub(super) fn failures(&mut self, name: &str, failures: &Failures) {
        let codes = failures.read(self.reading).into_iter();
        self.counts.extend(codes.map(|(code, count)| (format!("{name}.{code}"), count)));
    }
}

/// What is to become of the numbers that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// They stay.
    Keep,
    /// Each goes back to zero in the moment in which it is read. What is counted at that
    /// moment is in what was read or in what comes after, never in both or in neither.
    Reset,
}

impl ReadMode {
    pub(super) fn number(self, number: &AtomicU64) -> u64 {
        match self {
            ReadMode::Keep => number.load(Ordering::Relaxed),
            ReadMode::Reset => number.swap(0, Ordering::Relaxed),
        }
    }
}
