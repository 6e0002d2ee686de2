//! Missing parent folders.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use super::Durability;
use crate::errno::Code;
use crate::error::Failure;
use crate::fs::{FileSystem, FolderUse, uninterrupted};
use crate::io::blocking;

/// Makes the folders above `path` that do not exist. Under [`Durability::Full`] each one
/// is durable before this returns, those included that another thread of this process
/// is making at the moment.
pub fn make_parents<F: FileSystem>(
    fs: &F,
    path: &Path,
    durability: Durability,
) -> Result<(), Failure> {
    let Some(folder) = path.parent() else { return Ok(()) };
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
        Err(_) if uninterrupted(|| fs.open_folder(folder, FolderUse::Names)).is_ok() => Ok(false),
        Err(error) => Err(Failure::at("mkdir", folder, error)),
    }
}

/// Makes one folder and syncs its parent, also when somebody else was faster: they may
/// not have synced it yet. A folder whose name could not be made durable is removed
/// again, so that no later write takes it for one that is.
fn make_durable<F: FileSystem>(fs: &F, folder: &Path) -> Result<(), Failure> {
    let is_new = make(fs, folder)?;
    let Some(parent) = folder.parent() else { return Ok(()) };
    let synced = uninterrupted(|| fs.open_folder(parent, FolderUse::NamesAndSync))
        .map_err(|error| Failure::at("open", parent, error))
        .and_then(|open| {
            uninterrupted(|| blocking(|| fs.sync_folder(&open, None)))
                .map_err(|error| Failure::at("fsync", parent, error))
        });
    if synced.is_err() && is_new {
        // The error that is reported is the first one, whatever comes of this. But it is
        // worth more than one try: a folder that stays looks durable to the next write.
        let _ = (0..REMOVALS).any(|_| uninterrupted(|| fs.remove_folder(folder)).is_ok());
    }
    synced
}

/// How often the removal of a folder is tried.
const REMOVALS: usize = 3;

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
        let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = FREED
            .wait_while(busy, |busy| busy.contains(&device))
            .unwrap_or_else(PoisonError::into_inner);
        busy.push(device);
        Turn { device }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|device| *device != self.device);
        FREED.notify_all();
    }
}
