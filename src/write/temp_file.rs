//! The temp file: made beside the target, filled, checked, and given its owner and mode.

use std::ffi::{OsStr, OsString};
use std::time::Instant;

use super::attempt::{AttemptError, ContentSource, CopySource};
use super::attributes::{self, WantedAttributes};
use super::control::Control;
use super::options::Options;
use super::{fill, validate};
use crate::error::{Code, Failure};
use crate::fs::{
    Dir, File, FileKind, FileSystem, Limitation, Metadata, NamedFile, TempAtExit, is_too_long,
};
use crate::payload::Payload;
use crate::resolve::Target;
use crate::short_name::{ALWAYS_FITS, LONGEST_NAME};
use crate::temp_name;

/// How many names are tried: a name may be taken, and a sweeper may remove the file before it is
/// locked.
const MOST_NAMES: usize = 16;

/// A temp file that belongs to this write: locked, so that no sweeper takes it for an
/// orphan, and known to be the file that its name stands for.
pub(crate) struct TempFile<F: FileSystem> {
    pub(crate) file: File<F>,
    pub(crate) name: OsString,
    pub(crate) metadata: Metadata,
    /// A moment after it was opened and before anything was written to it.
    pub(crate) opened: Instant,
    /// What it was given when it was complete.
    given: Option<GivenAttributes>,
    /// Has it removed if a signal ends the process.
    at_exit: Option<TempAtExit>,
}

/// A complete temp file that is not open: many are to need few open files. What keeps others from
/// taking it for an orphan is not its own lock then.
pub(crate) struct ClosedTempFile {
    pub(crate) name: OsString,
    metadata: Metadata,
    opened: Instant,
    given: Option<GivenAttributes>,
    at_exit: Option<TempAtExit>,
}

/// What a temp file was given.
struct GivenAttributes {
    /// The file that it is like, as it was then.
    source: Option<Metadata>,
    wanted: WantedAttributes,
}

impl<F: FileSystem> TempFile<F> {
    /// Makes it, under the name that was announced if that is free.
    pub(crate) fn create(
        target: &Target<F>,
        options: &Options,
        model: Option<&CopySource<F>>,
        announced: OsString,
    ) -> Result<TempFile<F>, Failure> {
        let dir = &target.dir;
        let mode = attributes::initial_mode(options, target.existing.as_ref(), model);
        let (mut name, mut limit) = (announced, LONGEST_NAME);
        let mut reason = Code::EEXIST.error();
        for _ in 0..MOST_NAMES {
            let at_exit = dir.remove_at_exit(&name);
            let created = dir.create_new(&name, mode);
            if let Some(at_exit) = &at_exit {
                at_exit.made();
            }
            match created {
                Ok(file) => match lock(dir, &file, &name) {
                    Ok(Some(metadata)) => {
                        let opened = Instant::now();
                        return Ok(TempFile { file, name, metadata, opened, given: None, at_exit });
                    }
                    Ok(None) => reason = Code::EBUSY.error(),
                    Err(failure) => {
                        // Nothing else knows this file yet. If it cannot be removed it is an
                        // orphan, which recovery finds; the first error is the one to report.
                        let _ = dir.remove(&name);
                        return Err(failure);
                    }
                },
                Err(failure) if is_too_long(&failure) && name.len() > ALWAYS_FITS => {
                    limit = dir.next_limit(limit);
                    reason = failure.source;
                }
                Err(failure) => {
                    let code = failure.code();
                    if code != Some(Code::EEXIST) {
                        // A network file system may have made it all the same. For the same
                        // reason an interrupted call is not continued with this name.
                        let _ = dir.remove(&name);
                    }
                    if !matches!(code, Some(Code::EEXIST | Code::EINTR)) {
                        return Err(failure);
                    }
                    reason = failure.source;
                }
            }
            name = temp_name::new_name_within(&target.name, limit);
        }
        Err(Failure::at("open", dir.shown(&name), reason))
    }

    /// From now on it stays if a signal ends the process. `false` if it is gone already, because the
    /// process is about to end.
    pub(crate) fn keep_at_exit(&self) -> bool {
        self.at_exit.as_ref().is_none_or(TempAtExit::keep)
    }

