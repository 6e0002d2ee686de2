//! Logs whose files are removed or replaced while they are open, at every moment: what is not where it
//! can be found is not acknowledged, and nothing that comes later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast::error::{Code, ErrorKind};
use holdfast::fs::{Dir, DirUse, FileSystem, SharedWith};
use holdfast::wal::{Log, LogOptions, RecoveryMode, SyncMode, WalError};
use holdfast_sim::{Fault, OperationKind, Performed, SimFs};

use wal_common::{LOCK, LOG, batch, entries, open, options};

const SHARED: SharedWith<'static> = SharedWith::WritersOfDir { mode: 0o666 };

/// What another program does to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intrusion {
    RemoveLock,
    ReplaceLock,
    RemoveSegment,
    ReplaceSegment,
    MoveSegment,
    MoveCollection,
    ReplaceCollection,
    ReplaceLog,
}

use Intrusion::*;

const ALL: [Intrusion; 8] = [
    RemoveLock,
    ReplaceLock,
    RemoveSegment,
    ReplaceSegment,
    MoveSegment,
    MoveCollection,
    ReplaceCollection,
    ReplaceLog,
];

impl Intrusion {
    fn act(self, fs: &SimFs) {
        let dir = |path: &str| Dir::open(fs, Path::new(path), DirUse::Names).unwrap();
        let log = dir(LOG);
        let a = || dir(&format!("{LOG}/a"));
        let segment = "wal_current.avro".as_ref();
        // In the simulation anything can be renamed by the handle of any file.
        let rename = |dir: &Dir<SimFs>, from: &str, to: &str| {
            let any = a().open_file(segment).unwrap();
            dir.rename(&any, from.as_ref(), to.as_ref()).unwrap();
        };
        match self {
            RemoveLock => log.remove(LOCK.as_ref()).unwrap(),
            ReplaceLock => {
                log.create_shared("new".as_ref(), SHARED).unwrap();
                rename(&log, "new", LOCK);
            }
            RemoveSegment => a().remove(segment).unwrap(),
            ReplaceSegment => {
                a().create_shared("new".as_ref(), SHARED).unwrap();
                rename(&a(), "new", "wal_current.avro");
            }
            MoveSegment => rename(&a(), "wal_current.avro", "elsewhere"),
            MoveCollection => rename(&log, "a", "elsewhere"),
            ReplaceCollection => {
                rename(&log, "a", "elsewhere");
                log.make_shared_dir("a".as_ref()).unwrap();
            }
            ReplaceLog => {
                let any = a().open_file(segment).unwrap();
                let above = dir("/");
                above.rename(&any, "log".as_ref(), "elsewhere".as_ref()).unwrap();
                above.make_shared_dir("log".as_ref()).unwrap();
            }
        }
    }

    /// The name that has to be looked at for it to be noticed.
    fn name(self) -> &'static str {
        match self {
            RemoveLock | ReplaceLock => LOCK,
            RemoveSegment | ReplaceSegment | MoveSegment => "wal_current.avro",
            MoveCollection | ReplaceCollection => "a",
            ReplaceLog => "log",
        }
    }
}

fn plain() -> LogOptions {
    let look_interval = Duration::ZERO;
    LogOptions { look_interval, ..options(SyncMode::PerBatch, RecoveryMode::Strict) }
}

/// A log to which something has been appended.
fn begin(options: &LogOptions) -> (SimFs, Log<SimFs>) {
    let fs = SimFs::new();
    fs.set_sees_all_locks(true);
    let log = open(&fs, options).unwrap();
    log.append("a", &[&batch(1, 3)], true).unwrap();
    (fs, log)
}

fn is_moved<T>(outcome: &Result<T, ErrorKind>) -> bool {
    matches!(outcome, Err(ErrorKind::Wal(WalError::Moved(_))))
}

/// Has another program act at an operation, before it is done.
fn intrude(fs: &SimFs, number: u64, intrusion: Intrusion) {
    let has_acted = AtomicBool::new(false);
    let act = move |fs: &SimFs, _: &Path| {
        if !has_acted.swap(true, Ordering::Relaxed) {
            intrusion.act(fs);
        }
    };
    fs.inject(Fault::intrude(act).at(number));
}

/// The operations of an append to a log.
fn operations(fs: &SimFs, before: u64) -> Vec<Performed> {
    fs.log().into_iter().filter(|it| it.number > before).collect()
}

