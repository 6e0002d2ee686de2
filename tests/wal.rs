//! What a log does when nothing goes wrong, and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::path::Path;

use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::wal::{Batch, EntryRef, LogOptions, Op, RecoveryMode, SyncMode, WalEntry, WalError};
use holdfast_sim::{Fault, OperationKind, SimFs};

use wal_common::{LOG, batch, entries, open, options, seen_from_outside, unpack};

const PLAIN: (SyncMode, RecoveryMode) = (SyncMode::PerBatch, RecoveryMode::Strict);

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
        assert_eq!(seen_from_outside(&fs, "a", RecoveryMode::Strict).unwrap(), all);
        assert!(log.stats().collections[0].segments > 1);
        if round % 2 == 0 {
            log.close().unwrap();
        }
        assert_eq!(seen_from_outside(&fs, "a", RecoveryMode::Strict).unwrap(), all);
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

#[test]
fn a_collection_may_be_a_link_to_a_dir() {
    let fs = SimFs::new();
    let options = options(PLAIN.0, PLAIN.1);
    let log = open(&fs, &options).unwrap();
    log.append("a", &[&batch(1, 3)], false).unwrap();
    log.close().unwrap();
    // As a user does who needs the room.
    fs.put_dir("/large").unwrap();
    fs.put_file("/large/wal_current.avro", &fs.read_file("/log/a/wal_current.avro").unwrap())
        .unwrap();
    fs.take_away("/log/a/wal_current.avro").unwrap();
    fs.take_away("/log/a").unwrap();
    fs.put_link("/log/a", "/large").unwrap();
    fs.put_link("/log/nowhere", "/gone").unwrap();
    assert_eq!(holdfast::wal::collections(&fs, Path::new(LOG)).unwrap(), ["a"]);
    let log = open(&fs, &options).unwrap();
    assert_eq!(entries(&log, "a").unwrap().len(), 3);
    assert_eq!(log.append("a", &[&batch(2, 1)], false).unwrap(), [4]);
    assert_eq!(log.append("nowhere", &[&batch(2, 1)], false).unwrap_err().code(), "ENOENT");
    assert_eq!(entries(&log, "a").unwrap().len(), 4);
}

#[test]
fn segments_that_have_come_since_the_log_was_opened_are_not_overwritten() {
    let fs = SimFs::new();
    let options = options(PLAIN.0, PLAIN.1);
    let log = open(&fs, &options).unwrap();
    fs.put_dir("/log/a").unwrap();
    fs.put_file("/log/a/wal_current.avro", b"from a backup").unwrap();
    assert_eq!(log.append("a", &[&batch(1, 1)], false).unwrap_err().code(), "EEXIST");
    assert_eq!(*fs.read_file("/log/a/wal_current.avro").unwrap(), b"from a backup");
    log.append("b", &[&batch(1, 1)], false).unwrap();
    fs.take_away("/log/a/wal_current.avro").unwrap();
    log.append("a", &[&batch(1, 1)], false).unwrap();
}

#[test]
fn numbers_end_before_they_overflow() {
    let note = |up_to: u64| {
        let checksum = crc32c::crc32c(format!("{up_to} 1").as_bytes());
        format!(
            "{{\"version\":1,\"upTo\":\"{up_to}\",\"firstSegment\":\"1\",\"checksum\":\"{checksum:08x}\"}}\n"
        )
    };
    for (up_to, opens) in [(u64::MAX, false), (i64::MAX as u64, true), (1 << 62, true)] {
        let fs = SimFs::new();
        let options = options(PLAIN.0, PLAIN.1);
        let log = open(&fs, &options).unwrap();
        log.append("a", &[&batch(1, 1)], false).unwrap();
        log.close().unwrap();
        fs.put_file("/log/a/wal_checkpoint.json", note(up_to).as_bytes()).unwrap();
        let log = match open(&fs, &options) {
            Ok(log) => log,
            Err(ErrorKind::Wal(WalError::Damaged(_))) if !opens => continue,
            Err(other) => panic!("{up_to}: {other}"),
        };
        assert!(opens);
        if up_to < i64::MAX as u64 {
            assert_eq!(log.append("a", &[&batch(1, 1)], false).unwrap(), [up_to + 1]);
            assert_eq!(entries(&log, "a").unwrap().len(), 1);
        } else {
            assert_eq!(log.append("a", &[&batch(1, 1)], false).unwrap_err().code(), "EOVERFLOW");
        }
    }
}