    /// Closes it, and with that releases its lock.
    pub(crate) fn close(self) -> ClosedTempFile {
        let TempFile { name, metadata, opened, given, at_exit, .. } = self;
        ClosedTempFile { name, metadata, opened, given, at_exit }
    }

    /// Makes it complete, under a name of the caller's, for a caller who renames it. What fails
    /// leaves nothing behind, as far as it can be removed.
    pub(crate) fn stage_as(
        name: OsString,
        target: &Target<F>,
        payload: &Payload,
        options: &Options,
        model: Option<&CopySource<F>>,
        control: &Control,
    ) -> Result<TempFile<F>, AttemptError> {
        let mut temp = TempFile::create(target, options, model, name.clone())?;
        let mut stage = || {
            if temp.name != name {
                // A signal came between, or something had the name, so the file got that of an
                // ordinary temp file. The next attempt asks for another name.
                let taken = Code::EAGAIN.error();
                return Err(Failure::at("open", target.dir.shown(&name), taken).into());
            }
            let size = temp.fill(&ContentSource::Payload(payload), control)?;
            temp.complete(target, options, model, size, control)
        };
        match stage() {
            Ok(()) => Ok(temp),
            Err(error) => {
                let _ = target.dir.remove(&temp.name);
                Err(error)
            }
        }
    }

    /// Fills it, and returns how many bytes it was given.
    pub(crate) fn fill(
        &self,
        content: &ContentSource<'_, F>,
        control: &Control,
    ) -> Result<u64, AttemptError> {
        match content {
            ContentSource::Payload(payload) => {
                fill::append(&self.file, payload, control).map(|()| payload.len() as u64)
            }
            ContentSource::File(source) => fill::copy(&self.file, &source.file, control),
            ContentSource::Stream => Ok(0),
        }
    }

    /// Makes the filled file what the target is to be.
    pub(crate) fn complete(
        &mut self,
        target: &Target<F>,
        options: &Options,
        model: Option<&CopySource<F>>,
        size: u64,
        control: &Control,
    ) -> Result<(), AttemptError> {
        // The last check before anything depends on the bytes: a file system that lost some of
        // them without an error must not get the rename.
        if self.file.metadata()?.size != size {
            return Err(Failure::new("fstat", Code::EIO.error()).into());
        }
        if let Some(format) = options.validate {
            validate::validate(&self.file, format, control)?;
        }
        let source = attributes::source(target.existing.as_ref(), model)?;
        let wanted = WantedAttributes::of(options, target, source.as_ref(), model)?;
        if let Some((mode, failure)) = wanted.apply(target.dir.fs(), &self.file, &self.metadata)? {
            // A file that is not given away yet must not be open to those who are to use it then, nor
            // run as its owner.
            let now = self.file.metadata()?;
            let is_given = (now.uid, now.gid) != (self.metadata.uid, self.metadata.gid);
            if is_given || mode & !0o777 != 0 {
                return Err(failure.into());
            }
            self.make_anew(target, mode, control)?;
            if let Some((_, failure)) = wanted.apply(target.dir.fs(), &self.file, &self.metadata)? {
                // The umask takes something, or the owner is another one now.
                return Err(failure.into());
            }
            target.dir.lacks(Limitation::SetMode);
        }
        self.given = Some(GivenAttributes { source, wanted });
        let checked = attributes::check_mode(target.dir.fs(), &self.file, options);
        Ok(checked.map_err(|failure| failure.on(target.path()))?)
    }

    /// Makes the file a second time, with these permission bits, for a file system that lets none be
    /// changed afterwards. The umask may still take some.
    fn make_anew(
        &mut self,
        target: &Target<F>,
        mode: u32,
        control: &Control,
    ) -> Result<(), AttemptError> {
        let dir = &target.dir;
        dir.remove(&self.name)?;
        let file = dir.create_new(&self.name, mode)?;
        let Some(metadata) = lock(dir, &file, &self.name)? else {
            return Err(Failure::at("open", dir.shown(&self.name), Code::EBUSY.error()).into());
        };
        fill::copy(&file, &self.file, control)?;
        (self.file, self.metadata) = (file, metadata);
        Ok(())
    }

