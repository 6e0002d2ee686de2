//! Those who follow a log beside its writer, stopped at each of its operations: they see everything
//! once, in order, and nothing that is taken back, be it by a full disk, a failure or a power cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use holdfast::error::{Code, ErrorKind};
use holdfast::wal::{
    Follow, FollowOptions, Log, LogOptions, RecoveryMode, Signal, SyncMode, WalEntry, WalError,
};
use holdfast_sim::{Fault, Model, SimFs};

use wal_common::{LOG, batch, drain, open, options, unpack};

/// One that follows `a` as another process does.
struct Beside {
    follow: Follow<SimFs>,
    seen: Vec<WalEntry>,
    error: Option<ErrorKind>,
}

impl Beside {
    fn new(fs: &SimFs, from: Option<u64>) -> Beside {
        let options = FollowOptions { from, recovery: RecoveryMode::TolerateTail, is_beside: true };
        let signal = Arc::new(Signal::default());
        let follow = Follow::new(fs.clone(), Path::new(LOG), "a", options, signal).unwrap();
        Beside { follow, seen: Vec::new(), error: None }
    }

    /// Takes what there is.
    fn look(&mut self) {
        while self.error.is_none() {
            let mut packed = Vec::new();
            if let Err(error) = self.follow.advance(None, &mut packed, 300) {
                self.error = Some(error);
            }
            if packed.is_empty() {
                return;
            }
            self.seen.extend(unpack(&packed));
        }
    }

    fn numbers(&self) -> Vec<u64> {
        self.seen.iter().map(|entry| entry.sequence).collect()
    }
}

