//! Writes that are synced together, on a disk that is unplugged at every moment and on which
//! every operation fails: each of them keeps its own promise, and fails on its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::time::Duration;

use holdfast::engine::run_together;
use holdfast::error::Code;
use holdfast::error::Error;
use holdfast::payload::Payload;
use holdfast::write::{Durability, Options, WriteRequest};
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

const OLD: &[u8] = b"old content, longer than the new one";

/// More crash states than are looked at of one moment. Where there are more, these are drawn.
const MOST: usize = 3_000;

/// Writes that share their syncs.
struct GroupCase {
    name: &'static str,
    files: &'static [(&'static str, Durability)],
    /// What the disk says that it does.
    keeps_order: bool,
    /// Whether freed blocks are used again at once, and the disk says so.
    reuses_freed: bool,
}

const FULL: &[(&str, Durability)] = &[
    ("/one/new", Durability::Full),
    ("/one/old", Durability::Full),
    ("/two/old", Durability::Full),
];
const FILE: &[(&str, Durability)] = &[
    ("/one/new", Durability::File),
    ("/one/old", Durability::File),
    ("/two/old", Durability::File),
];
const MIXED: &[(&str, Durability)] = &[
    ("/one/old", Durability::Full),
    ("/one/new", Durability::File),
    ("/one/none", Durability::None),
    ("/two/old", Durability::Full),
];

const fn group(
    name: &'static str,
    files: &'static [(&'static str, Durability)],
    keeps_order: bool,
    reuses_freed: bool,
) -> GroupCase {
    GroupCase { name, files, keeps_order, reuses_freed }
}

const BATCHES: [GroupCase; 9] = [
    group("full, in order", FULL, true, false),
    group("file, in order", FILE, true, false),
    group("mixed, in order", MIXED, true, false),
    group("full, textbook", FULL, false, false),
    group("file, textbook", FILE, false, false),
    group("mixed, textbook", MIXED, false, false),
    group("full, in order, blocks used again", FULL, true, true),
    group("file, in order, blocks used again", FILE, true, true),
    group("full, textbook, blocks used again", FULL, false, true),
];

fn new_content(path: &str) -> Vec<u8> {
    format!("new {path}").into_bytes()
}

impl GroupCase {
    fn disk(&self) -> SimFs {
        let fs = SimFs::new();
        fs.put_file("/one/bystander", b"not yours").unwrap();
        fs.put_file("/two/bystander", b"not yours").unwrap();
        for (path, _) in self.files.iter().filter(|(path, _)| path.ends_with("old")) {
            fs.put_file(path, OLD).unwrap();
        }
        fs.set_keeps_order(self.keeps_order);
        fs.set_syncs_whole(true);
        fs.set_reuses_freed(self.reuses_freed);
        fs
    }

    fn write(&self, fs: &SimFs, attempts: u32) -> Vec<Result<(), Error>> {
        let request = |(path, durability): &(&str, Durability)| WriteRequest {
            path: path.into(),
            payload: Payload::Owned(new_content(path)),
            options: Options {
                durability: *durability,
                attempts,
                retry_delay: Duration::ZERO,
                ..Options::default()
            },
        };
        let requests: Vec<WriteRequest> = self.files.iter().map(request).collect();
        run_together(fs, &requests)
    }

    /// The models of what such a disk may do.
    fn models(&self) -> &'static [Model] {
        if self.keeps_order { &[Model::OrderedMetadata] } else { Model::ALL }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Old,
    New,
}

fn version(fs: &SimFs, path: &str) -> Result<Version, String> {
    match fs.read_file(path).ok() {
        Some(content) if **content == new_content(path) => Ok(Version::New),
        Some(content) if **content == *OLD && path.ends_with("old") => Ok(Version::Old),
        None if !path.ends_with("old") => Ok(Version::Old),
        content => Err(format!("{path} is {content:?}")),
    }
}

fn temps(fs: &SimFs) -> Vec<String> {
    let paths = fs.paths().into_iter().map(|path| path.display().to_string());
    paths.filter(|path| path.ends_with(".tmp")).collect()
}

