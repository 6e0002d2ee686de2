//! Backups of a log on a disk that is unplugged at every moment and on which every operation fails:
//! there is a whole copy, or none, and the log itself does not suffer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::error::{Code, ErrorKind};
use holdfast::wal::{Consumer, Log, LogOptions, RecoveryMode, SyncMode, WalEntry};
use holdfast_sim::{Copying, Fault, Model, SimFs};

use wal_common::{LOG, batch, drain, open, options};

const COPY: &str = "/copy";

/// A log with sealed segments, a checkpoint, a consumer, and what no sync has reached.
fn begin(fs: &SimFs, options: &LogOptions) -> Log<SimFs> {
    let log = open(fs, options).unwrap();
    for number in 1..=4 {
        log.append("a", &[&batch(number, 3)], true).unwrap();
        log.append("b", &[&batch(10 + number, 1)], true).unwrap();
        if number % 2 == 0 {
            log.rotate("a").unwrap();
        }
    }
    log.checkpoint("a", 6).unwrap();
    Consumer::open(fs, Path::new(LOG), "a", "one", None).unwrap().acknowledge(8).unwrap();
    log.append("a", &[&batch(5, 3)], false).unwrap();
    log
}

fn all(log: &Log<SimFs>) -> Result<Vec<Vec<WalEntry>>, ErrorKind> {
    ["a", "b"].iter().map(|name| drain(&mut log.replay(name, 0)?)).collect()
}

/// What the copy has, if there is one.
fn copied(fs: &SimFs) -> Result<Option<Vec<Vec<WalEntry>>>, String> {
    if fs.list(COPY).is_err() {
        return Ok(None);
    }
    let text = |error: ErrorKind| error.to_string();
    let strict = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let log = Log::open(fs.clone(), Path::new(COPY), strict).map_err(text)?;
    assert_eq!(log.damage(), []);
    Ok(Some(all(&log).map_err(text)?))
}

