//! Locks that are taken and released at once, on the thread that asks: when that is done, and
//! when it is left to a thread.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdfast::error::ErrorKind;
use holdfast::lock::{self, HeldLocks, LockGuard, LockKind, LockRequest};
use holdfast::threads::pool;
use tempfile::TempDir;

use LockKind::{Read as R, Write as W};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Longer than a process may go on, and than a lock is held without a note.
const A_MOMENT: Duration = Duration::from_millis(5);

fn temp_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::canonicalize(dir.path()).unwrap().join("dir").join("file");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "").unwrap();
    (dir, file)
}

fn lock_file(path: &Path) -> PathBuf {
    path.with_file_name(".file.lock")
}

fn ask(
    path: &Path,
    kind: LockKind,
    timeout: Option<Duration>,
) -> Receiver<Result<LockGuard, ErrorKind>> {
    let (tell, outcome) = mpsc::channel();
    let path = path.to_owned();
    let request = LockRequest { path, kind, timeout, held: HeldLocks::default(), before: None };
    lock::acquire(pool(), request, Box::new(move |outcome| drop(tell.send(outcome))));
    outcome
}

fn hold(path: &Path, kind: LockKind) -> LockGuard {
    ask(path, kind, None).recv_timeout(TIMEOUT).unwrap().unwrap()
}

/// Takes the lock at once, soon after it has been used. The kernel may forget a name, or see it
/// change, at any time, so it is tried more than once.
fn take(path: &Path, kind: LockKind) -> LockGuard {
    let begun = Instant::now();
    loop {
        drop(hold(path, kind));
        if let Some(hold) = lock::take_at_once(path, kind, &[]) {
            return hold;
        }
        assert!(begun.elapsed() < TIMEOUT, "it is never taken at once");
    }
}

/// Whether it could be taken at once soon after it has been used, if this has happened then.
fn could_take(path: &Path, then: impl FnOnce()) -> bool {
    drop(take(path, W));
    then();
    lock::take_at_once(path, W, &[]).is_some()
}

/// The content of the lock file once there is some, or once there is none.
fn note(path: &Path, is_there: bool) -> String {
    let begun = Instant::now();
    loop {
        let note = fs::read_to_string(lock_file(path)).unwrap();
        if note.is_empty() != is_there {
            return note;
        }
        assert!(begun.elapsed() < TIMEOUT, "{note}");
        sleep(Duration::from_millis(1));
    }
}

/// How many descriptors of this process are that file's.
fn open_files(path: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|entry| fs::read_link(entry.path()).is_ok_and(|found| found == path)).count()
}

#[test]
fn it_is_taken_and_given_back_without_a_thread() {
    let (_dir, path) = temp_file();
    for kind in [W, R] {
        assert!(
            lock::take_at_once(&path.with_file_name("other"), kind, &[]).is_none(),
            "not known"
        );
        let held = take(&path, kind);
        assert_eq!(held.kind(), kind);
        // To those of another process, and of this one, it is a lock like any other.
        assert!(lock::try_lock(&path).unwrap().is_none());
        assert!(lock::take_at_once(&path, W, &[]).is_none());
        let refused = ask(&path, W, Some(Duration::ZERO)).recv_timeout(TIMEOUT).unwrap();
        assert!(matches!(refused, Err(ErrorKind::Locked(_))));
        drop(held);
        let held = take(&path, kind);
        assert!(held.release_at_once().is_ok() || kind == W, "readers leave no note");
        let other = lock::try_lock(&path).unwrap().expect("it is free");
        assert!(lock::take_at_once(&path, kind, &[]).is_none(), "another process has it");
        drop(other);
    }
}

#[test]
fn readers_share_it() {
    let (_dir, path) = temp_file();
    let one = take(&path, R);
    let second = hold(&path, R);
    let third = lock::take_at_once(&path, R, &[]);
    assert!(lock::take_at_once(&path, W, &[]).is_none());
    assert!(lock::take_at_once(&path, R, &[one.key().clone()]).is_none(), "it is held already");
    for one in [Some(one), Some(second), third].into_iter().flatten() {
        assert!(lock::try_lock(&path).unwrap().is_none());
        assert!(one.release_at_once().is_ok());
    }
    assert!(lock::try_lock(&path).unwrap().is_some());
}

