//! Transactions on a disk that is unplugged at every moment, and on which every operation
//! fails; then recovery, itself unplugged at every moment and run again, until nothing new
//! turns up. All files have changed or none has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast::error::Code;
use holdfast::error::Failure;
use holdfast::fs::{DirUse, FileSystem};
use holdfast::payload::Payload;
use holdfast::temp_name::is_temp_name;
use holdfast::transaction::names::{self, RecordKind, TransactionId, TransactionName};
use holdfast::transaction::record::Record;
use holdfast::transaction::{
    self, Change, CommitError, FileChange, RollResult, RolledFile, commit_as, roll_dir,
};
use holdfast::write::{Control, Durability, Options, WriteRequest, run};
use holdfast_sim::{Attributes, Fault, Model, OperationKind, SimFs};

/// So many crash states are looked at for one moment and model: all that there are, or else
/// those with few deviations from 'nothing unsynced is on the disk' and 'all of it is', and
/// random ones.
const STATES: usize = 100;

const ID: TransactionId = TransactionId(0x0123_4567_89ab_cdef);

/// The files of a disk, by path, without their names of passage.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone)]
struct Scene {
    name: &'static str,
    /// The path that the transaction names first.
    first: &'static str,
    /// What becomes of which file; `None` removes it.
    parts: Vec<(&'static str, Option<&'static [u8]>)>,
    dirs: &'static [&'static str],
    /// A file whose old content may not be on the disk.
    unsynced: Option<&'static str>,
    /// Whether the file system may be synced as a whole.
    syncs_whole: bool,
    /// How many files and directories the process may have open at once.
    most_open: usize,
    set: fn(&SimFs),
}

fn scenes() -> Vec<Scene> {
    let mut scenes = each_file_synced();
    for (name, like) in [
        ("two files in one folder, synced as a whole", "two files in one folder"),
        ("two folders, synced as a whole", "two folders"),
        ("what was there had not been synced, but is as a whole", UNSYNCED),
        ("few files may be open, synced as a whole", FEW),
    ] {
        let like = scenes.iter().find(|scene| scene.name == like).unwrap();
        scenes.push(Scene { name, syncs_whole: true, ..like.clone() });
    }
    scenes
}

const FEW: &str = "few files may be open";

/// `/b/to` gets the content of `/a/from`.
const RENAMED: &str = "a file is renamed, into another folder";

const UNSYNCED: &str = "what was there had not been synced";

fn each_file_synced() -> Vec<Scene> {
    vec![
        Scene {
            name: "two files in one folder",
            first: "/a/one",
            parts: vec![("/a/one", Some(b"ONE")), ("/a/two", Some(b"TWO"))],
            dirs: &["/a"],
            unsynced: None,
            syncs_whole: false,
            most_open: usize::MAX,
            set: |fs| {
                fs.put_file("/a/bystander", b"not yours").unwrap();
                fs.put_file("/a/one", b"1").unwrap();
                fs.put_file("/a/two", b"2").unwrap();
            },
        },
        Scene {
            name: "one is new, one is removed",
            first: "/a/new",
            parts: vec![("/a/new", Some(b"NEW")), ("/a/old", None)],
            dirs: &["/a"],
            unsynced: None,
            syncs_whole: false,
            most_open: usize::MAX,
            set: |fs| {
                fs.put_file("/a/bystander", b"not yours").unwrap();
                fs.put_file("/a/old", b"old").unwrap();
            },
        },
        Scene {
            name: RENAMED,
            first: "/a/from",
            parts: vec![("/b/to", Some(b"moved")), ("/a/from", None)],
            dirs: &["/a", "/b"],
            unsynced: None,
            syncs_whole: false,
            most_open: usize::MAX,
            set: |fs| {
                fs.put_file("/a/from", b"moved").unwrap();
                fs.put_file("/b/bystander", b"not yours").unwrap();
            },
        },
        Scene {
            name: "two folders",
            first: "/a/one",
            parts: vec![("/b/two", Some(b"TWO")), ("/a/one", Some(b"ONE"))],
            dirs: &["/a", "/b"],
            unsynced: None,
            syncs_whole: false,
            most_open: usize::MAX,
            set: |fs| {
                fs.put_file("/a/one", b"1").unwrap();
                fs.put_file("/b/two", b"2").unwrap();
            },
        },
        Scene {
            name: "in two folders, neither of them the first, one is removed",
            first: "/a/unchanged",
            parts: vec![("/b/gone", None), ("/c/made", Some(b"MADE"))],
            dirs: &["/c", "/a", "/b"],
            unsynced: None,
            syncs_whole: false,
            most_open: usize::MAX,
            set: |fs| {
                fs.put_file("/a/unchanged", b"=").unwrap();
                fs.put_file("/b/gone", b"-").unwrap();
                fs.put_dir("/c").unwrap();
            },
        },
        Scene {
            name: UNSYNCED,
            first: "/a/one",
            parts: vec![("/a/one", Some(b"ONE")), ("/b/two", Some(b"TWO"))],
            dirs: &["/b", "/a"],
            unsynced: Some("/a/one"),
            syncs_whole: false,
            most_open: usize::MAX,
            set: |fs| {
                fs.put_dir("/a").unwrap();
                fs.put_file("/b/two", b"2").unwrap();
                let options = Options { durability: Durability::None, ..Options::default() };
                let payload = Payload::Owned(b"1".to_vec());
                let request = WriteRequest { path: "/a/one".into(), payload, options };
                run(fs, &request, &Control::default(), None).unwrap();
                // The name is there for sure, the bytes may not be.
                let dir = fs.open_dir("/a".as_ref(), DirUse::NamesAndSync).unwrap();
                fs.sync_dir(&dir, None).unwrap();
            },
        },
        // The directory, its record and two files are open at the same time. If all were, there would
        // be eight.
        Scene {
            name: FEW,
            first: "/a/one",
            parts: vec![("/a/one", Some(b"ONE")), ("/a/two", Some(b"TWO")), ("/a/old", None)],
            dirs: &["/a"],
            unsynced: None,
            syncs_whole: false,
            most_open: 4,
            set: |fs| {
                fs.put_file("/a/one", b"1").unwrap();
                fs.put_file("/a/two", b"2").unwrap();
                fs.put_file("/a/old", b"old").unwrap();
            },
        },
    ]
}