/// Checks what processes see after the writes, and what power cuts may leave. Returns how many
/// states there were.
fn check(
    batch: &GroupCase,
    fs: &SimFs,
    outcomes: &[Result<(), Error>],
    models: &[Model],
) -> Result<usize, String> {
    for ((path, _), outcome) in batch.files.iter().zip(outcomes) {
        let seen = version(fs, path)?;
        let expected = match outcome {
            Err(error) if !error.committed => Version::Old,
            Ok(()) | Err(_) => Version::New,
        };
        if seen != expected {
            return Err(format!("{path} is {seen:?} after {outcome:?}"));
        }
    }
    if fs.open_handles() != (0, 0) {
        return Err(format!("open handles: {:?}", fs.open_handles()));
    }
    let mut count = 0;
    for model in models {
        for state in fs.crash_states(*model, MOST) {
            count += 1;
            let complain = |text: String| {
                format!("{text}\n{model:?}: {}\n{}", state.description, state.fs.describe())
            };
            for ((path, durability), outcome) in batch.files.iter().zip(outcomes) {
                // Nothing is promised about power cuts without a sync.
                if *durability == Durability::None {
                    continue;
                }
                let left = version(&state.fs, path).map_err(complain)?;
                let is_acknowledged = outcome.is_ok() && *durability == Durability::Full;
                if is_acknowledged && left == Version::Old {
                    return Err(complain(format!("{path} was acknowledged and is lost")));
                }
                if outcome.as_ref().is_err_and(|error| !error.committed) && left == Version::New {
                    return Err(complain(format!("{path} has failed and is there")));
                }
            }
            for path in ["/one/bystander", "/two/bystander"] {
                assert_eq!(**state.fs.read_file(path).unwrap(), *b"not yours");
            }
        }
    }
    Ok(count)
}

/// Takes the power away before each operation. Returns how many moments and states there were,
/// and the first complaint.
fn walk(batch: &GroupCase, prepare: &dyn Fn(&SimFs)) -> (usize, usize, Option<String>) {
    let (mut states, mut complaint) = (0, None);
    for moment in 1.. {
        let fs = batch.disk();
        fs.inject(Fault::power_off().at(moment));
        prepare(&fs);
        let outcomes = batch.write(&fs, 1);
        match check(batch, &fs, &outcomes, batch.models()) {
            Ok(count) => states += count,
            Err(text) => {
                complaint.get_or_insert(format!(
                    "{}, power off before operation {moment}: {text}\n{}",
                    batch.name,
                    fs.log_text()
                ));
            }
        }
        if fs.count() < moment {
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}\n{}", fs.log_text());
            assert_eq!(temps(&fs), Vec::<String>::new());
            return (usize::try_from(moment).unwrap(), states, complaint);
        }
    }
    unreachable!()
}

#[test]
fn a_power_cut_leaves_of_each_write_what_it_would_have_left_of_it_alone() {
    let (mut all_moments, mut all_states) = (0, 0);
    for batch in &BATCHES {
        let (moments, states, complaint) = walk(batch, &|_| {});
        println!("{}: power off at {moments} moments, {states} crash states", batch.name);
        if let Some(complaint) = complaint {
            panic!("{complaint}");
        }
        all_moments += moments;
        all_states += states;
    }
    println!("together: {all_moments} moments, {all_states} crash states");
}

#[test]
fn one_sync_serves_for_all() {
    for batch in &BATCHES {
        let fs = batch.disk();
        batch.write(&fs, 1).into_iter().for_each(|outcome| outcome.unwrap());
        let count = |kind| fs.log().iter().filter(|performed| performed.kind == kind).count();
        // In order, 'file' waits for no flush.
        let waits = |(_, durability): &(&str, Durability)| match durability {
            Durability::None => false,
            Durability::File => batch.reuses_freed || !batch.keeps_order,
            Durability::Full => true,
        };
        let syncs = usize::from(batch.files.iter().any(waits));
        assert_eq!(
            count(OperationKind::SyncFilesystem),
            syncs,
            "{}\n{}",
            batch.name,
            fs.log_text()
        );
        assert_eq!(count(OperationKind::SyncFile), 0, "{}\n{}", batch.name, fs.log_text());
        let full = batch.files.iter().filter(|(_, durability)| *durability == Durability::Full);
        let dirs = match (full.count(), batch.keeps_order) {
            (0, _) | (_, true) => 0,
            // Two files in one and one in another, or one in each.
            _ => 2,
        };
        assert_eq!(count(OperationKind::SyncDir), dirs, "{}\n{}", batch.name, fs.log_text());
    }
}

#[test]
fn where_the_whole_cannot_be_synced_each_is_synced_alone() {
    let batch = &BATCHES[3];
    let fs = batch.disk();
    fs.set_syncs_whole(false);
    batch.write(&fs, 1).into_iter().for_each(|outcome| outcome.unwrap());
    let count = |kind| fs.log().iter().filter(|performed| performed.kind == kind).count();
    assert_eq!(count(OperationKind::SyncFilesystem), 0);
    assert_eq!(count(OperationKind::SyncFile), 3);
}

