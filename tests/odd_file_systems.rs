//! File systems that cannot do what others can: every function works without it, as far as nothing
//! of what it promises depends on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use holdfast::backup::{self, BackupRequest, RestoreRequest, Retention, Reuse};
use holdfast::error::Code;
use holdfast::fs::{FoundLimitation, Limitation, found_limitations};
use holdfast::payload::Payload;
use holdfast::recovery::{self, ActionKind, RecoveryRequest};
use holdfast::temp_name::{self, is_temp_name};
use holdfast::transaction::names::is_transaction_name;
use holdfast::transaction::{Change, FileChange, commit};
use holdfast::wal::{Batch, EntryRef, Log, LogOptions, Op};
use holdfast::write::{Control, Durability, Options, WriteRequest, run};
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

const FILE: &str = "/dir/state.json";
const TEMP: &str = "/dir/.state.json.0123456789abcdef.tmp";
const NOW: u64 = 1_700_000_000_000;

fn owned(text: &str) -> Payload {
    Payload::Owned(text.as_bytes().to_vec())
}

fn once() -> Options {
    Options { attempts: 1, ..Options::default() }
}

/// A function, and what failed in it.
type Function = (&'static str, fn(&SimFs) -> Option<Code>);

/// Every function that changes files, each on a disk where `FILE` is there.
const FUNCTIONS: [Function; 8] = [
    ("write", |fs| write(fs, FILE, false)),
    ("makeDirs", |fs| write(fs, "/dir/a/b/c", true)),
    ("backup", |fs| {
        let request = BackupRequest {
            path: FILE.into(),
            time: NOW,
            options: once(),
            reuse: Reuse::default(),
            keep: Some(Retention::newest(1)),
        };
        code(backup::create(fs, &request, &Control::default(), None).map_err(|error| error.kind))
    }),
    ("restore", |fs| {
        fs.put_file("/dir/old", b"{}").unwrap();
        let (backup, target) = ("/dir/old".into(), FILE.into());
        let request = RestoreRequest { backup, target, options: once() };
        code(backup::restore(fs, &request, &Control::default(), None).map_err(|error| error.kind))
    }),
    ("promotion", |fs| {
        fs.put_file(TEMP, b"{}").unwrap();
        fs.take_away(FILE).unwrap();
        recover(fs, ActionKind::Promoted)
    }),
    ("restoration", |fs| {
        fs.put_file(TEMP, b"{}").unwrap();
        fs.put_file(FILE, b"{").unwrap();
        recover(fs, ActionKind::Restored)
    }),
    ("transaction", |fs| {
        let change = |path: &str, change| FileChange { path: path.into(), change, only: None };
        fs.put_file("/dir/gone", b"").unwrap();
        let changes =
            [change(FILE, Change::Write(owned("new"))), change("/dir/gone", Change::Remove)];
        let committed = commit(fs, FILE.as_ref(), &changes, &once(), &Control::default());
        code(committed.map_err(|error| error.error.kind))
    }),
    ("log", |fs| {
        code((|| {
            let log = Log::open(fs.clone(), Path::new("/dir/log"), LogOptions::default())?;
            let mut batch = Batch::default();
            let (id, op, timestamp, is_text) = ("1", Op::Insert, 0, false);
            batch.push(EntryRef { id, op, timestamp, is_text, payload: b"payload" });
            log.append("entries", &[&batch], false).map(drop)
        })())
    }),
];

fn code<T>(outcome: Result<T, holdfast::error::ErrorKind>) -> Option<Code> {
    match outcome {
        Ok(_) => None,
        Err(holdfast::error::ErrorKind::System(failure)) => failure.code(),
        Err(other) => panic!("{other}"),
    }
}

fn write(fs: &SimFs, path: &str, make_dirs: bool) -> Option<Code> {
    let options = Options { make_dirs, ..once() };
    let request = WriteRequest { path: path.into(), payload: owned("new"), options };
    code(run(fs, &request, &Control::default(), None).map_err(|error| error.kind))
}

fn recover(fs: &SimFs, expected: ActionKind) -> Option<Code> {
    let options = recovery::Options::default();
    let request = RecoveryRequest { path: FILE.into(), options, now: SystemTime::now() };
    let try_lock = |_: &Path| Ok(Some(Box::new(()) as Box<dyn std::any::Any>));
    let actions = recovery::recover(fs, &request, &try_lock, &Control::default()).unwrap();
    match actions.into_iter().find(|action| action.kind == ActionKind::Failed) {
        Some(action) => code::<()>(Err(action.error.unwrap().kind)),
        None => {
            assert_eq!(*fs.read_file(FILE).unwrap(), b"{}", "{expected:?}");
            None
        }
    }
}

fn disk() -> SimFs {
    let fs = SimFs::new();
    fs.put_file(FILE, b"old").unwrap();
    fs
}

#[test]
fn where_directories_cannot_be_synced_every_function_works() {
    for (name, function) in FUNCTIONS {
        let fs = disk();
        fs.set_syncs_dirs(false);
        assert_eq!(function(&fs), None, "{name}");
        let asked = fs.log().iter().any(|done| done.kind == OperationKind::SyncDir);
        assert!(asked, "{name}");
    }
    // Once, however often it showed.
    let fs = disk();
    fs.put_dir("/only").unwrap();
    fs.set_syncs_dirs(false);
    for path in ["/only/a", "/only/b"] {
        assert_eq!(write(&fs, path, false), None);
    }
    let is_here = |found: &FoundLimitation| found.dir == Path::new("/only");
    let said: Vec<_> = found_limitations().into_iter().filter(is_here).collect();
    assert_eq!(said.len(), 1);
    assert!(said.iter().all(|found| found.limitation == Limitation::SyncDir));
}

#[test]
fn a_sync_of_a_directory_that_fails_is_an_error_in_every_function() {
    for (name, function) in FUNCTIONS {
        let fs = disk();
        fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncDir).for_ever());
        assert_eq!(function(&fs), Some(Code::EIO), "{name}");
    }
}