#[test]
fn the_newest_entry_of_an_id_counts_and_deleted_ones_are_told_only_to_a_flush() {
    let fs = SimFs::new();
    let plain = options(PLAIN.0, PLAIN.1);
    let log = open(&fs, &plain).unwrap();
    let mut expected = std::collections::BTreeMap::new();
    // More than the memtable keeps of replaced entries without another thought.
    for number in 0..1500_u64 {
        let id = format!("{}", number * 7 % 50);
        let op = [Op::Insert, Op::Update, Op::Delete][number as usize % 3];
        let payload = format!("{number}");
        let mut batch = Batch::default();
        let payload = payload.as_bytes();
        batch.push(EntryRef { id: &id, op, timestamp: 1, is_text: true, payload });
        let sequence = log.append("a", &[&batch], false).unwrap()[0];
        expected.insert(id, (sequence, op));
    }
    let check = |log: &holdfast::wal::Log<SimFs>| {
        for (id, (sequence, op)) in &expected {
            let found = log.get("a", id).unwrap().map(|entry| entry.sequence);
            assert_eq!(found, (*op != Op::Delete).then_some(*sequence), "{id}");
        }
        for with_deletions in [true, false] {
            let mut wanted: Vec<u64> = expected
                .values()
                .filter(|(_, op)| with_deletions || *op != Op::Delete)
                .map(|(sequence, _)| *sequence)
                .collect();
            wanted.sort_unstable();
            let (mut found, mut after) = (Vec::new(), 0);
            loop {
                let mut packed = Vec::new();
                let range = (after, u64::MAX - 1);
                let next = log.entries("a", range, 200, with_deletions, &mut packed).unwrap();
                found.extend(unpack(&packed).into_iter().map(|entry| entry.sequence));
                match next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!(found, wanted);
        }
    };
    check(&log);
    drop(log);
    let log = open(&fs, &plain).unwrap();
    check(&log);
    let bytes = log.stats().collections[0].memtable_bytes;
    log.checkpoint("a", 1490).unwrap();
    let left = expected.values().filter(|(sequence, _)| *sequence > 1490).count() as u64;
    let stats = log.stats().collections[0].clone();
    assert_eq!((stats.memtable_entries, stats.released), (left, 1490));
    assert!(stats.memtable_bytes < bytes / 3 && stats.memtable_bytes > 0);
    log.checkpoint("a", 1500).unwrap();
    assert_eq!(log.stats().collections[0].memtable_bytes, 0);
}

/// The entries of all segments, read by `apache-avro`.
fn read_by_apache_avro(fs: &SimFs) -> Vec<WalEntry> {
    use apache_avro::types::Value;
    let mut read = Vec::new();
    let mut names: Vec<_> = fs.paths();
    names.retain(|path| path.extension().is_some_and(|end| end == "avro"));
    // 'wal_0…' comes before 'wal_current'.
    names.sort();
    assert!(names.len() > 1);
    for path in names {
        let bytes = fs.read_file(&path).unwrap();
        for value in apache_avro::Reader::new(bytes.as_slice()).unwrap() {
            let Value::Record(fields) = value.unwrap() else { panic!("no record") };
            let field = |name: &str| {
                fields.iter().find(|(key, _)| key == name).map(|(_, value)| value).unwrap()
            };
            let Value::Long(sequence) = field("sequence") else { panic!("sequence") };
            let Value::String(id) = field("id") else { panic!("id") };
            let Value::Enum(0, op) = field("op") else { panic!("op") };
            assert_eq!(op, "insert");
            let Value::Long(timestamp) = field("timestamp") else { panic!("timestamp") };
            let Value::Union(kind, payload) = field("payload") else { panic!("payload") };
            let payload = match &**payload {
                Value::Bytes(bytes) => bytes.clone(),
                Value::String(text) => text.clone().into_bytes(),
                other => panic!("{other:?}"),
            };
            read.push(WalEntry {
                sequence: *sequence as u64,
                id: id.clone(),
                op: Op::Insert,
                timestamp: *timestamp,
                is_text: *kind == 1,
                payload,
            });
        }
    }
    read
}

#[test]
fn apache_avro_reads_what_was_written_entry_for_entry() {
    let fs = SimFs::new();
    let log = open(&fs, &options(PLAIN.0, PLAIN.1)).unwrap();
    for number in 0..12 {
        log.append("a", &[&batch(number, 3)], false).unwrap();
    }
    let all = entries(&log, "a").unwrap();
    // As it is while the log is open, and as it is afterwards.
    for is_closed in [false, true] {
        if is_closed {
            log.close().unwrap();
        }
        assert_eq!(read_by_apache_avro(&fs), all, "closed: {is_closed}");
    }
}

#[test]
fn a_segment_that_was_made_piece_by_piece_is_a_container_like_any_other() {
    // Its last marker ends with a piece, lies across a border, begins with a piece, is behind.
    // Where the system can write back without a sync, and where it cannot.
    for (more, can) in [(0, true), (7, true), (16, true), (300, true), (300, false)] {
        let fs = SimFs::new();
        if !can {
            let kind = OperationKind::AwaitWriteBack;
            fs.inject(Fault::fail(Code::ENOSYS).of(kind).for_ever());
        }
        let segment_size = (1 << 19) + more;
        let options = LogOptions { segment_size, ..options(PLAIN.0, PLAIN.1) };
        let log = open(&fs, &options).unwrap();
        let mut number = 0;
        let mut append = || {
            number += 1;
            log.append("a", &[&batch(number, 50)], false).unwrap();
        };
        let next = loop {
            append();
            if let Some(next) = log.next_segment("a") {
                break next;
            }
        };
        let before = fs.count();
        next.run();
        let made = fs.log().into_iter().filter(|it| it.number > before && it.error.is_none());
        let of = |kind| made.clone().filter(|it| it.kind == kind).count();
        let pieces = [of(OperationKind::AwaitWriteBack), of(OperationKind::SyncData)];
        assert_eq!(pieces, if can { [2, 0] } else { [0, 2] });
        while log.stats().collections[0].segments == 1 {
            append();
        }
        append();
        let all = entries(&log, "a").unwrap();
        assert_eq!(read_by_apache_avro(&fs), all);
        drop(log);
        let log = open(&fs, &options).unwrap();
        assert_eq!((log.damage(), entries(&log, "a").unwrap()), (&[][..], all));
    }
}

#[test]
fn a_checkpoint_drops_more_entries_than_it_does_in_one_go() {
    let fs = SimFs::new();
    let log =
        open(&fs, &LogOptions { segment_size: 1 << 20, ..options(PLAIN.0, PLAIN.1) }).unwrap();
    for number in 0..3 {
        log.append("a", &[&batch(number, 5000)], false).unwrap();
    }
    log.checkpoint("a", 12_000).unwrap();
    assert_eq!(log.stats().collections[0].memtable_entries, 3000);
    let left: Vec<u64> = entries(&log, "a").unwrap().iter().map(|entry| entry.sequence).collect();
    assert_eq!(left, (12_001..=15_000).collect::<Vec<u64>>());
    assert!(log.get("a", "2/1999").unwrap().is_none());
    assert_eq!(log.get("a", "2/2000").unwrap().unwrap().sequence, 12_001);
}
