//! Logs of many collections: each costs little while nothing is appended to it, and a segment whose
//! files were closed meanwhile is found again, or missed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use holdfast::wal::{LogOptions, RecoveryMode, SyncMode};
use holdfast_sim::SimFs;

use wal_common::{batch, entries, open, options};

fn few() -> LogOptions {
    LogOptions { most_open: 3, ..options(SyncMode::PerBatch, RecoveryMode::Strict) }
}

#[test]
fn a_collection_with_one_entry_has_one_page() {
    let fs = SimFs::new();
    let log = open(&fs, &LogOptions { memtable: true, ..LogOptions::default() }).unwrap();
    log.append("a", &[&batch(1, 1)], true).unwrap();
    let length = |fs: &SimFs| fs.read_file("/log/a/wal_current.avro").unwrap().len();
    assert_eq!(length(&fs), 4096);
    // It grows with what is appended.
    for number in 2..200 {
        log.append("a", &[&batch(number, 2)], true).unwrap();
        let used = log.stats().bytes as usize;
        assert!(length(&fs) <= 4096 + 6 * used, "{used} of {}", length(&fs));
    }
    assert!(length(&fs) >= 64 << 10);
}

#[test]
fn any_number_of_collections_has_few_files_open() {
    for sync in [SyncMode::PerBatch, SyncMode::Never] {
        let options = LogOptions { sync, ..few() };
        let fs = SimFs::new();
        let log = open(&fs, &options).unwrap();
        let before = fs.open_handles();
        let most = |fs: &SimFs| fs.open_handles().0 + fs.open_handles().1;
        for round in 0..3 {
            for number in 0..40_u64 {
                let name = format!("c{number}");
                log.append(&name, &[&batch(40 * round + number, 2)], false).unwrap();
                assert!(most(&fs) <= before.0 + before.1 + 2 * 4, "{:?}", fs.open_handles());
            }
        }
        let first = log.stats().collections[0].last;
        log.checkpoint("c0", first).unwrap();
        log.rotate("c1").unwrap();
        log.sync(None).unwrap();
        let closes = sync == SyncMode::PerBatch;
        if closes {
            log.close().unwrap();
        }
        drop(log);
        assert_eq!(fs.open_handles(), (0, 0));
        let log = open(&fs.after_kill(), &options).unwrap();
        assert_eq!(log.damage(), []);
        for number in 1..40_u64 {
            let name = format!("c{number}");
            assert_eq!(entries(&log, &name).unwrap().len(), 6, "{name}");
            log.append(&name, &[&batch(1000 + number, 1)], true).unwrap();
            assert_eq!(entries(&log, &name).unwrap().len(), 7, "{name}");
        }
        assert_eq!(entries(&log, "c0").unwrap().len(), 0);
    }
}

/// What another program does.
type Deed = fn(&SimFs);

/// A segment whose files are closed.
#[test]
fn a_segment_that_was_changed_while_its_files_were_closed_is_missed() {
    const SEGMENT: &str = "/log/c0/wal_current.avro";
    let deeds: [(&str, Deed); 5] = [
        ("removed", |fs| fs.take_away(SEGMENT).unwrap()),
        ("replaced by a copy", |fs| {
            let content = fs.read_file(SEGMENT).unwrap();
            fs.take_away(SEGMENT).unwrap();
            fs.put_file(SEGMENT, &content).unwrap();
        }),
        ("cut", |fs| {
            let content = fs.read_file(SEGMENT).unwrap();
            fs.put_file(SEGMENT, &content[..content.len() - 1]).unwrap();
        }),
        ("overwritten by another segment", |fs| {
            let mut content = fs.read_file("/log/c1/wal_current.avro").unwrap().to_vec();
            content.resize(fs.read_file(SEGMENT).unwrap().len(), 0);
            fs.put_file(SEGMENT, &content).unwrap();
        }),
        ("removed with its directory", |fs| {
            fs.take_away(SEGMENT).unwrap();
            fs.take_away("/log/c0").unwrap();
        }),
    ];
    for (what, deed) in deeds {
        let fs = SimFs::new();
        let log = open(&fs, &few()).unwrap();
        for number in 0..12 {
            log.append(&format!("c{number}"), &[&batch(number, 2)], true).unwrap();
        }
        deed(&fs);
        let before = fs.paths();
        let refused = log.append("c0", &[&batch(50, 2)], true).unwrap_err();
        assert_eq!(refused.code(), "EWALMOVED", "{what}: {refused}");
        assert_eq!(log.append("c5", &[&batch(51, 2)], true).unwrap_err().code(), "EWALMOVED");
        assert_eq!(fs.paths(), before, "{what}");
    }
}
