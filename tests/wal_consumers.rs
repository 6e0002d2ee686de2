//! Consumers on a disk that is unplugged at every moment and on which every operation fails: what one
//! of them has not acknowledged stays, and what it has acknowledged does not come again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use holdfast::error::{Code, DamageKind, ErrorKind};
use holdfast::wal::{Consumer, Log, LogOptions, RecoveryMode, SyncMode, WalError};
use holdfast_sim::{Fault, Model, SimFs};

use wal_common::{LOG, batch, drain, open, options};

fn consumer(fs: &SimFs, name: &str, from: Option<u64>) -> Result<Consumer<SimFs>, ErrorKind> {
    Consumer::open(fs, Path::new(LOG), "a", name, from)
}

/// What the consumers have been told.
#[derive(Debug, Default)]
struct Told {
    /// `one` is there, and has acknowledged this; a call that failed may have got so far.
    one: Option<(u64, u64)>,
    /// `two` is there, and has not been removed.
    two: bool,
    /// The last number that was appended and acknowledged.
    last: u64,
    /// The numbers up to which checkpoints have been asked for.
    wanted: u64,
}

/// Two consumers come, acknowledge, and one goes, beside appends and checkpoints.
fn play(fs: &SimFs, options: &LogOptions, told: &mut Told) -> Result<(), ErrorKind> {
    let log = open(fs, options)?;
    let append = |told: &mut Told, number: u64| {
        log.append("a", &[&batch(number, 3)], false)?;
        told.last += 3;
        Ok::<_, ErrorKind>(())
    };
    let checkpoint = |told: &mut Told, up_to: u64| {
        told.wanted = up_to;
        log.release("a", up_to)
    };
    let one = consumer(fs, "one", None)?;
    told.one = Some((0, 0));
    let acknowledge = |told: &mut Told, up_to: u64| {
        let before = told.one.unwrap().0;
        told.one = Some((before, up_to));
        one.acknowledge(up_to)?;
        told.one = Some((up_to, up_to));
        Ok::<_, ErrorKind>(())
    };
    append(told, 1)?;
    append(told, 2)?;
    assert_eq!(checkpoint(told, 6)?, 0);
    acknowledge(told, 3)?;
    assert_eq!(checkpoint(told, 6)?, 3);
    let two = consumer(fs, "two", None)?;
    assert_eq!(two.position(), 3);
    told.two = true;
    log.rotate("a")?;
    append(told, 3)?;
    acknowledge(told, 9)?;
    assert_eq!(checkpoint(told, 9)?, 3);
    told.two = false;
    two.remove()?;
    assert_eq!(checkpoint(told, 8)?, 8);
    append(told, 4)?;
    log.rotate("a")?;
    append(told, 5)?;
    assert_eq!(checkpoint(told, 15)?, 9);
    acknowledge(told, 10)?;
    Ok(())
}

/// What is true of what is left.
fn check(fs: &SimFs, options: &LogOptions, told: &Told) -> Result<(), String> {
    let text = |error: ErrorKind| error.to_string();
    let log = open(fs, options).map_err(text)?;
    let there: Vec<u64> = drain(&mut log.replay("a", 0).map_err(text)?)
        .map_err(text)?
        .iter()
        .map(|it| it.sequence)
        .collect();
    let mut needed = told.wanted + 1;
    if let Some((least, most)) = told.one {
        let position = consumer(fs, "one", None).map_err(text)?.position();
        if position < least || position > most {
            return Err(format!("the position is {position}, not {least} to {most}"));
        }
        needed = needed.min(position + 1);
        let left = fs.list(format!("{LOG}/.consumers")).unwrap();
        if left.iter().any(|name| name.to_string_lossy().starts_with(".a.one.json.")) {
            return Err(format!("there are leftovers: {left:?}"));
        }
    }
    if told.two {
        let position = consumer(fs, "two", None).map_err(text)?.position();
        if position != 3 {
            return Err(format!("the position of the other is {position}"));
        }
        needed = needed.min(4);
    }
    match (needed..=told.last).all(|number| there.contains(&number)) {
        true => Ok(()),
        false => Err(format!("{needed} to {} are needed, and {there:?} are there", told.last)),
    }
}

