//! One lock directory: how it is taken, kept fresh and given back.
//!
//! What makes it ours is not its time but which directory it is: it is held open, so that no
//! other can get its number, and what others have put in its place is never taken for it,
//! touched or removed. (Where that would keep it from being removed, on Windows, it is not held
//! open; there numbers are not used again soon.)

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::Code;
use crate::error::{Failure, LostLock};
use crate::fs::{DirUse, FileId, FileSystem, uninterrupted};
use crate::temp_name;

/// Where a lock directory is, or will be.
pub struct LockDirPath<F: FileSystem> {
    /// The directory that holds it.
    pub parent: F::DirHandle,
    /// The path of that directory.
    pub parent_path: PathBuf,
    /// Its name there.
    pub name: OsString,
}

impl<F: FileSystem> LockDirPath<F> {
    /// The path of the lock directory.
    pub fn path(&self) -> PathBuf {
        self.parent_path.join(&self.name)
    }

    /// Which directory has a name at the moment; `None` when there is none.
    fn what_is_at(&self, fs: &F, name: &OsStr) -> Result<Option<FileId>, Failure> {
        match uninterrupted(|| fs.metadata(&self.parent, name)) {
            Ok(found) => Ok(Some(found.id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::at("lstat", self.parent_path.join(name), error)),
        }
    }
}

/// What came of an attempt to take a lock.
pub enum TryLockOutcome<F: FileSystem> {
    /// It was free, and is ours.
    Acquired(OwnedLockDir<F>),
    /// Its holder was gone, and it is ours, if it still is when [`SETTLING`] is over.
    TakenOver(OwnedLockDir<F>),
    /// Somebody has it.
    Held,
}

/// How long after a lock has been taken over nobody is told that he has it.
///
/// Who runs the package looks at the age of a lock directory, and removes what has its name a
/// moment later, whatever that is by then. Such a removal shows after this time.
pub const SETTLING: Duration = Duration::from_millis(200);

/// A file system may count time in steps of up to two seconds.
const COARSEST: Duration = Duration::from_secs(2);

/// How often two directories that have changed names are put back when others interfere.
const TURNS_BACK: usize = 3;

/// A lock directory that is ours. Dropping it leaves the directory where it is, to become stale.
pub struct OwnedLockDir<F: FileSystem> {
    /// Held open, where that is in nobody's way.
    dir: Option<F::DirHandle>,
    id: FileId,
    /// The time that the directory has by our doing. Not known after a change of it that failed.
    stamp: Option<SystemTime>,
    /// Until when others must take the lock for held, less the time after which it is stale.
    fresh: SystemTime,
}

/// What a look after a lock directory has come to.
#[derive(Debug)]
pub enum Heartbeat {
    /// It is ours, and fresh again.
    Kept,
    /// It could not be seen to. There is time to try again.
    Failing(Failure),
    /// It is ours no longer.
    Lost(LostLock),
}

/// Whether somebody has the lock: whether there is a lock directory that is not stale.
pub fn is_held<F: FileSystem>(
    fs: &F,
    place: &LockDirPath<F>,
    stale: Duration,
    now: SystemTime,
) -> Result<bool, Failure> {
    match uninterrupted(|| fs.modified(&place.parent, &place.name)) {
        Ok(time) => Ok(!is_stale(time, stale, now)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::at("lstat", place.path(), error)),
    }
}

/// Tries to take a lock.
pub fn try_lock<F: FileSystem>(
    fs: &F,
    place: &LockDirPath<F>,
    stale: Duration,
    now: SystemTime,
) -> Result<TryLockOutcome<F>, Failure> {
    let path = place.path();
    match make(fs, &path) {
        Ok(()) => {
            let own = claim(fs, place, &path, &place.name, now)?;
            return Ok(own.map_or(TryLockOutcome::Held, TryLockOutcome::Acquired));
        }
        Err(failure) if failure.code() == Some(Code::EEXIST) => {}
        Err(failure) if is_leaving(fs, place, &failure) => return Ok(TryLockOutcome::Held),
        Err(failure) => return Err(failure),
    }
    let dir = match uninterrupted(|| fs.open_dir(&path, DirUse::NamesAndSync)) {
        Ok(dir) => dir,
        // Given back since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TryLockOutcome::Held),
        // Another user's, who lets nobody look into it.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && is_held(fs, place, stale, now)? =>
        {
            return Ok(TryLockOutcome::Held);
        }
        Err(error) => return Err(Failure::at("open", path, error)),
    };
    let is_stale = || -> Result<bool, Failure> {
        let time = uninterrupted(|| fs.dir_modified(&dir));
        let time = time.map_err(|error| Failure::at("fstat", &path, error))?;
        Ok(is_stale(time, stale, now))
    };
    // A holder that runs holdfast has the directory locked while it lives; so has whoever is
    // about to take the lock over.
    if !is_stale()? || !lock(fs, &dir, &path)? {
        return Ok(TryLockOutcome::Held);
    }
    let id = uninterrupted(|| fs.dir_metadata(&dir));
    let id = id.map_err(|error| Failure::at("fstat", &path, error))?.id;
    // From here on no other holdfast removes this directory or puts another in its place. One who
    // runs the package may; what follows finds out about that, too, but not without disturbing
    // him.
    if place.what_is_at(fs, &place.name)? != Some(id) || !is_stale()? {
        return Ok(TryLockOutcome::Held);
    }
    match uninterrupted(|| fs.names(&dir)) {
        Ok(names) if names.is_empty() => {}
        Ok(_) => return Err(Failure::at("rmdir", path, Code::ENOTEMPTY.error())),
        Err(error) => return Err(Failure::at("scandir", path, error)),
    }
    if fs.removes_open_dirs() {
        return take_over(fs, place, id, is_stale, now);
    }
    drop(dir);
    take_over(fs, place, id, || Ok(!is_held(fs, place, stale, now)?), now)
}

fn is_stale(time: SystemTime, stale: Duration, now: SystemTime) -> bool {
    now.duration_since(time).is_ok_and(|age| age > stale)
}

fn make<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    uninterrupted(|| fs.make_dir(path)).map_err(|error| Failure::at("mkdir", path, error))
}