fn scene(name: &str) -> Scene {
    scenes().into_iter().find(|scene| scene.name == name).unwrap()
}

impl Scene {
    fn disk(&self) -> SimFs {
        let fs = SimFs::new();
        (self.set)(&fs);
        let fs = fs.after_kill();
        fs.set_syncs_whole(self.syncs_whole);
        fs.set_most_open(self.most_open);
        fs
    }

    fn commit(&self, fs: &SimFs, durability: Durability) -> Result<(), CommitError> {
        let parts: Vec<FileChange> = self
            .parts
            .iter()
            .map(|(path, bytes)| FileChange {
                path: path.into(),
                change: match bytes.map(|bytes| Payload::Owned(bytes.to_vec())) {
                    None => Change::Remove,
                    Some(bytes) if self.name == RENAMED => Change::Move(bytes, "/a/from".into()),
                    Some(bytes) => Change::Write(bytes),
                },
                only: None,
            })
            .collect();
        let options = Options { durability, retry_delay: Duration::ZERO, ..Options::default() };
        commit_as(fs, ID, self.first.as_ref(), &parts, &options, &Control::default())
    }

    /// What there is; if an old content that was not on the disk is torn, that is as good as the
    /// old one.
    fn contents(&self, fs: &SimFs) -> Contents {
        let mut found = contents(fs);
        let new = |path| self.parts.iter().find(|(other, _)| *other == path).unwrap().1.unwrap();
        if let Some(path) = self.unsynced
            && let Some(bytes) = found.get_mut(Path::new(path))
            && bytes != new(path)
        {
            *bytes = b"1".to_vec();
        }
        found
    }

    /// What there is before, and after.
    fn versions(&self) -> (Contents, Contents) {
        let old = contents(&self.disk());
        let mut new = old.clone();
        for (path, bytes) in &self.parts {
            match bytes {
                Some(bytes) => new.insert(path.into(), bytes.to_vec()),
                None => new.remove(Path::new(path)),
            };
        }
        (old, new)
    }

    /// Recovery, once from each directory.
    fn recover(&self, fs: &SimFs) -> Result<Vec<RolledFile>, holdfast::error::Failure> {
        let mut report = Vec::new();
        let try_lock = |_: &[PathBuf]| Ok(Some(Box::new(()) as transaction::RollLocks));
        let options = transaction::RollOptions { dry_run: false, try_lock: &try_lock };
        let roll = |dir: &&str| roll_dir(fs, dir.as_ref(), options, &mut report);
        self.dirs.iter().try_for_each(roll)?;
        Ok(report)
    }
}

/// Every file that is not one of a transaction's.
fn contents(fs: &SimFs) -> Contents {
    let read = |path: &PathBuf| Some((path.clone(), fs.read_file(path).ok()?.to_vec()));
    fs.paths().iter().filter(|path| !is_ours(path)).filter_map(read).collect()
}

fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| names::is_transaction_name(name) || is_temp_name(name))
}

fn leftovers(fs: &SimFs) -> Vec<PathBuf> {
    fs.paths().into_iter().filter(|path| is_ours(path)).collect()
}

fn has_intent(fs: &SimFs) -> bool {
    leftovers(fs).iter().any(|path| {
        names::parse(path.file_name().unwrap())
            == Some(TransactionName::Record(ID, RecordKind::Intent))
    })
}

