//! The log of one directory: its collections, the numbers of its entries, and whether it can
//! still be trusted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::Code;
use crate::error::{Damage, WalError};
use crate::error::{ErrorKind, Failure};
use crate::fs::{DirUse, FileSystem, uninterrupted};
use crate::mutex::guard;
use crate::threads::blocking;
use crate::wal::batch::{Batch, Entry};
use crate::wal::checkpoint::Checkpoint;
use crate::wal::format::{Header, LARGEST_BLOCK, LAST_SEQUENCE, most_bytes};
use crate::wal::memtable::Memtable;
use crate::wal::repair;
use crate::wal::replay::Replay;
use crate::wal::segments::{NEXT, has_entries};
use crate::wal::writer::{AppendError, Writer};
use crate::wal::{Options, check_name};

mod checkpoints;
mod dirs;
mod rotation;
mod stats;

pub use dirs::collections;
use dirs::{is_collection, make_dir, sync_names};
pub use rotation::NextSegment;
use stats::Figures;
pub use stats::{CollectionStats, Stats};

/// A log that is open for appending. Whoever has it holds its lock.
///
/// # Crash safety
///
/// What [`Log::append`] has answered for, with `sync`, is there after any crash, whole batches
/// in the order of their numbers. Without `sync` a crash may take a part of it, from the end.
pub struct Log<F: FileSystem + Clone> {
    fs: F,
    path: PathBuf,
    options: Options,
    /// The next free sequence number.
    next: AtomicU64,
    collections: Mutex<BTreeMap<String, Arc<Collection<F>>>>,
    poison: OnceLock<String>,
    is_closed: AtomicBool,
    damage: Vec<Damage>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    batches: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    groups: AtomicU64,
    syncs: AtomicU64,
}

struct Collection<F: FileSystem + Clone> {
    state: Mutex<State<F>>,
    memtable: Mutex<Option<Memtable>>,
    /// The last number whose append has resolved.
    visible: AtomicU64,
    /// The next segment is being made, and will soon be needed.
    is_urgent: AtomicBool,
    /// Held while a checkpoint is made, so that they come one after the other.
    checkpoint: Mutex<Checkpoint>,
    /// What the others had to tell last. They may be held while a disk is waited for, and this
    /// is not.
    figures: Mutex<Figures>,
}

struct State<F: FileSystem + Clone> {
    dir: Option<Arc<F::DirHandle>>,
    writer: Option<Writer<F>>,
    has_spare: bool,
    next_segment: u64,
}

impl<F: FileSystem + Clone> Log<F> {
    /// Opens the log in the directory at `path`, which is made if there is none (the one above it
    /// has to be there), and repairs it.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] when there is damage that the recovery mode refuses: then nothing
    /// has been changed in the collection that has it. Otherwise what the system says.
    pub fn open(fs: F, path: &Path, options: Options) -> Result<Log<F>, ErrorKind> {
        make_dir(&fs, path)?;
        let dir = uninterrupted(|| fs.open_dir(path, DirUse::NamesAndSync));
        let dir = dir.map_err(|error| Failure::at("open", path, error))?;
        let names = uninterrupted(|| fs.names(&dir));
        let mut names = names.map_err(|error| Failure::at("scandir", path, error))?;
        names.sort_unstable();

        let mut collections = BTreeMap::new();
        let mut damage = Vec::new();
        let mut last = 0;
        for name in names.iter().filter_map(|name| name.to_str()) {
            if !is_collection(&fs, &dir, path, name)? {
                continue;
            }
            let opened = repair::open(&fs, &path.join(name), name, &options)?;
            last = last.max(opened.last);
            damage.extend(opened.damage);
            let collection = Collection {
                state: Mutex::new(State {
                    dir: opened.writer.is_some().then_some(opened.dir),
                    writer: opened.writer,
                    has_spare: opened.has_spare,
                    next_segment: opened.next_segment,
                }),
                memtable: Mutex::new(opened.memtable),
                visible: AtomicU64::new(opened.last),
                is_urgent: AtomicBool::new(false),
                checkpoint: Mutex::new(opened.checkpoint),
                figures: Mutex::new(Figures {
                    released: opened.checkpoint.up_to,
                    ..Figures::default()
                }),
            };
            collection.tell(&guard(&collection.state));
            collections.insert(name.to_owned(), Arc::new(collection));
        }
        // A directory that was found may be there in memory only.
        sync_names(&fs, &dir, path)?;
        Ok(Log {
            fs,
            path: path.to_owned(),
            options,
            next: AtomicU64::new(last + 1),
            collections: Mutex::new(collections),
            poison: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            damage,
            counters: Counters::default(),
        })
    }

