//! What is counted of backups.

use super::counter::{Counter, Failures};
use super::snapshot::Snapshot;
use crate::error::{ErrorKind, Operation};

/// Backups.
pub struct Backups {
    /// Those that were made.
    created: Counter,
    /// Those that were brought back.
    restored: Counter,
    /// Calls that failed at either.
    failures: Failures,
}

impl Backups {
    pub(super) const fn new() -> Backups {
        Backups { created: Counter::new(), restored: Counter::new(), failures: Failures::new() }
    }

    /// A call that makes a backup, or brings one back, is over.
    pub fn ended(&self, operation: Operation, outcome: Result<(), &ErrorKind>) {
        match (outcome, operation) {
            (Err(kind), _) => self.failures.add(kind.code()),
            (Ok(()), Operation::RestoreBackup) => self.restored.add(1),
            (Ok(()), _) => self.created.add(1),
        }
    }

    pub(super) fn tell(&self, figures: &mut Snapshot) {
        figures.count("backups.created", &self.created);
        figures.count("backups.restored", &self.restored);
        figures.failures("backups.failed", &self.failures);
    }
}
