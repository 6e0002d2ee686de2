//! Locks in the protocol of `proper-lockfile`, and the numbers that JavaScript knows them by.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use napi::Either;
use napi_derive::napi;

use super::environment::{Environment, Message, Port, failed};
use super::js_types::{NativeError, Report};
use super::path_text::NativePath;
use crate::error::{ErrorKind, LostLock, Operation};
use crate::fs::os::Os;
use crate::lock::Before;
use crate::lock::lockfile::{
    self, LockfileGuard, LockfileName, LockfileRequest, StaleRules, key_text,
};
use crate::mutex::guard;
use crate::threads::{pool, task};
use crate::write::{Durability, make_parents};

/// Which lock is meant.
#[napi(object)]
pub struct LockNaming {
    /// The file, absolute.
    pub path: NativePath,
    /// The lock directory, absolute, where it is not `<path>.lock`.
    pub dir: Option<NativePath>,
    /// Whether a symbolic link means the file that it leads to, which it does by default.
    pub follow_symlinks: Option<bool>,
    /// Whether the file must exist; its real path is then part of the answer.
    pub must_exist: Option<bool>,
    /// Whether the directory that holds the lock directory is made if it is missing.
    pub make_dirs: Option<bool>,
}

impl From<&LockNaming> for LockfileName {
    fn from(given: &LockNaming) -> LockfileName {
        LockfileName {
            path: given.path.0.clone(),
            dir: given.dir.as_ref().map(|dir| dir.0.clone()),
            follow_symlinks: given.follow_symlinks.unwrap_or(true),
            must_exist: given.must_exist.unwrap_or(false),
        }
    }
}

/// When a lock counts as abandoned, and how often it is kept from that: milliseconds.
#[napi(object)]
pub struct LockRules {
    pub stale: f64,
    pub update: f64,
}

impl From<LockRules> for StaleRules {
    fn from(LockRules { stale, update }: LockRules) -> StaleRules {
        StaleRules { stale: duration(stale), update: duration(update) }
    }
}

/// A time that the facade has checked.
fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX)
}

/// A call that waits for a lock.
#[napi]
pub struct LockfileWaiter {
    waiter: Arc<lockfile::LockfileCall>,
}

#[napi]
impl LockfileWaiter {
    /// Ends the wait, unless it is over already. Its outcome tells.
    #[napi]
    pub fn cancel(&self) {
        self.waiter.cancel();
    }
}

/// A lock that is held now.
#[napi(object, object_from_js = false)]
pub struct TakenLockfile {
    /// Its number.
    pub lock: u32,
    /// The real path of the file, if that must exist.
    pub text: Option<NativePath>,
    /// Which lock it is, in this process.
    pub key: String,
}

/// Which lock is meant.
#[napi(object, object_from_js = false)]
pub struct LocatedLockfile {
    /// The real path of the file, if that must exist.
    pub text: Option<NativePath>,
    /// Which lock it is, in this process.
    pub key: String,
}

/// Whether a lock is held.
#[napi(object, object_from_js = false)]
pub struct LockfileStatus {
    pub locked: bool,
}

/// An operation on the calling thread that has failed.
#[napi(object, object_from_js = false)]
pub struct FailedNow {
    pub error: NativeError,
}

/// The outcome of an operation on the calling thread.
fn now<T>(path: &Path, outcome: Result<T, ErrorKind>) -> Either<T, FailedNow> {
    match outcome {
        Ok(value) => Either::A(value),
        Err(kind) => Either::B(FailedNow { error: failed(Operation::Lock, path, kind).into() }),
    }
}

/// Keeps a lock that was acquired, and reports its loss. `None` when the environment has ended.
fn keep(
    environment: &Arc<Environment>,
    id: f64,
    path: &Path,
    lock: LockfileGuard,
) -> Option<TakenLockfile> {
    let (own, place) = (Arc::clone(environment), path.to_owned());
    lock.on_loss(Box::new(move |lost: LostLock| {
        let error = failed(Operation::Lock, &place, lost.into());
        own.outcomes.push(Message::report(Report::lost(id, error)));
    }));
    let text = lock.file().map(|file| file.to_owned().into());
    let key = key_text(lock.key());
    let lock = environment.lockfiles.keep_lock(lock)?;
    Some(TakenLockfile { lock, text, key })
}

fn locate(naming: &LockfileName) -> Result<LocatedLockfile, ErrorKind> {
    let (key, file) = lockfile::locate(naming)?;
    let text = file.map(NativePath::from);
    Ok(LocatedLockfile { text, key: key_text(&key) })
}

fn inspect(naming: &LockfileName, stale: f64) -> Result<LockfileStatus, ErrorKind> {
    Ok(LockfileStatus { locked: lockfile::inspect(naming, duration(stale))? })
}

