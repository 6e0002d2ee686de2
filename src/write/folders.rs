//! Missing parent folders.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use super::Durability;
use crate::errno::Code;
use crate::error::Failure;
use crate::fs::{FileId, FileSystem, FolderUse, uninterrupted};
use crate::io::blocking;
use crate::mutex::guard;

/// Makes the folders above `path` that do not exist. Under [`Durability::Full`] each one
/// is durable before this returns, those included that another thread of this process
/// is making at the moment.
pub fn make_parents<F: FileSystem>(
    fs: &F,
    path: &Path,
    durability: Durability,
) -> Result<(), Failure> {
    let Some(folder) = path.parent() else { return Ok(()) };
    if durability == Durability::Full {
        remove_doubtful(fs, folder)?;
    }
    let mut missing = Vec::new();
    let mut existing = folder;
    let base = loop {
        match uninterrupted(|| fs.open_folder(existing, FolderUse::Names)) {
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
        return missing.into_iter().rev().try_for_each(|folder| make(fs, folder).map(drop));
    }
    let base = uninterrupted(|| fs.folder_metadata(&base))
        .map_err(|error| Failure::at("fstat", existing, error))?;
    let _turn = Turn::on(base.id.device);
    missing.into_iter().rev().try_for_each(|folder| make_durable(fs, folder))
}

/// Makes one folder. Says whether it is new.
fn make<F: FileSystem>(fs: &F, folder: &Path) -> Result<bool, Failure> {
    match uninterrupted(|| fs.make_folder(folder)) {
        Ok(()) => Ok(true),
        Err(error) if Code::of(&error) == Some(Code::EEXIST) => Ok(false),
        // What counts is that it is there: a network file system may have made it and
        // report an error all the same.
        Err(_) if uninterrupted(|| fs.open_folder(folder, FolderUse::Names)).is_ok() => Ok(true),
        Err(error) => Err(Failure::at("mkdir", folder, error)),
    }
}

/// Makes one folder and syncs its parent, also when somebody else was faster: they may
/// not have synced it yet. A folder whose name could not be made durable is removed
/// again, so that no later write takes it for one that is.
fn make_durable<F: FileSystem>(fs: &F, folder: &Path) -> Result<(), Failure> {
    let is_new = make(fs, folder)?;
    let Some(parent) = folder.parent() else { return Ok(()) };
    let synced = sync_name(fs, parent, folder);
    if synced.is_err() && is_new && uninterrupted(|| fs.remove_folder(folder)).is_err() {
        // The error that is reported is the first one, whatever comes of this.
        if let Ok(id) = id_of(fs, folder) {
            guard(&DOUBTFUL).insert(id);
        }
    }
    synced
}

/// Folders that are there, but may not be after a power cut: their names could not be synced
/// (and syncing them again would say nothing), and they could not be removed.
static DOUBTFUL: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

/// Removes the folders from a path whose names are not durable, to be made anew. One that
/// cannot be removed fails the write.
fn remove_doubtful<F: FileSystem>(fs: &F, folder: &Path) -> Result<(), Failure> {
    if guard(&DOUBTFUL).is_empty() {
        return Ok(());
    }
    for folder in folder.ancestors() {
        let Ok(id) = id_of(fs, folder) else { continue };
        if guard(&DOUBTFUL).contains(&id) {
            uninterrupted(|| fs.remove_folder(folder))
                .map_err(|_| Failure::at("fsync", folder, Code::EIO.error()))?;
            guard(&DOUBTFUL).remove(&id);
        }
    }
    Ok(())
}

fn id_of<F: FileSystem>(fs: &F, folder: &Path) -> std::io::Result<FileId> {
    let folder = uninterrupted(|| fs.open_folder(folder, FolderUse::Names))?;
    uninterrupted(|| fs.folder_metadata(&folder)).map(|metadata| metadata.id)
}

/// Makes the name of a folder in its parent durable.
fn sync_name<F: FileSystem>(fs: &F, parent: &Path, folder: &Path) -> Result<(), Failure> {
    let open = |path: &Path| {
        uninterrupted(|| fs.open_folder(path, FolderUse::NamesAndSync))
            .map_err(|error| Failure::at("open", path, error))
    };
    let above = open(parent)?;
    match uninterrupted(|| blocking(|| fs.sync_folder(&above, None))) {
        Ok(()) => Ok(()),
        // The parent may not be listed, and so not be opened for syncing. The new folder is
        // on the same file system.
        Err(error) if Code::of(&error) == Some(Code::EACCES) => {
            let below = open(folder)?;
            uninterrupted(|| blocking(|| fs.sync_file_system(&below)))
                .map_err(|error| Failure::at("syncfs", folder, error))
        }
        Err(error) => Err(Failure::at("fsync", parent, error)),
    }
}

/// Devices on which some thread is making folders durably. A thread that finds a folder
/// there already waits for its turn, because the folder may be one that is not durable
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
