//! The simulated disk itself: what it keeps, what it may lose, and that the classic
//! mistakes of programs that write files are visible in it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

#[path = "common/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::MAIN_SEPARATOR;
use std::sync::{Arc, Mutex};

use holdfast::error::Code;
use holdfast::fs::{DirUse, FileKind, FileSystem};
use holdfast::payload::Chunk;
use holdfast_sim::{
    Attributes, Copying, CrashStates, Fault, Model, OperationKind, SimDir, SimFile, SimFs,
};

use random::Random;

const MOST: usize = 10_000;

fn name(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn open(fs: &SimFs, path: &str) -> SimDir {
    fs.open_dir(path.as_ref(), DirUse::NamesAndSync).unwrap()
}

/// Makes a file with these bytes, nothing synced.
fn create(fs: &SimFs, dir: &SimDir, called: &str, bytes: &[u8]) -> SimFile {
    let file = fs.create_new(dir, name(called), 0o666).unwrap();
    write_all(fs, &file, bytes);
    file
}

fn write_all(fs: &SimFs, file: &SimFile, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let taken = fs.write(file, Chunk::Slice(bytes)).unwrap();
        bytes = &bytes[taken..];
    }
}

fn rename(fs: &SimFs, dir: &SimDir, file: &SimFile, from: &str, to: &str) {
    fs.rename(dir, file, name(from), name(to)).unwrap();
}

fn code<T: std::fmt::Debug>(outcome: io::Result<T>) -> Code {
    Code::of(&outcome.unwrap_err()).unwrap()
}

fn all(fs: &SimFs, model: Model) -> CrashStates {
    let states = fs.crash_states(model, MOST);
    assert!(states.complete);
    states
}

/// What a power cut may make of the file at `path`; `None` if it may be gone.
fn contents(fs: &SimFs, model: Model, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    all(fs, model)
        .into_iter()
        .map(|state| state.fs.read_file(path).ok().map(|bytes| bytes.to_vec()))
        .collect()
}

/// What a power cut may make of the names in the directory at `path`.
fn listings(fs: &SimFs, model: Model, path: &str) -> BTreeSet<Vec<String>> {
    let text = |name: OsString| name.into_string().unwrap();
    all(fs, model)
        .into_iter()
        .map(|state| state.fs.list(path).unwrap_or_default().into_iter().map(text).collect())
        .collect()
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

/// A disk with `/box/note`, 'old', durable.
fn with_note() -> SimFs {
    let fs = SimFs::new();
    fs.put_file("/box/note", b"old").unwrap();
    fs
}

// ── What may be lost ──────────────────────────────────────────────────────────────────────

#[test]
fn an_idle_disk_has_one_crash_state_which_is_itself() {
    let fs = with_note();
    fs.put_link("/link", "box/note").unwrap();
    for model in Model::ALL {
        let states = all(&fs, *model).states;
        assert_eq!(states.len(), 1);
        assert_eq!(states[0].fs.describe(), fs.describe());
    }
}

#[test]
fn unsynced_bytes_are_lost_cut_zeroed_or_kept() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let _file = create(&fs, &dir, "note", b"abcdef");
    for model in Model::ALL {
        let expected = [
            None,
            some(b""),
            some(b"abc"),
            some(b"abcde"),
            some(b"abcdef"),
            some(b"\0\0\0\0\0\0"),
            some(b"abc\0\0\0"),
            some(b"\0\0\0def"),
        ];
        assert_eq!(contents(&fs, *model, "/note"), BTreeSet::from(expected));
    }
}

#[test]
fn a_synced_file_keeps_bytes_and_mode_but_not_its_name() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "note", b"abcdef");
    fs.set_mode(&file, 0o640).unwrap();
    fs.sync_file(&file).unwrap();
    let strict = contents(&fs, Model::StrictPosix, "/note");
    assert_eq!(strict, BTreeSet::from([None, some(b"abcdef")]));
    for state in all(&fs, Model::StrictPosix) {
        assert!(state.fs.inspect("/note").map_or(0o640, |found| found.mode) == 0o640);
    }
    // One log for all: the name comes before the size.
    let ordered = contents(&fs, Model::OrderedMetadata, "/note");
    assert_eq!(ordered, BTreeSet::from([some(b"abcdef")]));
}

#[test]
fn a_synced_dir_keeps_names_but_not_bytes() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let _file = create(&fs, &dir, "note", b"ab");
    fs.sync_dir(&dir, None).unwrap();
    for model in Model::ALL {
        let found = contents(&fs, *model, "/note");
        assert!(!found.contains(&None));
        assert!(found.contains(&some(b"")) && found.contains(&some(b"a\0")));
    }
}

#[test]
fn bytes_that_were_synced_stay_when_others_are_appended() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "note", b"abc");
    fs.sync_file(&file).unwrap();
    fs.sync_dir(&dir, None).unwrap();
    write_all(&fs, &file, b"defg");
    for model in Model::ALL {
        let found = contents(&fs, *model, "/note");
        assert!(found.iter().flatten().all(|bytes| bytes.starts_with(b"abc")));
        assert!(found.contains(&some(b"abc")) && found.contains(&some(b"abcde\0\0")));
    }
}

