//! Checkpoints: what of a collection is no longer needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::{Collection, CollectionState, LastCheckpoint};
use super::look::Look;
use super::open::Log;
use crate::error::{ErrorKind, Failure, WalError};
use crate::fs::{Dir, FileSystem};
use crate::mutex::guard;
use crate::wal::append_error::AppendError;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::memtable::Memtable;
use crate::wal::segments::{SPARE, sealed};
use crate::wal::writer::SegmentWriter;

/// How many entries of a memtable are dropped before others get their turns.
const RELEASED_AT_ONCE: usize = 4096;

impl<F: FileSystem> Log<F> {
    /// Releases the entries of a collection up to a number: they are no longer shown, and the
    /// sealed segments that have no others are removed, or their space serves again. Appends go
    /// on meanwhile.
    ///
    /// # Errors
    ///
    /// [`WalError::Ahead`] for a number that is not there yet. When the system refuses to write
    /// the note of it, nothing is released; when it refuses to remove a segment, the next
    /// checkpoint tries again.
    pub fn checkpoint(&self, name: &str, up_to: u64) -> Result<(), ErrorKind> {
        self.check_usable()?;
        let Some(collection) = self.existing(name)? else {
            return check_is_there(up_to, 0);
        };
        let mut last = guard(&collection.checkpoint);
        let LastCheckpoint { note: checkpoint, in_name } = &mut *last;
        check_is_there(up_to, collection.visible.load(Ordering::Acquire))?;
        let mut state = guard(&collection.state);
        self.look(&mut state, name, Look::All)?;
        let Some((dir, first_segment)) = needed_from(&state, up_to) else { return Ok(()) };
        drop(state);
        // The same number again may release a segment that has been sealed since.
        let is_more = (up_to, first_segment) > (checkpoint.up_to, checkpoint.first_segment);
        if up_to >= checkpoint.up_to && is_more {
            // Nothing may be lost of what was appended before the note of it is there: the
            // note must not tell of numbers that a crash takes away and others get.
            self.sync(Some(name))?;
            let first_segment = first_segment.max(checkpoint.first_segment);
            let note = Checkpoint { up_to, first_segment };
            let released = released_segments(&guard(&collection.state), first_segment);
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
            let release = |memtable: &mut Memtable| memtable.release(up_to, RELEASED_AT_ONCE);
            while guard(&collection.memtable).as_mut().is_some_and(release) {
                // Appends and reads get their turns.
                std::thread::yield_now();
            }
        }
        let released = released_segments(&guard(&collection.state), checkpoint.first_segment);
        for number in released {
            release(&collection, &dir, number)
                .map_err(|failure| failure.on(self.path.join(name)))?;
        }
        Ok(())
    }
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
fn release<F: FileSystem>(
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
