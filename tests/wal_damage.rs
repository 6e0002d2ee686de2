//! Logs that are damaged by whatever cause: they are opened without a crash, nothing is
//! lost silently, nothing shows twice or by halves, and the mode decides what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/random.rs"]
mod random;
mod wal_common;

use holdfast::error::ErrorKind;
use holdfast::wal::format::{self, Head, Header};
use holdfast::wal::{Damage, DamageKind, LogOptions, RecoveryMode, SyncMode, WalEntry, WalError};
use holdfast_sim::{Fault, Model, SimFs};

use random::Random;
use wal_common::{batch, entries, open, options, seen_from_outside};

const RECOVERIES: [RecoveryMode; 3] =
    [RecoveryMode::Strict, RecoveryMode::TolerateTail, RecoveryMode::SkipCorrupt];

const CURRENT: &str = "/log/a/wal_current.avro";
const FIRST: &str = "/log/a/wal_000000000001.avro";
/// How many bytes an end mark has.
const END_MARK: usize = 18;
const SECOND: &str = "/log/a/wal_000000000002.avro";

fn with(recovery: RecoveryMode) -> LogOptions {
    options(SyncMode::PerBatch, recovery)
}

/// A log with two sealed segments and a current one, of two small batches each, closed or as
/// a kill leaves it; and what is in it.
fn log(is_closed: bool) -> (SimFs, Vec<WalEntry>) {
    let fs = SimFs::new();
    let log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
    for number in 1..=6 {
        log.append("a", &[&batch(number, 2)], false).unwrap();
        if number == 2 || number == 4 {
            log.rotate("a").unwrap();
        }
    }
    let all = entries(&log, "a").unwrap();
    if is_closed {
        log.close().unwrap();
    }
    drop(log);
    (fs.after_kill(), all)
}

/// What a log shows when it is opened, and what was reported; or the damage that was refused.
fn opened(fs: &SimFs, recovery: RecoveryMode) -> Result<(Vec<WalEntry>, Vec<Damage>), Box<Damage>> {
    let log = match open(fs, &with(recovery)) {
        Ok(log) => log,
        Err(ErrorKind::Wal(WalError::Damaged(damage))) => return Err(damage),
        Err(other) => panic!("{other}\n{}", fs.log_text()),
    };
    let damage = log.damage().to_vec();
    let all = match entries(&log, "a") {
        Ok(all) => all,
        Err(error) => panic!("opened, but not read: {error}, after {damage:?}\n{}", fs.log_text()),
    };
    Ok((all, damage))
}

/// Opens a damaged log in every mode. What it shows must be whole batches of what was in it,
/// in order, each once; if any are missing, that is reported; and what each mode refuses is what
/// it must refuse. The answer is the kinds of damage that skipping reports.
fn judge(fs: &SimFs, all: &[WalEntry], what: &str) -> (Vec<DamageKind>, usize) {
    let mut kinds = Vec::new();
    let mut shown_when_skipping = 0;
    for recovery in RECOVERIES {
        let fs = fs.after_kill();
        let before: Vec<_> =
            fs.paths().into_iter().map(|path| (fs.read_file(&path).ok(), path)).collect();
        match opened(&fs, recovery) {
            Err(damage) => {
                assert_ne!(recovery, RecoveryMode::SkipCorrupt, "{what}: {damage}");
                if recovery == RecoveryMode::TolerateTail {
                    assert_ne!(damage.kind, DamageKind::TornTail, "{what}: {damage}");
                }
                let after: Vec<_> =
                    fs.paths().into_iter().map(|path| (fs.read_file(&path).ok(), path)).collect();
                assert_eq!(before, after, "{what}: refused, and changed");
            }
            Ok((shown, damage)) => {
                assert!(shown.len() % 2 == 0, "{what}: a part of a batch: {shown:?}");
                assert!(
                    shown.windows(2).all(|pair| pair[0].sequence < pair[1].sequence),
                    "{what}: {shown:?}"
                );
                assert!(shown.iter().all(|entry| all.contains(entry)), "{what}: {shown:?}");
                if shown.len() < all.len() {
                    assert!(!damage.is_empty(), "{what}, {recovery:?}: a silent loss: {shown:?}");
                }
                match recovery {
                    RecoveryMode::Strict => assert_eq!(damage, [], "{what}"),
                    RecoveryMode::TolerateTail => {
                        let is_tail = |it: &Damage| it.kind == DamageKind::TornTail;
                        assert!(damage.iter().all(is_tail), "{what}: {damage:?}");
                        assert!(all.starts_with(&shown), "{what}: no prefix: {shown:?}");
                    }
                    RecoveryMode::SkipCorrupt => {
                        kinds = damage.iter().map(|damage| damage.kind).collect();
                        shown_when_skipping = shown.len();
                    }
                }
                if recovery == RecoveryMode::TolerateTail {
                    // It is mended for good.
                    let again = opened(&fs, RecoveryMode::Strict).unwrap_or_else(|damage| {
                        panic!("{what}: after a repair: {damage}\n{}", fs.log_text())
                    });
                    assert_eq!(again, (shown, Vec::new()), "{what}");
                }
            }
        }
        // A reader beside a writer must not fail because of it, either.
        let _ = seen_from_outside(&fs, "a", recovery);
    }
    (kinds, shown_when_skipping)
}

