//! `openWal` and what it gives.
//!
//! # The native methods, all of them on `Port`
//!
//! Those with an `id` answer through the port, like every operation: with the plain `id` when
//! there is no value, otherwise with `{id, value}` or `{id, error}`. The others return at once;
//! what can fail there returns `{error}` (a `NativeError`) instead of throwing.
//!
//! | method | answer |
//! | --- | --- |
//! | `openWal(id, dir, options: WalOptions): LockWaiter` | `value.wal` (the log's number), `value.damage` (what was cut off or skipped) |
//! | `appendWal(id, wal, collection, packed: Uint8Array, durable): boolean` | four values in a row: the `id` with a minus, the sequence number of the first entry (a bigint), how many there are, how much memory the memtable takes. Returns `false`, and will not answer, when the queue has no room: try again when an append of this log has ended |
//! | `standByWal(wal, collection)` | nothing: a batch will follow as soon as it is packed, and a thread wakes up for it meanwhile |
//! | `getWal(wal, collection, key): WalRead` | at once: `packed` with one entry, or nothing |
//! | `entriesWal(wal, collection, after: bigint, until: bigint, most, withDeletions): WalRead` | at once: `packed`, and `next` to go on after, if there is more |
//! | `replayWal(id, wal, collection, from: bigint)` | `value.replay` (the replay's number), of what has resolved by now |
//! | `replayWalIn(id, dir, collection, from: bigint, recovery)` | the same of a log that this process does not have open; takes no lock |
//! | `readWalIn(id, dir)` | `value.names`: the collections of a log that this process does not have open. `ENOENT`, `ENOTDIR` (operation `open wal`) when there is no such directory |
//! | `nextWal(id, replay, most)` | `value.packed`, `value.over`, and with `over` `value.damage` |
//! | `endReplay(replay)` | nothing: forgets a replay that is not read to its end |
//! | `syncWal(id, wal, collection?: string)` | done |
//! | `checkpointWal(id, wal, collection, upTo: bigint)` | done |
//! | `statsWal(wal): WalStats` | at once; the figures, or `null` when the log is closed |
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
//! `error.kind` is `'wal'` for the log's own: `EWALPOISONED`, `EWALDAMAGED` (with
//! `error.damage`), `EWALCLOSED`, `EWALNAME`, `EWALTOOLARGE`, `EWALAHEAD`, `EWALNOMEMTABLE`;
//! otherwise as everywhere (`'system'`, `'locked'`…). Operations: `open wal`, `wal append`,
//! `wal read`, `wal flush`, `wal checkpoint`, `wal close`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, Buffer, BufferSlice};
use napi_derive::napi;

use super::environment::{Environment, Message, Port};
use super::handles::{OpenReplay, OpenWal};
use super::js_types::{NativeDamage, NativeError, NativeValue};
use super::lock::LockWaiter;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::locked_wal;
use crate::threads::{pool, task};
use crate::wal::{
    Appended, Batch, CollectionStats, Options, Progress, Queue, Recovery, Replay, SyncMode,
    WalError, collections, pack_with_sequence,
};

/// How a log is kept. What is left out has the default of the public contract; the facade has
/// checked the rest.
#[napi(object)]
#[derive(Default)]
pub struct WalOptions {
    /// 0 always, 1 perBatch, 2 periodic, 3 never.
    pub sync_mode: Option<u32>,
    /// Milliseconds; default 100.
    pub sync_interval: Option<f64>,
    /// 0 strict, 1 tolerateTail, 2 skipCorrupt.
    pub recovery: Option<u32>,
    /// Bytes; default 16 MiB.
    pub segment_size: Option<f64>,
    /// Milliseconds; default: segments do not age.
    pub segment_age: Option<f64>,
    /// Whether to keep the newest entry of each id in memory; default true.
    pub memtable: Option<bool>,
    /// How many bytes may wait to be appended; default 16 MiB.
    pub queue_bytes: Option<f64>,
    /// How long to wait for the lock, in milliseconds; infinity waits for ever; default 10 000.
    pub timeout: Option<f64>,
}

