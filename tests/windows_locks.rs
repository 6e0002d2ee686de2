//! Locks on Windows, between calls of one process and between processes.
//!
//! The other processes are this program again, told by environment variables what to do;
//! see `another_process`. What they have reached they say by making files.

#![cfg(windows)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast::error::Code;
use holdfast::error::{Contention, ErrorKind, Holder};
use holdfast::lock::{self, LockKind};

mod lock_common;
use lock_common::{A_MOMENT, Call, FOR_EVER, NOW, TIMEOUT, acquire, hold};

/// The answer to those who do not get the lock in time.
fn refused(call: &Call) -> Contention {
    match call.outcome() {
        Err(ErrorKind::Locked(contention)) => *contention,
        Err(error) => panic!("another call has it, but: {error:?}"),
        Ok(_) => panic!("another call has it"),
    }
}

fn lock_file(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.lock", path.file_name().unwrap().to_str().unwrap()))
}

fn note(path: &Path) -> Option<Holder> {
    lock::note::from_line(&fs::read(lock_file(path)).unwrap())
}

fn temp_file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.json");
    (dir, path)
}

fn wait_for(what: &Path) {
    let since = Instant::now();
    while !what.exists() {
        assert!(since.elapsed() < TIMEOUT, "{} never comes", what.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Another process that takes a lock.
struct Process {
    child: Child,
    marks: PathBuf,
}

impl Process {
    fn start(path: &Path, name: &str, task: &str) -> Process {
        let marks = path.with_file_name(name);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "another_process", "--test-threads=1"])
            .env("HOLDFAST_TEST_TASK", task)
            .env("HOLDFAST_TEST_PATH", path)
            .env("HOLDFAST_TEST_MARKS", &marks)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Process { child, marks }
    }

    fn holding(path: &Path, name: &str, task: &str) -> Process {
        let process = Process::start(path, name, task);
        process.wait_for("held");
        process
    }

    fn mark(&self, what: &str) -> PathBuf {
        self.marks.with_extension(what)
    }

    fn wait_for(&self, what: &str) {
        wait_for(&self.mark(what));
    }

    fn has(&self, what: &str) -> bool {
        self.mark(what).exists()
    }

    fn assert_waiting(&self) {
        self.wait_for("asked");
        std::thread::sleep(A_MOMENT);
        assert!(!self.has("held") && !self.has("refused"));
    }

    fn let_go(&self) {
        fs::write(self.mark("go"), "").unwrap();
    }

    fn finish(mut self) {
        self.let_go();
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only after a test has failed is it still there.
        let _ = self.child.kill();
    }
}

/// What the other processes run.
#[test]
fn another_process() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let Some(task) = std::env::var("HOLDFAST_TEST_TASK").ok() else { return };
    let path = variable("HOLDFAST_TEST_PATH").unwrap();
    let marks = variable("HOLDFAST_TEST_MARKS").unwrap();
    let mark = |what: &str| marks.with_extension(what);
    let (kind, timeout) = match task.as_str() {
        "write" => (LockKind::Write, FOR_EVER),
        "read" => (LockKind::Read, FOR_EVER),
        "try to write" => (LockKind::Write, NOW),
        "try to read" => (LockKind::Read, NOW),
        "count" => return count(&path),
        other => panic!("{other}"),
    };
    let call = acquire(&path, kind, timeout);
    fs::write(mark("asked"), "").unwrap();
    match call.outcome() {
        Ok(hold) => {
            fs::write(mark("held"), "").unwrap();
            wait_for(&mark("go"));
            drop(hold);
        }
        Err(ErrorKind::Locked(_)) => fs::write(mark("refused"), "").unwrap(),
        Err(error) => panic!("{error:?}"),
    }
}

const ROUNDS: usize = 25;

/// Adds to the number in a file as often as that, a lock held each time.
fn count(path: &Path) {
    for _ in 0..ROUNDS {
        let _hold = hold(path, LockKind::Write);
        let number: usize = fs::read_to_string(path).unwrap().parse().unwrap();
        fs::write(path, (number + 1).to_string()).unwrap();
    }
}

