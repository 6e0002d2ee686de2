//! Transactions in trees that are copies: a snapshot, a restored backup, a folder that was moved or
//! of which only a part was taken along. A copy is taken at every moment of a transaction and of
//! its recovery, and of what a power cut leaves at that moment. Then the copy is recovered before,
//! after and beside the original. Each tree by itself has all of the transaction or nothing of it,
//! and neither recovery touches the other tree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast::payload::Payload;
use holdfast::temp_name::is_temp_name;
use holdfast::transaction::names::{self, TransactionId, TransactionName};
use holdfast::transaction::record::Record;
use holdfast::transaction::{
    self, Change, FileChange, RollResult, RolledFile, commit_as, roll_dir,
};
use holdfast::write::{Control, Durability, Options};
use holdfast_sim::{Fault, Model, SimFs};

const ID: TransactionId = TransactionId(0x0123_4567_89ab_cdef);

const LIVE: &str = "/srv/live";

/// So many states that a power cut may leave are copied for one moment and model.
const STATES: usize = 24;

/// The files of a tree, by their paths in it.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    /// The path that the transaction names first.
    first: &'static str,
    /// What was there.
    old: &'static [(&'static str, &'static [u8])],
    /// What becomes of which file; `None` removes it.
    parts: &'static [(&'static str, Option<&'static [u8]>)],
    /// The directories, the first one first.
    dirs: &'static [&'static str],
}

const SCENES: &[Scene] = &[
    Scene {
        name: "two folders, two files in each",
        first: "a/one",
        old: &[("a/one", b"1"), ("a/two", b"2"), ("b/three", b"3"), ("b/four", b"4")],
        parts: &[
            ("a/one", Some(b"ONE")),
            ("b/three", Some(b"THREE")),
            ("a/two", Some(b"TWO")),
            ("b/four", Some(b"FOUR")),
        ],
        dirs: &["a", "b"],
    },
    Scene {
        name: "one is new, one is removed",
        first: "a/one",
        old: &[("a/one", b"1"), ("b/first", b"-"), ("b/last", b"-"), ("b/other", b"=")],
        parts: &[
            ("b/first", None),
            ("a/one", Some(b"ONE")),
            ("b/new", Some(b"NEW")),
            ("b/last", None),
        ],
        dirs: &["a", "b"],
    },
    Scene {
        name: "a folder in a folder, and one that only decides",
        first: "a/unchanged",
        old: &[("a/unchanged", b"="), ("a/deep/er/one", b"1"), ("b/two", b"2")],
        parts: &[("a/deep/er/one", Some(b"ONE")), ("b/two", Some(b"TWO"))],
        dirs: &["a", "a/deep/er", "b"],
    },
];

impl Scene {
    fn disk(&self) -> SimFs {
        let fs = SimFs::new();
        for (path, bytes) in self.old {
            fs.put_file(Path::new(LIVE).join(path), bytes).unwrap();
        }
        fs.after_kill()
    }

    fn commit(&self, fs: &SimFs) -> bool {
        let live = Path::new(LIVE);
        let change = |bytes: &Option<&[u8]>| match bytes {
            Some(bytes) => Change::Write(Payload::Owned(bytes.to_vec())),
            None => Change::Remove,
        };
        let parts: Vec<FileChange> = self
            .parts
            .iter()
            .map(|(path, bytes)| FileChange {
                path: live.join(path),
                change: change(bytes),
                only: None,
            })
            .collect();
        let options = Options {
            durability: Durability::Full,
            retry_delay: Duration::ZERO,
            ..Options::default()
        };
        commit_as(fs, ID, &live.join(self.first), &parts, &options, &Control::default()).is_ok()
    }

    /// What a tree has before, and after.
    fn versions(&self) -> [Contents; 2] {
        let old: Contents =
            self.old.iter().map(|(path, bytes)| (path.into(), bytes.to_vec())).collect();
        let mut new = old.clone();
        for (path, bytes) in self.parts {
            match bytes {
                Some(bytes) => new.insert(path.into(), bytes.to_vec()),
                None => new.remove(Path::new(path)),
            };
        }
        [old, new]
    }

