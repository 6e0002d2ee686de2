//! What becomes of one file and of what is left beside it.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::time::SystemTime;

use super::json_check::{self, Text};
use super::names::{self, Origin, Remains};
use super::orphan::{self, Claim, Orphan};
use super::promote::Brought;
use super::{Act, Place, Recovery};
use crate::error::Failure;
use crate::fs::{FileId, FileKind, FileSystem, Metadata, uninterrupted};
use crate::threads::blocking;
use crate::write::AttemptError;

/// What the file is.
enum Now {
    Missing,
    /// As far as can be told.
    Good(FileId),
    /// It has no bytes, and need not be JSON.
    Empty(FileId),
    /// It should be JSON, and is not.
    Corrupt(Metadata, String),
    /// No regular file.
    Other,
}

/// An orphan, and what was found in it, if that was looked at.
struct Left<F: FileSystem> {
    orphan: Box<Orphan<F>>,
    text: Option<Text>,
}

impl<F: FileSystem> Left<F> {
    fn is_whole(&self) -> bool {
        self.text == Some(Text::Whole)
    }
}

/// How many files are looked at, and held open, at a time.
const AT_ONCE: usize = 32;

/// Which part of what was left beside one file is being dealt with.
#[derive(Clone, Copy)]
struct Part {
    is_last: bool,
    /// Something in a part before it has become the file.
    follows_file: bool,
}

const NOT_WHOLE: &str = "it is not one whole JSON object or array";
const CUT: &str = "the name of its file is cut short in its own, so it may be another's";

