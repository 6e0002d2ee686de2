//! Backups, their return, and JSON updates on a disk that is unplugged at every moment and on
//! which every operation fails: a target has its old content or its new one, a backup that has its
//! name is whole, and what a call reports is true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use holdfast::backup::{self, BackupRequest, RestoreRequest, Retention, Reuse, Thinning};
use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::fs::os::Os;
use holdfast::json_update;
use holdfast::payload::Payload;
use holdfast::write::{
    self, AttemptError, Control, Durability, Format, Options, Stream, WriteRequest, run,
};
use holdfast_sim::{Attributes, Copying, Fault, Model, OperationKind, SimFs};

use common::{FileState, MOST, look, on_another_thread};

const TEXT: &[u8] = b"{\"turn\": 7, \"text\": \"the one to keep\"}";
const OLDER: &[u8] = b"{\"turn\": 1}";
const FILE: &str = "/dir/note";
const NOW: u64 = 1_700_000_000_000;
const PRIVATE: Attributes = Attributes { mode: 0o600, uid: 1000, gid: 1000 };

/// How an operation ended: whether it succeeded, and if not, whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Committed,
    Failed,
}

impl Outcome {
    fn of<T>(outcome: &Result<T, AttemptError>) -> Outcome {
        match outcome {
            Ok(_) => Outcome::Done,
            Err(error) if error.committed => Outcome::Committed,
            Err(_) => Outcome::Failed,
        }
    }
}

/// One operation, the disk it starts from, and what must be true of the disk after it.
struct OperationCase {
    name: String,
    set: Box<dyn Fn() -> SimFs>,
    run: Box<dyn Fn(&SimFs) -> Outcome>,
    /// A complaint about a disk as it is left: in memory, or after a power cut.
    check: Box<Check>,
}

type Check = dyn Fn(&SimFs, Outcome, Left) -> Result<(), String>;

/// How a disk was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    InMemory,
    Cut,
}

fn temps(fs: &SimFs) -> Vec<PathBuf> {
    let is_temp = |path: &PathBuf| path.extension().is_some_and(|end| end == "tmp");
    fs.paths().into_iter().filter(is_temp).collect()
}

impl OperationCase {
    /// What is wrong with the disk in memory and in all crash states.
    fn complaints(&self, fs: &SimFs, outcome: Outcome, states: &mut usize) -> Vec<String> {
        let mut complaints: Vec<String> =
            (self.check)(fs, outcome, Left::InMemory).err().into_iter().collect();
        if fs.open_handles() != (0, 0) {
            complaints.push(format!("open handles: {:?}", fs.open_handles()));
        }
        for model in Model::ALL {
            let cut = fs.crash_states(*model, MOST);
            assert!(cut.complete, "{}: more crash states than are looked at", self.name);
            for state in cut {
                *states += 1;
                if let Err(complaint) = (self.check)(&state.fs, outcome, Left::Cut) {
                    let how = state.description;
                    complaints
                        .push(format!("{complaint}\n{model:?}: {how}\n{}", state.fs.describe()));
                }
            }
        }
        complaints
    }

    /// The complaints about a power cut at every moment.
    fn cut_at_every_moment(&self, prepare: &dyn Fn(&SimFs)) -> (usize, Vec<String>) {
        let (mut states, mut all) = (0, Vec::new());
        for moment in 1.. {
            let fs = (self.set)();
            fs.inject(Fault::power_off().at(moment));
            prepare(&fs);
            let outcome = (self.run)(&fs);
            let is_over = fs.count() < moment;
            let mut complaints = self.complaints(&fs, outcome, &mut states);
            if is_over && outcome != Outcome::Done {
                complaints.push("an undisturbed run failed".to_owned());
            }
            if temps(&fs).len() > usize::from(!is_over) {
                complaints.push(format!("left: {:?}", temps(&fs)));
            }
            all.extend(complaints.into_iter().map(|complaint| {
                format!("{}, cut at {moment}: {complaint}\n{}", self.name, fs.log_text())
            }));
            if is_over {
                return (states, all);
            }
        }
        unreachable!()
    }

    /// The complaints about every operation that fails, once and for ever, before and after
    /// it took effect.
    fn every_fault(&self) -> (usize, Vec<String>) {
        let (mut runs, mut all) = (0, Vec::new());
        let undisturbed = (self.set)();
        assert_eq!((self.run)(&undisturbed), Outcome::Done, "{}", self.name);
        for number in 1..=undisturbed.count() {
            for code in [Code::EIO, Code::ENOSPC, Code::EACCES, Code::EINTR] {
                let once = Fault::fail(code).at(number);
                let after = Fault::fail_after(code).at(number);
                for fault in [once.clone(), once.clone().for_ever(), once.for_ever_alike(), after] {
                    let fs = (self.set)();
                    fs.inject(fault.clone());
                    let outcome = (self.run)(&fs);
                    runs += 1;
                    let mut complaints = self.complaints(&fs, outcome, &mut 0);
                    let failed_removal = fs
                        .log()
                        .iter()
                        .any(|done| done.kind == OperationKind::Remove && done.error.is_some());
                    if !temps(&fs).is_empty() && !failed_removal {
                        complaints.push(format!("left: {:?}", temps(&fs)));
                    }
                    all.extend(complaints.into_iter().map(|complaint| {
                        format!(
                            "{}, {fault:?}: {outcome:?}, {complaint}\n{}",
                            self.name,
                            fs.log_text()
                        )
                    }));
                }
            }
        }
        (runs, all)
    }
}

