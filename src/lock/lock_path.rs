//! Which lock a path means, and where its lock file is: `.<basename>.lock`, beside the file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use super::kernel::{Patience, inspect as inspect_file};
use super::lock_name::LockName;
use crate::error::{Code, Failure, Holder};
use crate::fs::os::Os;
use crate::fs::{Dir, DirUse, FileId, FileKind};
use crate::mutex::guard;
use crate::resolve::{self, Target};
use crate::vocabulary::{FileKey, LockKind};

/// What the directory of a lock file is opened for. Readers who may make no lock file lock the
/// directory, and writers look for them there.
pub(super) const DIR_USE: DirUse = DirUse::NamesAndSync;

/// What a lock is named by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockedPath {
    /// That of a file or directory.
    pub path: PathBuf,
    /// Which of its locks is meant.
    pub place: LockPlace,
}

impl LockedPath {
    /// The lock of a file or directory itself.
    pub fn own(path: &Path) -> LockedPath {
        LockedPath { path: path.to_owned(), place: LockPlace::Own }
    }
}

/// The locks that a file or directory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockPlace {
    /// Its own: beside it or, if it is the root of a mounted volume, in it.
    Own,
    /// The one beside it, in any case.
    Beside,
    /// One more beside a directory, for those whose lock is in it and would go with it.
    Around,
}

/// Who holds the lock of a file so that a call of this kind would have to wait; the outer `None`
/// when no process does. Only writers are known by name.
pub fn inspect(path: &Path, kind: LockKind) -> Result<Option<Option<Holder>>, Failure> {
    inspect_at(&LockedPath::own(path), kind)
}

/// The same of another lock than the file's own.
pub fn inspect_at(name: &LockedPath, kind: LockKind) -> Result<Option<Option<Holder>>, Failure> {
    let found = LockPath::find(name)?;
    inspect_file(found.dir.handle(), &found.name, kind, Patience::ForLease)
        .map_err(|failure| failure.on(found.path()))
}

/// Which lock is that of a file.
pub fn key_of(path: &Path) -> Result<FileKey, Failure> {
    LockPath::find(&LockedPath::own(path)).map(|found| found.key)
}

/// Whether the lock of a file can be held without its lock file being open, as far as is known.
pub fn can_be_parked(path: &Path) -> bool {
    LockPath::find(&LockedPath::own(path))
        .is_ok_and(|found| found.dir.handle().lock_rules().stays_open_mapped)
}

/// Whether the directory of the lock of a file takes names for one that differ in case, as far as that
/// is known.
pub fn ignores_case(path: &Path) -> bool {
    LockPath::find(&LockedPath::own(path)).is_ok_and(|found| found.dir.handle().ignores_case())
}

/// Where a lock file is.
pub(super) struct LockPath {
    pub(super) dir: Arc<Dir<Os>>,
    pub(super) key: FileKey,
    pub(super) name: LockName,
    /// Whether the path that was asked for is this name in this directory, and no link to it.
    pub(super) is_direct: bool,
    /// Whether there is no such file.
    pub(super) is_missing: bool,
}

impl LockPath {
    pub(super) fn find(locked: &LockedPath) -> Result<LockPath, Failure> {
        let LockedPath { path, place } = locked;
        let target = target_of(path)?;
        if *place == LockPlace::Own && is_mount_point(&target) {
            return LockPath::find_mounted(&target);
        }
        let id = target.dir.metadata()?.id;
        let name = match place {
            LockPlace::Own | LockPlace::Beside => LockName::of(&target),
            LockPlace::Around => LockName::around(&target),
        };
        let is_direct = *place == LockPlace::Own
            && path.parent() == Some(target.dir.path())
            && path.file_name() == Some(&name.guarded);
        let is_missing = target.existing.is_none();
        Ok(LockPath {
            is_direct,
            is_missing,
            key: (id, name.file.clone()),
            dir: Arc::new(target.dir),
            name,
        })
    }