#[test]
fn the_note_says_who_has_the_lock_while_it_is_held() {
    let (_dir, path) = temp_file();
    assert!(lock::inspect(&path, LockKind::Write).unwrap().is_none());
    let held = hold(&path, LockKind::Write);
    let holder = note(&path).unwrap();
    assert!(holder.is_this_process());
    assert_eq!(lock::inspect(&path, LockKind::Write).unwrap().unwrap(), Some(holder));
    drop(held);
    assert!(lock::inspect(&path, LockKind::Write).unwrap().is_none());
    assert_eq!(note(&path), None);
}

#[test]
fn calls_of_one_process_wait_for_each_other() {
    let (_dir, path) = temp_file();
    let first = hold(&path, LockKind::Write);
    let contention = refused(&acquire(&path, LockKind::Write, NOW));
    assert!(contention.in_this_process);
    assert_eq!(contention.path, lock_file(&path));
    assert!(contention.holder.unwrap().is_this_process());
    let second = acquire(&path, LockKind::Write, FOR_EVER);
    let third = acquire(&path, LockKind::Read, FOR_EVER);
    second.assert_waiting();
    drop(first);
    let second = second.hold();
    third.assert_waiting();
    drop(second);
    let third = third.hold();
    let beside = hold(&path, LockKind::Read);
    assert!(refused(&acquire(&path, LockKind::Write, NOW)).in_this_process);
    drop((third, beside));
    drop(hold(&path, LockKind::Write));
}

#[test]
fn another_spelling_of_the_name_is_the_same_lock() {
    let (dir, path) = temp_file();
    let held = hold(&path, LockKind::Write);
    refused(&acquire(&dir.path().join("SESSION.json"), LockKind::Write, NOW));
    refused(&acquire(&dir.path().join(".").join("session.json"), LockKind::Write, NOW));
    drop(held);
    drop(hold(&dir.path().join("SESSION.json"), LockKind::Write));
}

#[test]
fn another_process_that_has_the_lock_is_told_about() {
    let (_dir, path) = temp_file();
    let mut other = Process::holding(&path, "other", "write");
    let pid = other.child.id();
    for kind in [LockKind::Read, LockKind::Write] {
        let contention = refused(&acquire(&path, kind, NOW));
        assert!(!contention.in_this_process);
        assert_eq!(contention.holder.unwrap().pid, pid);
    }
    assert_eq!(note(&path).unwrap().pid, pid);
    assert_eq!(lock::inspect(&path, LockKind::Write).unwrap().unwrap().unwrap().pid, pid);
    other.let_go();
    assert!(other.child.wait().unwrap().success());
    assert!(lock::inspect(&path, LockKind::Write).unwrap().is_none());
    drop(hold(&path, LockKind::Write));
}

#[test]
fn the_lock_goes_from_process_to_process() {
    let (_dir, path) = temp_file();
    for (theirs, ours) in
        [("write", LockKind::Write), ("write", LockKind::Read), ("read", LockKind::Write)]
    {
        let name = format!("{theirs} {ours:?}");
        let other = Process::holding(&path, &name, theirs);
        let call = acquire(&path, ours, FOR_EVER);
        call.assert_waiting();
        other.let_go();
        let held = call.hold();
        let next = Process::start(&path, &format!("{name} next"), "write");
        next.assert_waiting();
        drop(held);
        next.wait_for("held");
        next.finish();
        other.finish();
    }
}

#[test]
fn a_process_that_is_killed_loses_its_lock() {
    let (_dir, path) = temp_file();
    let other = Process::holding(&path, "other", "write");
    let pid = other.child.id();
    let call = acquire(&path, LockKind::Write, FOR_EVER);
    call.assert_waiting();
    other.kill();
    drop(call.hold());
    // The note that it has left means nothing.
    let other = Process::holding(&path, "next", "write");
    other.kill();
    let since = Instant::now();
    while lock::inspect(&path, LockKind::Write).unwrap().is_some() {
        assert!(since.elapsed() < TIMEOUT);
    }
    assert_ne!(note(&path).unwrap().pid, pid);
    drop(hold(&path, LockKind::Write));
    assert_eq!(note(&path), None);
}

