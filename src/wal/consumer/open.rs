//! A consumer that is open. Its owner holds its lock.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::position::{CONSUMERS, ConsumerPosition, position_file};
use crate::error::{Code, ErrorKind, Failure, WalError};
use crate::fs::{Dir, DirUse, FileSystem, if_there};
use crate::mutex::guard;
use crate::temp_name::is_temp_name;
use crate::wal::append_error::AppendError;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::dirs::make_collection_dir;
use crate::wal::names_lock::lock_names;
use crate::wal::note::write_note;

/// A reader of a collection whose position is kept.
///
/// # Crash safety
///
/// When [`Consumer::acknowledge`] has answered, the position is that one after any crash; before, it
/// is that one or the one before.
pub struct Consumer<F: FileSystem> {
    dir: Arc<Dir<F>>,
    /// How far it has got. Held while that is written.
    position: Mutex<ConsumerPosition>,
}

impl<F: FileSystem> Consumer<F> {
    /// Opens a consumer of the log in the directory at `path`, or makes it. A new one begins with the
    /// number `from`, or with the first that is not released, and from now on nothing is released
    /// that it has not acknowledged.
    ///
    /// # Errors
    ///
    /// [`WalError::Released`] for a new one when `from` has been released, [`WalError::Damaged`] when
    /// its position cannot be read; otherwise what the system says.
    pub fn open(
        fs: &F,
        path: &Path,
        collection: &str,
        consumer: &str,
        from: Option<u64>,
    ) -> Result<Consumer<F>, ErrorKind> {
        make_consumers_dir(fs, path)?;
        let log = Dir::open(fs, path, DirUse::NamesAndSync)?;
        let dir = Arc::new(log.open_dir(CONSUMERS.as_ref(), DirUse::NamesAndSync)?);
        remove_leftovers(&dir, &position_file(collection, consumer))?;
        if let Some(position) = ConsumerPosition::read(&dir, collection, consumer)? {
            return Ok(Consumer { dir, position: Mutex::new(position) });
        }
        let (collection, consumer) = (collection.to_owned(), consumer.to_owned());
        let own = Consumer {
            dir,
            position: Mutex::new(ConsumerPosition { collection, consumer, position: 0 }),
        };
        own.begin(&log, from)?;
        Ok(own)
    }

    /// Finds the position of a new consumer. It is known first: a checkpoint that has not seen it was
    /// made before, and is seen here.
    fn begin(&self, log: &Dir<F>, from: Option<u64>) -> Result<(), ErrorKind> {
        let mut position = guard(&self.position);
        self.write(&position)?;
        let first = first_of(log, &position.collection);
        let begins = first.and_then(|first| match from {
            Some(asked) if asked < first && first > 1 => {
                Err(WalError::Released { asked, first }.into())
            }
            from => Ok(from.unwrap_or(first).max(1)),
        });
        match begins {
            Ok(1) => Ok(()),
            Ok(first) => {
                position.position = first - 1;
                self.write(&position)
            }
            Err(kind) => {
                // It has not come to be.
                self.remove_position(&position)?;
                Err(kind)
            }
        }
    }

    /// The last number that it has acknowledged.
    pub fn position(&self) -> u64 {
        guard(&self.position).position
    }

    /// Moves the position up to a number, and makes that durable. It never goes back.
    ///
    /// # Errors
    ///
    /// What the system says. The position is then the one before, or already the new one.
    pub fn acknowledge(&self, up_to: u64) -> Result<(), ErrorKind> {
        let mut position = guard(&self.position);
        if up_to > position.position {
            let next = ConsumerPosition { position: up_to, ..position.clone() };
            self.write(&next)?;
            *position = next;
        }
        Ok(())
    }

    /// Removes the consumer: it holds nothing back any more.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn remove(&self) -> Result<(), ErrorKind> {
        let position = guard(&self.position);
        self.remove_position(&position)
    }

    fn remove_position(&self, position: &ConsumerPosition) -> Result<(), ErrorKind> {
        let name = position_file(&position.collection, &position.consumer);
        self.dir.remove_if_there(name.as_ref())?;
        Ok(self.dir.sync(None)?)
    }

    fn write(&self, position: &ConsumerPosition) -> Result<(), ErrorKind> {
        let name = position_file(&position.collection, &position.consumer);
        Ok(write_note(&self.dir, &name, &position.text()).map_err(AppendError::into_failure)?)
    }
}

/// Removes what a process that was killed has left of a write of the position. The lock says that no
/// other process is writing it.
fn remove_leftovers<F: FileSystem>(dir: &Dir<F>, file: &str) -> Result<(), Failure> {
    let names = match dir.names() {
        // Who may not list the directory has no way to find them.
        Err(failure) if failure.code() == Some(Code::EACCES) => return Ok(()),
        names => names?,
    };
    let beginning = format!(".{file}.");
    let is_own = |name: &str| name.starts_with(&beginning) && is_temp_name(name.as_ref());
    for name in names.iter().filter(|name| name.to_str().is_some_and(is_own)) {
        dir.remove_if_there(name)?;
    }
    Ok(())
}

/// The first number of a collection that is not released, when no checkpoint is being made.
fn first_of<F: FileSystem>(log: &Dir<F>, collection: &str) -> Result<u64, ErrorKind> {
    let Some(dir) = if_there(log.open_dir(collection.as_ref(), DirUse::NamesAndSync))? else {
        return Ok(1);
    };
    // Until the directory is closed.
    lock_names(&dir)?;
    let names = dir.names()?;
    let note = Checkpoint::read(&dir, names.iter().filter_map(|name| name.to_str()))?;
    // Where the note cannot be read, nothing is known to be released.
    Ok(note.map_or(0, |note| note.up_to) + 1)
}

/// Makes the directory of the positions of the log in the directory at `path`.
///
/// # Errors
///
/// There is no such log, or the system refuses.
pub fn make_consumers_dir<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    make_collection_dir(&Dir::open(fs, path, DirUse::NamesAndSync)?, CONSUMERS.as_ref())
}
