//! What is counted of JSON updates.

use super::counter::Counter;
use super::snapshot::Snapshot;

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
    pub(super) const fn new() -> Updates {
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

    pub(super) fn tell(&self, figures: &mut Snapshot) {
        figures.count("updates.calls", &self.calls);
        figures.count("updates.failed", &self.failed);
        figures.count("updates.batches", &self.batches);
        figures.count("updates.unchanged", &self.unchanged);
    }
}