impl<F: FileSystem> Recovery<'_, F> {
    /// Decides, and does it. What cannot be done is among the actions.
    ///
    /// A program that crashes again and again may have left thousands of temp files of one file,
    /// more than a process may have open: they are dealt with in parts, the newest first.
    pub(super) fn settle(&mut self, place: &Place<F>, remains: &Remains, is_named: bool) {
        if self.decided.iter().any(|transaction| transaction.names(&remains.file)) {
            let reason = "it belongs to a transaction that was decided and is not finished";
            return self.left(place.shown(&remains.file), reason);
        }
        if remains.names.len() <= AT_ONCE {
            self.settle_part(place, remains, is_named, Part { is_last: true, follows_file: false });
            return;
        }
        let mut names = remains.names.clone();
        let backup = names.iter().find(|(_, origin, _)| *origin == Origin::Backup).cloned();
        names.sort_by_cached_key(|(name, _, _)| {
            let modified = uninterrupted(|| self.fs.modified(&place.dir, name));
            // What is gone by now is nobody's.
            Reverse(modified.unwrap_or(SystemTime::UNIX_EPOCH))
        });
        // At the end it may be needed such as it is, if nothing better has been found.
        let part_of = |index: usize| index / AT_ONCE;
        let place_of = names.iter().position(|(_, origin, _)| *origin == Origin::Backup);
        let comes_again = place_of.is_some_and(|index| part_of(index) != part_of(names.len()));
        names.extend(backup.filter(|_| comes_again));
        let mut parts = names.chunks(AT_ONCE).peekable();
        let mut follows_file = false;
        while let Some(part) = parts.next() {
            if let Err(cancelled) = self.control.check() {
                return self.failed(place.shown(&remains.file), cancelled.into());
            }
            let how = Part { is_last: parts.peek().is_none(), follows_file };
            let mut part = Remains { names: part.to_vec(), ..remains.clone() };
            if how.is_last && comes_again && follows_file {
                // It has been dealt with.
                part.names.pop();
            }
            follows_file |= self.settle_part(place, &part, is_named, how);
        }
    }

    /// Says whether something has become the file.
    fn settle_part(
        &mut self,
        place: &Place<F>,
        remains: &Remains,
        is_named: bool,
        part: Part,
    ) -> bool {
        let mut all = self.claim(place, remains);
        if all.is_empty() && !is_named {
            return false;
        }
        let path = place.shown(&remains.file);
        let seen = match part.follows_file && self.options.dry_run {
            // It would be by now.
            true => Ok(Now::Good(FileId { device: 0, inode: 0 })),
            false => self.see(place, &remains.file),
        };
        let now = match seen {
            Ok(now) => now,
            Err(error) => {
                self.failed(path, error);
                return false;
            }
        };
        if matches!(now, Now::Missing | Now::Corrupt(..)) {
            self.judge(place, &mut all);
        }
        let source = self.source(remains, &all, &now, part);
        let is_backup = |left: &Left<F>| left.orphan.origin == Origin::Backup;
        let changes_file = source.is_some()
            || matches!(now, Now::Good(_)) && all.iter().any(is_backup) && !self.only_sweeps;
        if !changes_file || self.options.dry_run {
            return self.carry_out(place, remains, all, &now, source, is_named, part);
        }
        let _guard = match (self.guard)(&path) {
            Ok(Some(guard)) => guard,
            Ok(None) => {
                for left in all {
                    let name = place.shown(&left.orphan.name);
                    self.left(name, "the lock of its file is held by somebody else");
                }
                return false;
            }
            Err(kind) => {
                self.failed(path, kind.into());
                return false;
            }
        };
        // It may have been written while the lock was being taken.
        match self.see(place, &remains.file) {
            Ok(now) => {
                if matches!(now, Now::Missing | Now::Corrupt(..)) {
                    self.judge(place, &mut all);
                }
                let source = self.source(remains, &all, &now, part);
                self.carry_out(place, remains, all, &now, source, is_named, part)
            }
            Err(error) => {
                self.failed(path, error);
                false
            }
        }
    }

    fn claim(&mut self, place: &Place<F>, remains: &Remains) -> Vec<Left<F>> {
        let mut all = Vec::new();
        for (name, origin, is_certain) in &remains.names {
            let which = (name.as_os_str(), *origin, *is_certain);
            let (set_aside, min_age) = (remains.set_aside, self.options.min_age);
            match orphan::claim(self.fs, place, which, set_aside, min_age, self.now) {
                Claim::Orphan(orphan) => match self.is_trusted(place, &orphan.metadata) {
                    Ok(true) => all.push(Left { orphan, text: None }),
                    Ok(false) => {
                        let reason = "it is another user's, in a folder that is open to all";
                        self.left(place.shown(name), reason);
                    }
                    Err(failure) => self.failed(place.shown(name), failure.into()),
                },
                Claim::Left(reason) => self.left(place.shown(name), reason),
                Claim::Nothing => {}
                Claim::Failed(failure) => self.failed(place.shown(name), failure.into()),
            }
        }
        all
    }

    /// In a shared directory like /tmp anybody may leave something beside a file, which must not
    /// become that file: only what is the process's own, or belongs to the directory's owner, counts
    /// there.
    fn is_trusted(&self, place: &Place<F>, found: &Metadata) -> Result<bool, Failure> {
        const SHARED: u32 = 0o1002;
        if self.fs.effective_user().is_none_or(|user| user == found.uid) {
            return Ok(true);
        }
        let around = uninterrupted(|| self.fs.dir_metadata(&place.dir))
            .map_err(|error| Failure::at("fstat", &place.path, error))?;
        Ok(around.mode & SHARED != SHARED || around.uid == found.uid)
    }

    /// Looks at the file.
    fn see(&self, place: &Place<F>, name: &OsStr) -> Result<Now, AttemptError> {
        let Some(found) = place.look(self.fs, name)? else { return Ok(Now::Missing) };
        if found.kind != FileKind::File {
            return Ok(Now::Other);
        }
        if self.options.validate.is_none() && !names::is_json(name) {
            return Ok(if found.size == 0 { Now::Empty(found.id) } else { Now::Good(found.id) });
        }
        let shown = place.shown(name);
        let file = match uninterrupted(|| self.fs.open(&place.dir, name)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Now::Missing),
            Err(error) => return Err(Failure::at("open", shown, error).into()),
        };
        let metadata = uninterrupted(|| self.fs.file_metadata(&file))
            .map_err(|error| Failure::at("fstat", &shown, error))?;
        Ok(match json_check::judge(self.fs, &file, self.control)? {
            Text::Whole | Text::Scalar => Now::Good(metadata.id),
            Text::Empty => Now::Corrupt(metadata, "it is empty, which is not JSON".to_owned()),
            Text::Bad(bad) => Now::Corrupt(metadata, format!("it is not JSON: {bad}")),
        })
    }

    /// Looks into what was left.
    fn judge(&mut self, place: &Place<F>, all: &mut Vec<Left<F>>) {
        let mut failed = Vec::new();
        all.retain_mut(|left| {
            if left.text.is_none() {
                match json_check::judge(self.fs, &left.orphan.file, self.control) {
                    Ok(text) => left.text = Some(text),
                    Err(kind) => {
                        failed.push((place.shown(&left.orphan.name), kind.into()));
                        return false;
                    }
                }
            }
            true
        });
        failed.into_iter().for_each(|(path, error)| self.failed(path, error));
    }

    /// Which of those that were left is to become the file, if any.
    fn source(&self, remains: &Remains, all: &[Left<F>], now: &Now, part: Part) -> Option<usize> {
        let must_be_json = self.options.validate.is_some() || names::is_json(&remains.file);
        if self.only_sweeps || !matches!(now, Now::Missing | Now::Corrupt(..)) {
            return None;
        }
        let may_be = |left: &Left<F>| match left.orphan.origin {
            Origin::Backup => {
                !must_be_json || matches!(left.text, Some(Text::Whole | Text::Scalar))
            }
            Origin::Temp | Origin::LegacyTemp => {
                let is_wanted = matches!(now, Now::Corrupt(..))
                    || self.promotes
                    || orphan::was_interrupted(left.orphan.modified, remains.set_aside);
                is_wanted && left.is_whole() && left.orphan.is_certain
            }
        };
        let rank = |left: &Left<F>| {
            let Orphan { modified, origin, name, .. } = &*left.orphan;
            (*modified, *origin, Reverse(name.clone()))
        };
        let newest = all
            .iter()
            .enumerate()
            .filter(|(_, left)| may_be(left))
            .max_by_key(|(_, left)| rank(left))
            .map(|(index, _)| index);
        // A file that is not as it should be is still better than none.
        newest.or_else(|| {
            let is_backup = |left: &Left<F>| left.orphan.origin == Origin::Backup;
            all.iter().position(is_backup).filter(|_| part.is_last && matches!(now, Now::Missing))
        })
    }

    /// Does what was decided. Says whether something has become the file.
    #[allow(clippy::too_many_arguments)]
    fn carry_out(
        &mut self,
        place: &Place<F>,
        remains: &Remains,
        mut all: Vec<Left<F>>,
        now: &Now,
        source: Option<usize>,
        is_named: bool,
        part: Part,
    ) -> bool {
        let file = place.shown(&remains.file);
        if let Some(index) = source {
            let chosen = all.remove(index);
            let is_replaced = self.replace(place, remains, &chosen, now);
            if is_replaced {
                for left in all {
                    let is_temp = left.orphan.origin != Origin::Backup;
                    if !left.orphan.is_certain && is_named {
                        self.left(place.shown(&left.orphan.name), CUT);
                    } else if is_temp && !left.is_whole() {
                        self.remove(place, &left.orphan, NOT_WHOLE);
                    } else {
                        self.remove(place, &left.orphan, "the file has been recovered without it");
                    }
                }
            }
            return is_replaced;
        }
        if let Now::Corrupt(_, why) = now
            && part.is_last
        {
            self.left(file, format!("{why}, and there is nothing good to restore it from"));
        }
        // The backup goes last: until then it is the one copy that is surely good.
        all.sort_by_key(|left| Reverse(left.orphan.origin));
        for left in &all {
            let (orphan, shown) = (&left.orphan, place.shown(&left.orphan.name));
            let is_temp = orphan.origin != Origin::Backup;
            let reason = match now {
                Now::Missing | Now::Corrupt(..) if is_temp && !left.is_whole() => NOT_WHOLE,
                _ if is_temp && !orphan.is_certain && is_named => {
                    self.left(shown, CUT);
                    continue;
                }
                Now::Missing | Now::Corrupt(..) if is_temp && self.only_sweeps => {
                    self.left(shown, "it is whole, and its file is not");
                    continue;
                }
                Now::Missing if is_temp && self.promotes => {
                    self.left(shown, CUT);
                    continue;
                }
                Now::Missing if is_temp => "its file does not exist, and `promote` is off",
                // In the last part it comes again.
                Now::Missing | Now::Corrupt(..) if !part.is_last => continue,
                Now::Missing | Now::Corrupt(..) => {
                    self.left(shown, "it is not good either");
                    continue;
                }
                Now::Other if orphan.origin == Origin::Temp => "what it was to become is no file",
                Now::Other => {
                    self.left(shown, "what has the name of its file is no file");
                    continue;
                }
                Now::Empty(_) if !is_temp && orphan.metadata.size > 0 => {
                    self.left(shown, "the file is empty, and this is not");
                    continue;
                }
                Now::Good(id) | Now::Empty(id) if !is_temp => {
                    match self.make_durable(place, &remains.file, *id) {
                        Ok(true) => {}
                        Ok(false) => {
                            self.left(shown, "somebody else has changed the file meanwhile");
                            continue;
                        }
                        Err(failure) => {
                            self.failed(shown, failure.into());
                            continue;
                        }
                    }
                    "the file is there and good"
                }
                Now::Good(_) | Now::Empty(_) => "the file is there: the write was cut off",
            };
            self.remove(place, orphan, reason);
        }
        false
    }

    /// Makes what was chosen the file. Says whether it is.
    fn replace(
        &mut self,
        place: &Place<F>,
        remains: &Remains,
        chosen: &Left<F>,
        now: &Now,
    ) -> bool {
        let (file, name) = (place.shown(&remains.file), place.shown(&chosen.orphan.name));
        let corrupt = match now {
            Now::Corrupt(metadata, why) => Some((metadata, why)),
            _ => None,
        };
        let replaced = corrupt.map(|(metadata, _)| metadata);
        match self.bring(place, &chosen.orphan, &remains.file, replaced) {
            Ok(Brought { aside, is_in_place: true }) => {
                let is_restored = corrupt.is_some()
                    || chosen.orphan.origin == Origin::Backup
                    || orphan::was_interrupted(chosen.orphan.modified, remains.set_aside);
                let reason = match corrupt {
                    Some(_) => "it is good, and the file was not",
                    None => "the file was missing",
                };
                if let (Some(aside), Some((_, why))) = (aside, corrupt) {
                    self.note(file.clone(), Act::SetAside, Some(place.shown(&aside)), why);
                }
                let act = if is_restored { Act::Restored } else { Act::Promoted };
                self.note(name, act, Some(file), reason);
                true
            }
            Ok(_) => {
                self.left(name, "somebody else has changed the file meanwhile");
                false
            }
            Err(error) => {
                self.failed(name, error);
                false
            }
        }
    }

    /// Makes sure that the file outlasts what is about to be removed. `false` if it is another
    /// file by now.
    fn make_durable(&self, place: &Place<F>, name: &OsStr, id: FileId) -> Result<bool, Failure> {
        let fs = self.fs;
        if self.options.dry_run {
            return Ok(true);
        }
        let shown = place.shown(name);
        let file = uninterrupted(|| fs.open(&place.dir, name))
            .map_err(|error| Failure::at("open", &shown, error))?;
        uninterrupted(|| blocking(|| fs.sync_file(&file)))
            .map_err(|error| Failure::at("fsync", &shown, error))?;
        uninterrupted(|| blocking(|| fs.sync_dir(&place.dir, Some(&file))))
            .map_err(|error| Failure::at("fsync", &place.path, error))?;
        let found = uninterrupted(|| fs.file_metadata(&file))
            .map_err(|error| Failure::at("fstat", &shown, error))?;
        Ok(found.id == id && place.is_still(fs, name, id)?)
    }

    fn remove(&mut self, place: &Place<F>, orphan: &Orphan<F>, reason: &str) {
        let shown = place.shown(&orphan.name);
        if self.options.dry_run {
            return self.note(shown, Act::Removed, None, reason);
        }
        // A name that is known beforehand may be somebody else's new file by now.
        match place.is_still(self.fs, &orphan.name, orphan.metadata.id) {
            Ok(true) => {}
            Ok(false) => return,
            Err(failure) => return self.failed(shown, failure.into()),
        }
        match uninterrupted(|| self.fs.remove(&place.dir, &orphan.name)) {
            Ok(()) => self.note(shown, Act::Removed, None, reason),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.failed(shown.clone(), Failure::at("unlink", shown, error).into()),
        }
    }
}