#[test]
fn unsynced_attributes_have_any_value_since_the_last_sync() {
    let fs = SimFs::new();
    fs.set_user(0, 0);
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "note", b"");
    fs.set_mode(&file, 0o700).unwrap();
    fs.make_all_durable();
    fs.set_mode(&file, 0o600).unwrap();
    fs.set_owner(&file, Some(7), None).unwrap();
    fs.set_mode(&file, 0o640).unwrap();
    for model in Model::ALL {
        let found: BTreeSet<(u32, u32)> = all(&fs, *model)
            .into_iter()
            .map(|state| state.fs.inspect("/note").unwrap())
            .map(|found| (found.mode, found.uid))
            .collect();
        let expected = [(0o700, 0), (0o600, 0), (0o600, 7), (0o640, 7)];
        assert_eq!(found, BTreeSet::from(expected));
    }
    fs.sync_file(&file).unwrap();
    assert_eq!(all(&fs, Model::StrictPosix).states.len(), 1);
}

#[test]
fn a_removed_name_may_come_back_until_its_dir_is_synced() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    fs.remove(&dir, name("note")).unwrap();
    for model in Model::ALL {
        assert_eq!(contents(&fs, *model, "/box/note"), BTreeSet::from([None, some(b"old")]));
    }
    fs.sync_dir(&dir, None).unwrap();
    for model in Model::ALL {
        assert_eq!(contents(&fs, *model, "/box/note"), BTreeSet::from([None]));
    }
}

#[test]
fn a_new_dir_may_be_lost_with_everything_that_was_synced_in_it() {
    let fs = SimFs::new();
    fs.make_dir("/box".as_ref()).unwrap();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "note", b"new");
    fs.sync_file(&file).unwrap();
    fs.sync_dir(&dir, None).unwrap();
    let strict = contents(&fs, Model::StrictPosix, "/box/note");
    assert_eq!(strict, BTreeSet::from([None, some(b"new")]));
    let ordered = contents(&fs, Model::OrderedMetadata, "/box/note");
    assert_eq!(ordered, BTreeSet::from([some(b"new")]));

    fs.sync_dir(&open(&fs, "/"), None).unwrap();
    let strict = contents(&fs, Model::StrictPosix, "/box/note");
    assert_eq!(strict, BTreeSet::from([some(b"new")]));
}

#[test]
fn any_subset_of_unsynced_names_may_be_there() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    for called in ["a", "b", "c"] {
        create(&fs, &dir, called, b"");
    }
    assert_eq!(listings(&fs, Model::StrictPosix, "/").len(), 8);
    // In one log: nothing, a, a b, a b c.
    assert_eq!(listings(&fs, Model::OrderedMetadata, "/").len(), 4);
}

#[test]
fn a_rename_may_be_there_although_the_name_it_started_from_never_was() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.sync_file(&file).unwrap();
    rename(&fs, &dir, &file, "temp", "note");
    let listings = listings(&fs, Model::StrictPosix, "/box");
    assert_eq!(
        listings,
        BTreeSet::from([vec!["note".to_owned()], vec!["note".to_owned(), "temp".to_owned()]])
    );
    for state in all(&fs, Model::StrictPosix) {
        let note = state.fs.read_file("/box/note").unwrap();
        let has_temp = state.fs.read_file("/box/temp").is_ok();
        // A rename is never done by halves: the new bytes have one name at most.
        assert!(*note == b"old" || (*note == b"new" && !has_temp), "{}", state.description);
    }
}

/// Two files beside the note, on the disk, that may take its place.
fn with_temps(fs: &SimFs) -> (SimDir, SimFile, SimFile) {
    let dir = open(fs, "/box");
    let first = create(fs, &dir, "temp1", b"first");
    let second = create(fs, &dir, "temp2", b"second");
    fs.sync_file(&first).unwrap();
    fs.sync_file(&second).unwrap();
    fs.sync_dir(&dir, None).unwrap();
    (dir, first, second)
}

#[test]
fn of_two_renames_to_one_name_either_may_be_missing_or_come_last() {
    let fs = with_note();
    let (dir, first, second) = with_temps(&fs);
    rename(&fs, &dir, &first, "temp1", "note");
    rename(&fs, &dir, &second, "temp2", "note");

    let found: BTreeSet<(Vec<u8>, usize)> = all(&fs, Model::StrictPosix)
        .into_iter()
        .map(|state| {
            let note = state.fs.read_file("/box/note").unwrap().to_vec();
            (note, state.fs.list("/box").unwrap().len())
        })
        .collect();
    let expected = [
        (b"old".to_vec(), 3),
        (b"first".to_vec(), 2),
        (b"second".to_vec(), 2),
        (b"second".to_vec(), 1),
        (b"first".to_vec(), 1),
    ];
    assert_eq!(found, BTreeSet::from(expected));

    let ordered: BTreeSet<(Vec<u8>, usize)> = all(&fs, Model::OrderedMetadata)
        .into_iter()
        .map(|state| {
            let note = state.fs.read_file("/box/note").unwrap().to_vec();
            (note, state.fs.list("/box").unwrap().len())
        })
        .collect();
    let expected = [(b"old".to_vec(), 3), (b"first".to_vec(), 2), (b"second".to_vec(), 1)];
    assert_eq!(ordered, BTreeSet::from(expected));
}