#[napi]
impl Port {
    /// Asks for a lock. `timeout` is in milliseconds; infinity waits for ever. `inside` has the
    /// numbers of the locks that the caller holds.
    #[napi]
    pub fn acquire_lockfile(
        &self,
        id: f64,
        naming: LockNaming,
        rules: LockRules,
        timeout: f64,
        inside: Vec<u32>,
    ) -> LockfileWaiter {
        let environment = Arc::clone(&self.environment);
        let path = naming.path.0.clone();
        let request = LockfileRequest {
            name: LockfileName::from(&naming),
            rules: rules.into(),
            timeout: Duration::try_from_secs_f64(timeout / 1000.0).ok(),
            inside: environment.lockfiles.keys(&inside),
            before: before(&naming),
        };
        let reply = move |outcome: Result<LockfileGuard, ErrorKind>| {
            let value = match outcome {
                Ok(lock) => match keep(&environment, id, &path, lock) {
                    Some(value) => Ok(value),
                    None => return,
                },
                Err(kind) => Err(kind),
            };
            environment.answer(id, Operation::Lock, &path, value);
        };
        LockfileWaiter { waiter: lockfile::acquire(pool(), request, Box::new(reply)) }
    }

    /// Takes a lock if it is free, on this thread. Its loss is reported with the number `id`.
    #[napi]
    pub fn acquire_lockfile_now(
        &self,
        id: f64,
        naming: LockNaming,
        rules: LockRules,
    ) -> Either<TakenLockfile, FailedNow> {
        let request = LockfileRequest {
            name: LockfileName::from(&naming),
            rules: rules.into(),
            timeout: Some(Duration::ZERO),
            inside: Vec::new(),
            before: before(&naming),
        };
        let path = naming.path.as_ref();
        let outcome = lockfile::acquire_here(pool(), request).and_then(|lock| {
            // At the very end of the process nothing is kept any more.
            keep(&self.environment, id, path, lock).ok_or_else(task::no_thread)
        });
        now(path, outcome)
    }

    /// Gives a lock back. It fails when the lock had been lost.
    #[napi]
    pub fn release_lockfile(&self, id: f64, number: u32) {
        let environment = Arc::clone(&self.environment);
        let lock = environment.lockfiles.take_lock(number);
        let release = move || lock.map_or(Ok(()), LockfileGuard::release);
        task::run(pool(), release, move |outcome| {
            environment.done(id, Operation::Lock, Path::new(""), outcome);
        });
    }

    /// The same on this thread: what went wrong, if anything.
    #[napi]
    pub fn release_lockfile_now(&self, number: u32) -> Option<NativeError> {
        let outcome =
            self.environment.lockfiles.take_lock(number).map_or(Ok(()), LockfileGuard::release);
        outcome.err().map(|kind| failed(Operation::Lock, Path::new(""), kind).into())
    }

    /// Makes others take a lock for held for so many milliseconds more.
    #[napi]
    pub fn extend_lockfile(&self, id: f64, number: u32, milliseconds: f64) {
        let environment = Arc::clone(&self.environment);
        let lock = environment.lockfiles.get(number);
        let extend = move || {
            let lock = lock.as_deref().map(guard);
            lock.as_deref()
                .and_then(Option::as_ref)
                .map_or(Ok(()), |lock| lock.extend(duration(milliseconds)))
        };
        task::run(pool(), extend, move |outcome| {
            environment.done(id, Operation::Lock, Path::new(""), outcome);
        });
    }

    /// Whether a lock is held.
    #[napi]
    pub fn inspect_lockfile(&self, id: f64, naming: LockNaming, stale: f64) {
        let environment = Arc::clone(&self.environment);
        let path = naming.path.0.clone();
        let naming = LockfileName::from(&naming);
        task::run(
            pool(),
            move || inspect(&naming, stale),
            move |value| environment.answer(id, Operation::Lock, &path, value),
        );
    }

    /// The same on this thread.
    #[napi]
    pub fn inspect_lockfile_now(
        &self,
        naming: LockNaming,
        stale: f64,
    ) -> Either<LockfileStatus, FailedNow> {
        let outcome = inspect(&LockfileName::from(&naming), stale);
        now(naming.path.as_ref(), outcome)
    }

    /// Which lock it is, and the real path of the file, if that must exist.
    #[napi]
    pub fn locate_lockfile(&self, id: f64, naming: LockNaming) {
        let environment = Arc::clone(&self.environment);
        let path = naming.path.0.clone();
        let naming = LockfileName::from(&naming);
        task::run(
            pool(),
            move || locate(&naming),
            move |value| environment.answer(id, Operation::Lock, &path, value),
        );
    }

    /// The same on this thread.
    #[napi]
    pub fn locate_lockfile_now(&self, naming: LockNaming) -> Either<LocatedLockfile, FailedNow> {
        let outcome = locate(&LockfileName::from(&naming));
        now(naming.path.as_ref(), outcome)
    }
}

/// To be called when a handler of the program's for a signal has gone: of this signal, too, the
/// process shall not die without giving back its locks.
#[napi]
pub fn watch_signals() {
    #[cfg(unix)]
    crate::fs::os::watch_signals();
}

/// Makes the directory that holds the lock directory, if that is asked for.
fn before(naming: &LockNaming) -> Option<Before> {
    let place = naming.dir.as_ref().unwrap_or(&naming.path).0.clone();
    (naming.make_dirs == Some(true))
        .then(|| -> Before { Box::new(move || make_parents(&Os, &place, Durability::None)) })
}
