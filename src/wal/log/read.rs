//! Reads a log that is open: the memtable, and the entries on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::open::Log;
use crate::error::{ErrorKind, WalError};
use crate::fs::FileSystem;
use crate::mutex::guard;
use crate::wal::batch::WalEntry;
use crate::wal::follow::{Follow, FollowOptions, Signal};
use crate::wal::replay::Replay;

impl<F: FileSystem> Log<F> {
    /// The newest entry of an id, unless that is its deletion.
    ///
    /// # Errors
    ///
    /// There is no memtable, or the collection's name cannot be one.
    pub fn get(&self, collection: &str, id: &str) -> Result<Option<WalEntry>, WalError> {
        let Some(collection) = self.existing(collection)? else { return Ok(None) };
        let mut memtable = guard(&collection.memtable);
        let memtable = memtable.as_mut().ok_or(WalError::NoMemtable)?;
        Ok(memtable.get(id))
    }

    /// Packs the entries of the memtable with numbers after `after` and up to `until`, in the
    /// order of their numbers, until `out` has `most` bytes. The answer is the number to go on
    /// after, or `None` when there are no more.
    ///
    /// # Errors
    ///
    /// As [`Log::get`].
    pub fn entries(
        &self,
        collection: &str,
        (after, until): (u64, u64),
        most: usize,
        with_deletions: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<u64>, WalError> {
        let Some(collection) = self.existing(collection)? else { return Ok(None) };
        let mut memtable = guard(&collection.memtable);
        let memtable = memtable.as_mut().ok_or(WalError::NoMemtable)?;
        Ok(memtable.pack(out, (after, until), most, with_deletions))
    }

    /// The lowest number of a collection that has not been released.
    ///
    /// # Errors
    ///
    /// The log is closed, or the name cannot be one.
    pub fn first(&self, collection: &str) -> Result<u64, WalError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(WalError::Closed);
        }
        Ok(self.existing(collection)?.map_or(0, |collection| collection.released()) + 1)
    }

    /// A walk over what is there now of a collection, from a number on.
    ///
    /// # Errors
    ///
    /// The log is closed, the name cannot be one, or the system refuses.
    pub fn replay(&self, collection: &str, from: u64) -> Result<Replay<F>, ErrorKind> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(WalError::Closed.into());
        }
        let until = match self.existing(collection)? {
            Some(collection) => collection.visible.load(Ordering::Acquire),
            None => 0,
        };
        let recovery = self.options.recovery;
        Replay::in_log(&self.dir, collection, from, Some(until), recovery)
    }

    /// Follows a collection, from a number on. `signal` is told of each append, and of the end of the
    /// log.
    ///
    /// # Errors
    ///
    /// The log is closed, the name cannot be one, or the system refuses.
    pub fn follow(
        &self,
        collection: &str,
        from: Option<u64>,
        signal: &Arc<Signal>,
    ) -> Result<Follow<F>, ErrorKind> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(WalError::Closed.into());
        }
        self.followers.add(collection, signal);
        let options = FollowOptions { from, recovery: self.options.recovery, is_beside: false };
        Follow::new(self.dir.fs().clone(), &self.path, collection, options, Arc::clone(signal))
    }

    /// The last number of a collection whose append has resolved, and whether there will be no more.
    pub fn progress(&self, collection: &str) -> (u64, bool) {
        // In this order: nothing is appended to a log that is closed.
        let is_closed = self.is_closed.load(Ordering::SeqCst);
        let collection = guard(&self.collections).get(collection).cloned();
        (collection.map_or(0, |it| it.visible.load(Ordering::SeqCst)), is_closed)
    }
}
