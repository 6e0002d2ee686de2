//! A write on its way: stage the bytes in a temp file, sync them, rename the file over the
//! target, sync the rename.
//!
//! It has no threads of its own, and waits only for the disk. Every write goes this way: single
//! ones, streams, JSON updates, backups and their return.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::attempt::{AttemptError, Destination, WriteAttempt};
use super::durability::SyncSequence;
use super::events::WriteEvent;
use super::publish::{self, PublishedAs};
use super::temp_file::{TempFile, check_replaceable};
use super::{dir_hook, failed_syncs, parent_dirs};
use crate::error::Failure;
use crate::fs::{File, FileSystem, SyncRules};
use crate::metrics::METRICS;
use crate::resolve::{self, Target};
use crate::temp_name;
use crate::vocabulary::Durability;

/// A temp file and the target that it is to become.
pub(crate) struct StagedWrite<F: FileSystem> {
    pub(crate) target: Target<F>,
    pub(crate) temp: TempFile<F>,
    pub(crate) syncs: SyncSequence,
    /// Whether a sync of the whole file system can stand for the syncs of this write.
    pub(crate) syncs_with_others: bool,
    /// Whether what it replaces or removes has to stay open until that is on the disk
    /// ([`SyncRules::reuses_freed`]).
    keeps_freed: bool,
    /// The file that it has replaced, if that is so.
    replaced: Option<File<F>>,
    /// How many bytes the temp file has.
    pub(crate) size: u64,
    begun: Instant,
}

impl<F: FileSystem> StagedWrite<F> {
    /// Makes the first half of an attempt: finds the target, unless it was `found` a moment ago,
    /// and makes the temp file all that the target is to be.
    pub(crate) fn stage(
        fs: &F,
        attempt: &WriteAttempt<'_, F>,
        found: Option<Target<F>>,
    ) -> Result<StagedWrite<F>, AttemptError> {
        let mut staged = StagedWrite::create(fs, attempt, found)?;
        let shown = attempt.observer.map_or(Ok(()), |observer| {
            observer.temp_file_made(&staged.temp_path()).map_err(AttemptError::from)
        });
        let filled = shown.and_then(|()| staged.temp.fill(&attempt.content, attempt.control));
        let filled = filled.and_then(|size| {
            staged.size = size;
            staged.complete(attempt)
        });
        match filled {
            Ok(()) => Ok(staged),
            Err(error) => Err(staged.abandoned(attempt, error)),
        }
    }

    /// Finds the target and makes the temp file, which is still empty.
    pub(crate) fn create(
        fs: &F,
        attempt: &WriteAttempt<'_, F>,
        found: Option<Target<F>>,
    ) -> Result<StagedWrite<F>, AttemptError> {
        METRICS.writes.attempts.add(1);
        let (begun, size) = (Instant::now(), attempt.expected_size());
        let target = match find_target(fs, attempt, found) {
            Ok(target) => target,
            Err(error) => {
                // The temp file is called in the log what it would have been called.
                let name = temp_name::new_name(attempt.path.file_name().unwrap_or_default());
                let dir = attempt.path.parent().unwrap_or(Path::new(""));
                attempt.report(|| WriteEvent::Starting { temp_path: dir.join(&name), size });
                attempt.report(|| failed(dir.join(&name), &error));
                return Err(error);
            }
        };
        let name = temp_name::new_name(&target.name);
        let announced = attempt.observer.map(|_| target.dir.shown(&name)).unwrap_or_default();
        attempt.report(|| WriteEvent::Starting { temp_path: announced.clone(), size });
        let temp = TempFile::create(&target, attempt.options, attempt.model(), name)
            .map_err(AttemptError::from)
            .inspect_err(|error| attempt.report(|| failed(announced, error)))?;
        let durability = attempt.options.durability;
        let rules = match durability {
            Durability::None => SyncRules::default(),
            Durability::File | Durability::Full => {
                fs.sync_rules(temp.file.handle(), temp.metadata.id.device)
            }
        };
        let syncs = durability.sync_sequence(rules);
        let syncs_with_others = rules.syncs_whole && syncs.waits_for_device();
        let keeps_freed = rules.reuses_freed;
        let replaced = None;
        Ok(StagedWrite {
            target,
            temp,
            syncs,
            syncs_with_others,
            keeps_freed,
            replaced,
            size,
            begun,
        })
    }

