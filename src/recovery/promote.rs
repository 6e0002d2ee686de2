//! Promotes an orphan to the file that it was written to be, durably and without overwriting
//! anything.

use std::ffi::{OsStr, OsString};

use super::context::RecoveryContext;
use super::names;
use super::orphan::Orphan;
use crate::error::{Code, Failure};
use crate::fs::{Dir, File, FileId, FileSystem, Metadata, if_there};
use crate::write::{AttemptError, WantedAttributes};

/// How much of a file is held in memory at a time.
const READ_AT_ONCE: usize = 1 << 20;

/// How many names are tried for a corrupt file that is set aside.
const NAMES: u64 = 10_000;

/// What came of a promotion.
pub(super) struct Promotion {
    /// The name that the corrupt file has got, if there was one.
    pub(super) aside: Option<OsString>,
    /// Whether the orphan is the file now. If not, another program has written the file meanwhile,
    /// or taken the orphan away.
    pub(super) is_in_place: bool,
}

const NOT_PROMOTED: Promotion = Promotion { aside: None, is_in_place: false };

impl<F: FileSystem> RecoveryContext<'_, F> {
    /// Gives an orphan the name `to`, after moving the corrupt file of that name aside, if there
    /// is one. The next recovery deals with what a crash in the middle of this leaves: at every
    /// moment the orphan has its own name or the file's, with all its bytes synced before the
    /// rename, and the corrupt file is durable under its new name before the old one is taken.
    pub(super) fn promote(
        &self,
        dir: &Dir<F>,
        orphan: &Orphan<F>,
        to: &OsStr,
        corrupt: Option<&Metadata>,
    ) -> Result<Promotion, AttemptError> {
        if self.options.dry_run {
            return Ok(self.foreseen(dir, to, corrupt.is_some()));
        }
        if !dir.leads_to(&orphan.name, orphan.metadata.id)? {
            return Ok(NOT_PROMOTED);
        }
        rewrite(&orphan.file).map_err(|failure| failure.on(dir.shown(&orphan.name)))?;
        self.promote_written(dir, orphan, to, corrupt)
    }

    /// What a promotion would come to.
    pub(super) fn foreseen(&self, dir: &Dir<F>, to: &OsStr, is_there: bool) -> Promotion {
        let time = names::milliseconds(self.now);
        let aside = is_there.then(|| names::aside_within(to, time, aside_limit(dir, to, time)));
        Promotion { aside, is_in_place: true }
    }

    /// The same as [`Self::promote`], for a temp file that this process has just written: its sync
    /// says whether the bytes are on the disk.
    pub(super) fn promote_written(
        &self,
        dir: &Dir<F>,
        orphan: &Orphan<F>,
        to: &OsStr,
        corrupt: Option<&Metadata>,
    ) -> Result<Promotion, AttemptError> {
        let shown = |failure: Failure| failure.on(dir.shown(&orphan.name));
        self.adopt(dir, orphan, to, corrupt).map_err(shown)?;
        orphan.file.sync().map_err(shown)?;
        let Some(corrupt) = corrupt else { return take_name(dir, orphan, to, None) };
        // After whatever was last done to the orphan: see `was_interrupted`.
        let Some(modified) = dir.modified(&orphan.name)? else {
            let gone = Failure::at("lstat", dir.shown(&orphan.name), Code::ENOENT.error());
            return Err(gone.into());
        };
        let time = names::milliseconds(self.now.max(modified)).saturating_add(1);
        let Some(aside) = set_aside(dir, to, corrupt.id, time)? else { return Ok(NOT_PROMOTED) };
        let outcome = dir
            .sync(Some(&orphan.file))
            .map_err(AttemptError::from)
            .and_then(|()| take_name(dir, orphan, to, Some(aside.clone())));
        if !outcome.as_ref().map_or_else(|error| error.committed, |done| done.is_in_place) {
            // So that readers find the file again, such as it is. If this fails, or another
            // program has written the file, the corrupt one stays aside.
            let _ = move_back(dir, &aside, to);
        }
        outcome
    }

    /// Gives an orphan the attributes of the file that it replaces, as far as the process may;
    /// otherwise those that it had before it was written to.
    fn adopt(
        &self,
        dir: &Dir<F>,
        orphan: &Orphan<F>,
        to: &OsStr,
        corrupt: Option<&Metadata>,
    ) -> Result<(), Failure> {
        let wanted = match corrupt {
            Some(corrupt) => WantedAttributes::like(corrupt, dir.extended(to)?),
            None => WantedAttributes::like(&orphan.metadata, orphan.file.extended()?),
        };
        match wanted.apply(dir.fs(), &orphan.file, &orphan.file.metadata()?) {
            // It is another user's.
            Err(failure) if failure.code() == Some(Code::EPERM) => Ok(()),
            Ok(Some((_, failure))) if failure.code() != Some(Code::EPERM) => Err(failure),
            outcome => outcome.map(drop),
        }
    }
}

