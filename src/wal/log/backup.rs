//! Copies a log that is open, as of one moment.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::collection::{Collection, CollectionState};
use super::open::Log;
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileSystem};
use crate::mutex::guard;
use crate::threads::blocking;
use crate::wal::backup::{CollectionCut, copy_collection, copy_consumers, remove_tree};
use crate::wal::checkpoint::Checkpoint;
use crate::wal::consumer::positions;
use crate::wal::dirs::sync_names;

/// What a copy is called until it is complete.
const PARTIAL: &str = ".holdfast-backup.";

/// How long a copy that no process is making any more has not been changed before it is removed.
const ABANDONED: Duration = Duration::from_secs(60);

impl<F: FileSystem> Log<F> {
    /// Makes a copy of the log at `target`, where there must be nothing: all collections as of one
    /// moment, with everything whose append had resolved when this was called. Appends go on
    /// meanwhile. When it returns the copy is durable.
    ///
    /// # Errors
    ///
    /// `EEXIST` when there is something at `target`; the log is closed or poisoned, or the system
    /// refuses. Then there is nothing at `target`.
    pub fn backup(&self, target: &Path) -> Result<(), ErrorKind> {
        self.check_usable()?;
        let (parent, name) = parent_of(target)?;
        let parent = Dir::open(self.dir.fs(), parent, DirUse::NamesAndSync)?;
        if parent.look(name)?.is_some() {
            return Err(Failure::at("mkdir", target, Code::EEXIST.error()).into());
        }
        if parent.metadata()?.id == self.dir.metadata()?.id {
            // It would be a collection there.
            return Err(Failure::at("mkdir", target, Code::EINVAL.error()).into());
        }
        let _one_at_a_time = match self.backups.try_lock() {
            Ok(turn) => turn,
            Err(_) => blocking(|| guard(&self.backups)),
        };
        remove_abandoned(&parent)?;
        let partial = OsString::from(format!("{PARTIAL}{:016x}", rand::random::<u64>()));
        Dir::make(self.dir.fs(), &parent.shown(&partial))?;
        let copied = self.copy_to(&parent, &partial).and_then(|()| {
            parent.rename_dir(&partial, name)?;
            Ok(sync_names(&parent).inspect_err(|_| drop(remove_tree(&parent, name)))?)
        });
        if copied.is_err() {
            // If it stays, the next backup removes it.
            let _ = remove_tree(&parent, &partial);
        }
        copied
    }

    fn copy_to(&self, parent: &Dir<F>, partial: &OsStr) -> Result<(), ErrorKind> {
        let copy = parent.open_dir(partial, DirUse::NamesAndSync)?;
        // It says that the copy is being made. No process has locked it before.
        copy.try_lock()?;
        // Before the moment of the copy: so no position is behind its end.
        let consumers = positions(&self.dir, None)?;
        let mut holds = Vec::new();
        let cuts = self.cut(&mut holds)?;
        for cut in &cuts {
            copy_collection(&self.dir, &copy, cut)?;
        }
        copy_consumers(&copy, &consumers)?;
        sync_names(&copy)?;
        for hold in holds {
            hold.end()?;
        }
        Ok(())
    }

    /// What there is of each collection at one moment. None of its segments is released until the holds
    /// have ended.
    fn cut<'a>(&'a self, holds: &mut Vec<Hold<'a, F>>) -> Result<Vec<CollectionCut>, ErrorKind> {
        loop {
            let all: Vec<_> = {
                let collections = guard(&self.collections);
                collections.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
            };
            for (name, collection) in &all {
                if !holds.iter().any(|hold| hold.name == *name) {
                    holds.push(Hold::begin(self, name.clone(), Arc::clone(collection)));
                }
            }
            // No append is between its write and its end while all are locked.
            let states: Vec<_> = all.iter().map(|(_, collection)| locked(collection)).collect();
            if guard(&self.collections).len() != all.len() {
                // Another has come meanwhile.
                continue;
            }
            self.check_usable()?;
            let cuts = all.iter().zip(&states).filter_map(|((name, _), state)| {
                let note = holds.iter().find(|hold| hold.name == *name)?.note;
                let (sealed, current, end) = match (&state.writer, &state.resting) {
                    (Some(writer), _) => (&writer.sealed, writer.header.number, writer.end),
                    (None, Some(resting)) => resting.extent(),
                    (None, None) => return None,
                };
                let sealed = sealed.iter().map(|segment| segment.number);
                Some(CollectionCut {
                    name: name.clone(),
                    note,
                    sealed: sealed.filter(|number| *number >= note.first_segment).collect(),
                    current,
                    end,
                })
            });
            return Ok(cuts.collect());
        }
    }
}

fn locked<F: FileSystem>(collection: &Collection<F>) -> MutexGuard<'_, CollectionState<F>> {
    match collection.state.try_lock() {
        Ok(state) => state,
        Err(_) => blocking(|| guard(&collection.state)),
    }
}

/// Keeps the segments of a collection from being released.
struct Hold<'a, F: FileSystem> {
    log: &'a Log<F>,
    name: String,
    collection: Arc<Collection<F>>,
    /// The last checkpoint when it began.
    note: Checkpoint,
}

impl<F: FileSystem> Hold<'_, F> {
    fn begin(log: &Log<F>, name: String, collection: Arc<Collection<F>>) -> Hold<'_, F> {
        let mut last = match collection.checkpoint.try_lock() {
            Ok(last) => last,
            Err(_) => blocking(|| guard(&collection.checkpoint)),
        };
        last.holds += 1;
        let note = last.note;
        drop(last);
        Hold { log, name, collection, note }
    }

    /// Ends it, and releases what checkpoints have released meanwhile.
    fn end(self) -> Result<(), ErrorKind> {
        let (log, name, is_more) = (self.log, self.name.clone(), self.is_more());
        drop(self);
        match is_more && log.check_usable().is_ok() {
            true => log.release_again(&name),
            false => Ok(()),
        }
    }

    fn is_more(&self) -> bool {
        guard(&self.collection.checkpoint).note != self.note
    }
}

impl<F: FileSystem> Drop for Hold<'_, F> {
    fn drop(&mut self) {
        guard(&self.collection.checkpoint).holds -= 1;
    }
}

/// The directory above a path, and the name in it.
fn parent_of(target: &Path) -> Result<(&Path, &OsStr), Failure> {
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Failure::at("mkdir", target, Code::EEXIST.error())),
    }
}

/// Removes copies that processes have left which are gone.
fn remove_abandoned<F: FileSystem>(parent: &Dir<F>) -> Result<(), Failure> {
    let names = match parent.names() {
        // Who may not list it has no way to find them.
        Err(failure) if failure.code() == Some(Code::EACCES) => return Ok(()),
        names => names?,
    };
    for name in names.iter().filter(|name| name.to_str().is_some_and(is_partial)) {
        let Ok(dir) = parent.open_dir(name, DirUse::NamesAndSync) else { continue };
        // Where there are no locks only the time tells.
        let is_old = dir.own_modified()?.elapsed().is_ok_and(|age| age > ABANDONED);
        if is_old && dir.try_lock()? {
            // Another process may be doing the same.
            let _ = remove_tree(parent, name);
        }
    }
    Ok(())
}

fn is_partial(name: &str) -> bool {
    name.strip_prefix(PARTIAL)
        .is_some_and(|random| random.len() == 16 && random.bytes().all(|it| it.is_ascii_hexdigit()))
}