    /// The same of one directory.
    fn versions_in(&self, dir: &str) -> [Contents; 2] {
        self.versions().map(|all| {
            let inside = |(path, bytes): (PathBuf, Vec<u8>)| {
                let name = path.strip_prefix(dir).ok()?;
                (name.components().count() == 1).then(|| (name.to_owned(), bytes))
            };
            all.into_iter().filter_map(inside).collect()
        })
    }

    /// Recovers the directories of a tree one after the other. `turn` says with which to begin.
    fn recover(&self, fs: &SimFs, root: &Path, turn: usize) -> Vec<RolledFile> {
        let mut report = Vec::new();
        for number in 0..self.dirs.len() {
            let dir = root.join(self.dirs[(number + turn) % self.dirs.len()]);
            if fs.inspect(&dir).is_ok() {
                report.extend(recover_dir(fs, &dir));
            }
        }
        report
    }
}

fn recover_dir(fs: &SimFs, dir: &Path) -> Vec<RolledFile> {
    let mut report = Vec::new();
    let try_lock = |_: &[PathBuf]| Ok(Some(Box::new(()) as transaction::RollLocks));
    let options = transaction::RollOptions { dry_run: false, try_lock: &try_lock };
    let _ = roll_dir(fs, dir, options, &mut report);
    report
}

fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| names::is_transaction_name(name) || is_temp_name(name))
}

/// Everything in a tree, by its path in it; directories have no bytes.
fn tree(fs: &SimFs, root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let inside = |path: PathBuf| {
        let bytes = fs.read_file(&path).ok().map(|bytes| bytes.to_vec());
        Some((path.strip_prefix(root).ok()?.to_owned(), bytes))
    };
    fs.paths().into_iter().filter_map(inside).collect()
}

/// The files in a tree that are not a transaction's.
fn contents(fs: &SimFs, root: &Path) -> Contents {
    let file = |(path, bytes): (PathBuf, Option<_>)| Some((path, bytes?));
    tree(fs, root).into_iter().filter_map(file).filter(|(path, _)| !is_ours(path)).collect()
}

fn leftovers(fs: &SimFs, root: &Path) -> usize {
    tree(fs, root).keys().filter(|path| is_ours(path)).count()
}

/// Copies a tree, as `cp -a` does: nothing of the copy has the number of what it is a copy of.
fn copy(fs: &SimFs, from: &Path, to: &Path) {
    for (path, bytes) in tree(fs, from) {
        match bytes {
            Some(bytes) => fs.put_file(to.join(path), &bytes).unwrap(),
            None => fs.put_dir(to.join(path)).unwrap(),
        }
    }
}

fn remove(fs: &SimFs, root: &Path) {
    let inside: Vec<PathBuf> = fs.paths().into_iter().filter(|it| it.starts_with(root)).collect();
    inside.iter().rev().for_each(|path| fs.take_away(path).unwrap());
}