#[test]
fn readers_share_it_at_once_unless_a_call_waits() {
    let (_dir, path) = temp_file();
    let begun = Instant::now();
    let (one, other) = loop {
        assert!(begun.elapsed() < TIMEOUT, "it is never shared");
        let one = take(&path, R);
        if let Some(other) = lock::take_at_once(&path, R, &[]) {
            break (one, other);
        }
    };
    // Another process.
    let writer = stand_in_line(&path);
    assert!(lock::take_at_once(&path, R, &[]).is_none());
    drop(writer);
    drop(one);
    // This one.
    let waiting = ask(&path, W, None);
    assert!(waiting.recv_timeout(Duration::from_millis(20)).is_err());
    assert!(lock::take_at_once(&path, R, &[]).is_none());
    let Err(other) = other.release_at_once() else { panic!("a call waits") };
    drop(other);
    let writer = waiting.recv_timeout(TIMEOUT).unwrap().unwrap();
    assert!(lock::take_at_once(&path, R, &[]).is_none());
    drop(writer);
    assert!(lock::try_lock(&path).unwrap().is_some());
}

#[test]
fn it_is_not_taken_past_those_who_wait_and_passes_to_them() {
    let (_dir, path) = temp_file();
    let held = take(&path, W);
    let waiting = ask(&path, W, None);
    assert!(waiting.recv_timeout(Duration::from_millis(20)).is_err());
    let Err(held) = held.release_at_once() else { panic!("a call comes next") };
    assert!(lock::take_at_once(&path, W, &[]).is_none());
    drop(held);
    let held = waiting.recv_timeout(TIMEOUT).unwrap().unwrap();
    assert!(lock::try_lock(&path).unwrap().is_none());
    drop(held);
    assert!(lock::try_lock(&path).unwrap().is_some());
}

/// Another process, as far as the first ticket goes.
fn stand_in_line(path: &Path) -> File {
    let file = File::options().write(true).open(lock_file(path)).unwrap();
    // SAFETY: all fields are numbers.
    let mut ticket: libc::flock = unsafe { std::mem::zeroed() };
    ticket.l_type = libc::F_WRLCK as libc::c_short;
    ticket.l_start = (1 << 62) + (1 << 32) + 1;
    ticket.l_len = 1;
    // SAFETY: the descriptor is open, and this command takes a `flock`.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &ticket) }, 0);
    file
}

#[test]
fn a_process_goes_on_for_a_moment_and_then_lets_others_pass() {
    let (_dir, path) = temp_file();
    drop(hold(&path, W));
    let other = stand_in_line(&path);
    for _ in 0..20 {
        sleep(A_MOMENT);
        assert!(lock::take_at_once(&path, W, &[]).is_none());
        let refused = ask(&path, W, Some(Duration::ZERO)).recv_timeout(TIMEOUT).unwrap();
        assert!(matches!(refused, Err(ErrorKind::Locked(_))), "it is the other's turn");
    }
    drop(other);
    // Within its time slice it does not look for tickets.
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT {
        drop(take(&path, W));
        let _other = stand_in_line(&path);
        if lock::take_at_once(&path, W, &[]).is_some() {
            return;
        }
    }
    panic!("it never goes on");
}

#[test]
fn a_turn_for_reading_is_none_for_writing() {
    let (_dir, path) = temp_file();
    let mut turns = 0;
    let begun = Instant::now();
    while turns < 20 {
        assert!(begun.elapsed() < TIMEOUT);
        // It was known by writing, which is over then.
        drop(take(&path, R));
        sleep(A_MOMENT);
        let Some(reader) = lock::take_at_once(&path, R, &[]) else { continue };
        let _other = stand_in_line(&path);
        drop(reader);
        assert!(lock::take_at_once(&path, W, &[]).is_none(), "past a call that waits");
        turns += 1;
    }
}