#[test]
fn a_backup_is_the_log_as_it_was_and_goes_on_by_itself() {
    let options = options(SyncMode::Never, RecoveryMode::Strict);
    for copying in [Copying::Sharing, Copying::Bytes, Copying::No] {
        let fs = SimFs::new();
        fs.set_copying(copying);
        let log = begin(&fs, &options);
        log.backup(Path::new(COPY)).unwrap();
        let before = all(&log).unwrap();
        for model in Model::ALL {
            for state in fs.crash_states(*model, 300) {
                assert_eq!(
                    copied(&state.fs).unwrap().as_ref(),
                    Some(&before),
                    "{}",
                    state.description
                );
            }
        }
        let again = log.backup(Path::new(COPY));
        let Err(ErrorKind::System(failure)) = again else { panic!("{again:?}") };
        assert_eq!(failure.code(), Some(Code::EEXIST));
        log.append("a", &[&batch(6, 1)], false).unwrap();
        let copy = Log::open(fs.clone(), Path::new(COPY), options).unwrap();
        let next = log.stats().collections[0].last;
        assert_eq!(copy.append("a", &[&batch(7, 1)], true).unwrap(), [next]);
        log.look_at_consumers().unwrap();
        assert_eq!(copy.stats().consumers, log.stats().consumers);
        assert_eq!(copy.release("a", next).unwrap(), 8, "the consumer holds the copy, too");
        assert_eq!(log.release("a", next).unwrap(), 8, "and the log itself is as it was");
        log.close().unwrap();
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_whole_copy_or_none() {
    let options = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let mut states = 0;
    for moment in 1.. {
        let fs = SimFs::new();
        let log = begin(&fs, &options);
        let before = all(&log).unwrap();
        let count = fs.count();
        fs.inject(Fault::power_off().at(moment));
        let outcome = log.backup(Path::new(COPY));
        let is_over = fs.count() < count + moment;
        assert_eq!(outcome.is_ok(), is_over, "{outcome:?}");
        drop(log);
        let mut check = |left: &SimFs, what: String| {
            states += 1;
            let found =
                copied(left).unwrap_or_else(|error| panic!("cut at {moment}: {error}\n{what}"));
            match found {
                Some(found) => assert_eq!(found, before, "cut at {moment}\n{what}"),
                None => assert!(!is_over, "{what}"),
            }
            let own = all(&open(left, &options).unwrap()).unwrap();
            assert_eq!(own, before, "cut at {moment}: the log itself\n{what}");
        };
        check(&fs.after_kill(), "after a kill".to_owned());
        for model in Model::ALL {
            for state in fs.crash_states_seeded(*model, 12, moment) {
                check(&state.fs.after_kill(), format!("{}\n{}", state.description, fs.log_text()));
            }
        }
        if is_over {
            break;
        }
    }
    assert!(states > 500, "{states}");
}

#[test]
fn a_backup_that_fails_leaves_nothing_and_the_log_goes_on() {
    let options = options(SyncMode::PerBatch, RecoveryMode::Strict);
    for code in [Code::EIO, Code::ENOSPC, Code::EINTR] {
        for at in 1.. {
            let fs = SimFs::new();
            let log = begin(&fs, &options);
            let before = all(&log).unwrap();
            let count = fs.count();
            fs.inject(Fault::fail(code).at(at));
            let outcome = log.backup(Path::new(COPY));
            let is_over = fs.count() < count + at;
            fs.repair();
            match copied(&fs).unwrap() {
                Some(found) => {
                    assert!(outcome.is_ok(), "operation {at}: {outcome:?}\n{}", fs.log_text());
                    assert_eq!(found, before);
                }
                None => assert!(outcome.is_err(), "operation {at}\n{}", fs.log_text()),
            }
            assert_eq!(log.stats().poisoned, None);
            log.append("a", &[&batch(6, 3)], true).unwrap();
            // What was held back meanwhile is released again.
            let one = Consumer::open(&fs, Path::new(LOG), "a", "one", None).unwrap();
            one.remove().unwrap();
            let last = log.stats().collections[0].last;
            assert_eq!(log.release("a", last).unwrap(), last, "operation {at}");
            assert_eq!(log.stats().collections[0].segments, 1, "operation {at}");
            drop((log, one));
            assert_eq!(fs.open_handles(), (0, 0), "operation {at} {}", fs.log_text());
            if is_over {
                break;
            }
        }
    }
}

/// Appends, rotations and checkpoints come before each operation of a backup.
#[test]
fn a_backup_beside_appends_and_checkpoints_is_as_of_one_moment() {
    let options = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let mut inside = 0;
    for at in 1.. {
        let fs = SimFs::new();
        let log = Arc::new(begin(&fs, &options));
        let before = all(&log).unwrap();
        let (other, act) = (Arc::clone(&log), Mutex::new(false));
        let disk = fs.clone();
        fs.inject(
            Fault::intrude(move |_, _| {
                if std::mem::replace(&mut *act.lock().unwrap(), true) {
                    return;
                }
                let (other, disk) = (Arc::clone(&other), disk.clone());
                let act = move || {
                    // First `a`, then `b`: a copy with the second has the first.
                    let last = other.append("a", &[&batch(7, 3)], false).unwrap()[0] + 2;
                    other.append("b", &[&batch(8, 1)], false).unwrap();
                    let one = Consumer::open(&disk, Path::new(LOG), "a", "one", None).unwrap();
                    one.acknowledge(last).unwrap();
                    other.rotate("a").unwrap();
                    other.append("c", &[&batch(9, 1)], false).unwrap();
                    assert_eq!(other.release("a", last).unwrap(), last);
                    other.append("a", &[&batch(10, 3)], false).unwrap();
                    other.rotate("a").unwrap();
                };
                // On a thread of its own, as any other caller: both may wait for the disk, or for the end
                // of this operation.
                let (done, is_done) = channel::<()>();
                std::thread::spawn(move || {
                    act();
                    drop(done);
                });
                let _ = is_done.recv_timeout(Duration::from_millis(100));
            })
            .at(at),
        );
        let count = fs.count();
        log.backup(Path::new(COPY)).unwrap();
        let operations = fs.count() - count;
        let copy = copied(&fs).unwrap().unwrap();
        if at > operations {
            break;
        }
        inside += 1;
        // What was there is there, but for what was released by then.
        let first = copy[0].first().map_or(u64::MAX, |entry| entry.sequence);
        let needed: Vec<_> =
            before[0].iter().filter(|entry| entry.sequence >= first).cloned().collect();
        assert!(copy[0].starts_with(&needed), "at {at}");
        // The new entry of `b` has the number behind those of `a` that came before it.
        let reopened = Log::open(fs.clone(), Path::new(COPY), options).unwrap();
        let last_of_a = reopened.stats().collections[0].last;
        if copy[1].len() > before[1].len() {
            assert!(
                copy[1].last().unwrap().sequence - 1 <= last_of_a,
                "at {at}: as of two moments"
            );
        }
    }
    assert!(inside > 20, "{inside}");
}

#[test]
fn what_a_dead_process_has_left_of_a_backup_is_removed_by_the_next() {
    let options = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let fs = SimFs::new();
    let log = begin(&fs, &options);
    for (name, is_there) in [
        (".holdfast-backup.0123456789abcdef", false),
        (".holdfast-backup.0123456789abcdeg", true),
        (".holdfast-backup.mine", true),
    ] {
        fs.put_file(format!("/{name}/a/wal_current.avro"), b"half").unwrap();
        fs.put_file(format!("/{name}/file"), b"half").unwrap();
        log.backup(Path::new(&format!("/copy of {name}"))).unwrap();
        assert_eq!(fs.list(format!("/{name}")).is_ok(), is_there, "{name}");
    }
    for target in ["/log/inside", "/", "/none/copy"] {
        assert!(log.backup(Path::new(target)).is_err(), "{target}");
    }
    log.close().unwrap();
    assert!(log.backup(Path::new("/late")).is_err());
}