fn assert_none(complaints: Vec<String>) {
    if let Some(first) = complaints.first() {
        panic!("{} complaints, the first one:\n{first}", complaints.len());
    }
}

fn options(durability: Durability) -> Options {
    Options { durability, retry_delay: Duration::ZERO, ..Options::default() }
}

fn same(
    fs: &SimFs,
    path: impl AsRef<Path>,
    before: &Option<FileState>,
    what: &str,
) -> Result<(), String> {
    if look(fs, &path) == *before { Ok(()) } else { Err(format!("{what} has changed")) }
}

// ── Backups ───────────────────────────────────────────────────────────────────────────────

fn name_of(time: u64) -> PathBuf {
    PathBuf::from(format!("{FILE}.{time}.backup"))
}

fn backups(fs: &SimFs) -> BTreeSet<u64> {
    // A copy that works, so that looking is not an operation on the disk that is looked at.
    backup::list(&fs.after_kill(), Path::new(FILE))
        .unwrap()
        .into_iter()
        .map(|backup| backup.time)
        .collect()
}

/// The older backups: of each its time.
fn create_play(
    durability: Durability,
    copying: Copying,
    older: &'static [u64],
    keep: Option<usize>,
    validate: Option<Format>,
) -> OperationCase {
    let set = move || {
        let fs = SimFs::new();
        fs.put_file_with(FILE, TEXT, PRIVATE).unwrap();
        fs.put_file("/dir/note.txt.5.backup", b"not one of its own").unwrap();
        for time in older {
            fs.put_file(name_of(*time), OLDER).unwrap();
        }
        fs.set_copying(copying);
        fs
    };
    let before = look(&set(), FILE);
    let bystander = look(&set(), "/dir/note.txt.5.backup");
    // Later than every other one, though the clock has been ahead.
    let newest = older.iter().map(|time| time + 1).chain([NOW]).max().unwrap();
    // In a directory that may not be listed: the first name that is free.
    let free = (NOW..).find(|time| !older.contains(time)).unwrap();
    let check = move |fs: &SimFs, outcome: Outcome, left: Left| {
        same(fs, FILE, &before, "the file")?;
        same(fs, "/dir/note.txt.5.backup", &bystander, "a bystander")?;
        let found = backups(fs);
        let expected = if found.contains(&free) { free } else { newest };
        let is_synced = durability != Durability::None || keep.is_some();
        if found.contains(&expected) && (left == Left::InMemory || is_synced) {
            let seen = look(fs, name_of(expected)).unwrap();
            if seen.content.as_deref().map(Vec::as_slice) != Some(TEXT) {
                return Err("the backup is not whole".to_owned());
            }
            if seen.metadata.mode != 0o600 {
                return Err(format!("the backup has mode {:o}", seen.metadata.mode));
            }
        }
        if let Some(extra) = found.iter().find(|time| !older.contains(time) && **time != expected) {
            return Err(format!("what is the backup {extra}?"));
        }
        let is_durable = durability == Durability::Full || keep.is_some();
        let must_be_there = outcome == Outcome::Done && (left == Left::InMemory || is_durable);
        if must_be_there && !found.contains(&expected) {
            return Err("acknowledged, but not there".to_owned());
        }
        if outcome == Outcome::Failed && left == Left::InMemory && found.contains(&expected) {
            return Err("refused, but there".to_owned());
        }
        // Older ones go only once the new one stays.
        for time in older {
            match look(fs, name_of(*time)) {
                Some(seen) if seen.content.as_deref().map(Vec::as_slice) == Some(OLDER) => {}
                Some(_) => return Err(format!("the older backup {time} has changed")),
                None if keep.is_none() => return Err(format!("{time} is gone")),
                None if *time > expected => return Err(format!("{time}, which is newer, is gone")),
                None if !found.contains(&expected) => {
                    return Err(format!("{time} is gone, and the new one is not there"));
                }
                None => {}
            }
        }
        if let Some(keep) = keep
            && found.len() < keep.min(older.len())
        {
            return Err(format!("only {} backups are left", found.len()));
        }
        Ok(())
    };
    OperationCase {
        name: format!("backup, {durability:?}, {copying:?}, older {older:?}, keep {keep:?}"),
        set: Box::new(set),
        run: Box::new(move |fs| {
            let request = BackupRequest {
                path: FILE.into(),
                time: NOW,
                options: Options { validate, ..options(durability) },
                reuse: Reuse::default(),
                keep: keep.map(Retention::newest),
            };
            let outcome = backup::create(fs, &request, &Control::default(), None);
            if let Ok(name) = &outcome {
                // The first listing is for the name, a later one for what is to be removed.
                let mut log = fs.log().into_iter();
                let listing = log.find(|done| done.kind == OperationKind::Names);
                let is_refused = listing
                    .and_then(|done| done.error)
                    .is_some_and(|error| error.contains("EACCES") || error.contains("EPERM"));
                let expected = if is_refused { free } else { newest };
                assert_eq!(Path::new(FILE).with_file_name(name), name_of(expected));
            }
            Outcome::of(&outcome)
        }),
        check: Box::new(check),
    }
}

