//! Seals a segment, and makes the next one before it is needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::{Collection, CollectionState};
use super::look::Look;
use super::open::Log;
use crate::error::ErrorKind;
use crate::fs::{Dir, FileSystem};
use crate::mutex::guard;
use crate::threads::blocking;
use crate::wal::allocate::AllocationMode;
use crate::wal::format::Header;
use crate::wal::new_segment::NewSegment;
use crate::wal::writer::SegmentWriter;

impl<F: FileSystem> Log<F> {
    /// The next segment of a collection, to be made beforehand, if it is time for that. While
    /// it is being made the log must not be closed.
    pub fn next_segment(&self, name: &str) -> Option<SegmentPreparation<F>> {
        let collection = self.existing(name).ok()??;
        let mut state = guard(&collection.state);
        let CollectionState { writer: Some(writer), dir: Some(_), .. } = &*state else {
            return None;
        };
        if writer.is_preparing
            || writer.prepared.is_some()
            || writer.has_failed_to_prepare
            || writer.end < self.options.segment_size / 2
            || self.check_usable().is_err()
        {
            return None;
        }
        // It would be made over another's.
        self.look(&mut state, name, Look::All).ok()?;
        let CollectionState { writer: Some(writer), dir: Some(dir), .. } = &mut *state else {
            return None;
        };
        let header = Header {
            collection: name.to_owned(),
            number: writer.header.number + 1,
            first: 0,
            created: (self.options.clock)(),
            marker: rand::random(),
        };
        writer.is_preparing = true;
        collection.is_urgent.store(false, Ordering::Relaxed);
        let has_spare = std::mem::take(&mut writer.has_spare);
        let dir = Arc::clone(dir);
        let size = self.options.segment_size;
        drop(state);
        Some(SegmentPreparation { collection, dir, header, has_spare, size, prepared: None })
    }

    /// Seals the current segment of a collection, if it has blocks and the next one is not just
    /// being made.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    pub fn rotate(&self, collection: &str) -> Result<(), ErrorKind> {
        self.rotate_when(collection, |writer| writer.has_blocks).map(drop)
    }

    /// Seals it if `is_time`. The answer is whether that was so.
    fn rotate_when(
        &self,
        name: &str,
        is_time: impl FnOnce(&SegmentWriter<F>) -> bool,
    ) -> Result<bool, ErrorKind> {
        let Some(collection) = self.existing(name)? else { return Ok(false) };
        let mut state = guard(&collection.state);
        self.check_usable()?;
        self.wake(&collection, &mut state, name)?;
        self.look(&mut state, name, Look::IfDue)?;
        let first_free = self.next.load(Ordering::Relaxed);
        match &mut state.writer {
            Some(writer) if !writer.is_preparing && is_time(writer) => {
                writer.rotate(first_free, &self.options).map_err(|error| self.failure_of(error))?;
                collection.update_figures(&state);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Seals the current segment of a collection if that has only waited for the next one, so
    /// that no append has to do it, though one that comes meanwhile waits. If everything in it has
    /// been released by then, its space serves again.
    ///
    /// # Errors
    ///
    /// As [`Log::rotate`] and [`Log::checkpoint`].
    pub fn rotate_if_overdue(&self, name: &str) -> Result<(), ErrorKind> {
        // An append may have done it in the moment since the next one was there.
        if !self.rotate_when(name, |writer| writer.has_blocks && writer.is_overdue)? {
            return Ok(());
        }
        let Some(collection) = self.existing(name)? else { return Ok(()) };
        let released = collection.released();
        let state = guard(&collection.state);
        let sealed = state.writer.as_ref().map_or(0, SegmentWriter::last_sealed);
        drop(state);
        if (1..=released).contains(&sealed) {
            self.checkpoint(name, released)?;
        }
        Ok(())
    }

    /// Waits until the next segment of a collection has been made, if it is just being. The answer
    /// is whether it was.
    pub(in crate::wal) fn await_preparation(&self, name: &str) -> bool {
        let Ok(Some(collection)) = self.existing(name) else { return false };
        let is_preparing = |state: &mut CollectionState<F>| {
            state.writer.as_ref().is_some_and(|writer| writer.is_preparing)
        };
        let mut state = guard(&collection.state);
        if !is_preparing(&mut state) {
            return false;
        }
        collection.is_urgent.store(true, Ordering::Relaxed);
        blocking(|| drop(collection.prepared.wait_while(state, is_preparing)));
        true
    }

    /// Has the next segments made without pauses, because a caller waits for them.
    pub(in crate::wal) fn finish_preparations(&self) {
        for collection in guard(&self.collections).values() {
            collection.is_urgent.store(true, Ordering::Relaxed);
        }
    }
}

/// A segment that is to be made before it is needed, while appends go on in the one before.
pub struct SegmentPreparation<F: FileSystem> {
    collection: Arc<Collection<F>>,
    dir: Arc<Dir<F>>,
    header: Header,
    has_spare: bool,
    size: u64,
    prepared: Option<NewSegment<F>>,
}

impl<F: FileSystem> SegmentPreparation<F> {
    /// Makes it. Where that fails, it is made when it is needed, and the error shows then.
    pub fn run(mut self) {
        let SegmentPreparation { collection, dir, header, has_spare, size, .. } = &self;
        let mode = AllocationMode::Background { is_urgent: &collection.is_urgent };
        let space = (*size, *size);
        self.prepared = NewSegment::create(dir, header.clone(), *has_spare, space, mode).ok();
    }
}

impl<F: FileSystem> Drop for SegmentPreparation<F> {
    fn drop(&mut self) {
        // However it has ended, no append waits for it any more.
        if let Some(writer) = &mut guard(&self.collection.state).writer {
            writer.is_preparing = false;
            writer.prepared = self.prepared.take();
            writer.has_failed_to_prepare = writer.prepared.is_none();
        }
        self.collection.prepared.notify_all();
    }
}
