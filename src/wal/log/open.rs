//! A log that is open: its state, how it is opened, and when it can no longer be trusted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::collection::Collection;
use super::followers::Followers;
use super::identity::Identity;
use super::open_collections::{OpenCollections, most_open};
use crate::error::{Damage, DamageKind, ErrorKind, Failure, WalError};
use crate::fs::{Dir, DirUse, FileKind, FileSystem};
use crate::mutex::guard;
use crate::wal::append_error::AppendError;
use crate::wal::batch::Batch;
use crate::wal::closed_note::{CLOSED, ClosedNote};
use crate::wal::consumer::{ConsumerPosition, positions};
use crate::wal::dirs::{collections_in, make_dir, sync_names};
use crate::wal::format::{LARGEST_BLOCK, most_bytes};
use crate::wal::options::{LogOptions, RecoveryMode};
use crate::wal::repair::repair;
use crate::wal::segments::check_name;

/// A log that is open for appending. Its owner holds its lock.
///
/// # Crash safety
///
/// What [`Log::append`] has answered for, with `sync`, is there after any crash, whole batches
/// in the order of their numbers. Without `sync` a crash may take a part of it, from the end.
pub struct Log<F: FileSystem> {
    /// Its directory. Everything of the log is found through it.
    pub(super) dir: Dir<F>,
    /// Where it was found, for messages.
    pub(super) path: PathBuf,
    pub(super) options: LogOptions,
    /// The next free sequence number.
    pub(super) next: AtomicU64,
    pub(super) collections: Mutex<BTreeMap<String, Arc<Collection<F>>>>,
    pub(super) open_collections: Mutex<OpenCollections<F>>,
    /// How many of them there may be.
    pub(super) most_open: usize,
    /// By which it tells whether it is still there.
    pub(super) identity: Identity<F>,
    /// Why the log is poisoned, if it is: [`WalError::Poisoned`] or [`WalError::Moved`].
    pub(super) poison: OnceLock<WalError>,
    pub(super) is_closed: AtomicBool,
    /// What it had when it was last closed.
    pub(super) closed_note: ClosedNote,
    damage: Vec<Damage>,
    pub(super) counters: LogCounters,
    pub(super) followers: Followers,
    /// The positions of the consumers, as they were when they were last looked at.
    pub(super) consumers: Mutex<Vec<ConsumerPosition>>,
    /// Held while a backup is made.
    pub(super) backups: Mutex<()>,
}

/// What has been appended since the log was opened.
#[derive(Default)]
pub(super) struct LogCounters {
    pub(super) batches: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) syncs: AtomicU64,
}

impl<F: FileSystem> Log<F> {
    /// Opens the log in the directory at `path`, which is made if there is none (its parent has
    /// to be there), and repairs it.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] when there is damage that the recovery mode refuses: then nothing
    /// has been changed in the collection that has it. Otherwise what the system says.
    pub fn open(fs: F, path: &Path, options: LogOptions) -> Result<Log<F>, ErrorKind> {
        make_dir(&fs, path)?;
        Log::open_in(Dir::open(&fs, path, DirUse::NamesAndSync)?, options, None)
    }

    /// The same in a directory that is open: whatever becomes of the path that led to it, the log
    /// stays there. `lock` is the name of the lock file in it, which the caller holds: when that is
    /// removed or replaced, the log is poisoned.
    ///
    /// # Errors
    ///
    /// As [`Log::open`]. [`WalError::Moved`] when there is no such lock file.
    pub fn open_in(
        dir: Dir<F>,
        options: LogOptions,
        lock: Option<&OsStr>,
    ) -> Result<Log<F>, ErrorKind> {
        let identity = Identity::of(&dir, lock)?;
        let most_open = most_open(dir.fs(), options.most_open);
        let mut log = Log {
            path: dir.path().to_owned(),
            dir,
            options,
            next: AtomicU64::new(1),
            collections: Mutex::default(),
            open_collections: Mutex::default(),
            most_open,
            identity,
            poison: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            closed_note: ClosedNote::default(),
            damage: Vec::new(),
            counters: LogCounters::default(),
            followers: Followers::default(),
            consumers: Mutex::default(),
            backups: Mutex::default(),
        };
        log.repair()?;
        Ok(log)
    }

