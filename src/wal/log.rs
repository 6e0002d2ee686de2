//! The log of one folder: its collections, the numbers of its entries, and whether it can
//! still be trusted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::batch::{Batch, Entry};
use super::checkpoint::Checkpoint;
use super::error::{Damage, WalError};
use super::format::{Header, LARGEST_BLOCK, LAST_SEQUENCE, most_bytes};
use super::memtable::Memtable;
use super::repair;
use super::replay::Replay;
use super::segments::{NEXT, SPARE, has_entries, sealed};
use super::writer::{Begun, Pace, Trouble, Writer, begin, rename};
use super::{Options, check_name};
use crate::errno::Code;
use crate::error::{ErrorKind, Failure};
use crate::fs::{FileKind, FileSystem, FolderUse, uninterrupted};
use crate::io::blocking;

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

#[derive(Clone, Copy, Default)]
struct Figures {
    segments: u64,
    bytes: u64,
    durable: u64,
    released: u64,
}

struct State<F: FileSystem + Clone> {
    folder: Option<Arc<F::Folder>>,
    writer: Option<Writer<F>>,
    has_spare: bool,
    next_segment: u64,
}

/// What is known of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionStats {
    /// Its name.
    pub name: String,
    /// How many segments it has.
    pub segments: u64,
    /// How many bytes their files have, unused space included.
    pub bytes: u64,
    /// The last sequence number whose append has resolved; 0 if there is none.
    pub last: u64,
    /// The last one that is surely on the disk.
    pub durable: u64,
    /// What the last checkpoint has released.
    pub released: u64,
    /// How many ids the memtable has, deleted ones included.
    pub memtable_entries: u64,
    /// How much memory it takes, about.
    pub memtable_bytes: u64,
}

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches appended since it was opened.
    pub batches: u64,
    /// Entries in them.
    pub entries: u64,
    /// Their bytes, as they were given.
    pub bytes: u64,
    /// Writes: batches that were written together are one group.
    pub groups: u64,
    /// Syncs of groups, and those in the background.
    pub syncs: u64,
    /// Why it is poisoned, if it is.
    pub poisoned: Option<String>,
    /// Its collections, by name.
    pub collections: Vec<CollectionStats>,
}

