//! What is counted of the waits for the disk.

use std::io;
use std::time::Instant;

use super::counter::Counter;
use super::histogram::Histogram;
use super::snapshot::Snapshot;

/// Waits for the disk: the calls of the system, those included that failed.
pub struct Syncs {
    file: Histogram,
    dir: Histogram,
    file_system: Histogram,
    write_back: Histogram,
    failed: Counter,
}

impl Syncs {
    pub(super) const fn new() -> Syncs {
        Syncs {
            file: Histogram::new(),
            dir: Histogram::new(),
            file_system: Histogram::new(),
            write_back: Histogram::new(),
            failed: Counter::new(),
        }
    }

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

    pub(super) fn tell(&self, figures: &mut Snapshot) {
        figures.durations("syncs.file", &self.file, None);
        figures.durations("syncs.folder", &self.dir, None);
        figures.durations("syncs.fileSystem", &self.file_system, None);
        figures.durations("syncs.writeBack", &self.write_back, None);
        figures.count("syncs.failed", &self.failed);
    }
}
