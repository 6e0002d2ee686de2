//! What goes on beside each other in a log: readers beside a writer, a checkpoint beside a segment
//! that is made beforehand. Each is stopped at each of its operations, and the other comes in
//! between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::error::ErrorKind;
use holdfast::wal::{Log, LogOptions, RecoveryMode, Replay, ReplayProgress, SyncMode, WalEntry};
use holdfast_sim::{Fault, Model, OperationKind, Performed, SimFs};

use wal_common::{LOG, batch, drain, entries, open, options};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn begin() -> (SimFs, Arc<Log<SimFs>>) {
    let fs = SimFs::new();
    let log = open(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict)).unwrap();
    (fs, Arc::new(log))
}

/// Calls `act` once, before the operation with this number from now on, and says whether there
/// was one.
fn at_operation(fs: &SimFs, number: u64, act: impl FnOnce() + Send + 'static) -> impl Fn() -> bool {
    let act = Mutex::new(Some(act));
    let was = Arc::new(Mutex::new(false));
    let is = Arc::clone(&was);
    let intrude = Fault::intrude(move |_, _| {
        if let Some(act) = act.lock().unwrap().take() {
            *is.lock().unwrap() = true;
            // On a thread of its own, as any other caller: both may wait for the disk.
            std::thread::spawn(act).join().unwrap();
        }
    });
    fs.inject(intrude.at(number));
    move || *was.lock().unwrap()
}

/// Everything is there, now and for the next process.
fn assert_all_there(fs: &SimFs, log: &Log<SimFs>, from: u64, what: &str) {
    let before = entries(log, "a").unwrap();
    let last = log.stats().collections[0].last;
    let sequences: Vec<u64> = before.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, (from..=last).collect::<Vec<u64>>(), "{what}");
    let next = fs.after_kill();
    let log = open(&next, &options(SyncMode::PerBatch, RecoveryMode::Strict))
        .unwrap_or_else(|error| panic!("{what}: {error}\n{}", fs.log_text()));
    let after = entries(&log, "a").unwrap();
    assert_eq!(after, before, "{what}, by the next process\n{}", fs.log_text());
}

/// The spare that is about to become the next segment must not be another file by then: what is
/// appended would go to a file without a name.
#[test]
fn a_checkpoint_beside_a_segment_in_the_making_loses_nothing() {
    for number in 1.. {
        let (fs, log) = begin();
        for number in 0..4 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
            log.rotate("a").unwrap();
        }
        log.checkpoint("a", 3).unwrap();
        let mut numbers = 10..;
        let next = loop {
            log.append("a", &[&batch(numbers.next().unwrap(), 3)], false).unwrap();
            if let Some(next) = log.next_segment("a") {
                break next;
            }
        };
        let other = Arc::clone(&log);
        let was = at_operation(&fs, number, move || other.checkpoint("a", 9).unwrap());
        next.run();
        fs.repair();
        for number in 50..70 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
        }
        assert_all_there(&fs, &log, if was() { 10 } else { 4 }, &format!("operation {number}"));
        if !was() {
            assert!(number > 5);
            break;
        }
    }
}

/// And the other way round.
#[test]
fn a_segment_that_is_made_beside_a_checkpoint_loses_nothing() {
    let begin = || {
        let (fs, log) = begin();
        for number in 0..4 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
            log.rotate("a").unwrap();
        }
        log.checkpoint("a", 3).unwrap();
        for number in 10..15 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
        }
        (fs, log)
    };
    let (fs, log) = begin();
    let before = fs.count();
    log.checkpoint("a", 9).unwrap();
    // It syncs, and looks whether the log is where it was, under a lock that appends need: no other
    // caller comes in between there.
    let is_free = |it: &Performed| {
        it.number > before && ![OperationKind::SyncData, OperationKind::Metadata].contains(&it.kind)
    };
    let moments: Vec<u64> = fs.log().iter().filter(|it| is_free(it)).map(|it| it.number).collect();
    assert!(moments.len() > 5, "{}", fs.log_text());
    for moment in moments {
        let (fs, log) = begin();
        let other = Arc::clone(&log);
        let was = at_operation(&fs, moment - before, move || {
            for number in 30..40 {
                if let Some(next) = other.next_segment("a") {
                    next.run();
                }
                other.append("a", &[&batch(number, 3)], false).unwrap();
            }
        });
        log.checkpoint("a", 9).unwrap();
        assert!(was());
        fs.repair();
        for number in 50..70 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
        }
        assert_all_there(&fs, &log, 10, &format!("operation {moment}"));
    }
}

