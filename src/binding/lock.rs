//! `withLock`, `acquireLock`, `tryAcquireLock`, `isLocked`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use napi_derive::napi;

use super::environment::{Message, Port};
use super::js_types::{NativeHolder, WriteOptions};
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::{self, LockGuard, LockKind, LockRequest, Waiter};
use crate::threads::{pool, task};
use crate::write::{Options, make_parents};

fn kind_of(is_write: bool) -> LockKind {
    if is_write { LockKind::Write } else { LockKind::Read }
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
}

/// A lock that is held now.
#[napi(object, object_from_js = false)]
pub struct TakenLock {
    /// Its number.
    pub hold: u32,
}

/// The number of a lock, if the caller holds it.
#[napi(object, object_from_js = false)]
pub struct FoundLock {
    pub hold: Option<u32>,
}

/// Whether a lock is held, and by which process, if that is known.
#[napi(object, object_from_js = false)]
pub struct LockStatus {
    pub locked: bool,
    pub holder: Option<NativeHolder>,
}

#[napi]
impl Port {
    /// Asks for the lock of a file. `timeout` is in milliseconds; infinity waits for ever.
    /// `inside` has the numbers of the locks that the caller holds. `options` says whether to
    /// make missing directories first.
    #[napi]
    pub fn acquire_lock(
        &self,
        id: f64,
        path: String,
        is_write: bool,
        timeout: f64,
        inside: Vec<u32>,
        options: Option<WriteOptions>,
    ) -> LockWaiter {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let place = path.clone();
        let before = options.make_dirs.then(|| -> lock::Before {
            Box::new(move || make_parents(&Os, &place, options.durability))
        });
        let request = LockRequest {
            path: path.clone(),
            kind: kind_of(is_write),
            timeout: Duration::try_from_secs_f64(timeout / 1000.0).ok(),
            inside: environment.holds.keys(&inside),
            before,
        };
        let reply = move |outcome: Result<LockGuard, ErrorKind>| {
            let value = match outcome {
                Ok(hold) => match environment.holds.keep(hold) {
                    Some(hold) => Ok(TakenLock { hold }),
                    None => return,
                },
                Err(kind) => Err(kind),
            };
            environment.answer(id, Operation::Lock, &path, value);
        };
        LockWaiter { waiter: lock::acquire(pool(), request, Box::new(reply)) }
    }

    /// Takes the lock of a file, if that can be done without waiting for anything. Its number;
    /// nothing if the lock is to be asked for.
    #[napi]
    pub fn take_lock(&self, path: String, is_write: bool, inside: Option<Vec<u32>>) -> Option<u32> {
        let inside = inside.map(|numbers| self.environment.holds.keys(&numbers));
        let inside = inside.unwrap_or_default();
        let hold = lock::take_at_once(Path::new(&path), kind_of(is_write), &inside)?;
        self.environment.holds.keep(hold)
    }

    /// Gives a lock back. Whether an answer will come: it may be done at once.
    #[napi]
    pub fn release_lock(&self, id: f64, number: u32) -> bool {
        let environment = Arc::clone(&self.environment);
        let Some(Err(hold)) = environment.holds.take(number).map(LockGuard::release_at_once) else {
            return false;
        };
        let release = move || {
            drop(hold);
            Ok(())
        };
        // If there is no thread for it, it has been given back on this one.
        task::run(pool(), release, move |_| environment.outcomes.push(Message::Done(id)));
        true
    }

    /// Which of the locks `inside`, if any, is that of a file.
    #[napi]
    pub fn find_lock(&self, id: f64, path: String, inside: Vec<u32>) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let place = path.clone();
        let answer = Arc::clone(&environment);
        let find = move || {
            let number = environment.holds.find(&inside, &lock::key_of(&place)?);
            Ok(FoundLock { hold: number })
        };
        task::run(pool(), find, move |value| answer.answer(id, Operation::Lock, &path, value));
    }

    /// Who has the lock of a file: so that another writer, or another reader, would wait.
    #[napi]
    pub fn inspect_lock(&self, id: f64, path: String, is_write: bool) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let place = path.clone();
        let inspect = move || {
            let holder = lock::inspect(&place, kind_of(is_write))?;
            let locked = holder.is_some();
            Ok(LockStatus { locked, holder: holder.flatten().map(NativeHolder::from) })
        };
        task::run(pool(), inspect, move |value| {
            environment.answer(id, Operation::Lock, &path, value)
        });
    }
}
