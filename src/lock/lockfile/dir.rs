//! One lock directory: how it is taken, kept fresh and released.
//!
//! A holder knows it not by its time but by which directory it is: it is held open, so that no
//! other can get its number, and what another process has put in its place is never taken for it,
//! touched or removed. (Where that would keep it from being removed, on Windows, it is not held
//! open; there numbers are not used again soon.)

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Code, Failure, LostLock};
use crate::fs::{Dir, DirUse, FileSystem};
use crate::temp_name;
use crate::vocabulary::FileId;

/// Where a lock directory is, or will be.
pub struct LockDirPath<F: FileSystem> {
    /// The directory that holds it.
    pub parent: Dir<F>,
    /// Its name there.
    pub name: OsString,
}

impl<F: FileSystem> LockDirPath<F> {
    /// The path of the lock directory.
    pub fn path(&self) -> PathBuf {
        self.parent.shown(&self.name)
    }

    fn fs(&self) -> &F {
        self.parent.fs()
    }

    /// Which directory has a name at the moment; `None` when there is none.
    fn id_at(&self, name: &OsStr) -> Result<Option<FileId>, Failure> {
        Ok(self.parent.look(name)?.map(|found| found.id))
    }

    /// Whether the lock directory is this one.
    fn leads_to(&self, id: FileId) -> Result<bool, Failure> {
        Ok(self.id_at(&self.name)? == Some(id))
    }
}

/// What has come of trying to take a lock.
pub enum TryLockOutcome<F: FileSystem> {
    /// It was free, and is this process's.
    Acquired(OwnedLockDir<F>),
    /// Its holder was gone, and it is this process's, if it still is when [`SETTLING`] is over.
    TakenOver(OwnedLockDir<F>),
    /// Another process holds it.
    Held,
}

/// How long after a lock has been taken over no call is told that it has it.
///
/// A process that runs the package looks at the age of a lock directory, and removes what has its
/// name a moment later, whatever that is by then. Such a removal shows after this time.
pub const SETTLING: Duration = Duration::from_millis(200);

/// A file system may count time in steps of up to two seconds.
const COARSEST_STEP: Duration = Duration::from_secs(2);

/// How often two directories that have changed names are put back when other processes interfere.
const EXCHANGES_BACK: usize = 3;

/// A lock directory of this process. Dropping it leaves the directory where it is, to become stale.
pub struct OwnedLockDir<F: FileSystem> {
    /// Held open, where that is in nothing's way.
    dir: Option<Dir<F>>,
    id: FileId,
    /// The time that this process has given it. Not known after a change of it that failed.
    stamp: Option<SystemTime>,
    /// Until when other processes must take the lock for held, less the time after which it is
    /// stale.
    fresh: SystemTime,
}

/// What an attempt to keep a lock directory fresh has come to.
#[derive(Debug)]
pub enum Renewal {
    /// It is this process's, and fresh again.
    Kept,
    /// It could not be renewed. There is time to try again.
    Failing(Failure),
    /// It is this process's no longer.
    Lost(LostLock),
}

/// Whether a process holds the lock: whether there is a lock directory that is not stale.
pub fn is_held<F: FileSystem>(
    at: &LockDirPath<F>,
    stale: Duration,
    now: SystemTime,
) -> Result<bool, Failure> {
    Ok(at.parent.modified(&at.name)?.is_some_and(|time| !is_stale(time, stale, now)))
}

