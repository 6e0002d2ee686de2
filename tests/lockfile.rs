//! Lock directories on a disk on which something goes wrong: every operation fails, once and for
//! ever, the process is killed before each of them, and others come between any two.
//!
//! The promise: a process that is told that it has the lock has it alone, nothing of another
//! process is removed or touched, and whatever is left behind, the lock can be had again once
//! it is stale.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use holdfast::error::Code;
use holdfast::error::Failure;
use holdfast::fs::{Dir, DirUse, FileId};
use holdfast::lock::lockfile::dir::{
    LockDirPath, OwnedLockDir, Renewal, TryLockOutcome, is_held, try_lock,
};
use holdfast::temp_name;
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

const STALE: Duration = Duration::from_secs(10);
const LOCK: &str = "/dir/note.lock";

fn time_at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

/// When everything happens, unless it is said otherwise.
fn now() -> SystemTime {
    time_at(100)
}

/// Long after everything that happens.
fn later() -> SystemTime {
    time_at(1000)
}

/// How the lock is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Free,
    Fresh,
    Stale,
}

#[derive(Clone, Copy, Debug)]
struct Scene {
    found: Found,
    system: System,
}

/// What the system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    /// Everything, as Linux on its own file systems.
    Able,
    /// No exchange of names.
    NoExchange,
    /// Nor locks on directories, and what is open cannot be removed: as on Windows.
    NoLocks,
}

const LOCKING: [System; 2] = [System::Able, System::NoExchange];
const SYSTEMS: [System; 3] = [System::Able, System::NoExchange, System::NoLocks];

fn scenes(systems: &[System]) -> Vec<Scene> {
    let all = [Found::Free, Found::Fresh, Found::Stale].into_iter();
    all.flat_map(|found| systems.iter().map(move |system| Scene { found, system: *system }))
        .collect()
}

impl Scene {
    fn disk(self) -> SimFs {
        let fs = SimFs::new();
        fs.put_dir("/dir").unwrap();
        fs.set_clock(now());
        fs.set_can_exchange(self.system == System::Able);
        fs.set_has_unix_dirs(self.system != System::NoLocks);
        match self.found {
            Found::Free => {}
            Found::Fresh => foreign_dir(&fs, time_at(95)),
            Found::Stale => foreign_dir(&fs, time_at(1)),
        }
        fs
    }
}

/// A lock directory of a process that runs the package.
fn foreign_dir(fs: &SimFs, time: SystemTime) {
    fs.put_dir(LOCK).unwrap();
    fs.set_modified(LOCK, time).unwrap();
}

fn lock_path(fs: &SimFs) -> LockDirPath<SimFs> {
    let parent = Dir::open(fs, Path::new("/dir"), DirUse::Names).unwrap();
    LockDirPath { parent, name: "note.lock".into() }
}

fn try_it(at: &LockDirPath<SimFs>, now: SystemTime) -> Result<TryLockOutcome<SimFs>, Failure> {
    try_lock(at, STALE, now)
}

/// The lock, if it is had and still ours after it has settled.
fn settled(at: &LockDirPath<SimFs>, outcome: TryLockOutcome<SimFs>) -> Option<OwnedLockDir<SimFs>> {
    match outcome {
        TryLockOutcome::Held => None,
        TryLockOutcome::Acquired(own) => Some(own),
        TryLockOutcome::TakenOver(mut own) => {
            matches!(own.renew(at, STALE, now(), now()), Renewal::Kept).then_some(own)
        }
    }
}

fn take(at: &LockDirPath<SimFs>, now: SystemTime) -> Option<OwnedLockDir<SimFs>> {
    settled(at, try_it(at, now).unwrap())
}

fn id_at(fs: &SimFs, path: &str) -> Option<FileId> {
    fs.inspect_name(path).ok().map(|found| found.id)
}

fn modified(at: &LockDirPath<SimFs>) -> SystemTime {
    at.parent.modified(&at.name).unwrap().unwrap()
}