const SYNC_INTERVAL: Duration = Duration::from_millis(100);
const QUEUE_BYTES: usize = 16 << 20;
const TIMEOUT: f64 = 10_000.0;

fn duration(milliseconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

fn recovery(number: Option<u32>) -> Recovery {
    match number {
        Some(0) => Recovery::Strict,
        Some(2) => Recovery::SkipCorrupt,
        _ => Recovery::TolerateTail,
    }
}

impl From<&WalOptions> for Options {
    fn from(given: &WalOptions) -> Options {
        let default = Options::default();
        Options {
            sync: match given.sync_mode {
                Some(0) => SyncMode::Always,
                Some(2) => SyncMode::Periodic(
                    given.sync_interval.and_then(duration).unwrap_or(SYNC_INTERVAL),
                ),
                Some(3) => SyncMode::Never,
                _ => SyncMode::PerBatch,
            },
            recovery: recovery(given.recovery),
            segment_size: given.segment_size.map_or(default.segment_size, |bytes| bytes as u64),
            segment_age: given.segment_age.and_then(duration),
            memtable: given.memtable.unwrap_or(default.memtable),
            ..default
        }
    }
}

/// What a read of the memtable gives.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct WalRead {
    pub packed: Option<Buffer>,
    pub next: Option<BigInt>,
    pub error: Option<NativeError>,
}

/// The figures of a log.
#[napi(object)]
pub struct WalStats {
    pub batches: f64,
    pub entries: f64,
    pub bytes: f64,
    pub groups: f64,
    pub syncs: f64,
    /// Bytes that wait or are being written.
    pub queue_bytes: f64,
    pub poisoned: Option<String>,
    pub collections: Vec<WalCollectionStats>,
}

/// The figures of one collection.
#[napi(object)]
pub struct WalCollectionStats {
    pub name: String,
    pub segments: f64,
    pub bytes: f64,
    pub last: BigInt,
    pub durable: BigInt,
    pub released: BigInt,
    pub memtable_entries: f64,
    pub memtable_bytes: f64,
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
        }
    }
}

/// A sequence number. What is out of its range is the nearest that is in it.
fn number(given: &BigInt) -> u64 {
    match given.get_u64() {
        (true, _, _) => 0,
        (false, number, true) => number,
        (false, _, false) => u64::MAX,
    }
}

fn closed() -> ErrorKind {
    WalError::Closed.into()
}

fn failed(path: &Path, kind: ErrorKind) -> WalRead {
    let (operation, path) = (Operation::WalRead, path.to_owned());
    let error = Error { kind, operation, path, attempts: 1, exhausted: false, committed: false };
    WalRead { error: Some(error.into()), ..WalRead::default() }
}

#[napi]
impl Port {
    /// Takes the lock of a log, opens and repairs it.
    #[napi]
    pub fn open_wal(&self, id: f64, dir: String, options: WalOptions) -> LockWaiter {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let request = locked_wal::Request {
            path: path.clone(),
            options: Options::from(&options),
            queue_bytes: options.queue_bytes.map_or(QUEUE_BYTES, |bytes| bytes as usize),
            timeout: duration(options.timeout.unwrap_or(TIMEOUT)),
        };
        let reply = move |outcome: Result<Queue<Os>, ErrorKind>| {
            let value = match outcome {
                Ok(queue) => {
                    let damage: Vec<_> =
                        queue.log().damage().iter().cloned().map(NativeDamage::from).collect();
                    match environment.wals.keep(OpenWal { path: path.clone(), queue }) {
                        Some(number) => Ok(NativeValue {
                            wal: Some(number.into()),
                            damage: Some(damage),
                            ..NativeValue::default()
                        }),
                        None => return,
                    }
                }
                Err(kind) => Err(kind),
            };
            environment.answer(id, Operation::WalOpen, &path, value);
        };
        LockWaiter { waiter: locked_wal::open(pool(), request, reply) }
    }

