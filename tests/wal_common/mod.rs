//! Logs on a simulated disk, and what must be true of what is left of them.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::path::Path;
use std::time::Duration;

use holdfast::error::ErrorKind;
use holdfast::fs::{Dir, DirUse, FileSystem, SharedWith};
use holdfast::wal::{
    Batch, EntryRef, Log, LogOptions, Op, RecoveryMode, Replay, ReplayProgress, SyncMode, WalEntry,
    make_log_dir,
};
use holdfast_sim::SimFs;

pub(crate) const LOG: &str = "/log";

/// A log on a disk where little is much.
pub(crate) fn options(sync: SyncMode, recovery: RecoveryMode) -> LogOptions {
    LogOptions {
        sync,
        recovery,
        segment_size: 3000,
        step: 512,
        large_group: 1200,
        // At the first append and behind each sync, so that every run has the same operations.
        look_interval: Duration::MAX,
        clock: || 1_700_000_000_000,
        ..LogOptions::default()
    }
}

/// The batch with this number: its entries tell whose they are, and their payloads differ in
/// length, so that sectors and blocks do not fall together.
pub(crate) fn batch(number: u64, entries: u64) -> Batch {
    let mut batch = Batch::default();
    for index in 0..entries {
        let payload = payload(number, index);
        batch.push(EntryRef {
            id: &format!("{number}/{index}"),
            op: Op::Insert,
            timestamp: number as i64,
            is_text: index % 2 == 1,
            payload: payload.as_bytes(),
        });
    }
    batch
}

pub(crate) fn payload(number: u64, index: u64) -> String {
    let length = (number * 37 + index * 11) % 150;
    format!("{number}.{index}:").repeat(1 + length as usize / 8)
}

/// The name of the lock file of a log, in its directory.
pub(crate) const LOCK: &str = ".holdfast.wal.lock";

/// Opens the log as `locked_wal` does: with a lock file in its directory, which the process that was
/// killed may have left.
pub(crate) fn open(fs: &SimFs, options: &LogOptions) -> Result<Log<SimFs>, ErrorKind> {
    make_log_dir(fs, Path::new(LOG))?;
    let dir = Dir::open(fs, Path::new(LOG), DirUse::NamesAndSync)?;
    dir.open_or_create(LOCK.as_ref(), SharedWith::UsersOf("holdfast.wal".as_ref()))?;
    Log::open_in(dir, *options, Some(LOCK.as_ref()))
}

/// Unpacks what a replay or the memtable gives.
pub(crate) fn unpack(mut bytes: &[u8]) -> Vec<WalEntry> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (sequence, rest) = bytes.split_at(8);
        let sequence = u64::from_le_bytes(sequence.try_into().unwrap());
        let id = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        let payload = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        let length = 18 + id + payload;
        let one = Batch::from_packed(rest[..length].to_vec()).unwrap();
        entries.push(WalEntry::new(sequence, one.entries().next().unwrap()));
        bytes = &rest[length..];
    }
    entries
}

/// Everything that a replay shows.
pub(crate) fn drain<F: FileSystem>(replay: &mut Replay<F>) -> Result<Vec<WalEntry>, ErrorKind> {
    let mut entries = Vec::new();
    loop {
        let mut packed = Vec::new();
        let progress = replay.chunk(&mut packed, 300)?;
        entries.extend(unpack(&packed));
        if progress == ReplayProgress::Over {
            return Ok(entries);
        }
    }
}

/// The entries of a collection, by replay, which the memtable has to agree with.
pub(crate) fn entries(log: &Log<SimFs>, collection: &str) -> Result<Vec<WalEntry>, ErrorKind> {
    let replayed = drain(&mut log.replay(collection, 0)?)?;
    let mut held = Vec::new();
    let mut after = 0;
    loop {
        let mut packed = Vec::new();
        let next = log.entries(collection, (after, u64::MAX - 1), 500, true, &mut packed)?;
        held.extend(unpack(&packed));
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    // Every id is used once in these tests, so that nothing hides anything.
    assert_eq!(held, replayed, "memtable and replay differ");
    Ok(replayed)
}

/// The same beside the writer, as another process sees it.
pub(crate) fn seen_from_outside(
    fs: &SimFs,
    collection: &str,
    recovery: RecoveryMode,
) -> Result<Vec<WalEntry>, ErrorKind> {
    drain(&mut Replay::new(fs.clone(), Path::new(LOG), collection, 0, None, recovery)?)
}