/// What tells two disks apart on which everything is complete, as far as recovery can tell them
/// apart: a record that is torn is like any other that is, and what is staged is looked at only
/// if there is an intent.
fn fingerprint(fs: &SimFs) -> u64 {
    let mut hasher = DefaultHasher::new();
    let is_decided = has_intent(fs);
    for path in fs.paths() {
        path.hash(&mut hasher);
        let Ok(bytes) = fs.read_file(&path) else { continue };
        match path.file_name().and_then(names::parse) {
            Some(TransactionName::Record(..)) => {
                Record::decode(&bytes).ok().map(|_| bytes).hash(&mut hasher)
            }
            Some(TransactionName::Temp(..)) if !is_decided => {}
            _ => bytes.hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[derive(Default)]
struct Counts {
    moments: usize,
    states: usize,
    recoveries: usize,
    /// How often there were more states than were looked at.
    selections: usize,
}

struct Walk<'a> {
    scene: &'a Scene,
    old: Contents,
    new: Contents,
    seen: HashSet<u64>,
    waiting: Vec<(SimFs, String)>,
    counts: Counts,
    complaints: Vec<String>,
    /// One complaint is enough.
    stops_early: bool,
    /// Whether the process does not die before the power is off.
    spares_process: bool,
    /// How many states of one moment are looked at.
    most: usize,
}

impl<'a> Walk<'a> {
    fn new(scene: &'a Scene) -> Walk<'a> {
        let (old, new) = scene.versions();
        Walk {
            scene,
            old,
            new,
            seen: HashSet::new(),
            waiting: Vec::new(),
            counts: Counts::default(),
            complaints: Vec::new(),
            stops_early: false,
            spares_process: false,
            most: STATES,
        }
    }

    fn complain(&mut self, fs: &SimFs, complaint: &str, how: &str) {
        let name = self.scene.name;
        self.complaints.push(format!("{name}: {complaint}\n{how}\n{fs:?}{}", fs.log_text()));
    }

    /// Takes the power away now, and notes what may be left.
    fn cut(&mut self, fs: &SimFs, how: &str, acknowledged: Option<&Contents>, is_over: bool) {
        for model in Model::ALL {
            let cut = fs.crash_states(*model, self.most);
            self.counts.selections += usize::from(!cut.complete);
            for state in cut {
                self.counts.states += 1;
                let how = || format!("{how}\n{model:?}: {}", state.description);
                if let Some(acknowledged) = acknowledged {
                    if self.scene.contents(&state.fs) != *acknowledged {
                        self.complain(&state.fs, "acknowledged, but not so", &how());
                    }
                    // An intent that was dropped must not come back.
                    if is_over && has_intent(&state.fs) {
                        self.complain(&state.fs, "the intent is back", &how());
                    }
                }
                if self.seen.insert(fingerprint(&state.fs)) {
                    self.waiting.push((state.fs, how()));
                }
            }
        }
    }

    /// Recovers a disk, and checks what comes of it.
    fn recover(&mut self, start: &SimFs, how: &str) {
        self.counts.recoveries += 1;
        let fs = start.after_kill();
        let recovered = self.scene.recover(&fs);
        let found = self.scene.contents(&fs);
        if let Err(failure) = recovered {
            self.complain(&fs, &format!("recovery failed: {failure}"), how);
        } else if found != self.old && found != self.new {
            self.complain(&fs, "neither all nor none", how);
        } else if !leftovers(&fs).is_empty() {
            self.complain(&fs, "something is left", how);
        }
        if fs.open_handles() != (0, 0) {
            self.complain(&fs, "open handles", how);
        }
        self.cut(&fs, &format!("{how}\nthen a recovery, and a power cut"), Some(&found), false);
        for moment in 1..=fs.count() {
            let fs = start.after_kill();
            fs.inject(Fault::power_off().at(moment));
            let _ = self.scene.recover(&fs);
            self.cut(&fs, &format!("{how}\nthen a recovery, cut at {moment}"), None, false);
            // The process may die, too, with the power on.
            let killed = fs.after_kill();
            self.counts.recoveries += 1;
            let recovered = self.scene.recover(&killed);
            let found = self.scene.contents(&killed);
            if recovered.is_err() || found != self.old && found != self.new {
                self.complain(&killed, "neither, after a recovery that was killed", how);
            }
        }
    }

    fn assert_kept(&self) {
        if let Some(first) = self.complaints.first() {
            panic!("{} complaints, the first one:\n{first}", self.complaints.len());
        }
    }

    /// Until nothing new turns up.
    fn recover_all(&mut self) {
        while let Some((fs, how)) = self.waiting.pop() {
            if self.complaints.is_empty() {
                self.recover(&fs, &how);
            }
        }
    }

    /// Takes the power away before every operation of a commit, and after the last one.
    fn at_every_moment(&mut self, prepare: &dyn Fn(&SimFs)) {
        for moment in 1.. {
            let fs = self.scene.disk();
            fs.inject(Fault::power_off().at(moment));
            prepare(&fs);
            let outcome = self.scene.commit(&fs, Durability::Full);
            let is_over = fs.count() < moment;
            self.counts.moments += 1;
            let how = format!("cut at {moment}: {outcome:?}\n{}", fs.log_text());
            if is_over && (outcome.is_err() || self.scene.contents(&fs) != self.new) {
                self.complain(&fs, "an undisturbed commit failed", &how);
            }
            if is_over && !leftovers(&fs).is_empty() {
                self.complain(&fs, "something is left", &how);
            }
            if fs.open_handles() != (0, 0) {
                self.complain(&fs, "open handles", &how);
            }
            let acknowledged = outcome.is_ok().then(|| self.new.clone());
            self.cut(&fs, &how, acknowledged.as_ref(), is_over);
            // The process dies, the power stays on.
            if !self.spares_process {
                self.recover(&fs.after_kill(), &how);
            }
            // Those that are waiting are only recovered once each, however many moments there are.
            if self.stops_early {
                self.recover_all();
            }
            if is_over || self.stops_early && !self.complaints.is_empty() {
                break;
            }
        }
        self.recover_all();
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { moments, states, recoveries, selections } = self;
        write!(f, "{moments} moments, {states} crash states, {recoveries} recoveries")?;
        write!(f, " ({selections} times a selection of the states)")
    }
}

fn unplug(name: &str) {
    let scene = scene(name);
    let mut walk = Walk::new(&scene);
    // The others differ from these before the decision only.
    walk.most = if scene.syncs_whole { 60 } else { STATES };
    walk.at_every_moment(&|_| {});
    println!("{name}: {}", walk.counts);
    walk.assert_kept();
}

#[test]
fn two_files_in_one_dir_change_together_through_any_power_cut_and_any_recovery() {
    unplug("two files in one folder");
}

#[test]
fn a_file_is_made_and_another_removed_together_through_any_power_cut_and_any_recovery() {
    unplug("one is new, one is removed");
}

#[test]
fn a_file_is_renamed_through_any_power_cut_and_any_recovery() {
    unplug(RENAMED);
}

#[test]
fn files_in_two_dirs_change_together_through_any_power_cut_and_any_recovery() {
    unplug("two folders");
}

#[test]
fn files_in_dirs_without_the_decision_change_together_through_any_power_cut_and_any_recovery() {
    unplug("in two folders, neither of them the first, one is removed");
}

#[test]
fn files_change_together_where_few_may_be_open_through_any_power_cut_and_any_recovery() {
    unplug(FEW);
}

#[test]
fn old_contents_that_were_not_synced_are_known_again_after_a_power_cut() {
    unplug(UNSYNCED);
}

#[test]
fn one_sync_of_the_whole_file_system_stands_for_those_of_all_files_and_dirs() {
    for scene in scenes().iter().filter(|scene| scene.syncs_whole) {
        let fs = scene.disk();
        scene.commit(&fs, Durability::Full).unwrap();
        assert_eq!(common::count_of(&fs, OperationKind::SyncFilesystem), 1);
        assert_eq!(common::count_of(&fs, OperationKind::SyncFile), 0);
        unplug(scene.name);
        let leave_out = |fs: &SimFs| {
            fs.inject(Fault::ignore().of(OperationKind::SyncFilesystem));
        };
        assert!(is_noticed(scene.name, &leave_out), "{}", scene.name);
    }
}

#[test]
fn replaced_files_keep_their_blocks_until_all_is_on_the_disk() {
    for name in ["two files in one folder", "one is new, one is removed", "two folders", FEW] {
        let scene = scene(name);
        let mut walk = Walk::new(&scene);
        walk.most = 200;
        // A process that is killed keeps nothing. Until the file system has written its journal by
        // itself a power cut may bring a record back that is none.
        walk.spares_process = true;
        walk.at_every_moment(&|fs| fs.set_reuses_freed(true));
        println!("{name}, freed blocks are used again: {}", walk.counts);
        walk.assert_kept();
    }
}

// ── What would be noticed ─────────────────────────────────────────────────────────────────

fn is_noticed(name: &str, prepare: &dyn Fn(&SimFs)) -> bool {
    let scene = scene(name);
    let mut walk = Walk::new(&scene);
    walk.stops_early = true;
    walk.most = 60;
    walk.at_every_moment(prepare);
    !walk.complaints.is_empty()
}

fn beside(path: &str, number: usize) -> PathBuf {
    let path = Path::new(path);
    path.with_file_name(names::temp(path.file_name().unwrap(), ID, number))
}

#[test]
fn leaving_out_the_sync_of_a_staged_file_would_be_noticed() {
    let two = "two files in one folder";
    for (name, path, number) in [(two, "/a/one", 0), (two, "/a/two", 1), (FEW, "/a/two", 1)] {
        let leave_out = |fs: &SimFs| {
            fs.inject(Fault::ignore().of(OperationKind::SyncFile).on(beside(path, number)));
        };
        assert!(is_noticed(name, &leave_out), "{name}: {path}");
    }
}

#[test]
fn leaving_out_the_sync_of_an_old_file_would_be_noticed() {
    let leave_out = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFile).on("/a/one"));
    };
    assert!(is_noticed(UNSYNCED, &leave_out));
}