/// Whether a directory could not be made because one of its name has been removed, and will be gone
/// when the last who has it open closes it. So it is on older versions of Windows.
fn is_leaving<F: FileSystem>(fs: &F, place: &LockDirPath<F>, failure: &Failure) -> bool {
    cfg!(windows)
        && matches!(failure.code(), Some(Code::EPERM | Code::EACCES | Code::EBUSY))
        && !matches!(place.what_is_at(fs, &place.name), Ok(None))
}

fn remove<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    uninterrupted(|| fs.remove_dir(path)).map_err(|error| Failure::at("rmdir", path, error))
}

fn lock<F: FileSystem>(fs: &F, dir: &F::DirHandle, path: &Path) -> Result<bool, Failure> {
    uninterrupted(|| fs.try_lock_dir(dir)).map_err(|error| Failure::at("flock", path, error))
}

/// Takes the directory that has just been made at `path`. `None` when another has come between.
fn claim<F: FileSystem>(
    fs: &F,
    place: &LockDirPath<F>,
    path: &Path,
    name: &OsStr,
    now: SystemTime,
) -> Result<Option<OwnedLockDir<F>>, Failure> {
    let outcome = (|| {
        let dir = match uninterrupted(|| fs.open_dir(path, DirUse::NamesAndSync)) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::at("open", path, error)),
        };
        let id = uninterrupted(|| fs.dir_metadata(&dir));
        let id = id.map_err(|error| Failure::at("fstat", path, error))?.id;
        if !lock(fs, &dir, path)? || place.what_is_at(fs, name)? != Some(id) {
            return Ok(None);
        }
        let mut own = OwnedLockDir { dir: Some(dir), id, stamp: None, fresh: now };
        own.refresh(fs, path, now)?;
        if !fs.removes_open_dirs() {
            own.dir = None;
        }
        Ok(Some(own))
    })();
    if outcome.is_err() {
        // It was free a moment ago. If it cannot be removed either, it becomes stale.
        let _ = fs.remove_dir(path);
    }
    outcome
}

