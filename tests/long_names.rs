//! Whatever name a file system takes works, also where names have fewer bytes than elsewhere: what
//! holdfast adds to a name is shortened, and recognised again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use holdfast::backup::{self, BackupRequest, RestoreRequest, Retention, Reuse};
use holdfast::payload::Payload;
use holdfast::recovery::{self, ActionKind, RecoveryRequest};
use holdfast::transaction::names::{self, TransactionId};
use holdfast::transaction::{Change, FileChange, commit_as};
use holdfast::write::{Control, Options, WriteRequest, run};
use holdfast_sim::{Fault, OperationKind, SimFs};

/// The limits of most file systems, encfs, eCryptfs, and of some that do not exist.
const LIMITS: [usize; 5] = [255, 175, 143, 100, 60];
const NOW: u64 = 1_700_000_000_000;

/// A disk with a directory, and the longest path that it takes in it.
fn disk(limit: usize) -> (SimFs, PathBuf) {
    let fs = SimFs::new();
    fs.put_dir("/dir").unwrap();
    fs.set_longest_name(limit);
    (fs, Path::new("/dir").join("n".repeat(limit - 5) + ".json"))
}

fn write(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let (payload, options) = (Payload::Owned(bytes.to_vec()), Options::default());
    let request = WriteRequest { path: path.to_owned(), payload, options };
    run(fs, &request, &Control::default(), None).unwrap();
}

fn recover(fs: &SimFs, path: &Path, promote: bool) -> Vec<ActionKind> {
    let options = recovery::Options { promote: Some(promote), ..Default::default() };
    let request = RecoveryRequest { path: path.to_owned(), options, now: SystemTime::now() };
    let try_lock = |_: &Path| Ok(Some(Box::new(()) as Box<dyn std::any::Any>));
    let actions = recovery::recover(fs, &request, &try_lock, &Control::default()).unwrap();
    actions.into_iter().map(|action| action.kind).collect()
}

#[test]
fn the_longest_name_is_written_backed_up_restored_and_pruned() {
    for limit in LIMITS {
        let (fs, path) = disk(limit);
        write(&fs, &path, b"1");
        write(&fs, &path, b"2");
        let mut made = Vec::new();
        for number in 0..3 {
            let (time, options) = (NOW + number, Options::default());
            let keep = (number == 2).then_some(Retention::newest(2));
            let request =
                BackupRequest { path: path.clone(), time, options, reuse: Reuse::default(), keep };
            made.push(backup::create(&fs, &request, &Control::default(), None).unwrap());
        }
        let listed = backup::list(&fs, &path).unwrap();
        let listed: Vec<_> = listed.into_iter().map(|backup| (backup.name, backup.time)).collect();
        let newest: Vec<_> = made.into_iter().zip([NOW, NOW + 1, NOW + 2]).skip(1).rev().collect();
        assert_eq!(listed, newest, "{limit}");
        // Another long name has none.
        let other = path.with_file_name("n".repeat(limit - 6) + "m.json");
        assert_eq!(backup::list(&fs, &other).unwrap(), []);
        write(&fs, &path, b"3");
        let backup = path.with_file_name(newest.first().unwrap().0.clone());
        let request = RestoreRequest { backup, target: path.clone(), options: Options::default() };
        backup::restore(&fs, &request, &Control::default(), None).unwrap();
        assert_eq!(*fs.read_file(&path).unwrap(), b"2");
        assert_eq!(fs.list("/dir").unwrap().len(), 3, "{limit}");
    }
}

#[test]
fn what_a_killed_write_of_the_longest_name_leaves_is_promoted_or_removed() {
    for limit in LIMITS {
        for is_there in [false, true] {
            let (fs, path) = disk(limit);
            if is_there {
                fs.put_file(&path, b"{\"n\":").unwrap();
            }
            fs.inject(Fault::power_off().of(OperationKind::Rename));
            let payload = Payload::Owned(b"{\"n\":1}".to_vec());
            let options = Options { attempts: 1, ..Options::default() };
            let request = WriteRequest { path: path.clone(), payload, options };
            run(&fs, &request, &Control::default(), None).unwrap_err();
            let fs = fs.after_kill();
            let kind = if is_there { ActionKind::Restored } else { ActionKind::Promoted };
            assert!(recover(&fs, &path, true).contains(&kind), "{limit}");
            assert_eq!(*fs.read_file(&path).unwrap(), b"{\"n\":1}");
            let corrupt = usize::from(is_there);
            assert_eq!(fs.list("/dir").unwrap().len(), 1 + corrupt, "{limit}");
            // What was set aside is known for what it is.
            assert_eq!(recover(&fs, Path::new("/dir"), true), []);
        }
    }
}

/// A directory may be copied to a file system with longer or shorter names between the crash and
/// the recovery.
#[test]
fn a_transaction_with_the_longest_names_is_completed_under_any_limit() {
    const ID: TransactionId = TransactionId(7);
    for limit in LIMITS {
        for later in [limit, 255] {
            let (fs, path) = disk(limit);
            let removed = path.with_file_name("r".repeat(limit));
            fs.put_file(&path, b"old").unwrap();
            fs.put_file(&removed, b"old").unwrap();
            let new = Change::Write(Payload::Owned(b"new".to_vec()));
            let changes = [
                FileChange { path: path.clone(), change: new, only: None },
                FileChange { path: removed.clone(), change: Change::Remove, only: None },
            ];
            // The first rename decides.
            fs.inject(Fault::power_off().of(OperationKind::Rename).at(2));
            let (options, control) = (Options::default(), Control::default());
            commit_as(&fs, ID, &path, &changes, &options, &control).unwrap_err();
            let fs = fs.after_kill();
            fs.set_longest_name(later);
            assert_eq!(*fs.read_file(&path).unwrap(), b"old");
            let temps = fs.list("/dir").unwrap();
            assert!(temps.iter().any(|name| names::is_transaction_name(name)));
            recover(&fs, Path::new("/dir"), false);
            assert_eq!(*fs.read_file(&path).unwrap(), b"new", "{limit} {later}");
            assert_eq!(fs.list("/dir").unwrap().len(), 1, "{limit} {later}");
        }
    }
}