    /// Gives a temp file that has all its bytes whatever else the target is to have.
    pub(crate) fn complete(&mut self, attempt: &WriteAttempt<'_, F>) -> Result<(), AttemptError> {
        let WriteAttempt { options, control, .. } = attempt;
        self.temp.complete(&self.target, options, attempt.model(), self.size, control)
    }

    /// Makes the second half of an attempt. Returns which of the free names the file took, if it
    /// was to take one.
    pub(crate) fn commit(&mut self, attempt: &WriteAttempt<'_, F>) -> Result<u64, AttemptError> {
        let number = self.publish(attempt)?;
        self.sync_rename().map_err(|error| self.abandoned(attempt, error))?;
        self.completed(attempt);
        Ok(number)
    }

    /// Makes the second half up to the rename, and leaves the sync of the rename to the caller.
    pub(crate) fn publish(&mut self, attempt: &WriteAttempt<'_, F>) -> Result<u64, AttemptError> {
        let published = self.sync_content().map_err(AttemptError::from);
        let published = published.and_then(|()| self.rename(attempt));
        // What follows is one more sync, and if that fails the write is not made again: nothing
        // of it can come over what the next one writes.
        published
            .inspect(|_| attempt.control.release_kept())
            .map_err(|error| self.abandoned(attempt, error))
    }

    /// Does what has to be done for the temp file before its rename. None of these calls is made
    /// again for this file after a failure: see [`FileSystem::sync_file`].
    fn sync_content(&self) -> Result<(), Failure> {
        let file = &self.temp.file;
        match self.syncs {
            SyncSequence::None => file.report_write_errors(),
            SyncSequence::FileBefore | SyncSequence::FileThenDir => file.sync(),
            SyncSequence::BytesBefore | SyncSequence::BytesThenFile => file.await_write_back(),
        }
    }

    /// Gives the temp file its name, unless the write has been cancelled.
    pub(crate) fn rename(&mut self, attempt: &WriteAttempt<'_, F>) -> Result<u64, AttemptError> {
        attempt.report(|| WriteEvent::Written {
            temp_path: self.temp_path(),
            size: self.size,
            duration: self.begun.elapsed(),
        });
        attempt.control.check()?;
        let begun = Instant::now();
        self.update_attributes(attempt)?;
        let number = match attempt.destination {
            Destination::Target if attempt.creates_only() => {
                publish::create(&self.target, &self.temp).map(|()| 0)?
            }
            Destination::Target => {
                if self.keeps_freed {
                    // The one that is about to be replaced. Should another process come in between,
                    // it is that process that has its own file open.
                    self.replaced = self.target.dir.open_to_keep(&self.target.name)?;
                }
                publish::rename(&self.target, &self.temp).map(|()| 0)?
            }
            Destination::FreeName(names) => publish::rename_new(&self.target, &self.temp, names)?,
        };
        attempt.report(|| WriteEvent::Renamed {
            temp_path: self.temp_path(),
            duration: begun.elapsed(),
        });
        Ok(number)
    }

    /// Gives the temp file the attributes that the file which it is like has at this moment.
    fn update_attributes(&self, attempt: &WriteAttempt<'_, F>) -> Result<(), AttemptError> {
        let StagedWrite { target, temp, .. } = self;
        let (options, model) = (attempt.options, attempt.model());
        let has_changed = match attempt.destination {
            Destination::Target if !attempt.creates_only() => {
                temp.update_from_target(target, options, model)?
            }
            Destination::Target | Destination::FreeName(_) => {
                temp.update_attributes(target, None, options, model)?
            }
        };
        let are_synced = matches!(self.syncs, SyncSequence::FileBefore | SyncSequence::FileThenDir);
        if has_changed && are_synced {
            // As they were before.
            temp.file.sync()?;
        }
        Ok(())
    }

    /// Makes the rename as durable as was asked for. A failure comes after the fact: the new
    /// content is in place, but a power cut may bring the old one back.
    fn sync_rename(&self) -> Result<(), AttemptError> {
        let synced = match self.syncs {
            SyncSequence::None | SyncSequence::FileBefore | SyncSequence::BytesBefore => {
                return Ok(());
            }
            SyncSequence::FileThenDir => self.target.dir.sync(Some(&self.temp.file)),
            SyncSequence::BytesThenFile => self.sync_target(),
        };
        synced.map_err(|failure| AttemptError { kind: failure.into(), committed: true })
    }