#[test]
fn a_segment_of_any_length() {
    for is_closed in [true, false] {
        let (fs, all) = log(is_closed);
        for path in [FIRST, SECOND, CURRENT] {
            let content = fs.read_file(path).unwrap();
            for length in 0..content.len() {
                let fs = fs.after_kill();
                fs.put_file(path, &content[..length]).unwrap();
                let what = format!("{path} cut to {length} of {} bytes", content.len());
                let (kinds, shown) = judge(&fs, &all, &what);
                assert_eq!(kinds.len(), 1, "{what}: {kinds:?}");
                // Nothing of the other segments is lost.
                assert!(shown >= 8, "{what}: {shown}");
            }
        }
    }
}

#[test]
fn a_segment_with_any_byte_flipped() {
    for is_closed in [true, false] {
        let (fs, all) = log(is_closed);
        for path in [FIRST, CURRENT] {
            let content = fs.read_file(path).unwrap();
            for place in 0..content.len() {
                // The header has one checksum over all of it.
                let masks: &[u8] = if place < 550 { &[0xFF] } else { &[0x01, 0x80, 0xFF] };
                for mask in masks {
                    let fs = fs.after_kill();
                    let mut bytes = content.to_vec();
                    bytes[place] ^= mask;
                    fs.put_file(path, &bytes).unwrap();
                    let what = format!("{path} with byte {place} changed by {mask:x}");
                    let (kinds, shown) = judge(&fs, &all, &what);
                    assert!(shown >= 8, "{what}: {shown}, {kinds:?}");
                    assert!(kinds.len() <= 1, "{what}: {kinds:?}");
                    // What is before an end mark had been on the disk.
                    if path == CURRENT && is_closed && place < content.len() - END_MARK {
                        assert_eq!(kinds, [DamageKind::Unreadable], "{what}");
                        assert_eq!(
                            opened(&fs, RecoveryMode::TolerateTail).unwrap_err().kind,
                            kinds[0]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn garbage_behind_a_segment() {
    let mut random = Random(1);
    for is_closed in [true, false] {
        let (fs, all) = log(is_closed);
        for path in [FIRST, CURRENT] {
            let content = fs.read_file(path).unwrap();
            for length in [1, 2, 17, 18, 22, 100, 5000] {
                let mut bytes = content.to_vec();
                bytes.extend(std::iter::repeat_with(|| random.roll() as u8).take(length));
                let fs = fs.after_kill();
                fs.put_file(path, &bytes).unwrap();
                let what = format!("{length} bytes behind {path}");
                let (kinds, shown) = judge(&fs, &all, &what);
                assert_eq!(shown, all.len(), "{what}");
                assert_eq!(kinds, [DamageKind::TornTail], "{what}");
                let (_, damage) = opened(&fs, RecoveryMode::TolerateTail).unwrap();
                let copy = fs.read_file(format!("/log/a/{}", damage[0].copy.as_ref().unwrap()));
                assert!(bytes.ends_with(&copy.unwrap()), "{what}");
            }
        }
    }
}

#[test]
fn a_segment_that_is_missing() {
    for is_closed in [true, false] {
        for (path, left) in [(FIRST, 8), (SECOND, 8), (CURRENT, 8)] {
            let (fs, all) = log(is_closed);
            fs.take_away(path).unwrap();
            let (kinds, shown) = judge(&fs, &all, path);
            assert_eq!((kinds, shown), (vec![DamageKind::Missing], left), "{path}");
            let refused = opened(&fs, RecoveryMode::TolerateTail).unwrap_err();
            assert_eq!(refused.kind, DamageKind::Missing);
        }
    }
}

/// A segment that was made beforehand is there long before the one before it is sealed, and must
/// not be taken for the sign of a rotation.
#[test]
fn a_current_segment_that_is_missing_though_the_next_one_has_been_made() {
    for sealed in [0, 1] {
        let fs = SimFs::new();
        let log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
        let mut all = 0;
        if sealed == 1 {
            log.append("a", &[&batch(1, 2)], false).unwrap();
            log.rotate("a").unwrap();
            all = 2;
        }
        let next = (10..).find_map(|number| {
            log.append("a", &[&batch(number, 2)], false).unwrap();
            log.next_segment("a")
        });
        next.unwrap().run();
        assert!(fs.read_file("/log/a/wal_next.avro").is_ok());
        drop(log);
        let fs = fs.after_kill();
        opened(&fs.after_kill(), RecoveryMode::Strict).unwrap();
        fs.take_away(CURRENT).unwrap();
        assert_eq!(opened(&fs, RecoveryMode::TolerateTail).unwrap_err().kind, DamageKind::Missing);
        let (shown, damage) = opened(&fs, RecoveryMode::SkipCorrupt).unwrap();
        assert_eq!((shown.len(), damage[0].kind), (all, DamageKind::Missing), "{damage:?}");
        opened(&fs, RecoveryMode::Strict).unwrap();
    }
}

#[test]
fn segments_that_are_swapped_or_come_twice() {
    for (one, other) in [(FIRST, SECOND), (FIRST, CURRENT), (SECOND, CURRENT)] {
        let (fs, all) = log(true);
        let (first, second) = (fs.read_file(one).unwrap(), fs.read_file(other).unwrap());
        fs.put_file(one, &second).unwrap();
        fs.put_file(other, &first).unwrap();
        let (kinds, _) = judge(&fs, &all, &format!("{one} and {other} swapped"));
        assert!(kinds.contains(&DamageKind::Misplaced), "{kinds:?}");
        opened(&fs, RecoveryMode::TolerateTail).unwrap_err();

        let (fs, all) = log(true);
        fs.put_file(other, &first).unwrap();
        let (kinds, shown) = judge(&fs, &all, &format!("{one} in the place of {other}"));
        assert_eq!((kinds, shown), (vec![DamageKind::Misplaced], 8));
    }
    // The current one under its number, too: neither is looked for in the other for ever.
    for (is_closed, behind) in [(true, 0), (true, 50), (false, 0)] {
        let (fs, all) = log(is_closed);
        let content = [fs.read_file(CURRENT).unwrap().to_vec(), vec![7; behind]].concat();
        fs.put_file(CURRENT, &content).unwrap();
        fs.put_file("/log/a/wal_000000000003.avro", &content).unwrap();
        let (kinds, shown) = judge(&fs, &all, "a segment under two names");
        assert!(kinds.contains(&DamageKind::Misplaced), "{kinds:?}");
        assert_eq!(shown, all.len());
    }
    // A segment of another collection.
    let (fs, all) = log(true);
    let log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
    log.append("b", &[&batch(9, 2)], false).unwrap();
    log.close().unwrap();
    let foreign = fs.read_file("/log/b/wal_current.avro").unwrap();
    fs.put_file("/log/a/wal_000000000003.avro", &foreign).unwrap();
    fs.take_away(CURRENT).unwrap();
    let (kinds, shown) = judge(&fs, &all, "a segment of another collection");
    assert_eq!((kinds, shown), (vec![DamageKind::Misplaced, DamageKind::Missing], 8));
}

/// The checksum is bound to the segment: blocks of another one, given its marker, do not pass.
#[test]
fn blocks_of_another_segment_with_the_right_marker() {
    let (fs, all) = log(true);
    let (first, second) = (fs.read_file(FIRST).unwrap(), fs.read_file(SECOND).unwrap());
    let marker = |bytes: &[u8]| bytes[bytes.len() - 16..].to_vec();
    let (from, to) = (marker(&first), marker(&second));
    let places: Vec<usize> =
        (0..first.len() - 15).filter(|place| first[*place..place + 16] == from).collect();
    // The header and two blocks, and the end mark.
    assert_eq!(places.len(), 4);
    let mut blocks = first[places[0] + 16..places[2] + 16].to_vec();
    for place in &places[1..3] {
        let place = place - places[0] - 16;
        blocks[place..place + 16].copy_from_slice(&to);
    }
    let mut forged = second[..second.len() - 18].to_vec();
    forged.extend_from_slice(&blocks);
    forged.extend_from_slice(&second[second.len() - 18..]);
    fs.put_file(SECOND, &forged).unwrap();
    let (kinds, shown) = judge(&fs, &all, "old blocks in a segment");
    assert_eq!((kinds, shown), (vec![DamageKind::Unreadable], all.len()));

    // The same block twice, with everything right but its place.
    let (fs, all) = log(true);
    let content = fs.read_file(FIRST).unwrap();
    let last = &content[places[1] + 16..places[2] + 16];
    let mut doubled = content[..content.len() - 18].to_vec();
    doubled.extend_from_slice(last);
    doubled.extend_from_slice(&content[content.len() - 18..]);
    fs.put_file(FIRST, &doubled).unwrap();
    let (kinds, shown) = judge(&fs, &all, "a block that comes twice");
    assert_eq!((kinds, shown), (vec![DamageKind::Misplaced], all.len()));
}

/// The places in a segment where its blocks start, and where the last one ends.
fn blocks(content: &[u8]) -> Vec<usize> {
    let (header, mut at) = Header::decode(content).unwrap();
    let mut places = vec![at];
    while let Head::Data { head, size, .. } = format::head(&content[at..]) {
        at += head + size + header.marker.len();
        places.push(at);
    }
    places
}

/// A write that the disk has lost: what was there before it looks like a regular end.
#[test]
fn a_block_that_has_become_the_end_of_the_segment() {
    for is_closed in [true, false] {
        let (fs, all) = log(is_closed);
        for (path, number) in [(FIRST, 0), (FIRST, 1), (SECOND, 1), (CURRENT, 0), (CURRENT, 1)] {
            if path == CURRENT && number == 1 && !is_closed {
                // Nothing comes behind it.
                continue;
            }
            let content = fs.read_file(path).unwrap();
            let marker = Header::decode(&content).unwrap().0.marker;
            let place = blocks(&content)[number];
            let space = format::filler_head((content.len() - place) as u64);
            for end in [&format::end_mark(&marker)[..], &space] {
                let fs = fs.after_kill();
                let mut bytes = content.to_vec();
                bytes[place..place + end.len()].copy_from_slice(end);
                fs.put_file(path, &bytes).unwrap();
                let what = format!("{path}, block {number} an end of {} bytes", end.len());
                let beside = |recovery| seen_from_outside(&fs, "a", recovery);
                for recovery in [RecoveryMode::Strict, RecoveryMode::TolerateTail] {
                    let refused = opened(&fs.after_kill(), recovery).unwrap_err();
                    assert_eq!(refused.kind, DamageKind::Unreadable, "{what}");
                    // To look for more behind the end each time would cost a reader that polls too much.
                    match recovery == RecoveryMode::TolerateTail && path == CURRENT {
                        true => assert!(all.starts_with(&beside(recovery).unwrap()), "{what}"),
                        false => assert!(beside(recovery).is_err(), "{what}"),
                    }
                }
                let beside = beside(RecoveryMode::SkipCorrupt).unwrap();
                assert_eq!(judge(&fs, &all, &what), (vec![DamageKind::Unreadable], 10), "{what}");
                let log = open(&fs, &with(RecoveryMode::SkipCorrupt)).unwrap();
                assert_eq!(entries(&log, "a").unwrap(), beside, "{what}");
                let firsts = log.append("a", &[&batch(7, 2)], false).unwrap();
                assert!(firsts[0] > 12, "{what}: {firsts:?} again");
            }
        }
    }
}

/// If the log was not closed, nothing tells whether the last group was acknowledged. What there is
/// of it is kept aside all the same.
#[test]
fn the_first_block_of_the_last_group_that_has_become_the_end() {
    for is_reopened in [false, true] {
        let fs = SimFs::new();
        let mut log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
        log.append("a", &[&batch(1, 2)], false).unwrap();
        if is_reopened {
            log.close().unwrap();
            log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
        }
        let before = fs.read_file(CURRENT).unwrap();
        // As short as they have to be to fit without more space.
        let group = match is_reopened {
            true => [batch(1, 1), batch(1, 1), batch(1, 1)],
            false => [batch(2, 1), batch(3, 1), batch(4, 1)],
        };
        log.append("a", &group.each_ref(), false).unwrap();
        drop(log);
        let fs = fs.after_kill();
        let content = fs.read_file(CURRENT).unwrap();
        let place = blocks(&content)[1];
        let mut bytes = content.to_vec();
        let end = (place + 22).min(before.len());
        bytes[place..end].copy_from_slice(&before[place..end]);
        fs.put_file(CURRENT, &bytes).unwrap();
        let refused = opened(&fs.after_kill(), RecoveryMode::Strict).unwrap_err();
        assert_eq!(refused.kind, DamageKind::TornTail);
        let (shown, damage) = opened(&fs, RecoveryMode::TolerateTail).unwrap();
        assert_eq!((shown.len(), damage[0].kind), (2, DamageKind::TornTail));
        let copy = fs.read_file(format!("/log/a/{}", damage[0].copy.as_ref().unwrap())).unwrap();
        let last = &content[blocks(&content)[2]..blocks(&content)[3]];
        assert!(
            copy.windows(last.len()).any(|bytes| bytes == last),
            "the last block is in the copy"
        );
        assert_eq!(opened(&fs, RecoveryMode::Strict).unwrap(), (shown, Vec::new()));
    }
}

#[test]
fn the_numbers_of_a_segment_that_cannot_be_used_are_not_given_again() {
    let (fs, _) = log(true);
    for harm in [20, 0] {
        let fs = fs.after_kill();
        let mut bytes = fs.read_file(CURRENT).unwrap().to_vec();
        match harm {
            // One that was there before has taken its place.
            0 => bytes = fs.read_file(SECOND).unwrap().to_vec(),
            place => bytes[place] ^= 1,
        }
        fs.put_file(CURRENT, &bytes).unwrap();
        let log = open(&fs, &with(RecoveryMode::SkipCorrupt)).unwrap();
        let firsts = log.append("a", &[&batch(7, 2)], false).unwrap();
        assert!(firsts[0] > 12, "{firsts:?}");
        assert_eq!(entries(&log, "a").unwrap().last().unwrap().sequence, firsts[0] + 1);
    }
}

/// What lies between damage and the end of a log is known to have been on the disk by the end
/// mark alone, if it was one group. The next append must not take that away.
#[test]
fn what_comes_behind_damage_stays_through_the_next_append_and_a_power_cut() {
    let whole = SimFs::new();
    let log = open(&whole, &with(RecoveryMode::Strict)).unwrap();
    log.append("a", &[&batch(1, 2), &batch(2, 2), &batch(3, 2)], false).unwrap();
    let all = entries(&log, "a").unwrap();
    log.close().unwrap();
    drop(log);
    let content = whole.read_file(CURRENT).unwrap();
    let places = blocks(&content);
    // Each of the three blocks, the last one too.
    for damaged in 0..3 {
        let mut bytes = content.to_vec();
        bytes[places[damaged] + 10] ^= 1;
        let is_left = |entry: &&WalEntry| (entry.sequence - 1) / 2 != damaged as u64;
        let left: Vec<WalEntry> = all.iter().filter(is_left).cloned().collect();
        let (mut states, mut acknowledged) = (0, false);
        for moment in 1.. {
            let fs = whole.after_kill();
            fs.put_file(CURRENT, &bytes).unwrap();
            fs.make_all_durable();
            let before = fs.count();
            fs.inject(Fault::power_off().at(moment));
            let log = open(&fs, &with(RecoveryMode::SkipCorrupt));
            let firsts = log.as_ref().map(|log| log.append("a", &[&batch(4, 2)], false));
            let firsts = firsts.ok().and_then(Result::ok);
            let is_over = fs.count() < before + moment;
            drop(log);
            if let Some(firsts) = &firsts {
                // The numbers of what was lost are not given again.
                assert!(firsts[0] > all.last().unwrap().sequence, "{firsts:?}");
                acknowledged = true;
            }
            for model in Model::ALL {
                for state in fs.crash_states_seeded(*model, 40, moment) {
                    states += 1;
                    let what = format!("block {damaged}, cut at {moment}: {}", state.description);
                    let refused = opened(&state.fs.after_kill(), RecoveryMode::TolerateTail);
                    assert_eq!(refused.unwrap_err().kind, DamageKind::Unreadable, "{what}");
                    let again =
                        open(&state.fs.after_kill(), &with(RecoveryMode::SkipCorrupt)).unwrap();
                    let firsts_again = again.append("a", &[&batch(5, 2)], false).unwrap();
                    assert!(firsts_again[0] > all.last().unwrap().sequence, "{what}");
                    drop(again);
                    let (mut shown, _) = opened(&state.fs, RecoveryMode::SkipCorrupt).unwrap();
                    let appended = shown.split_off(left.len().min(shown.len()));
                    assert_eq!(shown, left, "{what}");
                    assert!(
                        appended.len() == 2 || appended.is_empty() && firsts.is_none(),
                        "{what}"
                    );
                }
            }
            if is_over {
                break;
            }
        }
        assert!(acknowledged && states > 100, "{states}");
    }
}

#[test]
fn the_note_of_a_checkpoint_that_is_damaged() {
    let (fs, _) = log(true);
    let log = open(&fs, &with(RecoveryMode::Strict)).unwrap();
    log.checkpoint("a", 6).unwrap();
    let left = entries(&log, "a").unwrap();
    log.close().unwrap();
    drop(log);
    let note = "/log/a/wal_checkpoint.json";
    let content = fs.read_file(note).unwrap();
    for place in 0..content.len() {
        let mut bytes = content.to_vec();
        bytes[place] ^= 1;
        let fs = fs.after_kill();
        fs.put_file(note, &bytes).unwrap();
        let refused = opened(&fs, RecoveryMode::TolerateTail).unwrap_err();
        assert_eq!(refused.kind, DamageKind::Checkpoint);
        let (shown, damage) = opened(&fs, RecoveryMode::SkipCorrupt).unwrap();
        assert_eq!(damage[0].kind, DamageKind::Checkpoint, "byte {place}");
        assert!(shown.ends_with(&left), "byte {place}: {shown:?}");
    }
}

/// Damage of every sort, many at a time: what is fuzzed is a log that is otherwise right, so
/// that the reader gets further than the first byte.
fn fuzz(seed: u64) {
    let (fs, all) = log(Random(seed).roll().is_multiple_of(2));
    let mut random = Random(seed);
    let paths = [FIRST, SECOND, CURRENT];
    for _ in 0..1 + random.below(4) {
        let path = *random.pick(&paths);
        let Ok(content) = fs.read_file(path) else { continue };
        let mut bytes = content.to_vec();
        let place = random.below(bytes.len() + 1);
        let length = random.below(64).min(bytes.len() - place);
        let from = random.below(bytes.len() - length + 1);
        match random.below(6) {
            0 => bytes[place..place + length].fill(0),
            1 => {
                bytes[place..place + length].iter_mut().for_each(|byte| *byte = random.roll() as u8)
            }
            2 => bytes.copy_within(from..from + length, place),
            3 => bytes.truncate(place),
            4 => {
                let part = bytes[from..from + length].to_vec();
                bytes.splice(place..place, part);
            }
            _ => {
                let end = (place + length).min(bytes.len());
                bytes.drain(place..end);
            }
        }
        fs.put_file(path, &bytes).unwrap();
    }
    judge(&fs, &all, &format!("seed {seed}"));
}

#[test]
fn damage_of_every_sort() {
    // HOLDFAST_FUZZ: how many seeds; HOLDFAST_SEED: the first one.
    let number = |name: &str, default| {
        std::env::var(name).ok().map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let first = number("HOLDFAST_SEED", 1);
    for seed in first..first + number("HOLDFAST_FUZZ", 1000) {
        fuzz(seed);
    }
}
