//! What a log does when nothing goes wrong, and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use holdfast::error::ErrorKind;
use holdfast::fs::sim::SimFs;
use holdfast::wal::{Recovery, SyncMode, WalError};

use wal_common::{batch, entries, open, options, seen_from_outside};

const PLAIN: (SyncMode, Recovery) = (SyncMode::PerBatch, Recovery::Strict);

#[test]
fn what_was_appended_is_there_at_once_and_after_a_restart() {
    let fs = SimFs::new();
    let options = options(PLAIN.0, PLAIN.1);
    let mut total = 0;
    for round in 0..4 {
        let log = open(&fs, &options).unwrap();
        assert_eq!(log.damage(), []);
        assert_eq!(entries(&log, "a").unwrap().len(), total, "round {round}");
        for number in 0..20 {
            let batch = batch(round * 100 + number, 3);
            let firsts = log.append("a", &[&batch], false).unwrap();
            assert_eq!(firsts, [total as u64 + 1]);
            total += 3;
            let entry = log.get("a", &format!("{}/1", round * 100 + number)).unwrap().unwrap();
            assert_eq!(entry.sequence, total as u64 - 1);
            assert!(entry.is_text);
        }
        let all = entries(&log, "a").unwrap();
        let sequences: Vec<u64> = all.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, (1..=total as u64).collect::<Vec<_>>());
        assert_eq!(seen_from_outside(&fs, "a", Recovery::Strict).unwrap(), all);
        assert!(log.stats().collections[0].segments > 1);
        if round % 2 == 0 {
            log.close().unwrap();
        }
        assert_eq!(seen_from_outside(&fs, "a", Recovery::Strict).unwrap(), all);
    }
}

#[test]
fn a_checkpoint_releases_entries_and_segments_and_their_space_serves_again() {
    let fs = SimFs::new();
    let options = options(PLAIN.0, PLAIN.1);
    let log = open(&fs, &options).unwrap();
    let mut last = 0;
    for number in 0..60 {
        last = log.append("a", &[&batch(number, 3)], false).unwrap()[0] + 2;
        if number % 10 == 9 {
            log.checkpoint("a", last - 5).unwrap();
            let left = entries(&log, "a").unwrap();
            assert_eq!(
                left.iter().map(|entry| entry.sequence).collect::<Vec<_>>(),
                [last - 4, last - 3, last - 2, last - 1, last]
            );
            assert!(log.stats().collections[0].segments <= 2);
        }
    }
    assert!(fs.read_file("/log/a/wal_spare.avro").is_ok());
    let before = entries(&log, "a").unwrap();
    drop(log);
    let log = open(&fs, &options).unwrap();
    assert_eq!(entries(&log, "a").unwrap(), before);
    assert_eq!(log.append("a", &[&batch(1000, 1)], false).unwrap(), [last + 1]);
    let refused = log.checkpoint("a", last + 2);
    assert!(matches!(refused, Err(ErrorKind::Wal(WalError::Ahead { .. }))), "{refused:?}");
}

#[test]
fn numbers_grow_over_all_collections_and_groups_are_told_apart() {
    let fs = SimFs::new();
    let options = options(PLAIN.0, PLAIN.1);
    let log = open(&fs, &options).unwrap();
    assert_eq!(log.append("a", &[&batch(1, 2), &batch(2, 3)], false).unwrap(), [1, 3]);
    assert_eq!(log.append("b", &[&batch(3, 1)], false).unwrap(), [6]);
    assert_eq!(log.append("a", &[&batch(4, 1)], false).unwrap(), [7]);
    drop(log);
    let log = open(&fs, &options).unwrap();
    assert_eq!(log.names(), ["a", "b"]);
    assert_eq!(log.append("c", &[&batch(5, 1)], false).unwrap(), [8]);
    assert_eq!(entries(&log, "a").unwrap().len(), 6);
    assert_eq!(entries(&log, "b").unwrap().len(), 1);
}

#[test]
fn names_that_could_lead_elsewhere_are_refused() {
    let fs = SimFs::new();
    let log = open(&fs, &options(PLAIN.0, PLAIN.1)).unwrap();
    let long = "x".repeat(101);
    for name in [
        "", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a\0b", "nul", "COM1.x", "a:b", "a ",
        "a.", &long,
    ] {
        let refused = log.append(name, &[&batch(1, 1)], false);
        assert!(matches!(refused, Err(ErrorKind::Wal(WalError::Name(_)))), "{name:?}: {refused:?}");
    }
    for name in ["a", "ü", "0755d429-c53f-47c3-b3b0-76adcd0f386a", "comma", "nullable", &long[1..]]
    {
        log.append(name, &[&batch(1, 1)], false).unwrap();
    }
}
