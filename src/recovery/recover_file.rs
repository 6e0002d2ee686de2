//! Decides what becomes of one file and of what is left beside it.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::time::SystemTime;

use super::action::{ActionKind, RecoveryAction};
use super::context::RecoveryContext;
use super::file_state::FileState;
use super::names::{Origin, Remains};
use super::orphan::{self, Orphan, OrphanLock};
use super::promote::Promotion;
use crate::error::{ErrorKind, Failure};
use crate::fs::{Dir, File, FileId, FileSystem, Metadata, if_there};
use crate::json_check::JsonCheck;
use crate::temp_name::is_claim_of;
use crate::write::Control;

/// An orphan, and what was found in it, if that was looked at.
struct Candidate<F: FileSystem> {
    orphan: Box<Orphan<F>>,
    json: Option<JsonCheck>,
    /// Whether all of it may be in the file, which has more.
    has_less: bool,
}

impl<F: FileSystem> Candidate<F> {
    fn is_whole(&self) -> bool {
        self.json == Some(JsonCheck::Whole)
    }

    fn is_backup(&self) -> bool {
        self.orphan.origin == Origin::Backup
    }
}

/// What becomes of a candidate that does not become the file.
enum Disposal {
    Remove(&'static str),
    /// It is the last good copy until the file, if it is still this one, is durable.
    RemoveAfterSync(FileId),
    Leave(&'static str),
    /// A later batch decides.
    Later,
}

/// How many files are looked at, and held open, at a time.
const BATCH: usize = 32;

/// A part of what was left beside one file.
struct RemainsBatch<'a, F: FileSystem> {
    dir: &'a Dir<F>,
    remains: Remains,
    /// Whether the caller has named the file, and not its directory.
    is_requested: bool,
    is_last: bool,
    /// Something in an earlier batch has become the file.
    follows_file: bool,
    /// How many actions there were before this file.
    actions_before: usize,
}

const NOT_WHOLE: &str = "it is not one whole JSON object or array";
const CUT: &str = "the name of its file is cut short in its own, so it may be another's";
const LESS: &str = "it has less than the file, which may be good though it is not one JSON text";
const UNTRUSTED: &str = "it is another user's, in a folder that is open to all";
const LOCKED: &str = "the lock of its file is held by another caller";
pub(super) const CHANGED: &str = "another program has changed the file meanwhile";

impl<F: FileSystem> RecoveryContext<'_, F> {
    /// Decides, and does it. What cannot be done is among the actions.
    ///
    /// A program that crashes again and again may have left thousands of temp files of one file,
    /// more than a process may have open: they are dealt with in batches, the newest first.
    pub(super) fn recover_file(&mut self, dir: &Dir<F>, remains: &Remains, is_requested: bool) {
        if self.decided.iter().any(|transaction| transaction.changes(&remains.file)) {
            let reason = "it belongs to a transaction that was decided and is not finished";
            return self.left(dir.shown(&remains.file), reason);
        }
        let mut batch = RemainsBatch {
            dir,
            remains: remains.clone(),
            is_requested,
            is_last: true,
            follows_file: false,
            actions_before: self.actions.len(),
        };
        if remains.names.len() <= BATCH {
            self.recover_batch(&batch);
            return;
        }
        let mut names = remains.names.clone();
        names.sort_by_cached_key(|(name, _, _)| {
            // What is gone by now is last.
            Reverse(dir.modified(name).ok().flatten().unwrap_or(SystemTime::UNIX_EPOCH))
        });
        // The backup may be needed at the end such as it is, if nothing better has been found.
        let backup = names.iter().position(|(_, origin, _)| *origin == Origin::Backup);
        let comes_again = backup.is_some_and(|index| index / BATCH != names.len() / BATCH);
        if comes_again {
            names.extend(backup.and_then(|index| names.get(index).cloned()));
        }
        let mut parts = names.chunks(BATCH).peekable();
        while let Some(part) = parts.next() {
            if let Err(cancelled) = self.control.check() {
                return self.failed(dir.shown(&remains.file), cancelled);
            }
            batch.is_last = parts.peek().is_none();
            batch.remains.names = part.to_vec();
            if batch.is_last && comes_again && batch.follows_file {
                // It has been dealt with.
                batch.remains.names.pop();
            }
            batch.follows_file |= self.recover_batch(&batch);
        }
    }

