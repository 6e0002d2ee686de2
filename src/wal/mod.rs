//! A write-ahead log: batches of entries that are on the disk, to the degree that was asked
//! for, when their append resolves, and are there again after a restart.
//!
//! From the top:
//!
//! - [`Queue`] takes batches from many callers and commits those that wait together as one
//!   group, one write and one sync, on holdfast's threads.
//! - [`Log`] is the log of one directory: it numbers entries, keeps its collections, and is
//!   poisoned when a write or a sync of it fails.
//! - `writer` appends to the segments of one collection. The space of a segment was written
//!   beforehand, or has served before, so that an append changes no metadata.
//! - `repair` opens a collection after whatever has happened to it, and says what it skipped.
//! - `reader` walks over the blocks of one segment, and [`Replay`] over those of a collection.
//! - `format` knows the bytes, `segments` the names, `checkpoint` what is no longer needed, and
//!   `memtable` holds the newest entry of each id.
//!
//! Who may open a log is not decided here: whoever uses [`Log`] holds its lock.

mod batch;
mod checkpoint;
pub mod format;
mod log;
mod memtable;
mod queue;
mod reader;
mod repair;
mod replay;
mod segments;
mod writer;

use std::time::{Duration, SystemTime};

pub use crate::error::{Damage, DamageKind, WalError};
pub use batch::{Batch, Entry, EntryRef, Op, pack_with_sequence};
pub use log::{CollectionStats, Log, NextSegment, Stats, collections};
pub use queue::{Appended, Full, Queue, Reply};
pub use replay::{Progress, Replay};
pub use segments::check_name;

/// When appended entries are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Each append has a sync of its own.
    Always,
    /// Appends that wait together share one sync.
    PerBatch,
    /// In the background, at the latest so long after an append.
    Periodic(Duration),
    /// When the system gets to it.
    Never,
}

impl SyncMode {
    /// Whether an append resolves only after a sync.
    pub fn is_durable(self) -> bool {
        matches!(self, SyncMode::Always | SyncMode::PerBatch)
    }
}

/// What is done about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Any damage is refused.
    Strict,
    /// A torn tail is copied aside and cut off; other damage is refused.
    TolerateTail,
    /// A torn tail is copied aside and cut off; other damage is reported and skipped.
    SkipCorrupt,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When entries are synced.
    pub sync: SyncMode,
    /// What is done about damage.
    pub recovery: Recovery,
    /// A segment that has so many bytes is sealed, and the next one begun.
    pub segment_size: u64,
    /// So is one that is this old, when something is appended.
    pub segment_age: Option<Duration>,
    /// How much space is written beforehand at first. It doubles up to [`LARGEST_STEP`].
    pub step: u64,
    /// A group that has so many bytes, and no space left, makes the file longer itself: then
    /// what that costs does not count, and nothing is written twice.
    pub large_group: u64,
    /// Whether to keep the newest entry of each id in memory.
    pub memtable: bool,
    /// The time, in milliseconds since 1970.
    pub clock: fn() -> u64,
}

/// The most space that is written beforehand in one go.
pub const LARGEST_STEP: u64 = 8 << 20;

impl Default for Options {
    fn default() -> Options {
        Options {
            sync: SyncMode::PerBatch,
            recovery: Recovery::TolerateTail,
            segment_size: 16 << 20,
            segment_age: None,
            step: 1 << 20,
            large_group: 128 << 10,
            memtable: true,
            clock: now,
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
