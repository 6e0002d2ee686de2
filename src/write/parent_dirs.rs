//! Missing parent directories.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use crate::error::{Code, Failure};
use crate::fs::{Dir, DirUse, FileId, FileSystem};
use crate::mutex::guard;
use crate::vocabulary::Durability;

/// Makes the directories above `path` that do not exist. Under [`Durability::Full`] each one
/// is durable before this returns, those included that another thread of this process
/// is making at the moment.
pub fn make_parents<F: FileSystem>(
    fs: &F,
    path: &Path,
    durability: Durability,
) -> Result<(), Failure> {
    let Some(dir) = path.parent() else { return Ok(()) };
    if durability == Durability::Full {
        remove_failed(fs, dir)?;
    }
    let mut missing = Vec::new();
    let mut existing = dir;
    let base = loop {
        match (Dir::open(fs, existing, DirUse::Names), existing.parent()) {
            (Ok(base), _) => break base,
            (Err(failure), Some(parent)) if failure.code() == Some(Code::ENOENT) => {
                missing.push(existing);
                existing = parent;
            }
            (Err(failure), _) => return Err(failure),
        }
    };
    if durability != Durability::Full {
        return missing.into_iter().rev().try_for_each(|dir| make(fs, dir).map(drop));
    }
    let _device = DeviceGuard::acquire(base.metadata()?.id.device);
    missing.into_iter().rev().try_for_each(|dir| make_durable(fs, dir))
}

/// Makes one directory. Returns whether it is new.
fn make<F: FileSystem>(fs: &F, dir: &Path) -> Result<bool, Failure> {
    match Dir::make(fs, dir) {
        Ok(()) => Ok(true),
        Err(failure) if failure.code() == Some(Code::EEXIST) => Ok(false),
        // What counts is that it is there: a network file system may have made it and
        // report an error all the same.
        Err(_) if Dir::open(fs, dir, DirUse::Names).is_ok() => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Makes one directory and syncs its parent, also when another process was faster: that process
/// may not have synced it yet. A directory whose name could not be made durable is removed
/// again, so that no later write takes it for durable.
fn make_durable<F: FileSystem>(fs: &F, dir: &Path) -> Result<(), Failure> {
    let is_new = make(fs, dir)?;
    let Some(parent) = dir.parent() else { return Ok(()) };
    let synced = sync_name(fs, parent, dir);
    // The failure of the sync is the one to report, whatever comes of the removal.
    if synced.is_err()
        && is_new
        && Dir::remove_empty(fs, dir).is_err()
        && let Ok(id) = id_of(fs, dir)
    {
        guard(&FAILED).insert(id);
    }
    synced
}

/// Directories that are there, but may not be after a power cut: their names could not be synced
/// (and syncing them again would say nothing), and they could not be removed.
static FAILED: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

/// Removes the directories from a path whose names are not durable, to be made anew. One that
/// cannot be removed fails the write.
fn remove_failed<F: FileSystem>(fs: &F, dir: &Path) -> Result<(), Failure> {
    if guard(&FAILED).is_empty() {
        return Ok(());
    }
    for dir in dir.ancestors() {
        let Ok(id) = id_of(fs, dir) else { continue };
        if guard(&FAILED).contains(&id) {
            Dir::remove_empty(fs, dir).map_err(|_| Failure::at("fsync", dir, Code::EIO.error()))?;
            guard(&FAILED).remove(&id);
        }
    }
    Ok(())
}

fn id_of<F: FileSystem>(fs: &F, dir: &Path) -> Result<FileId, Failure> {
    Ok(Dir::open(fs, dir, DirUse::Names)?.metadata()?.id)
}

/// Makes the name of a directory in its parent durable.
fn sync_name<F: FileSystem>(fs: &F, parent: &Path, dir: &Path) -> Result<(), Failure> {
    match Dir::open(fs, parent, DirUse::NamesAndSync)?.sync(None) {
        // The process may not list the parent, and so cannot open it for syncing. The new
        // directory is on the same file system.
        Err(failure) if failure.code() == Some(Code::EACCES) => {
            Dir::open(fs, dir, DirUse::NamesAndSync)?.sync_file_system()
        }
        synced => synced,
    }
}

/// Devices on which a thread is making directories durably. A thread that finds a directory
/// there already waits until that is done, because the directory may not be durable
/// yet. It does not wait for other devices, which may be slower or hung.
static BUSY: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static FREED: Condvar = Condvar::new();

struct DeviceGuard {
    device: u64,
}

impl DeviceGuard {
    fn acquire(device: u64) -> DeviceGuard {
        let mut busy = FREED
            .wait_while(guard(&BUSY), |busy| busy.contains(&device))
            .unwrap_or_else(PoisonError::into_inner);
        busy.push(device);
        DeviceGuard { device }
    }
}

impl Drop for DeviceGuard {
    fn drop(&mut self) {
        guard(&BUSY).retain(|device| *device != self.device);
        FREED.notify_all();
    }
}
