//! What else may be in the directory of a log, or under the names of its segments.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use holdfast::error::ErrorKind;
use holdfast::wal::{DamageKind, RecoveryMode, SyncMode, WalError, collections};
use holdfast_sim::{Attributes, SimFs};

use wal_common::{LOG, batch, entries, open, options, seen_from_outside};

#[test]
fn directories_that_are_no_collections_are_left_alone() {
    let fs = SimFs::new();
    let plain = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let log = open(&fs, &plain).unwrap();
    log.append("a", &[&batch(1, 2)], true).unwrap();
    drop(log);
    let fs = fs.after_kill();
    let locked = Attributes { mode: 0o700, uid: 0, gid: 0 };
    fs.put_dir_with("/log/lost+found", locked).unwrap();
    for path in
        ["/log/@eaDir/x", "/log/.snapshot/wal_current.avro", "/log/photos/one.jpg", "/log/note"]
    {
        fs.put_file(path, b"not of the log").unwrap();
    }
    fs.put_dir("/log/empty").unwrap();
    let others = |fs: &SimFs| {
        fs.paths().into_iter().filter(|path| !path.starts_with("/log/a")).collect::<Vec<_>>()
    };
    let before = others(&fs);
    let log = open(&fs, &plain).unwrap();
    assert_eq!((log.damage(), log.names()), (&[][..], vec!["a".to_owned()]));
    assert_eq!(collections(&fs, LOG.as_ref()).unwrap(), ["a"]);
    log.append("a", &[&batch(2, 2)], true).unwrap();
    log.append("photos", &[&batch(3, 2)], true).unwrap();
    log.close().unwrap();
    drop(log);
    assert!(before.iter().all(|path| others(&fs).contains(path)));
    let log = open(&fs, &plain).unwrap();
    assert_eq!(log.names(), ["a", "photos"]);
    assert_eq!(entries(&log, "a").unwrap().len(), 4);
}

/// A collection that the process may not look into is none that can be left out: its numbers would
/// be given again.
#[test]
fn a_collection_that_cannot_be_looked_into_is_an_error() {
    let fs = SimFs::new();
    let plain = options(SyncMode::PerBatch, RecoveryMode::Strict);
    drop(open(&fs, &plain).unwrap());
    let locked = Attributes { mode: 0o700, uid: 0, gid: 0 };
    fs.put_dir_with("/log/a", locked).unwrap();
    assert_eq!(open(&fs, &plain).err().unwrap().code(), "EACCES");
}

#[test]
fn what_has_the_name_of_a_segment_and_is_no_file_is_damage() {
    let names = ["wal_current.avro", "wal_000000000001.avro", "wal_000000000002.avro"];
    for name in names {
        for is_link in [true, false] {
            let fs = SimFs::new();
            let strict = options(SyncMode::PerBatch, RecoveryMode::Strict);
            let log = open(&fs, &strict).unwrap();
            for number in 1..=6 {
                log.append("a", &[&batch(number, 2)], true).unwrap();
                if number % 2 == 0 && number < 6 {
                    log.rotate("a").unwrap();
                }
            }
            log.close().unwrap();
            drop(log);
            let path = format!("/log/a/{name}");
            let content = fs.read_file(&path).unwrap().to_vec();
            fs.take_away(&path).unwrap();
            fs.put_file("/elsewhere", &content).unwrap();
            match is_link {
                true => fs.put_link(&path, "/elsewhere").unwrap(),
                false => fs.put_dir(&path).unwrap(),
            }
            let what = format!("{name}, {}", if is_link { "a link" } else { "a directory" });
            match open(&fs, &strict) {
                Err(ErrorKind::Wal(WalError::Damaged(damage))) => {
                    assert_eq!(damage.kind, DamageKind::Unreadable, "{what}");
                }
                Err(other) => panic!("{what}: {other}"),
                Ok(_) => panic!("{what}: opened"),
            }
            let skip = options(SyncMode::PerBatch, RecoveryMode::SkipCorrupt);
            let seen = seen_from_outside(&fs, "a", RecoveryMode::SkipCorrupt).unwrap();
            assert_eq!(seen.len(), 8, "{what}");
            let log = open(&fs, &skip).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(log.damage()[0].kind, DamageKind::Unreadable, "{what}");
            assert_eq!(entries(&log, "a").unwrap().len(), 8, "{what}");
            let firsts = log.append("a", &[&batch(9, 2)], true).unwrap();
            assert!(firsts[0] > 12, "{what}: {firsts:?}");
            log.checkpoint("a", firsts[0] - 1).unwrap();
            drop(log);
            let log = open(&fs.after_kill(), &skip).unwrap();
            assert_eq!(entries(&log, "a").unwrap().len(), 2, "{what}");
            assert_eq!(*fs.read_file("/elsewhere").unwrap(), content, "followed: {what}");
        }
    }
}