/// What tells two disks apart, as far as a recovery can.
fn fingerprint(fs: &SimFs) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (path, bytes) in tree(fs, Path::new(LIVE)) {
        path.hash(&mut hasher);
        match path.file_name().and_then(names::parse) {
            Some(TransactionName::Record(..)) => {
                bytes.filter(|bytes| Record::decode(bytes).is_ok()).hash(&mut hasher);
            }
            _ => bytes.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// The disk as an earlier version would have left it.
fn with_old_records(disk: &SimFs) -> SimFs {
    let fs = disk.after_kill();
    for path in fs.paths() {
        let Ok(bytes) = fs.read_file(&path) else { continue };
        if let Ok(record) = Record::decode(&bytes) {
            assert!(!record.ways.is_empty());
            let old = Record { ways: Vec::new(), ..record };
            fs.put_file(&path, &old.encode().unwrap()).unwrap();
        }
    }
    fs
}

/// Whether something is said to be left to do.
fn says_undone(report: &[RolledFile]) -> bool {
    report.iter().any(|said| said.result == RollResult::Left && said.is_undone)
}

#[derive(Default)]
struct Counts {
    disks: usize,
    recoveries: usize,
    /// How often a copy of all could not be completed, which is said then.
    undone: usize,
}

struct Walk {
    scene: Scene,
    /// Whether the records are those that an earlier version would have made.
    has_old_records: bool,
    seen: HashSet<u64>,
    counts: Counts,
}

impl Walk {
    fn new(scene: &Scene) -> Walk {
        Walk {
            scene: *scene,
            has_old_records: false,
            seen: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// Cuts a transaction off at every moment, and its recovery, too.
    fn at_every_moment(&mut self, cuts_recovery: bool) {
        let scene = self.scene;
        for moment in 1.. {
            let fs = scene.disk();
            fs.inject(Fault::power_off().at(moment));
            let is_done = scene.commit(&fs);
            let is_over = fs.count() < moment;
            assert!(is_done || !is_over);
            self.examine_all(&fs, &format!("cut at {moment}"));
            let left = fs.after_kill();
            for step in 1.. {
                if !cuts_recovery {
                    break;
                }
                let fs = left.after_kill();
                fs.inject(Fault::power_off().at(step));
                scene.recover(&fs, Path::new(LIVE), 0);
                self.examine_all(&fs, &format!("cut at {moment}, its recovery at {step}"));
                if fs.count() < step {
                    break;
                }
            }
            if is_over {
                break;
            }
        }
    }

    /// Looks at all that may become of copies of the tree on this disk. `is_killed` says that no
    /// power was cut: then each copy of the whole is completed.
    fn examine(&mut self, disk: &SimFs, is_killed: bool, how: &str) {
        if !self.seen.insert(fingerprint(disk)) {
            return;
        }
        let disk = &match self.has_old_records {
            true => with_old_records(disk),
            false => disk.after_kill(),
        };
        let is_killed = is_killed && !self.has_old_records;
        self.counts.disks += 1;
        for turn in 0..self.scene.dirs.len() {
            self.whole_copy(disk, turn, is_killed, how);
        }
        for dir in self.scene.dirs {
            self.part_of_it(disk, dir, how);
            self.beside_the_original(disk, dir, how);
        }
    }

    fn is_settled(
        &mut self,
        fs: &SimFs,
        root: &Path,
        report: &[RolledFile],
        must: bool,
        how: &str,
    ) {
        let (found, how) = (contents(fs, root), format!("{}, {how}", self.scene.name));
        let left = leftovers(fs, root);
        let root = root.display();
        assert!(
            self.scene.versions().contains(&found),
            "{how}: {root} has neither all nor nothing\n{report:#?}\n{fs:?}"
        );
        self.counts.recoveries += 1;
        if left > 0 {
            assert!(says_undone(report), "{how}: {root} is not complete, and said to be\n{fs:?}");
            assert!(!must, "{how}: {root} could be completed\n{report:#?}\n{fs:?}");
            self.counts.undone += 1;
        }
    }

    /// The whole tree is copied, and each recovered in either order; and the copy when the original
    /// is gone, which is how a tree looks that was moved to another disk.
    fn whole_copy(&mut self, disk: &SimFs, turn: usize, must: bool, how: &str) {
        let (live, copied) = (Path::new(LIVE), Path::new("/mnt/backup/of/live"));
        let fs = disk.after_kill();
        copy(&fs, live, copied);
        for order in [[live, copied], [copied, live]] {
            let fs = fs.after_kill();
            for (number, root) in order.into_iter().enumerate() {
                let other = order[1 - number];
                let before = tree(&fs, other);
                let report = self.scene.recover(&fs, root, turn);
                let how = format!("{how}, as number {number}");
                self.is_settled(&fs, root, &report, must || root == live, &how);
                assert!(tree(&fs, other) == before, "{how}: {} is touched", other.display());
            }
        }
        remove(&fs, live);
        let report = self.scene.recover(&fs, copied, turn);
        self.is_settled(&fs, copied, &report, must, &format!("{how}, alone"));
    }

    /// One directory only is copied.
    fn part_of_it(&mut self, disk: &SimFs, dir: &str, how: &str) {
        let fs = disk.after_kill();
        let part = Path::new("/mnt/backup/of/live").join(dir);
        copy(&fs, &Path::new(LIVE).join(dir), &part);
        let before = tree(&fs, Path::new(LIVE));
        self.settles_by_itself(&fs, &part, dir, &format!("{how}, only {dir} of it"));
        assert!(tree(&fs, Path::new(LIVE)) == before, "{how}: the original is touched");
    }

    /// One directory is copied to where it is beside the others.
    fn beside_the_original(&mut self, disk: &SimFs, dir: &str, how: &str) {
        let fs = disk.after_kill();
        let original = Path::new(LIVE).join(dir);
        let beside = original.with_file_name("beside");
        copy(&fs, &original, &beside);
        let before = tree(&fs, Path::new(LIVE));
        self.settles_by_itself(&fs, &beside, dir, &format!("{how}, {dir} copied beside itself"));
        let is_original =
            |(path, _): &(PathBuf, _)| !Path::new(LIVE).join(path).starts_with(&beside);
        let originals =
            |it: BTreeMap<PathBuf, _>| -> Vec<_> { it.into_iter().filter(is_original).collect() };
        assert!(
            originals(tree(&fs, Path::new(LIVE))) == originals(before),
            "{how}: the original is touched\n{fs:?}"
        );
        let report = self.scene.recover(&fs, Path::new(LIVE), 0);
        remove(&fs, &beside);
        self.is_settled(&fs, Path::new(LIVE), &report, true, &format!("{how}, beside {dir}"));
    }

    fn settles_by_itself(&mut self, fs: &SimFs, part: &Path, dir: &str, how: &str) {
        let report = recover_dir(fs, part);
        self.counts.recoveries += 1;
        let mut found = contents(fs, part);
        found.retain(|path, _| path.components().count() == 1);
        let how = format!("{}, {how}", self.scene.name);
        assert!(
            self.scene.versions_in(dir).contains(&found),
            "{how}: neither all nor nothing\n{report:#?}\n{fs:?}"
        );
        let is_left = fs.list(part).unwrap().iter().any(|name| is_ours(Path::new(name)));
        assert!(!is_left || says_undone(&report), "{how}: not said to be incomplete\n{fs:?}");
    }

    /// What is there now, and what a power cut may leave of it.
    fn examine_all(&mut self, fs: &SimFs, how: &str) {
        self.examine(&fs.after_kill(), true, how);
        for model in Model::ALL {
            for state in fs.crash_states(*model, STATES) {
                self.examine(&state.fs, false, &format!("{how}, {model:?}, {}", state.description));
            }
        }
    }
}

#[test]
fn a_copy_ends_by_itself_whenever_it_is_taken_and_whichever_is_recovered_first() {
    let mut all = Counts::default();
    for scene in SCENES {
        let mut walk = Walk::new(scene);
        walk.at_every_moment(true);
        all.disks += walk.counts.disks;
        all.recoveries += walk.counts.recoveries;
        all.undone += walk.counts.undone;
    }
    println!("{} disks, {} recoveries, {} undone", all.disks, all.recoveries, all.undone);
    assert!(all.disks > 300, "{}", all.disks);
}

/// Earlier versions of holdfast have noted absolute paths only.
#[test]
fn what_an_earlier_version_has_left_is_completed_where_it_is_and_touches_nothing_from_a_copy() {
    for scene in SCENES {
        let mut walk = Walk { has_old_records: true, ..Walk::new(scene) };
        walk.at_every_moment(false);
        assert!(walk.counts.disks > 20, "{}", walk.counts.disks);
    }
}

/// The directories are found where they are, by whatever links they were named: an absolute link in
/// a copy leads to the original.
#[test]
fn a_copy_does_not_follow_a_link_to_its_original() {
    let scene = &SCENES[0];
    for moment in 1.. {
        let fs = scene.disk();
        // The same folder, by the name of a link in the tree.
        copy(&fs, Path::new("/srv/live/b"), Path::new("/srv/live/real/b"));
        remove(&fs, Path::new("/srv/live/b"));
        fs.put_link("/srv/live/b", "/srv/live/real/b").unwrap();
        fs.inject(Fault::power_off().at(moment));
        let is_done = scene.commit(&fs);
        let is_over = fs.count() < moment;
        let fs = fs.after_kill();
        let (live, copied) = (Path::new(LIVE), Path::new("/mnt/copy"));
        copy(&fs, live, copied);
        fs.take_away("/mnt/copy/b").unwrap();
        fs.put_link("/mnt/copy/b", "/srv/live/real/b").unwrap();
        let before = tree(&fs, live);
        for dir in ["a", "real/b"] {
            recover_dir(&fs, &copied.join(dir));
        }
        assert!(tree(&fs, live) == before, "cut at {moment}: the original is touched\n{fs:?}");
        let read = |path: &str| fs.read_file(copied.join(path)).unwrap().to_vec();
        let found = ["a/one", "a/two", "real/b/three", "real/b/four"].map(read);
        let (old, new) = (["1", "2", "3", "4"], ["ONE", "TWO", "THREE", "FOUR"]);
        assert!(
            [old, new].contains(&found.each_ref().map(|bytes| std::str::from_utf8(bytes).unwrap())),
            "cut at {moment}: {found:?}"
        );
        assert_eq!(leftovers(&fs, copied), 0, "cut at {moment}\n{fs:?}");
        if is_over {
            assert!(is_done);
            break;
        }
    }
}

/// A folder of the same names that another program has made is no part of the transaction.
#[test]
fn a_folder_that_only_looks_alike_is_neither_touched_nor_believed() {
    let scene = &SCENES[0];
    let fs = SimFs::new();
    fs.put_dir("/mnt/a").unwrap();
    let decided = {
        let live = scene.disk();
        // The second rename is the first of a file.
        let at_rename = Fault::power_off().of(holdfast_sim::OperationKind::Rename).at(2);
        live.inject(at_rename);
        scene.commit(&live);
        live.after_kill()
    };
    for (dir, alike) in [("a", "b"), ("b", "a")] {
        let fs = decided.after_kill();
        let root = Path::new("/mnt");
        copy(&fs, &Path::new(LIVE).join(dir), &root.join(dir));
        for (path, bytes) in scene.old.iter().filter(|(path, _)| path.starts_with(alike)) {
            fs.put_file(root.join(path), bytes).unwrap();
        }
        let before = tree(&fs, &root.join(alike));
        let report = scene.recover(&fs, root, 0);
        assert!(tree(&fs, &root.join(alike)) == before, "{dir}");
        let [old, _] = scene.versions();
        assert_eq!(contents(&fs, root), old, "{dir}: {report:#?}");
    }
}

/// A file system gives the number of a directory that was removed to the next one that is made.
#[test]
fn numbers_that_are_used_again_do_not_make_a_part_of_a_copy_the_original() {
    let scene = &SCENES[0];
    let mut halfway = 0;
    for moment in 1.. {
        let fs = scene.disk();
        fs.inject(Fault::power_off().at(moment));
        scene.commit(&fs);
        if fs.count() < moment {
            break;
        }
        // The first directory has been emptied, and is a new one of the same number.
        let fs = fs.after_kill();
        for name in fs.list("/srv/live/a").unwrap() {
            fs.take_away(Path::new("/srv/live/a").join(name)).unwrap();
        }
        let report = recover_dir(&fs, Path::new("/srv/live/b"));
        let found = contents(&fs, Path::new("/srv/live/b"));
        assert!(
            scene.versions_in("b").contains(&found),
            "cut at {moment}: neither all nor nothing\n{report:#?}\n{fs:?}"
        );
        halfway += usize::from(says_undone(&report));
    }
    assert!(halfway > 0);
}