#[test]
fn it_is_not_taken_where_the_path_leads_elsewhere_by_now() {
    let (dir, path) = temp_file();
    let other = dir.path().join("dir").join("other");
    fs::write(&other, "").unwrap();
    assert!(could_take(&path, || ()) || could_take(&path, || ()), "otherwise it is");

    // Another file in its place has the same lock; a link has that of its target.
    assert!(!could_take(&path, || {
        fs::remove_file(&path).unwrap();
        symlink("other", &path).unwrap();
    }));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();

    // The lock file is another one, or none, or has the note of a process that has died.
    assert!(!could_take(&path, || fs::remove_file(lock_file(&path)).unwrap()));
    assert!(!could_take(&path, || {
        fs::remove_file(lock_file(&path)).unwrap();
        fs::write(lock_file(&path), "").unwrap();
    }));
    let left = "{\"command\":\"a\",\"hostname\":\"h\",\"pid\":1,\"since\":1}\n";
    assert!(!could_take(&path, || fs::write(lock_file(&path), left).unwrap()));
    drop(hold(&path, W));
    assert_eq!(note(&path, false), "");

    // Another directory is in the place of its own.
    let moved = dir.path().join("moved");
    assert!(!could_take(&path, || {
        fs::rename(path.parent().unwrap(), &moved).unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
    }));
    // Nothing is left locked by all this.
    assert!(lock::try_lock(&path).unwrap().is_some());
    assert!(lock::try_lock(&moved.join("file")).unwrap().is_some());
}

#[test]
fn a_holder_that_keeps_it_writes_a_note_and_removes_it() {
    let (_dir, path) = temp_file();
    let held = take(&path, W);
    let text = note(&path, true);
    assert!(text.contains(&format!("\"pid\":{},", std::process::id())), "{text}");
    let Err(held) = held.release_at_once() else { panic!("the note has to be removed") };
    drop(held);
    assert_eq!(note(&path, false), "");
    // A holder that releases it before writes none afterwards.
    drop(take(&path, W));
    sleep(2 * A_MOMENT);
    assert_eq!(note(&path, false), "");
    // Whoever asks while there is none waits for it.
    let held = take(&path, W);
    let holder = lock::inspect(&path, W).unwrap().expect("it is held").expect("by a process");
    assert!(holder.is_this_process());
    drop(held);
}

#[test]
fn a_lock_that_no_call_asks_for_any_more_is_evicted() {
    let (dir, path) = temp_file();
    let mut files: Vec<PathBuf> = vec![path.clone()];
    files.extend((0..100).map(|number| path.with_file_name(format!("file{number}"))));
    for file in &files {
        drop(hold(file, W));
    }
    let lock_file = fs::canonicalize(lock_file(&path)).unwrap();
    let open_dirs = || open_files(lock_file.parent().unwrap());
    assert!(open_dirs() <= 64, "as many stay");
    let begun = Instant::now();
    while open_files(&lock_file) + open_dirs() > 0 {
        assert!(begun.elapsed() < TIMEOUT);
        sleep(Duration::from_millis(5));
    }
    assert!(lock::take_at_once(&path, W, &[]).is_none());
    assert!(take(&path, W).release_at_once().is_ok());
    drop(dir);
}

#[test]
fn what_was_in_a_dir_that_is_gone_is_let_go_of() {
    let (dir, path) = temp_file();
    for _ in 0..50 {
        drop(hold(&path, W));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
    }
    let deleted = |found: PathBuf| {
        found.starts_with(fs::canonicalize(dir.path()).unwrap())
            && found.to_string_lossy().ends_with(" (deleted)")
    };
    let begun = Instant::now();
    loop {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let left = all.filter(|entry| fs::read_link(entry.path()).is_ok_and(deleted)).count();
        if left == 0 {
            return;
        }
        assert!(begun.elapsed() < TIMEOUT, "{left} are open");
        sleep(Duration::from_millis(5));
    }
}