#[test]
fn a_rename_that_was_synced_does_not_come_after_one_that_was_made_later() {
    let fs = with_note();
    let (dir, first, second) = with_temps(&fs);
    // What no later sync speaks for stays open, and all that comes behind it is remembered.
    create(&fs, &dir, "doubtful", b"");
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncDir));
    assert_eq!(code(fs.sync_dir(&dir, None)), Code::EIO);
    rename(&fs, &dir, &first, "temp1", "note");
    fs.sync_dir(&dir, None).unwrap();
    rename(&fs, &dir, &second, "temp2", "note");

    let found: BTreeSet<(Vec<u8>, bool)> = all(&fs, Model::StrictPosix)
        .into_iter()
        .map(|state| {
            let note = state.fs.read_file("/box/note").unwrap().to_vec();
            (note, state.fs.read_file("/box/temp2").is_ok())
        })
        .collect();
    assert_eq!(found, BTreeSet::from([(b"first".to_vec(), true), (b"second".to_vec(), false)]));
}

#[test]
fn what_was_durable_before_a_crash_state_is_durable_in_it() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let _file = create(&fs, &dir, "temp", b"new");
    for model in Model::ALL {
        for state in all(&fs, *model) {
            assert_eq!(all(&state.fs, *model).states.len(), 1);
            assert_eq!(state.fs.open_handles(), (0, 0));
            assert_eq!(state.fs.count(), 0);
        }
    }
}

// ── The classic mistakes ──────────────────────────────────────────────────────────────────

#[test]
fn writing_and_renaming_without_a_sync_may_leave_a_torn_target() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    rename(&fs, &dir, &file, "temp", "note");
    for model in Model::ALL {
        let found = contents(&fs, *model, "/box/note");
        for torn in [b"".as_slice(), b"\0\0\0", b"ne"] {
            assert!(found.contains(&some(torn)), "{model:?} {torn:?}");
        }
    }
}

#[test]
fn renaming_without_a_sync_of_the_dir_may_leave_the_old_target() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.sync_file(&file).unwrap();
    rename(&fs, &dir, &file, "temp", "note");
    for model in Model::ALL {
        let found = contents(&fs, *model, "/box/note");
        assert_eq!(found, BTreeSet::from([some(b"old"), some(b"new")]));
    }
}

#[test]
fn the_textbook_sequence_leaves_the_new_target_and_nothing_else() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.sync_file(&file).unwrap();
    rename(&fs, &dir, &file, "temp", "note");
    fs.sync_dir(&dir, None).unwrap();
    for model in Model::ALL {
        let states = all(&fs, *model).states;
        assert_eq!(states.len(), 1);
        assert_eq!(states[0].fs.describe(), fs.describe());
        assert_eq!(*states[0].fs.read_file("/box/note").unwrap(), b"new");
    }
}

#[test]
fn removing_the_target_before_the_rename_may_leave_none() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.sync_file(&file).unwrap();
    fs.remove(&dir, name("note")).unwrap();
    rename(&fs, &dir, &file, "temp", "note");
    for model in Model::ALL {
        assert!(contents(&fs, *model, "/box/note").contains(&None));
    }
}

// ── Metadata in order ─────────────────────────────────────────────────────────────────────

#[test]
fn ordered_publish_is_safe_only_where_metadata_is_ordered() {
    let publish = |awaits: bool| {
        let fs = with_note();
        let dir = open(&fs, "/box");
        let file = create(&fs, &dir, "temp", b"new");
        if awaits {
            fs.await_write_back(&file).unwrap();
        }
        rename(&fs, &dir, &file, "temp", "note");
        let before = fs.after_kill();
        fs.sync_file(&file).unwrap();
        (before, fs)
    };

    let (before, after) = publish(true);
    let whole = BTreeSet::from([some(b"old"), some(b"new")]);
    assert_eq!(contents(&before, Model::OrderedMetadata, "/box/note"), whole);
    let new = BTreeSet::from([some(b"new")]);
    assert_eq!(contents(&after, Model::OrderedMetadata, "/box/note"), new);
    assert!(contents(&before, Model::StrictPosix, "/box/note").contains(&some(b"")));
    assert!(contents(&after, Model::StrictPosix, "/box/note").contains(&some(b"old")));

    let (before, _) = publish(false);
    assert!(contents(&before, Model::OrderedMetadata, "/box/note").contains(&some(b"")));
}

#[test]
fn awaiting_write_back_makes_no_name_durable() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "note", b"ab");
    fs.await_write_back(&file).unwrap();
    let found = contents(&fs, Model::OrderedMetadata, "/note");
    // Up to the creation of the name, and up to the size that came after it.
    assert!(found.contains(&None) && found.contains(&some(b"")) && found.contains(&some(b"ab")));
    write_all(&fs, &file, b"cd");
    fs.sync_dir(&dir, None).unwrap();
    let found = contents(&fs, Model::OrderedMetadata, "/note");
    assert!(found.contains(&some(b"")) && found.contains(&some(b"ab\0\0")));
    fs.sync_file(&file).unwrap();
    let found = contents(&fs, Model::OrderedMetadata, "/note");
    assert_eq!(found, BTreeSet::from([some(b"abcd")]));
}

#[test]
fn a_sync_commits_the_log_up_to_what_it_touches_and_no_further() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let first = create(&fs, &dir, "a", b"");
    create(&fs, &dir, "b", b"");
    // There is nothing of `a` in the log after its name.
    fs.sync_file(&first).unwrap();
    let lists = listings(&fs, Model::OrderedMetadata, "/");
    assert_eq!(lists, BTreeSet::from([vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]]));
    // A new size comes last, and takes everything before it along.
    write_all(&fs, &first, b"bytes");
    fs.sync_file(&first).unwrap();
    let lists = listings(&fs, Model::OrderedMetadata, "/");
    assert_eq!(lists, BTreeSet::from([vec!["a".to_owned(), "b".to_owned()]]));
}

