//! Locks in the protocol of `proper-lockfile`, and the numbers that JavaScript knows them by.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use napi_derive::napi;

use super::environment::{Environment, Port, failed, report};
use super::handles::HandleTable;
use super::js_types::{Message, NativeError, NativeValue, Report};
use crate::error::{ErrorKind, LostLock, Operation};
use crate::fs::os::Os;
use crate::lock::Before;
use crate::lock::lockfile::{
    self, LockfileGuard, LockfileKey, LockfileRequest, Naming, Rules, Waiter,
};
use crate::mutex::guard;
use crate::threads::{pool, task};
use crate::write::{Durability, make_parents};

/// The locks that one environment holds, each for whoever uses it at the moment. They are given
/// back at the latest when it ends.
pub(super) type LockfileHandles = HandleTable<Arc<Mutex<Option<LockfileGuard>>>>;

impl LockfileHandles {
    fn keep_hold(&self, hold: LockfileGuard) -> Option<u32> {
        self.keep(Arc::new(Mutex::new(Some(hold))))
    }

    fn take_hold(&self, number: u32) -> Option<LockfileGuard> {
        taken(&*self.take(number)?)
    }

    fn keys(&self, numbers: &[u32]) -> Vec<LockfileKey> {
        // Not under the lock of all: somebody may be using one of them.
        let holds = self.look(numbers, |_, hold| Arc::clone(hold));
        let key = |hold: &Arc<Mutex<Option<LockfileGuard>>>| {
            inner(hold).as_ref().map(|hold| hold.key().clone())
        };
        holds.iter().filter_map(key).collect()
    }

    /// Takes everything out. What comes from now on is given back at once.
    pub(super) fn take_all(&self) -> Vec<LockfileGuard> {
        self.close().iter().filter_map(|hold| taken(hold)).collect()
    }
}

fn inner(hold: &Mutex<Option<LockfileGuard>>) -> MutexGuard<'_, Option<LockfileGuard>> {
    guard(hold)
}

fn taken(hold: &Mutex<Option<LockfileGuard>>) -> Option<LockfileGuard> {
    inner(hold).take()
}

/// Which lock is meant.
#[napi(object)]
pub struct LockNaming {
    /// The file, absolute.
    pub path: String,
    /// The lock directory, absolute, where it is not `<path>.lock`.
    pub dir: Option<String>,
    /// Whether a symbolic link means the file that it leads to, which it does by default.
    pub follow_symlinks: Option<bool>,
    /// Whether the file must exist; its real path is then part of the answer.
    pub must_exist: Option<bool>,
    /// Whether the directory that holds the lock directory is made if it is missing.
    pub make_dirs: Option<bool>,
}

