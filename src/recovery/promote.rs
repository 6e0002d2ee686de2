//! Making what was left the file, durably and without overwriting anything.

use std::ffi::{OsStr, OsString};

use super::orphan::Orphan;
use super::{Place, Recovery, names};
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileId, FileSystem, Metadata, uninterrupted};
use crate::payload::Chunk;
use crate::threads::blocking;
use crate::write::AttemptError;

/// As much of a file as is held in memory at a time.
const AT_ONCE: usize = 1 << 20;

/// How many names are tried for a corrupt file that is set aside.
const NAMES: u64 = 10_000;

/// What came of it.
pub(super) struct Brought {
    /// The name that the corrupt file has got, if there was one.
    pub(super) aside: Option<OsString>,
    /// Whether the file is in place now. If not, somebody else has written it meanwhile, or
    /// taken away what was left.
    pub(super) is_in_place: bool,
}

impl<F: FileSystem> Recovery<'_, F> {
    /// Gives an orphan the name `to`, after moving the corrupt file of that name aside, if there
    /// is one. What a crash in the middle of this leaves is dealt with by the next recovery:
    /// at every moment the orphan has its own name or the file's, with all its bytes synced
    /// before the rename, and the corrupt file is durable under its new name before the old one
    /// is given away.
    pub(super) fn bring(
        &self,
        place: &Place<F>,
        orphan: &Orphan<F>,
        to: &OsStr,
        corrupt: Option<&Metadata>,
    ) -> Result<Brought, AttemptError> {
        if self.options.dry_run {
            let aside = corrupt.map(|_| names::aside(to, names::milliseconds(self.now)));
            return Ok(Brought { aside, is_in_place: true });
        }
        let fs = self.fs;
        let nothing = Brought { aside: None, is_in_place: false };
        if !place.is_still(fs, &orphan.name, orphan.metadata.id)? {
            return Ok(nothing);
        }
        self.write_again(place, orphan)?;
        self.adopt(place, orphan, corrupt)?;
        uninterrupted(|| blocking(|| fs.sync_file(&orphan.file)))
            .map_err(|error| Failure::at("fsync", place.shown(&orphan.name), error))?;
        let Some(corrupt) = corrupt else {
            return self.give_name(place, orphan, to, None);
        };
        // After whatever was last done to the orphan: see `was_interrupted`.
        let modified = uninterrupted(|| fs.modified(&place.dir, &orphan.name))
            .map_err(|error| Failure::at("lstat", place.shown(&orphan.name), error))?;
        let time = names::milliseconds(self.now.max(modified)).saturating_add(1);
        let Some(aside) = self.set_aside(place, to, corrupt.id, time)? else { return Ok(nothing) };
        let outcome = self
            .sync_dir(place, orphan)
            .map_err(AttemptError::from)
            .and_then(|()| self.give_name(place, orphan, to, Some(aside.clone())));
        if !outcome.as_ref().map_or_else(|error| error.committed, |brought| brought.is_in_place) {
            // So that readers find the file again, such as it is. If it does not work, or
            // somebody else has written it, the corrupt one is where it is.
            let _ = self.move_back(place, &aside, to);
        }
        outcome
    }

    /// The rename that makes it the file, and the sync that makes that last.
    fn give_name(
        &self,
        place: &Place<F>,
        orphan: &Orphan<F>,
        to: &OsStr,
        aside: Option<OsString>,
    ) -> Result<Brought, AttemptError> {
        let fs = self.fs;
        // A name that is known beforehand may be somebody else's new file by now.
        let is_ours = place.is_still(fs, &orphan.name, orphan.metadata.id)?;
        if is_ours && self.rename_new(place, &orphan.file, &orphan.name, to, orphan.metadata.id)? {
            self.sync_dir(place, orphan)
                .map_err(|failure| AttemptError { kind: failure.into(), committed: true })?;
            return Ok(Brought { aside, is_in_place: true });
        }
        Ok(Brought { aside, is_in_place: false })
    }

    /// `false` if the new name is taken.
    fn rename_new(
        &self,
        place: &Place<F>,
        file: &F::FileHandle,
        from: &OsStr,
        to: &OsStr,
        id: FileId,
    ) -> Result<bool, Failure> {
        let fs = self.fs;
        let renamed = uninterrupted(|| fs.rename_new(&place.dir, file, from, to));
        let Err(error) = renamed else { return Ok(true) };
        // A network file system may do the rename and then report an error.
        if place.is_still(fs, to, id).unwrap_or(false) {
            return Ok(true);
        }
        match Code::of(&error) {
            Some(Code::EEXIST) => Ok(false),
            _ => Err(Failure {
                dest: Some(place.shown(to)),
                ..Failure::at("rename", place.shown(from), error)
            }),
        }
    }

    fn sync_dir(&self, place: &Place<F>, orphan: &Orphan<F>) -> Result<(), Failure> {
        let sync = || blocking(|| self.fs.sync_dir(&place.dir, Some(&orphan.file)));
        uninterrupted(sync).map_err(|error| Failure::at("fsync", &place.path, error))
    }

    /// Moves the corrupt file aside, and says what it is called now. `None` if it is not the
    /// file any more: then whatever is has its name.
    fn set_aside(
        &self,
        place: &Place<F>,
        name: &OsStr,
        corrupt: FileId,
        time: u64,
    ) -> Result<Option<OsString>, Failure> {
        let fs = self.fs;
        let file = match uninterrupted(|| fs.open_to_change(&place.dir, name)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::at("open", place.shown(name), error)),
        };
        if !place.is_still(fs, name, corrupt)? {
            return Ok(None);
        }
        for number in 0..NAMES {
            let to = names::aside(name, time.saturating_add(number));
            if !self.rename_new(place, &file, name, &to, corrupt)? {
                continue;
            }
            if place.is_still(fs, &to, corrupt)? {
                return Ok(Some(to));
            }
            // Between the look and the rename somebody has written the file: what was moved
            // is theirs.
            drop(file);
            self.move_back(place, &to, name)?;
            return Ok(None);
        }
        Err(Failure::at("rename", place.shown(name), Code::EEXIST.error()))
    }

    fn move_back(&self, place: &Place<F>, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
        let fs = self.fs;
        let failed = |error| Failure::at("rename", place.shown(from), error);
        let file = uninterrupted(|| fs.open_to_change(&place.dir, from)).map_err(failed)?;
        uninterrupted(|| fs.rename_new(&place.dir, &file, from, to)).map_err(failed)
    }

    /// Writes the bytes of an orphan once more over themselves. A sync of the process that wrote
    /// them may have failed, and then a sync that succeeds says nothing; what is written again
    /// can be synced again. Where the file may not be written to, or there is no room to write
    /// anew what is shared, it is only synced.
    fn write_again(&self, place: &Place<F>, orphan: &Orphan<F>) -> Result<(), Failure> {
        let fs = self.fs;
        let failed = |syscall, error| Failure::at(syscall, place.shown(&orphan.name), error);
        let mut buffer = vec![0; AT_ONCE];
        let mut offset = 0;
        loop {
            let count = uninterrupted(|| fs.read(&orphan.file, &mut buffer, offset))
                .map_err(|error| failed("read", error))?;
            let mut rest = buffer.get(..count).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            while !rest.is_empty() {
                let written = match uninterrupted(|| fs.write(&orphan.file, Chunk::Slice(rest))) {
                    Ok(0) => return Err(failed("write", Code::EIO.error())),
                    Ok(written) => written,
                    Err(error) => match Code::of(&error) {
                        Some(
                            Code::EBADF
                            | Code::EACCES
                            | Code::EPERM
                            | Code::EROFS
                            | Code::ENOSPC
                            | Code::EDQUOT,
                        ) => return Ok(()),
                        _ => return Err(failed("write", error)),
                    },
                };
                rest = rest.get(written..).unwrap_or_default();
            }
            offset += count as u64;
        }
    }

    /// Gives an orphan the owner and the mode of the file that it replaces, as far as the
    /// process may; otherwise those that it had before it was written to.
    fn adopt(
        &self,
        place: &Place<F>,
        orphan: &Orphan<F>,
        corrupt: Option<&Metadata>,
    ) -> Result<(), Failure> {
        const PRIVILEGES: u32 = 0o6000;
        let own = &orphan.metadata;
        let model = corrupt.unwrap_or(own);
        let is_same = (model.uid, model.gid) == (own.uid, own.gid);
        let give = || self.fs.set_owner(&orphan.file, Some(model.uid), Some(model.gid));
        let is_given = is_same || uninterrupted(give).is_ok();
        // A program that ran as its owner must not start to run as somebody else.
        let mode = if is_given { model.mode } else { model.mode & !PRIVILEGES };
        if mode == own.mode && is_same && mode & PRIVILEGES == 0 {
            return Ok(());
        }
        match uninterrupted(|| self.fs.set_mode(&orphan.file, mode)) {
            Err(error) if Code::of(&error) != Some(Code::EPERM) => {
                Err(Failure::at("fchmod", place.shown(&orphan.name), error))
            }
            _ => Ok(()),
        }
    }
}
