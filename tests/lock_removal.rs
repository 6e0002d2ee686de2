//! Lock files that are removed: by whom, when, and that the locks exclude all the same.
//!
//! The other processes are this program again, told by environment variables what to do.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::ErrorKind as IoErrorKind;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdfast::error::ErrorKind;
use holdfast::lock::{self, LockKind};
use rand::RngExt;
use tempfile::TempDir;

use LockKind::{Read as R, Write as W};

mod lock_common;
use lock_common::{FOR_EVER, NOW, TIMEOUT, acquire, hold};

/// What another process does, and with the lock of which file.
const TASK: &str = "HOLDFAST_REMOVAL_TASK";
const FILE: &str = "HOLDFAST_REMOVAL_FILE";

fn temp_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::canonicalize(dir.path()).unwrap().join("file");
    (dir, file)
}

fn lock_file(path: &Path) -> PathBuf {
    path.with_file_name(".file.lock")
}

/// Waits until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < TIMEOUT, "{what}");
        sleep(Duration::from_millis(5));
    }
}

fn until_gone(path: &Path) {
    until("the lock file goes", || !lock_file(path).exists());
}

fn start(task: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(FILE, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Not a test of its own: what the other processes do.
#[test]
fn another_process() {
    let (Ok(task), Some(file)) = (std::env::var(TASK), std::env::var_os(FILE)) else { return };
    let path = PathBuf::from(file);
    match task.as_str() {
        "use and remove" => use_and_remove(&path, 400),
        kind => {
            let held = hold(&path, if kind == "read" { R } else { W });
            fs::write(path.with_file_name("held"), "").unwrap();
            sleep(TIMEOUT);
            drop(held);
        }
    }
}

/// Takes the lock many times, sees to it that it is alone, and removes the lock file each time.
fn use_and_remove(path: &Path, times: usize) {
    let file = File::create(path.with_file_name("alone")).unwrap();
    // Of a process that is killed the kernel frees the files with the highest numbers first, and this
    // one has to be free when the lock is.
    // SAFETY: the file is open, and what comes of it is a new descriptor.
    let alone =
        unsafe { File::from_raw_fd(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 500)) };
    drop(file);
    for time in 0..times {
        let kind = if time % 5 == 0 { R } else { W };
        let held = acquire(path, kind, FOR_EVER).hold();
        // The kernel frees this too when the process is killed.
        match kind {
            W => alone.try_lock().expect("two processes have the lock"),
            R => alone.try_lock_shared().expect("a reader is beside a writer"),
        }
        if time % 3 == 0 {
            sleep(Duration::from_micros(50));
        }
        alone.unlock().unwrap();
        drop(held);
        lock::remove_unused_lock(path).unwrap();
    }
}

#[test]
fn processes_that_remove_it_after_each_use_exclude_each_other_and_leave_none() {
    let (_dir, path) = temp_file();
    let all: Vec<_> = (0..3).map(|_| start("use and remove", &path)).collect();
    for mut child in all {
        assert!(child.wait().unwrap().success());
    }
    until_gone(&path);
}

#[test]
fn processes_that_are_killed_meanwhile_do_no_harm() {
    let (_dir, path) = temp_file();
    let mut random = rand::rng();
    let mut all: Vec<_> = (0..3).map(|_| start("use and remove", &path)).collect();
    let mut kills = 0;
    for _ in 0..30 {
        sleep(Duration::from_millis(random.random_range(5..60)));
        let mut victim = all.swap_remove(random.random_range(0..all.len()));
        match victim.try_wait().unwrap() {
            Some(status) => assert!(status.success()),
            None => {
                kill(victim);
                kills += 1;
            }
        }
        all.push(start("use and remove", &path));
    }
    for mut child in all {
        assert!(child.wait().unwrap().success());
    }
    println!("{kills} kills");
    assert!(kills > 0);
    // What those that were killed have left goes with the next use.
    drop(hold(&path, W));
    until_gone(&path);
}

#[test]
fn it_goes_when_the_lock_has_not_been_used_for_a_while_and_stays_while_it_is() {
    let (_dir, path) = temp_file();
    for kind in [W, R] {
        let held = hold(&path, kind);
        sleep(Duration::from_millis(600));
        assert!(lock_file(&path).exists(), "it is held");
        drop(held);
        let inode = fs::metadata(lock_file(&path)).unwrap().ino();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            let before = Instant::now();
            let held = hold(&path, kind);
            let found = fs::metadata(lock_file(&path)).unwrap().ino();
            drop(held);
            sleep(Duration::from_millis(20));
            // On a machine that is busy it may have cooled down meanwhile.
            if before.elapsed() > Duration::from_millis(200) {
                return;
            }
            assert_eq!(found, inode, "one that is used again and again is not made anew");
        }
        until_gone(&path);
    }
}

