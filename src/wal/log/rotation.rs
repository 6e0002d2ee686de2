//! Sealing a segment, and making the next one before it is needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Collection, Log, State};
use crate::error::ErrorKind;
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::wal::format::Header;
use crate::wal::writer::{AppendError, Begun, Pace, Writer, begin};

impl<F: FileSystem + Clone> Log<F> {
    /// The next segment of a collection, to be made beforehand, if it is time for that. While
    /// it is being made the log must not be closed.
    pub fn next_segment(&self, collection: &str) -> Option<NextSegment<F>> {
        let collection_of = self.existing(collection).ok()??;
        let mut state = guard(&collection_of.state);
        let State { writer: Some(writer), dir: Some(dir), .. } = &mut *state else {
            return None;
        };
        if writer.is_preparing
            || writer.prepared.is_some()
            || writer.end < self.options.segment_size / 2
            || self.check_usable().is_err()
        {
            return None;
        }
        let header = Header {
            collection: collection.to_owned(),
            number: writer.header.number + 1,
            first: 0,
            created: (self.options.clock)(),
            marker: rand::random(),
        };
        writer.is_preparing = true;
        collection_of.is_urgent.store(false, Ordering::Relaxed);
        let has_spare = std::mem::take(&mut writer.has_spare);
        let (fs, dir) = (self.fs.clone(), Arc::clone(dir));
        let size = self.options.segment_size;
        drop(state);
        let collection = collection_of;
        Some(NextSegment { fs, collection, dir, header, has_spare, size, made: None })
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

    /// Whether it has.
    fn rotate_when(
        &self,
        collection: &str,
        is_time: impl FnOnce(&Writer<F>) -> bool,
    ) -> Result<bool, ErrorKind> {
        let Some(collection) = self.existing(collection)? else { return Ok(false) };
        let mut state = guard(&collection.state);
        self.check_usable()?;
        let first_free = self.next.load(Ordering::Relaxed);
        match &mut state.writer {
            Some(writer) if !writer.is_preparing && is_time(writer) => {
                writer.rotate(first_free, &self.options).map_err(|trouble| {
                    if let AppendError::Unknown(failure) = &trouble {
                        self.poison(failure);
                    }
                    ErrorKind::from(trouble.into_failure())
                })?;
                collection.tell(&state);
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
    pub fn rotate_if_overdue(&self, collection: &str) -> Result<(), ErrorKind> {
        // An append may have done it in the moment since the next one was there.
        if !self.rotate_when(collection, |writer| writer.has_blocks && writer.is_overdue)? {
            return Ok(());
        }
        let Some(collection_of) = self.existing(collection)? else { return Ok(()) };
        let released = guard(&collection_of.figures).released;
        let sealed = guard(&collection_of.state).writer.as_ref().map_or(0, Writer::last_sealed);
        if (1..=released).contains(&sealed) {
            self.checkpoint(collection, released)
        } else {
            Ok(())
        }
    }

    /// Has the next segments made without pauses: somebody waits for them.
    pub(in crate::wal) fn hurry(&self) {
        for collection in guard(&self.collections).values() {
            collection.is_urgent.store(true, Ordering::Relaxed);
        }
    }
}

/// A segment that is to be made before it is needed, beside the appends to the one before.
pub struct NextSegment<F: FileSystem + Clone> {
    fs: F,
    collection: Arc<Collection<F>>,
    dir: Arc<F::DirHandle>,
    header: Header,
    has_spare: bool,
    size: u64,
    made: Option<Begun<F>>,
}

impl<F: FileSystem + Clone> NextSegment<F> {
    /// Makes it. Where that fails, it is made when it is needed, and the error shows then.
    pub fn make(mut self) {
        let NextSegment { fs, collection, dir, header, has_spare, size, .. } = &self;
        let pace = Pace::Gentle { is_urgent: &collection.is_urgent };
        self.made = begin(fs, dir, header.clone(), *has_spare, *size, pace).ok();
    }
}

impl<F: FileSystem + Clone> Drop for NextSegment<F> {
    fn drop(&mut self) {
        // However it has ended, nobody waits for it any more.
        if let Some(writer) = &mut guard(&self.collection.state).writer {
            writer.is_preparing = false;
            writer.prepared = self.made.take();
        }
    }
}