#[test]
fn what_is_removed_or_replaced_at_any_moment_of_an_append_is_noticed_before_it_is_acknowledged() {
    let mut noticed = 0;
    for intrusion in ALL {
        let (fs, log) = begin(&plain());
        let before = fs.count();
        log.append("a", &[&batch(2, 3)], true).unwrap();
        let all = operations(&fs, before);
        let is_look = |it: &&Performed| {
            it.kind == OperationKind::Metadata
                && it.path.file_name() == Some(intrusion.name().as_ref())
        };
        let looks: Vec<u64> = all.iter().filter(is_look).map(|it| it.number - before).collect();
        let synced =
            all.iter().rfind(|it| it.kind == OperationKind::SyncData).unwrap().number - before;
        let last = *looks.last().unwrap_or_else(|| panic!("{intrusion:?}: {}", fs.log_text()));
        assert!(
            last > synced,
            "{intrusion:?} is looked for before the sync only: {}",
            fs.log_text()
        );
        for moment in 1..=all.len() as u64 {
            let (fs, log) = begin(&plain());
            intrude(&fs, moment, intrusion);
            let outcome = log.append("a", &[&batch(2, 3)], true);
            fs.repair();
            let case = format!("{intrusion:?} at operation {moment} of {}, {outcome:?}", all.len());
            assert_eq!(is_moved(&outcome), moment <= last, "{case}: {}", fs.log_text());
            noticed += u32::from(is_moved(&outcome));
            // In any case nothing that comes later is acknowledged.
            assert!(is_moved(&log.append("a", &[&batch(3, 3)], true)), "{case}");
            assert!(is_moved(&log.append("b", &[&batch(3, 3)], true)), "{case}");
            assert!(is_moved(&log.sync(None)), "{case}");
            assert!(is_moved(&log.checkpoint("a", 1)), "{case}");
            assert!(is_moved(&log.rotate("a")), "{case}");
            assert!(log.next_segment("a").is_none(), "{case}");
            assert!(log.stats().poisoned.is_some(), "{case}");
            let changed = fs.count();
            assert!(is_moved(&log.close()), "{case}");
            let is_change = |it: &Performed| {
                matches!(
                    it.kind,
                    OperationKind::WriteAt | OperationKind::SetSize | OperationKind::Rename
                )
            };
            let changes = operations(&fs, changed).into_iter().filter(is_change).count();
            assert_eq!(changes, 0, "{case}: the end of the log changes what may be another's");
        }
    }
    assert!(noticed > 50, "{noticed}");
}

#[test]
fn a_sync_a_checkpoint_and_the_end_of_a_log_notice_it_too() {
    let late = LogOptions { sync: SyncMode::Never, look_interval: Duration::MAX, ..plain() };
    for intrusion in [RemoveLock, ReplaceLock, RemoveSegment, ReplaceSegment] {
        for step in 0..4 {
            let (fs, log) = begin(&late);
            log.append("a", &[&batch(2, 3)], false).unwrap();
            intrusion.act(&fs);
            let outcome = match step {
                0 => log.sync(None),
                1 => log.checkpoint("a", 1),
                2 => log.append("a", &[&batch(3, 3)], true).map(drop),
                _ => log.close(),
            };
            assert!(is_moved(&outcome), "{intrusion:?}, step {step}: {outcome:?}");
        }
    }
}

#[test]
fn a_look_that_fails_says_nothing() {
    let (fs, log) = begin(&plain());
    let before = fs.count();
    log.append("a", &[&batch(2, 3)], true).unwrap();
    let looks = operations(&fs, before);
    let looks = looks.iter().filter(|it| it.kind == OperationKind::Metadata).count();
    assert!(looks >= 4, "{looks}: {}", fs.log_text());
    for (number, code) in (3..).zip([Code::EIO, Code::EACCES, Code::ENFILE]) {
        fs.inject(Fault::fail(code).of(OperationKind::Metadata).for_ever());
        log.append("a", &[&batch(number, 3)], true).unwrap();
        fs.repair();
    }
    log.close().unwrap();
    let log = open(&fs, &plain()).unwrap();
    assert_eq!(entries(&log, "a").unwrap().len(), 15);
}

#[test]
fn where_numbers_tell_nothing_only_what_is_gone_is_noticed() {
    for intrusion in ALL {
        let (fs, log) = begin(&plain());
        // Known for each segment from its first look on.
        fs.set_sees_all_locks(false);
        log.rotate("a").unwrap();
        log.append("a", &[&batch(2, 3)], true).unwrap();
        intrusion.act(&fs);
        let outcome = log.append("a", &[&batch(3, 3)], true);
        let is_gone =
            matches!(intrusion, RemoveLock | RemoveSegment | MoveSegment | MoveCollection);
        assert_eq!(is_moved(&outcome), is_gone, "{intrusion:?}: {outcome:?}");
        assert!(is_gone || outcome.is_ok(), "{intrusion:?}: {outcome:?}");
    }
}

#[test]
fn a_file_system_that_numbers_files_anew_at_each_look_poisons_no_log() {
    let fs = SimFs::new();
    fs.set_has_unstable_ids(true);
    let log = open(&fs, &plain()).unwrap();
    for number in 1..5 {
        log.append("a", &[&batch(number, 3)], true).unwrap();
    }
    log.checkpoint("a", 3).unwrap();
    log.close().unwrap();
}

#[test]
fn a_log_whose_directory_is_renamed_goes_on_in_it() {
    let (fs, log) = begin(&plain());
    let above = Dir::open(&fs, Path::new("/"), DirUse::Names).unwrap();
    let any = Dir::open(&fs, Path::new("/log/a"), DirUse::Names).unwrap();
    let any = any.open_file("wal_current.avro".as_ref()).unwrap();
    above.rename(&any, "log".as_ref(), "elsewhere".as_ref()).unwrap();
    let log = Arc::new(log);
    for number in 2..40 {
        log.append("a", &[&batch(number, 3)], true).unwrap();
        // New collections are made there, too.
        log.append(&format!("new{}", number % 3), &[&batch(100 + number, 3)], true).unwrap();
    }
    assert_eq!(entries(&log, "a").unwrap().len(), 39 * 3);
    log.checkpoint("a", 30).unwrap();
    log.close().unwrap();
    assert!(fs.open_dir(Path::new("/log"), DirUse::Names).is_err());
    above.rename(&any, "elsewhere".as_ref(), "log".as_ref()).unwrap();
    let log = open(&fs, &plain()).unwrap();
    assert_eq!(log.names(), ["a", "new0", "new1", "new2"]);
    assert_eq!(entries(&log, "new0").unwrap().len(), 39);
}
