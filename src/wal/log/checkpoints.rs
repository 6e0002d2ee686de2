//! Checkpoints: what of a collection is no longer needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::{Collection, CollectionState, LastCheckpoint};
use super::look::Look;
use super::open::Log;
use crate::error::{ErrorKind, Failure, WalError};
use crate::fs::{Dir, DirUse, FileSystem};
use crate::mutex::guard;
use crate::wal::append_error::AppendError;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::consumer::positions;
use crate::wal::memtable::Memtable;
use crate::wal::names_lock::lock_names;
use crate::wal::segments::{SPARE, sealed};
use crate::wal::writer::SegmentWriter;

/// How many entries of a memtable are dropped before others get their turns.
const RELEASED_AT_ONCE: usize = 4096;

impl<F: FileSystem> Log<F> {
    /// Releases the entries of a collection up to a number: they are no longer shown, and the
    /// sealed segments that have no others are removed, or their space serves again. Appends go
    /// on meanwhile.
    ///
    /// Consumers hold it back: nothing is released on the disk that one of them has not acknowledged.
    /// The answer is the number up to which it is released now.
    ///
    /// # Errors
    ///
    /// [`WalError::Ahead`] for a number that is not there yet. When the system refuses to write
    /// the note of it, nothing is released; when it refuses to remove a segment, the next
    /// checkpoint tries again.
    pub fn release(&self, name: &str, up_to: u64) -> Result<u64, ErrorKind> {
        self.check_usable()?;
        let Some(collection) = self.existing(name)? else {
            return check_is_there(up_to, 0).map(|()| 0);
        };
        let mut last = guard(&collection.checkpoint);
        let LastCheckpoint { note: checkpoint, in_name, holds } = &mut *last;
        check_is_there(up_to, collection.visible.load(Ordering::Acquire))?;
        let mut state = guard(&collection.state);
        self.wake(&collection, &mut state, name)?;
        self.look(&mut state, name, Look::All)?;
        if state.writer.is_none() {
            return Ok(checkpoint.up_to);
        }
        drop(state);
        let (wanted, allowed) = (up_to, self.allowed(name, up_to)?);
        let up_to = allowed.up_to;
        let state = guard(&collection.state);
        let Some((dir, first_segment)) = needed_from(&state, up_to) else {
            return Ok(checkpoint.up_to);
        };
        drop(state);
        // The same number again may release a segment that has been sealed since.
        let is_more = (up_to, first_segment) > (checkpoint.up_to, checkpoint.first_segment);
        if up_to >= checkpoint.up_to && is_more {
            // Nothing may be lost of what was appended before the note of it is there: the
            // note must not tell of numbers that a crash takes away and others get.
            self.sync(Some(name))?;
            let first_segment = first_segment.max(checkpoint.first_segment);
            let note = Checkpoint { up_to, first_segment };
            // A full disk may take the space of one that is released, but not of one that is needed.
            let released = match *holds {
                0 => released_segments(&guard(&collection.state), first_segment),
                _ => Vec::new(),
            };
            let write =
                |in_name: &mut Option<String>| note.write_releasing(&dir, &released, in_name);
            let mut written = write(in_name);
            if matches!(&written, Err(error) if error.is_full()) {
                let mut state = guard(&collection.state);
                let given = state.writer.as_mut().map_or(Ok(()), SegmentWriter::give_back);
                collection.update_figures(&state);
                drop(state);
                written = match given {
                    Ok(()) => write(in_name),
                    Err(failure) => Err(AppendError::Unknown(failure)),
                };
            }
            written.map_err(|error| self.failure_of(error).on(self.path.join(name)))?;
            *checkpoint = note;
            collection.set_released(up_to);
        }
        drop(allowed);
        // The memory has served its purpose, also where consumers still need what is on the disk.
        let forget = |memtable: &mut Memtable| memtable.release(wanted, RELEASED_AT_ONCE);
        while guard(&collection.memtable).as_mut().is_some_and(forget) {
            // Appends and reads get their turns.
            std::thread::yield_now();
        }
        if *holds == 0 {
            self.release_segments(name, &collection, &dir, checkpoint.first_segment)?;
        }
        Ok(checkpoint.up_to)
    }

    /// The same, where it does not matter how far that was possible.
    ///
    /// # Errors
    ///
    /// As [`Log::release`].
    pub fn checkpoint(&self, name: &str, up_to: u64) -> Result<(), ErrorKind> {
        self.release(name, up_to).map(drop)
    }