    /// The lock of what is mounted under a name: beside the mount point it would exclude nobody who
    /// has it mounted elsewhere. That of a volume is in its root.
    ///
    /// # Errors
    ///
    /// `EBUSY` for a file that is mounted by itself. There is no directory that all see who have it,
    /// and nothing can take its place.
    fn find_mounted(target: &Target<Os>) -> Result<LockPath, Failure> {
        if target.existing.is_some_and(|existing| existing.kind != FileKind::Dir) {
            return Err(Failure::at("open", target.path(), Code::EBUSY.error()));
        }
        let dir = target.dir.open_dir(&target.name, DIR_USE)?;
        let name = LockName::of_root();
        Ok(LockPath {
            is_direct: false,
            is_missing: false,
            key: (dir.metadata()?.id, name.file.clone()),
            dir: Arc::new(dir),
            name,
        })
    }

    /// Whether a lock with this key, which is held and so has a lock file, is the same: a directory may
    /// take names that differ in case for one. Only the file tells, as each file system has rules of
    /// its own for that.
    pub(super) fn is_lock(&self, other: &FileKey) -> bool {
        let id = |name: &OsStr| self.dir.look(name).ok().flatten().map(|found| found.id);
        may_be_same(&self.key, other)
            && id(&other.1).is_some_and(|held| id(&self.key.1) == Some(held))
    }

    /// Lets locks in one directory have it open once: a transaction of many files is to need one file
    /// for each. Whether no other lock has it open by this path.
    pub(super) fn share_dir(&mut self) -> bool {
        let name = (self.dir.path().to_owned(), self.key.0);
        let mut dirs = guard(&OPEN_DIRS);
        if let Some(known) = dirs.by_path.get(&name).and_then(Weak::upgrade) {
            drop(dirs);
            self.dir = known;
            return false;
        }
        if dirs.by_path.len() >= dirs.clean_up_at {
            dirs.by_path.retain(|_, dir| dir.strong_count() > 0);
            dirs.clean_up_at = 64.max(2 * dirs.by_path.len());
        }
        dirs.by_path.insert(name, Arc::downgrade(&self.dir));
        true
    }

    /// The path of the lock file, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.shown(&self.name)
    }
}

/// Whether two locks with different keys may be the same, as far as the names tell.
pub fn may_be_same(one: &FileKey, other: &FileKey) -> bool {
    let (own, name) = (one.1.as_encoded_bytes(), other.1.as_encoded_bytes());
    // What else is alike differs from one file system to the next.
    let are_alike = own.eq_ignore_ascii_case(name) || !(own.is_ascii() && name.is_ascii());
    one.0 == other.0 && own != name && are_alike
}

/// The directories that locks have open.
struct OpenDirs {
    by_path: HashMap<(PathBuf, FileId), Weak<Dir<Os>>>,
    /// From so many on those that are closed are forgotten.
    clean_up_at: usize,
}

static OPEN_DIRS: LazyLock<Mutex<OpenDirs>> =
    LazyLock::new(|| Mutex::new(OpenDirs { by_path: HashMap::new(), clean_up_at: 64 }));

/// What a path to be locked means.
pub(super) fn target_of(path: &Path) -> Result<Target<Os>, Failure> {
    // A directory may be named with a separator at the end; it is locked as a whole, through a
    // file beside it like any other.
    let path = match path.components().next_back() {
        // Only the system knows what it is called.
        Some(Component::ParentDir) => {
            &std::fs::canonicalize(path).map_err(|error| Failure::at("realpath", path, error))?
        }
        _ => without_end(path),
    };
    let target = resolve::target(&Os, path, true, DIR_USE)?;
    match target.existing.map(|existing| existing.kind) {
        // Nothing can take its place, and a lock file beside it would be rubbish in `/dev`.
        Some(FileKind::Other(special)) => {
            Err(Failure::special("open", target.path(), special.name()))
        }
        _ => Ok(target),
    }
}

/// Whether something is mounted under the name, as far as the system tells.
fn is_mount_point(target: &Target<Os>) -> bool {
    target.existing.is_some() && target.dir.handle().is_mount_point(&target.name)
}

/// The path without separators at its end.
fn without_end(path: &Path) -> &Path {
    match (path.parent(), path.file_name()) {
        // `components` ignores separators, and `.`, at the end.
        (Some(_), Some(_)) => path.components().as_path(),
        _ => path,
    }
}