#[test]
fn leaving_out_the_sync_of_the_record_would_be_noticed() {
    for (name, dir) in [("two files in one folder", "/a"), (UNSYNCED, "/b")] {
        let record = Path::new(dir).join(names::record(ID, RecordKind::Prepared));
        let leave_out = |fs: &SimFs| {
            fs.inject(Fault::ignore().of(OperationKind::SyncFile).on(&record));
        };
        assert!(is_noticed(name, &leave_out), "{name}: {}", record.display());
    }
}

/// Of one directory: before the decision, after it, after the renames, after the drop. Of two: each
/// before, the first after, each after, the first after.
#[test]
fn leaving_out_any_sync_of_a_dir_would_be_noticed() {
    for (name, syncs) in [("two files in one folder", 4), ("two folders", 6)] {
        let scene = scene(name);
        let fs = scene.disk();
        scene.commit(&fs, Durability::Full).unwrap();
        assert_eq!(common::count_of(&fs, OperationKind::SyncDir), syncs, "{name}");
        for number in 1..=syncs as u64 {
            let leave_out = |fs: &SimFs| {
                fs.inject(Fault::ignore().of(OperationKind::SyncDir).at(number));
            };
            assert!(is_noticed(name, &leave_out), "{name}: sync {number}");
        }
    }
}

