//! The numbers of all sections, as they were at one read.

use super::contention::{ContendedPath, ContentionTable};
use super::counter::{Counter, Failures, ReadMode};
use super::histogram::{Histogram, Summary};

/// What has been counted, by the names that users see: `writes.latency.full`.
#[derive(Debug)]
pub struct Snapshot {
    mode: ReadMode,
    /// Numbers of events.
    pub counts: Vec<(String, u64)>,
    /// Durations.
    pub durations: Vec<(String, Summary)>,
    /// The files that calls have waited for, those with the most waits first.
    pub contention: Vec<ContendedPath>,
}

impl Snapshot {
    pub(super) fn new(mode: ReadMode) -> Snapshot {
        Snapshot { mode, counts: vec![], durations: vec![], contention: vec![] }
    }

    pub(super) fn count(&mut self, name: &str, counter: &Counter) {
        self.counts.push((name.to_owned(), counter.read(self.mode)));
    }

    /// Durations, and under a name of its own how many there are.
    pub(super) fn durations(&mut self, name: &str, histogram: &Histogram, count: Option<&str>) {
        let summary = histogram.read(self.mode);
        self.counts.extend(count.map(|name| (name.to_owned(), summary.count)));
        self.durations.push((name.to_owned(), summary));
    }

    pub(super) fn failures(&mut self, name: &str, failures: &Failures) {
        let codes = failures.read(self.mode).into_iter();
        self.counts.extend(codes.map(|(code, count)| (format!("{name}.{code}"), count)));
    }

    pub(super) fn contended_paths(&mut self, contention: &ContentionTable) {
        self.contention = contention.read(self.mode);
    }
}
