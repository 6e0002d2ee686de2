//! Numbers that grow, and how they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::mutex::guard;

/// What becomes of the numbers that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// They stay.
    Keep,
    /// Each goes back to zero at the moment at which it is read. What is counted at that moment is
    /// in this read or in the next one, never in both or in neither.
    Reset,
}

impl ReadMode {
    pub(super) fn read(self, number: &AtomicU64) -> u64 {
        match self {
            ReadMode::Keep => number.load(Ordering::Relaxed),
            ReadMode::Reset => number.swap(0, Ordering::Relaxed),
        }
    }
}

/// A number that grows.
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Adds to the number.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn read(&self, mode: ReadMode) -> u64 {
        mode.read(&self.0)
    }
}

/// Failures by the code of their error. They are rare and costly, so a mutex is cheap enough.
pub struct Failures {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Failures {
    pub(super) const fn new() -> Failures {
        Failures { counts: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        guard(&self.counts)
    }

    /// Counts one failure.
    pub fn add(&self, code: &'static str) {
        *self.lock().entry(code).or_default() += 1;
    }

    pub(super) fn read(&self, mode: ReadMode) -> BTreeMap<&'static str, u64> {
        match mode {
            ReadMode::Keep => self.lock().clone(),
            ReadMode::Reset => std::mem::take(&mut *self.lock()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::histogram::{Histogram, RELATIVE_ERROR};
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
        assert_eq!(failures.read(ReadMode::Reset), expected);
        assert_eq!(failures.read(ReadMode::Keep), BTreeMap::new());
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
                counted += counter.read(ReadMode::Reset);
                let summary = histogram.read(ReadMode::Reset);
                recorded += summary.count;
                if summary.count > 0 {
                    // Of a duration that is being recorded just then only the bucket may be known.
                    let width = 2.0 * RELATIVE_ERROR;
                    let bounds = 1000.0 * (1.0 - width)..21_000.0 * (1.0 + width);
                    assert!(bounds.contains(&summary.min), "{summary:?}");
                    assert!(bounds.contains(&summary.max), "{summary:?}");
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
        counted += counter.read(ReadMode::Reset);
        recorded += histogram.read(ReadMode::Reset).count;
        assert_eq!((counted, recorded), (4 * 20_000 * 3, 4 * 20_000));
    }
}
