//! One collection of a log that is open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::identity::Looks;
use crate::fs::{Dir, FileSystem};
use crate::mutex::guard;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::memtable::Memtable;
use crate::wal::repair::RepairedCollection;
use crate::wal::resting_segment::RestingSegment;
use crate::wal::writer::SegmentWriter;

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
    /// The last one that the last checkpoint has released.
    pub released: u64,
    /// How many ids the memtable has, deleted ones included.
    pub memtable_entries: u64,
    /// How much memory it takes, about.
    pub memtable_bytes: u64,
}

pub(super) struct Collection<F: FileSystem> {
    /// Held while a group is written and synced.
    pub(super) state: Mutex<CollectionState<F>>,
    pub(super) memtable: Mutex<Option<Memtable>>,
    /// Whether it was used since that was last asked.
    pub(super) was_used: AtomicBool,
    /// The last number whose append has resolved.
    pub(super) visible: AtomicU64,
    /// Tells that the next segment is no longer being made.
    pub(super) prepared: Condvar,
    /// The next segment is being made, and will soon be needed.
    pub(super) is_urgent: AtomicBool,
    /// Held while a checkpoint is made, so that they come one after the other.
    pub(super) checkpoint: Mutex<LastCheckpoint>,
    /// The figures as they last were. The other locks may be held while a disk is waited for,
    /// and this one is not.
    figures: Mutex<CollectionFigures>,
}

/// The last checkpoint.
#[derive(Default)]
pub(super) struct LastCheckpoint {
    pub(super) note: Checkpoint,
    /// How many backups need the segments: none is released until they have ended.
    pub(super) holds: usize,
    /// The name that is its note, on a full disk.
    pub(super) in_name: Option<String>,
}

pub(super) struct CollectionState<F: FileSystem> {
    pub(super) dir: Option<Arc<Dir<F>>>,
    /// `None` before the first append, and when the log is closed.
    pub(super) writer: Option<SegmentWriter<F>>,
    /// What takes the place of both while their files are closed.
    pub(super) resting: Option<RestingSegment>,
    /// When it was last seen to be where it is.
    pub(super) looks: Looks,
    /// For the first segment: whether there is a released one whose space can serve again,
    pub(super) has_spare: bool,
    /// and its number.
    pub(super) next_segment: u64,
}

#[derive(Clone, Copy, Default)]
struct CollectionFigures {
    segments: u64,
    bytes: u64,
    durable: u64,
    released: u64,
}

impl<F: FileSystem> Collection<F> {
    /// A collection that need not have a directory yet.
    pub(super) fn new(has_memtable: bool) -> Collection<F> {
        Collection {
            state: Mutex::new(CollectionState {
                dir: None,
                writer: None,
                resting: None,
                looks: Looks::default(),
                has_spare: false,
                next_segment: 1,
            }),
            memtable: Mutex::new(has_memtable.then(Memtable::default)),
            was_used: AtomicBool::new(false),
            visible: AtomicU64::new(0),
            prepared: Condvar::new(),
            is_urgent: AtomicBool::new(false),
            checkpoint: Mutex::default(),
            figures: Mutex::default(),
        }
    }

    pub(super) fn repaired(repaired: RepairedCollection<F>) -> Collection<F> {
        let RepairedCollection {
            dir,
            writer,
            has_spare,
            memtable,
            checkpoint,
            checkpoint_in_name,
            next_segment,
            ..
        } = repaired;
        let figures = CollectionFigures { released: checkpoint.up_to, ..Default::default() };
        let dir = writer.is_some().then_some(dir);
        let collection = Collection {
            state: Mutex::new(CollectionState {
                dir,
                writer,
                resting: None,
                looks: Looks::default(),
                has_spare,
                next_segment,
            }),
            memtable: Mutex::new(memtable),
            was_used: AtomicBool::new(false),
            visible: AtomicU64::new(repaired.last),
            prepared: Condvar::new(),
            is_urgent: AtomicBool::new(false),
            checkpoint: Mutex::new(LastCheckpoint {
                holds: 0,
                note: checkpoint,
                in_name: checkpoint_in_name,
            }),
            figures: Mutex::new(figures),
        };
        collection.update_figures(&guard(&collection.state));
        collection
    }

    /// Brings the figures up to date, which are read without waiting for a disk.
    pub(super) fn update_figures(&self, state: &CollectionState<F>) {
        let Some(writer) = &state.writer else { return };
        let mut figures = guard(&self.figures);
        figures.segments = writer.sealed.len() as u64 + 1;
        figures.bytes = writer.sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        figures.bytes += writer.allocated;
        figures.durable = writer.durable;
    }

    /// The last number that the last checkpoint has released.
    pub(super) fn released(&self) -> u64 {
        guard(&self.figures).released
    }

    pub(super) fn set_released(&self, up_to: u64) {
        guard(&self.figures).released = up_to;
    }

    pub(super) fn stats(&self, name: String) -> CollectionStats {
        let CollectionFigures { segments, bytes, durable, released } = *guard(&self.figures);
        let last = self.visible.load(Ordering::Acquire);
        let (memtable_entries, memtable_bytes) = match guard(&self.memtable).as_mut() {
            Some(memtable) => (memtable.len() as u64, memtable.bytes() as u64),
            None => (0, 0),
        };
        CollectionStats {
            name,
            segments,
            bytes,
            last,
            durable: durable.min(last),
            released,
            memtable_entries,
            memtable_bytes,
        }
    }
}
