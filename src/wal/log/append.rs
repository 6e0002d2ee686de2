//! Appends groups of batches, and shows them in the memtable.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collection::{Collection, CollectionState};
use super::identity::Looks;
use super::look::Look;
use super::open::{Log, LogCounters};
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileSystem};
use crate::mutex::guard;
use crate::threads::blocking;
use crate::wal::append_error::AppendError;
use crate::wal::batch::Batch;
use crate::wal::dirs::make_collection_dir;
use crate::wal::format::{Header, LARGEST_BLOCK, LAST_SEQUENCE};
use crate::wal::memtable::Memtable;
use crate::wal::segments::has_entries;
use crate::wal::writer::SegmentWriter;

impl<F: FileSystem> Log<F> {
    /// Appends batches, each whole or not at all, as one write, and syncs it if that is asked
    /// for. The answer has the sequence number of the first entry of each; those of the others
    /// follow it. Empty batches are not taken.
    ///
    /// # Errors
    ///
    /// None of the batches counts as appended. When there was no room for more space the log
    /// can go on; when a write or a sync has failed it is poisoned, and what is on the disk of
    /// these batches shows when it is opened anew.
    pub fn append(
        &self,
        collection: &str,
        batches: &[&Batch],
        sync: bool,
    ) -> Result<Vec<u64>, ErrorKind> {
        let shared: Vec<_> = batches.iter().map(|batch| Arc::new((*batch).clone())).collect();
        let firsts = self.append_pending(collection, &shared.iter().collect::<Vec<_>>(), sync)?;
        self.apply_pending(collection);
        Ok(firsts)
    }

    /// The same, but the batches are only pending in the memtable: reads find their entries, and
    /// [`Log::apply_pending`] is to follow.
    pub(in crate::wal) fn append_pending(
        &self,
        name: &str,
        batches: &[&Arc<Batch>],
        sync: bool,
    ) -> Result<Vec<u64>, ErrorKind> {
        for batch in batches {
            self.check(name, batch)?;
        }
        let group: Vec<&Batch> = batches.iter().map(|batch| &***batch).collect();
        let sync = sync || self.options.sync.is_durable();
        let collection = self.collection(name);
        // Another thread may just be sealing a segment.
        let mut state = match collection.state.try_lock() {
            Ok(state) => state,
            Err(_) => blocking(|| guard(&collection.state)),
        };
        // Not before the lock is held: an append before this one may just have failed.
        self.check_usable()?;
        self.check_numbers_left(name)?;
        self.wake(&collection, &mut state, name)?;
        self.look(&mut state, name, Look::IfDue)?;
        let is_new = state.writer.is_none();
        let firsts = match self.append_to(&mut state, name, &group, sync) {
            Ok(firsts) => firsts,
            Err(error) => return Err(self.not_appended(&mut state, name, error)),
        };
        if is_new {
            self.has_opened(&collection);
        }
        // Nothing is acknowledged that was written to a log that has gone meanwhile.
        self.look(&mut state, name, if sync { Look::Near } else { Look::IfDue })?;
        if let Some(memtable) = guard(&collection.memtable).as_mut() {
            for (batch, first) in batches.iter().zip(&firsts) {
                memtable.add_pending(*first, Arc::clone(batch));
            }
        }
        if let Some(writer) = &state.writer {
            collection.visible.store(writer.last, Ordering::SeqCst);
            if writer.is_preparing && writer.end > self.options.segment_size / 4 * 3 {
                collection.is_urgent.store(true, Ordering::Relaxed);
            }
        }
        collection.update_figures(&state);
        drop(state);
        self.followers.appended(name);
        self.counters.appended(&group, sync);
        Ok(firsts)
    }

    /// Why nothing was appended. If the log is not where it was, that is why.
    #[cold]
    fn not_appended(
        &self,
        state: &mut CollectionState<F>,
        name: &str,
        error: AppendError,
    ) -> ErrorKind {
        if let Err(moved) = self.look(state, name, Look::All) {
            return moved.into();
        }
        if state.writer.is_none() {
            // It is made anew.
            (state.dir, state.looks) = (None, Looks::default());
        }
        let failure = self.failure_of(error);
        let failure =
            if failure.path.is_none() { failure.on(self.path.join(name)) } else { failure };
        failure.into()
    }

    /// Applies to the memtable what [`Log::append_pending`] has appended.
    pub(in crate::wal) fn apply_pending(&self, collection: &str) {
        let Ok(Some(collection)) = self.existing(collection) else { return };
        // Batch by batch, so that appends and reads get their turns.
        while guard(&collection.memtable).as_mut().is_some_and(Memtable::apply_next) {}
    }