/// Fails unless there is nothing in the directory but what may be left behind.
fn check_names(fs: &SimFs, what: &str, may_leave_spare: bool) {
    for name in fs.list("/dir").unwrap() {
        let is_spare = may_leave_spare && temp_name::is_temp_name(&name);
        assert!(name == "note.lock" || is_spare, "{what} leaves {}\n{fs:?}", name.display());
    }
}

/// How many operations an attempt has.
fn count(scene: Scene) -> u64 {
    let fs = scene.disk();
    let at = lock_path(&fs);
    let before = fs.count();
    drop(try_it(&at, now()).unwrap());
    fs.count() - before
}

#[test]
fn a_lock_is_had_when_it_is_free_or_stale_and_only_then() {
    for scene in scenes(&SYSTEMS) {
        let fs = scene.disk();
        let at = lock_path(&fs);
        assert_eq!(is_held(&at, STALE, now()).unwrap(), scene.found == Found::Fresh);
        let own = take(&at, now());
        assert_eq!(own.is_some(), scene.found != Found::Fresh, "{scene:?}");
        check_names(&fs, "taking it", false);
        assert!(is_held(&at, STALE, now()).unwrap());
        // Nobody else has it beside us, whatever its age.
        assert!(matches!(try_it(&at, now()), Ok(TryLockOutcome::Held)));
        if let Some(own) = own {
            if scene.system != System::NoLocks {
                assert!(matches!(try_it(&at, later()), Ok(TryLockOutcome::Held)));
            }
            assert_eq!(id_at(&fs, LOCK), Some(own.id()));
            assert!(own.release(&at).unwrap().is_none());
            assert_eq!(fs.list("/dir").unwrap().len(), 0);
            assert!(!is_held(&at, STALE, now()).unwrap());
        }
        assert_eq!(fs.open_handles(), (0, 1), "{scene:?}: only the parent is open");
    }
}

#[test]
fn the_age_counts_to_the_millisecond() {
    for (age, is_stale) in [(9_999, false), (10_000, false), (10_001, true)] {
        let fs = Scene { found: Found::Free, system: System::Able }.disk();
        foreign_dir(&fs, now() - Duration::from_millis(age));
        let at = lock_path(&fs);
        assert_eq!(is_held(&at, STALE, now()).unwrap(), !is_stale, "{age}");
        assert_eq!(take(&at, now()).is_some(), is_stale, "{age}");
    }
}

#[test]
fn what_is_no_lock_is_left_alone() {
    // A directory with something in it.
    let fs = Scene { found: Found::Stale, system: System::Able }.disk();
    fs.put_file("/dir/note.lock/precious", b"bytes").unwrap();
    fs.set_modified(LOCK, time_at(1)).unwrap();
    let error = try_it(&lock_path(&fs), now()).err().unwrap();
    assert_eq!(error.code(), Some(Code::ENOTEMPTY));
    assert_eq!(*fs.read_file("/dir/note.lock/precious").unwrap(), b"bytes");
    check_names(&fs, "a refusal", false);
    // A file.
    let fs = Scene { found: Found::Free, system: System::Able }.disk();
    fs.put_file(LOCK, b"bytes").unwrap();
    let error = try_it(&lock_path(&fs), now()).err().unwrap();
    assert_eq!(error.code(), Some(Code::ENOTDIR));
    assert_eq!(*fs.read_file(LOCK).unwrap(), b"bytes");
}

#[test]
fn it_is_kept_fresh_and_its_loss_is_noticed() {
    SYSTEMS.into_iter().for_each(keeps_fresh_and_notices);
}