#[test]
fn replaced_files_that_are_closed_too_soon_would_be_noticed() {
    for name in ["two files in one folder", "two folders", FEW] {
        let scene = scene(name);
        let mut walk = Walk::new(&scene);
        (walk.stops_early, walk.spares_process) = (true, true);
        walk.at_every_moment(&SimFs::set_reuses_freed_silently);
        assert!(!walk.complaints.is_empty(), "{name}");
    }
}

/// A recovery that completes a transaction replaces its files, too.
#[test]
fn a_recovery_keeps_the_blocks_of_what_it_replaces() {
    keeps_blocks_in_recovery("two folders");
    keeps_blocks_in_recovery(FEW);
}

fn keeps_blocks_in_recovery(name: &str) {
    let scene = scene(name);
    let (_, new) = scene.versions();
    let walk = |prepare: &dyn Fn(&SimFs)| {
        let mut lost = 0;
        for moment in 1.. {
            let fs = decided(&scene);
            prepare(&fs);
            fs.inject(Fault::power_off().at(moment));
            let _ = scene.recover(&fs);
            let is_over = fs.count() < moment;
            for state in fs.crash_states(Model::OrderedMetadata, common::MOST) {
                let recovered = scene.recover(&state.fs).is_ok();
                lost += usize::from(!recovered || scene.contents(&state.fs) != new);
            }
            if is_over {
                return lost;
            }
        }
        unreachable!()
    };
    assert_eq!(walk(&|fs| fs.set_reuses_freed(true)), 0);
    assert!(walk(&SimFs::set_reuses_freed_silently) > 0);
}

#[test]
fn renaming_a_file_before_the_decision_would_be_noticed() {
    let hasten = |fs: &SimFs| {
        let rename = |fs: &SimFs, _: &Path| {
            let dir = fs.open_dir("/a".as_ref(), DirUse::Names);
            let temp = beside("/a/one", 0);
            let from = temp.file_name().unwrap();
            let renamed = dir.and_then(|dir| {
                let file = fs.open(&dir, from)?;
                fs.rename(&dir, &file, from, "one".as_ref())
            });
            // The power may be off by then.
            drop(renamed);
        };
        fs.inject(Fault::intrude(rename).of(OperationKind::Rename));
    };
    assert!(is_noticed("two files in one folder", &hasten));
}

// ── Faults ────────────────────────────────────────────────────────────────────────────────