    /// Appends a batch. `false` when the queue has no room.
    #[napi]
    pub fn append_wal(
        &self,
        id: f64,
        wal: u32,
        collection: String,
        #[napi(ts_arg_type = "Uint8Array")] packed: BufferSlice<'_>,
        durable: bool,
    ) -> bool {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = environment.wals.get(wal) else {
            environment.fail(id, Operation::WalAppend, Path::new(""), closed());
            return true;
        };
        let Some(batch) = Batch::from_packed(packed.to_vec()) else {
            let kind = ErrorKind::Internal("the batch is not packed as it should be".to_owned());
            environment.fail(id, Operation::WalAppend, &path, kind);
            return true;
        };
        let reply = move |outcome: Result<Appended, ErrorKind>| match outcome {
            Ok(appended) => environment.outcomes.push(Message::Appended { id, appended }),
            Err(kind) => environment.fail(id, Operation::WalAppend, &path, kind),
        };
        queue.submit(&collection, batch, durable, Box::new(reply)).is_ok()
    }

    /// A batch is being packed, and will be appended.
    #[napi]
    pub fn stand_by_wal(&self, wal: u32, collection: String) {
        if let Some(OpenWal { queue, .. }) = self.environment.wals.get(wal) {
            queue.stand_by(&collection);
        }
    }

    /// The newest entry of an id, unless that is its deletion.
    #[napi]
    pub fn get_wal(&self, wal: u32, collection: String, key: String) -> WalRead {
        let Some(OpenWal { path, queue }) = self.environment.wals.get(wal) else {
            return failed(Path::new(""), closed());
        };
        match queue.log().get(&collection, &key) {
            Ok(entry) => {
                let packed = entry.map(|entry| {
                    let mut packed = Vec::new();
                    pack_with_sequence(&mut packed, entry.sequence, entry.as_ref());
                    packed.into()
                });
                WalRead { packed, ..WalRead::default() }
            }
            Err(error) => failed(&path, error.into()),
        }
    }

    /// Entries of the memtable, in the order of their numbers.
    #[napi]
    pub fn entries_wal(
        &self,
        wal: u32,
        collection: String,
        after: BigInt,
        until: BigInt,
        most: u32,
        with_deletions: bool,
    ) -> WalRead {
        let Some(OpenWal { path, queue }) = self.environment.wals.get(wal) else {
            return failed(Path::new(""), closed());
        };
        let mut packed = Vec::new();
        let range = (number(&after), number(&until));
        let most = most as usize;
        match queue.log().entries(&collection, range, most, with_deletions, &mut packed) {
            Ok(next) => {
                WalRead { packed: Some(packed.into()), next: next.map(BigInt::from), error: None }
            }
            Err(error) => failed(&path, error.into()),
        }
    }

