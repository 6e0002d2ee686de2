//! Operations borrow the locks that their caller holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use holdfast::error::{Deadlock, ErrorKind};
use holdfast::lock::{HeldLocks, LockGuard, LockKind, LockRequest, acquire_here};
use holdfast::threads::pool;
use tempfile::TempDir;

use LockKind::{Read as R, Write as W};

mod lock_common;
use lock_common::{A_MOMENT, Call, FOR_EVER, NOW, TIMEOUT, acquire, ask, hold, request};

fn new_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::canonicalize(dir.path()).unwrap().join("file");
    (dir, file)
}

/// What the caller takes along that holds this lock.
fn lent(guard: &LockGuard) -> HeldLocks {
    std::iter::once(guard.lend(false)).collect()
}

/// An operation on a file that a caller starts who holds these locks.
fn start(path: &Path, held: HeldLocks) -> Call {
    ask(LockRequest { held, ..request(path, W, NOW) })
}

fn deadlock(call: &Call) -> Deadlock {
    match call.outcome() {
        Err(ErrorKind::Deadlock(why)) => why,
        outcome => panic!("{:?}", outcome.map(drop)),
    }
}

fn is_free(path: &Path) -> bool {
    acquire(path, W, NOW).outcome().is_ok()
}

#[test]
fn operations_borrow_the_lock_one_after_another_in_the_order_of_the_calls() {
    let (_dir, file) = new_file();
    let dir = file.with_file_name("dir");
    std::fs::create_dir(&dir).unwrap();
    let other_spelling = dir.join("..").join("file");
    let guard = hold(&file, W);
    let paths = [&file, &other_spelling];
    let calls: Vec<Call> = (0..50).map(|number| start(paths[number % 2], lent(&guard))).collect();
    for (number, call) in calls.iter().enumerate() {
        let borrowed = call.hold();
        assert!(borrowed.is_borrowed());
        assert_eq!((borrowed.key(), borrowed.kind()), (guard.key(), W));
        assert!(calls[number + 1..].iter().all(|call| !call.is_answered()));
    }
    assert!(!is_free(&file), "the caller still holds it");
    drop(guard);
    assert!(is_free(&file));
}

#[test]
fn the_lock_is_released_after_the_operations_that_borrow_it() {
    let (_dir, file) = new_file();
    let guard = hold(&file, W);
    let [one, other] = [start(&file, lent(&guard)), start(&file, lent(&guard))];
    let borrowed = one.hold();
    let Err(guard) = guard.release_at_once() else { panic!("it is borrowed") };
    let (tell, told) = mpsc::channel();
    guard.release(move || tell.send(()).unwrap());
    assert!(told.recv_timeout(A_MOMENT).is_err());
    drop(borrowed);
    let borrowed = other.hold();
    assert!(told.recv_timeout(A_MOMENT).is_err());
    assert!(!is_free(&file));
    let waiting = acquire(&file, W, FOR_EVER);
    drop(borrowed);
    told.recv_timeout(TIMEOUT).unwrap();
    drop(waiting.hold());
    // The same without being told.
    let guard = hold(&file, W);
    let borrowed = start(&file, lent(&guard)).hold();
    drop(guard);
    assert!(!is_free(&file));
    drop(borrowed);
    drop(acquire(&file, W, FOR_EVER).hold());
}

#[test]
fn operations_on_other_files_take_their_own_lock_and_leave_the_order() {
    let (_dir, file) = new_file();
    let other = file.with_file_name("other");
    let guard = hold(&file, W);
    let own = start(&other, lent(&guard)).hold();
    assert!(!own.is_borrowed());
    let borrowed = start(&file, lent(&guard)).hold();
    assert!(borrowed.is_borrowed());
    drop(borrowed);
    guard.release_at_once().unwrap_or_else(drop);
    drop(acquire(&file, W, FOR_EVER).hold());
    // A path that leads nowhere.
    let guard = hold(&file, W);
    let missing = start(&file.join("missing"), lent(&guard));
    assert_eq!(missing.code(), "ENOENT");
    drop(start(&file, lent(&guard)).hold());
}

#[test]
fn a_call_that_gives_up_leaves_the_lock_to_the_next() {
    let (_dir, file) = new_file();
    let guard = hold(&file, W);
    let calls: Vec<Call> = (0..4).map(|_| start(&file, lent(&guard))).collect();
    let first = calls[0].hold();
    calls[1].waiter.cancel();
    calls[2].waiter.withdraw();
    assert_eq!([calls[1].code(), calls[2].code()], ["ABORT_ERR", "ABORT_ERR"]);
    assert!(!calls[3].is_answered());
    drop(first);
    drop(calls[3].hold());
    // Before it is known for which file it is.
    for _ in 0..100 {
        let call = start(&file, lent(&guard));
        call.waiter.cancel();
        let next = start(&file, lent(&guard));
        // It may have been faster than the cancellation.
        drop(call.outcome());
        drop(next.hold());
    }
    drop(guard);
    drop(acquire(&file, W, FOR_EVER).hold());
}

#[test]
fn a_call_that_would_wait_for_its_caller_is_told_why() {
    let (_dir, file) = new_file();
    let guard = hold(&file, W);
    let borrowed = start(&file, lent(&guard)).hold();
    let inside = || [guard.lend(false), borrowed.lend(true)].into_iter().collect();
    assert!(matches!(deadlock(&start(&file, inside())), Deadlock::InUpdate));
    assert!(matches!(
        deadlock(&start(&file, [guard.lend(true)].into_iter().collect())),
        Deadlock::InUpdate
    ));
    let asked = start(&file, [guard.held()].into_iter().collect());
    assert!(
        matches!(deadlock(&asked), Deadlock::Held(path) if path == file.with_file_name(".file.lock"))
    );
    drop((borrowed, guard));
    let reader = hold(&file, R);
    assert!(matches!(deadlock(&start(&file, lent(&reader))), Deadlock::ForReading));
    drop(start(&file.with_file_name("other"), lent(&reader)).hold());
}

#[test]
fn a_thread_that_may_not_wait_for_earlier_operations_borrows_at_once() {
    let (_dir, file) = new_file();
    let guard = hold(&file, W);
    let earlier = start(&file, lent(&guard)).hold();
    let wanted = |held| LockRequest { held, ..request(&file, W, NOW) };
    let here = acquire_here(pool(), wanted(lent(&guard))).unwrap();
    assert!(here.is_borrowed());
    let later = start(&file, lent(&guard));
    drop(earlier);
    assert!(!later.is_answered(), "it comes after the one that is under way");
    drop(here);
    drop(later.hold());
    assert_eq!(acquire_here(pool(), wanted(HeldLocks::default())).err().unwrap().code(), "ELOCKED");
    drop(guard);
    assert!(!acquire_here(pool(), wanted(HeldLocks::default())).unwrap().is_borrowed());
}