fn create_plays() -> Vec<OperationCase> {
    let mut plays = Vec::new();
    for durability in common::DURABILITIES {
        for copying in [Copying::No, Copying::Bytes, Copying::Sharing] {
            plays.push(create_play(durability, copying, &[], None, None));
        }
        plays.push(create_play(durability, Copying::No, &[NOW, NOW + 1], None, None));
        plays.push(create_play(durability, Copying::No, &[3, 4], Some(1), Some(Format::Json)));
        plays.push(create_play(durability, Copying::No, &[3, 4, NOW + 9], Some(2), None));
    }
    plays
}

#[test]
fn a_power_cut_leaves_no_torn_backup_and_no_backup_is_lost_for_one_that_is_not_durable() {
    let mut all = 0;
    for play in create_plays() {
        let (states, complaints) = play.cut_at_every_moment(&|_| {});
        all += states;
        assert_none(complaints);
    }
    println!("{all} crash states");
}

#[test]
fn whatever_fails_a_backup_is_whole_or_not_there_and_the_call_says_which() {
    let mut all = 0;
    for play in create_plays() {
        let (runs, complaints) = play.every_fault();
        all += runs;
        assert_none(complaints);
    }
    println!("{all} runs");
}

#[test]
fn pruning_before_the_new_backup_is_durable_would_be_noticed() {
    let play = create_play(Durability::Full, Copying::No, &[3, 4], Some(1), None);
    let leave_out = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncDir).for_ever());
    };
    assert!(!play.cut_at_every_moment(&leave_out).1.is_empty());
}

#[test]
fn leaving_out_the_sync_of_a_backup_would_be_noticed() {
    let play = create_play(Durability::Full, Copying::Sharing, &[], None, None);
    let leave_out = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
    };
    assert!(!play.cut_at_every_moment(&leave_out).1.is_empty());
}

#[test]
fn a_name_that_is_taken_at_the_last_moment_is_not_overwritten() {
    let fs = SimFs::new();
    fs.put_file(FILE, TEXT).unwrap();
    let take = |fs: &SimFs, _: &Path| fs.put_file(name_of(NOW), b"somebody else's").unwrap();
    fs.inject(Fault::intrude(take).of(OperationKind::RenameNew));
    let request = BackupRequest {
        path: FILE.into(),
        time: NOW,
        options: options(Durability::Full),
        reuse: Reuse::default(),
        keep: None,
    };
    let name = backup::create(&fs, &request, &Control::default(), None).unwrap();
    assert_eq!(Path::new(FILE).with_file_name(name), name_of(NOW + 1));
    assert_eq!(*fs.read_file(name_of(NOW)).unwrap(), b"somebody else's");
    assert_eq!(*fs.read_file(name_of(NOW + 1)).unwrap(), TEXT);
}

#[test]
fn a_file_that_is_replaced_while_it_is_copied_is_backed_up_as_it_was() {
    for copying in [Copying::No, Copying::Bytes, Copying::Sharing] {
        for kind in [OperationKind::Read, OperationKind::Copy, OperationKind::CloneContent] {
            let fs = SimFs::new();
            fs.put_file(FILE, TEXT).unwrap();
            fs.set_copying(copying);
            let replace = |fs: &SimFs, _: &Path| {
                let payload = Payload::Owned(b"something else, and longer than before".to_vec());
                let options = options(Durability::Full);
                let request = WriteRequest { path: FILE.into(), payload, options };
                on_another_thread(|| run(fs, &request, &Control::default(), None)).unwrap();
            };
            // With the first piece still to come, and with some of them done.
            fs.inject(Fault::intrude(replace).of(kind).at(1));
            fs.inject(Fault::intrude(replace).of(kind).at(2));
            fs.inject(Fault::short_write(5).for_ever());
            let request = BackupRequest {
                path: FILE.into(),
                time: NOW,
                options: options(Durability::Full),
                reuse: Reuse::default(),
                keep: None,
            };
            backup::create(&fs, &request, &Control::default(), None).unwrap();
            assert_eq!(*fs.read_file(name_of(NOW)).unwrap(), TEXT, "{copying:?} {kind:?}");
        }
    }
}