impl From<&LockNaming> for Naming {
    fn from(given: &LockNaming) -> Naming {
        Naming {
            path: PathBuf::from(&given.path),
            dir: given.dir.as_ref().map(PathBuf::from),
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

impl From<LockRules> for Rules {
    fn from(LockRules { stale, update }: LockRules) -> Rules {
        Rules { stale: duration(stale), update: duration(update) }
    }
}

/// A time that the facade has checked.
fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX)
}

/// A call that waits for a lock.
#[napi]
pub struct LockfileWaiter {
    waiter: Arc<Waiter>,
}

#[napi]
impl LockfileWaiter {
    /// Ends the wait, unless it is over already. Its outcome tells.
    #[napi]
    pub fn cancel(&self) {
        self.waiter.cancel();
    }
}

/// Keeps a lock that has come, and has its loss reported. `None` when nobody is there any more.
fn keep(
    environment: &Arc<Environment>,
    id: f64,
    path: &Path,
    hold: LockfileGuard,
) -> Option<NativeValue> {
    let (own, place) = (Arc::clone(environment), path.to_owned());
    hold.on_loss(Box::new(move |lost: LostLock| {
        let error = failed(Operation::Lock, &place, lost.into());
        own.outcomes.push(Message::told(Report::lost(id, error)));
    }));
    let text = hold.file().map(|file| file.to_string_lossy().into_owned());
    let key = Some(hold.key().text());
    let number = environment.dirs.keep_hold(hold)?;
    Some(NativeValue { hold: Some(number.into()), text, key, ..NativeValue::default() })
}

fn locate(naming: &Naming) -> Result<NativeValue, ErrorKind> {
    let (key, file) = lockfile::locate(naming)?;
    let text = file.map(|file| file.to_string_lossy().into_owned());
    Ok(NativeValue { text, key: Some(key.text()), ..NativeValue::default() })
}

fn inspect(naming: &Naming, stale: f64) -> Result<NativeValue, ErrorKind> {
    let locked = Some(lockfile::inspect(naming, duration(stale))?);
    Ok(NativeValue { locked, ..NativeValue::default() })
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
        let path = PathBuf::from(&naming.path);
        let request = LockfileRequest {
            naming: Naming::from(&naming),
            rules: rules.into(),
            timeout: Duration::try_from_secs_f64(timeout / 1000.0).ok(),
            inside: environment.dirs.keys(&inside),
            before: before(&naming),
        };
        let reply = move |outcome: Result<LockfileGuard, ErrorKind>| {
            let value = match outcome {
                Ok(hold) => match keep(&environment, id, &path, hold) {
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
    pub fn acquire_lockfile_now(&self, id: f64, naming: LockNaming, rules: LockRules) -> Report {
        let request = LockfileRequest {
            naming: Naming::from(&naming),
            rules: rules.into(),
            timeout: Some(Duration::ZERO),
            inside: Vec::new(),
            before: before(&naming),
        };
        let path = Path::new(&naming.path);
        let outcome = lockfile::acquire_here(pool(), request).and_then(|hold| {
            // At the very end of the process nothing is kept any more.
            keep(&self.environment, id, path, hold).ok_or_else(task::no_thread)
        });
        report(id, Operation::Lock, path, outcome)
    }

    /// Gives a lock back. It fails when the lock had been lost.
    #[napi]
    pub fn release_lockfile(&self, id: f64, number: u32) {
        let environment = Arc::clone(&self.environment);
        let hold = environment.dirs.take_hold(number);
        let release = move || hold.map_or(Ok(()), LockfileGuard::release);
        task::run(pool(), release, move |outcome| match outcome {
            Ok(()) => environment.outcomes.push(Message::Done(id)),
            Err(kind) => environment.answer(id, Operation::Lock, Path::new(""), Err(kind)),
        });
    }

    /// The same on this thread: what went wrong, if anything.
    #[napi]
    pub fn release_lockfile_now(&self, number: u32) -> Option<NativeError> {
        let outcome =
            self.environment.dirs.take_hold(number).map_or(Ok(()), LockfileGuard::release);
        outcome.err().map(|kind| failed(Operation::Lock, Path::new(""), kind).into())
    }

    /// Makes others take a lock for held for so many milliseconds more.
    #[napi]
    pub fn extend_lockfile(&self, id: f64, number: u32, milliseconds: f64) {
        let environment = Arc::clone(&self.environment);
        let hold = environment.dirs.get(number);
        let extend = move || {
            let hold = hold.as_deref().map(inner);
            hold.as_deref()
                .and_then(Option::as_ref)
                .map_or(Ok(()), |hold| hold.extend(duration(milliseconds)))
        };
        task::run(pool(), extend, move |outcome| match outcome {
            Ok(()) => environment.outcomes.push(Message::Done(id)),
            Err(kind) => environment.answer(id, Operation::Lock, Path::new(""), Err(kind)),
        });
    }

    /// Whether somebody has a lock.
    #[napi]
    pub fn inspect_lockfile(&self, id: f64, naming: LockNaming, stale: f64) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(&naming.path);
        let naming = Naming::from(&naming);
        task::run(
            pool(),
            move || inspect(&naming, stale),
            move |value| environment.answer(id, Operation::Lock, &path, value),
        );
    }

    /// The same on this thread.
    #[napi]
    pub fn inspect_lockfile_now(&self, naming: LockNaming, stale: f64) -> Report {
        let outcome = inspect(&Naming::from(&naming), stale);
        report(0.0, Operation::Lock, Path::new(&naming.path), outcome)
    }

    /// Which lock it is, and the real path of the file, if that must exist.
    #[napi]
    pub fn locate_lockfile(&self, id: f64, naming: LockNaming) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(&naming.path);
        let naming = Naming::from(&naming);
        task::run(
            pool(),
            move || locate(&naming),
            move |value| environment.answer(id, Operation::Lock, &path, value),
        );
    }

    /// The same on this thread.
    #[napi]
    pub fn locate_lockfile_now(&self, naming: LockNaming) -> Report {
        let outcome = locate(&Naming::from(&naming));
        report(0.0, Operation::Lock, Path::new(&naming.path), outcome)
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
    let place = PathBuf::from(naming.dir.as_ref().unwrap_or(&naming.path));
    (naming.make_dirs == Some(true))
        .then(|| -> Before { Box::new(move || make_parents(&Os, &place, Durability::None)) })
}