    /// How many bytes of a collection wait for [`Log::apply_pending`].
    pub(in crate::wal) fn pending_bytes(&self, collection: &str) -> usize {
        self.of_memtable(collection, Memtable::pending_bytes)
    }

    /// How much memory the memtable of a collection takes at most, about.
    pub(in crate::wal) fn memtable_bytes(&self, collection: &str) -> usize {
        self.of_memtable(collection, Memtable::most_bytes)
    }

    fn of_memtable(&self, collection: &str, bytes: impl FnOnce(&Memtable) -> usize) -> usize {
        match self.existing(collection) {
            Ok(Some(collection)) => guard(&collection.memtable).as_ref().map_or(0, bytes),
            _ => 0,
        }
    }

    /// An entry whose number is too high would not be read again. All groups that are written at
    /// one moment together have fewer entries than numbers are left then.
    fn check_numbers_left(&self, name: &str) -> Result<(), Failure> {
        if self.next.load(Ordering::Relaxed) > LAST_SEQUENCE - (LARGEST_BLOCK as u64 * 64) {
            return Err(Failure::at("write", self.path.join(name), Code::EOVERFLOW.error()));
        }
        Ok(())
    }

    fn append_to(
        &self,
        state: &mut CollectionState<F>,
        name: &str,
        batches: &[&Batch],
        sync: bool,
    ) -> Result<Vec<u64>, AppendError> {
        let first_free = self.next.load(Ordering::Relaxed);
        let number = |batch: &Batch| self.next.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if state.writer.is_none() {
            state.writer = Some(self.first_segment(state, name, batches)?);
        }
        let Some(writer) = &mut state.writer else { return Ok(Vec::new()) };
        writer.append(batches, &self.options, first_free, number, sync)
    }

    /// Makes the first segment of a collection, with room for a group, and its directory.
    fn first_segment(
        &self,
        state: &mut CollectionState<F>,
        name: &str,
        batches: &[&Batch],
    ) -> Result<SegmentWriter<F>, AppendError> {
        let dir = match &state.dir {
            Some(dir) => Arc::clone(dir),
            None => Arc::new(self.make_collection_dir(name)?),
        };
        state.dir = Some(Arc::clone(&dir));
        let header = Header {
            collection: name.to_owned(),
            number: state.next_segment,
            first: self.next.load(Ordering::Relaxed),
            created: (self.options.clock)(),
            marker: rand::random(),
        };
        let most = SegmentWriter::<F>::most_bytes(batches);
        // A large group makes the room for itself.
        let least = if most >= self.options.large_group { 0 } else { most };
        let mut create = |space| {
            let has_spare = std::mem::take(&mut state.has_spare);
            SegmentWriter::create(Arc::clone(&dir), header.clone(), has_spare, space)
        };
        match create((least, self.options.step)) {
            // The group may be smaller than that. It is told when it is written.
            Err(error) if error.is_full() => create((0, 0)),
            created => created,
        }
    }

    fn make_collection_dir(&self, name: &str) -> Result<Dir<F>, Failure> {
        let own = OsStr::new(name);
        // If it is there and empty, its name may be one that a failed sync has left in memory
        // only. If it is not empty, it stays.
        let _ = self.dir.remove_empty_dir(own);
        make_collection_dir(&self.dir, own)?;
        let dir = self.dir.open_dir(own, DirUse::NamesAndSync)?;
        // Segments that have come since the log was opened have entries that must not be lost.
        if dir.names()?.iter().any(|name| name.to_str().is_some_and(has_entries)) {
            return Err(Failure::at("open", dir.path(), Code::EEXIST.error()));
        }
        Ok(dir.without_path())
    }

    /// The collection, which need not be there yet.
    fn collection(&self, name: &str) -> Arc<Collection<F>> {
        let mut collections = guard(&self.collections);
        if let Some(collection) = collections.get(name) {
            return Arc::clone(collection);
        }
        let collection = Arc::new(Collection::new(self.options.memtable));
        collections.insert(name.to_owned(), Arc::clone(&collection));
        collection
    }
}

impl LogCounters {
    fn appended(&self, group: &[&Batch], is_synced: bool) {
        let LogCounters { batches, entries, bytes, groups, syncs } = self;
        batches.fetch_add(group.len() as u64, Ordering::Relaxed);
        groups.fetch_add(1, Ordering::Relaxed);
        syncs.fetch_add(u64::from(is_synced), Ordering::Relaxed);
        for batch in group {
            entries.fetch_add(batch.len() as u64, Ordering::Relaxed);
            bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        }
    }
}
