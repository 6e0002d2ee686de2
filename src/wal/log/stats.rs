//! What is known of a log, without waiting for a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::collection::CollectionStats;
use super::open::Log;
use crate::error::WalError;
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::wal::consumer::ConsumerPosition;

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Batches appended since it was opened.
    pub batches: u64,
    /// Entries in them.
    pub entries: u64,
    /// Their bytes, as they were given.
    pub bytes: u64,
    /// Writes: batches that were written together are one group.
    pub groups: u64,
    /// Syncs of groups, and those in the background.
    pub syncs: u64,
    /// Why it is poisoned, if it is.
    pub poisoned: Option<String>,
    /// Its collections, by name.
    pub collections: Vec<CollectionStats>,
    /// Its consumers, as they were when they were last looked at.
    pub consumers: Vec<ConsumerPosition>,
}

impl<F: FileSystem> Log<F> {
    /// What is known of the log. Waits for no disk.
    pub fn stats(&self) -> LogStats {
        let collections: Vec<_> = {
            let collections = guard(&self.collections);
            collections.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogStats {
            batches: load(&self.counters.batches),
            entries: load(&self.counters.entries),
            bytes: load(&self.counters.bytes),
            groups: load(&self.counters.groups),
            syncs: load(&self.counters.syncs),
            poisoned: self.poison.get().and_then(WalError::cause).map(str::to_owned),
            collections: collections.into_iter().map(|(name, it)| it.stats(name)).collect(),
            consumers: guard(&self.consumers).clone(),
        }
    }
}
