//! A walk that does not end where the log does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::signal::Signal;
use crate::error::{Code, Damage, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, DirWatch, FileSystem, if_there};
use crate::temp_name;
use crate::wal::options::RecoveryMode;
use crate::wal::replay::Replay;
use crate::wal::segments::{NEXT, SPARE};

/// What is followed, and how.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    /// The lowest number that is wanted; `None` for the first that is not released.
    pub from: Option<u64>,
    /// What is done about damage.
    pub recovery: RecoveryMode,
    /// Another process may write the log: its directories are watched. Otherwise the log tells the
    /// signal, and each look says how far the appends have got.
    pub is_beside: bool,
}

/// Goes on with what is appended to a collection, which need not be there yet.
pub struct Follow<F: FileSystem> {
    fs: F,
    log: PathBuf,
    collection: String,
    options: FollowOptions,
    signal: Arc<Signal>,
    walk: Replay<F>,
    /// The watches of the directory of the log, and of that of the collection.
    watches: (Option<DirWatch>, Option<DirWatch>),
    /// How much of the damage has been told.
    told: usize,
}

impl<F: FileSystem> Follow<F> {
    /// Begins to follow a collection of the log in this directory. `signal` is told when there may be
    /// more.
    ///
    /// # Errors
    ///
    /// The name of the collection cannot be one, there is no such log, or the system refuses.
    pub fn new(
        fs: F,
        log: &Path,
        collection: &str,
        options: FollowOptions,
        signal: Arc<Signal>,
    ) -> Result<Follow<F>, ErrorKind> {
        let dir = Dir::open(&fs, log, DirUse::Names)?;
        let watch = options.is_beside.then(|| watch(&dir, &signal)).flatten();
        let begin = |from| {
            let walk = Replay::new(fs.clone(), log, collection, from, None, options.recovery)?;
            let watch = watch_of(&walk, options, &signal);
            Ok::<_, ErrorKind>((walk.following(), watch))
        };
        let (mut walk, mut own_watch) = begin(options.from.unwrap_or_default())?;
        if options.from.is_none() {
            (walk, own_watch) = begin(walk.first()?)?;
        }
        Ok(Follow {
            fs,
            log: log.to_owned(),
            collection: collection.to_owned(),
            options,
            signal,
            walk,
            watches: (watch, own_watch),
            told: 0,
        })
    }

    /// Packs what there is, until `out` has `most` bytes; nothing if there is nothing more for now.
    /// `until` is the last number whose append has resolved, where the process that appends knows it.
    ///
    /// # Errors
    ///
    /// [`crate::error::WalError::Released`] when a checkpoint has released what comes next; otherwise
    /// as [`Replay::chunk`], and `ENOENT` when the directory of the collection has been removed, or
    /// another has taken its place.
    pub fn advance(
        &mut self,
        until: Option<u64>,
        out: &mut Vec<u8>,
        most: usize,
    ) -> Result<(), ErrorKind> {
        loop {
            if !self.walk.has_dir() {
                self.begin_anew()?;
            }
            self.walk.go_on(until);
            self.walk.chunk(out, most)?;
            if !out.is_empty() {
                return Ok(());
            }
            if self.is_replaced()? {
                self.begin_anew()?;
            } else if until.is_some() || !self.walk.leaves_what_was_set_aside()? {
                return Ok(());
            }
        }
    }

    /// The damage that has been skipped since this was last called.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        let damage = self.walk.damage().iter().skip(self.told).cloned().collect();
        self.told = self.walk.damage().len();
        damage
    }

    /// Whether the caller has to look again and again, because the system does not tell of changes.
    pub fn has_to_poll(&self) -> bool {
        let (log, own) = &self.watches;
        self.options.is_beside && (log.is_none() || own.is_none() && self.walk.has_dir())
    }

    /// The directory of the collection may have come, or been made anew while it was empty.
    fn begin_anew(&mut self) -> Result<(), ErrorKind> {
        let (next, recovery) = (self.walk.next_number(), self.options.recovery);
        let walk = Replay::new(self.fs.clone(), &self.log, &self.collection, next, None, recovery)?;
        self.watches.1 = watch_of(&walk, self.options, &self.signal);
        self.walk = walk.following();
        Ok(())
    }

    /// Whether the directory of the collection is not the one that is read. That is an error if
    /// something has been read there: the collection that was followed is gone.
    fn is_replaced(&self) -> Result<bool, ErrorKind> {
        let Some(own) = self.walk.dir_id()? else { return Ok(false) };
        let path = self.log.join(&self.collection);
        let found = if_there(Dir::open(&self.fs, &path, DirUse::Names))?;
        let is_same = match &found {
            Some(dir) => dir.metadata()?.id == own,
            None => false,
        };
        match self.walk.has_begun() && !is_same {
            true => Err(Failure::at("open", path, Code::ENOENT.error()).into()),
            false => Ok(!is_same),
        }
    }
}

/// Watches the directory of the collection, if it is there and nothing else tells of appends.
fn watch_of<F: FileSystem>(
    walk: &Replay<F>,
    options: FollowOptions,
    signal: &Arc<Signal>,
) -> Option<DirWatch> {
    walk.dir().filter(|_| options.is_beside).and_then(|dir| watch(dir, signal))
}

fn watch<F: FileSystem>(dir: &Dir<F>, signal: &Arc<Signal>) -> Option<DirWatch> {
    let signal: Weak<Signal> = Arc::downgrade(signal);
    dir.watch(Box::new(move |name| {
        if let Some(signal) = signal.upgrade().filter(|_| is_read(name)) {
            signal.notify();
        }
    }))
}

/// Whether what has changed may be something that is read. The next segment is written for a long
/// time before it is read under another name.
fn is_read(name: &OsStr) -> bool {
    name != NEXT && name != SPARE && !temp_name::is_temp_name(name)
}