#[test]
fn a_power_cut_at_any_moment_takes_no_position_and_nothing_that_a_consumer_needs() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let mut states = 0;
    for moment in 1.. {
        let fs = SimFs::new();
        fs.inject(Fault::power_off().at(moment));
        let mut told = Told::default();
        let outcome = play(&fs, &options, &mut told);
        let is_over = fs.count() < moment;
        assert!(is_over == outcome.is_ok(), "{outcome:?}");
        let fail = |complaint: String, what: String| -> ! {
            panic!("cut at {moment}: {complaint}\n{told:?}\n{}\n{what}", fs.log_text())
        };
        if let Err(complaint) = check(&fs.after_kill(), &options, &told) {
            fail(complaint, "after a kill".to_owned());
        }
        for model in Model::ALL {
            for state in fs.crash_states(*model, 400) {
                states += 1;
                if let Err(complaint) = check(&state.fs.after_kill(), &options, &told) {
                    fail(complaint, state.description.to_string());
                }
            }
        }
        if is_over {
            break;
        }
    }
    assert!(states > 500, "{states}");
}

#[test]
fn a_failure_of_any_operation_takes_no_position_and_nothing_that_a_consumer_needs() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    type Make = fn() -> Fault;
    let faults: [(&str, Make); 4] = [
        ("fails", || Fault::fail(Code::EIO)),
        ("takes effect and fails", || Fault::fail_after(Code::EIO)),
        ("finds the disk full for ever", || Fault::fail(Code::ENOSPC).for_ever_alike()),
        ("is interrupted", || Fault::fail(Code::EINTR)),
    ];
    for (name, fault) in faults {
        for at in 1.. {
            let fs = SimFs::new();
            fs.put_dir(LOG).unwrap();
            fs.inject(fault().at(at));
            let mut told = Told::default();
            let outcome = play(&fs, &options, &mut told);
            let is_over = fs.count() < at;
            fs.repair();
            assert_eq!(fs.open_handles(), (0, 0), "operation {at} {name}");
            let what = format!("operation {at} {name}: {outcome:?}\n{told:?}\n{}", fs.log_text());
            if let Err(complaint) = check(&fs.after_kill(), &options, &told) {
                panic!("{complaint}\n{what}");
            }
            for model in Model::ALL {
                for state in fs.crash_states_seeded(*model, 4, at) {
                    if let Err(complaint) = check(&state.fs.after_kill(), &options, &told) {
                        panic!("{complaint}\n{what}\n{}", state.description);
                    }
                }
            }
            if is_over {
                break;
            }
        }
    }
}

/// A consumer comes before each operation of a checkpoint: it holds back all that is not released when
/// it has come.
#[test]
fn a_consumer_that_comes_during_a_checkpoint_misses_nothing() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let mut inside = 0;
    for at in 1.. {
        let fs = SimFs::new();
        let log = open(&fs, &options).unwrap();
        for number in 1..=3 {
            log.append("a", &[&batch(number, 3)], false).unwrap();
            log.rotate("a").unwrap();
        }
        let come = Arc::new(Mutex::new(None));
        let (own, other) = (Arc::clone(&come), fs.clone());
        let before = fs.count();
        fs.inject(
            Fault::intrude(move |_, _| {
                let other = other.clone();
                // It may have to wait for the end of the checkpoint.
                let come = move || consumer(&other, "late", None).map(|it| it.position());
                *own.lock().unwrap() = Some(std::thread::spawn(come));
            })
            .at(at),
        );
        log.release("a", 6).unwrap();
        let operations = fs.count() - before;
        let Some(thread) = come.lock().unwrap().take() else {
            assert!(operations < at);
            break;
        };
        inside += 1;
        let position = thread.join().unwrap().unwrap();
        let there = drain(&mut log.replay("a", 0).unwrap()).unwrap();
        let first = there[0].sequence;
        assert!(
            first <= position + 1,
            "at {at}: it begins behind {position}, and {first} is the first"
        );
        log.release("a", 9).unwrap();
        let there = drain(&mut log.replay("a", 0).unwrap()).unwrap();
        assert_eq!(there.first().map(|it| it.sequence), Some(position + 1), "at {at}");
    }
    assert!(inside > 10, "{inside}");
}