#[test]
fn a_process_that_is_killed_while_it_waits_is_not_waited_for() {
    let (_dir, path) = temp_file();
    let held = hold(&path, LockKind::Read);
    let writer = Process::start(&path, "writer", "write");
    writer.assert_waiting();
    let reader = Process::start(&path, "reader", "read");
    reader.assert_waiting();
    // It had the gate.
    writer.kill();
    reader.wait_for("held");
    reader.finish();
    drop(held);
    drop(hold(&path, LockKind::Write));
}

#[test]
fn those_who_give_up_get_an_answer_and_the_lock_goes_on() {
    let (_dir, path) = temp_file();
    let other = Process::holding(&path, "other", "write");
    let limited = acquire(&path, LockKind::Write, Some(Duration::from_millis(50)));
    let contention = refused(&limited);
    assert_eq!(contention.waited, Some(Duration::from_millis(50)));
    assert!(!contention.in_this_process);
    let cancelled = acquire(&path, LockKind::Write, FOR_EVER);
    cancelled.assert_waiting();
    cancelled.waiter.cancel();
    assert!(matches!(cancelled.outcome(), Err(ErrorKind::Cancelled)));
    // A thread of this process still waits for it, and releases it.
    other.finish();
    Process::holding(&path, "next", "write").finish();
    drop(hold(&path, LockKind::Write));
}

#[test]
fn readers_of_several_processes_share_and_those_who_come_after_a_writer_wait() {
    let (_dir, path) = temp_file();
    let reader = Process::holding(&path, "reader", "read");
    let held = hold(&path, LockKind::Read);
    let trier = Process::start(&path, "trier", "try to write");
    trier.wait_for("refused");
    trier.finish();
    let writer = Process::start(&path, "writer", "write");
    writer.assert_waiting();
    let late = acquire(&path, LockKind::Read, FOR_EVER);
    late.assert_waiting();
    drop(held);
    writer.assert_waiting();
    reader.finish();
    writer.wait_for("held");
    late.assert_waiting();
    writer.finish();
    drop(late.hold());
}

#[test]
fn a_lock_that_was_asked_for_to_write_and_is_used_to_read_is_shared() {
    let (_dir, path) = temp_file();
    let other = Process::holding(&path, "other", "write");
    let writer = acquire(&path, LockKind::Write, FOR_EVER);
    writer.assert_waiting();
    let reader = acquire(&path, LockKind::Read, FOR_EVER);
    reader.assert_waiting();
    writer.waiter.cancel();
    assert!(matches!(writer.outcome(), Err(ErrorKind::Cancelled)));
    other.finish();
    let held = reader.hold();
    assert_eq!(note(&path), None);
    Process::holding(&path, "beside", "read").finish();
    let trier = Process::start(&path, "trier", "try to write");
    trier.wait_for("refused");
    trier.finish();
    drop(held);
    Process::holding(&path, "after", "try to write").finish();
}

#[test]
fn nothing_is_lost_when_many_processes_and_threads_count() {
    const PROCESSES: usize = 4;
    const THREADS: usize = 3;
    let (_dir, path) = temp_file();
    fs::write(&path, "0").unwrap();
    let others: Vec<_> = (0..PROCESSES)
        .map(|number| Process::start(&path, &format!("process {number}"), "count"))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| count(&path));
        }
    });
    others.into_iter().for_each(Process::finish);
    let counted: usize = fs::read_to_string(&path).unwrap().parse().unwrap();
    assert_eq!(counted, ROUNDS * (PROCESSES + THREADS));
}

#[test]
fn a_dir_in_the_place_of_the_lock_file_is_refused() {
    let (_dir, path) = temp_file();
    fs::create_dir(lock_file(&path)).unwrap();
    match acquire(&path, LockKind::Write, NOW).outcome() {
        Err(ErrorKind::System(failure)) => {
            assert_eq!((failure.code(), failure.syscall), (Some(Code::EISDIR), "open"));
        }
        Err(error) => panic!("a refusal, but: {error:?}"),
        Ok(_) => panic!("a refusal"),
    }
}