#[test]
fn a_file_that_grows_or_shrinks_in_place_while_it_is_copied_is_no_error() {
    for bytes in [b"{}".as_slice(), &[b' '; 100]] {
        let fs = SimFs::new();
        fs.put_file(FILE, TEXT).unwrap();
        let change = move |fs: &SimFs, _: &Path| fs.put_file(FILE, bytes).unwrap();
        fs.inject(Fault::intrude(change).of(OperationKind::Read));
        let request = BackupRequest {
            path: FILE.into(),
            time: NOW,
            options: options(Durability::Full),
            reuse: Reuse::default(),
            keep: None,
        };
        backup::create(&fs, &request, &Control::default(), None).unwrap();
        assert_eq!(*fs.read_file(name_of(NOW)).unwrap(), bytes);
    }
}

// ── Restores ──────────────────────────────────────────────────────────────────────────────

fn restore_play(durability: Durability, copying: Copying, is_there: bool) -> OperationCase {
    let set = move || {
        let fs = SimFs::new();
        if is_there {
            fs.put_file(FILE, OLDER).unwrap();
        }
        fs.put_file_with(name_of(NOW), TEXT, PRIVATE).unwrap();
        fs.set_copying(copying);
        fs
    };
    let old = look(&set(), FILE);
    let source = look(&set(), name_of(NOW));
    // Those of the target, or else of the backup.
    let mode = if is_there { 0o644 } else { 0o600 };
    let check = move |fs: &SimFs, outcome: Outcome, left: Left| {
        same(fs, name_of(NOW), &source, "the backup")?;
        let seen = look(fs, FILE);
        let is_old = seen == old;
        let is_new = seen.as_ref().is_some_and(|seen| {
            seen.content.as_deref().map(Vec::as_slice) == Some(TEXT) && seen.metadata.mode == mode
        });
        let promises = left == Left::InMemory || durability != Durability::None;
        if promises && !is_old && !is_new {
            return Err("the target is neither what it was nor the backup".to_owned());
        }
        let acknowledged = left == Left::InMemory || durability == Durability::Full;
        match outcome {
            Outcome::Done if acknowledged && !is_new => Err("acknowledged, but old".to_owned()),
            Outcome::Failed if promises && !is_old && left == Left::InMemory => {
                Err("refused, but new".to_owned())
            }
            Outcome::Committed if left == Left::InMemory && !is_new => {
                Err("said to be in place".to_owned())
            }
            _ => Ok(()),
        }
    };
    OperationCase {
        name: format!("restore, {durability:?}, {copying:?}, target is there: {is_there}"),
        set: Box::new(set),
        run: Box::new(move |fs| {
            let request = RestoreRequest {
                backup: name_of(NOW),
                target: FILE.into(),
                options: Options { validate: Some(Format::Json), ..options(durability) },
            };
            Outcome::of(&backup::restore(fs, &request, &Control::default(), None))
        }),
        check: Box::new(check),
    }
}

fn restore_plays() -> Vec<OperationCase> {
    let mut plays = Vec::new();
    for durability in common::DURABILITIES {
        for copying in [Copying::No, Copying::Bytes, Copying::Sharing] {
            plays.extend([true, false].map(|is_there| restore_play(durability, copying, is_there)));
        }
    }
    plays
}

#[test]
fn a_power_cut_leaves_what_was_there_or_the_backup() {
    let mut all = 0;
    for play in restore_plays() {
        let (states, complaints) = play.cut_at_every_moment(&|_| {});
        all += states;
        assert_none(complaints);
    }
    println!("{all} crash states");
}

#[test]
fn whatever_fails_a_restore_leaves_what_was_there_or_the_backup_and_says_which() {
    let mut all = 0;
    for play in restore_plays() {
        let (runs, complaints) = play.every_fault();
        all += runs;
        assert_none(complaints);
    }
    println!("{all} runs");
}

#[test]
fn a_restore_that_copied_onto_the_target_would_be_noticed() {
    let play = restore_play(Durability::Full, Copying::No, true);
    let in_place = OperationCase {
        run: Box::new(|fs| {
            let bytes = fs.read_file(name_of(NOW)).unwrap();
            let (front, _) = bytes.split_at(bytes.len() / 2);
            fs.put_file(FILE, front).unwrap();
            fs.put_file(FILE, &bytes).unwrap();
            Outcome::Done
        }),
        ..play
    };
    // It is the mode and the identity that give it away where the bytes do not: so the check
    // is shown a half-copied target, too.
    let fs = (in_place.set)();
    fs.put_file(FILE, b"half").unwrap();
    assert!((in_place.check)(&fs, Outcome::Failed, Left::InMemory).is_err());
}