#[test]
fn a_sync_of_the_file_system_keeps_everything() {
    let fs = with_note();
    fs.make_dir("/new".as_ref()).unwrap();
    let dir = open(&fs, "/new");
    let file = create(&fs, &dir, "a", b"bytes");
    fs.set_mode(&file, 0o600).unwrap();
    fs.sync_filesystem().unwrap();
    for model in Model::ALL {
        let states = all(&fs, *model).states;
        assert_eq!(states.len(), 1);
        assert_eq!(states[0].fs.describe(), fs.describe());
    }
}

// ── Syncs that fail ───────────────────────────────────────────────────────────────────────

#[test]
fn a_sync_after_a_failed_one_says_nothing() {
    for model in Model::ALL {
        let fs = SimFs::new();
        let dir = open(&fs, "/");
        let file = create(&fs, &dir, "note", b"abcd");
        fs.sync_dir(&dir, None).unwrap();
        fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncFile));
        assert_eq!(code(fs.sync_file(&file)), Code::EIO);
        for _ in 0..2 {
            fs.sync_file(&file).unwrap();
            let found = contents(&fs, *model, "/note");
            assert!(found.contains(&some(b"\0\0\0\0")), "{model:?} {found:?}");
            assert!(found.contains(&some(b"abcd")), "{model:?} {found:?}");
        }
        // What is written later can be synced.
        write_all(&fs, &file, b"ef");
        fs.sync_file(&file).unwrap();
        let found = contents(&fs, *model, "/note");
        assert!(found.iter().flatten().all(|bytes| bytes.ends_with(b"ef")), "{found:?}");
        assert!(found.contains(&some(b"\0\0\0\0ef")), "{model:?} {found:?}");
    }
}

#[test]
fn an_interrupted_or_refused_sync_can_be_made_good() {
    for model in Model::ALL {
        for with in [Code::EINTR, Code::EACCES, Code::EINVAL] {
            let fs = SimFs::new();
            let dir = open(&fs, "/");
            let file = create(&fs, &dir, "note", b"abcd");
            fs.inject(Fault::fail(with).of(OperationKind::SyncFile));
            fs.inject(Fault::fail(with).of(OperationKind::SyncDir));
            assert_eq!(code(fs.sync_file(&file)), with);
            assert_eq!(code(fs.sync_dir(&dir, None)), with);
            fs.sync_file(&file).unwrap();
            fs.sync_dir(&dir, None).unwrap();
            assert_eq!(contents(&fs, *model, "/note"), BTreeSet::from([some(b"abcd")]));
        }
    }
}

#[test]
fn a_dir_sync_after_a_failed_one_speaks_for_later_changes_only() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    create(&fs, &dir, "a", b"");
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncDir));
    assert_eq!(code(fs.sync_dir(&dir, None)), Code::EIO);
    create(&fs, &dir, "b", b"");
    fs.sync_dir(&dir, None).unwrap();
    let lists = listings(&fs, Model::StrictPosix, "/");
    assert_eq!(lists, BTreeSet::from([vec!["b".to_owned()], vec!["a".to_owned(), "b".to_owned()]]));
}

#[test]
fn a_failed_sync_of_the_file_system_spoils_everything_it_should_have_written() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "note", b"ab");
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncFilesystem));
    assert_eq!(code(fs.sync_filesystem()), Code::EIO);
    fs.sync_file(&file).unwrap();
    fs.sync_dir(&dir, None).unwrap();
    let found = contents(&fs, Model::StrictPosix, "/note");
    assert!(found.contains(&None) && found.contains(&some(b"\0\0")), "{found:?}");
}

// ── Faults ────────────────────────────────────────────────────────────────────────────────

#[test]
fn operations_are_numbered_and_logged() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    rename(&fs, &dir, &file, "temp", "note");
    fs.sync_file(&file).unwrap();
    assert_eq!(code(fs.remove(&dir, name("temp"))), Code::ENOENT);
    assert_eq!(fs.count(), 6);
    let expected = [
        "   1 open directory /box",
        "   2 create new /box/temp mode 666",
        "   3 write /box/temp 3 bytes",
        "   4 rename /box/temp -> note",
        "   5 sync file /box/note",
        "   6 remove /box/temp: ENOENT",
        "",
    ];
    // On Windows names are added to the path by the system's separator.
    assert_eq!(fs.log_text().replace(MAIN_SEPARATOR, "/"), expected.join("\n"));
}

#[test]
fn the_nth_operation_fails_once() {
    let fs = with_note();
    fs.inject(Fault::fail(Code::EMFILE).at(2));
    let dir = open(&fs, "/box");
    assert_eq!(code(fs.create_new(&dir, name("a"), 0o600)), Code::EMFILE);
    create(&fs, &dir, "a", b"");
    assert_eq!(fs.list("/box").unwrap(), ["a", "note"]);
}