/// Tries to take a lock.
pub fn try_lock<F: FileSystem>(
    at: &LockDirPath<F>,
    stale: Duration,
    now: SystemTime,
) -> Result<TryLockOutcome<F>, Failure> {
    let path = at.path();
    match Dir::make(at.fs(), &path) {
        Ok(()) => {
            let own = claim(at, &path, &at.name, now)?;
            return Ok(own.map_or(TryLockOutcome::Held, TryLockOutcome::Acquired));
        }
        Err(failure) if failure.code() == Some(Code::EEXIST) => {}
        Err(failure) if is_leaving(at, &failure) => return Ok(TryLockOutcome::Held),
        Err(failure) => return Err(failure),
    }
    let dir = match Dir::open(at.fs(), &path, DirUse::NamesAndSync) {
        Ok(dir) => dir,
        // Released since.
        Err(failure) if failure.is_not_found() => return Ok(TryLockOutcome::Held),
        // Another user's, which this process may not look into.
        Err(failure)
            if failure.source.kind() == io::ErrorKind::PermissionDenied
                && is_held(at, stale, now)? =>
        {
            return Ok(TryLockOutcome::Held);
        }
        Err(failure) => return Err(failure),
    };
    let is_stale_now = || Ok(is_stale(dir.own_modified()?, stale, now));
    // A holder that runs holdfast has the directory locked while it lives; so has a process that is
    // about to take the lock over.
    if !is_stale_now()? || !dir.try_lock()? {
        return Ok(TryLockOutcome::Held);
    }
    let id = dir.metadata()?.id;
    // From here on no other holdfast removes this directory or puts another in its place. A process
    // that runs the package may; what follows finds out about that, too, but not without disturbing
    // it.
    if !at.leads_to(id)? || !is_stale_now()? {
        return Ok(TryLockOutcome::Held);
    }
    if !dir.names()?.is_empty() {
        return Err(Failure::at("rmdir", path, Code::ENOTEMPTY.error()));
    }
    if at.fs().removes_open_dirs() {
        return take_over(at, id, is_stale_now, now);
    }
    drop(dir);
    take_over(at, id, || Ok(!is_held(at, stale, now)?), now)
}

fn is_stale(time: SystemTime, stale: Duration, now: SystemTime) -> bool {
    now.duration_since(time).is_ok_and(|age| age > stale)
}

/// Whether a directory could not be made because one of its name has been removed, and will be gone
/// when the last process that has it open closes it. So it is on older versions of Windows.
fn is_leaving<F: FileSystem>(at: &LockDirPath<F>, failure: &Failure) -> bool {
    cfg!(windows)
        && matches!(failure.code(), Some(Code::EPERM | Code::EACCES | Code::EBUSY))
        && !matches!(at.id_at(&at.name), Ok(None))
}