    /// Says whether something has become the file.
    fn recover_batch(&mut self, batch: &RemainsBatch<'_, F>) -> bool {
        let mut candidates = self.lock_candidates(batch);
        if candidates.is_empty() && !batch.is_requested && !self.options.backups {
            return false;
        }
        let Some((mut state, mut chosen)) = self.decide(batch, &mut candidates) else {
            return false;
        };
        let changes_file = chosen.is_some()
            || batch.is_last
                && !self.leaves_remains(batch)
                && self.restores_backup(batch.dir, &batch.remains.file, &state)
            || matches!(state, FileState::Good(_))
                && candidates.iter().any(Candidate::is_backup)
                && !self.only_sweeps;
        // Until all is done.
        let _lock;
        if changes_file && !self.options.dry_run {
            let path = batch.dir.shown(&batch.remains.file);
            match (self.try_lock)(&path) {
                Ok(Some(lock)) => _lock = lock,
                Ok(None) => {
                    if candidates.is_empty() {
                        self.left(path, "its lock is held by another caller");
                    }
                    for candidate in candidates {
                        self.left(batch.dir.shown(&candidate.orphan.name), LOCKED);
                    }
                    return false;
                }
                Err(kind) => {
                    self.failed(path, kind);
                    return false;
                }
            }
            // The file may have been written while the lock was being taken.
            match self.decide(batch, &mut candidates) {
                Some(again) => (state, chosen) = again,
                None => return false,
            }
        }
        match chosen {
            Some(index) => self.put_in_place(batch, candidates, index, &state),
            None => {
                let is_clear = !self.leaves_remains(batch);
                let file = &batch.remains.file;
                let is_restored =
                    batch.is_last && self.restore_backup(batch.dir, file, &state, is_clear);
                self.clean_up(batch, candidates, &state);
                is_restored
            }
        }
    }

    /// Whether something may be left of the file that has not been dealt with, and is newer than any
    /// backup.
    fn leaves_remains(&self, batch: &RemainsBatch<'_, F>) -> bool {
        let is_open =
            |action: &RecoveryAction| matches!(action.kind, ActionKind::Left | ActionKind::Failed);
        self.actions.iter().enumerate().any(|(number, action)| {
            // If the directory could not be listed, that is told first.
            is_open(action) && (number >= batch.actions_before || action.path == batch.dir.path())
        })
    }

    fn lock_candidates(&mut self, batch: &RemainsBatch<'_, F>) -> Vec<Candidate<F>> {
        let (dir, set_aside, min_age) = (batch.dir, batch.remains.set_aside, self.options.min_age);
        let now = self.now + self.begun.elapsed();
        let mut candidates = Vec::new();
        for (name, origin, is_certain) in &batch.remains.names {
            let which = (name.as_os_str(), *origin, *is_certain);
            match orphan::lock_orphan(dir, which, set_aside, min_age, now) {
                Ok(OrphanLock::Locked(orphan)) => match dir.trusts(&orphan.metadata) {
                    Ok(true) => candidates.push(Candidate { orphan, json: None, has_less: false }),
                    Ok(false) => {
                        self.left(dir.shown(name), UNTRUSTED);
                    }
                    Err(failure) => self.failed(dir.shown(name), failure),
                },
                Ok(OrphanLock::Left(reason)) => self.left(dir.shown(name), reason),
                Ok(OrphanLock::Gone) => {}
                Err(failure) if failure.is_not_found() => {}
                Err(failure) => self.failed(dir.shown(name), failure),
            }
        }
        candidates
    }