#[test]
fn a_corrupt_backup_is_not_restored_and_a_corrupt_file_not_backed_up() {
    for bytes in [b"{\"turn\":".as_slice(), b"\"\xff\"", b"", b" \n", b"\xEF\xBB\xBF{}"] {
        let fs = SimFs::new();
        fs.put_file(FILE, OLDER).unwrap();
        fs.put_file(name_of(NOW), bytes).unwrap();
        let before = look(&fs, FILE);
        let paths = fs.paths();
        let options = Options { validate: Some(Format::Json), ..options(Durability::Full) };
        let (backup, target) = (name_of(NOW), FILE.into());
        let request = RestoreRequest { backup, target, options: options.clone() };
        let error = backup::restore(&fs, &request, &Control::default(), None).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::BadJson(_) | ErrorKind::EmptyJson), "{error:?}");

        let request = BackupRequest {
            path: name_of(NOW),
            time: NOW,
            options,
            reuse: Reuse::default(),
            keep: Some(Retention::newest(1)),
        };
        let error = backup::create(&fs, &request, &Control::default(), None).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::BadJson(_) | ErrorKind::EmptyJson), "{error:?}");
        assert!(look(&fs, FILE) == before);
        assert_eq!(fs.paths(), paths);
    }
}

// ── Streams ───────────────────────────────────────────────────────────────────────────────

/// The same checks as for a restore: the target is what it was, or all that was written.
fn stream_play(durability: Durability, is_there: bool) -> OperationCase {
    let run = move |fs: &SimFs| {
        let control = Control::default();
        let options = Options {
            mode: (!is_there).then_some(0o600),
            validate: Some(Format::Json),
            ..options(durability)
        };
        let (front, back) = TEXT.split_at(7);
        let write = || {
            let mut stream = Stream::open(fs.clone(), FILE.into(), options, &control, None)?;
            for piece in [front, b"", back] {
                stream.write(&Payload::Owned(piece.to_vec()), &control, None)?;
            }
            stream.commit(&control, None)
        };
        Outcome::of(&write())
    };
    OperationCase {
        name: format!("stream, {durability:?}, target is there: {is_there}"),
        run: Box::new(run),
        ..restore_play(durability, Copying::No, is_there)
    }
}

#[test]
fn a_stream_leaves_what_was_there_or_all_that_was_written_whatever_happens() {
    let (mut all, mut runs) = (0, 0);
    for durability in common::DURABILITIES {
        for is_there in [true, false] {
            let play = stream_play(durability, is_there);
            let (states, complaints) = play.cut_at_every_moment(&|_| {});
            assert_none(complaints);
            let (faults, complaints) = play.every_fault();
            assert_none(complaints);
            (all, runs) = (all + states, runs + faults);
        }
    }
    println!("{all} crash states, {runs} runs");
}

#[test]
fn a_stream_that_is_dropped_leaves_nothing() {
    let fs = SimFs::new();
    fs.put_file(FILE, OLDER).unwrap();
    let (before, paths) = (look(&fs, FILE), fs.paths());
    let control = Control::default();
    let open = || {
        let options = options(Durability::Full);
        Stream::open(fs.clone(), FILE.into(), options, &control, None).unwrap()
    };
    let mut stream = open();
    stream.write(&Payload::Owned(TEXT.to_vec()), &control, None).unwrap();
    drop(stream);
    open().remove(None);
    control.cancel();
    assert!(matches!(
        Stream::open(fs.clone(), FILE.into(), options(Durability::Full), &control, None),
        Err(AttemptError { kind: ErrorKind::Cancelled, committed: false })
    ));
    assert!(look(&fs, FILE) == before);
    assert_eq!(fs.paths(), paths);
    assert_eq!(fs.open_handles(), (0, 0));
}

// ── JSON updates ──────────────────────────────────────────────────────────────────────────

const UPDATED: &[u8] = b"{\"turn\":2}";

/// The two trips of an update, with the function between them that JavaScript would call.
fn update(fs: &SimFs, durability: Durability, text: &[u8]) -> Result<(), AttemptError> {
    let read = json_update::read(fs, FILE.as_ref(), true)?;
    if read.as_deref().map(str::as_bytes) == Some(text) {
        return Ok(json_update::sync_unchanged(fs, FILE.as_ref(), true, durability)?);
    }
    assert!(read.is_none_or(|text| text.as_bytes() == OLDER), "it reads one version");
    let options = Options { validate: Some(Format::Json), ..options(durability) };
    let request =
        WriteRequest { path: FILE.into(), payload: Payload::Owned(text.to_vec()), options };
    run(fs, &request, &Control::default(), None)
        .map_err(|error| AttemptError { kind: error.kind, committed: error.committed })
}

