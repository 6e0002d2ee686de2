//! A lock that this process has from the kernel.

use std::io;
use std::sync::Arc;

use super::LockFile;
#[cfg(target_os = "linux")]
use super::mapped::MappedFile;
use super::note_writer::NoteWriter;
use super::removal::Removals;
use super::steps::{LOCK, acquire_from, attempt, is_lent};
use crate::error::{Code, Failure};
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;
use crate::lock::protocol::Byte;
use crate::lock::time_slice::TimeSlice;
use crate::vocabulary::LockKind;

/// A lock that this process has. Dropping it releases the lock.
pub(in crate::lock) struct KernelLock {
    file: HeldFile,
    /// Only of writers.
    note: Option<Arc<NoteWriter>>,
    /// Its ticket, which a writer keeps.
    ticket: Option<u64>,
    time_slice: TimeSlice,
    is_held: bool,
}

/// The lock file of a lock that is held.
enum HeldFile {
    Open(Arc<LockFile>),
    /// Open without a descriptor, until the lock is released.
    #[cfg(target_os = "linux")]
    Mapped(#[allow(dead_code, reason = "dropping it frees the lock")] MappedFile),
    /// Released by closing it.
    #[cfg(target_os = "linux")]
    Closed,
}

impl HeldFile {
    fn opened(&self) -> Option<&Arc<LockFile>> {
        match self {
            HeldFile::Open(file) => Some(file),
            #[cfg(target_os = "linux")]
            HeldFile::Mapped(_) | HeldFile::Closed => None,
        }
    }
}

impl KernelLock {
    /// Takes the lock if it is free, and no other process has a ticket. `last` is this process's
    /// last time slice; `opened` may have the lock file, and is taken from it if that is of use. A
    /// call that `only_tries` is not told that the lock is held while its file is being removed; one
    /// that goes on to wait will see.
    pub(in crate::lock) fn try_acquire(
        dir: &DirHandle,
        name: &LockName,
        kind: LockKind,
        last: Option<TimeSlice>,
        only_tries: bool,
        opened: &mut Option<Arc<LockFile>>,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut time_slice = None;
        let mut removals = None;
        let (file, has_content) = loop {
            let taken = acquire_from(opened, dir, name, kind, |file| {
                time_slice = attempt(file, dir, kind, last)?;
                Ok(time_slice.is_some())
            });
            let taken = match taken {
                // Who has a lease on the lock file has the lock, for that moment.
                Err(failure) if is_lent(&failure) => return Ok(None),
                taken => taken?,
            };
            match taken {
                Some(taken) => break taken,
                None if !only_tries => return Ok(None),
                None => {
                    let removals = removals.get_or_insert_with(Removals::new);
                    if !removals.are_in_the_way(opened, dir, name)? {
                        return Ok(None);
                    }
                }
            }
        };
        let Some(time_slice) = time_slice else { return Ok(None) };
        let lock = KernelLock::new(file, kind, None, time_slice);
        // A process that goes on has had time for its note.
        lock.write_note(has_content || last.is_none());
        Ok(Some(lock))
    }

    /// The same with an open lock file, without ever waiting for a disk, and if it then `is_right`:
    /// that is asked last, because others are fast, too. `None` also when it would take waiting.
    /// The note is still to be written: [`KernelLock::write_note_soon`].
    ///
    /// # Errors
    ///
    /// When something of the file may be locked still. Closing it frees that.
    #[cfg(target_os = "linux")]
    pub(in crate::lock) fn try_at_once(
        file: &Arc<LockFile>,
        dir: &DirHandle,
        name: &LockName,
        kind: LockKind,
        last: Option<TimeSlice>,
        is_right: impl FnOnce() -> bool,
    ) -> io::Result<Option<KernelLock>> {
        let Some(time_slice) = attempt(file, dir, kind, last)? else { return Ok(None) };
        let mut lock = KernelLock::new(Arc::clone(file), kind, None, time_slice);
        // A note that is there is that of a writer that has died. Removing it may wait.
        if file.is_remembered_empty(dir, name) && is_right() {
            return Ok(Some(lock));
        }
        lock.unlock().map(|()| None)
    }

    /// Whether another reader of this process may share it, without ever waiting for a disk: if no
    /// other process comes first, and the name still leads to the file.
    #[cfg(target_os = "linux")]
    pub(in crate::lock) fn may_be_shared(&self, dir: &DirHandle, name: &LockName) -> bool {
        let Some(file) = self.file.opened() else { return false };
        // That it has main already changes nothing about the rest of an attempt.
        let is_its_turn = attempt(file, dir, LockKind::Read, None);
        if is_its_turn.is_err() {
            // It may have failed between locking the gate and unlocking it.
            let _ = file.unlock(Byte::Gate);
        }
        matches!(is_its_turn, Ok(Some(_))) && file.is_remembered_empty(dir, name)
    }