/// What another program does.
type Deed = fn(&SimFs);

/// What a log had when it was closed it has when it is opened, or that is told.
#[test]
fn the_only_segment_of_a_closed_log_is_missed_and_its_numbers_are_not_given_again() {
    const SEGMENT: &str = "/log/a/wal_current.avro";
    let with = |recovery| options(SyncMode::PerBatch, recovery);
    let closed = |last: u64| {
        let fs = SimFs::new();
        for number in 1..=last {
            let log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
            log.append("a", &[&batch(number, 2)], true).unwrap();
            log.close().unwrap();
            drop(log);
        }
        fs
    };
    let deeds: [(&str, Deed); 2] = [
        ("the segment is missing", |fs| fs.take_away(SEGMENT).unwrap()),
        ("an empty one is there", |fs| {
            fs.take_away(SEGMENT).unwrap();
            fs.put_file(SEGMENT, b"").unwrap();
        }),
    ];
    for (what, deed) in deeds {
        let fs = closed(3);
        deed(&fs);
        for recovery in [RecoveryMode::Strict, RecoveryMode::TolerateTail] {
            match open(&fs, &with(recovery)) {
                Err(ErrorKind::Wal(WalError::Damaged(damage))) => {
                    assert_ne!(damage.kind, DamageKind::TornTail, "{what}");
                }
                other => panic!("{what}: {:?}", other.err()),
            }
        }
        let log = open(&fs, &with(RecoveryMode::SkipCorrupt)).unwrap();
        assert!(!log.damage().is_empty(), "{what}");
        assert_eq!(entries(&log, "a").unwrap(), [], "{what}");
        let firsts = log.append("a", &[&batch(9, 2)], true).unwrap();
        assert!(firsts[0] > 6, "{what}: {firsts:?}");
        log.close().unwrap();
        drop(log);
        let log = open(&fs, &with(RecoveryMode::Strict))
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(entries(&log, "a").unwrap().len(), 2, "{what}");
        drop(log);
    }
    // A collection whose directory was removed is no more, but its numbers are not given again.
    let fs = closed(3);
    fs.take_away(SEGMENT).unwrap();
    fs.take_away("/log/a").unwrap();
    let log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
    assert_eq!((log.damage(), log.names()), (&[][..], vec![]));
    assert_eq!(log.append("b", &[&batch(9, 2)], true).unwrap(), [7]);
}

#[test]
fn the_note_of_a_closed_log_that_is_damaged_is_told() {
    const NOTE: &str = "/log/.holdfast.wal.closed";
    let fs = SimFs::new();
    let log = open(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict)).unwrap();
    log.append("a", &[&batch(1, 2)], true).unwrap();
    log.close().unwrap();
    drop(log);
    let whole = fs.read_file(NOTE).unwrap().to_vec();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 4;
        fs.put_file(NOTE, &bytes).unwrap();
        let open = |recovery| open(&fs, &options(SyncMode::PerBatch, recovery));
        assert_eq!(
            open(RecoveryMode::TolerateTail).err().unwrap().code(),
            "EWALDAMAGED",
            "{index}"
        );
        let log = open(RecoveryMode::SkipCorrupt).unwrap();
        assert_eq!(log.damage()[0].kind, DamageKind::Checkpoint);
        assert_eq!(entries(&log, "a").unwrap().len(), 2);
    }
}