/// Puts a directory of our own in the place of a stale one, which nobody else of holdfast touches
/// meanwhile. It is done in one step where the system can do that, and what comes out is
/// looked at: if it is not the stale one, it is put back.
fn take_over<F: FileSystem>(
    fs: &F,
    place: &LockDirPath<F>,
    stale_one: FileId,
    is_stale: impl Fn() -> Result<bool, Failure>,
    now: SystemTime,
) -> Result<TryLockOutcome<F>, Failure> {
    let spare = temp_name::new_name(&place.name);
    let spare_path = place.parent_path.join(&spare);
    make(fs, &spare_path)?;
    let Some(own) = claim(fs, place, &spare_path, &spare, now)? else {
        return Ok(TryLockOutcome::Held);
    };
    let outcome = exchange(fs, place, &spare, &own, stale_one, &is_stale);
    if !matches!(outcome, Ok(Exchange::Done | Exchange::Gone)) {
        // Ours again, and of no use.
        if place.what_is_at(fs, &spare).is_ok_and(|id| id == Some(own.id)) {
            let _ = fs.remove_dir(&spare_path);
        }
    }
    match outcome? {
        Exchange::Done => Ok(TryLockOutcome::TakenOver(own)),
        Exchange::Gone | Exchange::Undone => Ok(TryLockOutcome::Held),
        Exchange::Unknown => {
            // Two steps, between which others may take the lock.
            drop(own);
            let path = place.path();
            if !is_stale()? || place.what_is_at(fs, &place.name)? != Some(stale_one) {
                return Ok(TryLockOutcome::Held);
            }
            match remove(fs, &path) {
                Err(failure) if failure.code() != Some(Code::ENOENT) => return Err(failure),
                _ => {}
            }
            match make(fs, &path) {
                Ok(()) => {}
                Err(failure)
                    if failure.code() == Some(Code::EEXIST) || is_leaving(fs, place, &failure) =>
                {
                    return Ok(TryLockOutcome::Held);
                }
                Err(failure) => return Err(failure),
            }
            let own = claim(fs, place, &path, &place.name, now)?;
            Ok(own.map_or(TryLockOutcome::Held, TryLockOutcome::TakenOver))
        }
    }
}

enum Exchange {
    /// Our directory is in place, and the stale one is gone.
    Done,
    /// Everything is as it was.
    Undone,
    /// What was there has been given back by its holder, and our directory with it.
    Gone,
    /// The system cannot do that.
    Unknown,
}

