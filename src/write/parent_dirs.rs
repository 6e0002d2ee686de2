//! Missing parent directories.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use super::Durability;
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{DirUse, FileId, FileSystem, uninterrupted};
use crate::mutex::guard;
use crate::threads::blocking;

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
        match uninterrupted(|| fs.open_dir(existing, DirUse::Names)) {
            Ok(base) => break base,
            Err(error) => {
                let failure = Failure::at("open", existing, error);
                match existing.parent() {
                    Some(parent) if failure.code() == Some(Code::ENOENT) => {
                        missing.push(existing);
                        existing = parent;
                    }
                    _ => return Err(failure),
                }
            }
        }
    };
    if durability != Durability::Full {
        return missing.into_iter().rev().try_for_each(|dir| make(fs, dir).map(drop));
    }
    let base = uninterrupted(|| fs.dir_metadata(&base))
        .map_err(|error| Failure::at("fstat", existing, error))?;
    let _turn = Turn::on(base.id.device);
    missing.into_iter().rev().try_for_each(|dir| make_durable(fs, dir))
}

/// Makes one directory. Says whether it is new.
fn make<F: FileSystem>(fs: &F, dir: &Path) -> Result<bool, Failure> {
    match uninterrupted(|| fs.make_dir(dir)) {
        Ok(()) => Ok(true),
        Err(error) if Code::of(&error) == Some(Code::EEXIST) => Ok(false),
        // What counts is that it is there: a network file system may have made it and
        // report an error all the same.
        Err(_) if uninterrupted(|| fs.open_dir(dir, DirUse::Names)).is_ok() => Ok(true),
        Err(error) => Err(Failure::at("mkdir", dir, error)),
    }
}

/// Makes one directory and syncs its parent, also when somebody else was faster: they may
/// not have synced it yet. A directory whose name could not be made durable is removed
/// again, so that no later write takes it for one that is.
fn make_durable<F: FileSystem>(fs: &F, dir: &Path) -> Result<(), Failure> {
    let is_new = make(fs, dir)?;
    let Some(parent) = dir.parent() else { return Ok(()) };
    let synced = sync_name(fs, parent, dir);
    if synced.is_err() && is_new && uninterrupted(|| fs.remove_dir(dir)).is_err() {
        // The error that is reported is the first one, whatever comes of this.
        if let Ok(id) = id_of(fs, dir) {
            guard(&FAILED).insert(id);
        }
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
            uninterrupted(|| fs.remove_dir(dir))
                .map_err(|_| Failure::at("fsync", dir, Code::EIO.error()))?;
            guard(&FAILED).remove(&id);
        }
    }
    Ok(())
}

fn id_of<F: FileSystem>(fs: &F, dir: &Path) -> std::io::Result<FileId> {
    let dir = uninterrupted(|| fs.open_dir(dir, DirUse::Names))?;
    uninterrupted(|| fs.dir_metadata(&dir)).map(|metadata| metadata.id)
}

/// Makes the name of a directory in its parent durable.
fn sync_name<F: FileSystem>(fs: &F, parent: &Path, dir: &Path) -> Result<(), Failure> {
    let open = |path: &Path| {
        uninterrupted(|| fs.open_dir(path, DirUse::NamesAndSync))
            .map_err(|error| Failure::at("open", path, error))
    };
    let above = open(parent)?;
    match uninterrupted(|| blocking(|| fs.sync_dir(&above, None))) {
        Ok(()) => Ok(()),
        // The parent may not be listed, and so not be opened for syncing. The new directory is
        // on the same file system.
        Err(error) if Code::of(&error) == Some(Code::EACCES) => {
            let below = open(dir)?;
            uninterrupted(|| blocking(|| fs.sync_file_system(&below)))
                .map_err(|error| Failure::at("syncfs", dir, error))
        }
        Err(error) => Err(Failure::at("fsync", parent, error)),
    }
}

/// Devices on which some thread is making directories durably. A thread that finds a directory
/// there already waits for its turn, because the directory may be one that is not durable
/// yet. Other devices, slower or hung, are not waited for.
static BUSY: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static FREED: Condvar = Condvar::new();

struct Turn {
    device: u64,
}

impl Turn {
    fn on(device: u64) -> Turn {
        let mut busy = FREED
            .wait_while(guard(&BUSY), |busy| busy.contains(&device))
            .unwrap_or_else(PoisonError::into_inner);
        busy.push(device);
        Turn { device }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        guard(&BUSY).retain(|device| *device != self.device);
        FREED.notify_all();
    }
}
