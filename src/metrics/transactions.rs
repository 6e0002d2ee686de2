//! What is counted of transactions.

use super::counter::{Counter, Failures};
use super::snapshot::Snapshot;
use crate::error::ErrorKind;

/// Transactions.
pub struct Transactions {
    /// Those that were committed.
    committed: Counter,
    /// The files that they changed.
    files: Counter,
    /// Attempts that were made because one before had failed.
    pub(super) retries: Counter,
    /// Commits that failed.
    failures: Failures,
}

impl Transactions {
    pub(super) const fn new() -> Transactions {
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

    pub(super) fn tell(&self, figures: &mut Snapshot) {
        figures.count("transactions.committed", &self.committed);
        figures.count("transactions.files", &self.files);
        figures.count("transactions.retries", &self.retries);
        figures.failures("transactions.failed", &self.failures);
    }
}
