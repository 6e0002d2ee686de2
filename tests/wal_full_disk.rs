//! Logs on a disk that others have filled: with room of every size, what fits is taken, what does
//! not is refused and shows neither now nor later, and the log goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use holdfast::error::Code;
use holdfast::wal::{Batch, DamageKind, Log, LogOptions, RecoveryMode, SyncMode, WalEntry};
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

use wal_common::{batch, entries, open, options, payload, seen_from_outside};

const CURRENT: &str = "/log/a/wal_current.avro";

/// The room that an entry has behind it at least.
const SHORTEST_SPACE: u64 = 22;

fn plain() -> LogOptions {
    options(SyncMode::PerBatch, RecoveryMode::TolerateTail)
}

fn length(fs: &SimFs, path: &str) -> u64 {
    fs.read_file(path).unwrap().len() as u64
}

/// How a log may find itself when the disk is full.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It has just been opened.
    Opened,
    /// Something has been appended since then.
    HasSpace,
    /// Its segment is full.
    IsFull,
    /// So it is, and a released segment is there.
    HasSpare,
    /// The next segment has been made.
    HasNext,
}

const STATES: [State; 5] =
    [State::Opened, State::HasSpace, State::IsFull, State::HasSpare, State::HasNext];

fn in_state(state: State) -> (SimFs, Log<SimFs>) {
    let fs = SimFs::new();
    let log = open(&fs, &plain()).unwrap();
    log.append("a", &[&batch(1, 2)], true).unwrap();
    let log = match state {
        State::Opened => {
            log.close().unwrap();
            open(&fs, &plain()).unwrap()
        }
        State::HasSpace => log,
        State::IsFull => {
            log.append("a", &[&batch(2, 20)], true).unwrap();
            log
        }
        State::HasSpare => {
            let firsts = log.append("a", &[&batch(2, 2)], true).unwrap();
            log.rotate("a").unwrap();
            log.append("a", &[&batch(3, 20)], true).unwrap();
            log.checkpoint("a", firsts[0] + 1).unwrap();
            log
        }
        State::HasNext => {
            log.append("a", &[&batch(2, 20)], true).unwrap();
            log.next_segment("a").unwrap().run();
            log
        }
    };
    (fs, log)
}

/// How many bytes a batch takes in a segment.
fn bytes_of(number: u64, count: u64) -> u64 {
    let fs = SimFs::new();
    let mut lengths = Vec::new();
    for (number, count) in [(1, 1), (number, count)] {
        let log = open(&fs, &LogOptions { segment_size: 1 << 20, ..plain() }).unwrap();
        log.append("a", &[&batch(number, count)], true).unwrap();
        log.close().unwrap();
        lengths.push(length(&fs, CURRENT));
    }
    lengths[1] - lengths[0]
}

