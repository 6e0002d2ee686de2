//! Whether a log is still where it was opened.
//!
//! Programs that clean up, restore or move directories do not ask for locks. When the log's lock file
//! is gone, another process may open the log; when its directory, that of a collection or a segment is
//! gone, what is appended can be found by no name. So the names are looked at again: before a group is
//! written, if that was not done a moment ago, and after its sync, before its callers are told. A name
//! that leads to another file than the one that is open poisons the log ([`WalError::Moved`]).
//!
//! Each look compares the number of what a name stands for with that of what is open, which stays
//! its own as long as it is. Where such numbers tell nothing (on a network, or where a program is the
//! file system) only a name that stands for nothing counts. A name that cannot be looked at tells
//! nothing.

use std::ffi::OsStr;
use std::time::Instant;

use super::collection::CollectionState;
use super::identity::{Above, is_other, lock_file_is_gone};
use super::open::Log;
use crate::error::WalError;
use crate::fs::{FileKind, FileSystem};
use crate::wal::segments::CURRENT;
use crate::wal::writer::SegmentWriter;

/// How many times rarer the names are looked at that are seldom changed by accident: those of the
/// log's directory and of the collection's.
const RARER: u32 = 10;

/// Which names are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Those that have not been looked at for a while.
    IfDue,
    /// The lock file's and the segment's, and the others if they are due.
    Near,
    /// All of them.
    All,
}

impl<F: FileSystem> Log<F> {
    /// Makes sure that the log and one of its collections are still where they were opened.
    ///
    /// # Errors
    ///
    /// [`WalError::Moved`], or why the log is poisoned already.
    pub(super) fn look(
        &self,
        state: &mut CollectionState<F>,
        collection: &str,
        look: Look,
    ) -> Result<(), WalError> {
        match self.moved(state, collection, look) {
            None => Ok(()),
            Some(what) => {
                self.poison_with(what);
                self.check_usable()
            }
        }
    }

    /// Why the log or one of its collections is not where it was opened, if it is not.
    pub(super) fn moved(
        &self,
        state: &mut CollectionState<F>,
        collection: &str,
        look: Look,
    ) -> Option<WalError> {
        let now = Instant::now();
        let interval = self.options.look_interval;
        let is_due = |last: Option<Instant>, interval| {
            last.is_none_or(|last| now.saturating_duration_since(last) >= interval)
        };
        let is_far = look == Look::All || is_due(state.looks.far, interval.saturating_mul(RARER));
        if look == Look::IfDue && !is_far && !is_due(state.looks.near, interval) {
            return None;
        }
        let mut moved = self.look_near(state, collection);
        if moved.is_none() && is_far {
            moved = self.look_far(state, collection);
            state.looks.far = Some(now);
        }
        state.looks.near = Some(now);
        moved
    }

    /// What is wrong with the lock file or the current segment.
    fn look_near(&self, state: &mut CollectionState<F>, collection: &str) -> Option<WalError> {
        let segment = state.writer.as_mut().and_then(SegmentWriter::file_id);
        let tells = segment.is_some_and(|(_, tells)| tells);
        if let Some((name, id)) = &self.identity.lock
            && is_other(&self.dir, name, (*id, tells))
        {
            return Some(lock_file_is_gone(&self.dir, name));
        }
        is_other(state.dir.as_ref()?, CURRENT.as_ref(), segment?).then(|| {
            let path = self.path.join(collection).join(CURRENT);
            WalError::Moved(format!("the segment '{}' was removed or replaced", path.display()))
        })
    }

    /// What is wrong with the directories.
    fn look_far(&self, state: &mut CollectionState<F>, collection: &str) -> Option<WalError> {
        let segment = state.writer.as_mut().and_then(SegmentWriter::file_id);
        let tells = segment.is_some_and(|(_, tells)| tells);
        // A directory that was renamed is the same, with the lock in it.
        if let Some(Above { dir, name, own }) = &self.identity.above
            && matches!(dir.identity(name), Ok(Some(found)) if found != *own)
            && is_other(dir, name, (*own, tells))
        {
            let path = self.path.display();
            return Some(WalError::Moved(format!(
                "its folder was moved away, and '{path}' is another"
            )));
        }
        let dir = state.dir.as_ref()?;
        let name = OsStr::new(collection);
        let named = match state.looks.named {
            Some(named) => named,
            None => {
                let own = dir.metadata().ok()?.id;
                let found = self.dir.look(name).ok()?;
                let link = found.filter(|found| found.kind == FileKind::Link);
                *state.looks.named.insert(link.map_or(own, |link| link.id))
            }
        };
        is_other(&self.dir, name, (named, tells)).then(|| {
            let path = self.path.join(collection);
            let path = path.display();
            WalError::Moved(format!("the folder '{path}' was removed, renamed or replaced"))
        })
    }
}
