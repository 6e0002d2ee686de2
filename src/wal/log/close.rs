//! Makes a log durable, while it is open and at its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::CollectionState;
use super::look::Look;
use super::open::Log;
use crate::error::{ErrorKind, Failure};
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::wal::closed_note::{CLOSED, ClosedNote};
use crate::wal::segments::NEXT;

impl<F: FileSystem> Log<F> {
    /// Waits until everything that was appended to a collection, or to all, is on the disk.
    ///
    /// # Errors
    ///
    /// The log is poisoned, from now on or before, or closed.
    pub fn sync(&self, collection: Option<&str>) -> Result<(), ErrorKind> {
        let names = match collection {
            Some(name) => vec![name.to_owned()],
            None => self.names(),
        };
        for name in names {
            let Some(collection) = self.existing(&name)? else { continue };
            let mut state = guard(&collection.state);
            self.check_usable()?;
            let Some(writer) = &mut state.writer else { continue };
            if writer.durable < writer.last {
                self.counters.syncs.fetch_add(1, Ordering::Relaxed);
                // Under the lock, so that no append succeeds after a sync that has failed.
                writer.sync().map_err(|failure| {
                    self.poison(&failure);
                    failure.on(self.path.join(&name))
                })?;
                collection.update_figures(&state);
            }
            // What has been synced is of use only where it can be found.
            self.look(&mut state, &name, Look::Near)?;
        }
        self.check_usable()?;
        Ok(())
    }

    /// Ends the log: everything is on the disk, and every segment ends where its entries do.
    /// Nothing can be appended any more, however this ends.
    ///
    /// # Errors
    ///
    /// The log is poisoned, from now on or before.
    pub fn close(&self) -> Result<(), ErrorKind> {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        let (mut failed, mut is_there) = (None::<Failure>, true);
        let last = self.next.load(Ordering::Relaxed).saturating_sub(1);
        let mut closed = ClosedNote { last, ..ClosedNote::default() };
        let collections: Vec<_> = {
            let collections = guard(&self.collections);
            collections.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
        };
        for (name, collection) in collections {
            let mut state = guard(&collection.state);
            if self.poison.get().is_none() && !was_closed {
                if let Err(failure) = self.open_to_finish(&mut state, &name) {
                    // Everything in it is on the disk. The next opening makes its end clean.
                    failed.get_or_insert(failure);
                }
                match self.moved(&mut state, &name, Look::All) {
                    None => self.finish(&mut state),
                    // Another process may go on in it by now: nothing of it is changed. It matters to
                    // the caller where not everything has been acknowledged as synced.
                    Some(what) if state.writer.as_ref().is_some_and(|it| it.durable < it.last) => {
                        self.poison_with(what);
                    }
                    Some(_) => is_there = false,
                }
            }
            if state.writer.is_some() || state.resting.is_some() {
                closed.collections.insert(name, collection.visible.load(Ordering::Relaxed));
            }
            (state.dir, state.writer, state.resting) = (None, None, None);
        }
        self.followers.closed();
        guard(&self.open_collections).clear();
        let is_whole = !was_closed && self.poison.get().is_none() && failed.is_none() && is_there;
        if is_whole && closed != self.closed_note {
            match closed.write(&self.dir) {
                // What the note before says is still so, and the log needs none to be whole.
                Err(error) if error.is_full() => {}
                Err(error) => return Err(self.failure_of(error).on(self.path.join(CLOSED)).into()),
                Ok(()) => {}
            }
        }
        match self.poison.get() {
            Some(cause) if !was_closed => Err(cause.clone().into()),
            _ => failed.map_or(Ok(()), |failure| Err(failure.into())),
        }
    }

    fn finish(&self, state: &mut CollectionState<F>) {
        let Some(writer) = &mut state.writer else { return };
        if let Err(failure) = writer.finish() {
            self.poison(&failure);
        }
        if writer.prepared.take().is_some() {
            // If it stays, the next opening removes it.
            let _ = writer.dir.remove(NEXT.as_ref());
        }
    }
}