/// How many entries of a memtable are dropped before others get their turns.
const RELEASED_AT_ONCE: usize = 4096;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: FileSystem + Clone> Log<F> {
    /// Opens the log in the folder at `path`, which is made if there is none (the one above it
    /// has to be there), and repairs it.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] when there is damage that the recovery mode refuses: then nothing
    /// has been changed in the collection that has it. Otherwise what the system says.
    pub fn open(fs: F, path: &Path, options: Options) -> Result<Log<F>, ErrorKind> {
        make_folder(&fs, path)?;
        let folder = uninterrupted(|| fs.open_folder(path, FolderUse::NamesAndSync));
        let folder = folder.map_err(|error| Failure::at("open", path, error))?;
        let names = uninterrupted(|| fs.names(&folder));
        let mut names = names.map_err(|error| Failure::at("scandir", path, error))?;
        names.sort_unstable();

        let mut collections = BTreeMap::new();
        let mut damage = Vec::new();
        let mut last = 0;
        for name in names.iter().filter_map(|name| name.to_str()) {
            if !is_collection(&fs, &folder, path, name)? {
                continue;
            }
            let opened = repair::open(&fs, &path.join(name), name, &options)?;
            last = last.max(opened.last);
            damage.extend(opened.damage);
            let collection = Collection {
                state: Mutex::new(State {
                    folder: opened.writer.is_some().then_some(opened.folder),
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
            collection.tell(&lock(&collection.state));
            collections.insert(name.to_owned(), Arc::new(collection));
        }
        // A folder that was found may be there in memory only.
        sync_names(&fs, &folder, path)?;
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
        while lock(&collection.memtable).as_mut().is_some_and(Memtable::settle_next) {}
    }

    /// How many bytes of a collection wait for [`Log::settle`].
    pub(super) fn backlog(&self, collection: &str) -> usize {
        match self.existing(collection) {
            Ok(Some(collection)) => {
                lock(&collection.memtable).as_ref().map_or(0, Memtable::backlog)
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
            Err(_) => blocking(|| lock(&collection_of.state)),
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
                if let Trouble::Unknown(failure) = &trouble {
                    self.poison(failure);
                }
                let path = self.path.join(collection);
                let failure = trouble.into_failure();
                let failure = if failure.path.is_none() { failure.on(path) } else { failure };
                return Err(failure.into());
            }
        };
        if let Some(memtable) = lock(&collection_of.memtable).as_mut() {
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
    ) -> Result<Vec<u64>, Trouble> {
        if state.writer.is_none() {
            state.writer = Some(self.begin(state, name)?);
        }
        let Some(writer) = &mut state.writer else { return Ok(Vec::new()) };
        let first_free = self.next.load(Ordering::Relaxed);
        let number = |batch: &Batch| self.next.fetch_add(batch.len() as u64, Ordering::Relaxed);
        writer.append(batches, &self.options, first_free, number, sync)
    }

    /// Makes the first segment of a collection, and its folder.
    fn begin(&self, state: &mut State<F>, name: &str) -> Result<Writer<F>, Trouble> {
        let folder = match &state.folder {
            Some(folder) => Arc::clone(folder),
            None => {
                let path = self.path.join(name);
                // If it is there and empty, its name may be one that a failed sync has left in
                // memory only. If it is not empty, it stays.
                let _ = self.fs.remove_folder(&path);
                make_folder(&self.fs, &path)?;
                let open = || self.fs.open_folder(&path, FolderUse::NamesAndSync);
                let folder = uninterrupted(open);
                let folder = folder.map_err(|error| Failure::at("open", &path, error))?;
                let names = uninterrupted(|| self.fs.names(&folder));
                let names = names.map_err(|error| Failure::at("scandir", &path, error))?;
                // Segments that have come since the log was opened are somebody's entries.
                if names.iter().any(|name| name.to_str().is_some_and(has_entries)) {
                    return Err(Failure::at("open", &path, Code::EEXIST.error()).into());
                }
                Arc::new(folder)
            }
        };
        state.folder = Some(Arc::clone(&folder));
        let header = Header {
            collection: name.to_owned(),
            number: state.next_segment,
            first: self.next.load(Ordering::Relaxed),
            created: (self.options.clock)(),
            marker: rand::random(),
        };
        let has_spare = std::mem::take(&mut state.has_spare);
        Writer::create(self.fs.clone(), folder, header, has_spare, self.options.step)
    }

    /// The collection, which need not be there yet.
    fn collection(&self, name: &str) -> Arc<Collection<F>> {
        let mut collections = lock(&self.collections);
        if let Some(collection) = collections.get(name) {
            return Arc::clone(collection);
        }
        let collection = Arc::new(Collection {
            state: Mutex::new(State {
                folder: None,
                writer: None,
                has_spare: false,
                next_segment: 1,
            }),
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
        Ok(lock(&self.collections).get(name).map(Arc::clone))
    }

    /// The names of the collections.
    pub fn names(&self) -> Vec<String> {
        lock(&self.collections).keys().cloned().collect()
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
            let mut state = lock(&collection.state);
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
        let mut memtable = lock(&collection.memtable);
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
        let mut memtable = lock(&collection.memtable);
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

    /// Releases the entries of a collection up to a number: they are no longer shown, and the
    /// sealed segments that have no others are removed, or their space serves again. Appends go
    /// on meanwhile.
    ///
    /// # Errors
    ///
    /// [`WalError::Ahead`] for a number that is not there yet. When the system refuses to write
    /// the note of it, nothing is released; when it refuses to remove a segment, the next
    /// checkpoint tries again.
    pub fn checkpoint(&self, collection: &str, up_to: u64) -> Result<(), ErrorKind> {
        self.check_usable()?;
        let Some(collection_of) = self.existing(collection)? else {
            return if up_to == 0 {
                Ok(())
            } else {
                Err(WalError::Ahead { asked: up_to, last: 0 }.into())
            };
        };
        let mut checkpoint = lock(&collection_of.checkpoint);
        let last = collection_of.visible.load(Ordering::Acquire);
        if up_to > last {
            return Err(WalError::Ahead { asked: up_to, last }.into());
        }
        let (folder, first_segment) = {
            let state = lock(&collection_of.state);
            let (Some(folder), Some(writer)) = (&state.folder, &state.writer) else {
                return Ok(());
            };
            let needed = writer.sealed.iter().find(|segment| segment.last > up_to);
            let first = needed.map_or(writer.header.number, |segment| segment.number);
            (Arc::clone(folder), first)
        };
        let path = || self.path.join(collection);
        // The same number again may release a segment that has been sealed since.
        let is_more = (up_to, first_segment) > (checkpoint.up_to, checkpoint.first_segment);
        if up_to >= checkpoint.up_to && is_more {
            // Nothing may be lost of what was appended before the note of it is there: the
            // note must not tell of numbers that a crash takes away and others get.
            self.sync(Some(collection))?;
            let note =
                Checkpoint { up_to, first_segment: first_segment.max(checkpoint.first_segment) };
            note.write(&self.fs, &folder).map_err(|trouble| {
                if let Trouble::Unknown(failure) = &trouble {
                    self.poison(failure);
                }
                trouble.into_failure().on(path())
            })?;
            *checkpoint = note;
            lock(&collection_of.figures).released = up_to;
            let release = |memtable: &mut Memtable| memtable.release(up_to, RELEASED_AT_ONCE);
            while lock(&collection_of.memtable).as_mut().is_some_and(release) {
                // Appends and reads get their turns.
                std::thread::yield_now();
            }
        }
        let released: Vec<u64> = {
            let state = lock(&collection_of.state);
            let sealed = state.writer.iter().flat_map(|writer| &writer.sealed);
            let numbers = sealed.map(|segment| segment.number);
            numbers.filter(|number| *number < checkpoint.first_segment).collect()
        };
        for number in released {
            self.release(&collection_of, &folder, number).map_err(|failure| failure.on(path()))?;
        }
        Ok(())
    }

    /// Removes a sealed segment, or keeps its space for the next one.
    fn release(
        &self,
        collection: &Collection<F>,
        folder: &F::Folder,
        number: u64,
    ) -> Result<(), Failure> {
        let name = sealed(number);
        let mut state = lock(&collection.state);
        // Closed meanwhile: the next opening removes it.
        let Some(writer) = &mut state.writer else { return Ok(()) };
        // Whoever makes the next segment may have opened the spare and not yet renamed it.
        // Another file that took its name now would become the current segment, and what is
        // appended would go to one that has no name.
        let is_kept = !writer.has_spare && !writer.is_preparing;
        if is_kept {
            match uninterrupted(|| self.fs.open_to_write(folder, OsStr::new(&name))) {
                // An earlier attempt was told that it failed.
                Err(error) if Code::of(&error) == Some(Code::ENOENT) => {}
                Err(error) => return Err(Failure::at("open", &name, error)),
                // Under the lock, so that nobody takes the spare in the middle of it.
                Ok(file) => {
                    rename(&self.fs, folder, &file, &name, SPARE)?;
                    writer.has_spare = true;
                }
            }
        } else {
            drop(state);
            match uninterrupted(|| self.fs.remove(folder, OsStr::new(&name))) {
                Err(error) if Code::of(&error) == Some(Code::ENOENT) => {}
                outcome => outcome.map_err(|error| Failure::at("unlink", &name, error))?,
            }
            state = lock(&collection.state);
        }
        if let Some(writer) = &mut state.writer {
            writer.sealed.retain(|segment| segment.number != number);
        }
        collection.tell(&state);
        Ok(())
    }

    /// The next segment of a collection, to be made beforehand, if it is time for that. While
    /// it is being made the log must not be closed.
    pub fn next_segment(&self, collection: &str) -> Option<NextSegment<F>> {
        let collection_of = self.existing(collection).ok()??;
        let mut state = lock(&collection_of.state);
        let State { writer: Some(writer), folder: Some(folder), .. } = &mut *state else {
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
        let (fs, folder) = (self.fs.clone(), Arc::clone(folder));
        let size = self.options.segment_size;
        drop(state);
        let collection = collection_of;
        Some(NextSegment { fs, collection, folder, header, has_spare, size, made: None })
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
        let mut state = lock(&collection.state);
        self.check_usable()?;
        let first_free = self.next.load(Ordering::Relaxed);
        match &mut state.writer {
            Some(writer) if !writer.is_preparing && is_time(writer) => {
                writer.rotate(first_free, &self.options).map_err(|trouble| {
                    if let Trouble::Unknown(failure) = &trouble {
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
        let released = lock(&collection_of.figures).released;
        let sealed = lock(&collection_of.state).writer.as_ref().map_or(0, Writer::last_sealed);
        if (1..=released).contains(&sealed) {
            self.checkpoint(collection, released)
        } else {
            Ok(())
        }
    }

    /// What is known of the log. Waits for no disk.
    pub fn stats(&self) -> Stats {
        let collections: Vec<_> = {
            let collections = lock(&self.collections);
            collections.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            batches: load(&self.counters.batches),
            entries: load(&self.counters.entries),
            bytes: load(&self.counters.bytes),
            groups: load(&self.counters.groups),
            syncs: load(&self.counters.syncs),
            poisoned: self.poison.get().cloned(),
            collections: collections.into_iter().map(|(name, it)| it.stats(name)).collect(),
        }
    }

    /// How much memory the memtable of a collection takes at most, about.
    pub(super) fn memtable_bytes(&self, collection: &str) -> usize {
        match self.existing(collection) {
            Ok(Some(collection)) => {
                lock(&collection.memtable).as_ref().map_or(0, Memtable::most_bytes)
            }
            _ => 0,
        }
    }

    /// Has the next segments made without pauses: somebody waits for them.
    pub(super) fn hurry(&self) {
        for collection in lock(&self.collections).values() {
            collection.is_urgent.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the log: everything is on the disk, and every segment ends where its entries do.
    /// Nothing can be appended any more, however this ends.
    ///
    /// # Errors
    ///
    /// The log is poisoned, from now on or before.
    pub fn close(&self) -> Result<(), ErrorKind> {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        let collections: Vec<_> = lock(&self.collections).values().cloned().collect();
        for collection in collections {
            let mut state = lock(&collection.state);
            if self.poison.get().is_none()
                && !was_closed
                && let Some(writer) = &mut state.writer
            {
                if let Err(failure) = writer.finish() {
                    self.poison(&failure);
                }
                if writer.prepared.take().is_some() {
                    // If it stays, the next opening removes it.
                    let _ = self.fs.remove(&writer.folder, OsStr::new(NEXT));
                }
            }
            state.writer = None;
            state.folder = None;
        }
        match self.poison.get() {
            Some(cause) if !was_closed => Err(WalError::Poisoned(cause.clone()).into()),
            _ => Ok(()),
        }
    }
}

/// A segment that is to be made before it is needed, beside the appends to the one before.
pub struct NextSegment<F: FileSystem + Clone> {
    fs: F,
    collection: Arc<Collection<F>>,
    folder: Arc<F::Folder>,
    header: Header,
    has_spare: bool,
    size: u64,
    made: Option<Begun<F>>,
}

impl<F: FileSystem + Clone> NextSegment<F> {
    /// Makes it. Where that fails, it is made when it is needed, and the error shows then.
    pub fn make(mut self) {
        let NextSegment { fs, collection, folder, header, has_spare, size, .. } = &self;
        let pace = Pace::Gentle { is_urgent: &collection.is_urgent };
        self.made = begin(fs, folder, header.clone(), *has_spare, *size, pace).ok();
    }
}

impl<F: FileSystem + Clone> Drop for NextSegment<F> {
    fn drop(&mut self) {
        // However it has ended, nobody waits for it any more.
        if let Some(writer) = &mut lock(&self.collection.state).writer {
            writer.is_preparing = false;
            writer.prepared = self.made.take();
        }
    }
}

impl<F: FileSystem + Clone> Collection<F> {
    fn tell(&self, state: &State<F>) {
        let Some(writer) = &state.writer else { return };
        let mut figures = lock(&self.figures);
        figures.segments = writer.sealed.len() as u64 + 1;
        figures.bytes = writer.sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        figures.bytes += writer.space;
        figures.durable = writer.durable;
    }

    fn stats(&self, name: String) -> CollectionStats {
        let Figures { segments, bytes, durable, released } = *lock(&self.figures);
        let last = self.visible.load(Ordering::Acquire);
        let durable = durable.min(last);
        let mut stats = CollectionStats {
            name,
            segments,
            bytes,
            last,
            durable,
            released,
            ..Default::default()
        };
        if let Some(memtable) = lock(&self.memtable).as_mut() {
            stats.memtable_entries = memtable.len() as u64;
            stats.memtable_bytes = memtable.bytes() as u64;
        }
        stats
    }
}

/// The names of the collections of the log in this folder, which another process may have open.
///
/// # Errors
///
/// There is no such folder, or the system refuses.
pub fn collections<F: FileSystem>(fs: &F, path: &Path) -> Result<Vec<String>, ErrorKind> {
    let folder = uninterrupted(|| fs.open_folder(path, FolderUse::Names));
    let folder = folder.map_err(|error| Failure::at("open", path, error))?;
    let names = uninterrupted(|| fs.names(&folder));
    let names = names.map_err(|error| Failure::at("scandir", path, error))?;
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        if is_collection(fs, &folder, path, name)? {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a name in the folder of a log is that of a collection: a folder, or a symbolic link
/// to one.
fn is_collection<F: FileSystem>(
    fs: &F,
    folder: &F::Folder,
    path: &Path,
    name: &str,
) -> Result<bool, Failure> {
    if check_name(name).is_err() {
        return Ok(false);
    }
    let is_absent = |error: &std::io::Error| Code::of(error) == Some(Code::ENOENT);
    let kind = match uninterrupted(|| fs.metadata(folder, OsStr::new(name))) {
        Err(error) if is_absent(&error) => return Ok(false),
        known => known.map_err(|error| Failure::at("stat", path.join(name), error))?.kind,
    };
    if kind != FileKind::Link {
        return Ok(kind == FileKind::Folder);
    }
    let path = path.join(name);
    match uninterrupted(|| fs.open_folder(&path, FolderUse::Names)) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) || Code::of(&error) == Some(Code::ENOTDIR) => Ok(false),
        Err(error) => Err(Failure::at("open", path, error)),
    }
}

/// Makes a folder, and makes its name durable.
fn make_folder<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    let is_new = match uninterrupted(|| fs.make_folder(path)) {
        // It may be there in memory only, if whoever made it died before its sync.
        Err(error) if Code::of(&error) == Some(Code::EEXIST) => false,
        outcome => {
            outcome.map_err(|error| Failure::at("mkdir", path, error))?;
            true
        }
    };
    let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) else {
        return Ok(());
    };
    let synced = match uninterrupted(|| fs.open_folder(above, FolderUse::NamesAndSync)) {
        Ok(folder) => sync_names(fs, &folder, above),
        Err(error) => Err(Failure::at("open", above, error)),
    };
    if synced.is_err() && is_new {
        // Another sync would say nothing about it. It has to be made anew.
        let _ = fs.remove_folder(path);
    }
    synced
}

/// Makes the names in a folder durable, unless the process may not list it: then whoever made
/// them has seen to it.
fn sync_names<F: FileSystem>(fs: &F, folder: &F::Folder, path: &Path) -> Result<(), Failure> {
    match uninterrupted(|| fs.sync_folder(folder, None)) {
        Err(error) if Code::of(&error) == Some(Code::EACCES) => Ok(()),
        outcome => outcome.map_err(|error| Failure::at("fsync", path, error)),
    }
}