// ── Readers beside a writer ───────────────────────────────────────────────────────────────

/// What the writer does beside a reader.
#[derive(Clone, Copy, Debug)]
enum Play {
    Append(u64),
    /// Everything up to this sequence number.
    Release(u64),
    Rotate,
}

use Play::{Append, Release, Rotate};

/// Rotation, release, space that serves again, and the reader's segment with it.
const PLAYS: &[&[Play]] = &[
    &[Append(20), Rotate, Append(21)],
    &[Rotate, Append(20), Rotate],
    &[Release(6), Append(20), Rotate, Append(21), Rotate],
    &[Append(20), Rotate, Release(12), Rotate, Append(21), Rotate, Append(22)],
    &[Append(20), Append(21), Append(22)],
];

thread_local! {
    /// Whether this thread is the reader or the writer, and how many operations it has done.
    static ROLE: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
}

/// A log with so many sealed segments and a current one: entries 1 to 18.
fn beginning((sealed, is_reopened): (u64, bool)) -> (SimFs, Arc<Log<SimFs>>) {
    let (fs, log) = begin();
    for number in 1..=6 {
        log.append("a", &[&batch(number, 3)], false).unwrap();
        if number % 2 == 0 && number / 2 <= sealed {
            log.rotate("a").unwrap();
        }
    }
    if !is_reopened {
        return (fs, log);
    }
    // Then there is an end mark where the next batch goes.
    log.close().unwrap();
    let log = open(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict)).unwrap();
    (fs, Arc::new(log))
}

/// The writer is stopped at every third of its operations, other ones for each stop of the reader.
const STRIDE: u64 = 3;

/// What the logs begin with, in the walks below.
const BEGINNINGS: [(u64, bool); 4] = [(0, false), (0, true), (1, true), (3, false)];

fn perform(log: &Log<SimFs>, play: &[Play]) {
    for step in play {
        match *step {
            Append(number) => drop(log.append("a", &[&batch(number, 3)], false).unwrap()),
            Release(up_to) => log.checkpoint("a", up_to).unwrap(),
            Rotate => log.rotate("a").unwrap(),
        }
    }
}

/// The reader is stopped before its operation `reader`; the writer plays until its operation
/// `writer`, and waits there; the reader goes on to its end; then the writer does. The answer says
/// whether both have so many operations.
fn interleave(
    (fs, log): (SimFs, Arc<Log<SimFs>>),
    play: &'static [Play],
    (reader, writer): (u64, u64),
    read: impl FnOnce(&SimFs, &Log<SimFs>) -> Result<Vec<WalEntry>, ErrorKind>,
) -> (Result<Vec<WalEntry>, ErrorKind>, (bool, bool)) {
    type Ends = (Sender<()>, Mutex<Receiver<()>>);
    let ends = || -> Ends {
        let (told, tell) = channel();
        (told, Mutex::new(tell))
    };
    let (begin_writing, begun) = ends();
    let (paused, is_paused) = ends();
    let (go_on, goes_on) = ends();
    let stopped = Arc::new(Mutex::new((false, false)));
    let also_stopped = Arc::clone(&stopped);
    let also_paused = paused.clone();
    let intrude = Fault::intrude(move |_, _| {
        let Some((role, count)) = ROLE.get() else { return };
        let count = count + 1;
        ROLE.set(Some((role, count)));
        if role == "reader" && count == reader {
            also_stopped.lock().unwrap().0 = true;
            begin_writing.send(()).unwrap();
            is_paused.lock().unwrap().recv_timeout(LONG).unwrap();
        }
        if role == "writer" && count == writer {
            also_stopped.lock().unwrap().1 = true;
            also_paused.send(()).unwrap();
            goes_on.lock().unwrap().recv_timeout(LONG).unwrap();
        }
    });
    fs.inject(intrude.for_ever());
    let outcome = std::thread::scope(|scope| {
        let own = Arc::clone(&log);
        scope.spawn(move || {
            if begun.lock().unwrap().recv_timeout(LONG).is_err() {
                return;
            }
            ROLE.set(Some(("writer", 0)));
            perform(&own, play);
            let _ = paused.send(());
        });
        ROLE.set(Some(("reader", 0)));
        let outcome = read(&fs, &log);
        ROLE.set(None);
        let _ = go_on.send(());
        // Drops the sender, so that a writer that was never begun ends.
        fs.repair();
        outcome
    });
    let stopped = *stopped.lock().unwrap();
    (outcome, stopped)
}