#[test]
fn the_nth_operation_and_all_that_follow_fail() {
    let fs = with_note();
    fs.inject(Fault::fail(Code::EIO).at(2).for_ever());
    let dir = open(&fs, "/box");
    for _ in 0..3 {
        assert_eq!(code(fs.create_new(&dir, name("a"), 0o600)), Code::EIO);
        assert_eq!(code(fs.dir_metadata(&dir)), Code::EIO);
    }
    fs.repair();
    create(&fs, &dir, "a", b"");
}

#[test]
fn the_nth_operation_and_all_of_its_kind_fail() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "a", b"");
    fs.inject(Fault::fail(Code::ENOSPC).at(2).for_ever_alike());
    fs.dir_metadata(&dir).unwrap();
    for _ in 0..3 {
        assert_eq!(code(fs.write(&file, Chunk::Slice(b"x"))), Code::ENOSPC);
        fs.dir_metadata(&dir).unwrap();
    }
    assert_eq!(fs.read_file("/box/a").unwrap().len(), 0);
}

#[test]
fn a_fault_may_wait_for_one_kind_and_one_path() {
    let fs = with_note();
    let (dir, root) = (open(&fs, "/box"), open(&fs, "/"));
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncDir).on("/").at(2));
    for expected in [Ok(true), Err(Code::EIO), Ok(true)] {
        fs.sync_dir(&dir, None).unwrap();
        let outcome = fs.sync_dir(&root, None);
        assert_eq!(outcome.map_err(|error| Code::of(&error).unwrap()), expected);
    }
}

#[test]
fn an_operation_may_take_effect_and_report_an_error() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.inject(Fault::fail_after(Code::EIO).of(OperationKind::Rename));
    assert_eq!(code(fs.rename(&dir, &file, name("temp"), name("note"))), Code::EIO);
    assert_eq!(*fs.read_file("/box/note").unwrap(), b"new");
    assert_eq!(fs.list("/box").unwrap(), ["note"]);

    // The handle that nobody got is not open.
    fs.inject(Fault::fail_after(Code::EIO).of(OperationKind::CreateNew));
    assert_eq!(code(fs.create_new(&dir, name("temp"), 0o600)), Code::EIO);
    assert_eq!(fs.list("/box").unwrap(), ["note", "temp"]);
    assert_eq!(fs.open_handles(), (1, 1));
}

#[test]
fn a_write_may_be_short() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "a", b"");
    fs.inject(Fault::short_write(2).at(2));
    let taken: Vec<usize> =
        (0..3).map(|_| fs.write(&file, Chunk::Slice(b"xyz")).unwrap()).collect();
    assert_eq!(taken, [3, 2, 3]);
    assert_eq!(*fs.read_file("/a").unwrap(), b"xyzxyxyz");
}

#[test]
fn an_operation_may_be_left_out_without_a_word() {
    let fs = with_note();
    fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
    fs.inject(Fault::ignore().of(OperationKind::SyncDir).for_ever());
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.sync_file(&file).unwrap();
    rename(&fs, &dir, &file, "temp", "note");
    fs.sync_dir(&dir, None).unwrap();
    let found = contents(&fs, Model::StrictPosix, "/box/note");
    assert!(found.contains(&some(b"")) && found.contains(&some(b"old")));
}

#[test]
fn nothing_has_an_effect_once_the_power_is_off() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.inject(Fault::power_off().at(2));
    fs.file_metadata(&file).unwrap();
    let before = fs.describe();
    assert_eq!(code(fs.sync_file(&file)), Code::EIO);
    assert_eq!(code(fs.rename(&dir, &file, name("temp"), name("note"))), Code::EIO);
    assert_eq!(code(fs.remove(&dir, name("note"))), Code::EIO);
    assert_eq!(fs.describe(), before);
    assert!(contents(&fs, Model::StrictPosix, "/box/temp").contains(&some(b"")));
}

#[test]
fn somebody_else_may_come_before_an_operation() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    fs.inject(Fault::intrude(move |fs, path| {
        notes.lock().unwrap().push(path.to_owned());
        fs.take_away("/box/note").unwrap();
    }));
    assert_eq!(code(fs.remove(&dir, name("note"))), Code::ENOENT);
    assert_eq!(*seen.lock().unwrap(), ["/box/note".as_ref() as &std::path::Path]);
}

#[test]
fn a_full_disk_takes_what_fits_and_refuses_the_rest() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "a", b"");
    fs.set_free_space(Some(4));
    assert_eq!(fs.write(&file, Chunk::Slice(b"abc")).unwrap(), 3);
    assert_eq!(fs.write(&file, Chunk::Slice(b"def")).unwrap(), 1);
    assert_eq!(code(fs.write(&file, Chunk::Slice(b"ef"))), Code::ENOSPC);
    assert_eq!(fs.write(&file, Chunk::Slice(b"")).unwrap(), 0);
    // The note's three bytes come back when its name is gone.
    fs.remove(&dir, name("note")).unwrap();
    assert_eq!(fs.write(&file, Chunk::Slice(b"efgh")).unwrap(), 3);
    // A file that is open keeps its bytes until it is closed.
    fs.remove(&dir, name("a")).unwrap();
    let other = fs.create_new(&dir, name("b"), 0o600).unwrap();
    assert_eq!(code(fs.write(&other, Chunk::Slice(b"x"))), Code::ENOSPC);
    drop(file);
    assert_eq!(fs.write(&other, Chunk::Slice(b"x")).unwrap(), 1);
}

// ── Handles and locks ─────────────────────────────────────────────────────────────────────