fn exchange<F: FileSystem>(
    fs: &F,
    place: &LockDirPath<F>,
    spare: &OsStr,
    own: &OwnedLockDir<F>,
    stale_one: FileId,
    is_stale: impl Fn() -> Result<bool, Failure>,
) -> Result<Exchange, Failure> {
    let spare_path = place.parent_path.join(spare);
    let swap = || match uninterrupted(|| fs.exchange(&place.parent, spare, &place.name)) {
        Ok(true) => Ok(Some(true)),
        Ok(false) => Ok(None),
        // There is nothing in its place any more.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(false)),
        Err(error) => {
            let failure = Failure::at("rename", &spare_path, error);
            Err(Failure { dest: Some(place.path()), ..failure })
        }
    };
    match swap()? {
        None => return Ok(Exchange::Unknown),
        Some(false) => return Ok(Exchange::Undone),
        Some(true) => {}
    }
    let came_out = place.what_is_at(fs, spare);
    if matches!(came_out, Ok(Some(id)) if id == stale_one) && is_stale().unwrap_or(false) {
        // If it cannot be removed it stays as a temp directory, which is in nobody's way.
        let _ = remove(fs, &spare_path);
        return Ok(Exchange::Done);
    }
    // Its holder has come back to life, or somebody else has been quicker.
    for _ in 0..TURNS_BACK {
        match swap()? {
            Some(true) => {}
            // Its holder has given the lock back, and so removed ours in its stead.
            _ => {
                let _ = remove(fs, &spare_path);
                return Ok(Exchange::Gone);
            }
        }
        if place.what_is_at(fs, spare)? == Some(own.id) {
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

    /// Does something with the directory.
    fn with_dir<T>(
        &self,
        fs: &F,
        path: &Path,
        act: impl Fn(&F::DirHandle) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(dir) = &self.dir {
            return act(dir);
        }
        let dir = uninterrupted(|| fs.open_dir(path, DirUse::NamesAndSync))?;
        if uninterrupted(|| fs.dir_metadata(&dir))?.id != self.id {
            // It has been replaced since it was looked at; the next look will tell.
            return Err(Code::ESTALE.error());
        }
        act(&dir)
    }

    /// Gives the directory a time that is not before `until`.
    fn refresh(&mut self, fs: &F, path: &Path, until: SystemTime) -> Result<(), Failure> {
        // Those who run the package compare whole milliseconds.
        let until = whole_milliseconds(until);
        // Until it is seen what has come of it, it may be this time or the one before.
        self.stamp = None;
        let set = |dir: &F::DirHandle, time| -> io::Result<SystemTime> {
            uninterrupted(|| fs.set_dir_modified(dir, time))?;
            uninterrupted(|| fs.dir_modified(dir))
        };
        let stamp = self.with_dir(fs, path, |dir| match set(dir, until)? {
            // The file system counts in larger steps, and rounds down: the lock would look
            // older than it is.
            stamp if stamp < until => set(dir, until + COARSEST),
            stamp => Ok(stamp),
        });
        self.stamp = Some(stamp.map_err(|error| Failure::at("utime", path, error))?);
        self.fresh = until;
        Ok(())
    }

    /// Whether the lock is still ours.
    fn check(&self, fs: &F, place: &LockDirPath<F>) -> Result<Option<LostLock>, Failure> {
        let lost = |failure| LostLock { path: place.path(), failure };
        match place.what_is_at(fs, &place.name)? {
            None => {
                let gone = Failure::at("stat", place.path(), Code::ENOENT.error());
                return Ok(Some(lost(Some(gone))));
            }
            Some(id) if id != self.id => return Ok(Some(lost(None))),
            Some(_) => {}
        }
        // Whoever has set another time believes that the lock is his.
        let path = place.path();
        let look = |dir: &F::DirHandle| uninterrupted(|| fs.dir_modified(dir));
        let time = self.with_dir(fs, &path, look);
        let time = time.map_err(|error| Failure::at("fstat", path, error))?;
        Ok(self.stamp.is_some_and(|stamp| stamp != time).then(|| lost(None)))
    }

    /// Makes sure that the lock is ours, and keeps it fresh until `until`.
    pub fn beat(
        &mut self,
        fs: &F,
        place: &LockDirPath<F>,
        stale: Duration,
        now: SystemTime,
        until: SystemTime,
    ) -> Heartbeat {
        let failure = match self.check(fs, place) {
            Ok(Some(lost)) => return Heartbeat::Lost(lost),
            Ok(None) => match self.refresh(fs, &place.path(), until.max(now)) {
                Ok(()) => return Heartbeat::Kept,
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        if is_stale(self.fresh, stale, now) {
            // Others may take it by now.
            return Heartbeat::Lost(LostLock { path: place.path(), failure: Some(failure) });
        }
        Heartbeat::Failing(failure)
    }

    /// Gives the lock back. `Some` when it was not ours any more; then nothing is removed.
    /// To be dropped afterwards: until then no other directory gets its number.
    pub fn release(&self, fs: &F, place: &LockDirPath<F>) -> Result<Option<LostLock>, Failure> {
        if let Some(lost) = self.check(fs, place)? {
            return Ok(Some(lost));
        }
        // It stays locked until it is gone.
        match remove(fs, &place.path()) {
            Ok(()) => Ok(None),
            Err(failure) if failure.code() == Some(Code::ENOENT) => {
                Ok(Some(LostLock { path: place.path(), failure: Some(failure) }))
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
