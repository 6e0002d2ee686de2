//! How a log is kept, and what holds where the caller says nothing.

use std::time::{Duration, SystemTime};

/// When appended entries are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Each append has a sync of its own.
    Always,
    /// Appends that wait together share one sync.
    PerBatch,
    /// In the background, at the latest this long after an append.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Any damage is refused.
    Strict,
    /// A torn tail is copied aside and cut off; other damage is refused.
    #[default]
    TolerateTail,
    /// A torn tail is copied aside and cut off; other damage is reported and skipped.
    SkipCorrupt,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// When entries are synced.
    pub sync: SyncMode,
    /// What is done about damage.
    pub recovery: RecoveryMode,
    /// A segment of this many bytes is sealed, and the next one begun.
    pub segment_size: u64,
    /// So is one of this age, when something is appended.
    pub segment_age: Option<Duration>,
    /// How large a segment is made at first, and how much is added next. The more is used the more
    /// is added, up to [`LARGEST_STEP`].
    pub step: u64,
    /// A group of this many bytes for which no space is left extends the file itself: at that
    /// size the cost of growing does not count, and nothing is written twice.
    pub large_group: u64,
    /// How many bytes may be queued and written at a time.
    pub queue_bytes: usize,
    /// Whether to keep the newest entry of each id in memory.
    pub memtable: bool,
    /// For how long the log is believed to be where it was, unless a group has just been synced.
    pub look_interval: Duration,
    /// How many collections may have their files open while nothing is appended to them; fewer where
    /// the process may have few files open.
    pub most_open: usize,
    /// The time, in milliseconds since 1970.
    pub clock: fn() -> u64,
}

/// What file systems give to files at a time, or a part of it.
pub(super) const PAGE: u64 = 4096;

/// Up to this much the space that is allocated grows faster, so that a busy collection soon has
/// enough of it.
pub(super) const BUSY_STEP: u64 = 1 << 20;

/// The most space that is allocated in one go.
pub(super) const LARGEST_STEP: u64 = 8 << 20;

/// The interval of [`SyncMode::Periodic`] where the caller gives none.
pub const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_millis(100);

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            sync: SyncMode::PerBatch,
            recovery: RecoveryMode::default(),
            segment_size: 16 << 20,
            segment_age: None,
            step: PAGE,
            large_group: 128 << 10,
            queue_bytes: 16 << 20,
            memtable: true,
            look_interval: Duration::from_millis(1),
            most_open: 128,
            clock: now,
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