#[test]
fn whatever_fails_all_files_change_or_none_and_the_call_says_which() {
    let (mut runs, mut states) = (0, 0);
    for scene in scenes() {
        let (old, new) = scene.versions();
        let undisturbed = scene.disk();
        scene.commit(&undisturbed, Durability::Full).unwrap();
        for number in 1..=undisturbed.count() {
            for code in [Code::EIO, Code::ENOSPC, Code::EINTR] {
                let once = Fault::fail(code).at(number);
                let after = Fault::fail_after(code).at(number);
                for fault in [once.clone(), once.clone().for_ever(), once.for_ever_alike(), after] {
                    let fs = scene.disk();
                    fs.inject(fault.clone());
                    let outcome = scene.commit(&fs, Durability::Full);
                    runs += 1;
                    let complain = |complaint: &str, at: &SimFs| -> ! {
                        panic!(
                            "{}, {fault:?}: {complaint}\n{outcome:?}\n{}\n{at:?}{}",
                            scene.name,
                            fs.log_text(),
                            at.log_text()
                        )
                    };
                    let said = match &outcome {
                        Ok(()) => Some(&new),
                        Err(error) if !error.error.committed => Some(&old),
                        Err(_) => None,
                    };
                    let found = scene.contents(&fs);
                    if said.is_some_and(|said| *said != found) {
                        complain("it is not as was said", &fs);
                    }
                    if fs.open_handles() != (0, 0) {
                        complain("open handles", &fs);
                    }
                    let could_clean_up = !fs.log().iter().any(|done| {
                        let undoes = [OperationKind::Remove, OperationKind::SyncDir];
                        undoes.contains(&done.kind) && done.error.is_some()
                    });
                    if could_clean_up && said.is_some() && !leftovers(&fs).is_empty() {
                        complain("something is left", &fs);
                    }
                    let killed = fs.after_kill();
                    if let Err(failure) = scene.recover(&killed) {
                        complain(&failure.to_string(), &killed);
                    }
                    if scene.contents(&killed) != *said.unwrap_or(&new) {
                        complain("after a recovery it is not as was said", &killed);
                    }
                    for model in Model::ALL {
                        for state in fs.crash_states(*model, 20) {
                            states += 1;
                            if outcome.is_ok() && scene.contents(&state.fs) != new {
                                complain("acknowledged, but not so", &state.fs);
                            }
                            scene.recover(&state.fs).unwrap();
                            let found = scene.contents(&state.fs);
                            if found != old && found != new {
                                complain("neither, after a power cut", &state.fs);
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{runs} runs, {states} crash states");
}

#[test]
fn without_syncs_all_or_none_holds_when_the_process_is_killed() {
    for scene in scenes() {
        let (old, new) = scene.versions();
        for moment in 1.. {
            let fs = scene.disk();
            fs.inject(Fault::power_off().at(moment));
            let outcome = scene.commit(&fs, Durability::None);
            assert_eq!(common::count_of(&fs, OperationKind::SyncFile), 0);
            let killed = fs.after_kill();
            scene.recover(&killed).unwrap();
            let found = scene.contents(&killed);
            assert!(found == old || found == new, "{}, killed at {moment}", scene.name);
            if fs.count() < moment {
                outcome.unwrap();
                assert!(found == new);
                break;
            }
        }
    }
}

/// Such a transaction has brought nothing to the disk. Once its intent is dropped by a recovery
/// no process looks for it again, so all of it has to be there by then.
#[test]
fn what_a_recovery_completes_of_a_transaction_without_syncs_is_on_the_disk() {
    let mut completed = 0;
    for scene in each_file_synced() {
        let (_, new) = scene.versions();
        for moment in 1.. {
            let fs = scene.disk();
            fs.inject(Fault::power_off().at(moment));
            let _ = scene.commit(&fs, Durability::None);
            let is_over = fs.count() < moment;
            let killed = fs.after_kill();
            if has_intent(&killed) {
                scene.recover(&killed).unwrap();
                completed += 1;
                for model in Model::ALL {
                    for state in killed.crash_states(*model, STATES) {
                        let found = scene.contents(&state.fs);
                        let how = &state.description;
                        assert!(found == new, "{}, killed at {moment}, {how}", scene.name);
                    }
                }
            }
            if is_over {
                break;
            }
        }
    }
    assert!(completed > 10, "{completed}");
}

/// A server that does what it is asked, loses its answer, and cannot be reached from then on: it
/// cannot be told whether the file has changed, so the decision must not be taken back.
#[test]
fn a_first_file_that_may_have_changed_is_not_said_to_have_stayed() {
    let like = scene("one is new, one is removed");
    let swapped = like.parts.iter().rev().copied().collect();
    // Before that the path of the first one is looked at three times: to find the directory, to find
    // the file, and right before the rename.
    let looks = [(PathBuf::from("/a/new"), 4), (beside("/a/old", 0), 1)];
    for (scene, (to, look)) in [like.clone(), Scene { parts: swapped, ..like }].iter().zip(looks) {
        let (_, new) = scene.versions();
        let fs = scene.disk();
        // The first rename decides.
        fs.inject(Fault::fail_after(Code::ETIMEDOUT).of(OperationKind::Rename).at(2));
        let unseen = Fault::fail(Code::ETIMEDOUT).of(OperationKind::Metadata).on(to);
        fs.inject(unseen.at(look).for_ever());
        let error = scene.commit(&fs, Durability::Full).unwrap_err();
        assert!(error.error.committed, "{}", fs.log_text());
        let killed = fs.after_kill();
        scene.recover(&killed).unwrap();
        assert!(scene.contents(&killed) == new);
        assert!(leftovers(&killed).is_empty());
    }
}

/// The same at the decision itself: the next process that finds the intent does what it says.
#[test]
fn a_decision_that_may_stand_is_not_denied() {
    let scene = scene("two files in one folder");
    let (_, new) = scene.versions();
    let fs = scene.disk();
    let intent = Path::new("/a").join(names::record(ID, RecordKind::Intent));
    fs.inject(Fault::fail_after(Code::ETIMEDOUT).of(OperationKind::Rename));
    for kind in [OperationKind::Metadata, OperationKind::Remove] {
        fs.inject(Fault::fail(Code::ETIMEDOUT).of(kind).on(&intent).for_ever());
    }
    let error = scene.commit(&fs, Durability::Full).unwrap_err();
    assert!(error.error.committed, "{}", fs.log_text());
    let killed = fs.after_kill();
    scene.recover(&killed).unwrap();
    assert!(scene.contents(&killed) == new);
}

// ── Others ────────────────────────────────────────────────────────────────────────────────

/// Another recovery comes in before every operation of the first one, from each of the directories.
#[test]
fn two_recoveries_at_once_do_what_one_does() {
    for scene in each_file_synced() {
        let (old, new) = scene.versions();
        for moment in 1.. {
            let fs = scene.disk();
            fs.inject(Fault::power_off().at(moment));
            let _ = scene.commit(&fs, Durability::Full);
            let is_over = fs.count() < moment;
            let left = fs.after_kill();
            // The other recovery is that of another process.
            left.set_most_open(usize::MAX);
            let alone = left.after_kill();
            scene.recover(&alone).unwrap();
            let expected = scene.contents(&alone);
            assert!(expected == old || expected == new);
            for step in 1..=alone.count() {
                let fs = left.after_kill();
                let other = scene.clone();
                let intruder = move |fs: &SimFs, _: &Path| {
                    drop(common::on_another_thread(|| other.recover(fs)).unwrap());
                };
                fs.inject(Fault::intrude(intruder).at(step));
                let how = format!("{}, killed at {moment}, met at {step}", scene.name);
                if let Err(failure) = scene.recover(&fs) {
                    panic!("{how}: {failure}\n{}", fs.log_text());
                }
                assert!(scene.contents(&fs) == expected, "{how}\n{}", fs.log_text());
                // What each has left to the other is there for the next one.
                scene.recover(&fs).unwrap();
                assert!(scene.contents(&fs) == expected, "{how}");
                assert!(leftovers(&fs).is_empty(), "{how}: {:?}", leftovers(&fs));
            }
            if is_over {
                break;
            }
        }
    }
}

/// The disk on which a process has died right after its decision.
fn decided(scene: &Scene) -> SimFs {
    let fs = scene.disk();
    let renames = |fs: &SimFs| common::count_of(fs, OperationKind::Rename);
    for moment in 1.. {
        let fs = scene.disk();
        fs.inject(Fault::power_off().at(moment));
        let _ = scene.commit(&fs, Durability::Full);
        // The second one has not been done, nor has any after it.
        if renames(&fs) >= 2 {
            return fs.after_kill();
        }
    }
    fs
}

#[test]
fn a_file_that_another_program_has_changed_is_reported_and_not_overwritten() {
    let scene = scene("two folders");
    for changed in ["/a/one", "/b/two"] {
        let fs = decided(&scene);
        fs.put_file(changed, b"theirs").unwrap();
        let report = scene.recover(&fs).unwrap();
        let conflict = report.iter().find(|said| said.result == RollResult::Conflict).unwrap();
        assert_eq!(conflict.path, Path::new(changed));
        assert_eq!(*fs.read_file(changed).unwrap(), b"theirs");
        let (_, new) = scene.versions();
        let aside = conflict.to.as_ref().unwrap();
        assert_eq!(*fs.read_file(aside).unwrap(), new[Path::new(changed)]);
        let other = if changed == "/a/one" { "/b/two" } else { "/a/one" };
        assert_eq!(*fs.read_file(other).unwrap(), new[Path::new(other)]);
        assert!(leftovers(&fs).is_empty());
        assert!(scene.recover(&fs).unwrap().is_empty(), "there is nothing left to say");
    }
}

#[test]
fn a_conflict_survives_a_recovery_that_is_cut_off_anywhere() {
    let scene = scene("two folders");
    for moment in 1.. {
        let fs = decided(&scene);
        fs.put_file("/b/two", b"theirs").unwrap();
        fs.inject(Fault::power_off().at(moment));
        let _ = scene.recover(&fs);
        let is_over = fs.count() < moment;
        for model in Model::ALL {
            for state in fs.crash_states(*model, STATES) {
                scene.recover(&state.fs).unwrap();
                let found = contents(&state.fs);
                assert_eq!(found[Path::new("/b/two")], b"theirs");
                assert_eq!(found[Path::new("/a/one")], b"ONE");
                let aside = Path::new("/b").join(names::conflict("two".as_ref(), ID));
                assert_eq!(found[&aside], b"TWO", "{}", state.description);
                assert!(leftovers(&state.fs).is_empty());
            }
        }
        if is_over {
            break;
        }
    }
}

#[test]
fn a_file_that_was_removed_and_made_anew_with_the_same_content_stays() {
    let scene = scene("one is new, one is removed");
    for moment in 1.. {
        let fs = scene.disk();
        fs.inject(Fault::power_off().at(moment));
        let _ = scene.commit(&fs, Durability::Full);
        let is_removed = fs.read_file("/a/old").is_err();
        let killed = fs.after_kill();
        if is_removed {
            killed.put_file("/a/old", b"old").unwrap();
            scene.recover(&killed).unwrap();
            assert_eq!(*killed.read_file("/a/old").unwrap(), b"old", "killed at {moment}");
        }
        if fs.count() < moment {
            assert!(is_removed);
            break;
        }
    }
}

#[test]
fn what_is_under_way_is_left_alone() {
    let scene = scene("two folders");
    let mut swept = 0;
    for moment in 1.. {
        let fs = scene.disk();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
        let note = seen.clone();
        let intruder = scene.clone();
        fs.inject(
            Fault::intrude(move |fs: &SimFs, _: &Path| {
                let before = (contents(fs), leftovers(fs));
                let dry = intruder.recover(fs);
                let is_same = before == (contents(fs), leftovers(fs));
                *note.lock().unwrap() = Some((is_same, dry.is_ok()));
            })
            .at(moment),
        );
        let outcome = scene.commit(&fs, Durability::Full);
        let Some((is_same, is_ok)) = *seen.lock().unwrap() else { break };
        assert!(is_ok, "recovery before operation {moment}");
        // A record that is not locked yet may be swept: that costs a new start, with another record.
        outcome.unwrap_or_else(|error| panic!("before operation {moment}: {error:?}"));
        assert!(contents(&fs) == scene.versions().1, "before operation {moment}");
        assert!(leftovers(&fs).is_empty(), "{:?}", leftovers(&fs));
        swept += usize::from(!is_same);
    }
    assert_eq!(swept, 2, "each of the two records, right after it is made");
}

#[test]
fn a_recovery_that_locks_a_new_record_costs_a_new_start() {
    let scene = scene("two folders");
    for keeps_name in [true, false] {
        let fs = scene.disk();
        let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let holds = held.clone();
        let sweep = move |fs: &SimFs, path: &Path| {
            if path.extension().is_some_and(|end| end == "prepared")
                && holds.lock().unwrap().is_empty()
            {
                holds.lock().unwrap().push(fs.hold_lock(path).unwrap());
                if !keeps_name {
                    fs.take_away(path).unwrap();
                }
            }
        };
        fs.inject(Fault::intrude(sweep).of(OperationKind::TryLock).for_ever());
        scene.commit(&fs, Durability::Full).unwrap();
        assert_eq!(held.lock().unwrap().len(), 1);
        assert!(contents(&fs) == scene.versions().1);
        assert!(leftovers(&fs).is_empty(), "{:?}", leftovers(&fs));
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let scene = scene("two folders");
    let fs = decided(&scene);
    let before = (contents(&fs), leftovers(&fs));
    let try_lock =
        |_: &[PathBuf]| -> Result<Option<transaction::RollLocks>, Failure> { panic!("no locks") };
    let mut report = Vec::new();
    let options = transaction::RollOptions { dry_run: true, try_lock: &try_lock };
    roll_dir(&fs, "/b".as_ref(), options, &mut report).unwrap();
    assert!(before == (contents(&fs), leftovers(&fs)));
    let done: Vec<_> = report.iter().map(|said| (said.path.as_path(), said.result)).collect();
    let forward = |path| (Path::new(path), RollResult::RolledForward);
    assert_eq!(done, [forward("/b/two"), forward("/a/one")]);
}

#[test]
fn while_one_of_its_files_is_locked_nothing_is_done() {
    let scene = scene("two folders");
    let fs = decided(&scene);
    let before = (contents(&fs), leftovers(&fs));
    let try_lock = |_: &[PathBuf]| Ok(None);
    let mut report = Vec::new();
    let options = transaction::RollOptions { dry_run: false, try_lock: &try_lock };
    roll_dir(&fs, "/a".as_ref(), options, &mut report).unwrap();
    assert!(before == (contents(&fs), leftovers(&fs)));
    assert_eq!(report.iter().map(|said| said.result).collect::<Vec<_>>(), [RollResult::Left]);
}

#[test]
fn in_a_shared_dir_the_record_of_a_stranger_is_not_followed() {
    let scene = scene("two files in one folder");
    let fs = decided(&scene);
    let record = Path::new("/a").join(names::record(ID, RecordKind::Intent));
    let bytes = fs.read_file(&record).unwrap();
    fs.take_away(&record).unwrap();
    fs.put_dir_with("/a", Attributes { mode: 0o1777, uid: 0, gid: 0 }).unwrap();
    fs.put_file_with(&record, &bytes, Attributes { mode: 0o600, uid: 4242, gid: 4242 }).unwrap();
    let before = contents(&fs);
    let report = scene.recover(&fs).unwrap();
    assert!(before == contents(&fs));
    assert_eq!(report.iter().map(|said| said.result).collect::<Vec<_>>(), [RollResult::Left]);
}