    /// Starts a replay of a log that is open here.
    #[napi]
    pub fn replay_wal(&self, id: f64, wal: u32, collection: String, from: BigInt) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = environment.wals.get(wal) else {
            environment.fail(id, Operation::WalRead, Path::new(""), closed());
            return;
        };
        let from = number(&from);
        start_replay(environment, id, path, move || queue.log().replay(&collection, from));
    }

    /// Starts a replay of a log that another process may have open.
    #[napi]
    pub fn replay_wal_in(
        &self,
        id: f64,
        dir: String,
        collection: String,
        from: BigInt,
        recovery_mode: u32,
    ) {
        let path = PathBuf::from(dir);
        let place = path.clone();
        let from = number(&from);
        let recovery = recovery(Some(recovery_mode));
        let start = move || Replay::new(Os, &place, &collection, from, None, recovery);
        start_replay(Arc::clone(&self.environment), id, path, start);
    }

    /// The collections of a log that another process may have open.
    #[napi]
    pub fn read_wal_in(&self, id: f64, dir: String) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let place = path.clone();
        let read = move || {
            let names = Some(collections(&Os, &place)?);
            Ok(NativeValue { names, ..NativeValue::default() })
        };
        let answer = move |value| environment.answer(id, Operation::WalOpen, &path, value);
        task::run(pool(), read, answer);
    }

    /// The next entries of a replay.
    #[napi]
    pub fn next_wal(&self, id: f64, replay: u32, most: u32) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenReplay { path, replay: mut walk }) = environment.replays.take(replay) else {
            environment.fail(id, Operation::WalRead, Path::new(""), closed());
            return;
        };
        let (answer, place) = (Arc::clone(&environment), path.clone());
        let work = move || {
            let mut packed = Vec::new();
            let progress = walk.chunk(&mut packed, most as usize)?;
            let over = progress == Progress::Over;
            let damage = walk.damage().iter().cloned().map(NativeDamage::from);
            let damage = over.then(|| damage.collect());
            if !over {
                environment.replays.put(replay, OpenReplay { path, replay: walk });
            }
            let (packed, over) = (Some(packed.into()), Some(over));
            Ok(NativeValue { packed, over, damage, ..NativeValue::default() })
        };
        task::run(pool(), work, move |value| answer.answer(id, Operation::WalRead, &place, value));
    }

    /// Forgets a replay.
    #[napi]
    pub fn end_replay(&self, replay: u32) {
        drop(self.environment.replays.take(replay));
    }

    /// Makes everything durable that was appended to a collection, or to all.
    #[napi]
    pub fn sync_wal(&self, id: f64, wal: u32, collection: Option<String>) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = environment.wals.get(wal) else {
            environment.fail(id, Operation::WalFlush, Path::new(""), closed());
            return;
        };
        queue.sync(collection, done(environment, id, Operation::WalFlush, path));
    }

    /// Releases the entries of a collection up to a number.
    #[napi]
    pub fn checkpoint_wal(&self, id: f64, wal: u32, collection: String, up_to: BigInt) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = environment.wals.get(wal) else {
            environment.fail(id, Operation::WalCheckpoint, Path::new(""), closed());
            return;
        };
        let up_to = number(&up_to);
        let work = move || queue.log().checkpoint(&collection, up_to);
        task::run(pool(), work, done(environment, id, Operation::WalCheckpoint, path));
    }

    /// The figures of a log; nothing when it is closed.
    #[napi]
    pub fn stats_wal(&self, wal: u32) -> Option<WalStats> {
        let OpenWal { queue, .. } = self.environment.wals.get(wal)?;
        let stats = queue.log().stats();
        Some(WalStats {
            batches: stats.batches as f64,
            entries: stats.entries as f64,
            bytes: stats.bytes as f64,
            groups: stats.groups as f64,
            syncs: stats.syncs as f64,
            queue_bytes: queue.bytes() as f64,
            poisoned: stats.poisoned,
            collections: stats.collections.into_iter().map(WalCollectionStats::from).collect(),
        })
    }

    /// Closes a log, after what it has begun.
    #[napi]
    pub fn close_wal(&self, id: f64, wal: u32) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = environment.wals.take(wal) else {
            environment.fail(id, Operation::WalClose, Path::new(""), closed());
            return;
        };
        queue.close(done(environment, id, Operation::WalClose, path));
    }
}

/// Answers an operation that has no value.
fn done(
    environment: Arc<Environment>,
    id: f64,
    operation: Operation,
    path: PathBuf,
) -> impl FnOnce(Result<(), ErrorKind>) + Send + 'static {
    move |outcome| environment.done(id, operation, &path, outcome)
}

fn start_replay(
    environment: Arc<Environment>,
    id: f64,
    path: PathBuf,
    start: impl FnOnce() -> Result<Replay<Os>, ErrorKind> + Send + 'static,
) {
    let (answer, place) = (Arc::clone(&environment), path.clone());
    let work = move || {
        let replay = start()?;
        let number = environment.replays.keep(OpenReplay { path, replay });
        let number = number.ok_or_else(closed)?;
        Ok(NativeValue { replay: Some(number.into()), ..NativeValue::default() })
    };
    task::run(pool(), work, move |value| answer.answer(id, Operation::WalRead, &place, value));
}