fn walk(sealed: (u64, bool), play: &'static [Play], is_inside: bool) -> usize {
    let mut runs = 0;
    let expected: Vec<u64> = {
        let (_, log) = beginning(sealed);
        perform(&log, play);
        (1..=log.stats().collections[0].last).collect()
    };
    let released = play.iter().map(|step| if let Release(to) = step { *to } else { 0 }).max();
    let released = released.unwrap_or(0);
    for reader in 1.. {
        let mut is_over = false;
        for writer in (1 + reader % STRIDE..).step_by(STRIDE as usize) {
            runs += 1;
            let begun = beginning(sealed);
            let fs = begun.0.clone();
            let (outcome, stopped) = interleave(begun, play, (reader, writer), |fs, log| {
                if is_inside {
                    drain(&mut log.replay("a", 0)?)
                } else {
                    let (fs, path) = (fs.clone(), Path::new(LOG));
                    drain(&mut Replay::new(fs, path, "a", 0, None, RecoveryMode::Strict)?)
                }
            });
            let what = || {
                let log = fs.log_text();
                format!("{sealed:?}, {play:?}, reader at {reader}, writer at {writer}\n{log}")
            };
            let all = outcome.unwrap_or_else(|error| panic!("{error}: {}", what()));
            let seen: Vec<u64> = all.iter().map(|entry| entry.sequence).collect();
            // In order, each once; without gaps behind what may have been released before it was
            // reached; and at least as far as the log had got before.
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}: {}", what());
            let kept: Vec<u64> = seen.into_iter().filter(|number| *number > released).collect();
            let all = &expected[released as usize..];
            assert!(all.starts_with(&kept), "{kept:?}: {}", what());
            assert!(released + kept.len() as u64 >= 18, "{kept:?}: {}", what());
            is_over = !stopped.0;
            if !stopped.1 {
                break;
            }
        }
        if is_over {
            return runs;
        }
    }
    runs
}

#[test]
fn a_reader_beside_a_writer_sees_all_that_was_there_before_and_no_damage() {
    let mut runs = 0;
    for play in PLAYS {
        for sealed in BEGINNINGS {
            runs += walk(sealed, play, false);
        }
    }
    println!("{runs} runs");
    assert!(runs > 1000, "{runs}");
}

#[test]
fn a_replay_beside_appends_of_its_own_process_sees_all_that_was_there_before() {
    let mut runs = 0;
    for play in PLAYS {
        for sealed in BEGINNINGS {
            runs += walk(sealed, play, true);
        }
    }
    println!("{runs} runs");
    assert!(runs > 1000, "{runs}");
}