/// What is left is whole, although the rename may be lost.
#[test]
fn where_directories_cannot_be_synced_a_power_cut_leaves_the_old_file_or_the_new_one() {
    let steps = {
        let fs = disk();
        fs.set_syncs_dirs(false);
        write(&fs, FILE, false);
        fs.count()
    };
    let mut found = [false; 2];
    for step in 1..=steps + 1 {
        let fs = disk();
        fs.set_syncs_dirs(false);
        fs.inject(Fault::power_off().at(step));
        write(&fs, FILE, false);
        for state in fs.crash_states(Model::StrictPosix, 10_000) {
            match state.fs.read_file(FILE).unwrap().as_slice() {
                b"old" => found[0] = true,
                b"new" => found[1] = true,
                other => panic!("{other:?} after step {step}"),
            }
        }
    }
    assert_eq!(found, [true, true]);
    assert_eq!(once().durability, Durability::Full);
}

// ── Renames that replace nothing, without a call for that ─────────────────────────────────

/// A disk that has neither.
fn disk_without_rename_new() -> SimFs {
    let fs = disk();
    fs.set_can_rename_new(false);
    fs
}

#[test]
fn where_a_rename_cannot_keep_from_replacing_every_function_works_and_leaves_nothing() {
    for (name, function) in FUNCTIONS {
        let fs = disk_without_rename_new();
        assert_eq!(function(&fs), None, "{name}");
        let left: Vec<_> =
            fs.list("/dir").unwrap().into_iter().filter(|name| is_temp_name(name)).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

fn back_up(fs: &SimFs) -> Result<OsString, Option<Code>> {
    let request = BackupRequest {
        path: FILE.into(),
        time: NOW,
        options: once(),
        reuse: Reuse::default(),
        keep: None,
    };
    let made = backup::create(fs, &request, &Control::default(), None);
    made.map_err(|error| code::<()>(Err(error.kind)))
}

#[test]
fn there_no_backup_replaces_anything() {
    let name = |number: u64| format!("state.json.{}.backup", NOW + number);
    let fs = disk_without_rename_new();
    fs.put_file(format!("/dir/{}", name(0)), b"mine").unwrap();
    assert_eq!(back_up(&fs).unwrap().to_str().unwrap(), name(1));
    assert_eq!(*fs.read_file(format!("/dir/{}", name(0))).unwrap(), b"mine");
    // Another program has the name right before it is taken, or replaces the empty file.
    for kind in [OperationKind::CreateNew, OperationKind::Metadata] {
        let fs = disk_without_rename_new();
        let path = format!("/dir/{}", name(0));
        let intruded = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&intruded);
        let put = move |fs: &SimFs, at: &Path| {
            if at.ends_with(name(0)) {
                let _ = fs.take_away(at);
                fs.put_file(at, b"mine").unwrap();
                seen.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        };
        fs.inject(Fault::intrude(put).of(kind).on(&path));
        let made = back_up(&fs).unwrap();
        assert!(intruded.load(std::sync::atomic::Ordering::SeqCst), "{kind:?}");
        assert_eq!(*fs.read_file(&path).unwrap(), b"mine", "{kind:?}");
        assert_eq!(*fs.read_file(Path::new("/dir").join(made)).unwrap(), b"old");
    }
}

/// The states that a kill and a power cut at any moment of `run` may leave.
fn states_of(setup: &dyn Fn() -> SimFs, run: &dyn Fn(&SimFs), check: &dyn Fn(SimFs, u64)) -> usize {
    let fs = setup();
    run(&fs);
    let steps = fs.count();
    let mut states = 0;
    for step in 1..=steps + 1 {
        let fs = setup();
        fs.inject(Fault::power_off().at(step));
        run(&fs);
        check(fs.after_kill(), step);
        states += 1;
        for state in fs.crash_states(Model::StrictPosix, 20_000) {
            check(state.fs, step);
            states += 1;
        }
    }
    states
}

#[test]
fn there_a_backup_that_is_cut_off_is_whole_or_not_there() {
    let check = |fs: SimFs, step: u64| {
        fs.set_can_rename_new(false);
        let whole = |fs: &SimFs| {
            for backup in backup::list(fs, FILE.as_ref()).unwrap() {
                let content = fs.read_file(Path::new("/dir").join(backup.name)).unwrap();
                assert_eq!(*content, b"old", "after step {step}\n{fs:?}");
            }
        };
        whole(&fs);
        let options = recovery::Options::default();
        let request = RecoveryRequest { path: "/dir".into(), options, now: SystemTime::now() };
        let try_lock = |_: &Path| Ok(Some(Box::new(()) as Box<dyn std::any::Any>));
        recovery::recover(&fs, &request, &try_lock, &Control::default()).unwrap();
        whole(&fs);
        // Neither a temp file nor a placeholder.
        let names = fs.list("/dir").unwrap();
        let listed = backup::list(&fs, FILE.as_ref()).unwrap().len();
        assert_eq!(names.len(), 1 + listed, "after step {step}: {names:?}");
    };
    let states = states_of(&disk_without_rename_new, &|fs| drop(back_up(fs)), &check);
    println!("a backup by a placeholder, cut off: {states} states");
    assert!(states > 100, "{states}");
}

#[test]
fn there_a_promotion_that_is_cut_off_is_done_by_the_next_recovery() {
    for corrupt in [None, Some(b"{".as_slice())] {
        for file in [FILE, "/dir/notes"] {
            let temp = Path::new("/dir")
                .join(temp_name::name_with(Path::new(file).file_name().unwrap(), 7));
            let setup = || {
                let fs = SimFs::new();
                fs.put_file(&temp, b"{}").unwrap();
                if let Some(corrupt) = corrupt.filter(|_| file == FILE) {
                    fs.put_file(file, corrupt).unwrap();
                }
                fs.set_can_rename_new(false);
                fs
            };
            let run = |fs: &SimFs| {
                let options = recovery::Options::default();
                let request =
                    RecoveryRequest { path: file.into(), options, now: SystemTime::now() };
                let try_lock = |_: &Path| Ok(Some(Box::new(()) as Box<dyn std::any::Any>));
                let _ = recovery::recover(fs, &request, &try_lock, &Control::default());
            };
            let check = |fs: SimFs, step: u64| {
                fs.set_can_rename_new(false);
                run(&fs);
                let content = fs.read_file(file);
                assert!(
                    content.as_ref().is_ok_and(|content| **content == b"{}"),
                    "{file} after step {step}: {content:?}\n{fs:?}"
                );
                let left: Vec<_> = fs
                    .list("/dir")
                    .unwrap()
                    .into_iter()
                    .filter(|name| is_temp_name(name))
                    .collect();
                assert!(left.is_empty(), "after step {step}: {left:?}");
            };
            let states = states_of(&setup, &run, &check);
            println!("a promotion of {file} by a placeholder, cut off: {states} states");
        }
    }
}

// ── Numbers of files that differ from look to look ────────────────────────────────────────

#[test]
fn where_a_file_has_another_number_at_each_look_writes_work_and_nothing_leaves_a_temp_file() {
    for (name, function) in FUNCTIONS {
        if matches!(name, "promotion" | "restoration") {
            // They find nothing that they know for what it was.
            continue;
        }
        let fs = disk();
        fs.set_has_unstable_ids(true);
        let failed = function(&fs);
        match name {
            "transaction" => assert_eq!(failed, Some(Code::ENOTSUP), "{name}"),
            _ => assert_eq!(failed, None, "{name}"),
        }
        let is_left = |name: &OsString| is_temp_name(name) || is_transaction_name(name);
        let left: Vec<_> = fs.list("/dir").unwrap().into_iter().filter(is_left).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}
