//! `withLock`, `acquireLock`, `tryAcquireLock`, `isLocked`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi_derive::napi;

use super::environment::{Environment, Message, Port, failed};
use super::js_types::{self, NativeError, NativeHolder, WriteOptions};
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::{self, LockGuard, LockKind, LockPlace, LockRequest, LockedPath, Waiter};
use crate::threads::{pool, task};
use crate::write::{Options, make_parents};

fn kind_of(is_write: bool) -> LockKind {
    if is_write { LockKind::Write } else { LockKind::Read }
}

fn place(around: Option<bool>) -> LockPlace {
    if around == Some(true) { LockPlace::Around } else { LockPlace::Own }
}

/// A call that waits for a lock.
#[napi]
pub struct LockWaiter {
    pub(super) waiter: Arc<Waiter>,
}

#[napi]
impl LockWaiter {
    /// Ends the wait, unless it is over already. Its outcome tells.
    #[napi]
    pub fn cancel(&self) {
        self.waiter.cancel();
    }

    /// The same, and the call counts as one that has never asked for the lock.
    #[napi]
    pub fn withdraw(&self) {
        self.waiter.withdraw();
    }
}

impl Environment {
    /// What JavaScript is told of a lock that is held for it. `None` when the environment has
    /// ended: the lock is released then.
    pub(super) fn keep_lock(&self, guard: LockGuard) -> Option<TakenLock> {
        let is_borrowed = guard.is_borrowed().then_some(true);
        Some(TakenLock { lock: self.locks.keep(guard)?, is_borrowed })
    }
}

/// A lock that is held now.
#[napi(object, object_from_js = false)]
pub struct TakenLock {
    /// Its number.
    pub lock: u32,
    /// Set when it is borrowed from the caller.
    pub is_borrowed: Option<bool>,
}

/// Whether a lock is held, and by which process, if that is known.
#[napi(object, object_from_js = false)]
pub struct LockStatus {
    pub locked: bool,
    pub holder: Option<NativeHolder>,
}

/// Makes the missing directories above a file before its lock is looked for, if that is asked for.
pub(super) fn make_dirs_first(path: &Path, options: &Options) -> Option<lock::Before> {
    let (path, durability) = (path.to_owned(), options.durability);
    options
        .make_dirs
        .then(|| -> lock::Before { Box::new(move || make_parents(&Os, &path, durability)) })
}

/// What taking a lock on the calling thread brings: one of the two.
#[napi(object, object_from_js = false)]
pub struct LockTakenNow {
    pub lock: Option<u32>,
    pub error: Option<NativeError>,
}

#[napi]
impl Port {
    /// Takes a lock on the calling thread, which waits for so many milliseconds. Those that the
    /// caller holds are not lent: it would wait for itself if it took one of them again.
    #[napi]
    pub fn acquire_lock_now(
        &self,
        path: NativePath,
        is_write: bool,
        timeout: f64,
        held: Option<HeldNumbers>,
    ) -> LockTakenNow {
        let environment = &self.environment;
        let path = PathBuf::from(path);
        let request = lock::LockRequest {
            path: path.clone(),
            kind: if is_write { LockKind::Write } else { LockKind::Read },
            timeout: js_types::timeout(timeout),
            held: environment.locks.held(held),
            before: None,
        };
        let taken = task::catch_panic(|| lock::acquire_here(pool(), request));
        let kept = taken.and_then(|guard| match environment.keep_lock(guard) {
            Some(kept) => Ok(kept),
            None => Err(ErrorKind::Cancelled),
        });
        match kept {
            Ok(kept) => LockTakenNow { lock: Some(kept.lock), error: None },
            Err(kind) => {
                let error = Some(failed(Operation::Lock, &path, kind).into());
                LockTakenNow { lock: None, error }
            }
        }
    }

    /// Asks for the lock of a file. `timeout` is in milliseconds; infinity waits for ever. If the
    /// caller holds that lock, it is borrowed or, unless the call `borrows`, refused. `options`
    /// says whether to make missing directories first. The lock is the file's own, or the one
    /// `around` a directory which has a lock in it.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn acquire_lock(
        &self,
        id: f64,
        path: NativePath,
        is_write: bool,
        timeout: f64,
        held: Option<HeldNumbers>,
        borrows: bool,
        options: Option<WriteOptions>,
        around: Option<bool>,
    ) -> LockWaiter {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let request = LockRequest {
            path: path.clone(),
            kind: kind_of(is_write),
            timeout: js_types::timeout(timeout),
            held: match borrows {
                true => environment.locks.lend(held),
                false => environment.locks.held(held),
            },
            before: make_dirs_first(&path, &options),
        };
        let reply = move |outcome: Result<LockGuard, ErrorKind>| {
            let value = match outcome {
                Ok(guard) => match environment.keep_lock(guard) {
                    Some(value) => Ok(value),
                    None => return,
                },
                Err(kind) => Err(kind),
            };
            environment.answer(id, Operation::Lock, &path, value);
        };
        let waiter = lock::acquire_at(pool(), place(around), request, Box::new(reply));
        LockWaiter { waiter }
    }

    /// Takes the lock of a file, if that can be done without waiting for anything. Its number;
    /// nothing if the lock is to be asked for.
    #[napi]
    pub fn take_lock(
        &self,
        path: NativePath,
        is_write: bool,
        held: Option<HeldNumbers>,
    ) -> Option<u32> {
        let inside = self.environment.locks.keys(held);
        let guard = lock::take_at_once(path.as_ref(), kind_of(is_write), &inside)?;
        self.environment.locks.keep(guard)
    }

    /// Releases a lock, after the operations that borrow it. Whether an answer will come: it may be
    /// done at once.
    #[napi]
    pub fn release_lock(&self, id: f64, number: u32) -> bool {
        let environment = Arc::clone(&self.environment);
        let Some(Err(guard)) = environment.locks.take(number).map(LockGuard::release_at_once)
        else {
            return false;
        };
        guard.release(move || environment.outcomes.push(Message::Done(id)));
        true
    }

    /// Who has the lock of a file: so that another writer, or another reader, would wait.
    #[napi]
    pub fn inspect_lock(&self, id: f64, path: NativePath, is_write: bool, around: Option<bool>) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = LockedPath { path: path.clone(), place: place(around) };
        let inspect = move || {
            let holder = lock::inspect_at(&target, kind_of(is_write))?;
            let locked = holder.is_some();
            Ok(LockStatus { locked, holder: holder.flatten().map(NativeHolder::from) })
        };
        task::run(pool(), inspect, move |value| {
            environment.answer(id, Operation::Lock, &path, value)
        });
    }
}