#[test]
fn with_room_of_every_size_what_fits_is_taken_and_what_is_refused_never_shows() {
    let (mut taken, mut refused) = (0, 0);
    for state in STATES {
        for count in [1, 5, 30] {
            let needed = bytes_of(50, count) + SHORTEST_SPACE;
            for room in (0..needed + 1000).step_by(if count == 30 { 31 } else { 7 }) {
                let (fs, log) = in_state(state);
                let before = entries(&log, "a").unwrap();
                fs.set_free_space(Some(room));
                let what = format!("{state:?}, {count} entries, {room} bytes of room");
                let outcome = log.append("a", &[&batch(50, count)], true);
                match &outcome {
                    Ok(_) => taken += 1,
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.code(), "ENOSPC", "{what}");
                        // Where a large group begins another segment, that needs a header.
                        let needed = needed + if count == 30 { 900 } else { 0 };
                        assert!(room < needed, "{what}: there was room\n{}", fs.log_text());
                    }
                }
                assert_eq!(log.stats().poisoned, None, "{what}\n{}", fs.log_text());
                let added = if outcome.is_ok() { count as usize } else { 0 };
                for crash in fs.crash_states_seeded(Model::StrictPosix, 6, room) {
                    let all = entries(&open(&crash.fs, &plain()).unwrap(), "a").unwrap();
                    let is_kept = all.starts_with(&before) && all.len() == before.len() + added;
                    assert!(is_kept, "{what}, cut: {}\n{}", crash.description, fs.log_text());
                }
                fs.set_free_space(None);
                log.append("a", &[&batch(60, 2)], true).unwrap();
                let shown = entries(&log, "a").unwrap();
                assert_eq!(shown.len(), before.len() + added + 2, "{what}");
                if room % 2 == 0 {
                    log.close().unwrap();
                }
                drop(log);
                let log = open(&fs.after_kill(), &plain()).unwrap();
                assert_eq!((log.damage(), entries(&log, "a").unwrap()), (&[][..], shown), "{what}");
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

#[test]
fn a_collection_is_begun_where_there_is_room_for_it() {
    let mut taken = None;
    for room in (0..4000).step_by(11) {
        let fs = SimFs::new();
        let log = open(&fs, &plain()).unwrap();
        fs.set_free_space(Some(room));
        let outcome = log.append("a", &[&batch(1, 3)], true);
        assert_eq!(log.stats().poisoned, None, "{room}");
        match outcome {
            Ok(_) => _ = taken.get_or_insert(room),
            Err(error) => assert_eq!((error.code(), taken), ("ENOSPC", None), "{room}"),
        }
        fs.set_free_space(None);
        log.append("a", &[&batch(2, 3)], true).unwrap();
        drop(log);
        let log = open(&fs.after_kill(), &plain()).unwrap();
        assert_eq!((log.damage().len(), log.stats().collections.len()), (0, 1));
        let count = if taken.is_some() { 6 } else { 3 };
        assert_eq!(entries(&log, "a").unwrap().len(), count, "{room}");
    }
    // The header, the batch, and the shortest space.
    let fs = SimFs::new();
    let log = open(&fs, &plain()).unwrap();
    log.append("a", &[&batch(1, 3)], true).unwrap();
    log.close().unwrap();
    let least = length(&fs, CURRENT) + SHORTEST_SPACE;
    assert!(taken.unwrap() <= least + 11, "{taken:?}, {least}");
}

/// A log of several sealed segments, and the last number of each batch.
fn with_segments(fs: &SimFs) -> (Log<SimFs>, Vec<u64>) {
    let log = open(fs, &plain()).unwrap();
    let mut lasts = Vec::new();
    for number in 1..=6 {
        let firsts = log.append("a", &[&batch(number, 3)], true).unwrap();
        lasts.push(firsts[0] + 2);
        log.rotate("a").unwrap();
    }
    log.append("a", &[&batch(7, 3)], true).unwrap();
    (log, lasts)
}

fn is_after(all: &[WalEntry], released: u64, count: usize) -> bool {
    all.first().is_some_and(|first| first.sequence == released + 1) && all.len() == count
}

#[test]
fn a_checkpoint_gives_back_room_on_a_full_disk() {
    for room in 0..120 {
        for earlier in [false, true] {
            let fs = SimFs::new();
            let (log, lasts) = with_segments(&fs);
            if earlier {
                // There is a note, and no released segment whose space would serve.
                log.checkpoint("a", lasts[0]).unwrap();
                log.rotate("a").unwrap();
                log.append("a", &[&batch(8, 3)], true).unwrap();
            }
            let count = entries(&log, "a").unwrap().len() - if earlier { 9 } else { 12 };
            fs.set_free_space(Some(room));
            log.checkpoint("a", lasts[3]).unwrap();
            assert!(is_after(&entries(&log, "a").unwrap(), lasts[3], count), "{room}");
            let outside = seen_from_outside(&fs, "a", RecoveryMode::Strict).unwrap();
            assert!(is_after(&outside, lasts[3], count), "{room}");
            // There is room now.
            log.append("a", &[&batch(9, 3)], true).unwrap();
            drop(log);
            fs.set_free_space(Some(0));
            let log = open(&fs, &plain()).unwrap();
            assert_eq!(log.damage(), [], "{room}");
            assert!(is_after(&entries(&log, "a").unwrap(), lasts[3], count + 3), "{room}");
            log.checkpoint("a", lasts[5]).unwrap();
            log.close().unwrap();
            let note = |path: &std::path::PathBuf| path.to_string_lossy().contains("checkpoint.");
            assert_eq!(fs.paths().iter().filter(|path| note(path)).count(), 1, "{:?}", fs.paths());
        }
    }
}

/// Every moment of a checkpoint and of an opening after it, on a disk on which there is no room.
#[test]
fn a_power_cut_in_a_checkpoint_on_a_full_disk_loses_nothing() {
    let mut states = 0;
    for moment in 1.. {
        let fs = SimFs::new();
        let (log, lasts) = with_segments(&fs);
        fs.set_free_space(Some(0));
        fs.inject(Fault::power_off().at(moment));
        let from = fs.count();
        let done = log.checkpoint("a", lasts[3]).and_then(|()| {
            drop(log);
            fs.set_free_space(Some(0));
            let log = open(&fs, &plain())?;
            log.checkpoint("a", lasts[4])
        });
        let is_over = fs.count() < from + moment;
        assert_eq!(done.is_ok(), is_over, "{done:?}\n{}", fs.log_text());
        for model in Model::ALL {
            for crash in fs.crash_states_seeded(*model, 200, moment) {
                states += 1;
                let left = crash.fs.after_kill();
                if moment % 2 == 0 {
                    left.set_free_space(Some(0));
                }
                let what = || format!("cut at {moment}: {}\n{}", crash.description, fs.log_text());
                let log =
                    open(&left, &plain()).unwrap_or_else(|error| panic!("{error} {}", what()));
                // What is torn is the end mark that was just being written.
                let is_torn = |it: &holdfast::wal::Damage| it.kind == DamageKind::TornTail;
                assert!(log.damage().iter().all(is_torn), "{:?} {}", log.damage(), what());
                let all = entries(&log, "a").unwrap();
                let first = all[0].sequence;
                // What was released may be there again if the note of it is not.
                let is_start = first == 1 || lasts.contains(&(first - 1));
                assert!(is_start && first <= lasts[4] + 1, "{first} {}", what());
                assert_eq!(all.last().unwrap().sequence, lasts[5] + 3, "{}", what());
                assert_eq!(all.len() as u64, lasts[5] + 3 + 1 - first, "{}", what());
                drop(log);
                let log = open(&left, &plain()).unwrap();
                assert_eq!(entries(&log, "a").unwrap()[0].sequence, first, "{}", what());
            }
        }
        if is_over {
            break;
        }
    }
    println!("{states} states");
}

/// A log whose last batch is torn, and the torn bytes.
fn torn(space: bool) -> (SimFs, Vec<u8>) {
    let fs = SimFs::new();
    let log = open(&fs, &plain()).unwrap();
    log.append("a", &[&batch(1, 3)], true).unwrap();
    log.rotate("a").unwrap();
    log.append("a", &[&batch(2, 3)], true).unwrap();
    let start = {
        let copy = fs.after_kill();
        open(&copy, &plain()).unwrap().close().unwrap();
        length(&copy, CURRENT) - 18
    };
    log.append("a", &[&batch(3, 3)], true).unwrap();
    drop(log);
    let mut bytes = fs.read_file(CURRENT).unwrap().to_vec();
    let text = payload(3, 1);
    let at = bytes.windows(text.len()).rposition(|part| part == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    if !space {
        // The file ends in the middle of the batch.
        bytes.truncate(at + 3);
    }
    fs.put_file(CURRENT, &bytes).unwrap();
    let mut torn = bytes.split_off(start as usize);
    while torn.last() == Some(&0) {
        torn.pop();
    }
    (fs, torn)
}

#[test]
fn a_torn_tail_for_whose_copy_there_is_no_room_stays_in_the_segment() {
    let (mut copied, mut kept) = (0, 0);
    for space in [true, false] {
        for room in (0..2000).step_by(23) {
            let (fs, torn) = torn(space);
            fs.set_free_space(Some(room));
            let log = open(&fs, &plain()).unwrap();
            let what = format!("{room} bytes of room\n{}", fs.log_text());
            let [damage] = log.damage() else { panic!("{:?} {what}", log.damage()) };
            assert_eq!(damage.kind, DamageKind::TornTail);
            match &damage.copy {
                Some(copy) => {
                    copied += 1;
                    assert_eq!(*fs.read_file(format!("/log/a/{copy}")).unwrap(), torn, "{what}");
                }
                None => {
                    kept += 1;
                    let bytes = fs.read_file(CURRENT).unwrap();
                    assert!(bytes.windows(torn.len()).any(|part| part == torn), "{what}");
                }
            }
            assert_eq!(entries(&log, "a").unwrap().len(), 6, "{what}");
            let was_copied = damage.copy.is_some();
            // What is refused changes nothing; a close neither.
            if room % 2 == 0 && !was_copied {
                if log.append("a", &[&batch(4, 3)], true).is_err() {
                    assert_eq!(log.stats().poisoned, None, "{what}");
                    let bytes = fs.read_file(CURRENT).unwrap();
                    assert!(bytes.windows(torn.len()).any(|part| part == torn), "{what}");
                }
                log.close().unwrap();
                drop(log);
                fs.set_free_space(None);
                let log = open(&fs, &plain()).unwrap();
                assert!(entries(&log, "a").unwrap().len() >= 6);
                continue;
            }
            fs.set_free_space(None);
            log.append("a", &[&batch(4, 3)], true).unwrap();
            let copies: Vec<_> = fs
                .paths()
                .into_iter()
                .filter(|it| it.to_string_lossy().contains(".torn"))
                .collect();
            assert_eq!(copies.len(), 1, "{what}");
            assert_eq!(*fs.read_file(&copies[0]).unwrap(), torn, "{what}");
            drop(log);
            let log = open(&fs.after_kill(), &plain()).unwrap();
            assert_eq!((log.damage(), entries(&log, "a").unwrap().len()), (&[][..], 9), "{what}");
        }
    }
    assert!(copied > 10 && kept > 10, "{copied} copied, {kept} kept");
}

/// What was shown when a log was opened is there after a power cut, though its end is not clean.
#[test]
fn what_comes_before_a_torn_tail_that_stays_outlives_a_power_cut() {
    for moment in 1.. {
        let (fs, _) = torn(true);
        fs.set_free_space(Some(0));
        fs.inject(Fault::power_off().at(moment));
        let from = fs.count();
        let opened = open(&fs, &plain());
        let is_over = fs.count() < from + moment;
        assert_eq!(opened.is_ok(), is_over);
        drop(opened);
        for crash in fs.crash_states_seeded(Model::StrictPosix, 200, moment) {
            let left = crash.fs.after_kill();
            let log = open(&left, &plain()).unwrap();
            assert_eq!(entries(&log, "a").unwrap().len(), 6, "{}", crash.description);
            left.set_free_space(None);
            log.append("a", &[&batch(4, 3)], true).unwrap();
            assert_eq!(entries(&log, "a").unwrap().len(), 9, "{}", crash.description);
        }
        if is_over {
            break;
        }
    }
}

/// The disk is full for every write of a kind, from the Nth on, and then there is room again.
#[test]
fn a_log_that_has_met_a_full_disk_at_any_write_goes_on() {
    for kind in [OperationKind::WriteAt, OperationKind::Write, OperationKind::CreateNew] {
        for nth in 1..60 {
            for code in [Code::ENOSPC, Code::EDQUOT, Code::EFBIG] {
                let fs = SimFs::new();
                let log = open(&fs, &plain()).unwrap();
                let mut kept = Vec::new();
                fs.inject(Fault::fail(code).of(kind).at(nth).for_ever_alike());
                for number in 1..20 {
                    let added: Batch = batch(number, 1 + number % 4);
                    match log.append("a", &[&added], true) {
                        Ok(_) => kept.push(number),
                        Err(_) if log.stats().poisoned.is_some() => {}
                        Err(error) => assert_eq!(error.code(), code.name(), "{kind:?} {nth}"),
                    }
                }
                if log.stats().poisoned.is_some() {
                    // Not even what there was could be put back.
                    assert_eq!(kind, OperationKind::WriteAt);
                }
                drop(log);
                let left = fs.after_kill();
                let log = open(&left, &plain()).unwrap();
                let all = entries(&log, "a").unwrap();
                for number in kept {
                    assert!(all.iter().any(|it| it.id == format!("{number}/0")), "{number}");
                }
                log.append("a", &[&batch(30, 1)], true).unwrap();
            }
        }
    }
}