thread_local! {
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Has it look before each operation of another, or each second or third one.
fn at_operations(fs: &SimFs, step: u64, beside: &Arc<Mutex<Beside>>) {
    let beside = Arc::clone(beside);
    let count = AtomicU64::new(0);
    fs.inject(
        Fault::intrude(move |_, _| {
            if IS_LOOKING.get() || !count.fetch_add(1, Ordering::Relaxed).is_multiple_of(step) {
                return;
            }
            let beside = Arc::clone(&beside);
            // On a thread of its own, as any other process: both may wait for the disk.
            let look = move || {
                IS_LOOKING.set(true);
                beside.lock().unwrap().look();
            };
            std::thread::spawn(look).join().unwrap();
        })
        .for_ever(),
    );
}

/// Small and large groups, rotations with and without a segment that was made beforehand, a close, and
/// a process that is killed.
fn play(fs: &SimFs, options: &LogOptions, checkpoints: bool) -> Result<(), ErrorKind> {
    let append = |log: &Log<SimFs>, numbers: &[u64]| {
        let batches: Vec<_> = numbers.iter().map(|number| batch(*number, 3)).collect();
        log.append("a", &batches.iter().collect::<Vec<_>>(), false)
    };
    let mut log = open(fs, options)?;
    append(&log, &[1])?;
    append(&log, &[2, 3])?;
    log.append("b", &[&batch(4, 3)], false)?;
    append(&log, &[5, 6, 7, 8])?;
    log.rotate("a")?;
    append(&log, &[9])?;
    if checkpoints {
        log.checkpoint("a", 6)?;
    }
    if let Some(preparation) = log.next_segment("a") {
        preparation.run();
    }
    append(&log, &[10, 11, 12, 13])?;
    append(&log, &[14])?;
    log.rotate("a")?;
    if checkpoints {
        log.checkpoint("a", 30)?;
    }
    append(&log, &[15])?;
    log.close()?;
    log = open(fs, options)?;
    append(&log, &[16, 17])?;
    drop(log);
    log = open(fs, options)?;
    append(&log, &[18])?;
    log.rotate("a")?;
    append(&log, &[19, 20, 21, 22])?;
    append(&log, &[23])?;
    drop(log);
    Ok(())
}

fn log_of(fs: &SimFs, options: &LogOptions) -> Result<Vec<WalEntry>, ErrorKind> {
    drain(&mut open(fs, options)?.replay("a", 0)?)
}

#[test]
fn who_follows_beside_a_writer_sees_everything_once_and_in_order() {
    for sync in [SyncMode::PerBatch, SyncMode::Never] {
        let options = options(sync, RecoveryMode::TolerateTail);
        for checkpoints in [false, true] {
            let fs = SimFs::new();
            drop(open(&fs, &options).unwrap());
            let beside = Arc::new(Mutex::new(Beside::new(&fs, Some(1))));
            at_operations(&fs, 1, &beside);
            play(&fs, &options, checkpoints).unwrap();
            fs.repair();
            let mut beside = beside.lock().unwrap();
            beside.look();
            assert!(beside.error.is_none(), "{:?}", beside.error);
            let all: Vec<u64> = (1..=69).filter(|number| !(10..=12).contains(number)).collect();
            assert_eq!(beside.numbers(), all, "{sync:?} {checkpoints}");
        }
    }
}

#[test]
fn who_follows_sees_nothing_that_a_full_disk_or_a_failure_takes_back() {
    type Make = fn() -> Fault;
    let faults: [(&str, Make); 4] = [
        ("fails", || Fault::fail(Code::EIO)),
        ("finds the disk full", || Fault::fail(Code::ENOSPC)),
        ("finds the disk full for ever", || Fault::fail(Code::ENOSPC).for_ever_alike()),
        ("is the last", Fault::power_off),
    ];
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let mut states = 0;
    for (name, fault) in faults {
        for at in (1..).step_by(13) {
            let fs = SimFs::new();
            drop(open(&fs, &options).unwrap());
            let beside = Arc::new(Mutex::new(Beside::new(&fs, Some(1))));
            at_operations(&fs, 1 + at % 5, &beside);
            let before = fs.count();
            fs.inject(fault().at(at));
            let outcome = play(&fs, &options, false);
            let is_over = fs.count() < before + at;
            fs.repair();
            let seen = std::mem::take(&mut beside.lock().unwrap().seen);
            let check = |left: &SimFs, what: String| {
                let there =
                    log_of(left, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(there.starts_with(&seen), "{what}: {seen:?} are not all in {there:?}");
            };
            let what = format!("operation {at} {name}, {outcome:?}\n{}", fs.log_text());
            check(&fs.after_kill(), what.clone());
            for model in Model::ALL {
                for state in fs.crash_states_seeded(*model, 4, at) {
                    states += 1;
                    check(&state.fs.after_kill(), format!("{what}\n{}", state.description));
                }
            }
            if is_over {
                break;
            }
        }
    }
    assert!(states > 100, "{states}");
}

/// The writer has not synced, and need not: who follows has.
#[test]
fn what_was_shown_is_there_after_a_power_cut_though_the_writer_does_not_sync() {
    let options = options(SyncMode::Never, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    let mut states = 0;
    let mut beside = Beside::new(&fs, None);
    for numbers in [&[1][..], &[2, 3], &[4, 5, 6, 7, 8], &[9], &[10, 11, 12, 13, 14]] {
        let batches: Vec<_> = numbers.iter().map(|number| batch(*number, 3)).collect();
        log.append("a", &batches.iter().collect::<Vec<_>>(), false).unwrap();
        beside.look();
        assert_eq!(beside.seen.len() as u64, 3 * numbers.last().unwrap());
        for model in Model::ALL {
            for state in fs.crash_states(*model, 500) {
                states += 1;
                let there = log_of(&state.fs, &options).unwrap();
                assert!(there.starts_with(&beside.seen), "{}", state.description);
            }
        }
    }
    assert!(states > 1, "{states}");
}

/// A group that makes its own space is undone when there is none: some of its batches had been written
/// as a whole by then.
#[test]
fn a_group_that_does_not_fit_on_the_disk_is_never_shown_in_part() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let mut refused = 0;
    for free in (0..8000).step_by(131) {
        let fs = SimFs::new();
        let log = open(&fs, &options).unwrap();
        log.append("a", &[&batch(1, 3)], false).unwrap();
        let beside = Arc::new(Mutex::new(Beside::new(&fs, None)));
        at_operations(&fs, 1, &beside);
        fs.set_free_space(Some(free));
        let group: Vec<_> = (2..=9).map(|number| batch(number, 3)).collect();
        let outcome = log.append("a", &group.iter().collect::<Vec<_>>(), false);
        refused += usize::from(outcome.is_err());
        fs.set_free_space(None);
        fs.repair();
        let mut beside = beside.lock().unwrap();
        beside.look();
        let there = drain(&mut log.replay("a", 0).unwrap()).unwrap();
        assert_eq!(beside.seen, there, "{free}: {outcome:?}");
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn who_falls_behind_a_checkpoint_is_told_where_the_log_starts() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    let mut early = Beside::new(&fs, None);
    for number in 1..=4 {
        log.append("a", &[&batch(number, 3)], false).unwrap();
    }
    let mut behind = Beside::new(&fs, None);
    early.look();
    log.rotate("a").unwrap();
    log.append("a", &[&batch(5, 3)], false).unwrap();
    log.rotate("a").unwrap();
    log.checkpoint("a", 15).unwrap();
    log.append("a", &[&batch(6, 3)], false).unwrap();
    for one in [&mut early, &mut behind] {
        one.look();
        let Some(ErrorKind::Wal(WalError::Released { first: 16, .. })) = &one.error else {
            panic!("{:?} after {:?}", one.error, one.numbers());
        };
    }
    assert_eq!(early.numbers(), (1..=12).collect::<Vec<u64>>());
    // One that begins now, and one whose entries are still there.
    let mut late = Beside::new(&fs, None);
    late.look();
    assert_eq!(late.numbers(), [16, 17, 18]);
}

#[test]
fn a_collection_may_come_later_and_its_folder_be_made_anew_while_it_is_empty() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    let mut early = Beside::new(&fs, None);
    early.look();
    fs.put_dir(format!("{LOG}/a")).unwrap();
    early.look();
    log.append("a", &[&batch(1, 3)], false).unwrap();
    early.look();
    assert_eq!(early.numbers(), [1, 2, 3]);
    for name in fs.list(format!("{LOG}/a")).unwrap() {
        fs.take_away(Path::new(LOG).join("a").join(name)).unwrap();
    }
    fs.take_away(format!("{LOG}/a")).unwrap();
    early.look();
    let Some(ErrorKind::System(failure)) = &early.error else { panic!("{:?}", early.error) };
    assert_eq!(failure.code(), Some(Code::ENOENT));
}

/// Damage in the middle is told, though nothing is appended any more.
#[test]
fn damage_is_told_and_not_waited_for() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    for number in 1..=6 {
        log.append("a", &[&batch(number, 3)], false).unwrap();
    }
    let path = format!("{LOG}/a/wal_current.avro");
    let mut bytes = fs.read_file(&path).unwrap().to_vec();
    let hit = bytes.windows(4).position(|text| text == b"4.1:").unwrap();
    bytes[hit] ^= 1;
    fs.put_file(&path, &bytes).unwrap();
    let mut beside = Beside::new(&fs, None);
    beside.look();
    assert_eq!(beside.numbers(), (1..=9).collect::<Vec<u64>>());
    assert!(
        matches!(&beside.error, Some(ErrorKind::Wal(WalError::Damaged(_)))),
        "{:?}",
        beside.error
    );
}

#[test]
fn who_follows_in_the_process_that_writes_is_told_of_each_append_and_of_the_end() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    let signal = Arc::new(Signal::default());
    let mut follow = log.follow("a", None, &signal).unwrap();
    let mut seen = Vec::new();
    let mut look = |log: &Log<SimFs>| {
        let mut packed = Vec::new();
        follow.advance(Some(log.progress("a").0), &mut packed, 100_000).unwrap();
        seen.extend(unpack(&packed).into_iter().map(|entry| entry.sequence));
        seen.len()
    };
    assert_eq!(look(&log), 0);
    let mut count = signal.count();
    for number in 1..=20 {
        log.append("a", &[&batch(number, 3)], false).unwrap();
        assert_eq!(signal.count(), count + 1);
        count += 1;
        log.append("b", &[&batch(number, 1)], false).unwrap();
        assert_eq!(signal.count(), count, "another collection is none of its business");
        if number % 3 > 0 {
            assert_eq!(look(&log), 3 * number as usize);
        }
        if number % 4 == 0 {
            log.rotate("a").unwrap();
        }
    }
    log.close().unwrap();
    assert!(signal.count() > count);
    assert!(log.progress("a").1);
    assert_eq!(look(&log), 60);
    assert!(log.follow("a", None, &signal).is_err());
}