/// Takes the directory that has just been made at `path`. `None` when another process has come
/// between.
fn claim<F: FileSystem>(
    at: &LockDirPath<F>,
    path: &Path,
    name: &OsStr,
    now: SystemTime,
) -> Result<Option<OwnedLockDir<F>>, Failure> {
    let outcome = (|| {
        let dir = match Dir::open(at.fs(), path, DirUse::NamesAndSync) {
            Ok(dir) => dir,
            Err(failure) if failure.is_not_found() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let id = dir.metadata()?.id;
        if !dir.try_lock()? || at.id_at(name)? != Some(id) {
            return Ok(None);
        }
        let mut own = OwnedLockDir { dir: Some(dir), id, stamp: None, fresh: now };
        own.refresh(at, path, now)?;
        if !at.fs().removes_open_dirs() {
            own.dir = None;
        }
        Ok(Some(own))
    })();
    if outcome.is_err() {
        // It was free a moment ago. If it cannot be removed either, it becomes stale.
        let _ = Dir::remove_empty(at.fs(), path);
    }
    outcome
}

/// Puts a directory of this process in the place of a stale one, which no other holdfast touches
/// meanwhile. It is done in one step where the system can do that, and what comes out is
/// looked at: if it is not the stale one, it is put back.
fn take_over<F: FileSystem>(
    at: &LockDirPath<F>,
    stale_one: FileId,
    is_stale_now: impl Fn() -> Result<bool, Failure>,
    now: SystemTime,
) -> Result<TryLockOutcome<F>, Failure> {
    let limit = at.parent.name_limit(|limit| temp_name::new_name_within(&at.name, limit));
    let spare = temp_name::new_name_within(&at.name, limit);
    let spare_path = at.parent.shown(&spare);
    Dir::make(at.fs(), &spare_path)?;
    let Some(own) = claim(at, &spare_path, &spare, now)? else { return Ok(TryLockOutcome::Held) };
    let outcome = exchange(at, &spare, &own, stale_one, &is_stale_now);
    if !matches!(outcome, Ok(Exchange::Done | Exchange::Gone)) {
        // This process's again, and of no use.
        if at.id_at(&spare).is_ok_and(|id| id == Some(own.id)) {
            let _ = Dir::remove_empty(at.fs(), &spare_path);
        }
    }
    match outcome? {
        Exchange::Done => Ok(TryLockOutcome::TakenOver(own)),
        Exchange::Gone | Exchange::Undone => Ok(TryLockOutcome::Held),
        Exchange::Unsupported => {
            // Two steps, between which other processes may take the lock.
            drop(own);
            let path = at.path();
            if !is_stale_now()? || !at.leads_to(stale_one)? {
                return Ok(TryLockOutcome::Held);
            }
            match Dir::remove_empty(at.fs(), &path) {
                Err(failure) if failure.code() != Some(Code::ENOENT) => return Err(failure),
                _ => {}
            }
            match Dir::make(at.fs(), &path) {
                Ok(()) => {}
                Err(failure)
                    if failure.code() == Some(Code::EEXIST) || is_leaving(at, &failure) =>
                {
                    return Ok(TryLockOutcome::Held);
                }
                Err(failure) => return Err(failure),
            }
            let own = claim(at, &path, &at.name, now)?;
            Ok(own.map_or(TryLockOutcome::Held, TryLockOutcome::TakenOver))
        }
    }
}

enum Exchange {
    /// This process's directory is in place, and the stale one is gone.
    Done,
    /// Everything is as it was.
    Undone,
    /// What was there has been released by its holder, and this process's directory with it.
    Gone,
    /// The system cannot do that.
    Unsupported,
}

fn exchange<F: FileSystem>(
    at: &LockDirPath<F>,
    spare: &OsStr,
    own: &OwnedLockDir<F>,
    stale_one: FileId,
    is_stale_now: impl Fn() -> Result<bool, Failure>,
) -> Result<Exchange, Failure> {
    let swap = || match at.parent.exchange(spare, &at.name) {
        // There is nothing in its place any more.
        Err(failure) if failure.is_not_found() => Ok(Some(false)),
        done => Ok(done?.then_some(true)),
    };
    let remove_spare = || {
        // If it cannot be removed it stays as a temp directory, which is in nothing's way.
        let _ = Dir::remove_empty(at.fs(), &at.parent.shown(spare));
    };
    match swap()? {
        None => return Ok(Exchange::Unsupported),
        Some(false) => return Ok(Exchange::Undone),
        Some(true) => {}
    }
    let came_out = at.id_at(spare);
    if matches!(came_out, Ok(Some(id)) if id == stale_one) && is_stale_now().unwrap_or(false) {
        remove_spare();
        return Ok(Exchange::Done);
    }
    // Its holder has come back to life, or another process has been quicker.
    for _ in 0..EXCHANGES_BACK {
        if swap()? != Some(true) {
            // Its holder has released the lock, and so removed this process's directory instead.
            remove_spare();
            return Ok(Exchange::Gone);
        }
        if at.id_at(spare)? == Some(own.id) {
            break;
        }
    }
    came_out.map(|_| Exchange::Undone)
}

impl<F: FileSystem> OwnedLockDir<F> {
    /// Which directory it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Does something with the directory, now found at `path`. Whatever fails of it is shown as
    /// `syscall`, which is what it is about.
    fn with_dir<T>(
        &self,
        at: &LockDirPath<F>,
        (syscall, path): (&'static str, &Path),
        act: impl Fn(&Dir<F>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let opened = || {
            let dir = Dir::open(at.fs(), path, DirUse::NamesAndSync)?;
            if dir.metadata()?.id != self.id {
                // It has been replaced since it was looked at; the next look will tell.
                return Err(Failure::new(syscall, Code::ESTALE.error()));
            }
            act(&dir)
        };
        let outcome = self.dir.as_ref().map_or_else(opened, &act);
        outcome.map_err(|failure| Failure::at(syscall, path, failure.source))
    }

    /// Gives the directory, now found at `path`, a time that is not before `until`.
    fn refresh(
        &mut self,
        at: &LockDirPath<F>,
        path: &Path,
        until: SystemTime,
    ) -> Result<(), Failure> {
        // Processes that run the package compare whole milliseconds.
        let until = whole_milliseconds(until);
        // Until the result is known, it may be this time or the one before.
        self.stamp = None;
        let set = |dir: &Dir<F>, time| {
            dir.set_own_modified(time)?;
            dir.own_modified()
        };
        let stamp = self.with_dir(at, ("utime", path), |dir| match set(dir, until)? {
            // The file system counts in larger steps, and rounds down: the lock would look
            // older than it is.
            stamp if stamp < until => set(dir, until + COARSEST_STEP),
            stamp => Ok(stamp),
        })?;
        self.stamp = Some(stamp);
        self.fresh = until;
        Ok(())
    }

    /// Whether the lock is still this process's.
    fn check(&self, at: &LockDirPath<F>) -> Result<Option<LostLock>, Failure> {
        let path = at.path();
        let lost = |failure| Some(LostLock { path: path.clone(), failure });
        match at.id_at(&at.name)? {
            None => return Ok(lost(Some(Failure::at("stat", &path, Code::ENOENT.error())))),
            Some(id) if id != self.id => return Ok(lost(None)),
            Some(_) => {}
        }
        // A process that has set another time believes that the lock is its own.
        let time = self.with_dir(at, ("fstat", &path), Dir::own_modified)?;
        Ok(if self.stamp.is_some_and(|stamp| stamp != time) { lost(None) } else { None })
    }

    /// Makes sure that the lock is this process's, and keeps it fresh until `until`.
    pub fn renew(
        &mut self,
        at: &LockDirPath<F>,
        stale: Duration,
        now: SystemTime,
        until: SystemTime,
    ) -> Renewal {
        let renewed = match self.check(at) {
            Ok(Some(lost)) => return Renewal::Lost(lost),
            Ok(None) => self.refresh(at, &at.path(), until.max(now)),
            Err(failure) => Err(failure),
        };
        match renewed {
            Ok(()) => Renewal::Kept,
            // Other processes may take it by now.
            Err(failure) if is_stale(self.fresh, stale, now) => {
                Renewal::Lost(LostLock { path: at.path(), failure: Some(failure) })
            }
            Err(failure) => Renewal::Failing(failure),
        }
    }

    /// Releases the lock. `Some` when it was not this process's any more; then nothing is removed.
    /// To be dropped afterwards: until then no other directory gets its number.
    pub fn release(&self, at: &LockDirPath<F>) -> Result<Option<LostLock>, Failure> {
        if let Some(lost) = self.check(at)? {
            return Ok(Some(lost));
        }
        // It stays locked until it is gone.
        match Dir::remove_empty(at.fs(), &at.path()) {
            Ok(()) => Ok(None),
            Err(failure) if failure.code() == Some(Code::ENOENT) => {
                Ok(Some(LostLock { path: at.path(), failure: Some(failure) }))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// The next whole millisecond.
fn whole_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let beyond = since.subsec_nanos() % 1_000_000;
    let missing = if beyond == 0 { 0 } else { 1_000_000 - beyond };
    SystemTime::UNIX_EPOCH + since + Duration::from_nanos(missing.into())
}
