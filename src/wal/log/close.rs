//! Makes a log durable, while it is open and at its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::CollectionState;
use super::look::Look;
use super::open::Log;
use crate::error::ErrorKind;
use crate::fs::FileSystem;
use crate::mutex::guard;
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
        let collections: Vec<_> = {
            let collections = guard(&self.collections);
            collections.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
        };
        for (name, collection) in collections {
            let mut state = guard(&collection.state);
            if self.poison.get().is_none() && !was_closed {
                match self.moved(&mut state, &name, Look::All) {
                    None => self.finish(&mut state),
                    // Another process may go on in it by now: nothing of it is changed. It matters to
                    // the caller where not everything has been acknowledged as synced.
                    Some(what) if state.writer.as_ref().is_some_and(|it| it.durable < it.last) => {
                        self.poison_with(what);
                    }
                    Some(_) => {}
                }
            }
            state.writer = None;
            state.dir = None;
        }
        self.followers.closed();
        match self.poison.get() {
            Some(cause) if !was_closed => Err(cause.clone().into()),
            _ => Ok(()),
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
