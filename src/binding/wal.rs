//! `openWal`, and what changes a log. What reads one is in `wal_read`.
//!
//! # The native methods, all of them on `Port`
//!
//! Those with an `id` answer through the port, like every operation. The others return at once;
//! what can fail there returns `{error}` (a `NativeError`) instead of throwing.
//!
//! | method | answer |
//! | --- | --- |
//! | `openWal(id, dir, options: WalOptions): WalWaiter` | an `OpenedWal` |
//! | `appendWal(id, wal, collection, packed: Uint8Array, durable)` | four values in a row: the `id` with a minus, the sequence number of the first entry (a bigint), how many there are, how much memory the memtable takes. A batch for which the queue has no room waits, in the order of the calls |
//! | `expectWalBatch(wal, collection)` | nothing: a batch will follow as soon as it is packed, and a thread wakes up for it meanwhile |
//! | `getWal(wal, collection, key): WalRead` | at once: `packed` with one entry, or nothing |
//! | `entriesWal(wal, collection, after: bigint, until: bigint, most, withDeletions): WalRead` | at once: `packed`, and `next` to go on after, if there is more |
//! | `replayWal(id, wal, collection, from?: bigint)` | the replay's number; it shows what has resolved by now. With `from` it fails with `EWALRELEASED` if that has been released |
//! | `replayWalIn(id, dir, collection, from?: bigint, recovery)` | the same of a log that this process does not have open; takes no lock |
//! | `readWalIn(id, dir)` | the names of the collections of a log that this process does not have open. `ENOENT`, `ENOTDIR` (operation `open wal`) when there is no such directory |
//! | `firstWal(wal, collection): WalRead` | at once: `next` is the lowest number that has not been released |
//! | `firstWalIn(id, dir, collection, recovery)` | the same of a log that this process does not have open, a bigint |
//! | `surveyWalIn(id, dir, recovery)` | a `WalSurvey` for each collection |
//! | `nextWal(id, replay, most)` | a `ReplayChunk` |
//! | `endReplay(replay)` | nothing: forgets a replay that is not read to its end |
//! | `followWal(id, wal, collection, from?: bigint)` | the number of what follows a collection |
//! | `followWalIn(id, dir, collection, from?: bigint, recovery)` | the same of a log that this process does not have open |
//! | `nextFollow(id, follow, most)` | a `FollowChunk`, as soon as there are entries; one at a time |
//! | `endFollow(follow)` | nothing: ends it, and a `nextFollow` that waits is answered |
//! | `syncWal(id, wal, collection?: string)` | done |
//! | `checkpointWal(id, wal, collection, upTo: bigint)` | the number up to which is released now, a bigint |
//! | `openConsumer(id, dir, collection, name, from?: bigint, timeout?): LockWaiter` | an `OpenedConsumer` |
//! | `acknowledge(id, consumer, upTo: bigint)` | done: the position is durable |
//! | `closeConsumer(id, consumer)`, `removeConsumer(id, consumer)` | done; the lock is free then. The number means nothing any more |
//! | `backupWal(id, wal, target)` | done: there is a durable copy at `target`, an absolute path |
//! | `statsWal(wal): WalStats` | at once; `null` when the log is closed |
//! | `closeWal(id, wal)` | done; the lock is free then. The number means nothing any more |
//!
//! `dir` is absolute. `most` is in bytes; one entry, or one block of a replay, may exceed it.
//!
//! # Packed entries
//!
//! In (`appendWal`), one after the other, numbers little-endian: length of the id (4 bytes),
//! length of the payload (4), timestamp in ms since 1970 (8, signed), op (1: 0 insert, 1 update,
//! 2 delete), payload kind (1: 0 bytes, 1 text), id, payload (UTF-8). The memory is copied
//! before the call returns. Out (`packed`): the same, and before each entry its sequence
//! number (8 bytes).
//!
//! # Errors
//!
//! `error.kind` is `'wal'` for the log's own: `EWALPOISONED`, `EWALMOVED`, `EWALDAMAGED` (with
//! `error.damage`), `EWALCLOSED`, `EWALNAME`, `EWALTOOLARGE`, `EWALAHEAD`, `EWALNOMEMTABLE`,
//! `EWALRELEASED` (with `error.first`);
//! otherwise as everywhere (`'system'`, `'locked'`…). Operations: `open wal`, `wal append`,
//! `wal backup`, `wal consumer`, `wal read`, `wal flush`, `wal checkpoint`, `wal close`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, BufferSlice};
use napi_derive::napi;