fn update_play(durability: Durability, is_there: bool, changes: bool) -> OperationCase {
    let set = move || {
        let fs = SimFs::new();
        fs.put_file("/dir/bystander", b"not yours").unwrap();
        if is_there {
            fs.put_file_with(FILE, OLDER, PRIVATE).unwrap();
        }
        fs
    };
    let old = look(&set(), FILE);
    let text = if changes { UPDATED } else { OLDER };
    let check = move |fs: &SimFs, outcome: Outcome, left: Left| {
        let seen = look(fs, FILE);
        let is_old = seen == old;
        let is_new = seen
            .as_ref()
            .is_some_and(|seen| seen.content.as_deref().map(Vec::as_slice) == Some(text));
        let promises = left == Left::InMemory || durability != Durability::None;
        if promises && !is_old && !is_new {
            return Err("the file is neither what it was nor what it was to be".to_owned());
        }
        let acknowledged = left == Left::InMemory || durability == Durability::Full;
        match outcome {
            Outcome::Done if acknowledged && !is_new => Err("acknowledged, but lost".to_owned()),
            Outcome::Failed if left == Left::InMemory && !is_old => {
                Err("refused, but in place".to_owned())
            }
            _ => Ok(()),
        }
    };
    OperationCase {
        name: format!("update, {durability:?}, file is there: {is_there}, changes: {changes}"),
        set: Box::new(set),
        run: Box::new(move |fs| Outcome::of(&update(fs, durability, text))),
        check: Box::new(check),
    }
}

fn update_plays() -> Vec<OperationCase> {
    let mut plays = Vec::new();
    for durability in common::DURABILITIES {
        for (is_there, changes) in [(true, true), (true, false), (false, true)] {
            plays.push(update_play(durability, is_there, changes));
        }
    }
    plays
}

#[test]
fn a_power_cut_in_an_update_leaves_the_json_before_it_or_after_it() {
    let mut all = 0;
    for play in update_plays() {
        let (states, complaints) = play.cut_at_every_moment(&|_| {});
        all += states;
        assert_none(complaints);
    }
    println!("{all} crash states");
}

#[test]
fn whatever_fails_in_an_update_it_says_what_is_in_the_file() {
    let mut all = 0;
    for play in update_plays() {
        let (runs, complaints) = play.every_fault();
        all += runs;
        assert_none(complaints);
    }
    println!("{all} runs");
}

/// What a killed process wrote and did not sync is not lost for a caller that leaves it unchanged.
#[test]
fn a_file_that_need_not_change_is_made_durable_all_the_same() {
    let fs = SimFs::new();
    fs.put_file(FILE, OLDER).unwrap();
    update(&fs, Durability::None, UPDATED).unwrap();
    update(&fs, Durability::Full, UPDATED).unwrap();
    for model in Model::ALL {
        for state in fs.crash_states(*model, MOST) {
            assert_eq!(*state.fs.read_file(FILE).unwrap(), UPDATED, "{}", state.description);
        }
    }
}

#[test]
fn what_was_changed_in_the_same_millisecond_is_not_newer() {
    let dir = tempfile::tempdir().unwrap();
    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    for (name, nanoseconds) in [("before", 0), ("within", 999_999), ("after", 1_000_000)] {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(until + Duration::from_nanos(nanoseconds)).unwrap();
    }
    let names = ["before", "within", "after"].map(str::to_owned).to_vec();
    let removed = backup::remove(&Os, dir.path(), names, Some(until), 0).unwrap();
    assert_eq!(removed, ["before", "within"]);
}

// ── Where freed blocks are used again at once ─────────────────────────────────────────────

// ── Removals ──────────────────────────────────────────────────────────────────────────────

fn removal_play(durability: Durability) -> OperationCase {
    let set = || {
        let fs = SimFs::new();
        fs.put_file_with(FILE, TEXT, PRIVATE).unwrap();
        fs.put_file("/dir/bystander", OLDER).unwrap();
        fs
    };
    let (before, bystander) = (look(&set(), FILE), look(&set(), "/dir/bystander"));
    let check = move |fs: &SimFs, outcome: Outcome, left: Left| {
        same(fs, "/dir/bystander", &bystander, "a bystander")?;
        let seen = look(fs, FILE);
        if seen.is_some() {
            same(fs, FILE, &before, "the file that came back")?;
        }
        let stands = left == Left::InMemory || durability == Durability::Full;
        match (outcome, seen.is_some()) {
            (Outcome::Done, true) if stands => Err("acknowledged, but there".to_owned()),
            (Outcome::Committed, true) if left == Left::InMemory => {
                Err("said to be gone, but there".to_owned())
            }
            (Outcome::Failed, false) => Err("refused, but gone".to_owned()),
            _ => Ok(()),
        }
    };
    OperationCase {
        name: format!("removal, {durability:?}"),
        set: Box::new(set),
        run: Box::new(move |fs| {
            Outcome::of(&write::remove_file(fs, FILE.as_ref(), true, durability, None))
        }),
        check: Box::new(check),
    }
}

#[test]
fn a_file_that_is_removed_is_there_whole_or_gone_and_gone_for_good_once_acknowledged() {
    let (mut states, mut runs) = (0, 0);
    for durability in common::DURABILITIES {
        let play = removal_play(durability);
        let (count, complaints) = play.cut_at_every_moment(&|_| {});
        states += count;
        assert_none(complaints);
        let (count, complaints) = play.every_fault();
        runs += count;
        assert_none(complaints);
    }
    println!("{states} crash states, {runs} runs");
    let leave_out = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncDir).for_ever());
    };
    let (_, complaints) = removal_play(Durability::Full).cut_at_every_moment(&leave_out);
    assert!(!complaints.is_empty(), "a removal that is not synced is not noticed");
}

