//! Renames that replace nothing, where the system has no way to do that in one step: neither
//! `RENAME_NOREPLACE` nor a second name for a file (exfat-fuse, rclone, vboxsf, some sandboxes).
//!
//! An empty file is made under the new name, which fails if the name is taken, and then replaced by
//! the rename. What has come there in between is seen by a look right before the rename. A program
//! that replaces the empty file after that look, in the microseconds before the rename, loses what
//! it has put there: no file system without these calls can keep that.
//!
//! A crash may leave the empty file. Where it would be taken for the file itself, the file that is
//! to be renamed is called a *claim* of the name first ([`crate::temp_name`]): while there is one,
//! an empty file of that name is nothing but the placeholder of it.

use std::ffi::{OsStr, OsString};
use std::io;

use super::{Dir, File, FileSystem, NamedFile, uninterrupted};
use crate::error::{Code, Failure};
use crate::temp_name;

impl<F: FileSystem> Dir<F> {
    /// Gives `file`, now called `from`, the name `to`, unless that is taken: `EEXIST`. Whatever
    /// fails or dies in the middle, an empty file called `to` may be left.
    pub fn rename_new(&self, file: &File<F>, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
        match self.rename_in_one_step(file, from, to) {
            Ok(true) => Ok(()),
            Ok(false) => self.rename_by_placeholder(file, from, from, to),
            Err(error) => Err(self.not_renamed(from, to, error)),
        }
    }

    /// The same for a name under which an empty file would be taken for the file itself. If the
    /// process or the system dies in the middle, the file may be left as a claim of `to`.
    pub fn publish_new(&self, file: &File<F>, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
        match self.rename_in_one_step(file, from, to) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(self.not_renamed(from, to, error)),
        }
        let random = rand::random();
        let limit = self.name_limit(|limit| temp_name::claim_within(to, random, limit));
        let claim = temp_name::claim_within(to, random, limit);
        let claimed = self.confirmed(self.rename(file, from, &claim), file, &claim);
        claimed.map_err(|failure| self.not_renamed(from, to, failure.source))?;
        // No placeholder may outlast a power cut without the claim.
        let renamed =
            self.sync(Some(file)).and_then(|()| self.rename_by_placeholder(file, &claim, from, to));
        renamed.inspect_err(|_| {
            // The caller knows the file by this name. If it cannot get it back, recovery finds it.
            let _ = self.rename(file, &claim, from);
        })
    }

    fn rename_in_one_step(&self, file: &File<F>, from: &OsStr, to: &OsStr) -> io::Result<bool> {
        uninterrupted(|| self.fs().rename_new(self.handle(), file.handle(), from, to))
    }

    /// `shown` is what the caller calls the file that is now called `from`.
    fn rename_by_placeholder(
        &self,
        file: &File<F>,
        from: &OsStr,
        shown: &OsStr,
        to: &OsStr,
    ) -> Result<(), Failure> {
        let failed = |failure: Failure| self.not_renamed(shown, to, failure.source);
        let placeholder = self.create_new(to, 0o600).map_err(failed)?;
        let is_ours = || -> Result<bool, Failure> {
            let is_empty = placeholder.metadata()?.size == 0;
            let named = self.compare(to, &placeholder)?;
            Ok(is_empty && matches!(named, NamedFile::Same | NamedFile::Untold))
        };
        if !is_ours().map_err(failed)? {
            return Err(self.not_renamed(shown, to, Code::EEXIST.error()));
        }
        self.confirmed(self.rename(file, from, to), file, to).map_err(|failure| {
            if matches!(is_ours(), Ok(true)) {
                let _ = self.remove(to);
            }
            failed(failure)
        })
    }

    /// Removes the placeholder that a crash has left beside `claim`, if there is one. `false` if
    /// `name` stands for something else.
    pub fn remove_placeholder(&self, claim: &OsStr, name: &OsStr) -> Result<bool, Failure> {
        match self.look(name)? {
            None => Ok(true),
            Some(found) if temp_name::is_claim_of(claim, name) && found.is_empty_file() => {
                self.remove_if_there(name).map(|()| true)
            }
            Some(_) => Ok(false),
        }
    }
}

/// Whether an empty file is only the placeholder of one that was to get its name, among the `names`
/// in its directory.
pub fn is_placeholder(name: &OsStr, names: &[OsString]) -> bool {
    names.iter().any(|claim| temp_name::is_claim_of(claim, name))
}
