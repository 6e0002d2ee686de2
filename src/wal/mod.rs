//! A write-ahead log: batches of entries that are on the disk, to the degree that was asked
//! for, when their append resolves, and are there again after a restart.
//!
//! From the top:
//!
//! - [`AppendQueue`] takes batches from many callers, keeps those waiting for which there is no
//!   room, and commits those that wait together as one group, one write and one sync, on
//!   holdfast's threads.
//! - [`Log`] is the log of one directory: it numbers entries, keeps its collections, and is
//!   poisoned when a write or a sync of it fails.
//! - `writer` appends to the segments of one collection. The space of a segment was allocated
//!   beforehand, or has served before, so that an append changes no metadata.
//! - `repair` opens a collection after whatever has happened to it, and says what it skipped.
//! - `reader` walks over the blocks of one segment, `remainder` tells what is behind damage, and
//!   [`Replay`] walks over the blocks of a collection.
//! - `survey` says what is known of a log from outside.
//! - `format` knows the bytes, `segments` the names, `checkpoint` what is no longer needed,
//!   `memtable` holds the newest entry of each id, and `options` has every default.
//!
//! Who may open a log is not decided here: the owner of a [`Log`] holds its lock.

mod allocate;
mod append_error;
mod backup;
mod batch;
mod checkpoint;
mod closed_note;
mod consumer;
mod dirs;
mod follow;
pub mod format;
mod log;
mod memtable;
mod names_lock;
mod new_segment;
mod note;
mod options;
mod queue;
mod read_window;
mod reader;
mod remainder;
mod repair;
mod replay;
mod resting_segment;
mod segments;
mod survey;
mod torn_tail;
mod writer;

pub use crate::error::{Damage, DamageKind, WalError};
pub use batch::{Batch, EntryRef, Op, WalEntry, pack_with_sequence};
pub use consumer::{
    Consumer, ConsumerPosition, check_consumer_name, consumers_dir, make_consumers_dir,
    position_file,
};
pub use dirs::{collections, make_dir as make_log_dir};
pub use follow::{Follow, FollowOptions, Signal};
pub use log::{CollectionStats, Log, LogStats, SegmentPreparation};
pub use options::{DEFAULT_SYNC_INTERVAL, LogOptions, RecoveryMode, SyncMode};
pub use queue::{AppendQueue, Appended, OnAppended};
pub use replay::{Replay, ReplayProgress};
pub use segments::check_name;
pub use survey::{CollectionSurvey, survey};