#[test]
fn numbers_that_a_consumer_has_acknowledged_are_not_given_again() {
    let options = options(SyncMode::Never, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    log.append("a", &[&batch(1, 3)], true).unwrap();
    log.append("a", &[&batch(2, 3)], false).unwrap();
    consumer(&fs, "one", None).unwrap().acknowledge(6).unwrap();
    let mut lost = 0;
    for state in fs.crash_states(Model::StrictPosix, 1000) {
        let log = open(&state.fs, &options).unwrap();
        let there = drain(&mut log.replay("a", 0).unwrap()).unwrap().len();
        lost += usize::from(there == 3);
        assert_eq!(log.append("a", &[&batch(3, 1)], false).unwrap(), [7]);
    }
    assert!(lost > 0);
}

#[test]
fn a_new_consumer_begins_where_it_is_told_and_an_old_one_where_it_was() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    assert_eq!(consumer(&fs, "early", Some(0)).unwrap().position(), 0);
    for number in 1..=3 {
        log.append("a", &[&batch(number, 3)], false).unwrap();
    }
    consumer(&fs, "early", None).unwrap().remove().unwrap();
    log.release("a", 4).unwrap();
    assert_eq!(consumer(&fs, "first", None).unwrap().position(), 4);
    assert_eq!(consumer(&fs, "from", Some(7)).unwrap().position(), 6);
    let Err(ErrorKind::Wal(WalError::Released { asked: 4, first: 5 })) =
        consumer(&fs, "gone", Some(4)).map(drop)
    else {
        panic!("4 is released");
    };
    let one = consumer(&fs, "from", Some(1)).unwrap();
    assert_eq!(one.position(), 6, "it is not new");
    one.acknowledge(8).unwrap();
    one.acknowledge(7).unwrap();
    assert_eq!(consumer(&fs, "from", None).unwrap().position(), 8);
    let names: Vec<_> = fs.list(format!("{LOG}/.consumers")).unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    let stats = log.stats();
    assert_eq!(stats.consumers, [], "as of the last look");
    log.look_at_consumers().unwrap();
    let known: Vec<_> =
        log.stats().consumers.iter().map(|it| (it.consumer.clone(), it.position)).collect();
    assert_eq!(known, [("first".to_owned(), 4), ("from".to_owned(), 8)]);
}

#[test]
fn a_position_that_cannot_be_read_holds_everything_back_and_is_told() {
    let options = options(SyncMode::PerBatch, RecoveryMode::TolerateTail);
    let fs = SimFs::new();
    let log = open(&fs, &options).unwrap();
    log.append("a", &[&batch(1, 3)], false).unwrap();
    consumer(&fs, "one", None).unwrap().acknowledge(2).unwrap();
    let path = format!("{LOG}/.consumers/a.one.json");
    let good = fs.read_file(&path).unwrap();
    for place in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[place] ^= 4;
        fs.put_file(&path, &bytes).unwrap();
        for outcome in [log.release("a", 3).map(drop), consumer(&fs, "one", None).map(drop)] {
            let Err(ErrorKind::Wal(WalError::Damaged(damage))) = outcome else {
                panic!("byte {place}: {outcome:?}");
            };
            assert_eq!(damage.kind, DamageKind::Consumer);
            assert_eq!(damage.file, "../.consumers/a.one.json");
        }
    }
    drop(log);
    let log: Log<SimFs> = open(&fs, &options).unwrap();
    assert_eq!(log.damage().len(), 1);
    fs.put_file(&path, &good).unwrap();
    assert_eq!(log.release("a", 3).unwrap(), 2);
}