    /// Removes the segments that the last checkpoint has released, unless a backup needs them.
    pub(super) fn release_again(&self, name: &str) -> Result<(), ErrorKind> {
        let Some(collection) = self.existing(name)? else { return Ok(()) };
        let last = guard(&collection.checkpoint);
        let dir = guard(&collection.state).dir.clone();
        match dir {
            Some(dir) if last.holds == 0 => {
                self.release_segments(name, &collection, &dir, last.note.first_segment)
            }
            _ => Ok(()),
        }
    }

    fn release_segments(
        &self,
        name: &str,
        collection: &Collection<F>,
        dir: &Dir<F>,
        first_segment: u64,
    ) -> Result<(), ErrorKind> {
        let released = released_segments(&guard(&collection.state), first_segment);
        for number in released {
            remove(collection, dir, number).map_err(|failure| failure.on(self.path.join(name)))?;
        }
        Ok(())
    }

    /// How much of a checkpoint the consumers of a collection allow. While the answer is kept, no
    /// consumer comes to be.
    fn allowed(&self, name: &str, up_to: u64) -> Result<Allowed<F>, ErrorKind> {
        let lock = self.dir.open_dir(name.as_ref(), DirUse::NamesAndSync)?;
        lock_names(&lock)?;
        let found = positions(&self.dir, Some(name))?;
        let up_to = found.iter().map(|consumer| consumer.position).fold(up_to, u64::min);
        let mut known = guard(&self.consumers);
        known.retain(|consumer| consumer.collection != name);
        known.extend(found);
        Ok(Allowed { up_to, _lock: lock })
    }

    /// Looks at the positions of the consumers, for [`Log::stats`].
    ///
    /// # Errors
    ///
    /// One cannot be read, or the system refuses.
    pub fn look_at_consumers(&self) -> Result<(), ErrorKind> {
        let found = positions(&self.dir, None)?;
        *guard(&self.consumers) = found;
        Ok(())
    }
}

/// What may be released.
struct Allowed<F: FileSystem> {
    up_to: u64,
    /// Locked until it is closed.
    _lock: Dir<F>,
}

fn check_is_there(up_to: u64, last: u64) -> Result<(), ErrorKind> {
    match up_to > last {
        true => Err(WalError::Ahead { asked: up_to, last }.into()),
        false => Ok(()),
    }
}

/// The directory, and the number of the first segment with an entry behind `up_to`. `None` when
/// there are no segments, or the log is closed.
fn needed_from<F: FileSystem>(
    state: &CollectionState<F>,
    up_to: u64,
) -> Option<(Arc<Dir<F>>, u64)> {
    let (Some(dir), Some(writer)) = (&state.dir, &state.writer) else { return None };
    let needed = writer.sealed.iter().find(|segment| segment.last > up_to);
    let first = needed.map_or(writer.header.number, |segment| segment.number);
    Some((Arc::clone(dir), first))
}

/// The numbers of the sealed segments before `first_segment`.
fn released_segments<F: FileSystem>(state: &CollectionState<F>, first_segment: u64) -> Vec<u64> {
    let sealed = state.writer.iter().flat_map(|writer| &writer.sealed);
    sealed.map(|segment| segment.number).filter(|number| *number < first_segment).collect()
}

/// Removes a sealed segment, or keeps its space for the next one.
fn remove<F: FileSystem>(
    collection: &Collection<F>,
    dir: &Dir<F>,
    number: u64,
) -> Result<(), Failure> {
    let name = sealed(number);
    let mut state = guard(&collection.state);
    // Closed meanwhile: the next opening removes it.
    let Some(writer) = &mut state.writer else { return Ok(()) };
    // The thread that makes the next segment may have opened the spare and not yet renamed it.
    // Another file that took its name now would become the current segment, and what is
    // appended would go to one that has no name.
    let is_kept = !writer.has_spare && !writer.is_preparing;
    if is_kept {
        match dir.open_to_write(name.as_ref()) {
            // An earlier attempt was told that it failed.
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
            // Under the lock, so that no other thread takes the spare in the middle of it.
            Ok(file) => {
                dir.rename(&file, name.as_ref(), SPARE.as_ref())?;
                writer.has_spare = true;
            }
        }
    } else {
        drop(state);
        dir.remove_if_there(name.as_ref())?;
        state = guard(&collection.state);
    }
    if let Some(writer) = &mut state.writer {
        writer.sealed.retain(|segment| segment.number != number);
    }
    collection.update_figures(&state);
    Ok(())
}