#[test]
fn open_handles_are_counted() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "a", b"");
    let held = fs.hold_lock("/box/note").unwrap();
    assert_eq!(fs.open_handles(), (1, 1));
    drop(file);
    assert_eq!(fs.open_handles(), (0, 1));
    drop((dir, held));
    assert_eq!(fs.open_handles(), (0, 0));
}

#[test]
fn one_holds_a_lock_until_the_file_is_closed() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "a", b"");
    let sweeper = fs.hold_lock("/box/a").unwrap();
    assert!(!fs.try_lock(&file).unwrap());
    drop(sweeper);
    assert!(fs.try_lock(&file).unwrap());
    assert!(fs.try_lock(&file).unwrap(), "one may ask again for what one holds");
    assert_eq!(code(fs.hold_lock("/box/a")), Code::EAGAIN);
    assert!(fs.is_locked("/box/a").unwrap());
    assert!(!fs.after_kill().is_locked("/box/a").unwrap());
    drop(file);
    assert!(!fs.is_locked("/box/a").unwrap());
}

#[test]
fn a_killed_process_leaves_what_it_did_as_uncertain_as_it_was() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    rename(&fs, &dir, &file, "temp", "note");
    let killed = fs.after_kill();
    assert_eq!(killed.describe(), fs.describe());
    assert_eq!((killed.open_handles(), killed.count()), ((0, 0), 0));
    for model in Model::ALL {
        assert_eq!(contents(&killed, *model, "/box/note"), contents(&fs, *model, "/box/note"));
    }
    // The original goes its own way.
    fs.remove(&dir, name("note")).unwrap();
    assert_eq!(*killed.read_file("/box/note").unwrap(), b"new");
}

// ── What processes see ────────────────────────────────────────────────────────────────────

#[test]
fn a_new_file_must_have_a_new_and_proper_name() {
    let fs = with_note();
    fs.put_link("/box/dangling", "nowhere").unwrap();
    let dir = open(&fs, "/box");
    for taken in ["note", "dangling"] {
        assert_eq!(code(fs.create_new(&dir, name(taken), 0o600)), Code::EEXIST);
    }
    for wrong in ["", ".", "..", "a/b"] {
        assert_eq!(code(fs.create_new(&dir, name(wrong), 0o600)), Code::EINVAL);
    }
    let long = "x".repeat(256);
    assert_eq!(code(fs.create_new(&dir, name(&long), 0o600)), Code::ENAMETOOLONG);
    fs.create_new(&dir, name(&long[1..]), 0o600).unwrap();
}

#[test]
fn paths_lead_through_links_and_end_where_they_must() {
    let fs = SimFs::new();
    fs.put_file("/a/b/note", b"x").unwrap();
    fs.put_link("/up", "a/b/..").unwrap();
    fs.put_link("/absolute", "/up/b").unwrap();
    fs.put_link("/loop", "loop").unwrap();
    let id = |path| fs.inspect(path).unwrap().id;
    assert_eq!(id("/absolute"), id("/a/b"));
    assert_eq!(id("/up/b/../b/note"), id("/a/b/note"));
    let opened = open(&fs, "/absolute");
    assert_eq!(fs.dir_metadata(&opened).unwrap().id, id("/a/b"));

    let failed = |path: &str| code(fs.open_dir(path.as_ref(), DirUse::Names));
    assert_eq!(failed("/loop"), Code::ELOOP);
    assert_eq!(failed("/a/c"), Code::ENOENT);
    assert_eq!(failed("/a/b/note"), Code::ENOTDIR);
    assert_eq!(failed("/a/b/note/x"), Code::ENOTDIR);
    assert_eq!(failed("a/b"), Code::EINVAL);

    let root = open(&fs, "/");
    let link = fs.metadata(&root, name("up")).unwrap();
    assert_eq!((link.kind, link.size), (FileKind::Link, 6));
    assert_eq!(fs.read_link(&root, name("up")).unwrap(), std::path::Path::new("a/b/.."));
    assert_eq!(code(fs.read_link(&root, name("a"))), Code::EINVAL);
}

#[test]
fn dirs_are_made_and_removed() {
    let fs = SimFs::new();
    fs.set_umask(0o027);
    assert_eq!(code(fs.make_dir("/a/b".as_ref())), Code::ENOENT);
    fs.make_dir("/a".as_ref()).unwrap();
    fs.make_dir("/a/b".as_ref()).unwrap();
    assert_eq!(code(fs.make_dir("/a".as_ref())), Code::EEXIST);
    assert_eq!(fs.inspect("/a").unwrap().mode, 0o750);
    assert_eq!(code(fs.remove_dir("/a".as_ref())), Code::ENOTEMPTY);
    let inner = open(&fs, "/a/b");
    fs.remove_dir("/a/b".as_ref()).unwrap();
    assert_eq!(code(fs.create_new(&inner, name("x"), 0o600)), Code::ENOENT);
    fs.remove_dir("/a".as_ref()).unwrap();
    assert_eq!(code(fs.remove_dir("/a".as_ref())), Code::ENOENT);
}

#[test]
fn a_rename_refuses_dirs_and_missing_names() {
    let fs = with_note();
    fs.put_dir("/box/inner").unwrap();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "a", b"");
    assert_eq!(code(fs.rename(&dir, &file, name("a"), name("inner"))), Code::EISDIR);
    assert_eq!(code(fs.rename(&dir, &file, name("b"), name("note"))), Code::ENOENT);
    assert_eq!(code(fs.remove(&dir, name("inner"))), Code::EISDIR);
    rename(&fs, &dir, &file, "a", "a");
    rename(&fs, &dir, &file, "a", "note");
    assert_eq!(fs.list("/box").unwrap(), ["inner", "note"]);
}