#[test]
fn a_sync_that_is_left_out_is_noticed() {
    for batch in &BATCHES {
        let mut kinds = vec![OperationKind::SyncFilesystem];
        // What is replaced is kept until a sync, with either durability.
        let is_full = batch.reuses_freed
            || batch.files.iter().any(|(_, durability)| *durability == Durability::Full);
        if is_full && batch.keeps_order {
            kinds.push(OperationKind::AwaitWriteBack);
        }
        if is_full && !batch.keeps_order {
            kinds.push(OperationKind::SyncDir);
        }
        // What is only 'file' and in order is renamed after its bytes have been awaited, so
        // the sync of all takes nothing with it that is promised.
        if !is_full && batch.keeps_order {
            kinds = vec![];
        }
        for kind in kinds {
            let (_, _, complaint) =
                walk(batch, &|fs| fs.inject(Fault::ignore().of(kind).for_ever()));
            assert!(complaint.is_some(), "{}: nobody misses {}", batch.name, kind.name());
        }
    }
}

#[test]
fn replaced_files_that_are_closed_too_soon_are_noticed() {
    for batch in BATCHES.iter().filter(|batch| !batch.reuses_freed) {
        let promises = batch.files.iter().any(|(_, durability)| *durability != Durability::None);
        let (_, _, complaint) = walk(batch, &|fs| fs.set_reuses_freed_silently());
        assert_eq!(complaint.is_some(), promises, "{}", batch.name);
    }
}

#[test]
fn whatever_fails_and_however_often_each_outcome_is_so_and_one_failure_is_not_shared() {
    let errors = [Code::EIO, Code::ENOSPC, Code::EACCES, Code::EINTR];
    let (mut runs, mut failed, mut states) = (0, 0, 0);
    for batch in &BATCHES {
        let undisturbed = batch.disk();
        batch.write(&undisturbed, 1).into_iter().for_each(|outcome| outcome.unwrap());
        for number in 1..=undisturbed.count() {
            for code in errors {
                for (is_for_ever, attempts) in [(false, 1), (false, 3), (true, 2)] {
                    for fault in [Fault::fail(code), Fault::fail_after(code)] {
                        let fs = batch.disk();
                        let fault = fault.at(number);
                        fs.inject(if is_for_ever { fault.for_ever() } else { fault });
                        let outcomes = batch.write(&fs, attempts);
                        runs += 1;
                        let text = || {
                            format!(
                                "{}, operation {number} fails with {} (for ever: {is_for_ever}, \
                                 attempts: {attempts}): {outcomes:?}\n{}",
                                batch.name,
                                code.name(),
                                fs.log_text()
                            )
                        };
                        // The states after failures are many and alike.
                        let is_looked_at = !is_for_ever && attempts == 1 && code == Code::EIO;
                        // Where nothing is kept in order, no sync speaks for what a failed one has
                        // left, and what was replaced may come back.
                        let ordered = [Model::OrderedMetadata].as_slice();
                        let models = match batch.reuses_freed {
                            _ if !is_looked_at => &[],
                            true => ordered,
                            false => batch.models(),
                        };
                        match check(batch, &fs, &outcomes, models) {
                            Ok(count) => states += count,
                            Err(complaint) => panic!("{complaint}\n{}", text()),
                        }
                        let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
                        failed += failures;
                        let hit =
                            fs.log().into_iter().find(|performed| !performed.fault.is_empty());
                        let kind = hit.map(|performed| performed.kind);
                        if !is_for_ever && kind != Some(OperationKind::SyncDir) {
                            assert!(failures <= 1, "{}", text());
                        }
                        if !is_for_ever && kind == Some(OperationKind::SyncFilesystem) {
                            assert_eq!(failures, 0, "each is made again alone: {}", text());
                        }
                        let removals_failed = fs.log().iter().any(|performed| {
                            performed.kind == OperationKind::Remove && performed.error.is_some()
                        });
                        if !removals_failed {
                            assert_eq!(temps(&fs), Vec::<String>::new(), "{}", text());
                        }
                    }
                }
            }
        }
    }
    println!("{runs} runs, {failed} writes failed, {states} crash states");
}

#[test]
fn a_file_whose_bytes_cannot_be_written_fails_alone() {
    for batch in &BATCHES {
        let fs = batch.disk();
        // Whichever temp file is waited for first is lost.
        fs.inject(Fault::fail(Code::EIO).of(OperationKind::AwaitWriteBack));
        let outcomes = batch.write(&fs, 1);
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "{}: {outcomes:?}", batch.name);
        assert!(!failed[0].committed, "{}: {outcomes:?}", batch.name);
    }
}