    fn new(
        file: Arc<LockFile>,
        kind: LockKind,
        ticket: Option<u64>,
        time_slice: TimeSlice,
    ) -> KernelLock {
        let note = (kind == LockKind::Write).then(|| NoteWriter::new(&file));
        KernelLock { file: HeldFile::Open(file), note, ticket, time_slice, is_held: true }
    }

    /// A lock that has been waited for. The processes that come after it are waiting.
    pub(super) fn after_wait(
        file: Arc<LockFile>,
        has_content: bool,
        kind: LockKind,
        ticket: Option<u64>,
    ) -> Self {
        let lock = KernelLock::new(file, kind, ticket, TimeSlice::begin());
        lock.write_note(has_content);
        lock
    }

    /// Writes the note, in case the lock is held for longer than a moment.
    #[cfg(target_os = "linux")]
    pub(in crate::lock) fn write_note_soon(&self) {
        self.write_note(false);
    }

    /// Writes the note, at once or in case the lock is held for longer than a moment.
    fn write_note(&self, at_once: bool) {
        match &self.note {
            Some(note) if at_once => note.write(),
            Some(note) => note.write_soon(),
            None => {}
        }
    }

    /// Turns a write lock into a read lock, without a moment in between.
    pub(in crate::lock) fn downgrade(&mut self) -> Result<(), Failure> {
        self.remove_note();
        let downgraded = match self.file.opened() {
            Some(file) => file.downgrade(Byte::Main),
            None => Err(Code::EBADF.error()),
        };
        downgraded.map_err(|error| Failure::new(LOCK, error))?;
        // Should this fail it is tried again when the lock is released.
        let _ = self.release_ticket();
        Ok(())
    }

    /// Whether the name still leads to the file that is locked: otherwise others lock another. Not
    /// where that cannot be told.
    pub(in crate::lock) fn is_called(&self, dir: &DirHandle, name: &LockName) -> bool {
        let is_called = |file: &Arc<LockFile>| file.size_if_called(dir, name);
        matches!(self.file.opened().map(is_called), Some(Ok(Some(_))))
    }

    /// Keeps the write lock and closes its file, where the system can do that, for a process that
    /// holds very many. Such a lock has no note.
    #[cfg(target_os = "linux")]
    pub(in crate::lock) fn park(&mut self, dir: &DirHandle, name: &LockName) {
        let Some(file) = self.file.opened() else { return };
        if let Some(mapped) = MappedFile::keep(file, dir, name) {
            self.remove_note();
            self.file = HeldFile::Mapped(mapped);
        }
    }

    /// There is no way to do that here.
    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self, reason = "the twin of Linux needs it")]
    pub(in crate::lock) fn park(&mut self, _: &DirHandle, _: &LockName) {}

    /// Since when the process has been going on with it.
    pub(in crate::lock) fn time_slice(&self) -> TimeSlice {
        self.time_slice
    }

    /// Whether releasing it takes no system call that may wait for a disk, on a file system
    /// that decides about locks in memory.
    pub(in crate::lock) fn releases_at_once(&self) -> bool {
        self.note.as_ref().is_none_or(|note| note.withdraw())
    }

    /// Releases it. The lock file, if nothing of it is locked any more.
    pub(in crate::lock) fn release(mut self) -> Option<Arc<LockFile>> {
        self.unlock().ok().and_then(|()| self.file.opened().cloned())
    }

    fn unlock(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        self.remove_note();
        let Some(file) = self.file.opened() else {
            #[cfg(target_os = "linux")]
            drop(std::mem::replace(&mut self.file, HeldFile::Closed));
            return Ok(());
        };
        let unlocked = file.unlock(Byte::Main);
        self.release_ticket().and(unlocked)
    }

    /// Lets the next process in.
    fn release_ticket(&mut self) -> io::Result<()> {
        if let Some((ticket, file)) = self.ticket.zip(self.file.opened()) {
            file.unlock(Byte::Ticket(ticket))?;
            self.ticket = None;
        }
        Ok(())
    }

    fn remove_note(&mut self) {
        if let Some(note) = self.note.take() {
            note.remove();
        }
    }
}

impl Drop for KernelLock {
    fn drop(&mut self) {
        // Closing the file frees the lock as well, should this fail.
        let _ = self.unlock();
    }
}
