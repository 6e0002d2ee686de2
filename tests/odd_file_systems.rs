//! File systems that cannot do what others can: every function works without it, as far as nothing
//! of what it promises depends on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::SystemTime;

use holdfast::backup::{self, BackupRequest, RestoreRequest};
use holdfast::error::Code;
use holdfast::fs::{FoundLimitation, Limitation, found_limitations};
use holdfast::payload::Payload;
use holdfast::recovery::{self, ActionKind, RecoveryRequest};
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
        let request =
            BackupRequest { path: FILE.into(), time: NOW, options: once(), keep: Some(1) };
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
        let change = |path: &str, change| FileChange { path: path.into(), change };
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