use super::environment::{Environment, Message, Port};
use super::handles::OpenWal;
use super::js_types::NativeDamage;
use super::path_text::NativePath;
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::locked_wal::{self, DEFAULT_LOCK_TIMEOUT, WalOpening};
use crate::threads::{pool, task};
use crate::wal::{
    AppendQueue, Appended, Batch, CollectionStats, ConsumerPosition, DEFAULT_SYNC_INTERVAL,
    LogOptions, RecoveryMode, SyncMode, WalError,
};

/// How a log is kept. What is left out has the default of the core; the facade has checked the
/// rest.
#[napi(object, object_to_js = false)]
pub struct WalOptions {
    #[napi(ts_type = "'always' | 'perBatch' | 'periodic' | 'never'")]
    pub sync_mode: Option<String>,
    /// Milliseconds.
    pub sync_interval: Option<f64>,
    #[napi(ts_type = "'strict' | 'tolerateTail' | 'skipCorrupt'")]
    pub recovery: Option<String>,
    /// Bytes.
    pub segment_size: Option<f64>,
    /// Milliseconds.
    pub segment_age: Option<f64>,
    /// Whether to keep the newest entry of each id in memory.
    pub memtable: Option<bool>,
    /// How many bytes may be queued and written at a time.
    pub queue_bytes: Option<f64>,
    /// How long to wait for the lock, in milliseconds; infinity waits for ever.
    pub timeout: Option<f64>,
}