thread_local! {
    /// This thread is in a replay, and others may come in between.
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

/// Calls `act` with the number of each operation of a replay, in between.
fn beside_a_replay(fs: &SimFs, act: impl Fn(u64) + Send + Sync + 'static) {
    let count = AtomicU64::new(0);
    let intrude = Fault::intrude(move |_, _| {
        if IS_READING.replace(false) {
            act(count.fetch_add(1, Ordering::Relaxed));
            IS_READING.set(true);
        }
    });
    fs.inject(intrude.for_ever());
}

/// The replay of another process, to its end.
fn read_all(fs: &SimFs, recovery: RecoveryMode) -> Result<Vec<WalEntry>, ErrorKind> {
    let mut replay = Replay::new(fs.clone(), Path::new(LOG), "a", 0, None, recovery).unwrap();
    IS_READING.set(true);
    let outcome = drain(&mut replay);
    IS_READING.set(false);
    outcome
}

#[test]
fn a_replay_beside_a_writer_that_does_not_rest_comes_to_an_end() {
    for recovery in [RecoveryMode::Strict, RecoveryMode::TolerateTail, RecoveryMode::SkipCorrupt] {
        let fs = SimFs::new();
        let large = LogOptions {
            segment_size: 1 << 20,
            step: 1 << 20,
            ..options(SyncMode::PerBatch, RecoveryMode::Strict)
        };
        let log = Arc::new(open(&fs, &large).unwrap());
        for number in 1..=10 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
        }
        let (own, appended) = (Arc::clone(&log), Arc::new(AtomicU64::new(10)));
        let count = Arc::clone(&appended);
        beside_a_replay(&fs, move |operation| {
            if operation % 4 == 0 && count.load(Ordering::Relaxed) < 1000 {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                own.append("a", &[&batch(number, 3)], false).unwrap();
            }
        });
        let shown = read_all(&fs, recovery).unwrap();
        assert!(shown.len() >= 30, "{}", shown.len());
        let appended = appended.load(Ordering::Relaxed);
        assert!(appended < 100, "{recovery:?}: over when {appended} batches were there");
    }
}

/// The segment is released and written anew between any two looks of a replay at its end.
#[test]
fn a_segment_that_serves_again_while_its_end_is_looked_at_is_no_damage() {
    for first in 1..40 {
        for second in first + 1..first + 12 {
            let (fs, log) = begin();
            for number in 1..=2 {
                log.append("a", &[&batch(number, 3)], false).unwrap();
            }
            beside_a_replay(&fs, move |operation| {
                let append = |numbers: std::ops::RangeInclusive<u64>| {
                    numbers.for_each(|number| {
                        log.append("a", &[&batch(number, 3)], false).unwrap();
                    });
                };
                if operation == first {
                    append(3..=6);
                }
                if operation == second {
                    log.rotate("a").unwrap();
                    append(7..=7);
                    log.checkpoint("a", 18).unwrap();
                    log.rotate("a").unwrap();
                    append(30..=36);
                }
            });
            if let Err(error) = read_all(&fs, RecoveryMode::Strict) {
                panic!("at {first} and {second}: {error}\n{}", fs.log_text());
            }
        }
    }
}

/// A crash in mid-rotation leaves a segment that has its number already, and is the current one
/// again as soon as the log is opened. A reader sees no damage meanwhile.
#[test]
fn a_sealed_segment_that_becomes_the_current_one_again_is_no_damage() {
    let mut states = 0;
    for moment in 1.. {
        let (fs, log) = begin();
        for number in 1..=3 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
        }
        fs.inject(Fault::power_off().at(moment));
        let is_rotated = log.rotate("a").is_ok();
        drop(log);
        for model in Model::ALL {
            for state in fs.crash_states_seeded(*model, 40, moment) {
                let fs = state.fs;
                if fs.inspect("/log/a/wal_current.avro").is_ok()
                    || fs.inspect("/log/a/wal_000000000001.avro").is_err()
                {
                    continue;
                }
                states += 1;
                let strict = RecoveryMode::Strict;
                let replay = Replay::new(fs.clone(), Path::new(LOG), "a", 0, None, strict);
                let mut replay = replay.unwrap();
                assert_eq!(replay.chunk(&mut Vec::new(), 10).unwrap(), ReplayProgress::More);
                let log = open(&fs, &options(SyncMode::PerBatch, strict)).unwrap();
                for number in 5..=7 {
                    log.append("a", &[&batch(number, 3)], false).unwrap();
                }
                if let Err(error) = drain(&mut replay) {
                    panic!("cut at {moment}: {error}\n{}", state.description);
                }
            }
        }
        if is_rotated {
            break;
        }
    }
    assert!(states > 0);
}