fn keeps_fresh_and_notices(system: System) {
    let new = || {
        let fs = Scene { found: Found::Free, system }.disk();
        let at = lock_path(&fs);
        let own = take(&at, now()).unwrap();
        (fs, at, own)
    };
    let (_, at, mut own) = new();
    for seconds in [105, 110, 500] {
        // Late or not: what is still there is still ours.
        assert!(matches!(own.renew(&at, STALE, time_at(seconds), time_at(seconds)), Renewal::Kept));
        assert_eq!(modified(&at), time_at(seconds));
    }
    // Extended beyond that.
    assert!(matches!(own.renew(&at, STALE, time_at(505), time_at(560)), Renewal::Kept));
    assert!(is_held(&at, STALE, time_at(570)).unwrap());

    type Act = fn(&SimFs);
    let lose: [(&str, Act); 3] = [
        ("removed", |fs| fs.take_away(LOCK).unwrap()),
        ("replaced", |fs| {
            fs.take_away(LOCK).unwrap();
            foreign_dir(fs, now());
        }),
        ("touched", |fs| fs.set_modified(LOCK, time_at(101)).unwrap()),
    ];
    for (what, lose) in lose {
        for is_release in [false, true] {
            let (fs, at, mut own) = new();
            lose(&fs);
            let left = id_at(&fs, LOCK);
            let time = left.map(|_| modified(&at));
            if is_release {
                assert!(own.release(&at).unwrap().is_some(), "{what}");
            } else {
                let Renewal::Lost(lost) = own.renew(&at, STALE, now(), now()) else {
                    panic!("{what} was not noticed");
                };
                let code = lost.failure.and_then(|failure| failure.code());
                assert_eq!(code, (what == "removed").then_some(Code::ENOENT));
            }
            // And what is there now is not touched.
            assert_eq!(id_at(&fs, LOCK), left, "{what}");
            assert_eq!(left.map(|_| modified(&at)), time, "{what}");
        }
    }
}

#[test]
fn a_disk_that_counts_in_large_steps_does_not_make_it_look_older_than_it_is() {
    for step in [Duration::from_millis(10), Duration::from_secs(1), Duration::from_secs(2)] {
        let fs = Scene { found: Found::Free, system: System::Able }.disk();
        fs.set_time_step(step);
        let at = lock_path(&fs);
        let mut own = take(&at, now() + Duration::from_millis(1)).unwrap();
        for millisecond in (0..8000).step_by(777) {
            let now = now() + Duration::from_millis(millisecond);
            assert!(matches!(own.renew(&at, STALE, now, now), Renewal::Kept), "{step:?}");
            assert!(modified(&at) >= now, "{step:?}");
            assert!(modified(&at) <= now + 2 * Duration::from_secs(2), "{step:?}");
        }
        assert!(own.release(&at).unwrap().is_none());
    }
}

#[test]
fn every_failure_is_told_or_got_over_and_the_lock_can_be_had_again() {
    let codes = [Code::EIO, Code::EACCES, Code::ENOSPC, Code::EINTR];
    let mut runs = 0;
    for scene in scenes(&SYSTEMS) {
        for number in 1..=count(scene) {
            for code in codes {
                for (how, fault) in [
                    ("once", Fault::fail(code)),
                    ("once, after the fact", Fault::fail_after(code)),
                    ("for ever", Fault::fail(code).for_ever_alike()),
                    ("everything, for ever", Fault::fail(code).for_ever()),
                ] {
                    runs += 1;
                    let what = format!("{scene:?}, {} {number} {how}", code.name());
                    let fs = scene.disk();
                    let foreign = id_at(&fs, LOCK);
                    let at = lock_path(&fs);
                    fs.inject(fault.at(number));
                    let outcome = try_it(&at, now());
                    fs.repair();
                    if let Ok(TryLockOutcome::Acquired(own) | TryLockOutcome::TakenOver(own)) =
                        &outcome
                    {
                        assert_ne!(scene.found, Found::Fresh, "{what}");
                        assert_eq!(id_at(&fs, LOCK), Some(own.id()), "{what}\n{fs:?}");
                        assert!(is_held(&at, STALE, now()).unwrap(), "{what}");
                    }
                    if scene.found == Found::Fresh {
                        assert_eq!(id_at(&fs, LOCK), foreign, "{what}\n{fs:?}");
                        assert_eq!(modified(&at), time_at(95), "{what}");
                    }
                    check_names(&fs, &what, true);
                    let has_failed = outcome.is_err();
                    drop(outcome);
                    if has_failed && how == "once" && scene.found != Found::Fresh {
                        // What had been made so far is gone, and no process has to wait for that.
                        let own = take(&at, now());
                        assert!(own.is_some(), "{what}: it cannot be had at once\n{fs:?}");
                        continue;
                    }
                    // Whatever is left, it is stale in time.
                    let own = take(&at, later());
                    assert!(own.is_some(), "{what}: it can never be had again\n{fs:?}");
                    assert!(fs.open_handles().1 <= 2, "{what}");
                }
            }
        }
    }
    println!("{runs} runs");
    assert!(runs > 1000);
}