/// The rename that makes an orphan the file, and the sync that makes it last.
fn take_name<F: FileSystem>(
    dir: &Dir<F>,
    orphan: &Orphan<F>,
    to: &OsStr,
    aside: Option<OsString>,
) -> Result<Promotion, AttemptError> {
    let Orphan { name, file, metadata, .. } = orphan;
    // A name that is known beforehand may be another program's new file by now.
    let is_in_place = dir.leads_to(name, metadata.id)?
        && has_renamed(dir, to, metadata.id, dir.publish_new(file, name, to))?;
    if is_in_place {
        dir.sync(Some(file))
            .map_err(|failure| AttemptError { kind: failure.into(), committed: true })?;
    }
    Ok(Promotion { aside, is_in_place })
}

/// What an attempt has come to that was to give the file with this `id` the name `to`: `false` if
/// that is taken.
fn has_renamed<F: FileSystem>(
    dir: &Dir<F>,
    to: &OsStr,
    id: FileId,
    renamed: Result<(), Failure>,
) -> Result<bool, Failure> {
    let Err(failure) = renamed else { return Ok(true) };
    // A network file system may do the rename and then report an error.
    if dir.leads_to(to, id).unwrap_or(false) {
        return Ok(true);
    }
    match failure.code() {
        Some(Code::EEXIST) => Ok(false),
        _ => Err(failure),
    }
}

/// Moves the corrupt file aside, and says what it is called now. `None` if it is not the
/// file any more: then whatever is has its name.
fn set_aside<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    corrupt: FileId,
    time: u64,
) -> Result<Option<OsString>, Failure> {
    let Some(file) = if_there(dir.open_to_change(name))? else { return Ok(None) };
    if !dir.leads_to(name, corrupt)? {
        return Ok(None);
    }
    let limit = aside_limit(dir, name, time);
    for number in 0..NAMES {
        let to = names::aside_within(name, time.saturating_add(number), limit);
        if !has_renamed(dir, &to, corrupt, dir.rename_new(&file, name, &to))? {
            continue;
        }
        if dir.leads_to(&to, corrupt)? || has_content_of(dir, &to, &file)? {
            return Ok(Some(to));
        }
        // Between the look and the rename another program has written the file: what was moved
        // is that program's.
        drop(file);
        move_back(dir, &to, name)?;
        return Ok(None);
    }
    Err(Failure::at("rename", dir.shown(name), Code::EEXIST.error()))
}

/// How long the name of a corrupt file may be.
fn aside_limit<F: FileSystem>(dir: &Dir<F>, name: &OsStr, time: u64) -> usize {
    dir.name_limit(|limit| names::aside_within(name, time, limit))
}

/// Whether a name stands for a file with the bytes of an open one. Where a file that is renamed by
/// two names for a moment gets another number (FUSE), this tells that it is the same.
fn has_content_of<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    file: &File<F>,
) -> Result<bool, Failure> {
    let Some(other) = if_there(dir.open_file(name))? else { return Ok(false) };
    let [mut one, mut same] = [vec![0; READ_AT_ONCE], vec![0; READ_AT_ONCE]];
    let mut offset = 0;
    loop {
        let count = file.read_up_to(&mut one, offset)?;
        if other.read_up_to(&mut same, offset)? != count || one.get(..count) != same.get(..count) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
        offset += count as u64;
    }
}

fn move_back<F: FileSystem>(dir: &Dir<F>, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
    let moved = dir.open_to_change(from).and_then(|file| dir.rename_new(&file, from, to));
    // To the caller this is one step.
    moved.map_err(|failure| Failure::at("rename", dir.shown(from), failure.source))
}

/// Writes the bytes of an orphan once more over themselves. A sync of the process that wrote
/// them may have failed, and then a sync that succeeds says nothing; what is written again
/// can be synced again. Where the file may not be written to, or there is no room to write
/// anew what is shared, it is only synced.
fn rewrite<F: FileSystem>(file: &File<F>) -> Result<(), Failure> {
    use Code::{EACCES, EBADF, EDQUOT, ENOSPC, EPERM, EROFS};
    let mut buffer = vec![0; READ_AT_ONCE];
    let mut offset = 0;
    loop {
        let count = file.read(&mut buffer, offset)?;
        if count == 0 {
            return Ok(());
        }
        if let Err(failure) = file.write_all(buffer.get(..count).unwrap_or_default()) {
            return match failure.code() {
                Some(EBADF | EACCES | EPERM | EROFS | ENOSPC | EDQUOT) => Ok(()),
                _ => Err(failure),
            };
        }
        offset += count as u64;
    }
}
