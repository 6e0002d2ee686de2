//! What a transaction holds until it has ended, and what of it other processes may have between two
//! attempts.
//!
//! The caller's function has run once, on what it read under the locks, and is not called again. So
//! the locks are given back only if it can be told afterwards that the files are as they were: their
//! contents are compared. If one has changed there is no further attempt.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::fingerprint::Occupant;
use super::unfinished::unfinished;
use crate::engine::{FileQueueGuard, HeldBetweenAttempts};
use crate::error::{ErrorKind, Failure};
use crate::fs::os::Os;
use crate::fs::{DirUse, FileId};
use crate::lock::LockGuard;
use crate::mutex::guard;
use crate::resolve;
use crate::threads::pool;
use crate::threads::task::{Resume, TakeAgain, TakenAgain, nothing_to_take};

/// The locks of the files, and the transaction's position among the writes of this process.
pub(super) struct HeldFiles {
    /// The files that the transaction names.
    pub(super) paths: Vec<PathBuf>,
    pub(super) _queues: Vec<FileQueueGuard<Os>>,
    /// In the order in which they are taken.
    pub(super) locks: Vec<LockGuard>,
    /// The files as they were when the locks were given back.
    pub(super) seen: Mutex<Option<Vec<SeenFile>>>,
}

/// What a path leads to, and what is there.
#[derive(PartialEq, Eq)]
pub(super) struct SeenFile {
    dir: FileId,
    name: OsString,
    occupant: Occupant,
}

impl HeldBetweenAttempts for HeldFiles {
    fn give_back(&self) -> bool {
        // The caller goes on holding what is borrowed from it.
        if self.locks.iter().all(LockGuard::is_borrowed) {
            return true;
        }
        let mut seen = guard(&self.seen);
        if seen.is_none() {
            let Ok(now) = self.look() else { return false };
            *seen = Some(now);
        }
        drop(seen);
        self.locks.iter().for_each(LockGuard::give_back);
        true
    }

    fn take_again(&self) -> TakeAgain {
        if guard(&self.seen).is_none() {
            return nothing_to_take();
        }
        let locks: VecDeque<TakeAgain> = self.locks.iter().map(LockGuard::take_again).collect();
        Box::new(move |then| {
            let taking = Arc::new(TakingAll::default());
            Arc::clone(&taking).take_next(locks, then);
            Box::new(move || taking.end())
        })
    }

    fn is_unchanged(&self) -> Result<bool, ErrorKind> {
        let mut seen = guard(&self.seen);
        let Some(before) = &*seen else { return Ok(true) };
        let is_unchanged = self.look()? == *before && self.is_settled()?;
        *seen = None;
        Ok(is_unchanged)
    }
}

impl HeldFiles {
    fn look(&self) -> Result<Vec<SeenFile>, Failure> {
        let look = |path: &PathBuf| {
            let target = resolve::target(&Os, path, true, DirUse::Names)?;
            let (dir, occupant) =
                (target.dir.metadata()?.id, Occupant::of(&target.dir, &target.name)?);
            Ok(SeenFile { dir, name: target.name, occupant })
        };
        self.paths.iter().map(look).collect()
    }

    /// Whether no other transaction that has died meanwhile is to change one of the files.
    fn is_settled(&self) -> Result<bool, Failure> {
        let mut names_in: BTreeMap<PathBuf, HashSet<OsString>> = BTreeMap::new();
        for path in &self.paths {
            let target = resolve::target(&Os, path, true, DirUse::Names)?;
            names_in.entry(target.dir.path().to_owned()).or_default().insert(target.name);
        }
        for (dir, names) in names_in {
            let unfinished = unfinished(&Os, &dir)?;
            if names.iter().any(|name| unfinished.iter().any(|other| other.changes(name))) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Takes locks again one after the other, in their order, until it is ended.
#[derive(Default)]
struct TakingAll {
    state: Mutex<TakingAllState>,
}

#[derive(Default)]
struct TakingAllState {
    is_over: bool,
    /// Ends the wait for the lock that is next.
    end: Option<Resume>,
}

impl TakingAll {
    fn take_next(self: Arc<TakingAll>, mut locks: VecDeque<TakeAgain>, then: TakenAgain) {
        if guard(&self.state).is_over {
            return then(Err(ErrorKind::Cancelled));
        }
        let Some(next) = locks.pop_front() else { return then(Ok(())) };
        let own = Arc::clone(&self);
        let end = next(Box::new(move |taken| match taken {
            // This thread may be one that only waits for locks.
            Ok(()) => drop(pool().submit(Box::new(move || own.take_next(locks, then)))),
            Err(kind) => then(Err(kind)),
        }));
        let mut state = guard(&self.state);
        if state.is_over {
            drop(state);
            return end();
        }
        state.end = Some(end);
    }

    fn end(&self) {
        let mut state = guard(&self.state);
        state.is_over = true;
        let end = state.end.take();
        drop(state);
        if let Some(end) = end {
            end();
        }
    }
}