#[test]
fn keeping_it_fresh_and_releasing_it_survive_failures() {
    for (system, code) in SYSTEMS
        .into_iter()
        .flat_map(|system| [Code::EIO, Code::EACCES, Code::EINTR].map(|code| (system, code)))
    {
        for number in 1..=10 {
            for fault in [Fault::fail(code), Fault::fail_after(code)] {
                let fs = Scene { found: Found::Free, system }.disk();
                let at = lock_path(&fs);
                let mut own = take(&at, now()).unwrap();
                fs.inject(fault.clone().at(number));
                let first = own.renew(&at, STALE, time_at(105), time_at(105));
                assert!(!matches!(first, Renewal::Lost(_)), "{code:?} {number}");
                fs.repair();
                // One that did not work is made good by the next.
                let beat = own.renew(&at, STALE, time_at(106), time_at(106));
                assert!(matches!(beat, Renewal::Kept), "{code:?} {number}: {beat:?}");

                fs.inject(fault.at(number));
                // It may have been removed, and the answer lost: then that is told.
                if let Ok(None) = own.release(&at) {
                    assert_eq!(id_at(&fs, LOCK), None);
                }
                drop(own);
                fs.repair();
                assert!(take(&at, later()).is_some());
            }
        }
    }
    // A disk that does not answer for long: others may have the lock by now.
    let fs = Scene { found: Found::Free, system: System::Able }.disk();
    let at = lock_path(&fs);
    let mut own = take(&at, now()).unwrap();
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SetDirModified).for_ever());
    assert!(matches!(own.renew(&at, STALE, time_at(105), time_at(105)), Renewal::Failing(_)));
    assert!(matches!(own.renew(&at, STALE, time_at(110), time_at(110)), Renewal::Failing(_)));
    let Renewal::Lost(lost) = own.renew(&at, STALE, time_at(111), time_at(111)) else {
        panic!("it is not told that the lock may be lost");
    };
    assert_eq!(lost.failure.and_then(|failure| failure.code()), Some(Code::EIO));
}

#[test]
fn a_process_that_is_killed_anywhere_leaves_nothing_that_lasts() {
    for scene in scenes(&SYSTEMS) {
        for number in 1..=count(scene) + 1 {
            let fs = scene.disk();
            fs.inject(Fault::power_off().at(number + 1));
            let at_before = lock_path(&fs);
            drop(try_it(&at_before, now()));
            let states = std::iter::once(fs.after_kill())
                .chain(fs.crash_states(Model::StrictPosix, 1000).into_iter().map(|state| state.fs));
            for left in states {
                left.set_clock(later());
                check_names(&left, &format!("{scene:?}, killed at {number}"), true);
                let at = lock_path(&left);
                assert!(take(&at, later()).is_some(), "{scene:?} {number}\n{left:?}");
            }
        }
    }
}

/// Runs an attempt with another process coming before its `number`th operation.
fn intrude<T: Send + 'static>(
    scene: Scene,
    number: u64,
    act: impl Fn(&SimFs) -> T + Send + Sync + 'static,
) -> (SimFs, LockDirPath<SimFs>, Option<OwnedLockDir<SimFs>>, Option<T>) {
    let fs = scene.disk();
    let at = lock_path(&fs);
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    fs.inject(Fault::intrude(move |fs, _| *noted.lock().unwrap() = Some(act(fs))).at(number));
    let outcome = try_it(&at, now()).unwrap_or(TryLockOutcome::Held);
    let own = settled(&at, outcome);
    fs.repair();
    let seen = seen.lock().unwrap().take();
    (fs, at, own, seen)
}