    /// What was found damaged when the log was opened, and cut off or skipped.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// How it is kept.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether a batch can be appended, as far as that can be told beforehand.
    ///
    /// # Errors
    ///
    /// A name that a collection cannot have, a batch that is too large, a log that is closed or
    /// poisoned.
    pub fn check(&self, collection: &str, batch: &Batch) -> Result<(), WalError> {
        check_name(collection)?;
        let bytes = most_bytes(batch);
        if bytes > LARGEST_BLOCK {
            return Err(WalError::TooLarge { bytes, most: LARGEST_BLOCK });
        }
        self.check_usable()
    }

    fn check_usable(&self) -> Result<(), WalError> {
        if let Some(cause) = self.poison.get() {
            return Err(WalError::Poisoned(cause.clone()));
        }
        match self.is_closed.load(Ordering::Acquire) {
            true => Err(WalError::Closed),
            false => Ok(()),
        }
    }

    fn poison(&self, failure: &Failure) {
        let _ = self.poison.set(failure.to_string());
    }

    /// Poisons the log, because an append has been left in the middle: what the disk has and
    /// what is in memory may differ.
    pub(super) fn give_up(&self, why: &ErrorKind) {
        let _ = self.poison.set(why.to_string());
    }

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
        self.append_and(collection, batches, sync, |memtable, firsts| {
            for (batch, first) in batches.iter().zip(firsts) {
                for (sequence, entry) in (*first..).zip(batch.entries()) {
                    memtable.insert(sequence, entry);
                }
            }
        })
    }

    /// The same, but that the memtable only gets to know of the batches: who is told of them
    /// finds their entries, and [`Log::settle`] is to follow.
    pub(super) fn append_shared(
        &self,
        collection: &str,
        batches: &[&Arc<Batch>],
        sync: bool,
    ) -> Result<Vec<u64>, ErrorKind> {
        let all: Vec<&Batch> = batches.iter().map(|batch| &***batch).collect();
        self.append_and(collection, &all, sync, |memtable, firsts| {
            for (batch, first) in batches.iter().zip(firsts) {
                memtable.announce(*first, Arc::clone(batch));
            }
        })
    }

    /// Sorts into the memtable what has come by [`Log::append_shared`].
    pub(super) fn settle(&self, collection: &str) {
        let Ok(Some(collection)) = self.existing(collection) else { return };
        // Batch by batch, so that appends and reads get their turns.
        while guard(&collection.memtable).as_mut().is_some_and(Memtable::settle_next) {}
    }

    /// How many bytes of a collection wait for [`Log::settle`].
    pub(super) fn backlog(&self, collection: &str) -> usize {
        match self.existing(collection) {
            Ok(Some(collection)) => {
                guard(&collection.memtable).as_ref().map_or(0, Memtable::backlog)
            }
            _ => 0,
        }
    }

    fn append_and(
        &self,
        collection: &str,
        batches: &[&Batch],
        sync: bool,
        show: impl FnOnce(&mut Memtable, &[u64]),
    ) -> Result<Vec<u64>, ErrorKind> {
        for batch in batches {
            self.check(collection, batch)?;
        }
        let sync = sync || self.options.sync.is_durable();
        let collection_of = self.collection(collection);
        // A segment may just be sealed beside.
        let mut state = match collection_of.state.try_lock() {
            Ok(state) => state,
            Err(_) => blocking(|| guard(&collection_of.state)),
        };
        // Not before the lock is held: an append before this one may just have failed.
        self.check_usable()?;
        // What has a higher number would not be read again. All groups that are written at one
        // moment together have fewer entries than are left then.
        if self.next.load(Ordering::Relaxed) > LAST_SEQUENCE - (LARGEST_BLOCK as u64 * 64) {
            let failure = Failure::at("write", self.path.join(collection), Code::EOVERFLOW.error());
            return Err(failure.into());
        }
        let outcome = self.append_to(&mut state, collection, batches, sync);
        let firsts = match outcome {
            Ok(firsts) => firsts,
            Err(trouble) => {
                if let AppendError::Unknown(failure) = &trouble {
                    self.poison(failure);
                }
                let path = self.path.join(collection);
                let failure = trouble.into_failure();
                let failure = if failure.path.is_none() { failure.on(path) } else { failure };
                return Err(failure.into());
            }
        };
        if let Some(memtable) = guard(&collection_of.memtable).as_mut() {
            show(memtable, &firsts);
        }
        if let Some(writer) = &state.writer {
            collection_of.visible.store(writer.last, Ordering::Release);
            if writer.is_preparing && writer.end > self.options.segment_size / 4 * 3 {
                collection_of.is_urgent.store(true, Ordering::Relaxed);
            }
        }
        collection_of.tell(&state);
        drop(state);
        let Counters { batches: count, entries, bytes, groups, syncs } = &self.counters;
        count.fetch_add(batches.len() as u64, Ordering::Relaxed);
        groups.fetch_add(1, Ordering::Relaxed);
        syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
        for batch in batches {
            entries.fetch_add(batch.len() as u64, Ordering::Relaxed);
            bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        }
        Ok(firsts)
    }

    fn append_to(
        &self,
        state: &mut State<F>,
        name: &str,
        batches: &[&Batch],
        sync: bool,
    ) -> Result<Vec<u64>, AppendError> {
        if state.writer.is_none() {
            state.writer = Some(self.begin(state, name)?);
        }
        let Some(writer) = &mut state.writer else { return Ok(Vec::new()) };
        let first_free = self.next.load(Ordering::Relaxed);
        let number = |batch: &Batch| self.next.fetch_add(batch.len() as u64, Ordering::Relaxed);
        writer.append(batches, &self.options, first_free, number, sync)
    }

    /// Makes the first segment of a collection, and its directory.
    fn begin(&self, state: &mut State<F>, name: &str) -> Result<Writer<F>, AppendError> {
        let dir = match &state.dir {
            Some(dir) => Arc::clone(dir),
            None => {
                let path = self.path.join(name);
                // If it is there and empty, its name may be one that a failed sync has left in
                // memory only. If it is not empty, it stays.
                let _ = self.fs.remove_dir(&path);
                make_dir(&self.fs, &path)?;
                let open = || self.fs.open_dir(&path, DirUse::NamesAndSync);
                let dir = uninterrupted(open);
                let dir = dir.map_err(|error| Failure::at("open", &path, error))?;
                let names = uninterrupted(|| self.fs.names(&dir));
                let names = names.map_err(|error| Failure::at("scandir", &path, error))?;
                // Segments that have come since the log was opened are somebody's entries.
                if names.iter().any(|name| name.to_str().is_some_and(has_entries)) {
                    return Err(Failure::at("open", &path, Code::EEXIST.error()).into());
                }
                Arc::new(dir)
            }
        };
        state.dir = Some(Arc::clone(&dir));
        let header = Header {
            collection: name.to_owned(),
            number: state.next_segment,
            first: self.next.load(Ordering::Relaxed),
            created: (self.options.clock)(),
            marker: rand::random(),
        };
        let has_spare = std::mem::take(&mut state.has_spare);
        Writer::create(self.fs.clone(), dir, header, has_spare, self.options.step)
    }

    /// The collection, which need not be there yet.
    fn collection(&self, name: &str) -> Arc<Collection<F>> {
        let mut collections = guard(&self.collections);
        if let Some(collection) = collections.get(name) {
            return Arc::clone(collection);
        }
        let collection = Arc::new(Collection {
            state: Mutex::new(State { dir: None, writer: None, has_spare: false, next_segment: 1 }),
            memtable: Mutex::new(self.options.memtable.then(Memtable::default)),
            visible: AtomicU64::new(0),
            is_urgent: AtomicBool::new(false),
            checkpoint: Mutex::default(),
            figures: Mutex::default(),
        });
        collections.insert(name.to_owned(), Arc::clone(&collection));
        collection
    }

    fn existing(&self, name: &str) -> Result<Option<Arc<Collection<F>>>, WalError> {
        check_name(name)?;
        Ok(guard(&self.collections).get(name).map(Arc::clone))
    }

    /// The names of the collections.
    pub fn names(&self) -> Vec<String> {
        guard(&self.collections).keys().cloned().collect()
    }

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
                collection.tell(&state);
            }
        }
        self.check_usable()?;
        Ok(())
    }

    /// The newest entry of an id, unless that is its deletion.
    ///
    /// # Errors
    ///
    /// There is no memtable, or the collection's name cannot be one.
    pub fn get(&self, collection: &str, id: &str) -> Result<Option<Entry>, WalError> {
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
        Replay::new(self.fs.clone(), &self.path, collection, from, Some(until), recovery)
    }

    /// Ends the log: everything is on the disk, and every segment ends where its entries do.
    /// Nothing can be appended any more, however this ends.
    ///
    /// # Errors
    ///
    /// The log is poisoned, from now on or before.
    pub fn close(&self) -> Result<(), ErrorKind> {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        let collections: Vec<_> = guard(&self.collections).values().cloned().collect();
        for collection in collections {
            let mut state = guard(&collection.state);
            if self.poison.get().is_none()
                && !was_closed
                && let Some(writer) = &mut state.writer
            {
                if let Err(failure) = writer.finish() {
                    self.poison(&failure);
                }
                if writer.prepared.take().is_some() {
                    // If it stays, the next opening removes it.
                    let _ = self.fs.remove(&writer.dir, OsStr::new(NEXT));
                }
            }
            state.writer = None;
            state.dir = None;
        }
        match self.poison.get() {
            Some(cause) if !was_closed => Err(WalError::Poisoned(cause.clone()).into()),
            _ => Ok(()),
        }
    }
}