    /// Repairs all collections that there are.
    fn repair(&mut self) -> Result<(), ErrorKind> {
        let closed = self.read_closed_note()?;
        let mut names = collections_in(&self.dir)?;
        for name in closed.collections.keys().filter(|name| check_name(name).is_ok()) {
            // Of a collection that had segments there may be nothing but its directory. If that is
            // gone, too, the collection was removed.
            if names.binary_search(name).is_err()
                && let Some(found) = self.dir.look(name.as_ref())?
                && matches!(found.kind, FileKind::Dir | FileKind::Link)
            {
                names.push(name.clone());
                names.sort_unstable();
            }
        }
        let mut last = closed.last;
        for name in names {
            let noted = closed.collections.get(&name).copied().unwrap_or_default();
            let mut repaired = repair(&self.dir, &name, &self.options, noted)?;
            last = last.max(repaired.last);
            self.damage.append(&mut repaired.damage);
            let collection = Arc::new(Collection::repaired(repaired));
            self.has_opened(&collection);
            guard(&self.collections).insert(name, collection);
        }
        let consumers = match positions(&self.dir, None) {
            Err(ErrorKind::Wal(WalError::Damaged(found)))
                if self.options.recovery != RecoveryMode::Strict =>
            {
                // Nothing is released until it is gone.
                self.damage.push(*found);
                Vec::new()
            }
            positions => positions?,
        };
        // A power cut may have taken entries that a consumer has acknowledged. Their numbers are not
        // given again: it would take the new entries for the old ones.
        let last = consumers.iter().map(|it| it.position).fold(last, u64::max);
        self.consumers = Mutex::new(consumers);
        // A directory that was found may be there in memory only.
        sync_names(&self.dir)?;
        self.next.store(last + 1, Ordering::Relaxed);
        self.closed_note = closed;
        Ok(())
    }

    fn read_closed_note(&mut self) -> Result<ClosedNote, ErrorKind> {
        if let Some(note) = ClosedNote::read(&self.dir)? {
            return Ok(note);
        }
        let reason = "the note cannot be read";
        let damage = Damage::new("", CLOSED, DamageKind::Checkpoint, (0, 0), reason, 0);
        if self.options.recovery != RecoveryMode::SkipCorrupt {
            return Err(WalError::Damaged(Box::new(damage)).into());
        }
        self.damage.push(damage);
        Ok(ClosedNote::default())
    }

    /// What was found damaged when the log was opened, and cut off or skipped.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// How it is kept.
    pub fn options(&self) -> &LogOptions {
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

    pub(super) fn check_usable(&self) -> Result<(), WalError> {
        if let Some(cause) = self.poison.get() {
            return Err(cause.clone());
        }
        match self.is_closed.load(Ordering::Acquire) {
            true => Err(WalError::Closed),
            false => Ok(()),
        }
    }

    /// Takes no more appends, because what the disk has and what is in memory may differ.
    pub(in crate::wal) fn poison(&self, cause: &impl Display) {
        self.poison_with(WalError::Poisoned(cause.to_string()));
    }

    /// The same, for this reason: [`WalError::Poisoned`] or [`WalError::Moved`].
    pub(super) fn poison_with(&self, reason: WalError) {
        let _ = self.poison.set(reason);
    }

    /// What the system said. The log is poisoned if what is on the disk is not known any more.
    pub(super) fn failure_of(&self, error: AppendError) -> Failure {
        if let AppendError::Unknown(failure) = &error {
            self.poison(failure);
        }
        error.into_failure()
    }

    pub(super) fn existing(&self, name: &str) -> Result<Option<Arc<Collection<F>>>, WalError> {
        check_name(name)?;
        Ok(guard(&self.collections).get(name).map(Arc::clone))
    }

    /// The names of the collections.
    pub fn names(&self) -> Vec<String> {
        guard(&self.collections).keys().cloned().collect()
    }
}