#[test]
fn modes_and_owners_are_those_of_the_process() {
    let fs = SimFs::new();
    fs.put_dir_with("/shared", Attributes { mode: 0o2777, uid: 5, gid: 50 }).unwrap();
    fs.put_dir_with("/closed", Attributes { mode: 0o755, uid: 5, gid: 50 }).unwrap();
    let shared = open(&fs, "/shared");
    let file = fs.create_new(&shared, name("a"), 0o666).unwrap();
    let found = fs.file_metadata(&file).unwrap();
    assert_eq!((found.mode, found.uid, found.gid), (0o644, 1000, 50));

    let closed = open(&fs, "/closed");
    assert_eq!(code(fs.create_new(&closed, name("a"), 0o666)), Code::EACCES);
    assert_eq!(code(fs.make_dir("/closed/a".as_ref())), Code::EACCES);

    assert_eq!(code(fs.set_owner(&file, Some(5), None)), Code::EPERM);
    assert_eq!(code(fs.set_owner(&file, None, Some(60))), Code::EPERM);
    fs.set_owner(&file, Some(1000), Some(1000)).unwrap();
    assert_eq!(fs.file_metadata(&file).unwrap().gid, 1000);

    fs.set_user(0, 0);
    fs.set_owner(&file, Some(5), Some(60)).unwrap();
    fs.create_new(&closed, name("a"), 0o666).unwrap();
    fs.set_user(1000, 1000);
    assert_eq!(code(fs.set_mode(&file, 0o777)), Code::EPERM);
}

#[test]
fn a_new_owner_or_new_bytes_take_special_permissions_away() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "a", b"");
    fs.set_mode(&file, 0o6755).unwrap();
    write_all(&fs, &file, b"x");
    assert_eq!(fs.file_metadata(&file).unwrap().mode, 0o755);
    fs.set_mode(&file, 0o6755).unwrap();
    fs.set_user(0, 0);
    write_all(&fs, &file, b"x");
    assert_eq!(fs.file_metadata(&file).unwrap().mode, 0o6755);
    fs.set_owner(&file, Some(7), None).unwrap();
    assert_eq!(fs.file_metadata(&file).unwrap().mode, 0o755);
}

#[test]
fn a_dir_must_be_opened_for_syncing_to_be_synced() {
    let fs = SimFs::new();
    let names = fs.open_dir("/".as_ref(), DirUse::Names).unwrap();
    assert_eq!(code(fs.sync_dir(&names, None)), Code::EBADF);
    // One that may not be listed is synced through a file in it.
    fs.put_dir_with("/dark", Attributes { mode: 0o333, uid: 1000, gid: 1000 }).unwrap();
    let dark = open(&fs, "/dark");
    let file = create(&fs, &dark, "a", b"");
    assert_eq!(code(fs.sync_dir(&dark, None)), Code::EACCES);
    fs.sync_dir(&dark, Some(&file)).unwrap();
    assert_eq!(contents(&fs, Model::StrictPosix, "/dark/a"), BTreeSet::from([some(b"")]));
}

#[test]
fn bytes_are_read_from_anywhere_and_foreign_memory_is_not() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let file = create(&fs, &dir, "a", b"abcdef");
    let mut buffer = [0; 4];
    assert_eq!(fs.read(&file, &mut buffer, 1).unwrap(), 4);
    assert_eq!(&buffer, b"bcde");
    assert_eq!(fs.read(&file, &mut buffer, 5).unwrap(), 1);
    assert_eq!(fs.read(&file, &mut buffer, 6).unwrap(), 0);
    assert_eq!(fs.read(&file, &mut buffer, u64::MAX).unwrap(), 0);
    let foreign = Chunk::Memory { address: 1, length: 1 };
    assert_eq!(code(fs.write(&file, foreign)), Code::EFAULT);
}

#[test]
fn an_existing_file_is_opened_for_reading_only() {
    let fs = with_note();
    fs.put_link("/box/link", "note").unwrap();
    fs.put_file_with("/box/secret", b"", Attributes { mode: 0o600, uid: 5, gid: 5 }).unwrap();
    let dir = open(&fs, "/box");
    assert_eq!(fs.names(&dir).unwrap(), ["link", "note", "secret"]);
    let file = fs.open(&dir, name("note")).unwrap();
    let mut buffer = [0; 3];
    assert_eq!(fs.read(&file, &mut buffer, 0).unwrap(), 3);
    assert_eq!(code(fs.write(&file, Chunk::Slice(b"x"))), Code::EBADF);
    assert_eq!(code(fs.open(&dir, name("link"))), Code::ELOOP);
    assert_eq!(code(fs.open(&dir, name("secret"))), Code::EACCES);
    assert_eq!(fs.open_handles(), (1, 1));
}