#[test]
fn two_that_run_holdfast_never_both_have_it() {
    let mut shared = [0, 0];
    for scene in scenes(&LOCKING) {
        for number in 1..=count(scene) {
            // A rival makes a whole attempt between any two of our steps.
            let (fs, at, own, rival) = intrude(scene, number, |fs| {
                fs.repair();
                let at = self::lock_path(fs);
                let own = take(&at, now());
                (at, own)
            });
            let (rival_at, rival) = rival.unwrap();
            let has = |own: Option<OwnedLockDir<SimFs>>, at: &LockDirPath<SimFs>| {
                own.is_some_and(|mut own| {
                    matches!(own.renew(at, STALE, now(), now()), Renewal::Kept)
                })
            };
            let what = format!("{scene:?}, rival before operation {number}");
            let both = own.is_some() && rival.is_some();
            assert!(!both, "{what}: both were told that they have it\n{}", fs.log_text());
            check_names(&fs, &what, false);
            let ours = has(own, &at);
            let theirs = has(rival, &rival_at);
            shared[0] += usize::from(ours);
            shared[1] += usize::from(theirs);
            if scene.found == Found::Fresh {
                assert!(!ours && !theirs, "{what}");
            } else {
                assert!(ours || theirs, "{what}: no process has it\n{}", fs.log_text());
            }
        }
    }
    println!("had by the first {}, by the rival {}", shared[0], shared[1]);
    assert!(shared[0] > 0 && shared[1] > 0);
}

/// What a process that runs the package may do at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// It has seen a stale directory, removes what has its name, and makes its own.
    TakesOver,
    /// It is the holder, and keeps it fresh.
    Revives,
    /// It is the holder, and releases it.
    Releases,
}

/// The points at which it is not safe, by the operation that comes next.
fn unsafe_points(scene: Scene, deed: Deed) -> Vec<OperationKind> {
    let mut points = Vec::new();
    for number in 1..=count(scene) {
        let (fs, at, own, seen) = intrude(scene, number, move |fs| {
            let log = fs.log().len();
            match deed {
                Deed::TakesOver => {
                    let _ = fs.take_away(LOCK);
                    if id_at(fs, LOCK).is_none() {
                        foreign_dir(fs, now());
                    }
                }
                Deed::Revives => {
                    let _ = fs.set_modified(LOCK, now() - Duration::from_millis(7));
                }
                Deed::Releases => {
                    let _ = fs.take_away(LOCK);
                }
            }
            (log, id_at(fs, LOCK))
        });
        let (log, foreign) = seen.unwrap();
        let what = format!("{scene:?}, {deed:?} before {number}");
        check_names(&fs, &what, false);
        let own = own.and_then(|mut own| {
            matches!(own.renew(&at, STALE, now(), now()), Renewal::Kept).then_some(own)
        });
        let is_safe = match deed {
            // Its directory is where it made it, with the time it gave it, and we have nothing.
            Deed::TakesOver => {
                own.is_none() && id_at(&fs, LOCK) == foreign && modified(&at) == now()
            }
            // If it has revived ours it will find out; if the lock was its own, it has it still.
            Deed::Revives => {
                own.is_none() || id_at(&fs, LOCK) == own.as_ref().map(OwnedLockDir::id)
            }
            Deed::Releases => own.is_none_or(|own| id_at(&fs, LOCK) == Some(own.id())),
        };
        if !is_safe {
            points.push(fs.log()[log].kind);
        }
    }
    points
}

#[test]
fn a_process_that_runs_the_package_may_come_between_at_any_moment() {
    let stale = |system| Scene { found: Found::Stale, system };
    for deed in [Deed::TakesOver, Deed::Revives, Deed::Releases] {
        assert_eq!(unsafe_points(stale(System::Able), deed), [], "{deed:?}");
    }
    // Without an exchange in one step, what is removed is what has the name at that moment, and
    // what is opened after it is made may be another process's. This is what remains.
    let remains = unsafe_points(stale(System::NoExchange), Deed::TakesOver);
    println!("without an exchange: {remains:?}");
    let known = [OperationKind::RemoveDir, OperationKind::OpenDir];
    assert_eq!(remains, known);
    assert_eq!(unsafe_points(stale(System::NoExchange), Deed::Revives), []);
    assert_eq!(unsafe_points(stale(System::NoExchange), Deed::Releases), []);
}