    /// Gives the complete file what the file that it is like has got since: to be called right
    /// before the rename, so that what was forbidden meanwhile stays forbidden. `existing` is what
    /// is about to be replaced. Says whether anything was changed.
    pub(crate) fn update_attributes(
        &self,
        target: &Target<F>,
        existing: Option<&Metadata>,
        options: &Options,
        model: Option<&CopySource<F>>,
    ) -> Result<bool, Failure> {
        let source = attributes::source(existing, model)?;
        let Some(given) = self.given.as_ref().filter(|given| given.source != source) else {
            return Ok(false);
        };
        let wanted = WantedAttributes::of(options, target, source.as_ref(), model)?;
        if wanted == given.wanted {
            return Ok(false);
        }
        match wanted.apply(target.dir.fs(), &self.file, &self.file.metadata()?)? {
            Some((_, failure)) => Err(failure),
            None => Ok(true),
        }
    }

    /// The same for a file that is about to replace its target, which is looked at.
    pub(crate) fn update_from_target(
        &self,
        target: &Target<F>,
        options: &Options,
        model: Option<&CopySource<F>>,
    ) -> Result<bool, Failure> {
        let existing = target.dir.look(&target.name)?;
        check_replaceable(target, existing.as_ref())?;
        self.update_attributes(target, existing.as_ref(), options, model)
    }
}

impl ClosedTempFile {
    /// As [`TempFile::keep_at_exit`].
    pub(crate) fn keep_at_exit(&self) -> bool {
        self.at_exit.as_ref().is_none_or(TempAtExit::keep)
    }

    /// Opens it again, by its name. Afterwards this is no more than the name.
    ///
    /// # Errors
    ///
    /// `ESTALE` when the name stands for another file by now.
    pub(crate) fn open<F: FileSystem>(&mut self, dir: &Dir<F>) -> Result<TempFile<F>, Failure> {
        let file = match dir.open_to_change(&self.name) {
            // It has a mode by which not even its owner may read it. To rename it is allowed.
            Err(failure) if matches!(failure.code(), Some(Code::EACCES | Code::EPERM)) => {
                dir.open_to_keep(&self.name)?.ok_or(failure)?
            }
            opened => opened?,
        };
        let found = file.metadata().map_err(|failure| failure.on(dir.shown(&self.name)))?;
        if found.id != self.metadata.id {
            return Err(Failure::at("open", dir.shown(&self.name), Code::ESTALE.error()));
        }
        Ok(TempFile {
            file,
            name: self.name.clone(),
            metadata: self.metadata,
            opened: self.opened,
            given: self.given.take(),
            at_exit: self.at_exit.take(),
        })
    }
}

/// Renaming a file over a device or a pipe would take it out of the system, which no caller
/// means. (A directory is left to the rename, which refuses it.)
pub(crate) fn check_replaceable<F: FileSystem>(
    target: &Target<F>,
    existing: Option<&Metadata>,
) -> Result<(), Failure> {
    match existing.map(|existing| existing.kind) {
        Some(FileKind::Other(special)) => {
            Err(Failure::special("rename", target.path(), special.name()))
        }
        _ => Ok(()),
    }
}

/// Locks a new temp file and makes sure that its name still stands for it: between the
/// two a sweeper may have taken it for an orphan and removed it. `None` when the file is
/// lost and another has to be made.
fn lock<F: FileSystem>(
    dir: &Dir<F>,
    file: &File<F>,
    name: &OsStr,
) -> Result<Option<Metadata>, Failure> {
    if !file.try_lock().map_err(|failure| failure.on(dir.shown(name)))? {
        // A sweeper holds the lock at this moment. It may remove the file or leave it, and no
        // write needs it.
        let _ = dir.remove(name);
        return Ok(None);
    }
    let own = file.metadata().map_err(|failure| failure.on(dir.shown(name)))?;
    match dir.look(name)? {
        None => Ok(None),
        Some(named) if named.id == own.id => Ok(Some(own)),
        // No other file is ever given this name, so where files are numbered anew at each look it
        // is enough that there is one.
        Some(_) => match dir.compare(name, file)? {
            NamedFile::Same | NamedFile::Untold => Ok(Some(own)),
            NamedFile::Other | NamedFile::Nothing => Ok(None),
        },
    }
}
