//! Logs on a disk that is unplugged at every moment and on which every operation fails: what
//! was acknowledged is there, in order, without gaps, whole batch by whole batch, once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::time::Duration;

use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::wal::{Batch, DamageKind, Log, LogOptions, RecoveryMode, SyncMode, WalError};
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

use wal_common::{LOG, batch, entries, open, options, payload, seen_from_outside};

/// How many entries the batches have.
const ENTRIES: u64 = 3;

/// More than any moment of the walks has crash states: all of them are looked at.
const MOST: usize = 5000;

/// One step of a play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Batches that are appended as one group, by their numbers.
    Append(&'static str, &'static [u64]),
    /// The same with a sync, whatever the mode.
    AppendDurably(&'static str, &'static [u64]),
    Sync,
    /// Everything up to the last entry of this batch is released.
    Release(&'static str, u64),
    Rotate(&'static str),
    /// The next segment is made beforehand.
    Prepare(&'static str),
    /// The same, but appends come while it is being made,
    Begin(&'static str),
    /// and the one before is sealed when it is there, if it waits for that.
    Finish(&'static str),
    Close,
    /// The process is killed and the log opened by another.
    Reopen,
}

use Step::{Append, AppendDurably, Begin, Close, Finish, Prepare, Release, Reopen, Rotate, Sync};

/// Every step that there is: beginning, more space, sealing, release, recycling, closing,
/// opening after a close and after a kill.
const PLAY: &[Step] = &[
    Append("a", &[1]),
    Append("a", &[2, 3]),
    Append("a", &[4, 5, 6]),
    // A large group, which makes its own space.
    Append("b", &[21, 22, 23, 24]),
    Rotate("a"),
    Append("a", &[7]),
    Append("b", &[8]),
    Release("a", 5),
    Release("a", 6),
    Append("a", &[9]),
    Rotate("a"),
    Append("a", &[10, 11]),
    Close,
    Reopen,
    Append("a", &[12]),
    Reopen,
    Append("a", &[13, 14]),
    Sync,
    AppendDurably("b", &[15]),
    Append("b", &[25, 26]),
    Prepare("b"),
    Append("b", &[27]),
    Rotate("b"),
    Append("b", &[28]),
    Append("a", &[16]),
    Close,
];

/// Segments that grow beyond their size while the next one is made. One has been released as a
/// whole when it is sealed, one in part, one not at all.
const LATE: &[Step] = &[
    Append("a", &[1, 2, 3, 4]),
    Append("a", &[5, 6, 7, 8]),
    Begin("a"),
    Append("a", &[9, 10, 11, 12]),
    Append("a", &[13, 14, 15]),
    Release("a", 15),
    Finish("a"),
    Append("a", &[16, 17, 18, 19]),
    Append("a", &[20, 21, 22, 23]),
    Begin("a"),
    Append("a", &[24, 25, 26, 27]),
    Append("a", &[28, 29, 30]),
    Release("a", 20),
    Finish("a"),
    Append("a", &[31]),
    Reopen,
    Append("a", &[32, 33, 34, 35]),
    Append("a", &[36, 37, 38]),
    Begin("a"),
    Append("a", &[39, 40, 41, 42]),
    Append("a", &[43, 44, 45]),
    Finish("a"),
    Append("a", &[46]),
];

/// What is known of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    number: u64,
    collection: &'static str,
    /// It has been acknowledged,
    acknowledged: bool,
    /// and with the promise that it survives a power cut.
    durable: bool,
    /// It was refused, and nothing has happened.
    refused: bool,
    released: bool,
}

/// What a play has done.
struct Played {
    known: Vec<Known>,
    /// Whether it got to its end.
    is_over: bool,
    /// The log, if it is still open.
    log: Option<Log<SimFs>>,
    /// The first error.
    error: Option<ErrorKind>,
}

/// Plays the steps until one fails.
fn play(fs: &SimFs, options: &LogOptions, steps: &[Step]) -> Played {
    let mut played = Played { known: Vec::new(), is_over: false, log: None, error: None };
    match go(fs, options, steps, &mut played) {
        Ok(()) => played.is_over = true,
        Err(error) => played.error = Some(error),
    }
    played
}

fn go(
    fs: &SimFs,
    options: &LogOptions,
    steps: &[Step],
    played: &mut Played,
) -> Result<(), ErrorKind> {
    played.log = Some(open(fs, options)?);
    let mut begun = None;
    for step in steps {
        let log = played.log.as_ref().unwrap();
        let known = &mut played.known;
        match *step {
            Append(collection, numbers) | AppendDurably(collection, numbers) => {
                let durably = matches!(step, AppendDurably(..));
                let from = known.len();
                known.extend(numbers.iter().map(|number| Known {
                    number: *number,
                    collection,
                    acknowledged: false,
                    durable: false,
                    refused: false,
                    released: false,
                }));
                let batches: Vec<Batch> =
                    numbers.iter().map(|number| batch(*number, ENTRIES)).collect();
                let batches: Vec<&Batch> = batches.iter().collect();
                // As the queue does it.
                let together = if options.sync == SyncMode::Always { 1 } else { batches.len() };
                for (group, known) in
                    batches.chunks(together).zip(known[from..].chunks_mut(together))
                {
                    let outcome = log.append(collection, group, durably);
                    for it in known {
                        it.acknowledged = outcome.is_ok();
                        it.durable = outcome.is_ok() && (durably || options.sync.is_durable());
                        it.refused = outcome.is_err() && log.stats().poisoned.is_none();
                    }
                    outcome?;
                }
            }
            Sync => {
                log.sync(None)?;
                settle(known, None);
            }
            Release(collection, number) => {
                let all = seen_from_outside(fs, collection, options.recovery)?;
                let last = format!("{number}/{}", ENTRIES - 1);
                let last = all.iter().find(|entry| entry.id == last).unwrap().sequence;
                let is_released = |it: &Known| it.collection == collection && it.number <= number;
                let outcome = log.checkpoint(collection, last);
                // If it fails, the note may be there or not.
                for it in known.iter_mut().filter(|it| is_released(it)) {
                    it.released = true;
                }
                outcome?;
                settle(known, Some(collection));
            }
            Rotate(collection) => {
                log.rotate(collection)?;
                settle(known, Some(collection));
            }
            Prepare(collection) => {
                // An error is not one before the segment is needed.
                if let Some(next) = log.next_segment(collection) {
                    next.run();
                }
            }
            Begin(collection) => begun = log.next_segment(collection),
            Finish(collection) => {
                if let Some(next) = begun.take() {
                    next.run();
                }
                log.rotate_if_overdue(collection)?;
            }
            Close => {
                log.close()?;
                settle(known, None);
            }
            Reopen => {
                played.log = None;
                played.log = Some(open(fs, options)?);
                // What opening shows it has made durable.
                settle(known, None);
            }
        }
    }
    Ok(())
}

/// Everything that was acknowledged has been synced.
fn settle(known: &mut [Known], collection: Option<&str>) {
    for it in known {
        if it.acknowledged && collection.is_none_or(|name| it.collection == name) {
            it.durable = true;
        }
    }
}

/// Which batches a collection shows, or a complaint: they must be whole.
fn batches_of(all: &[holdfast::wal::WalEntry]) -> Result<Vec<u64>, String> {
    let mut numbers = Vec::new();
    let mut before = 0;
    for (place, entry) in all.iter().enumerate() {
        let (number, index) = entry.id.split_once('/').unwrap();
        let (number, index): (u64, u64) = (number.parse().unwrap(), index.parse().unwrap());
        if index != place as u64 % ENTRIES {
            return Err(format!("a part of a batch: {all:?}"));
        }
        if index == 0 {
            numbers.push(number);
        } else if numbers.last() != Some(&number) || entry.sequence != before + 1 {
            return Err(format!("entries of a batch are torn apart: {all:?}"));
        }
        if entry.sequence <= before {
            return Err(format!("sequence numbers do not grow: {all:?}"));
        }
        if entry.payload != payload(number, index).as_bytes() {
            return Err(format!("the payload of {} is another", entry.id));
        }
        before = entry.sequence;
    }
    if !(all.len() as u64).is_multiple_of(ENTRIES) {
        return Err("a part of a batch".to_owned());
    }
    Ok(numbers)
}

/// Checks what a collection shows: everything that has to be there, nothing that must not, in
/// order, without gaps.
fn check(
    known: &[Known],
    collection: &str,
    shown: &[u64],
    after_power_cut: bool,
) -> Result<(), String> {
    let known: Vec<&Known> = known.iter().filter(|it| it.collection == collection).collect();
    let complain = |what: &str| Err(format!("{what}: {collection} shows {shown:?}, of {known:?}"));
    let mut expected = known.iter().filter(|it| !it.refused);
    // What was released may be shown again if the note of it is not there: all of it or, where
    // there were several notes, from one of them on.
    if let Some(first) = shown.first() {
        for it in expected.by_ref() {
            if it.number == *first {
                break;
            }
            if !it.released {
                return complain("not released, but missing at the start");
            }
        }
        for number in &shown[1..] {
            match expected.next() {
                Some(it) if it.number == *number => {}
                _ => return complain("a gap, or a stranger"),
            }
        }
    }
    for it in expected {
        let has_to_be_there = if after_power_cut { it.durable } else { it.acknowledged };
        if has_to_be_there && !(it.released && shown.is_empty()) {
            return complain("acknowledged, but missing at the end");
        }
    }
    Ok(())
}

/// Opens what a power cut has left. Nothing but a torn tail is reported, or refused by
/// [`RecoveryMode::Strict`]; that has changed nothing then, and another mode goes on.
fn open_left(fs: &SimFs, options: &LogOptions) -> Result<Log<SimFs>, ErrorKind> {
    let log = match open(fs, options) {
        Err(ErrorKind::Wal(WalError::Damaged(damage)))
            if options.recovery == RecoveryMode::Strict && damage.kind == DamageKind::TornTail =>
        {
            open(fs, &LogOptions { recovery: RecoveryMode::TolerateTail, ..*options })?
        }
        outcome => outcome?,
    };
    let other = log.damage().iter().find(|damage| damage.kind != DamageKind::TornTail);
    match other {
        Some(damage) => Err(WalError::Damaged(Box::new(damage.clone())).into()),
        None => Ok(log),
    }
}

/// Opens what is left and checks it; then appends to it, and opens it again, which must be
/// without a complaint.
fn check_left(
    fs: &SimFs,
    options: &LogOptions,
    known: &[Known],
    after_power_cut: bool,
) -> Result<(), String> {
    let text = |error: ErrorKind| format!("does not open: {error}");
    let log = open_left(fs, options).map_err(text)?;
    let mut first = Vec::new();
    for collection in ["a", "b"] {
        let all = entries(&log, collection).map_err(text)?;
        check(known, collection, &batches_of(&all)?, after_power_cut)?;
        first.push(all);
    }
    // On top of what is there: another size each time would hide what lies behind.
    log.append("a", &[&batch(99, ENTRIES)], true).map_err(text)?;
    drop(log);
    let log = open(fs, options).map_err(text)?;
    let damage = log.damage();
    if !damage.is_empty() {
        return Err(format!("damaged after a repair: {damage:?}"));
    }
    for (collection, before) in ["a", "b"].iter().zip(first) {
        let mut all = entries(&log, collection).map_err(text)?;
        if *collection == "a" {
            let added = all.split_off(all.len().saturating_sub(ENTRIES as usize));
            if batches_of(&added)? != [99] {
                return Err("what was appended after the repair is not there".to_owned());
            }
        }
        if all != before {
            return Err(format!("{collection} shows {all:?} after {before:?}"));
        }
    }
    Ok(())
}

/// Every crash state of every moment of a play.
fn cut_at_every_moment(
    options: &LogOptions,
    steps: &[Step],
    prepare: &dyn Fn(&SimFs),
    nested: bool,
) -> (usize, usize, Vec<String>) {
    let (mut moments, mut states, mut firsts) = (0, 0, 0);
    let mut complaints = Vec::new();
    for moment in 1.. {
        let fs = SimFs::new();
        fs.inject(Fault::power_off().at(moment));
        prepare(&fs);
        let played = play(&fs, options, steps);
        let is_over = fs.count() < moment;
        moments += 1;
        if is_over {
            assert!(played.is_over, "an undisturbed play failed: {:?}", played.error);
        }
        drop(played.log);
        for model in Model::ALL {
            let left = fs.crash_states_seeded(*model, MOST, moment);
            assert!(left.complete, "there are more states at {moment}");
            for state in left {
                states += 1;
                firsts += 1;
                let mut complain = |complaint: String| {
                    let how = &state.description;
                    complaints.push(format!(
                        "cut at {moment}: {complaint}\n{model:?}: {how}\n{}",
                        fs.log_text()
                    ));
                };
                let left = state.fs.after_kill();
                if let Err(complaint) = check_left(&left, options, &played.known, true) {
                    complain(complaint);
                }
                // A second cut while the first is being repaired.
                if nested && firsts % 41 == 0 {
                    for second in 1.. {
                        let fs = state.fs.after_kill();
                        fs.inject(Fault::power_off().at(second));
                        let opened = open_left(&fs, options);
                        let is_over = fs.count() < second;
                        drop(opened);
                        for state in fs.crash_states_seeded(*model, 12, second) {
                            states += 1;
                            let checked = check_left(&state.fs, options, &played.known, true);
                            if let Err(complaint) = checked {
                                complain(format!(
                                    "and again at {second}: {complaint}\n{}\n{}",
                                    state.description,
                                    fs.log_text()
                                ));
                            }
                        }
                        if is_over {
                            break;
                        }
                    }
                }
            }
        }
        if is_over {
            break;
        }
    }
    (moments, states, complaints)
}

fn assert_kept(name: &str, (moments, states, complaints): (usize, usize, Vec<String>)) {
    println!("{name}: {moments} moments, {states} states");
    if let Some(first) = complaints.first() {
        panic!(
            "{name}: {} violations in {states} states, the first one:\n{first}",
            complaints.len()
        );
    }
}

const MODES: [SyncMode; 4] = [
    SyncMode::Always,
    SyncMode::PerBatch,
    SyncMode::Periodic(Duration::from_millis(100)),
    SyncMode::Never,
];

#[test]
fn a_power_cut_at_any_moment_takes_nothing_that_was_acknowledged() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    assert_kept("perBatch", cut_at_every_moment(&options, PLAY, &|_| {}, true));
}

#[test]
fn without_a_sync_of_each_a_power_cut_takes_only_from_the_end() {
    for sync in [MODES[2], MODES[3]] {
        let options = options(sync, RecoveryMode::TolerateTail);
        assert_kept(&format!("{sync:?}"), cut_at_every_moment(&options, PLAY, &|_| {}, false));
    }
}

#[test]
fn each_recovery_mode_keeps_what_was_acknowledged_and_refuses_nothing_but_a_torn_tail() {
    for (sync, recovery) in [
        (SyncMode::Always, RecoveryMode::TolerateTail),
        (SyncMode::Always, RecoveryMode::Strict),
        (SyncMode::PerBatch, RecoveryMode::Strict),
        (SyncMode::PerBatch, RecoveryMode::SkipCorrupt),
        (SyncMode::Never, RecoveryMode::Strict),
        (SyncMode::Never, RecoveryMode::SkipCorrupt),
    ] {
        let options = options(sync, recovery);
        let name = format!("{sync:?}, {recovery:?}");
        assert_kept(&name, cut_at_every_moment(&options, PLAY, &|_| {}, false));
    }
}

/// A kill alone leaves nothing torn, whatever it comes between: an end mark and the cut behind it,
/// space and the head that spans it, a segment and its name.
#[test]
fn a_process_that_is_killed_at_any_moment_leaves_a_log_without_damage() {
    for sync in MODES {
        let options = options(sync, RecoveryMode::Strict);
        for moment in 1.. {
            let fs = SimFs::new();
            fs.inject(Fault::power_off().at(moment));
            let played = play(&fs, &options, PLAY);
            let is_over = fs.count() < moment;
            drop(played.log);
            let left = fs.after_kill();
            let seen = || -> Result<(), String> {
                let log = open(&left, &options).map_err(|error| error.to_string())?;
                assert_eq!(log.damage(), []);
                for collection in ["a", "b"] {
                    let all = entries(&log, collection).map_err(|error| error.to_string())?;
                    check(&played.known, collection, &batches_of(&all)?, false)?;
                }
                Ok(())
            };
            if let Err(complaint) = seen() {
                panic!("{sync:?}, killed at {moment}: {complaint}\n{}", fs.log_text());
            }
            if is_over {
                break;
            }
        }
    }
}

/// Every Nth operation fails, once, for ever, or for ever alike, before or after it took effect.
fn fail_everywhere(
    options: &LogOptions,
    steps: &[Step],
    stride: u64,
) -> (usize, usize, Vec<String>) {
    let (mut runs, mut states) = (0, 0);
    let mut complaints = Vec::new();
    type Make = fn() -> Fault;
    let faults: [(&str, Make); 7] = [
        ("fails once", || Fault::fail(Code::EIO)),
        ("fails for ever", || Fault::fail(Code::EIO).for_ever()),
        ("fails for ever alike", || Fault::fail(Code::EIO).for_ever_alike()),
        ("takes effect and fails", || Fault::fail_after(Code::EIO)),
        ("finds the disk full", || Fault::fail(Code::ENOSPC)),
        ("finds the disk full for ever", || Fault::fail(Code::ENOSPC).for_ever_alike()),
        ("is interrupted", || Fault::fail(Code::EINTR)),
    ];
    for (name, fault) in faults {
        for at in (1..).step_by(stride as usize) {
            let fs = SimFs::new();
            // A directory above whose sync fails for ever reports to no caller that it never gets there.
            fs.put_dir(LOG).unwrap();
            fs.inject(fault().at(at));
            let mut played = play(&fs, options, steps);
            runs += 1;
            let is_over = fs.count() < at;
            let mut complain = |complaint: String| {
                complaints.push(format!(
                    "operation {at} {name}: {complaint}\n{:?}\n{}",
                    played.error,
                    fs.log_text()
                ));
            };
            // A log that says that it can go on can go on.
            if let (Some(log), false) = (&played.log, played.is_over)
                && log.stats().poisoned.is_none()
                && log.append("a", &[&batch(77, ENTRIES)], true).is_ok()
            {
                let (acknowledged, durable, refused, released) = (true, true, false, false);
                let (number, collection) = (77, "a");
                let known = Known { number, collection, acknowledged, durable, refused, released };
                played.known.push(known);
            }
            played.log = None;
            if fs.open_handles() != (0, 0) {
                complain(format!("open handles: {:?}", fs.open_handles()));
            }
            // The next process sees what this one has acknowledged, and what it sees it keeps.
            let next = fs.after_kill();
            if let Err(complaint) = kept_once_seen(&next, options, &played.known) {
                complain(format!("in memory: {complaint}\nthen: {}", next.log_text()));
            }
            for model in Model::ALL {
                for state in fs.crash_states_seeded(*model, 8, at) {
                    states += 1;
                    let left = state.fs.after_kill();
                    if let Err(complaint) = check_left(&left, options, &played.known, true) {
                        complain(format!("{complaint}\n{model:?}: {}", state.description));
                    }
                }
            }
            if is_over {
                break;
            }
        }
    }
    (runs, states, complaints)
}

/// What a process sees of a log when it has opened it is there after a power cut, whatever has
/// failed before.
fn kept_once_seen(fs: &SimFs, options: &LogOptions, known: &[Known]) -> Result<(), String> {
    let text = |error: ErrorKind| format!("does not open: {error}");
    let log = open(fs, options).map_err(text)?;
    let mut seen = Vec::new();
    for collection in ["a", "b"] {
        let all = entries(&log, collection).map_err(text)?;
        check(known, collection, &batches_of(&all)?, false)?;
        seen.push(all);
    }
    for (collection, number) in [("a", 99), ("b", 98)] {
        log.append(collection, &[&batch(number, ENTRIES)], true).map_err(text)?;
    }
    let mut after = Vec::new();
    for (collection, before) in ["a", "b"].iter().zip(&seen) {
        let all = entries(&log, collection).map_err(text)?;
        if !all.starts_with(before) || all.len() != before.len() + ENTRIES as usize {
            return Err(format!("{collection} shows {all:?} after {before:?}"));
        }
        after.push(all);
    }
    drop(log);
    let seen = after;
    for model in Model::ALL {
        for state in fs.crash_states(*model, 8) {
            let log = open(&state.fs, options).map_err(text)?;
            for (collection, before) in ["a", "b"].iter().zip(&seen) {
                let all = entries(&log, collection).map_err(text)?;
                // The note of a checkpoint that was reported to have failed may be lost, and
                // what it released is there again.
                let added = all.len().saturating_sub(before.len());
                let is_released = |entry: &holdfast::wal::WalEntry| {
                    let number: u64 = entry.id.split_once('/').unwrap().0.parse().unwrap();
                    known.iter().any(|it| it.number == number && it.released)
                };
                if !all.ends_with(before) || !all[..added].iter().all(is_released) {
                    return Err(format!(
                        "seen, and not kept: {collection} has {} of {} entries\n{model:?}: {}",
                        all.len(),
                        before.len(),
                        state.description
                    ));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_failure_of_any_operation_loses_nothing_that_was_acknowledged() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    assert_kept("faults", fail_everywhere(&options, PLAY, 1));
}

/// The files of a collection are closed whenever another one is used.
#[test]
fn collections_whose_files_are_closed_meanwhile_keep_what_was_acknowledged() {
    for sync in [SyncMode::PerBatch, SyncMode::Never] {
        let options = LogOptions { most_open: 1, ..options(sync, RecoveryMode::TolerateTail) };
        assert_kept(
            &format!("closed, {sync:?}"),
            cut_at_every_moment(&options, PLAY, &|_| {}, false),
        );
    }
    let options = LogOptions { most_open: 1, ..options(MODES[1], RecoveryMode::TolerateTail) };
    assert_kept("closed, faults", fail_everywhere(&options, PLAY, 1));
}

/// What the tests above would find if the log did not do what it has to.
#[test]
fn a_log_that_leaves_a_sync_out_is_found_out() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    for kind in [OperationKind::SyncData, OperationKind::SyncFile, OperationKind::SyncDir] {
        let forget = move |fs: &SimFs| fs.inject(Fault::ignore().of(kind).for_ever());
        let (_, _, complaints) = cut_at_every_moment(&options, &PLAY[..5], &forget, false);
        assert!(!complaints.is_empty(), "{} is not missed", kind.name());
    }
}

#[test]
fn a_log_that_acknowledges_before_the_sync_is_found_out() {
    let options = options(SyncMode::Never, RecoveryMode::TolerateTail);
    let (fs, mut found) = (SimFs::new(), false);
    let mut played = play(&fs, &options, &PLAY[..3]);
    played.known.iter_mut().for_each(|it| it.durable = true);
    for state in fs.crash_states(Model::StrictPosix, 1000) {
        found |= check_left(&state.fs, &options, &played.known, true).is_err();
    }
    assert!(found);
}

#[test]
fn a_log_whose_dir_cannot_be_synced_is_not_opened_and_can_be_later() {
    let options = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let fs = SimFs::new();
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncDir));
    assert_eq!(open(&fs, &options).err().unwrap().code(), "EIO");
    let log = open(&fs, &options).unwrap();
    log.append("a", &[&batch(1, 1)], true).unwrap();
    drop(log);
    for state in fs.crash_states(Model::StrictPosix, 1000) {
        assert_eq!(entries(&open(&state.fs, &options).unwrap(), "a").unwrap().len(), 1);
    }
}

/// How many segments a collection has, and whether there is a spare.
fn segments_of(fs: &SimFs, log: &Log<SimFs>) -> (u64, bool) {
    let spare = fs.read_file("/log/a/wal_spare.avro").is_ok();
    (log.stats().collections[0].segments, spare)
}

#[test]
fn a_segment_that_waits_for_the_next_one_is_sealed_as_soon_as_that_is_there() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let ends: Vec<usize> = (0..LATE.len()).filter(|at| matches!(LATE[*at], Finish(_))).collect();
    // The first is released as a whole, and its space serves again at once; the second goes on
    // in that space, and there is none for the third.
    let expected = [((1, false), (1, true)), ((1, true), (2, false)), ((2, false), (3, false))];
    for (end, (before, after)) in ends.into_iter().zip(expected) {
        for (end, expected) in [(end, before), (end + 1, after)] {
            let fs = SimFs::new();
            let log = play(&fs, &options, &LATE[..end]).log.unwrap();
            assert_eq!(segments_of(&fs, &log), expected, "{end}");
        }
    }
    for sync in [SyncMode::PerBatch, SyncMode::Never] {
        let options = LogOptions { sync, ..options };
        assert_kept("late", cut_at_every_moment(&options, LATE, &|_| {}, true));
    }
    assert_kept("late, faults", fail_everywhere(&options, LATE, 1));
}

/// A sync of a directory fails, and some time later the power.
#[test]
fn what_is_acknowledged_after_a_dir_sync_has_failed_outlives_a_power_cut() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let (mut moments, mut states, mut complaints) = (0, 0, Vec::new());
    for number in 1.. {
        let mut fired = false;
        for moment in 1.. {
            let fs = SimFs::new();
            fs.put_dir(LOG).unwrap();
            fs.inject(Fault::power_off().at(moment));
            fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncDir).at(number));
            let played = play(&fs, &options, LATE);
            let is_over = fs.count() < moment;
            fired |= fs.log_text().contains("made to fail");
            drop(played.log);
            moments += 1;
            for model in Model::ALL {
                for state in fs.crash_states_seeded(*model, 6, moment) {
                    states += 1;
                    let left = state.fs.after_kill();
                    if let Err(complaint) = check_left(&left, &options, &played.known, true) {
                        complaints.push(format!(
                            "sync {number}, cut at {moment}: {complaint}\n{model:?}: {}\n{}",
                            state.description,
                            fs.log_text()
                        ));
                    }
                }
            }
            if is_over {
                break;
            }
        }
        if !fired {
            break;
        }
    }
    assert_kept("folder syncs that fail", (moments, states, complaints));
}