#[test]
fn it_stays_while_another_process_uses_it_and_goes_after_a_kill_with_the_next_use() {
    for kind in ["read", "write"] {
        let (_dir, path) = temp_file();
        let other = start(kind, &path);
        until("the other process has it", || path.with_file_name("held").exists());
        assert!(!lock::remove_unused_lock(&path).unwrap());
        match acquire(&path, W, NOW).outcome() {
            Err(ErrorKind::Locked(_)) => {}
            _ => panic!("the other process has it"),
        }
        sleep(Duration::from_millis(600));
        assert!(lock_file(&path).exists(), "another process uses it");
        kill(other);
        assert!(lock_file(&path).exists());
        drop(hold(&path, R));
        until_gone(&path);
    }
}

#[test]
fn a_call_that_only_tries_is_never_refused_because_the_file_is_being_removed() {
    let (_dir, path) = temp_file();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            let mut removed = 0;
            while !is_over.load(Ordering::Relaxed) {
                // It finds the file in use, mostly.
                let was_there = lock_file(&path).exists();
                removed += usize::from(lock::remove_unused_lock(&path).unwrap() && was_there);
            }
            removed
        });
        let tries = |time: i32| {
            let kind = if time % 2 == 0 { R } else { W };
            acquire(&path, kind, NOW).outcome().map(drop).map_err(|error| format!("{error:?}"))?;
            let holder = lock::inspect(&path, W).unwrap();
            if holder.is_none() { Ok(()) } else { Err("no process has it".to_owned()) }
        };
        let outcome = (0..2000).try_for_each(tries);
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap();
        let removed = remover.join().unwrap();
        println!("removed {removed} times");
        assert!(removed > 10, "{removed}");
    });
}

#[test]
fn what_is_no_lock_file_is_not_removed() {
    let (_dir, path) = temp_file();
    for content in ["precious", "{\"pid\": 1}\n", "\n"] {
        fs::write(lock_file(&path), content).unwrap();
        assert!(!lock::remove_unused_lock(&path).unwrap());
        assert_eq!(fs::read_to_string(lock_file(&path)).unwrap(), content);
    }
    fs::remove_file(lock_file(&path)).unwrap();
    fs::create_dir(lock_file(&path)).unwrap();
    assert!(lock::remove_unused_lock(&path).is_err());
    assert!(lock_file(&path).is_dir());
    fs::remove_dir(lock_file(&path)).unwrap();
    assert!(lock::remove_unused_lock(&path).unwrap(), "there is none");
    let error = fs::metadata(lock_file(&path)).unwrap_err();
    assert_eq!(error.kind(), IoErrorKind::NotFound);
    // The note of a process that has died.
    let note = "{\"pid\":1,\"hostname\":\"h\",\"since\":1,\"command\":\"c\"}\n";
    fs::write(lock_file(&path), note).unwrap();
    assert!(lock::remove_unused_lock(&path).unwrap());
    assert!(!lock_file(&path).exists());
}
