//! What is known of a log and its collections, without waiting for a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Collection, Log, State};
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::wal::memtable::Memtable;

/// What is known of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionStats {
    /// Its name.
    pub name: String,
    /// How many segments it has.
    pub segments: u64,
    /// How many bytes their files have, unused space included.
    pub bytes: u64,
    /// The last sequence number whose append has resolved; 0 if there is none.
    pub last: u64,
    /// The last one that is surely on the disk.
    pub durable: u64,
    /// What the last checkpoint has released.
    pub released: u64,
    /// How many ids the memtable has, deleted ones included.
    pub memtable_entries: u64,
    /// How much memory it takes, about.
    pub memtable_bytes: u64,
}

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
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
}

#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) segments: u64,
    pub(super) bytes: u64,
    pub(super) durable: u64,
    pub(super) released: u64,
}

impl<F: FileSystem + Clone> Log<F> {
    /// What is known of the log. Waits for no disk.
    pub fn stats(&self) -> Stats {
        let collections: Vec<_> = {
            let collections = guard(&self.collections);
            collections.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            batches: load(&self.counters.batches),
            entries: load(&self.counters.entries),
            bytes: load(&self.counters.bytes),
            groups: load(&self.counters.groups),
            syncs: load(&self.counters.syncs),
            poisoned: self.poison.get().cloned(),
            collections: collections.into_iter().map(|(name, it)| it.stats(name)).collect(),
        }
    }

    /// How much memory the memtable of a collection takes at most, about.
    pub(in crate::wal) fn memtable_bytes(&self, collection: &str) -> usize {
        match self.existing(collection) {
            Ok(Some(collection)) => {
                guard(&collection.memtable).as_ref().map_or(0, Memtable::most_bytes)
            }
            _ => 0,
        }
    }
}

impl<F: FileSystem + Clone> Collection<F> {
    pub(super) fn tell(&self, state: &State<F>) {
        let Some(writer) = &state.writer else { return };
        let mut figures = guard(&self.figures);
        figures.segments = writer.sealed.len() as u64 + 1;
        figures.bytes = writer.sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        figures.bytes += writer.space;
        figures.durable = writer.durable;
    }

    fn stats(&self, name: String) -> CollectionStats {
        let Figures { segments, bytes, durable, released } = *guard(&self.figures);
        let last = self.visible.load(Ordering::Acquire);
        let durable = durable.min(last);
        let mut stats = CollectionStats {
            name,
            segments,
            bytes,
            last,
            durable,
            released,
            ..Default::default()
        };
        if let Some(memtable) = guard(&self.memtable).as_mut() {
            stats.memtable_entries = memtable.len() as u64;
            stats.memtable_bytes = memtable.bytes() as u64;
        }
        stats
    }
}
