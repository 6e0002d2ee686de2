//! Which collections have their files open. A log may have any number of collections, and a process
//! only so many open files: the collections that nothing was appended to for longest are closed, and
//! opened again when they are used.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::{Collection, CollectionState};
use super::open::Log;
use crate::descriptors::is_shortage;
use crate::error::{ErrorKind, Failure, WalError};
use crate::fs::{DirUse, FileSystem, if_there};
use crate::mutex::guard;
use crate::wal::resting_segment::RestingSegment;
use crate::wal::writer::SegmentWriter;

impl<F: FileSystem> CollectionState<F> {
    /// Its files are open again.
    fn has_opened(&mut self, writer: SegmentWriter<F>) {
        self.dir = Some(Arc::clone(&writer.dir));
        (self.writer, self.resting) = (Some(writer), None);
    }
}

impl<F: FileSystem> Log<F> {
    /// Opens the files of a collection again, if they were closed.
    ///
    /// # Errors
    ///
    /// [`WalError::Moved`] when they are not the same any more. Otherwise what the system says.
    pub(super) fn wake(
        &self,
        collection: &Arc<Collection<F>>,
        state: &mut CollectionState<F>,
        name: &str,
    ) -> Result<(), ErrorKind> {
        if state.resting.is_none() {
            collection.was_used.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.open_again(state, name)?;
        self.has_opened(collection);
        Ok(())
    }

    fn open_again(&self, state: &mut CollectionState<F>, name: &str) -> Result<(), ErrorKind> {
        let Some(resting) = &state.resting else { return Ok(()) };
        let mut opened = self.find_again(resting, name);
        if matches!(&opened, Err(failure) if is_shortage(failure)) {
            self.rest_all_but(0);
            opened = self.find_again(resting, name);
        }
        match opened.map_err(|failure| failure.on(self.path.join(name)))? {
            Some(writer) => {
                state.has_opened(writer);
                Ok(())
            }
            None => {
                let path = self.path.join(name);
                let what = format!("the segment in '{}' was removed or replaced", path.display());
                self.poison_with(WalError::Moved(what.clone()));
                Err(WalError::Moved(what).into())
            }
        }
    }

    /// Opens the files of a collection again, for the last time, where its segment has to be ended. One
    /// that was removed or replaced is another's.
    pub(super) fn open_to_finish(
        &self,
        state: &mut CollectionState<F>,
        name: &str,
    ) -> Result<(), Failure> {
        let Some(resting) = state.resting.as_ref().filter(|it| !it.is_marked()) else {
            return Ok(());
        };
        let found = self.find_again(resting, name);
        if let Some(writer) = found.map_err(|failure| failure.on(self.path.join(name)))? {
            state.has_opened(writer);
        }
        Ok(())
    }

    /// Opens the directory and the segment of a collection. `None` if they are not the same any more.
    fn find_again(
        &self,
        resting: &RestingSegment,
        name: &str,
    ) -> Result<Option<SegmentWriter<F>>, Failure> {
        let dir = if_there(self.dir.open_dir(OsStr::new(name), DirUse::NamesAndSync))?;
        let Some(dir) = dir.map(|dir| Arc::new(dir.without_path())) else { return Ok(None) };
        resting.open(dir)
    }

    /// Notes that a collection has its files open, and closes those of others if there are too many.
    pub(super) fn has_opened(&self, collection: &Arc<Collection<F>>) {
        guard(&self.open_collections).push_back(Arc::clone(collection));
        self.rest_all_but(self.most_open);
    }

    /// Closes the files of the collections that have not been used for longest, except so many; what
    /// is just being used stays open.
    fn rest_all_but(&self, most: usize) {
        let mut open = guard(&self.open_collections);
        // In the first round those get off that were used since the one before.
        for _ in 0..2 * open.len() {
            if open.len() <= most {
                break;
            }
            let Some(first) = open.pop_front() else { break };
            if first.was_used.swap(false, Ordering::Relaxed) || !self.rest(&first) {
                open.push_back(first);
            }
        }
    }

    /// Closes the files of a collection. `false` if that is not possible just now.
    fn rest(&self, collection: &Collection<F>) -> bool {
        // A checkpoint looks at the segments more than once.
        let Ok(_checkpoint) = collection.checkpoint.try_lock() else { return false };
        let Ok(mut state) = collection.state.try_lock() else { return false };
        let Some(writer) = &mut state.writer else { return state.dir.is_none() };
        if self.poison.get().is_some() {
            return false;
        }
        // A file that is opened again may not tell of a write that has failed before.
        if let Err(failure) = writer.sync() {
            self.poison(&failure);
            return false;
        }
        let Some(resting) = RestingSegment::of(writer) else { return false };
        collection.update_figures(&state);
        (state.dir, state.writer, state.resting) = (None, None, Some(resting));
        true
    }
}