    /// Looks at the file, and chooses which candidate is to become the file, if any. `None` if the
    /// file cannot be looked at.
    fn decide(
        &mut self,
        batch: &RemainsBatch<'_, F>,
        candidates: &mut Vec<Candidate<F>>,
    ) -> Option<(FileState, Option<usize>)> {
        let inspected = match batch.follows_file && self.options.dry_run {
            // It would be by now.
            true => Ok(FileState::Good(FileId { device: 0, inode: 0 })),
            false => self.inspect(batch.dir, &batch.remains.file),
        };
        match inspected {
            Ok(found) => {
                let is_claimed = |candidate: &Candidate<F>| {
                    is_claim_of(&candidate.orphan.name, &batch.remains.file)
                };
                let state = match found.is_empty() && candidates.iter().any(is_claimed) {
                    // It is only the placeholder of a file that was about to get this name.
                    true => FileState::Missing,
                    false => found,
                };
                if state.is_bad() {
                    self.check_candidates(batch.dir, candidates);
                }
                if let FileState::Corrupt(file, _, is_dialect) = &state {
                    let which = (batch.remains.file.as_os_str(), file, *is_dialect);
                    self.compare_candidates(batch.dir, which, candidates);
                }
                let chosen = self.choose(batch, candidates, &state);
                Some((state, chosen))
            }
            Err(error) => {
                self.failed(batch.dir.shown(&batch.remains.file), error);
                None
            }
        }
    }

    /// Finds out which candidates have less than the file: those that it begins with, and, if it
    /// is like JSON, those that are smaller.
    fn compare_candidates(
        &mut self,
        dir: &Dir<F>,
        (name, file, is_dialect): (&OsStr, &Metadata, bool),
        candidates: &mut Vec<Candidate<F>>,
    ) {
        candidates.retain_mut(|candidate| {
            let Orphan { file: own, metadata, .. } = &*candidate.orphan;
            if candidate.is_backup() || metadata.size >= file.size {
                candidate.has_less = false;
                return true;
            }
            let compared = match is_dialect {
                true => Ok(true),
                false => dir
                    .open_file(name)
                    .map_err(ErrorKind::from)
                    .and_then(|file| begins_with(&file, own, self.control)),
            };
            match compared {
                Ok(has_less) => candidate.has_less = has_less,
                Err(kind) => {
                    self.failed(dir.shown(&candidate.orphan.name), kind);
                    return false;
                }
            }
            true
        });
    }

    /// Looks into what was left.
    fn check_candidates(&mut self, dir: &Dir<F>, candidates: &mut Vec<Candidate<F>>) {
        candidates.retain_mut(|candidate| {
            if candidate.json.is_some() {
                return true;
            }
            match JsonCheck::of(&candidate.orphan.file, self.control) {
                Ok(json) => candidate.json = Some(json),
                Err(kind) => self.failed(dir.shown(&candidate.orphan.name), kind),
            }
            candidate.json.is_some()
        });
    }

