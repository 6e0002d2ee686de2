//! Removes files in a directory, and keeps their blocks their own until that is on the disk.
//!
//! Where a file system gives the blocks of a removed file to other files at once
//! ([`SyncRules::reuses_freed`](super::SyncRules::reuses_freed)), a power cut may bring the name
//! back with the bytes of another file: a backup that is not one, a temp file with another file's
//! content. There the files stay open until the directory is synced. Elsewhere a removal is one
//! call, and is not synced.

use std::ffi::OsStr;

use super::{Dir, File, FileSystem};
use crate::error::Failure;

/// How many files are kept open before the directory is synced.
const KEPT_AT_ONCE: usize = 32;

/// Removals in one directory.
pub struct Removals<'a, F: FileSystem> {
    dir: &'a Dir<F>,
    /// Whether they are kept, once that is known.
    keeps: Option<bool>,
    kept: Vec<File<F>>,
}

impl<'a, F: FileSystem> Removals<'a, F> {
    /// For removals in a directory that is open to be synced
    /// ([`DirUse::NamesAndSync`](super::DirUse::NamesAndSync)).
    pub fn new(dir: &'a Dir<F>) -> Removals<'a, F> {
        Removals { dir, keeps: None, kept: Vec::new() }
    }

    /// Removes a name.
    ///
    /// # Errors
    ///
    /// The file is still there, unless it is not found; or it is gone, and the directory could not
    /// be synced.
    pub fn remove(&mut self, name: &OsStr) -> Result<(), Failure> {
        let keeps = match self.keeps {
            Some(keeps) => keeps,
            None => self.dir.sync_rules(self.dir.metadata()?.id.device).reuses_freed,
        };
        self.keeps = Some(keeps);
        let kept = if keeps { self.dir.open_to_keep(name)? } else { None };
        self.dir.remove(name)?;
        self.kept.extend(kept);
        match self.kept.len() < KEPT_AT_ONCE {
            true => Ok(()),
            false => self.sync(),
        }
    }

    /// Ends the removals.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.sync()
    }

    fn sync(&mut self) -> Result<(), Failure> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let synced = self.dir.sync(None);
        self.kept.clear();
        synced
    }
}
