//! Checkpoints: what of a collection is not needed any more.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Collection, Log};
use crate::error::Code;
use crate::error::WalError;
use crate::error::{ErrorKind, Failure};
use crate::fs::{FileSystem, uninterrupted};
use crate::mutex::guard;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::memtable::Memtable;
use crate::wal::segments::{SPARE, sealed};
use crate::wal::writer::{AppendError, rename};

/// How many entries of a memtable are dropped before others get their turns.
const RELEASED_AT_ONCE: usize = 4096;

impl<F: FileSystem + Clone> Log<F> {
    /// Releases the entries of a collection up to a number: they are no longer shown, and the
    /// sealed segments that have no others are removed, or their space serves again. Appends go
    /// on meanwhile.
    ///
    /// # Errors
    ///
    /// [`WalError::Ahead`] for a number that is not there yet. When the system refuses to write
    /// the note of it, nothing is released; when it refuses to remove a segment, the next
    /// checkpoint tries again.
    pub fn checkpoint(&self, collection: &str, up_to: u64) -> Result<(), ErrorKind> {
        self.check_usable()?;
        let Some(collection_of) = self.existing(collection)? else {
            return if up_to == 0 {
                Ok(())
            } else {
                Err(WalError::Ahead { asked: up_to, last: 0 }.into())
            };
        };
        let mut checkpoint = guard(&collection_of.checkpoint);
        let last = collection_of.visible.load(Ordering::Acquire);
        if up_to > last {
            return Err(WalError::Ahead { asked: up_to, last }.into());
        }
        let (dir, first_segment) = {
            let state = guard(&collection_of.state);
            let (Some(dir), Some(writer)) = (&state.dir, &state.writer) else {
                return Ok(());
            };
            let needed = writer.sealed.iter().find(|segment| segment.last > up_to);
            let first = needed.map_or(writer.header.number, |segment| segment.number);
            (Arc::clone(dir), first)
        };
        let path = || self.path.join(collection);
        // The same number again may release a segment that has been sealed since.
        let is_more = (up_to, first_segment) > (checkpoint.up_to, checkpoint.first_segment);
        if up_to >= checkpoint.up_to && is_more {
            // Nothing may be lost of what was appended before the note of it is there: the
            // note must not tell of numbers that a crash takes away and others get.
            self.sync(Some(collection))?;
            let note =
                Checkpoint { up_to, first_segment: first_segment.max(checkpoint.first_segment) };
            note.write(&self.fs, &dir).map_err(|trouble| {
                if let AppendError::Unknown(failure) = &trouble {
                    self.poison(failure);
                }
                trouble.into_failure().on(path())
            })?;
            *checkpoint = note;
            guard(&collection_of.figures).released = up_to;
            let release = |memtable: &mut Memtable| memtable.release(up_to, RELEASED_AT_ONCE);
            while guard(&collection_of.memtable).as_mut().is_some_and(release) {
                // Appends and reads get their turns.
                std::thread::yield_now();
            }
        }
        let released: Vec<u64> = {
            let state = guard(&collection_of.state);
            let sealed = state.writer.iter().flat_map(|writer| &writer.sealed);
            let numbers = sealed.map(|segment| segment.number);
            numbers.filter(|number| *number < checkpoint.first_segment).collect()
        };
        for number in released {
            self.release(&collection_of, &dir, number).map_err(|failure| failure.on(path()))?;
        }
        Ok(())
    }

    /// Removes a sealed segment, or keeps its space for the next one.
    fn release(
        &self,
        collection: &Collection<F>,
        dir: &F::DirHandle,
        number: u64,
    ) -> Result<(), Failure> {
        let name = sealed(number);
        let mut state = guard(&collection.state);
        // Closed meanwhile: the next opening removes it.
        let Some(writer) = &mut state.writer else { return Ok(()) };
        // Whoever makes the next segment may have opened the spare and not yet renamed it.
        // Another file that took its name now would become the current segment, and what is
        // appended would go to one that has no name.
        let is_kept = !writer.has_spare && !writer.is_preparing;
        if is_kept {
            match uninterrupted(|| self.fs.open_to_write(dir, OsStr::new(&name))) {
                // An earlier attempt was told that it failed.
                Err(error) if Code::of(&error) == Some(Code::ENOENT) => {}
                Err(error) => return Err(Failure::at("open", &name, error)),
                // Under the lock, so that nobody takes the spare in the middle of it.
                Ok(file) => {
                    rename(&self.fs, dir, &file, &name, SPARE)?;
                    writer.has_spare = true;
                }
            }
        } else {
            drop(state);
            match uninterrupted(|| self.fs.remove(dir, OsStr::new(&name))) {
                Err(error) if Code::of(&error) == Some(Code::ENOENT) => {}
                outcome => outcome.map_err(|error| Failure::at("unlink", &name, error))?,
            }
            state = guard(&collection.state);
        }
        if let Some(writer) = &mut state.writer {
            writer.sealed.retain(|segment| segment.number != number);
        }
        collection.tell(&state);
        Ok(())
    }
}