#[test]
fn a_rename_to_a_new_name_takes_no_name_away() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let file = create(&fs, &dir, "temp", b"new");
    fs.sync_file(&file).unwrap();
    fs.sync_dir(&dir, None).unwrap();
    let to = |called| fs.rename_new(&dir, &file, name("temp"), name(called));
    assert_eq!(code(to("note")), Code::EEXIST);
    to("other").unwrap();
    assert_eq!(code(to("third")), Code::ENOENT);
    for model in Model::ALL {
        let expected = [["note", "other"], ["note", "temp"]];
        let expected = expected.map(|names| names.map(str::to_owned).to_vec());
        assert_eq!(listings(&fs, *model, "/box"), BTreeSet::from(expected));
    }
}

#[test]
fn a_copy_by_the_disk_is_as_loose_as_a_write() {
    let fs = with_note();
    let dir = open(&fs, "/box");
    let (note, copy) = (fs.open(&dir, name("note")).unwrap(), create(&fs, &dir, "a", b""));
    assert_eq!(fs.copy(&note, 0, &copy, 9).unwrap(), None);
    assert!(!fs.clone_content(&note, &copy).unwrap());
    fs.set_copying(Copying::Bytes);
    assert_eq!(fs.copy(&note, 1, &copy, 9).unwrap(), Some(2));
    fs.set_copying(Copying::Sharing);
    let clone = create(&fs, &dir, "b", b"");
    assert!(fs.clone_content(&note, &clone).unwrap());
    assert_eq!(*fs.read_file("/box/a").unwrap(), b"ld");
    assert_eq!(*fs.read_file("/box/b").unwrap(), b"old");
    fs.sync_dir(&dir, None).unwrap();
    for model in Model::ALL {
        assert!(contents(&fs, *model, "/box/a").contains(&some(b"")));
        assert!(contents(&fs, *model, "/box/b").contains(&some(b"\0\0\0")));
    }
}

// ── The list of crash states ──────────────────────────────────────────────────────────────

#[test]
fn too_many_states_are_sampled_and_it_is_said_so() {
    let fs = SimFs::new();
    let dir = open(&fs, "/");
    let files: Vec<SimFile> =
        (0..12).map(|n| create(&fs, &dir, &format!("f{n}"), b"bytes")).collect();
    for model in Model::ALL {
        let states = fs.crash_states(*model, 500);
        assert!(!states.complete);
        assert!(states.states.len() > 100 && states.states.len() <= 1000);
        let texts = |states: CrashStates| -> BTreeSet<String> {
            states.into_iter().map(|state| state.fs.describe()).collect()
        };
        let found = texts(states);
        assert_eq!(found, texts(fs.crash_states(*model, 500)), "the same every time");
        assert_ne!(found, texts(fs.crash_states_seeded(*model, 500, 1)));
    }
    drop(files);
}

/// Random operations on a small disk; the seed decides.
fn random_walk(seed: u64) -> SimFs {
    let mut random = Random(seed);
    let mut roll = |limit| random.below(limit);
    let fs = SimFs::new();
    fs.put_file("/a", b"old").unwrap();
    fs.put_dir("/box").unwrap();
    let dirs = [open(&fs, "/"), open(&fs, "/box")];
    let mut files: Vec<(SimFile, usize)> = Vec::new();
    for _ in 0..8 {
        let dir = roll(2);
        let called = ["a", "b", "c"][roll(3)];
        let other = ["a", "b", "c"][roll(3)];
        match roll(8) {
            0 | 1 => {
                if let Ok(file) = fs.create_new(&dirs[dir], name(called), 0o644) {
                    files.push((file, dir));
                }
            }
            2 => {
                let _ = fs.remove(&dirs[dir], name(called));
            }
            3 => {
                if let Some((file, dir)) = files.last() {
                    let _ = fs.rename(&dirs[*dir], file, name(called), name(other));
                }
            }
            4 => {
                let _ = fs.sync_dir(&dirs[dir], None);
            }
            5 => {
                if let Some((file, _)) = files.last() {
                    write_all(&fs, file, b"xy");
                }
            }
            6 => {
                if let Some((file, _)) = files.last() {
                    fs.sync_file(file).unwrap();
                }
            }
            _ => {
                if let Some((file, _)) = files.last() {
                    fs.set_mode(file, [0o600, 0o640, 0o644][roll(3)]).unwrap();
                }
            }
        }
    }
    fs
}

#[test]
fn order_only_ever_takes_states_away_and_the_newest_state_is_always_possible() {
    let mut walked = 0;
    for seed in 0..400 {
        let fs = random_walk(seed);
        let texts = |model| -> Option<BTreeSet<String>> {
            let states = fs.crash_states(model, 20_000);
            let all: BTreeSet<String> =
                states.states.iter().map(|state| state.fs.describe()).collect();
            assert_eq!(all.len(), states.states.len(), "no state is listed twice");
            states.complete.then_some(all)
        };
        let strict = texts(Model::StrictPosix);
        let ordered = texts(Model::OrderedMetadata);
        if let (Some(strict), Some(ordered)) = (strict, ordered) {
            let now = fs.describe();
            assert!(ordered.contains(&now), "seed {seed}\n{}\n{now}", fs.log_text());
            let extra = ordered.difference(&strict).next();
            assert_eq!(extra, None, "seed {seed}\n{}", fs.log_text());
            walked += strict.len() + ordered.len();
        }
        fs.sync_filesystem().unwrap();
        for model in Model::ALL {
            let states = all(&fs, *model).states;
            assert_eq!(states.len(), 1, "seed {seed}\n{}", fs.log_text());
            assert_eq!(states[0].fs.describe(), fs.describe());
        }
    }
    println!("{walked} crash states of random operations compared");
}