fn duration(milliseconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

/// The recovery mode of this name.
pub(super) fn recovery(name: Option<&str>) -> RecoveryMode {
    match name {
        Some("strict") => RecoveryMode::Strict,
        Some("tolerateTail") => RecoveryMode::TolerateTail,
        Some("skipCorrupt") => RecoveryMode::SkipCorrupt,
        _ => RecoveryMode::default(),
    }
}

impl From<&WalOptions> for LogOptions {
    fn from(given: &WalOptions) -> LogOptions {
        let default = LogOptions::default();
        let interval = given.sync_interval.and_then(duration).unwrap_or(DEFAULT_SYNC_INTERVAL);
        LogOptions {
            sync: match given.sync_mode.as_deref() {
                Some("always") => SyncMode::Always,
                Some("perBatch") => SyncMode::PerBatch,
                Some("periodic") => SyncMode::Periodic(interval),
                Some("never") => SyncMode::Never,
                _ => default.sync,
            },
            recovery: recovery(given.recovery.as_deref()),
            segment_size: given.segment_size.map_or(default.segment_size, |bytes| bytes as u64),
            segment_age: given.segment_age.and_then(duration),
            queue_bytes: given.queue_bytes.map_or(default.queue_bytes, |bytes| bytes as usize),
            memtable: given.memtable.unwrap_or(default.memtable),
            ..default
        }
    }
}

/// A log that has been opened.
#[napi(object, object_from_js = false)]
pub struct OpenedWal {
    /// The log's number.
    pub wal: u32,
    /// What was cut off or skipped.
    pub damage: Vec<NativeDamage>,
}

/// A call that waits for the locks of a log.
#[napi]
pub struct WalWaiter {
    opening: Arc<WalOpening>,
}

#[napi]
impl WalWaiter {
    /// Ends the wait, unless it is over already. Its outcome tells.
    #[napi]
    pub fn cancel(&self) {
        self.opening.cancel();
    }
}

/// The figures of a log.
#[napi(object, object_from_js = false)]
pub struct WalStats {
    pub batches: f64,
    pub entries: f64,
    pub bytes: f64,
    pub groups: f64,
    pub syncs: f64,
    /// Bytes that are queued or being written.
    pub queue_bytes: f64,
    /// Batches for which there is no room yet.
    pub waiting: f64,
    pub poisoned: Option<String>,
    pub collections: Vec<WalCollectionStats>,
}

/// The figures of one collection.
#[napi(object, object_from_js = false)]
pub struct WalCollectionStats {
    pub name: String,
    pub segments: f64,
    pub bytes: f64,
    pub last: BigInt,
    pub durable: BigInt,
    pub released: BigInt,
    pub memtable_entries: f64,
    pub memtable_bytes: f64,
    pub consumers: Vec<WalConsumerStats>,
}

/// How far a consumer has got.
#[napi(object, object_from_js = false)]
pub struct WalConsumerStats {
    pub name: String,
    pub position: BigInt,
}

/// Those of a collection.
pub(super) fn consumers_of(all: &[ConsumerPosition], collection: &str) -> Vec<WalConsumerStats> {
    let own = all.iter().filter(|consumer| consumer.collection == collection);
    own.map(|it| WalConsumerStats { name: it.consumer.clone(), position: it.position.into() })
        .collect()
}

impl From<CollectionStats> for WalCollectionStats {
    fn from(stats: CollectionStats) -> WalCollectionStats {
        WalCollectionStats {
            name: stats.name,
            segments: stats.segments as f64,
            bytes: stats.bytes as f64,
            last: stats.last.into(),
            durable: stats.durable.into(),
            released: stats.released.into(),
            memtable_entries: stats.memtable_entries as f64,
            memtable_bytes: stats.memtable_bytes as f64,
            consumers: Vec::new(),
        }
    }
}

/// A sequence number. What is out of its range is the nearest that is in it.
pub(super) fn sequence(given: &BigInt) -> u64 {
    match given.get_u64() {
        (true, _, _) => 0,
        (false, number, true) => number,
        (false, _, false) => u64::MAX,
    }
}

pub(super) fn closed() -> ErrorKind {
    WalError::Closed.into()
}

/// The log with this number. The operation fails if there is none.
pub(super) fn find_wal(
    environment: &Environment,
    id: f64,
    operation: Operation,
    wal: u32,
) -> Option<OpenWal> {
    let found = environment.wals.get(wal);
    if found.is_none() {
        environment.fail(id, operation, Path::new(""), closed());
    }
    found
}

#[napi]
impl Port {
    /// Takes the lock of a log, opens and repairs it.
    #[napi]
    pub fn open_wal(&self, id: f64, dir: NativePath, options: WalOptions) -> WalWaiter {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let opened_path = path.clone();
        let on_opened = move |outcome: Result<AppendQueue<Os>, ErrorKind>| {
            let opened = match outcome {
                Ok(queue) => {
                    let damage = queue.log().damage().iter().cloned();
                    let damage = damage.map(NativeDamage::from).collect();
                    match environment.wals.keep(OpenWal { path: path.clone(), queue }) {
                        Some(wal) => Ok(OpenedWal { wal, damage }),
                        None => return,
                    }
                }
                Err(kind) => Err(kind),
            };
            environment.answer(id, Operation::WalOpen, &path, opened);
        };
        let timeout = options.timeout.map_or(Some(DEFAULT_LOCK_TIMEOUT), duration);
        let options = LogOptions::from(&options);
        WalWaiter { opening: locked_wal::open(pool(), opened_path, options, timeout, on_opened) }
    }

    /// Appends a batch.
    #[napi]
    pub fn append_wal(
        &self,
        id: f64,
        wal: u32,
        collection: String,
        #[napi(ts_arg_type = "Uint8Array")] packed: BufferSlice<'_>,
        durable: bool,
    ) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, Operation::WalAppend, wal)
        else {
            return;
        };
        let Some(batch) = Batch::from_packed(packed.to_vec()) else {
            let kind = ErrorKind::Internal("the batch is not packed as it should be".to_owned());
            environment.fail(id, Operation::WalAppend, &path, kind);
            return;
        };
        let on_appended = move |outcome: Result<Appended, ErrorKind>| match outcome {
            Ok(appended) => environment.outcomes.push(Message::Appended { id, appended }),
            Err(kind) => environment.fail(id, Operation::WalAppend, &path, kind),
        };
        queue.submit(&collection, batch, durable, Box::new(on_appended));
    }

    /// A batch is being packed, and will be appended.
    #[napi]
    pub fn expect_wal_batch(&self, wal: u32, collection: String) {
        if let Some(OpenWal { queue, .. }) = self.environment.wals.get(wal) {
            queue.expect_batch(&collection);
        }
    }

    /// Makes everything durable that was appended to a collection, or to all.
    #[napi]
    pub fn sync_wal(&self, id: f64, wal: u32, collection: Option<String>) {
        let environment = Arc::clone(&self.environment);
        let operation = Operation::WalFlush;
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, operation, wal) else {
            return;
        };
        let on_synced = move |outcome| environment.done(id, operation, &path, outcome);
        queue.sync(collection, on_synced);
    }

    /// Releases the entries of a collection up to a number.
    #[napi]
    pub fn checkpoint_wal(&self, id: f64, wal: u32, collection: String, up_to: BigInt) {
        let environment = Arc::clone(&self.environment);
        let operation = Operation::WalCheckpoint;
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, operation, wal) else {
            return;
        };
        let up_to = sequence(&up_to);
        let work = move || queue.log().release(&collection, up_to).map(BigInt::from);
        task::run(pool(), work, move |outcome| environment.answer(id, operation, &path, outcome));
    }

    /// Copies a log, as of one moment.
    #[napi]
    pub fn backup_wal(&self, id: f64, wal: u32, target: NativePath) {
        let environment = Arc::clone(&self.environment);
        let operation = Operation::WalBackup;
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, operation, wal) else {
            return;
        };
        let work = move || queue.log().backup(target.as_ref());
        task::run(pool(), work, move |outcome| environment.done(id, operation, &path, outcome));
    }

    /// Looks at the positions of the consumers: the next figures have them.
    #[napi]
    pub fn look_at_consumers(&self, id: f64, wal: u32) {
        let environment = Arc::clone(&self.environment);
        let operation = Operation::WalConsumer;
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, operation, wal) else {
            return;
        };
        let work = move || queue.log().look_at_consumers();
        task::run(pool(), work, move |outcome| environment.done(id, operation, &path, outcome));
    }

    /// The figures of a log; nothing when it is closed.
    #[napi]
    pub fn stats_wal(&self, wal: u32) -> Option<WalStats> {
        let OpenWal { queue, .. } = self.environment.wals.get(wal)?;
        let stats = queue.log().stats();
        queue.look_at_consumers();
        Some(WalStats {
            batches: stats.batches as f64,
            entries: stats.entries as f64,
            bytes: stats.bytes as f64,
            groups: stats.groups as f64,
            syncs: stats.syncs as f64,
            queue_bytes: queue.bytes() as f64,
            waiting: queue.waiting() as f64,
            poisoned: stats.poisoned,
            collections: stats
                .collections
                .into_iter()
                .map(|collection| WalCollectionStats {
                    consumers: consumers_of(&stats.consumers, &collection.name),
                    ..WalCollectionStats::from(collection)
                })
                .collect(),
        })
    }

    /// Closes a log, after everything that was submitted to it.
    #[napi]
    pub fn close_wal(&self, id: f64, wal: u32) {
        let environment = Arc::clone(&self.environment);
        let operation = Operation::WalClose;
        match environment.wals.take(wal) {
            Some(OpenWal { path, queue }) => {
                queue.close(move |outcome| environment.done(id, operation, &path, outcome));
            }
            None => environment.fail(id, operation, Path::new(""), closed()),
        }
    }
}