fn all_plays() -> Vec<OperationCase> {
    let mut plays = create_plays();
    plays.extend(restore_plays());
    plays.extend(update_plays());
    for durability in common::DURABILITIES {
        plays.push(stream_play(durability, true));
        plays.push(removal_play(durability));
    }
    plays
}

#[test]
fn neither_what_is_replaced_nor_what_is_pruned_comes_back_with_other_bytes() {
    let mut all = 0;
    for play in all_plays() {
        let (states, complaints) = play.cut_at_every_moment(&|fs| fs.set_reuses_freed(true));
        all += states;
        assert_none(complaints);
    }
    println!("freed blocks are used again: {all} crash states");
}

#[test]
fn what_comes_back_with_other_bytes_would_be_noticed() {
    let noticed = |name: &str| {
        let mut plays = all_plays();
        plays.retain(|play| play.name.starts_with(name));
        assert!(!plays.is_empty(), "{name}");
        plays
            .iter()
            .any(|play| !play.cut_at_every_moment(&SimFs::set_reuses_freed_silently).1.is_empty())
    };
    for name in ["backup, ", "restore, ", "update, ", "stream, ", "removal, "] {
        assert!(noticed(name), "{name}");
    }
}

/// Whoever asks for the removal of backups has older ones removed, or as they were.
#[test]
fn backups_that_are_removed_come_back_whole_or_not_at_all() {
    let names: Vec<String> =
        (0..70).map(|time| name_of(time).file_name().unwrap().to_str().unwrap().into()).collect();
    let run = |prepare: &dyn Fn(&SimFs)| {
        let mut damaged = 0;
        for moment in 1.. {
            let fs = SimFs::new();
            (0..70).for_each(|time| fs.put_file(name_of(time), OLDER).unwrap());
            prepare(&fs);
            fs.inject(Fault::power_off().at(moment));
            let _ = backup::remove(&fs, "/dir".as_ref(), names.clone(), None, 0);
            let is_over = fs.count() < moment;
            assert_eq!(fs.open_handles(), (0, 0));
            for state in fs.crash_states(Model::OrderedMetadata, 300) {
                let is_whole = |time| {
                    let found = state.fs.read_file(name_of(time));
                    found.map_or(true, |bytes| **bytes == *OLDER)
                };
                damaged += usize::from(!(0..70).all(is_whole));
            }
            if is_over {
                return damaged;
            }
        }
        unreachable!()
    };
    assert_eq!(run(&|fs| fs.set_reuses_freed(true)), 0);
    assert!(run(&SimFs::set_reuses_freed_silently) > 0);
}

// ── The history of a file ─────────────────────────────────────────────────────────────────

/// A backup that stands for a new one, though nobody has made it durable so far.
fn reuse_play(durability: Durability, reuse: Reuse, keep: Option<Retention>) -> OperationCase {
    let request =
        move |time: u64, durability: Durability, reuse: Reuse, keep: Option<Retention>| {
            BackupRequest { path: FILE.into(), time, options: options(durability), reuse, keep }
        };
    let check = move |fs: &SimFs, outcome: Outcome, left: Left| {
        let is_whole = |time| {
            look(fs, name_of(time))
                .is_some_and(|seen| seen.content.as_deref().map(Vec::as_slice) == Some(TEXT))
        };
        let is_durable = durability == Durability::Full || keep.is_some();
        // A backup that cannot be made durable is followed by another one.
        let has_one = [NOW, NOW + 1].into_iter().any(is_whole);
        if outcome == Outcome::Done && (left == Left::InMemory || is_durable) && !has_one {
            return Err("acknowledged, but no backup is there".to_owned());
        }
        if look(fs, name_of(3)).is_none() && !has_one {
            return Err("the older one is gone, and nothing is there in its place".to_owned());
        }
        Ok(())
    };
    OperationCase {
        name: format!("reuse, {durability:?}, {reuse:?}, {keep:?}"),
        set: Box::new(|| {
            let fs = SimFs::new();
            fs.put_file_with(FILE, TEXT, PRIVATE).unwrap();
            fs.put_file(name_of(3), OLDER).unwrap();
            fs
        }),
        run: Box::new(move |fs| {
            let first = request(NOW, Durability::None, Reuse::default(), None);
            let made = backup::create(fs, &first, &Control::default(), None);
            if made.is_err() {
                return Outcome::of(&made);
            }
            let again = request(NOW + 1, durability, reuse, keep);
            let outcome = backup::create(fs, &again, &Control::default(), None);
            if fs.log().iter().all(|done| done.error.is_none()) {
                assert_eq!(outcome.as_ref().ok(), made.as_ref().ok(), "none was made");
            }
            Outcome::of(&outcome)
        }),
        check: Box::new(check),
    }
}