    /// Makes the file that is now the target durable, its name included.
    fn sync_target(&self) -> Result<(), Failure> {
        let StagedWrite { target, temp, .. } = self;
        temp.file.sync().map_err(|failure| failure.on(target.path()))?;
        if publish::look(target, temp, &target.name) == PublishedAs::Ours {
            return Ok(());
        }
        // Another process's file has taken its place already, and a file system may do nothing
        // for a file that has no name left (btrfs does not). Then what was there before might
        // come back, although this write was acknowledged. The file that is there now has to
        // stay, with its bytes.
        match temp.file.sync_file_system() {
            // A sandbox forbids it.
            Err(failure) if failure.is_refused_call() => match target.dir.open_file(&target.name) {
                Ok(there) => there.sync().map_err(|failure| failure.on(target.path())),
                Err(failure) => Err(failure),
            },
            synced => synced.map_err(|failure| failure.on(target.path())),
        }
    }

    /// Reports that the attempt has succeeded.
    pub(crate) fn completed(&self, attempt: &WriteAttempt<'_, F>) {
        METRICS.writes.bytes.add(self.size);
        attempt
            .report(|| WriteEvent::Completed { size: self.size, duration: self.begun.elapsed() });
    }

    /// Ends a failed attempt: removes the temp file, unless it is in the target's place.
    pub(crate) fn abandoned(
        &self,
        attempt: &WriteAttempt<'_, F>,
        error: AttemptError,
    ) -> AttemptError {
        attempt.report(|| failed(self.temp_path(), &error));
        match error.committed {
            true => {
                failed_syncs::record_failed_sync(self.temp.metadata.id);
                if self.replaced.is_some() {
                    // When this ends, the blocks of the file that was replaced are free. The
                    // name should not lead to them any more; the first error is the one to report.
                    let _ = self.target.dir.sync(Some(&self.temp.file));
                }
            }
            false => self.remove(attempt),
        }
        error
    }

    /// Removes the temp file.
    pub(crate) fn remove(&self, attempt: &WriteAttempt<'_, F>) {
        let removed = self.target.dir.remove(&self.temp.name);
        if self.keeps_freed && removed.is_ok() {
            // Otherwise it might come back with the bytes of another file, for a recovery to find.
            // Until this returns it is open; a failure leaves a temp file at worst.
            let _ = self.target.dir.sync(Some(&self.temp.file));
        }
        attempt.report(|| match removed {
            Ok(()) => WriteEvent::CleanedUp { temp_path: self.temp_path() },
            Err(failure) => {
                WriteEvent::CleanupFailed { temp_path: self.temp_path(), code: failure.code_name() }
            }
        });
    }

    pub(crate) fn device(&self) -> u64 {
        self.temp.metadata.id.device
    }

    pub(crate) fn temp_path(&self) -> PathBuf {
        self.target.dir.shown(&self.temp.name)
    }
}

fn failed(temp_path: PathBuf, error: &AttemptError) -> WriteEvent {
    WriteEvent::Failed { temp_path, code: error.kind.code(), message: error.kind.to_string() }
}

fn find_target<F: FileSystem>(
    fs: &F,
    attempt: &WriteAttempt<'_, F>,
    found: Option<Target<F>>,
) -> Result<Target<F>, AttemptError> {
    attempt.control.check()?;
    let (path, options) = (attempt.path, attempt.options);
    if options.make_dirs {
        parent_dirs::make_parents(fs, path, options.durability)?;
    }
    let mut target = match found {
        Some(target) => target,
        None => resolve::target(fs, path, options.follow_symlinks, options.dir_use())?,
    };
    options.guarded().map_or(Ok(()), |only| target.must_be(only))?;
    dir_hook::report(&target.dir);
    match attempt.destination {
        Destination::Target if attempt.creates_only() && target.existing.is_some() => {
            return Err(publish::exists(&target).into());
        }
        Destination::Target => check_replaceable(&target, target.existing.as_ref())?,
        // The new file replaces nothing, whatever has that name.
        Destination::FreeName(_) => target.existing = None,
    }
    Ok(target)
}
