//! Calls of this process that want a lock, and what becomes of them.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use holdfast::error::ErrorKind;
use holdfast::lock::{self, HeldLocks, LockGuard, LockKind, LockRequest, Waiter};
use holdfast::threads::pool;

/// After this long something that should happen does not.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// As long as something that should not happen is watched for.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(150);

pub(crate) const NOW: Option<Duration> = Some(Duration::ZERO);
pub(crate) const FOR_EVER: Option<Duration> = None;

/// A call that wants a lock.
pub(crate) struct Call {
    pub(crate) waiter: Arc<Waiter>,
    pub(crate) outcome: Receiver<Result<LockGuard, ErrorKind>>,
}

impl Call {
    pub(crate) fn outcome(&self) -> Result<LockGuard, ErrorKind> {
        self.outcome.recv_timeout(TIMEOUT).expect("an answer")
    }

    pub(crate) fn hold(&self) -> LockGuard {
        self.outcome().unwrap_or_else(|error| panic!("the lock: {error:?}"))
    }

    pub(crate) fn code(&self) -> &'static str {
        match self.outcome() {
            Ok(_) => "a lock",
            Err(error) => error.code(),
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        match self.outcome.try_recv() {
            Err(mpsc::TryRecvError::Empty) => false,
            answer => panic!("answered already: {:?}", answer.map(|outcome| outcome.map(drop))),
        }
    }

    pub(crate) fn assert_waiting(&self) {
        std::thread::sleep(A_MOMENT);
        assert!(!self.is_answered());
    }
}

pub(crate) fn request(path: &Path, kind: LockKind, timeout: Option<Duration>) -> LockRequest {
    LockRequest { path: path.to_owned(), kind, timeout, held: HeldLocks::default(), before: None }
}

pub(crate) fn ask(request: LockRequest) -> Call {
    let (tell, outcome) = mpsc::channel();
    let waiter = lock::acquire(pool(), request, Box::new(move |outcome| drop(tell.send(outcome))));
    Call { waiter, outcome }
}

pub(crate) fn acquire(path: &Path, kind: LockKind, timeout: Option<Duration>) -> Call {
    ask(request(path, kind, timeout))
}

pub(crate) fn hold(path: &Path, kind: LockKind) -> LockGuard {
    acquire(path, kind, FOR_EVER).hold()
}