    /// Which candidate is to become the file, if any.
    fn choose(
        &self,
        batch: &RemainsBatch<'_, F>,
        candidates: &[Candidate<F>],
        state: &FileState,
    ) -> Option<usize> {
        if self.only_sweeps || !state.is_bad() {
            return None;
        }
        let Remains { file, set_aside, .. } = &batch.remains;
        let must_be_json = self.must_be_json(file);
        let may_be = |candidate: &Candidate<F>| match candidate.orphan.origin {
            Origin::Backup => {
                !must_be_json
                    || matches!(candidate.json, Some(JsonCheck::Whole | JsonCheck::Scalar))
            }
            Origin::Temp | Origin::LegacyTemp => {
                let is_wanted = matches!(state, FileState::Corrupt(..))
                    || self.promotes
                    || orphan::was_interrupted(candidate.orphan.modified, *set_aside);
                is_wanted
                    && candidate.is_whole()
                    && candidate.orphan.is_certain
                    && !candidate.has_less
            }
        };
        let rank = |candidate: &Candidate<F>| {
            let Orphan { modified, origin, name, .. } = &*candidate.orphan;
            (*modified, *origin, Reverse(name.clone()))
        };
        let newest = candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| may_be(candidate))
            .max_by_key(|(_, candidate)| rank(candidate))
            .map(|(index, _)| index);
        // A backup that is not as it should be is still better than no file.
        newest.or_else(|| {
            let is_missing = matches!(state, FileState::Missing);
            candidates.iter().position(Candidate::is_backup).filter(|_| batch.is_last && is_missing)
        })
    }

    /// Makes the chosen candidate the file, and then removes the others. Says whether it is.
    fn put_in_place(
        &mut self,
        batch: &RemainsBatch<'_, F>,
        mut candidates: Vec<Candidate<F>>,
        chosen: usize,
        state: &FileState,
    ) -> bool {
        let dir = batch.dir;
        if !candidates.iter().all(|candidate| self.remove_placeholder(batch, candidate)) {
            return false;
        }
        let is_promoted = self.promote_chosen(batch, &candidates.remove(chosen), state);
        if is_promoted {
            for candidate in &candidates {
                if !candidate.orphan.is_certain && batch.is_requested {
                    self.left(dir.shown(&candidate.orphan.name), CUT);
                } else if !candidate.is_backup() && !candidate.is_whole() {
                    self.remove(dir, &candidate.orphan, NOT_WHOLE);
                } else {
                    self.remove(dir, &candidate.orphan, "the file has been recovered without it");
                }
            }
            self.end_removals(dir, &candidates);
        }
        is_promoted
    }

    fn promote_chosen(
        &mut self,
        batch: &RemainsBatch<'_, F>,
        chosen: &Candidate<F>,
        state: &FileState,
    ) -> bool {
        let RemainsBatch { dir, remains, .. } = batch;
        let (path, name) = (dir.shown(&remains.file), dir.shown(&chosen.orphan.name));
        let corrupt = match state {
            FileState::Corrupt(metadata, why, _) => Some((metadata, why)),
            _ => None,
        };
        let replaced = corrupt.map(|(metadata, _)| metadata);
        match self.promote(dir, &chosen.orphan, &remains.file, replaced) {
            Ok(Promotion { aside, is_in_place: true }) => {
                if let (Some(aside), Some((_, why))) = (aside, corrupt) {
                    self.note(path.clone(), ActionKind::SetAside, Some(dir.shown(&aside)), why);
                }
                let is_restored = corrupt.is_some()
                    || chosen.is_backup()
                    || orphan::was_interrupted(chosen.orphan.modified, remains.set_aside);
                let kind = if is_restored { ActionKind::Restored } else { ActionKind::Promoted };
                let reason = match corrupt {
                    Some(_) => "it is good, and the file was not",
                    None => "the file was missing",
                };
                self.note(name, kind, Some(path), reason);
                true
            }
            Ok(_) => {
                self.left(name, CHANGED);
                false
            }
            Err(error) => {
                self.failed(name, error);
                false
            }
        }
    }

    /// Removes the placeholder that a claim has made. `false` if that fails, which is reported.
    fn remove_placeholder(
        &mut self,
        batch: &RemainsBatch<'_, F>,
        candidate: &Candidate<F>,
    ) -> bool {
        let (dir, file) = (batch.dir, &batch.remains.file);
        if self.options.dry_run || !is_claim_of(&candidate.orphan.name, file) {
            return true;
        }
        match dir.remove_placeholder(&candidate.orphan.name, file) {
            Ok(_) => true,
            Err(failure) => {
                self.failed(dir.shown(file), failure);
                false
            }
        }
    }

    /// Removes what is of no use, where nothing becomes the file.
    fn clean_up(
        &mut self,
        batch: &RemainsBatch<'_, F>,
        mut candidates: Vec<Candidate<F>>,
        state: &FileState,
    ) {
        let RemainsBatch { dir, remains, .. } = batch;
        // The backup goes last: until then it is the one copy that is surely good.
        candidates.sort_by_key(|candidate| Reverse(candidate.orphan.origin));
        for candidate in &candidates {
            let (orphan, path) = (&candidate.orphan, dir.shown(&candidate.orphan.name));
            match self.dispose(batch, candidate, state) {
                Disposal::Later => {}
                Disposal::Leave(reason) => self.left(path, reason),
                Disposal::Remove(reason) => {
                    if self.remove_placeholder(batch, candidate) {
                        self.remove(dir, orphan, reason);
                    }
                }
                Disposal::RemoveAfterSync(id) => match self.sync_good(dir, &remains.file, id) {
                    Ok(true) => self.remove(dir, orphan, "the file is there and good"),
                    Ok(false) => self.left(path, CHANGED),
                    Err(failure) => self.failed(path, failure),
                },
            }
        }
        self.end_removals(dir, &candidates);
    }

    /// Where the blocks of what was removed may be used again before that is on the disk, brings it
    /// there while they are open: what came back would have bytes of another file, and might be
    /// taken for what was left of this one.
    fn end_removals(&mut self, dir: &Dir<F>, candidates: &[Candidate<F>]) {
        let Some(Candidate { orphan, .. }) = candidates.first() else { return };
        let Orphan { file, metadata, .. } = &**orphan;
        if self.options.dry_run || !dir.sync_rules(metadata.id.device).reuses_freed {
            return;
        }
        if let Err(failure) = dir.sync(Some(file)) {
            self.failed(dir.path().to_owned(), failure);
        }
    }

    fn dispose(
        &self,
        batch: &RemainsBatch<'_, F>,
        candidate: &Candidate<F>,
        state: &FileState,
    ) -> Disposal {
        use FileState::{Corrupt, Empty, Good, Missing, Other};
        let (orphan, is_temp) = (&candidate.orphan, !candidate.is_backup());
        match state {
            Missing | Corrupt(..) if is_temp && !candidate.is_whole() => {
                Disposal::Remove(NOT_WHOLE)
            }
            _ if is_temp && !orphan.is_certain && batch.is_requested => Disposal::Leave(CUT),
            Missing | Corrupt(..) if is_temp && self.only_sweeps => {
                Disposal::Leave("it is whole, and its file is not")
            }
            Corrupt(..) if is_temp && candidate.has_less => Disposal::Leave(LESS),
            Missing if is_temp && self.promotes => Disposal::Leave(CUT),
            Missing if is_temp => Disposal::Remove("its file does not exist, and `promote` is off"),
            Missing | Corrupt(..) if !batch.is_last => Disposal::Later,
            Missing | Corrupt(..) => Disposal::Leave("it is not good either"),
            Other if orphan.origin == Origin::Temp => {
                Disposal::Remove("what it was to become is no file")
            }
            Other => Disposal::Leave("what has the name of its file is no file"),
            Empty(_) if !is_temp && orphan.metadata.size > 0 => {
                Disposal::Leave("the file is empty, and this is not")
            }
            Good(id) | Empty(id) if !is_temp => Disposal::RemoveAfterSync(*id),
            Good(_) | Empty(_) => Disposal::Remove("the file is there: the write was cut off"),
        }
    }

    /// Makes sure that the file outlasts what is about to be removed. `false` if it is another
    /// file by now.
    fn sync_good(&self, dir: &Dir<F>, name: &OsStr, id: FileId) -> Result<bool, Failure> {
        if self.options.dry_run {
            return Ok(true);
        }
        let shown = |failure: Failure| failure.on(dir.shown(name));
        let file = dir.open_file(name)?;
        file.sync().map_err(shown)?;
        dir.sync(Some(&file))?;
        Ok(file.metadata().map_err(shown)?.id == id && dir.leads_to(name, id)?)
    }

    fn remove(&mut self, dir: &Dir<F>, orphan: &Orphan<F>, reason: &str) {
        let (name, path) = (&orphan.name, dir.shown(&orphan.name));
        if self.options.dry_run {
            return self.note(path, ActionKind::Removed, None, reason);
        }
        // A name that is known beforehand may be another program's new file by now.
        let removed = match dir.leads_to(name, orphan.metadata.id) {
            Ok(true) => if_there(dir.remove(name)),
            Ok(false) => return,
            Err(failure) => Err(failure),
        };
        match removed {
            Ok(Some(())) => self.note(path, ActionKind::Removed, None, reason),
            Ok(None) => {}
            Err(failure) => self.failed(path, failure),
        }
    }
}

/// Whether a file begins with all the bytes of another one.
fn begins_with<F: FileSystem>(
    file: &File<F>,
    beginning: &File<F>,
    control: &Control,
) -> Result<bool, ErrorKind> {
    let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut offset = 0;
    loop {
        control.check()?;
        let count = beginning.read_up_to(&mut one, offset)?;
        if count == 0 {
            return Ok(true);
        }
        let room = other.get_mut(..count).unwrap_or_default();
        if file.read_up_to(room, offset)? < count || one.get(..count) != other.get(..count) {
            return Ok(false);
        }
        offset += count as u64;
    }
}