fn reuse_plays() -> Vec<OperationCase> {
    let unchanged = Reuse { only_if_changed: true, min_interval: None };
    let young = Reuse { only_if_changed: false, min_interval: Some(1000.0) };
    let mut plays = Vec::new();
    for durability in common::DURABILITIES {
        for reuse in [unchanged, young] {
            for keep in [None, Some(Retention::newest(1))] {
                plays.push(reuse_play(durability, reuse, keep));
            }
        }
    }
    plays
}

#[test]
fn a_backup_that_stands_for_a_new_one_is_as_durable_as_that_would_be() {
    let (mut states, mut runs) = (0, 0);
    for play in reuse_plays() {
        let (count, complaints) = play.cut_at_every_moment(&|_| {});
        states += count;
        assert_none(complaints);
        let (count, complaints) = play.every_fault();
        runs += count;
        assert_none(complaints);
    }
    println!("{states} crash states, {runs} runs");
    for kind in [OperationKind::SyncFile, OperationKind::SyncDir] {
        let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(kind).for_ever());
        let is_noticed = |play: &OperationCase| !play.cut_at_every_moment(&leave_out).1.is_empty();
        assert!(reuse_plays().iter().any(is_noticed), "{kind:?}");
    }
}

/// Backups 1 to 4, and one that was made without a sync: all but the newest good ones go.
fn thin_play(by_dir: bool, keep_newest: usize) -> OperationCase {
    let run = move |fs: &SimFs| {
        let write = |time: u64, bytes: &[u8]| {
            let options = options(Durability::None);
            let payload = Payload::Owned(bytes.to_vec());
            let request = WriteRequest { path: name_of(time), payload, options };
            run(fs, &request, &Control::default(), None)
        };
        if write(NOW, TEXT).is_err() {
            return Outcome::Failed;
        }
        let times = [1, 2, 3, 4, NOW];
        let removed = if by_dir {
            let name = |time| name_of(time).file_name().unwrap().to_str().unwrap().to_owned();
            let names = times.into_iter().map(name).collect();
            backup::remove(fs, "/dir".as_ref(), names, None, keep_newest)
                .map(|removed| removed.len())
        } else {
            let keep = Retention::default();
            let thinning =
                Thinning { keep: &keep, max_age: Some(0.0), keep_newest, now: NOW, validate: None };
            let control = Control::default();
            backup::thin(fs, FILE.as_ref(), &thinning, None, &control).map(|removed| removed.len())
        };
        if fs.log().iter().all(|done| done.error.is_none()) {
            assert_eq!(removed.as_ref().ok(), Some(&(times.len() - keep_newest)));
        }
        if removed.is_ok() { Outcome::Done } else { Outcome::Failed }
    };
    let check = move |fs: &SimFs, _: Outcome, _: Left| {
        let bytes = |time| look(fs, name_of(time)).and_then(|seen| seen.content);
        for time in [1, 3] {
            if bytes(time).is_some_and(|bytes| **bytes != *OLDER) {
                return Err(format!("{time} is torn"));
            }
        }
        let is_whole = |time: &u64| match *time {
            NOW => bytes(NOW).is_some_and(|bytes| **bytes == *TEXT),
            time => bytes(time).is_some_and(|bytes| **bytes == *OLDER),
        };
        // 2 and 4 are empty, and were never good.
        let good = [NOW, 3, 1].iter().filter(|time| is_whole(time)).count();
        if good < keep_newest {
            return Err(format!("{good} good ones are left"));
        }
        Ok(())
    };
    OperationCase {
        name: format!("thin, by {}, {keep_newest}", if by_dir { "names" } else { "file" }),
        set: Box::new(|| {
            let fs = SimFs::new();
            fs.put_file(FILE, TEXT).unwrap();
            for (time, bytes) in [(1, OLDER), (2, b"".as_slice()), (3, OLDER), (4, b"")] {
                fs.put_file(name_of(time), bytes).unwrap();
            }
            fs
        }),
        run: Box::new(run),
        check: Box::new(check),
    }
}

#[test]
fn cleaning_up_leaves_the_newest_good_backups_whatever_happens() {
    let plays = || {
        [(false, 1), (false, 2), (true, 1), (true, 2)].map(|(by_dir, keep)| thin_play(by_dir, keep))
    };
    let (mut states, mut runs) = (0, 0);
    for play in plays() {
        let (count, complaints) = play.cut_at_every_moment(&|_| {});
        states += count;
        assert_none(complaints);
        let (count, complaints) = play.every_fault();
        runs += count;
        assert_none(complaints);
    }
    println!("{states} crash states, {runs} runs");
    for play in plays() {
        for kind in [OperationKind::SyncFile, OperationKind::SyncDir] {
            let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(kind).for_ever());
            assert!(!play.cut_at_every_moment(&leave_out).1.is_empty(), "{}: {kind:?}", play.name);
        }
    }
}
